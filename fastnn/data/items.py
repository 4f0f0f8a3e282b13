"""Any object with __len__ and __getitem__ as a data set."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from ..arguments import array as array_of
from ..arguments import integer, shown
from .dataset import ArrayDataset, Dataset, channels_last, checked_classes, checked_resize, read_only
from .resize import Resize, plain

T = TypeVar("T")

_PLAIN = {"P": "RGB", "PA": "RGB", "1": "L"}  # modes whose numbers are no brightness: of a palette, or of bits


class Samples(Protocol):
    """Any object with these two: `samples[i]` is (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: Any, /) -> Any: ...


class ItemDataset(Dataset):
    """An object whose `source[i]` is (image, label) for i from 0 to len(source) - 1, as PyTorch's map-style data sets are.

    The image is an array (numpy, Tensor, PyTorch tensor) of shape (C, H, W), (H, W) or (F,), of bytes or floats, or a Pillow image (one with
    a palette becomes RGB); the label an integer. All images have the shape and the type of the first: resize them in `__getitem__`. A Loader
    fetches items in a thread while the model works; `Loader(..., workers=n)` in n of them, in an order that is the same for any n. What
    `__getitem__` draws at random is its own affair and repeats only if it is a function of i.

    `classes`, `labels`, `resize` and `workers` are those given, or the object's attributes of that name as far as they are what is meant here:
    words, an integer for each sample (the first that of item 0), a Resize, an integer of at least 1; others are the object's own affair.
    Without labels they are found by going through all items once, when something asks for them (`split`, `num_classes`). Raises
    ValueError or TypeError, naming the item, when one does not fit.
    """

    _knows_parts = True

    def __init__(
        self,
        source: Samples,
        *,
        classes: Sequence[str] | None = None,
        labels: Any = None,
        resize: Resize | None = None,
        workers: int | None = None,
    ) -> None:
        if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")) or isinstance(source, (str, bytes, Mapping, type)):
            raise TypeError(
                f"ItemDataset: source must be an object with __len__ and __getitem__ that gives (image, label), got {shown(source)}"
            )
        try:
            self._source, self._count = source, len(source)
        except TypeError:  # an array of rank 0
            raise TypeError(f"ItemDataset: source must have a length, got {shown(source)}") from None
        if not self._count:
            raise ValueError(f"the {type(source).__name__} given as data set is empty; it needs at least one sample")
        self.classes = checked_classes("ItemDataset", classes) if classes is not None else _own_classes(source)
        self.resize = checked_resize("ItemDataset", resize) if resize is not None else _own(source, "resize", Resize)
        self.workers = _own_workers(source) if workers is None else integer("ItemDataset", "workers", workers, 1)
        image, label = self._split(0)
        self.shape, self._dtype = image.shape, image.dtype
        found = labels if labels is not None else _own_labels(source, self._count, label)
        self._labels: list[np.ndarray] = []  # one array once they are known; shared with the parts of this set
        if found is not None:
            self._labels.append(ArrayDataset(np.zeros((self._count, 1), np.uint8), found, self.classes).labels)

    def __len__(self) -> int:
        return self._count if self._rows is None else len(self._rows)

    @property
    def labels(self) -> np.ndarray:
        if not self._labels:
            self._labels.append(read_only(np.array([self._split(i)[1] for i in range(self._count)], np.int64)))
        return self._labels[0] if self._rows is None else read_only(self._labels[0][self._rows])

    def raw(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, labels = np.empty((len(positions), *self.shape), self._dtype), np.empty(len(positions), np.int64)
        for place, i in enumerate(self._source_rows(positions)):
            image, labels[place] = self._split(int(i))
            if image.shape != self.shape or image.dtype != self._dtype:
                raise ValueError(
                    f"item {i} has an image of shape {image.shape}, {image.dtype}; item 0 has {self.shape}, {self._dtype}: make them alike"
                )
            images[place] = image
        return images, labels

    @property
    def of_bytes(self) -> bool:
        return bool(self._dtype == np.uint8)

    def _of(self) -> str:
        return f", {self._dtype}, from a {type(self._source).__name__}"

    def _split(self, i: int) -> tuple[np.ndarray, int]:
        try:
            item = self._source[i]
        except StopIteration:  # would end whatever iterates
            raise RuntimeError(f"item {i} of the {type(self._source).__name__} raised StopIteration") from None
        except Exception as error:
            _note(error, f"this was item {i} of the {type(self._source).__name__}")
            raise
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TypeError(f"item {i} of the {type(self._source).__name__} is of type {type(item).__name__}; expected (image, label)")
        try:
            if isinstance(item[1], bool):
                raise TypeError
            label = operator.index(item[1])
        except TypeError:
            raise TypeError(f"item {i} has a label of type {type(item[1]).__name__}; expected an integer (class numbers from 0)") from None
        if not 0 <= label < (len(self.classes) if self.classes is not None else 2**63):
            last = f" to {len(self.classes) - 1}" if self.classes is not None else ""
            raise ValueError(f"item {i} has the label {label}; class numbers go from 0{last}")
        return _pixels(item[0], i), label


def _own(source: Samples, name: str, kind: type[T]) -> T | None:
    """An attribute of a user's object that has the name of one of ours, if it is of our kind."""
    value = getattr(source, name, None)
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _own_workers(source: Samples) -> int:
    return max(1, _own(source, "workers", int) or 1)


def _own_classes(source: Samples) -> tuple[str, ...] | None:
    try:
        return checked_classes("ItemDataset", getattr(source, "classes", None))
    except TypeError:  # a dict, a method, a number
        return None


def _own_labels(source: Samples, count: int, first: int) -> np.ndarray | None:
    try:
        labels = array_of("ItemDataset", "labels", getattr(source, "labels", None))
    except (TypeError, ValueError):
        return None
    return labels if labels.dtype.kind in "iu" and labels.shape == (count,) and labels[0] == first else None


def _note(error: Exception, text: str) -> None:
    """Shown below the message from Python 3.11 on, which calls this add_note."""
    error.__notes__ = [*getattr(error, "__notes__", []), text]  # type: ignore[attr-defined]


def as_dataset(data: Any, what: str = "data", loader: bool = False) -> Dataset:
    """The data set that `data` stands for: a data set, (images, labels), or an object with __len__ and __getitem__. loader: whether whoever asks
    takes a Loader too, which is none."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, tuple) and data and all(isinstance(part, Dataset) for part in data):
        raise TypeError(f"{what}: got {len(data)} data sets in a tuple, as training and test come; give one of them")
    if isinstance(data, tuple) and len(data) == 2:
        return ArrayDataset(*data)
    if isinstance(data, tuple) and len(data) != 2 and not gives_pairs(data) and any(rank(part) > 0 for part in data):
        raise TypeError(f"{what}: got {len(data)} in a tuple, of {', '.join(shown(part) for part in data[:4])}; (images, labels) are two")
    if isinstance(data, list) and len(data) == 2 and isinstance(data[1], (list, np.ndarray)) and len(data[1]) != 2:
        raise TypeError(f"{what}: got a list of two; (images, labels) is a tuple")
    if isinstance(data, (str, bytes, Mapping, np.ndarray)) or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        wanted = f"a data set,{' a Loader,' if loader else ''} (images, labels) or an object with __len__ and __getitem__ that gives (image, label)"
        own = "; its data set is loader.dataset" if isinstance(getattr(data, "dataset", None), Dataset) else ""
        own = "; its sets are sets.train, sets.validation and sets.test" if isinstance(getattr(data, "train", None), Dataset) else own
        raise TypeError(f"{what}: expected {wanted}, got {shown(data)}{own}")
    return ItemDataset(data)


def gives_pairs(data: Any) -> bool:
    """Whether an object gives (image, label), and not images alone."""
    if isinstance(data, (str, bytes, Mapping)) or any(hasattr(data, name) for name in ("__array__", "detach", "toarray")):
        return False
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, type) or not len(data):
        return False
    try:
        first = data[0]
    except Exception:  # whoever reads it says so
        return True
    if isinstance(first, Dataset):  # of a tuple of sets the caller hears
        return True
    return isinstance(first, (tuple, list)) and len(first) == 2 and rank(first[0]) > rank(first[1]) == 0


def rank(value: Any) -> int:
    """The number of dimensions of what could be an array; -1 for anything else."""
    try:
        return np.ndim(value)
    except (TypeError, ValueError):
        return -1


def _pixels(image: Any, i: int) -> np.ndarray:
    if hasattr(image, "getbands"):  # a Pillow image: (H, W) or (H, W, C)
        array = np.asarray(plain(image, _PLAIN[image.mode]) if image.mode in _PLAIN else image)
        array = array.transpose(2, 0, 1) if array.ndim == 3 else array
    else:
        array = array_of(f"item {i}", "image", image, "an array (C, H, W), (H, W) or (F,)")
    array = array[None] if array.ndim == 2 else array
    if array.ndim not in (1, 3):
        raise ValueError(f"item {i} has an image of shape {array.shape}; expected (C, H, W), (H, W) or (F,)")
    if 0 in array.shape:
        raise ValueError(f"item {i} has an image of shape {array.shape}, without a pixel; expected at least one")
    if channels_last(array.shape):
        raise ValueError(
            f"item {i} has an image of shape {array.shape}, as if the channels lay last; expected (C, H, W), which image.transpose(2, 0, 1) makes"
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise TypeError(f"item {i} has an image of dtype {array.dtype}; expected uint8 or a float type")
    return array.astype(np.float32, copy=False)
