"""Steps and evaluations of several processes together: each has rows of every batch, and the step is that of the whole one."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from .. import _C, __version__, recording, shard, signals
from ..data import Loader
from ..data.items import as_dataset
from ..data.loader import Batches, rows_of
from ..dist import Group, broadcast
from ..dist.buckets import Buckets
from ..dist.launch import checked_group
from ..nn import Module
from ..optim.full_batch import FullBatch
from ..shard import Shard
from ..tensor import Tensor, tensor
from . import evaluation
from .callbacks import Callback
from .diverged import check_loss
from .learned import parameters_of, with_loss
from .op_by_op import Part

if TYPE_CHECKING:
    from .confusion import Counts
    from .evaluation import Data
    from .stepping import Stepping
    from .trainer import Trainer

Batch = tuple[Tensor, Tensor]
See = Callable[[float, Tensor, Tensor], None]


def sharded_by(group: Group | None) -> Sharded | None:
    """For a Trainer; None where there is one process alone."""
    return None if group is None or checked_group("Trainer", group).size == 1 else Sharded(group)


def refuse_ranks(what: str, trainer: Trainer) -> None:
    """ValueError for a trainer of several, which would each go by what they see themselves: one may stop where others wait for it."""
    if (sharded := trainer.stepping.sharded) is not None:
        raise ValueError(
            f"{what}: trainer is that of {sharded.group.size} ranks; this tries out in one process: call it on rank 0 alone, with a Trainer that has no "
            "group, and tell the others what it found (Group.gather_objects)"
        )


class Sharded:
    """What a trainer does because of its group."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.places: tuple[Shard, ...] = ()  # of the step's batches: which rows are here
        self.signal = 0  # that ranks have agreed upon, so that all of them stop behind the same step
        self.loader: Loader | None = None
        self.validation: Data | None = None
        self._buckets: Buckets | None = None
        self._shared = False  # whether the step's parts know their shares
        self._counts = True  # whether what is seen is a sample of this rank's

    # --- steps

    def take(self, stepping: Stepping, trainer: Trainer, given: Sequence[Batch], counts: Sequence[int], see: See) -> float:
        """A step of a fit on this rank's rows of each of `given`, of batches of `counts` samples; returns the loss of all of them."""
        parts = self._parts(trainer, given, counts)
        stepping._parts = [*parts]
        if trainer._replays.captured is not None and not self._by_samples(trainer, parts):
            trainer._replays.refuse(trainer, "batches of one step count by more than their samples (class weights, ignored labels)")
        self._shared = True
        try:
            results = trainer._replays.step(trainer, parts)
        finally:
            self._shared = False
        total = 0.0
        for place, (_, labels, share, _), (loss, logits) in zip(self.places, parts, results):
            self._counts = not place.stands_in
            see(float(loss), logits, labels)
            total += (share or 0.0) * float(loss)
        return self._sum(total)

    def update(self, stepping: Stepping, trainer: Trainer, parts: Sequence[Part]) -> list[Batch]:
        """A whole step: gradients of this rank's rows, their sum over the ranks, and the update, which is the same on all of them."""
        if self._shared:
            return self._update(stepping, trainer, parts)
        try:  # Trainer.step, on rows that only the caller knows
            parts = self._parts(trainer, [(x, labels) for x, labels, *_ in parts], None)
            ((loss, logits),) = self._update(stepping, trainer, parts)
            return [(tensor(self._sum((parts[0][2] or 0.0) * float(loss)), dtype="float64"), logits)]
        except BaseException as error:
            self.group._fail(error)
            raise

    def _update(self, stepping: Stepping, trainer: Trainer, parts: Sequence[Part]) -> list[Batch]:
        recording.ask(lambda: self.places)
        buckets = self._buckets_of(trainer)
        trainer.optimizer.zero_grad()
        results = []
        for i, (place, part) in enumerate(zip(self.places, parts)):
            with shard.using(place), buckets.listening() if i == len(parts) - 1 else nullcontext():
                results.append(gradients_of(trainer, part))
        buckets.finish()
        stepping.finish(trainer)
        return results

    def _parts(self, trainer: Trainer, given: Sequence[Batch], counts: Sequence[int] | None) -> list[Part]:
        """With the share that each has in the whole step: of what its loss's mean divides by, on all ranks."""
        rows = [x.shape[0] for x, _ in given]
        if counts is not None:  # a sample that stands in is none
            rows = [n if rank_has(count, self.group) else 0 for n, count in zip(rows, counts)]
        weights = [evaluation.count_of(trainer.loss, labels) if n else 0.0 for n, (_, labels) in zip(rows, given)]
        everybody = self.group.gather([signals.waiting(), *rows, *weights])
        self.signal = max(self.signal, int(everybody[:, 0].max()))
        of_rows, of_weights = everybody[:, 1 : len(rows) + 1], everybody[:, len(rows) + 1 :]
        first, total = of_rows[: self.group.rank].sum(0), of_rows.sum(0)
        gather = self.group.gather if self.group.synchronises else None
        self.places = tuple([Shard(int(a), n, int(b), gather) for a, n, b in zip(first, rows, total)])
        if not of_weights.sum():
            trainer._batch = given[-1]
            check_loss(trainer, math.nan)
        samples, whole = float(total.sum()), float(of_weights.sum())
        if evaluation.adds_up(trainer.loss):
            return [(x, labels, 1.0 if n else None, n / samples) for n, (x, labels) in zip(rows, given)]
        return [(x, labels, weight / whole if weight else None, 1.0) for weight, (x, labels) in zip(weights, given)]

    def _by_samples(self, trainer: Trainer, parts: Sequence[Part]) -> bool:
        """Whether shares are those of the samples: others change with every step's labels, and each would make another recording."""
        samples = sum(place.total for place in self.places)
        wanted = [place.rows / samples for place in self.places]
        return evaluation.adds_up(trainer.loss) or all((share or 0.0) == n for n, (_, _, share, _) in zip(wanted, parts))

    def _buckets_of(self, trainer: Trainer) -> Buckets:
        leaves = parameters_of(trainer)
        if self._buckets is None or not self._buckets.of(leaves):
            self._buckets = Buckets(self.group, leaves)
        return self._buckets

    @property
    def replays(self) -> bool:
        """Whether a step may be recorded: an eager one has told when gradients are whole."""
        return self._buckets is not None and self._buckets.known is not None

    def _sum(self, value: float) -> float:
        return float(sum(self.group.gather([value])[:, 0].tolist()))

    def batches(self, loader: Loader, epoch: int, first: int = 0) -> Batches:
        """This rank's rows of each batch."""
        if type(loader).batches is Loader.batches:
            yield from loader._sharded(epoch, first, self.group.shard)
            return
        for x, labels in loader.batches(epoch, first):  # somebody's own
            rows = rows_of(len(labels), self.group.shard)
            yield x[rows], labels[rows]

    # --- what is counted

    def seen(self, more: dict[str, float]) -> list[dict[str, float]]:
        """What each rank has counted of a batch."""
        own = [value if self._counts else 0.0 for value in more.values()]
        return [dict(zip(more, row)) for row in self.group.gather(own).tolist()]

    def turns(self, loader: Loader) -> Batches:
        """Of an evaluation's batches, number r, r + size, ... for rank r."""
        rank, size = self.group.shard
        if type(loader).batches is Loader.batches and not loader.mix:
            yield from loader._each(0, rank, size)
            return
        for number, batch in enumerate(loader.batches(0)):  # somebody's own
            if number % size == rank:
                yield batch

    def in_order(self, own: Sequence[dict[str, float]], counts: Counts | None) -> Iterator[dict[str, float]]:
        """What all ranks have counted, batch by batch, so that sums have the bits of one process's; and `counts`, which are whole numbers."""
        by_rank = self.group.gather_objects(list(own))
        if counts is not None:
            several = self.group.gather_objects((counts.matrix, counts.seen))
            counts.matrix = np.sum([matrix for matrix, seen in several if seen], axis=0)
            counts.seen = sum(seen for _, seen in several)
        for batches in zip_longest(*by_rank):
            yield from (one for one in batches if one is not None)

    def same_buffers(self, trainer: Trainer) -> None:
        """Those of rank 0 everywhere: running statistics are of a rank's own rows."""
        for part in with_loss(trainer.model, trainer.loss):
            if buffers := list(part.buffers()):
                broadcast(buffers, group=self.group)

    # --- a fit

    def begin(self, trainer: Trainer) -> None:
        """ValueError, on all ranks, where they would train something else. Weights that differ before the first step become those of rank 0."""
        self._buckets = None
        loader, self.loader = self.loader, None
        if trainer.device != "cpu":
            raise ValueError(
                f"fit: the model lies on {trainer.device}; ranks sum gradients over MPI, in the memory of the CPU, and NCCL is not built in: "
                "Trainer(..., device='cpu'), or no group"
            )
        if isinstance(trainer.optimizer, FullBatch):
            raise ValueError(
                f"fit: {trainer.optimizer.name} evaluates the loss within its step, of all data; several ranks cannot share it"
            )
        self._refuse_few(trainer, loader)
        everybody = self.group.gather_objects(
            {**_described(trainer), **_data("training data", loader), **_data("validation data", self.validation)}
        )
        refuse_others(self.group, everybody)
        digests = self.group.gather_objects([_digest(part) for part in with_loss(trainer.model, trainer.loss)])
        if all(digest == digests[0] for digest in digests):
            return
        if trainer.optimizer.steps:
            raise ValueError("fit: ranks have other weights, though training has begun: resume=checkpoint gives all of them the same")
        for part in with_loss(trainer.model, trainer.loss):
            broadcast(part, group=self.group)
        trainer.optimizer.weights_replaced()

    def _refuse_few(self, trainer: Trainer, loader: Loader | None) -> None:
        """Batch normalisation has no variance of one sample."""
        from ..nn.batchnorm import BatchNorm1d

        if loader is None or self.group.synchronises or not any(isinstance(m, BatchNorm1d) for m in trainer.model.modules()):
            return
        bounds = loader.bounds()
        least = min(end - begin for begin, end in zip(bounds, bounds[1:]))
        if least < 2 * self.group.size:
            raise ValueError(
                f"fit: a batch of {least} samples leaves some of {self.group.size} ranks less than 2, of which BatchNorm1d has no variance: give "
                "dist.init(sync_batchnorm=True), a Loader with drop_last=True, or another batch_size"
            )

    def end(self, trainer: Trainer) -> None:
        """Behind a fit."""
        self.signal = max(self.signal, int(self.group.gather([signals.waiting()]).max()))
        self.same_buffers(trainer)


def rank_has(count: int, group: Group) -> bool:
    """Whether it has samples of a batch of so many."""
    return count * group.rank // group.size < count * (group.rank + 1) // group.size


def kept(sharded: Sharded | None, callbacks: list[Callback]) -> list[Callback]:
    """Those that print or write are rank 0's."""
    return callbacks if sharded is None or sharded.group.first else [c for c in callbacks if not c.first_rank_only]


def gradients_of(trainer: Trainer, part: Part) -> Batch:
    """Adds the part's share to the gradients; returns its loss and logits."""
    x, labels, share, penalised = part
    if share is not None:
        return trainer.gradients(x, labels, share, penalised)
    trainer._batch = x, labels  # nothing in it counts; but others wait for its gradients, and may for its statistics
    logits = trainer.forward(x)
    loss = (logits * 0.0).sum()
    loss.backward()
    return loss, logits


# --- whether ranks do the same


def _described(trainer: Trainer) -> dict[str, str]:
    stepping, optimizer = trainer.stepping, trainer.optimizer
    told = {
        "fastnn": __version__,
        "instruction set": _C.isa(),
        "precision of products": _C.get_precision(),
        "sync_batchnorm": stepping.group.sync_batchnorm if stepping.group else None,
        "model": repr(trainer.model),
        "shapes of the model": {name: (t.shape, t.dtype) for name, t in trainer.model._state().items()},
        "trained parameters": [name for name, p in trainer.model.named_parameters() if p.requires_grad],
        "optimizer": repr(optimizer),
        "rates": (optimizer.rates(), optimizer.steps),
        "loss": getattr(trainer.loss, "__qualname__", None) or repr(trainer.loss),
        "metrics": list(trainer.metrics),
        "penalties": None if trainer.penalty is None else (trainer.penalty.l1, trainer.penalty.l2),
        "precision": trainer.precision,
        "accumulate": stepping.accumulate,
        "clip_norm": stepping.clip_norm,
        "clip_value": stepping.clip_value,
        "ema": repr(stepping.ema),
        "seed": (trainer.generator.seed, trainer.generator.draw),
        "epochs": (trainer.epoch, trainer.batch, trainer.epochs),
    }
    return {name: str(value) for name, value in told.items()}


def _data(name: str, data: Data | None) -> dict[str, str]:
    """Size, labels and a few samples of a data set, and how it is read: all of it might be terabytes."""
    from hashlib import sha256

    if data is None:
        return {name: "None"}
    dataset = data.dataset if isinstance(data, Loader) else as_dataset(data, name)
    some = np.unique(np.linspace(0, len(dataset) - 1, 16).astype(np.int64))
    images, labels = dataset.raw(some)
    digest = sha256(np.ascontiguousarray(images).tobytes() + np.ascontiguousarray(labels).tobytes())
    digest.update(np.ascontiguousarray(dataset.labels).tobytes())
    told = {f"size of the {name}": str((len(dataset), dataset.shape)), f"{name}": digest.hexdigest()[:16]}
    if isinstance(data, Loader):
        for setting in ("batch_size", "shuffle", "seed", "drop_last", "augment", "mix", "normalize"):
            told[f"{setting} of the {name}"] = str(getattr(data, setting))
        if data.normalize is not None and (arrays := data.normalize.arrays()):
            digest = sha256(b"".join(key.encode() + np.ascontiguousarray(a).tobytes() for key, a in arrays.items()))
            told[f"normalize of the {name}"] += f" of the numbers {digest.hexdigest()[:16]}"
    return told


def _digest(part: Module) -> str:
    from hashlib import sha256

    digest = sha256()
    for name, t in part._state().items():
        digest.update(name.encode() + np.ascontiguousarray(t.numpy()).tobytes())
    return digest.hexdigest()


def refuse_others(group: Group, everybody: Sequence[Mapping[str, str]]) -> None:
    """ValueError that names what a rank has otherwise than rank 0."""
    for name, value in everybody[0].items():
        for rank, theirs in enumerate(everybody):
            if (other := theirs.get(name)) != value:
                raise ValueError(f"fit: {group._named(rank)} has another {name} than rank 0: {_short(other)} instead of {_short(value)}")


def _short(value: str | None) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 120 else f"{text[:80]}... ({zlib.crc32(text.encode()):08x})"
