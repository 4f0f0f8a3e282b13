"""Files of torch.save, read without PyTorch and without running anything: of the pickle inside, which is a program, the operations that a dict of
tensors needs are carried out (see data/cifar_pickle.py), all others are refused. Tensors are looked up in the file's own bytes, which bound them.
"""

from __future__ import annotations

import io
import os
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import files
from ..arguments import shown
from ..data.cifar_pickle import _MOST_OPERATIONS, _Callable, _Machine, _of, _text

LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # the number that began files before PyTorch 1.6, pickled
_TYPES = {
    **{"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2", "BoolStorage": "?"},
    **{"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1"},
}
_MOST_RANK = 8


@dataclass(frozen=True)
class _Storage:
    """Numbers that lie one behind the other: which, of what type, how many."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """What `_rebuild_tensor_v2` is told: a storage, where in it the tensor begins, shape, and steps from one element to the next."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def values(self, numbers: np.ndarray) -> np.ndarray:
        """A copy of its own, row-major. ValueError where it would reach beyond the storage, or have more elements than that."""
        sizes = (self.offset, *self.shape, *self.strides)
        if not all(type(n) is int and 0 <= n < 2**48 for n in sizes) or not len(self.shape) == len(self.strides) <= _MOST_RANK:
            raise ValueError(f"a tensor of shape {shown(self.shape)} with steps {shown(self.strides)}")
        count = 1
        for n in self.shape:
            count *= n
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides))
        if count > len(numbers) or (count and last >= len(numbers)):
            raise ValueError(f"a tensor of shape {self.shape} in a storage of {len(numbers)} numbers")
        steps = tuple(step * numbers.itemsize for step in self.strides)
        begun = numbers[self.offset :] if count else numbers[:0]
        found: np.ndarray = np.lib.stride_tricks.as_strided(begun, self.shape, steps).copy("C")
        return _float32(found) if self.storage.kind == "BFloat16Storage" else found


def _float32(halves: np.ndarray) -> np.ndarray:
    """bfloat16, which numpy has not: the upper half of a float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class _Kind:
    """torch.FloatStorage and its like, named as an argument."""

    name: str


class _Reader(_Machine):
    """The stack machine, for what torch.save writes: dicts, of which an OrderedDict is one, tensors by their storage, and what a training keeps
    beside them, as long as it is words, numbers, lists and dicts."""

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("GLOBAL", "STACK_GLOBAL"):
            called = argument if name == "GLOBAL" else f"{_text(stack.pop(-2))} {_text(stack.pop())}"
            stack.append(_known(called))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self.to_mark()
            into = _of(dict, self.stack[-1])
            if len(items) % 2 or not all(isinstance(key, (str, int)) for key in items[::2]):  # an optimizer's state has numbers for keys
                raise ValueError("holds a key that is neither a name nor a number")
            into.update(zip(items[::2], items[1::2]))
        elif name == "BUILD" and isinstance(stack[-2], dict):
            stack.pop()  # an OrderedDict's attributes: versions of modules
        elif name == "EMPTY_SET":
            stack.append([])
        else:
            super().step(name, argument)


def _known(called: str) -> Any:
    module, _, name = called.partition(" ")
    if module in ("torch", "torch.storage") and name in _TYPES:
        return _Kind(name)
    if called in _CALLED:
        return _Callable(_CALLED[called])
    what = f"asks for {called.replace(' ', '.', 1)[:80]}, which is no part of a dict of tensors: refused"
    raise ValueError(f"{what}; in PyTorch, torch.save(model.state_dict(), path) writes one")


def _ordered(items: Any = ()) -> dict[Any, Any]:
    if any(type(item) not in (tuple, list) or len(item) != 2 or not isinstance(item[0], (str, int)) for item in _of(type(items), items)):
        raise ValueError("an OrderedDict of what are no pairs")
    return dict(items)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(_of(_Storage, storage), offset, _of(tuple, shape), _of(tuple, strides))


def _parameter(tensor: Any, *_: Any) -> _Tensor:
    found: _Tensor = _of(_Tensor, tensor)
    return found


_CALLED: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}


def _storage(named: Any) -> _Storage:
    """('storage', type, key, where it lay, count), and in old files what it is a view of."""
    if not isinstance(named, tuple) or len(named) not in (5, 6) or named[0] != "storage" or not isinstance(named[1], _Kind):
        raise ValueError("refers to an object outside of the file: refused")
    if type(named[4]) is not int or named[4] < 0 or named[5:] not in ((), (None,)):
        raise ValueError("has a storage of no size, or a view of another")
    return _Storage(named[1].name, _text(named[2]), named[4])


def _object(file: io.BytesIO | Any) -> Any:
    """What the next pickle in the file makes."""
    machine = _Reader()
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if count > _MOST_OPERATIONS:
            raise ValueError(f"has more than {_MOST_OPERATIONS:,} operations")
        machine.step(operation.name, argument)
    return machine.stack.pop()


def is_torch(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as torch.save begins one."""
    with files.opened(path) as file:
        start = file.read(len(LEGACY))
    return start[:4] == b"PK\x03\x04" or start == LEGACY


@files.reads
def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file of torch.save(model.state_dict()), by name, also where they lie in a checkpoint's "state_dict", "model" or the like.
    bfloat16 becomes float32. CorruptFile, naming the file, for anything else: nothing in it is run."""
    data = files.whole(path)
    try:
        return _legacy(data) if data.startswith(LEGACY) else _zipped(data)
    except (MemoryError, files.CorruptFile):
        raise
    except Exception as error:  # zip files and pickles have a dozen ways to be damaged
        words = " ".join(str(error).split()) or type(error).__name__
        raise files.CorruptFile(f"{os.fspath(path)}: no file of torch.save with tensors by name ({words[:300]})") from error


def _zipped(data: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        root = next((name.removesuffix("data.pkl") for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if root is None:
            raise ValueError("a zip file without data.pkl, by which torch.save begins")

        def stored(name: str) -> bytes:
            info = entries.get(root + name)
            if info is None or info.compress_type != zipfile.ZIP_STORED:  # what is packed may unpack to anything
                raise ValueError(f"{root + name} is missing, or packed, as torch.save writes none")
            return archive.read(info)

        if f"{root}byteorder" in entries and stored("byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        state = _state(_object(io.BytesIO(stored("data.pkl"))))
        return _arrays(state, lambda storage: stored(f"data/{storage.key}"))


def _legacy(data: bytes) -> dict[str, np.ndarray]:
    """The number, a version, the machine; the object; the storages' keys; each storage: its count in 8 bytes, then the numbers."""
    file = io.BytesIO(data)
    _, _, machine, found, keys = (_object(file) for _ in range(5))
    if not _of(dict, machine).get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    state = _state(found)
    sizes = {tensor.storage.key: np.dtype(_TYPES[tensor.storage.kind]).itemsize for tensor in state.values()}
    places: dict[str, slice] = {}
    for key in _of(list, keys):
        count = int.from_bytes(file.read(8), "little")
        if key not in sizes:
            raise ValueError(f"has a storage {shown(key)} that is of none of the tensors found")
        places[key] = slice(file.tell(), file.tell() + count * sizes[key])
        file.seek(count * sizes[key], io.SEEK_CUR)
    return _arrays(state, lambda storage: data[places[storage.key]])


def _arrays(state: Mapping[str, _Tensor], bytes_of: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    held: dict[_Storage, np.ndarray] = {}
    for tensor in state.values():
        if tensor.storage not in held:
            data, kind = bytes_of(tensor.storage), np.dtype(_TYPES[tensor.storage.kind])
            if len(data) != tensor.storage.count * kind.itemsize:
                raise ValueError(f"storage {tensor.storage.key[:40]} has {len(data):,} bytes, {tensor.storage.count:,} numbers are said")
            held[tensor.storage] = np.frombuffer(data, kind)
    return {name: tensor.values(held[tensor.storage]) for name, tensor in state.items()}


def _state(found: Any) -> dict[str, _Tensor]:
    """The dict of tensors: the object itself, or what a checkpoint calls state_dict, model or the like."""
    if not isinstance(found, dict):
        raise ValueError(f"holds a {type(found).__name__.strip('_')}, no dict of tensors")
    tensors = {key: value for key, value in found.items() if isinstance(value, _Tensor) and isinstance(key, str)}
    if tensors:
        return tensors
    for name in ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params"):
        if isinstance(found.get(name), dict):
            return _state(found[name])
    raise ValueError(f"holds no tensors by name; its keys are {', '.join(str(key)[:40] for key in list(found)[:10]) or 'none'}")
