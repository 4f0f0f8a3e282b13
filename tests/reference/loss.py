"""Losses."""

from __future__ import annotations

import numpy as np

from .memory import Array


def _log_softmax(logits: Array) -> tuple[Array, Array, Array]:
    """log p, and log-sum-exp in two parts: the largest logit and the rest."""
    top = logits.max(axis=1)
    log_sum = np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return (logits - top[:, None]) - log_sum[:, None], top, log_sum


def _reduced(losses: Array, divisor: float, reduction: str) -> Array:
    return losses if reduction == "none" else losses.sum() / (divisor if reduction == "mean" else 1)


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
) -> tuple[Array, Array, Array, Array]:
    targets, sample_weight = _targets(logits, labels, weight, smoothing, ignore_index)
    log_p, top, log_sum = _log_softmax(logits)
    losses = -np.where(targets == 0, 0, targets * log_p).sum(axis=1)
    divisor = sample_weight.sum() if reduction == "mean" else np.float64(1)
    return _reduced(losses, divisor, reduction), top, log_sum, divisor


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


def _soft_targets(target: Array, weight: Array | None, smoothing: float) -> Array:
    return (1 if weight is None else weight) * ((1 - smoothing) * target + smoothing / target.shape[1])


def soft_cross_entropy_forward(
    logits: Array, target: Array, weight: Array | None, smoothing: float, reduction: str
) -> tuple[Array, Array, Array]:
    q = _soft_targets(target, weight, smoothing)
    log_p, top, log_sum = _log_softmax(logits)
    return _reduced(-np.where(q == 0, 0, q * log_p).sum(axis=1), len(logits), reduction), top, log_sum


def soft_cross_entropy_backward(
    logits: Array, target: Array, weight: Array | None, dloss: Array, smoothing: float, reduction: str
) -> Array:
    q = _soft_targets(target, weight, smoothing)
    p = np.exp(_log_softmax(logits)[0])
    dlosses = dloss[:, None] if reduction == "none" else dloss / (len(logits) if reduction == "mean" else 1)
    return dlosses * (p * q.sum(axis=1, keepdims=True) - q)


def nll_forward(log_p: Array, labels: Array, weight: Array | None, ignore_index: int, reduction: str) -> tuple[Array, Array]:
    targets, sample_weight = _targets(log_p, labels, weight, 0, ignore_index)
    divisor = sample_weight.sum() if reduction == "mean" else np.float64(1)
    return _reduced(-np.where(targets == 0, 0, targets * log_p).sum(axis=1), divisor, reduction), divisor


def nll_backward(
    log_p: Array, labels: Array, weight: Array | None, divisor: Array, dloss: Array, ignore_index: int, reduction: str
) -> Array:
    targets, _ = _targets(log_p, labels, weight, 0, ignore_index)
    return np.where(targets == 0, 0, -targets * (dloss[:, None] if reduction == "none" else dloss / divisor))


def _violations(scores: Array, labels: Array, margin: float) -> Array:
    """max(0, margin - s_y + s_c), 0 for the label's own class."""
    rows = np.arange(len(labels))
    v = np.maximum(0, margin - scores[rows, labels][:, None] + scores)
    v[rows, labels] = 0
    return v


def multi_margin_forward(scores: Array, labels: Array, weight: Array | None, p: int, margin: float, scale: float, reduction: str) -> Array:
    sample_weight = np.ones(len(labels)) if weight is None else weight[labels]
    return _reduced(scale * sample_weight * (_violations(scores, labels, margin) ** p).sum(axis=1), len(labels), reduction)


def multi_margin_backward(
    scores: Array, labels: Array, weight: Array | None, dloss: Array, p: int, margin: float, scale: float, reduction: str
) -> Array:
    sample_weight = np.ones(len(labels)) if weight is None else weight[labels]
    v = _violations(scores, labels, margin)
    slope = np.where(v > 0, p * v ** (p - 1), v)
    slope[np.arange(len(labels)), labels] = -slope.sum(axis=1)
    dlosses = dloss if reduction == "none" else dloss / (len(labels) if reduction == "mean" else 1)
    return (scale * sample_weight * dlosses)[:, None] * slope


# --- of elements


def element_loss_forward(x: Array, target: Array, width: float, curve: float, slope: float, reduction: str) -> Array:
    d = np.abs(x - target)
    return _reduced(np.where(d <= width, curve * d * d, slope * (d - width / 2)), x.size, reduction)


def element_loss_backward(x: Array, target: Array, dloss: Array, width: float, curve: float, slope: float, reduction: str) -> Array:
    d = x - target
    return np.where(np.abs(d) <= width, 2 * curve * d, slope * np.sign(d)) * (dloss / (x.size if reduction == "mean" else 1))


def binary_cross_entropy_forward(x: Array, target: Array, weight: Array | None, positive: Array | None, reduction: str) -> Array:
    positive = np.ones(x.shape) if positive is None else positive
    losses = positive * target * np.logaddexp(0, -x) + (1 - target) * np.logaddexp(0, x)
    return _reduced(losses if weight is None else weight * losses, x.size, reduction)


def binary_cross_entropy_backward(
    x: Array, target: Array, weight: Array | None, positive: Array | None, dloss: Array, reduction: str
) -> Array:
    positive = np.ones(x.shape) if positive is None else positive
    p = np.exp(-np.logaddexp(0, -x))
    d = (1 - target) * p - positive * target * np.exp(-np.logaddexp(0, x))
    return (d if weight is None else weight * d) * (dloss / (x.size if reduction == "mean" else 1))


# --- penalties on weights


def penalty_forward(w: list[Array], l1: float, l2: float) -> Array:
    return np.float64(sum(l2 * (a * a).sum() + l1 * np.abs(a).sum() for a in w))


def penalty_backward(w: list[Array], dvalue: Array, l1: float, l2: float) -> list[Array]:
    return [dvalue * (2 * l2 * a + l1 * np.sign(a)) for a in w]
