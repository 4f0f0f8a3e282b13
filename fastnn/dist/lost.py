"""A rank that is lost ends the job, and is named: others would wait for it for ever."""

from __future__ import annotations

import atexit
import math
import os
import secrets
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from types import TracebackType

from .group import Group, RankLost

_GRACE = 1.0  # seconds that others have to say what they have lost
_PATIENCE = 3.0  # and that the one that has failed may take, where somebody catches that


def watch(group: Group) -> None:
    """From now on: exceptions that nobody catches, processes of this machine that are killed, scripts that end."""
    owner, guard = os.getpid(), _Guard(group)
    before = sys.excepthook

    def failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if os.getpid() == owner and not isinstance(error, KeyboardInterrupt):  # which all ranks get
            _end(group, guard, kind, error)

    def farewell() -> None:
        if os.getpid() == owner:
            guard.stop()
            _part(group)

    sys.excepthook = failed
    atexit.register(farewell)  # ahead of MPI's own end, which may wait for ever


def _end(group: Group, guard: _Guard, kind: type[BaseException], error: BaseException) -> None:
    guard.stop()
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


class _Guard:
    """The process that says which rank of this machine was killed (guard.py): the launcher kills the others at once, and may name any of them."""

    def __init__(self, group: Group) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        everybody = group.gather_objects((os.getpid(), _namespace(), secrets.token_hex(8)))
        leader = group.on_this_machine[0]
        self._address = f"fastnn-{everybody[leader][2]}"
        seen = [rank for rank in group.on_this_machine if everybody[rank][1] == everybody[leader][1]]
        if group.rank == leader and len(seen) > 1 and hasattr(os, "pidfd_open"):
            self._begin([word for rank in seen for word in (str(everybody[rank][0]), group._named(rank))])
        group.barrier()  # nobody is lost before it watches

    def _begin(self, words: list[str]) -> None:
        command = [sys.executable, "-I", "-S", os.path.join(os.path.dirname(__file__), "guard.py"), self._address, *words]
        try:  # in a session of its own: signals to the job are not for it
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
        except OSError:  # without it the launcher alone tells
            return
        assert self._process.stdout is not None
        self._process.stdout.read(1)
        self._process.stdout.close()

    def stop(self) -> None:
        """This rank ends as it should, or has said why."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way, suppress(OSError):  # others may have told it
            way.sendto(b"x", f"\0{self._address}")
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)


def _namespace() -> int:
    """In which process numbers are the same."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return -1
