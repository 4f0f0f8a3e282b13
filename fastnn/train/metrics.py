"""Metrics: functions of (logits, labels), as numpy arrays, that give one figure per sample. An epoch's figure is their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..arguments import shown

Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]


def accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the highest logit is the label's (the first of equal ones counts)."""
    right: np.ndarray = logits.argmax(1) == labels
    return right


def top5_accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether fewer than five logits exceed the label's."""
    own = np.take_along_axis(logits, labels[:, None], 1)
    right: np.ndarray = (logits > own).sum(1) < 5
    return right


_named: dict[str, Metric] = {"accuracy": accuracy, "top5_accuracy": top5_accuracy}


_TAKEN = {"epoch", "loss", "lr", "seconds", "samples", "counted"}


def by_name(metrics: str | Metric | Iterable[str | Metric]) -> dict[str, Metric]:
    """Metrics under their names, from names and functions, or a single one."""
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    if not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be names or functions of (logits, labels), got {shown(metrics)}")
    metrics = list(metrics)
    wrong = [m for m in metrics if not isinstance(m, str) and (not callable(m) or isinstance(m, type))]
    if wrong:
        raise TypeError(f"metrics must be names or functions of (logits, labels), got {shown(wrong[0])} among them")
    unknown = [m for m in metrics if isinstance(m, str) and m not in _named]
    if unknown:
        raise ValueError(f"no metric is named {unknown[0]!r}; there are {', '.join(_named)}, or pass a function of (logits, labels)")
    functions = [_named[m] if isinstance(m, str) else m for m in metrics]
    named = {getattr(function, "__name__", type(function).__name__): function for function in functions}
    if taken := _TAKEN & set(named):
        raise ValueError(f"metrics: {sorted(taken)[0]!r} is a column of its own; call the function otherwise")
    return named
