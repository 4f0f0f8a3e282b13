"""Windows at fixed places: nothing is drawn, every image shows the same part. For test time: `train.five_crops` and its like average over them."""

from __future__ import annotations

from ..arguments import integer, one_of
from .augment import Augmentation, checked_sides
from .frames import Draws, Frames, Size

CORNERS = ("top left", "top right", "bottom left", "bottom right")


class Crop(Augmentation):
    """The window of `size`, (height, width) or one number for both, whose first pixel is pixel (top, left): images[:, :, top : top + height,
    left : left + width], whole pixels.

    ValueError where it does not lie within the images (RandomCrop and Shift have a border).
    """

    def __init__(self, top: int, left: int, size: int | Size) -> None:
        self.top, self.left = (integer("Crop", name, at, 0, 2**31) for name, at in (("top", top), ("left", left)))
        self.size = checked_sides("Crop", size)

    def place(self, frames: Frames, draws: Draws) -> None:
        _show(self, frames, self.top, self.left, self.size)


class CornerCrop(Augmentation):
    """The window of `size`, (height, width) or one number for both, in a corner of the image: "top left", "top right", "bottom left" or
    "bottom right". ValueError where images are smaller."""

    def __init__(self, corner: str, size: int | Size) -> None:
        self.corner, self.size = one_of("CornerCrop", "corner", corner, CORNERS), checked_sides("CornerCrop", size)

    def place(self, frames: Frames, draws: Draws) -> None:
        down, right = (n - window for n, window in zip(frames.size, self.size))
        _show(self, frames, down * ("bottom" in self.corner), right * ("right" in self.corner), self.size)


class CenterCrop(Augmentation):
    """The window of `size`, (height, width) or one number for both, in the middle: it begins at round((n - size) / 2), half to even, as
    torchvision's. ValueError where images are smaller (torchvision pads them)."""

    def __init__(self, size: int | Size) -> None:
        self.size = checked_sides("CenterCrop", size)

    def place(self, frames: Frames, draws: Draws) -> None:
        top, left = (round((n - window) / 2) for n, window in zip(frames.size, self.size))
        _show(self, frames, top, left, self.size)


def _show(step: Augmentation, frames: Frames, top: int, left: int, size: Size) -> None:
    """The window, if it lies within the images."""
    if any(at < 0 or at + window > n for at, window, n in zip((top, left), size, frames.size)):
        raise ValueError(f"{step!r}: a window of {size} does not fit into images of {frames.size}; expected one within them")
    frames.crop(top, left, size)
