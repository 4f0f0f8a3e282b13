"""Whether Python's garbage collector runs in this thread. What it frees is freed between two lines of anybody's code, with whatever locks that
code holds: there one must not wait for another thread, which may want one of them."""

from __future__ import annotations

import gc
import threading

_here = threading.local()


def _note(phase: str, info: dict[str, int], here: threading.local = _here) -> None:
    here.collects = phase == "start"


def watch() -> None:
    """From the next collection on."""
    if _note not in gc.callbacks:
        gc.callbacks.append(_note)


def collects() -> bool:
    return getattr(_here, "collects", False)
