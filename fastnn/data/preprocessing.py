"""Preprocessing: what is fitted on the training set, stored with the model, and done unchanged to every batch that the model ever sees.

A Loader gathers a batch as images * scale + shift, one number of each per channel (`gathered`: the kernel that gathers does it), behind all
augmentation; what more there is to do, `finished` does to the batch.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C, scopes
from ..arguments import array, shown
from ..devices import Copies
from ..ops.elementwise import binary
from ..ops.linear import product
from ..ops.shape import reshaped
from .settled import Settled

if TYPE_CHECKING:
    from ..tensor import Tensor

Shape = tuple[int, ...]


class Preprocessing(Settled, ABC):
    """What a Loader, a Trainer and a saved model have as `normalize`: data.Normalize, data.MeanImage, data.PCA or data.ZCA.

    x = normalize(images)          # as a Loader(..., normalize=normalize) gives them
    normalize.inverse(x)           # the images again
    """

    mean: Any  # in units of the raw data: one for each channel, or for each value of a sample

    # --- what a Loader does

    @abstractmethod
    def gathered(self, of_bytes: bool) -> tuple[np.ndarray, np.ndarray]:
        """Scale and shift of each channel; in float64 unless the set is of bytes."""

    def finished(self, batch: _C.Array) -> _C.Array:
        """The rest, of a float32 batch (N, ...) that was gathered so."""
        return batch

    @abstractmethod
    def fits(self, shape: Shape, cropped: bool = False) -> bool:
        """Whether samples of this shape are such as it was fitted on; cropped: or may be after a crop."""

    @abstractmethod
    def wanted(self, shape: Shape) -> str:
        """What samples were expected instead of those of this shape."""

    def misfit(self, shape: Shape) -> str:
        """What is wrong with samples of this shape."""
        return f"normalize is {self!r}, fitted on {self.wanted(shape)}; the batches have samples of shape {shape}"

    def output_shape(self, shape: Shape) -> Shape:
        """Of a sample of this shape, as the model gets it."""
        return shape

    # --- what files have

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """With `arrays`, what `restored` makes this one again from; for JSON."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What is too much for JSON."""
        return {}

    # --- what users call

    def __call__(self, images: Any) -> Tensor:
        """The images (N, C, H, W), or rows (N, F), as a Loader with this normalize gives them in one batch, bit for bit: a float32 Tensor. The last bits of
        PCA and ZCA, which are products, may be others in batches of another size. One image alone is image[None]. ValueError for other shapes than it
        was fitted on, and for no images."""
        from .dataset import ArrayDataset
        from .loader import Loader  # which begins with this file

        name = type(self).__name__
        given = array(name, "images", images, "an array (N, C, H, W) or (N, F)")
        if given.ndim not in (2, 4) or not self.fits(given.shape[1:]) or not len(given):
            raise ValueError(f"{name}: images has shape {given.shape}; expected {self._whole()}; one image alone is image[None]")
        dataset = ArrayDataset(given, np.zeros(len(given), np.int64))
        return Loader(dataset, len(dataset), normalize=self, prefetch=0).batch(np.arange(len(dataset)))[0]

    @abstractmethod
    def inverse(self, x: Any) -> np.ndarray:
        """The raw data again, as far as they are known, in float32: to be looked at."""

    @abstractmethod
    def _whole(self) -> str:
        """The shape of a batch of raw samples, in words."""

    def _checked(self, x: Any, shape: Shape | None, expected: str) -> np.ndarray:
        """The argument of `inverse`: numbers (N, *shape)."""
        name = type(self).__name__
        values = array(f"{name}.inverse", "x", x, f"an array {expected}")
        if values.dtype.kind not in "fiub":
            raise TypeError(f"{name}.inverse: x must be numbers, got {values.dtype}")
        fits = values.ndim in (2, 4) and (self.fits(values.shape[1:]) if shape is None else values.shape[1:] == shape)
        if not fits or not len(values):
            raise ValueError(f"{name}: x has shape {values.shape}; expected {expected}; one image alone is image[None]")
        return values


class OfSamples(Preprocessing):
    """One with a mean for each value of a sample, (C, H, W) or (F,), so for samples of that shape alone."""

    def __init__(self, mean: Any) -> None:
        self.mean = finite(type(self).__name__, "mean", mean, np.float64)
        if self.mean.ndim not in (1, 3) or not self.mean.size:
            raise ValueError(f"{type(self).__name__}: mean has shape {self.mean.shape}; expected that of a sample, (C, H, W) or (F,)")
        channels = self.mean.reshape(len(self.mean), -1).mean(1).astype(np.float32)
        self._centre = channels  # what the kernel that gathers takes off, so that 0 is the mean to RandomErasing
        rest = self.mean - channels.reshape(-1, *[1] * (self.mean.ndim - 1))
        self._rest = Copies(_C.from_numpy(rest[None].astype(np.float32)))

    @property
    def shape(self) -> Shape:
        """Of a sample."""
        shape: Shape = self.mean.shape
        return shape

    def gathered(self, of_bytes: bool) -> tuple[np.ndarray, np.ndarray]:
        kind = np.float32 if of_bytes else np.float64
        return np.ones(len(self._centre), kind), -self._centre.astype(kind)

    def finished(self, batch: _C.Array) -> _C.Array:
        rest = self._rest.on(batch.device)
        with scopes.data():
            return self._transformed(_C.subtract(binary(batch.shape, rest.shape), batch, rest))

    @abstractmethod
    def _transformed(self, batch: _C.Array) -> _C.Array:
        """Of a batch less the mean."""

    def fits(self, shape: Shape, cropped: bool = False) -> bool:
        return shape == self.shape or (cropped and len(shape) == len(self.shape) == 3 and shape[0] == self.shape[0])

    def wanted(self, shape: Shape) -> str:
        return f"samples of shape {self.shape}"

    def _whole(self) -> str:
        return f"(N, {', '.join(map(str, self.shape))})"


class OfMatrix(OfSamples):
    """y = (x - mean) M^T, M being (k, values of a sample): a product for each batch, by the kernel of all products."""

    def _keep(self, matrix: np.ndarray) -> None:
        self._rows = np.ascontiguousarray(matrix, np.float32)  # M
        self._matrix = Copies(_C.from_numpy(self._rows))

    def _transformed(self, batch: _C.Array) -> _C.Array:
        rows, matrix = reshaped(batch, (batch.shape[0], self.mean.size)), self._matrix.on(batch.device)
        made = _C.matmul(product(rows.shape, matrix.shape, False, True, "none"), rows, matrix, None)
        return reshaped(made, (batch.shape[0], *self.output_shape(self.shape)))


def finite(what: str, name: str, values: Any, dtype: type) -> np.ndarray:
    """A copy of a setting that is an array, not to be written to."""
    given = array(what, name, values, "an array of numbers")
    if given.dtype.kind not in "fiu":
        raise TypeError(f"{what}: {name} must be numbers, got {given.dtype}")
    if not np.isfinite(given).all():
        raise ValueError(f"{what}: {name} must be finite, got {given[~np.isfinite(given)][0]} among its {given.size} numbers")
    kept: np.ndarray = np.array(given, dtype, order="C")
    kept.flags.writeable = False
    return kept


def restored(state: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Preprocessing:
    """What a file says of one. ValueError or TypeError for what is none."""
    from .mean_image import MeanImage
    from .normalize import Normalize
    from .pca import PCA
    from .zca import ZCA

    kinds: dict[Any, type[Preprocessing]] = {kind.__name__: kind for kind in (Normalize, MeanImage, PCA, ZCA)}
    settings = dict(state)
    kind = settings.pop("kind", "Normalize")  # alone in files of early versions
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"its preprocessing is {shown(kind)}; this version knows {', '.join(kinds)}")
    has, expected = sorted([*settings, *arrays]), sorted(inspect.signature(kinds[kind]).parameters)
    if has != expected:
        raise ValueError(f"its {kind} has {', '.join(has) or 'nothing'}; expected {', '.join(expected)}")
    return kinds[kind](**settings, **arrays)


def same(a: Preprocessing | None, b: Preprocessing | None) -> bool:
    """Whether both do the same, bit for bit; none does nothing."""
    if a is None or b is None or a is b:
        return a is b
    ours, theirs = a.arrays(), b.arrays()
    return a.state() == b.state() and ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
