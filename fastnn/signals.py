"""Ctrl-C and SIGTERM in the main thread: raised at once, or remembered until a step is done and somebody asks.

The command line raises both from its first argument to its last word; a fit, and the command line while it writes results, remember them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .first_line import leave


class Ended(KeyboardInterrupt):
    """128 + `signal` is the exit code that says so."""

    def __init__(self, number: int) -> None:
        super().__init__("interrupted")
        self.signal = number


class Answers:
    """What signals get: the first is raised or, while `held`, remembered in `seen`. A further Ctrl-C is raised at once; further SIGTERMs
    change nothing, since batch systems send several."""

    def __init__(self, *, held: bool) -> None:
        self.held = held
        self.seen = 0  # the first signal that came
        self._over = False

    def __call__(self, number: int, frame: object) -> None:
        first, self.seen = not self.seen, self.seen or number
        at_once = not self.held if first else number == signal.SIGINT
        if at_once and not self._over:
            raise Ended(number)

    @contextmanager
    def given(self) -> Iterator[None]:
        """Inside the block, in the main thread alone: handlers are installed and put back at the end. A signal that is ignored (nohup) stays
        ignored, and a SIGTERM handler of somebody's own stays. `seen` afterwards tells of one that came too late to be raised."""
        global _current
        if not _in_main_thread():
            yield
            return
        outer, before = _current, dict[int, Any]()
        try:
            _current = self
            if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
                before[signal.SIGINT] = signal.getsignal(signal.SIGINT)
                signal.signal(signal.SIGINT, self)
            if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, leave):
                before[signal.SIGTERM] = signal.getsignal(signal.SIGTERM)
                signal.signal(signal.SIGTERM, self)
            yield
        finally:
            self._over = True  # what is raised in here would leave handlers behind
            _current = outer
            for number, handler in before.items():
                signal.signal(number, handler)


_current: Answers | None = None  # the innermost ones that are given


@contextmanager
def held() -> Iterator[Answers]:
    """Inside the block the first signal is remembered: `waiting()` asks for it, and a block that ends without having asked raises it. Those
    who raise signals around it, the command line, remember meanwhile. Other threads than the main one see none."""
    outer = _current if _in_main_thread() else None
    if outer is None:
        answers = Answers(held=True)
        with answers.given():
            yield answers
        if answers.seen:
            raise Ended(answers.seen)
        return
    before, outer.held = outer.held, True
    try:
        yield outer
    finally:
        outer.held = before
    if outer.seen and not outer.held:
        raise Ended(outer.seen)


def waiting() -> int:
    """The signal that came, 0 for none."""
    return _current.seen if _current is not None and _in_main_thread() else 0


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
