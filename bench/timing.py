"""Turns: on a shared machine only what was measured side by side can be compared."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Call = Callable[[], object]
Clock = Callable[[], float]
Stopwatch = Callable[[Call, int], float]  # seconds a call takes, from so many calls


def quantile(values: list[float], q: float) -> float:
    """Linear between the two nearest values."""
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


@dataclass
class Turns:
    """Seconds per call of each contender, by turn, and what the gauge read in the same turn."""

    seconds: dict[str, list[float]]
    gauge: list[float]

    def median(self, name: str) -> float:
        return median(self.seconds[name])

    def best(self, name: str) -> float:
        return min(self.seconds[name])

    def fastest(self, names: list[str]) -> str:
        return min(names, key=self.median)

    def ratios(self, slower: str, faster: str) -> list[float]:
        """How many times longer `slower` took, turn by turn."""
        return [a / b for a, b in zip(self.seconds[slower], self.seconds[faster])]


def calls_per_turn(call: Call, least_seconds: float, stopwatch: Stopwatch) -> int:
    """How many calls fill a turn, from the faster of two (the first may still be setting up)."""
    return max(1, math.ceil(least_seconds / min(stopwatch(call, 1), stopwatch(call, 1))))


def seconds_of(call: Call, calls: int = 1, clock: Clock = time.perf_counter) -> float:
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls


def take_turns(
    contenders: Mapping[str, Call],
    turns: int,
    least_seconds: float,
    pause: float = 0.02,
    gauge: Callable[[], float] | None = None,
    stopwatch: Stopwatch = seconds_of,
) -> Turns:
    """A B C, C B A, A B C ...: before each a pause (OpenMP threads go on spinning after a call) and a call that is not counted."""
    calls = {name: calls_per_turn(call, least_seconds, stopwatch) for name, call in contenders.items()}
    result = Turns({name: [] for name in contenders}, [])
    for turn in range(turns):
        for name in sorted(contenders, reverse=turn % 2 == 1, key=list(contenders).index):
            time.sleep(pause)
            contenders[name]()
            result.seconds[name].append(stopwatch(contenders[name], calls[name]))
        if gauge is not None:
            time.sleep(pause)
            result.gauge.append(gauge())
    return result
