"""Threads that make batches and decode photos."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import TYPE_CHECKING, Any

from ..files import room


class _NoThreads(Executor):
    def __init__(self, *_: Any, **__: Any) -> None: ...

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        raise RuntimeError("the main thread has ended")


if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor as _Threads
else:
    try:
        from concurrent.futures import ThreadPoolExecutor as _Threads
    except RuntimeError:  # its module wants to be told of the main thread's end, which has been
        _Threads = _NoThreads

_THREAD = 32 << 20  # bytes that there must be for one more: its stack has 8 MB unless the system is told otherwise


class _WhenAsked(Future[Any]):
    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work

    def result(self, timeout: float | None = None) -> Any:
        return self._work()


class Pool(_Threads):
    """Where there is no memory for a thread, whoever asks for a result makes it. A thread that finds none when it begins never says that it has
    begun, and Python waits for that for ever: so none is begun when memory is short."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        try:
            if self._all_begun() or room(_THREAD):
                return super().submit(work, *args, **keywords)
        except RuntimeError:  # the system has no thread to give, or Python none any more
            pass
        return _WhenAsked(partial(work, *args, **keywords))

    def _all_begun(self) -> bool:
        """Whether submit begins no more threads. Asking for room takes longer than handing the work over."""
        return len(getattr(self, "_threads", ())) >= getattr(self, "_max_workers", 1)
