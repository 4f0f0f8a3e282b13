"""Optimizers and schedules against torch.optim; groups, state, closures, refusals."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch_twins import DTYPES, assert_close, normal

import fastnn
from fastnn import nn, optim
from fastnn.optim import SGD, Adam, presets

SHAPES = [(4, 3), (7,), (5, 3, 3, 3), (1,), ()]
Optimizers = tuple[Any, Any]

OPTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {  # ours, PyTorch's
    "sgd": (lambda p: SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (lambda p: SGD(p, 0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "nesterov": (lambda p: SGD(p, 0.1, momentum=0.8, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, nesterov=True)),
    "decay": (lambda p: SGD(p, 0.1, weight_decay=0.3), lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.3)),
    "sgd, all": (
        lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.3),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.3),
    ),
    "adam": (lambda p: Adam(p, 0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "adam, default rate": (lambda p: Adam(p), lambda p: torch.optim.Adam(p)),
    "adam, betas and eps": (
        lambda p: Adam(p, 0.01, betas=(0.5, 0.9), eps=0.01),
        lambda p: torch.optim.Adam(p, 0.01, betas=(0.5, 0.9), eps=0.01),
    ),
    "adam, decay": (lambda p: Adam(p, 0.01, weight_decay=0.3), lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.3)),
    **{
        f"{name.lower()}{', ' if options else ''}{', '.join(options)}": (
            lambda p, name=name, options=options: getattr(optim, name)(p, **options),
            lambda p, name=name, options=options: getattr(torch.optim, name)(p, **options),
        )
        for name, options in (
            ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}),
            ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
            ("Adam", {"lr": 0.01, "amsgrad": True, "betas": (0.6, 0.7)}),
            ("Adam", {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
            ("AdamW", {}),
            ("AdamW", {"lr": 0.02, "weight_decay": 0.3, "amsgrad": True, "maximize": True, "eps": 1e-3}),
            ("Adagrad", {}),
            ("Adagrad", {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 0.01}),
            ("Adagrad", {"maximize": True}),
            ("RMSprop", {}),
            ("RMSprop", {"lr": 0.02, "alpha": 0.9, "eps": 0.01, "weight_decay": 0.1, "momentum": 0.8, "maximize": True}),
            ("RMSprop", {"lr": 0.02, "centered": True, "eps": 0.1}),
            ("RMSprop", {"centered": True, "momentum": 0.5, "eps": 0.1}),
        )
    },
}
FORGETFUL = ("sgd", "decay")  # nothing but the weights goes from step to step


def twin_parameters(dtype: str) -> tuple[list[nn.Parameter], list[torch.nn.Parameter]]:
    values = [normal(i, *shape) for i, shape in enumerate(SHAPES)]
    return [nn.Parameter(v, dtype) for v in values], [torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in values]


def give_gradients(ours: list[nn.Parameter], theirs: list[torch.nn.Parameter], step: int) -> None:
    for i, (p, q) in enumerate(zip(ours, theirs)):
        g = normal(1000 * (step + 1) + i, *p.shape)
        p.grad, q.grad = fastnn.tensor(g, p.dtype), torch.tensor(g, dtype=torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIONS)
def test_twenty_steps_are_torch_optims(name: str, dtype: str) -> None:
    ours, theirs = twin_parameters(dtype)
    a, b = OPTIONS[name][0](ours), OPTIONS[name][1](theirs)
    for step in range(20):
        give_gradients(ours, theirs, step)
        a.step(), b.step()
        for i, (p, q) in enumerate(zip(ours, theirs)):
            assert_close(p, q, 300, f"parameter {i} after step {step + 1}")
    assert a.steps == 20


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("make", "make_theirs", "options"),
    [
        (SGD, torch.optim.SGD, [{"lr": 0.1}, {"lr": 0.02, "momentum": 0.9, "nesterov": True}, {"weight_decay": 0.3}]),
        (Adam, torch.optim.Adam, [{"lr": 0.1}, {"lr": 0.02, "betas": (0.5, 0.9)}, {"weight_decay": 0.3, "eps": 0.1}]),
    ],
)
def test_each_group_has_its_own_options(make: Any, make_theirs: Any, options: list[dict[str, Any]], dtype: str) -> None:
    ours, theirs = twin_parameters(dtype)

    def groups(p: list[Any]) -> list[dict[str, Any]]:
        return [{"params": part, **o} for part, o in zip((p[:2], p[2:3], iter(p[3:])), options)]

    a, b = make(groups(ours), 0.05), make_theirs(groups(theirs), 0.05)
    assert a.rates() == [0.1, 0.02, 0.05] and [len(g["params"]) for g in a.param_groups] == [2, 1, 2]
    for step in range(5):
        give_gradients(ours, theirs, step)
        a.param_groups[0]["lr"] = b.param_groups[0]["lr"] = 0.1 / (step + 1)
        a.step(), b.step()
    for i, (p, q) in enumerate(zip(ours, theirs)):
        assert_close(p, q, 20, f"parameter {i}")


def test_parameters_of_both_types_in_one_optimizer() -> None:
    single, double = nn.Parameter(normal(0, 3)), nn.Parameter(normal(1, 3), "float64")
    before = np.array(double.numpy())
    optimizer = SGD([single, double], 0.5, momentum=0.9)
    for p in (single, double):
        p.grad = fastnn.tensor(np.ones(3), p.dtype)
    optimizer.step()
    assert_close(single, normal(0, 3) - 0.5)
    assert_close(double, before - 0.5)
    assert double.dtype == "float64"


# --- skipping, versions, closure


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1, momentum=0.9, weight_decay=0.5), lambda p: Adam(p, 0.1, weight_decay=0.5)])
def test_parameters_without_a_gradient_are_left_alone(make: Callable[[Any], Any]) -> None:
    a, b = nn.Parameter(normal(0, 5)), nn.Parameter(normal(1, 5))
    optimizer = make([a, b])
    kept = a.numpy().tobytes()
    b.grad = fastnn.tensor(normal(2, 5))
    optimizer.step()
    assert a.numpy().tobytes() == kept and a._array.version == 0 < (stepped := b._array.version)
    assert all(key.startswith("1.") for key in optimizer.state_arrays())
    optimizer.zero_grad()
    with pytest.warns(
        UserWarning, match=rf"^{optimizer.name}.step: no parameter has a gradient, nothing changes; call loss.backward\(\) first$"
    ):
        optimizer.step()
    assert b._array.version == stepped and optimizer.steps == 2


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("options", [{"dampening": 0.5}, {"dampening": 0.25, "weight_decay": 0.1, "maximize": True}, {"dampening": 0.0}])
def test_a_momentum_that_is_switched_on_begins_with_the_gradient(
    options: dict[str, Any], captured: bool, without_memory_checks: None
) -> None:
    """As PyTorch's does; it goes on where it was when it is off for a while."""
    w, q = nn.Parameter(normal(0, 4), "float64"), torch.nn.Parameter(torch.tensor(normal(0, 4), dtype=torch.float64))
    a, b = SGD([w], 0.1, **options), torch.optim.SGD([q], 0.1, **options)

    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        a.zero_grad()
        loss = ((w * x) ** 2).sum()
        loss.backward()
        a.step()
        return loss

    ours = fastnn.capture(step) if captured else step
    for number, momentum in enumerate([0.0, 0.0, 0.9, 0.9, 0.9, 0.0, 0.0, 0.9, 0.9]):
        a.param_groups[0]["momentum"] = b.param_groups[0]["momentum"] = momentum
        x = normal(number + 1, 4).astype(np.float64)
        ours(fastnn.tensor(x, "float64"))
        b.zero_grad()
        ((q * torch.tensor(x)) ** 2).sum().backward()
        b.step()
        assert_close(w, q, 8, f"step {number}")


def test_a_momentum_begins_for_each_parameter_with_its_gradient() -> None:
    """Also after a state that was saved without one; another optimizer goes on from there."""
    ours, theirs = twin_parameters("float64")
    a, b = SGD(ours, 0.1, dampening=0.5), torch.optim.SGD(theirs, 0.1, dampening=0.5)
    for number in range(2):
        give_gradients(ours, theirs, number)
        a.step(), b.step()
    again = SGD(ours, 0.1, momentum=0.9, dampening=0.5)
    again.load_state_dict(a.state_dict())
    b.param_groups[0]["momentum"] = 0.9
    for number in range(2, 6):
        give_gradients(ours, theirs, number)
        if number < 4:
            ours[1].grad = theirs[1].grad = None
        again.step(), b.step()
        if number == 4:
            resumed = SGD(ours, 0.1, momentum=0.9, dampening=0.5)
            resumed.load_state_dict(again.state_dict())
            again = resumed
    for p, q in zip(ours, theirs):
        assert_close(p, q, 20)


@pytest.mark.parametrize(
    "name", ["momentum", "sgd, lr, momentum, dampening", "adam", "adagrad, lr, lr_decay, weight_decay, initial_accumulator_value, eps"]
)
def test_each_parameter_counts_its_own_steps(name: str) -> None:
    """Momentum, bias correction, dampening and decay of the rate begin with a parameter's first gradient."""
    ours, theirs = twin_parameters("float64")
    a, b = OPTIONS[name][0](ours), OPTIONS[name][1](theirs)
    for step in range(4):
        give_gradients(ours, theirs, step)
        if step < 2:
            ours[1].grad = theirs[1].grad = None
        a.step(), b.step()
    for p, q in zip(ours, theirs):
        assert_close(p, q, 20)


def test_a_step_is_seen_by_the_tape() -> None:
    net = nn.Linear(3, 2)
    optimizer = SGD(net.parameters(), 0.1)
    x = fastnn.tensor(normal(0, 4, 3), requires_grad=True)
    net(x).sum().backward()
    y = net(x).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"backward of Linear: saved array 1 of shape \(2, 3\) was overwritten.*before optimizer.step"):
        y.backward()


def test_closure_runs_first_and_its_loss_comes_back() -> None:
    w = nn.Parameter(np.array([3.0]))
    optimizer = SGD([w], 0.25)

    def closure() -> fastnn.Tensor:
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9 and w.item() == 1.5
    assert optimizer.step(closure).item() == 2.25 and w.item() == 0.75
    assert optimizer.step() is None


def test_zero_grad_forgets() -> None:
    net = nn.Linear(3, 2)
    optimizer = Adam([{"params": [net.weight]}, {"params": [net.bias]}])
    net(fastnn.tensor(normal(0, 4, 3))).sum().backward()
    optimizer.zero_grad()
    assert net.weight.grad is None and net.bias.grad is None


def test_it_learns() -> None:
    for make in (lambda p: SGD(p, 0.1, momentum=0.9, nesterov=True), lambda p: Adam(p, 0.05)):
        fastnn.seed(0)
        x, w = normal(0, 64, 5), normal(1, 5, 3)
        labels = np.argmax(x @ w, 1)
        net = nn.Linear(5, 3)
        optimizer = make(net.parameters())
        for _ in range(100):
            loss = nn.CrossEntropyLoss()(net(fastnn.tensor(x)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.25 and (net(fastnn.tensor(x)).argmax(1).numpy() == labels).mean() > 0.9


# --- update ratios


@pytest.mark.parametrize("name", [*OPTIONS, "muon"])
def test_update_ratios_are_those_of_the_step(name: str) -> None:
    values = [normal(i, *shape) for i, shape in enumerate([(70, 70), (1,), (5, 3, 3, 3), (9000, 2)])]
    parameters, others = ([nn.Parameter(v) for v in values] for _ in range(2))
    make = (lambda p: optim.Muon([q for q in p if q.ndim > 1], 0.1)) if name == "muon" else OPTIONS[name][0]
    a, b = make(parameters), make(others)
    a.measure_updates = True
    mine = [p for p in parameters if name != "muon" or p.ndim > 1]
    assert all(math.isnan(r) for r in a.update_ratios())
    for step in range(2):
        before = [np.array(p.numpy(), np.float64) for p in mine]
        for i, (p, q) in enumerate(zip(parameters, others)):
            p.grad = q.grad = fastnn.tensor(normal(100 * step + i, *p.shape)) if (i, step) != (2, 1) else None
        a.step(), b.step()
        expected = [np.linalg.norm(p.numpy() - w) / np.linalg.norm(w) for p, w in zip(mine, before)]
        got = a.update_ratios()
        left_alone = [p.grad is None for p in mine]
        assert [math.isnan(r) for r in got] == left_alone
        assert [r for r, none in zip(got, left_alone) if not none] == pytest.approx(
            [e for e, none in zip(expected, left_alone) if not none], rel=1e-4
        )
        assert all(p.numpy().tobytes() == q.numpy().tobytes() for p, q in zip(parameters, others))  # asking changes nothing


# --- state


@pytest.mark.parametrize("name", OPTIONS)
def test_state_goes_round_bit_for_bit(name: str) -> None:
    def run(optimizer: Any, parameters: list[nn.Parameter], steps: range) -> list[bytes]:
        for step in steps:
            for i, p in enumerate(parameters):
                p.grad = fastnn.tensor(normal(1000 * step + i, *p.shape)) if (step, i) != (0, 1) else None
            optimizer.step()
        return [p.numpy().tobytes() for p in parameters]

    parameters, _ = twin_parameters("float32")
    optimizer = OPTIONS[name][0](parameters)
    run(optimizer, parameters, range(3))
    weights, state = [np.array(p.numpy()) for p in parameters], optimizer.state_dict()
    assert (
        state["steps"] == 3
        and state["counts"].tolist() == [3, 2, 3, 3, 3]
        and all(isinstance(v, np.ndarray) and v.flags.c_contiguous for k, v in state.items() if k != "steps")
    )
    assert {v.shape for k, v in state.items() if k.startswith("2.")} <= {(5, 3, 3, 3)}
    expected = run(optimizer, parameters, range(3, 6))

    others = [nn.Parameter(w) for w in weights]
    resumed = OPTIONS[name][0](others)
    resumed.load_state_dict(state)
    assert resumed.steps == 3
    assert run(resumed, others, range(3, 6)) == expected
    assert run(OPTIONS[name][0](fresh := [nn.Parameter(w) for w in weights]), fresh, range(3, 6)) != expected or name in FORGETFUL


def test_state_dict_is_a_copy() -> None:
    p = nn.Parameter(normal(0, 3))
    optimizer = SGD([p], 0.1, momentum=0.9)
    p.grad = fastnn.tensor(np.ones(3))
    optimizer.step()
    state = optimizer.state_dict()
    optimizer.step()
    assert state["0.momentum"].tolist() == [1, 1, 1]
    optimizer.load_state_dict(state)
    state["0.momentum"][...] = 9
    assert optimizer.state_dict()["0.momentum"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.velocity": np.zeros(3)}, "SGD.load_state_dict: unexpected '0.velocity'; expected <position>.<momentum>"),
        ({"1.momentum": np.zeros(3)}, "unexpected '1.momentum'"),
        ({"momentum": np.zeros(3)}, "unexpected 'momentum'"),
        ({"0.momentum": np.zeros(4)}, r"0.momentum has shape \(4,\); its parameter \(3,\)"),
        ({"steps": None}, "'steps' is missing"),
        ({"steps": None, "param_groups": []}, "'steps' is missing; PyTorch's optimizers have other states: take over the model's weights"),
        ({"\u00b2.momentum": np.zeros(3)}, "unexpected '\u00b2.momentum'"),
        ({"counts": np.zeros(2, np.int64)}, r"counts has shape \(2,\); expected \(1,\)"),
        ({"schedule.0": np.zeros(4)}, "unexpected 'schedule.0'"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: dict[str, Any], message: str) -> None:
    p = nn.Parameter(normal(0, 3))
    optimizer = SGD([p], 0.1, momentum=0.9)
    p.grad = fastnn.tensor(np.ones(3))
    optimizer.step()
    state = {"0.momentum": np.full(3, 7.0), "steps": 5, **change}
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict({k: v for k, v in state.items() if v is not None})
    assert optimizer.steps == 1 and optimizer.state_dict()["0.momentum"].tolist() == [1, 1, 1]


# --- refusals

P = nn.Parameter(np.zeros(2))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SGD([P], -0.1), ValueError, "SGD: lr must not be negative, got -0.1"),
        (lambda: SGD([P], math.nan), ValueError, "SGD: lr .* got nan"),
        (lambda: Adam([P], -1), ValueError, "Adam: lr must not be negative"),
        (lambda: SGD([P], 0.1, momentum=-1), ValueError, "SGD: momentum must not be negative, got -1"),
        (lambda: SGD([P], 0.1, nesterov=True), ValueError, "nesterov needs momentum > 0"),
        (lambda: SGD([P], 0.1, weight_decay=-1), ValueError, "weight_decay must not be negative, got -1"),
        (lambda: Adam([P], betas=(0.9, 1.0)), ValueError, r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        (lambda: Adam([P], betas=(0.9,)), ValueError, "betas must be two numbers"),
        (lambda: Adam([P], eps=-1), ValueError, "eps must not be negative, got -1"),
        (lambda: SGD([P], 0.1, momentum=0.9, nesterov=True, dampening=0.1), ValueError, "nesterov needs momentum > 0 and dampening 0"),
        (lambda: optim.AdamW([P], weight_decay=-1), ValueError, "AdamW: weight_decay must not be negative, got -1"),
        (lambda: optim.AdamW([P], betas=(1, 0)), ValueError, "AdamW: betas must be"),
        (lambda: optim.Adagrad([P], lr_decay=-1), ValueError, "Adagrad: lr_decay must not be negative, got -1"),
        (lambda: optim.Adagrad([P], initial_accumulator_value=-1), ValueError, "initial_accumulator_value must not be negative"),
        (lambda: optim.RMSprop([P], alpha=-1), ValueError, r"RMSprop: alpha must lie in \[0, 1\], got -1"),
        (lambda: optim.RMSprop([P], momentum=-1), ValueError, "RMSprop: momentum must not be negative"),
        (lambda: SGD([], 0.1), ValueError, "SGD: no parameters given"),
        (lambda: SGD([P, P], 0.1), ValueError, r"a parameter of shape \(2,\) appears twice"),
        (lambda: SGD([{"params": [P]}, {"params": [P]}], 0.1), ValueError, "appears twice"),
        (lambda: SGD([np.zeros(2)], 0.1), TypeError, "parameters must be leaf tensors, got numpy.ndarray"),
        (lambda: SGD([P * 2.0], 0.1), TypeError, "parameters must be leaf tensors"),
        (
            lambda: SGD([{"params": [P], "momentun": 0.9}], 0.1),
            TypeError,
            "unknown option momentun .* options are lr, momentum, dampening, nesterov, weight_decay, maximize",
        ),
        (lambda: SGD([{"params": [P]}, P], 0.1), TypeError, "expected parameter groups .* throughout, got Parameter"),
        (lambda: SGD([{"params": [P], "lr": -1}], 0.1), ValueError, "lr must not be negative"),
        (lambda: SGD([P], 0.1, 0.9), TypeError, "SGD: 0.9 is one argument too many by its place; options behind lr are given by name"),
        (lambda: SGD([P], "0.1"), TypeError, "lr must be a number or a schedule, got '0.1'"),
        (lambda: SGD(P, 0.1), TypeError, "params must be an iterable of parameters, got a single Parameter"),
    ],
)
def test_bad_arguments(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_can_be_set_beside_its_group(name: str) -> None:
    """It would be kept and change nothing; what is written into the group does."""
    p = nn.Parameter(np.zeros(3))
    optimizer = OPTIONS[name][0]([p])
    for option in optimizer.defaults:
        with pytest.raises(AttributeError, match=rf"optimizer.param_groups\[0\]\['{option}'\]"):
            setattr(optimizer, option, 0.5)
        assert not hasattr(optimizer, option)
    optimizer.param_groups[0]["lr"] = 0.125
    assert optimizer.rates() == [0.125]
    assert copy.deepcopy(optimizer).rates() == [0.125]


@pytest.mark.parametrize("schedule", presets.SCHEDULES)
@pytest.mark.parametrize("name", presets.OPTIMIZERS)
def test_optimizers_and_schedules_by_name(name: str, schedule: str) -> None:
    fastnn.seed(0)
    x, labels = normal(0, 64, 5), np.argmax(normal(0, 64, 5) @ normal(1, 5, 3), 1)
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = presets.OPTIMIZERS[name](net, presets.SCHEDULES[schedule](0.05, 20))
    losses = []
    for _ in range(20):
        loss = nn.CrossEntropyLoss()(net(fastnn.tensor(x)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0] and len(set(losses)) == 20


def test_exports() -> None:
    assert all(hasattr(optim, name) for name in optim.__all__) and {"SGD", "Adam", "Muon", "LBFGS", "schedules"} <= set(optim.__all__)


def stepped(make: Callable[..., optim.Optimizer], **options: Any) -> optim.Optimizer:
    p = nn.Parameter(np.ones(3))
    optimizer = make([p], 0.1, **options)
    (p * p).sum().backward()
    optimizer.step()
    return optimizer


def test_a_state_that_lacks_what_was_stepped_is_refused() -> None:
    state = stepped(Adam).state_dict()
    with pytest.raises(ValueError, match="'0.v' is missing; its parameter was stepped 1 times"):
        stepped(Adam).load_state_dict({k: v for k, v in state.items() if k != "0.v"})
    with pytest.raises(ValueError, match="must be whole numbers and not negative"):
        stepped(Adam).load_state_dict({**state, "steps": -1})
    with pytest.raises(ValueError, match="is missing"):
        stepped(Adam, amsgrad=True).load_state_dict(state)
    stepped(SGD, momentum=0.9).load_state_dict(stepped(SGD).state_dict())  # a momentum may be switched on


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize(
    "make, option", [(SGD, {"momentum": 0.9}), (Adam, {"amsgrad": True}), (optim.RMSprop, {"centered": True, "momentum": 0.5})]
)
def test_a_state_of_its_own_is_never_refused(make: Callable[..., optim.Optimizer], option: dict[str, Any], partly: bool) -> None:
    """Also where an option was switched on since the last step, or since the last one of a frozen parameter."""

    def run(loads: bool) -> list[bytes]:
        p, q = nn.Parameter(np.ones(3)), nn.Parameter(np.full(3, 2.0))
        optimizer = make([p, q], 0.1)

        def step(*trained: nn.Parameter) -> None:
            optimizer.zero_grad()
            sum((t**3).sum() for t in trained).backward()
            optimizer.step()

        step(p, q)
        optimizer.param_groups[0].update(option)
        if partly:
            step(p)
        if loads:
            state = optimizer.state_dict()
            optimizer = make([p, q], 0.1, **option)
            optimizer.load_state_dict(state)
        step(p, q), step(p, q)
        return [p.numpy().tobytes(), q.numpy().tobytes()]

    assert run(True) == run(False)
