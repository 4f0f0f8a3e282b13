"""Parameters in PyTorch's forms; options and states of optimizers and schedules that cannot be."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch_twins import normal

import fastnn
from fastnn import nn, optim
from fastnn.optim import SGD, Adam

P, Q, M = nn.Parameter(np.zeros(2)), nn.Parameter(np.zeros(2)), nn.Parameter(np.zeros((2, 2)))


def forms(weight: Any, bias: Any, name: str) -> Any:
    return {
        "parameters": [weight, bias],
        "pairs": iter([("w", weight), ("b", bias)]),
        "a group of one tensor": [{"params": weight, "lr": 0.2}, {"params": (p for p in [bias])}],
        "groups of pairs": [{"params": [("w", weight)], "lr": 0.2}, {"params": iter([("b", bias)])}],
    }[name]


@pytest.mark.parametrize("form", ["parameters", "pairs", "a group of one tensor", "groups of pairs"])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_parameters_come_in_pytorchs_forms(name: str, form: str) -> None:
    values = normal(0, 3, 2), normal(1, 3)
    ours = [nn.Parameter(v) for v in values]
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values]
    a = getattr(optim, name)(forms(*ours, form), 0.1, weight_decay=0.1)
    b = getattr(torch.optim, name)(forms(*theirs, form), 0.1, weight_decay=0.1)
    for _ in range(2):
        for p, q in zip(ours, theirs):
            p.grad, q.grad = p.detach() * 2.0, q.detach() * 2.0
        a.step(), b.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-6)
    assert [g.get("param_names") for g in a.param_groups] == [g.get("param_names") for g in b.param_groups]
    assert [g["lr"] for g in a.param_groups] == [g["lr"] for g in b.param_groups]


def test_a_group_may_be_added() -> None:
    """With a state of its own: the parameters before keep theirs."""
    ours, theirs = (
        [make(v) for v in (normal(0, 3), normal(1, 2))] for make in (nn.Parameter, lambda v: torch.nn.Parameter(torch.tensor(v)))
    )
    a, b = SGD(ours[:1], 0.1, momentum=0.9), torch.optim.SGD(theirs[:1], 0.1, momentum=0.9)
    for step in range(4):
        if step == 2:
            a.add_param_group({"params": ours[1], "lr": 0.5}), b.add_param_group({"params": theirs[1], "lr": 0.5})
        for p, q in zip(ours, theirs):
            p.grad, q.grad = p.detach() * 2.0, q.detach() * 2.0
        a.step(), b.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-6)
    with pytest.raises(ValueError, match="appears twice"):
        a.add_param_group({"params": ours})
    assert len(a.param_groups) == 2 and set(a.state_arrays()) == {"0.momentum", "1.momentum"}
    b.zero_grad(set_to_none=False), a.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.numpy().any() for p in ours)


def test_adam_may_decouple_the_decay() -> None:
    a, b = (nn.Parameter(normal(0, 4)) for _ in range(2))
    for optimizer in (Adam([a], weight_decay=0.3, decoupled_weight_decay=True), optim.AdamW([b], weight_decay=0.3)):
        for p in (a, b):
            p.grad = fastnn.tensor(np.ones(4))
        optimizer.step()
    assert np.array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SGD([("w", P), Q]), ValueError, "SGD: some parameters have names and some have none"),
        (lambda: SGD([{"params": [("w", P)]}, {"params": [Q]}]), ValueError, "some groups have names"),
        (lambda: SGD({P, Q}), TypeError, "a list, not a set"),
        (lambda: SGD({"params": [P]}), TypeError, r"a single dict: \[\{'params': ...\}\]"),
        (lambda: SGD(nn.Sequential(nn.Linear(2, 2))), TypeError, r"a single Sequential; model.parameters\(\) is one"),
        (lambda: SGD("weights"), TypeError, "params must be an iterable of parameters, got 'weights'"),
        (lambda: SGD([{"lr": 0.1}]), ValueError, "a parameter group needs 'params'; it has lr"),
        (lambda: SGD([nn.Parameter([1, 2], "int64")]), TypeError, "float32 or float64"),
        (lambda: SGD([P], math.nan), ValueError, "SGD: lr must be a finite number, got nan"),
        (lambda: SGD([P], math.inf), ValueError, "SGD: lr must be a finite number, got inf"),
        (lambda: SGD([P], -0.1), ValueError, "SGD: lr must not be negative, got -0.1"),
        (lambda: SGD([P], nn.Linear), TypeError, "lr must be a number or a schedule, got the class Linear"),
        (lambda: SGD([P], momentum="0.9"), TypeError, "SGD: momentum must be a number, got '0.9'"),
        (lambda: SGD([P], nesterov=1), TypeError, "SGD: nesterov must be True or False, got 1"),
        (lambda: Adam([P], betas=0.9), TypeError, r"Adam: betas must be two numbers in \[0, 1\), got 0.9"),
        (lambda: Adam([P], betas=(0.9, 0.99, 0.999)), ValueError, r"betas must be two numbers in \[0, 1\), got \(0.9, 0.99, 0.999\)"),
        (lambda: optim.Muon([M], ns_coefficients=3), TypeError, "Muon: ns_coefficients must be three numbers, got 3"),
        (lambda: optim.Muon([M], ns_steps=2.5), TypeError, "Muon: ns_steps must be an integer, got 2.5"),
        (lambda: optim.Lookahead([P]), TypeError, r"Lookahead: expected an optimizer, such as optim.SGD\(.*got a list of Parameter"),
        (lambda: optim.Together(SGD([P]), [Q]), TypeError, "Together: expected an optimizer"),
        (lambda: optim.Lookahead(SGD([P])).add_param_group({"params": Q}), ValueError, "give the group to one of the optimizers"),
        (lambda: optim.EMA([P]), TypeError, "EMA: model must be the model whose weights are averaged, got "),
        (lambda: optim.EMA(nn.Linear(2, 2), every=1.5), TypeError, "EMA: every must be an integer, got 1.5"),
        (
            lambda: optim.groups(nn.Linear(2, 2), no_decay="bias"),
            TypeError,
            r"groups: no_decay must be several names, got 'bias'; one is \['",
        ),
        (
            lambda: optim.groups(nn.Linear(2, 2), lr=0.1, factors={"bias": -1}),
            ValueError,
            r"factors\['bias'\] must not be negative, got -1",
        ),
        (lambda: optim.schedules.one_cycle(0.1, 10, pct_start=2), ValueError, r"one_cycle: pct_start must lie in \[0, 1\], got 2"),
        (lambda: optim.schedules.triangle(0.1, 10, peak=2), ValueError, r"triangle: peak must lie in \[0, 1\], got 2"),
        (lambda: optim.schedules.exponential(0.1, -1), ValueError, "exponential: factor must be positive, got -1"),
        (lambda: optim.schedules.warmup(-5), ValueError, "warmup: schedule must not be negative, got -5"),
        (lambda: optim.schedules.warmup(0.1, -5), ValueError, "warmup: steps must not be negative, got -5"),
        (lambda: optim.schedules.ReduceOnPlateau(-1), ValueError, "ReduceOnPlateau: lr must not be negative, got -1"),
        (lambda: optim.schedules.ReduceOnPlateau("a"), TypeError, "ReduceOnPlateau: lr must be a number, got 'a'"),
        (lambda: optim.schedules.step(0.1, 30), TypeError, "step: milestones must be several numbers, got 30"),
        (lambda: optim.schedules.cosine(0.1, -3), ValueError, "cosine: total must be at least 1 step, got -3"),
        (lambda: optim.schedules.linear_rule(0.1, 2.5), TypeError, "linear_rule: workers must be an integer, got 2.5"),
        (lambda: SGD([P], lambda t: "fast").rates(), TypeError, "a schedule must give a number, got 'fast' at step 0"),
        (lambda: SGD([P], lambda t: np.nan).step(), ValueError, "SGD: lr must be a finite number, got nan at step 0"),
        (lambda: Adam([P], lambda t: 10.0**t * np.inf).rates(), ValueError, "Adam: lr must be a finite number, got inf at step 0"),
    ],
)
def test_what_is_no_option(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert caught.value.__cause__ is None and "\n" not in str(caught.value)


def test_a_function_of_the_step_is_scaled_too() -> None:
    rate = optim.schedules.linear_rule(lambda t: 0.1 * t, 4)
    assert SGD([P], rate).rates() == [0.0] and rate(3) == pytest.approx(1.2)
    model = nn.Linear(2, 2)
    assert sorted(SGD(optim.groups(model, lr=lambda t: 0.5, factors={"bias": 0.1})).rates()) == [0.05, 0.5]


def test_a_state_that_fails_at_its_last_schedule_leaves_the_first_alone() -> None:
    first, second = optim.schedules.ReduceOnPlateau(0.1), optim.schedules.ReduceOnPlateau(0.2)
    optimizer = SGD([{"params": P, "lr": first}, {"params": Q, "lr": second}])
    state = {**optimizer.state_dict(), "steps": 7, "schedule.0": np.array([0.01, 1.0, 3, 0]), "schedule.1": np.array([math.nan, 1, 2, 0])}
    with pytest.raises(ValueError, match=r"SGD.load_state_dict: schedule.1 is \[nan, 1.0, 2.0, 0.0\]; expected a rate, the best figure"):
        optimizer.load_state_dict(state)
    assert optimizer.steps == 0 and first.rate == 0.1 and first.bad == 0 and second.rate == 0.2


def test_averages_are_copied_with_their_model() -> None:
    model = nn.Linear(2, 2)
    ema = optim.EMA(model, 0.5)
    ema.update()
    copied_model, copied = copy.deepcopy((model, ema))
    assert copied.model is copied_model and copied.updates == 1 and copied.decay == 0.5
    model.weight.copy_from(np.zeros((2, 2)))
    ema.update()
    assert np.array_equal(copied.state_dict()["weight"], copied_model.weight.numpy()) and copied.updates == 1
