"""A network as a feature extractor: what a layer of it says of each sample, as a data set for a linear classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from .. import nn
from ..arguments import flag, instance, integer, shown, text
from ..data import ArrayDataset, Loader
from ..data.items import as_dataset
from ..data.preprocessing import Preprocessing
from ..exclusive import refuse_others
from ..nn import Module
from ..tensor import Tensor, no_grad
from .checkpoint import Trained
from .evaluation import Data, device_of, draws_put_back, refuse_other_samples
from .heads import last_layer
from .raw import known, warn_of_unfitted

_WHAT = "features"


class _Reached(Exception):
    """Ends a forward pass at the layer whose output is wanted."""

    def __init__(self, values: Any) -> None:
        self.values = values


def features(
    model: Module | Trained,
    dataset: Data,
    layer: str | None = None,
    *,
    average: bool = True,
    normalize: Preprocessing | None = None,
    batch_size: int | None = None,
) -> ArrayDataset:
    """What a layer gives for each sample of a data set, with the labels: rows (N, F), float32, as a data set.

        training, test = train.features(model, photos), train.features(model, test_photos)
        linear = models.create("linear", input_shape=training.shape, num_classes=training.num_classes)
        train.Trainer(linear, optim.Adam(linear.parameters(), 1e-2)).fit(training, 20)

    layer: a name as named_modules has it: "avgpool", "layer3", "features.12" (`stages` lists those at which a network can be cut); left out, what
    goes into the last layer, the top-layer features of the lectures. Of a layer that is called more than once, its first output. One whose
    block tells it the activation behind it, or the residual to add (a ResNet's normalisations), gives what comes of that. average: maps (C, H, W)
    become their means over H and W, C features; False keeps them, flattened row-major to C H W features.

    dataset: a data set, (images, labels), an object whose items are (image, label), or a Loader, which neither augments nor mixes: features are
    taken once. normalize: preprocessing; left out, the one that the model was trained with, as far as a Trainer, load_model or
    load_pretrained knows it. The model is run in evaluation mode without gradients, as a frozen copy (nn.frozen: normalisations folded; what lies
    behind the layer is not computed), in batches of batch_size (256) on the model's device. ValueError for a layer that there is not, that forward
    does not call or that gives no Tensor of floats, and for an empty data set; RuntimeError while another thread fits the model.
    """
    if isinstance(model, Trained):
        model, normalize = model.model, normalize if normalize is not None else model.normalize
    instance(_WHAT, "model", model, Module, "a Module, or what train.load_model gives")
    flag(_WHAT, "average", average)
    if batch_size is not None:
        integer(_WHAT, "batch_size", batch_size, 1)
    if normalize is not None:
        instance(_WHAT, "normalize", normalize, Preprocessing, "a data.Normalize, MeanImage, PCA or ZCA")
    refuse_others(_WHAT, "model", model)
    loader = _loader(dataset, known(model) if normalize is None else normalize, batch_size, device_of(model))
    if not len(loader):
        raise ValueError(f"{_WHAT}: dataset is empty; it needs at least one sample")
    found: np.ndarray | None = None
    at = 0
    with prefix(model, layer) as run, draws_put_back(), closing(loader.batches(0)) as batches:
        for x, _ in batches:
            rows = as_rows(run(x).numpy(), average)
            if found is None:
                found = np.empty((len(loader.dataset), rows.shape[1]), np.float32)
            found[at : at + len(rows)] = rows
            at += len(rows)
    assert found is not None
    warn_of_unfitted(_WHAT, dataset, loader, model)
    return ArrayDataset(found, loader.dataset.labels, loader.dataset.classes)


def _loader(data: Data, normalize: Preprocessing | None, batch_size: int | None, device: str) -> Loader:
    if isinstance(data, Loader):
        refuse_other_samples(_WHAT, data, data.normalize if normalize is None else normalize, device)
        if data.shuffle or data.drop_last:
            raise ValueError(
                f"{_WHAT}: the loader shuffles or drops samples; row i is to be sample i: give dataset the set itself, loader.dataset"
            )
        if batch_size not in (None, data.batch_size):
            raise ValueError(f"{_WHAT}: batch_size is {batch_size}, but the loader makes batches of {data.batch_size}; leave it out")
        return data
    dataset = as_dataset(data, f"{_WHAT}: dataset", loader=True)
    if normalize is not None and not normalize.fits(dataset.shape):
        wanted = normalize.wanted(dataset.shape)
        raise ValueError(f"{_WHAT}: dataset has samples of shape {dataset.shape}; expected {wanted}, as the model's normalize has")
    return Loader(dataset, batch_size or 256, normalize=normalize, device=device)


def as_rows(values: np.ndarray, average: bool) -> np.ndarray:
    """(N, F) of maps (N, C, H, W), by their means, taken in float64, or of whatever has samples along its first axis."""
    if values.ndim == 4 and average:
        means: np.ndarray = values.mean((2, 3), dtype=np.float64)
        return means.astype(np.float32)
    return np.ascontiguousarray(values, np.float32).reshape(len(values), -1)


@contextmanager
def prefix(model: Module, layer: str | None) -> Iterator[Callable[[Tensor], Tensor]]:
    """A frozen copy of the model as a function of x that ends at the layer's output; without a layer, at what goes into the last one."""
    name = last_layer(_WHAT, model)[0] if layer is None else text(_WHAT, "layer", layer, "or None")
    copy = nn.frozen(model, replay=False).model
    named = dict(copy.named_modules())
    if name not in named or not name:
        there = ", ".join(child for child, _ in model.named_children())
        raise ValueError(f"{_WHAT}: layer: there is no {name!r}; expected one of {there or 'no layers'}, or what lies below")

    def stop(module: Module, args: tuple[Any, ...], output: Any) -> None:
        given = args[0] if layer is None and args else output
        raise _Reached(given[0] if isinstance(given, tuple) and given else given)

    named[name].register_forward_hook(stop)  # of the copy, which is dropped behind the block

    def run(x: Tensor) -> Tensor:
        try:
            with no_grad():
                copy(x)
        except _Reached as reached:
            if not isinstance(reached.values, Tensor) or "float" not in reached.values.dtype or reached.values.ndim < 2:
                raise ValueError(
                    f"{_WHAT}: layer {name!r} gives {shown(reached.values)}; expected a layer that gives a Tensor (N, ...) of floats"
                ) from None
            return reached.values
        raise ValueError(f"{_WHAT}: layer: forward did not call {name!r}; expected a layer that it calls")

    yield run
