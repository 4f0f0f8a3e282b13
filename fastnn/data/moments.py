"""Mean, variances and covariance of the values of a set's samples, in one pass over blocks of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arguments import instance
from .dataset import Dataset
from .normalize import first_that_is_no_number

MOST_VALUES = 4096  # of a sample whose covariance is taken: 128 MiB, and three to four times that until its eigenvectors are found


class Moments(NamedTuple):
    """Of n samples of D values, in float64, with divisor n."""

    n: int
    mean: np.ndarray  # in the shape of a sample
    variance: np.ndarray  # (D,)
    covariance: np.ndarray | None  # (D, D)


def moments(what: str, dataset: Dataset, *, covariance: bool = False) -> Moments:
    """Sums of x - s and of its products, s being about the mean of the first block, so that little is lost in E[(x - s)^2] - E[x - s]^2 (Chan, Golub,
    LeVeque, "Algorithms for computing the sample variance", The American Statistician 37, 1983).

    Of bytes all sums are exact, in whichever order a BLAS takes them: whole numbers below 2^53.
    """
    if not len(instance(what, "dataset", dataset, Dataset, "a data set, such as data.ArrayDataset(images, labels)")):
        raise ValueError(f"{what}: the data set is empty; it needs at least one sample")
    values = int(np.prod(dataset.shape))
    if covariance:
        _refuse_too_large(what, dataset.shape, values)
    n, total, squares = 0, np.zeros(values), np.zeros(values)
    products = np.zeros((values, values)) if covariance else None
    start: np.ndarray | None = None
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number shows in the mean
        for images in dataset.blocks():
            rows = images.reshape(len(images), values).astype(np.float64)
            if start is None:
                start = np.rint(rows.mean(0)) if images.dtype == np.uint8 else rows.mean(0)
            rows -= start
            n, total = n + len(rows), total + rows.sum(0)
            squares += np.einsum("ij,ij->j", rows, rows)
            if products is not None:
                products += rows.T @ rows
    assert start is not None
    moved = total / n
    mean = start + moved
    if not np.isfinite(mean).all():
        raise ValueError(f"{what}: {first_that_is_no_number(dataset)}; repair or leave out that sample")
    if products is not None:
        products /= n
        products -= moved[:, None] * moved
    return Moments(n, mean.reshape(dataset.shape), np.maximum(squares / n - moved * moved, 0), products)


def _refuse_too_large(what: str, shape: tuple[int, ...], values: int) -> None:
    if values > MOST_VALUES:
        sides = " x ".join(map(str, shape))
        raise ValueError(
            f"{what}: samples of shape {shape} are {sides} = {values:,} values, and their covariance {values:,} x {values:,} x 8 bytes = "
            f"{values * values * 8 / 2**20:,.0f} MiB, whose eigenvectors take some hundred times {values:,}^3 operations: at most "
            f"{MOST_VALUES:,} values; make the images smaller (data.Resize, fastnn train --size), or take data.Normalize or data.MeanImage"
        )


def principal_directions(what: str, found: Moments) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues of the covariance, largest first, and as columns its eigenvectors, of each of which the largest number is positive. By numpy's
    LAPACK, whose last bits are its own affair."""
    assert found.covariance is not None
    if not found.variance.any():
        raise ValueError(f"{what}: all {found.n} samples of the data set are the same, which gives no direction; expected some that differ")
    values, vectors = np.linalg.eigh(found.covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    return values, vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(len(values))])
