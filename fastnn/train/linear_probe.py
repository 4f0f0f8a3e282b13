"""A linear classifier on features: softmax regression, whose minimum is found, not approached by a rate that has to be chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .. import ops, random
from ..data import ArrayDataset, k_fold
from ..nn import CrossEntropyLoss, Linear
from ..optim import LBFGS
from ..tensor import Tensor, tensor

_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C as scikit-learn's LogisticRegression has it, the strongest penalty first
_FOLDS, _ONE_FOLD_FROM = 5, 5000  # samples from which one fold in five says enough
_ITERATIONS = 100
_FLOOR = 1e-4  # of the mean variance, added to each: a feature that hardly varies is not blown up


class Probe(NamedTuple):
    """logits = rows weight^T + bias; the accuracy and the loss are those of samples that it was not fitted on (NaN without any), and `strength`
    is the C that was best there."""

    weight: np.ndarray
    bias: np.ndarray
    accuracy: float
    loss: float
    strength: float


def probe(training: ArrayDataset, validation: ArrayDataset | None, classes: int, *, centred: bool = True, seed: int = 0) -> Probe:
    """Minimises mean cross-entropy + |W|^2 / (2 C N) over features with mean 0 and deviation 1 (of the training set; centred=False: without a
    mean and a bias, for a layer that has none), by L-BFGS from W = 0: convex, so that nothing is drawn at random.

    C is that of {0.001, 0.01, 0.1, 1, 10} with the least loss on the validation set; without one, on the folds of a cross-validation. Deviations are
    sqrt(variance + 1e-4 mean variance). Weight and bias are for the features as they are.
    """
    rows, labels = training.images, training.labels
    mean = rows.mean(0, dtype=np.float64) if centred else np.zeros(rows.shape[1])
    variance = np.square(rows - mean).mean(0)
    std = np.sqrt(variance + _FLOOR * variance.mean()) if variance.any() else np.ones(rows.shape[1])
    x = ((rows - mean) / std).astype(np.float32)
    parts = _judges(x, labels, None if validation is None else ((validation.images - mean) / std, validation.labels), seed)
    best = _Tried(np.nan, np.nan, 1.0)
    for strength in _STRENGTHS if parts else ():
        tried = _mean(parts, classes, strength, centred)
        best = best if tried.loss >= best.loss else tried  # NaN, the first one's, is not below anything
    weight, bias = _fitted(x, labels, classes, best.strength, centred)
    weight = weight / std
    return Probe(weight, bias - (weight * mean).sum(1), best.accuracy, best.loss, best.strength)


class _Tried(NamedTuple):
    accuracy: float
    loss: float
    strength: float


_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # rows and labels to fit, rows and labels to judge by


def _judges(x: np.ndarray, labels: np.ndarray, validation: tuple[np.ndarray, np.ndarray] | None, seed: int) -> list[_Part]:
    if validation is not None:
        return [(x, labels, validation[0].astype(np.float32), validation[1])]
    if len(x) < 2:
        return []
    folds = k_fold(labels, min(_FOLDS, len(x)), seed=seed)
    return [(x[rest], labels[rest], x[fold], labels[fold]) for rest, fold in _some(folds, len(x))]


def _some(folds: Iterator[tuple[np.ndarray, np.ndarray]], samples: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield next(folds)
    if samples < _ONE_FOLD_FROM:
        yield from folds


def _mean(parts: list[_Part], classes: int, strength: float, centred: bool) -> _Tried:
    right = lost = count = 0.0
    for rows, labels, others, theirs in parts:
        weight, bias = _fitted(rows, labels, classes, strength, centred)
        given = [tensor(values.astype(np.float32)) for values in (others, weight, bias)]
        logits = ops.linear(*given).numpy().astype(np.float64)  # not numpy's product, whose bits go with its threads
        logits -= logits.max(1, keepdims=True)
        lost += float((np.log(np.exp(logits).sum(1)) - logits[np.arange(len(theirs)), theirs]).sum())
        right, count = right + float((logits.argmax(1) == theirs).sum()), count + len(theirs)
    return _Tried(right / count, lost / count, strength)


def _fitted(x: np.ndarray, labels: np.ndarray, classes: int, strength: float, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weight (K, F) and bias (K) in float64."""
    with random.using(random.Generator(0)):
        layer = Linear(x.shape[1], classes, bias=centred)
    for p in layer.parameters():
        p.copy_from(np.zeros(p.shape, np.float32))
    given, truth, loss_of = tensor(x), tensor(labels), CrossEntropyLoss()
    optimizer = LBFGS(layer.parameters(), max_iter=_ITERATIONS, history_size=10, line_search_fn="strong_wolfe")
    half = 0.5 / (strength * len(x))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = loss_of(layer(given), truth) + (layer.weight * layer.weight).sum() * half
        loss.backward()
        return loss

    optimizer.step(closure)
    weight = np.asarray(layer.weight.numpy(), np.float64)
    return weight, np.zeros(classes) if layer.bias is None else np.asarray(layer.bias.numpy(), np.float64)
