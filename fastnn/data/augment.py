"""Random changes of each image: a crop, a mirror image. However many there are, they become one map per sample, which the kernel that gathers
and normalises the batch follows.

    augment = [data.RandomCrop(2, padding_mode="reflect"), data.Flip(alternating=True)]
    for x, labels in data.Loader(train, 1024, shuffle=True, augment=augment): ...

What happens to a sample is a pure function of (seed, epoch, its position in the data set): not of the order, the batch size, the device or
where a training was resumed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np

from .. import _C, random
from ..arguments import flag, integer, number, numbers, one_of, shown

Size = tuple[int, int]
Fill = float | Sequence[float]

_BORDERS = ("constant", "edge", "reflect")
_geometry = lru_cache(1024)(_C.Augment)


class Draws:
    """The random words of an epoch. Stream k of a sample is the word of its position in Philox(seed; draw epoch + 2^32 k, augmentation)."""

    def __init__(self, seed: int, epoch: int, count: int) -> None:
        self.epoch, self.count, self.first_stream = epoch, count, 0
        self._generator = random.Generator(seed)

    def words(self, stream: int = 0, epoch: int | None = None) -> np.ndarray:
        """A word of 32 bits (as uint64) for each sample, from the augmentation's stream of that number; of this epoch unless told."""
        draw = (self.epoch if epoch is None else epoch) + (self.first_stream + stream << 32)
        words: np.ndarray = self._generator.bits(self.count, draw, random.AUGMENTATION).astype(np.uint64)
        return words

    def below(self, count: int, stream: int = 0) -> np.ndarray:
        """A number of [0, count) for each sample."""
        numbers: np.ndarray = (self.words(stream) * np.uint64(count) >> np.uint64(32)).astype(np.int64)
        return numbers

    def chance(self, p: float, stream: int = 0, epoch: int | None = None) -> np.ndarray:
        """Whether what has probability p happens to each sample."""
        chosen: np.ndarray = self.words(stream, epoch) < round(p * 2**32)
        return chosen


class Frames:
    """What each sample shows of its image: pixel (p, q) of `size` is pixel (top + p, left + step q) of the image, (top, left, step) its row
    of `map`; step is -1 where the image is mirrored. Beyond the image lies the border, met once, however many maps were composed."""

    def __init__(self, count: int, size: Size) -> None:
        self.size = size
        self.map = np.zeros((count, 3), np.int64)
        self.map[:, 2] = 1
        self.border: tuple[str, Fill] | None = None

    def crop(self, down: np.ndarray | int, right: np.ndarray | int, size: Size) -> None:
        """From now on only the window of `size` that begins `down` and `right` of the first pixel (negative: outside) is shown."""
        self.map[:, 0] += down
        self.map[:, 1] += self.map[:, 2] * right
        self.size = size

    def mirror(self, chosen: np.ndarray) -> None:
        """Left and right change places in the chosen samples."""
        self.map[chosen, 1] += self.map[chosen, 2] * (self.size[1] - 1)
        self.map[chosen, 2] *= -1

    def beyond(self, border: str, fill: Fill) -> None:
        """What lies outside of the image. ValueError when another border was asked for before."""
        if self.border not in (None, (border, fill)):
            raise ValueError(
                f"augment: one step has the border {self.border}, another {(border, fill)}; an image has one: give them the same"
            )
        self.border = border, fill

    def _border(self, channels: int) -> tuple[str, Fill]:
        border, fill = self.border or ("constant", 0.0)
        if np.size(fill) not in (1, channels):
            raise ValueError(f"augment: fill {fill} has {np.size(fill)} values, the images {channels} channels; one value serves all")
        return border, fill

    def take(self, positions: np.ndarray) -> Frames:
        """Those of the samples at these positions, in this order."""
        part = Frames(0, self.size)
        part.map, part.border = self.map[positions], self.border
        return part

    def gather(self, source: _C.Array, rows: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> _C.Array:
        """The batch of source[rows] (bytes) as its frames show it, times scale plus shift; where the source lies."""
        border, fill = self._border(len(scale))
        outside = (np.broadcast_to(np.asarray(fill, np.float32), scale.shape) * scale + shift).astype(np.float32)
        operands = (rows, self.map, outside, scale, shift)
        plan = _geometry(source.shape, len(rows), self.size, border)
        return _C.gather_augment(plan, source, *(_C.from_numpy(a, source.device) for a in operands))

    def pick(self, images: np.ndarray) -> np.ndarray:
        """`gather` without scale and shift for images (n, C, H, W) of any type, in numpy."""
        border, fill = self._border(images.shape[1])
        p, q = (np.arange(n) for n in self.size)
        rows, rows_inside = _shown(self.map[:, :1] + p, images.shape[2], border)
        columns, columns_inside = _shown(self.map[:, 1:2] + self.map[:, 2:] * q, images.shape[3], border)
        shown = images[np.arange(len(images))[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, P, Q, C)
        shown[~(rows_inside[:, :, None] & columns_inside[:, None, :])] = fill
        result: np.ndarray = shown.transpose(0, 3, 1, 2)
        return result


def _shown(places: np.ndarray, size: int, border: str) -> tuple[np.ndarray, np.ndarray]:
    """Which of [0, size) stands for each place, and whether that is a pixel rather than the fill."""
    inside = (places >= 0) & (places < size)
    if border != "reflect" or size == 1:
        return np.clip(places, 0, size - 1), inside | (border != "constant")
    turn = places % (2 * size - 2)
    return np.where(turn < size, turn, 2 * size - 2 - turn), np.ones_like(inside)


class Augmentation(ABC):
    """A change of images that is drawn anew for each sample and epoch. A subclass says how many `streams` of random words it uses and, in
    `place`, what it does to the frames."""

    streams = 0

    @abstractmethod
    def place(self, frames: Frames, draws: Draws) -> None:
        """Changes the frames of all samples for the epoch of `draws`."""


class RandomCrop(Augmentation):
    """A window of `size` (that of the image unless given) at a random place of the image with `padding` pixels added on each side.

    padding_mode: "constant" (pixels of the raw value `fill`, one for all channels or one each), "edge" (the outermost pixels again) or
    "reflect" (mirrored about them), as torchvision's. ValueError when the window is larger than the padded image.
    """

    streams = 2

    def __init__(self, padding: int = 0, *, size: int | Size | None = None, padding_mode: str = "constant", fill: Fill = 0.0) -> None:
        self.padding, self.size = (
            integer("RandomCrop", "padding", padding, 0, 2**31),
            None if size is None else checked_sides("RandomCrop", size),
        )
        self.padding_mode, self.fill = _checked_border("RandomCrop", padding_mode), _checked_fill("RandomCrop", fill)

    def place(self, frames: Frames, draws: Draws) -> None:
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
        self.padding_mode, self.fill = _checked_border("Shift", padding_mode), _checked_fill("Shift", fill)

    def place(self, frames: Frames, draws: Draws) -> None:
        frames.crop(self.down, self.right, frames.size)
        frames.beyond(self.padding_mode, self.fill)


def frames_of(steps: Sequence[Augmentation], seed: int, epoch: int, count: int, size: Size) -> Frames:
    """What `count` samples of `size` show in an epoch after these steps, one after the other."""
    frames, draws = Frames(count, size), Draws(seed, epoch, count)
    for step in steps:
        step.place(frames, draws)
        draws.first_stream += step.streams
    return frames


def _checked_border(name: str, mode: str) -> str:
    return one_of(name, "padding_mode", mode, _BORDERS)


def _checked_fill(name: str, fill: Fill) -> Fill:
    return number(name, "fill", fill) if isinstance(fill, Real) else numbers(name, "fill", fill)


def checked_sides(name: str, size: Any) -> Size:
    """A number of pixels, or (height, width)."""
    if hasattr(size, "__index__") and not isinstance(size, np.ndarray):
        size = (size, size)
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise TypeError(f"{name}: size must be a number of pixels or (height, width), got {shown(size)}")
    return integer(name, "size", size[0], 1, 2**31), integer(name, "size", size[1], 1, 2**31)
