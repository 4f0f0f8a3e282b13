"""How a script finds out that it is one of several, and how many threads each may use."""

from __future__ import annotations

import os
import sys
from typing import Any

from .. import _C
from ..arguments import flag, instance, integer, number
from ..described import plural
from .group import Group

# What launchers tell the processes that they start: MPICH and Intel MPI (PMI), OpenMPI, PMIx, MVAPICH2.
_LAUNCHED = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK")

_group: Group | None = None


def init(*, sync_batchnorm: bool = False, threads: int | None = None, timeout: float = 600.0) -> Group:
    """The group of all processes that `mpirun -n 4 python train.py` has started; of this one alone, and nothing changes, where none did.

    sync_batchnorm: batch normalisation takes mean and variance of the whole batch, from all ranks, so that results are those of one process (to
    rounding); by default each rank takes those of its own rows, and files and evaluation have the running statistics of rank 0. threads: how
    many each rank computes with; left out, those of the machine (fastnn info) divided by its ranks. timeout: seconds that a rank waits for the
    others at one place, before RankLost says which has not come.

    From here on an exception that nobody catches, on any rank, ends them all; so does a rank that is killed. A second call gives the same group:
    ValueError where it asks for something else. ImportError without mpi4py and an MPI: pip install '.[mpi]'.
    """
    global _group
    flag("dist.init", "sync_batchnorm", sync_batchnorm), number("dist.init", "timeout", timeout, "(0, inf)")
    if threads is not None:
        integer("dist.init", "threads", threads, 1, 257)
    if _group is not None:
        for name, value, default in (("sync_batchnorm", sync_batchnorm, False), ("timeout", timeout, 600.0)):
            if value not in (default, getattr(_group, name)):
                raise ValueError(f"dist.init: the group was made with {name}={getattr(_group, name)}; make it once, and hand it on")
        return _group
    _group = Group(_world() if launched() else None, sync_batchnorm=sync_batchnorm, timeout=timeout)
    if threads is not None:
        _C.set_num_threads(threads)  # ahead of those of the machine
    if _group.size > 1:
        from .lost import say, watch

        share_processors(_group)
        watch(_group)
        if _group.first:
            say(introduced(_group))
    return _group


def checked_group(what: str, group: Any) -> Group:
    return instance(what, "group", group, Group, "what dist.init() gives")


def the_group(group: Any, what: str) -> Group:
    """An argument, or what `init` has made."""
    return init() if group is None and _group is None else checked_group(what, _group if group is None else group)


def launched() -> bool:
    """Whether an MPI launcher has started this process, or somebody has begun MPI in it."""
    return any(name in os.environ for name in _LAUNCHED) or "mpi4py.MPI" in sys.modules


def _world() -> Any:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py raises RuntimeError where it finds no MPI
        raise ImportError(
            f"dist.init: mpirun has started this process, but MPI cannot be used ({' '.join(str(error).split())[:200]}): in the checkout, "
            "pip install '.[mpi]'"
        ) from error
    return MPI.COMM_WORLD


def introduced(group: Group) -> str:
    """By process and machine, which is all that most launchers say of a process that was killed."""
    machines: dict[str, list[str]] = {}
    for rank, name in enumerate(group.names):
        process, _, machine = name.removeprefix("process ").partition(" on ")
        machines.setdefault(machine, []).append(f"{rank} is {process}")
    where = "; ".join(f"on {machine} {', '.join(ranks)}" for machine, ranks in machines.items())
    return f"{group.size} ranks, {plural(_C.get_num_threads(), 'thread')} each; processes: {where}"


def share_processors(group: Group) -> None:
    """The threads of this machine among the ranks on it that may use the same processors; a launcher may have given each its own. What
    set_num_threads has set stays."""
    mine = frozenset(os.sched_getaffinity(0))
    everybody = group.gather_objects(mine)
    sharing = sum(bool(everybody[r] & mine) for r in group.on_this_machine)
    if _C.threads_reason() != "set by set_num_threads":
        _C.set_num_threads(max(1, _C.get_num_threads() // sharing))
