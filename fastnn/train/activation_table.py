"""Figures of activations, as a table and as a row of histograms."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import figures
from ..arguments import path as checked_path
from ..arguments import text
from ..described import described, plural


@dataclass
class LayerActivations:
    """What one layer gave; see `activation_statistics`."""

    name: str
    layer: str  # its class
    shape: tuple[int, ...]
    mean: float
    std: float
    least: float
    greatest: float
    zeros: float
    saturated: float | None
    nans: int
    infinities: int
    counts: np.ndarray
    edges: np.ndarray
    outside: int
    dead: list[int]
    channels: int


class ActivationStatistics:
    """A LayerActivations for each layer, in the order in which they ran: iterate, index by name, `print`, `plot`."""

    def __init__(self, layers: Sequence[LayerActivations]) -> None:
        self.layers = list(layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerActivations]:
        return iter(self.layers)

    def __getitem__(self, name: str) -> LayerActivations:
        text("ActivationStatistics", "name", name, "such as '0'")
        found = next((layer for layer in self.layers if layer.name == name), None)
        if found is None:
            raise KeyError(
                f"ActivationStatistics: there is no layer {name!r}; there are {', '.join(layer.name for layer in self.layers) or 'none'}"
            )
        return found

    def __repr__(self) -> str:
        return described(self, plural(len(self), "layer"), *([f"{sum(map(len, self.dead.values()))} dead channels"] if self.dead else []))

    @property
    def dead(self) -> dict[str, list[int]]:
        """By layer, the numbers of the channels that are 0 for every sample; layers without any are left out."""
        return {layer.name: layer.dead for layer in self.layers if layer.dead}

    def __str__(self) -> str:
        """A line for each layer; below it, what is no number, and the numbers of dead channels."""
        return "\n".join([self.table(), *(f"{name}: dead channels {few(numbers)}" for name, numbers in self.dead.items())])

    def table(self) -> str:
        """A line for each layer, and what is no number."""
        cells: list[tuple[str, ...]] = [("layer", "", "output", "mean", "std", "least", "greatest", "zeros", "saturated", "dead")]
        cells += [
            (
                *(one.name, one.layer, " x ".join(map(str, one.shape[1:])) or "1"),
                *(f"{figure:.4g}" for figure in (one.mean, one.std, one.least, one.greatest)),
                f"{100 * one.zeros:.1f} %",
                "" if one.saturated is None else f"{100 * one.saturated:.1f} %",
                f"{len(one.dead)} of {one.channels}" if one.dead else "",
            )
            for one in self.layers
        ]
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join(c.rjust(w) if i > 2 else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip() for row in cells]
        lines += [f"{one.name}: {one.nans} NaN, {one.infinities} infinite" for one in self.layers if one.nans or one.infinities]
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the layers' histograms, ten in a row, with mean and deviation above, into a PNG, SVG or PDF. Needs matplotlib
        (pip install '.[plot]')."""
        checked_path("ActivationStatistics.plot", "path", path)
        figures.save(pictured(self.layers), path)


def pictured(layers: Sequence[LayerActivations], plain: Callable[[str], str] = str, columns: int = 10) -> Any:
    """matplotlib's figure of their histograms, so many in a row. plain: what makes titles of names."""
    columns = min(max(len(layers), 1), columns)
    rows = -(-max(len(layers), 1) // columns)
    figure = figures.blank(max(1.9 * columns, 3.0), 2.3 * rows)
    for i, axes in enumerate(figure.subplots(rows, columns, squeeze=False).reshape(-1)):
        if i >= len(layers):
            axes.axis("off")
            continue
        one = layers[i]
        axes.stairs(one.counts, one.edges, fill=True)
        axes.set_title(f"{plain(f'{one.name} {one.layer}')}\nmean {one.mean:.2g}, std {one.std:.2g}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set_yticks([])
    return figure


def few(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:20]))}{', ...' if len(numbers) > 20 else ''}"
