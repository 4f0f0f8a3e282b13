"""A loss or a gradient that is no number, and what to do about it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .. import _C, recording
from ..optim.clip import global_norms
from ..tensor import Tensor, no_grad
from . import evaluation
from .learned import with_loss

if TYPE_CHECKING:
    from .op_by_op import Finding
    from .trainer import Trainer


class Diverged(FloatingPointError):
    """The loss, or the norm of the gradients, became NaN or infinite. The message says where, at which rate, and what to do; weights,
    optimizer, generator and buffers (running statistics of batch normalisation) are those before the step.

    `loss` or `norm` is the value. The step was then repeated op by op: `found` is the first value that is no number (None: the repeated step
    was finite), `samples` the positions of the step's samples in the training set (None outside of a fit), `file` the name of a file that
    repeats it (train.reproduce).
    """

    def __init__(self, message: str = "", *, loss: float | None = None, norm: float | None = None) -> None:
        super().__init__(message)
        self.loss, self.norm = loss, norm
        self.found: Finding | None = None
        self.samples: np.ndarray | None = None
        self.file: str | None = None


def look_at_gradients(trainer: Trainer, since: int) -> None:
    """Before an update: which gradients are looked at, and how, so that it costs next to nothing.

    The norm of the telling ones, always: of each layer its vectors' (bias, gain, shift), which sum up what comes down from its results; of a
    layer without any, and on a GPU, all. The others only after a kernel of the CPU has overflowed, divided by 0 or had no result, `since`
    there were so many: the processor's own flags tell, for nothing (IEEE 754-2019, 7), and no kernel makes infinity or NaN of numbers without one.
    """
    telling, others = _telling(trainer)
    for norm in global_norms(telling):
        recording.look(Tensor(norm), lambda norm: check_norm(trainer, float(norm)), unless_finite=True)

    def at(*gradients: Tensor) -> None:
        for norm in global_norms(gradients):
            check_norm(trainer, float(norm.item()))

    if others:
        recording.look_after_exceptions(others, at, since)


def _telling(trainer: Trainer) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients that tell of all, and the others."""
    modules = [m for part in with_loss(trainer.model, trainer.loss) for m in part.modules()]
    telling: dict[int, Tensor] = {}
    all_of_them: dict[int, Tensor] = {}
    for module in modules:
        gradients = [p._grad for p in module._parameters.values() if p is not None and p._grad is not None]
        vectors = [g for g in gradients if g.ndim < 2 or g.device != "cpu"] or gradients
        telling.update((id(g), g) for g in vectors)
        all_of_them.update((id(g), g) for g in gradients)
    return list(telling.values()), [g for key, g in all_of_them.items() if key not in telling]


def look_at_input(x: Tensor) -> None:
    """NaN and infinities that come from outside set no flag: a kernel's exception stands for them."""
    with no_grad():
        recording.look(x.sum(), lambda _: _C.count_float_exception(), unless_finite=True)


def check_loss(trainer: Trainer, loss: float) -> None:
    """Before the backward pass."""
    if not math.isfinite(loss):
        raise Diverged(why_diverged(trainer, loss), loss=loss)


def check_norm(trainer: Trainer, norm: float) -> None:
    """Before the update, after a loss that is a number."""
    if not math.isfinite(norm):
        raise Diverged(why_gradients(trainer, norm), norm=norm)


def _place(trainer: Trainer) -> str:
    """In a fit, or in a loop of the caller's own."""
    in_fit = trainer.stepping.under_way
    return f"epoch {trainer.epoch + 1}, batch {trainer.batch + 1}" if in_fit else f"step {trainer.optimizer.steps + 1}"


def why_gradients(trainer: Trainer, norm: float) -> str:
    """A sentence that begins with the place."""
    where = f"the norm of the gradients is {norm} at {_place(trainer)}"
    return f"{where}, though the loss is a number: a backward pass divides by 0 or overflows"


def why_diverged(trainer: Trainer, value: float) -> str:
    """A sentence that begins with the place."""
    where = f"the loss is {value} at {_place(trainer)}"
    if trainer._batch is not None and evaluation.count_of(trainer.loss, trainer._batch[1]) == 0:
        return f"{where}: every label of the batch is ignored or weighs nothing, so its mean divides by 0; larger batches or fewer such labels do"
    given = [x for x, *_ in trainer.stepping.parts] or ([] if trainer._batch is None else trainer._batch[:1])
    if not all(np.isfinite(x.numpy()).all() for x in given):
        return f"{where}: the input holds NaN or infinity; look at the data and its normalisation"
    rate = trainer.optimizer.rates()[0]
    if not trainer.optimizer.steps:
        return f"{where}, before the first update: the weights are those it began with, so it is not the rate of {rate:.3g}"
    if not rate:
        return f"{where}, though the rate is 0: it is the data, the loss, or the rate of a step before"
    return f"{where}: the rate {rate:.3g} is most likely too high; start again with {rate / 10:.1g}, or warm up to it"
