"""A rank that is lost ends the job, and is named: others would wait for it for ever."""

from __future__ import annotations

import atexit
import math
import os
import select
import sys
import threading
import time
import traceback
from types import TracebackType

from .group import Group, RankLost

_GRACE = 1.0  # seconds that others have to say what they have lost
_PATIENCE = 3.0  # and that the one that has failed may take, where somebody catches that


def watch(group: Group) -> None:
    """From now on: exceptions that nobody catches, processes of this machine that are killed, scripts that end."""
    owner, watcher = os.getpid(), _Watcher(group)
    before = sys.excepthook

    def failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if os.getpid() == owner and not isinstance(error, KeyboardInterrupt):  # which all ranks get
            _end(group, watcher, kind, error)

    def farewell() -> None:
        if os.getpid() == owner:
            watcher.stop()
            _part(group)

    sys.excepthook = failed
    atexit.register(farewell)  # ahead of MPI's own end, which may wait for ever


def _end(group: Group, watcher: _Watcher, kind: type[BaseException], error: BaseException) -> None:
    watcher.stop()
    if isinstance(error, RankLost):
        say(f"{group._named(group.rank)} ends with it")
        _wait(group, _PATIENCE)  # whoever has failed may be at the file that says why
    else:
        words = " ".join("".join(traceback.format_exception_only(kind, error)).split())
        say(f"{group._named(group.rank)} has failed and ends the job: {words[:500]}")
        group._fail(error)
        time.sleep(_GRACE)
    group._abort()


def _part(group: Group) -> None:
    """The script is done. The others may still be at something of their own; if they wait for this rank, they are told that it will not come."""
    lost = group.lost is not None
    group._tell("")
    _wait(group, _PATIENCE if lost else math.inf)
    if lost:
        group._abort()


def _wait(group: Group, seconds: float) -> None:
    """Until the scripts of all others are done, or so long."""
    end = time.monotonic() + seconds
    while len(group.ended) < group.size - 1 and time.monotonic() < end:
        for _ in group._notices():
            pass
        time.sleep(2e-3)


def say(text: str) -> None:
    """On the standard error, whatever the script has made of it."""
    sys.stdout.flush()
    os.write(2, f"fastnn.dist: {text}\n".encode())


class _Watcher:
    """A thread that hears at once when a process of this machine ends. Most launchers end the others then, and say which process it was; this is for
    those that leave them waiting."""

    def __init__(self, group: Group) -> None:
        self._group, self._stopped = group, False
        self._wake, self._told = os.pipe()
        self._files: dict[int, int] = {}  # file descriptor -> rank
        where = group.gather_objects((os.getpid(), _namespace()))
        for rank in group.on_this_machine:
            process, namespace = where[rank]
            if rank != group.rank and namespace == _namespace():
                try:
                    self._files[os.pidfd_open(process)] = rank
                except (OSError, AttributeError):  # an old kernel: the launcher alone notices
                    return
        threading.Thread(target=self._watch, name="fastnn-dist", daemon=True).start()

    def stop(self) -> None:
        self._stopped = True
        os.write(self._told, b"x")

    def _watch(self) -> None:
        poll = select.poll()
        for file in (self._wake, *self._files):
            poll.register(file, select.POLLIN)
        gone = [file for file, _ in poll.poll()]
        if self._stopped or self._wake in gone:
            return
        rank = self._files[gone[0]]
        if self._group.rank == min(r for r in self._group.on_this_machine if r != rank):  # one says it
            say(f"{self._group._named(rank)} is lost: killed, or ended without a word; the others end with it")
        else:
            time.sleep(_GRACE)
        os._exit(1)


def _namespace() -> int:
    """In which process numbers are the same."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return -1
