"""A model looked at, not changed: loss and metrics over a data set, probabilities."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import random
from ..arguments import array, shown
from ..data import ArrayDataset, Augmentation, Dataset, ImageFiles, ItemDataset, Loader, Resize
from ..data.items import Samples, as_dataset, gives_pairs, rank
from ..data.preprocessing import Preprocessing, same
from ..described import plural
from ..exclusive import refuse_others
from ..nn import Module
from ..tensor import Tensor, no_grad
from ..turns import by_turns, switched
from . import interrupt
from .confusion import Counts
from .metrics import TWO_OUTPUTS, Metric, asked, passes_over_ignored, total
from .precision import Forward
from .raw import warn_of_probabilities, warn_of_raw, warn_of_unfitted
from .views import View, checked_views, mean_over, viewed

if TYPE_CHECKING:
    from .sharded import Sharded
    from .trainer import Trainer

Data = Dataset | Loader | tuple[Any, Any] | Samples
Loss = Callable[[Tensor, Tensor], Tensor]

_BATCH = 256


@contextmanager
def mode(model: Module, training: bool, loss: Any = None) -> Iterator[None]:
    """Training or evaluation mode of the whole model, and of a loss that is a Module, inside the block; after it every module is in the mode
    it was in before. Training leaves out what was in evaluation mode within a model in training mode: a part whose statistics are frozen.
    Threads that evaluate one model share that.

    RuntimeError while another thread fits the model, or has it in another mode or with other weights, which that would change.
    """
    way = "training" if training else "evaluation"
    with ExitStack() as stack:
        stack.enter_context(by_turns(id(model), way, partial(switch, model, training), partial(refuse_others, way, "model", model)))
        stack.enter_context(mode_of_loss(loss, training))
        yield


def mode_of_loss(loss: Any, training: bool) -> AbstractContextManager[None]:
    """The same of a loss, if it is a Module. Several models may have it, in training and in evaluation: nobody waits."""
    way = "training" if training else "evaluation"
    return by_turns((id(loss), way), way, partial(switch, loss, training)) if isinstance(loss, Module) else nullcontext()


def switch(part: Module, training: bool) -> Callable[[], None]:
    """Into that mode, as `mode` says; what is returned puts each module back into the one that it was in."""
    frozen = [module for module in part.modules() if not module.training] if training and part.training else []
    put_back = switched(part, training)
    for module in frozen:
        module.training = False
    return put_back


@contextmanager
def draws_put_back() -> Iterator[None]:
    """Behind the block the thread's generator stands where it stood: a layer that draws in evaluation, too, does not change a training."""
    generator = random.default_generator()
    drawn = generator.draw
    try:
        yield
    finally:
        generator.draw = drawn


def device_of(model: Module) -> str:
    """Where the model's parameters lie; "cpu" for a model without any."""
    return next((p.device for p in model.parameters()), "cpu")


def count_of(loss: Loss, labels: Tensor) -> float:
    """What a batch's loss counts beside those of others: what its mean divides by (`loss.count`), or its samples where the loss is a sum or
    does not say."""
    counting = getattr(loss, "count", None)
    return float(labels.shape[0]) if counting is None or getattr(loss, "reduction", "mean") != "mean" else float(counting(labels))


def adds_up(loss: Loss) -> bool:
    """Whether it says (`loss.reduction`) that it gives a batch's sum; any other is taken for a mean."""
    return getattr(loss, "reduction", "mean") == "sum"


class Sums:
    """Metrics summed over samples, and losses over what their means divide by (`count_of`), in float64; a plain dict of numbers underneath,
    so that a checkpoint can hold it. Of a loss that is a sum, what the samples have on average: the same for any size of batches."""

    def __init__(
        self,
        loss: Loss,
        metrics: Mapping[str, Metric],
        values: Mapping[str, float] | None = None,
        counts: Counts | None = None,
        gathered: Callable[[dict[str, float]], Iterable[dict[str, float]]] | None = None,
    ) -> None:
        self.loss, self.metrics, self.counts, self.gathered = loss, metrics, counts, gathered
        seen = (values or {}).get("samples", 0)
        begun = {"samples": 0, "counted": seen, "rated": seen, "loss": 0.0}
        unseen = math.nan if seen else 0.0  # of a metric that begins within the epoch: what went before, nobody knows
        self.values: dict[str, float] = {**begun, **dict.fromkeys(metrics, unseen), **(values or {})}

    def add(self, loss: float, logits: Tensor, labels: Tensor) -> None:
        """A batch; with `gathered`, and what other ranks have of it."""
        more = self.of_batch(loss, logits, labels)
        for one in [more] if self.gathered is None else self.gathered(more):
            self.count(one)

    def count(self, more: Mapping[str, float]) -> None:
        for name, value in more.items():  # all of them, or none where a metric raises
            self.values[name] += value

    def of_batch(self, loss: float, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """What is added."""
        scores, truth = logits.numpy(), labels.numpy()
        ignored = getattr(self.loss, "ignore_index", None)
        if truth.ndim == scores.ndim > 1:  # soft labels: the likeliest class counts as the right one
            truth, ignored = truth.argmax(1), None
        rated = np.full(truth.shape, True) if ignored is None else truth != ignored
        count = count_of(self.loss, labels)
        summed = loss if adds_up(self.loss) else loss * count if count else 0.0
        more = {"samples": len(truth), "counted": count, "rated": int(rated.sum()), "loss": summed}
        for name, metric in self.metrics.items():
            told = asked(name, metric, scores, truth)
            more[name] = float(np.sum(told, where=rated)) if passes_over_ignored(metric) else total(name, told, truth)
        if self.counts is not None:
            self.counts.add(scores, truth, rated)
        return more

    def means(self) -> dict[str, float]:
        parts = {name: "rated" if passes_over_ignored(metric) else "samples" for name, metric in self.metrics.items()}
        return {name: self._mean(name, of) for name, of in {"loss": "counted", **parts}.items()}

    def _mean(self, name: str, of: str) -> float:
        return self.values[name] / self.values[of] if self.values[of] else math.nan


def checked_value(loss: Any, what: str = "Trainer") -> Tensor:
    """What a loss gave."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"{what}: loss gave {shown(loss)}; expected a Tensor of one number")
    if loss.size != 1:
        raise ValueError(f"{what}: loss gave shape {loss.shape}; expected one number: reduce it, with .mean() say")
    return loss


def evaluate(
    forward: Forward,
    data: Data,
    loss: Loss,
    metrics: Mapping[str, Metric],
    normalize: Preprocessing | None,
    check: Callable[[], None] = lambda: None,
    penalty: Callable[[], Tensor] | None = None,
    classes: Sequence[str] | None = None,
    counts: Counts | None = None,
    sharded: Sharded | None = None,
) -> dict[str, float]:
    """Mean loss, with the penalty if there is one, and metrics in evaluation mode. `check` is called after each batch. A loss that is a
    sum (reduction="sum") is divided by the samples; the penalty is added to that whole. For a report `counts` is told every batch.
    sharded: ranks that take turns at the batches.

    ValueError for a Loader that does not prepare samples as the model was trained on them (normalize, device), or that augments or mixes, and for
    data whose classes are called otherwise than the model's.
    """
    what = "evaluate" if counts is None else "report"
    loader = _loader(what, data, normalize, device_of(forward.model))
    refuse_other_names(f"{what}: the data set", loader.dataset.classes, "the model", classes)
    if not len(loader):
        raise ValueError(f"{what}: the data set is empty; it needs at least one sample")
    sums = Sums(loss, metrics, counts=counts)
    if counts is not None:
        counts.classes = loader.dataset.classes
    own: list[dict[str, float]] = []  # of each batch
    chosen = loader.batches(0) if sharded is None else sharded.turns(loader)
    with draws_put_back(), mode(forward.model, False, loss), no_grad(), closing(chosen) as batches:
        run = forward.evaluating()
        for x, labels in batches:
            logits = run(x)
            if not own:
                warn_of_probabilities(what, logits.numpy(), loss)
            own.append(sums.of_batch(float(checked_value(loss(logits, labels), what)), logits, labels))
            check()
        for one in own if sharded is None else sharded.in_order(own, counts):
            sums.count(one)
        means = sums.means()
        warn_of_unfitted(what, data, loader, forward.model)
        return means if penalty is None else {**means, "loss": means["loss"] + float(penalty())}


def of_trainer(trainer: Trainer, data: Data, counts: Counts | None = None) -> dict[str, float]:
    """With its averaged weights, if it has some, its loss, metrics and preprocessing; callbacks are told."""
    trainer._emit("before_evaluate")
    sharded = trainer.stepping.sharded
    if sharded is not None:
        sharded.same_buffers(trainer)
    with trainer.stepping.averaged():
        if sharded is not None and trainer.stepping.ema is not None:
            sharded.same_buffers(trainer)
        parts = (trainer.loss, trainer.metrics, trainer.normalize, interrupt.check, trainer.penalty, trainer.classes, counts)
        result = evaluate(trainer.forward, data, *parts, sharded=sharded)
    trainer._emit("after_evaluate", result)
    return result


def predict(
    forward: Forward, data: Any, normalize: Preprocessing | None, resize: Resize | None, views: Sequence[View] | None = None
) -> np.ndarray:
    """Probabilities (N, classes) in evaluation mode, for a data set, a Loader, raw images, image files, or a Tensor (given to the model as it is);
    with views the means of the views' probabilities.

    Row i is sample i: ValueError for a Loader that shuffles or drops samples, and for what `evaluate` refuses. ValueError for a model with
    one output, whose softmax is 1 whatever it is.
    """
    several = [(1.0, ())] if views is None else checked_views("predict", views)
    if views is not None and isinstance(data, Tensor):
        raise TypeError(
            "predict: views are of images in a data set or an array; a Tensor goes to the model as it is: give x.numpy(), not normalised"
        )
    if files := _image_files(data):
        data = _decoded(files, resize)
    with draws_put_back(), mode(forward.model, False), no_grad():
        run = forward.evaluating()
        if isinstance(data, Tensor):
            probabilities = softmax("predict", run(data).numpy())
            warn_of_raw(data, normalize)
            return probabilities
        if not isinstance(data, (Dataset, Loader)):
            if isinstance(data, tuple) and len(data) == 2 and rank(data[0]) > rank(data[1]) == 1:
                raise TypeError("predict: data must be images alone, got a pair (images, labels); evaluate takes both")
            if gives_pairs(data):
                data = as_dataset(data, "predict: data", loader=True)
            else:
                images = array("predict", "data", data, "a data set, or an array of images")
                if images.dtype.kind in "US":
                    raise TypeError("predict: data must be an array of images, got words; a list of them is read as the names of files")
                data = _as_samples(images, normalize, views is not None)
        loader_of = partial(_loader, "predict", data, normalize, device_of(forward.model))
        loader = loader_of(several[0][1])
        if not len(loader):
            raise ValueError("predict: there are no images")
        probabilities = mean_over("predict", several, loader_of, forward.model, run, partial(softmax, "predict"))
    warn_of_unfitted("predict", data, data if isinstance(data, Loader) else loader, forward.model)
    return probabilities


def _image_files(data: Any) -> list[Any]:
    """Paths and Pillow images, if that is what the data are."""
    several = list(data) if isinstance(data, (list, tuple)) else [data]
    return several if all(isinstance(one, (str, os.PathLike)) or hasattr(one, "getbands") for one in several) else []


def _decoded(files: list[Any], resize: Resize | None) -> Any:
    if resize is None:
        raise ValueError("the model does not say how an image file becomes its input; give predict an array, or set `resize` first")
    if all(isinstance(one, (str, os.PathLike)) for one in files):
        return ItemDataset(ImageFiles(files, [0] * len(files), None, resize))
    return np.stack([resize(one) for one in files])  # what is open already is larger than what becomes of it


def _as_samples(images: np.ndarray, normalize: Preprocessing | None, cropped: bool) -> ArrayDataset:
    dataset = ArrayDataset(images, np.zeros(images.shape[:1], np.int64))
    if normalize is not None and not normalize.fits(dataset.shape, cropped):
        each = plural(dataset.shape[0], "feature" if len(dataset.shape) == 1 else "channel")
        raise ValueError(
            f"predict: data of shape {images.shape} are {len(images)} samples of {each}; expected {normalize.wanted(dataset.shape)}, as the model "
            "was trained on; one image alone is image[None]"
        )
    return dataset


def _loader(what: str, data: Data, normalize: Preprocessing | None, device: str, steps: Sequence[Augmentation] = ()) -> Loader:
    if not isinstance(data, Loader):
        dataset = as_dataset(data, f"{what}: data", loader=True)
        if normalize is not None and not normalize.fits(dataset.shape, bool(steps)):
            wanted = normalize.wanted(dataset.shape)
            raise ValueError(f"{what}: the data set has samples of shape {dataset.shape}; expected {wanted}, as the model was trained on")
        return Loader(dataset, _BATCH, augment=steps, normalize=normalize, device=device)
    refuse_other_samples(what, data, normalize, device)
    moved = [f"{name}=True" for name in ("shuffle", "drop_last") if getattr(data, name)]
    if what == "predict" and moved:
        raise ValueError(f"predict: the loader has {' and '.join(moved)}; row i is to be sample i: leave it out, {_INSTEAD}")
    return viewed(data, steps)


_INSTEAD = "or give the data set itself, loader.dataset"


def refuse_other_samples(what: str, loader: Loader, normalize: Preprocessing | None, device: str) -> None:
    """ValueError for a Loader whose samples are not what a model with this preprocessing takes: figures of them say nothing of it."""
    if loader.device != device:
        raise ValueError(f"{what}: the loader gives batches on {loader.device}, the model lies on {device}; give both the same, {_INSTEAD}")
    if not same(loader.normalize, normalize):
        raise ValueError(f"{what}: the loader has normalize={loader.normalize}, the model {normalize}; give both the same, {_INSTEAD}")
    if loader.augment:
        raise ValueError(f"{what}: the loader has augment={loader.augment}, which changes the samples; leave it out, {_INSTEAD}")
    if loader.mix:
        raise ValueError(f"{what}: the loader has mix={loader.mix}, which mixes the samples; leave it out, {_INSTEAD}")


def refuse_other_names(what: str, names: Sequence[str] | None, whose: str, classes: Sequence[str] | None) -> None:
    """ValueError where both name their classes, and not alike or in another order: a label means another class then."""
    if names and classes and tuple(names) != tuple(classes):
        few = [f"{', '.join(some[:20])}{', ...' if len(some) > 20 else ''}" for some in (names, classes)]
        raise ValueError(
            f"{what} has the classes {few[0]}; {whose} {few[1]}: a label means another class; give both the same, in one order"
        )


def softmax(what: str, logits: np.ndarray) -> np.ndarray:
    """Probabilities of a model's outputs, in float32."""
    if logits.ndim < 2 or logits.shape[1] == 1:
        own = "or take ops.sigmoid(model(x)) yourself"
        raise ValueError(f"{what}: the model gives shape {logits.shape}, and softmax of one number is always 1; {TWO_OUTPUTS}, {own}")
    warn_of_probabilities(what, logits)
    e = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities: np.ndarray = (e / e.sum(1, keepdims=True)).astype(np.float32)
    return probabilities
