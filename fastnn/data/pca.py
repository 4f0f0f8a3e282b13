"""Principal components: samples as coordinates along the directions in which the training set varies most."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import flag, integer, number, numbers, shown, unwrapped
from ..described import described, plural
from .dataset import Dataset
from .moments import moments, principal_directions
from .preprocessing import OfMatrix, Shape, finite

_FLAT = 1e-12  # of the largest variance: what rounding leaves of none


class PCA(OfMatrix):
    """x -> y, k coordinates along the principal components of the training set, for models that take features (linear, mlp):

        y_i = p_i . (x - mean)                            whiten=False
        y_i = p_i . (x - mean) / sqrt(l_i + eps l)        whiten=True: of variance 1, as far as eps lets it

    p_i and l_i are the unit eigenvectors and the eigenvalues, largest first, of the covariance (divisor n) of a sample's values, l the mean of
    all eigenvalues, so that eps has no unit: as if the values had been brought to variance 1 before (CS231n notes, neural-networks-2, "PCA and
    Whitening", with eps 1e-5, which keeps directions that hardly vary from being blown up; larger values smooth more).

    mean: (C, H, W) or (F,), in units of the raw data. components: (k, *shape), row i is p_i, shown as a picture the eigen-image i. variances: (k,),
    l_i. total: the sum of all eigenvalues, of which these are a share (variances / total). Samples become float32 rows (k,): other shapes than
    mean's are refused with ValueError, as are numbers that do not fit together and, with eps=0, directions without variance.
    """

    _fixed = ("mean", "components", "variances", "total", "whiten", "eps")

    def __init__(self, mean: Any, components: Any, variances: Any, *, total: float, whiten: bool = False, eps: float = 1e-5) -> None:
        super().__init__(mean)
        self.components = finite("PCA", "components", components, np.float32)
        if self.components.ndim != self.mean.ndim + 1 or self.components.shape[1:] != self.shape or not len(self.components):
            wanted = f"(k, {', '.join(map(str, self.shape))})"
            raise ValueError(f"PCA: components have shape {self.components.shape}; expected {wanted}, as the mean has {self.shape}")
        given = numbers("PCA", "variances", variances, within="[0, inf)")
        if len(given) != len(self.components):
            raise ValueError(f"PCA: {len(self.components)} components and {len(given)} variances; expected as many of one as of the other")
        self.variances = np.array(given)
        self.variances.flags.writeable = False
        self.total, self.whiten = number("PCA", "total", total, "(0, inf)"), flag("PCA", "whiten", whiten)
        self.eps = number("PCA", "eps", eps, "[0, inf)")
        if self.total < self.variances.sum() * (1 - 1e-6):
            raise ValueError(
                f"PCA: total is {self.total:g}, less than the variances together, {self.variances.sum():g}; expected that of all values"
            )
        spreads = self.variances + self.eps * self.total / self.mean.size
        if self.whiten and (flat := int((spreads <= _FLAT * spreads.max()).sum())):
            raise ValueError(
                f"PCA: {flat} of {plural(len(spreads), 'component')} have no variance to be divided by; expected eps above 0, such as 1e-5, or at "
                f"most {len(spreads) - flat} components"
            )
        self._spread = np.sqrt(spreads) if self.whiten else np.ones(len(spreads))
        self._keep(self.components.reshape(len(self.components), -1) / self._spread[:, None])
        self._settle()

    @classmethod
    def fit(cls, dataset: Dataset, components: float = 0.99, *, whiten: bool = False, eps: float = 1e-5) -> PCA:
        """Of the training set, read once, block by block, in float64; sums over bytes are exact.

        components: how many, at most one less than there are samples; or a share of the variance below 1, which as few as will do exceed
        (scikit-learn's n_components). The covariance of D values takes 8 D^2 bytes, its eigenvectors by numpy.linalg.eigh a time that grows with
        D^3 (D = 3,072: about a minute): ValueError beyond 4,096 values, for a set that is empty, constant or holds NaN, and for other components.
        """
        wanted = _checked_components(components)
        flag("PCA.fit", "whiten", whiten), number("PCA.fit", "eps", eps, "[0, inf)")
        found = moments("PCA.fit", dataset, covariance=True)
        values, vectors = principal_directions("PCA.fit", found)
        most, total = min(len(values), found.n - 1), float(values.sum())
        count = int(wanted) if wanted >= 1 else min(most, int(np.searchsorted(np.cumsum(values) / total, wanted, "right")) + 1)
        if count > most:
            raise ValueError(
                f"PCA.fit: components is {count}, and {plural(found.n, 'sample')} of {plural(len(values), 'value')} vary in at most {most} directions"
            )
        pictures = vectors.T[:count].reshape(count, *dataset.shape)
        return cls(found.mean, pictures, values[:count], total=total, whiten=whiten, eps=eps)

    @property
    def explained(self) -> np.ndarray:
        """(k,): the share of the variance that lies along each component."""
        shares: np.ndarray = self.variances / self.total
        return shares

    def output_shape(self, shape: Shape) -> Shape:
        return (len(self.components),)

    def inverse(self, x: Any) -> np.ndarray:
        """mean + sum_i y_i p_i (whitened: y_i sqrt(l_i + eps l)), of coordinates (N, k): float32 (N, *shape), the samples again but for what the
        components that were left out would add."""
        rows = self._checked(x, self.output_shape(self.shape), f"(N, {len(self.components)})")
        flat = (rows * self._spread) @ self.components.reshape(len(self.components), -1).astype(np.float64)
        raw: np.ndarray = (flat.reshape(len(rows), *self.shape) + self.mean).astype(np.float32)
        return raw

    def state(self) -> dict[str, Any]:
        return {"kind": "PCA", "total": self.total, "whiten": self.whiten, "eps": self.eps}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean, "components": self.components, "variances": self.variances}

    def __repr__(self) -> str:
        whitened = {"whiten": True, "eps": self.eps} if self.whiten else {}
        kept = f"{plural(len(self.components), 'component')} of shape {self.shape}, {100 * self.explained.sum():.4g} % of the variance"
        return described(self, kept, **whitened)


def _checked_components(components: Any) -> float:
    """A whole number from 1 on, or a share below 1."""
    given = unwrapped(components)
    if hasattr(given, "__index__"):
        return integer("PCA.fit", "components", given, 1)
    share = number("PCA.fit", "components", given, "(0, inf)")
    if share >= 1:
        wanted = "a whole number from 1 on, or a share of the variance below 1"
        raise ValueError(f"PCA.fit: components must be {wanted}, got {shown(components)}")
    return share
