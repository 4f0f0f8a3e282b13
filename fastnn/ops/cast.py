"""From float32 to bfloat16 and back: activations of mixed training are narrow, weights and sums are not."""

from __future__ import annotations

from .. import _C
from ..arguments import text
from ..tensor import Array, Op, Tensor, apply
from .activation import elements

DTYPES = ("float32", "bfloat16")


def converted(x: Array, dtype: str) -> Array:
    """x itself where it has that dtype."""
    if x.dtype == dtype:
        return x
    return (_C.to_bfloat16 if dtype == "bfloat16" else _C.to_float32)(elements(x.shape), x)


def widened(x: Array) -> Array:
    """bfloat16 as float32, where an operation has steps in between: 8 bits lose a difference from a mean. Others as they are."""
    return converted(x, "float32") if x.dtype == "bfloat16" else x


class Cast(Op):
    __slots__ = ("dtype", "before")

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def forward(self, x: Array) -> Array:
        self.before = x.dtype
        return converted(x, self.dtype)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (converted(dy, self.before),)


def cast(x: Tensor, dtype: str) -> Tensor:
    """The same numbers as "float32" or "bfloat16" (the upper half of a float32: 8 bits of mantissa, to the nearest, ties to even).

    x: float32 or bfloat16; itself where it has that dtype already. The gradient comes back in x's dtype. ValueError for another dtype.
    """
    if x.dtype == dtype:
        return x
    if dtype not in DTYPES or x.dtype not in DTYPES:
        text("cast", "dtype", dtype, "(float32 or bfloat16)")
        raise ValueError(f"cast: from {x.dtype} to {dtype!r}; expected float32 and bfloat16")
    return apply(Cast(dtype), x)


def like(x: Array, weight: Array) -> Array:
    """`beside` within an operation whose kernels give the weight's gradient in float32."""
    return converted(weight, "bfloat16") if x.dtype == "bfloat16" and weight.dtype == "float32" else weight


def beside(x: Tensor, weight: Tensor) -> Tensor:
    """A float32 weight as its products with x need it: in bfloat16 where x is. The weight itself, and its gradient, stay float32."""
    return cast(weight, "bfloat16") if x.dtype == "bfloat16" and weight.dtype == "float32" else weight
