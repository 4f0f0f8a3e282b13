"""Perspectives: what a plane looks like from elsewhere."""

from __future__ import annotations

import numpy as np

from ..arguments import number
from .augment import Augmentation, checked_border, checked_fill
from .frames import Draws, Fill, Frames


class RandomPerspective(Augmentation):
    """With probability p the four corners move inwards and the image with them, as a plane does that is looked at from elsewhere: the arguments,
    the distribution and the geometry of torchvision's RandomPerspective.

        place = ((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1))        of what pixel (x, y) shows

    that homography which takes the moved corners to (0, 0), (width - 1, 0), (width - 1, height - 1) and (0, height - 1); x and y count from the
    corner of the first pixel, its middle is (0.5, 0.5). Each corner moves by whole pixels, uniform from 0 to distortion_scale times half of
    the width and of the height (rounded down, both times).

    distortion_scale: from 0, where nothing moves, to 1. p: how often. padding_mode and fill are RandomCrop's: what lies outside of the moved image.
    Always bilinear, as torchvision's unless told. Among other steps it is composed in the order of the list, and the image is interpolated
    once. A scale above 2/3 may turn the image inside out (its corners are then no longer those of a convex quadrilateral), as torchvision's may.
    """

    streams = 9

    def __init__(self, distortion_scale: float = 0.5, p: float = 0.5, *, padding_mode: str = "constant", fill: Fill = 0.0) -> None:
        self.distortion_scale = number("RandomPerspective", "distortion_scale", distortion_scale, "[0, 1]")
        self.p = number("RandomPerspective", "p", p, "[0, 1]")
        self.padding_mode, self.fill = checked_border("RandomPerspective", padding_mode), checked_fill("RandomPerspective", fill)

    def place(self, frames: Frames, draws: Draws) -> None:
        height, width = frames.size
        most = [int(self.distortion_scale * (n // 2)) for n in (height, width)]
        down, right = ([draws.below(most[along] + 1, 1 + 4 * along + corner) for corner in range(4)] for along in (0, 1))
        last_row, last_column = max(height - 1, 1), max(width - 1, 1)  # of a single line nothing moves
        corners = np.array(  # x and y of the upper left one and on clockwise
            [
                [right[0], last_column - right[1], last_column - right[2], right[3]],
                [down[0], down[1], last_row - down[2], last_row - down[3]],
            ],
            np.float64,
        )
        chosen = draws.chance(self.p)[:, None, None]
        frames.warp(np.where(chosen, _inverse(corners.transpose(2, 0, 1), last_row, last_column), np.eye(3)), frames.size)
        frames.beyond(self.padding_mode, self.fill)


def _inverse(corners: np.ndarray, last_row: int, last_column: int) -> np.ndarray:
    """(n, 3, 3): which place (row, column and divisor) each pixel (row, column, 1) shows where the image's corners lie at `corners`, (n, 2, 4).

    The map of the unit square to a quadrilateral has a closed form (Heckbert, "Fundamentals of texture mapping and image warping", 1989, 2.2.3);
    its adjugate is its inverse times a number, which the division takes away. So corners on one line are no error.
    """
    x, y = corners[:, 0].T, corners[:, 1].T
    (dx1, dx2, dx3), (dy1, dy2, dy3) = ((v[1] - v[2], v[3] - v[2], v[0] - v[1] + v[2] - v[3]) for v in (x, y))
    scale = dx1 * dy2 - dx2 * dy1  # all nine numbers are times this one
    g, h = dx3 * dy2 - dx2 * dy3, dx1 * dy3 - dx3 * dy1
    forward = np.empty((x.shape[1], 3, 3))  # (u, v, 1) of the unit square to (x, y, divisor)
    for row, v in ((0, x), (1, y)):
        forward[:, row] = np.stack([scale * (v[1] - v[0]) + g * v[1], scale * (v[3] - v[0]) + h * v[3], scale * v[0]], 1)
    forward[:, 2] = np.stack([g, h, scale], 1)
    first, second, third = forward.transpose(2, 0, 1)
    back = np.stack([np.cross(second, third), np.cross(third, first), np.cross(first, second)], 1)  # the adjugate
    back[:, 0] *= last_column
    back[:, 1] *= last_row
    back[:, :, 2] += 0.5 * (back[:, :, 0] + back[:, :, 1])  # from the middle of a pixel ...
    back[:, :2] -= 0.5 * back[:, 2:]  # ... to places that count from that
    swap = [1, 0, 2]  # rows before columns
    inverse: np.ndarray = back[:, swap][:, :, swap]
    size = np.abs(inverse[:, 2]).max(1)
    return inverse / np.where(size > 0, size, 1)[:, None, None]
