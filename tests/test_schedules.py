"""Schedules against torch.optim.lr_scheduler and their formulas; units, warm-up, the one with a memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import fastnn
from fastnn import nn
from fastnn.optim import SGD, schedules
from fastnn.optim.schedules import ReduceOnPlateau


def torch_rates(make: Callable[[torch.optim.Optimizer], Any], lr: float, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


LR = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("schedule", "theirs", "formula"),
    [
        (schedules.constant(0.3), lambda o: LR.ConstantLR(o, 1.0), lambda t: 0.3),
        (schedules.step(0.3, [5, 9]), lambda o: LR.MultiStepLR(o, [5, 9]), lambda t: 0.3 if t < 5 else 0.03 if t < 9 else 0.003),
        (schedules.step(0.3, [5, 9], 0.5), lambda o: LR.MultiStepLR(o, [5, 9], 0.5), lambda t: 0.3 * 0.5 ** ((t >= 5) + (t >= 9))),
        (schedules.cosine(0.3, 20), lambda o: LR.CosineAnnealingLR(o, 20), lambda t: 0.15 * (1 + math.cos(math.pi * t / 20))),
        (
            schedules.cosine(0.3, 20, 0.1),
            lambda o: LR.CosineAnnealingLR(o, 20, 0.1),
            lambda t: 0.1 + 0.1 * (1 + math.cos(math.pi * t / 20)),
        ),
        (schedules.linear(0.3, 20), lambda o: LR.LinearLR(o, 1.0, 0.0, 20), lambda t: 0.3 * (1 - t / 20)),
        (schedules.linear(0.3, 20, 0.06), lambda o: LR.LinearLR(o, 1.0, 0.2, 20), lambda t: 0.3 - 0.24 * t / 20),
        (schedules.warmup(0.3, 8), lambda o: LR.LinearLR(o, 1 / 8, 1.0, 7), lambda t: 0.3 * min(1, (t + 1) / 8)),
        (
            schedules.warmup(schedules.cosine(0.3, 20), 4),
            lambda o: LR.LambdaLR(o, lambda t: min(1, (t + 1) / 4) * (1 + math.cos(math.pi * t / 20)) / 2),
            lambda t: 0.15 * (1 + math.cos(math.pi * t / 20)) * min(1, (t + 1) / 4),
        ),
        (schedules.inverse_sqrt(0.3), lambda o: LR.LambdaLR(o, lambda t: max(t, 1) ** -0.5), lambda t: 0.3 / math.sqrt(max(t, 1))),
        (schedules.exponential(0.3, 0.8), lambda o: LR.ExponentialLR(o, 0.8), lambda t: 0.3 * 0.8**t),
        (
            schedules.cosine_restarts(0.3, 6),
            lambda o: LR.CosineAnnealingWarmRestarts(o, 6),
            lambda t: 0.15 * (1 + math.cos(math.pi * (t % 6) / 6)),
        ),
        (
            schedules.cosine_restarts(0.3, 3, 2, 0.1),
            lambda o: LR.CosineAnnealingWarmRestarts(o, 3, 2, 0.1),
            lambda t: 0.1 + 0.1 * (1 + math.cos(math.pi * (t / 3 if t < 3 else (t - 3) / 6 if t < 9 else (t - 9) / 12))),
        ),
        (schedules.one_cycle(0.3, 21), lambda o: LR.OneCycleLR(o, 0.3, 21), None),
        (
            schedules.one_cycle(0.3, 21, pct_start=0.5, anneal_strategy="linear", div_factor=10, final_div_factor=100),
            lambda o: LR.OneCycleLR(o, 0.3, 21, pct_start=0.5, anneal_strategy="linear", div_factor=10, final_div_factor=100),
            None,
        ),
        (
            schedules.triangle(0.3, 20),
            lambda o: LR.LambdaLR(o, lambda t: 0.2 + 0.8 * t / 4 if t < 4 else 1 - 0.93 * (t - 4) / 16),
            lambda t: 0.3 * (0.2 + 0.8 * t / 4 if t < 4 else 1 - 0.93 * (t - 4) / 16),
        ),
        (
            schedules.lookahead(20),
            lambda o: LR.LambdaLR(o, lambda t: (1 - 0.95**5 * (t / 20) ** 3) / 0.3),
            lambda t: 1 - 0.95**5 * (t / 20) ** 3,
        ),
        (schedules.linear_rule(schedules.cosine(0.1, 20), 3), lambda o: LR.CosineAnnealingLR(o, 20), None),
    ],
    ids=[
        "constant",
        "step",
        "step by half",
        "cosine",
        "cosine to 0.1",
        "linear",
        "linear to 0.06",
        "warm-up",
        "warm-up and cosine",
        "inverse sqrt",
        "exponential",
        "restarts",
        "restarts, doubled",
        "one cycle",
        "one cycle, all",
        "triangle",
        "lookahead",
        "linear rule",
    ],
)
@pytest.mark.filterwarnings("ignore:The verbose parameter:UserWarning")
def test_schedules(schedule: Callable[[int], float], theirs: Callable[[Any], Any], formula: Callable[[int], float] | None) -> None:
    got = [schedule(t) for t in range(21)]
    if formula is not None:
        assert got == pytest.approx([formula(t) for t in range(21)], rel=1e-12, abs=1e-15)
    assert got == pytest.approx(torch_rates(theirs, 0.3, 21), rel=1e-9, abs=1e-12)


def test_schedules_stay_at_their_end() -> None:
    assert schedules.cosine(0.3, 20, 0.1)(1000) == pytest.approx(0.1) and schedules.linear(0.3, 20, 0.1)(1000) == pytest.approx(0.1)
    assert schedules.warmup(0.3, 0)(0) == 0.3
    assert schedules.one_cycle(0.3, 20)(1000) == schedules.one_cycle(0.3, 20)(19) == pytest.approx(0.3 / 25 / 1e4)
    assert schedules.triangle(0.3, 20)(1000) == pytest.approx(0.021) and schedules.lookahead(20)(99) == pytest.approx(1 - 0.95**5)
    for make in (schedules.cosine, schedules.linear, schedules.one_cycle, schedules.triangle):
        with pytest.raises(ValueError, match=f"{make.__name__}: total must be at least 1 step, got 0"):
            make(0.3, 0)
    with pytest.raises(ValueError, match="cosine_restarts: period must be positive, got 0"):
        schedules.cosine_restarts(0.3, 0)


@pytest.mark.parametrize("total, part", [(3, 0.1), (3, 0.0), (10, 0.05), (2, 0.3), (1, 0.3), (4, 0.3), (20, 0.0), (5, 1.0)])
@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_one_cycle_is_torchs_where_its_top_lies_before_the_first_step(total: int, part: float, strategy: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    theirs = LR.OneCycleLR(optimizer, 0.1, total, pct_start=part, anneal_strategy=strategy)
    ours = schedules.one_cycle(0.1, total, pct_start=part, anneal_strategy=strategy)
    for step in range(total):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9), step
        optimizer.step()
        if step + 1 < total:
            theirs.step()


def test_an_optimizer_follows_its_schedules() -> None:
    a, b = nn.Parameter(np.zeros(1), "float64"), nn.Parameter(np.zeros(1), "float64")
    cosine, linear = schedules.cosine(0.3, 10), schedules.linear(0.2, 10)
    optimizer = SGD([{"params": [a]}, {"params": [b], "lr": linear}], cosine)
    for step in range(10):
        assert optimizer.rates() == [cosine(step), linear(step)]
        a.grad = b.grad = fastnn.tensor(np.ones(1), "float64")
        optimizer.step()
    assert a.item() == pytest.approx(-sum(map(cosine, range(10))), rel=1e-12)
    assert b.item() == pytest.approx(-sum(map(linear, range(10))), rel=1e-12)
    optimizer.load_state_dict({"steps": 3})
    assert optimizer.rates() == [cosine(3), linear(3)]


# --- epochs


EPOCHS = [
    schedules.step(0.1, (30, 60, 90), unit="epoch"),
    schedules.cosine(0.1, 90, unit="epoch"),
    schedules.linear(0.1, 90, unit="epoch"),
    schedules.inverse_sqrt(0.1, unit="epoch"),
    schedules.exponential(0.1, 0.9, unit="epoch"),
    schedules.cosine_restarts(0.1, 7, 2, unit="epoch"),
    schedules.one_cycle(0.1, 90, unit="epoch"),
    schedules.triangle(0.1, 90, unit="epoch"),
]


@pytest.mark.parametrize("schedule", EPOCHS)
def test_epochs_are_steps_divided(schedule: schedules.Schedule) -> None:
    assert [schedule.at(step, 40) for step in range(0, 4000, 7)] == [schedule(step / 40) for step in range(0, 4000, 7)]
    rates = [schedule(t) for t in range(100)]
    assert len(set(rates)) > 3 and max(rates) <= 0.1 + 1e-12 and min(rates) >= 0


def test_an_optimizer_needs_to_know_how_long_an_epoch_is() -> None:
    p = nn.Parameter(np.zeros(1))
    optimizer = SGD([p], schedules.step(0.1, (1, 2), unit="epoch"))
    with pytest.raises(ValueError, match=r"does not know how long one is: .* optimizer.steps_per_epoch = len\(loader\)"):
        optimizer.rates()
    optimizer.steps_per_epoch = 2
    rates = []
    for _ in range(5):
        p.grad = fastnn.tensor(np.ones(1))
        rates += optimizer.rates()
        optimizer.step()
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


# --- warm-up


def test_warm_up_takes_a_twentieth_of_the_run_or_5000_steps() -> None:
    short, long = schedules.warmup(schedules.linear(1.0, 200)), schedules.warmup(schedules.constant(1.0), total=1_000_000)
    assert [short(t) for t in (0, 4, 9)] == pytest.approx([0.1 * 1, 0.5 * (1 - 4 / 200), 1 - 9 / 200])
    assert long(0) == 1 / 5000 and long(4998) == pytest.approx(4999 / 5000) and long(4999) == 1
    epochs = schedules.warmup(schedules.cosine(1.0, 100, unit="epoch"))  # 5 epochs, unless they have more than 1,000 steps
    assert epochs.at(49, 20) == pytest.approx(0.5 * schedules.cosine(1.0, 100)(49 / 20)) and epochs(2.5) == pytest.approx(
        0.5 * schedules.cosine(1.0, 100)(2.5)
    )
    assert epochs.at(4998, 2000) == pytest.approx(4999 / 5000 * schedules.cosine(1.0, 100)(4998 / 2000))
    two = schedules.warmup(schedules.constant(1.0), 2, total=10)
    assert [two(t) for t in range(3)] == [0.5, 1, 1]
    assert schedules.warmup(lambda t: 0.5 + t, 2)(0) == 0.25
    with pytest.raises(ValueError, match="give `steps`, or the length of the run as `total`"):
        schedules.warmup(0.1)


def test_a_warm_up_of_more_than_half_of_the_run_warns() -> None:
    with pytest.warns(UserWarning, match="warmup: 11 of 20 steps are more than half of the run"):
        schedules.warmup(schedules.cosine(0.1, 20), 11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedules.warmup(schedules.cosine(0.1, 20), 10)
        schedules.warmup(schedules.cosine(0.1, 20))


def test_linear_rule() -> None:
    assert schedules.linear_rule(0.1, 8) == pytest.approx(0.8)
    epochs = schedules.linear_rule(schedules.warmup(schedules.step(0.1, (30,), unit="epoch"), 5), 4)
    assert epochs.unit == "epoch" and epochs.at(0, 10) == pytest.approx(0.4 / 50) and epochs.at(350, 10) == pytest.approx(0.04)
    with pytest.raises(ValueError, match="linear_rule: workers must be at least 1, got 0"):
        schedules.linear_rule(0.1, 0)


def test_bad_schedules() -> None:
    for make, message in (
        (lambda: schedules.cosine(0.1, 5, unit="batch"), "unit 'batch' is not one of step, epoch"),
        (lambda: schedules.cosine_restarts(0.1, 5, 0.5), "factor must be at least 1, got 0.5"),
        (lambda: schedules.one_cycle(0.1, 5, anneal_strategy="sin"), "anneal_strategy 'sin' is not one of cos, linear"),
        (lambda: ReduceOnPlateau(0.1, mode="up"), "mode 'up'"),
        (lambda: ReduceOnPlateau(0.1, factor=1.0), r"factor must lie in \(0, 1\), got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


# --- plateau


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 1, "factor": 0.5},
        {"mode": "max", "patience": 0, "threshold": 0.05},
        {"threshold_mode": "abs", "threshold": 0.3, "patience": 1, "cooldown": 2},
        {"patience": 0, "min_lr": 0.02},
        {"patience": 0, "eps": 0.05},
    ],
)
def test_plateau_is_torchs(options: dict[str, Any]) -> None:
    figures = [3.0, 2.5, 2.4, 2.45, 2.6, 2.39, 2.399, math.nan, 2.5, 2.5, 2.0, 2.1, 2.2, 2.3, *[2.5] * 14]
    ours, optimizer = ReduceOnPlateau(0.1, **options), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    theirs = LR.ReduceLROnPlateau(optimizer, **options)
    rates = []
    for figure in figures:
        ours.step(figure)
        theirs.step(figure)
        rates.append(ours(0))
        assert rates[-1] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert len(set(rates)) > 1
    half, again = ReduceOnPlateau(0.1, **options), ReduceOnPlateau(0.1, **options)
    for figure in figures[:5]:
        half.step(figure)
    again.load_state(half.state())
    for figure in figures[5:]:
        again.step(figure)
    assert again.state().tolist() == ours.state().tolist()


def test_one_cycle_in_epochs() -> None:
    """Up during the first 30 of 100, down to 1 / 250,000 of its top."""
    rate = schedules.one_cycle(0.1, 90, unit="epoch")
    assert rate(27) == pytest.approx(0.1, rel=1e-12) and rate(26) < 0.0999 and rate(28) < 0.1
    assert rate(0) == pytest.approx(0.1 / 25) and rate(89.99) > rate(90) == pytest.approx(0.1 / 25 / 1e4)


@pytest.mark.parametrize(
    "around", [lambda s: schedules.scaled(s, 2.0), lambda s: schedules.linear_rule(s, 2)], ids=["scaled", "linear rule"]
)
def test_a_plateau_is_found_within_other_schedules(around: Callable[[Any], Any]) -> None:
    optimizer = SGD([nn.Parameter(np.zeros(1))], around(ReduceOnPlateau(0.1, patience=0)))
    for value in (1.0, 2.0):
        schedules.notice([g["lr"] for g in optimizer.param_groups], {"loss": value})
    assert optimizer.rates() == pytest.approx([0.02]) and "schedule.0" in optimizer.state_dict()


def test_a_plateau_that_nobody_would_tell_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a schedule is no number .* optim.schedules.scaled\(schedule, 0.1\) a tenth of it at any time"):
        0.1 * ReduceOnPlateau(0.1)  # type: ignore[operator]
    with pytest.raises(TypeError, match="Lookahead: alpha must be a number or a function of the steps; nobody would tell a plateau"):
        fastnn.optim.Lookahead(SGD([nn.Parameter(np.zeros(1))], 0.1), alpha=ReduceOnPlateau(0.5))


def test_an_optimizer_keeps_what_a_plateau_remembers() -> None:
    p = nn.Parameter(np.zeros(1))

    def make() -> SGD:
        return SGD(
            [{"params": [p]}, {"params": [nn.Parameter(np.zeros(1))], "lr": 0.5}], schedules.warmup(ReduceOnPlateau(0.1, patience=0), 0)
        )

    optimizer = make()
    for value in (1.0, 2.0):
        schedules.notice([g["lr"] for g in optimizer.param_groups], {"loss": value})
    assert optimizer.rates() == pytest.approx([0.01, 0.5]) and set(optimizer.state_dict()) == {"steps", "counts", "schedule.0"}
    other = make()
    other.load_state_dict(optimizer.state_dict())
    assert other.rates() == optimizer.rates()
    state = optimizer.state_dict()
    del state["schedule.0"]
    with pytest.raises(ValueError, match="schedule.0 is missing: a schedule of this optimizer has a memory"):
        other.load_state_dict(state)


def test_a_plateau_is_told_once_and_names_a_column_that_is_not_there() -> None:
    plateau = ReduceOnPlateau(0.1, patience=1)
    schedules.notice([plateau, plateau, 0.1, schedules.constant(0.1)], {"loss": 5.0, "val_loss": 1.0})
    assert plateau.best == 1.0 and plateau.bad == 0
    with pytest.raises(ValueError, match="no 'val_accuracy' to watch, only loss"):
        schedules.notice([ReduceOnPlateau(0.1, monitor="val_accuracy", mode="max")], {"loss": 1.0})


def test_a_plateau_forgets_a_first_value_that_is_no_number() -> None:
    values = [math.nan, 1.0, 0.5, 0.4, 0.3, 0.2, 0.1]
    ours, optimizer = ReduceOnPlateau(1.0, patience=1), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    theirs = LR.ReduceLROnPlateau(optimizer, patience=1)
    for value in values:
        ours.step(value)
        theirs.step(value)
    assert ours.rate == optimizer.param_groups[0]["lr"] == 1.0


def test_a_function_that_comes_down_to_0_may_round_to_just_below_it() -> None:
    optimizer = SGD([nn.Parameter(np.ones(3, np.float32))], lambda step: 0.1 - 0.01 * step - 1e-17)
    optimizer.steps = 10
    assert optimizer.rates() == [0.0]


@pytest.mark.parametrize("factor", [1, 1.0000000001, 2])
def test_restarts_without_end_are_found_at_once(factor: float) -> None:
    """A period that is nothing beside the step."""
    rate = schedules.cosine_restarts(0.1, 1e-20, factor)
    assert 0 <= rate(1) <= 0.1


def test_a_great_many_restarts_are_those_of_one_after_the_other() -> None:
    rate = schedules.cosine_restarts(1.0, 3, 1.01)
    begin, length = 0.0, 3.0
    for t in range(100_000):
        while t >= begin + length:
            begin, length = begin + length, length * 1.01
        assert rate(t) == pytest.approx((1 + math.cos(math.pi * (t - begin) / length)) / 2, abs=1e-6)


def test_a_rate_that_grows_beyond_all_numbers_is_named() -> None:
    with pytest.raises(ValueError, match="lr must be a finite number, got inf at step 1000"):
        schedules.rate_at(schedules.exponential(1e-6, 3.0), 1000, None)
