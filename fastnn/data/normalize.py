"""Preprocessing that is fitted on the training set and applied unchanged ever after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .dataset import ArrayDataset

_BLOCK = 1024  # images at a time: the sums need 8 bytes per pixel


class Normalize:
    """x -> (x - mean) / std, one mean and one std per channel (per feature for data of rank 2), both in units of the raw data."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = tuple(float(m) for m in mean), tuple(float(s) for s in std)
        if len(self.mean) != len(self.std):
            raise ValueError(f"Normalize: {len(self.mean)} means and {len(self.std)} standard deviations")
        if not all(0 < s < float("inf") for s in self.std):
            raise ValueError(f"Normalize: std {self.std} must be positive and finite")
        self.scale = (1 / np.array(self.std)).astype(np.float32)
        self.shift = (-np.array(self.mean) / np.array(self.std)).astype(np.float32)

    @classmethod
    def fit(cls, dataset: ArrayDataset) -> Normalize:
        """Mean and std (divisor n) of the training set: exact for bytes, in float64 for floats. A constant channel gets std 1."""
        if not len(dataset):
            raise ValueError("Normalize.fit: the data set is empty")
        mean, variance = _byte_moments(dataset.images) if dataset.images.dtype == np.uint8 else _float_moments(dataset.images)
        return cls(mean, [v**0.5 or 1.0 for v in variance])

    def state(self) -> dict[str, list[float]]:
        """What `Normalize(**state)` makes this one again from; for JSON."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def __repr__(self) -> str:
        return f"Normalize(mean={list(self.mean)}, std={list(self.std)})"


def _rows(images: np.ndarray) -> np.ndarray:
    """(values, channels)"""
    return images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1]) if images.ndim == 4 else images


def _byte_moments(images: np.ndarray) -> tuple[list[float], list[float]]:
    channels = images.shape[1]
    n, total, squares = 0, [0] * channels, [0] * channels
    for start in range(0, len(images), _BLOCK):
        rows = _rows(images[start : start + _BLOCK]).astype(np.int64)
        n += len(rows)
        total = [a + int(b) for a, b in zip(total, rows.sum(0))]
        squares = [a + int(b) for a, b in zip(squares, np.einsum("ij,ij->j", rows, rows))]
    return [t / n for t in total], [(n * s - t * t) / (n * n) for t, s in zip(total, squares)]  # exact up to the one division


def _float_moments(images: np.ndarray) -> tuple[list[float], list[float]]:
    blocks = [images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK)]
    n = sum(len(_rows(block)) for block in blocks)
    mean = sum(_rows(block).sum(0, dtype=np.float64) for block in blocks) / n
    variance = sum(np.square(_rows(block) - mean).sum(0) for block in blocks) / n
    return list(mean), list(variance)
