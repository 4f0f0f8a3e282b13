"""Files of arrays: one function writes them, one reads them.

The format is safetensors (a JSON header, then bytes; nothing in it can run). Arrays lie row-major, rank 4 as (N, C, H, W), so that
any reader of safetensors sees PyTorch's shapes. Numbers and names travel in the header as JSON, with a checksum over everything.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from . import arguments as given


class CorruptFile(ValueError):
    """A file that cannot be what its name says. The message names it and the reason."""


def write(path: str | os.PathLike[str], arrays: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> None:
    """Writes arrays (numpy, Tensor or Array) and `notes` (anything JSON can hold) to a safetensors file, whole or not at all."""
    from safetensors.numpy import save

    # safetensors writes the memory as it lies and ignores strides: without order="C" a channels-last array would be scrambled.
    given.path("files.write", "path", path), given.instance("files.write", "arrays", arrays, Mapping, "a dict of arrays by name")
    for name, values in arrays.items():
        given.array("files.write", given.text("files.write", "a name in arrays", name), values)
    if notes is not None:
        _check_keys(given.instance("files.write", "notes", notes, Mapping, "a dict of what JSON can hold"))
    dense = {name: np.asarray(a.numpy() if hasattr(a, "numpy") else a, order="C") for name, a in arrays.items()}
    text = json.dumps(dict(notes or {}))
    replace(path, *_in_order(save(dense, {"format": "pt", "fastnn": text, "crc32": _checksum(dense, text)})))


def _check_keys(notes: Any) -> None:
    """JSON would make words of them, in silence: what is read would be another dict."""
    if isinstance(notes, Mapping):
        for key, value in notes.items():
            given.text("files.write", "a key in notes", key)
            _check_keys(value)
    elif isinstance(notes, (list, tuple)):
        for value in notes:
            _check_keys(value)


def _in_order(data: bytes) -> tuple[bytes, memoryview]:
    """A safetensors file whose metadata stand in order, as header and contents: the same arrays and notes make the same bytes."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    metadata = dict(sorted(header.pop("__metadata__").items()))
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(data)[end:]


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a safetensors file and its notes (empty when another program wrote it). bfloat16, which numpy has not, becomes float32.

    Raises CorruptFile, naming the file, when it is truncated or any byte of it changed; OSError when it cannot be read. The header is
    checked against the file's size before anything is made from it.
    """
    data = _contents(given.path("files.read", "path", path))
    try:
        arrays = _arrays(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # safetensors has found it sound
        metadata = header.get("__metadata__") or {}
        notes = json.loads(metadata.get("fastnn", "{}"))
        if not isinstance(notes, dict):
            raise ValueError(f"its notes are a {type(notes).__name__}")
    except MemoryError:
        raise
    except Exception as error:  # whatever the parser trips over, the file is at fault
        raise CorruptFile(
            f"{os.fspath(path)}: not a whole safetensors file of dtypes that numpy knows ({_short(error)}); restore it from a copy"
        ) from error
    if metadata.keys() & {"fastnn", "crc32"} and metadata.get("crc32") != _checksum(arrays, metadata.get("fastnn", "{}")):
        raise CorruptFile(f"{os.fspath(path)}: contents and checksum differ; restore it from a copy")
    return arrays, notes


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    from safetensors import deserialize
    from safetensors.numpy import load

    try:
        return load(data)
    except KeyError as error:
        if error.args != ("BF16",):
            raise
    # numpy's reader stops at the first bfloat16, which becomes float32 here
    entries: dict[str, Any] = dict(deserialize(data))  # type: ignore[no-untyped-call]
    return {name: _values(entry).reshape(entry["shape"]) for name, entry in entries.items()}


_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?", **{f"{k}{8 * n}": f"<{k.lower()}{n}" for k in "IU" for n in (1, 2, 4, 8)}}


def _values(entry: Mapping[str, Any]) -> np.ndarray:
    if entry["dtype"] == "BF16":
        wide: np.ndarray = np.frombuffer(entry["data"], "<u2").astype(np.uint32) << 16
        return wide.view(np.float32)
    values: np.ndarray = np.frombuffer(entry["data"], _NUMPY[entry["dtype"]]).copy()
    return values


def _contents(path: str | os.PathLike[str]) -> bytes:
    """Read, not mapped: under a mapped file an error of the disk, or a program that shortens it meanwhile, ends the process."""
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "neither a file nor a folder", os.fspath(path))
    with open(path, "rb") as file:  # the system's own words for a missing or unreadable file
        try:
            return file.read()
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextmanager
def reading(path: str | os.PathLike[str], wrong: str) -> Iterator[None]:
    """Whatever a parser trips over inside the block becomes one ValueError: the path, then `wrong` with the reason in place of {}. Errors of the
    disk stay OSErrors and get the path."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a parser led astray seeks before the beginning: EINVAL
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise ValueError(f"{os.fspath(path)}: {wrong.format(_short(error))}") from error


def _short(error: Exception) -> str:
    """A parser's message; names of arrays in it may have any length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."


def replace(path: str | os.PathLike[str], *pieces: bytes | memoryview) -> None:
    """Puts the pieces in the place of the file: after a crash or a loss of power at any moment either the old or the new contents are there, whole.

    They go to a file beside it (.NAME.<random>.tmp), are on the disk before that takes the name, and so is the name before this returns. What
    killed processes left there, the next write to the same name removes. Raises OSError, naming the path and the reason; the old contents
    stay.
    """
    target, renamed = os.path.realpath(path), False
    try:
        folder, name = os.path.split(target)
        directory = _directory(folder)
        try:
            mode = _mode(target)
            _remove_leftovers(folder, name)
            file, temporary = _beside(folder, name)
            try:
                for piece in pieces:
                    _write(file, piece)
                if mode is not None:
                    with suppress(PermissionError):  # of a file system without permissions
                        os.fchmod(file, mode)
                os.fsync(file)
                os.replace(temporary, target)
                renamed = True
            except BaseException:
                _discard(file, temporary)
                raise
            os.close(file)
            _sync(directory)
        finally:
            if directory is not None:
                os.close(directory)
    except OSError as error:
        raise OSError(error.errno, _reason(error, target, sum(map(len, pieces)), renamed), os.fspath(path)) from error


def _directory(folder: str) -> int | None:
    """The folder, open; None where it may be written but not read."""
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return None


def _mode(target: str) -> int | None:
    """The permissions of the file that is to be replaced, if there is one. OSError when it is no file: a device would be lost."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder; expected the name of a file")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is no regular file, and a file would take its place")
    return stat.S_IMODE(mode)


_STEM = 40  # letters of a name that its temporary file takes up: the whole may be as long as the system allows


def _beside(folder: str, name: str) -> tuple[int, str]:
    """A new file in the folder, open and locked, and where it lies."""
    while True:
        temporary = os.path.join(folder, f".{name[:_STEM]}.{os.urandom(6).hex()}.tmp")
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            _locked(file, wait=True)
            if os.fstat(file).st_nlink:  # else another write took it for a leftover before it was locked
                return file, temporary
        except BaseException:
            _discard(file, temporary)
            raise
        os.close(file)


def _discard(file: int, temporary: str) -> None:
    with suppress(OSError):
        os.unlink(temporary)
    os.close(file)


def _locked(file: int, wait: bool = False) -> bool:
    """Locks a file for as long as it is open. False where another process holds it, or the file system knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _remove_leftovers(folder: str, name: str) -> None:
    """Temporary files of this name that nobody holds locked: their process was killed."""
    pattern = re.compile(rf"\.{re.escape(name[:_STEM])}\.[0-9a-f]+\.tmp")
    try:
        found = [entry for entry in os.listdir(folder) if pattern.fullmatch(entry)]
    except OSError:  # a folder that may be written, not read
        return
    for entry in found:
        leftover = os.path.join(folder, entry)
        try:
            file = os.open(leftover, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # another write removed it first, or it is somebody else's
            continue
        try:
            if _locked(file):
                with suppress(OSError):
                    os.unlink(leftover)
        finally:
            os.close(file)


def _write(file: int, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _sync(directory: int | None) -> None:
    """The folder's new entry on the disk; some file systems cannot say when it is."""
    try:
        if directory is not None:
            os.fsync(directory)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _reason(error: OSError, target: str, size: int, renamed: bool) -> str:
    words = [error.strerror or str(error)]
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        words.append(f"{size:,} bytes were to be written, {shutil.disk_usage(os.path.dirname(target)).free:,} are free")
    elif error.errno == errno.EFBIG:
        words.append(f"{size:,} bytes were to be written")
    elif error.errno == errno.ENOENT:
        words.append(f"there is no folder {os.path.dirname(target)}")
    if renamed:
        words.append("the new contents are there, but may not outlive a loss of power")
    elif os.path.isfile(target):
        words.append("the old contents are untouched")
    return "; ".join(words)


def _checksum(arrays: Mapping[str, np.ndarray], text: str) -> str:
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        crc = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"
