"""Optimizer steps: group[i] is the row of `rates` that parameter i follows."""

from __future__ import annotations

import numpy as np

from .memory import Array


def sgd_step(w: list[Array], g: list[Array], v: list[Array], group: Array, rates: Array) -> tuple[list[Array], list[Array]]:
    w, v = list(w), list(v)
    for i, row in enumerate(group):
        lr, weight_decay, momentum, nesterov = rates[row]
        gradient = g[i] + weight_decay * w[i]
        velocity = momentum * v[i] + gradient
        w[i] = w[i] - lr * (gradient + momentum * velocity if nesterov else velocity)
        v[i] = velocity if momentum else v[i]  # plain descent has no velocity: it stays 0 until momentum is switched on
    return w, v


def adam_step(
    w: list[Array], g: list[Array], m: list[Array], v: list[Array], group: Array, rates: Array, t: Array
) -> tuple[list[Array], list[Array], list[Array]]:
    w, m, v = list(w), list(m), list(v)
    for i, row in enumerate(group):
        lr, weight_decay, beta1, beta2, eps, decoupled = rates[row]
        gradient = g[i] if decoupled else g[i] + weight_decay * w[i]
        m[i] = beta1 * m[i] + (1 - beta1) * gradient
        v[i] = beta2 * v[i] + (1 - beta2) * gradient**2
        step = m[i] / (1 - beta1 ** int(t)) / (np.sqrt(v[i] / (1 - beta2 ** int(t))) + eps)
        w[i] = w[i] * (1 - lr * weight_decay if decoupled else 1) - lr * step
    return w, m, v
