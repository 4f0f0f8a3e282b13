"""Rectangles of the finished image that are erased."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import integer, number
from .augment import Augmentation, checked_fill, checked_range
from .frames import Draws, Fill, Frames
from .warp import TRIES, rectangles


class RandomErasing(Augmentation):
    """With probability p a rectangle at a random place becomes `value` (Zhong et al., "Random erasing data augmentation", AAAI 2020), with the
    arguments and distribution of torchvision's RandomErasing: the area `scale` times the image's, height over width log-uniform in `ratio`.

    value: a number for all channels or one each, in units of the normalised batch, where 0 is the mean; it is written last (before a
    MeanImage, PCA or ZCA, to which 0 is the channel's mean and others are in units of the raw data).
    """

    streams = 2 * TRIES + 3

    def __init__(self, p: float = 0.5, *, scale: Any = (0.02, 0.33), ratio: Any = (0.3, 3.3), value: Fill = 0.0) -> None:
        self.p = number("RandomErasing", "p", p, "[0, 1]")
        self.scale = checked_range("RandomErasing", "scale", scale, "(0, 1]")
        self.ratio = checked_range("RandomErasing", "ratio", ratio, "(0, inf)")
        self.value = checked_fill("RandomErasing", value, "value")

    def place(self, frames: Frames, draws: Draws) -> None:
        found, height, width = rectangles(draws, 1, frames.size, self.scale, self.ratio, tallness=True, smaller=True)
        happens = found & draws.chance(self.p)
        top, left = (draws.below(n - side + 1, 2 * TRIES + k) for k, n, side in zip((1, 2), frames.size, (height, width)))
        frames.erase(np.stack([top, left, height * happens, width * happens], 1), self.value)


class Cutout(Augmentation):
    """A square of `size` pixels around a random pixel becomes `value`; what of it lies outside is cut off (DeVries, Taylor, arXiv 1708.04552).

    value is RandomErasing's.
    """

    streams = 2

    def __init__(self, size: int, *, value: Fill = 0.0) -> None:
        self.size, self.value = integer("Cutout", "size", size, 1, 2**31), checked_fill("Cutout", value, "value")

    def place(self, frames: Frames, draws: Draws) -> None:
        top, left = (draws.below(n, stream) - self.size // 2 for stream, n in enumerate(frames.size))
        side = np.full(draws.count, self.size)
        frames.erase(np.stack([top, left, side, side], 1), self.value)
