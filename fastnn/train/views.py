"""Test-time augmentation: a prediction as the weighted mean over several views of each image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np

from ..arguments import instance, integer, items, number, shown
from ..data import Augmentation, Flip, Loader, Normalize, Shift
from ..data.items import as_dataset
from ..nn import Module
from ..tensor import Tensor, no_grad
from . import evaluation
from .precision import Forward, checked_precision
from .raw import warn_of_other_views

View = tuple[float, Sequence[Augmentation]]  # the weight, and what is done to every image


def six_views(shift: int = 1, padding_mode: str = "reflect") -> list[View]:
    """airbench94's: the image, weight 0.5, and the image moved up and left, and down and right, by `shift`, weight 0.25 each; half of
    each weight goes to the mirror image."""
    shift = integer("six_views", "shift", shift, 0, 2**31)
    places = [(0.5, 0), (0.25, -shift), (0.25, shift)]
    shifts: list[tuple[float, list[Augmentation]]] = [(w, [Shift(by, by, padding_mode=padding_mode)] if by else []) for w, by in places]
    return [(weight / 2, [*steps, *mirror]) for weight, steps in shifts for mirror in ([], [Flip(1.0)])]


def average_views(
    model: Module,
    dataset: Any,
    views: Sequence[View],
    normalize: Normalize | None = None,
    *,
    batch_size: int = 256,
    precision: str = "float32",
) -> np.ndarray:
    """Logits (N, classes) of a data set in evaluation mode, each the mean over the views weighted by their weights; on the model's device.

    Views: [(weight, [augmentation, ...]), ...]; only steps that are not random make sense (Shift, Flip(1.0)). precision: "float32", or "bf16"
    as the Trainer has it. Warns where `normalize` is not that of the model's training. ValueError without views, when their weights do not sum
    to something positive, or where bf16 would be slower.
    """
    instance("average_views", "model", model, Module, "a Module"), integer("average_views", "batch_size", batch_size, 1)
    views = items("average_views", "views", views, "[(weight, [augmentation, ...]), ...]")
    for view in views:
        if not isinstance(view, (tuple, list)) or len(view) != 2:
            raise TypeError(f"average_views: views must be [(weight, [augmentation, ...]), ...], got {shown(view)} among them")
        number("average_views", "views' weight", view[0], "[0, inf)")
    total = sum(weight for weight, _ in views)
    if not total > 0:
        raise ValueError(f"average_views: the weights of {len(views)} views sum to {total}; expected something positive")
    if not len(dataset := as_dataset(dataset, "average_views: dataset")):
        raise ValueError("average_views: the data set is empty; it needs at least one sample")
    warn_of_other_views(model, normalize)
    device = evaluation.device_of(model)
    forward = Forward(model, checked_precision(precision, device, "average_views"))
    logits: np.ndarray | float = 0.0
    with evaluation.mode(model, False), no_grad():
        for weight, steps in views:
            loader = Loader(dataset, batch_size, normalize=normalize, augment=steps, device=device)
            with closing(loader.batches(0)) as batches:
                parts: list[Tensor] = [forward(x) for x, _ in batches]
            logits = logits + weight / total * np.concatenate([part.numpy() for part in parts]).astype(np.float64)
    result: np.ndarray = np.asarray(logits, np.float32)
    return result
