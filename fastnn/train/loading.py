"""The batches that a training runs on."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..arguments import shown
from ..data import Loader, Normalize
from ..data.items import as_dataset
from ..data.loader import Batches
from ..data.preprocessing import same
from ..described import plural
from ..nn import MulticlassSVMLoss, MultiMarginLoss, NLLLoss
from ..tensor import Tensor
from .evaluation import Data, refuse_other_names, refuse_other_samples
from .raw import remember, warn_of_raw_training

if TYPE_CHECKING:
    from .trainer import Trainer

_OF_CLASS_NUMBERS = (MulticlassSVMLoss, MultiMarginLoss, NLLLoss)


def training_loader(trainer: Trainer, data: Data, batch_size: int | None) -> Loader:
    """For `fit`. The trainer takes what it does not know yet from the data: normalisation, classes, resizing."""
    if isinstance(data, Loader):
        loader = data
        if batch_size not in (None, loader.batch_size):
            raise ValueError(
                f"fit: batch_size is {batch_size}, but the loader makes batches of {loader.batch_size}; leave it out, or give the data set"
            )
        trainer.normalize = trainer.normalize or loader.normalize
        if loader.device != trainer.device:
            raise ValueError(f"fit: the loader gives batches on {loader.device}, the trainer works on {trainer.device}; give both the same")
        if not same(loader.normalize, trainer.normalize):
            raise ValueError(f"fit: the loader has normalize={loader.normalize}, the trainer {trainer.normalize}; give both the same")
        warn_of_raw_training(loader, trainer.model)
        if loader.mix and isinstance(trainer.loss, _OF_CLASS_NUMBERS):
            name = type(trainer.loss).__name__
            raise ValueError(
                f"fit: the loader has mix={loader.mix}, which makes probabilities of labels; {name} takes class numbers: give the Trainer "
                "nn.CrossEntropyLoss(), or the loader no mix"
            )
    else:
        dataset = as_dataset(data, "fit: train", loader=True)
        if trainer.normalize is None and len(dataset):
            trainer.normalize = Normalize.fit(dataset)
        loader = Loader(
            dataset, batch_size or 64, shuffle=True, seed=trainer.generator.seed, normalize=trainer.normalize, device=trainer.device
        )
    if not len(loader):
        raise ValueError("fit: the training set is empty; it needs at least one sample")
    refuse_other_names("fit: the training set", loader.dataset.classes, "the trainer", trainer.classes)
    trainer.classes, trainer.resize = trainer.classes or loader.dataset.classes, trainer.resize or loader.dataset.resize
    position = {"samples": len(loader.dataset), **{name: getattr(loader, name) for name in ("batch_size", "shuffle", "seed", "drop_last")}}
    if trainer.batch and not trainer.data:
        raise ValueError(f"fit: trainer.batch is {trainer.batch}, but no epoch was begun; set it to 0, or resume a checkpoint")
    if trainer.batch and position != {**position, **trainer.data}:  # a file of an early version does not say the order
        raise ValueError(
            f"fit: training stands within an epoch of {_words(trainer.data)}; it cannot go on with {_words(position)}: give it what it began with, "
            "or set trainer.batch = 0, and the epoch begins anew"
        )
    if not trainer.batch:
        trainer.sums = {}
    trainer.data = position
    remember(trainer.model, trainer.normalize)
    if trainer.stepping.sharded is not None:
        trainer.stepping.sharded.loader = loader
    return loader


def checked_validation(data: Data | None, trainer: Trainer | None = None) -> Data | None:
    """What is evaluated after each epoch, looked at before the first one; the trainer knows how its training set is prepared by then."""
    if isinstance(data, Loader) and trainer is not None:
        refuse_other_samples("fit: validation", data, trainer.normalize, trainer.device)
    if data is None:
        return None
    dataset = data.dataset if isinstance(data, Loader) else as_dataset(data, "fit: validation", loader=True)
    if trainer is not None:
        refuse_other_names("fit: the validation set", dataset.classes, "the training set", trainer.classes)
        if trainer.normalize is not None and not trainer.normalize.fits(dataset.shape):
            wanted = trainer.normalize.wanted(dataset.shape)
            raise ValueError(f"fit: the validation set has samples of shape {dataset.shape}; expected {wanted}, as the training set has")
    if isinstance(data, Loader):
        return data
    if not len(dataset):
        raise ValueError("fit: the validation set is empty; leave it out, or give it samples")
    return dataset


def validation_of(trainer: Trainer, data: Data | None) -> Data | None:
    """For `fit`. A best snapshot that was judged by other data is no measure of this fit's epochs: it is forgotten, unless training is resumed; so is
    one of layers that were replaced since, which could not be put back."""
    checked, judged_by = checked_validation(data, trainer), data if isinstance(data, tuple) else (data,)
    before = [part() for part in trainer._validated]  # None: gone
    same = trainer.resumed or len(before) == len(judged_by) and all(map(operator.is_, before, judged_by))
    if data is None or not same or (trainer.best is not None and _shapes(trainer.best.arrays) != _shapes(trainer.model._state())):
        trainer.best = None
    trainer._validated = [_reference(part) for part in judged_by]
    if trainer.stepping.sharded is not None:
        trainer.stepping.sharded.validation = checked
    return checked


def _shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: t.shape for name, t in tensors.items()}


def _reference(part: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(part)
    except TypeError:  # lists have none
        return lambda: part


def remaining_batches(trainer: Trainer, loader: Loader) -> Batches:
    """Of the running epoch, as the callbacks hand them on, the first one last."""
    batches, left = trainer.stepping.batches(loader, trainer.epoch, trainer.batch), len(loader) - trainer.batch
    for callback in reversed(trainer._callbacks):
        around, hook = callback.around_batches(trainer, loader, batches), f"{type(callback).__name__}.around_batches"
        if not hasattr(around, "close"):
            raise TypeError(f"{hook} returned {shown(around)}; expected a generator: yield from batches")
        batches = batches if around is batches else _counted(around, hook, left)
    return batches


def _counted(batches: Batches, hook: str, count: int) -> Batches:
    """As many as a step will ask for. None is held here while the step works on it."""
    with closing(batches):
        for taken in range(count):
            yield _pair(next(batches, _END), hook, taken, count)


_END = object()  # None may be what somebody yields


def _pair(batch: Any, hook: str, taken: int, count: int) -> tuple[Tensor, Tensor]:
    if batch is _END:
        raise ValueError(f"fit: {hook} ended after {taken} of {plural(count, 'batch')}; expected all of them: yield from batches")
    if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not all(isinstance(part, Tensor) for part in batch):
        raise TypeError(f"fit: {hook} gave {shown(batch)} as batch {taken + 1} of {count}; expected a pair of Tensors, (x, labels)")
    return batch[0], batch[1]


def _words(position: Mapping[str, int]) -> str:
    order = [f"{name}={position[name]}" for name in ("shuffle", "seed", "drop_last") if name in position]
    return f"{position['samples']:,} samples in batches of {position['batch_size']}{' with ' if order else ''}{', '.join(order)}"
