"""A model looked at, not changed: loss and metrics over a data set, probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from ..data import ArrayDataset, Dataset, Loader, Normalize
from ..data.items import Samples
from ..nn import Module
from ..tensor import Tensor, no_grad
from .metrics import Metric

Data = Dataset | Loader | tuple[Any, Any] | Samples
Loss = Callable[[Tensor, Tensor], Tensor]

_BATCH = 256


@contextmanager
def mode(model: Module, training: bool) -> Iterator[None]:
    """Training or evaluation mode of the whole model inside the block; after it every module is in the mode it was in before."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


def device_of(model: Module) -> str:
    """Where the model's parameters lie; "cpu" for a model without any."""
    return next((p.device for p in model.parameters()), "cpu")


class Sums:
    """Loss and metrics summed over samples in float64; a plain dict of numbers underneath, so that a checkpoint can hold it."""

    def __init__(self, metrics: Mapping[str, Metric], values: Mapping[str, float] | None = None) -> None:
        self.metrics = metrics
        self.values: dict[str, float] = {"samples": 0, "loss": 0.0, **dict.fromkeys(metrics, 0.0), **(values or {})}

    def add(self, loss: float, logits: Tensor, labels: Tensor) -> None:
        scores, truth = logits.numpy(), labels.numpy()
        if truth.ndim == 2:  # soft labels: the likeliest class counts as the right one
            truth = truth.argmax(1)
        self.values["samples"] += len(truth)
        self.values["loss"] += loss * len(truth)
        for name, metric in self.metrics.items():
            self.values[name] += float(np.sum(metric(scores, truth), dtype=np.float64))

    def means(self) -> dict[str, float]:
        return {name: self.values[name] / self.values["samples"] for name in ("loss", *self.metrics)}


def evaluate(
    model: Module,
    data: Data,
    loss: Loss,
    metrics: Mapping[str, Metric],
    normalize: Normalize | None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Mean loss and metrics in evaluation mode. `check` is called after each batch."""
    loader = _loader(data, normalize, device_of(model))
    if not len(loader):
        raise ValueError("evaluate: the data set is empty")
    sums = Sums(metrics)
    with mode(model, False), no_grad(), closing(loader.batches(0)) as batches:
        for x, labels in batches:
            logits = model(x)
            sums.add(float(loss(logits, labels)), logits, labels)
            check()
    return sums.means()


def predict(model: Module, data: Any, normalize: Normalize | None) -> np.ndarray:
    """Probabilities (N, classes) in evaluation mode, for a data set, a Loader, raw images, or a Tensor (given to the model as it is)."""
    with mode(model, False), no_grad():
        if isinstance(data, Tensor):
            return _softmax(model(data).numpy())
        if not isinstance(data, (Dataset, Loader)):
            images = np.asanyarray(data)
            data = ArrayDataset(images, np.zeros(len(images), np.int64))
        with closing(_loader(data, normalize, device_of(model)).batches(0)) as batches:
            logits = [model(x).numpy() for x, _ in batches]
    if not logits:
        raise ValueError("predict: there are no images")
    return _softmax(np.concatenate(logits))


def _loader(data: Data, normalize: Normalize | None, device: str) -> Loader:
    return data if isinstance(data, Loader) else Loader(data, _BATCH, normalize=normalize, device=device)


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities: np.ndarray = (e / e.sum(1, keepdims=True)).astype(np.float32)
    return probabilities
