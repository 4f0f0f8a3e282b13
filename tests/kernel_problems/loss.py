"""Losses."""

from __future__ import annotations

import itertools

import numpy as np
import reference
from numpy.random import Generator

from .problem import Array, Problem, Shape, Sketch, case, held, largest, normal

LOG_SUM = 16  # roundings: of a sum of exponentials and of its logarithm


def _labels(random: Generator, shape: Shape, ignore_index: int) -> Array:
    labels = random.integers(0, shape[1], shape[0])
    labels[::5] = np.where(random.random(len(labels[::5])) < 0.5, ignore_index, labels[::5])
    return labels


def cross_entropy_forward(
    random: Generator,
    shape: Shape,
    smoothing: float,
    ignore_index: int,
    reduction: str,
    weighted: bool = False,
    scale: float = 3.0,
) -> Problem:
    logits, labels = (
        (scale * normal(random, shape)).astype(np.float32).astype(np.float64),
        _labels(random, shape, ignore_index),
    )
    weight = (random.random(shape[1]) + 0.5).astype(np.float32).astype(np.float64) if weighted else None
    loss, top, log_sum, divisor = reference.cross_entropy_forward(logits, labels, weight, smoothing, ignore_index, reduction)
    each = 8 * (largest(logits) + np.log(shape[1]) + 1) * (1.5 if weighted else 1)
    total = {"none": each, "sum": each * shape[0], "mean": each * shape[0] * 1.5 / max(float(divisor), 1)}[reduction]
    return Problem([logits, labels, weight], [loss, top, log_sum, divisor], [total, 0, LOG_SUM, 2 * shape[0]])


def cross_entropy_backward(
    random: Generator,
    shape: Shape,
    smoothing: float,
    ignore_index: int,
    reduction: str,
    weighted: bool = False,
    scale: float = 3.0,
) -> Problem:
    forward = cross_entropy_forward(random, shape, smoothing, ignore_index, reduction, weighted, scale)
    logits, labels, weight = forward.operands
    _, top, log_sum, divisor = forward.expected
    dloss = normal(random, shape[:1] if reduction == "none" else ())
    dx = reference.cross_entropy_backward(logits, labels, weight, divisor, dloss, smoothing, ignore_index, reduction)
    return Problem([logits, labels, weight, top, log_sum, divisor, dloss], [dx], 40 * largest(dloss) / max(float(divisor), 0.5))


def soft_cross_entropy_forward(
    random: Generator, shape: Shape, smoothing: float, reduction: str, weighted: bool = False, scale: float = 3.0
) -> Problem:
    logits, weight = held(scale * normal(random, shape)), held(random.random(shape[1]) + 0.5) if weighted else None
    target = random.random(shape) * (random.random(shape) < 0.7)  # some classes are impossible
    target = held(target / np.maximum(target.sum(axis=1, keepdims=True), 0.1))
    loss, top, log_sum = reference.soft_cross_entropy_forward(logits, target, weight, smoothing, reduction)
    each = 12 * (largest(logits) + np.log(shape[1]) + 1) * (1.5 if weighted else 1)
    return Problem([logits, target, weight], [loss, top, log_sum], [each * (shape[0] if reduction == "sum" else 1), 0, LOG_SUM])


def soft_cross_entropy_backward(
    random: Generator, shape: Shape, smoothing: float, reduction: str, weighted: bool = False, scale: float = 3.0
) -> Problem:
    forward = soft_cross_entropy_forward(random, shape, smoothing, reduction, weighted, scale)
    logits, target, weight = forward.operands
    _, top, log_sum = forward.expected
    dloss = normal(random, shape[:1] if reduction == "none" else ())
    dx = reference.soft_cross_entropy_backward(logits, target, weight, dloss, smoothing, reduction)
    tolerance = 60 * largest(dloss) / (max(shape[0], 1) if reduction == "mean" else 1)
    return Problem([logits, target, weight, top, log_sum, dloss], [dx], tolerance)


def nll_forward(random: Generator, shape: Shape, smoothing: float, ignore_index: int, reduction: str, weighted: bool = False) -> Problem:
    log_p, labels = -np.abs(normal(random, shape)), _labels(random, shape, ignore_index)
    weight = held(random.random(shape[1]) + 0.5) if weighted else None
    loss, divisor = reference.nll_forward(log_p, labels, weight, ignore_index, reduction)
    total = {"none": 2.0, "sum": 4.0 * shape[0], "mean": 8.0}[reduction] * (largest(log_p) + 1)
    return Problem([log_p, labels, weight], [loss, divisor], [total, 2 * shape[0]])


def nll_backward(random: Generator, shape: Shape, smoothing: float, ignore_index: int, reduction: str, weighted: bool = False) -> Problem:
    forward = nll_forward(random, shape, smoothing, ignore_index, reduction, weighted)
    log_p, labels, weight = forward.operands
    divisor = forward.expected[1]
    dloss = normal(random, shape[:1] if reduction == "none" else ())
    dx = reference.nll_backward(log_p, labels, weight, divisor, dloss, ignore_index, reduction)
    return Problem([log_p, labels, weight, divisor, dloss], [dx], 4 * largest(dloss) / max(float(divisor), 0.5))


def multi_margin_forward(
    random: Generator, shape: Shape, p: int, margin: float, scale: float, reduction: str, weighted: bool = False
) -> Problem:
    scores, labels = normal(random, shape), random.integers(0, shape[1], shape[0])
    weight = held(random.random(shape[1]) + 0.5) if weighted else None
    loss = reference.multi_margin_forward(scores, labels, weight, p, margin, scale, reduction)
    each = 4 * scale * shape[1] * (2 * largest(scores) + abs(margin)) ** p * 1.5
    return Problem([scores, labels, weight], [loss], each * (shape[0] if reduction == "sum" else 1))


def multi_margin_backward(
    random: Generator, shape: Shape, p: int, margin: float, scale: float, reduction: str, weighted: bool = False
) -> Problem:
    scores, labels, weight = multi_margin_forward(random, shape, p, margin, scale, reduction, weighted).operands
    dloss = normal(random, shape[:1] if reduction == "none" else ())
    dx = reference.multi_margin_backward(scores, labels, weight, dloss, p, margin, scale, reduction)
    roundings = 8 + shape[1] / 64  # the label's sum is of equal terms: they may all round the same way
    tolerance = roundings * shape[1] * scale * largest(dloss) * (2 * largest(scores) + abs(margin)) ** (p - 1)
    return Problem([scores, labels, weight, dloss], [dx], tolerance / (max(shape[0], 1) if reduction == "mean" else 1))


# --- of elements

MSE, L1, SMOOTH_L1, HUBER = (np.inf, 1.0, 1.0), (0.0, 0.0, 1.0), (0.5, 1.0, 1.0), (2.0, 0.5, 2.0)  # width, curve, slope


def element_loss_forward(random: Generator, shape: Shape, width: float, curve: float, slope: float, reduction: str) -> Problem:
    x, target = normal(random, shape), normal(random, shape)
    target = np.where(random.random(shape) < 0.1, x, target)  # no difference: where L1 has its kink
    loss = reference.element_loss_forward(x, target, width, curve, slope, reduction)
    each = 4 * (largest(x - target) + 1) ** 2
    return Problem([x, target], [loss], each * (x.size if reduction == "sum" else 1))


def element_loss_backward(random: Generator, shape: Shape, width: float, curve: float, slope: float, reduction: str) -> Problem:
    x, target = element_loss_forward(random, shape, width, curve, slope, reduction).operands
    dloss = normal(random, shape if reduction == "none" else ())
    dx = reference.element_loss_backward(x, target, dloss, width, curve, slope, reduction)
    tolerance = 8 * largest(dloss) * (largest(x - target) + 1) / (max(x.size, 1) if reduction == "mean" else 1)
    return Problem([x, target, dloss], [dx], tolerance)


def binary_cross_entropy_forward(random: Generator, shape: Shape, reduction: str, weighted: bool = False, scale: float = 4.0) -> Problem:
    x, target = held(scale * normal(random, shape)), held(random.random(shape))
    target = np.where(random.random(shape) < 0.5, np.round(target), target)
    weight, positive = (held(random.random(shape) + 0.5) if weighted else None for _ in range(2))
    loss = reference.binary_cross_entropy_forward(x, target, weight, positive, reduction)
    return Problem([x, target, weight, positive], [loss], 16 * (largest(x) + 1) * (x.size if reduction == "sum" else 1))


def binary_cross_entropy_backward(random: Generator, shape: Shape, reduction: str, weighted: bool = False, scale: float = 4.0) -> Problem:
    operands = binary_cross_entropy_forward(random, shape, reduction, weighted, scale).operands
    dloss = normal(random, shape if reduction == "none" else ())
    dx = reference.binary_cross_entropy_backward(*operands, dloss, reduction)
    return Problem([*operands, dloss], [dx], 24 * largest(dloss) / (max(dx.size, 1) if reduction == "mean" else 1))


# --- penalties on weights

WEIGHT_SHAPES: list[Shape] = [(3, 5), (8, 3, 3, 3), (17, 1), (0, 4)]


def _weights(random: Generator, count: int) -> list[Array]:
    weights = [normal(random, (70_001, 1) if i == 4 else WEIGHT_SHAPES[i % len(WEIGHT_SHAPES)]) for i in range(count)]
    return [np.where(np.abs(w) < 0.1, 0, w) for w in weights]


def penalty_forward(random: Generator, count: int, l1: float, l2: float) -> Problem:
    w = _weights(random, count)
    value = reference.penalty_forward(w, l1, l2)
    return Problem([w], [value], 8 * float(value))


def penalty_backward(random: Generator, count: int, l1: float, l2: float) -> Problem:
    w, dvalue = _weights(random, count), normal(random, ())
    g = reference.penalty_backward(w, dvalue, l1, l2)
    return Problem([w, dvalue, _weights(random, count)], [g], 4 * max((largest(a) for a in g), default=0.0))


def cases() -> list[Sketch]:
    cases = []
    for direction, shape, reduction in itertools.product(("forward", "backward"), [(6, 10), (1, 1), (700, 100)], ("none", "mean", "sum")):
        cases.append(case(f"cross_entropy_{direction}", shape, 0.0, -100, reduction))
        cases.append(case(f"cross_entropy_{direction}", shape, 0.1, 0, reduction, weighted=True))
        cases.append(case(f"soft_cross_entropy_{direction}", shape, 0.0, reduction))
        cases.append(case(f"soft_cross_entropy_{direction}", shape, 0.1, reduction, weighted=True))
        for p in (1, 2):
            cases.append(case(f"multi_margin_{direction}", shape, p, 1.0, 1.0, reduction, weighted=p == 2))
    for direction, shape, reduction in itertools.product(("forward", "backward"), [(6, 10), (1, 1), (9000, 3)], ("none", "mean", "sum")):
        cases.append(case(f"nll_{direction}", shape, 0.0, -100, reduction))
        cases.append(case(f"nll_{direction}", shape, 0.0, 0, reduction, weighted=True))
    for direction in ("forward", "backward"):
        cases += [
            case(f"soft_cross_entropy_{direction}", (3, 1500), 0.1, "mean"),
            case(f"multi_margin_{direction}", (3, 1500), 1, 0.5, 0.1, "sum"),
            case(f"multi_margin_{direction}", (64, 1000), 1, 0.5, 0.1, "mean", weighted=True),
        ]
        for shape, reduction in itertools.product([(), (17,), (2, 3, 5, 7), (3, 40_003)], ("none", "mean", "sum")):
            cases += [case(f"element_loss_{direction}", shape, *kind, reduction) for kind in (MSE, SMOOTH_L1)]
            cases += [case(f"binary_cross_entropy_{direction}", shape, reduction, weighted=weighted) for weighted in (False, True)]
        cases += [case(f"element_loss_{direction}", (33, 5), *kind, "sum") for kind in (L1, HUBER)]
        cases += [
            case(f"penalty_{direction}", count, *factors) for count in (0, 1, 5, 172) for factors in ((0.0, 0.5), (0.25, 0.0), (0.1, 0.3))
        ]
    return cases
