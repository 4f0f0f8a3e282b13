"""What lies at a path: which of the formats known here a file or a folder has."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable

from ..arguments import path as checked_path
from ..files import reads
from . import cifar, folder

KINDS = {
    "mnist": "IDX files of MNIST",
    "fashion-mnist": "IDX files of Fashion-MNIST",
    "idx": "IDX files",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "arrays": "numpy arrays",
    "images": "a folder of photos",
}
# The folders whose IDX files have classes that we can name. The whole name counts: KMNIST, EMNIST and others show something else.
_NAMES = {"mnist": "mnist", **dict.fromkeys(("fashion", "fashion-mnist", "fashionmnist"), "fashion-mnist")}
_EXPECTED = (
    "a folder of photos (CLASS/*.jpg, or train/CLASS/*.jpg beside val/CLASS/...), of IDX files, of CIFAR batches or of .npy files, "
    "an .npz file, or a CIFAR .tar.gz"
)


def names_below(path: str | os.PathLike[str], skipped: Iterable[tuple[str, str]] = ()) -> str:
    """A checksum of the names of all photos below a folder but the skipped ones: with others, other ones are drawn for the test."""
    left = {file for file, _ in skipped}
    names = (os.path.relpath(file, path) for file in folder.images_below(os.fspath(path)) if file not in left)
    return f"{zlib.crc32(chr(0).join(sorted(names)).encode(errors='surrogateescape')):08x}"


@reads
def recognise(path: str | os.PathLike[str]) -> tuple[str, str]:
    """(kind, path): one of `KINDS`, and where it lies - `path` or, when that holds a single folder and nothing else, the one inside.

    Goes by the names of files. Raises ValueError when nothing fits, FileNotFoundError when nothing is there.
    """
    name = checked_path("recognise", "path", path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"{name}: there is no such file or folder; expected {_EXPECTED}")
    if kind := _kind(name):
        return kind, name
    inside = folder.data_folders(name) if os.path.isdir(name) else []
    if len(inside) == 1 and (kind := _kind(os.path.join(name, inside[0]))):
        return kind, os.path.join(name, inside[0])
    raise ValueError(f"{name}: not a data set of a known kind; expected {_EXPECTED}")


def _kind(path: str) -> str | None:
    if kind := cifar.kind_of(path):
        return kind
    if os.path.isfile(path):
        return "arrays" if path.endswith(".npz") else None
    names = os.listdir(path)
    if any(name.startswith(("train-images-idx3-ubyte", "train-images.idx3-ubyte")) for name in names):
        return _NAMES.get(os.path.basename(os.path.abspath(path)).lower().replace("_", "-"), "idx")
    if "train_images.npy" in names:
        return "arrays"
    classes = folder.data_folders(path)
    if folder.parts_of(path) or (len(classes) > 1 and any(folder.holds_images(os.path.join(path, name)) for name in classes)):
        return "images"
    return None
