"""Views of each image for test-time augmentation: what a prediction is averaged over, and the average."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from ..arguments import integer, items, number, shown
from ..data import Augmentation, CenterCrop, CornerCrop, Flip, Loader, Scale, Shift
from ..data.augment import checked_sides
from ..data.crops import CORNERS
from ..data.frames import Size
from ..nn import Module
from ..tensor import Tensor

View = tuple[float, Sequence[Augmentation]]  # the weight, and what is done to every image

_WANTED = "[(weight, [augmentation, ...]), ...]"


def six_views(shift: int = 1, padding_mode: str = "reflect") -> list[View]:
    """airbench94's: the image, weight 0.5, and the image moved up and left, and down and right, by `shift`, weight 0.25 each; half of
    each weight goes to the mirror image."""
    shift = integer("six_views", "shift", shift, 0, 2**31)
    places = [(0.5, 0), (0.25, -shift), (0.25, shift)]
    shifts: list[View] = [(w, [Shift(by, by, padding_mode=padding_mode)] if by else []) for w, by in places]
    return _and_mirrored(shifts)


def five_crops(size: int | Size) -> list[View]:
    """The four corners and the centre of each image, in windows of `size` ((height, width), or one number for both), weight 0.2 each
    (torchvision's FiveCrop). ValueError, when they are taken, where images are smaller."""
    size = checked_sides("five_crops", size)
    return [(0.2, [step]) for step in (*(CornerCrop(corner, size) for corner in CORNERS), CenterCrop(size))]


def ten_crops(size: int | Size) -> list[View]:
    """The five crops and their mirror images, weight 0.1 each (Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional
    neural networks", 2012, section 4.1: windows of 224 of images of 256). Errors are those of five_crops."""
    return _and_mirrored(five_crops(checked_sides("ten_crops", size)))


def multi_scale(scales: Sequence[int] = (224, 256, 384, 480, 640), size: int | Size | None = 224) -> list[View]:
    """The ten crops of `size` of the image at each scale, the shorter side being that many pixels (data.Scale): 50 views of equal weight, unless
    told. These scales: He et al., "Deep residual learning for image recognition", 2015; several scales at test time: Simonyan, Zisserman,
    "Very deep convolutional networks for large-scale image recognition", 2014, section 3.2.

    size=None: the whole image at each scale and its mirror image, for a model that takes any size (global average pooling in front of its Linear).
    Large batches of large scales need memory: give average_views a batch_size, predict a Loader.
    Scaling is bilinear and does not make detail: store images at about the largest scale. ValueError without scales, and for one below `size`.
    """
    wanted = "several numbers of pixels"
    sides = [integer("multi_scale", "scales", side, 1, 2**31) for side in items("multi_scale", "scales", scales, wanted)]
    if not sides:
        raise ValueError("multi_scale: scales must be several numbers of pixels, got none")
    window = None if size is None else checked_sides("multi_scale", size)
    if window and min(sides) < min(window):
        raise ValueError(f"multi_scale: scales must be at least size, {window}: a shorter side of {min(sides)} has no room for it")
    crops = ten_crops(window) if window else _and_mirrored([(1.0, [])])
    return [(weight / len(sides), [Scale(side), *steps]) for side in sides for weight, steps in crops]


def _and_mirrored(views: Sequence[View]) -> list[View]:
    """Half of each weight goes to the mirror image."""
    return [(weight / 2, [*steps, *mirror]) for weight, steps in views for mirror in ([], [Flip(1.0)])]


def checked_views(what: str, views: Any) -> list[View]:
    """Weights that add up to 1, each with the steps of its view."""
    given = items(what, "views", views, _WANTED)
    for view in given:
        if not isinstance(view, (tuple, list)) or len(view) != 2 or not isinstance(view[1], (tuple, list, Augmentation)):
            raise TypeError(f"{what}: views must be {_WANTED}, got {shown(view)} among them")
        number(what, "views' weight", view[0], "[0, inf)")
    total = sum(weight for weight, _ in given)
    if not total > 0:
        raise ValueError(f"{what}: the weights of {len(given)} views sum to {total}; expected something positive")
    return [(weight / total, steps) for weight, steps in given]


def viewed(loader: Loader, steps: Sequence[Augmentation]) -> Loader:
    """Its samples, each as the steps show it."""
    settings = {name: getattr(loader, name) for name in ("normalize", "workers", "device")}
    return Loader(loader.dataset, loader.batch_size, augment=steps, **settings) if steps else loader


def mean_over(
    what: str,
    views: Sequence[View],
    loader_of: Callable[[Sequence[Augmentation]], Loader],
    model: Module,
    run: Callable[[Tensor], Tensor],
    of: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """The mean in float64 of `of(outputs)` over the views (of checked_views) of samples, as float32. loader_of: of the steps of a view, what gives the
    samples so (preprocessing may take the size alone that they have then); `run` is the model."""
    mean: np.ndarray | float = 0.0
    for weight, steps in views:
        view = loader_of(steps)
        with closing(view.batches(0)) as batches:
            outputs = [(_run(what, view, model, run, x) if steps else run(x)).numpy() for x, _ in batches]
        mean = mean + weight * of(np.concatenate(outputs)).astype(np.float64)
    return np.asarray(mean, np.float32)


def _run(what: str, view: Loader, model: Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The model's outputs. One that has no global pooling in front of its Linear takes images of one size."""
    try:
        return run(x)
    except ValueError as error:
        own = (getattr(model, "architecture", None) or {}).get("input_shape")
        usual, whose = (tuple(own), "the model was made for") if own else (view.dataset.shape, "the data set has")
        if x.shape[1:] == usual:
            raise
        raise ValueError(
            f"{what}: views of {x.shape[1:]} do not go through the model ({error}); {whose} {usual}: give views of the size that it was trained "
            "on, or a model with global average pooling (nn.AdaptiveAvgPool2d(1)) in front of its Linear, which takes any"
        ) from error
