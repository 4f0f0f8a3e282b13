"""AlexNet's colours: shifts along the principal components of a training set's colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..arguments import array, instance, number, numbers
from .augment import Augmentation
from .dataset import Dataset
from .frames import Draws, Frames
from .normalize import first_that_is_no_number

# Of a random subset of ImageNet's training images, values from 0 to 1: github.com/facebookarchive/fb.resnet.torch, datasets/imagenet.lua (Gross,
# Wilber, "Training and investigating residual nets", 2016). Column i of the vectors belongs to value i.
IMAGENET_EIGENVALUES = (0.2175, 0.0188, 0.0045)
IMAGENET_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


class PCAColor(Augmentation):
    """To all pixels of an image the same random colour is added, along the principal components of a training set's colours (Krizhevsky,
    Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012, section 4.1):

        RGB v becomes v + white (a_1 l_1 p_1 + a_2 l_2 p_2 + a_3 l_3 p_3)        a_i ~ N(0, std^2), drawn for each image and epoch

    p_i and l_i are the unit eigenvectors and the eigenvalues of the 3 x 3 covariance of RGB values from 0 to 1. ImageNet's unless given;
    `PCAColor.fit(training_set)` finds those of another set. eigenvalues: three numbers, none negative. eigenvectors: (3, 3), column i is p_i,
    rows are red, green and blue, as np.linalg.eigh gives them. white: the raw value of white, 255 for bytes; 1.0 for float images from 0 to 1.

    As ColorJitter it is a part of one affine map of the colours: what comes behind it (brightness say) acts on the shifted colours; bytes are
    limited to 0 ... 255 once, in the end, floats are not; the fill of a border keeps its colour. Grey images get the luma of the shift. ValueError
    unless images have 1 or 3 channels, and for eigenvectors that are not of length 1 (within 1 %).
    """

    streams = 6

    def __init__(
        self,
        std: float = 0.1,
        *,
        eigenvalues: Sequence[float] = IMAGENET_EIGENVALUES,
        eigenvectors: Any = IMAGENET_EIGENVECTORS,
        white: float = 255.0,
    ) -> None:
        self.std, self.white = number("PCAColor", "std", std, "[0, inf)"), number("PCAColor", "white", white, "(0, inf)")
        self.eigenvalues = numbers("PCAColor", "eigenvalues", eigenvalues, 3, "[0, inf)")
        self.eigenvectors = _checked_vectors(eigenvectors)

    @classmethod
    def fit(cls, dataset: Dataset, std: float = 0.1, *, white: float | None = None) -> PCAColor:
        """With the eigenvalues, largest first, and eigenvectors of the covariance (divisor n) of the colours of all pixels of a training set:
        exact for bytes, in float64 for floats, which are read twice. Of each vector the largest number is positive.

        white: 255 for a set of bytes, 1.0 for floats, unless given; it scales the shifts. ValueError for a set that is empty, has other than 3
        channels, holds NaN, or varies more than values from 0 to white can.
        """
        instance("PCAColor.fit", "dataset", dataset, Dataset, "a data set, such as data.ArrayDataset(images, labels)")
        if len(dataset.shape) != 3 or dataset.shape[0] != 3 or not len(dataset):
            raise ValueError(f"PCAColor.fit: dataset has {len(dataset)} samples of shape {dataset.shape}; expected RGB images, (3, H, W)")
        of_bytes = next(iter(dataset.blocks())).dtype == np.uint8
        white = (255.0 if of_bytes else 1.0) if white is None else number("PCAColor.fit", "white", white, "(0, inf)")
        covariance = (_byte_covariance if of_bytes else _float_covariance)(dataset)
        if (widest := covariance.diagonal().max() ** 0.5) > white / 2:
            raise ValueError(
                f"PCAColor.fit: white is {white:g}, and values from 0 to that have a deviation of at most {white / 2:g}; those of dataset have "
                f"{widest:.4g}: give the raw value of white, such as white=255"
            )
        values, vectors = np.linalg.eigh(covariance / white**2)
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(3)])  # either sign is an eigenvector
        return cls(std, eigenvalues=values, eigenvectors=vectors, white=white)

    def place(self, frames: Frames, draws: Draws) -> None:
        drawn = self.std * np.stack([draws.normal(2 * i) for i in range(3)], 1)
        frames.colour(np.eye(3), offset=self.white * ((drawn * self.eigenvalues)[:, None, :] * self.eigenvectors).sum(2))


def _checked_vectors(given: Any) -> tuple[tuple[float, ...], ...]:
    vectors = array("PCAColor", "eigenvectors", given, "an array (3, 3)")
    kind = vectors.dtype.kind in "fiu"
    if not kind or vectors.shape != (3, 3) or not np.isfinite(vectors).all():
        got = f"shape {vectors.shape} of {vectors.dtype}"
        raise (ValueError if kind else TypeError)(f"PCAColor: eigenvectors must be finite numbers (3, 3), column i the vector i, got {got}")
    lengths = np.sqrt(np.square(vectors.astype(np.float64)).sum(0))
    if np.abs(lengths - 1).max() > 0.01:
        raise ValueError(f"PCAColor: eigenvectors must be columns of length 1, got lengths {', '.join(f'{n:.4g}' for n in lengths)}")
    return tuple(tuple(map(float, row)) for row in vectors)


def _channels(dataset: Dataset, dtype: type) -> Iterator[np.ndarray]:
    """(3, values) of each block of images."""
    return (np.ascontiguousarray(images.transpose(1, 0, 2, 3), dtype).reshape(3, -1) for images in dataset.blocks())


def _products(colours: np.ndarray) -> np.ndarray:
    """(3, 3) sums over the values, always added up in the same order, which those of a BLAS are not."""
    return np.array([[np.einsum("n,n", a, b) for b in colours] for a in colours])


def _byte_covariance(dataset: Dataset) -> np.ndarray:
    n, total, products = 0, np.zeros(3, object), np.zeros((3, 3), object)  # integers without bounds
    for colours in _channels(dataset, np.int64):
        n, total, products = n + colours.shape[1], total + colours.sum(1).astype(object), products + _products(colours).astype(object)
    return np.asarray((n * products - np.outer(total, total)) / (n * n), np.float64)  # exact up to the one division


def _float_covariance(dataset: Dataset) -> np.ndarray:
    n, total = 0, np.zeros(3)
    for colours in _channels(dataset, np.float64):
        n, total = n + colours.shape[1], total + colours.sum(1)
    mean = total / n
    if not np.isfinite(mean).all():
        raise ValueError(f"PCAColor.fit: {first_that_is_no_number(dataset)}; repair or leave out that sample")
    return np.asarray(sum(_products(colours - mean[:, None]) for colours in _channels(dataset, np.float64)) / n)
