"""The curves of a report: one picture as SVG that can stand in an HTML page."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import figures
from .history_text import columns_of
from .reading import HIGH_RATIO, LOW_RATIO, RATIO
from .update_ratios import COLUMNS

Rows = Sequence[Mapping[str, float]]
_PANELS = 12  # at most: figures of callbacks may be many
_OURS = ("epoch", "loss", "accuracy", "lr", "seconds", *COLUMNS)


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of the neighbours, weighed by a Gaussian of the distance in places: s_i = sum_j k_ij x_j / sum_j k_ij with
    k_ij = exp(-((i - j) / width)^2 / 2) and a width of n / 40 places, at least half a one (Nadaraya 1964, Watson 1964). It does not lag behind, as a
    running mean does."""
    width, at = max(0.5, len(values) / 40), np.arange(len(values))
    return [float(np.average(values, weights=np.exp(-0.5 * ((at - i) / width) ** 2))) for i in at]


def curves(rows: Rows) -> str:
    """An <svg> element: loss, accuracy and further metrics as points and smoothed, their gaps, the rate, the update ratios, callbacks' figures."""
    there = columns_of(rows)
    panels: list[tuple[Any, ...]] = [(_metric, name) for name in ("loss", "accuracy") if _has(there, name)]
    panels += [(_gap, name) for name in ("loss", "accuracy") if {name, f"val_{name}"} <= {*there}]
    panels += [(_rate,)] if "lr" in there else []
    panels += [(_ratios,)] if COLUMNS[0] in there else []
    own = dict.fromkeys(name.removeprefix("val_") if name.removeprefix("val_") in there else name for name in there)
    panels += [(_metric, name) for name in own if name not in (*_OURS, "val_loss", "val_accuracy")]
    panels = panels[:_PANELS] or [(_metric, "loss")]
    figure = figures.blank(10, 3.1 * -(-len(panels) // 2))
    with _as_letters():
        _draw(figure, rows, panels)
        return _svg(figure)


def as_svg(draw: Callable[[Callable[[str], str]], Any]) -> str:
    """An <svg> element of the figure that `draw` makes, which is given what makes titles of names."""
    with _as_letters():
        return _svg(draw(_plain))


def _draw(figure: Any, rows: Rows, panels: Sequence[tuple[Any, ...]]) -> None:
    lines = -(-len(panels) // 2)
    for axes, (draw, *names) in zip(figure.subplots(lines, 2, squeeze=False).flat, panels):
        draw(axes, rows, *names)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    for axes in list(figure.axes)[len(panels) :]:
        axes.set_axis_off()


def _has(there: Sequence[str], name: str) -> bool:
    return name in there or f"val_{name}" in there


def _points(rows: Rows, column: str) -> tuple[list[float], list[float]]:
    """Epochs and values where it is a finite number."""
    found = [(row.get("epoch", i), row[column]) for i, row in enumerate(rows, 1) if math.isfinite(row.get(column, math.nan))]
    return [epoch for epoch, _ in found], [value for _, value in found]


def _metric(axes: Any, rows: Rows, name: str) -> None:
    sides = name in ("loss", "accuracy") or any(f"val_{name}" in row for row in rows)  # else it is a callback's, of neither
    for column, label, colour in ((name, "training", "C0"), (f"val_{name}", "validation", "C1")):
        epochs, values = _points(rows, column)
        if values:
            axes.plot(epochs, values, "o", markersize=3, alpha=0.5, color=colour)
            axes.plot(epochs, smoothed(values), color=colour, label=label if sides else None)
    axes.set_title(_plain(name))
    if name.endswith("loss") and (values := [value for line in axes.lines for value in line.get_ydata()]):
        if min(values) > 0 and max(values) > 30 * min(values):
            axes.set_yscale("log")


def _gap(axes: Any, rows: Rows, name: str) -> None:
    """How much worse validation is than training."""
    sign = 1 if name == "loss" else -1
    both = [
        {"epoch": row.get("epoch", i), "gap": sign * (row[f"val_{name}"] - row[name])}
        for i, row in enumerate(rows, 1)
        if {name, f"val_{name}"} <= row.keys()
    ]
    epochs, values = _points(both, "gap")
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.plot(epochs, values, "o", markersize=3, alpha=0.5, color="C2")
    axes.plot(epochs, smoothed(values), color="C2")
    axes.set_title("gap: validation loss - training loss" if name == "loss" else "gap: training accuracy - validation accuracy")


def _rate(axes: Any, rows: Rows) -> None:
    epochs, values = _points(rows, "lr")
    axes.plot(epochs, values, "o-", markersize=3, color="C3")
    if values and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
    axes.set_title("learning rate (of each epoch's first step)")


def _ratios(axes: Any, rows: Rows) -> None:
    middle, least, most = COLUMNS
    seen = [row for row in rows if all(row.get(name, math.nan) > 0 and math.isfinite(row[name]) for name in COLUMNS)]
    epochs, values = _points(seen, middle)
    axes.set_yscale("log")
    axes.axhspan(LOW_RATIO, HIGH_RATIO, color="C2", alpha=0.08, label="usual")
    axes.axhline(RATIO, color="C2", linestyle="--", linewidth=1, label="1e-3")
    if values:
        axes.fill_between(epochs, _points(seen, least)[1], _points(seen, most)[1], color="C4", alpha=0.25, label="least to greatest")
        axes.plot(epochs, values, "o-", markersize=3, color="C4", label="median of the weights")
    axes.set_title("update / weight ratio")


def _plain(name: str) -> str:
    """As matplotlib writes it letter by letter: a $ begins a formula there, and other signs may be none that XML has."""
    shown = "".join(letter if letter.isprintable() and not "\ud800" <= letter <= "\udfff" else "?" for letter in name[:60])
    return shown.replace("$", r"\$")


@contextmanager
def _as_letters() -> Iterator[None]:
    """Letters stay letters, whatever the user has set up and whether matplotlib's font has them or the browser's; ids the same each time."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastnn", "text.usetex": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def _svg(figure: Any) -> str:
    """Without what a page has already and what points outside."""
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    text = picture.getvalue().decode()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
