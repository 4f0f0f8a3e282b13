"""Threads that make batches and decode photos."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from ..files import room

_THREAD = 32 << 20  # bytes that there must be for one more: its stack has 8 MB unless the system is told otherwise


class _WhenAsked(Future[Any]):
    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work

    def result(self, timeout: float | None = None) -> Any:
        return self._work()


class Pool(ThreadPoolExecutor):
    """Where there is no memory for a thread, whoever asks for a result makes it. A thread that finds none when it begins never says that it has
    begun, and Python waits for that for ever: so none is begun when memory is short."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        try:
            if room(_THREAD):
                return super().submit(work, *args, **keywords)
        except RuntimeError:  # the system has no thread to give
            pass
        return _WhenAsked(partial(work, *args, **keywords))
