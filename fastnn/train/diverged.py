"""A loss or a gradient that is no number, and what to do about it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from . import evaluation

if TYPE_CHECKING:
    from ..nn import Module
    from ..tensor import Tensor
    from .op_by_op import Finding
    from .trainer import Trainer


class Diverged(FloatingPointError):
    """The loss, or the norm of the gradients, became NaN or infinite. The message says where, at which rate, and what to do; weights,
    optimizer and generator are those before the step (running statistics of batch normalisation have seen the batch). The gradient of a weight
    that overflows in its own product alone, while all others are numbers, is not looked for: the next step finds the weight instead.

    `loss` or `norm` is the value. In a fit the step was then repeated op by op: `found` is the first value that is no number (None: the
    repeated step was finite), `samples` the positions of the step's samples in the training set, `file` the name of a file that repeats it
    (train.reproduce).
    """

    def __init__(self, message: str = "", *, loss: float | None = None, norm: float | None = None) -> None:
        super().__init__(message)
        self.loss, self.norm = loss, norm
        self.found: Finding | None = None
        self.samples: np.ndarray | None = None
        self.file: str | None = None


def layers_of(model: Module) -> list[list[Tensor]]:
    """The parameters of each layer that has some."""
    own = ([p for p in module._parameters.values() if p is not None] for module in model.modules())
    return [parameters for parameters in own if parameters]


def telling_gradients(layers: list[list[Tensor]]) -> list[Tensor]:
    """Those that say of all whether they are numbers, for next to nothing: of each layer its vectors' (bias, gain, shift), which sum up what
    comes down from its results; of a layer without any, all. A weight's gradient that overflows within its own product is not among
    them: it is met in the next step, as a parameter that is no number."""
    telling: dict[int, Tensor] = {}
    for layer in layers:
        gradients = [p.grad for p in layer if p.grad is not None]
        telling.update((id(g), g) for g in [g for g in gradients if g.ndim < 2] or gradients)
    return list(telling.values())


def check_loss(trainer: Trainer, loss: float) -> None:
    """Before the backward pass."""
    if not math.isfinite(loss):
        raise Diverged(why_diverged(trainer, loss), loss=loss)


def check_norm(trainer: Trainer, norm: float) -> None:
    """Before the update, after a loss that is a number."""
    if not math.isfinite(norm):
        raise Diverged(why_gradients(trainer, norm), norm=norm)


def why_gradients(trainer: Trainer, norm: float) -> str:
    """A sentence that begins with the place."""
    where = f"the norm of the gradients is {norm} at epoch {trainer.epoch + 1}, batch {trainer.batch + 1}"
    return f"{where}, though the loss is a number: a backward pass divides by 0 or overflows"


def why_diverged(trainer: Trainer, value: float) -> str:
    """A sentence that begins with the place."""
    where = f"the loss is {value} at epoch {trainer.epoch + 1}, batch {trainer.batch + 1}"
    if trainer._batch is not None and evaluation.count_of(trainer.loss, trainer._batch[1]) == 0:
        return f"{where}: every label of the batch is ignored or weighs nothing, so its mean divides by 0; larger batches or fewer such labels do"
    if trainer._batch is not None and not np.isfinite(trainer._batch[0].numpy()).all():
        return f"{where}: the input holds NaN or infinity; look at the data and its normalisation"
    rate = trainer.optimizer.rates()[0]
    if not trainer.optimizer.steps:
        return f"{where}, before the first update: the weights are those it began with, so it is not the rate of {rate:.3g}"
    return f"{where}: the rate {rate:.3g} is most likely too high; start again with {rate / 10:.1g}, or warm up to it"
