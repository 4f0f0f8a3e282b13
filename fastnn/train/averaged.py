"""Test-time augmentation: a prediction as the weighted mean over several views of each image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..arguments import instance, integer, one_of
from ..data import Augmentation, Loader
from ..data.items import as_dataset
from ..data.preprocessing import Preprocessing
from ..nn import Module
from ..tensor import no_grad
from . import evaluation
from .precision import Forward, checked_precision
from .raw import warn_of_other_views
from .views import View, checked_views, mean_over


def average_views(
    model: Module,
    dataset: Any,
    views: Sequence[View],
    normalize: Preprocessing | None = None,
    *,
    batch_size: int = 256,
    precision: str = "float32",
    average: str = "logits",
) -> np.ndarray:
    """Logits (N, classes) of a data set in evaluation mode, each the mean over the views weighted by their weights; on the model's device.

    Views: [(weight, [augmentation, ...]), ...], as six_views, five_crops, ten_crops and multi_scale give them; only steps that are not random
    make sense (Crop, CornerCrop, CenterCrop, Scale, Shift, Flip(1.0)). average: "logits", or "probabilities" for the mean of the softmax of each
    view, (N, classes) with rows that sum to 1 (Krizhevsky et al. 2012). Either mean is taken in float64 and given as float32. precision: "float32",
    or "bf16" as the Trainer has it. Warns where `normalize` is not that of the model's training. ValueError without views, when their weights do
    not sum to something positive, for images smaller than a crop, where the model does not take a view's size (the error names both), or where
    bf16 would be slower.
    """
    instance("average_views", "model", model, Module, "a Module"), integer("average_views", "batch_size", batch_size, 1)
    checked = checked_views("average_views", views)
    one_of("average_views", "average", average, ("logits", "probabilities"))
    if not len(dataset := as_dataset(dataset, "average_views: dataset")):
        raise ValueError("average_views: the data set is empty; it needs at least one sample")
    warn_of_other_views(model, normalize)
    device = evaluation.device_of(model)
    forward = Forward(model, checked_precision(precision, device, "average_views"))
    of = partial(evaluation.softmax, "average_views") if average == "probabilities" else np.asarray

    def loader_of(steps: Sequence[Augmentation]) -> Loader:
        return Loader(dataset, batch_size, augment=steps, normalize=normalize, device=device)

    with evaluation.mode(model, False), no_grad():
        return mean_over("average_views", checked, loader_of, model, forward, of)
