"""What happened, epoch by epoch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .. import figures, files
from ..arguments import figure, items, one_of, shown, text
from ..arguments import path as checked_path
from ..described import described, plural
from ..elsewhere import of_property
from . import history_text
from .history_text import columns_of as _columns

# column: heading, format. Other metrics are shown under their own names.
_COLUMNS = {
    "epoch": ("epoch", "{:5.0f}"),
    "loss": ("loss", "{:8.4f}"),
    "accuracy": ("accuracy", "{:8.2%}"),
    "val_loss": ("val loss", "{:8.4f}"),
    "val_accuracy": ("val accuracy", "{:12.2%}"),
    "lr": ("rate", "{:9.3g}"),
    "seconds": ("seconds", "{:7.1f}"),
    "update_ratio": ("update ratio", "{:12.2e}"),
    "update_ratio_min": ("ratio min", "{:9.2e}"),
    "update_ratio_max": ("ratio max", "{:9.2e}"),
}


class History:
    """One row (a dict of numbers) per epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy, lr (of the first step), seconds.

    `history["val_accuracy"]` is that column as a list, of the rows that have it; `rows` are the rows. None, which JSON has in the place of a number
    that is none, is NaN.
    """

    def __init__(self, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self.rows: list[dict[str, float]] = []
        for row in items("History", "rows", rows, "dicts of numbers"):
            self.append(row)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __getattr__(self, name: str) -> Any:
        here = "; history['loss'] is a column, history.rows are its rows" if name in ("history", "epoch", "params", *_COLUMNS) else ""
        raise AttributeError(f"a History has no attribute {name!r}{of_property(self, name) or here}")

    def __getitem__(self, column: str) -> list[float]:
        if hasattr(column, "__index__"):
            raise TypeError(f"history: a column has a name, such as 'loss'; history.rows[{shown(column)}] is an epoch's row")
        if text("history", "column", column, "such as 'loss'") not in (there := _columns(self.rows)):
            raise KeyError(f"history has no column {column!r}; it has {', '.join(there) or 'no rows yet'}")
        return [row[column] for row in self.rows if column in row]

    def __repr__(self) -> str:
        if not self.rows:
            return "History(no epoch yet)"
        last = {name: value for name, value in self.rows[-1].items() if name not in ("epoch", "seconds")}
        return described(self, plural(len(self), "epoch"), *(f"{name} {value:.4g}" for name, value in last.items()))

    def append(self, row: Mapping[str, float]) -> None:
        if not isinstance(row, Mapping):
            raise TypeError(f"History: rows must be dicts of numbers, got {shown(row)}")
        known = {name: math.nan if value is None else value for name, value in row.items()}  # as JSON has what is no number
        self.rows.append({text("History", "column", name): figure("History", str(name), value) for name, value in known.items()})

    def best(self, monitor: str, mode: str | None = None) -> int:
        """The index in `rows` of the best one by a column; the earliest of equal ones, NaN the worst. Rows without the column are passed over.

        mode: "min", the lowest is the best, or "max". Left out, the name says it: ...loss, ...error, ...error_rate, ...perplexity are the better
        the lower, ...accuracy, ...precision, ...recall, ...f1, ...iou, ...auc the higher. ValueError for a name that does not, and for a
        column that no row has.
        """
        if text("History.best", "monitor", monitor) not in (there := _columns(self.rows)):
            raise ValueError(f"History.best: monitor {monitor!r} is no column; there are {', '.join(there) or 'no rows yet'}")
        return best_row(self.rows, monitor, checked_mode("History.best", monitor, mode))

    def table(self) -> str:
        """The rows as a table to print, with room for the columns of all of them."""
        if not self.rows:
            return "no epoch yet"
        columns = _columns(self.rows)
        return "\n".join([heading(columns), *(line(row, columns) for row in self.rows)])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the rows, one per line, whole or not at all: as CSV where the name ends in .csv, as JSON Lines else.

        CSV: a heading with the columns of all rows, empty cells where a row lacks one, float64 in full (numbers that are read are the same
        bits; nan, inf, -inf). JSON Lines: an object per row, null for what is no finite number (JSON has none). TypeError for what is no
        number at all, OSError, naming the path, where nothing can be written.
        """
        checked_path("History.save", "path", path)
        with files.memory_for(path, "written"):
            files.replace(path, history_text.written(path, History(self.rows).rows))  # checked: callbacks may have put anything into them

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """The history of a file that `save` or `HistoryFile` wrote, by its ending, as there; null of JSON Lines is NaN. ValueError, naming the file
        and the line, for anything else; OSError when it cannot be read."""
        checked_path("History.load", "path", path)
        with files.memory_for(path, "read"):
            return cls(history_text.read(path))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws loss and, where there is one, accuracy, training beside validation, into a PNG, SVG or PDF; over `epoch`, or, in rows without one,
        over their number. Needs matplotlib (pip install '.[plot]')."""
        checked_path("History.plot", "path", path)
        figure = figures.blank(9, 3.6)
        drawn = [name for name in ("loss", "accuracy") if any(name in row or f"val_{name}" in row for row in self.rows)] or ["loss"]
        for axes, name in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn):
            for column, label in ((name, "training"), (f"val_{name}", "validation")):
                points = [(row.get("epoch", i), row[column]) for i, row in enumerate(self.rows, 1) if column in row]
                if points:
                    axes.plot(*zip(*points), "o-", markersize=3, label=label)
            axes.set(xlabel="epoch", ylabel=name)
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.grid(alpha=0.3)
            if axes.lines:  # of no epoch yet, there are none
                axes.legend()
        figures.save(figure, path)


_LOW = ("loss", "error", "error_rate", "perplexity")
_HIGH = ("accuracy", "precision", "recall", "f1", "iou", "auc")


def checked_mode(what: str, monitor: str, mode: str | None) -> str:
    """ "min" or "max": as it is given, or as the column's name ends."""
    if mode is not None:
        return one_of(what, "mode", mode, ("min", "max"))
    ends = "min" if monitor.lower().endswith(_LOW) else "max" if monitor.lower().endswith(_HIGH) else None
    if ends is None:
        raise ValueError(f"{what}: the name of monitor {monitor!r} does not say what is better; give mode='min' (the lower) or mode='max'")
    return ends


def best_row(rows: Sequence[Mapping[str, float]], monitor: str, mode: str) -> int:
    """The index of the best of those that have the column."""
    sign = 1 if mode == "min" else -1
    values = {i: sign * row[monitor] for i, row in enumerate(rows) if monitor in row}
    return min(values, key=lambda i: (math.isnan(values[i]), values[i]))


def _cells(columns: Iterable[str]) -> Iterator[tuple[str, str, str, int]]:
    """Of each: its name, heading, format and width."""
    for name in columns:
        title, form = _COLUMNS.get(name, (name, f"{{:{max(8, len(name))}.4f}}"))
        yield name, title, form, len(form.format(0))


def heading(columns: Iterable[str]) -> str:
    """The table's first line for rows with these columns."""
    return "  ".join(title.rjust(width) for _, title, _, width in _cells(columns))


def line(row: Mapping[str, Any], columns: Iterable[str]) -> str:
    """One row of the table; nothing stands in columns that it lacks."""
    return "  ".join(_figure(form, row[name], width) if name in row else " " * width for name, _, form, width in _cells(columns))


def titles(columns: Iterable[str]) -> dict[str, str]:
    """The table's heading of each column."""
    return {name: title for name, title, _, _ in _cells(columns)}


def cell(column: str, value: float) -> str:
    """A figure as the table shows it."""
    return next(_figure(form, value, width) for _, _, form, width in _cells([column]))


def _figure(form: str, value: Any, width: int) -> str:
    told = form.format(value)
    return told if len(told) <= width else f"{value:{width}.3g}"
