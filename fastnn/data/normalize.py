"""Mean and deviation of each channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from ..arguments import flag, instance, numbers
from ..described import plural
from .dataset import Dataset
from .preprocessing import Preprocessing, Shape


class Normalize(Preprocessing):
    """x -> (x - mean) / std, one mean and one std per channel (per feature for data of rank 2), both in units of the raw data (of bytes: 0 to
    255, torchvision's mean and std times 255); fixed.

        x = normalize(images)          # as a Loader(..., normalize=normalize) gives them
        normalize.inverse(x)           # the images again
    """

    _fixed = ("mean", "std", "scale", "shift")

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = numbers("Normalize", "mean", mean), numbers("Normalize", "std", std)
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"Normalize: {len(self.mean)} means and {len(self.std)} standard deviations; expected as many of one as of the other"
            )
        if not all(0 < s < float("inf") for s in self.std):
            raise ValueError(f"Normalize: std {self.std} must be positive and finite")
        self._exact = (
            1 / np.array(self.std),
            -np.array(self.mean) / np.array(self.std),
        )  # for floats, whose mean may be a million deviations
        self.scale, self.shift = (values.astype(np.float32) for values in self._exact)
        self._settle()

    @classmethod
    def fit(cls, dataset: Dataset, *, std: bool = True) -> Normalize:
        """Mean and std (divisor n) of the training set: exact for bytes, in float64 for floats. A constant channel gets std 1.

        std=False: the mean alone is subtracted, std is 1 (VGG: Simonyan, Zisserman 2014). The set is read block by block; floats twice.
        """
        flag("Normalize.fit", "std", std)
        if not len(instance("Normalize.fit", "dataset", dataset, Dataset, "a data set, such as data.ArrayDataset(images, labels)")):
            raise ValueError("Normalize.fit: the data set is empty; it needs at least one sample")
        blocks = dataset.blocks()
        first = next(blocks)
        mean, variance = _byte_moments(first, blocks) if first.dtype == np.uint8 else _float_moments(first, blocks, dataset)
        return cls(mean, [v**0.5 or 1.0 if std else 1.0 for v in variance])

    def gathered(self, of_bytes: bool) -> tuple[np.ndarray, np.ndarray]:
        return (self.scale, self.shift) if of_bytes else self._exact

    def fits(self, shape: Shape, cropped: bool = False) -> bool:
        return len(shape) in (1, 3) and shape[0] == len(self.mean)

    def wanted(self, shape: Shape) -> str:
        return plural(len(self.mean), "feature" if len(shape) == 1 else "channel")

    def misfit(self, shape: Shape) -> str:
        return f"normalize has {len(self.mean)} channels, the data set {shape[0]}"

    def inverse(self, x: Any) -> np.ndarray:
        """x std + mean, of a Tensor or an array (N, C, H, W) or (N, F), in float32: the raw data again but for rounding, to be looked at."""
        values = self._checked(x, None, self._whole())
        std, mean = (np.reshape(each, (-1, *[1] * (values.ndim - 2))) for each in (self.std, self.mean))
        raw: np.ndarray = (values * std + mean).astype(np.float32)
        return raw

    def _whole(self) -> str:
        return f"(N, C, H, W) with C = {len(self.mean)}, or (N, {len(self.mean)})"

    def state(self) -> dict[str, list[float]]:
        """What `Normalize(**state)` makes this one again from; for JSON."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def __repr__(self) -> str:
        if len(self.mean) > 4:
            return f"Normalize(mean={self.mean[0]:.4g} ..., std={self.std[0]:.4g} ..., {len(self.mean)} features)"
        return f"Normalize(mean={list(self.mean)}, std={list(self.std)})"


def _rows(images: np.ndarray) -> np.ndarray:
    """(values, channels)"""
    return images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1]) if images.ndim == 4 else images


def _byte_moments(first: np.ndarray, others: Iterator[np.ndarray]) -> tuple[list[float], list[float]]:
    channels = first.shape[1]
    n, total, squares = 0, [0] * channels, [0] * channels
    for images in chain([first], others):
        rows = _rows(images).astype(np.int64)
        n += len(rows)
        total = [a + int(b) for a, b in zip(total, rows.sum(0))]
        squares = [a + int(b) for a, b in zip(squares, np.einsum("ij,ij->j", rows, rows))]
    return [t / n for t in total], [(n * s - t * t) / (n * n) for t, s in zip(total, squares)]  # exact up to the one division


def _float_moments(first: np.ndarray, others: Iterator[np.ndarray], dataset: Dataset) -> tuple[list[float], list[float]]:
    n, total = 0, np.zeros(first.shape[1])
    for images in chain([first], others):
        n, total = n + len(_rows(images)), total + _rows(images).sum(0, dtype=np.float64)
    mean = total / n
    if not np.isfinite(mean).all():
        raise ValueError(f"Normalize.fit: {first_that_is_no_number(dataset)}; repair or leave out that sample")
    variance = sum(np.square(_rows(images) - mean).sum(0) for images in dataset.blocks()) / n
    return list(mean), list(variance)


def first_that_is_no_number(dataset: Dataset) -> str:
    """Where it lies, in words: for statistics that are none."""
    before = 0
    for images in dataset.blocks():
        wrong = np.argwhere(~np.isfinite(images))
        if len(wrong):
            sample, *place = wrong[0].tolist()
            at = before + sample
            row = at if dataset._rows is None else int(dataset._rows[at])
            part = f" (number {row} of the set that it is a part of)" if row != at else ""
            return f"sample {at} of {len(dataset)}{part} holds {images[tuple(wrong[0])]} at {place}"
        before += len(images)
    return "the values are too large for their sum"
