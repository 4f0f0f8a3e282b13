"""Files of arrays: one function writes them, one reads them.

The format is safetensors (a JSON header, then bytes; nothing in it can run). Arrays lie row-major, rank 4 as (N, C, H, W), so that
any reader of safetensors sees PyTorch's shapes. Numbers and names travel in the header as JSON, with a checksum over everything.
It is written and read here, one array after the other: the library of its name ends the process where there is no memory.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from math import prod
from typing import Any, BinaryIO, TypeVar

import numpy as np

from . import _C
from . import arguments as given

# The format's types, in the order in which safetensors lays out arrays of them. Numpy has no bfloat16.
_TYPES = {
    **{"U64": "<u8", "I64": "<i8", "F64": "<f8", "C64": "<c8", "F32": "<f4", "U32": "<u4", "I32": "<i4"},
    **{"BF16": "<u2", "F16": "<f2", "U16": "<u2", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"},
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items() if name != "BF16"}
_METADATA, _MOST_HEADER = "__metadata__", 100_000_000  # bytes, by the format
SPARE = 64 << 20  # bytes, far more than a parser takes at once beside what it makes

F = TypeVar("F", bound=Callable[..., Any])


class CorruptFile(ValueError):
    """A file that cannot be what its name says. The message names it and the reason."""


def write(path: str | os.PathLike[str], arrays: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> None:
    """Writes arrays (numpy's, Tensors, PyTorch's) and `notes` (anything JSON can hold) to a safetensors file, whole or not at all."""
    given.path("files.write", "path", path), given.instance("files.write", "arrays", arrays, Mapping, "a dict of arrays by name")
    with memory_for(path, "written"):
        held = {
            name: given.array("files.write", given.text("files.write", "a name in arrays", name), values) for name, values in arrays.items()
        }
        kept = (
            {} if notes is None else _plain(given.instance("files.write", "notes", notes, Mapping, "a dict of what JSON can hold"), "notes")
        )
        dense = {name: _dense(name, values) for name, values in held.items()}
        places = {kind: place for place, kind in enumerate(_NAMES)}
        ordered = dict(sorted(dense.items(), key=lambda item: (places[item[1].dtype], item[0])))
        text = json.dumps(kept)
        header = _header(ordered, {"crc32": _checksum(ordered, text), "fastnn": text, "format": "pt"})
        if len(header) - 8 > _MOST_HEADER:
            raise ValueError(
                f"files.write: {os.fspath(path)}: names, shapes and notes take {len(header) - 8:,} bytes, of which the format allows "
                f"{_MOST_HEADER:,}, {len(text):,} of them the notes; what is large belongs into arrays"
            )
        replace(path, header, *map(_bytes, ordered.values()))


def _plain(value: Any, where: str) -> Any:
    """What JSON holds: numpy's numbers, which arguments may be, as Python's. It would make words of other keys, in silence: what is read would be
    another dict."""
    if isinstance(value, Mapping):
        return {key: _plain(entry, f"{where}[{given.text('files.write', 'a key in notes', key)!r}]") for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, (str, int, float, type(None))):
        raise TypeError(
            f"files.write: {where} is {given.shown(value)}, of {type(value).__module__}.{type(value).__qualname__}; JSON has Python's words, "
            "numbers, lists and dicts: float(x), int(x) or x.tolist() makes them"
        )
    return plain


def _dense(name: str, values: np.ndarray) -> np.ndarray:
    """As it lies in a file."""
    array = np.asarray(values, order="C")
    if name == _METADATA:
        raise ValueError(f"files.write: no array may be called {name}, which is the format's own")
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise ValueError(f"files.write: the name {name[:80]!a} has half a pair of surrogates, which is no letter that a file can hold")
    little = array.dtype.newbyteorder("<")
    if little not in _NAMES:
        raise TypeError(f"files.write: {name[:80]} holds {array.dtype}; the format has booleans and numbers of up to 64 bits")
    return array.astype(little, copy=False)


def _header(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {_METADATA: metadata}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a safetensors file and its notes (empty when another program wrote it). bfloat16, which numpy has not, becomes float32.

    Raises CorruptFile, naming the file, when it is truncated or any byte of it changed; OSError when it cannot be read; OutOfMemoryError. The
    header is checked against the file's size before anything is made from it.
    """
    with memory_for(given.path("files.read", "path", path), "read"), opened(path) as file:
        try:
            entries, metadata = _described(file)
            notes = json.loads(metadata.get("fastnn", "{}"))
            if not isinstance(notes, dict):
                raise ValueError(f"its notes are a {type(notes).__name__}")
            arrays = {name: _values(file, *entry) for name, entry in entries.items()}
            sound = not metadata.keys() & {"fastnn", "crc32"} or metadata.get("crc32") == _checksum(arrays, metadata.get("fastnn", "{}"))
        except MemoryError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        except Exception as error:  # whatever reading trips over, the file is at fault
            other = _other_format(file)
            wrong = f"not a whole safetensors file of dtypes that numpy knows ({_short(error)}); restore it from a copy"
            raise CorruptFile(f"{os.fspath(path)}: {other or wrong}") from error
    if not sound:
        raise CorruptFile(f"{os.fspath(path)}: contents and checksum differ; restore it from a copy")
    return arrays, notes


def _other_format(file: BinaryIO) -> str:
    """For a file that is none of ours: what it is, by its first bytes, and how its weights come over."""
    file.seek(0)
    start = file.read(9)
    pickled = start[:1] == b"\x80" and start[1:2] <= b"\x05" and start[8:] not in (b"", b"{")  # with which a header of ours begins
    kind = "a zip file, as torch.save writes it" if start[:4] == b"PK\x03\x04" else "a pickle" if pickled else ""
    with_torch = "model.load_state_dict(torch.load(path, weights_only=True)) takes the weights that PyTorch saved"
    return kind and f"{kind}, where a safetensors file is expected; {with_torch}"


def opened(path: str | os.PathLike[str]) -> io.BufferedReader:
    """To be read, not mapped: under a mapped file an error of the disk, or a program that shortens it meanwhile, ends the process. A pipe or a
    device, which may have no end, or say nothing ever, is refused."""
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "neither a file nor a folder", os.fspath(path))
    return open(path, "rb")  # the system's own words for a missing or unreadable file


def whole(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a file."""
    with memory_for(path, "read"), opened(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _described(file: BinaryIO) -> tuple[dict[str, tuple[str, list[int]]], dict[str, str]]:
    """Type and shape of each array, as they lie one behind the other, and the metadata. ValueError, or what else reading trips over, unless the
    header describes the file to the last byte."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(size - 8, _MOST_HEADER):
        raise ValueError(f"its header would have {length:,} bytes, the file has {size:,}")
    text = file.read(length)
    if text[:1] != b"{":
        raise ValueError("its header is no JSON object")
    header = json.loads(text.decode(), object_pairs_hook=_each_once)
    metadata = {} if header.get(_METADATA) is None else header[_METADATA]
    header.pop(_METADATA, None)
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no words")
    entries, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        kind, shape = entry["dtype"], entry["shape"]
        if not isinstance(kind, str) or kind not in _TYPES:
            raise ValueError(f"{name[:80]} is of dtype {given.shown(kind)}")
        if not isinstance(shape, list) or len(shape) > 64 or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
            raise ValueError(f"{name[:80]} has shape {given.shown(shape)}")
        begin, end = end, end + prod(shape) * np.dtype(_TYPES[kind]).itemsize
        if entry["data_offsets"] != [begin, end] or any(type(n) is not int for n in entry["data_offsets"]):
            raise ValueError(f"{name[:80]} lies at {given.shown(entry['data_offsets'])}; expected {[begin, end]}")
        entries[name] = kind, shape
    if 8 + length + end != size:
        raise ValueError(f"{8 + length + end:,} bytes are described, the file has {size:,}")
    return entries, metadata


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header has a name twice")
    return found


def _values(file: BinaryIO, kind: str, shape: list[int]) -> np.ndarray:
    """The next array of the file."""
    array: np.ndarray = np.empty(shape, _TYPES[kind])
    if file.readinto(_bytes(array)) != array.nbytes:  # type: ignore[attr-defined]
        raise ValueError("it became shorter while it was read")
    if kind != "BF16":
        return array
    wide = array.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


@contextmanager
def memory_for(path: str | os.PathLike[str], doing: str) -> Iterator[None]:
    """For want of memory inside the block an OutOfMemoryError that names the file and what was done with it ("written", "read"). One that names
    a file already stays: it is of a file inside the folder."""
    try:
        yield
    except (MemoryError, OSError) as error:
        if not _of_memory(error) or (isinstance(error, _C.OutOfMemoryError) and hasattr(error, "filename")):
            raise
        raise _out_of_memory(path, doing, error) from error


def reads(function: F) -> F:
    """A decorator of what reads the file or folder that is its first argument: for want of memory an OutOfMemoryError names it."""
    first = function.__code__.co_varnames[0]

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        with memory_for(args[0] if args else keywords.get(first, ""), "read"):
            return function(*args, **keywords)

    return call  # type: ignore[return-value]


def _of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)  # mmap's


def _out_of_memory(path: str | os.PathLike[str], doing: str, error: Exception) -> MemoryError:
    """Made here, not where it is raised: a frame that refers to its own error keeps what it holds until the collector comes."""
    wanted, (free, held) = requested(error), _free_and_held(error)
    words = f"{wanted} bytes requested, {free} free, {held} held by live arrays"
    told = _C.OutOfMemoryError(f"{os.fspath(path)}: out of memory while it was {doing}: {words}")
    told.requested, told.free, told.held = wanted, free, held
    vars(told)["filename"] = os.fspath(path)  # as an OSError has it
    return told


def requested(error: Exception) -> int:
    """Bytes that there were not; 0 when the error does not say it."""
    if isinstance(error, _C.OutOfMemoryError):
        return error.requested
    shape, dtype = getattr(error, "shape", None), getattr(error, "dtype", None)  # numpy's error has them
    return prod(shape) * dtype.itemsize if isinstance(shape, tuple) and isinstance(dtype, np.dtype) else 0


def _free_and_held(error: Exception) -> tuple[int, int]:
    if isinstance(error, _C.OutOfMemoryError):
        return error.free, error.held
    try:
        _C.empty((2**62,))  # larger than any memory: the core says what there is
    except _C.OutOfMemoryError as told:
        return told.free, told.held
    except MemoryError:  # not even for its answer
        pass
    return 0, 0


def room(size: int) -> bool:
    """Whether so many bytes could be had."""
    try:
        np.empty(size, np.uint8)
    except MemoryError:
        return False
    return True


def fault(path: str | os.PathLike[str], error: Exception, wrong: str, size: int = 0) -> Exception:
    """What to raise where a parser trips over `error`: a ValueError, the path and then `wrong`, if the file is at fault; an OutOfMemoryError
    where there are not even `size` bytes and some to spare, whatever the error says: zlib, tarfile and Pillow's decoders call a file
    damaged when it is memory that they lack."""
    if _of_memory(error) or not room(size + SPARE):
        return _out_of_memory(path, "read", error)
    return ValueError(f"{os.fspath(path)}: {wrong}")


@contextmanager
def reading(path: str | os.PathLike[str], wrong: str) -> Iterator[None]:
    """Whatever a parser trips over inside the block becomes one ValueError: the path, then `wrong` with the reason in place of {}. Errors of the
    disk stay OSErrors and get the path; for want of memory OutOfMemoryError."""
    try:
        yield
    except Exception as error:
        astray = (None, errno.EINVAL)  # a parser led astray seeks before the beginning: EINVAL
        if isinstance(error, OSError) and error.errno not in astray and not _of_memory(error):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise fault(path, error, wrong.format(_short(error))) from error


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
    target, renamed = os.fspath(path), False
    try:
        target = os.path.realpath(path)
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
    try:
        with suppress(OSError):
            os.unlink(temporary)
    finally:
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
        words.append(f"there is no folder {folder}" if (folder := os.path.dirname(target)) else "the current folder is gone")
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
        crc = zlib.crc32(_bytes(array), crc)
    return f"{crc:08x}"
