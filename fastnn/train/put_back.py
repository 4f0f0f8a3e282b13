"""What an eager step has changed besides weights and optimizer, put back where an error ends it: a replayed one is checked, and has all of its
memory, before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import random
from ..optim import Optimizer
from ..tensor import Tensor
from .bad_step import explained
from .diverged import Diverged
from .learned import as_they_are, buffers_of

if TYPE_CHECKING:
    from .trainer import Trainer


def steps_of(optimizer: Optimizer) -> list[int]:
    """Another list once any part of it has stepped."""
    return [part.steps for part in optimizer._leaves()]


@contextmanager
def put_back(trainer: Trainer) -> Iterator[None]:
    """Around a step: on an error, of the data set or the user too, the generator and the buffers (running statistics) are as they were, unless the
    step is done. For a replay, which has no other errors than Diverged once it has begun: see learned.Buffers."""
    buffers = as_they_are(buffers_of(trainer))
    drawn, steps = trainer.generator.draw, steps_of(trainer.optimizer)
    try:
        yield
    except BaseException:
        if steps_of(trainer.optimizer) == steps:
            trainer.generator.draw = drawn
            buffers()
        raise


@contextmanager
def told(trainer: Trainer, x: Tensor, labels: Tensor) -> Iterator[None]:
    """Around a step on a batch of the caller's own: as above, with the trainer's generator, as in a fit; Diverged says what the step shows when
    it is repeated op by op."""
    drawn = trainer.generator.draw
    with random.using(trainer.generator):
        try:
            with put_back(trainer):
                yield
        except Diverged as error:
            trainer.generator.draw = drawn
            raise explained(trainer, None, [(x, labels, 1.0, 1.0)], error) from None
