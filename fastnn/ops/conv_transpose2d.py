"""Transposed convolution: the kernels of conv2d in other roles. Its forward is conv2d's gradient of x, and the other way round."""

from __future__ import annotations

from .. import _C
from ..tensor import Array, Op, Tensor, apply
from .cast import beside, converted, like
from .conv2d import Pair, geometry, pair
from .elementwise import binary
from .linear import channels
from .shape import reshape, zero_pad2d


class ConvTranspose2d(Op):
    __slots__ = ("y_shape", "arguments", "plan", "w_dtype")

    def __init__(self, y_shape: tuple[int, ...], *arguments: object) -> None:
        self.y_shape = y_shape
        self.arguments = arguments  # stride, pad_before, pad_after, dilation, groups

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.plan = geometry(self.y_shape, w.shape, self.arguments)  # of the convolution that leads from y to x
        self.w_dtype = w.dtype
        w = like(x, w)
        self.save(x, w)
        y = _C.conv2d_backward_input(self.plan, x, w)
        if b is None:
            return y
        return _C.add(binary(y.shape, (1, y.shape[1], 1, 1)), y, converted(b, y.dtype).view((1, y.shape[1], 1, 1)))

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, w = self.saved
        dx = _C.conv2d_forward(self.plan, dy, w, None) if self.needs[0] else None
        dw = converted(_C.conv2d_backward_weight(self.plan, dy, x), self.w_dtype) if self.needs[1] else None
        return dx, dw, _C.channel_sum(channels(dy.shape), dy) if self.needs[2] else None


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Tensor:
    """y[n, k, h stride - padding + r dilation, ...] += x[n,c,h,w] weight[c,k,r,s], plus bias[k]: conv2d's gradient of its input.

    x (N, C, H, W), weight (C, K/groups, R, S), bias (K) -> (N, K, P, Q), P = (H - 1) stride - 2 padding + dilation (R - 1) + output_padding + 1.
    output_padding (smaller than stride or dilation) tells apart the sizes P that a convolution of this stride maps to the same H.
    ValueError for shapes that do not fit, and unless groups divides C.
    """
    steps, pad, extra = pair(stride, "stride"), pair(padding, "padding"), pair(output_padding, "output_padding")
    spread = pair(dilation, "dilation")
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[0]:
        raise ValueError(
            f"conv_transpose2d: got input {x.shape} and weight {weight.shape}; expected (N, C, H, W) and (C, K / groups, R, S) of the same C"
        )
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"conv_transpose2d: groups = {groups} must divide the {weight.shape[0]} input channels of weight {weight.shape}")
    if bias is not None and bias.shape != (weight.shape[1] * groups,):
        raise ValueError(
            f"conv_transpose2d: bias has shape {bias.shape}; expected ({weight.shape[1] * groups},), one for each output channel"
        )
    if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, steps, spread)):
        raise ValueError(
            f"conv_transpose2d: output_padding {extra} must be smaller than stride {steps} or dilation {spread}, and not negative"
        )
    size = [(n - 1) * s - 2 * p + d * (r - 1) + e + 1 for n, s, p, d, r, e in zip(x.shape[2:], steps, pad, spread, weight.shape[2:], extra)]
    if min(size) < 1:
        raise ValueError(f"conv_transpose2d: padding {pad} leaves nothing of the output of input {x.shape}: {size[0]} x {size[1]}")
    k, behind = weight.shape[1] * groups, [p - e if e >= s else p for p, e, s in zip(pad, extra, steps)]
    if min(behind) >= 0:
        return apply(ConvTranspose2d((x.shape[0], k, *size), steps, pad, (behind[0], behind[1]), spread, groups), x, weight, bias)
    beyond = [max(-p, 0) for p in behind]  # rows and columns that no pixel of x reaches
    y_shape = (x.shape[0], k, size[0] - beyond[0], size[1] - beyond[1])
    after = (max(behind[0], 0), max(behind[1], 0))
    y = zero_pad2d(apply(ConvTranspose2d(y_shape, steps, pad, after, spread, groups), x, weight, None), (0, beyond[1], 0, beyond[0]))
    return y if bias is None else y + reshape(beside(y, bias), (1, k, 1, 1))
