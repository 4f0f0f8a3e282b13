"""Weights as pictures: what a linear classifier, or a first layer, looks for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

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
    values = np.asarray(weights.numpy() if isinstance(weights, Tensor) else weights, np.float64)
    if values.ndim == 2:
        if shape is None or values.shape[1] != int(np.prod(shape)):
            raise ValueError(f"weight_images: rows of {values.shape[1]} weights need shape=(C, H, W) of as many elements, got {shape}")
        values = values.reshape(len(values), *shape)
    if values.ndim != 4:
        raise ValueError(f"weight_images: weights have shape {values.shape}; expected (K, C, H, W), or (K, D) with shape=(C, H, W)")
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
    from matplotlib.figure import Figure  # no pyplot: it would pick a screen

    if columns < 1:
        raise ValueError(f"show_weights: columns must be at least 1, got {columns}")
    pictures = weight_images(weights, shape)
    if pictures.shape[1] not in (1, 3):
        raise ValueError(f"show_weights: {pictures.shape[1]} channels make no picture; 1 (grey) or 3 (colours) do")
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.6 * columns, 1.8 * rows), layout="constrained")
    for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).reshape(-1)):
        axes.axis("off")
        if i < len(pictures):
            axes.imshow(pictures[i].transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set_title(titles[i] if titles is not None else str(i), fontsize=8)
    figure.savefig(path, dpi=120)
