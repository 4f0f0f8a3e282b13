"""Optimizers and schedules by name, with the settings that `fastnn train` gives them."""

from __future__ import annotations

from collections.abc import Callable

from ..nn import Module
from . import schedules
from .adagrad import Adagrad, RMSprop
from .adam import Adam, AdamW
from .groups import groups
from .muon import Muon
from .optimizer import Optimizer
from .schedules import Schedule
from .sgd import SGD
from .wrappers import Together


def _muon(model: Module, rate: Schedule) -> Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices, others = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim < 2]
    muon = Muon(matrices, rate, adjust_lr_fn="match_rms_adamw", weight_decay=0.01)
    return Together(muon, AdamW(others, rate, weight_decay=0.0)) if others else muon


# All of a model's parameters at one rate. muon: with AdamW for biases and norms, whose rates suit both.
OPTIMIZERS: dict[str, Callable[[Module, Schedule], Optimizer]] = {
    "adam": lambda model, rate: Adam(model.parameters(), rate),
    "adamw": lambda model, rate: AdamW(groups(model), rate),
    "sgd": lambda model, rate: SGD(model.parameters(), rate, momentum=0.9),
    "adagrad": lambda model, rate: Adagrad(model.parameters(), rate),
    "rmsprop": lambda model, rate: RMSprop(model.parameters(), rate),
    "muon": _muon,
}


def with_decay(optimizer: Optimizer, decay: float) -> Optimizer:
    """With that weight decay in the groups that have one; where none has, in all: Adam's and SGD's are 0 by default."""
    groups = [group for group in optimizer.param_groups if "weight_decay" in group]
    for group in [group for group in groups if group["weight_decay"]] or groups:
        group["weight_decay"] = decay
    return optimizer


# From lr over a run of that many steps. step: times 0.1 at 30, 60, 90 %. exponential: down to lr / 100. restarts: three cosines, each twice as long
# as the one before. plateau: times 0.1 after 5 epochs without a better validation loss. warmup: 5 % of the run, then a cosine.
SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "constant": lambda lr, steps: schedules.constant(lr),
    "step": lambda lr, steps: schedules.step(lr, [int(part * steps) for part in (0.3, 0.6, 0.9)]),
    "cosine": lambda lr, steps: schedules.cosine(lr, steps),
    "linear": lambda lr, steps: schedules.linear(lr, steps),
    "inverse-sqrt": lambda lr, steps: schedules.inverse_sqrt(lr),
    "exponential": lambda lr, steps: schedules.exponential(lr, 0.01 ** (1 / steps)),
    "restarts": lambda lr, steps: schedules.cosine_restarts(lr, max(1.0, steps / 7), 2),
    "one-cycle": lambda lr, steps: schedules.one_cycle(lr, steps),
    "triangle": lambda lr, steps: schedules.triangle(lr, steps),
    "warmup": lambda lr, steps: schedules.warmup(schedules.cosine(lr, steps)),
    "plateau": lambda lr, steps: schedules.ReduceOnPlateau(lr, patience=5),
}
