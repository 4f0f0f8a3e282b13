"""Splitting a data set in three, and into the folds of a cross-validation; each class in the same proportion everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import random
from ..arguments import array, instance, integer, number
from ..described import plural
from .dataset import D, Dataset, split
from .items import rank

_FOLD_DRAW = 2**48 - 2  # a draw that no epoch's order uses, nor split


def train_validation_test(dataset: D, validation: float = 0.1, test: float = 0.1, *, seed: int = 0) -> tuple[D, D, D]:
    """(train, validation, test), the last two with that share of all and, up to one sample, of each class, drawn by `seed`.

    Choose by the validation set, as often as you like; look at the test set once, at the very end. ValueError for shares that do not lie
    between 0 and 1, leave nothing to train on, or leave one of the three empty.
    """
    number("train_validation_test", "validation", validation), number("train_validation_test", "test", test)
    (
        instance("train_validation_test", "dataset", dataset, Dataset, "a data set, such as data.ArrayDataset(images, labels)"),
        integer("train_validation_test", "seed", seed, 0, 2**62),
    )
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ValueError(f"train_validation_test: shares {validation} and {test} must be positive and leave something to train on")
    last_size = round(test * len(dataset))
    middle_size = round(validation / (1 - test) * (len(dataset) - last_size))
    if 0 in (sizes := (len(dataset) - last_size - middle_size, middle_size, last_size)):
        given = "{} to train on, {} for validation and {} for the test".format(*sizes)
        raise ValueError(
            f"train_validation_test: shares {validation:g} and {test:g} of {plural(len(dataset), 'sample')} leave {given}; expected at least one "
            "each: larger shares, or more samples"
        )
    rest, last = split(dataset, test, seed)
    train, middle = split(rest, validation / (1 - test), seed + 1)
    return train, middle, last


def k_fold(labels: Any, folds: int = 5, *, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each of `folds` folds the positions (of the rest, of the fold): every sample is in one fold, sizes differ by at most 1.

    labels: the class numbers of the samples, or their names, or a data set. The members of each class, shuffled by `seed`, are dealt out in turn.
    ValueError unless there are at least 2 folds and as many samples as folds.

        for train, fold in data.k_fold(dataset): model.fit(images[train], labels[train]).score(images[fold], labels[fold])
    """
    if isinstance(labels, tuple) and len(labels) == 2 and rank(labels[0]) > rank(labels[1]) == 1:
        raise TypeError(
            "k_fold: labels must be the labels alone, got a pair (images, labels); give the second, or data.ArrayDataset(*pair)"
        )
    values = array("k_fold", "labels", labels.labels if isinstance(labels, Dataset) else labels, "several labels")
    integer("k_fold", "folds", folds), integer("k_fold", "seed", seed, 0, 2**63)
    whole = values.dtype.kind == "f" and bool(np.isfinite(values).all()) and bool((values == np.floor(values)).all())
    if not whole and values.dtype.kind not in "iubUS":
        raise TypeError(f"k_fold: labels have dtype {values.dtype}; expected integers (class numbers) or names{_why(values)}")
    if values.ndim != 1:
        raise ValueError(f"k_fold: labels have shape {values.shape}; expected one per sample")
    if not 2 <= folds <= len(values):
        raise ValueError(f"k_fold: {folds} folds of {len(values)} samples; expected at least 2, and at most one per sample")
    words = random.Generator(seed).bits(len(values), _FOLD_DRAW, random.ORDER)
    dealt = np.empty(len(values), np.int64)
    dealt[np.lexsort((words, np.unique(values, return_inverse=True)[1].reshape(-1)))] = np.arange(len(values)) % folds
    return ((np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)) for fold in range(folds))


def _why(values: np.ndarray) -> str:
    """What is wrong with labels of this type."""
    if values.dtype.kind == "O":
        return "; labels.astype(str) makes names of objects"
    return ", and whole numbers among floats" if values.dtype.kind == "f" else ""
