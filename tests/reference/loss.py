"""Losses."""

from __future__ import annotations

import numpy as np

from .memory import Array


def _log_softmax(logits: Array) -> tuple[Array, Array]:
    highest = logits.max(axis=1)
    lse = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return logits - lse[:, None], lse


def _targets(logits: Array, labels: Array, weight: Array | None, smoothing: float, ignore_index: int) -> tuple[Array, Array]:
    """How much -log p[n, c] counts in the loss, and the weight of each sample in the mean; both 0 for ignored samples."""
    N, C = logits.shape
    weight = np.ones(C) if weight is None else weight
    targets, sample_weight = np.zeros((N, C)), np.zeros(N)
    for n, label in enumerate(labels):
        if label != ignore_index:
            targets[n] = smoothing / C * weight
            targets[n, label] += (1 - smoothing) * weight[label]
            sample_weight[n] = weight[label]
    return targets, sample_weight


def cross_entropy_forward(
    logits: Array, labels: Array, weight: Array | None, smoothing: float, ignore_index: int, reduction: str
) -> tuple[Array, Array, Array]:
    targets, sample_weight = _targets(logits, labels, weight, smoothing, ignore_index)
    log_p, lse = _log_softmax(logits)
    losses = -np.where(targets == 0, 0, targets * log_p).sum(axis=1)
    divisor = sample_weight.sum() if reduction == "mean" else np.float64(1)
    return losses if reduction == "none" else losses.sum() / divisor, lse, divisor


def cross_entropy_backward(
    logits: Array,
    labels: Array,
    weight: Array | None,
    divisor: Array,
    dloss: Array,
    smoothing: float,
    ignore_index: int,
    reduction: str,
) -> Array:
    targets, _ = _targets(logits, labels, weight, smoothing, ignore_index)
    p = np.exp(_log_softmax(logits)[0])
    dlosses = dloss[:, None] if reduction == "none" else dloss / divisor
    total = targets.sum(axis=1, keepdims=True)
    return np.where(total == 0, 0, dlosses * (p * total - targets))  # ignored samples: 0, whatever their logits and the divisor
