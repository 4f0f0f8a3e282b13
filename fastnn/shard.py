"""Which rows of a batch this process has, where several train together: what is drawn, or averaged, over the batch depends on it.

Masks are drawn by the place in the whole batch, so that ranks draw what one process would. Without a shard (one process) every offset is 0.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, NamedTuple

import numpy as np

from . import _C

Gather = Callable[[np.ndarray], np.ndarray]  # each rank's float64 vector (n,) -> those of all, (ranks, n), in the order of the ranks


class Shard(NamedTuple):
    """Rows first, ..., first + rows - 1 of a batch of `total`. gather: where statistics are those of the whole batch (sync_batchnorm), how ranks
    tell each other theirs."""

    first: int
    rows: int
    total: int
    gather: Gather | None = None

    @property
    def stands_in(self) -> bool:
        """Whether there are fewer samples than ranks, and the one that this rank computes with is another's, and counts for nothing here."""
        return self.rows == 0


class _Here(threading.local):
    shard: Shard | None = None


_here = _Here()


def current() -> Shard | None:
    """That of this thread's batch; None: all of it is here."""
    return _here.shard


@contextmanager
def using(shard: Shard | None) -> Iterator[None]:
    """Inside the block batches are such rows; None: what is drawn there is no part of a batch."""
    before, _here.shard = _here.shard, shard
    try:
        yield
    finally:
        _here.shard = before


def offset(shape: tuple[int, ...], rank: int | None = None) -> int:
    """How many words of a draw belong to the rows before: of an array whose first dimension is the batch (or a multiple of it: each sample's
    patches), one word for each element of the first `rank` dimensions (all of them; 1: for each sample)."""
    shard = _here.shard
    if shard is None or not shard.first or not shape:
        return 0
    rows = max(shard.rows, 1)
    return 0 if shape[0] % rows else shard.first * (prod(shape[:rank]) // rows)


def gathering() -> Gather | None:
    """Where statistics are those of the whole batch."""
    return None if _here.shard is None else _here.shard.gather


def memory(array: _C.Array) -> np.ndarray:
    """An array's values as they lie, writable: (n,)."""
    if not array.device.startswith("cpu"):
        raise ValueError(
            f"dist: a tensor lies on {array.device}; MPI sums in the memory of the CPU, and NCCL is not built in: train on 'cpu'"
        )
    dtype = "uint16" if array.dtype == "bfloat16" else array.dtype  # numpy has no bfloat16
    if not array.size:
        return np.empty(0, dtype)
    lying: Any = (ctypes.c_char * array.nbytes).from_address(array.data_ptr)
    values: np.ndarray = np.frombuffer(lying, dtype)
    return values
