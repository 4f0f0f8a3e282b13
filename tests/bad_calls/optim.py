"""fastnn.optim and its schedules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn import nn, optim
from fastnn.optim import schedules

from . import Subject

Good = dict[str, Callable[[], Any]]


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def parameters() -> list[Any]:
    return list(nn.Linear(3, 2).parameters())


def matrices() -> list[Any]:
    return [nn.Linear(3, 2).weight]


def with_gradients() -> list[Any]:
    found = parameters()
    for p in found:
        p.grad = p.detach() * 0.5
    return found


def sgd(momentum: float = 0.9, lr: Any = 0.1) -> optim.SGD:
    optimizer = optim.SGD(with_gradients(), lr, momentum=momentum)
    optimizer.step()
    return optimizer


def constants(**values: Any) -> Good:
    return {name: (lambda value=value: value) for name, value in values.items()}


def loss_of(layer: nn.Module) -> Callable[[], fastnn.Tensor]:
    x = fastnn.tensor(np.ones((4, 3)))

    def closure() -> fastnn.Tensor:
        layer.zero_grad()
        loss = (layer(x) * layer(x)).mean()
        loss.backward()
        return loss

    return closure


def newton(closure: Any) -> None:
    layer = nn.Linear(3, 2).double()

    def loss() -> fastnn.Tensor:
        return (layer(fastnn.tensor(np.ones((4, 3)), "float64")) ** 2.0).mean()

    optim.NewtonCG(layer.parameters()).step(loss if closure is None else closure)


def made_and_stepped(make: Callable[..., optim.Optimizer]) -> Callable[..., Any]:
    """Made, then used for a step: what is not looked at when it is made shows then."""

    def call(**arguments: Any) -> Any:
        optimizer = make(**arguments)
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = p.detach() * 0.5
        if not isinstance(optimizer, (optim.LBFGS, optim.NewtonCG)):
            optimizer.steps_per_epoch = 5
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        return optimizer

    return call


def rates(make: Callable[..., Any]) -> Callable[..., Any]:
    """Made, and asked for its first rates."""

    def call(**arguments: Any) -> Any:
        rate = make(**arguments)
        if isinstance(rate, schedules.Schedule):
            return [rate.at(step, 4) for step in (0, 1, 7)]
        return rate

    return call


def doubles() -> list[Any]:
    return list(nn.Linear(3, 2).double().parameters())


COMMON = constants(lr=0.1, weight_decay=0.01)
OPTIMIZERS: dict[str, Good] = {
    "SGD": {"params": parameters, **COMMON, **constants(momentum=0.9, dampening=0.0, nesterov=True, maximize=False)},
    "Adam": {
        "params": parameters,
        **COMMON,
        **constants(betas=(0.9, 0.99), eps=1e-8, amsgrad=True, maximize=False, decoupled_weight_decay=False),
    },
    "AdamW": {"params": parameters, **COMMON, **constants(betas=(0.9, 0.99), eps=1e-8, amsgrad=True, maximize=False)},
    "Adagrad": {"params": parameters, **COMMON, **constants(lr_decay=0.1, initial_accumulator_value=0.1, eps=1e-8, maximize=False)},
    "RMSprop": {"params": parameters, **COMMON, **constants(alpha=0.9, eps=1e-8, momentum=0.5, centered=True, maximize=True)},
    "Muon": {
        "params": matrices,
        **COMMON,
        **constants(
            momentum=0.9, nesterov=True, ns_coefficients=(3.0, -4.0, 2.0), eps=1e-7, ns_steps=2, adjust_lr_fn="original", renormalize=True
        ),
    },
    "LBFGS": {
        "params": parameters,
        **constants(
            lr=1.0, max_iter=3, max_eval=4, tolerance_grad=1e-7, tolerance_change=1e-9, history_size=3, line_search_fn="strong_wolfe"
        ),
    },
    "NewtonCG": {"params": doubles, **constants(lr=1.0, cg_iterations=3, cg_tolerance=1e-6, damping=0.1)},
}

SCHEDULES: dict[str, Good] = {
    "constant": constants(lr=0.1),
    "step": constants(lr=0.1, milestones=(3, 6), factor=0.1, unit="epoch"),
    "cosine": constants(lr=0.1, total=10, final=0.01, unit="step"),
    "linear": constants(lr=0.1, total=10, final=0.01, unit="step"),
    "inverse_sqrt": constants(lr=0.1, unit="step"),
    "exponential": constants(lr=0.1, factor=0.9, unit="epoch"),
    "cosine_restarts": constants(lr=0.1, period=4, factor=2, final=0.01, unit="step"),
    "one_cycle": constants(lr=0.1, total=10, pct_start=0.3, anneal_strategy="cos", div_factor=25.0, final_div_factor=1e4, unit="step"),
    "triangle": constants(lr=0.1, total=10, start=0.2, peak=0.3, end=0.1, unit="step"),
    "warmup": constants(schedule=0.1, steps=3, total=20),
    "lookahead": constants(total=10, k=5, decay=0.9, power=3.0, unit="step"),
    "scaled": constants(lr=0.1, factor=2.0),
    "linear_rule": constants(lr=0.1, workers=4),
    "ReduceOnPlateau": constants(
        lr=0.1, monitor="loss", mode="min", factor=0.5, patience=2, threshold=1e-4, threshold_mode="rel", cooldown=1, min_lr=0.0, eps=1e-8
    ),
}


def state_of_sgd() -> dict[str, Any]:
    return sgd().state_dict()


def loaded_with(key: str, make: Callable[[], Any]) -> Callable[..., Any]:
    """An object whose state has something else at `key`."""

    def call(value: Any) -> None:
        thing = make()
        thing.load_state_dict({**thing.state_dict(), key: value})

    return call


def average() -> optim.EMA:
    ema = optim.EMA(model(), 0.9)
    ema.update()
    return ema


def lbfgs() -> optim.LBFGS:
    layer = nn.Linear(3, 2)
    optimizer = optim.LBFGS(layer.parameters(), max_iter=3)
    optimizer.step(loss_of(layer))
    return optimizer


def states() -> list[Subject]:
    places: list[tuple[str, str, Callable[[], Any], Callable[[], Any]]] = [
        ("SGD", "steps", sgd, lambda: 3),
        ("SGD", "counts", sgd, lambda: np.array([1, 1])),
        ("SGD", "0.momentum", sgd, lambda: np.zeros((2, 3))),
        ("SGD", "schedule.0", lambda: sgd(lr=schedules.ReduceOnPlateau(0.1)), lambda: np.array([0.1, 1.0, 0, 0])),
        ("EMA", "updates", average, lambda: 3),
        ("EMA", "0.weight", average, lambda: np.zeros((4, 3))),
        ("Lookahead", "slow.0", lambda: optim.Lookahead(sgd()), lambda: np.zeros((2, 3))),
        ("Lookahead", "0/counts", lambda: optim.Lookahead(sgd()), lambda: np.array([1, 1])),
        ("LBFGS", "numbers", lbfgs, lambda: np.ones(5)),
        ("LBFGS", "direction", lbfgs, lambda: np.zeros(8)),
        ("LBFGS", "y", lbfgs, lambda: lbfgs().state_dict()["y"]),
        ("LBFGS", "at", lbfgs, lambda: np.zeros(8)),
    ]
    loads = {"SGD": sgd, "EMA": average, "Lookahead": lambda: optim.Lookahead(sgd()), "LBFGS": lbfgs}
    return [
        *(Subject(f"{name}.load_state_dict", loaded_with(key, make), {"value": good}, (name, key)) for name, key, make, good in places),
        *(Subject(f"{name}.load_state_dict", lambda state, make=make: make().load_state_dict(state), {"state": lambda make=make: make().state_dict()}, (name,))
          for name, make in loads.items()),
    ]  # fmt: skip


def subjects() -> list[Subject]:
    networks: Good = {"model": model}
    return [
        *(Subject(name, made_and_stepped(getattr(optim, name)), good) for name, good in OPTIMIZERS.items()),
        *(Subject(name, rates(getattr(schedules, name)), good, ("a schedule",)) for name, good in SCHEDULES.items()),
        *states(),
        Subject("Schedule.at", lambda **a: schedules.cosine(0.1, 10).at(**a), constants(step=3, steps_per_epoch=4)),
        Subject(
            "ReduceOnPlateau.load_state",
            lambda state: schedules.ReduceOnPlateau(0.1).load_state(state),
            {"state": lambda: schedules.ReduceOnPlateau(0.1).state()},
        ),
        Subject("Optimizer.step", lambda closure: sgd().step(closure), {"closure": lambda: loss_of(nn.Linear(3, 2))}, ("SGD", "Linear")),
        Subject("Optimizer.zero_grad", lambda set_to_none: sgd().zero_grad(set_to_none), constants(set_to_none=False), ("SGD",)),
        Subject(
            "Optimizer.add_param_group",
            lambda param_group: sgd().add_param_group(param_group),
            {"param_group": lambda: {"params": parameters()}},
            ("SGD", "parameter groups"),
        ),
        Subject(
            "LBFGS.step",
            lambda closure: optim.LBFGS(parameters()).step(closure),
            {"closure": lambda: loss_of(nn.Linear(3, 2))},
            ("Linear",),
        ),
        Subject("NewtonCG.step", newton, constants(closure=None), ("Linear",)),
        Subject(
            "Schedule",
            rates(schedules.Schedule),
            {"function": lambda: lambda t: 0.1 * t, **constants(unit="step", total=10)},
            ("a schedule",),
        ),
        Subject("ReduceOnPlateau.step", lambda value: schedules.ReduceOnPlateau(0.1).step(value), constants(value=1.0)),
        Subject("Lookahead", made_and_stepped(optim.Lookahead), {"optimizer": sgd, "model": model, **constants(k=1, alpha=0.5)}),
        Subject("Together", lambda optimizers: optim.Together(sgd(), optimizers).step(), {"optimizers": sgd}),
        Subject("EMA", lambda **a: optim.EMA(**a).update(), {**networks, **constants(decay=0.9, every=1, start=0)}),
        Subject("SWA", lambda **a: optim.SWA(**a).update(), {**networks, **constants(every=1, start=0)}),
        Subject(
            "update_bn",
            optim.update_bn,
            {"loader": lambda: [fastnn.tensor(np.ones((4, 3)))], **networks},
            ("Linear", "Sequential", "BatchNorm1d"),
        ),
        Subject(
            "groups",
            optim.groups,
            {**networks, **constants(weight_decay=0.1, no_decay=("bias", "norm"), lr=0.1, factors={"0": 0.5}, depth_factor=0.9)},
        ),
        Subject(
            "clip_grad_norm_",
            optim.clip_grad_norm_,
            {"parameters": with_gradients, **constants(max_norm=1.0, norm_type=2.0, error_if_nonfinite=True)},
        ),
        Subject("clip_grad_value_", optim.clip_grad_value_, {"parameters": with_gradients, **constants(clip_value=1.0)}),
        Subject(
            "SGD",
            lambda group: sgd().add_param_group(group),
            {"group": lambda: {"params": parameters(), "lr": 0.1}},
            ("expected parameter groups",),
        ),
        Subject("SGD", lambda params: optim.SGD([{"params": params, "lr": 0.1}]).step(), {"params": with_gradients}, ("sgd_step",)),
        Subject(
            "SGD", lambda grad: stepped_with(grad), {"grad": lambda: fastnn.tensor(np.ones((2, 3)))}, ("gradient", "sgd_step", "Parameter")
        ),
    ]


def stepped_with(grad: Any) -> None:
    p = nn.Parameter(np.zeros((2, 3)))
    p.grad = grad
    optim.SGD([p]).step()


# Public names that take no arguments a caller could get wrong, or that others stand for.
PLAIN = {
    "Optimizer()": "made by its subclasses",
    "Optimizer.load_state_dict": "SGD.load_state_dict",
    "ReduceOnPlateau.check_state": "called by load_state_dict",
    **{f"Schedule.__{name}__": "refuses whatever is beside it" for name in ("add", "radd", "sub", "mul", "rmul", "truediv")},
    "checked_rate": "called by the optimizers",
    "memory_of": "called by the optimizers",
    "notice": "called by the Trainer",
    "rate_at": "called by the optimizers",
}
