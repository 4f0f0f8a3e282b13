"""Batches of a data set, prepared ahead in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from .. import _C, collector, devices, random
from ..arguments import array, flag, instance, integer, own_integers, shown
from ..described import described, plural
from ..other_names import told
from ..tensor import Tensor
from ..warned import warn
from .augment import Augmentation, frames_of
from .dataset import Dataset
from .frames import Frames
from .items import Samples, as_dataset
from .mix import Mix, Mixing, mixing_steps
from .normalize import Normalize
from .preprocessing import Preprocessing
from .settled import Settled

Batches = Generator[tuple[Tensor, Tensor], None, None]

_MOST_OF_SMALL = 32  # a byte above it is none of a set whose mean and deviation lie below 1


def _handed_over(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The batch, for which the caller's stream waits: a thread made it on the device's own."""
    batch[0]._array.follow()
    return batch


def _warn_of_units(normalize: Normalize, dataset: Dataset) -> None:
    """torchvision's means and deviations are those of values from 0 to 1, those of bytes go up to 255. Bytes that are 0 or 1 have small ones
    too, and floats large ones: samples tell."""
    small = len(normalize.mean) in (1, 3, 4) and max(*normalize.mean, *normalize.std) < 1 and min(normalize.mean) > 0
    if small and len(dataset) and dataset.of_bytes and dataset.raw(np.zeros(1, np.int64))[0].max(initial=0) > _MOST_OF_SMALL:
        mean, std = ([round(255 * v, 3) for v in values] for values in (normalize.mean, normalize.std))
        warn(
            f"Loader: normalize is {normalize}, as for values from 0 to 1, but the data set holds bytes, from 0 to 255; "
            f"expected Normalize({mean}, {std})"
        )
    if len(normalize.mean) in (1, 3, 4) and min(normalize.mean) > 1.5 and len(dataset.shape) == 3 and len(dataset) and not dataset.of_bytes:
        some = dataset.raw(np.unique(np.linspace(0, len(dataset) - 1, 8).astype(np.int64)))[0]
        if 0 <= some.min(initial=0) and 0 < some.max(initial=0) <= 1:
            warn(
                f"Loader: normalize is {normalize}, as for values from 0 to 255, but the data set holds floats from 0 to 1; "
                "expected the bytes that it was fitted on, or 255 times as much"
            )


def checked_shard(shard: Any) -> tuple[int, int]:
    """(rank, size): which of how many."""
    if not isinstance(shard, tuple) or len(shard) != 2:
        raise TypeError(f"Loader.batches: shard must be (rank, size), such as dist.init().shard, got {shown(shard)}")
    size = integer("Loader.batches", "shard: size", shard[1], 1, 2**31)
    return integer("Loader.batches", "shard: rank", shard[0], 0, size), size


def rows_of(n: int, shard: tuple[int, int]) -> slice:
    """Which of a batch's n rows are a rank's; where there are none, the first, which stands in."""
    (rank, size) = shard
    begin, end = n * rank // size, n * (rank + 1) // size
    return slice(begin, end) if begin < end else slice(0, 1)


def _rows(
    made: Callable[..., tuple[Tensor, Tensor]], shard: tuple[int, int], positions: np.ndarray, frames: Frames | None
) -> tuple[Tensor, Tensor]:
    x, labels = made(positions, frames)
    rows = rows_of(len(positions), shard)
    return x[rows], labels[rows]


class Loader(Settled):
    """Iterating gives one epoch of (images, labels): float32 Tensors on `device`, and int64 Tensors on the CPU, where losses look at them (with
    `mix` probabilities, float32 (N, classes)).

    The order is a pure function of (seed, epoch): epoch e takes the samples by rank of word i of Philox(seed; draw e, order).
    Each `for` loop is the next epoch; `batches(epoch, first)` gives any epoch from any batch on. A Loader made anew begins at epoch 0, with
    the same order, crops and flips: make one for all epochs, or set `epoch`. A last batch of a single sample joins the batch before (batch norm
    has no variance over one sample). normalize: data.Normalize, MeanImage, PCA or ZCA, done behind all else. augment: what is done to the images
    of each epoch, a step or several (RandomCrop, Flip, RandomAffine, ColorJitter, RandomErasing, ...), drawn from the same seed. mix: MixUp(),
    CutMix(), or several, one of which is drawn for each batch: samples are mixed in pairs, and so are their labels. While the caller works on a
    batch, a thread gathers and normalises the next `prefetch` ones in a kernel; it ends with the iteration, also when that is left early (a batch
    later where only Python's garbage collector finds that it was left). prefetch=0 with one worker: no thread; a batch is made when it is asked
    for.

    dataset: an `ArrayDataset` (arrays in memory or mapped from a file), (images, labels), or any object with __len__ and __getitem__ that gives
    (image, label), which becomes an `ItemDataset`. workers: how many threads make batches, each a whole one: 1, unless the set reads
    photos; the batches are the same and come in the same order for any number. Warns of a normalize in torchvision's units, values from 0 to 1, for
    a set of bytes, and of one in units of bytes for images of floats from 0 to 1.

    All of it is fixed once the Loader is made; `epoch`, the next one's number, may be set.
    """

    _fixed = ("dataset", "batch_size", "shuffle", "seed", "normalize", "augment", "mix", "drop_last", "prefetch", "workers", "device")
    _checks: ClassVar[Mapping[str, Callable[[Any, Any], Any]]] = {
        "epoch": lambda loader, value: integer("Loader", "epoch", value, 0, 2**32)
    }

    @told(
        {
            **dict.fromkeys(("num_workers", "n_jobs"), "it is workers, threads of this process"),
            **dict.fromkeys(("transform", "transforms"), "it is augment, and normalize"),
            **dict.fromkeys(("mixup", "cutmix"), "it is mix=[data.MixUp(0.2), data.CutMix(1.0)]"),
            **dict.fromkeys(
                ("collate_fn", "sampler", "batch_sampler"), "an object with __len__ and __getitem__ may give samples as it likes"
            ),
            **dict.fromkeys(("pin_memory", "persistent_workers"), "it is done where it helps"),
        },
        several="images and labels are one: Loader((x, y), batch_size)",
        number="batch_size",
    )
    def __init__(
        self,
        dataset: Dataset | tuple[Any, Any] | Samples,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        normalize: Preprocessing | None = None,
        augment: Augmentation | Sequence[Augmentation] = (),
        mix: Mix | Sequence[Mix] = (),
        drop_last: bool = False,
        prefetch: int = 2,
        workers: int | None = None,
        device: str = "cpu",
    ) -> None:
        (
            integer("Loader", "batch_size", batch_size, 1),
            integer("Loader", "seed", seed, 0, 2**63),
            integer("Loader", "prefetch", prefetch, 0),
        )
        flag("Loader", "shuffle", shuffle), flag("Loader", "drop_last", drop_last)
        if workers is not None:
            integer("Loader", "workers", workers, 1)
        self.dataset: Dataset = as_dataset(dataset, "Loader: dataset")
        if drop_last and len(self.dataset) < batch_size:
            raise ValueError(f"Loader: {len(self.dataset)} samples give no whole batch of {batch_size}, and drop_last drops the rest")
        if normalize is not None:
            instance("Loader", "normalize", normalize, Preprocessing, "a Normalize, MeanImage, PCA or ZCA")
        self.batch_size, self.shuffle, self.seed, self.normalize = batch_size, shuffle, seed, normalize
        steps = (augment,) if isinstance(augment, Augmentation) else tuple(augment) if isinstance(augment, (list, tuple)) else None
        if steps is None or not all(isinstance(step, Augmentation) for step in steps):
            raise TypeError(f"Loader: augment must be a step such as data.Flip(), or several, got {shown(augment)}")
        self.augment: tuple[Augmentation, ...] = steps
        if self.augment and len(self.dataset.shape) != 3:
            raise ValueError(f"Loader: augment needs images (C, H, W), the data set has samples of shape {self.dataset.shape}")
        if normalize is not None and not normalize.fits(shape := self._finished_shape()):
            raise ValueError(f"Loader: {normalize.misfit(shape)}")
        if isinstance(normalize, Normalize):
            _warn_of_units(normalize, self.dataset)
        self.mix, self._classes = mixing_steps(mix, self.dataset)
        self.workers = workers or self.dataset.workers
        self.drop_last, self.device = drop_last, devices.resolve(device)
        self.prefetch = max(self.workers, prefetch) if prefetch or self.workers > 1 else 0
        self.epoch = 0
        channels = self.dataset.shape[0]
        as_they_are: tuple[np.ndarray, np.ndarray] = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        self._scale, self._shift = as_they_are if normalize is None else normalize.gathered(self.dataset.of_bytes)
        self._settle()

    def _finished_shape(self) -> tuple[int, ...]:
        """Of a sample behind the augmentation, as `normalize` gets it; one that goes by channels alone does not ask for more."""
        if not self.augment or isinstance(self.normalize, Normalize):
            return self.dataset.shape
        height, width = self.dataset.shape[1:]
        return (self.dataset.shape[0], *frames_of(self.augment, self.seed, 0, 1, (height, width)).size)

    def bounds(self) -> list[int]:
        """Batch b takes positions bounds[b] to bounds[b + 1] of the epoch's order."""
        n = len(self.dataset)
        bounds = [*range(0, n, self.batch_size), n]
        left = n % self.batch_size
        if left and self.drop_last:
            bounds.pop()
        elif left == 1 and n > 1:
            del bounds[-2]
        return bounds

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self.bounds()) - 1

    def __repr__(self) -> str:
        settings = {name: getattr(self, name) for name in ("shuffle", "seed", "normalize", "augment", "mix", "device")}
        given = {name: value for name, value in settings.items() if value and value != "cpu"}
        return described(self, f"{plural(len(self), 'batch')} of {self.batch_size} of {self.dataset!r}", **given)

    def order(self, epoch: int) -> np.ndarray:
        """The positions in the data set in the order in which `epoch` takes them."""
        integer("Loader", "epoch", epoch, 0, 2**32)
        n = len(self.dataset)
        if not self.shuffle:
            return np.arange(n)
        return np.argsort(random.Generator(self.seed).bits(n, epoch, random.ORDER), kind="stable")

    def frames(self, epoch: int) -> Frames | None:
        """What each sample of the data set shows in `epoch`; None without augmentation."""
        integer("Loader.frames", "epoch", epoch, 0, 2**32)
        if not self.augment:
            return None
        height, width = self.dataset.shape[1:]
        return frames_of(self.augment, self.seed, epoch, len(self.dataset), (height, width))

    def mixing(self, epoch: int) -> Mixing | None:
        """How `epoch` mixes the samples of each batch; None without `mix`."""
        integer("Loader.mixing", "epoch", epoch, 0, 2**32)
        return Mixing(self.mix, self.seed, epoch, len(self.dataset), self._classes) if self.mix else None

    def __iter__(self) -> Batches:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self.batches(epoch)

    def batches(self, epoch: int, first: int = 0, *, shard: tuple[int, int] | None = None) -> Batches:
        """The batches of one epoch, from number `first` on. A forked child may go on with them: it makes each when it is asked for.

        shard: (rank, size), such as `dist.init().shard`: of each batch of n the rows n rank // size to n (rank + 1) // size, those of all ranks together
        being the batch, mixed and augmented as it is. ValueError where a batch has fewer samples than there are ranks."""
        integer("Loader.batches", "first", first, 0)
        if shard is not None and any(end - begin < checked_shard(shard)[1] for begin, end in pairwise(self.bounds()[first:])):
            least = min(end - begin for begin, end in pairwise(self.bounds()[first:]))
            raise ValueError(
                f"Loader.batches: a batch of {least} cannot be shared by {shard[1]} ranks; give a larger batch_size, or drop_last=True"
            )
        yield from self._sharded(epoch, first, shard)

    def _sharded(self, epoch: int, first: int, shard: tuple[int, int] | None) -> Batches:
        """The same; where a rank has no sample of a batch, its first one stands in."""
        order, bounds, mixing = self.order(epoch), self.bounds(), self.mixing(epoch)
        parts = [order[begin:end] for begin, end in pairwise(bounds[first:])]
        made = self.batch if mixing is None else partial(self.batch, mixing=mixing)  # that of a subclass may know of none
        if shard is not None and mixing is not None:  # partners may be anywhere in the batch
            made = partial(_rows, made, shard)
        elif shard is not None:
            parts = [part[rows_of(len(part), shard)] for part in parts]
        yield from self._prepared(made, parts, self.frames(epoch))

    def _each(self, epoch: int, first: int, step: int) -> Batches:
        """Every step-th batch of an epoch, from number `first` on; never mixed."""
        order, bounds = self.order(epoch), self.bounds()
        parts = [order[begin:end] for begin, end in pairwise(bounds)]
        yield from self._prepared(self.batch, parts[first::step], self.frames(epoch))

    def _prepared(self, made: Callable[..., tuple[Tensor, Tensor]], parts: list[np.ndarray], frames: Frames | None) -> Batches:
        """What `made` makes of the samples at each of these positions."""
        from .pool import Pool

        if not self.prefetch:
            for part in parts:
                yield made(part, frames)
            return
        collector.watch()
        pool, process = Pool(self.workers, thread_name_prefix="fastnn-loader"), os.getpid()
        try:
            ahead = deque(pool.submit(made, part, frames) for part in parts[: self.prefetch])
            for place, part in enumerate(parts):
                if os.getpid() != process:  # forked since: the threads, and the batches they were at, are the parent's
                    yield made(part, frames)
                    continue
                ready = ahead.popleft()
                if place + self.prefetch < len(parts):
                    ahead.append(pool.submit(made, parts[place + self.prefetch], frames))
                yield _handed_over(ready.result())
        finally:
            if os.getpid() == process:
                pool.shutdown(wait=not collector.collects(), cancel_futures=True)

    def batch(self, positions: np.ndarray, frames: Frames | None = None, mixing: Mixing | None = None) -> tuple[Tensor, Tensor]:
        """The samples at these positions of the data set, as a batch; with frames(epoch), as that epoch shows them, with mixing(epoch), as it mixes
        them."""
        positions = array("Loader.batch", "positions", positions)
        if positions.ndim != 1 or positions.dtype.kind not in "iu":
            raise TypeError(f"Loader.batch: positions must be several integers, got shape {positions.shape} of {positions.dtype}")
        positions = own_integers(positions)
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(self.dataset):
            there = f"from {positions.min()} to {positions.max()}"
            raise IndexError(f"Loader.batch: positions go {there}, the data set has {len(self.dataset)} samples, counted from 0")
        shown = None if frames is None else frames.take(positions)
        images, labels = self.dataset.batch(positions, self._scale, self._shift, self.device, shown)
        if mixing is not None:
            images, labels = mixing.mixed(images, labels, positions)
        if self.normalize is not None:
            images = self.normalize.finished(images)  # behind CutMix, whose rectangles are of images
        return Tensor(images), Tensor(_C.from_numpy(labels))
