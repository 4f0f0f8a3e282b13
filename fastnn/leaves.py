"""The gradient of a Tensor, as an attribute that takes nothing else."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from . import _C, recording
from .arguments import flag, shown
from .warned import warn

if TYPE_CHECKING:
    from .tensor import Tensor

    class Gradient:
        def __get__(self, leaf: Tensor, owner: Any = None) -> Tensor | None: ...
        def __set__(self, leaf: Tensor, value: Tensor | None) -> None: ...


def _get(leaf: Tensor) -> Tensor | None:
    if recording.under_way:
        recording.read_leaf(leaf)
    if leaf._grad is None and leaf._op is not None:
        warn(
            f"grad of a Tensor of shape {leaf.shape} that an operation made is None: only leaves keep one; x = x.detach() and "
            "x.requires_grad = True, before it is used, make it a leaf"
        )
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


def checked(tensor: Any) -> None:
    """Lets `requires_grad` take what can be: whether gradients are wanted, of numbers that have some. The slot stays as `_wants`, which is as
    quick as it was."""
    tensor._wants = vars(tensor)["requires_grad"]

    def wants(leaf: Tensor, value: Any) -> None:
        if flag("Tensor", "requires_grad", value) and leaf.dtype not in ("float32", "float64"):
            raise TypeError(f"requires_grad: only float32 and float64 tensors can require a gradient, this one is {leaf.dtype}")
        leaf._wants = bool(value)

    tensor.requires_grad = property(attrgetter("_wants"), wants, doc="Whether backward() gives it a gradient.")


grad = cast("Gradient", property(_get, _set, doc="The gradient: a Tensor, or None before the first backward."))
