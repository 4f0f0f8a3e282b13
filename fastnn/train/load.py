"""What else the machine was doing while a training ran, as far as Linux tells. Nothing is guessed: what cannot be read is None."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

_TICK = 100.0 if not hasattr(os, "sysconf") else float(os.sysconf("SC_CLK_TCK"))
SEEN_FROM = 0.5  # seconds: /proc/stat counts hundredths


@dataclass(frozen=True)
class Load:
    """Sums of processor seconds up to a moment, or between two."""

    seconds: float  # by the clock
    own: float  # of this process
    busy: float | None  # of the CPUs that this process may use, whoever used them
    steal: float | None  # that the hypervisor gave to other machines
    waited: float | None  # in which threads of this process were ready to run and had no CPU
    throttled: float | None  # in which the control group's quota stopped them

    def __sub__(self, before: Load) -> Load:
        return self._with(before, -1.0)

    def __add__(self, other: Load) -> Load:
        return self._with(other, 1.0)

    def _with(self, other: Load, sign: float) -> Load:
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(Load)}
        known: dict[str, Any] = {name: None if a is None or b is None else a + sign * b for name, (a, b) in pairs.items()}
        return Load(**known)

    @property
    def others(self) -> float | None:
        """How many CPUs other programs had on average; None when the time was too short to tell."""
        if self.busy is None or self.seconds < SEEN_FROM:
            return None
        return max(0.0, self.busy - self.own) / self.seconds


def look() -> Load:
    """Where the counters stand now."""
    busy, steal = _stat(_read("/proc/stat"), os.sched_getaffinity(0))
    return Load(time.perf_counter(), time.process_time(), busy, steal, _waited(), _throttled())


def _stat(text: str, cpus: set[int]) -> tuple[float | None, float | None]:
    """user nice system idle iowait irq softirq steal ... of each CPU, in ticks."""
    busy = steal = 0.0
    words = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    rows = [ticks for row in words if len(row) >= 9 and _count(row[0][3:]) in cpus and None not in (ticks := [_count(n) for n in row[1:9]])]
    for row in rows:
        user, nice, system, _, _, irq, softirq, stolen = (float(n or 0) / _TICK for n in row)
        busy += user + nice + system + irq + softirq
        steal += stolen
    return (busy, steal) if rows else (None, None)


def _count(word: str) -> int | None:
    """What the kernel counts in 64 bits; None for anything else that may stand there."""
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 20 else None


def _waited() -> float | None:
    """The second number of each thread's schedstat: nanoseconds on a run queue."""
    texts = [_read(path).split() for path in glob.glob("/proc/self/task/*/schedstat")]
    known = [1e-9 * count for numbers in texts if len(numbers) >= 2 and (count := _count(numbers[1])) is not None]
    return sum(known) if known else None


def _throttled(root: str = "") -> float | None:
    """Of the process's control groups and of those around them, each of which may have a quota."""
    texts = [_read(path) for path in sorted(set(map(os.path.realpath, _cpu_stats(root))))]
    units = {"throttled_usec": 1e-6, "throttled_time": 1e-9}  # version 2, version 1
    rows = [line.partition(" ") for text in texts for line in text.splitlines()]
    known = [units[name] * count for name, _, word in rows if name in units and (count := _count(word.strip())) is not None]
    return sum(known) if known else None


def _cpu_stats(root: str) -> Iterator[str]:
    """Where they may be. In a container the path may be the host's, which is not there: its own group is the root then."""
    for line in _read(f"{root}/proc/self/cgroup").splitlines():  # "0::/path" of version 2, "4:cpu,cpuacct:/path" of version 1
        _, colon, rest = line.partition(":")
        controllers, second, path = rest.partition(":")
        if not (colon and second) or "\0" in path:
            continue
        mounts = ("cpu", "cpu,cpuacct") if "cpu" in controllers.split(",") else () if controllers else ("",)
        for group in (path, *map(str, PurePosixPath(path).parents)):
            yield from (os.path.join(root or "/", "sys/fs/cgroup", mount, group.lstrip("/"), "cpu.stat") for mount in mounts)


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""
