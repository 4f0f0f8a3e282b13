"""How batches become a step: gradients of several added up, clipped, the update, its average."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ..data import Loader
from ..nn import Module
from ..optim import EMA, clip_grad_norm_, clip_grad_value_
from ..tensor import Tensor

if TYPE_CHECKING:
    from .trainer import Trainer

Batch = tuple[Tensor, Tensor]


class Stepping:
    """accumulate: batches per step. clip_norm, clip_value: limits of the gradients, or None. ema: an average of the weights, or None."""

    def __init__(self, accumulate: int, clip_norm: float | None, clip_value: float | None, ema: EMA | None) -> None:
        if accumulate < 1:
            raise ValueError(f"Trainer: accumulate {accumulate}; expected at least 1 batch per step")
        for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if limit is not None and not limit > 0:
                raise ValueError(f"Trainer: {name} must be positive, got {limit}")
        self.accumulate, self.clip_norm, self.clip_value, self.ema = accumulate, clip_norm, clip_value, ema

    def steps(self, loader: Loader) -> int:
        """How many an epoch has."""
        return -(-len(loader) // self.accumulate)

    def counts(self, loader: Loader, first: int) -> Iterator[list[int]]:
        """For each step from batch `first` on: the samples of its batches."""
        bounds = loader.bounds()
        sizes = [end - begin for begin, end in zip(bounds, bounds[1:])]
        for begin in range(first, len(sizes), self.accumulate):
            yield sizes[begin : begin + self.accumulate]

    def take(self, trainer: Trainer, batches: Iterator[Batch], counts: list[int], see: Callable[[float, Tensor, Tensor], None]) -> float:
        """One step on the next len(counts) batches; returns its loss. Each batch counts by its samples: the gradient is that of all of them
        together (of a sum, the sum of the parts); class weights and labels that are ignored are weighed within each batch."""
        if len(counts) == 1:
            x, labels = next(batches)
            whole, logits = trainer._replays.step(trainer, x, labels)
            see(float(whole), logits, labels)
            return float(whole)
        adds_up = getattr(trainer.loss, "reduction", "mean") == "sum"
        trainer.optimizer.zero_grad()
        total = 0.0
        for count in counts:
            share = 1.0 if adds_up else count / sum(counts)
            x, labels = next(batches)
            loss, logits = trainer.gradients(x, labels, share, penalised=count / sum(counts) / share)
            see(float(loss), logits, labels)
            total += share * float(loss)
        self.finish(trainer)
        return total

    def finish(self, trainer: Trainer) -> None:
        """From gradients to the next weights."""
        if self.clip_value is not None:
            clip_grad_value_(trainer.model.parameters(), self.clip_value)
        if self.clip_norm is not None:
            clip_grad_norm_(trainer.model.parameters(), self.clip_norm)
        trainer.optimizer.step()
        if self.ema is not None:
            self.ema.update()

    def averaged(self) -> AbstractContextManager[None]:
        """Inside the block the model holds the averaged weights, if there are any."""
        return nullcontext() if self.ema is None else self.ema.averaged()


def average_of(model: Module, ema: EMA | float | None) -> EMA | None:
    """What the Trainer's argument stands for: a decay, or an average made before (of the same model: ValueError)."""
    if isinstance(ema, EMA) and ema.model is not model:
        raise ValueError("Trainer: ema averages another model than the one that is trained")
    return ema if ema is None or isinstance(ema, EMA) else EMA(model, ema)
