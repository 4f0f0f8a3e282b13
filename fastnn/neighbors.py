"""k-nearest neighbours, and how k is chosen.

    choice = fastnn.neighbors.cross_validate(train.images, train.labels, ks=(1, 3, 5, 8, 10))
    print(choice.table())
    classifier = fastnn.neighbors.KNeighborsClassifier(choice.best).fit(train.images, train.labels)
    print(classifier.score(test.images, test.labels))   # once, at the end

Names and arguments are scikit-learn's; where the two differ the docstring says so.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import _C, devices, figures
from .arguments import array, integer, shown
from .arguments import path as checked_path
from .data import Dataset
from .data.folds import k_fold
from .other_names import told

_CHUNK_BYTES = 64 << 20  # of distances at a time
_USUAL = 20  # rows whose largest value lies between 2^-20 and 2^20 are taken as they are
_MOST = 2.0**50  # of a row's values: the sum of millions of their squares is a float32


def _numbers(what: str, name: str, x: Any) -> np.ndarray:
    """Samples as rows of what they are: (N, D), or images, flattened in row-major order."""
    if isinstance(x, Dataset):
        raise TypeError(f"{what}: {name} must be an array, got {shown(x)}; set.images and set.labels are its arrays")
    values = array(what, name, x)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{what}: {name}: expected numbers, got dtype {values.dtype}")
    if values.ndim < 2:
        raise ValueError(f"{what}: {name}: expected rows (N, D) or images (N, ...), got shape {values.shape}")
    rows = values.reshape(len(values), int(np.prod(values.shape[1:])))
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        wrong = int(np.argmin(np.isfinite(rows).all(1)))
        raise ValueError(f"{what}: {name}: sample {wrong} holds NaN or infinity; it must be finite: nothing is near to those")
    return rows


def _origin(values: np.ndarray) -> np.ndarray:
    """(D,) float64, what float32 rows are counted from, so that they tell samples apart which lie far from 0: the median of each feature from which
    float32 is the nearer to at least twice as many samples as from 0, else 0. Not the mean or the least: a single far value moves those.

    A thousand samples or so tell. Differences stay what they are; whole numbers stay whole, the median being one of the values."""
    if not len(values) or values.dtype.itemsize < (4 if values.dtype.kind in "iu" else 8):  # float32 holds all of them
        return np.zeros(values.shape[1])
    some = values[:: max(1, len(values) // 1000)].astype(np.float64)
    middle = np.partition(some, (len(some) - 1) // 2, axis=0)[(len(some) - 1) // 2]
    with np.errstate(over="ignore", invalid="ignore"):
        lost, lost_from_there = (np.abs(x - x.astype(np.float32)) for x in (some, some - middle))
    better, worse = ((a < b).sum(0) for a, b in ((lost_from_there, lost), (lost, lost_from_there)))
    return np.where(better >= 2 * worse, middle, 0.0)


def _moved(values: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Less the origin, in float64, if there is one, and of as many features."""
    with np.errstate(over="ignore"):
        return values - origin if origin.shape == values.shape[1:] and origin.any() else values


def _most(*sets: np.ndarray) -> float:
    return max(max(float(values.max(initial=0)), -float(values.min(initial=0))) for values in sets)


def _exponent(what: str, *moved: np.ndarray) -> int:
    """Of the power of two by which rows are divided: 0 unless their largest value lies outside of 2^-20 to 2^20. Squares of larger and smaller
    ones would soon be infinity or 0 in float32, from 1e19 and 1e-20 on."""
    most = _most(*moved)
    if most == np.inf:
        raise ValueError(f"{what}: values of one feature lie farther apart than float64 goes, {np.finfo(np.float64).max:.3g}")
    highest = math.frexp(most)[1]
    return 0 if not most else highest - min(max(highest, -_USUAL), _USUAL)


def _rows(what: str, moved: np.ndarray, exponent: int) -> np.ndarray:
    """Divided by 2^exponent, as float32. ValueError for what overflows all the same, which only queries can do."""
    with np.errstate(over="ignore", under="ignore"):
        if exponent:
            moved = np.ldexp(moved if moved.dtype == np.float32 else moved.astype(np.float64), -exponent)
        rows = np.ascontiguousarray(moved, np.float32)
    if _most(rows) > _MOST:
        far = int(np.argmax(np.abs(rows).max(1) > _MOST))
        raise ValueError(
            f"{what}: sample {far} lies too far from those of fit, by more than {_MOST / 2.0**_USUAL:.0e} times their own extent"
        )
    return rows


def _labels(what: str, y: Any, count: int) -> np.ndarray:
    labels = array(what, "y", y, "a label for each sample")
    if labels.shape != (count,):
        raise ValueError(f"{what}: labels have shape {labels.shape}; expected ({count},), one for each sample of x")
    if labels.dtype.kind == "O":
        labels = _of_one_kind(what, labels)
    if labels.dtype.kind == "f" and not (whole := np.isfinite(labels) & (labels == np.floor(labels))).all():
        wrong = int(np.argmin(whole))
        raise TypeError(f"{what}: labels must be classes, integers or words, got {labels[wrong]} at position {wrong}")
    if labels.dtype.kind not in "biufUS":
        raise TypeError(f"{what}: labels must be integers or words, got dtype {labels.dtype}")
    return labels


def _of_one_kind(what: str, labels: np.ndarray) -> np.ndarray:
    """Of an array of objects, as a table's column is, one of words or of numbers."""
    kinds = sorted({type(label).__name__ for label in labels.tolist()})
    made = np.array(labels.tolist())
    words = all(isinstance(label, (str, np.str_)) for label in labels.tolist())
    if made.shape != labels.shape or (made.dtype.kind not in "biuf" and not words):
        raise TypeError(
            f"{what}: labels must be all integers or all words, got {' and '.join(kinds)}; labels.astype(str) makes words of all"
        )
    return made


def _words(labels: np.ndarray) -> str:
    """str, bytes, or int for numbers of any type."""
    return {"U": "str", "S": "bytes"}.get(labels.dtype.kind, "int")


def _summed(a: _C.Array, b: _C.Array, p: int) -> np.ndarray:
    """sum |a - b|^p, no root taken."""
    return _C.distance(_C.Distance(a.shape, b.shape, p), a, b).numpy()


def _lengths(summed: np.ndarray, p: int, exponent: int) -> np.ndarray:
    """Distances in the samples' own units, of sums of rows that were divided by 2^exponent."""
    lengths: np.ndarray = np.sqrt(summed) if p == 2 else np.array(summed)
    if not exponent:
        return lengths
    with np.errstate(over="ignore", under="ignore"):
        found: np.ndarray = np.ldexp(lengths.astype(np.float64), exponent)
    return found.astype(np.float32) if abs(exponent) <= 60 else found  # else many would be none in float32


def distances(a: Any, b: Any, *, p: int = 2, device: str = "cpu") -> np.ndarray:
    """(M, N) distances between the rows of a (M, D) and of b (N, D): sum |a - b| for p = 1, the root of sum (a - b)^2 for p = 2.

    Sums of differences, computed in float32 without an M x N x D array: exact for integers as long as sums stay below 2^24 (bytes: 258
    features of full contrast). Features of float64 and wide integers that lie far from 0 are first counted from their median in b, in
    float64. Values above 2^20 or all below 2^-20 are divided by a power of two meanwhile. float32, or float64 where values go beyond 1e24 or
    all lie below 1e-24. ValueError for shapes that do not fit.
    """
    _checked_power("distances", p)
    there = devices.resolve(device)
    values = [_numbers("distances", name, x) for name, x in (("a", a), ("b", b))]
    origin = _origin(values[1])
    moved = [_moved(x, origin) for x in values]
    exponent = _exponent("distances", *moved)
    first, second = (_C.from_numpy(_rows("distances", x, exponent), there) for x in moved)
    return _lengths(_summed(first, second, p), p, exponent)


def _checked_power(what: str, p: int) -> int:
    if integer(what, "p", p) not in (1, 2):
        raise ValueError(f"{what}: p must be 1 or 2, got {p}")
    return p


def _nearest(summed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and sums of the k smallest of each row, sorted; of equal ones the first comes first."""
    last = np.partition(summed, k - 1, axis=1)[:, k - 1 : k]
    row, column = np.nonzero(summed <= last)  # k of each row, and whoever is as far as the last
    order = np.lexsort((column, summed[row, column], row))
    taken = order[np.searchsorted(row, np.arange(len(summed)))[:, None] + np.arange(k)]
    return column[taken], summed[row[taken], column[taken]]


def _vote(codes: np.ndarray, classes: int) -> np.ndarray:
    """The class that most of a row's neighbours, nearest first, have; among classes with equally many votes that of the nearest."""
    rows = np.arange(len(codes))[:, None]
    counts = np.bincount((rows * classes + codes).reshape(-1), minlength=len(codes) * classes).reshape(len(codes), classes)
    votes = counts[rows, codes]  # of each neighbour's class
    winner: np.ndarray = codes[rows[:, 0], votes.argmax(1)]
    return winner


class KNeighborsClassifier:
    """Remembers the training set; a sample gets the class that most of its `n_neighbors` nearest training samples have.

    p: 1 for L1 (Manhattan) distances, 2 for L2 (Euclidean). `fit(x, y)`, `predict(x)`, `score(x, y)`, `kneighbors(x)`; x are rows (N, D) or
    images (N, C, H, W), of any number type, y labels: integers (also as floats) or words, not both. Fields after fit: `classes_`, `n_samples_fit_`.
    Where several classes have the most votes, the one whose neighbour is nearest wins (scikit-learn takes the lowest class); of equally
    distant samples the one that came first in training is nearer. Queries are worked off in chunks: beside both sets there is memory for
    64 MB of distances. With device="cuda" both sets go to the GPU. (Cover, Hart 1967)
    """

    @told(
        {
            "metric": "it is p: 1 for Manhattan distances, 2 for Euclidean ones",
            "weights": "each neighbour has one vote",
            "k": "it is n_neighbors",
        }
    )
    def __init__(self, n_neighbors: int = 5, *, p: int = 2, device: str = "cpu") -> None:
        integer("KNeighborsClassifier", "n_neighbors", n_neighbors, 1), _checked_power("KNeighborsClassifier", p)
        self.n_neighbors, self.p, self.device = n_neighbors, p, devices.resolve(device)

    def fit(self, x: Any, y: Any = None) -> KNeighborsClassifier:
        """Keeps the training set. ValueError for lengths that do not fit, NaN, or fewer samples than neighbours; what an earlier fit kept stays
        then."""
        values = _numbers("fit", "x", x)
        labels = _labels("fit", y, len(values))
        self._enough(self.n_neighbors, len(values))
        origin = _origin(values)
        moved = _moved(values, origin)
        exponent = _exponent("fit", moved)
        rows = _C.from_numpy(_rows("fit", moved, exponent), devices.resolve(self.device))
        classes, codes = np.unique(labels, return_inverse=True)
        self._rows, self._origin, self._exponent = rows, origin, exponent  # together, now that nothing is refused any more
        self.classes_, self._codes, self.n_samples_fit_ = classes, codes.reshape(-1), len(values)
        return self

    def kneighbors(self, x: Any, n_neighbors: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(distances, positions in the training set) of each sample's nearest neighbours, both (N, n_neighbors), nearest first.

        Distances are float32, or float64 where the training set goes beyond 1e24 or all of it lies below 1e-24. ValueError for a sample that
        lies very much farther out than the training set, a billion times and more: float32 does not tell its neighbours apart.
        """
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        parts = list(self._neighbors(x, k))
        summed, positions = (np.concatenate([part[i] for part in parts]) if parts else np.zeros((0, k)) for i in (1, 0))
        return _lengths(summed, self.p, self._exponent), positions.astype(np.int64)

    def predict(self, x: Any) -> np.ndarray:
        """The class of each sample."""
        winners = [_vote(self._codes[positions], len(self.classes_)) for positions, _ in self._neighbors(x, self.n_neighbors)]
        found: np.ndarray = self.classes_[np.concatenate(winners)] if winners else self.classes_[:0]
        return found

    def score(self, x: Any, y: Any) -> float:
        """The share of samples whose class is predicted. ValueError for no samples, and unless there is one label for each, TypeError for numbers
        where fit had words, or the other way round."""
        predicted = self.predict(x)
        labels = _labels("score", y, len(predicted))
        if not len(labels):
            raise ValueError("score: got no samples; expected at least one, of none there is no share")
        if (mine := _words(self.classes_)) != (theirs := _words(labels)):  # numpy would find none equal
            raise TypeError(f"score: labels are {theirs}, those of fit {mine}; expected the same: labels.astype({mine}) makes them")
        return float(np.mean(predicted == labels))

    def _neighbors(self, x: Any, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(positions, sums) for one chunk of queries after the other."""
        if not hasattr(self, "_rows"):
            raise RuntimeError("KNeighborsClassifier: call fit(x, y) first")
        self._enough(k, self.n_samples_fit_)
        values, features = _numbers("KNeighborsClassifier", "x", x), self._rows.shape[1]
        if values.shape[1] != features:
            raise ValueError(f"KNeighborsClassifier: x: samples have {values.shape[1]} features, those of fit {features}")
        rows = _rows("KNeighborsClassifier", _moved(values, self._origin), self._exponent)
        chunk = max(1, _CHUNK_BYTES // (4 * self.n_samples_fit_))
        for first in range(0, len(rows), chunk):
            queries = _C.from_numpy(rows[first : first + chunk], self._rows.device)
            yield _nearest(_summed(queries, self._rows, self.p), k)

    @staticmethod
    def _enough(k: int, samples: int) -> None:
        if integer("KNeighborsClassifier", "n_neighbors", k, 1) > samples:
            raise ValueError(f"KNeighborsClassifier: n_neighbors {k}, but there are {samples} training samples")


class Choice:
    """Accuracies of a cross-validation: `ks`, `accuracies` (of each k on each fold), `mean` and `spread` (standard deviation) per k, and
    `best`, the k with the highest mean (of equal ones the largest: it is smoother)."""

    def __init__(self, ks: Sequence[int], accuracies: np.ndarray) -> None:
        self.ks, self.accuracies = tuple(ks), accuracies

    @property
    def mean(self) -> np.ndarray:
        mean: np.ndarray = self.accuracies.mean(1)
        return mean

    @property
    def spread(self) -> np.ndarray:
        spread: np.ndarray = self.accuracies.std(1)
        return spread

    @property
    def best(self) -> int:
        return max(k for k, mean in zip(self.ks, self.mean) if mean == self.mean.max())

    def table(self) -> str:
        """One line for each k."""
        lines = [f"{k:6d}  {mean:8.2%}  {spread:8.2%}" for k, mean, spread in zip(self.ks, self.mean, self.spread)]
        return "\n".join([f"{'k':>6}  {'mean':>8}  {'spread':>8}", *lines])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Every fold's accuracy over k, with mean and spread, into a PNG, SVG or PDF. Needs matplotlib (pip install '.[plot]')."""
        checked_path("Choice.plot", "path", path)
        figure = figures.blank(6, 3.6)
        axes = figure.subplots()
        axes.plot(np.repeat(self.ks, self.accuracies.shape[1]), self.accuracies.reshape(-1), "o", markersize=3, alpha=0.5, label="a fold")
        axes.errorbar(self.ks, self.mean, yerr=self.spread, label="mean and spread")
        axes.set(xlabel="k", ylabel="accuracy")
        axes.grid(alpha=0.3)
        axes.legend()
        figures.save(figure, path)


def cross_validate(
    x: Any, y: Any, ks: Sequence[int] = (1, 3, 5, 8, 10, 12, 15, 20), *, folds: int = 5, p: int = 2, seed: int = 0, device: str = "cpu"
) -> Choice:
    """The accuracy of every k in `ks` on each of `folds` folds, the rest being the training set: of the training data alone, no test set.

    The neighbours of a fold are found once for all k. Folds: data.k_fold. ValueError when the largest k exceeds the samples outside a fold.
    """
    values = _numbers("cross_validate", "x", x)
    labels = _labels("cross_validate", y, len(values))
    moved = _moved(values, _origin(values))
    rows = _rows("cross_validate", moved, _exponent("cross_validate", moved))
    if not isinstance(ks, (tuple, list, range, np.ndarray)) or getattr(ks, "ndim", 1) != 1:
        raise TypeError(f"cross_validate: ks must be several numbers of neighbours, got {shown(ks)}")
    if not len(ks):
        raise ValueError("cross_validate: ks must be numbers of at least 1, got none")
    ks = [integer("cross_validate", "ks", k, 1) for k in ks]
    accuracies = []
    for training, fold in k_fold(labels, folds, seed=seed):
        classifier = KNeighborsClassifier(max(ks), p=p, device=device).fit(rows[training], labels[training])
        codes = classifier._codes[classifier.kneighbors(rows[fold])[1]]
        predicted = [classifier.classes_[_vote(codes[:, :k], len(classifier.classes_))] for k in ks]
        accuracies.append([float(np.mean(one == labels[fold])) for one in predicted])
    return Choice(ks, np.array(accuracies).T)
