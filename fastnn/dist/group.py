"""Processes that train together: what they tell each other, and how they notice that one is lost."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import _C, recording
from ..arguments import array, integer
from ..described import Described
from ..shard import Shard, using
from ..uncopied import Uncopied

_VALUES, _LENGTHS, _BYTES, _NOTICE = range(4)  # tags of messages; those of buckets come behind
BUCKETS = 16
_SPINS = 50  # questions whether messages are there before others may have the processor
_SHORT = 500  # and before this one sleeps
_ON_THE_WAY = 1.0  # seconds that a message may take that was sent before its sender's end, which is told elsewhere
_ROUND = 64  # such questions between two looks at who is lost


class RankLost(RuntimeError):
    """A rank has failed or ended while this one waits for it: nothing more can be done together. `rank` is its number."""

    def __init__(self, message: str = "", rank: int = -1) -> None:
        super().__init__(message)
        self.rank = rank


class Group(Described, Uncopied, instead="fastnn.dist.init() gives the same one again"):
    """The processes of a run; `dist.init()` makes it. rank: this one's number, from 0 on; size: how many there are. local_rank, local_size: the same
    among those on this machine. first: whether this is rank 0, which prints and writes. sync_batchnorm, timeout: as given to init.

    `gather` and `barrier` have to be called by all ranks, in the same order, as `Trainer.fit` and `evaluate` have to be.
    """

    def __init__(self, comm: Any = None, *, sync_batchnorm: bool = False, timeout: float = 600.0) -> None:
        self.sync_batchnorm, self.timeout = sync_batchnorm, timeout
        self.rank, self.size, self.local_rank, self.local_size = 0, 1, 0, 1
        self.lost: RankLost | None = None  # why nothing can be done together any more
        self.names = [_name()]  # of all ranks: process and machine
        self.on_this_machine = [0]  # which ranks are
        self._comm = comm
        if comm is not None:
            self._join(comm)

    def _join(self, comm: Any) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._comm, self._side = comm.Dup(), comm.Dup()  # nobody else's messages; of notices
        self._told: list[Any] = []  # notices on their way
        self.ended: dict[int, float] = {}  # ranks whose script is done, and when they said so
        here = comm.Split_type(MPI.COMM_TYPE_SHARED, self.rank)
        self.local_rank, self.local_size = here.Get_rank(), here.Get_size()
        self.on_this_machine = here.allgather(self.rank)
        self.names = comm.allgather(_name())
        here.Free()

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def shard(self) -> tuple[int, int]:
        """(rank, size), as `Loader.batches(epoch, shard=...)` takes it."""
        return self.rank, self.size

    def __repr__(self) -> str:
        return f"Group(rank {self.rank} of {self.size}, {self.names[self.rank]})"

    # --- messages

    def gather(self, values: Any) -> np.ndarray:
        """Numbers of all ranks: float64 (size, n), row r what rank r gave; each gives as many, a vector (n,). ValueError for another shape."""
        given = array("Group.gather", "values", values, "numbers (n,)")
        if given.dtype.kind not in "fiub":
            raise TypeError(f"Group.gather: values must be numbers, got {given.dtype}")
        if given.ndim != 1:
            raise ValueError(f"Group.gather: values must be a vector (n,), got shape {given.shape}; give values.ravel()")
        vector = np.ascontiguousarray(given, np.float64)
        rows = np.empty((self.size, len(vector)))
        rows[self.rank] = vector
        self._exchange(rows[self.rank], [rows[r] for r in range(self.size)], _VALUES, "gather")
        return rows

    def gather_objects(self, value: Any) -> list[Any]:
        """Anything that can be pickled, of all ranks, in their order."""
        own = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = self.gather([len(own)])[:, 0].astype(int)
        parts = [own if r == self.rank else np.empty(n, np.uint8) for r, n in enumerate(lengths)]
        self._exchange(own, parts, _BYTES, "gather_objects")
        return [value if r == self.rank else pickle.loads(part.tobytes()) for r, part in enumerate(parts)]

    def barrier(self) -> None:
        """Returns once all ranks are here: what rank 0 has written can be read by the others behind it."""
        self.gather([])

    def _exchange(self, own: np.ndarray, parts: Sequence[np.ndarray], tag: int, what: str) -> None:
        """`own` to all others, and into parts[r] what rank r sends."""
        if self.size > 1:
            refuse_recorded(what)
            self._wait(*self._post([own] * self.size, parts, tag), what)

    def _post(self, given: Sequence[np.ndarray], taken: Sequence[np.ndarray], tag: int) -> tuple[list[Any], list[Any]]:
        """Messages set off: given[r] to rank r, taken[r] from it. Returns what is waited for: of those that come in, and that go out."""
        others = [r for r in range(self.size) if r != self.rank]
        coming = [self._comm.Irecv([taken[r], self._mpi.BYTE], r, tag) for r in others]
        return coming, [self._comm.Isend([given[r], self._mpi.BYTE], r, tag) for r in others]

    def _arrived(self, coming: Sequence[Any], going: Sequence[Any]) -> bool:
        """Whether all have; asking is also what moves them on."""
        return bool(self._mpi.Request.Testall([*coming, *going]))

    def _wait(self, coming: Sequence[Any], going: Sequence[Any], what: str, also: Callable[[], object] = lambda: None) -> None:
        """Until they have. RankLost, naming it, where one has failed or ended, or has not come within `timeout` seconds. also: asked meanwhile."""
        if self.lost is not None:
            raise RankLost(f"nothing can be done together any more: {self.lost}", self.lost.rank)
        begun, asked = time.monotonic(), 0
        while not self._arrived(coming, going):
            also()
            asked += 1
            if asked > _SHORT:  # the others have more to do, or fewer processors
                time.sleep(5e-5)
            elif asked > _SPINS:
                os.sched_yield()
            if asked % _ROUND == 0:
                self._look_around(what, coming)
                if time.monotonic() - begun > self.timeout:
                    self._lose(what, self._missing(coming), f"has not come within {self.timeout:g} seconds")

    def _missing(self, coming: Sequence[Any]) -> int:
        others = [r for r in range(self.size) if r != self.rank]
        return next((r for r, request in zip(others, coming) if not request.Test()), others[0])

    def _lose(self, what: str, rank: int, why: str) -> None:
        self.lost = RankLost(f"{self._named(rank)} {why}, and rank {self.rank} waits for it in {what}", rank)
        raise self.lost

    def _named(self, rank: int) -> str:
        return f"rank {rank} of {self.size} ({self.names[rank]})"

    # --- who is there

    def _tell(self, words: str) -> None:
        """All others, that this rank will take no part any more; empty: its script is done."""
        data = words.encode()[:2000]
        for r in range(self.size):
            if r != self.rank:
                self._told.append((data, self._side.Isend([data, self._mpi.BYTE], r, _NOTICE)))

    def _fail(self, error: BaseException) -> None:
        """An error ends what this rank does with the others, which wait for it: they are told, and get RankLost."""
        if self.size == 1 or self.lost is not None:
            return
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.lost = RankLost(f"{self._named(self.rank)} has failed: {words}", self.rank)
        self._tell(words)

    def _look_around(self, what: str, coming: Sequence[Any] = ()) -> None:
        for rank, words in self._notices():
            if words:
                self._lose(what, rank, f"has failed: {words}")
        if self.ended and (missing := self._missing(coming)) in self.ended:
            if time.monotonic() - self.ended[missing] > _ON_THE_WAY:
                self._lose(what, missing, "has ended: all ranks have to do the same")

    def _notices(self) -> Iterator[tuple[int, str]]:
        """What others have told since."""
        status = self._mpi.Status()
        while self._side.Iprobe(self._mpi.ANY_SOURCE, _NOTICE, status):
            data = np.empty(status.Get_count(self._mpi.BYTE), np.uint8)
            self._side.Recv([data, self._mpi.BYTE], status.Get_source(), _NOTICE)
            words = data.tobytes().decode(errors="replace")
            if not words:
                self.ended[status.Get_source()] = time.monotonic()
            yield status.Get_source(), words

    def _abort(self) -> None:
        """Ends all ranks, this one too."""
        self._comm.Abort(1)

    # --- a batch of a loop of one's own

    @contextmanager
    def part(self, samples: int) -> Iterator[float]:
        """Around forward and backward of a loop of one's own, on `samples` of a batch, those behind the ones of lower ranks: dropout draws what one
        process would draw for the whole batch, and with sync_batchnorm statistics are those of all of it. Gives samples / those of all ranks."""
        count = integer("Group.part", "samples", samples, 0)
        counts = self.gather([count])[:, 0]
        place = Shard(int(counts[: self.rank].sum()), count, int(counts.sum()), self.gather if self.synchronises else None)
        with using(place if self.size > 1 else None):
            yield count / max(1.0, float(counts.sum()))

    @property
    def synchronises(self) -> bool:
        """Whether batch normalisation takes statistics of the whole batch from several ranks."""
        return self.sync_batchnorm and self.size > 1


def refuse_recorded(what: str) -> None:
    """CaptureError within a step that is recorded: a replay would not do it."""
    recorder = recording.current()
    if recorder is not None and recorder.core is not None:
        raise _C.CaptureError(
            f"ranks tell each other something in it ({what}), which a replay would not do: keep the step eager, or use the Trainer, which replays its own"
        )


def _name() -> str:
    import socket

    return f"process {os.getpid()} on {socket.gethostname()}"
