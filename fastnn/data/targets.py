"""What else people give as labels, and how class numbers come of it."""

from __future__ import annotations

import numpy as np

_NAMES = "classes, labels = np.unique(labels, return_inverse=True) numbers names"
_OTHER = "a set holds class numbers; other targets go through Trainer.step, or a loop of your own"


def class_numbers_of(labels: np.ndarray) -> str:
    """How to make them, where nothing is lost by it: a price cut down to an integer would be learned without a word."""
    if labels.dtype.kind == "O":
        try:
            labels = labels.astype(np.float64)
        except (TypeError, ValueError):
            return _NAMES if all(isinstance(label, str) for label in labels.reshape(-1)) else _OTHER
    if labels.dtype.kind in "US":
        return _NAMES
    if labels.dtype.kind not in "biuf":
        return _OTHER
    if labels.ndim == 2 and labels.shape[1] > 1:
        one_hot = bool(((labels != 0).sum(1) == 1).all() and (labels.max(1) == 1).all())
        return "labels.argmax(1) makes them of one-hot rows" if one_hot else _OTHER
    column = labels.ndim == 2 and labels.shape[1] == 1
    if not (labels == np.floor(labels)).all() or not np.isfinite(labels).all() or not (column or labels.ndim == 1):
        return _OTHER
    integers = labels.dtype.kind in "iu"
    return f"labels{'.reshape(-1)' if column else ''}{'' if integers else '.astype(int)'} makes them" if column or not integers else ""
