"""What an eager step has changed besides weights and optimizer, put back where memory ends within it: a replayed one has all of it before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trainer import Trainer


@contextmanager
def put_back(trainer: Trainer) -> Iterator[None]:
    """Around a step: on MemoryError, the generator and the model's buffers (running statistics) are as they were, unless the step is done."""
    buffers = [(b, b._array.to(b.device)) for b in trainer.model.buffers()]
    drawn, steps = trainer.generator.draw, trainer.optimizer.steps
    try:
        yield
    except MemoryError:
        if trainer.optimizer.steps == steps:
            trainer.generator.draw = drawn
            for b, before in buffers:
                b._array.assign(before)
        raise
