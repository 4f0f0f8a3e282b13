"""Models, optimizers, averages, schedules and generators, pickled and copied deeply: what is copied together goes on together, to the same bits."""

from __future__ import annotations

import copy
import pickle
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kernel_calls import GPUS

import fastnn
from fastnn import nn, ops, optim
from fastnn.optim import schedules
from fastnn.train import Interrupted

COPIES: dict[str, Callable[[Any], Any]] = {"pickled": lambda v: pickle.loads(pickle.dumps(v)), "copied deeply": copy.deepcopy}
every_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)

OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "SGD": lambda m: optim.SGD(m.parameters(), schedules.cosine(0.1, 10), momentum=0.9),
    "Adam": lambda m: optim.Adam(m.parameters(), schedules.warmup(schedules.ReduceOnPlateau(0.01), 4)),
    "AdamW": lambda m: optim.AdamW(m.named_parameters(), 0.01),
    "RMSprop": lambda m: optim.RMSprop(m.parameters(), 0.01),
    "Adagrad": lambda m: optim.Adagrad(m.parameters(), 0.1),
    "Muon and SGD": lambda m: optim.Together(
        optim.Muon([p for p in m.parameters() if len(p.shape) > 1], 0.1), optim.SGD([p for p in m.parameters() if len(p.shape) == 1], 0.1)
    ),
    "Lookahead": lambda m: optim.Lookahead(optim.SGD(m.parameters(), 0.1, momentum=0.9), k=2, alpha=schedules.lookahead(10)),
}


def train(model: nn.Module, optimizer: optim.Optimizer, steps: int, captured: bool = False) -> list[np.ndarray]:
    device = next(iter(model.parameters())).device
    x = fastnn.tensor(np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6), device=device)
    labels = fastnn.tensor(np.array([0, 2, 1, 2]), device=device)

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        optimizer.zero_grad()
        loss = ops.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    run = fastnn.capture(step) if captured else step
    for _ in range(steps):
        run(x, labels)
    return [p.numpy().copy() for p in model.parameters()]


def net() -> nn.Module:
    fastnn.seed(3)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


@every_copy
@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_model_and_its_optimizer_go_on(
    make: Callable[[nn.Module], optim.Optimizer], captured: bool, copied: Callable[[Any], Any], without_memory_checks: None
) -> None:
    model = net()
    optimizer = make(model)
    before = train(model, optimizer, 3, captured)
    other, its = copied((model, optimizer))
    own = {id(p) for p in other.parameters()}
    assert all(id(p) in own for group in its.param_groups for p in group["params"]), "the optimizer's parameters are not its model's"
    after = train(other, its, 3)
    assert all(np.array_equal(p.numpy(), b) for p, b in zip(model.parameters(), before)), "the copy shares memory with what was copied"
    expected = train(model, optimizer, 3)
    assert its.steps == 6 and not any(np.array_equal(a, b) for a, b in zip(after, before))
    assert all(np.array_equal(a, e) for a, e in zip(after, expected))


@every_copy
@pytest.mark.parametrize("gpu", GPUS)
def test_a_generator_and_an_optimizer_of_a_gpu_go_on(gpu: str, copied: Callable[[Any], Any]) -> None:
    """Pickled tensors are the CPU's wherever they were, so that they can be read anywhere; what belongs to them follows."""
    model = net().to(gpu)
    optimizer = OPTIMIZERS["Lookahead"](model)
    train(model, optimizer, 3)
    other, its = copied((model, optimizer))
    other.to(gpu)
    assert all(np.array_equal(a, b) for a, b in zip(train(other, its, 3), train(model, optimizer, 3)))
    generator = fastnn.Generator(5)
    generator.state_on(gpu)
    other_generator = copied(generator)
    x = fastnn.tensor(np.ones((64, 64), np.float32), device=gpu)
    results = []
    for each in (generator, other_generator):
        with fastnn.random.using(each):
            results.append(ops.dropout(x, 0.5).numpy())
    assert np.array_equal(*results)


@every_copy
def test_averages_go_on(copied: Callable[[Any], Any]) -> None:
    model = net()
    optimizer = OPTIMIZERS["SGD"](model)
    average = optim.EMA(model, 0.9)
    train(model, optimizer, 2)
    average.update()
    model2, optimizer2, average2 = copied((model, optimizer, average))
    for m, o, a in ((model, optimizer, average), (model2, optimizer2, average2)):
        train(m, o, 2)
        a.update()
    states = average.state_dict(), average2.state_dict()
    assert states[0].keys() == states[1].keys() and average2.model is model2
    assert all(np.array_equal(v, states[1][k]) for k, v in states[0].items())


@every_copy
def test_a_copy_knows_what_is_its_own(copied: Callable[[Any], Any]) -> None:
    model = net()
    optimizer, average = OPTIMIZERS["Lookahead"](model), optim.EMA(model)
    train(model, optimizer, 1)
    average.update()
    model2, optimizer2, average2 = copied((model, optimizer, average))
    optimizer2.param_groups[0]["params"].reverse()
    with pytest.raises(ValueError, match="SGD: param_groups no longer hold the 4 parameters"):
        optimizer2.step()
    model2[2] = nn.Linear(5, 3)
    with pytest.raises(ValueError, match=r"EMA.update\(\): the model no longer has the 4 tensors"):
        average2.update()
    train(model, optimizer, 1)
    average.update()
    assert optimizer.steps == 2 and average.updates == 2


SCHEDULES = {
    "constant": schedules.constant(0.1),
    "step": schedules.step(0.1, (2, 5), 0.5, unit="epoch"),
    "cosine": schedules.cosine(0.1, 10, final=0.01),
    "linear": schedules.linear(0.1, 9),
    "inverse_sqrt": schedules.inverse_sqrt(0.1),
    "exponential": schedules.exponential(0.1, 0.9),
    "cosine_restarts": schedules.cosine_restarts(0.1, 3, 2),
    "one_cycle": schedules.one_cycle(0.1, 10),
    "triangle": schedules.triangle(0.1, 10),
    "lookahead": schedules.lookahead(10),
    "scaled": schedules.scaled(schedules.linear(0.1, 9), 3.0),
    "warmup": schedules.warmup(schedules.cosine(0.1, 10, unit="epoch"), 2),
}


@every_copy
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules(schedule: schedules.Schedule, copied: Callable[[Any], Any]) -> None:
    other = copied(schedule)
    assert other is not schedule and (other.unit, other.total) == (schedule.unit, schedule.total)
    rates = [schedule.at(i, 3) for i in range(12)]
    assert rates == [other.at(i, 3) for i in range(12)] and any(rates)


def test_every_maker_of_a_schedule_is_here() -> None:
    makers = {name for name, value in vars(schedules).items() if getattr(value, "__wrapped__", None)}
    assert makers | {"scaled"} == set(SCHEDULES)


@every_copy
def test_a_schedule_with_a_memory_keeps_it(copied: Callable[[Any], Any]) -> None:
    plateau = schedules.ReduceOnPlateau(0.1, patience=0)
    for figure in (1.0, 2.0):
        plateau.step(figure)
    other = copied(schedules.warmup(plateau, 2))
    remembered = schedules.memory_of(other)
    assert remembered is not None and remembered is not plateau and other.at(5, None) == plateau.at(5, None) == 0.1 * 0.1
    remembered.step(3.0)
    assert other.at(5, None) < plateau.at(5, None) == 0.1 * 0.1


@every_copy
def test_a_generator_goes_on(copied: Callable[[Any], Any]) -> None:
    generator = fastnn.Generator(7)
    generator.uniform((3,))
    other = copied(generator)
    assert other.seed == 7 and np.array_equal(generator.uniform((5,)), other.uniform((5,)))
    assert np.array_equal(generator.bits(8, 3, 1), other.bits(8, 3, 1))


def test_a_function_of_ones_own_is_pickled_as_itself() -> None:
    schedule = pickle.loads(pickle.dumps(schedules.Schedule(half_of)))
    assert schedule.at(6, None) == 3.0


def half_of(t: float) -> float:
    return t / 2


@pytest.mark.parametrize("name", ["lr", "rate", "learning_rate"])
def test_a_rate_is_not_kept_where_nobody_reads_it(name: str) -> None:
    optimizer = OPTIMIZERS["SGD"](net())
    with pytest.raises(AttributeError, match=rf"SGD has no attribute {name}: .*param_groups\[0\]\['lr'\]"):
        setattr(optimizer, name, 0.5)


@every_copy
def test_what_has_rank_0_keeps_it(copied: Callable[[Any], Any]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    other = copied(model)
    assert {k: v.shape for k, v in other.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    other.load_state_dict(model.state_dict())
    scale = nn.Parameter(2.0)
    optimizer = optim.SGD([scale], 0.1, momentum=0.9)
    scale.grad = fastnn.tensor(1.0)
    optimizer.step()
    scale, optimizer = copied((scale, optimizer))
    scale.grad = fastnn.tensor(1.0)
    optimizer.step()
    assert scale.shape == () and np.isclose(scale.item(), 2 - 0.1 - 0.19)


def test_an_error_of_a_layer_passes_to_another_process_without_the_model() -> None:
    """It held the module that raised it: what cannot be pickled took the message's place there."""
    model = nn.Sequential(nn.Linear(200, 200), nn.Linear(3, 3))
    model.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"^1 \(Linear\(3->3\)\): got shape") as caught:
        model(fastnn.tensor(np.ones((1, 200))))
    sent = pickle.dumps(caught.value)
    assert str(pickle.loads(sent)) == str(caught.value) and len(sent) < 1000


@every_copy
def test_an_interruption_says_the_same(copied: Callable[[Any], Any]) -> None:
    """The copy took the message for the place, and knew of no checkpoint."""
    told = Interrupted("interrupted in epoch 2", "c.safetensors", signal.SIGTERM)
    for words in (str(told), "go on with: fastnn train digits --resume"):  # the command puts its own in place
        told.args = (words,)
        other = copied(told)
        assert type(other) is Interrupted and str(other) == words and vars(other) == vars(told)
