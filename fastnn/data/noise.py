"""Noise on the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import number
from .augment import Augmentation, checked_range
from .frames import Draws, Frames


class GaussianNoise(Augmentation):
    """With probability p a normal number of deviation `std` is added to every pixel and channel of an image, each its own:

        v becomes v + white std z,  z ~ N(0, 1)        white: 255 for bytes, 1.0 for float images; before normalisation

    std: in units of white, so 0.1 is torchvision's GaussianNoise(sigma=0.1) of images from 0 to 1; (smallest, largest) draws a deviation for
    each image. Float images with values up to 255 need 255 times as much, bytes up to 16, as the digits', 16 / 255.

    It is a sensor's noise: it lies on what is shown in the end, the fill of a border too, after all crops, warps and colours, wherever in the list it
    stands; an erased rectangle has none. Bytes are limited to 0 ... 255 after it, floats are not. Of several steps the variances add up.
    The number for value e of a sample as it lies in memory (row, column, channel) is that of words e of Philox(seed; draw epoch, noise) from
    block 2^32 times the sample's position on (Box, Muller 1958): the same for any batch, order and number of threads.
    """

    streams = 2

    def __init__(self, std: Any = 0.1, p: float = 1.0) -> None:
        self.std: tuple[float, float] | float
        if isinstance(std, (tuple, list)):
            self.std = checked_range("GaussianNoise", "std", std, "[0, inf)")
        else:
            self.std = number("GaussianNoise", "std", std, "[0, inf)")
        self.p = number("GaussianNoise", "p", p, "[0, 1]")

    def place(self, frames: Frames, draws: Draws) -> None:
        deviation = draws.uniform(*self.std, 1) if isinstance(self.std, tuple) else self.std
        frames.add_noise(np.where(draws.chance(self.p), deviation, 0.0), draws)
