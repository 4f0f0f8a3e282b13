"""Runs one row of kernels.def, numpy in and numpy out, on a chosen table, and compares what it wrote with what it should have written."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn import _C, devices

Array = np.ndarray[Any, np.dtype[Any]]
Operand = Array | list[Array] | None

ROWS: dict[str, dict[str, Any]] = {row["name"]: row for row in _C.rows()}
FIXED_TYPES = {"f32": "float32", "f64": "float64", "bf16": "bfloat16", "i64": "int64", "u8": "uint8", "b8": "bool"}


class Table(NamedTuple):
    """An instruction set or a device, and the type computed in: one compilation of csrc/cpu or csrc/cuda."""

    where: str  # an instruction set of the CPU, or a device
    dtype: str
    precision: str = "highest"

    def __str__(self) -> str:
        text = f"{self.where}_{self.dtype.replace('bfloat', 'bf').replace('float', 'f')}"
        return text if self.precision == "highest" else f"{text}_{self.precision}"

    @property
    def device(self) -> str:
        return "cpu" if self.where in _C.isas() else self.where

    @property
    def name(self) -> str:
        """As the core calls it."""
        return str(self) if self.device == "cpu" else f"cuda_{self.dtype.replace('bfloat', 'bf').replace('float', 'f')}"


def _devices() -> list[str]:
    """Those that FASTNN_TEST_DEVICES names ("cpu,cuda-emulated"; all there are without it). "cuda-emulated" are the CUDA kernels compiled
    for the CPU by tests/cuda_on_cpu: FASTNN_CUDA_EMULATED says where."""
    emulated = os.environ.get("FASTNN_CUDA_EMULATED")
    if emulated:
        devices.open_emulated(emulated)
    there = ["cpu", *(["cuda"] if fastnn.cuda.is_available() else []), *(["cuda-emulated"] if emulated else [])]
    wanted = os.environ.get("FASTNN_TEST_DEVICES")
    return wanted.split(",") if wanted else there


DEVICES = _devices()
GPUS = [device for device in DEVICES if device != "cpu"]
# Those that multiply float32: avx512bf16 and amx have AVX-512's kernels unless the precision asks for less (test_cpu_precision.py).
FLOAT_ISAS = [isa for isa in _C.isas("float32") if isa not in ("avx512bf16", "amx")]
CPU_TABLES = [*(Table(isa, "float32") for isa in FLOAT_ISAS), Table("portable", "float64")] if "cpu" in DEVICES else []
NARROW_TABLES = [Table(isa, "bfloat16") for isa in (_C.isas("bfloat16") if "cpu" in DEVICES else [])]
NARROW_TABLES += [Table(device, "bfloat16") for device in GPUS]


# How GPUs make products: (dtype, precision, the algorithm's last word, gpu). The emulated ones are a Hopper and an Ampere.
def _ways() -> list[tuple[str, str, str, str]]:
    ways = []
    for gpu in GPUS:
        ways += [("float32", "highest", "ffma", gpu), ("float32", "high", "tf32x3", gpu), ("float32", "medium", "tf32", gpu)]
        groups = "capability 9.0" in fastnn.cuda.device_name(gpu)
        ways += [("bfloat16", "highest", "bf16_groups" if groups else "bf16", gpu)]
        ways += [("bfloat16", "highest", "bf16", f"{gpu}:1")] if gpu == "cuda-emulated" else []
    return ways


WAYS = _ways()
TABLES = [*CPU_TABLES, *(Table(device, "float32") for device in GPUS)]


@contextmanager
def using(table: Table) -> Iterator[None]:
    """Calls inside the block run on this table."""
    global _device
    before = _device, _C.isa(), _C.get_precision()
    _device = table.device
    if table.device == "cpu":
        _C.set_isa(table.where)
    _C.set_precision(table.precision)
    try:
        yield
    finally:
        _device = before[0]
        _C.set_isa(before[1])
        _C.set_precision(before[2])


_device = "cpu"


def plan(row: str, parameters: Sequence[Any], dtype: str = "float32") -> tuple[str, int]:
    """(algorithm, bytes of scratch) on the table in use."""
    return _C.plan(row, struct(row, parameters), dtype, _device)


def struct(row: str, parameters: Sequence[Any]) -> Any:
    return getattr(_C, ROWS[row]["struct"])(*parameters)


def word(multiply: str, *neighbours: int) -> str:
    """The algorithm's last word where so many elements lie side by side: warpgroups take their operands in 16 bytes."""
    return "bf16" if multiply == "bf16_groups" and any(n % 8 for n in neighbours) else multiply


def conv2d_word(multiply: str, geometry: Sequence[Any], direction: str) -> str:
    (_, channels, *_), (filters, per_group, *_) = geometry[:2]
    return word(multiply, per_group, *([] if direction == "forward" else [filters * per_group // channels if channels else 0]))


def operand_dtype(operand: dict[str, Any], dtype: str) -> str:
    computed = "float32" if dtype == "bfloat16" and operand["type"] == "R" else dtype
    return FIXED_TYPES.get(operand["type"], computed)


def call(
    row: str, parameters: Sequence[Any], operands: Sequence[Operand], dtype: str = "float32", shifted: bool = False
) -> dict[str, Array]:
    """What the row writes, by operand name ("w[0]", "w[1]" for lists), in the row's order. Inputs are checked to stay as they were."""
    given = iter(operands)
    arguments: list[Any] = []
    written: dict[str, Any] = {}
    inputs: list[tuple[str, Any, Array]] = []
    guards: list[tuple[str, Array]] = []
    outputs = []
    for operand in ROWS[row]["operands"]:
        name, direction = operand["name"], operand["direction"]
        if direction == "out":
            outputs.append(name)
            written[name] = None
            continue
        value = next(given)
        if value is None:
            arguments.append(None)
            continue
        kept = operand_dtype(operand, dtype)
        values = [np.asarray(v).astype("float32" if kept == "bfloat16" else kept) for v in (value if isinstance(value, list) else [value])]
        arrays = []
        for i, v in enumerate(values):
            element = f"{name}[{i}]" if operand["list"] else name
            if shifted and v.size and _device == "cpu" and kept != "bfloat16":  # numpy has none
                array, buffer = shifted_array(v)
                guards.append((element, buffer))
            else:
                array = _C.from_numpy(v, _device, kept)
                if shifted and v.size and _device != "cpu":
                    array = shifted_on_device(array)
                v = array.numpy()
            arrays.append(array)
            if direction == "inout":
                written[element] = array
            else:
                inputs.append((element, array, v))
        arguments.append(arrays if operand["list"] else arrays[0])
    returned = getattr(_C, row)(struct(row, parameters), *arguments)
    returned = returned if isinstance(returned, tuple) else () if returned is None else (returned,)
    written.update(zip(outputs, returned, strict=True))
    for name, array, before in inputs:
        assert bits(array.numpy()) == bits(before), f"{row} changed its input {name}"
    for name, buffer in guards:
        assert (buffer[:GUARD] == GUARD_BYTE).all() and (buffer[-GUARD:] == GUARD_BYTE).all(), f"{row} wrote beside {name}"
    return {name: np.array(array.numpy()) for name, array in written.items()}


GUARD, GUARD_BYTE = 256, 0xA5


def shifted_array(value: Array) -> tuple[Any, Array]:
    """The value in memory of numpy's, one element behind a 64-byte boundary, between two guards; and that memory."""
    memory_order = np.array(value.transpose(0, 2, 3, 1) if value.ndim == 4 else value, order="C")
    buffer = np.full(2 * GUARD + 128 + memory_order.nbytes, GUARD_BYTE, np.uint8)
    skip = -(buffer.ctypes.data + GUARD) % 64 + value.itemsize
    buffer = buffer[skip : skip + 2 * GUARD + memory_order.nbytes]
    view = buffer[GUARD : GUARD + memory_order.nbytes].view(value.dtype).reshape(memory_order.shape)
    view[...] = memory_order
    return _C.from_dlpack((view.transpose(0, 3, 1, 2) if value.ndim == 4 else view).__dlpack__()), buffer


class _Memory:
    """Some bytes of a device under another shape and type, for others to share."""

    def __init__(self, owner: Any, address: int, shape: tuple[int, ...], dtype: str) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "<V2" if dtype == "bfloat16" else np.dtype(dtype).str,
            "data": (address, False),
            "version": 3,
        }


def shifted_on_device(array: Any) -> Any:
    """The same values one element behind where the device's blocks begin."""
    item = array.nbytes // array.size
    block = _C.empty((array.nbytes + item,), "uint8", _device)
    flat, n = block.data_ptr + item, array.nbytes
    _C.from_cuda_array(_Memory(block, flat, (n,), "uint8"), _device).copy_from(
        _C.from_cuda_array(_Memory(array, array.data_ptr, (n,), "uint8"), _device).numpy()
    )
    shape = array.shape
    strides = [s * item for s in (_nhwc_strides(shape) if len(shape) == 4 else _row_major(shape))]
    memory = _Memory(block, flat, shape, array.dtype)
    memory.__cuda_array_interface__["strides"] = tuple(strides)
    return _C.from_cuda_array(memory, _device)


def _row_major(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def _nhwc_strides(shape: Sequence[int]) -> list[int]:
    _, c, h, w = shape
    return [h * w * c, 1, w * c, c]


def bits(x: Array) -> tuple[Any, ...]:
    return x.shape, x.dtype.str, np.ascontiguousarray(x).tobytes()


def same_bits(first: dict[str, Array], second: dict[str, Array]) -> bool:
    return first.keys() == second.keys() and all(bits(first[name]) == bits(second[name]) for name in first)


def ulps(got: Array, expected: Array) -> Array:
    """Distance in units of got's last place; expected is of a wider type. Denormals count as zero, NaN equals NaN."""
    info = np.finfo(got.dtype)
    tiny = expected.dtype.type(info.tiny)
    with np.errstate(all="ignore"):
        exact = np.where(np.abs(expected) < tiny, 0, expected)
        distance = np.abs(np.where(np.abs(got) < info.tiny, 0, got) - exact) / np.maximum(np.spacing(np.abs(exact.astype(got.dtype))), tiny)
        same = (np.isnan(got) & np.isnan(expected)) | (got == expected.astype(got.dtype))
        flushed = (got == 0) & (np.abs(exact) < tiny * (1 + expected.dtype.type(info.eps)))
    return np.where(same | flushed, 0, np.where(np.isfinite(distance), distance, np.inf)).astype(np.float64)


def assert_within(got: Array, expected: Array, tolerance: Any, what: str) -> None:
    """|got - expected| <= tolerance eps, elementwise; tolerance 0 asks for the expected value rounded once. Denormals count as zero."""
    expected = np.asarray(expected)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    if got.size == 0:
        return
    if not np.issubdtype(got.dtype, np.floating):
        wrong, error, allowed = (
            got != expected,
            np.abs(got.astype(np.int64) - expected.astype(np.int64)),
            np.zeros(got.shape),
        )
    else:
        info = np.finfo(got.dtype)
        with np.errstate(all="ignore"):
            rounded = expected.astype(got.dtype)
            error = np.abs(got.astype(np.float64) - expected)
            allowed = np.broadcast_to(np.asarray(tolerance, np.float64) * float(info.eps), got.shape)
            within = (allowed > 0) & (error <= allowed + float(info.tiny))
            flushed = (np.abs(got) < info.tiny) & (np.abs(rounded) < info.tiny)
        wrong = ~(within | flushed | (got == rounded) | (np.isnan(got) & np.isnan(expected)))
    if wrong.any():
        with np.errstate(all="ignore"):
            ratio = np.where(wrong, np.nan_to_num(error / np.maximum(allowed, 1e-300), nan=np.inf), -1)
        worst = np.unravel_index(int(np.argmax(ratio)), got.shape)
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {got.size} wrong; worst at {tuple(int(i) for i in worst)}: got {got[worst]}, "
            f"expected {expected[worst]}, error {error[worst]:.3g}, allowed {allowed[worst]:.3g}"
        )


def normwise(got: Array, expected: Array, axis: int) -> float:
    """The largest relative error in the 2-norm over slices along `axis` (output channels)."""
    rest = tuple(d for d in range(got.ndim) if d != axis)
    size = np.sqrt((expected**2).sum(rest))
    error = np.sqrt(((got.astype(np.float64) - expected) ** 2).sum(rest))
    return float(np.max(error / np.where(size > 0, size, math.inf), initial=0))
