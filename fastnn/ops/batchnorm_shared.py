"""Batch normalisation by the statistics of a batch whose rows are shared by several processes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _C, recording, shard
from ..shard import memory
from ..tensor import Array, Op, Tensor
from .cast import widened
from .elementwise import binary
from .reduce import reduction
from .remade import _ones, geometry

_ONE = _C.ParameterList(1)


class SharedBatchNorm(Op):
    """Mean and centred squares of this rank's rows go to all ranks, which combine them by Chan's formula (Chan, Golub, LeVeque 1979) in float64 and
    in the order of the ranks. With M values per channel in the whole batch, x^ = (x - mean) rstd and the sums over all of it

        dbeta = sum dz,  dgamma = sum dz x^,  dx = gamma rstd (dz - dbeta / M - x^ dgamma / M)

    where dz is dy behind the activation (Ioffe, Szegedy 2015). The gradients of gamma and beta are the sums over the rank's own rows: those of
    all are added with all other gradients."""

    __slots__ = ("running", "arguments", "gather", "counts", "total")

    def __init__(self, running_mean: Array | None, running_var: Array | None, *arguments: Any) -> None:
        self.running, self.arguments = (running_mean, running_var), arguments  # eps, momentum, activation
        place = shard.current()
        assert place is not None and place.gather is not None
        self.gather, self.counts = place.gather, not place.stands_in
        self.total = 1.0  # values per channel on all ranks: M

    def forward(self, x: Array, gamma: Array | None, beta: Array | None, residual: Array | None) -> Array:
        mean, rstd = self._own(x)
        eps, momentum, _ = self.arguments
        mean, var, unbiased = mean.to(x.device), rstd.to(x.device), rstd.to(x.device)  # written to by the exchange
        own = x.size // x.shape[1] if self.counts else 0

        def combine(mean: np.ndarray, var: np.ndarray, unbiased: np.ndarray) -> None:
            centred = (var.astype(np.float64) ** -2 - eps) * own
            self.total, mean[:], squares = combined(self.gather(np.concatenate([[own], mean, centred])))
            var[:] = squares / self.total
            unbiased[:] = squares / max(self.total - 1, 1.0)

        exchanged((mean, var, unbiased), combine)
        y: Array
        y, mean, rstd = _C.batchnorm_inference(self._plan(x, residual), x, gamma, beta, residual, mean, var)
        self._move_running(momentum, mean, unbiased)
        self.save(x, gamma, beta, residual, mean, rstd)
        return y

    def _own(self, x: Array) -> tuple[Array, Array]:
        """Mean and 1 / sqrt(var + eps) of this rank's rows."""
        eps = self.arguments[0]
        if x.size > x.shape[1]:
            return _C.batchnorm_forward(geometry(x.shape, eps, 0.0, "none", True, False), x, None, None, None, None, None)[1:]
        axes = tuple(i for i in range(len(x.shape)) if i != 1)  # a single value has no variance, and needs none here
        mean = _C.sum(reduction(x.shape, axes, False), widened(x))
        return mean, _C.constant(np.full(mean.shape, (eps or 1.0) ** -0.5), x.device, mean.dtype)

    def _plan(self, x: Array, residual: Array | None) -> _C.BatchNorm:
        return geometry(x.shape, *self.arguments, False, residual is not None)

    def _move_running(self, momentum: float, mean: Array, unbiased: Array) -> None:
        share = _C.constant(np.asarray(momentum, np.float64), mean.device)
        for running, new in zip(self.running, (mean, unbiased)):
            if running is not None:
                _C.average(_ONE, [running], [new], share)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        x, gamma, beta, residual, mean, rstd = self.saved
        straight, dgamma, dbeta, dresidual = _C.batchnorm_backward(self._plan(x, residual), x, dy, gamma, beta, residual, mean, rstd)
        of_gamma, of_beta = dgamma.to(x.device), dbeta.to(x.device)

        def add(of_gamma: np.ndarray, of_beta: np.ndarray) -> None:
            sums = self.gather(np.concatenate([of_gamma, of_beta]))
            whole = -sum(sums[1:], start=sums[0]) / self.total
            of_gamma[:], of_beta[:] = np.split(whole, 2)

        exchanged((of_gamma, of_beta), add)
        if not self.counts:  # no row of the batch
            return straight, dgamma, dbeta, dresidual if residual is not None else None
        scale = rstd if gamma is None else _times(gamma, rstd)
        slope, shift = _times(_times(scale, of_gamma), rstd), _times(scale, of_beta)
        plan = geometry(x.shape, 0.0, 0.0, "none", False, True)
        dx = _C.batchnorm_inference(plan, x, slope, shift, straight, mean, _ones(mean.size, mean.dtype, mean.device))[0]
        return dx, dgamma, dbeta, dresidual if residual is not None else None


def combined(everybody: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """From rows [count, means (C), sums of centred squares (C)]: count, means and sums of centred squares of all."""
    channels = everybody.shape[1] // 2
    total, mean, squares = 0.0, np.zeros(channels), np.zeros(channels)
    for row in everybody:
        count, apart = float(row[0]), row[1 : channels + 1] - mean
        if count:
            whole = total + count
            mean = mean + apart * (count / whole)
            squares = squares + row[channels + 1 :] + apart**2 * (total * count / whole)
            total = whole
    return total, mean, squares


def exchanged(arrays: tuple[Array, ...], at: Any) -> None:
    """at(*arrays) as numpy arrays that it may write to: now, or when a step is recorded, in each replay at this place."""
    seen: list[np.ndarray] = []

    def look(array: Tensor) -> None:
        seen.append(memory(array._array))
        if len(seen) == len(arrays):
            given = [*seen]
            seen.clear()
            at(*given)

    for array in arrays:
        recording.look(Tensor(array), look)


def _times(a: Array, b: Array) -> Array:
    return _C.multiply(binary(a.shape, b.shape), a, b)
