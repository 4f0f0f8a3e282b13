"""No call may take for ever: one that does is named, and the next one follows.

A signal ends what Python runs or waits for. Compiled code that does not return never looks at it: then the process ends, and in the traceback
that faulthandler writes without Python the call's words stand where the name of a file does.
"""

from __future__ import annotations

import faulthandler
import signal
import time
from collections.abc import Callable
from typing import Any

SECONDS = 30.0  # by the clock, since a call that waits takes no processor time


class TakesForever(BaseException):
    """No Exception: whoever takes all of those for refusals would go on."""


class Limit:
    """How long a call may take, within a `with` block; `compiled`: where no signal is seen. `stderr`: a file descriptor that is told
    ahead of the process's end."""

    def __init__(self, stderr: int, seconds: float = SECONDS, compiled: float = 2 * SECONDS) -> None:
        self._stderr, self._seconds, self._compiled, self._watched_from = stderr, seconds, compiled, 0.0

    def call(self, words: str, function: Callable[[], Any]) -> Any:
        """What the function returns; TakesForever, with the words, when it does not within the time."""
        named = compile("function()", words.replace("\0", "\\0"), "eval")

        def over(number: int, frame: Any) -> None:
            raise TakesForever(f"{words} has not returned after {self._seconds:g} s")

        self._watch()
        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        try:
            return eval(named, {"function": function})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _watch(self) -> None:
        """For compiled code. It starts a thread, so not for every call."""
        if time.monotonic() - self._watched_from > 1:
            faulthandler.dump_traceback_later(self._compiled, exit=True, file=self._stderr)
            self._watched_from = time.monotonic()

    def __enter__(self) -> Limit:
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
