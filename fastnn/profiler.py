"""What each kernel call of a block costs, by layer, and what the processor could do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from . import _C, recording
from .arguments import integer
from .scopes import scope_of

_OPTIMIZER = ("SGD", "Adam", "Adagrad", "RMSprop", "Muon", "ParameterList")  # structs of kernels.def
_DATA = ("Gather", "Augment")
PHASES = ("data", "forward", "backward", "optimizer", "other")


class Peak(NamedTuple):
    """What the processor can do on the threads that are set: float32 operations in registers, and bytes read and written by a copy, a second."""

    gflops: float
    copy_gbs: float

    def seconds(self, operations: float, nbytes: float) -> float:
        """What neither bound lets go below (the roofline)."""
        return max(operations / (1e9 * self.gflops), nbytes / (1e9 * self.copy_gbs))


def peak() -> Peak:
    """Measured at the first call for a number of threads and an instruction set, in about a tenth of a second: a loop of multiply-adds, and a
    copy of 64 MiB. What else runs on the machine at that moment is in the figures."""
    return _peak(_C.get_num_threads(), _C.isa())


_measured: list[tuple[int, str]] = []


@lru_cache(None)
def _peak(threads: int, isa: str) -> Peak:
    _measured.append((threads, isa))
    return Peak(*_C.measure_peak())


@dataclass(frozen=True)
class Cost:
    """The calls of one kernel by one layer with one shape."""

    row: str  # of kernels.def
    algorithm: str  # "" where there is one only
    layer: str  # path of the module, such as "layer1.0.conv1"; "" outside of modules
    kind: str  # its class
    phase: str  # one of PHASES
    calls: int
    seconds: float  # of all calls
    least: float  # of one
    operations: int  # of all calls: multiplications and additions of products; 0 for what only moves memory
    bytes: int  # of all calls: operands, each counted once

    def share(self, of: Peak) -> float:
        """How near to the peak or to the copy's speed, whichever bounds it: 1 is there. Winograd needs fewer operations than are counted."""
        return of.seconds(self.operations, self.bytes) / self.seconds if self.seconds else 0.0


class Profile(dict[str, dict[str, Any]]):
    """What `fastnn.profile()` gives: for each kernel {"calls", "seconds", "bytes"}, slowest first; filled when the block ends.

    `costs`: the same by layer, shape and direction (see Cost), slowest first. `seconds`: the whole block. `phases()`, `layers()` and `table()`
    add it up; print(profile) prints the table.
    """

    def __init__(self) -> None:
        super().__init__()
        self.costs: list[Cost] = []
        self.seconds = 0.0

    def take(self, costs: Sequence[Cost], seconds: float) -> None:
        """Costs of one profile, or of several."""
        self.costs, self.seconds = sorted(_merged(costs), key=lambda cost: -cost.seconds), seconds
        self.clear()
        for row, own in sorted(_grouped(self.costs, lambda cost: cost.row).items(), key=lambda item: -_seconds(item[1])):
            self[row] = {"calls": sum(c.calls for c in own), "seconds": _seconds(own), "bytes": sum(c.bytes for c in own)}

    def phases(self) -> dict[str, float]:
        """Seconds in the kernels of data, forward, backward, optimizer, other. Those of data run in a loader's thread, beside the others."""
        found = _grouped(self.costs, lambda cost: cost.phase)
        return {phase: _seconds(found.get(phase, [])) for phase in PHASES}

    def layers(self) -> dict[str, list[Cost]]:
        """The costs of each layer by its path, slowest first."""
        found = _grouped([cost for cost in self.costs if cost.layer], lambda cost: cost.layer)
        return dict(sorted(found.items(), key=lambda item: -_seconds(item[1])))

    def table(self, of: Peak | None = None, *, rows: int = 30) -> str:
        """One line for each kernel of each layer, slowest first, at most `rows`. `of`: fastnn.peak(), for the share of what could be reached."""
        heading = ("layer", "phase", "kernel", "calls", "ms", "share", "GFLOP/s", "GB/s", *(["of peak"] if of else []))
        integer("Profile.table", "rows", rows, 0)
        lines = [heading, *[_line(cost, self.seconds, of) for cost in self.costs[:rows]]]
        widths = [max(len(line[i]) for line in lines) for i in range(len(heading))]
        text = ["  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip() for line in lines]
        left = self.costs[rows:]
        text += [f"and {len(left)} more, {1e3 * _seconds(left):.2f} ms"] if left else []
        kernels = _seconds([cost for cost in self.costs if cost.phase != "data"])
        text.append(
            f"{1e3 * self.seconds:.2f} ms in all: "
            + ", ".join(f"{phase} {1e3 * s:.2f}" for phase, s in self.phases().items() if s)
            + f", outside of kernels {1e3 * max(0.0, self.seconds - kernels):.2f}"
        )
        return "\n".join(text)

    def __str__(self) -> str:
        known = (_C.get_num_threads(), _C.isa()) in _measured
        return self.table(peak() if known else None)


def _line(cost: Cost, whole: float, of: Peak | None) -> tuple[str, ...]:
    kernel = f"{cost.row} ({cost.algorithm})" if cost.algorithm else cost.row
    rates = [f"{amount / cost.seconds / 1e9:.1f}" if amount and cost.seconds else "-" for amount in (cost.operations, cost.bytes)]
    share = f"{100 * cost.seconds / whole:.1f} %" if whole else "-"
    reached = [f"{100 * cost.share(of):.0f} %"] if of else []
    return (cost.layer or "-", cost.phase, kernel, str(cost.calls), f"{1e3 * cost.seconds:.2f}", share, *rates, *reached)


def _seconds(costs: Sequence[Cost]) -> float:
    return sum(cost.seconds for cost in costs)


def _merged(costs: Sequence[Cost]) -> list[Cost]:
    """Those of the same work in the same place as one."""
    found: dict[Any, Cost] = {}
    for cost in costs:
        key = (cost.row, cost.algorithm, cost.layer, cost.kind, cost.phase, cost.operations // cost.calls, cost.bytes // cost.calls)
        if key in found:
            a, b = found[key], cost
            sums = (a.calls + b.calls, a.seconds + b.seconds, min(a.least, b.least), a.operations + b.operations, a.bytes + b.bytes)
            found[key] = Cost(a.row, a.algorithm, a.layer, a.kind, a.phase, *sums)
        else:
            found[key] = cost
    return list(found.values())


def _grouped(costs: Sequence[Cost], key: Callable[[Cost], str]) -> dict[str, list[Cost]]:
    groups: dict[str, list[Cost]] = {}
    for cost in costs:
        groups.setdefault(key(cost), []).append(cost)
    return groups


@lru_cache(None)
def _structs() -> dict[str, str]:
    return {row["name"]: row["struct"] for row in _C.rows()}


def _cost(entry: dict[str, Any]) -> Cost:
    scope, struct, calls = scope_of(entry["scope"]), _structs()[entry["row"]], entry["calls"]
    phase = "data" if struct in _DATA or scope.phase == "data" else "optimizer" if struct in _OPTIMIZER else scope.phase or "other"
    inside = phase in ("forward", "backward")
    return Cost(
        entry["row"], entry["algorithm"], scope.layer if inside else "", scope.kind if inside else "", phase,
        calls, entry["seconds"], entry["least"], calls * entry["operations"], calls * entry["bytes"],
    )  # fmt: skip


_open: dict[int, list[Cost]] = {}  # of each block that is under way, by the id of its Profile: what ran until another one began or ended
_lock = threading.RLock()  # the garbage collector may end another block of this thread within these lines


def _forked() -> None:
    """In a child: another thread may have held the lock."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forked)


def _share() -> None:
    """The core has one list, which begins anew with each block: what stands there now goes to all that are under way."""
    if _open:
        since = [_cost(entry) for entry in _C.profile()]
        for seen in _open.values():
            seen.extend(since)


@contextmanager
def profile() -> Iterator[Profile]:
    """What every kernel costs that runs inside the block, in any thread: `with fastnn.profile() as p: ...`, then `print(p)`, or read `p`
    ({"calls", "seconds", "bytes"} by kernel, slowest first), `p.costs`, `p.layers()`, `p.phases()`.

    Each call is timed by itself, in replayed steps too (on a GPU the host waits for each, and CUDA graphs are not used), with the operations
    and bytes of its row and the layer it belongs to. It costs about a microsecond a call, and nothing when it is off. Of blocks within
    each other, or in several threads at a time, each has all that runs meanwhile.
    """
    result = Profile()
    with _lock:
        _share()
        _open[id(result)] = []
        _C.set_profiling(True)
    start = time.perf_counter()
    try:
        with recording.watched():
            yield result
    finally:
        seconds = time.perf_counter() - start
        with _lock:
            _share()
            costs = _open.pop(id(result))
            _C.set_profiling(bool(_open))
        result.take(costs, seconds)
