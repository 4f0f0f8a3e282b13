"""Weights as pictures: what a linear classifier, or a first layer, looks for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import figures
from ..arguments import array, integer, names, shown
from ..arguments import path as checked_path
from ..nn import Module
from ..tensor import Tensor


def weight_images(weights: Module | Tensor | Any, shape: tuple[int, int, int] | None = None) -> np.ndarray:
    """Weights (K, C, H, W), or (K, D) with `shape` = (C, H, W), as K pictures of bytes, (K, C, H, W): each from its own least (0) to its
    own greatest value (255). Of a model, its first weights. ValueError for what cannot be a picture."""
    if isinstance(weights, Module):
        found = next((p for p in weights.parameters() if p.ndim >= 2), None)
        if found is None:
            raise ValueError(f"weight_images: {type(weights).__name__} has no weights")
        weights = found
    values = array("weight_images", "weights", weights)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"weight_images: weights must be numbers, got {values.dtype}")
    values = values.astype(np.float64)
    if shape is not None:
        if not (several := isinstance(shape, (tuple, list))) or len(shape) != 3:
            raise (ValueError if several else TypeError)(f"weight_images: shape must be (C, H, W), got {shown(shape)}")
        shape = (
            integer("weight_images", "shape", shape[0], 1),
            integer("weight_images", "shape", shape[1], 1),
            integer("weight_images", "shape", shape[2], 1),
        )
    if values.ndim == 2:
        if shape is None or values.shape[1] != int(np.prod(shape)):
            raise ValueError(f"weight_images: rows of {values.shape[1]} weights need shape=(C, H, W) of as many elements, got {shape}")
        values = values.reshape(len(values), *shape)
    if values.ndim != 4 or not values.size or (shape is not None and values.shape[1:] != shape):
        expected = f"(K, C, H, W), or (K, D) with shape=(C, H, W){'' if shape is None else f', here {shape}'}"
        raise ValueError(f"weight_images: weights have shape {values.shape}; expected {expected}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"weight_images: weights hold NaN or infinity, {int((~np.isfinite(values)).sum())} of {values.size}; no grey stands for it"
        )
    low, high = (f(values, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    pictures: np.ndarray = np.round(255 * (values - low) / np.where(high > low, high - low, 1)).astype(np.uint8)
    return pictures


def show_weights(
    weights: Module | Tensor | Any,
    path: str | os.PathLike[str],
    shape: tuple[int, int, int] | None = None,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 5,
) -> None:
    """Draws `weight_images` beside each other into a PNG, SVG or PDF; they must have 1 or 3 channels. Needs matplotlib
    (pip install '.[plot]')."""
    columns, path = integer("show_weights", "columns", columns, 1, 2**31), checked_path("show_weights", "path", path)
    titles = None if titles is None else names("show_weights", "titles", titles, "a title for each picture")
    pictures = weight_images(weights, shape)
    if pictures.shape[1] not in (1, 3):
        raise ValueError(f"show_weights: {pictures.shape[1]} channels make no picture; 1 (grey) or 3 (colours) do")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"show_weights: {len(titles)} titles for {len(pictures)} pictures; expected as many")
    rows = -(-len(pictures) // columns)
    figure = figures.blank(1.6 * columns, 1.8 * rows)
    for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).reshape(-1)):
        axes.axis("off")
        if i < len(pictures):
            axes.imshow(pictures[i].transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set_title(titles[i] if titles is not None else str(i), fontsize=8)
    figures.save(figure, path)
