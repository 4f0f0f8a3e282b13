"""Runs one row of kernels.def, numpy in and numpy out, on a chosen table, and compares what it wrote with what it should have written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn import _C

Array = np.ndarray[Any, np.dtype[Any]]
Operand = Array | list[Array] | None

ROWS: dict[str, dict[str, Any]] = {row["name"]: row for row in _C.rows()}
FIXED_TYPES = {"f32": "float32", "f64": "float64", "i64": "int64", "u8": "uint8"}


class Table(NamedTuple):
    """An instruction set and the type computed in: one compilation of csrc/cpu."""

    isa: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.isa}_{self.dtype.replace('float', 'f')}"


TABLES = [*(Table(isa, "float32") for isa in _C.isas()), Table("portable", "float64")]


def struct(row: str, parameters: Sequence[Any]) -> Any:
    return getattr(_C, ROWS[row]["struct"])(*parameters)


def operand_dtype(operand: dict[str, Any], dtype: str) -> str:
    return FIXED_TYPES.get(operand["type"], dtype)


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
        values = [np.asarray(v).astype(operand_dtype(operand, dtype)) for v in (value if isinstance(value, list) else [value])]
        arrays = []
        for i, v in enumerate(values):
            element = f"{name}[{i}]" if operand["list"] else name
            if shifted and v.size:
                array, buffer = shifted_array(v)
                guards.append((element, buffer))
            else:
                array = _C.from_numpy(v)
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
