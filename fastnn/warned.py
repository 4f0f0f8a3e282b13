"""Warnings of what the caller wrote."""

from __future__ import annotations

import sys
import warnings


def warn(text: str) -> None:
    """Points at the line outside of this package that led here, of which Python tells once."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "fastnn":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
