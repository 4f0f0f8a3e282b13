"""A loss that is no number, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import evaluation

if TYPE_CHECKING:
    from .trainer import Trainer


class Diverged(FloatingPointError):
    """The loss became NaN or infinite. The message says where, at which rate, and what to do; the weights are those before the step
    (running statistics of batch normalisation have seen the batch)."""


def why_diverged(trainer: Trainer, value: float) -> str:
    """A sentence that begins with the place."""
    where = f"the loss is {value} at epoch {trainer.epoch + 1}, batch {trainer.batch + 1}"
    if trainer._batch is not None and evaluation.count_of(trainer.loss, trainer._batch[1]) == 0:
        return f"{where}: every label of the batch is ignored or weighs nothing, so its mean divides by 0; larger batches or fewer such labels do"
    if trainer._batch is not None and not np.isfinite(trainer._batch[0].numpy()).all():
        return f"{where}: the input holds NaN or infinity; look at the data and its normalisation"
    rate = trainer.optimizer.rates()[0]
    return f"{where}: the rate {rate:.3g} is most likely too high; start again with {rate / 10:.1g}, or warm up to it"
