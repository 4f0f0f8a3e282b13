"""For loops of one's own: gradients averaged, weights brought to all ranks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..arguments import instance, integer, items
from ..shard import memory
from ..tensor import Tensor
from .buckets import Buckets
from .group import Group, refuse_recorded
from .launch import the_group

_made: dict[int, Buckets] = {}  # of the last parameters, whose buffers serve again


def average_gradients(parameters: Any, *, samples: int | None = None, group: Group | None = None) -> None:
    """Between `loss.backward()` and `optimizer.step()`: each gradient becomes the mean over the ranks, the same bits on all of them.

        group = dist.init()
        dist.broadcast(model)
        for epoch in range(10):
            for x, labels in loader.batches(epoch, shard=group.shard):
                optimizer.zero_grad()
                with group.part(len(labels)):  # masks, as of the whole batch
                    loss(model(x), labels).backward()
                dist.average_gradients(model, samples=len(labels))
                optimizer.step()

    parameters: a Module, or Tensors; the same on all ranks. samples: how many this rank's loss is the mean of: the mean over ranks is weighed by
    it, sum_r (n_r / N) g_r, which is the gradient of the mean over all N samples; left out, all ranks count the same. A gradient that
    no rank has stays None. group: what dist.init() gave; left out, that one. Raises TypeError for what are no Tensors, ValueError for tensors on
    a GPU, RankLost.
    """
    given = _tensors("average_gradients", parameters)
    count = None if samples is None else integer("average_gradients", "samples", samples, 0)
    group = the_group(group, "average_gradients")
    if group.size == 1:
        return
    refuse_recorded("average_gradients")
    share = 1 / group.size
    if count is not None:
        counts = group.gather([count])[:, 0]
        share = float(counts[group.rank] / max(1.0, float(counts.sum())))
    for p in given:
        if p.grad is not None:
            memory(p.grad._array)[:] *= share
    buckets = _made.get(id(group))
    if buckets is None or not buckets.of(given):
        buckets = _made[id(group)] = Buckets(group, given)
    buckets.finish()


def broadcast(parameters: Any, *, root: int = 0, group: Group | None = None) -> None:
    """Every rank gets the values that rank `root` has: of a Module its parameters and buffers, or of the Tensors given.

    root: 0 to size - 1, ValueError for another. The tensors are overwritten in place, as load_state_dict does. group: what dist.init() gave;
    left out, that one. Raises TypeError for what are no Tensors, ValueError for tensors on a GPU or of other shapes, RankLost.
    """
    given = _tensors("broadcast", parameters, buffers=True)
    group = the_group(group, "broadcast")
    integer("broadcast", "root", root, 0, group.size)
    if group.size == 1:
        return
    for t in given:
        memory(t._array)
    shapes = group.gather_objects([(t.shape, t.dtype) for t in given])
    for rank, theirs in enumerate(shapes):
        if theirs != shapes[root]:
            raise ValueError(f"broadcast: {group._named(rank)} has other shapes or types than rank {root}; give the same on all ranks")
    values = [np.array(memory(t._array)) for t in given] if group.rank == root else []
    sent = group.gather_objects(values)[root]
    for t, value in zip(given, sent):
        if group.rank != root:
            _overwrite(t, value)


def _overwrite(t: Tensor, value: np.ndarray) -> None:
    from .. import _C

    fresh = _C.from_numpy(np.zeros(t.shape, t.dtype if t.dtype != "bfloat16" else "float32"), dtype=t.dtype)
    memory(fresh)[:] = value
    t._array.assign(fresh)


def _tensors(what: str, parameters: Any, *, buffers: bool = False) -> list[Tensor]:
    if hasattr(parameters, "named_parameters"):
        return [*parameters.parameters(), *(parameters.buffers() if buffers else ())]
    given: Iterable[Any] = [parameters] if isinstance(parameters, Tensor) else items(what, "parameters", parameters, "a Module, or Tensors")
    return [instance(what, "parameters", t, Tensor, "a Module, or Tensors such as model.parameters()") for t in given]
