"""Modules, functions and hooks of one's own, as users of PyTorch write them: what they may rely on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import fastnn
from fastnn import _C, Tensor, nn, optim


def normal(*shape: int, seed: int = 0) -> Tensor:
    return fastnn.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


# --- functions


class Dot(fastnn.Function):
    """Whose backward returns what it saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return (x * w).sum()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return w, x


ONE = fastnn.tensor(np.ones(2, np.float32))


class Constant(fastnn.Function):
    """Whose forward and backward return a tensor that is there already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return ONE

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return ONE


def test_gradients_of_a_function_are_nobodys_arrays() -> None:
    x, w = (fastnn.tensor(np.array(v, np.float32), requires_grad=True) for v in ([1.0, 1.0], [3.0, 4.0]))
    Dot.apply(x, w).backward()
    optim.clip_grad_norm_([x], 1.0)
    assert w.numpy().tolist() == [3.0, 4.0]
    x, w = (fastnn.tensor(np.array(v, np.float32), requires_grad=True) for v in ([1.0, 1.0], [3.0, 4.0]))
    Dot.apply(x, w).backward()
    optim.SGD([x, w], 1.0).step()
    assert x.numpy().tolist() == [-2.0, -3.0] and w.numpy().tolist() == [2.0, 3.0]


def test_what_a_function_returns_is_nobodys_array() -> None:
    x = fastnn.tensor(np.zeros(2, np.float32), requires_grad=True)
    y = Constant.apply(x)
    y.sum().backward()
    assert x.grad is not None
    x.grad.copy_from(np.full(2, 7.0, np.float32))
    y.detach().copy_from(np.full(2, 8.0, np.float32))
    assert ONE.numpy().tolist() == [1.0, 1.0]


# --- modules


class FrozenStatistics(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> FrozenStatistics:
        return super().train(False)


def test_train_is_asked_of_each_module_below() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(FrozenStatistics(2)), nn.ReLU())
    model.train()
    assert model.training and model[1].training and not model[1][0].training
    model(normal(2, 1, 5, 5))
    mean = model[1][0].running_mean
    assert mean is not None and (mean.numpy() == 0).all()
    model.eval()
    assert not any(m.training for m in model.modules())


def test_a_module_under_two_names_has_both_in_its_state() -> None:
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    their_shared = torch.nn.Linear(3, 3)
    theirs = torch.nn.Sequential(their_shared, torch.nn.ReLU(), their_shared)
    assert list(model.state_dict()) == list(theirs.state_dict())
    model.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    np.testing.assert_allclose(model(fastnn.tensor(x)).numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in model.state_dict().items()})
    assert len(list(model.parameters())) == 2


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_forward_that_was_replaced_runs(at: int) -> None:
    """Also of a layer that would run inside another one's kernel."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    x = normal(2, 1, 5, 5)
    seen = []
    before = model[at].forward

    def forward(value: Tensor) -> Tensor:
        seen.append(at)
        result: Tensor = before(value)
        return result

    expected = model.eval()(x).numpy()
    model[at].forward = forward
    assert np.allclose(model(x).numpy(), expected, atol=1e-5) and seen == [at]


def test_a_hook_is_removed_once() -> None:
    layer, calls = nn.ReLU(), []

    def hook(*_: object) -> None:
        calls.append(1)

    first, second = layer.register_forward_hook(hook), layer.register_forward_hook(hook)
    first.remove(), first.remove()
    layer(normal(2))
    assert len(calls) == 1
    second.remove()
    layer(normal(2))
    assert len(calls) == 1


def test_each_hook_is_called_and_removed_by_itself() -> None:
    layer, calls = nn.ReLU(), []

    def once(*_: object) -> None:
        calls.append("once")
        handle.remove()

    def again(*_: object) -> None:
        calls.append("again")

    handle = layer.register_forward_hook(once)
    layer.register_forward_hook(again)
    layer(normal(2))
    assert calls == ["once", "again"]  # though the first is gone when the second is called
    layer.register_forward_hook(once)
    layer.register_forward_hook(again).remove()
    calls.clear()
    layer(normal(2))
    assert calls == ["again", "once"]


def test_a_captured_step_knows_the_modules_that_run_inside_others(without_memory_checks: None) -> None:
    conv, norm, relu = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()
    step = fastnn.capture(lambda x: nn.in_turn([conv, norm, relu], x))
    x = normal(2, 1, 5, 5)
    step(x), step(x)
    norm.eval()
    assert norm.running_mean is not None
    before = norm.running_mean.numpy().copy()
    assert np.allclose(step(x).numpy(), relu(norm(conv(x))).numpy(), atol=1e-6) and (norm.running_mean.numpy() == before).all()
    relu.register_forward_hook(lambda *_: None)
    with pytest.raises(_C.CaptureError, match="ReLU has a forward hook"):
        step(x)


def test_a_captured_step_sees_lists_of_a_module_change(without_memory_checks: None) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = [2.0]

        def forward(self, x: Tensor) -> Tensor:
            return x * self.by[0]

    model = Scaled()
    step = fastnn.capture(lambda x: model(x))
    x = normal(3)
    step(x), step(x)
    model.by[0] = 5.0
    assert step(x).numpy().tobytes() == (x * 5.0).numpy().tobytes()


# --- numbers


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([300, -1], "uint8"), ([1.0, np.nan], "int64"), ([1e30], "int64"), (np.array([1, 2**63], np.uint64), None), ([-0.5, 256.0], "uint8")],
)
def test_integers_that_a_type_has_not_are_refused(values: Any, dtype: str | None) -> None:
    with pytest.raises(ValueError, match=r"fastnn.tensor: .* at \(\d,\) is no (uint8|int64); expected"):
        fastnn.tensor(values, dtype=dtype)


def test_labels_beyond_int64_are_not_taken_for_others() -> None:
    with pytest.raises(ValueError, match="cross_entropy: 18446744073709551516 at .* is no int64"):
        fastnn.ops.cross_entropy(normal(2, 3), np.array([0, 2**64 - 100], np.uint64))


@pytest.mark.parametrize("captured", [False, True])
def test_gradients_that_become_zeros_are_zeros(captured: bool, without_memory_checks: None) -> None:
    w = fastnn.tensor(np.zeros(3, np.float32), requires_grad=True)
    optimizer = optim.SGD([w], 0.1)
    w.grad = fastnn.tensor(np.array([np.inf, np.nan, 1.0], np.float32))

    def act(x: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss = (w * x).sum()
        loss.backward()
        return loss

    act = fastnn.capture(act) if captured else act
    for _ in range(3):
        act(normal(3))
        assert w.grad is not None and w.grad.numpy().tolist() == normal(3).numpy().tolist()


# --- layers in plain lists


class Listed(nn.Module):
    def __init__(self, held: Any, **more: Any) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.held = held
        for name, value in more.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("held", "kind"),
    [([nn.Linear(2, 2)], "list"), ((nn.Linear(2, 2),), "tuple"), ({"a": nn.Linear(2, 2)}, "dict")],
    ids=["list", "tuple", "dict"],
)
def test_layers_in_a_plain_list_are_told_of_once(held: Any, kind: str) -> None:
    class Own(Listed):
        pass

    model = nn.Sequential(Own(held))
    with pytest.warns(
        UserWarning, match=rf"^Own.held is a plain {kind} of modules.*; nn.Module{'Dict' if kind == 'dict' else 'List'}\(held\)"
    ) as seen:
        optim.SGD(model.parameters(), 0.1)
    assert [one.filename for one in seen] == [__file__]
    list(model.parameters())


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([nn.Parameter([1.0])], "a plain list of parameters, which Own does not have: .*; make each an attribute, an nn.Parameter$"),
        ({"w": nn.Parameter([1.0])}, "a plain dict of parameters, which Own does not have: "),
        ((fastnn.tensor([1.0], requires_grad=True),), "a plain tuple of parameters, which Own does not have: "),
        (fastnn.tensor([1.0], requires_grad=True), r"a plain Tensor that requires a gradient, .*: it is .*; nn.Parameter\(held\) is one$"),
    ],
    ids=["list", "dict", "tuple", "tensor"],
)
def test_parameters_that_are_no_attributes_are_told_of_once(held: Any, said: str) -> None:
    class Own(Listed):
        pass

    model = nn.Sequential(Own(held))
    with pytest.warns(UserWarning, match=rf"^Own.held is {said}") as seen:
        optim.SGD(model.parameters(), 0.1)
    assert [one.filename for one in seen] == [__file__]
    list(model.parameters())


def test_tensors_that_are_no_parameters() -> None:
    """What is shared, frozen, or made by an operation."""
    w, frozen = nn.Parameter([1.0]), fastnn.tensor([1.0])
    for held in ([w], {"w": w}, frozen, [frozen], w * 2.0, [w * 2.0]):
        assert len(list(Listed(held, again=w).parameters())) == 3


def test_what_may_be_kept_in_a_plain_list() -> None:
    teacher, twice = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)
    parent = nn.Module()
    parent.child = Listed([parent])
    for model in (
        Listed([teacher]),
        Listed([twice], again=twice),
        Listed([nn.ReLU()]),
        Listed([nn.Linear]),
        Listed([]),
        Listed([1.0]),
        parent.child,
    ):
        assert len(list(model.parameters())) in (2, 4)


# --- optimizers of one's own


def test_an_optimizer_of_ones_own_has_the_options_that_it_names() -> None:
    class Plain(optim.Optimizer):
        def __init__(self, params: Any, **defaults: Any) -> None:
            super().__init__(params, defaults)

    optimizer = Plain(nn.Linear(2, 2).parameters(), lr=0.1)
    assert optimizer.rates() == [0.1] and "weight_decay" not in optimizer.param_groups[0]
    with pytest.raises(
        ValueError, match=r"^Plain: every group needs an lr; give one in the defaults: super\(\).__init__\(params, {'lr': lr}\)$"
    ):
        Plain(nn.Linear(2, 2).parameters(), momentum=0.1)


# --- containers, and functions of every module


def test_sequential_takes_names() -> None:
    """As PyTorch's, of an OrderedDict."""
    ours, theirs = (
        library.Sequential(OrderedDict([("first", library.Linear(3, 4)), ("act", library.ReLU()), ("last", library.Linear(4, 2))]))
        for library in (nn, torch.nn)
    )
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict()) and ours[0] is ours.first and len(ours.append(nn.ReLU())) == 4
    x = normal(5, 3)
    np.testing.assert_allclose(ours(x).numpy(), theirs(torch.tensor(x.numpy())).relu().detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="^Sequential holds modules, got 3 as module 'a'$"):
        nn.Sequential({"a": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"^Sequential: 'a\.b' cannot name a module: it has a dot"):
        nn.Sequential({"a.b": nn.ReLU()})


def test_apply_goes_from_children_to_parents() -> None:
    """As PyTorch: a block has the last word on its layers, and layers that the function puts around others are not gone through."""
    visited: list[list[str]] = []
    for library in (nn, torch.nn):
        shared: Any = library.Linear(2, 2)
        net = library.Sequential(library.Sequential(shared, library.ReLU(), shared), library.Tanh(), library.Sequential(shared))
        visited.append([])
        net.apply(lambda m: visited[-1].append(type(m).__name__))
    assert visited[0] == visited[1]

    def wrap(module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Sequential(child, nn.Dropout(0.1)))

    net = nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU()).apply(wrap)
    assert [type(m).__name__ for m in net.modules()].count("Dropout") == 2


def test_what_a_module_of_several_says_of_itself_is_in_its_repr() -> None:
    class Scaled(nn.Sequential):
        def extra_repr(self) -> str:
            return "scale=2\nbias=1"

    lines = ["  scale=2", "  bias=1", "  (0): DropConnect(", "    p=0.25", "    (layer): Linear(2->2)", "  )"]
    assert repr(Scaled(nn.DropConnect(nn.Linear(2, 2), 0.25))).splitlines() == ["Scaled(", *lines, ")"]


# --- what they raise


class Broken(nn.Module):
    def __init__(self, forward: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.drop, self.how = nn.Dropout(0.5), forward

    def forward(self, x: Tensor) -> Any:
        return self.how(self.drop(x))


@pytest.mark.parametrize(
    ("forward", "error", "said"),
    [
        (lambda x: x.flatten(1), AttributeError, "^a Tensor has no attribute 'flatten'; here it is"),
        (lambda x: int("seven"), ValueError, "^invalid literal for int"),
        (lambda x: 1 / 0, ZeroDivisionError, "^division by zero$"),
        (lambda x: x + "a", TypeError, "^add: b: expected a Tensor, an array or a number"),
        (lambda x: x + np.zeros(7), ValueError, r"^add: shapes \(1, 3\) and \(7,\) do not broadcast"),
    ],
)
def test_errors_of_a_forward_stay_what_they_are(forward: Callable[[Tensor], Any], error: type[Exception], said: str) -> None:
    """Not said of the arguments of what called it, and with the line that raised."""
    for call in (lambda: Broken(forward).summary((3,)), lambda: nn.monte_carlo(Broken(forward), normal(1, 3))):
        with pytest.raises(error, match=said) as caught:
            call()
        assert caught.type is error and [entry.name for entry in caught.traceback].count("<lambda>") == 2


def test_monte_carlo_names_what_returns_no_tensor() -> None:
    with pytest.raises(TypeError, match="^monte_carlo: the model must return a Tensor, got None$"):
        nn.monte_carlo(Broken(lambda x: None), normal(1, 3))
