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
        (lambda: SGD([nn.Parameter([1, 2], "int64", requires_grad=False)]), TypeError, "float32 or float64"),
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


# --- groups edited by hand


def trained(make: Callable[[Any], optim.Optimizer], captured: bool = False) -> tuple[optim.Optimizer, Callable[[], Any], nn.Module]:
    """An optimizer behind its first step, and what does the next one."""
    fastnn.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = make(list(model.parameters()))
    dtypes = {name: fastnn.tensor(np.ones((2, 3)), name) for name in ("float32", "float64")}

    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        optimizer.zero_grad()
        loss = (model(x) * model(x)).sum()
        loss.backward()
        optimizer.step()
        return loss

    run = fastnn.capture(step) if captured else step
    run(dtypes["float32"])
    return optimizer, lambda: run(dtypes[next(model.parameters()).dtype]), model


def sgd(parameters: Any) -> optim.Optimizer:
    return SGD(parameters, 0.01, momentum=0.9)


def adam(parameters: Any) -> optim.Optimizer:
    return Adam(parameters, 0.01)


def beside(parameters: Any) -> optim.Optimizer:
    return optim.Lookahead(optim.Together(SGD(parameters[:2], 0.01), Adam(parameters[2:], 0.01)))


def refused(optimizer: optim.Optimizer, step: Callable[[], Any], model: nn.Module, error: type[Exception], message: str) -> None:
    """And nothing is done, the second time either."""
    weights, steps = [p.numpy().copy() for p in model.parameters()], optimizer.steps
    counts = [o._counts.copy() for o in parts(optimizer)]
    for _ in range(2):
        with pytest.raises(error, match=message) as caught:
            step()
        assert caught.value.__cause__ is None and "\n" not in str(caught.value)
    assert optimizer.steps == steps and all(np.array_equal(p.numpy(), w) for p, w in zip(model.parameters(), weights))
    assert all(np.array_equal(o._counts, c) for o, c in zip(parts(optimizer), counts))


def parts(optimizer: optim.Optimizer) -> list[optim.Optimizer]:
    return [part for below in getattr(optimizer, "optimizers", ()) for part in parts(below)] or [optimizer]


EDITS: dict[str, tuple[Callable[[Any], optim.Optimizer], Callable[[Any], Any], type[Exception], str]] = {
    "momentum None": (sgd, lambda g: g.update(momentum=None), TypeError, "^SGD: group 0: momentum must be a number, got None$"),
    "momentum text": (sgd, lambda g: g.update(momentum="x"), TypeError, "^SGD: group 0: momentum must be a number, got 'x'$"),
    "decay nan": (
        sgd,
        lambda g: g.update(weight_decay=math.nan),
        ValueError,
        "^SGD: group 0: weight_decay must be a finite number, got nan$",
    ),
    "betas": (adam, lambda g: g.update(betas=(0.9, 1.0)), ValueError, r"^Adam: group 0: betas must be two numbers in \[0, 1\), got"),
    "one beta": (adam, lambda g: g.update(betas=0.9), TypeError, r"^Adam: group 0: betas must be two numbers in \[0, 1\), got 0.9$"),
    "negative": (sgd, lambda g: g.update(lr=-1), ValueError, "^SGD: group 0: lr must not be negative, got -1$"),
    "text": (sgd, lambda g: g.update(lr="0.1"), TypeError, "^SGD: group 0: lr must be a number or a schedule, got '0.1'$"),
    "None": (sgd, lambda g: g.update(lr=None), TypeError, "^SGD: group 0: lr must be a number or a schedule, got None$"),
    "nan": (sgd, lambda g: g.update(lr=math.nan), ValueError, "^SGD: group 0: lr must be a finite number, got nan$"),
    "climbing": (sgd, lambda g: g.update(lr=lambda t: -1.0), ValueError, r"^SGD: lr must not be negative, got -1.0 at step \d$"),
    "schedule of text": (
        sgd,
        lambda g: g.update(lr=lambda t: "0.1"),
        TypeError,
        "^SGD: lr: a schedule must give a number, got '0.1' at step",
    ),
    "no argument": (sgd, lambda g: g.update(lr=lambda: 0.1), TypeError, "a function of the step is called with the step, and nothing else"),
    "misspelt": (
        sgd,
        lambda g: g.update(weightdecay=1),
        TypeError,
        "^SGD: group 0: unknown option weightdecay in a parameter group; options",
    ),
    "deleted": (sgd, lambda g: g.pop("lr"), ValueError, "^SGD: group 0: the option lr is missing; options are lr, momentum, "),
    "nesterov": (sgd, lambda g: g.update(nesterov="no"), TypeError, "^SGD: group 0: nesterov must be True or False, got 'no'$"),
    "together": (
        sgd,
        lambda g: g.update(nesterov=True, momentum=0.0),
        ValueError,
        "^SGD: group 0: nesterov needs momentum > 0 and dampening",
    ),
    "the second's rate": (beside, lambda g: g.update(lr=lambda t: -1.0), ValueError, "^Adam: lr must not be negative, got -1.0 at step"),
    "the second's eps": (beside, lambda g: g.update(eps=-1), ValueError, "^Adam: group 0: eps must not be negative, got -1$"),
}


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("case", EDITS)
def test_an_option_edited_by_hand_is_checked_at_the_step(case: str, captured: bool, without_memory_checks: None) -> None:
    make, edit, error, message = EDITS[case]
    optimizer, step, model = trained(make, captured)
    group = optimizer.param_groups[-1]
    before = dict(group)
    edit(group)
    refused(optimizer, step, model, error, message)
    group.clear(), group.update(before)
    step()
    assert optimizer.steps == 2


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
def test_a_schedule_that_turns_negative_is_refused_at_that_step(captured: bool, without_memory_checks: None) -> None:
    """In the second of a replay's two steps too, before the first is done."""
    optimizer, step, model = trained(lambda parameters: SGD(parameters, lambda t: 0.75 - 0.25 * t), captured)
    step(), step(), step()
    refused(optimizer, step, model, ValueError, "^SGD: lr must not be negative, got -0.25 at step 4$")
    p = nn.Parameter(np.ones(2))
    twice = SGD([p], lambda t: 1.0 if t < 5 else -1.0)

    @fastnn.capture
    def both(x: fastnn.Tensor) -> fastnn.Tensor:
        for _ in range(2):
            twice.zero_grad()
            loss = (p * x).sum()
            loss.backward()
            twice.step()
        return loss

    x = fastnn.tensor([0.5, 0.5])
    both(x), both(x)
    with pytest.raises(ValueError, match="at step 5"):
        both(x)
    assert twice.steps == 4 and twice._counts.tolist() == [4] and np.array_equal(p.numpy(), [-1.0, -1.0])


def test_a_line_does_not_fall_below_its_end_by_rounding() -> None:
    assert 0.1 - 0.1 * 3 / 3 < 0
    for lr in (0.1, 0.3, 1e-3):
        assert all(SGD([P], optim.schedules.linear(lr, total)).rates() == [lr] for total in range(1, 50))
        assert all(optim.schedules.linear(lr, total).at(step, None) >= 0 for total in range(1, 50) for step in range(total + 2))


def test_options_that_are_lists_or_arrays_are_looked_into() -> None:
    for betas in ([0.9, 0.99], np.array([0.9, 0.99])):
        optimizer, step, model = trained(lambda parameters, betas=betas: Adam(parameters, 0.01, betas=betas))
        step()
        betas[1] = 1.0
        refused(optimizer, step, model, ValueError, "^Adam: group 0: betas must be two numbers")


def test_options_are_checked_when_they_change_and_not_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer, step, _ = trained(sgd)
    checks: list[int] = []
    monkeypatch.setattr(SGD, "_check", lambda self, group, check=SGD._check: (checks.append(1), check(self, group)))
    for i in range(3):
        optimizer.param_groups[0]["lr"] = 0.01 / (i + 1)  # a plain rate is looked at in every step
        step()
    assert not checks
    optimizer.param_groups[0]["momentum"] = 0.5
    step(), step()
    assert len(checks) == 1


OTHERS: dict[str, Callable[[optim.Optimizer], Any]] = {
    "other groups": lambda o: setattr(o, "param_groups", [{"params": [Q], **o.defaults}]),
    "None": lambda o: setattr(o, "param_groups", None),
    "a group appended": lambda o: o.param_groups.append({"params": [Q], **o.defaults}),
    "a number appended": lambda o: o.param_groups.append(3),  # type: ignore[arg-type]
    "None in a group": lambda o: o.param_groups[0]["params"].__setitem__(0, None),
    "no list": lambda o: o.param_groups[0].update(params=None),
    "no params": lambda o: o.param_groups[0].pop("params"),
    "another layer": lambda o: o.param_groups[0]["params"].__setitem__(slice(0, 2), list(nn.Linear(3, 4).parameters())),
    "first gone": lambda o: o.param_groups[0]["params"].pop(0),
    "another order": lambda o: o.param_groups[0]["params"].reverse(),
}


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("case", OTHERS)
def test_other_parameters_than_the_optimizers_own_are_refused(case: str, captured: bool, without_memory_checks: None) -> None:
    optimizer, step, model = trained(sgd, captured)
    OTHERS[case](optimizer)
    message = r"^SGD: param_groups no longer hold the 4 parameters .* come by add_param_group; for others make a new optimizer$"
    refused(optimizer, step, model, ValueError, message)
    for call in (optimizer.step, optimizer.zero_grad, optimizer.rates, lambda: optimizer.add_param_group({"params": [P]})):
        with pytest.raises(ValueError, match=message):
            call()


def test_groups_of_a_wrapper_and_of_a_full_batch_are_its_own() -> None:
    optimizer, step, model = trained(beside)
    optimizer.param_groups.append({"params": [Q]})
    refused(optimizer, step, model, ValueError, r"^Lookahead\(Together\(SGD, Adam\)\): param_groups are no longer those of the optimizers")
    whole = optim.LBFGS(nn.Linear(2, 2).parameters())
    first, options = whole.param_groups[0]["params"][:1], dict(whole.param_groups[0])
    whole.param_groups = [{**options, "params": first}, {**options, "params": options["params"][1:]}]
    with pytest.raises(ValueError, match="LBFGS: takes one group of parameters, got 2"):
        whole.step(lambda: fastnn.tensor(0.0))
    whole.param_groups = [options]
    options["max_iter"] = 0
    with pytest.raises(ValueError, match="LBFGS: group 0: max_iter must be at least 1, got 0"):
        whole.step(lambda: fastnn.tensor(0.0))


def test_groups_may_be_put_together_anew() -> None:
    """Of the same parameters in the same order: options go by group, memories by position."""
    optimizer, step, model = trained(sgd)
    (group,) = optimizer.param_groups
    optimizer.param_groups = [{**group, "params": group["params"][:2], "lr": 0.0}, {**group, "params": group["params"][2:]}]
    before = [p.numpy().copy() for p in model.parameters()]
    step()
    assert [np.array_equal(p.numpy(), b) for p, b in zip(model.parameters(), before)] == [True, True, False, False]
    optimizer.param_groups[1]["weight_decay"] = -1
    refused(optimizer, step, model, ValueError, "^SGD: group 1: weight_decay must not be negative, got -1$")


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
def test_state_follows_into_more_digits_and_not_into_fewer(captured: bool, without_memory_checks: None) -> None:
    optimizer, step, model = trained(lambda parameters: optim.Lookahead(adam(parameters), k=1), captured)
    before = {k: a.numpy() for k, a in optimizer.state_arrays().items()}
    model.double()
    if captured:
        refused(optimizer, step, model, ValueError, "^Adam: m of parameter 0 was made in float32, .* do the next step uncaptured")
        for p in model.parameters():
            p.grad = p.detach() * 0.0
        optimizer.step()
    step()
    after = {k: a.numpy() for k, a in optimizer.state_arrays().items()}
    assert before.keys() == after.keys() and all(a.dtype == np.float64 for a in after.values())
    model.float()
    message = (
        "^Adam: m of parameter 0 was made in float64; in float32, as the parameter is now, it would lose digits: make a new optimizer$"
    )
    refused(optimizer, step, model, ValueError, message)


def test_the_state_of_a_parameter_that_has_a_name_is_called_by_it() -> None:
    layer = nn.Linear(2, 2).double()
    optimizer = Adam(layer.named_parameters())
    for p in layer.parameters():
        p.grad = p.detach() * 1.0
    optimizer.step()
    layer.float()
    for p in layer.parameters():
        p.grad = p.detach() * 1.0
    with pytest.raises(ValueError, match="^Adam: m of the parameter weight was made in float64"):
        optimizer.step()


def test_converted_state_is_that_of_before() -> None:
    """Every float32 is a float64."""
    p = nn.Parameter(np.array([1.0, -2.0]))
    optimizer = SGD([p], 0.125, momentum=0.5)
    for dtype in ("float32", "float64"):
        p._array = fastnn.tensor([1.0, -2.0], dtype)._array
        p.grad = fastnn.tensor([0.25, 1 / 3], dtype)
        optimizer.step()
    third = np.float64(np.float32(1 / 3))
    assert np.array_equal(optimizer.state_arrays()["0.momentum"].numpy(), [0.375, third * 0.5 + 1 / 3])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: setattr(SGD([P]), "steps", "a"), TypeError, "^SGD: steps must be an integer, got 'a'$"),
        (lambda: setattr(SGD([P]), "steps", -1), ValueError, "^SGD: steps must not be negative, got -1$"),
        (lambda: SGD([P], lambda: 0.1).step(), TypeError, "^SGD: lr: a function of the step is called with the step, and nothing else; it"),
        (lambda: SGD([P], lambda t: len(3)).step(), TypeError, "^object of type 'int' has no len"),  # type: ignore[arg-type]
        (lambda: setattr(optim.EMA(nn.Linear(2, 2)), "decay", 2.0), ValueError, r"^EMA: decay must lie in \[0, 1\), got 2.0$"),
        (lambda: setattr(optim.EMA(nn.Linear(2, 2)), "decay", "a"), TypeError, "^EMA: decay must be a number, got 'a'$"),
        (lambda: setattr(optim.SWA(nn.Linear(2, 2)), "every", 0), ValueError, "^SWA: every must be at least 1, got 0$"),
        (lambda: optim.schedules.cosine(0.1, 10)("a"), TypeError, "^a schedule is a function of a number, the step or the epoch, got 'a'$"),
        (lambda: optim.schedules.warmup(0.1, 3)("a"), TypeError, "^a schedule is a function of a number, the step or the epoch, got 'a'$"),
    ],
)
def test_what_is_set_by_hand(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert caught.value.__cause__ is None and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "now"),
    [
        (lambda m: m.__setitem__(2, nn.Linear(4, 2)), "2.weight, 2.bias"),
        (lambda m: m.append(nn.Linear(2, 2)), "3.weight, 3.bias"),
        (lambda m: setattr(m[0], "weight", nn.Parameter(np.zeros((4, 3)))), "0.weight"),
        (lambda m: m.__delitem__(2), "a weight fewer, or in another order"),
    ],
)
def test_an_average_is_of_the_models_own_tensors(change: Callable[[Any], Any], now: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    average = optim.EMA(model, 0.5)
    average.update()
    model[1] = nn.Tanh()
    average.update()
    change(model)
    for call, name in ((average.update, "update"), (average.swap, "swap")):
        with pytest.raises(
            ValueError, match=rf"^EMA.{name}\(\): the model no longer has the 4 tensors that are averaged: now it has {now};"
        ):
            call()
    assert average.updates == average.calls == 2


def test_lookaheads_settings_are_checked_whenever_they_are_set() -> None:
    """Its own ones, whatever options its optimizer has; what a schedule of alpha gives as well, before anything is done."""
    p = nn.Parameter(np.ones(2))
    optimizer = optim.Lookahead(optim.RMSprop([p], 0.1, alpha=0.9), k=1)
    refused: list[tuple[str, Any, str]] = [
        ("k", 0, "k must be at least 1"),
        ("k", 2.5, "k must be an integer"),
        ("alpha", 2.0, "alpha must lie"),
        ("alpha", optim.schedules.ReduceOnPlateau(0.1), "alpha must be a number or a function of the steps"),
    ]
    for name, value, message in refused:
        with pytest.raises((ValueError, TypeError), match=f"^Lookahead: {message}"):
            setattr(optimizer, name, value)
    assert (optimizer.k, optimizer.alpha) == (1, 0.5)
    optimizer.alpha = lambda step: 5.0
    p.grad = fastnn.tensor(np.ones(2))
    with pytest.raises(ValueError, match=r"^Lookahead: alpha at step 1 must lie in \[0, 1\], got 5.0$"):
        optimizer.step()
    assert optimizer.steps == 0 and p.numpy().tolist() == [1, 1]
