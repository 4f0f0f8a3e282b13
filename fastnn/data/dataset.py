"""Images and labels in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _C, devices, random
from .augment import Frames

MOST_RESIDENT_BYTES = 4 << 30  # of images kept in a GPU's memory
_SPLIT_DRAW = 2**48 - 1  # the last draw there is: no epoch's order uses its words


class ArrayDataset:
    """Images (N, C, H, W), (N, H, W) or features (N, F) with one integer label each.

    Bytes stay bytes until a batch is made; floats become float32. Raises ValueError or TypeError when shapes, lengths or types
    do not fit. Attributes: `labels` (int64), `classes` (names, or None), `shape` of one image ((C, H, W) or (F,)), `num_classes`.
    """

    def __init__(self, images: Any, labels: Any, classes: Sequence[str] | None = None) -> None:
        images = np.asanyarray(images)  # asanyarray: a memory-mapped file stays one
        if images.ndim == 3:
            images = images[:, None]
        if images.ndim not in (2, 4):
            raise ValueError(f"images have shape {images.shape}; expected (N, C, H, W), (N, H, W) or (N, F)")
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise TypeError(f"images have dtype {images.dtype}; expected uint8 or a float type")
        self.labels = _checked_labels(labels, len(images), classes)
        self.classes = tuple(classes) if classes is not None else None
        self.shape: tuple[int, ...] = images.shape[1:]
        stays = images.dtype == np.uint8
        self._source = devices.Copies(_C.from_numpy(images)) if stays else images.astype(np.float32, copy=False)
        self._rows: np.ndarray | None = None  # which images of the source are ours; None: all

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """The number of classes: that of `classes`, or the largest label + 1."""
        return len(self.classes) if self.classes is not None else int(self.labels.max(initial=-1)) + 1

    @property
    def images(self) -> np.ndarray:
        """All images as a numpy array, raw (a view unless this set is a part of another)."""
        source = self._source if isinstance(self._source, np.ndarray) else self._source.array.numpy()
        mine: np.ndarray = source if self._rows is None else source[self._rows]
        return mine

    def take(self, indices: Any) -> ArrayDataset:
        """The set of these images, in this order (positions, negative ones from the end, or a mask); the images are shared, not copied.

        Raises IndexError for a position outside of the set.
        """
        chosen = np.asarray(indices)
        indices = np.arange(len(self))[chosen if chosen.size else chosen.astype(np.int64)]
        part = ArrayDataset.__new__(ArrayDataset)
        part.__dict__.update(self.__dict__)
        part.labels = self.labels[indices]
        part._rows = indices if self._rows is None else self._rows[indices]
        return part

    def gather(
        self, indices: np.ndarray, scale: np.ndarray, shift: np.ndarray, device: str = "cpu", frames: Frames | None = None
    ) -> _C.Array:
        """float32 batch of images[indices] * scale + shift on a device; scale and shift have one value per channel (feature).

        frames: what is to be seen of each of these images.

        Bytes that are to be used on a GPU are copied there once, unless they are too many: then each batch is made here and copied.
        """
        rows = indices if self._rows is None else self._rows[indices]
        if isinstance(self._source, np.ndarray):
            channels = (slice(None),) + (None,) * (self._source.ndim - 2)
            images = self._source[rows] if frames is None else frames.pick(self._source[rows])
            return _C.from_numpy(images * scale[channels] + shift[channels], device)
        near = device == "cpu" or self._source.array.nbytes <= MOST_RESIDENT_BYTES
        source = self._source.on(device if near else "cpu")
        if frames is not None:
            batch = frames.gather(source, rows, scale, shift)
        else:
            gather = _C.Gather(source.shape, len(rows))
            batch = _C.gather_normalize(gather, source, *(_C.from_numpy(a, source.device) for a in (rows, scale, shift)))
        return batch if near else batch.pinned(device).to(device)


def _checked_labels(labels: Any, count: int, classes: Sequence[str] | None) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels have dtype {labels.dtype}; expected integers (class numbers from 0)")
    if labels.shape != (count,):
        raise ValueError(f"labels have shape {labels.shape}; expected ({count},), one for each of the {count} images")
    if count and labels.min() < 0:
        raise ValueError(f"label {labels.min()} at position {labels.argmin()}; class numbers start at 0")
    if count and classes is not None and labels.max() >= len(classes):
        raise ValueError(f"label {labels.max()} at position {labels.argmax()}; {len(classes)} classes go from 0 to {len(classes) - 1}")
    numbers: np.ndarray = labels.astype(np.int64)
    return numbers


def split(dataset: ArrayDataset, fraction: float, seed: int = 0) -> tuple[ArrayDataset, ArrayDataset]:
    """(the rest, a part): of each class a `fraction`, drawn by `seed`, goes to the part. Both keep the order of the whole."""
    if not 0 < fraction < 1:
        raise ValueError(f"split: fraction {fraction} does not lie between 0 and 1")
    words = random.Generator(seed).bits(len(dataset), _SPLIT_DRAW, random.ORDER)
    chosen = np.zeros(len(dataset), bool)
    for label in np.unique(dataset.labels):
        members = np.flatnonzero(dataset.labels == label)
        drawn = members[np.argsort(words[members], kind="stable")]
        chosen[drawn[: round(fraction * len(members))]] = True
    return dataset.take(np.flatnonzero(~chosen)), dataset.take(np.flatnonzero(chosen))


def arrays(path: str | os.PathLike[str]) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test) from a numpy .npz file with train_images, train_labels, test_images, test_labels and, if wanted, classes."""
    names = ("train_images", "train_labels", "test_images", "test_labels")
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except OSError:
        raise
    except Exception as error:  # zipfile and numpy have a dozen ways to say that it is damaged
        raise ValueError(f"{os.fspath(path)}: not a whole .npz file of plain arrays ({error})") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{os.fspath(path)}: holds {', '.join(found) or 'nothing'}; {', '.join(missing)} is missing")
    train_images, train_labels, test_images, test_labels = (found[name] for name in names)
    classes = [str(name) for name in found["classes"]] if "classes" in found else None
    return ArrayDataset(train_images, train_labels, classes), ArrayDataset(test_images, test_labels, classes)
