"""What multiplies: convolutions in three directions, and the products of linear layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np
import torch
import torch.nn.functional as F

from fastnn import _C

from . import device
from .case import LAYOUTS, Case, Sides, ours, random, theirs
from .layers import ConvLayer, LinearLayer
from .timing import Call

FEW_CHANNELS = 16  # up to which memory may be the bound


def convolutions(layer: ConvLayer, judged: bool) -> Iterator[Case]:
    moved = device.current.item_size * sum(map(prod, (layer.x, layer.w, layer.y))) if layer.w[1] <= FEW_CHANNELS else 0
    yield Case("conv2d_forward", layer.name, lambda: conv2d_forward(layer), layer.flop, moved, judged)
    if not layer.first:
        yield Case("conv2d_backward_input", layer.name, lambda: conv2d_backward(layer, "input"), layer.flop, moved, judged)
    yield Case("conv2d_backward_weight", layer.name, lambda: conv2d_backward(layer, "weight"), layer.flop, moved, judged)


def geometry(layer: ConvLayer) -> _C.Conv2d:
    return _C.Conv2d(layer.x, layer.w, layer.stride, layer.padding, layer.padding)


def weights(layer: ConvLayer) -> np.ndarray:
    values: np.ndarray = random(*layer.w) / prod(layer.w[1:]) ** 0.5
    return values


def conv2d_forward(layer: ConvLayer) -> Sides:
    conv, x, w = geometry(layer), random(*layer.x), weights(layer)
    b = random(layer.w[0]) if layer.bias else None
    operands = ours(x), ours(w), None if b is None else ours(b, real=True)

    def form(layout: str) -> Call:
        tx, tw, tb = theirs(x, layout), theirs(w, layout), None if b is None else theirs(b)
        return lambda: F.conv2d(tx, tw, tb, layer.stride, layer.padding)

    return lambda: _C.conv2d_forward(conv, *operands), {layout: form(layout) for layout in LAYOUTS}


def conv2d_backward(layer: ConvLayer, wanted: str) -> Sides:
    conv, x, w, dy = geometry(layer), random(*layer.x), weights(layer), random(*layer.y)
    mask = [wanted == "input", wanted == "weight", False]

    def form(layout: str) -> Call:
        operands = theirs(dy, layout), theirs(x, layout), theirs(w, layout)
        backward = torch.ops.aten.convolution_backward
        return lambda: backward(*operands, None, layer.stride, layer.padding, (1, 1), False, (0, 0), 1, mask)[mask.index(True)]

    a, b, c = ours(x), ours(w), ours(dy)
    call = (lambda: _C.conv2d_backward_input(conv, c, b)) if wanted == "input" else (lambda: _C.conv2d_backward_weight(conv, a, c))
    return call, {layout: form(layout) for layout in LAYOUTS}


def linears(layer: LinearLayer) -> Iterator[Case]:
    """y = x w^T + b, dx = dy w, dw = dy^T x."""
    m, k, n = layer.rows, layer.inputs, layer.outputs
    yield Case("matmul", f"{layer.name} forward", lambda: matmul((m, k), (n, k), False, True, bias=n), layer.flop)
    yield Case("matmul", f"{layer.name} input", lambda: matmul((m, n), (n, k), False, False), layer.flop)
    yield Case("matmul", f"{layer.name} weight", lambda: matmul((m, n), (m, k), True, False), layer.flop)


def matmul(a_shape: tuple[int, int], b_shape: tuple[int, int], transpose_a: bool, transpose_b: bool, bias: int = 0) -> Sides:
    a, b = random(*a_shape), random(*b_shape, seed=1)
    c = random(bias) if bias else None
    product, operands = _C.MatMul(a_shape, b_shape, transpose_a, transpose_b), (ours(a), ours(b), None if c is None else ours(c, real=True))
    ta, tb = (theirs(v).T if transposed else theirs(v) for v, transposed in ((a, transpose_a), (b, transpose_b)))
    tc = None if c is None else theirs(c)
    torch_call: Callable[[], torch.Tensor] = (lambda: ta @ tb) if tc is None else (lambda: torch.addmm(tc, ta, tb))
    return lambda: _C.matmul(product, *operands), {"torch": torch_call}
