"""How well a model knows each class."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arguments import array, integer, own_integers
from ..arguments import path as checked_path
from ..data.dataset import checked_classes
from ..described import described, plural
from ..elsewhere import of_property
from . import class_picture, class_table
from .confusion import Counts

_SKLEARN = {
    **dict.fromkeys(("fscore", "f1_score"), "; it is f1"),
    **dict.fromkeys(("macro_avg", "macro_f1", "balanced_accuracy"), '; macro["f1"], macro["recall"], ... are means over the classes'),
    "confusion_matrix": "; it is matrix",
}


class ClassReport:
    """Figures per class of a confusion matrix: counts (C, C), rows true classes, columns predicted ones, as train.confusion_matrix gives it.

        report = trainer.report(test)           # or ClassReport(train.confusion_matrix(predicted, labels), classes)
        print(report)                           # a table
        report.f1[3], report.macro["f1"], report.most_confused(3)
        report.plot("confusion.png")

    With n = matrix, for each class c, float64 (C,):

        precision = n[c, c] / sum_t n[t, c]     of what is called c, how much is c
        recall    = n[c, c] / sum_p n[c, p]     of what is c, how much is called so
        f1        = 2 n[c, c] / (sum_t n[t, c] + sum_p n[c, p])     their harmonic mean (van Rijsbergen 1979; Dice's coefficient)

    0 where the divisor is 0: precision of a class that was never predicted, recall of one without samples (scikit-learn's zero_division=0); the
    table names those classes. For maps of labels intersection over union is f1 / (2 - f1).

    classes: names, one for each row; left out, their numbers. `evaluated` is what `evaluate` gives of the same pass (loss, metrics), {} of a
    matrix alone. TypeError and ValueError for what is no square matrix of counts, and for another number of names.
    """

    def __init__(self, matrix: Any, classes: Sequence[str] | None = None) -> None:
        given = array("ClassReport", "matrix", matrix)
        if given.dtype.kind not in "iu":
            raise TypeError(f"ClassReport: matrix must be counts, integers, got {given.dtype}; train.confusion_matrix makes one")
        if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.size:
            raise ValueError(
                f"ClassReport: matrix has shape {given.shape}; expected (C, C): a row for each true class, a column for each predicted"
            )
        if given.min() < 0:
            raise ValueError(f"ClassReport: matrix holds {given.min()}; expected counts of at least 0")
        names = checked_classes("ClassReport", classes)
        if names and len(names) != len(given):
            raise ValueError(
                f"ClassReport: {plural(len(names), 'name')} in classes for {plural(len(given), 'row')} of matrix; expected as many"
            )
        self.matrix = own_integers(given)
        self.classes: tuple[str, ...] = tuple(names or map(str, range(len(given))))
        self.evaluated: dict[str, float] = {}
        self.matrix.flags.writeable = False

    @property
    def support(self) -> np.ndarray:
        """How many samples (of maps: pixels) each class has, int64 (C,)."""
        counts: np.ndarray = self.matrix.sum(1)
        return counts

    @property
    def predicted(self) -> np.ndarray:
        """How many were taken for each class, int64 (C,)."""
        counts: np.ndarray = self.matrix.sum(0)
        return counts

    @property
    def precision(self) -> np.ndarray:
        """Of what is called by a class's name, how much is of it; 0 where nothing is."""
        return _ratio(self.matrix.diagonal(), self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """Of a class's samples, how many are called so; 0 where it has none."""
        return _ratio(self.matrix.diagonal(), self.support)

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall; 0 where both are."""
        return _ratio(2 * self.matrix.diagonal(), self.support + self.predicted)

    @property
    def accuracy(self) -> float:
        """The share of all samples that are called what they are; NaN of none."""
        count = int(self.matrix.sum())
        return int(self.matrix.trace()) / count if count else math.nan

    @property
    def macro(self) -> dict[str, float]:
        """Means of precision, recall and f1 over the classes that have samples or were predicted, each counting the same; NaN where there is none."""
        return self._means((self.support + self.predicted > 0).astype(np.int64))

    @property
    def weighted(self) -> dict[str, float]:
        """Their means with each class counting as its samples; NaN of none."""
        return self._means(self.support)

    def _means(self, weights: np.ndarray) -> dict[str, float]:
        total = int(weights.sum())
        figures = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: float(values @ weights) / total if total else math.nan for name, values in figures.items()}

    def most_confused(self, k: int = 5) -> list[tuple[str, str, int]]:
        """The k most frequent mistakes, at most: (true class, predicted class, how often), the most frequent first, of equal ones in the order
        of the classes."""
        return [(self.classes[t], self.classes[p], n) for t, p, n in self._mistakes(integer("ClassReport.most_confused", "k", k, 1))]

    def _mistakes(self, most: int) -> list[tuple[int, int, int]]:
        counts = self.matrix.copy()
        np.fill_diagonal(counts, 0)
        true, predicted = counts.nonzero()
        found = counts[true, predicted]
        first = np.argsort(-found, kind="stable")[:most]
        return [(int(true[i]), int(predicted[i]), int(found[i])) for i in first]

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each class: class, precision, recall, f1, support."""
        columns = zip(self.classes, self.precision.tolist(), self.recall.tolist(), self.f1.tolist(), self.support.tolist())
        return [{"class": name, "precision": p, "recall": r, "f1": f, "support": n} for name, p, r, f, n in columns]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it: accuracy, macro, weighted, support (of all), classes (rows), confusion_matrix (lists), evaluated; None for
        what is no finite number."""
        means = {"accuracy": self.accuracy, "macro": self.macro, "weighted": self.weighted, "evaluated": self.evaluated}
        whole = {"support": int(self.matrix.sum()), "classes": self.rows(), "confusion_matrix": self.matrix.tolist()}
        return {**{name: _finite(value) for name, value in means.items()}, **whole}

    def table(self, most: int | None = 20) -> str:
        """As text of at most 80 columns: a row for each class, or of more than `most` classes those with the lowest F1, the worst first; None: all.
        Longer names are cut in the middle, behind the class's number."""
        return class_table.table(self, None if most is None else integer("ClassReport.table", "most", most, 1))

    __str__ = table

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the matrix into a PNG, SVG or PDF: true classes down, predicted ones across, the darker the larger the share of the true class,
        with the counts for up to 20 classes. Needs matplotlib (pip install '.[plot]')."""
        class_picture.draw(self, checked_path("ClassReport.plot", "path", path))

    def __repr__(self) -> str:
        samples = f"{plural(int(self.matrix.sum()), 'sample')} of {plural(len(self.classes), 'class')}"
        return described(self, samples, f"accuracy {self.accuracy:.4g}", f"macro f1 {self.macro['f1']:.4g}")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a ClassReport has no attribute {name!r}{of_property(self, name) or _SKLEARN.get(name, '')}")


def reported(evaluate: Callable[[Counts], dict[str, float]], classes: Sequence[str] | None) -> ClassReport:
    """Of a pass that tells its batches to the counts it is given. Outputs beyond the names are called by their numbers."""
    counts = Counts()
    evaluated = evaluate(counts)
    count, names = len(counts.matrix), list(classes or counts.classes or ())
    report = ClassReport(counts.matrix, [*names[:count], *map(str, range(len(names), count))])
    report.evaluated = evaluated
    return report


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    share: np.ndarray = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return share


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return value if math.isfinite(value) else None
