"""Made-up sets for trying things out: points that a line cannot part, clouds of points, pictures of stripes.

The same seed gives the same samples; another seed gives other samples of the same classes, for a test set.
"""

from __future__ import annotations

import numpy as np

from .. import random
from ..arguments import integer, number
from .dataset import ArrayDataset

_MOST = 2**31
_CENTRES = 2**62  # the seed of what the classes are, whatever the samples' seed


def spirals(n: int = 300, *, classes: int = 3, noise: float = 0.2, seed: int = 0) -> ArrayDataset:
    """n points (x, y), features (n, 2), on `classes` arms of a spiral: radius r from 0 to 1, angle 4 (k + r) + noise z for class k.

    The set of CS231n's case study "Putting it together: minimal neural network"; there 3 arms of 100 points, angles with noise 0.2.
    """
    labels = _labels("spirals", n, classes, noise, seed)
    place = np.arange(n) // classes
    radius = place / max(1, place.max())
    angle = 4 * (labels + radius) + noise * random.Generator(seed).normal((n,))
    return ArrayDataset((radius * np.stack([np.sin(angle), np.cos(angle)])).T.astype(np.float32), labels)


def blobs(n: int = 300, *, classes: int = 3, features: int = 2, spread: float = 0.3, seed: int = 0) -> ArrayDataset:
    """n points in normal clouds: centre of the class + spread z, features (n, features). Centres are normal too, the same for every seed."""
    labels = _labels("blobs", n, classes, spread, seed, "spread")
    integer("blobs", "features", features, 1, _MOST)
    centres = random.Generator(_CENTRES).normal((classes, features))
    return ArrayDataset(centres[labels] + spread * random.Generator(seed).normal((n, features)), labels)


def stripes(n: int = 400, *, classes: int = 4, size: int = 16, noise: float = 0.2, seed: int = 0) -> ArrayDataset:
    """n grey pictures (n, 1, size, size) of stripes, bytes: class k runs at k / classes of a half turn, with a wavelength of size / 4 and a
    random phase, so that no single pixel tells anything. noise: its std as a share of the stripes' amplitude."""
    labels = _labels("stripes", n, classes, noise, seed)
    integer("stripes", "size", size, 1, _MOST)
    generator = random.Generator(seed)
    phase = 2 * np.pi * generator.uniform((n, 1, 1)).astype(np.float64)
    angle = (np.pi * labels / classes)[:, None, None]
    y, x = np.mgrid[:size, :size]
    wave = np.sin(8 * np.pi / size * (x * np.cos(angle) + y * np.sin(angle)) + phase) + noise * generator.normal((n, size, size))
    return ArrayDataset((127.5 + 80 * wave).clip(0, 255).round().astype(np.uint8), labels)


def _labels(name: str, n: int, classes: int, noise: float, seed: int, called: str = "noise") -> np.ndarray:
    integer(name, "n", n, 0, _MOST), integer(name, "classes", classes, 0, _MOST), integer(name, "seed", seed, 0, 2**63)
    number(name, called, noise, "[0, inf)")
    if classes < 1 or n < classes:
        raise ValueError(f"{name}: {n} samples in {classes} classes; expected at least one sample for each of 1 or more classes")
    return np.arange(n) % classes
