"""What a lens does to straight lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import number
from .augment import Augmentation, checked_border, checked_fill, checked_range
from .frames import Draws, Fill, Frames


class LensDistortion(Augmentation):
    """With probability p the radial distortion of a lens (Brown, "Decentering distortion of lenses", Photogrammetric Engineering 32, 1966):

        r' = r (1 + k1 r^2 + k2 r^4)        a pixel at distance r from the middle of the image shows what was at r', in the same direction

    r is in units of half the diagonal of the image, sqrt(height^2 + width^2) / 2, so that corners lie at 1; beyond them the factor stays
    1 + k1 + k2. Positive coefficients press the rim inwards (barrel; the corners show what lies outside, the border), negative ones pull it
    outwards (pincushion; the rim is lost). That is the direction of ffmpeg's lenscorrection, and of OpenCV's initUndistortRectifyMap, whose r
    is in units of a focal length.

    k1, k2: (smallest, largest), each drawn uniformly; a number k is (-k, k). p: how often. padding_mode and fill are RandomCrop's. Always bilinear.

    The lens is the camera's: it acts first, on the whole stored image, and the crops, mirror images, rotations and perspectives of the list are
    those of the distorted image, wherever in the list it stands. One list has one LensDistortion: ValueError for a second. ValueError too for
    coefficients that would fold the image over, where r' does not grow with r: 1 + 3 k1 r^2 + 5 k2 r^4 must be positive up to r = 1.
    """

    streams = 3

    def __init__(self, k1: Any = 0.2, k2: Any = 0.0, p: float = 1.0, *, padding_mode: str = "constant", fill: Fill = 0.0) -> None:
        self.k1, self.k2 = _either_way("k1", k1), _either_way("k2", k2)
        self.p = number("LensDistortion", "p", p, "[0, 1]")
        self.padding_mode, self.fill = checked_border("LensDistortion", padding_mode), checked_fill("LensDistortion", fill)
        if (least := _least_slope(self.k1[0], self.k2[0])) <= 0:
            raise ValueError(
                f"LensDistortion: k1 = {self.k1[0]:g} and k2 = {self.k2[0]:g} fold the image over: 1 + 3 k1 r^2 + 5 k2 r^4 must be positive for r "
                f"from 0 to 1, its least is {least:.3g}; expected less negative ones (k1 alone: above -1/3)"
            )

    def place(self, frames: Frames, draws: Draws) -> None:
        chosen = draws.chance(self.p)
        frames.bend(*(np.where(chosen, draws.uniform(*k, stream), 0.0) for stream, k in ((1, self.k1), (2, self.k2))))
        frames.beyond(self.padding_mode, self.fill)


def _least_slope(k1: float, k2: float) -> float:
    """Of r (1 + k1 r^2 + k2 r^4), for r from 0 to 1; with larger coefficients it is larger."""
    squares = [0.0, 1.0, min(max(-0.3 * k1 / k2, 0.0), 1.0) if k2 else 0.0]
    return min(1 + 3 * k1 * s + 5 * k2 * s * s for s in squares)


def _either_way(argument: str, given: Any) -> tuple[float, float]:
    if isinstance(given, (tuple, list)):
        return checked_range("LensDistortion", argument, given, "(-inf, inf)")
    most = number("LensDistortion", argument, given, "[0, inf)")
    return (-most, most) if most else (0.0, 0.0)
