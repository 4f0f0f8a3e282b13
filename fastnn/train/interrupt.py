"""Ctrl-C and SIGTERM that wait for the end of the step, so that what is saved is a state that training passed through."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import signals

if TYPE_CHECKING:
    from .sharded import Sharded
    from .trainer import Trainer


class Interrupted(KeyboardInterrupt):
    """Raised by `fit` after Ctrl-C or SIGTERM: `where` training stood, the checkpoint it was `saved` to (None: nothing saved it), and the
    `signal`'s number; 128 + signal is the exit code that says so."""

    def __init__(self, where: str = "interrupted", saved: str | None = None, signal: int = signal.SIGINT) -> None:
        self.where, self.saved, self.signal = where, saved, int(signal)
        how = f"saved to {saved}: fit(..., resume={saved!r}) goes on" if saved else "nothing was saved (no ModelCheckpoint given)"
        super().__init__(f"{where}; {how}")

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies, which an exception makes of its message."""
        return type(self), (self.where, self.saved, self.signal), {**vars(self), "args": self.args}


@contextmanager
def around(trainer: Trainer) -> Iterator[None]:
    """Around a fit: the first Ctrl-C or SIGTERM is remembered until `check()`, callbacks save (still inside the block), Interrupted is raised."""
    sharded = trainer.stepping.sharded
    with signals.held() as answers, _agreeing(sharded):
        try:
            yield
            if sharded is not None:
                sharded.end(trainer)
            check()
        except Interrupted as error:
            trainer._emit("after_interrupt")
            raise Interrupted(_where(trainer), trainer._saved, answers.seen or error.signal) from None


_agreed: Sharded | None = None  # whose ranks stop behind the same step


@contextmanager
def _agreeing(sharded: Sharded | None) -> Iterator[None]:
    global _agreed
    if sharded is None:
        yield
        return
    _agreed, sharded.signal = sharded, 0
    try:
        yield
    finally:
        _agreed = None


def check() -> None:
    """Raises Interrupted when a signal waits for it: between steps, and between the batches of an evaluation; of several ranks when all know."""
    if number := signals.waiting() if _agreed is None else _agreed.signal:
        raise Interrupted(signal=number)


def _where(trainer: Trainer) -> str:
    if trainer.epoch >= trainer.epochs or trainer.stop:
        return f"interrupted at the end, after epoch {trainer.epoch}"
    return f"interrupted in epoch {trainer.epoch + 1}, after batch {trainer.batch} of {trainer.batches}"
