"""IDX files, the format of MNIST: 00 00, type, rank, the sizes as big-endian 32-bit numbers, then the values."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from typing import IO

import numpy as np

from ..arguments import integer
from ..arguments import path as checked_path
from ..files import fault, memory_for, opened, reads
from .dataset import ArrayDataset
from .memory import must_fit
from .public import how_to

Path = str | os.PathLike[str]

_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_UNSIGNED_BYTE = 0x08
_PIECE = 1 << 22


def read_idx(path: Path, rank: int) -> np.ndarray:
    """The uint8 array of `rank` dimensions in an IDX file, plain or gzipped. ValueError, naming the file, when it is anything else."""
    checked_path("read_idx", "path", path), integer("read_idx", "rank", rank, 0, 256)
    with memory_for(path, "read"), opened(path) as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        try:
            return _array(gzip.GzipFile(fileobj=file) if packed else file, os.fspath(path), rank)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise fault(path, error, f"damaged or truncated gzip file ({error}); fetch it again") from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _array(stream: IO[bytes] | gzip.GzipFile, name: str, rank: int) -> np.ndarray:
    magic, header = bytes((0, 0, _UNSIGNED_BYTE, rank)), 4 + 4 * rank
    data = _up_to(header, stream)
    if data[:4] != magic:
        raise ValueError(f"{name}: starts with '{data[:4].hex(' ')}'; expected '{magic.hex(' ')}', as an IDX file of rank {rank} does")
    if len(data) < header:
        raise ValueError(f"{name}: {len(data)} bytes, truncated within the header of 4 + 4 x {rank} = {header} bytes")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", rank, 4))
    count = math.prod(shape)
    if isinstance(stream, gzip.GzipFile):  # what is not packed is at least as long
        must_fit(name, count)
    values = _up_to(count + 1, stream)  # one more: is this the end?
    if len(values) != count:
        sizes, found = " x ".join(str(n) for n in shape), header + len(values)
        wrong = f"{found} bytes, truncated" if len(values) < count else f"at least {found} bytes, too long"
        raise ValueError(f"{name}: {wrong}: {header} of header + {sizes} values = {header + count}")
    try:
        return np.frombuffer(values, np.uint8).reshape(shape)
    except ValueError as error:  # 0 x 4294967295 x 4294967295, or more dimensions than numpy has
        raise ValueError(f"{name}: {' x '.join(str(n) for n in shape)} values are no array of numpy's ({error})") from error


def _up_to(count: int, stream: IO[bytes] | gzip.GzipFile) -> bytearray:
    """`count` bytes of a stream, or all that it has: memory grows with what is there, not with what a header says."""
    data = bytearray()
    while piece := stream.read(min(count - len(data), _PIECE)):
        data += piece
    return data


@reads
def idx(folder: Path, classes: Sequence[str] | None = None) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test) from the four files of MNIST's layout in `folder`: {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]."""
    return _both(folder, classes)


def _both(folder: Path, classes: Sequence[str] | None, hint: str = "") -> tuple[ArrayDataset, ArrayDataset]:
    checked_path("idx", "folder", folder)
    train, test = (_pair(folder, prefix, classes, hint) for prefix in ("train", "t10k"))
    return train, test


@reads
def mnist(folder: Path) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test): MNIST's 60,000 + 10,000 handwritten digits of 28 x 28 pixels (LeCun, Cortes, Burges), read from `folder`; see `download`."""
    return _both(folder, [str(digit) for digit in range(10)], how_to("mnist"))


@reads
def fashion_mnist(folder: Path) -> tuple[ArrayDataset, ArrayDataset]:
    """(train, test): Fashion-MNIST's 60,000 + 10,000 pictures of clothes, 28 x 28 (Xiao, Rasul, Vollgraf 2017), read from `folder`; see
    `download`."""
    return _both(folder, _FASHION, how_to("fashion-mnist"))


def _pair(folder: Path, prefix: str, classes: Sequence[str] | None, hint: str) -> ArrayDataset:
    images_path, labels_path = (_find(folder, f"{prefix}-{kind}-ubyte", hint) for kind in ("images-idx3", "labels-idx1"))
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise ValueError(f"{images_path} holds {len(images)} images, {labels_path} {len(labels)} labels; expected as many")
    try:
        return ArrayDataset(images, labels, classes)
    except ValueError as error:
        raise ValueError(f"{labels_path}: {error}") from error


def _find(folder: Path, name: str, hint: str) -> str:
    dotted = name.replace("-idx", ".idx")
    for candidate in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
        path = os.path.join(folder, candidate)
        if os.path.exists(path):
            return path
    raise FileNotFoundError(f"{os.fspath(folder)}: holds neither {name} nor {name}.gz{hint and f'; {hint}'}")
