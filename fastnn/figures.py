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


def save(figure: Any, path: str | os.PathLike[str]) -> None:
    """As every file of ours: whole, or as it was. PNG without an ending. IsADirectoryError for a folder."""
    file, picture = os.fspath(path), io.BytesIO()
    if os.path.isdir(file):
        raise IsADirectoryError(f"{file}: is a folder; expected the name of a picture, such as {os.path.join(file, 'picture.png')}")
    kind = os.path.splitext(file)[1][1:]
    figure.savefig(picture, format=kind or "png", dpi=120)
    files.replace(file if kind else f"{file}.png", picture.getbuffer())
