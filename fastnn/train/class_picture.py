"""A confusion matrix as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import figures
from .class_table import columns, shortened

if TYPE_CHECKING:
    from .per_class import ClassReport

_COUNTED, _NAMED = 20, 50  # classes at most whose cells hold their counts, whose names stand at the axes
_ROOM = 24  # columns of a name


def draw(report: ClassReport, path: str) -> None:
    count, total = len(report.classes), int(report.matrix.sum())
    names = [shortened(name, c, _ROOM) for c, name in enumerate(report.classes)] if count <= _NAMED else []
    longest = max(map(columns, names), default=0)
    side = max(3.2, 0.42 * count if count <= _COUNTED else 8) + 0.07 * longest  # inches
    figure = figures.blank(side + 1.6, side + 0.7)
    axes = figure.subplots()
    shares = report.matrix / np.maximum(report.support, 1)[:, None]
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the true class", fraction=0.046)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"accuracy {report.accuracy:.2%} of {total:,}" if total else "no samples", fontsize=10)
    if names:  # which are no formulas, whatever dollars they hold
        axes.set_xticks(range(count), names, parse_math=False, fontsize=8 if count <= 30 else 6, rotation=90 if longest > 3 else 0)
        axes.set_yticks(range(count), names, parse_math=False, fontsize=8 if count <= 30 else 6)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)
    for t, p in np.ndindex(count, count) if count <= _COUNTED else ():
        colour = "white" if shares[t, p] > 0.5 else "black"
        axes.text(p, t, _short(int(report.matrix[t, p])), ha="center", va="center", fontsize=7, color=colour)
    figures.save(figure, path)


def _short(count: int) -> str:
    """In at most four letters or so: 9999, 12k, 3.4M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= max(unit, 10_000):
            return f"{count / unit:.{1 if count < 10 * unit else 0}f}{letter}"
    return str(count)
