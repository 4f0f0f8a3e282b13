"""Calls to the system that fail, are cut short, or are the last thing their process does: what `fastnn.files` sees in place of `os` and `fcntl`."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any

from fastnn import _C, files

CALLS = ("open", "listdir", "stat", "fstat", "write", "fchmod", "fsync", "replace", "unlink", "close", "flock")
PIECE = 1000  # bytes that one write takes: what is longer comes in several

Before = Callable[[str, tuple[Any, ...]], None]


class _Watched:
    """A module whose calls in CALLS are announced first."""

    def __init__(self, module: Any, before: Before) -> None:
        self._module, self._before = module, before

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if name not in CALLS:
            return function

        def call(*arguments: Any) -> Any:
            if name == "write":
                arguments = (arguments[0], arguments[1][:PIECE])
            self._before(name, arguments)
            return function(*arguments)

        return call


@contextmanager
def watched(before: Before) -> Iterator[None]:
    """Inside the block `before(name, arguments)` runs ahead of each call."""
    files.os, files.fcntl = _Watched(os, before), _Watched(fcntl, before)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        files.os, files.fcntl = os, fcntl  # type: ignore[attr-defined]


class Stop:
    """At the k-th call (from 0) the process is killed; a write has written half of its piece by then."""

    def __init__(self, k: int) -> None:
        self.left = k

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None:
        if not self.left:
            if name == "write":
                os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


class Fail:
    """The k-th call raises; `name` is what it was, None when there were fewer."""

    def __init__(self, k: int, number: int) -> None:
        self.left, self.number, self.name = k, number, ""

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.left -= 1
        if self.left == -1:
            self.name = name
            raise OSError(self.number, os.strerror(self.number))


def in_child(task: Callable[[], None]) -> int:
    """Runs `task` in a forked process; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            task()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def with_memory(megabytes: int, task: Callable[[], None]) -> int:
    """Runs `task` in a forked process, on one thread, that may have so much more address space than this one has, and a minute."""

    def limited() -> None:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
        most = pages * resource.getpagesize() + (megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))  # what would take for ever ends in a failure
        _C.set_num_threads(1)  # each has a stack and an arena
        task()

    return in_child(limited)


class Disk:
    """What a loss of power may leave of a folder, from the calls made: data that no fsync of the file followed is there as any beginning of
    it, or as zeros; of the changes to the folder since its last fsync any may be there, in any combination."""

    def __init__(self, folder: str, contents: dict[str, bytes]) -> None:
        self.folder = folder
        self.written = {name: bytearray(data) for name, data in contents.items()}  # by the name that a file was made under
        self.synced = {name: bytes(data) for name, data in contents.items()}
        self.entries = {name: name for name in contents}  # name -> the file's first name
        self.pending: list[tuple[str, ...]] = []  # changes to entries since they were synced
        self.open: dict[int, str | None] = {}

    def changed(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        """One call was made."""
        if name == "open":
            inner = os.path.relpath(arguments[0], self.folder)
            self.open[result] = None if inner == "." else inner
            if arguments[1] & os.O_CREAT:
                self.written[inner], self.synced[inner] = bytearray(), b""
                self.pending.append(("link", inner, inner))
        elif name == "write":
            self.written[str(self.open[arguments[0]])] += arguments[1][:result]
        elif name == "fsync":
            file = self.open[arguments[0]]
            if file is None:
                self.entries, self.pending = self._after(self.pending), []
            else:
                self.synced[file] = bytes(self.written[file])
        elif name == "replace":
            old, new = (os.path.relpath(path, self.folder) for path in arguments)
            self.pending.append(("move", old, new))
        elif name == "unlink":
            self.pending.append(("unlink", os.path.relpath(arguments[0], self.folder)))

    def _after(self, changes: Any) -> dict[str, str]:
        entries = dict(self.entries)
        for kind, *names in changes:
            if kind == "link":
                entries[names[0]] = names[1]
            elif kind == "move":
                entries[names[1]] = entries.pop(names[0], names[0])
            else:
                entries.pop(names[0], None)
        return entries

    def possible(self, name: str) -> Iterator[bytes | None]:
        """The contents that a file of this name may have after a loss of power now; None: it is not there."""
        for count in range(len(self.pending) + 1):
            for changes in combinations(self.pending, count):
                file = self._after(changes).get(name)
                if file is None:
                    yield None
                elif self.synced[file] == self.written[file]:
                    yield self.synced[file]
                else:
                    whole = bytes(self.written[file])
                    yield from (whole[:end] for end in (len(self.synced[file]), len(whole) // 2, len(whole)))
                    yield bytes(len(whole))


@contextmanager
def recorded(disk: Disk, after: Callable[[], object]) -> Iterator[None]:
    """Inside the block every call changes the disk too; `after()` runs behind each."""

    class Recorded(_Watched):
        def __getattr__(self, name: str) -> Any:
            function = super().__getattr__(name)
            if name not in CALLS:
                return function

            def call(*arguments: Any) -> Any:
                result = function(*arguments)
                disk.changed(name, arguments, result)
                after()
                return result

            return call

    files.os = Recorded(os, lambda name, arguments: None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        files.os = os  # type: ignore[attr-defined]


NUMBERS = (errno.ENOSPC, errno.EIO, errno.EACCES)
