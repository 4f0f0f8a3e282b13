"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 60,000 colour images of 32 x 32 pixels, as published, or as JPEG files end to end.

Read from the folder of the "python" or of the "binary" version, or from its .tar.gz as it was downloaded.
"""

from __future__ import annotations

import gzip
import os
import re
import tarfile
import zipfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from ..arguments import flag, items
from ..arguments import path as checked_path
from ..files import opened, reading, reads, whole
from .cifar_pickle import read_pickle
from .dataset import ArrayDataset, npz_arrays
from .public import how_to
from .resize import Resize, each

Path = str | os.PathLike[str]

_PIXELS = 3 * 32 * 32
_MOST_BYTES = 1 << 28  # of one file in an archive; the largest published one has 155 MB

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COARSE = tuple(
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture insects "
    "large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals "
    "non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2".split()
)
CIFAR100 = tuple(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar cattle "
    "chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house "
    "kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid "
    "otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew "
    "skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout "
    "tulip turtle wardrobe whale willow_tree wolf woman worm".split()
)

_TRAIN10 = [f"data_batch_{i}" for i in range(1, 6)]


@reads
def cifar10(path: Path) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test): CIFAR-10's 50,000 + 10,000 images (3, 32, 32) as bytes, ten classes by name.

    path: the folder with data_batch_1 ... 5 and test_batch (or these with .bin), one above it, the .tar.gz, or an .npz file of JPEG images:
    arrays {train,test}_jpeg (uint8, all files end to end), _offsets (int64, n + 1), _labels, and classes (this one needs Pillow).
    Pickles are read without running anything that they ask for. Raises ValueError, naming the file and what is wrong, when one is damaged;
    FileNotFoundError when one is missing.
    """
    if npz := _npz_of(checked_path("cifar10", "path", path)):
        return _jpegs(npz)
    files = _Files(path, [*_TRAIN10, "test_batch"], "CIFAR-10")
    parts = [_batch(files, name, "labels", 0, len(CIFAR10)) for name in (*_TRAIN10, "test_batch")]
    counts = [len(labels) for _, labels in parts]
    if len(set(counts)) > 1:
        listed = ", ".join(f"{name} {count:,}" for name, count in zip((*_TRAIN10, "test_batch"), counts))
        raise ValueError(f"{files.where}: the batches hold {listed} images; expected as many in each: one is truncated")
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts[:-1]))
    return ArrayDataset(images, labels, CIFAR10), ArrayDataset(*parts[-1], CIFAR10)


@reads
def cifar100(path: Path, coarse: bool = False) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test): CIFAR-100's 50,000 + 10,000 images (3, 32, 32) as bytes, 100 classes by name, or with coarse=True the 20 groups of five.

    path: the folder with train and test (or train.bin and test.bin), one above it, or the .tar.gz. Errors as in `cifar10`.
    """
    flag("cifar100", "coarse", coarse)
    files, classes = _Files(checked_path("cifar100", "path", path), ["train", "test"], "CIFAR-100"), COARSE if coarse else CIFAR100
    train, test = (
        _batch(files, name, "coarse_labels" if coarse else "fine_labels", int(not coarse), len(classes), 2) for name in ("train", "test")
    )
    return ArrayDataset(*train, classes), ArrayDataset(*test, classes)


def kind_of(path: Path) -> str | None:
    """ "cifar10" or "cifar100" when `path` looks like it (by the names of files, not their contents), else None."""
    if os.path.isfile(path):
        name = os.path.basename(path).lower()
        if re.match(r"cifar-?100.*\.(tar\.gz|tgz)$", name):
            return "cifar100"
        return "cifar10" if re.match(r"cifar-?10.*\.(tar\.gz|tgz)$", name) or _holds_jpegs(path) else None
    for kind, first, last in (("cifar10", "data_batch_1", "test_batch"), ("cifar100", "train", "test")):
        if (folder := _folder_of(path, last)) and folder == _folder_of(path, first):
            return kind
    return "cifar10" if _npz_of(path) else None


# --- where the files are


class _Files:
    """The wanted files of a folder or an archive, by name without ".bin"; `binary` says which of the two versions is there."""

    def __init__(self, path: Path, names: Sequence[str], title: str) -> None:
        self.where = os.fspath(path)
        self._contents: dict[str, bytes] = {}
        if os.path.isfile(path):
            self._contents = _unpack(self.where, names)
            found = sorted(self._contents)
        else:
            folder = _folder_of(path, names[-1])
            self.where = folder or self.where
            found = [name for name in os.listdir(folder) if name.removesuffix(".bin") in names] if folder else []
        self.binary = f"{names[-1]}.bin" in found
        missing = [name for name in map(self._full, names) if name not in found]
        if missing:
            listed = ", ".join(map(self._full, names))
            raise FileNotFoundError(
                f"{self.where}: {', '.join(missing)} missing; {title} has {listed} (or these {'without' if self.binary else 'with'} .bin); "
                f"{how_to(title.replace('-', '').lower())}"
            )

    def _full(self, name: str) -> str:
        return f"{name}.bin" if self.binary else name

    def read(self, name: str) -> tuple[str, bytes]:
        """The file's full name, for messages, and its bytes."""
        full = os.path.join(self.where, self._full(name))
        if self._contents:
            return full, self._contents[self._full(name)]
        return full, whole(full)


def _folder_of(path: Path, name: str) -> str | None:
    """The folder, `path` or one right inside it, that has a file of that name, with or without .bin."""
    if not os.path.isdir(path):
        return None
    inside = sorted(entry.path for entry in os.scandir(path) if entry.is_dir())
    for folder in (os.fspath(path), *inside):
        if os.path.isfile(os.path.join(folder, name)) or os.path.isfile(os.path.join(folder, f"{name}.bin")):
            return folder
    return None


def _unpack(path: str, names: Sequence[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with opened(path) as file, reading(path, "damaged or truncated archive ({}); fetch it again"):
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        bounded = _Bounded(gzip.GzipFile(fileobj=file) if packed else file)
        stream: Any = bounded  # all that tarfile asks of a stream is read()
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 18) as archive:  # so no member can lead back to an earlier one
            for member in archive:
                name = os.path.basename(member.name)
                if member.isfile() and name.removesuffix(".bin") in names:
                    found[name] = _member(archive, member)
        while bounded.read(1 << 20):  # to the end, where the checksum is
            pass
    return found


class _Bounded:
    """A stream that ends in an error after more bytes than any archive of CIFAR has: what a small file unpacks to may have no end."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self._stream, self._left = stream, 2 * _MOST_BYTES

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, 1 << 20))
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"unpacks to more than {2 * _MOST_BYTES:,} bytes")
        return data


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _MOST_BYTES or member.issparse():
        raise ValueError(
            f"{member.name[:80]} has {member.size:,} bytes{', with holes' if member.issparse() else ''}; no file of CIFAR is so"
        )
    stream = archive.extractfile(member)
    data = stream.read() if stream else b""
    if len(data) != member.size:
        raise EOFError(f"{member.name[:80]} ends after {len(data):,} of {member.size:,} bytes")
    return data


# --- batches


def _batch(files: _Files, name: str, key: str, byte: int, classes: int, label_bytes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 32, 32) and labels of one file: those under `key` in a pickle, or the `byte`-th of the `label_bytes` before each image."""
    full, data = files.read(name)
    if files.binary:
        record = label_bytes + _PIXELS
        if not data or len(data) % record:
            raise ValueError(f"{full}: {len(data):,} bytes, truncated or damaged: {len(data) / record:.2f} images of {record:,} bytes each")
        rows = np.frombuffer(data, np.uint8).reshape(-1, record)
        pixels, labels = rows[:, label_bytes:], rows[:, byte]
    else:
        found = read_pickle(data, full)
        lacking = [k for k in ("data", key) if k not in found]
        if lacking:
            raise ValueError(f"{full}: has no {' and no '.join(lacking)}, only {', '.join(found)[:200]}")
        pixels, labels = found["data"], _integers(found[key], full, key)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        what = f"{pixels.dtype} of shape {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ValueError(f"{full}: data is {what}; expected uint8 of shape (n, {_PIXELS})")
    if len(labels) != len(pixels):
        raise ValueError(f"{full}: {len(pixels):,} images and {len(labels):,} labels; expected as many")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        wrong = int(np.flatnonzero((labels < 0) | (labels >= classes))[0])
        raise ValueError(f"{full}: image {wrong} has the label {labels[wrong]}; expected 0 to {classes - 1}: damaged, or not of this set")
    return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def _integers(values: object, full: str, key: str) -> np.ndarray:
    if isinstance(values, list) and all(
        isinstance(value, (int, np.integer)) for value in values
    ):  # numpy would walk through lists of lists
        values = np.array([max(-1, min(int(value), 1 << 31)) for value in values], np.int64)
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu":
        return values
    raise ValueError(f"{full}: {key} is no list of integers")


# --- JPEG files end to end


def _npz_of(path: Path) -> str | None:
    if os.path.isdir(path):
        inside = sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith(".npz"))
        return next((file for file in inside if _holds_jpegs(file)), None)
    return os.fspath(path) if os.path.isfile(path) and os.fspath(path).endswith(".npz") else None


def _holds_jpegs(path: Path) -> bool:
    if not os.fspath(path).endswith(".npz"):
        return False
    try:
        with zipfile.ZipFile(path) as file:
            return "train_jpeg.npy" in file.namelist()
    except MemoryError:
        raise
    except Exception:  # whoever reads it says so
        return False


def _jpegs(path: str) -> tuple[ArrayDataset, ArrayDataset]:
    found = npz_arrays(path)
    wanted = [f"{part}_{what}" for part in ("train", "test") for what in ("jpeg", "offsets", "labels")]
    missing = [name for name in (*wanted, "classes") if name not in found]
    if missing:
        raise ValueError(f"{path}: holds {', '.join(found)[:200] or 'nothing'}; {', '.join(missing)} is missing")
    try:
        classes = [str(name) for name in items("cifar10", "classes", found["classes"], "names")]
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error
    return _jpeg_part(path, "train", found, classes), _jpeg_part(path, "test", found, classes)


def _jpeg_part(path: str, part: str, found: dict[str, np.ndarray], classes: list[str]) -> ArrayDataset:
    jpeg, offsets, labels = (found[f"{part}_{what}"] for what in ("jpeg", "offsets", "labels"))
    if (
        jpeg.dtype != np.uint8
        or jpeg.ndim != 1
        or offsets.dtype.kind not in "iu"
        or labels.ndim != 1
        or offsets.shape != (labels.size + 1,)
    ):
        raise ValueError(
            f"{path}: {part}_jpeg is {jpeg.dtype} {jpeg.shape}, {part}_offsets {offsets.shape}, {part}_labels {labels.shape}; expected "
            f"bytes (n,), integers ({labels.size + 1},), integers ({labels.size},)"
        )
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(jpeg) or (np.diff(offsets) <= 0).any():
        raise ValueError(f"{path}: {part}_offsets do not rise from 0 to {len(jpeg)}, the bytes of {part}_jpeg: damaged")
    images, rule, data = np.empty((len(labels), 32, 32, 3), np.uint8), Resize(32), memoryview(np.ascontiguousarray(jpeg).data)

    def fill(i: int) -> None:
        images[i] = rule.decode(data[offsets[i] : offsets[i + 1]], f"{path}: {part} image {i}").transpose(1, 2, 0)

    each(len(labels), fill)
    try:
        return ArrayDataset(images.transpose(0, 3, 1, 2), labels, classes)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {part}_labels: {error}") from error
