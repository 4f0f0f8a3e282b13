"""A convolution as inference runs it: residual and activation in its epilogue, and nothing kept for backward. Errors call it as the user does."""

from __future__ import annotations

from .. import _C
from ..tensor import Tensor
from .cast import like
from .conv2d import Padding, Pair, arguments_of, geometry
from .refusals import explained


@explained
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int | Pair = 1,
    padding: Padding = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    residual: Tensor | None = None,
    activation: str = "none",
    weights_stay: bool = False,
) -> Tensor:
    """activation(conv2d(x, weight, bias, ...) + residual), without gradients: "silu" and "gelu" too are done while the result is written.

    weights_stay: the same come in later calls, which a recording keeps packed; what packs them at a high price pays then."""
    plan = geometry(x.shape, weight.shape, arguments_of(weight, stride, padding, dilation, groups), activation, weights_stay)
    arrays = (x._array, like(x._array, weight._array), None if bias is None else bias._array)
    return Tensor(_C.conv2d_forward(plan, *arrays) if residual is None else _C.conv2d_add_forward(plan, *arrays, residual._array))
