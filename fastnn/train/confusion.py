"""Which class was taken for which: counts of (true class, predicted class)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import array, integer, own_integers, shown
from ..other_names import told
from .metrics import checked

_MOST = 2**15  # classes, whose counts take 8 GiB
_OWN = "or give the classes themselves: (logits[:, 0] > 0).astype(int)"

_ORDER = "here the predictions come first: confusion_matrix(predicted, labels)"
_names = told(
    {
        **dict.fromkeys(("y_true", "true", "target", "y_pred", "pred", "preds", "logits"), _ORDER),
        "normalize": "matrix / matrix.sum(1, keepdims=True) are shares of the true class; ClassReport has recall and precision",
        "sample_weight": "there is none; every sample counts once",
        "classes": "a number: num_classes; train.ClassReport(matrix, classes) has the names",
    },
    several=_ORDER,
)


@_names
def confusion_matrix(predicted: Any, labels: Any, num_classes: int | None = None, *, ignore_index: int | None = None) -> np.ndarray:
    """Counts (C, C), int64: entry [t, p] is how many labels t were predicted as p, so rows are true classes, columns predicted ones, as in
    scikit-learn, whose function takes the labels first.

    predicted: logits or probabilities (N, C) or, of maps, (N, C, ...), whose highest counts (the first of equal ones); or classes, integers of
    the labels' shape. labels: class numbers (N,) or (N, ...), of which each counts once. num_classes: C; left out, that of the logits, or the
    largest class + 1 (less than 2**15). ignore_index: a label that does not count, as in nn.CrossEntropyLoss.

    ValueError for shapes that do not go together, a class number outside of 0 ... C - 1, and logits of which one is NaN: no class is the highest.
    """
    what = "confusion_matrix"
    least = None if num_classes is None else integer(what, "num_classes", num_classes, 1, _MOST)
    passed = None if ignore_index is None else integer(what, "ignore_index", ignore_index, -(2**63))
    given, truth = array(what, "predicted", predicted), array(what, "labels", labels)
    if given.shape == truth.shape and given.ndim:
        if given.dtype.kind not in "iu" or truth.dtype.kind not in "iu":
            raise TypeError(f"{what}: predicted and labels of one shape must be integers (classes), got {given.dtype} and {truth.dtype}")
        classes, truth = own_integers(given), own_integers(truth)
        rated = np.full(truth.shape, True) if passed is None else truth != passed
        if least is None and not rated.any():
            raise ValueError(f"{what}: labels hold nothing that counts; give num_classes")
        count = least or int(max(classes[rated].max(), truth[rated].max(), 0)) + 1
        return _added(_none(what, count), _inside(what, "predicted", classes, rated, count), _inside(what, "labels", truth, rated, count))
    given, truth = checked(what, given, truth, "predicted", _OWN)
    if least is not None and least < given.shape[1]:
        raise ValueError(f"{what}: num_classes must be at least {given.shape[1]}, of which predicted has logits, got {least}")
    truth, count = own_integers(truth), least or given.shape[1]
    rated = np.full(truth.shape, True) if passed is None else truth != passed
    return _added(_none(what, count), _highest(what, given, rated, 0), _inside(what, "labels", truth, rated, count))


class Counts:
    """The confusion matrix of a pass over data, batch by batch."""

    def __init__(self) -> None:
        self.matrix = np.zeros((0, 0), np.int64)  # (C, C), once the first logits have said C
        self.classes: Sequence[str] | None = None  # the data set's names
        self.seen = 0  # samples

    def add(self, logits: np.ndarray, labels: np.ndarray, rated: np.ndarray) -> None:
        """A batch: logits (N, C, ...), labels (N, ...), and which of these count (bool, of the same shape)."""
        logits, labels = checked("report", logits, labels, "logits", "or train.confusion_matrix(classes, labels) of classes that you find")
        count = logits.shape[1]
        if not self.seen:
            self.matrix = _none("report", count)
        if count != len(self.matrix):
            raise ValueError(
                f"report: logits are of {count} classes, those of batches before of {len(self.matrix)}; expected as many for each"
            )
        _added(self.matrix, _highest("report", logits, rated, self.seen), _inside("report", "labels", labels, rated, count))
        self.seen += len(labels)


def _highest(what: str, logits: np.ndarray, rated: np.ndarray, first: int) -> np.ndarray:
    """The classes of those that count, (n,)."""
    highest = logits.max(1)  # NaN, if one of them is
    if (bad := (highest != highest) & rated).any():
        at = tuple(map(int, np.unravel_index(bad.argmax(), bad.shape)))
        where = f"sample {at[0] + first}{f', at {at[1:]}' if at[1:] else ''}"
        raise ValueError(f"{what}: the predicted logits of {where} hold NaN, of which no class is the highest; expected numbers")
    classes: np.ndarray = logits.argmax(1)[rated]
    return classes


def _inside(what: str, name: str, values: np.ndarray, rated: np.ndarray, count: int) -> np.ndarray:
    outside = rated & ((values < 0) | (values >= count))
    if outside.any():
        at = tuple(map(int, np.unravel_index(outside.argmax(), outside.shape)))
        hint = "; ignore_index says which labels do not count" if name == "labels" else ""
        raise ValueError(f"{what}: {name} has {shown(values[at])} at {at}; expected class numbers from 0 to {count - 1}{hint}")
    inside: np.ndarray = values[rated]
    return inside


def _none(what: str, count: int) -> np.ndarray:
    if count >= _MOST:
        raise ValueError(f"{what}: {count:,} classes make a matrix of {count:,} x {count:,}; expected less than {_MOST:,}")
    return np.zeros((count, count), np.int64)


def _added(matrix: np.ndarray, predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """In place; both are classes (n,) that lie inside of it."""
    cells = labels * len(matrix) + predicted
    if cells.size >= matrix.size:  # pixels of few classes
        matrix += np.bincount(cells, minlength=matrix.size).reshape(matrix.shape)
    else:
        np.add.at(matrix.reshape(-1), cells, 1)
    return matrix
