"""Batches whose samples are mixed in pairs: mixup and CutMix. Each sample of a batch meets the one at its place in a permutation of the batch.

    loader = data.Loader(train, 128, shuffle=True, mix=[data.MixUp(0.2), data.CutMix(1.0)])
    for x, probabilities in loader: ...  # (N, C, H, W) and float32 (N, classes)

How a batch is mixed is a pure function of (seed, epoch, the position of its first sample in the data set): not of the device, of threads or of
where a training was resumed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import cos, exp, log, pi, sqrt
from typing import Any, NamedTuple

import numpy as np

from .. import _C, random, scopes
from ..arguments import integer, number, shown
from ..described import Described
from ..ops.shape import memory_strides, strided
from .dataset import Dataset

_UNITS = 2**24  # of shares: float32 holds each and its rest, and they add up to 1
_ORDER = 2**32  # the draw of a batch's permutation; those before it are of shares and places
_PAIR = _C.ParameterList(1)

_rows = lru_cache(1024)(_C.GatherAlong)


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int


class Mixture(NamedTuple):
    """Of one batch: sample i keeps `share` of itself and has the rest of sample partners[i]: of each pixel, or as all pixels of `box`."""

    partners: np.ndarray
    share: float
    box: Box | None


class Mix(Described, ABC):
    """How the samples of a batch are mixed, with one number lam ~ Beta(alpha, alpha) for all of them, as in the papers' programs, in torchvision
    and in timm: the values of alpha that are published were found with it."""

    def __init__(self, alpha: float, p: float, num_classes: int | None) -> None:
        name = type(self).__name__
        self.alpha, self.p = number(name, "alpha", alpha, "(0, inf)"), number(name, "p", p, "[0, 1]")
        self.num_classes = None if num_classes is None else integer(name, "num_classes", num_classes, 2, 2**31)

    @abstractmethod
    def drawn(self, uniforms: Iterator[float], shape: tuple[int, ...]) -> tuple[float, Box | None]:
        """The share that each sample keeps, and the rectangle that it does not; shape is that of one finished image."""


class MixUp(Mix):
    """mixup: x = lam x_i + (1 - lam) x_j and y = lam y_i + (1 - lam) y_j with lam ~ Beta(alpha, alpha), j a permutation of the batch
    (Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond empirical risk minimization", ICLR 2018).

    alpha: 0.1 to 0.4 in the paper for ImageNet, 1 for CIFAR-10; the smaller, the nearer lam is to 0 or 1. p: the probability with which a batch is
    mixed. num_classes: the width of y where the data set does not tell it, at least 2; left out, dataset.num_classes. lam is one for each
    batch, in units of 2^-24. Samples may be images or features. TypeError or ValueError for other arguments.
    """

    def __init__(self, alpha: float = 0.2, *, p: float = 1.0, num_classes: int | None = None) -> None:
        super().__init__(alpha, p, num_classes)

    def drawn(self, uniforms: Iterator[float], shape: tuple[int, ...]) -> tuple[float, Box | None]:
        return beta(self.alpha, uniforms), None


class CutMix(Mix):
    """CutMix: a rectangle of x_j is pasted into x_i at the same place, and y = lam y_i + (1 - lam) y_j, lam being the share of pixels that stay; j is
    a permutation of the batch (Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: Regularization strategy to train strong classifiers", ICCV 2019).

    With l ~ Beta(alpha, alpha) the rectangle has sqrt(1 - l) of the image's height and width, its sides even, around a pixel drawn evenly; what
    lies beyond the border is cut off, and lam counted after that: one for each batch, in units of 2^-24. alpha: 1 in the paper. p: the probability
    with which a batch is mixed, 0.5 in the paper for CIFAR and 1 for ImageNet. num_classes: as MixUp's. The finished image is cut, behind all
    augmentation. ValueError by the Loader for samples that are no images.
    """

    def __init__(self, alpha: float = 1.0, *, p: float = 1.0, num_classes: int | None = None) -> None:
        super().__init__(alpha, p, num_classes)

    def drawn(self, uniforms: Iterator[float], shape: tuple[int, ...]) -> tuple[float, Box | None]:
        part, (height, width) = sqrt(1 - beta(self.alpha, uniforms)), shape[1:]
        ends = []
        for side in (height, width):
            middle, half = int(next(uniforms) * side), int(part * side / 2)
            ends.append((max(middle - half, 0), min(middle + half, side)))
        (top, bottom), (left, right) = ends
        box = Box(top, left, bottom - top, right - left)
        return 1 - box.height * box.width / (height * width), box


class Mixing:
    """How the batches of an epoch are mixed: for each by one of `steps`, all of which are as likely."""

    def __init__(self, steps: Sequence[Mix], seed: int, epoch: int, count: int, classes: int) -> None:
        self.steps, self.classes = steps, classes
        words = random.Generator(seed).bits(2 * count, epoch, random.MIX).astype(np.int64)
        self._keys = (words[0::2] << 31) | (words[1::2] >> 1)  # a seed of 63 bits for whichever batch begins with this sample

    def of(self, positions: np.ndarray, shape: tuple[int, ...]) -> Mixture:
        """For the batch of the samples at these positions, of which each is of this shape. A single one has no partner, and stays."""
        n = len(positions)
        if n < 2:
            return Mixture(np.arange(n), 1.0, None)
        generator = random.Generator(int(self._keys[positions[0]]))
        uniforms = _uniforms(generator)
        step = self.steps[int(next(uniforms) * len(self.steps))]
        if next(uniforms) >= step.p:
            return Mixture(np.arange(n), 1.0, None)
        share, box = step.drawn(uniforms, shape)
        return Mixture(np.argsort(generator.bits(n, _ORDER, random.MIX), kind="stable"), round(share * _UNITS) / _UNITS, box)

    def mixed(self, images: _C.Array, labels: np.ndarray, positions: np.ndarray) -> tuple[_C.Array, np.ndarray]:
        """The images of a batch mixed (they may be written to), and probabilities (n, classes) for their labels."""
        labels = np.asarray(labels)
        self._check(labels, positions)
        mixture = self.of(positions, images.shape[1:])
        probabilities, rows = np.zeros((len(labels), self.classes), np.float32), np.arange(len(labels))
        probabilities[rows, labels] = mixture.share
        probabilities[rows, labels[mixture.partners]] += np.float32(1 - mixture.share)
        if mixture.share == 1:
            return images, probabilities
        with scopes.data():
            return (_blended if mixture.box is None else _pasted)(images, mixture), probabilities

    def _check(self, labels: np.ndarray, positions: np.ndarray) -> None:
        if labels.shape != positions.shape or labels.dtype.kind not in "iu":
            got = f"shape {labels.shape} of {labels.dtype}"
            raise TypeError(
                f"Loader: mix takes a class number for each sample, integers of shape {positions.shape}; the data set gives {got}"
            )
        if not len(labels) or 0 <= labels.min() <= labels.max() < self.classes:
            return
        at = int(np.flatnonzero((labels < 0) | (labels >= self.classes))[0])
        where = f"Loader: mix makes probabilities of the classes 0 to {self.classes - 1}, sample {positions[at]} has the label {labels[at]}"
        if labels[at] < 0:
            raise ValueError(f"{where}; one that the loss ignores has none: dataset.take(labels >= 0) leaves such samples out")
        raise ValueError(f"{where}: {type(self.steps[0]).__name__}(num_classes=...) must be larger than every label")


def mixing_steps(mix: Any, dataset: Dataset) -> tuple[tuple[Mix, ...], int]:
    """A Loader's argument as steps, and how many classes they mix (0 without a step)."""
    steps = (mix,) if isinstance(mix, Mix) else tuple(mix) if isinstance(mix, (list, tuple)) else None
    if steps is None or not all(isinstance(step, Mix) for step in steps):
        raise TypeError(f"Loader: mix must be data.MixUp(), data.CutMix() or a list of them, got {shown(mix)}")
    if not steps:
        return (), 0
    if len(dataset.shape) != 3 and any(isinstance(step, CutMix) for step in steps):
        raise ValueError(
            f"Loader: mix: CutMix needs images (C, H, W), the data set has samples of shape {dataset.shape}; MixUp takes those"
        )
    given = {step.num_classes for step in steps if step.num_classes is not None}
    if len(given) > 1:
        raise ValueError(f"Loader: mix has steps with num_classes {' and '.join(map(str, sorted(given)))}; give all the same")
    least = len(dataset.classes) if dataset.classes is not None else 0
    classes = next(iter(given)) if given else dataset.num_classes
    if classes < least:
        raise ValueError(f"Loader: mix has num_classes={classes}, the data set {least} classes; leave it out")
    if classes < 2 and len(dataset):
        raise ValueError(
            "Loader: mix needs the number of classes, and this data set has but one: give it, MixUp(num_classes=10), as many as the model has"
        )
    return steps, classes


def beta(alpha: float, uniforms: Iterator[float]) -> float:
    """A sample of Beta(alpha, alpha) from numbers of (0, 1): a / (a + b) of two gamma samples, by their logarithms, which do not underflow."""
    distance = _log_gamma(alpha, uniforms) - _log_gamma(alpha, uniforms)
    return 1 / (1 + exp(min(distance, 700.0)))


def _log_gamma(alpha: float, uniforms: Iterator[float]) -> float:
    """The logarithm of a sample of Gamma(alpha): Marsaglia, Tsang, "A simple method for generating gamma variables", ACM TOMS 26 (2000). Below 1 it
    is that of alpha + 1 times u^(1 / alpha), as they say."""
    d = (alpha if alpha >= 1 else alpha + 1) - 1 / 3
    while True:
        x = sqrt(-2 * log(next(uniforms))) * cos(2 * pi * next(uniforms))
        v, u = (1 + x / sqrt(9 * d)) ** 3, next(uniforms)
        if v > 0 and log(u) < x * x / 2 + d * (1 - v + log(v)):
            return log(d) + log(v) + (0.0 if alpha >= 1 else log(next(uniforms)) / max(alpha, 1e-300))


def _uniforms(generator: random.Generator) -> Iterator[float]:
    """Numbers of (0, 1), as many as are asked for."""
    for draw in range(_ORDER):
        yield from ((word + 0.5) / 2**32 for word in generator.bits(32, draw, random.MIX).tolist())


def _blended(images: _C.Array, mixture: Mixture) -> _C.Array:
    """x_j + lam (x_i - x_j), which is x_i where both are the same."""
    others = _partners(images, mixture.partners, None)
    _C.average(_PAIR, [others], [images], _C.constant(np.asarray(mixture.share), images.device))
    return others


def _pasted(images: _C.Array, mixture: Mixture) -> _C.Array:
    assert mixture.box is not None
    _C.paste(_view(images.shape, mixture.box), _partners(images, mixture.partners, mixture.box), images)
    return images


def _partners(images: _C.Array, partners: np.ndarray, box: Box | None) -> _C.Array:
    """x_j, or the rectangle of it."""
    if images.device != "cpu":
        return _gathered(images, partners, box)
    lying = images.numpy() if len(images.shape) != 4 else images.numpy().transpose(0, 2, 3, 1)
    if box is not None:
        lying = lying[:, box.top : box.top + box.height, box.left : box.left + box.width]
    taken = lying.take(partners, 0)  # whole rows of memory: six times as fast as the kernel, which takes element by element
    return _C.from_numpy(taken if taken.ndim != 4 else taken.transpose(0, 3, 1, 2))


def _gathered(images: _C.Array, partners: np.ndarray, box: Box | None) -> _C.Array:
    """The same where numpy does not reach."""
    if box is not None:
        images = _C.copy(_view(images.shape, box), images)
    return _C.gather_forward(_rows(images.shape, partners.shape, 0, True), images, _C.from_numpy(partners, images.device))


def _view(shape: tuple[int, ...], box: Box) -> _C.Strided:
    """Where the rectangle lies in images of this shape."""
    strides = memory_strides(shape)
    return strided(shape, (*shape[:2], box.height, box.width), strides, box.top * strides[2] + box.left * strides[3])
