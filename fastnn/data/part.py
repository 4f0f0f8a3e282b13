"""Some of the samples of a set of the user's own class, whose `__len__`, `labels` and `raw` give all that it has."""

from __future__ import annotations

import numpy as np

from .dataset import Dataset


class Part(Dataset):
    """What `take` gives of such a set."""

    _knows_parts = True
    _rows: np.ndarray

    def __init__(self, whole: Dataset, rows: np.ndarray) -> None:
        self._whole, self._rows = whole, rows
        self.classes, self.shape, self.resize, self.workers = whole.classes, whole.shape, whole.resize, whole.workers

    @property
    def labels(self) -> np.ndarray:
        labels: np.ndarray = np.asarray(self._whole.labels)[self._rows]
        return labels

    @property
    def of_bytes(self) -> bool:
        return self._whole.of_bytes

    def __len__(self) -> int:
        return len(self._rows)

    def raw(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._whole.raw(self._rows[positions])

    def _of(self) -> str:
        return f", from a {type(self._whole).__name__}"
