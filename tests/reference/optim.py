"""Optimizer steps: group[i] is the row of `rates` that parameter i follows, t[i] the number of its step; and what else goes over lists."""

from __future__ import annotations

import numpy as np

from .memory import Array

Lists = tuple[list[Array], ...]


def moved(old: list[Array], new: list[Array], target: Array | None) -> tuple[Array | None]:
    """{sum (w_new - w)^2, sum w^2} of pieces of 4096 elements in memory order, or None where it is not asked for."""
    if target is None:
        return (None,)
    rows = []
    for before, after in zip(old, new, strict=True):
        b, a = (np.ravel(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x) for x in (before, after))
        rows += [[((a[i : i + 4096] - b[i : i + 4096]) ** 2).sum(), (b[i : i + 4096] ** 2).sum()] for i in range(0, b.size, 4096)]
    return (np.array(rows).reshape(-1, 2),)


def sgd_step(
    w: list[Array], g: list[Array], v: list[Array], group: Array, rates: Array, t: Array, target: Array | None
) -> tuple[list[Array], list[Array], Array | None]:
    old, w, v = w, list(w), list(v)
    for i, row in enumerate(group):
        lr, weight_decay, momentum, nesterov, dampening, sign = rates[row]
        gradient = sign * g[i] + weight_decay * w[i]
        velocity = momentum * v[i] + (1 if t[i] == 1 else 1 - dampening) * gradient
        w[i] = w[i] - lr * ((gradient + momentum * velocity if nesterov else velocity) if momentum else gradient)
        v[i] = velocity if momentum else v[i]  # plain descent has no velocity: it stays 0 until momentum is switched on
    return w, v, *moved(old, w, target)


def adam_step(
    w: list[Array],
    g: list[Array],
    m: list[Array],
    v: list[Array],
    top: list[Array],
    group: Array,
    rates: Array,
    t: Array,
    target: Array | None,
) -> tuple[list[Array], list[Array], list[Array], list[Array], Array | None]:
    old, w, m, v, top = w, list(w), list(m), list(v), list(top)
    for i, row in enumerate(group):
        lr, weight_decay, beta1, beta2, eps, decoupled, amsgrad, sign = rates[row]
        gradient = sign * g[i] if decoupled else sign * g[i] + weight_decay * w[i]
        m[i] = beta1 * m[i] + (1 - beta1) * gradient
        v[i] = beta2 * v[i] + (1 - beta2) * gradient**2
        top[i] = np.maximum(top[i], v[i]) if amsgrad else top[i]
        second = top[i] if amsgrad else v[i]
        step = m[i] / (1 - beta1 ** int(t[i])) / (np.sqrt(second / (1 - beta2 ** int(t[i]))) + eps)
        w[i] = w[i] * (1 - lr * weight_decay if decoupled else 1) - lr * step
    return w, m, v, top, *moved(old, w, target)


def adagrad_step(
    w: list[Array], g: list[Array], s: list[Array], group: Array, rates: Array, t: Array, target: Array | None
) -> tuple[list[Array], list[Array], Array | None]:
    old, w, s = w, list(w), list(s)
    for i, row in enumerate(group):
        lr, weight_decay, lr_decay, eps, sign = rates[row]
        gradient = sign * g[i] + weight_decay * w[i]
        s[i] = s[i] + gradient**2
        w[i] = w[i] - lr / (1 + (t[i] - 1) * lr_decay) * gradient / (np.sqrt(s[i]) + eps)
    return w, s, *moved(old, w, target)


def rmsprop_step(
    w: list[Array],
    g: list[Array],
    s: list[Array],
    m: list[Array],
    v: list[Array],
    group: Array,
    rates: Array,
    t: Array,
    target: Array | None,
) -> tuple[list[Array], list[Array], list[Array], list[Array], Array | None]:
    old, w, s, m, v = w, list(w), list(s), list(m), list(v)
    for i, row in enumerate(group):
        lr, weight_decay, alpha, eps, momentum, centered, sign = rates[row]
        gradient = sign * g[i] + weight_decay * w[i]
        s[i] = alpha * s[i] + (1 - alpha) * gradient**2
        if centered:
            m[i] = alpha * m[i] + (1 - alpha) * gradient
        step = gradient / (np.sqrt(s[i] - m[i] ** 2 if centered else s[i]) + eps)
        if momentum:
            step = v[i] = momentum * v[i] + step
        w[i] = w[i] - lr * step
    return w, s, m, v, *moved(old, w, target)


def newton_schulz(x: Array, steps: int, a: float, b: float, c: float) -> Array:
    """`steps` times x = a x + (b A + c A^2) x with A = x x^T; for a tall matrix the transposed one."""
    if x.shape[0] > x.shape[1]:
        return newton_schulz(x.T, steps, a, b, c).T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def muon_step(
    w: list[Array],
    g: list[Array],
    v: list[Array],
    group: Array,
    rates: Array,
    target: Array | None,
    steps: int,
    a: float,
    b: float,
    c: float,
) -> tuple[list[Array], list[Array], Array | None]:
    old, w, v = w, list(w), list(v)
    for i, row in enumerate(group):
        lr, weight_decay, momentum, nesterov, step, renormalize, eps = rates[row]
        v[i] = v[i] + (1 - momentum) * (g[i] - v[i])
        direction = g[i] + momentum * (v[i] - g[i]) if nesterov else v[i]
        x = direction.reshape(len(direction), -1) / max(np.sqrt((direction**2).sum()), eps)
        scale = np.sqrt(len(w[i])) / max(np.sqrt((w[i] ** 2).sum()), eps) if renormalize else 1
        w[i] = w[i] * (1 - lr * weight_decay) * scale - step * newton_schulz(x, steps, a, b, c).reshape(w[i].shape)
    return w, v, *moved(old, w, target)


def global_norm(g: list[Array]) -> Array:
    return np.sqrt(np.array(sum((x**2).sum() for x in g)))


def clip_norm(g: list[Array], norm: Array, limit: Array) -> tuple[list[Array]]:
    factor = limit / (norm + 1e-6)
    return ([x if factor >= 1 else x * factor for x in g],)


def clip_value(g: list[Array], limit: Array) -> tuple[list[Array]]:
    return ([np.clip(x, -limit, limit) for x in g],)


def average(a: list[Array], w: list[Array], share: Array) -> tuple[list[Array]]:
    return ([old + share * (new - old) for old, new in zip(a, w, strict=True)],)


def lookahead(slow: list[Array], w: list[Array], share: Array) -> tuple[list[Array], list[Array]]:
    (slow,) = average(slow, w, share)
    return slow, slow


def exchange(a: list[Array], b: list[Array]) -> tuple[list[Array], list[Array]]:
    return b, a
