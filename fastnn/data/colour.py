"""Brightness, contrast, saturation, hue and grey: one matrix per sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import number
from .augment import Augmentation, checked_range
from .frames import LUMA, Draws, Frames

_GREY = np.tile(LUMA, (3, 1))  # RGB -> its luma, three times
_YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])  # the colours of a turn of hue lie around the axis of greys


class ColorJitter(Augmentation):
    """Brightness, contrast, saturation and hue by random amounts, with the arguments and distributions of torchvision's ColorJitter.

        brightness b: b v        contrast c: c v + (1 - c) luma(mean of the image)        saturation s: s v + (1 - s) luma(v)
        hue h: a turn of h about the axis of greys in YIQ, luma unchanged

    brightness, contrast, saturation: 0.4 draws the factor from [0.6, 1.4] (never below 0), (0.5, 2.0) from there. hue: the largest turn
    either way, at most 0.5, or (smallest, largest). luma is 0.299 R + 0.587 G + 0.114 B.

    Where this differs from torchvision: all four are linear and leave luma and greys alone or scale them, so their order makes no difference and
    is not drawn; bytes are limited to 0 ... 255 once, in the end, not after each; the mean is that of the whole stored image, also when a crop
    shows a part of it; hue turns in YIQ rather than in HSV (no kinks, brightness kept); the fill of a border keeps its colour. Grey images
    have brightness and contrast alone. Float images are not limited. ValueError unless images have 1 or 3 channels.
    """

    streams = 4

    def __init__(self, brightness: Any = 0.0, contrast: Any = 0.0, saturation: Any = 0.0, hue: Any = 0.0) -> None:
        self.brightness, self.contrast = _factors("brightness", brightness), _factors("contrast", contrast)
        self.saturation = _factors("saturation", saturation)
        if isinstance(hue, (tuple, list)):
            self.hue = checked_range("ColorJitter", "hue", hue, "[-0.5, 0.5]")
        else:
            most = number("ColorJitter", "hue", hue, "[0, 0.5]")
            self.hue = -most, most

    def place(self, frames: Frames, draws: Draws) -> None:
        brightness, contrast, saturation = (
            draws.uniform(*given, stream)[:, None, None] for stream, given in enumerate((self.brightness, self.contrast, self.saturation))
        )
        turned = np.eye(3) if self.hue == (0.0, 0.0) else _turns(draws.uniform(*self.hue, 3))
        matrix = brightness * contrast * (saturation * turned + (1 - saturation) * _GREY)
        frames.colour(matrix, None if self.contrast == (1.0, 1.0) else brightness * (1 - contrast) * _GREY)


class RandomGrayscale(Augmentation):
    """With probability p only the luma, 0.299 R + 0.587 G + 0.114 B, is left of the colours; as many channels as before."""

    streams = 1

    def __init__(self, p: float = 0.1) -> None:
        self.p = number("RandomGrayscale", "p", p, "[0, 1]")

    def place(self, frames: Frames, draws: Draws) -> None:
        chosen = draws.chance(self.p)
        frames.colour(np.where(chosen[:, None, None], _GREY, np.eye(3)))


def _factors(argument: str, given: Any) -> tuple[float, float]:
    if isinstance(given, (tuple, list)):
        return checked_range("ColorJitter", argument, given, "[0, inf)")
    by = number("ColorJitter", argument, given, "[0, inf)")
    return max(0.0, 1 - by), 1 + by


def _turns(hue: np.ndarray) -> np.ndarray:
    """(n, 3, 3): I and Q turned by `hue` of a whole turn."""
    cosine, sine = np.cos(2 * np.pi * hue), np.sin(2 * np.pi * hue)
    to_rgb = np.linalg.inv(_YIQ)
    constant, along, across = (
        to_rgb @ part @ _YIQ for part in (np.diag([1.0, 0, 0]), np.diag([0.0, 1, 1]), np.array([[0.0] * 3, [0, 0, -1], [0, 1, 0]]))
    )
    turned: np.ndarray = constant + cosine[:, None, None] * along + sine[:, None, None] * across
    return turned
