"""Whole numbers and booleans, which have no gradient: numpy computes them, in int64. Booleans count as 0 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _C
from ..arguments import array, shown
from ..tensor import Tensor
from .shape import floats

_OF_MASKS = ("bitwise_and", "bitwise_or", "bitwise_xor")  # of two booleans a boolean


def is_whole(value: Any) -> bool:
    """Whether it is a Tensor of such numbers."""
    return isinstance(value, Tensor) and value._array.dtype not in floats


def all_whole(a: Any, b: Any) -> bool:
    """Whether one of two operands is a Tensor of such numbers, and none is of floats."""
    return (is_whole(a) or is_whole(b)) and not any(_of_floats(one) for one in (a, b))


def _of_floats(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not is_whole(value)
    try:
        return array("", "", value).dtype.kind == "f"
    except (TypeError, ValueError):  # no array, which is said of it where it is taken
        return False


def computed(operation: str, a: Any, b: Any, sign: str = "") -> Tensor:
    """What numpy's function of that name gives, with broadcasting. sign: how the caller wrote it."""
    what, device = sign or operation, (a if isinstance(a, Tensor) else b).device
    values = [_values(what, name, given) for name, given in (("a", a), ("b", b))]
    if operation not in _OF_MASKS or any(one.dtype != bool for one in values):
        values = [one.astype(np.int64) for one in values]
    left, right = values
    _C.Binary(left.shape, right.shape)  # ValueError where they do not broadcast
    if operation in ("floor_divide", "remainder") and not right.all():
        raise ZeroDivisionError(f"{what}: b is 0{' in places' if right.ndim else ''}; expected what divides whole numbers")
    if operation == "power" and (right < 0).any():
        raise ValueError(f"power: whole numbers to the power of {right.min()}; fastnn.tensor(x, 'float32') has one")
    return _tensor(getattr(np, operation)(left, right), device)


def selected(condition: Any, a: Any, b: Any) -> Tensor:
    """a where the condition, a Tensor or an array, holds, else b."""
    parts = [array("where", "condition", condition), _values("where", "a", a), _values("where", "b", b)]
    try:
        return _tensor(np.where(*parts), (a if isinstance(a, Tensor) else b).device)
    except ValueError:
        shapes = [one.shape for one in parts]
        raise ValueError(f"where: shapes {shapes[0]} (condition), {shapes[1]} and {shapes[2]} do not broadcast") from None


def _values(what: str, name: str, given: Any) -> np.ndarray:
    values = array(what, name, given)
    if isinstance(given, int) and not -(2**63) <= given < 2**63 or values.dtype == np.uint64 and (values >= 2**63).any():
        raise ValueError(f"{what}: {name} must lie between -2**63 and 2**63 - 1, got {shown(given)}")
    if values.dtype.kind not in "biu":
        raise TypeError(f"{what}: {name}: expected a Tensor, an array or a number, got {shown(given)}")
    return values


def _tensor(values: Any, device: str) -> Tensor:
    return Tensor(_C.from_numpy(np.asarray(values), device))


def of_one(operation: str, x: Tensor) -> Tensor:
    """What numpy's function of that name gives: `invert` of booleans too."""
    values = x.numpy()
    return _tensor(getattr(np, operation)(values if operation == "invert" and x.dtype == "bool" else values.astype(np.int64)), x.device)


def reduced(operation: str, x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """sum in int64, mean in float32, max and min as they are."""
    keepdims = bool(keepdims)  # numpy's own True numpy does not take
    count = _C.Reduce(x.shape, axes, keepdims).reduced_count  # ValueError for an axis given twice
    if operation != "mean":
        whole = {"dtype": np.int64} if operation == "sum" else {}
        return _tensor(getattr(np, operation)(x.numpy(), axes, keepdims=keepdims, **whole), x.device)
    with np.errstate(invalid="ignore"):  # of none, as of floats
        return _tensor((np.sum(x.numpy(), axes, np.int64, keepdims=keepdims) / np.float64(count)).astype(np.float32), x.device)
