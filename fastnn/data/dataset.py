"""Images and labels: what every data set can do, and the sets that are arrays, in memory or mapped from a file."""

from __future__ import annotations

import copy
import os
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from .. import _C, devices, random
from ..arguments import array, instance, integer, names, number, own_integers, shown
from ..arguments import path as checked_path
from ..described import described, plural
from ..files import opened, reading, reads
from .frames import Frames, standard
from .memory import must_fit, no_more_than
from .targets import class_numbers_of

if TYPE_CHECKING:
    from .resize import Resize

D = TypeVar("D", bound="Dataset")

MOST_RESIDENT_BYTES = 4 << 30  # of images kept in a GPU's memory
_SPLIT_DRAW = 2**48 - 1  # the last draw there is: no epoch's order uses its words
_CLASS_DRAW = 2**48 - 3  # nor these (k_fold has the one between)
_BLOCK_BYTES = 32 << 20  # of raw images looked at together


class Dataset(ABC):
    """What a Loader serves: `len()`, labels, and batches of the samples at given positions.

    Attributes: `classes` (names, or None), `shape` of one image ((C, H, W) or (F,): scikit-learn's splitters would take its first number for
    that of samples, so they are given `labels`; data.k_fold is one that takes sets), `num_classes`, `labels` (int64), `resize` (the rule by
    which an image file becomes such an image, or None), `workers` (how many batches a Loader makes at a time unless told).
    """

    classes: tuple[str, ...] | None = None
    shape: tuple[int, ...]
    resize: Resize | None = None
    workers: int = 1
    _rows: np.ndarray | None = None  # which samples of the source are ours; None: all
    _knows_parts = False  # whether `len()`, `labels` and `raw` go by these rows

    def __new__(cls: type[D], *_: Any, **__: Any) -> D:
        if lacking := sorted(cls.__abstractmethods__):
            raise TypeError(
                f"{cls.__name__} lacks {' and '.join(lacking)}: a data.Dataset has labels, __len__ and raw(positions); an object with __len__ and "
                "__getitem__ that gives (image, label) is a data set without this base class"
            )
        return object.__new__(cls)

    @property
    @abstractmethod
    def labels(self) -> np.ndarray:
        """The class numbers of all samples (int64); of the library's sets not to be written to: they were checked when the set was made."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def raw(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The samples at these positions as they are: images (n, *shape), uint8 or float32, and labels."""

    @property
    def of_bytes(self) -> bool:
        """Whether images are bytes, among which there is no NaN; False where that is not known."""
        return False

    @property
    def num_classes(self) -> int:
        """The number of classes: that of `classes`, or the largest label + 1."""
        return len(self.classes) if self.classes is not None else int(self.labels.max(initial=-1)) + 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """One sample as it is, (image, label), negative indices from the end; `take` gives several, a Loader batches."""
        kind = type(self).__name__
        if not hasattr(index, "__index__") or np.ndim(index):
            raise TypeError(
                f"{kind}: index {shown(index)} is not the number of one sample; take(positions) gives a set of several, a data.Loader batches"
            )
        at = integer(kind, "index", index)
        if not -len(self) <= at < len(self):
            raise IndexError(f"{kind}: there is no sample {at}; it has {len(self)}, counted from 0")
        images, labels = self.raw(np.array([at % len(self)]))
        return images[0], int(labels[0])

    def __repr__(self) -> str:
        classes = getattr(self, "classes", None)
        samples = f"{plural(len(self), 'sample')} of shape {self.shape}{self._of()}"
        return described(self, *([samples] if classes is None else [samples, plural(len(classes), "class")]))

    def _of(self) -> str:
        """For the repr, what the samples are of."""
        return ""

    def batch(
        self, positions: np.ndarray, scale: np.ndarray, shift: np.ndarray, device: str = "cpu", frames: Frames | None = None
    ) -> tuple[_C.Array, np.ndarray]:
        """float32 images * scale + shift on a device, and labels; scale and shift have one value per channel (feature), a Loader's in float64
        unless the set is of bytes.

        frames: what is to be seen of each of these images.
        """
        images, labels = self.raw(positions)
        return normalized(images, scale, shift, device, frames), labels

    def blocks(self) -> Iterator[np.ndarray]:
        """All images as they are, a block at a time: for statistics over sets that do not fit in memory."""
        for start, end in self._block_bounds():
            yield self.raw(np.arange(start, end))[0]

    def _block_bounds(self) -> Iterator[tuple[int, int]]:
        step = max(1, min(1024, _BLOCK_BYTES // max(1, 4 * int(np.prod(self.shape)))))
        return ((start, min(start + step, len(self))) for start in range(0, len(self), step))

    def take(self: D, indices: Any) -> D:
        """The set of these samples, in this order (positions, negative ones from the end, or a mask); the images are shared, not copied.

        Raises IndexError for a position outside of the set.
        """
        chosen = array(type(self).__name__, "indices", list(indices) if isinstance(indices, range) else indices)
        if chosen.size and chosen.dtype.kind not in "iub":
            raise TypeError(f"{type(self).__name__}.take: indices must be positions or a mask, got {shown(indices)}")
        if chosen.ndim != 1 or (chosen.dtype == bool and len(chosen) != len(self)):
            raise ValueError(
                f"{type(self).__name__}.take: indices have shape {chosen.shape}; expected several positions, or a mask ({len(self)},)"
            )
        try:
            indices = np.arange(len(self))[chosen if chosen.dtype == bool and chosen.size else own_integers(chosen)]
        except IndexError:
            raise IndexError(
                f"{type(self).__name__}.take: indices go from {chosen.min()} to {chosen.max()}, the set has {len(self)} samples"
            ) from None
        if not self._knows_parts:
            from .part import Part

            return Part(self, indices)  # type: ignore[return-value]
        part = copy.copy(self)
        part._rows = self._source_rows(indices)
        return part

    def _source_rows(self, positions: np.ndarray) -> np.ndarray:
        return positions if self._rows is None else self._rows[positions]


class ArrayDataset(Dataset):
    """Images (N, C, H, W), (N, H, W) or features (N, F) with one integer label each.

    Bytes stay bytes until a batch is made; floats become float32. An array mapped from a file (np.memmap, np.load(..., mmap_mode="r"))
    is never read whole: each batch reads its images. Labels, bytes and floats of other sizes are copied; float32 and mapped images are shared: what
    is written into them afterwards is in the set. resize: the rule by which an image file becomes one of these images; left out,
    bytes of one or three channels are taken as grey or RGB values from 0 to 255. Raises ValueError or TypeError when shapes, lengths or
    types do not fit, for images without a pixel, or when the channels seem to lie last: (N, S, S, C) with S above 4 and 1, 3 or 4 channels. Warns
    of float64 values so close to each other that float32 takes many for the same.
    """

    _knows_parts = True

    def __init__(self, images: Any, labels: Any, classes: Sequence[str] | None = None, *, resize: Resize | None = None) -> None:
        images = array("ArrayDataset", "images", images, "an array (N, C, H, W), (N, H, W) or (N, F)")
        if images.ndim == 3:
            images = images[:, None]
        if images.ndim not in (2, 4):
            raise ValueError(f"ArrayDataset: images have shape {images.shape}; expected (N, C, H, W), (N, H, W) or (N, F)")
        if 0 in images.shape[1:]:
            without = _without_pixels(images.shape[1:])
            raise ValueError(f"ArrayDataset: images have shape {images.shape}, {without}; expected at least one of each")
        if channels_last(images.shape[1:]):
            raise ValueError(
                f"ArrayDataset: images have shape {images.shape}, as if the channels lay last; expected (N, C, H, W), which "
                "images.transpose(0, 3, 1, 2) makes"
            )
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            whole = (
                "; astype(np.uint8) makes bytes of values from 0 to 255, astype(np.float32) keeps others"
                if images.dtype.kind in "iu"
                else ""
            )
            raise TypeError(f"ArrayDataset: images have dtype {images.dtype}; expected uint8 or a float type{whole}")
        self.classes = checked_classes("ArrayDataset", classes)
        self._labels = _checked_labels(labels, len(images), self.classes)
        self.shape = images.shape[1:]
        self.resize = checked_resize("ArrayDataset", resize) or _natural_resize(images)
        self._source: np.ndarray | devices.Copies = images
        _warn_of_steps(images)
        if not _is_mapped(images):
            stays = images.dtype == np.uint8
            self._source = devices.Copies(_C.from_numpy(images)) if stays else images.astype(np.float32, copy=False)

    def __len__(self) -> int:
        return len(self._labels) if self._rows is None else len(self._rows)

    @property
    def labels(self) -> np.ndarray:
        return self._labels if self._rows is None else read_only(self._labels[self._rows])

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "ArrayDataset: images, labels = dataset.images, dataset.labels gives its arrays, data.Loader(dataset, batch_size) batches"
        )

    @property
    def of_bytes(self) -> bool:
        return bool(self._whole().dtype == np.uint8)

    def _of(self) -> str:
        return f", {self._whole().dtype}{' mapped from a file' if _is_mapped(self._source) else ''}"

    @property
    def images(self) -> np.ndarray:
        """All images as a numpy array, raw: a view, or of a part (`take`) a copy."""
        source = self._whole()
        return source if self._rows is None else source[self._rows]

    def raw(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = self._source_rows(positions)
        return _bytes_or_float32(self._whole()[rows]), self._labels[rows]

    def blocks(self) -> Iterator[np.ndarray]:
        if self._rows is not None:
            yield from super().blocks()
        else:
            for start, end in self._block_bounds():  # without a copy
                yield _bytes_or_float32(self._whole()[start:end])

    def batch(
        self, positions: np.ndarray, scale: np.ndarray, shift: np.ndarray, device: str = "cpu", frames: Frames | None = None
    ) -> tuple[_C.Array, np.ndarray]:
        return self.gather(positions, scale, shift, device, frames), self._labels[self._source_rows(positions)]

    def gather(
        self, indices: np.ndarray, scale: np.ndarray, shift: np.ndarray, device: str = "cpu", frames: Frames | None = None
    ) -> _C.Array:
        """float32 batch of images[indices] * scale + shift on a device; scale and shift have one value per channel (feature).

        frames: what is to be seen of each of these images.

        Bytes in memory that are to be used on a GPU are copied there once, unless they are too many: then each batch is made here and copied.
        """
        if isinstance(self._source, np.ndarray):
            return normalized(self.raw(indices)[0], scale, shift, device, frames)
        near = device == "cpu" or self._source.array.nbytes <= MOST_RESIDENT_BYTES
        source = self._source.on(device if near else "cpu")
        rows, samples = own_integers(self._source_rows(indices)), self._source.array.shape[0]
        if len(rows) and not 0 <= rows.min() <= rows.max() < samples:  # kernels read where they are told to
            raise IndexError(
                f"ArrayDataset.gather: positions from {rows.min()} to {rows.max()}; there are {samples} samples, counted from 0"
            )
        batch = _gathered(source, rows, scale, shift, frames)
        return batch if near else _sent(batch, device)

    def _whole(self) -> np.ndarray:
        return self._source if isinstance(self._source, np.ndarray) else self._source.array.numpy()


def normalized(images: np.ndarray, scale: np.ndarray, shift: np.ndarray, device: str, frames: Frames | None = None) -> _C.Array:
    """float32 images * scale + shift on a device. Bytes go there as bytes and are normalised there, by the kernel that gathers."""
    images = _bytes_or_float32(images)
    if images.dtype != np.uint8:
        if frames is not None:
            return _C.from_numpy(frames.show(images, scale, shift), device)
        return _C.from_numpy(standard(images, scale, shift), device)
    source = _C.from_numpy(images)
    if device != devices.CPU:
        source = _sent(source, device)
    return _gathered(source, np.arange(len(images)), scale, shift, frames)


_under_way: deque[_C.Array] = deque(maxlen=8)  # to free pinned memory waits for the copy out of it: long done for the oldest of these


def _sent(batch: _C.Array, device: str) -> _C.Array:
    """The same on a GPU, which fetches it by itself."""
    _under_way.append(batch.pinned(device))
    return _under_way[-1].to(device)


def _gathered(source: _C.Array, rows: np.ndarray, scale: np.ndarray, shift: np.ndarray, frames: Frames | None) -> _C.Array:
    scale, shift = scale.astype(np.float32, copy=False), shift.astype(np.float32, copy=False)
    if frames is not None:
        return frames.gather(source, rows, scale, shift)
    return _C.gather_normalize(_C.Gather(source.shape, len(rows)), source, *(_C.from_numpy(a, source.device) for a in (rows, scale, shift)))


def _bytes_or_float32(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    return images if images.dtype == np.uint8 else images.astype(np.float32, copy=False)


def _is_mapped(array: Any) -> bool:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether an image of this shape is (H, W, C), as Pillow, OpenCV and TensorFlow have it: S channels of S x 3 pixels are no images of anybody's."""
    return len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] == shape[1] > 4


def _natural_resize(images: np.ndarray) -> Resize | None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        return None
    from .resize import Resize

    return Resize(images.shape[2:], channels=images.shape[1])


def checked_classes(what: str, classes: Any) -> tuple[str, ...] | None:
    """Names of classes."""
    if classes is None:
        return None
    wanted = "the names of the classes, in the order of their numbers"
    return tuple(names(what, "classes", classes, wanted))


def refuse_other_classes(what: str, training: Dataset, **others: Dataset | None) -> None:
    """Before anything is trained: a model knows the classes of its training set only."""
    for name, dataset in others.items():
        labels = None if dataset is None else dataset.labels
        if labels is not None and labels.max(initial=-1) >= training.num_classes:
            raise ValueError(
                f"{what}: the {name} set has the label {labels.max()} at position {labels.argmax()}, the training set the classes from 0 to "
                f"{training.num_classes - 1} only; a model knows no others: put samples of each class into the training set"
            )


def checked_resize(what: str, resize: Any) -> Resize | None:
    """A rule, or none."""
    if resize is not None:
        from .resize import Resize

        instance(what, "resize", resize, Resize, "a data.Resize")
    return resize  # type: ignore[no-any-return]


def _checked_labels(labels: Any, count: int, classes: Sequence[str] | None) -> np.ndarray:
    labels = array("ArrayDataset", "labels", labels)
    hint = class_numbers_of(labels) if labels.dtype.kind not in "iu" or labels.ndim != 1 else ""
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels have dtype {labels.dtype}; expected integers (class numbers from 0){hint and '; '}{hint}")
    if labels.shape != (count,):
        raise ValueError(f"labels have shape {labels.shape}; expected ({count},), one for each of the {count} images{hint and '; '}{hint}")
    if count and labels.min() < 0:
        raise ValueError(f"label {labels.min()} at position {labels.argmin()}; class numbers start at 0")
    if count and classes is not None and labels.max() >= len(classes):
        raise ValueError(f"label {labels.max()} at position {labels.argmax()}; {len(classes)} classes go from 0 to {len(classes) - 1}")
    if count and labels.max() >= 2**63:  # of uint64: as int64 it would be a negative one
        raise ValueError(f"label {labels.max()} at position {labels.argmax()}; class numbers are int64")
    return read_only(np.array(labels, np.int64))


def read_only(labels: np.ndarray) -> np.ndarray:
    """The same; whoever writes to it is told."""
    labels.flags.writeable = False
    return labels


def _without_pixels(shape: tuple[int, ...]) -> str:
    names = ("channels", "rows", "columns") if len(shape) == 3 else ("features",)
    return f"without {' or '.join(name for name, size in zip(names, shape) if not size)}"


_LOOKED_AT = 64  # samples
_FEWEST_STEPS = 16


def _warn_of_steps(images: np.ndarray) -> None:
    """Seconds since 1970 of one day are seven hundred different numbers in float32; of a few minutes, hardly any. Of a file of images not even these
    samples are read: they may be large."""
    if images.dtype.itemsize <= 4 or not len(images) or (images.ndim != 2 and _is_mapped(images)):
        return
    some = images[:: max(1, len(images) // _LOOKED_AT)]
    axes = (0, *range(2, images.ndim))
    with np.errstate(over="ignore", invalid="ignore"):
        least, most = some.min(axes), some.max(axes)
        steps = (most - least) / np.spacing(np.maximum(abs(least), abs(most)).astype(np.float32))
    close = np.flatnonzero((steps > 0) & (steps < _FEWEST_STEPS))
    if len(close):
        at, what = int(close[0]), "feature" if images.ndim == 2 else "channel"
        warnings.warn(
            f"ArrayDataset: {what} {at} has values from {least[at]} to {most[at]}, for which float32, as which they are kept, has only "
            f"{int(steps[at]) + 1} different ones; subtract the mean in {images.dtype} first",
            stacklevel=3,
        )


def split(dataset: D, fraction: float, seed: int = 0) -> tuple[D, D]:
    """(the rest, a part): round(fraction n) of the n samples go to the part, of each class its share rounded up or down, drawn by `seed`. Both
    keep the order of the whole.

    Classes are rounded by their largest remainders; which of equal ones are rounded up is drawn too. ValueError where the part or the rest
    would be empty.
    """
    instance("split", "dataset", dataset, Dataset, "a data set, such as data.ArrayDataset(images, labels)")
    integer("split", "seed", seed, 0, 2**63), number("split", "fraction", fraction, "(0, 1)")
    n, part = len(dataset), round(fraction * len(dataset))
    if not 0 < part < n:
        some = f"one above {0.5 / n:.6g} and below {1 - 0.5 / n:.6g}, or more samples" if n > 1 else "at least two samples"
        raise ValueError(
            f"split: fraction {fraction:g} of {plural(n, 'sample')} puts {part} into the part, {n - part} into the rest; expected {some}"
        )
    words = random.Generator(seed).bits(n, _SPLIT_DRAW, random.ORDER)
    chosen = np.zeros(n, bool)
    _, codes, sizes = np.unique(dataset.labels, return_inverse=True, return_counts=True)
    by_class = np.split(np.lexsort((words, codes.reshape(-1))), np.cumsum(sizes)[:-1])
    for members, count in zip(by_class, _shares(sizes, fraction, part, seed)):
        chosen[members[:count]] = True
    return dataset.take(np.flatnonzero(~chosen)), dataset.take(np.flatnonzero(chosen))


def _shares(sizes: np.ndarray, fraction: float, total: int, seed: int) -> np.ndarray:
    """fraction * sizes as integers that add up to `total`: rounded, then those that lie farthest off rounded the other way."""
    quotas = fraction * sizes
    counts = np.rint(quotas).astype(np.int64)
    missing = total - counts.sum()
    sign = np.sign(missing)
    ties = random.Generator(seed).bits(len(sizes), _CLASS_DRAW, random.ORDER)
    off = np.round(sign * (quotas - counts), 9)  # 0.1 * 3 and 0.1 * 13 lie equally far off
    counts[np.lexsort((ties, -off))[: abs(missing)]] += sign
    return counts


_NAMES = ("train_images", "train_labels", "test_images", "test_labels")


@reads
def arrays(path: str | os.PathLike[str]) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test) from a numpy .npz file with train_images, train_labels, test_images, test_labels and, if wanted, classes; or from a
    folder of .npy files with these names, whose images are mapped, not read: for sets that do not fit in memory.

    Raises ValueError, naming the file, when it is damaged or something is missing.
    """
    name = checked_path("arrays", "path", path)
    found = {n: _mapped(os.path.join(name, f"{n}.npy")) for n in _in_folder(name)} if os.path.isdir(name) else npz_arrays(name)
    missing = [n for n in _NAMES if n not in found]
    if missing:
        raise ValueError(f"{name}: holds {', '.join(found)[:200] or 'nothing'}; {', '.join(missing)} is missing")
    train_images, train_labels, test_images, test_labels = (found[n] for n in _NAMES)
    classes: Any = found.get("classes")
    try:
        return ArrayDataset(train_images, train_labels, classes), ArrayDataset(test_images, test_labels, classes)
    except (ValueError, TypeError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{name}: {error}") from error


def npz_arrays(path: str) -> dict[str, np.ndarray]:
    """All arrays of an .npz file. ValueError, naming it, when it is damaged or holds anything else."""
    with opened(path) as stream, reading(path, "not a whole .npz file of plain arrays ({})"):
        begins = stream.read(2)
        if begins != b"PK":  # numpy would speak of pickles
            raise ValueError(f"it begins with {begins.hex(' ')!r}, not as an archive")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as file:
            size = sum(member.file_size for member in file.zip.infolist())
            must_fit(path, size)
            with no_more_than(size):
                found = {name: file[name] for name in file.files}
        other = [name for name, array in found.items() if not isinstance(array, np.ndarray)]
        if other:
            raise ValueError(f"{other[0][:80]} is no .npy file")
        for array in found.values():
            _check_text(array)
    return found


def _check_text(array: np.ndarray) -> None:
    """numpy keeps letters as numbers; one that is none is noticed by whoever asks for it, with a SystemError."""
    if array.dtype.kind == "U":
        array.tolist()


def _in_folder(folder: str) -> list[str]:
    return [name for name in (*_NAMES, "classes") if os.path.exists(os.path.join(folder, f"{name}.npy"))]


def _mapped(path: str) -> np.ndarray:
    opened(path).close()  # which says what it is, where it is no file
    with reading(path, "not a whole .npy file of a plain array ({})"):
        with no_more_than(os.path.getsize(path)):
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.ndarray):
            raise ValueError("an archive of several")
        _check_text(mapped)
    return mapped
