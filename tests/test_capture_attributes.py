"""fastnn.capture sees what a step is made of: attributes of modules, their order, parameters and groups that are others."""

from __future__ import annotations

import functools
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captured_steps import Training

import fastnn
from fastnn import nn, optim

pytestmark = pytest.mark.usefixtures("without_memory_checks")


class Listed(list[float]):
    pass


def by_number(layers: list[nn.Module]) -> nn.ModuleDict:
    return nn.ModuleDict({str(i): layer for i, layer in enumerate(layers)})


def test_a_penalty_with_other_factors_is_seen() -> None:
    layer = nn.Linear(3, 2)
    penalty = nn.Penalty(layer, l2=0.1)
    captured = fastnn.capture(lambda: penalty())
    for penalty.l2, penalty.l1 in ((0.1, 0.0), (5.0, 0.0), (5.0, 1.0), (0.1, 0.0)):
        assert captured().item() == penalty().item()


def test_zeros_of_both_signs_as_attributes() -> None:
    class Divided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = 0.0

        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            return x / self.by

    model, x = Divided(), fastnn.tensor([1.0])
    captured = fastnn.capture(lambda x: model(x))
    for _ in range(2):
        for model.by in (0.0, -0.0, 2.0):
            assert captured(x).item() == model(x).item()


@pytest.mark.parametrize("kind", [list, deque, Listed])
def test_what_changes_within_an_attribute_is_seen(kind: Any) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by, self.named = kind([2.0]), OrderedDict(a=3.0)

        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            return x * (self.by[0] + self.named["a"])

    model, x = Scaled(), fastnn.tensor([1.0])
    captured = fastnn.capture(lambda x: model(x))
    assert captured(x).item() == captured(x).item() == 5
    model.by[0] = 4.0
    assert captured(x).item() == 7
    model.named["a"] = 1.0
    assert captured(x).item() == 5


def test_another_tensor_of_pytorch_as_an_attribute_is_seen() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = torch.tensor([2.0, 3.0])

        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            return x * float(self.by[0])

    model, x = Scaled(), fastnn.tensor([1.0])
    captured = fastnn.capture(lambda x: model(x))
    assert captured(x).item() == 2
    model.by = torch.tensor([5.0, 3.0])
    assert captured(x).item() == 5


def test_another_array_of_numpy_as_an_attribute_is_seen() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = np.array([2.0, 3.0])

        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            return x * float(self.by[0])

    model = Scaled()
    captured = fastnn.capture(lambda x: model(x))
    assert captured(fastnn.tensor([1.0])).item() == 2
    for by in (np.array([5.0, 3.0]), np.array([6.0, 3.0, 1.0])):
        model.by = by
        assert [captured(fastnn.tensor([1.0])).item() for _ in range(2)] == [by[0]] * 2


def test_replaced_parameters_and_groups_are_seen() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @fastnn.capture
    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        optimizer.zero_grad(), model.zero_grad()
        y = model(x)
        y.sum().backward()
        optimizer.step()
        return y

    x = fastnn.tensor(np.ones((4, 3), np.float32))
    step(x), step(x)
    model[2].weight, model[2].bias = nn.Parameter(np.zeros((2, 2), np.float32)), nn.Parameter(np.zeros(2, np.float32))
    assert not step(x).numpy().any()
    model[1] = nn.Tanh()
    layers = nn.Sequential(model[0], nn.Tanh(), model[2])(x).numpy()
    assert np.array_equal(step(x).numpy(), layers), "a layer put in another's place"
    optimizer.param_groups[0]["params"] = optimizer.param_groups[0]["params"][:1]
    with pytest.raises(ValueError, match="param_groups no longer hold the 4 parameters"):
        step(x)


@pytest.mark.parametrize("captured", [False, True])
def test_a_parameter_that_moves_to_the_next_group_is_seen(captured: bool) -> None:
    """In place, so that the groups one after the other hold what they held: from then on it has that group's rate."""
    fastnn.seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    weight, bias, *rest = parameters = list(model.parameters())
    optimizer = optim.SGD([{"params": parameters[:2], "lr": 0.1}, {"params": rest, "lr": 0.0}])

    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    run = fastnn.capture(step) if captured else step
    x = fastnn.tensor(np.ones((2, 4), np.float32))
    run(x), run(x)
    optimizer.param_groups[1]["params"].insert(0, optimizer.param_groups[0]["params"].pop())
    before = [p.numpy().copy() for p in (weight, bias)]
    run(x)
    assert not np.array_equal(weight.numpy(), before[0]) and np.array_equal(bias.numpy(), before[1])


def test_an_option_that_is_an_array_is_seen_when_it_changes_in_place() -> None:
    results = []
    for captured in (False, True):
        decay = np.array(0.0)
        w = fastnn.tensor(np.ones(3, np.float32), requires_grad=True)
        optimizer = optim.SGD([w], 0.1, weight_decay=decay)  # type: ignore[arg-type]

        def step(x: fastnn.Tensor) -> fastnn.Tensor:
            optimizer.zero_grad()  # noqa: B023 (called at once)
            loss = (w * x).sum()  # noqa: B023
            loss.backward()
            optimizer.step()  # noqa: B023
            return loss

        run, x = fastnn.capture(step) if captured else step, fastnn.tensor(np.ones(3, np.float32))
        run(x), run(x)
        decay[...] = 0.5
        run(x)
        results.append(w.numpy().tolist())
    assert results[0] == results[1]


def test_the_order_of_layers_is_seen() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Tanh())
    captured = fastnn.capture(lambda x: model(x).detach())
    x = fastnn.tensor(np.linspace(-1, 2, 6, dtype=np.float32).reshape(2, 3))
    for _ in range(3):
        assert np.array_equal(captured(x).numpy(), model(x).numpy())
        first = model[1]
        name = next(name for name, layer in model._modules.items() if layer is first)
        delattr(model, name)
        setattr(model, name, first)


def scaled(x: fastnn.Tensor, by: fastnn.Tensor) -> fastnn.Tensor:
    return x * (by**2).sum()


TAKEN: dict[str, tuple[Callable[[list[nn.Module]], Any], Callable[[Any, fastnn.Tensor], fastnn.Tensor]]] = {
    "iterated": (nn.ModuleList, lambda m, x: functools.reduce(lambda x, layer: layer(x), m, x)),
    "indexed": (nn.ModuleList, lambda m, x: m[-1](x)),
    "indexed by their number": (nn.ModuleList, lambda m, x: m[len(m) - 1](x) * float(len(m))),
    "indexed in a Sequential": (lambda layers: nn.Sequential(*layers), lambda m, x: m[1](x)),
    "a slice": (lambda layers: nn.Sequential(*layers), lambda m, x: m[:2](x)),
    "a slice of a list": (nn.ModuleList, lambda m, x: m[1:][0](x)),
    "forward": (lambda layers: nn.Sequential(*layers), lambda m, x: m.forward(x)),
    "by name": (by_number, lambda m, x: m["1"](x)),
    "values": (by_number, lambda m, x: functools.reduce(lambda x, layer: layer(x), m.values(), x)),
    "items": (by_number, lambda m, x: functools.reduce(lambda x, item: item[1](x), m.items(), x)),
    "keys": (by_number, lambda m, x: functools.reduce(lambda x, name: getattr(m, name)(x), m.keys(), x)),
    "names": (by_number, lambda m, x: functools.reduce(lambda x, name: getattr(m, name)(x), m, x)),
    "a name that is there": (by_number, lambda m, x: x * float("2" in m) + float(len(m))),
    "parameters": (nn.ModuleList, lambda m, x: functools.reduce(scaled, m.parameters(), x)),
    "modules": (nn.ModuleList, lambda m, x: [layer for layer in m.modules() if layer is not m][-1](x)),
    "children": (nn.ModuleList, lambda m, x: list(m.children())[-1](x)),
    "a penalty": (nn.ModuleList, lambda m, x: x + nn.Penalty(m, l2=0.5)()),
}


@pytest.mark.parametrize("taken", TAKEN)
def test_layers_that_are_taken_out_of_what_is_not_called(taken: str) -> None:
    """One in the place of another, and one more, as the last one and as the only thing that changes."""
    fastnn.seed(0)
    make, run = TAKEN[taken]
    layers, x = make([nn.Linear(3, 3), nn.Linear(3, 3)]), fastnn.tensor(np.linspace(-1, 2, 6, dtype=np.float32).reshape(2, 3))
    captured = fastnn.capture(lambda x: run(layers, x).detach())

    def same() -> bool:
        return all(np.array_equal(captured(x).numpy(), run(layers, x).numpy()) for _ in range(2))

    named = isinstance(layers, nn.ModuleDict)
    assert same() and same() and len(captured._takes) == 1
    layers["1" if named else 1] = nn.Linear(3, 3)
    assert same()
    setattr(layers, "2", nn.Linear(3, 3))
    assert same()


def test_a_list_that_holds_nothing_yet() -> None:
    layers, x = nn.ModuleList(), fastnn.tensor([-1.0, 2.0])
    captured = fastnn.capture(lambda x: functools.reduce(lambda x, layer: layer(x), layers, x * 2.0))
    assert captured(x).numpy().tolist() == [-2, 4]
    layers.append(nn.ReLU())
    assert captured(x).numpy().tolist() == [0, 4]


def test_an_option_that_lies_where_another_lay() -> None:
    """Python gives a number the place of one that went."""
    seen: list[list[Any]] = []
    for captured in (False, True):
        t = Training()
        step, group = fastnn.capture(t.step) if captured else t.step, t.optimizer.param_groups[0]
        group["lr"] = 0.05  # options are read for other rates, too
        seen.append([])
        for factor in (0.5, 0.5):  # equal, another object: the place of the first is kept by what was checked
            group["momentum"] = factor * 1.5
            seen[-1] += t.run(step, 1)
        place = id(group["momentum"])
        group["momentum"] = None
        others = [0.25]
        while id(others[-1]) != place and len(others) < 100:
            others.append(float("0.25"))
        group["momentum"] = others[-1]
        seen[-1] += t.run(step, 2)
    assert seen[0] == seen[1]


def test_items_of_options_that_lie_where_others_lay() -> None:
    """Of lists, which change in place: the first four are equal, and others."""
    results = []
    for captured in (False, True):
        w = fastnn.tensor(np.ones(3, np.float32), requires_grad=True)
        betas = [0.9, 0.99]
        optimizer = optim.Adam([w], 0.1, betas=betas)  # type: ignore[arg-type]
        betas = optimizer.param_groups[0]["betas"]

        def step(x: fastnn.Tensor) -> fastnn.Tensor:
            optimizer.zero_grad()  # noqa: B023 (called at once)
            loss = ((w * x) ** 2).sum()  # noqa: B023
            loss.backward()
            optimizer.step()  # noqa: B023
            return loss

        run, x = fastnn.capture(step) if captured else step, fastnn.tensor(np.arange(1, 4, dtype=np.float32))
        results.append([])
        for less in (0.0, 0.0, 0.0, 0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
            betas.pop(0)
            betas.insert(0, 0.95 - less)
            results[-1].append(run(x).item())
    assert results[0] == results[1]


def test_a_look_that_does_not_come_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the midst: what it was to find is not held, and is not asked for."""
    t, again = Training(), Training()
    step = fastnn.capture(t.step)
    t.run(step, 2), again.run(again.step, 2)
    held = fastnn.recording.held
    for optimizer in (t.optimizer, again.optimizer):
        optimizer.param_groups = [dict(group) for group in optimizer.param_groups]

    def interrupted(named: dict[str, Any]) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(fastnn.recording, "held", interrupted)
    with pytest.raises(KeyboardInterrupt):
        t.run(step, 1)
    assert step._takes[0].parts[0].found is None, "the old groups are gone"
    monkeypatch.setattr(fastnn.recording, "held", held)
    t.optimizer.param_groups[0]["momentum"] = again.optimizer.param_groups[0]["momentum"] = 0.3
    assert t.run(step, 3) == again.run(again.step, 3)


def test_attributes_that_are_equal_and_others_each_time() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    model.extra, model.seen = 1.5, OrderedDict(a=1)  # type: ignore[assignment]
    captured = fastnn.capture(lambda x: model(x).detach() * model.extra)
    x = fastnn.tensor(np.linspace(-1, 2, 6, dtype=np.float32).reshape(2, 3))
    for factor in (3, 3, 3, 3, 3, 4, 3, 5, 5):
        model.extra = factor / 2  # type: ignore[assignment]
        assert np.array_equal(captured(x).numpy(), (model(x) * model.extra).numpy())
    assert len(captured._takes) == 3 and captured._takes[0].found is None
    del model.seen
    plain = fastnn.capture(lambda x: model(x).detach() * model.extra)
    for factor in (3, 3, 3, 3, 3, 4, 3, 5, 5):
        model.extra = factor / 2  # type: ignore[assignment]
        assert np.array_equal(plain(x).numpy(), (model(x) * model.extra).numpy())
    assert len(plain._takes) == 3 and plain._takes[0].found is not None
