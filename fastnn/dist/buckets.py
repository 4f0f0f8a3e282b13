"""Gradients summed over all ranks, in buckets, each set off as soon as its gradients are there.

A bucket is reduced in two turns, point to point: each rank gets everybody's values of its own piece and sums them in the order of the ranks, then
gives the sum to all (reduce-scatter and all-gather: each rank sends 2 (R - 1) / R of the bucket, the least that is possible; Patarasuk, Yuan,
"Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009). So the bits are the same on all ranks, in each run, with any MPI.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from .. import _C, recording
from ..shard import memory
from ..tensor import Tensor
from .group import BUCKETS, Group

LIMIT = 1 << 20  # bytes at which a bucket is full


class Bucket:
    """Some gradients in a row, behind them for each 1 if it is there; and where their sum over the ranks stands."""

    def __init__(self, group: Group, number: int, leaves: Sequence[Tensor]) -> None:
        self.group, self.leaves, self.tag = group, leaves, BUCKETS + 2 * number
        ends = np.cumsum([0, *(leaf.size for leaf in leaves)])
        self.flat = np.zeros(int(ends[-1]) + len(leaves), leaves[0].dtype)
        self.slices = [self.flat[begin:end] for begin, end in zip(ends, ends[1:])]
        self.there = self.flat[ends[-1] :]
        n, size = len(self.flat), group.size
        self.pieces = [self.flat[n * r // size : n * (r + 1) // size] for r in range(size)]
        self.parts = [np.empty_like(self.pieces[group.rank]) for _ in range(size)]  # everybody's values of this rank's piece
        self.turn = 0  # 0: nothing is under way; 1, 2: messages are; 3: the sum is there
        self.requests: tuple[list[Any], list[Any]] = ([], [])

    def clear(self) -> None:
        self.turn = 0
        self.there[:] = 0

    def take(self, i: int, grad: Tensor) -> None:
        self.slices[i][:] = memory(grad._array)
        self.there[i] = 1

    def start(self) -> None:
        for i in np.flatnonzero(self.there == 0):
            self.slices[i][:] = 0
        self.turn = 1
        self.requests = self.group._post(self.pieces, self.parts, self.tag)

    def move(self) -> None:
        """To the next turn, if what it needs has come."""
        if self.turn in (1, 2) and self.group._arrived(*self.requests):
            self._next()

    def _next(self) -> None:
        self.turn += 1
        if self.turn == 2:
            own = self.pieces[self.group.rank]
            self.parts[self.group.rank][:] = own
            own[:] = self.parts[0]
            for part in self.parts[1:]:
                own += part
            self.requests = self.group._post([own] * self.group.size, self.pieces, self.tag + 1)

    def finish(self, buckets: Sequence[Bucket]) -> None:
        def others() -> None:
            for bucket in buckets:
                if bucket is not self:
                    bucket.move()

        while self.turn < 3:
            self.group._wait(*self.requests, "the sum of gradients", others)
            self._next()


class Buckets:
    """The gradients of these leaves. `known`: how often each takes part in a backward pass, so that it is told when its gradient is whole."""

    def __init__(self, group: Group, leaves: Sequence[Tensor]) -> None:
        self.group = group
        self.leaves = [leaf for leaf in leaves if leaf.requires_grad]
        self.buckets: list[Bucket] = []
        self._place: dict[int, tuple[int, int]] = {}  # of each leaf: its bucket, and its number there
        waiting: dict[str, list[Tensor]] = {}
        for leaf in reversed(self.leaves):  # about the order in which backward gets to them
            some = waiting.setdefault(leaf.dtype, [])
            some.append(leaf)
            if sum(t._array.nbytes for t in some) >= LIMIT:
                self._add(waiting.pop(leaf.dtype))
        for some in waiting.values():
            self._add(some)
        self.known: dict[int, int] | None = None
        self._left: list[int] = []  # shares that are still to come, of each bucket
        self._seen: dict[int, int] = {}
        self._started = 0  # buckets that the backward pass has set off

    def _add(self, leaves: list[Tensor]) -> None:
        for i, leaf in enumerate(leaves):
            memory(leaf._array)  # refuses other devices
            self._place[id(leaf)] = len(self.buckets), i
        self.buckets.append(Bucket(self.group, len(self.buckets), [*leaves]))

    def of(self, leaves: Sequence[Tensor]) -> bool:
        """Whether these are the ones."""
        return [id(leaf) for leaf in leaves if leaf.requires_grad] == [id(leaf) for leaf in self.leaves]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Around the backward pass that makes gradients whole. Of a step that is recorded, buckets set off in it; of the first one, which is eager,
        it is counted how often each leaf gets a share."""
        recorder = recording.current()
        recorded = recorder is not None and recorder.core is not None
        self._seen = {}
        if self.known is None and not recorded:
            with recording.watched(), recording.hearing(self._count):
                yield
            self.known = self._seen
        elif recorded and self.known is not None:
            self._left = [sum(self.known.get(id(leaf), 0) for leaf in bucket.leaves) for bucket in self.buckets]
            with recording.hearing(self._hear, self._start):
                yield
        else:
            yield

    def _count(self, leaf: Tensor) -> None:
        if id(leaf) in self._place:
            self._seen[id(leaf)] = self._seen.get(id(leaf), 0) + 1

    def _hear(self, leaf: Tensor) -> None:
        """A share of its gradient is about to be added."""
        if id(leaf) in self._place:
            bucket = self._place[id(leaf)][0]
            if bucket < self._started or not self._left[bucket]:
                raise _C.CaptureError("a parameter gets its gradient in more parts than in the first step")
            self._left[bucket] -= 1

    def _start(self) -> None:
        """Buckets that are whole, in their order. One that no gradient comes to waits for the end."""
        while self._started < len(self.buckets) and not self._left[self._started]:
            if all(leaf._grad is None for leaf in self.buckets[self._started].leaves):
                return
            self._collect(self._started)
            self._started += 1

    def _collect(self, number: int) -> None:
        bucket = self.buckets[number]
        there = [(i, leaf._grad) for i, leaf in enumerate(bucket.leaves) if leaf._grad is not None]
        recorder = recording.current()
        if not there and recorder is not None and recorder.core is not None:
            raise _C.CaptureError(f"no gradient comes to any of {len(bucket.leaves)} parameters, which are reduced together")
        for place, (i, grad) in enumerate(there):
            recording.look(grad, partial(self._take, number, i, place == 0, place == len(there) - 1))
        if not there:
            bucket.clear()
            bucket.start()

    def _take(self, number: int, i: int, begins: bool, ends: bool, grad: Tensor) -> None:
        bucket = self.buckets[number]
        if begins:
            bucket.clear()
        bucket.take(i, grad)
        if ends:
            bucket.start()
            for other in self.buckets[:number]:
                other.move()

    def finish(self) -> None:
        """Behind the backward pass: every gradient becomes the sum over the ranks. One that no rank has stays None."""
        started, self._started = self._started, 0
        for number in range(started, len(self.buckets)):
            self._collect(number)
        recorder = recording.current()
        recorded = recorder is not None and recorder.core is not None
        for number, bucket in enumerate(self.buckets):
            there = [(i, leaf._grad) for i, leaf in enumerate(bucket.leaves) if leaf._grad is not None]
            for place, (i, grad) in enumerate(there):
                recording.look(grad, partial(self._give, number, i, len(there) if recorded and not place else None))
            if not recorded:
                bucket.finish(self.buckets)
                self._give_missing(bucket)

    def _give(self, number: int, i: int, recorded: int | None, grad: Tensor) -> None:
        bucket = self.buckets[number]
        bucket.finish(self.buckets)
        if recorded is not None and np.count_nonzero(bucket.there) != recorded:
            raise RuntimeError("a rank has gradients that this one's recorded step has not: fit(..., replay=False) sums them all the same")
        memory(grad._array)[:] = bucket.slices[i]

    def _give_missing(self, bucket: Bucket) -> None:
        """A gradient that others have, and this rank has not."""
        for i, leaf in enumerate(bucket.leaves):
            if leaf._grad is None and bucket.there[i]:
                array = _C.from_numpy(np.zeros(leaf.shape, leaf.dtype))
                memory(array)[:] = bucket.slices[i]
                leaf.grad = Tensor(array)
