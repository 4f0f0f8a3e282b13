"""Softmax cross-entropy, fused with its gradient."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .. import _C
from ..tensor import Array, Op, Tensor, apply

geometry = lru_cache(1024)(_C.CrossEntropy)


class CrossEntropy(Op):
    __slots__ = ("labels", "weight", "arguments", "plan")

    def __init__(self, labels: Array, weight: Array | None, *arguments: object) -> None:
        self.labels, self.weight, self.arguments = labels, weight, arguments  # smoothing, ignore_index, reduction

    def forward(self, logits: Array) -> Array:
        self.plan = geometry(logits.shape, *self.arguments)
        loss, lse, divisor = _C.cross_entropy_forward(self.plan, logits, self.labels, self.weight)
        self.save(logits, self.labels, self.weight, lse, divisor)
        return loss

    def backward(self, dloss: Array) -> tuple[Array | None, ...]:
        logits, labels, weight, lse, divisor = self.saved
        return (_C.cross_entropy_backward(self.plan, logits, labels, weight, lse, divisor, dloss),)


def checked_labels(labels: Any, count: int, classes: int, ignore_index: int, device: str) -> Array:
    """Class labels as an int64 array on `device`: `count` of them, each in [0, classes) or ignore_index."""
    values = labels.numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers, got dtype {values.dtype}; class numbers are expected, not scores")
    if values.shape != (count,):
        raise ValueError(f"cross_entropy: labels have shape {values.shape}; expected ({count},), one per row of the logits")
    wrong = (values < 0) | (values >= classes)
    if wrong.any():
        wrong &= values != ignore_index
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ValueError(f"cross_entropy: label {values[at]} of sample {at} lies outside of [0, {classes}), the classes of the logits")
    if isinstance(labels, Tensor) and labels.dtype == "int64" and labels.device == device:
        return labels._array
    return _C.from_numpy(values.astype(np.int64), device)


def cross_entropy(
    logits: Tensor,
    labels: Any,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(logits)[label], computed with log-sum-exp; logits (N, C), integer labels (N).

    With smoothing e the target is (1 - e) onehot + e / C. `weight` (C) scales each class; "mean" divides by the sum of the weights of the
    labels that count. Samples with label `ignore_index` count nothing. reduction: "mean", "sum" or "none".
    Labels are looked at by the CPU, so that is where they are best left when the logits lie on a GPU.
    Raises TypeError for labels that are not integers, ValueError for wrong shapes or labels out of range. Never broadcasts.
    """
    if logits.ndim != 2:
        raise ValueError(f"cross_entropy: logits must have shape (N, C), got {logits.shape}")
    n, classes = logits.shape
    array = checked_labels(labels, n, classes, ignore_index, logits.device)
    if weight is not None and weight.requires_grad:
        raise ValueError("cross_entropy: weight is a constant of the loss; pass weight.detach()")
    op = CrossEntropy(array, None if weight is None else weight.to(logits.device)._array, label_smoothing, ignore_index, reduction)
    return apply(op, logits)
