"""Ctrl-C and SIGTERM that wait for the end of the step, so that what is saved is a state that training passed through."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trainer import Trainer


class Interrupted(KeyboardInterrupt):
    """Raised by `fit` after Ctrl-C or SIGTERM: `where` training stood, the checkpoint it was `saved` to (None: nothing saved it), and the
    `signal`'s number; 128 + signal is the exit code that says so."""

    def __init__(self, where: str = "interrupted", saved: str | None = None, signal: int = signal.SIGINT) -> None:
        self.where, self.saved, self.signal = where, saved, int(signal)
        how = f"saved to {saved}: fit(..., resume={saved!r}) goes on" if saved else "nothing was saved (no ModelCheckpoint given)"
        super().__init__(f"{where}; {how}")


class Interrupts:
    """Around a fit: the first Ctrl-C or SIGTERM is remembered until `check()`, callbacks save (still inside the block), Interrupted is raised.

    A further Ctrl-C stops at once; further SIGTERMs change nothing, since batch systems send several. Handlers are installed in the main
    thread alone and put back at the end; a signal that is ignored (nohup) stays ignored, and a SIGTERM handler of one's own stays.
    """

    def __init__(self) -> None:
        self.seen = 0  # the first signal that came
        self._before: dict[int, Any] = {}

    @contextmanager
    def around(self, trainer: Trainer) -> Iterator[None]:
        self.seen = 0
        try:
            self._install()
            yield
            self.check()
        except Interrupted as error:
            trainer._emit("after_interrupt")
            raise Interrupted(_where(trainer), trainer._saved, self.seen or error.signal) from None
        finally:
            while self._before:
                signal.signal(*self._before.popitem())
            self.seen = 0

    def _install(self) -> None:
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
                self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._remember)
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.seen and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.seen = self.seen or number

    def check(self) -> None:
        """Raises Interrupted when a signal came since the block began."""
        if self.seen:
            raise Interrupted(signal=self.seen)


def _where(trainer: Trainer) -> str:
    if trainer.epoch >= trainer.epochs or trainer.stop:
        return f"interrupted at the end, after epoch {trainer.epoch}"
    return f"interrupted in epoch {trainer.epoch + 1}, after batch {trainer.batch} of {trainer.batches}"
