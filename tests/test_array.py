"""The dense array: layout, views out and in without copies, lifetimes, dtypes, versions, memory."""

from __future__ import annotations

import ctypes
import gc
import io
import itertools
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import fastnn
from fastnn import _C, ops

SHAPES = [(), (5,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (1, 1, 4, 5), (3, 7, 1, 1), (2, 1, 3, 4, 2), (0,), (0, 3, 4, 5), (2, 0, 3, 3)]
NUMPY_DTYPES = [np.float32, np.float64, np.uint8, np.int64, np.bool_]


def counted(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


def memory_of(array: Any) -> np.ndarray:
    """The bytes as they lie, read through the bare address."""
    raw = (ctypes.c_char * array.nbytes).from_address(array.data_ptr)
    return np.frombuffer(bytes(raw), array.dtype)


# --- layout


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_rank_four_lies_channels_last_and_every_other_rank_row_major(dtype: Any) -> None:
    for shape in SHAPES:
        values = counted(shape, dtype)
        array = _C.from_numpy(values)
        expected = values.transpose(0, 2, 3, 1) if len(shape) == 4 else values
        assert array.shape == shape and array.dtype == np.dtype(dtype).name and array.size == values.size
        assert array.nbytes == values.nbytes
        assert memory_of(array).tolist() == expected.ravel().tolist()


def test_source_strides_do_not_matter() -> None:
    values = counted((2, 3, 4, 5))
    for source in (values, np.asfortranarray(values), values[::-1], values.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)):
        assert np.array_equal(_C.from_numpy(source).numpy(), source)
    assert np.array_equal(_C.from_numpy(values[:, ::2, ::-1]).numpy(), values[:, ::2, ::-1])


def test_lies_row_major_where_both_orders_agree() -> None:
    for shape in itertools.product((1, 2), repeat=4):
        values = counted(shape)
        agree = np.array_equal(values.transpose(0, 2, 3, 1).ravel(), values.ravel())
        assert _C.lies_row_major(shape) == agree, shape
    assert all(_C.lies_row_major(s) for s in [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5, 6)])


def test_view_shares_bytes_and_refuses_to_permute() -> None:
    a = _C.from_numpy(counted((2, 12)))
    b = a.view((2, 1, 3, 4))
    assert b.data_ptr == a.data_ptr and np.array_equal(b.numpy().ravel(), np.arange(24))
    b.copy_from(np.zeros(b.shape, np.float32))
    assert not a.numpy().any() and a.version == b.version == 1
    with pytest.raises(ValueError, match="permute"):
        a.view((2, 3, 2, 2))
    with pytest.raises(ValueError, match=r"\(2, 12\) as \(5, 5\)"):
        a.view((5, 5))


def test_alignment_and_memory_are_those_of_the_arena() -> None:
    for n in (1, 17, 1000, 300_000, 3_000_000):
        assert _C.empty((n,)).data_ptr % 64 == 0


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        _C.empty((2, -1))
    with pytest.raises(fastnn.OutOfMemoryError, match="larger than any memory"):
        _C.empty((2**40, 2**40))
    with pytest.raises(MemoryError):
        _C.empty((2**45,))
    with pytest.raises(ValueError, match="rank 9"):
        _C.from_numpy(np.zeros((1,) * 9, np.float32))
    with pytest.raises(ValueError, match="float16.*not one of"):
        _C.from_numpy(np.zeros(3, np.float16))
    with pytest.raises(ValueError, match="float8.*not one of"):
        _C.empty((3,), "float8")


# --- out: numpy, buffer protocol, __array_interface__, DLPack


@pytest.mark.parametrize("shape", SHAPES)
def test_numpy_is_a_read_only_view(shape: tuple[int, ...]) -> None:
    values = counted(shape)
    t = fastnn.tensor(values)
    view = t.numpy()
    assert np.array_equal(view, values) and view.shape == shape
    assert view.size == 0 or view.ctypes.data == t._array.data_ptr
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view[...] = 0
    if len(shape) == 4 and values.size:
        assert view.transpose(0, 2, 3, 1).flags.c_contiguous


def test_every_view_shares_memory_and_outlives_its_array() -> None:
    values = counted((2, 3, 4, 5))

    def views() -> dict[str, np.ndarray]:
        array = _C.from_numpy(values)
        address = array.data_ptr
        t = fastnn.Tensor(array)
        made = {
            "numpy": array.numpy(),
            "buffer": np.asarray(memoryview(array)),
            "asarray": np.asarray(array),
            "interface": np.asarray(type("Holder", (), {"__array_interface__": array.__array_interface__, "owner": array})()),
            "__array__": np.asarray(t),
            "np.from_dlpack": np.from_dlpack(t),
            "torch.from_dlpack": torch.from_dlpack(t).numpy(),
        }
        for name, view in made.items():
            assert view.ctypes.data == address, f"{name} is a copy"
        return made

    for name in views():
        gc.collect()  # what earlier tests left
        before = fastnn.memory_stats()["allocated"]
        view = views()[name]  # every other view and the array are gone
        gc.collect()
        others = [_C.empty(values.shape) for _ in range(8)]  # would take the block if it were free
        for other in others:
            other.copy_from(np.full(values.shape, -1, np.float32))
        assert np.array_equal(view, values), f"{name} lost its memory"
        del view, other, others
        gc.collect()
        assert fastnn.memory_stats()["allocated"] == before, f"{name} keeps memory alive"


def test_buffer_protocol_refuses_what_would_scramble() -> None:
    array = _C.from_numpy(counted((2, 3, 4, 5)))
    view = memoryview(array)
    assert (view.shape, view.format, view.readonly) == ((2, 3, 4, 5), "f", True)
    assert view.strides == (240, 4, 60, 12)
    with pytest.raises(BufferError):
        io.BytesIO().write(array)  # asks for contiguous bytes, which would be N, H, W, C
    plain = _C.from_numpy(counted((4, 5)))
    file = io.BytesIO()
    file.write(plain)
    assert file.getvalue() == counted((4, 5)).tobytes()


def test_the_array_interface_outlives_the_view_that_it_was_asked_of() -> None:
    """Where Python fills what was freed."""
    code = "from fastnn import _C; print(_C.empty((2, 3)).__array_interface__['shape'])"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONMALLOC": "debug"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "(2, 3)\n"), done.stderr


def test_array_interface_says_what_numpy_needs() -> None:
    array = _C.from_numpy(counted((2, 3, 4, 5)))
    interface = array.__array_interface__
    assert interface["data"] == (array.data_ptr, True)
    assert interface["shape"] == (2, 3, 4, 5) and interface["strides"] == (240, 4, 60, 12) and interface["typestr"] == "<f4"


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_dlpack_out_has_dtype_shape_and_strides(shape: tuple[int, ...], dtype: Any) -> None:
    values = counted(shape, dtype)
    t = fastnn.Tensor(_C.from_numpy(values))
    assert t.__dlpack_device__() == (1, 0)
    theirs = torch.from_dlpack(t)
    assert theirs.dtype == torch.from_numpy(np.empty(0, dtype)).dtype
    assert np.array_equal(theirs.numpy(), values)
    if values.size:
        assert theirs.data_ptr() == t._array.data_ptr
    ours = np.from_dlpack(t)
    assert ours.dtype == np.dtype(dtype) and np.array_equal(ours, values)
    if len(shape) == 4 and values.size:
        assert theirs.is_contiguous(memory_format=torch.channels_last)


def test_dlpack_out_copies_when_asked() -> None:
    t = fastnn.tensor(counted((2, 3, 4, 5)))
    copy = np.from_dlpack(t, copy=True)
    assert copy.ctypes.data != t._array.data_ptr and np.array_equal(copy, t.numpy())
    with pytest.raises(BufferError, match="lies on cpu"):
        t.__dlpack__(dl_device=(2, 0))


def test_dlpack_capsule_never_consumed_frees_its_memory() -> None:
    before = fastnn.memory_stats()["allocated"]
    capsule = fastnn.tensor(counted((100,))).__dlpack__()
    assert fastnn.memory_stats()["allocated"] > before
    del capsule
    assert fastnn.memory_stats()["allocated"] == before


def test_array_protocol_honours_dtype_and_copy() -> None:
    t = fastnn.tensor(counted((3, 4)))
    assert np.asarray(t, np.float64).dtype == np.float64
    assert np.array(t).ctypes.data != t._array.data_ptr and np.array(t).flags.writeable
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        assert np.asarray(t, copy=False).ctypes.data == t._array.data_ptr
        with pytest.raises(ValueError, match="copy"):
            np.asarray(t, dtype=np.float64, copy=False)


# --- in: from_dlpack


def test_from_dlpack_shares_numpy_memory_until_it_is_let_go() -> None:
    source = counted((3, 4))
    t = fastnn.from_dlpack(source)
    assert t._array.data_ptr == source.ctypes.data and t.shape == (3, 4) and t.dtype == "float32"
    source[0, 0] = 7
    assert t.numpy()[0, 0] == 7
    expected = source.copy()
    del source
    gc.collect()
    junk = [np.full((3, 4), -1, np.float32) for _ in range(50)]
    assert np.array_equal(t.numpy(), expected) and len(junk) == 50


def test_from_dlpack_releases_the_source() -> None:
    released = []

    class Watched(np.ndarray):
        def __del__(self) -> None:
            released.append(True)

    source = counted((3, 4)).view(Watched)
    t = fastnn.from_dlpack(source)
    view = t.numpy()
    del source, t
    assert not released, "the view still reads this memory"
    del view
    gc.collect()
    assert released


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool])
def test_from_dlpack_shares_torch_channels_last(dtype: torch.dtype) -> None:
    source = torch.arange(120).reshape(2, 3, 4, 5).to(dtype).contiguous(memory_format=torch.channels_last)
    t = fastnn.from_dlpack(source)
    assert t._array.data_ptr == source.data_ptr() and t.shape == (2, 3, 4, 5)
    assert np.array_equal(t.numpy(), source.numpy())
    source.zero_()
    assert not t.numpy().any()


def test_from_dlpack_takes_either_order_where_they_agree() -> None:
    for shape in [(2, 1, 4, 5), (2, 7, 1, 1), (1, 1, 1, 1)]:
        source = torch.arange(float(np.prod(shape)), dtype=torch.float32).reshape(shape)
        t = fastnn.from_dlpack(source)
        assert t._array.data_ptr == source.data_ptr() and np.array_equal(t.numpy(), source.numpy())


@pytest.mark.parametrize(
    "source",
    [
        counted((2, 3, 4, 5)),
        torch.zeros(2, 3, 4, 5),
        counted((3, 4)).T,
        counted((6, 4))[::2],
        np.broadcast_to(np.float32(1), (3, 4)).copy()[:, ::-1],
    ],
    ids=["numpy NCHW", "torch NCHW", "transposed", "every other row", "backwards"],
)
def test_from_dlpack_names_the_copy_where_strides_do_not_fit(source: Any) -> None:
    with pytest.raises(ValueError, match=r"stride.*fastnn\.tensor\(a\) makes a copy"):
        fastnn.from_dlpack(source)
    copy = fastnn.tensor(source)
    assert np.array_equal(copy.numpy(), np.asarray(source))


def test_a_tensor_of_ours_is_shared_with_its_versions() -> None:
    w = fastnn.tensor([1.0, 2.0], requires_grad=True)
    shared, loss = fastnn.from_dlpack(w.detach()), (w * w).sum()
    shared.copy_from([5.0, 6.0])
    with pytest.raises(RuntimeError, match="was overwritten after the forward pass"):
        loss.backward()
    with pytest.raises(
        BufferError, match=r"a Tensor that requires a gradient is not shared, .*; x.detach\(\) is, x.numpy\(\) is read-only"
    ):
        np.from_dlpack(w)


def test_an_empty_array_has_strides_too() -> None:
    """None of which may be larger than a number can be."""
    with pytest.raises(fastnn.OutOfMemoryError, match=r"shape \(0, 1099511627776, 1099511627776\) is larger than any memory"):
        ops.broadcast_to(fastnn.tensor(np.zeros((0, 1, 1))), (0, 2**40, 2**40))
    assert ops.broadcast_to(fastnn.tensor(np.zeros((0, 1, 1))), (0, 2**20, 2**20)).shape == (0, 2**20, 2**20)


def test_from_dlpack_refuses_dtypes_it_does_not_have() -> None:
    for source in (torch.zeros(3, dtype=torch.complex64), np.zeros(3, np.int32), np.zeros(3, np.float16), np.zeros(3, np.complex64)):
        with pytest.raises(TypeError, match="convert to float32, float64, uint8, int64 or bool"):
            fastnn.from_dlpack(source)


def test_bfloat16_comes_and_goes_by_dlpack_and_is_shown_as_float32() -> None:
    source = torch.randn(2, 3, 4, 5).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    shared = fastnn.from_dlpack(source)
    assert shared.dtype == "bfloat16" and shared.numpy().dtype == np.float32
    assert np.array_equal(shared.numpy(), source.float().numpy())
    assert torch.equal(torch.from_dlpack(shared), source)
    values = np.array([1, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, np.nan, 3e38, 1e-40], np.float32)  # ties go to even
    assert np.array_equal(_C.from_numpy(values, dtype="bfloat16").numpy(), torch.tensor(values).bfloat16().float().numpy(), equal_nan=True)


def test_memory_shared_by_dlpack_computes() -> None:
    source = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    t = fastnn.from_dlpack(source)
    t.requires_grad = True
    y = (t * t).sum()
    y.backward()
    assert t.grad is not None and np.array_equal(t.grad.numpy(), 2 * source.numpy())
    offset = fastnn.from_dlpack(torch.arange(10.0)[3:])  # not aligned to 64 bytes
    assert (offset + 1.0).numpy().tolist() == [4, 5, 6, 7, 8, 9, 10]


# --- versions


def test_writes_raise_the_version_and_reads_do_not() -> None:
    t = fastnn.tensor(counted((3, 4)))
    t.numpy(), t + 1.0, t.sum(), t.detach(), t.reshape(12)
    assert t._array.version == 0
    t.copy_from(np.ones((3, 4)))
    assert t._array.version == 1 and t.numpy().all()
    shared = t.reshape(12)
    shared.copy_from(np.zeros(12))
    assert t._array.version == 2, "a reshape shares bytes, so it must share the version"


def test_copy_from_refuses_other_shapes_and_lossy_types() -> None:
    t = fastnn.tensor(counted((3, 4)))
    with pytest.raises(ValueError, match=r"copy_from: got shape \(4,\) of float64; expected \(3, 4\) of numbers"):
        t.copy_from(np.ones(4))
    labels = fastnn.tensor(np.arange(3))
    with pytest.raises(TypeError, match="copy_from: got float64; expected integers, of which this Tensor of int64 is"):
        labels.copy_from(np.array([0.5, 1.5, 2.5]))
    assert t._array.version == labels._array.version == 0


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "uint64", ">i4", "bool"])
def test_copy_from_takes_integers_of_any_width_that_fit(dtype: str) -> None:
    for mine in ("uint8", "int64", "float32", "bfloat16"):
        t = fastnn.tensor(np.zeros(3), mine)
        t.copy_from(np.array([1, 0, 1], dtype))
        assert t.numpy().tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"copy_from: 300 at \(1,\) is no uint8; expected 0 to 255"):
        fastnn.tensor([1, 2], "uint8").copy_from([1, 300])


# --- memory


def test_memory_is_counted_reused_and_its_peak_kept() -> None:
    size = 3_000_000
    _C.empty_cache()
    _C.reset_peak_memory()
    start = fastnn.memory_stats()
    array = _C.empty((size // 4,))
    during = fastnn.memory_stats()
    assert size <= during["allocated"] - start["allocated"] <= 1.125 * size + 128
    assert during["allocations"] == start["allocations"] + 1 and during["reused"] == start["reused"]
    address = array.data_ptr
    del array
    after = fastnn.memory_stats()
    assert after["allocated"] == start["allocated"] and after["reserved"] == during["reserved"]
    assert after["peak"] == during["allocated"]
    again = _C.empty((size // 4 - 7,))
    assert again.data_ptr == address, "a free block of that size was not reused"
    assert fastnn.memory_stats()["reused"] == after["reused"] + 1
    assert fastnn.memory_stats()["reserved"] == after["reserved"]
    del again
    _C.reset_peak_memory()
    assert fastnn.memory_stats()["peak"] == fastnn.memory_stats()["allocated"]
    _C.empty_cache()
    assert fastnn.memory_stats()["reserved"] <= after["reserved"] - size


def test_item_needs_one_element() -> None:
    assert fastnn.tensor(2.5).item() == 2.5 and isinstance(fastnn.tensor([[3]]).item(), int)
    assert float(fastnn.tensor([1.5])) == 1.5 and int(fastnn.tensor(3)) == 3 and bool(fastnn.tensor(True)) is True
    with pytest.raises(ValueError, match=r"one element, got shape \(2,\)"):
        fastnn.tensor([1.0, 2.0]).item()


# --- what is refused where it was not looked at


def test_no_address_of_a_copy_that_is_gone() -> None:
    with pytest.raises(AttributeError, match="numpy\\(\\) copies"):
        _ = _C.from_numpy(np.arange(8.0), dtype="bfloat16").__array_interface__
    assert _C.from_numpy(np.arange(8.0)).__array_interface__["shape"] == (8,)


def test_narrow_arrays_are_overwritten_from_numpy() -> None:
    array = _C.from_numpy(np.zeros(4, np.float32), dtype="bfloat16")
    version = array.version
    array.copy_from(np.array([1, 2.5, 1e30, -3], np.float32))
    assert array.numpy().tolist() == [1.0, 2.5, pytest.approx(1e30, rel=4e-3), -3.0] and array.version > version


def test_an_array_that_was_never_made() -> None:
    nothing = _C.Array.__new__(_C.Array)
    for name in ("shape", "dtype", "version"):
        with pytest.raises(TypeError, match="never made"):
            getattr(nothing, name)


def test_memory_off_the_boundary_of_its_elements_is_refused() -> None:
    bytes_before = np.zeros(129, np.uint8)[1:]
    with pytest.raises(ValueError, match="from_dlpack: its memory begins [123] bytes behind a boundary of its elements; fastnn.tensor"):
        fastnn.from_dlpack(bytes_before.view(np.float32))


class Lying:
    """Whose capsule says what it likes."""

    class Tensor(ctypes.Structure):
        _fields_ = (
            *[("data", ctypes.c_void_p), ("device", ctypes.c_int32 * 2), ("ndim", ctypes.c_int32), ("type", ctypes.c_uint8 * 4)],
            *[("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p), ("offset", ctypes.c_uint64), ("context", ctypes.c_void_p * 2)],
        )

    def __init__(self, ndim: int, shape: tuple[int, ...], strides: tuple[int, ...] | None) -> None:
        self.memory = np.ones(8, np.float32)
        self.shape, self.strides = (ctypes.c_int64 * 2)(*shape), (ctypes.c_int64 * 2)(*(strides or ()))
        where = ctypes.addressof(self.strides) if strides else None
        self.tensor = self.Tensor(self.memory.ctypes.data, (1, 0), ndim, (2, 32, 1, 0), ctypes.addressof(self.shape), where, 0)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: Any) -> Any:
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.tensor), b"dltensor", None)


@pytest.mark.parametrize(
    ("ndim", "shape", "strides", "error", "words"),
    [
        (-1, (3,), None, ValueError, "from_dlpack: rank -1; expected 0 to 8"),
        (9, (3,), None, ValueError, "from_dlpack: rank 9; expected 0 to 8"),
        (2, (2**32, 2**32), (0, 0), fastnn.OutOfMemoryError, "is larger than any memory"),
        (1, (2**62,), None, fastnn.OutOfMemoryError, "is larger than any memory"),
        (1, (2**62,), (1,), fastnn.OutOfMemoryError, "is larger than any memory"),
        (2, (2**32, 2**32), None, fastnn.OutOfMemoryError, "is larger than any memory"),
        (1, (-3,), None, ValueError, "from_dlpack: a dimension of size -3"),
    ],
)
def test_what_no_memory_can_be(
    ndim: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, error: type[Exception], words: str
) -> None:
    right, wrong = Lying(1, (8,), None), Lying(ndim, shape, strides)  # which own the bytes
    assert fastnn.from_dlpack(right).numpy().tolist() == [1.0] * 8
    with pytest.raises(error, match=words):
        fastnn.from_dlpack(wrong)
