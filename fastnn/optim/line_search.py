"""A step length along a line that meets the strong Wolfe conditions."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    """A place on the line: how far, the loss, its gradient, and the slope along the line."""

    t: float
    loss: float
    gradient: np.ndarray
    slope: float


def cubic_minimum(a: Point, b: Point, low: float, high: float) -> float:
    """The minimum of the cubic through two points with their slopes, kept within [low, high] (Nocedal, Wright 2006, eq. 3.59)."""
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if square < 0:
        return (low + high) / 2
    d2 = sqrt(square)
    best = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return min(max(best, low), high)


def strong_wolfe(
    at: Callable[[float], Point], start: Point, t: float, reach: float, most: int, tolerance: float, c1: float = 1e-4, c2: float = 0.9
) -> Point:
    """A point with loss <= start + c1 t slope and |slope| <= c2 |start's slope|, or the best found in `most` evaluations after the first.

    First a bracket is grown from [0, t], then it is shrunk by cubic interpolation (Nocedal, Wright 2006, algorithms 3.5 and 3.6, in the form
    of torch.optim.LBFGS, whose steps it repeats). `reach` is the direction's largest element: the search ends where a bracket is
    smaller than `tolerance`.
    """

    def too_high(p: Point) -> bool:
        return p.loss > start.loss + c1 * p.t * start.slope

    def flat(p: Point) -> bool:
        return abs(p.slope) <= -c2 * start.slope

    before, now, tries = start, at(t), 0
    while tries < most:
        if too_high(now) or (tries > 1 and now.loss >= before.loss) or now.slope >= 0 and not flat(now):
            return _shrink(at, start, [before, now], reach, most - tries, tolerance, too_high, flat)
        if flat(now):
            return now
        t = cubic_minimum(before, now, now.t + 0.01 * (now.t - before.t), 10 * now.t)
        before, now, tries = now, at(t), tries + 1
    return now if now.loss < start.loss else start


def _shrink(
    at: Callable[[float], Point],
    start: Point,
    bracket: list[Point],
    reach: float,
    most: int,
    tolerance: float,
    too_high: Callable[[Point], bool],
    flat: Callable[[Point], bool],
) -> Point:
    low, high = sorted(bracket, key=lambda p: p.loss)
    stalled = False
    for _ in range(most):
        left, right = sorted((low.t, high.t))
        if (right - left) * reach < tolerance:
            break
        t, margin = cubic_minimum(low, high, left, right), 0.1 * (right - left)
        if min(right - t, t - left) < margin:  # close to an end: once is allowed, then a tenth of the bracket away from it
            if stalled or t >= right or t <= left:
                t, stalled = (right - margin if abs(t - right) < abs(t - left) else left + margin), False
            else:
                stalled = True
        else:
            stalled = False
        now = at(t)
        if too_high(now) or now.loss >= low.loss:
            high = now
            if high.loss < low.loss:
                low, high = high, low
        else:
            if flat(now):
                return now
            if now.slope * (high.t - low.t) >= 0:
                high = low
            low = now
    return low
