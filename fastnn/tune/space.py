"""What is searched: an axis for each hyper-parameter, and the values that a trial takes from them.

At random they are a function of (seed, index of the trial): Philox, draw = index, words 2j and 2j + 1 for axis j. On a grid they are a function of
the index alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .. import random
from ..arguments import flag, integer, items, number, shown, text

Space = Mapping[str, Any]
COLUMNS = ("trial", "score", "state", "seconds", "reason")  # of a study's table, besides those of the space
_NEAR = 0.1  # this share of an axis, at either end, is its edge


class Axis:
    """The values of one hyper-parameter. `log`: whether their logarithms are spread evenly, and pictures have such an axis."""

    log = False

    def at(self, u: float) -> Any:
        """The value at a place 0 <= u < 1."""
        raise NotImplementedError

    def grid(self, points: int) -> list[Any]:
        """That many values from end to end, or as many as there are."""
        raise NotImplementedError

    def place(self, value: Any) -> float | None:
        """0 at the lower end, 1 at the upper; None where values have no order."""
        return None

    def wider(self, end: str) -> Axis | None:
        """The axis to try next where the best value lies at its "lower" or "upper" end; None where it goes no further."""
        return None

    def around(self, value: Any, share: float) -> Axis:
        """Of `share` of this one's length, with `value` in its middle."""
        return self

    def edge(self, value: Any) -> str | None:
        """The end, "lower" or "upper", within a tenth of whose axis the value lies, if it could go on there."""
        place = self.place(value)
        end = None if place is None else "lower" if place <= _NEAR else "upper" if place >= 1 - _NEAR else None
        return end if end is not None and self.wider(end) is not None else None


class Range(Axis):
    """From a number to a larger one."""

    words = ""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __repr__(self) -> str:
        return f"{self.words}({told(self.low)}, {told(self.high)})"

    def grid(self, points: int) -> list[Any]:
        if points == 1:
            return [self.at(0.5)]
        return [self.low, *(self.at(i / (points - 1)) for i in range(1, points - 1)), self.high]

    def place(self, value: Any) -> float | None:
        return float((value - self.low) / (self.high - self.low))


class Uniform(Range):
    words = "uniform"

    def at(self, u: float) -> float:
        return self.low + u * (self.high - self.low)

    def wider(self, end: str) -> Axis | None:
        length = self.high - self.low
        return (
            self._within(rounded(self.low - length), self.high) if end == "lower" else self._within(self.low, rounded(self.high + length))
        )

    def around(self, value: Any, share: float) -> Axis:
        half = share * (self.high - self.low) / 2
        return self._within(rounded(value - half), rounded(value + half)) or self

    def _within(self, low: float, high: float) -> Axis | None:
        """Not below 0 where this one is not, and not beyond 1 where it lies between both, as probabilities do; None for this one itself."""
        low = max(low, 0.0) if self.low >= 0 else low
        high = min(high, 1.0) if self.low >= 0 and self.high <= 1 else high
        return Uniform(low, high) if low < high < math.inf and (low, high) != (self.low, self.high) else None


class LogUniform(Range):
    words, log = "log_uniform", True

    def at(self, u: float) -> float:
        low, high = math.log(self.low), math.log(self.high)
        return min(max(math.exp(low + u * (high - low)), self.low), self.high)

    def place(self, value: Any) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low)

    def wider(self, end: str) -> Axis | None:
        low, high = (rounded(self.low / 10), self.high) if end == "lower" else (self.low, rounded(self.high * 10))
        return LogUniform(low, high) if 0 < low and high < math.inf else None

    def around(self, value: Any, share: float) -> Axis:
        factor = math.exp(share * (math.log(self.high) - math.log(self.low)) / 2)
        low, high = rounded(value / factor), rounded(value * factor)
        return LogUniform(low, high) if 0 < low < high < math.inf else self


class Integers(Range):
    words = "integers"
    low: int
    high: int

    def __init__(self, low: int, high: int, log: bool) -> None:
        super().__init__(low, high)
        self.log = log

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}{', log=True' if self.log else ''})"

    def at(self, u: float) -> int:
        low, beyond = (math.log(self.low), math.log(self.high + 1)) if self.log else (self.low, self.high + 1)
        found = low + u * (beyond - low)
        return self._inside(math.floor(math.exp(found) if self.log else found))

    def grid(self, points: int) -> list[Any]:
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        places = [0.5] if points == 1 else [i / (points - 1) for i in range(points)]
        found = [low + place * (high - low) for place in places]
        return sorted({self._inside(round(math.exp(x) if self.log else x)) for x in found})

    def place(self, value: Any) -> float | None:
        if self.low == self.high:
            return None
        return math.log(value / self.low) / math.log(self.high / self.low) if self.log else super().place(value)

    def wider(self, end: str) -> Axis | None:
        length = self.high - self.low
        if end == "upper":
            return Integers(self.low, self.high * 4 if self.log else self.high + length, self.log)
        least = 1 if self.log else 0 if self.low >= 0 else self.low - length
        low = max(self.low // 4 if self.log else self.low - length, least)
        return Integers(low, self.high, self.log) if low < self.low else None

    def around(self, value: Any, share: float) -> Axis:
        if self.log:
            factor = (self.high / self.low) ** (share / 2)
            return Integers(max(math.floor(value / factor), 1), math.ceil(value * factor), True)
        half = math.ceil(share * (self.high - self.low) / 2)
        return Integers(max(value - half, min(self.low, 0)), value + half, False)

    def _inside(self, value: int) -> int:
        return min(max(value, self.low), self.high)


class Choice(Axis):
    def __init__(self, values: Sequence[Any]) -> None:
        self.values = list(values)

    def __repr__(self) -> str:
        return f"choice([{', '.join(shown(value) for value in self.values)}])"

    def at(self, u: float) -> Any:
        return self.values[int(u * len(self.values))]

    def grid(self, points: int) -> list[Any]:
        return list(self.values)

    def position(self, value: Any) -> int:
        """By identity first: 1 and True are equal, and arrays can't say whether they are."""
        same = [i for i, one in enumerate(self.values) if one is value]
        return same[0] if same else self.values.index(value)

    def place(self, value: Any) -> float | None:
        """Of numbers in ascending order, of three at least."""
        if not self._ascending or value not in self.values:
            return None
        return self.values.index(value) / (len(self.values) - 1)

    def wider(self, end: str) -> Axis | None:
        """A further value at that end, as far, by factors, from the last as that is from the one before; below 0 and beyond a fraction nothing is known."""
        first, second = self.values[:2] if end == "lower" else self.values[:-3:-1]
        further = first * first / second if first > 0 and second > 0 else 2 * first - second
        further = round(further) if all(isinstance(value, int) for value in self.values) else rounded(further)
        if min(self.values) >= 0 and (further <= 0 or further >= 1 >= max(self.values)):
            return None
        if further in self.values:
            return None
        return Choice([further, *self.values] if end == "lower" else [*self.values, further])

    @property
    def _ascending(self) -> bool:
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in self.values)
        return numbers and len(self.values) > 2 and self.values == sorted(set(self.values))


def told(value: float) -> str:
    """Short where that is exact."""
    return short if float(short := f"{value:g}") == value else repr(value)


def rounded(value: float) -> float:
    """To three digits: the end of a range that is to be tried."""
    return float(f"{value:.3g}")


def log_uniform(low: float, high: float) -> Axis:
    """Numbers from low to high whose logarithms are spread evenly: low (high / low)^u, u in [0, 1): of rates, decays, all that is felt by factors.

    ValueError unless 0 < low < high; uniform(low, high) has 0 and negative numbers, choice([0, 1e-5, 1e-4]) has 0 beside orders of magnitude.
    """
    return LogUniform(*_ends("log_uniform", low, high, "(0, inf)"))


def uniform(low: float, high: float) -> Axis:
    """Numbers from low to high, spread evenly: low + u (high - low), u in [0, 1): of momenta, probabilities of dropout. ValueError unless low < high."""
    low, high = _ends("uniform", low, high, "(-inf, inf)")
    if high - low == math.inf:
        raise ValueError(f"uniform: low and high must have a finite difference, got low={low:g} and high={high:g}")
    return Uniform(low, high)


def integers(low: int, high: int, *, log: bool = False) -> Axis:
    """Whole numbers from low to high, both of them too, all alike often; log=True: with logarithms spread evenly, of widths and depths, for which
    low must be at least 1. ValueError unless low <= high."""
    flag("integers", "log", log)
    ends = integer("integers", "low", low, 1 if log else -(2**53), 2**53), integer("integers", "high", high, -(2**53), 2**53)
    if ends[0] > ends[1]:
        raise ValueError(f"integers: low must not be larger than high, got low={low} and high={high}")
    return Integers(*ends, log)


def choice(values: Any) -> Axis:
    """One of several values of any kind, all alike often. A grid has all of them. In a space a list stands for the choice of it."""
    found = items("choice", "values", values, "a list of values")
    if not found:
        raise ValueError("choice: values must be at least one, got none")
    return Choice(found)


def _ends(what: str, low: float, high: float, within: str) -> tuple[float, float]:
    ends = number(what, "low", low, within), number(what, "high", high, within)
    if ends[0] >= ends[1]:
        raise ValueError(f"{what}: low must be less than high, got low={shown(low)} and high={shown(high)}")
    return ends


# --- spaces


def checked_space(what: str, space: Any) -> dict[str, Axis]:
    """Axes by name; a list becomes a choice."""
    wanted = "a dict of names and what they are drawn from, such as {'rate': tune.log_uniform(1e-4, 1)}"
    if not isinstance(space, Mapping):
        raise TypeError(f"{what}: space must be {wanted}, got {shown(space)}")
    if not space:
        raise ValueError(f"{what}: space must be {wanted}, got an empty one")
    axes = {text(what, "space's names", name): _checked_axis(what, name, axis) for name, axis in space.items()}
    if taken := next((name for name in axes if name in COLUMNS), None):
        raise ValueError(f"{what}: space has the name {taken!r}, a column of every table of trials; choose another name")
    return axes


def _checked_axis(what: str, name: str, axis: Any) -> Axis:
    if isinstance(axis, Axis):
        return axis
    if isinstance(axis, list) and axis:
        return Choice(axis)
    ends = "; of two ends tune.log_uniform(low, high) or tune.uniform(low, high) makes one" if isinstance(axis, tuple) else ""
    raise (ValueError if isinstance(axis, list) else TypeError)(
        f"{what}: space has {shown(axis)} for {name!r}; expected tune.log_uniform(low, high), uniform, integers, or a list of values{ends}"
    )


def drawn(space: Mapping[str, Axis], seed: int, index: int) -> dict[str, Any]:
    """The values of a trial at random."""
    words = random.Generator(seed).bits(2 * len(space), index, random.SEARCH).astype("uint64")
    places = ((words[::2] >> 5) * 2**26 + (words[1::2] >> 6)).astype(float) / 2**53
    return {name: axis.at(float(place)) for (name, axis), place in zip(space.items(), places)}


class Grid:
    """Every combination of each axis' points; the last axis changes from one index to the next."""

    def __init__(self, space: Mapping[str, Axis], points: Mapping[str, int]) -> None:
        self.axes = {name: axis.grid(points.get(name, 1)) for name, axis in space.items()}

    def __len__(self) -> int:
        return math.prod(map(len, self.axes.values()))

    def at(self, index: int) -> dict[str, Any]:
        found = {}
        for name, values in reversed(self.axes.items()):
            index, place = divmod(index, len(values))
            found[name] = values[place]
        return dict(reversed(found.items()))


def grid_of(space: Mapping[str, Axis], points: Any, trials: int | None) -> Grid:
    """With that many points on each range (or by name); left out, the most with which the grid has at most `trials`."""
    ranges = [name for name, axis in space.items() if isinstance(axis, Range)]
    if points is None:
        grid = Grid(space, dict.fromkeys(ranges, _most_points(space, ranges, trials)))
    elif isinstance(points, Mapping):
        if set(points) != set(ranges):
            names = ", ".join(ranges) or "none, for a choice has its own"
            raise ValueError(f"search: points must have a number for each range of the space ({names}), got {shown(list(points))}")
        grid = Grid(space, {name: integer("search", "points", points[name], 1, 2**20) for name in ranges})
    else:
        grid = Grid(space, dict.fromkeys(ranges, integer("search", "points", points, 1, 2**20)))
    if trials is not None and len(grid) > trials:
        raise ValueError(f"search: trials must be at least {len(grid)}, of which the grid is made, got {trials}; or give fewer points")
    return grid


def _most_points(space: Mapping[str, Axis], ranges: Sequence[str], trials: int | None) -> int:
    if trials is None:
        raise ValueError("search: method 'grid' needs points, how many values of each range, or trials, how many there are to be at most")
    low, high = 1, trials if ranges else 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(Grid(space, dict.fromkeys(ranges, middle))) <= trials else (low, middle - 1)
    if ranges and low == 1:
        least = len(Grid(space, dict.fromkeys(ranges, 2)))
        raise ValueError(f"search: trials must be at least {least}, two points on each range of the grid, got {trials}")
    return low
