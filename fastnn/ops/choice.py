"""Comparisons, and choices between values: where, maximum, minimum, clip, abs."""

from __future__ import annotations

from functools import lru_cache
from math import inf
from typing import Any

import numpy as np

from .. import _C
from ..arguments import array, shown, unwrapped
from ..tensor import Array, Op, Scalar, Tensor, apply
from .activation import Pointwise
from .elementwise import binary, constant, counted, operands, sum_to
from .reduce import broadcast_to
from .shape import floats, reshape
from .whole import all_whole, computed, is_whole, of_one, selected

comparison = lru_cache(4096)(_C.Compare)


def _compared(a: Array, b: Array, relation: str) -> Array:
    return _C.compare(comparison(a.shape, b.shape, relation), a, b)


def _chosen(condition: Array, a: Array, b: Array) -> Array:
    return _C.where(binary(a.shape, b.shape), condition, a, b)


def _number(value: float, like: Array) -> Array:
    return constant(value, like.dtype, like.device)._array


class Where(Op):
    __slots__ = ("condition", "shapes")

    def __init__(self, condition: Array) -> None:
        self.condition = condition

    def forward(self, a: Array, b: Array) -> Array:
        self.save(self.condition)
        self.shapes = a.shape, b.shape
        return _chosen(self.condition, a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (condition,) = self.saved
        zero = _number(0.0, dy)
        da = sum_to(_chosen(condition, dy, zero), self.shapes[0]) if self.needs[0] else None
        return da, sum_to(_chosen(condition, zero, dy), self.shapes[1]) if self.needs[1] else None


class Extremum(Op):
    """maximum or minimum; equal operands share the gradient."""

    __slots__ = ("largest",)

    def __init__(self, largest: bool) -> None:
        self.largest = largest

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        return (_C.maximum if self.largest else _C.minimum)(binary(a.shape, b.shape), a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        a, b = self.saved
        zero, half = _number(0.0, dy), _C.multiply(binary(dy.shape, ()), dy, _number(0.5, dy))
        shared = _chosen(_compared(a, b, "equal"), half, dy)
        loses = ("less", "greater") if self.largest else ("greater", "less")
        return tuple(
            [
                sum_to(_chosen(_compared(a, b, relation), zero, shared), x.shape) if need else None
                for x, relation, need in zip((a, b), loses, self.needs)
            ]
        )


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where condition holds, else b; all three broadcast, a and b get the gradient of what was taken from them; whole numbers have none.

    condition: a bool Tensor (a comparison's result) or array; a, b: Tensors, one of them may be a number. TypeError for other conditions.
    """
    whole = all_whole(a, b)
    if not whole:
        a, b = counted(a, b)
    if not isinstance(condition, Tensor):
        condition = array("where", "condition", condition)
    if condition.dtype != "bool":
        raise TypeError(f"where: the condition has dtype {condition.dtype}; expected bool, which comparisons such as x > 0 give")
    if whole:
        return selected(condition, a, b)
    if not isinstance(condition, Tensor):
        condition = Tensor(_C.from_numpy(condition, a.device))
    try:
        shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
    except ValueError:
        raise ValueError(f"where: shapes {condition.shape} (condition), {a.shape} and {b.shape} do not broadcast") from None
    if binary(a.shape, b.shape).y_shape != shape:
        a = broadcast_to(reshape(a, (*[1] * (len(shape) - a.ndim), *a.shape)), shape)
    given = condition._array
    if given.shape != shape:
        given = _C.from_numpy(np.broadcast_to(given.numpy(), shape), a.device)
    return apply(Where(given), a, b)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, elementwise with broadcasting; NaN wins. Equal ones get half of the gradient each."""
    return computed("maximum", a, b) if all_whole(a, b) else apply(Extremum(True), *counted(a, b))


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, elementwise with broadcasting; NaN wins. Equal ones get half of the gradient each."""
    return computed("minimum", a, b) if all_whole(a, b) else apply(Extremum(False), *counted(a, b))


def clip(x: Tensor, min: Scalar | None = None, max: Scalar | None = None) -> Tensor:
    """max where x is above it, min where below, else x; either may be None. The gradient passes where min <= x <= max.

    max wins where it is less than min. Raises ValueError when both are None, and where one is NaN.
    """
    if min is None and max is None:
        raise ValueError("clip: min and max are both None; give at least one of them")
    min, max = unwrapped(min), unwrapped(max)
    for name, bound in (("min", min), ("max", max)):
        if bound is not None and not isinstance(bound, (int, float, np.integer, np.floating)):
            raise TypeError(f"clip: {name} must be a number or None, got {type(bound).__name__}; maximum and minimum take Tensors")
        if is_whole(x) and isinstance(bound, int) and not -(2**63) <= bound < 2**63:
            raise ValueError(f"clip: {name} must lie between -2**63 and 2**63 - 1, got {bound}")
        if bound is not None and bound != bound:
            raise ValueError(f"clip: {name} must be a number or None, got nan, which bounds nothing")
    if is_whole(x):
        for bound, closer in ((min, maximum), (max, minimum)):
            x = x if bound is None else closer(x, bound)
        return x
    return apply(Pointwise("clip", -inf if min is None else float(min), inf if max is None else float(max)), x)


def abs(x: Tensor) -> Tensor:
    """|x|; the gradient at 0 is 0."""
    return of_one("abs", x) if is_whole(x) else apply(Pointwise("abs"), x)


def _compare(a: Any, b: Any, relation: str) -> Tensor:
    """Floats by a kernel; other types, which have no gradient, by numpy."""
    first = a if isinstance(a, Tensor) else b
    if not isinstance(first, Tensor):
        raise TypeError(f"{relation}: expected at least one Tensor as a and b, got {shown(a)} and {shown(b)}")
    if all(t.dtype in floats for t in (a, b) if isinstance(t, Tensor)):
        a, b = operands(a, b)
        return Tensor(_compared(a._array, b._array, relation))
    left, right = array(relation, "a", a), array(relation, "b", b)
    binary(left.shape, right.shape)  # ValueError where they do not broadcast
    # Python's integers beyond 64 bits stay what they are in numpy's array: an object, which compares as a number
    if not all(isinstance(given, int) or side.dtype.kind in "biufc" for given, side in ((a, left), (b, right))):
        raise TypeError(f"{relation}: expected as a and b a Tensor and a Tensor, an array or a number, got {shown(a)} and {shown(b)}")
    return Tensor(_C.from_numpy(np.asarray(getattr(np, relation)(left, right)), first.device))


def equal(a: Any, b: Any) -> Tensor:
    """Whether a = b, elementwise with broadcasting: a bool Tensor, as `a == b`."""
    return _compare(a, b, "equal")


def not_equal(a: Any, b: Any) -> Tensor:
    """Whether a and b differ, elementwise with broadcasting; NaN differs from everything."""
    return _compare(a, b, "not_equal")


def less(a: Any, b: Any) -> Tensor:
    """a < b, elementwise with broadcasting: a bool Tensor."""
    return _compare(a, b, "less")


def less_equal(a: Any, b: Any) -> Tensor:
    """a <= b, elementwise with broadcasting: a bool Tensor."""
    return _compare(a, b, "less_equal")


def greater(a: Any, b: Any) -> Tensor:
    """a > b, elementwise with broadcasting: a bool Tensor."""
    return _compare(a, b, "greater")


def greater_equal(a: Any, b: Any) -> Tensor:
    """a >= b, elementwise with broadcasting: a bool Tensor."""
    return _compare(a, b, "greater_equal")
