"""Losses."""

from __future__ import annotations

import itertools

import numpy as np
import reference
from numpy.random import Generator

from .problem import Array, Problem, Shape, Sketch, case, largest, normal


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
    loss, lse, divisor = reference.cross_entropy_forward(logits, labels, weight, smoothing, ignore_index, reduction)
    each = 8 * (largest(logits) + np.log(shape[1]) + 1) * (1.5 if weighted else 1)
    total = {"none": each, "sum": each * shape[0], "mean": each * shape[0] * 1.5 / max(float(divisor), 1)}[reduction]
    return Problem([logits, labels, weight], [loss, lse, divisor], [total, each, 2 * shape[0]])


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
    _, lse, divisor = forward.expected
    dloss = normal(random, shape[:1] if reduction == "none" else ())
    dx = reference.cross_entropy_backward(logits, labels, weight, divisor, dloss, smoothing, ignore_index, reduction)
    tolerance = 2 * (2 * largest(logits) + np.log(shape[1]) + 8) * largest(dloss) / max(float(divisor), 0.5)
    return Problem([logits, labels, weight, lse, divisor, dloss], [dx], tolerance)


def cases() -> list[Sketch]:
    cases = []
    for direction, shape, reduction in itertools.product(("forward", "backward"), [(6, 10), (1, 1), (700, 100)], ("none", "mean", "sum")):
        cases.append(case(f"cross_entropy_{direction}", shape, 0.0, -100, reduction))
        cases.append(case(f"cross_entropy_{direction}", shape, 0.1, 0, reduction, weighted=True))
    return cases
