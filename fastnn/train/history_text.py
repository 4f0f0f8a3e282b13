"""The history as text and back: CSV in a file whose name ends in .csv, JSON Lines in any other."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from .. import files
from ..arguments import figure, shown

Row = dict[str, float]


def columns_of(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Of all rows; those of the longest row first, as they stand there."""
    return list(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))


def is_csv(path: str | os.PathLike[str]) -> bool:
    return os.path.splitext(os.fspath(path))[1].lower() == ".csv"


def written(path: str | os.PathLike[str], rows: Sequence[Row]) -> bytes:
    """What the file is to hold."""
    return (_csv(rows) if is_csv(path) else _lines(rows)).encode("utf-8", "backslashreplace")


def read(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a file. ValueError names it and the line that is none."""
    data, kind = files.whole(path), "CSV" if is_csv(path) else "JSON Lines"
    with files.reading(path, f"no history as {kind} ({{}}); History.save writes one"):
        text = data.decode("utf-8-sig")  # spreadsheets put a mark in front
        return list((_rows_of_csv if is_csv(path) else _rows_of_lines)(text))


# --- CSV (RFC 4180, but for the line's end): full precision, an empty cell where a row lacks the column


def _csv(rows: Sequence[Row]) -> str:
    import csv

    text, columns = io.StringIO(), columns_of(rows)
    if rows:
        out = csv.writer(text, lineterminator="\n")
        csv.writer(
            text, lineterminator="\n", quoting=csv.QUOTE_ALL if any("\r" in name for name in columns) else csv.QUOTE_MINIMAL
        ).writerow(columns)
        out.writerows([_cell(name, row[name]) if name in row else "" for name in columns] for row in rows)
    return text.getvalue()


def _cell(column: str, value: float) -> str:
    """The shortest digits that give the same float64 again; nan, inf and -inf as numpy and pandas read them."""
    return f"{value:.0f}" if column == "epoch" and value.is_integer() else repr(value)


def _rows_of_csv(text: str) -> Iterator[Row]:
    import csv

    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = next(reader, [])
    if len(set(columns)) < len(columns):
        raise ValueError("its heading has a column twice")
    for cells in reader:
        if len(cells) != len(columns):
            if not cells:  # an empty line
                continue
            raise ValueError(f"line {reader.line_num} has {len(cells)} cells, the heading {len(columns)}")
        yield {name: _number(reader.line_num, name, cell, float) for name, cell in zip(columns, cells) if cell}


# --- JSON Lines: null for what is no finite number, which JSON has not


def _lines(rows: Sequence[Row]) -> str:
    finite = [{name: value if math.isfinite(value) else None for name, value in row.items()} for row in rows]
    return "".join(json.dumps(row) + "\n" for row in finite)


def _rows_of_lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is {shown(row)}, no row {{column: number}}")
        yield {name: math.nan if value is None else _number(number, name, value, _figure) for name, value in row.items()}


def _figure(value: object) -> float:
    return figure("History.load", "a value", value)


def _number(line: int, column: str, value: str, kind: Callable[[str], float]) -> float:
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise ValueError(f"line {line} has {shown(value)} as {column[:80]}, which is no number") from None
