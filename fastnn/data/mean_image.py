"""The mean image, subtracted."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _C
from ..arguments import flag, number
from ..described import described
from ..ops.elementwise import binary, constant
from .dataset import Dataset
from .moments import moments
from .preprocessing import OfSamples


class MeanImage(OfSamples):
    """x -> (x - mean) / std, with a mean for each value of a sample, (C, H, W) or (F,): the mean image of the training set (Krizhevsky,
    Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012), and one std for all, 1 unless given.

    mean: an array of that shape; std: a positive number; both in units of the raw data (of bytes: 0 to 255). Samples of another shape, after crops
    say, are refused with ValueError. A Normalize has one mean per channel instead, for images of any size.
    """

    _fixed = ("mean", "std")

    def __init__(self, mean: Any, std: float = 1.0) -> None:
        super().__init__(mean)
        self.std = number("MeanImage", "std", std, "(0, inf)")
        self._settle()

    @classmethod
    def fit(cls, dataset: Dataset, *, std: bool = False) -> MeanImage:
        """The mean image of the training set, read block by block: exact for bytes, in float64 for floats.

        std: whether to divide by the standard deviation (divisor n) of all values around their means, or as the lectures do by nothing. ValueError
        for a set that is empty or holds NaN.
        """
        flag("MeanImage.fit", "std", std)
        found = moments("MeanImage.fit", dataset)
        return cls(found.mean, float(found.variance.mean() ** 0.5) or 1.0 if std else 1.0)

    def _transformed(self, batch: _C.Array) -> _C.Array:
        if self.std == 1:
            return batch
        return _C.multiply(binary(batch.shape, ()), batch, constant(1 / self.std, "float32", batch.device)._array)

    def inverse(self, x: Any) -> np.ndarray:
        """x std + mean, of a Tensor or an array (N, *shape), in float32: the raw data again but for rounding."""
        raw: np.ndarray = (self._checked(x, self.shape, self._whole()) * self.std + self.mean).astype(np.float32)
        return raw

    def state(self) -> dict[str, Any]:
        return {"kind": "MeanImage", "std": self.std}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean}

    def __repr__(self) -> str:
        return described(self, f"of shape {self.shape}", **({} if self.std == 1 else {"std": round(self.std, 4)}))
