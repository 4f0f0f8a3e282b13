"""Files of arrays: one function writes them, one reads them.

The format is safetensors (a JSON header, then bytes; nothing in it can run). Arrays lie row-major, rank 4 as (N, C, H, W), so that
any reader of safetensors sees PyTorch's shapes. Numbers and names travel in the header as JSON, with a checksum over everything.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np


class CorruptFile(ValueError):
    """A file that cannot be what its name says. The message names it and the reason."""


def write(path: str | os.PathLike[str], arrays: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> None:
    """Writes arrays (numpy, Tensor or Array) and `notes` (anything JSON can hold) to a safetensors file, whole or not at all."""
    from safetensors.numpy import save

    # safetensors writes the memory as it lies and ignores strides: without order="C" a channels-last array would be scrambled.
    dense = {name: np.asarray(a.numpy() if hasattr(a, "numpy") else a, order="C") for name, a in arrays.items()}
    text = json.dumps(dict(notes or {}))
    replace(path, save(dense, {"format": "pt", "fastnn": text, "crc32": _checksum(dense, text)}))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a safetensors file and its notes (empty when another program wrote it).

    Raises CorruptFile, naming the file, when it is truncated or any byte of it changed; OSError when it cannot be opened.
    """
    from safetensors import safe_open

    with open(path, "rb"):  # the system's own words for a missing or unreadable file
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
        notes = json.loads(metadata.get("fastnn", "{}"))
    except MemoryError:
        raise
    except Exception as error:  # whatever the parser trips over, the file is at fault
        raise CorruptFile(
            f"{os.fspath(path)}: not a whole safetensors file of dtypes that numpy knows ({error}); restore it from a copy"
        ) from error
    if "fastnn" in metadata and metadata.get("crc32") != _checksum(arrays, metadata["fastnn"]):
        raise CorruptFile(f"{os.fspath(path)}: contents and checksum differ; restore it from a copy")
    return arrays, notes


def replace(path: str | os.PathLike[str], data: bytes) -> None:
    """Puts `data` in the place of the file: after a crash at any moment either the old or the new contents are there, whole."""
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _checksum(arrays: Mapping[str, np.ndarray], text: str) -> str:
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        crc = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"
