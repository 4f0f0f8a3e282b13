"""What each sample of an epoch shows: one map, one lens, one colour matrix, one deviation of noise and one rectangle per sample, however many
steps made them. The kernel that gathers and normalises a batch follows them (csrc/kernels.def, gather_augment)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .. import _C, random
from ..arguments import array, integer, number, one_of, shown

BORDERS = ("constant", "edge", "reflect")
Size = tuple[int, int]
Fill = float | Sequence[float]

LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601, Pillow's "L"

_geometry = lru_cache(1024)(_C.Augment)


class Draws:
    """The random words of an epoch. Stream k of a sample is the word of its position in Philox(seed; draw epoch + 2^32 k, augmentation)."""

    def __init__(self, seed: int, epoch: int, count: int) -> None:
        self.seed, self.epoch, self.count, self.first_stream, self.streams = seed, epoch, count, 0, 0
        self._generator = random.Generator(seed)

    def words(self, stream: int = 0, epoch: int | None = None) -> np.ndarray:
        """A word of 32 bits (as uint64) for each sample, from the augmentation's stream of that number; of this epoch unless told. ValueError for
        one that is not among its `streams`: the next step's words are there."""
        if not 0 <= stream < self.streams:
            raise ValueError(
                f"augment: a step draws from stream {stream} and says streams = {self.streams}; expected at least {stream + 1}"
            )
        draw = (self.epoch if epoch is None else epoch) + (self.first_stream + stream << 32)
        words: np.ndarray = self._generator.bits(self.count, draw, random.AUGMENTATION).astype(np.uint64)
        return words

    def below(self, count: int | np.ndarray, stream: int = 0) -> np.ndarray:
        """A number of [0, count) for each sample; one count for all, or one each."""
        numbers: np.ndarray = (self.words(stream) * np.asarray(count, np.uint64) >> np.uint64(32)).astype(np.int64)
        return numbers

    def chance(self, p: float, stream: int = 0, epoch: int | None = None) -> np.ndarray:
        """Whether what has probability p happens to each sample."""
        chosen: np.ndarray = self.words(stream, epoch) < round(number("augment", "p", p, "[0, 1]") * 2**32)
        return chosen

    def uniform(self, low: float, high: float, stream: int = 0) -> np.ndarray:
        """A number of [low, high) for each sample, in float64."""
        numbers: np.ndarray = low + (high - low) * (self.words(stream) / 2.0**32)
        return numbers

    def normal(self, stream: int = 0) -> np.ndarray:
        """A standard normal number for each sample, in float64, of this stream and the next (Box, Muller 1958, as Generator.normal)."""
        u, v = ((self.words(k) + 0.5) / 2.0**32 for k in (stream, stream + 1))
        numbers: np.ndarray = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
        return numbers


class Frames:
    """What each sample shows of its image.

    Pixel (p, q) of `size` is pixel (top + p, left + step q) of the image, (top, left, step) its row of `map`; step is -1 where the image is
    mirrored. Once a step has warped the images, it is the place `matrix` (p, q, 1) instead, between four pixels; where that has a third row, as
    after a perspective, divided by what that gives. lens, (count, 2) or None: k1 and k2, by which places of the image are then moved. Beyond the
    image lies the border, met once, however many maps were composed. colours, (count, 3, 7) = (A, B, t) or None: RGB v becomes A v + B m + t,
    m being the mean of the whole image; bytes stay within 0 ... 255. noise, (count,) or None: the deviation of what is then added to every
    pixel, 1 being white; stream, (count, 3): where it is drawn. box, (count, 4) or None: (top, left, height, width) of what `value` replaces
    in the end.
    """

    def __init__(self, count: int, size: Size) -> None:
        self.size = size
        self.map = np.zeros((count, 3), np.int64)
        self.map[:, 2] = 1
        self.matrix: np.ndarray | None = None
        self.border: tuple[str, Fill] | None = None
        self.unasked: tuple[str, Fill] = ("constant", 0.0)  # the border where no step asks for one
        self.lens: np.ndarray | None = None
        self.colours: np.ndarray | None = None
        self.noise: np.ndarray | None = None
        self.stream: np.ndarray | None = None
        self.box: np.ndarray | None = None
        self.value: Fill = 0.0

    # --- what steps do

    def crop(self, down: np.ndarray | int, right: np.ndarray | int, size: Size) -> None:
        """From now on only the window of `size` that begins `down` and `right` of the first pixel (negative: outside) is shown."""
        down, right = (self._each("crop", name, by, "iu", "whole numbers") for name, by in (("down", down), ("right", right)))
        if self.matrix is None:
            self.map[:, 0] += down
            self.map[:, 1] += self.map[:, 2] * right
        else:
            self.matrix[:, :, 2] += self.matrix[:, :, 0] * np.reshape(down, (-1, 1)) + self.matrix[:, :, 1] * np.reshape(right, (-1, 1))
        if self.box is not None:
            self.box[:, 0] -= down
            self.box[:, 1] -= right
        self.size = self._checked("crop", size)

    def mirror(self, chosen: np.ndarray) -> None:
        """Left and right change places in the chosen samples: a truth for each."""
        chosen = self._each("mirror", "chosen", chosen, "b", "booleans")
        last = self.size[1] - 1
        if self.matrix is None:
            self.map[chosen, 1] += self.map[chosen, 2] * last
            self.map[chosen, 2] *= -1
        else:
            self.matrix[chosen, :, 2] += self.matrix[chosen, :, 1] * last
            self.matrix[chosen, :, 1] *= -1
        if self.box is not None:
            self.box[chosen, 1] = last + 1 - self.box[chosen, 1] - self.box[chosen, 3]

    def warp(self, inverse: np.ndarray, size: Size) -> None:
        """From now on pixel (p, q) shows the place inverse (p, q, 1) of what was shown: `inverse` is (count, 2, 3), row above column; of
        (count, 3, 3), a projective map, the third row gives what both are divided by."""
        self._before_erasing()
        projective = array("augment: warp", "inverse", inverse).shape[-2:] == (3, 3)
        inverse = self._each("warp", "inverse", inverse, "fiu", "finite numbers", 3 if projective else 2, 3)
        before = self._rows(3 if projective else 2)
        self.matrix = np.matmul(before[:, :, :2], inverse[:, :2])
        if projective:
            self.matrix += before[:, :, 2:] * inverse[:, 2:]
        else:
            self.matrix[:, :, 2] += before[:, :, 2]
        self.size = self._checked("warp", size)

    def bend(self, k1: np.ndarray | float, k2: np.ndarray | float) -> None:
        """The image's places are those of a lens: what would lie at distance r from the middle of the whole image, half the diagonal being 1, is
        what lies at r (1 + k1 t^2 + k2 t^4), t = min(r, 1). Before all maps, wherever it is called. ValueError for a second."""
        self._before_erasing()
        if self.lens is not None:
            raise ValueError("augment: two steps distort like a lens; an image was taken with one: leave one LensDistortion out")
        self.lens = np.stack([self._each("bend", name, k, "fiu", "finite numbers") for name, k in (("k1", k1), ("k2", k2))], 1)

    def add_noise(self, deviation: np.ndarray | float, draws: Draws) -> None:
        """Gaussian noise on every pixel and channel of what is shown in the end, 1 being white; that of several steps adds up."""
        deviation = self._each("add_noise", "deviation", deviation, "fiu", "finite numbers").astype(np.float64)
        self.noise = deviation if self.noise is None else np.hypot(self.noise, deviation)
        self.stream = np.zeros((len(self.map), 3), np.int64)
        self.stream[:, 0], self.stream[:, 1], self.stream[:, 2] = draws.seed, draws.epoch, np.arange(len(self.map)) << 32

    def beyond(self, border: str, fill: Fill) -> None:
        """What lies outside of the image. ValueError when another border was asked for before."""
        one_of("augment", "border", border, BORDERS)
        if self.border not in (None, (border, fill)):
            raise ValueError(
                f"augment: one step has the border {self.border}, another {(border, fill)}; an image has one: give them the same"
            )
        self.border = border, fill

    def colour(self, matrix: np.ndarray, mean: np.ndarray | None = None, offset: np.ndarray | None = None) -> None:
        """RGB v becomes matrix v + mean m + offset, m being the image's mean colour at this point; (count, 3, 3), (count, 3, 3), (count, 3)."""
        count = len(self.map)
        matrix = self._each("colour", "matrix", matrix, "fiu", "finite numbers", 3, 3)
        mean = None if mean is None else self._each("colour", "mean", mean, "fiu", "finite numbers", 3, 3)
        offset = None if offset is None else self._each("colour", "offset", offset, "fiu", "finite numbers", 3)
        if self.colours is None:
            self.colours = np.concatenate([np.broadcast_to(matrix, (count, 3, 3)), np.zeros((count, 3, 4))], 2)
            before = None
        else:
            before = self.colours
            self.colours = np.matmul(matrix, before)
        if mean is not None:
            if before is None:
                self.colours[:, :, 3:6] = mean
            else:
                self.colours[:, :, 3:6] += np.matmul(mean, before[:, :, :3] + before[:, :, 3:6])
                self.colours[:, :, 6] += np.matmul(mean, before[:, :, 6:])[:, :, 0]
        if offset is not None:
            self.colours[:, :, 6] += offset

    def erase(self, box: np.ndarray, value: Fill) -> None:
        """The rectangle (top, left, height, width) of each sample becomes `value`, in units of the finished batch. ValueError for a second."""
        if self.box is not None:
            raise ValueError("augment: two steps erase a rectangle; an image has one: leave one of RandomErasing and Cutout out")
        self.box, self.value = self._each("erase", "box", box, "iu", "whole numbers", 4).copy(), value

    def _each(self, step: str, name: str, given: Any, kinds: str, words: str, *shape: int) -> np.ndarray:
        """What a step gives for all samples, or one each. numpy would take other shapes and types for positions of samples."""
        values, wanted = array(f"augment: {step}", name, given), (len(self.map), *shape)
        finite = values.dtype.kind not in "fc" or bool(np.isfinite(values).all())
        if values.dtype.kind not in kinds or values.shape not in (shape, wanted) or not finite:
            got = f"{values.dtype} of shape {values.shape}" if values.ndim else shown(given)
            raise ValueError(
                f"augment: {step}: {name} must be {words} of shape {wanted}, one for each sample, or {shape} for all, "
                f"got {got}{'' if finite else ', not all of them finite'}"
            )
        return np.broadcast_to(values.astype(np.int64) if kinds == "iu" else values, wanted)

    @staticmethod
    def _checked(step: str, size: Any) -> Size:
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise TypeError(f"augment: {step}: size must be (height, width), got {shown(size)}")
        height, width = (integer(f"augment: {step}", "size", side, 1, 2**31) for side in size)
        return height, width

    # --- what the loader does

    def take(self, positions: np.ndarray) -> Frames:
        """Those of the samples at these positions, in this order."""
        part = Frames(0, self.size)
        part.map, part.border, part.unasked, part.value = self.map[positions], self.border, self.unasked, self.value
        for name in ("matrix", "lens", "colours", "noise", "stream", "box"):
            of_all = getattr(self, name)
            setattr(part, name, None if of_all is None else of_all[positions])
        return part

    def gather(self, source: _C.Array, rows: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> _C.Array:
        """The batch of source[rows] (bytes) as its frames show it, times scale plus shift; where the source lies."""
        channels, (border, fill) = len(scale), self._border(len(scale))
        outside = (np.broadcast_to(np.asarray(fill, np.float32), scale.shape) * scale + shift).astype(np.float32)
        colour = None if self.colours is None else self.colours_of(channels).astype(np.float32)
        erased = None if self.box is None else self._values("value", self.value, channels).astype(np.float32)
        places = self.map if self.matrix is None else self.fixed()
        plan = _geometry(source.shape, len(rows), self.size, border, self.matrix is not None, colour is not None)
        deviation = None if self.noise is None else (255 * self.noise).astype(np.float32)
        given = (rows, places, outside, scale, shift, colour, self.box, erased, self.bent(), deviation, self.stream)
        operands: list[Any] = [None if a is None else _C.from_numpy(a, source.device) for a in given]
        return _C.gather_augment(plan, source, *operands)

    def show(self, images: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """`gather` for images (n, C, H, W) of floats, in numpy; nothing limits their colours."""
        mean = images.mean((2, 3)) if self.colours is not None else None
        channels, (border, fill) = images.shape[1], self._border(images.shape[1])
        picked, inside = self._picked(images, border)
        if self.colours is not None and mean is not None:
            colours = self.colours_of(channels)
            offset = np.matmul(colours[:, :, channels : 2 * channels], mean[:, :, None])[:, :, 0] + colours[:, :, -1]
            picked = np.einsum("nkc,nchw->nkhw", colours[:, :, :channels], picked) + offset[:, :, None, None] * inside
        outside = np.broadcast_to(np.asarray(fill, np.float32), (channels,))[:, None, None] * (1 - inside)
        shown = standard(picked + outside, scale, shift).astype(np.float32, copy=False)
        if self.noise is not None:
            shown += (self.noise[:, None] * scale)[:, :, None, None].astype(np.float32) * self._gaussian(channels)
        if self.box is not None:
            top, left, height, width = (self.box[:, i, None, None] for i in range(4))
            p, q = np.arange(self.size[0])[None, :, None], np.arange(self.size[1])[None, None, :]
            erased = (p >= top) & (p < top + height) & (q >= left) & (q < left + width)
            shown.transpose(0, 2, 3, 1)[erased] = self._values("value", self.value, channels)
        return shown

    def fixed(self) -> np.ndarray:
        """`matrix` as the kernel takes it: (count, 6) whole numbers, in 2^-32 of a pixel."""
        limit = 2.0**61
        numbers: np.ndarray = np.rint(np.clip(self._rows(2)[:, :2] * 2.0**32, -limit, limit)).astype(np.int64).reshape(-1, 6)
        return numbers

    def bent(self) -> np.ndarray | None:
        """(count, 11): the projective map and the lens, as the kernel takes them; None where no step bends the images."""
        if self.lens is None and (self.matrix is None or self.matrix.shape[1] == 2):
            return None
        lens = np.zeros((len(self.map), 2)) if self.lens is None else self.lens
        return np.concatenate([self._rows(3).reshape(-1, 9), lens], 1)

    def colours_of(self, channels: int) -> np.ndarray:
        """(count, C, 2 C + 1): what `colours` does to images of one or three channels. Grey is RGB of three equal channels."""
        if channels not in (1, 3):
            raise ValueError(f"augment: colours are those of images with 1 or 3 channels (grey or RGB), the data set has {channels}")
        assert self.colours is not None
        if channels == 3:
            return self.colours
        grey = np.matmul(LUMA, self.colours)
        return np.stack([grey[:, :3].sum(1), grey[:, 3:6].sum(1), grey[:, 6]], 1)[:, None, :]

    def _rows(self, least: int) -> np.ndarray:
        """(count, 2 or 3, 3): the map as a matrix, with at least so many rows."""
        matrix = self.matrix
        if matrix is None:
            matrix = np.zeros((len(self.map), 2, 3))
            matrix[:, 0, 0] = 1
            matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2] = self.map[:, 2], self.map[:, 0], self.map[:, 1]
        if matrix.shape[1] < least:
            matrix = np.concatenate([matrix, np.broadcast_to([0.0, 0.0, 1.0], (len(matrix), 1, 3))], 1)
        return matrix

    def _before_erasing(self) -> None:
        if self.box is not None:
            raise ValueError("augment: what is erased is a rectangle, so it comes after all that warps: put RandomErasing and Cutout last")

    def _border(self, channels: int) -> tuple[str, Fill]:
        border, fill = self.border or self.unasked
        self._values("fill", fill, channels)
        return border, fill

    @staticmethod
    def _values(name: str, given: Fill, channels: int) -> np.ndarray:
        if np.size(given) not in (1, channels):
            raise ValueError(f"augment: {name} {given} has {np.size(given)} values, the images {channels} channels; one value serves all")
        return np.broadcast_to(np.asarray(given, np.float64), (channels,))

    def _picked(self, images: np.ndarray, border: str) -> tuple[np.ndarray, np.ndarray]:
        """The values at the places, what lies outside being 0, and how much of each place lies inside: (n, C, P, Q) and (n, 1, P, Q)."""
        bent = self.bent()
        if self.matrix is None and bent is None:
            p, q = (np.arange(n) for n in self.size)
            rows, columns = self.map[:, :1] + p, self.map[:, 1:2] + self.map[:, 2:] * q
            return _values_at(images, rows[:, :, None], columns[:, None, :], border)
        p, q = np.arange(self.size[0])[:, None], np.arange(self.size[1])
        fixed = self.fixed()[:, :, None, None]
        places = [fixed[:, i] * p + fixed[:, i + 1] * q + fixed[:, i + 2] for i in (0, 3)]
        if bent is not None:
            which = (bent[:, 6:] != (0, 0, 1, 0, 0)).any(1)
            for found, of_bent in zip(places, _bent_places(bent[which], p, q, images.shape[2:])):
                found[which] = of_bent
        (h, w), (down, right) = [n >> 32 for n in places], [((n >> 8) & 0xFFFFFF) / 2.0**24 for n in places]
        picked, inside = np.zeros((), images.dtype), np.zeros((), images.dtype)
        for i, vertical in ((0, 1 - down), (1, down)):
            for j, horizontal in ((0, 1 - right), (1, right)):
                weight = (vertical * horizontal)[:, None].astype(images.dtype)
                value, here = _values_at(images, h + i, w + j, border)
                picked, inside = picked + weight * value, inside + weight * here
        return picked, inside

    def _gaussian(self, channels: int) -> np.ndarray:
        """(n, C, P, Q): the numbers that the kernel draws, as the noise of grey images whose grey becomes 0."""
        n, ones = len(self.map), np.ones(channels, np.float32)
        plan = _geometry((1, channels, 1, 1), n, self.size, "edge", False, False)
        grey, rows, places = np.full((1, channels, 1, 1), 128, np.uint8), np.zeros(n, np.int64), np.zeros((n, 3), np.int64)
        given = (grey, rows, places, ones, ones, -128 * ones, None, None, None, None, np.ones(n, np.float32), self.stream)
        operands: list[Any] = [None if a is None else _C.from_numpy(a) for a in given]
        return _C.gather_augment(plan, *operands).numpy()


def _bent_places(bent: np.ndarray, p: np.ndarray, q: np.ndarray, image: tuple[int, ...]) -> list[np.ndarray]:
    """Row and column of the pixels (p, q), in 2^-32 of a pixel: csrc/border.h, Bend, step by step."""
    m = bent.T[:, :, None, None]
    middle_h, middle_w = ((n - 1) / 2 for n in image)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        divisor = m[6] * p + m[7] * q + m[8]
        h, w = (m[0] * p + m[1] * q + m[2]) / divisor - middle_h, (m[3] * p + m[4] * q + m[5]) / divisor - middle_w
        square = (h * h + w * w) * (4 / (float(image[0]) ** 2 + float(image[1]) ** 2))
        t = np.where(square < 1, square, 1.0)
        by = 1 + t * (m[9] + t * m[10])
        places = [(middle + along * by) * 2.0**32 for middle, along in ((middle_h, h), (middle_w, w))]
    most = 2.0**61
    return [np.where(at > -most, np.where(at < most, at, most), -most).astype(np.int64) for at in places]


def standard(images: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """images * scale + shift as (images - middle) * scale + rest: where the mean is many times the deviation, the product would already have lost
    what tells images apart, while their distance from a float32 near the mean is exact."""
    wide_scale, wide_shift = scale.astype(np.float64), shift.astype(np.float64)
    middle = (-wide_shift / wide_scale).astype(np.float32)
    rest = (wide_shift + middle * wide_scale).astype(np.float32)
    channels = (slice(None),) + (None,) * (images.ndim - 2)
    made: np.ndarray = images - middle[channels]
    made *= scale.astype(np.float32)[channels]
    made += rest[channels]
    return made


def _values_at(images: np.ndarray, rows: np.ndarray, columns: np.ndarray, border: str) -> tuple[np.ndarray, np.ndarray]:
    rows, rows_inside = _shown(rows, images.shape[2], border)
    columns, columns_inside = _shown(columns, images.shape[3], border)
    values = images[np.arange(len(images))[:, None, None], :, rows, columns]  # (n, P, Q, C)
    inside = rows_inside & columns_inside
    values[~inside] = 0
    return values.transpose(0, 3, 1, 2), inside[:, None].astype(images.dtype)


def _shown(places: np.ndarray, size: int, border: str) -> tuple[np.ndarray, np.ndarray]:
    """Which of [0, size) stands for each place, and whether that is a pixel rather than the fill."""
    inside = (places >= 0) & (places < size)
    if border != "reflect" or size == 1:
        return np.clip(places, 0, size - 1), inside | (border != "constant")
    turn = places % (2 * size - 2)
    return np.where(turn < size, turn, 2 * size - 2 - turn), np.ones_like(inside)
