"""What only moves memory, the rarer layers: average pooling, upsampling, layer and group normalisation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any

import torch

from fastnn import _C

from . import device
from .case import LAYOUTS, Case, Sides, ours, random, theirs
from .timing import Call

Shape = tuple[int, int, int, int]
aten: Any = torch.ops.aten


def more_passes(maps: dict[str, Shape], item_size: int) -> Iterator[Case]:
    for name, shape in maps.items():
        x = item_size * prod(shape)
        for row, make, moved in (
            ("avgpool2d_forward", averages, x + x // 4),
            ("avgpool2d_backward", averages_backward, x + x // 4),
            ("upsample2d_forward", upsamples, 5 * x),
            ("upsample2d_backward", upsamples_backward, 5 * x),
            ("layernorm_forward", layernorm, 2 * x),
            ("layernorm_backward", layernorm_backward, 3 * x),
            ("groupnorm_forward", groupnorm, 2 * x),
            ("groupnorm_backward", groupnorm_backward, 3 * x),
        ):
            yield Case(row, name, bind(make, shape), nbytes=moved)


def bind(make: Callable[[Shape], Sides], shape: Shape) -> Callable[[], Sides]:
    return lambda: make(shape)


def sides(mine: Call, form: Callable[[str], Call], layouts: Iterable[str] = LAYOUTS) -> Sides:
    return mine, {layout: form(layout) for layout in layouts}


def averages(shape: Shape) -> Sides:
    x, pool = random(*shape), _C.AvgPool2d(shape, (2, 2), (2, 2))
    ax = ours(x)

    def form(layout: str) -> Call:
        tx = theirs(x, layout)
        return lambda: aten.avg_pool2d(tx, [2, 2])

    return sides(lambda: _C.avgpool2d_forward(pool, ax), form)


def averages_backward(shape: Shape) -> Sides:
    pool = _C.AvgPool2d(shape, (2, 2), (2, 2))
    x, dy = random(*shape), random(*pool.y_shape)
    ady = ours(dy)

    def form(layout: str) -> Call:
        tx, tdy = theirs(x, layout), theirs(dy, layout)
        return lambda: aten.avg_pool2d_backward(tdy, tx, [2, 2], [2, 2], [0, 0], False, True, None)

    return sides(lambda: _C.avgpool2d_backward(pool, ady), form)


def upsamples(shape: Shape) -> Sides:
    size = (2 * shape[2], 2 * shape[3])
    x, plan = random(*shape), _C.Upsample2d(shape, size, True)
    ax = ours(x)

    def form(layout: str) -> Call:
        tx = theirs(x, layout)
        return lambda: aten.upsample_bilinear2d(tx, list(size), False)

    return sides(lambda: _C.upsample2d_forward(plan, ax), form)


def upsamples_backward(shape: Shape) -> Sides:
    size = (2 * shape[2], 2 * shape[3])
    dy, plan = random(*shape[:2], *size), _C.Upsample2d(shape, size, True)
    ady = ours(dy)

    def form(layout: str) -> Call:
        tdy = theirs(dy, layout)
        return lambda: aten.upsample_bilinear2d_backward(tdy, list(size), list(shape), False)

    return sides(lambda: _C.upsample2d_backward(plan, ady), form)


def layernorm(shape: Shape) -> Sides:
    """Of each pixel's channels: rows of C."""
    rows = (shape[0] * shape[2] * shape[3], shape[1])
    x, gamma, beta, plan = random(*rows), random(shape[1]), random(shape[1], seed=1), _C.LayerNorm(rows, 1)
    ax, ag, ab = ours(x), ours(gamma, real=True), ours(beta, real=True)
    tx, tg, tb = theirs(x), theirs(gamma, real=True), theirs(beta, real=True)
    return lambda: _C.layernorm_forward(plan, ax, ag, ab), {"torch": lambda: aten.native_layer_norm(tx, [shape[1]], tg, tb, 1e-5)}


def layernorm_backward(shape: Shape) -> Sides:
    rows = (shape[0] * shape[2] * shape[3], shape[1])
    x, dy, gamma, plan = random(*rows), random(*rows, seed=1), random(shape[1]), _C.LayerNorm(rows, 1)
    ax, ady, ag = ours(x), ours(dy), ours(gamma, real=True)
    _, mean, rstd = _C.layernorm_forward(plan, ax, ag, None)
    tx, tdy, tg = theirs(x), theirs(dy), theirs(gamma, real=True)
    _, tmean, trstd = aten.native_layer_norm(tx, [shape[1]], tg, tg, 1e-5)
    return lambda: _C.layernorm_backward(plan, ax, ady, ag, mean, rstd), {
        "torch": lambda: aten.native_layer_norm_backward(tdy, tx, [shape[1]], tmean, trstd, tg, tg, [True] * 3)
    }


def group_layouts() -> Iterable[str]:
    """aten's group_norm wants NCHW on a GPU."""
    return ("NCHW",) if device.current.is_gpu else LAYOUTS


def groupnorm(shape: Shape) -> Sides:
    x, gamma, beta, plan = random(*shape), random(shape[1]), random(shape[1], seed=1), _C.GroupNorm(shape, 4)
    ax, ag, ab = ours(x), ours(gamma, real=True), ours(beta, real=True)
    counts = shape[0], shape[1], shape[2] * shape[3], 4

    def form(layout: str) -> Call:
        tx, tg, tb = theirs(x, layout), theirs(gamma, real=True), theirs(beta, real=True)
        return lambda: aten.native_group_norm(tx, tg, tb, *counts, 1e-5)

    return sides(lambda: _C.groupnorm_forward(plan, ax, ag, ab), form, group_layouts())


def groupnorm_backward(shape: Shape) -> Sides:
    x, dy, gamma, plan = random(*shape), random(*shape, seed=1), random(shape[1]), _C.GroupNorm(shape, 4)
    ax, ady, ag = ours(x), ours(dy), ours(gamma, real=True)
    _, mean, rstd = _C.groupnorm_forward(plan, ax, ag, None)
    counts = shape[0], shape[1], shape[2] * shape[3], 4

    def form(layout: str) -> Call:
        tx, tdy, tg = theirs(x, layout), theirs(dy, layout), theirs(gamma, real=True)
        _, tmean, trstd = aten.native_group_norm(tx, tg, tg, *counts, 1e-5)
        return lambda: aten.native_group_norm_backward(tdy, tx, tmean, trstd, tg, *counts, [True] * 3)

    return sides(lambda: _C.groupnorm_backward(plan, ax, ady, ag, mean, rstd), form, group_layouts())
