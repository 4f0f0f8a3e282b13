"""Who does a trial, so that others know whether somebody still does."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Mapping
from typing import Any

_working: set[str] = set()  # searches of this process that are under way


class Worker:
    """One search of this process. A machine is known by its name and the number of its boot, a process by its number and when it began."""

    def __init__(self) -> None:
        self._word = uuid.uuid4().hex
        _working.add(self._word)

    def told(self) -> dict[str, Any]:
        """For others, in words of JSON."""
        return {**_place(), "boot": _boot(), "pid": os.getpid(), "began": _began(os.getpid()), "search": self._word}

    def end(self) -> None:
        _working.discard(self._word)


def alive(worker: Mapping[str, Any]) -> bool:
    """Whether it may still be working: of another machine, or another container, nothing is known, it is taken to be."""
    if any(worker[name] != value for name, value in _place().items()):
        return True
    if worker["boot"] != _boot():
        return False
    if worker["pid"] == os.getpid():
        return worker["search"] in _working
    return bool(worker["began"] == _began(worker["pid"]))


def _place() -> dict[str, str]:
    """The machine's name, and the processes among which numbers are known (pid_namespaces(7)): a container has its own."""
    try:
        among = os.readlink("/proc/self/ns/pid")
    except OSError:
        among = ""
    return {"host": platform.node(), "among": among}


def _boot() -> str:
    """Another one after each start of the machine; "" where the system does not say."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _began(pid: int) -> str:
    """When a process began, in ticks since the boot (proc(5), field 22), so that its number can't be another's; "gone" where there is none."""
    if told := _read(f"/proc/{pid}/stat"):
        fields = told.rpartition(")")[2].split()
        return fields[19] if fields[0] not in "ZX" else "gone"  # a killed one that nobody has waited for
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except OSError:
        pass
    return "unknown"


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
