"""Images for tests of augmentation, and what steps draw and make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import reference
from kernel_calls import Array

from fastnn import _C, random
from fastnn.data import ArrayDataset
from fastnn.data.augment import frames_of

SEED = 2**40 + 5


def noise(n: int = 30, shape: tuple[int, ...] = (3, 9, 8), dtype: type = np.uint8) -> ArrayDataset:
    values = np.random.default_rng(0).integers(0, 256, (n, *shape))
    return ArrayDataset(values.astype(dtype), np.arange(n))


def uniforms(n: int, stream: int, epoch: int = 0) -> Array:
    return np.array([int(w) for w in reference.random_words(0, n, SEED, epoch + stream * 2**32, random.AUGMENTATION)]) / 2.0**32


def shown(images: Array, steps: Any, epoch: int = 0, dtype: type = np.float64) -> Array:
    """What the steps make of these images, alone."""
    frames = frames_of(steps, SEED, epoch, len(images), images.shape[2:])
    ones = np.ones(images.shape[1], np.float32)
    if dtype == np.uint8:
        return frames.gather(_C.from_numpy(images.astype(np.uint8)), np.arange(len(images)), ones, 0 * ones).numpy()
    return frames.show(images.astype(dtype), ones, 0 * ones)
