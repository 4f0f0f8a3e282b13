"""Rotations, shifts, scales, shears and resized crops: places between pixels, with the bilinear mean of the four around them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import number, numbers
from .augment import Augmentation, checked_border, checked_fill, checked_range, checked_sides
from .frames import Draws, Fill, Frames, Size

TRIES = 10  # two streams each


class RandomAffine(Augmentation):
    """A rotation, a shift, a scale and a shear about the centre, with the distributions and the matrix of torchvision's RandomAffine:

        place = T(centre + translate) R(angle) S(shear) scale T(-centre)      of what was at a place, clockwise for positive angles

    degrees: the largest angle either way, or (smallest, largest). translate: (a, b), whole pixels up to a times the width and b times the
    height, or None. scale: (smallest, largest), or None. shear: the largest angle along x, or (smallest, largest), or four numbers for
    x and y. center: (x, y) in pixels from the upper left corner; the middle unless given. Always bilinear (torchvision's default takes the
    nearest pixel). padding_mode and fill are RandomCrop's; a place partly outside is the mean of pixels and fill.
    """

    streams = 6

    def __init__(
        self,
        degrees: Any,
        *,
        translate: Any = None,
        scale: Any = None,
        shear: Any = None,
        center: Any = None,
        padding_mode: str = "constant",
        fill: Fill = 0.0,
    ) -> None:
        name = type(self).__name__
        self.degrees = _either_way(name, "degrees", degrees)
        self.translate = (0.0, 0.0) if translate is None else numbers(name, "translate", translate, 2, "[0, 1]")
        self.scale = (1.0, 1.0) if scale is None else checked_range(name, "scale", scale, "(0, inf)")
        self.shear = _shears(name, shear)
        self.center = None if center is None else numbers(name, "center", center, 2)
        self.padding_mode, self.fill = checked_border(name, padding_mode), checked_fill(name, fill)

    def place(self, frames: Frames, draws: Draws) -> None:
        height, width = frames.size
        angle = draws.uniform(*self.degrees, 0)
        right, down = (
            np.rint(draws.uniform(-share * n, share * n, stream)) for share, n, stream in zip(self.translate, (width, height), (1, 2))
        )
        scale = draws.uniform(*self.scale, 3)
        shear_x, shear_y = (draws.uniform(*along, stream) for stream, along in ((4, self.shear[0]), (5, self.shear[1])))
        x, y = ((width - 1) / 2, (height - 1) / 2) if self.center is None else (self.center[0] - 0.5, self.center[1] - 0.5)
        frames.warp(_inverse(angle, right, down, scale, shear_x, shear_y, x, y), frames.size)
        frames.beyond(self.padding_mode, self.fill)


class RandomRotation(RandomAffine):
    """A rotation about the centre, counter-clockwise for positive angles, as torchvision's RandomRotation (without `expand`; always bilinear).

    degrees, center, padding_mode and fill are RandomAffine's.
    """

    def __init__(self, degrees: Any, *, center: Any = None, padding_mode: str = "constant", fill: Fill = 0.0) -> None:
        super().__init__(degrees, center=center, padding_mode=padding_mode, fill=fill)
        self.degrees = -self.degrees[1], -self.degrees[0]


class RandomResizedCrop(Augmentation):
    """A window of random area and shape, resized to `size` (Szegedy et al., "Going deeper with convolutions", CVPR 2015), with the distribution of
    torchvision's RandomResizedCrop: the area `scale` times the image's, width over height log-uniform in `ratio`, up to ten tries; where none
    fits, the middle.

    Resized by the bilinear mean of four pixels: an image that becomes much smaller is sampled, not averaged (torchvision has antialias for that;
    store the images at about the size that is needed). Neighbours beyond the window are the image's own, beyond the image its outermost pixels,
    unless another step asks for a border.
    """

    streams = 2 * TRIES + 2

    def __init__(self, size: int | Size, *, scale: Any = (0.08, 1.0), ratio: Any = (3 / 4, 4 / 3)) -> None:
        self.size = checked_sides("RandomResizedCrop", size)
        self.scale = checked_range("RandomResizedCrop", "scale", scale, "(0, 1]")
        self.ratio = checked_range("RandomResizedCrop", "ratio", ratio, "(0, inf)")

    def place(self, frames: Frames, draws: Draws) -> None:
        height, width = frames.size
        found, h, w = rectangles(draws, 0, frames.size, self.scale, self.ratio)
        middle_h, middle_w = _middle(frames.size, self.ratio)
        top = np.where(found, draws.below(height - h + 1, 2 * TRIES), (height - middle_h) // 2)
        left = np.where(found, draws.below(width - w + 1, 2 * TRIES + 1), (width - middle_w) // 2)
        _resize(frames, top, left, np.where(found, h, middle_h), np.where(found, w, middle_w), self.size)


class Scale(Augmentation):
    """Every image resized: the shorter side to `size` pixels and the other one in proportion, rounded down as torchvision does, or to
    (height, width). Not random: for views at test time; a crop may follow.

    The bilinear mean of four pixels, half-pixel centres: torch.nn.functional.interpolate(mode="bilinear", align_corners=False); beyond the image lie
    its outermost pixels, unless another step asks for a border. What RandomResizedCrop says of images that become much smaller holds here.
    """

    def __init__(self, size: int | Size) -> None:
        sides = checked_sides("Scale", size)
        self.size: int | Size = sides if isinstance(size, (tuple, list)) else sides[0]

    def place(self, frames: Frames, draws: Draws) -> None:
        height, width = frames.size
        shorter = min(height, width)
        size = self.size if isinstance(self.size, tuple) else (self.size * height // shorter, self.size * width // shorter)
        _resize(frames, 0, 0, height, width, size)


def _resize(frames: Frames, top: Any, left: Any, height: Any, width: Any, size: Size) -> None:
    """From now on the windows of that height and width, one for all or one each, are shown in `size`."""
    inverse = np.zeros((len(frames.map), 2, 3))
    inverse[:, 0, 0], inverse[:, 1, 1] = height / size[0], width / size[1]
    inverse[:, 0, 2], inverse[:, 1, 2] = top + 0.5 * height / size[0] - 0.5, left + 0.5 * width / size[1] - 0.5
    frames.warp(inverse, size)
    frames.unasked = "edge", 0.0


def rectangles(
    draws: Draws,
    first: int,
    size: Size,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    tallness: bool = False,
    smaller: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether one of ten tries fits, and its height and width: area in `scale` times that of size, width / height (tallness: the reverse)
    log-uniform in `ratio`. smaller: less than the size on both sides. Uses 20 streams from `first` on."""
    found = np.zeros(draws.count, bool)
    height, width = np.ones(draws.count, np.int64), np.ones(draws.count, np.int64)
    for attempt in range(TRIES):
        area = size[0] * size[1] * draws.uniform(*scale, first + 2 * attempt)
        shape = np.exp(draws.uniform(np.log(ratio[0]), np.log(ratio[1]), first + 2 * attempt + 1))
        long, short = np.rint(np.sqrt(area * shape)).astype(np.int64), np.rint(np.sqrt(area / shape)).astype(np.int64)
        h, w = (long, short) if tallness else (short, long)
        most = [n - 1 if smaller else n for n in size]
        chosen = ~found & (h > 0) & (w > 0) & (h <= most[0]) & (w <= most[1])
        height[chosen], width[chosen] = h[chosen], w[chosen]
        found |= chosen
        if found.all():
            break
    return found, height, width


def _middle(size: Size, ratio: tuple[float, float]) -> Size:
    height, width = size
    if width / height < ratio[0]:
        return max(1, min(height, round(width / ratio[0]))), width
    if width / height > ratio[1]:
        return height, max(1, min(width, round(height * ratio[1])))
    return size


def _inverse(angle: Any, right: Any, down: Any, scale: Any, shear_x: Any, shear_y: Any, x: float, y: float) -> np.ndarray:
    """(n, 2, 3): which place (row above column) each pixel (row, column, 1) shows; angles in degrees."""
    rot, sx, sy = np.radians(angle), np.radians(shear_x), np.radians(shear_y)
    a, b = np.cos(rot - sy) / np.cos(sy), -np.cos(rot - sy) * np.tan(sx) / np.cos(sy) - np.sin(rot)
    c, d = np.sin(rot - sy) / np.cos(sy), -np.sin(rot - sy) * np.tan(sx) / np.cos(sy) + np.cos(rot)  # (a b; c d) has determinant 1
    inverse = np.empty((len(rot), 2, 3))
    inverse[:, 0, 0], inverse[:, 0, 1] = a / scale, -c / scale
    inverse[:, 1, 0], inverse[:, 1, 1] = -b / scale, d / scale
    for row, middle in ((0, y), (1, x)):
        inverse[:, row, 2] = middle - inverse[:, row, 0] * (y + down) - inverse[:, row, 1] * (x + right)
    return inverse


def _either_way(name: str, argument: str, given: Any) -> tuple[float, float]:
    if isinstance(given, (tuple, list)):
        return checked_range(name, argument, given, "(-inf, inf)")
    most = number(name, argument, given, "[0, inf)")
    return -most, most


def _shears(name: str, given: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """(smallest, largest) along x and along y."""
    if given is None:
        return (0.0, 0.0), (0.0, 0.0)
    if isinstance(given, (tuple, list)) and len(given) == 4:
        return checked_range(name, "shear", given[:2], "(-90, 90)"), checked_range(name, "shear", given[2:], "(-90, 90)")
    return checked_range(name, "shear", _either_way(name, "shear", given), "(-90, 90)"), (0.0, 0.0)
