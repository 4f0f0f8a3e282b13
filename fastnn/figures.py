"""Pictures by matplotlib, where it is installed."""

from __future__ import annotations

import io
import os
from typing import Any

from . import files


def blank(width: float, height: float) -> Any:
    """A figure of that size, in inches."""
    try:
        from matplotlib.figure import Figure  # no pyplot: it would pick a screen
    except ImportError:
        raise ModuleNotFoundError("pictures need matplotlib (in the checkout: pip install '.[plot]')") from None
    return Figure(figsize=(width, height), layout="constrained")


def checked(path: str | os.PathLike[str]) -> str:
    """The file that `save` writes. What it would refuse is refused before the work whose picture it is to be: a folder, one that is not there, an
    ending that is no picture's; and that matplotlib is not there."""
    file = _file(path)
    if not os.path.isdir(folder := os.path.dirname(file) or "."):
        raise FileNotFoundError(f"{file}: there is no folder {folder} to write it into; make it first")
    kinds = blank(1, 1).canvas.get_supported_filetypes()
    if (kind := _kind(file)).lower() not in kinds:
        raise ValueError(f"{file}: {kind} is no kind of picture; expected one of {', '.join(sorted(kinds))}")
    return file


def save(figure: Any, path: str | os.PathLike[str]) -> None:
    """As every file of ours: whole, or as it was. PNG without an ending. IsADirectoryError for a folder."""
    file, picture = _file(path), io.BytesIO()
    figure.savefig(picture, format=_kind(file), dpi=120)
    files.replace(file, picture.getbuffer())


def _file(path: str | os.PathLike[str]) -> str:
    file = os.fspath(path)
    if os.path.isdir(file):
        raise IsADirectoryError(f"{file}: is a folder; expected the name of a picture, such as {os.path.join(file, 'picture.png')}")
    return file if _kind(file) else f"{file}.png"


def _kind(file: str) -> str:
    return os.path.splitext(file)[1][1:]
