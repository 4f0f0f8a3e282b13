"""Whitening that leaves images images."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import number
from ..described import described
from .dataset import Dataset
from .moments import moments, principal_directions
from .preprocessing import OfMatrix, finite


class ZCA(OfMatrix):
    """x -> W (x - mean) in the shape of x, with W = P diag(1 / sqrt(l_i + eps l)) P^T: whitened samples are turned back into the directions of the
    pixels, so that of all whitenings this one changes the samples least (Bell, Sejnowski, "The 'independent components' of natural scenes are edge
    filters", 1997; on CIFAR: Krizhevsky, "Learning multiple layers of features from tiny images", 2009, appendix A).

    P has the unit eigenvectors of the covariance (divisor n) of a sample's values as columns, l_i are its eigenvalues and l their mean, so that
    eps has no unit: as if the values had been brought to variance 1 before. With eps near 0 the training set has the identity as covariance;
    images have little variance but noise in most directions, for which 0.01 to 0.1 are usual (Coates, Ng, "Learning feature representations with
    K-means", 2012; pylearn2's ZCA of CIFAR-10: 0.1, of values of variance 1).

    mean: (C, H, W) or (F,), in units of the raw data. matrix: W, (D, D) and symmetric, D values in the order of a row-major (C, H, W). eps: what W
    was made with. Samples of another shape, after crops say, are refused with ValueError, as are arrays that do not fit together.
    """

    _fixed = ("mean", "matrix", "eps")

    def __init__(self, mean: Any, matrix: Any, *, eps: float = 0.1) -> None:
        super().__init__(mean)
        self.matrix, self.eps = finite("ZCA", "matrix", matrix, np.float32), number("ZCA", "eps", eps, "(0, inf)")
        if self.matrix.shape != (self.mean.size, self.mean.size):
            raise ValueError(
                f"ZCA: matrix has shape {self.matrix.shape}; expected {(self.mean.size, self.mean.size)}, as the mean has {self.shape}"
            )
        if not np.array_equal(self.matrix, self.matrix.T):
            raise ValueError("ZCA: matrix is not symmetric; expected P diag(1 / sqrt(l + eps)) P^T, as ZCA.fit makes it")
        self._keep(self.matrix)
        self._settle()

    @classmethod
    def fit(cls, dataset: Dataset, *, eps: float = 0.1) -> ZCA:
        """Of the training set, read once, block by block, in float64; sums over bytes are exact.

        The covariance of D values takes 8 D^2 bytes, its eigenvectors by numpy.linalg.eigh a time that grows with D^3 (D = 3,072: about a minute):
        ValueError beyond 4,096 values, and for a set that is empty, constant or holds NaN.
        """
        number("ZCA.fit", "eps", eps, "(0, inf)")
        found = moments("ZCA.fit", dataset, covariance=True)
        values, vectors = principal_directions("ZCA.fit", found)
        roots = vectors * (values + eps * values.mean()) ** -0.25
        return cls(found.mean, _symmetric(roots @ roots.T), eps=eps)

    def inverse(self, x: Any) -> np.ndarray:
        """mean + W^-1 x, of a Tensor or an array (N, *shape), in float32: the raw data again but for rounding."""
        rows = self._checked(x, self.shape, self._whole()).reshape(-1, self.mean.size)
        flat = np.linalg.solve(self.matrix.astype(np.float64), rows.T.astype(np.float64)).T
        raw: np.ndarray = (flat.reshape(len(rows), *self.shape) + self.mean).astype(np.float32)
        return raw

    def state(self) -> dict[str, Any]:
        return {"kind": "ZCA", "eps": self.eps}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean, "matrix": self.matrix}

    def __repr__(self) -> str:
        return described(self, f"of shape {self.shape}", eps=self.eps)


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    """What a BLAS that does not see that both factors are one leaves unequal."""
    made: np.ndarray = (matrix + matrix.T) / 2
    return made
