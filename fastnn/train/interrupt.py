"""Ctrl-C that waits for the end of the step, so that what is saved is a state that training passed through."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Raised by `fit` after Ctrl-C: `where` training stood and the checkpoint it was `saved` to (None: nothing saved it)."""

    def __init__(self, where: str = "interrupted", saved: str | None = None) -> None:
        self.where, self.saved = where, saved
        how = f"saved to {saved}: fit(..., resume={saved!r}) goes on" if saved else "nothing was saved (no ModelCheckpoint given)"
        super().__init__(f"{where}; {how}")


class Interrupts:
    """Inside the block the first Ctrl-C is remembered until `check()`; the second one stops at once.

    Outside the main thread, or where the signal is ignored (nohup), nothing changes.
    """

    def __init__(self) -> None:
        self.seen = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        self.seen = False
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
            self._before = signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        self.seen = False
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    def check(self) -> None:
        """Raises Interrupted when Ctrl-C came since the block began."""
        if self.seen:
            raise Interrupted
