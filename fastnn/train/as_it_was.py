"""A Trainer put back where it stood, bit for bit, after steps that were only to be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import raw
from .learned import as_they_are, buffers_of, parameters_of

if TYPE_CHECKING:
    from .trainer import Trainer


@contextmanager
def as_it_was(trainer: Trainer) -> Iterator[None]:
    """Around steps on a trainer, whatever they raise: behind the block weights, gradients, buffers, optimizer, schedules, averages, generator and
    all attributes of the trainer are what they were. All memory for that is taken first. What a data set or a module of somebody's own keeps
    in Python is not known here."""
    put_back = _standing(trainer)
    try:
        for part in (trainer.optimizer, trainer.stepping.ema):
            if part is not None:  # states are replaced, not written to: the steps work on copies
                part.load_state_dict(part.state_dict())
        yield
    finally:
        _surely(put_back)


def _surely(put_back: Callable[[], None]) -> None:
    """Once more from its beginning where a second Ctrl-C comes within."""
    try:
        put_back()
    except KeyboardInterrupt:
        _surely(put_back)
        raise


def _standing(trainer: Trainer) -> Callable[[], None]:
    """What puts everything back, needs no memory for it, and may be begun anew at any point."""
    optimizer, stepping, generator = trainer.optimizer, trainer.stepping, trainer.generator
    weights = [(p, p._array, p._array.to(p.device), p._grad) for p in parameters_of(trainer)]
    buffers = as_they_are(buffers_of(trainer))
    attributes = [(part, dict(vars(part))) for part in (trainer, stepping)]
    states = [part._as_it_is() for part in (optimizer, stepping.ema) if part is not None]
    rates = [(group, group["lr"]) for group in optimizer.param_groups]
    drawn, sums, known = generator.draw, dict(trainer.sums), raw._known.get(id(trainer.model))

    def put_back() -> None:
        for p, array, before, gradient in weights:
            array.assign(before)
            p._array, p._grad = array, gradient
        buffers()
        for group, lr in rates:
            group["lr"] = lr
        for state in states:
            state()
        for leaf in optimizer._leaves():  # its next step looks at everything anew
            vars(leaf).update(_again=None)
        for part, own in attributes:
            vars(part).update(own)
        trainer.sums.clear()
        trainer.sums.update(sums)
        generator.draw = drawn
        _told(trainer, known)

    return put_back


def _told(trainer: Trainer, known: Any) -> None:
    """What is known of how the model's images are prepared."""
    if known is None:
        raw._known.pop(id(trainer.model), None)
    else:
        raw._known[id(trainer.model)] = known
