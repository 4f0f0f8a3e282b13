"""How far steps move the weights: the callback that measures it, epoch by epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..nn import Module
from .callbacks import Callback

if TYPE_CHECKING:
    from ..optim import Optimizer
    from ..tensor import Tensor
    from .trainer import Trainer

COLUMNS = ("update_ratio", "update_ratio_min", "update_ratio_max")


class UpdateRatios(Callback):
    """Three columns of the history: of the weights' ratios |w_new - w| / |w| (norms) in the last step of each epoch the median, `update_ratio`, the
    least, `update_ratio_min`, and the greatest, `update_ratio_max`.

        trainer.fit(train, epochs=20, callbacks=[train.UpdateRatios(), train.HistoryFile("history.csv")])

    About 1e-3 is what to aim at, 1e-4 to 1e-2 is usual: far above, the rate is too high, far below, too low (CS231n, "Neural networks part 3").
    Weights are the parameters of two and more dimensions; biases begin at 0, of which there is no ratio. The kernels of the update add the norms
    up on their way (Optimizer.measure_updates): the training has the same bits. NaN where the optimizer measures none (L-BFGS). Callbacks that
    write or watch these columns come behind it in the list. A model with nothing but vectors has the ratios of those.
    """

    def __init__(self) -> None:
        self._measuring = Measuring()

    def before_fit(self, trainer: Trainer) -> None:
        self._measuring.begin(trainer)

    def before_epoch(self, trainer: Trainer) -> None:
        self._sums = trainer.sums  # which a checkpoint holds, also between the last step and the end of the epoch

    def after_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.batch == trainer.batches:
            self._sums.update(zip(COLUMNS, spread(ratios_of(trainer))))

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        row.update({name: self._sums.get(name, math.nan) for name in COLUMNS})

    def after_fit(self, trainer: Trainer) -> None:
        self._measuring.end()

    def after_interrupt(self, trainer: Trainer) -> None:
        self._measuring.end()


class Measuring:
    """That the optimizer measures its updates, from a fit's beginning to its end."""

    def __init__(self) -> None:
        self._leaves: list[Optimizer] = []

    def begin(self, trainer: Trainer) -> None:
        self.end()  # that of a fit which an error ended
        self._leaves = [leaf for leaf in trainer.optimizer._leaves() if not leaf.measure_updates]  # else somebody else sees to it
        for leaf in self._leaves:
            leaf.measure_updates = True

    def end(self) -> None:
        for leaf in self._leaves:
            leaf.measure_updates = False
        self._leaves = []


def ratios_of(trainer: Trainer) -> list[tuple[str, Tensor, float]]:
    """Of the last step: each parameter's name in the model (or the loss), itself and its ratio."""
    of_loss = trainer.loss.named_parameters() if isinstance(trainer.loss, Module) else ()
    names = {id(p): f"loss/{name}" for name, p in of_loss} | {id(p): name for name, p in trainer.model.named_parameters()}
    parameters = [p for leaf in trainer.optimizer._leaves() for p in leaf._parameters]
    return [
        (names.get(id(p), f"parameter {i}"), p, ratio) for i, (p, ratio) in enumerate(zip(parameters, trainer.optimizer.update_ratios()))
    ]


def spread(ratios: list[tuple[str, Tensor, float]]) -> tuple[float, float, float]:
    """Median, least and greatest of the weights; NaN where none was measured."""
    weights = [ratio for _, p, ratio in ratios if p.ndim > 1] or [ratio for _, _, ratio in ratios]
    measured = [ratio for ratio in weights if math.isfinite(ratio)]
    return (float(np.median(measured)), min(measured), max(measured)) if measured else (math.nan,) * 3
