"""The preprocessing as files have it: settings in the notes, and where it has arrays, those beside the model's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.preprocessing import Preprocessing, restored, same
from ..nn.attributes import BESIDE

PREFIX = BESIDE[-1]  # of the arrays' names


def arrays_of(normalize: Preprocessing | None) -> dict[str, np.ndarray]:
    return {} if normalize is None else {PREFIX + name: a for name, a in normalize.arrays().items()}


def prepared_by(arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> Preprocessing | None:
    """What a file says. ValueError or TypeError where that is none."""
    if not notes.get("normalize"):
        return None
    return restored(notes["normalize"], {name[len(PREFIX) :]: a for name, a in arrays.items() if name.startswith(PREFIX)})


def refuse_another(saved: Preprocessing | None, given: Preprocessing | None) -> None:
    """ValueError where a training is to go on with another preprocessing than it began with. Fitted again, eigenvectors may have other last bits:
    those of another BLAS, or of another number of its threads."""
    if saved is None or given is None or same(saved, given):
        return
    again = ", of other numbers" if repr(saved) == repr(given) else ""
    took = "" if not given.arrays() else "; give the trainer, and its Loader, the file's: train.load_model(path).normalize"
    raise ValueError(f"made with {saved}; the trainer has {given}{again}{took}")
