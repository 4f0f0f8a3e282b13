"""Metrics: functions of (logits, labels), as numpy arrays, that give one figure per sample. An epoch's figure is their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

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


def by_name(metrics: Sequence[str | Metric]) -> dict[str, Metric]:
    """Metrics under their names, from names and functions."""
    unknown = [m for m in metrics if isinstance(m, str) and m not in _named]
    if unknown:
        raise ValueError(f"no metric is named {unknown[0]!r}; there are {', '.join(_named)}, or pass a function of (logits, labels)")
    functions = [_named[m] if isinstance(m, str) else m for m in metrics]
    return {function.__name__: function for function in functions}
