"""Random changes of each image: crops, mirror images, and in warp.py, colour.py and erase.py the others. However many there are, they become one map,
one colour matrix and one rectangle per sample (frames.py), which the kernel that gathers and normalises the batch follows.

    augment = [data.RandomCrop(2, padding_mode="reflect"), data.Flip(alternating=True), data.ColorJitter(0.2, 0.2, 0.2)]
    for x, labels in data.Loader(train, 1024, shuffle=True, augment=augment): ...

What happens to a sample is a pure function of (seed, epoch, its position in the data set): not of the order, the batch size, the device or
where a training was resumed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from ..arguments import flag, integer, number, numbers, one_of, shown, unwrapped
from ..described import Described
from ..other_names import told
from .frames import BORDERS, Draws, Fill, Frames, Size


class Augmentation(Described, ABC):
    """A change of images that is drawn anew for each sample and epoch. A subclass says how many `streams` of random words it uses and, in
    `place`, what it does to the frames."""

    streams = 0

    @abstractmethod
    def place(self, frames: Frames, draws: Draws) -> None:
        """Changes the frames of all samples for the epoch of `draws`."""


class RandomCrop(Augmentation):
    """A window of `size` (that of the image unless given) at a random place of the image with `padding` pixels added on each side.

    padding_mode: "constant" (pixels of the raw value `fill`, one for all channels or one each), "edge" (the outermost pixels again) or
    "reflect" (mirrored about them), as torchvision's. ValueError when the window is larger than the padded image, and for a padding of more
    than half of the image without a size: torchvision's first argument is the size, here RandomCrop(size=28).
    """

    streams = 2

    @told(
        {},
        several="the first is the padding: RandomCrop(4) shows images in their own size, RandomCrop(4, size=32) in another",
        number="padding",
    )
    def __init__(self, padding: int = 0, *, size: int | Size | None = None, padding_mode: str = "constant", fill: Fill = 0.0) -> None:
        self.padding, self.size = (
            integer("RandomCrop", "padding", padding, 0, 2**31),
            None if size is None else checked_sides("RandomCrop", size),
        )
        self.padding_mode, self.fill = checked_border("RandomCrop", padding_mode), checked_fill("RandomCrop", fill)

    def place(self, frames: Frames, draws: Draws) -> None:
        if self.size is None and self.padding > 1 and 2 * self.padding > min(frames.size):
            raise ValueError(
                f"RandomCrop: padding {self.padding} is more than half of images of {frames.size}; RandomCrop(size={self.padding}) is a window of "
                f"that size, and size={frames.size} says that such a padding is meant"
            )
        size = self.size or frames.size
        down, right = (n + 2 * self.padding - window + 1 for n, window in zip(frames.size, size))
        if down < 1 or right < 1:
            raise ValueError(f"RandomCrop: a window of {size} does not fit into images of {frames.size} with padding {self.padding}")
        frames.crop(draws.below(down, 0) - self.padding, draws.below(right, 1) - self.padding, size)
        if self.padding:
            frames.beyond(self.padding_mode, self.fill)


class Flip(Augmentation):
    """Left and right change places with probability p.

    alternating: only the first epoch is drawn; after it each image changes from epoch to epoch, so that two epochs show both (Jordan,
    "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498).
    """

    streams = 1

    def __init__(self, p: float = 0.5, *, alternating: bool = False) -> None:
        self.p, self.alternating = number("Flip", "p", p, "[0, 1]"), flag("Flip", "alternating", alternating)

    def place(self, frames: Frames, draws: Draws) -> None:
        chosen = draws.chance(self.p, epoch=0 if self.alternating else None)
        frames.mirror(chosen ^ (self.alternating and draws.epoch % 2 == 1))


class Shift(Augmentation):
    """Every image moved by the same way: pixel (p, q) shows what was at (p + down, q + right). Not random: for views at test time.

    padding_mode and fill are RandomCrop's.
    """

    def __init__(self, down: int, right: int, *, padding_mode: str = "constant", fill: Fill = 0.0) -> None:
        self.down, self.right = (integer("Shift", name, by, -(2**31), 2**31) for name, by in (("down", down), ("right", right)))
        self.padding_mode, self.fill = checked_border("Shift", padding_mode), checked_fill("Shift", fill)

    def place(self, frames: Frames, draws: Draws) -> None:
        frames.crop(self.down, self.right, frames.size)
        frames.beyond(self.padding_mode, self.fill)


def frames_of(steps: Sequence[Augmentation], seed: int, epoch: int, count: int, size: Size) -> Frames:
    """What `count` samples of `size` show in an epoch after these steps, one after the other."""
    frames, draws = Frames(count, size), Draws(seed, epoch, count)
    for step in steps:
        draws.streams = step.streams
        step.place(frames, draws)
        draws.first_stream += step.streams
    return frames


def checked_border(name: str, mode: str) -> str:
    """What lies outside of an image."""
    return one_of(name, "padding_mode", mode, BORDERS)


def checked_fill(name: str, fill: Fill, argument: str = "fill") -> Fill:
    """One number for all channels, or one each."""
    return number(name, argument, fill) if isinstance(unwrapped(fill), Real) else numbers(name, argument, fill)


def checked_range(name: str, argument: str, given: Any, within: str) -> tuple[float, float]:
    """Two numbers, the first not above the second."""
    low, high = numbers(name, argument, given, 2, within)
    if low > high:
        raise ValueError(f"{name}: {argument} must be (smallest, largest), got {shown(given)}")
    return low, high


def checked_sides(name: str, size: Any) -> Size:
    """A number of pixels, or (height, width)."""
    size = unwrapped(size)
    if hasattr(size, "__index__") and not isinstance(size, np.ndarray):
        size = (size, size)
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise TypeError(f"{name}: size must be a number of pixels or (height, width), got {shown(size)}")
    return integer(name, "size", size[0], 1, 2**31), integer(name, "size", size[1], 1, 2**31)
