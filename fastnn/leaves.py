"""The gradient of a Tensor, as an attribute that takes nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from . import _C, recording
from .arguments import shown

if TYPE_CHECKING:
    from .tensor import Tensor

    class Gradient:
        def __get__(self, leaf: Tensor, owner: Any = None) -> Tensor | None: ...
        def __set__(self, leaf: Tensor, value: Tensor | None) -> None: ...


def _get(leaf: Tensor) -> Tensor | None:
    if recording.under_way:
        recording.read_leaf(leaf)
    return leaf._grad


def _set(leaf: Tensor, value: Tensor | None) -> None:
    """Refused here, at the line that is wrong: backward() would add what broadcasts, and fail on the rest, somewhere else."""
    if value is not None:
        if not isinstance(getattr(value, "_array", None), _C.Array):
            raise TypeError(f"grad must be a Tensor or None, got {shown(value)}; fastnn.tensor(values) makes one")
        if value.shape != leaf.shape:
            raise ValueError(f"grad has shape {value.shape}; expected {leaf.shape}, that of its tensor")
        if value.dtype != leaf.dtype:
            raise TypeError(f"grad has dtype {value.dtype}; expected {leaf.dtype}, that of its tensor")
    if recording.under_way:
        recording.see_leaf(leaf)
    leaf._grad = value


grad = cast("Gradient", property(_get, _set, doc="The gradient: a Tensor, or None before the first backward."))
