"""Metrics: functions of (logits, labels), as numpy arrays, that give one figure per sample. An epoch's figure is their mean:
a metric that gives the batch's mean is refused, unless the batch is a single sample, of which the figure and the mean are one number.
Labels that the loss ignores (its ignore_index) do not count in accuracy, top5_accuracy and top_k(k); a metric of one's own is given them as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from ..arguments import array, integer, items, shown

TWO_OUTPUTS = "give the model two outputs and CrossEntropyLoss"
Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]


_OWN = "or write a metric of your own: (logits[:, 0] > 0) == labels"


def checked(what: str, logits: Any, labels: Any, name: str = "logits", own: str = _OWN) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C, ...) and labels (N, ...) as arrays. `name` is what the logits are called, `own` what else would do for a single one."""
    logits, labels = array(what, name, logits), array(what, "labels", labels)
    if logits.dtype.kind not in "fiub" or labels.dtype.kind not in "iu":
        raise TypeError(f"{what}: {name} must be numbers and labels integers, got {logits.dtype} and {labels.dtype}")
    if logits.ndim < 2 or labels.shape != (logits.shape[0], *logits.shape[2:]) or not logits.shape[1]:
        raise ValueError(
            f"{what}: {name} have shape {logits.shape}, labels {labels.shape}; expected (N, C) and (N,), or (N, C, ...) and (N, ...)"
        )
    if logits.shape[1] == 1:
        raise ValueError(f"{what}: {name} have shape {logits.shape}, and the highest of one is always class 0; {TWO_OUTPUTS}, {own}")
    return logits, labels


def accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the highest logit is the label's (the first of equal ones counts). False where that is NaN. ValueError for a single logit."""
    logits, labels = checked("accuracy", logits, labels)
    highest = logits.max(1)  # NaN, if one of them is
    right: np.ndarray = (logits.argmax(1) == labels) & (highest == highest)
    return right


def top5_accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether fewer than five logits are ahead of the label's: higher, equal and before it, or NaN. False where the label's own is NaN."""
    return _within("top5_accuracy", 5, logits, labels)


def _within(what: str, k: int, logits: Any, labels: Any) -> np.ndarray:
    logits, labels = checked(what, logits, labels)
    inside = (labels >= 0) & (labels < logits.shape[1])  # a label that is ignored is never right
    label = np.where(inside, labels, 0)[:, None]
    own, place = np.take_along_axis(logits, label, 1), np.arange(logits.shape[1]).reshape(-1, *[1] * (logits.ndim - 2))
    ahead = ~(logits <= own) | ((logits == own) & (place < label))
    right: np.ndarray = (ahead.sum(1) < k) & inside & (own == own)[:, 0]
    return right


class _TopK:
    """What `top_k` gives."""

    def __init__(self, k: int) -> None:
        self.k, self.__name__ = k, f"top{k}_accuracy"

    def __call__(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return _within(self.__name__, self.k, logits, labels)

    def __repr__(self) -> str:
        return f"top_k({self.k})"

    def __reduce__(self) -> tuple[Callable[[int], Metric], tuple[int]]:
        return top_k, (self.k,)


_one_of_each = lru_cache(None)(_TopK)  # by which two of one k are known for the same metric


def top_k(k: int) -> Metric:
    """A metric: whether fewer than k logits are ahead of the label's, as top5_accuracy, which top_k(5) is. Its column is f"top{k}_accuracy".

    With as many classes as k, or fewer, every label is right whose logit is a number.
    """
    k = integer("top_k", "k", k, 1)
    return top5_accuracy if k == 5 else _one_of_each(k)


_named: dict[str, Metric] = {"accuracy": accuracy, "top5_accuracy": top5_accuracy}


_TAKEN = {"epoch", "loss", "lr", "seconds", "samples", "counted", "rated"}


def by_name(metrics: str | Metric | Iterable[str | Metric]) -> dict[str, Metric]:
    """Metrics under their names, from names and functions, or a single one. A function goes by its __name__, any other object by its class's;
    ValueError for a name that two of them have."""
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    metrics = items("Trainer", "metrics", metrics, "names or functions of (logits, labels)")
    wrong = [m for m in metrics if not isinstance(m, str) and (not callable(m) or isinstance(m, type) or hasattr(m, "parameters"))]
    if wrong:
        raise TypeError(f"metrics must be names or functions of (logits, labels), got {shown(wrong[0])} among them")
    unknown = [m for m in metrics if isinstance(m, str) and m not in _named]
    if unknown:
        raise ValueError(
            f"metrics: no metric is named {unknown[0]!r}; there are {', '.join(_named)}, or pass a function of (logits, labels)"
        )
    functions = [_named[m] if isinstance(m, str) else m for m in metrics]
    named: dict[str, Metric] = {}
    for function in functions:
        name = getattr(function, "__name__", type(function).__name__)
        if named.setdefault(name, function) is not function:
            raise ValueError(f"metrics: two of them are named {name!r}; give each a name of its own: metric.__name__ = 'top3', or a def")
    if taken := {name for name in named if name in _TAKEN or name.startswith("val_")}:
        raise ValueError(f"metrics: {sorted(taken)[0]!r} is a column of its own; call the function otherwise")
    return named


def asked(name: str, metric: Metric, logits: np.ndarray, labels: np.ndarray) -> Any:
    """What a metric gives; ValueError with its arguments where it fails on them. What it raises to say something else goes its way."""
    try:
        return metric(logits, labels)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{name}(logits of shape {logits.shape}, labels of shape {labels.shape})"
        hint = "" if logits.shape[1:2] == (1,) else "; logits.argmax(1) are the classes it says"
        raise ValueError(f"metrics: {what} raised {type(error).__name__}: {error}{hint}") from error


def passes_over_ignored(metric: Metric) -> bool:
    """Whether its figures are of labels alone, and those that the loss ignores do not count."""
    return metric is accuracy or metric is top5_accuracy or isinstance(metric, _TopK)


def total(name: str, told: Any, labels: np.ndarray) -> float:
    """The sum over samples of what a metric gave for a batch: one number for each, or one for each label of a map (then their mean counts)."""
    given, samples = array("metrics", name, told), len(labels)
    wanted = "expected a number for each sample"
    if given.dtype.kind not in "biuf":
        raise TypeError(f"metrics: {name} gave {shown(told)}; {wanted}")
    if given.shape not in ((samples,), labels.shape) and (given.shape or samples != 1):
        got = f"an array of shape {given.shape}" if given.shape else f"the one number {given}"
        raise ValueError(f"metrics: {name} gave {got} for {samples} samples; {wanted}, of shape ({samples},): the mean is taken later")
    return samples * float(np.mean(given, dtype=np.float64)) if given.ndim > 1 else float(np.sum(given, dtype=np.float64))
