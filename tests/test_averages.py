"""EMA, Polyak's average, SWA and recomputed batch statistics against torch.optim.swa_utils; Lookahead and optimizers together."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from test_trainer import blobs
from torch.optim import swa_utils
from torch_twins import assert_close, normal

import fastnn
from fastnn import nn, ops, optim
from fastnn.optim import EMA, SGD, SWA, Adam, Lookahead, Muon, Together, schedules, update_bn
from fastnn.train import Trainer, checkpoint


def net() -> nn.Sequential:
    fastnn.seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def step(model: nn.Module, optimizer: optim.Optimizer, number: int) -> None:
    optimizer.zero_grad()
    nn.CrossEntropyLoss()(model(fastnn.tensor(normal(number, 8, 2, 4, 4))), np.arange(8) % 3).backward()
    optimizer.step()


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state_dict().items()}


# --- averages of the weights


@pytest.mark.parametrize("decay", [0.9, 0.0, None])
def test_averages_are_torchs(decay: float | None) -> None:
    values = [normal(i, *shape) for i, shape in enumerate([(3, 2), (5,), (4, 2, 3, 3)])]
    ours, theirs = nn.Module(), torch.nn.Module()
    for i, v in enumerate(values):
        setattr(ours, f"w{i}", nn.Parameter(v, "float64"))
        setattr(theirs, f"w{i}", torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)))
    a = EMA(ours, decay)
    b = swa_utils.AveragedModel(
        theirs, multi_avg_fn=swa_utils.get_swa_multi_avg_fn() if decay is None else swa_utils.get_ema_multi_avg_fn(decay)
    )
    for number in range(6):
        for i, (p, q) in enumerate(zip(ours.parameters(), theirs.parameters())):
            v = normal(10 * number + i, *p.shape)
            p.copy_from(v.astype(np.float64))
            with torch.no_grad():
                q.copy_(torch.tensor(v, dtype=torch.float64))
        a.update()
        b.update_parameters(theirs)
    before = bits(ours)
    with a.averaged():
        for i, (p, q) in enumerate(zip(ours.parameters(), b.module.parameters())):
            assert np.abs(p.numpy() - q.detach().numpy()).max() < (1e-14 if decay is not None else 1e-7), i  # PyTorch's 1 / n is a float32
        assert bits(ours) != before or decay == 0
    assert bits(ours) == before


def test_averages_take_running_statistics_along_and_come_back_bit_for_bit() -> None:
    model = net()
    ema, optimizer = EMA(model, 0.5), SGD(model.parameters(), 0.1)
    expected: dict[str, Any] = {}
    for number in range(4):
        step(model, optimizer, number)
        ema.update()
        for name, value in model.state_dict().items():
            expected[name] = value.astype(np.float64) if not number else 0.5 * expected[name] + 0.5 * value
    kept, versions, state = bits(model), [p._array.version for p in model.parameters()], ema.state_dict()
    ema.swap()
    for name, value in model.state_dict().items():
        if name != "1.num_batches_tracked":
            assert_close(value, expected[name].astype(np.float32), 8, name)
    assert [p._array.version for p in model.parameters()] == [v + 1 for v in versions]  # the tape notices
    for call in (ema.update, ema.state_dict, ema.reset, lambda: ema.load_state_dict(state)):
        with pytest.raises(RuntimeError, match=r"^EMA.\w+\(\): the averages are in the model's place; swap"):
            call()
    ema.swap()
    assert bits(model) == kept


class Running(nn.Module):
    """A buffer that forward assigns anew, as a centre of classes is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("centre", fastnn.tensor(np.zeros(3)))

    def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
        y: fastnn.Tensor = self.linear(x)
        self.centre = self.centre * 0.5 + ops.mean(y.detach(), 0) * 0.5
        return y - self.centre


def test_a_buffer_that_is_assigned_anew_is_averaged_by_its_name() -> None:
    model = Running()
    ema, expected = EMA(model, 0.5), np.zeros(3)
    for number in range(4):
        model(fastnn.tensor(normal(number, 5, 3)))
        ema.update()
        centre = model.centre.numpy().astype(np.float64)
        expected = 0.5 * expected + 0.5 * centre if number else centre
    assert_close(ema.state_dict()["centre"], expected.astype(np.float32), 8)
    before = bits(model)
    with ema.averaged():
        assert_close(model.centre, expected.astype(np.float32), 8)
        model(fastnn.tensor(normal(9, 5, 3)))
    assert bits(model) == before
    twin = copy.deepcopy(ema)
    twin.update()
    model.centre = fastnn.tensor(np.zeros(4))
    with pytest.raises(ValueError, match=r"^EMA.update\(\): the model no longer has the 3 tensors .* now it has centre;"):
        ema.update()


def test_an_average_before_its_first_update_is_the_model() -> None:
    model = net()
    ema = EMA(model)
    step(model, SGD(model.parameters(), 0.1), 0)
    now = bits(model)
    with ema.averaged():
        assert bits(model) == now
    ema.update()
    with ema.averaged():
        assert bits(model) == now


def test_state_of_an_average_goes_round() -> None:
    model = net()
    ema, optimizer = EMA(model, None), SGD(model.parameters(), 0.1)
    for number in range(3):
        step(model, optimizer, number)
        ema.update()
    state = ema.state_dict()
    again = EMA(model, None)
    again.load_state_dict(state)
    for e in (ema, again):
        e.update()
    assert ema.updates == again.updates == 4
    assert all(np.array_equal(v, again.state_dict()[k]) for k, v in ema.state_dict().items())
    for change, message in (
        ({"0.weight": np.zeros(3)}, r"EMA.load_state_dict: 0.weight has shape \(3,\); its parameter \(4, 2, 3, 3\)"),
        ({"7.weight": np.zeros(3)}, "unexpected 7.weight"),
    ):
        with pytest.raises(ValueError, match=message):
            again.load_state_dict({**state, **change})
    with pytest.raises(ValueError, match="0.bias is missing"):
        again.load_state_dict({k: v for k, v in state.items() if k != "0.bias"})
    assert again.updates == 4


def test_an_average_takes_in_what_it_is_told_to() -> None:
    model = net()
    swa, optimizer, weights = SWA(model, every=2, start=3), SGD(model.parameters(), 0.2), []
    for number in range(1, 9):
        step(model, optimizer, number)
        swa.update()
        if number in (5, 7):
            weights.append(model.state_dict()["4.weight"].astype(np.float64))
    assert swa.updates == 2 and swa.calls == 8
    with swa.averaged():
        assert_close(model.state_dict()["4.weight"], np.mean(weights, 0), 8)
    again = SWA(model, every=2, start=3)
    again.load_state_dict(swa.state_dict())
    swa.update(), again.update()
    assert swa.updates == again.updates == 3


def test_bad_averages() -> None:
    for options in ({"every": 0}, {"start": -1}):
        with pytest.raises(ValueError, match="EMA: (every must be at least 1, got 0|start must not be negative, got -1)"):
            EMA(net(), **options)
    for decay in (1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"EMA: decay must (lie in \[0, 1\), got|be a finite number, got nan)"):
            EMA(net(), decay)
    with pytest.raises(ValueError, match="SWA: the model has no parameters"):
        SWA(nn.Sequential(nn.ReLU()))


# --- batch statistics


@pytest.mark.parametrize("tuples", [False, True])
def test_batch_statistics_are_torchs(tuples: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.BatchNorm1d(4, momentum=0.3))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU(), torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4, momentum=0.3)
    )
    theirs.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()})
    batches = [normal(i, 6 + i, 3) + i for i in range(4)]
    model.eval()
    model(fastnn.tensor(batches[0]))
    update_bn([(fastnn.tensor(b), None) if tuples else fastnn.tensor(b) for b in batches], model)
    swa_utils.update_bn([(torch.tensor(b),) for b in batches], theirs)
    for name, value in theirs.state_dict().items():
        assert np.abs(model.state_dict()[name] - value.numpy()).max() < 1e-5, name
    assert not any(m.training for m in model.modules()) and [model[1].momentum, model[4].momentum] == [0.1, 0.3]


def test_swa_is_the_mean_and_its_statistics_fit_it() -> None:
    model = net()
    swa, optimizer, weights = SWA(model), SGD(model.parameters(), 0.2), []
    for epoch in range(3):
        step(model, optimizer, epoch)
        swa.update()
        weights.append(model.state_dict()["4.weight"].astype(np.float64))
    swa.swap()
    assert_close(model.state_dict()["4.weight"], np.mean(weights, 0), 8)
    data = fastnn.tensor(normal(50, 64, 2, 4, 4))
    update_bn([data], model)
    out = model.eval()[1](model[0](data)).numpy()
    assert np.abs(out.mean((0, 2, 3)) - model[1].bias.numpy()).max() < 1e-5
    assert np.abs(out.std((0, 2, 3)) - model[1].weight.numpy()).max() < 5e-3  # the running variance is unbiased


# --- Lookahead


def test_lookahead_is_its_formula() -> None:
    p, q = (nn.Parameter(normal(0, 4, 3), "float64") for _ in range(2))
    lookahead, alone = Lookahead(SGD([p], 0.1, momentum=0.9), k=3, alpha=0.25), SGD([q], 0.1, momentum=0.9)
    slow = np.array(q.numpy())
    for number in range(1, 11):
        p.grad = fastnn.tensor(normal(number, 4, 3), "float64")
        q.grad = fastnn.tensor(normal(number, 4, 3), "float64")
        lookahead.step(), alone.step()
        if number % 3 == 0:
            slow = slow + 0.25 * (q.numpy() - slow)
            q.copy_from(slow)
        assert_close(p, q, 4, f"step {number}")
    lookahead.finish()
    assert_close(p, slow, 4)
    assert lookahead.steps == 10 and lookahead.rates() == [0.1] and lookahead.name == "Lookahead(SGD)"


def test_lookahead_takes_a_buffer_along_that_is_assigned_anew() -> None:
    model = Running()
    optimizer = Lookahead(SGD(model.parameters(), 0.1), k=1, alpha=0.0, model=model)
    before = bits(model)
    for number in range(2):
        model(fastnn.tensor(normal(number, 5, 3))).sum().backward()
        assert bits(model) != before
        optimizer.step()  # with alpha 0 all of it goes back
        assert bits(model) == before


@pytest.mark.usefixtures("without_memory_checks")
@pytest.mark.parametrize("at", [3, 4, 5, 6])
def test_lookahead_takes_it_along_in_replays_too(at: int) -> None:
    def trained(captured: bool) -> list[bytes]:
        fastnn.seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
        optimizer = Lookahead(SGD(model.parameters(), 0.05), k=4, model=model)

        def once(x: fastnn.Tensor) -> fastnn.Tensor:
            optimizer.zero_grad()
            loss = (model(x) ** 2.0).mean()
            loss.backward()
            optimizer.step()
            return loss

        run, seen = fastnn.capture(once) if captured else once, []
        for number in range(12):
            if number == at:
                model[1].running_mean = fastnn.tensor(np.full(2, 5.0))
            run(fastnn.tensor(normal(number, 2, 1, 5, 5)))
            seen.append(b"".join(bits(model).values()))
        assert not captured or sum(take.runs for take in run._takes) > 4
        return seen

    assert trained(True) == trained(False)


def test_airbenchs_lookahead_takes_the_buffers_along() -> None:
    """Every 5 steps ema = decay ema + (1 - decay) net for the whole state, net = ema; at the end decay 1 (airbench94)."""
    total = 12
    model, twin = net(), net()
    ours = Lookahead(SGD(model.parameters(), 0.1), k=5, alpha=schedules.lookahead(total), model=model)
    theirs = SGD(twin.parameters(), 0.1)
    ema = {k: v.astype(np.float64) for k, v in twin.state_dict().items()}
    for number in range(1, total + 1):
        step(model, ours, number), step(twin, theirs, number)
        decay = 0.95**5 * (number / total) ** 3 if number < total else 1.0
        if number % 5 == 0 or number == total:
            state = twin.state_dict()
            for name in ema:
                if name != "1.num_batches_tracked":
                    ema[name] = decay * ema[name] + (1 - decay) * state[name]
                    state[name] = ema[name].astype(np.float32)
            twin.load_state_dict(state)
    ours.finish()
    for name, value in model.state_dict().items():
        assert_close(value.astype(np.float32), twin.state_dict()[name].astype(np.float64), 200, name)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: Lookahead(Adam(m.parameters(), 0.01), k=2),
        lambda m: Lookahead(SGD(m.parameters(), 0.1, momentum=0.9), k=3, alpha=schedules.linear(1.0, 10, 0.1), model=m),
        lambda m: Together(Muon([p for p in m.parameters() if p.ndim > 1], 0.02), Adam([p for p in m.parameters() if p.ndim == 1])),
        lambda m: Lookahead(Together(SGD([m[0].weight], 0.1, momentum=0.9), Adam([m[4].weight, m[4].bias])), k=2),
    ],
)
def test_state_of_optimizers_of_optimizers_goes_round(make: Callable[[Any], Any]) -> None:
    model = net()
    optimizer = make(model)
    for number in range(3):
        step(model, optimizer, number)
    state, weights = optimizer.state_dict(), model.state_dict()
    for number in range(3, 7):
        step(model, optimizer, number)
    again = net()
    again.load_state_dict(weights)
    resumed = make(again)
    resumed.load_state_dict(state)
    assert resumed.steps == 3
    for number in range(3, 7):
        step(again, resumed, number)
    assert bits(again) == bits(model)
    assert all(np.array_equal(v, resumed.state_dict()[k]) for k, v in optimizer.state_dict().items())
    for key, change in (
        ("steps", None),
        ("0/counts", np.zeros(99)),
        ("5/counts", np.zeros(1)),
        ("slow.0", np.zeros(99)),
        ("fast.0", np.zeros(1)),
    ):
        wrong = {**state, key: change} if change is not None else {k: v for k, v in state.items() if k != key}
        if key != "slow.0" or "slow.0" in state:
            with pytest.raises(ValueError, match=rf"load_state_dict: .*{key.rpartition('/')[2]}"):
                resumed.load_state_dict(wrong)
    assert all(np.array_equal(v, resumed.state_dict()[k]) for k, v in optimizer.state_dict().items())


def test_each_of_several_keeps_its_own_steps(tmp_path: Any) -> None:
    """One that was trained before they were put together stands elsewhere in its schedule; in the Trainer's files, too."""
    trainers = []
    for _ in range(2):
        model = net()
        parts = SGD([model[0].weight], 0.1), Adam([model[4].weight], schedules.exponential(0.1, 0.5))
        step(model, parts[0], 0)
        trainers.append(Trainer(model, Lookahead(Together(*parts))))
    step(trainers[0].model, trainers[0].optimizer, 1)
    trainers[0].save(tmp_path / "a.safetensors")
    checkpoint.load(trainers[1], tmp_path / "a.safetensors")
    assert trainers[1].optimizer.rates() == trainers[0].optimizer.rates() == [0.1, 0.05]


def test_a_state_that_the_second_of_several_refuses_leaves_the_first_alone() -> None:
    model = net()
    matrices, others = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim == 1]
    optimizer = Together(SGD(matrices, 0.1, momentum=0.9), SGD(others, 0.1, momentum=0.9))
    step(model, optimizer, 0)
    state = optimizer.state_dict()
    wrong = {**state, "steps": 7, "0/0.momentum": 5 * state["0/0.momentum"], "1/0.momentum": np.zeros(99, np.float32)}
    with pytest.raises(ValueError, match="momentum"):
        optimizer.load_state_dict(wrong)
    now = optimizer.state_dict()
    assert now.keys() == state.keys() and all(np.array_equal(now[key], value) for key, value in state.items())


def test_each_of_several_goes_on_from_its_own_steps() -> None:
    """One that had stepped by itself had the rate of the first one's step after a resume."""
    first, second = (SGD([nn.Parameter([1.0])], lambda step: 0.1 / (1 + step)) for _ in range(2))
    optimizer = Together(first, Lookahead(second))
    first.steps, second.steps = 2, 4
    state, before = optimizer.state_dict(), optimizer.rates()
    first.steps = second.steps = 0
    optimizer.load_state_dict(state)
    assert (first.steps, second.steps) == (2, 4) and optimizer.rates() == before
    second.steps = 2
    assert "1/steps" in state and "1/steps" not in optimizer.state_dict()


@pytest.mark.parametrize("name", ["updates", "calls"])
def test_a_weight_cannot_be_called_as_a_count_of_the_state(name: str) -> None:
    """It took the count's place, and no checkpoint could be written after the first epoch."""
    model = net()
    setattr(model, name, nn.Parameter([1.0]))
    with pytest.raises(
        ValueError, match=f"^SWA: the model has a tensor called '{name}', as a count of the averages' state is; choose another name$"
    ):
        SWA(model)


def test_a_mean_is_copied_with_its_times() -> None:
    copied = copy.deepcopy(SWA(net(), every=3, start=10))
    assert (copied.every, copied.start) == (3, 10)


def test_optimizers_together_step_as_one() -> None:
    model = net()
    matrices, others = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim == 1]
    optimizer = Together(Muon(matrices, 0.02), SGD(others, schedules.cosine(0.1, 2, unit="epoch")))
    optimizer.steps_per_epoch, optimizer.measure_updates = 5, True
    step(model, optimizer, 0)
    assert optimizer.steps == 1 and optimizer.rates() == [0.02, pytest.approx(0.05 * (1 + math.cos(math.pi * 0.1)))]
    assert len(optimizer.param_groups) == 2 and all(r > 0 for r in optimizer.update_ratios()[: len(matrices)])
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_bad_wrappers() -> None:
    p = nn.Parameter(np.zeros((2, 2)))
    for make, message in (
        (lambda: Lookahead(SGD([p], 0.1), k=0), "Lookahead: k must be at least 1, got 0"),
        (lambda: Lookahead(SGD([p], 0.1), alpha=1.5), r"Lookahead: alpha must lie in \[0, 1\], got 1.5"),
        (lambda: Together(), "Together: no optimizers given"),
        (lambda: Together(SGD([p], 0.1), Muon([p])), r"Together: a parameter of shape \(2, 2\) belongs to two optimizers"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_update_bn_counts_every_call_of_a_layer() -> None:
    """A layer that is called twice in a forward pass, beside PyTorch's."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm1d(2)

        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            y: fastnn.Tensor = self.bn(self.bn(x) + 1.0)
            return y

    class TorchTwice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = torch.nn.BatchNorm1d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bn(self.bn(x) + 1.0)

    batches = [np.random.default_rng(i).standard_normal((5, 2)).astype(np.float32) for i in range(3)]
    ours, theirs = Twice(), TorchTwice()
    update_bn([fastnn.tensor(b) for b in batches], ours)
    swa_utils.update_bn([torch.from_numpy(b) for b in batches], theirs)
    np.testing.assert_allclose(ours.bn.running_mean.numpy(), theirs.bn.running_mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.bn.running_var.numpy(), theirs.bn.running_var.numpy(), rtol=1e-5)
    assert ours.bn.momentum == 0.1


def test_update_bn_leaves_other_norms_to_themselves() -> None:
    """InstanceNorm2d moves as in training, beside PyTorch's, and where there is no batch normalisation not at all."""
    batches = [normal(i, 4, 2, 5, 5) + i for i in range(3)]
    ours = nn.Sequential(nn.InstanceNorm2d(2, track_running_stats=True), nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False))
    theirs = torch.nn.Sequential(
        torch.nn.InstanceNorm2d(2, track_running_stats=True),
        torch.nn.BatchNorm2d(2),
        torch.nn.BatchNorm2d(2, track_running_stats=False),
    )
    theirs(torch.tensor(batches[2]))
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    update_bn(map(fastnn.tensor, batches), ours)
    swa_utils.update_bn(map(torch.tensor, batches), theirs)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], value.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
    assert ours[0].momentum == 0.1
    before = bits(ours[0])
    update_bn([fastnn.tensor(batches[0])], ours[0])
    assert bits(ours[0]) == before


@pytest.mark.parametrize("good", [0, 2])
@pytest.mark.parametrize("bad", [normal(0, 8, 2, 4, 4), fastnn.tensor(normal(0, 8, 3, 4, 4))])
def test_update_bn_that_is_refused_changes_nothing(good: int, bad: Any) -> None:
    """Whether the first batch is what no layer takes, or one behind it."""
    model = net().eval()
    model[1].train()
    model[1](fastnn.tensor(normal(1, 8, 4, 2, 2) + 3))
    before = bits(model)
    with pytest.raises((TypeError, ValueError)):
        update_bn([fastnn.tensor(normal(i, 8, 2, 4, 4)) for i in range(good)] + [bad], model)
    assert bits(model) == before and [m.training for m in model.modules()] == [False, False, True, False, False, False]


@pytest.mark.parametrize("doing", ["update", "swap"])
def test_a_model_that_became_another_type_needs_another_average(doing: str) -> None:
    model = nn.Linear(2, 3)
    ema = EMA(model)
    model.double()
    with pytest.raises(TypeError, match=rf"^EMA.{doing}\(\): weight has become float64, its average is float32; make a new one$"):
        getattr(ema, doing)()


def test_lookahead_has_an_alpha_beside_that_of_its_optimizer() -> None:
    weights = [nn.Parameter(np.ones((3, 3), np.float32)) for _ in range(2)]
    for inner in (optim.RMSprop(weights), Together(optim.RMSprop(weights[:1], alpha=0.9), Adam(weights[1:]))):
        optimizer = Lookahead(inner, alpha=0.25)
        optimizer.alpha = 0.75
        assert optimizer.alpha == 0.75 and inner.param_groups[0]["alpha"] in (0.99, 0.9)


def test_steps_of_optimizers_together_are_set_one_by_one() -> None:
    optimizer = Lookahead(SGD(net().parameters(), 0.1))
    with pytest.raises(AttributeError, match=r"Lookahead\(SGD\).steps is that of its optimizers; set optimizer.optimizers\[0\].steps"):
        optimizer.steps = 3
    optimizer.optimizers[0].steps = 3
    assert optimizer.steps == 3


def test_a_mean_that_the_best_snapshot_replaces_is_told_of() -> None:
    def fit(**options: Any) -> SWA:
        fastnn.seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
        swa = SWA(model, every=1)
        Trainer(model, optim.SGD(model.parameters(), 0.05), ema=swa).fit(blobs(40), 1, blobs(20, 1), progress=False, **options)
        return swa

    with pytest.warns(UserWarning, match="the best snapshot is back, and SWA's mean of 1 updates forgotten; restore_best=False keeps it"):
        assert fit(batch_size=40).updates == 0
    assert fit(batch_size=40, restore_best=False).updates == 1
