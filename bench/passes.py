"""What only moves memory: normalisation, activation, pooling, dropout, loss, optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fastnn import _C

from . import device
from .case import LAYOUTS, Case, Sides, ours, random, theirs
from .more_passes import more_passes
from .timing import Call

Shape = tuple[int, int, int, int]
# MiB in float32
MAPS: dict[str, Shape] = {"8 MiB": (128, 16, 32, 32), "12 MiB": (16, 64, 56, 56), "64 MiB": (256, 64, 32, 32)}
GPU_MAPS: dict[str, Shape] = {"256 MiB": (256, 256, 32, 32)}
LOGITS = {"128 x 10": (128, 10), "16 x 1000": (16, 1000), "64 MiB": (16384, 1024)}
PARAMETERS = {"resnet20's": [(16, 16, 3, 3)] * 6 + [(32, 32, 3, 3)] * 6 + [(64, 64, 3, 3)] * 6, "64 MiB": [(512, 512, 4, 4)] * 4}
aten: Any = torch.ops.aten


def all_passes() -> Iterator[Case]:
    """On a GPU, those that are large enough to be judged against a copy are."""
    maps = MAPS | GPU_MAPS if device.current.is_gpu else MAPS
    for case in (*passes(maps, device.current.item_size), *more_passes(maps, device.current.item_size)):
        yield replace(case, judged=device.current.is_gpu and case.nbytes >= 2**27)


def passes(maps: dict[str, Shape], item_size: int) -> Iterator[Case]:
    for name, shape in maps.items():
        x = item_size * prod(shape)
        pooled = x + x // 4 + prod(shape) // 4
        for residual, what in ((False, "BN + ReLU"), (True, "BN + add + ReLU")):
            title = f"{name} {what}"
            yield Case("batchnorm_forward", title, bind(batchnorm_forward, shape, residual), nbytes=(3 + residual) * x)
            yield Case("batchnorm_backward", title, bind(batchnorm_backward, shape, residual), nbytes=(5 + 3 * residual) * x)
        yield Case("relu_forward", name, bind(relu_forward, shape), nbytes=2 * x)
        yield Case("relu_backward", name, bind(relu_backward, shape), nbytes=3 * x)
        yield Case("maxpool2d_forward", f"{name} 2x2", bind(maxpool_forward, shape), nbytes=pooled)
        yield Case("maxpool2d_backward", f"{name} 2x2", bind(maxpool_backward, shape), nbytes=pooled)
        yield Case("dropout", name, bind(dropout, shape), nbytes=2 * x, comparable=False)
    for name, logits in LOGITS.items():
        yield Case("cross_entropy_forward", name, bind(cross_entropy_forward, logits), nbytes=item_size * prod(logits))
        yield Case("cross_entropy_backward", name, bind(cross_entropy_backward, logits), nbytes=2 * item_size * prod(logits))
    for name, shapes in PARAMETERS.items():
        w = 4 * sum(map(prod, shapes))
        yield Case("sgd_step", f"{name} momentum", bind(sgd_step, shapes), nbytes=5 * w)
        yield Case("adam_step", name, bind(adam_step, shapes), nbytes=7 * w)


def bind(make: Callable[..., Sides], *arguments: Any) -> Callable[[], Sides]:
    return lambda: make(*arguments)


def by_layout(form: Callable[[str], Call]) -> dict[str, Call]:
    return {layout: form(layout) for layout in LAYOUTS}


# --- batch normalisation with what follows it


def batchnorm_operands(shape: Shape) -> list[np.ndarray]:
    """x, dy, residual, gamma, beta."""
    return [random(*shape, seed=i) for i in range(3)] + [1 + 0.1 * random(shape[1]), 0.1 * random(shape[1], seed=1)]


def batchnorm_forward(shape: Shape, residual: bool) -> Sides:
    x, _, r, gamma, beta = batchnorm_operands(shape)
    norm = _C.BatchNorm(shape, activation="relu", residual=residual)
    ax, ag, ab, ar = ours(x), ours(gamma, real=True), ours(beta, real=True), ours(r) if residual else None
    running = [ours(np.zeros_like(beta), real=True), ours(np.ones_like(beta), real=True)]

    def form(layout: str) -> Call:
        tx, tr, tg, tb = theirs(x, layout), theirs(r, layout), theirs(gamma, real=True), theirs(beta, real=True)
        moving = [torch.zeros_like(tb), torch.ones_like(tb)]

        def call() -> torch.Tensor:
            y = aten.native_batch_norm(tx, tg, tb, *moving, True, 0.1, 1e-5)[0]
            return (y.add_(tr) if residual else y).relu_()  # type: ignore[no-any-return]

        return call

    return lambda: _C.batchnorm_forward(norm, ax, ag, ab, ar, *running), by_layout(form)


def batchnorm_backward(shape: Shape, residual: bool) -> Sides:
    x, dy, r, gamma, beta = batchnorm_operands(shape)
    norm = _C.BatchNorm(shape, activation="relu", residual=residual)
    ax, ady, ag, ab, ar = ours(x), ours(dy), ours(gamma, real=True), ours(beta, real=True), ours(r) if residual else None
    _, mean, rstd = _C.batchnorm_forward(norm, ax, ag, ab, ar, None, None)

    def form(layout: str) -> Call:
        tx, tdy, tr, tg, tb = theirs(x, layout), theirs(dy, layout), theirs(r, layout), theirs(gamma, real=True), theirs(beta, real=True)
        y, tmean, trstd = aten.native_batch_norm(tx, tg, tb, None, None, True, 0.1, 1e-5)
        y = torch.relu(y + tr if residual else y)

        def call() -> tuple[torch.Tensor, ...]:
            g = aten.threshold_backward(tdy, y, 0)
            return aten.native_batch_norm_backward(g, tx, tg, None, None, tmean, trstd, True, 1e-5, [True] * 3)  # type: ignore[no-any-return]

        return call

    return lambda: _C.batchnorm_backward(norm, ax, ady, ag, ab, ar, mean, rstd), by_layout(form)


# --- activation, pooling, dropout


def relu_forward(shape: Shape) -> Sides:
    x, plan = random(*shape), _C.Elements(shape)
    ax, tx = ours(x), theirs(x)
    return lambda: _C.relu_forward(plan, ax), {"torch": lambda: torch.relu(tx)}


def relu_backward(shape: Shape) -> Sides:
    y, dy, plan = np.maximum(random(*shape), 0), random(*shape, seed=1), _C.Elements(shape)
    a, b, ty, tdy = ours(y), ours(dy), theirs(y), theirs(dy)
    return lambda: _C.relu_backward(plan, a, b), {"torch": lambda: aten.threshold_backward(tdy, ty, 0)}


def maxpool_forward(shape: Shape) -> Sides:
    x, pool = random(*shape), _C.Pool2d(shape, (2, 2), (2, 2))
    ax = ours(x)

    def form(layout: str) -> Call:
        tx = theirs(x, layout)
        return lambda: aten.max_pool2d_with_indices(tx, [2, 2])

    return lambda: _C.maxpool2d_forward(pool, ax), by_layout(form)


def maxpool_backward(shape: Shape) -> Sides:
    x, pool = random(*shape), _C.Pool2d(shape, (2, 2), (2, 2))
    dy = random(*pool.y_shape)
    index, ady = _C.maxpool2d_forward(pool, ours(x))[1], ours(dy)

    def form(layout: str) -> Call:
        tx, tdy = theirs(x, layout), theirs(dy, layout)
        indices = aten.max_pool2d_with_indices(tx, [2, 2])[1]
        return lambda: aten.max_pool2d_with_indices_backward(tdy, tx, [2, 2], [2, 2], [0, 0], [1, 1], False, indices)

    return lambda: _C.maxpool2d_backward(pool, index, ady), by_layout(form)


def dropout(shape: Shape) -> Sides:
    x, plan, state = random(*shape), _C.Dropout(shape, 0.5), ours(np.zeros(2, np.int64))
    ax, tx = ours(x), theirs(x)
    return lambda: _C.dropout(plan, ax, state), {"torch": lambda: torch.native_dropout(tx, 0.5, True)}


# --- loss


def cross_entropy_forward(shape: tuple[int, int]) -> Sides:
    z, t, plan = random(*shape), np.random.default_rng(0).integers(0, shape[1], shape[0]), _C.CrossEntropy(shape)
    az, at, tz, tt = ours(z), ours(t), theirs(z), theirs(t)
    return lambda: _C.cross_entropy_forward(plan, az, at, None), {"torch": lambda: F.cross_entropy(tz, tt)}


def cross_entropy_backward(shape: tuple[int, int]) -> Sides:
    z, t, plan = random(*shape), np.random.default_rng(0).integers(0, shape[1], shape[0]), _C.CrossEntropy(shape)
    az, at, tt, one = ours(z), ours(t), theirs(t), ours(np.ones((), np.float32), real=True)
    _, top, log_sum, divisor = _C.cross_entropy_forward(plan, az, at, None)
    log_p = torch.log_softmax(theirs(z), 1)
    one_each, total = theirs(np.ones((), np.float32)), theirs(np.array(shape[0], np.float32))

    def call() -> torch.Tensor:
        g = aten.nll_loss_backward(one_each, log_p, tt, None, 1, -100, total)
        return aten._log_softmax_backward_data(g, log_p, 1, log_p.dtype)  # type: ignore[no-any-return]

    return lambda: _C.cross_entropy_backward(plan, az, at, None, top, log_sum, divisor, one), {"torch": call}


# --- optimizers: all parameters in one call on both sides; the first parameter is compared after equally many steps


def masters(values: list[np.ndarray]) -> list[_C.Array]:
    """Parameters and what belongs to them are float32 whatever the storage type."""
    return [ours(v, real=True) for v in values]


def sgd_step(shapes: list[Shape]) -> Sides:
    values, gradients = [random(*s) for s in shapes], [random(*s, seed=1) for s in shapes]
    zeros = [np.zeros_like(a) for a in values]
    w, g, v = masters(values), masters(gradients), masters(zeros)
    group, rates, plan = ours(np.zeros(len(w), np.int64)), ours(np.array([[1e-3, 0, 0.9, 0, 0, 1]])), _C.SGD(len(w), 1)
    t = ours(np.full(len(w), 2))

    def call() -> list[_C.Array]:
        _C.sgd_step(plan, w, g, v, group, rates, t, None)
        return w

    return call, torch_optimizer(values, gradients, lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9, fused=True))


def adam_step(shapes: list[Shape]) -> Sides:
    values, gradients = [random(*s) for s in shapes], [random(*s, seed=1) for s in shapes]
    zeros = [np.zeros_like(a) for a in values]
    w, g, m, v = masters(values), masters(gradients), masters(zeros), masters(zeros)
    group, rates, plan = ours(np.zeros(len(w), np.int64)), ours(np.array([[1e-3, 0, 0.9, 0.999, 1e-8, 0, 0, 1]])), _C.Adam(len(w), 1)
    numbers = [ours(np.full(len(w), t)) for t in range(1, 65)]  # the first steps' numbers; later steps repeat the last, which costs as much
    step = 0

    def call() -> list[_C.Array]:
        nonlocal step
        _C.adam_step(plan, w, g, m, v, v, group, rates, numbers[min(step, 63)], None)
        step += 1
        return w

    return call, torch_optimizer(values, gradients, lambda p: torch.optim.Adam(p, 1e-3, fused=True))


def torch_optimizer(
    values: list[np.ndarray], gradients: list[np.ndarray], make: Callable[[list[torch.Tensor]], torch.optim.Optimizer]
) -> dict[str, Call]:
    parameters = [theirs(v, real=True).requires_grad_() for v in values]
    for p, g in zip(parameters, gradients):
        p.grad = theirs(g, real=True)
    optimizer = make(parameters)

    def call() -> list[torch.Tensor]:
        optimizer.step()
        return parameters

    return {"torch": call}
