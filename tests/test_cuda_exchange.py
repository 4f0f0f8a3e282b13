"""Arrays that cross to other libraries and back without a copy: DLPack and __cuda_array_interface__, on every device besides the CPU.

Other libraries are stood in for by objects with their protocols over memory of ours; on a GPU PyTorch comes itself.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import pytest
from kernel_calls import GPUS

import fastnn
from fastnn import _C, devices

every_gpu = pytest.mark.parametrize("gpu", GPUS)
on_the_emulator = pytest.mark.parametrize("gpu", [gpu for gpu in GPUS if gpu != "cuda"])  # handles of nothing would crash a real driver
NO_STREAM = 123456
SHAPES: list[tuple[int, ...]] = [(), (0,), (7,), (3, 0, 2), (4, 5), (2, 3, 4, 5), (2, 1, 3, 4)]


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def allocated(gpu: str) -> int:
    gc.collect()
    return fastnn.memory_stats(devices.resolve(gpu))["allocated"]


# --- DLPack, out


def name_of(capsule: Any) -> str:
    return repr(capsule).split('"')[1]


@every_gpu
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dlpack_and_back(gpu: str, shape: tuple[int, ...]) -> None:
    x = fastnn.tensor(values(*shape), device=gpu)
    back = fastnn.from_dlpack(x)
    assert back.device == x.device and back.shape == shape and np.array_equal(back.numpy(), x.numpy())
    assert not x.size or back._array.data_ptr == x._array.data_ptr


@every_gpu
def test_device_and_versions(gpu: str) -> None:
    x = fastnn.tensor(values(3), device=gpu)
    assert x.__dlpack_device__() == ((2 if gpu == "cuda" else 12), 0)
    for version, name in ((None, "dltensor"), ((0, 8), "dltensor"), ((1, 0), "dltensor_versioned"), ((1, 9), "dltensor_versioned")):
        assert name_of(x.__dlpack__(max_version=version)) == name
        assert np.array_equal(_C.from_dlpack(x.__dlpack__(max_version=version)).numpy(), x.numpy())


@every_gpu
def test_a_capsule_is_used_once(gpu: str) -> None:
    for version in (None, (1, 0)):
        capsule = fastnn.tensor(values(3), device=gpu).__dlpack__(max_version=version)
        _C.from_dlpack(capsule)
        assert name_of(capsule).startswith("used_dltensor")
        with pytest.raises(ValueError, match="from_dlpack: the capsule was taken already"):
            _C.from_dlpack(capsule)


@every_gpu
def test_the_consumers_stream(gpu: str) -> None:
    """None and 1 are the legacy default stream, 2 the thread's, -1 asks for no order; 0 could be either of the former."""
    x, side = fastnn.tensor(values(3), device=gpu), fastnn.cuda.Stream(gpu)
    for stream in (None, -1, 1, 2, side.cuda_stream, _C.current_stream(x.device)):
        assert np.array_equal(_C.from_dlpack(x.__dlpack__(stream=stream)).numpy(), x.numpy())
    for stream in (0, -2):
        with pytest.raises(ValueError, match=rf"__dlpack__: stream {stream}; 1 is the legacy default stream, 2 the thread's"):
            x.__dlpack__(stream=stream)
    with pytest.raises(ValueError, match="no stream"):
        x.cpu().__dlpack__(stream=1)


@on_the_emulator
def test_the_consumers_stream_waits(gpu: str) -> None:
    x = fastnn.tensor(values(3), device=gpu)
    with pytest.raises(fastnn.DeviceError, match="make a stream wait for an event"):
        x.__dlpack__(stream=NO_STREAM)
    with fastnn.cuda.stream(fastnn.cuda.Stream(gpu)):  # the current stream is what it waits for
        x.exp().__dlpack__(stream=1)


@every_gpu
def test_copies_and_other_devices(gpu: str) -> None:
    x = fastnn.tensor(values(2, 3, 4, 5), device=gpu)
    here = _C.from_dlpack(x.__dlpack__(dl_device=(1, 0), max_version=(1, 0)))
    assert here.device == "cpu" and np.array_equal(here.numpy(), x.numpy())
    copy = _C.from_dlpack(x.__dlpack__(copy=True))
    assert copy.device == x.device and copy.data_ptr != x._array.data_ptr and np.array_equal(copy.numpy(), x.numpy())
    same = _C.from_dlpack(x.__dlpack__(copy=False, dl_device=x.__dlpack_device__()))
    assert same.data_ptr == x._array.data_ptr
    with pytest.raises(BufferError, match=r"lies on .*:0, .* cannot be handed to device \(1, 0\) without a copy"):
        x.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(BufferError, match=r"cannot be handed to device \(2, 7\)"):
        x.__dlpack__(dl_device=(2, 7))


@every_gpu
def test_memory_lives_as_long_as_the_last_who_has_it(gpu: str) -> None:
    before = allocated(gpu)
    for version in (None, (1, 0)):
        x = fastnn.tensor(values(1000), device=gpu)
        capsule = x.__dlpack__(max_version=version)
        del x
        assert allocated(gpu) > before
        there = _C.from_dlpack(capsule)
        del capsule
        assert allocated(gpu) > before and np.array_equal(there.numpy(), values(1000))
        del there
        assert allocated(gpu) == before
        capsule = fastnn.tensor(values(1000), device=gpu).__dlpack__(max_version=version)
        del capsule  # nobody took it
        assert allocated(gpu) == before


# --- DLPack, in


class Producer:
    """Of another library: notes what it is asked for. One from before DLPack 1.0 knows of streams alone."""

    def __init__(self, array: Any, modern: bool) -> None:
        self.array, self.modern, self.asked = array, modern, dict[str, Any]()

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.array.__dlpack_device__()
        return device

    def __dlpack__(self, **keywords: Any) -> Any:
        if not self.modern and keywords.keys() - {"stream"}:
            raise TypeError("unexpected keyword argument")
        self.asked = keywords
        return self.array.__dlpack__(**keywords)


@every_gpu
@pytest.mark.parametrize("modern", [True, False])
def test_producers_are_told_our_stream(gpu: str, modern: bool) -> None:
    producer = Producer(fastnn.tensor(values(4, 5), device=gpu), modern)
    side = fastnn.cuda.Stream(gpu)
    with fastnn.cuda.stream(side):
        got = fastnn.from_dlpack(producer)
    assert np.array_equal(got.numpy(), values(4, 5))
    assert producer.asked == {"stream": side.cuda_stream, **({"max_version": (1, 0)} if modern else {})}
    fastnn.from_dlpack(producer)
    assert producer.asked["stream"] == _C.current_stream(got.device) != side.cuda_stream


def test_producers_on_the_cpu_are_asked_for_no_stream() -> None:
    producer = Producer(values(3), True)
    assert np.array_equal(fastnn.from_dlpack(producer).numpy(), values(3)) and producer.asked == {"max_version": (1, 0)}


def test_read_only_memory_and_later_versions_are_refused() -> None:
    frozen = values(3)
    frozen.setflags(write=False)
    with pytest.raises(BufferError, match="(?i)read-?only"):
        fastnn.from_dlpack(frozen)
    capsule = fastnn.tensor(values(3)).__dlpack__(max_version=(1, 0))
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    address = pointer(capsule, b"dltensor_versioned")
    version, flags = ctypes.c_uint32.from_address(address), ctypes.c_uint64.from_address(address + 24)
    assert (version.value, flags.value) == (1, 0)
    flags.value = 1
    with pytest.raises(BufferError, match=r"read-only; fastnn.tensor\(a\) makes a copy"):
        _C.from_dlpack(capsule)
    flags.value, version.value = 0, 2
    with pytest.raises(BufferError, match="DLPack version 2; expected 1"):
        _C.from_dlpack(capsule)
    version.value = 1
    assert np.array_equal(_C.from_dlpack(capsule).numpy(), values(3))


# --- __cuda_array_interface__


class LikeCuPy:
    """A row-major array of CuPy's, whose protocol names no strides then and says on which stream it is being computed."""

    def __init__(self, array: Any, **changes: Any) -> None:
        self.array = array
        interface = {"shape": array.shape, "typestr": "<f4", "descr": [("", "<f4")], "strides": None, "version": 3, "stream": 1}
        self.__cuda_array_interface__ = {**interface, "data": (array._array.data_ptr, False), **changes}


@every_gpu
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cuda_array_interface_and_back(gpu: str, shape: tuple[int, ...]) -> None:
    x = fastnn.tensor(values(*shape), device=gpu)
    interface = x.__cuda_array_interface__
    assert interface["shape"] == shape and interface["typestr"] == "<f4" and interface["version"] == 3
    assert interface["data"] == (x._array.data_ptr, False) and len(interface["strides"]) == len(shape)
    shared = fastnn.cuda.from_cuda_array(x, gpu)
    assert shared.device == x.device and np.array_equal(shared.numpy(), x.numpy())
    x.copy_from(np.zeros(shape))
    assert (shared.numpy() == 0).all()
    assert not hasattr(fastnn.tensor(values(2)), "__cuda_array_interface__")


@every_gpu
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool", "bfloat16"])
def test_dtypes_come_back(gpu: str, dtype: str) -> None:
    x = _C.from_numpy(np.array([0, 1, 1, 0], "float32" if dtype == "bfloat16" else dtype), gpu, dtype)
    for back in (_C.from_cuda_array(x, gpu), _C.from_dlpack(x.__dlpack__())):
        assert back.dtype == dtype and np.array_equal(back.numpy(), x.numpy()) and back.data_ptr == x.data_ptr


@every_gpu
def test_an_array_of_cupys(gpu: str) -> None:
    before = allocated(gpu)
    x = fastnn.tensor(values(4, 5), device=gpu)
    shared = fastnn.cuda.from_cuda_array(LikeCuPy(x), gpu)
    del x
    assert np.array_equal(shared.numpy(), values(4, 5)) and np.array_equal((shared + shared).numpy(), 2 * values(4, 5))
    del shared
    assert allocated(gpu) == before


@every_gpu
def test_arrays_that_do_not_fit(gpu: str) -> None:
    flat, images = fastnn.tensor(values(4, 5), device=gpu), fastnn.tensor(values(2, 3, 4, 5), device=gpu)
    for array, words in (
        (LikeCuPy(images), r"stride 1 in dimension 3, fastnn needs 3 \(rank 4 lies N, H, W, C\); fastnn.tensor\(a\) makes a copy"),
        (LikeCuPy(flat, strides=(4, 16)), r"stride 4 in dimension 1, fastnn needs 1 \(row-major\)"),
        (LikeCuPy(flat, strides=(20, 6)), "a stride of 6 bytes cuts elements"),
        (LikeCuPy(flat, stream=0), "from_cuda_array: stream 0; 1 is the legacy default stream"),
        (LikeCuPy(flat, typestr="<f2"), "dtype 'float16' is not one of"),
        (LikeCuPy(flat, typestr=">f4"), "dtype '>f4' is not one of"),
    ):
        with pytest.raises(ValueError, match=words):
            fastnn.cuda.from_cuda_array(array, gpu)
    for array, words in (
        (LikeCuPy(flat, data=(flat._array.data_ptr, True)), "the array is read-only"),
        (LikeCuPy(flat, mask=flat), "the array is masked"),
    ):
        with pytest.raises(BufferError, match=words):
            fastnn.cuda.from_cuda_array(array, gpu)


@every_gpu
def test_the_producers_stream(gpu: str) -> None:
    x, side = fastnn.tensor(values(4, 5), device=gpu), fastnn.cuda.Stream(gpu)
    for stream in (None, 1, 2, side.cuda_stream):
        assert np.array_equal(fastnn.cuda.from_cuda_array(LikeCuPy(x, stream=stream), gpu).numpy(), values(4, 5))


@on_the_emulator
def test_arrays_of_another_device(gpu: str) -> None:
    """The driver is asked where memory lies."""
    family = gpu.split(":")[0]
    there, here = fastnn.tensor(values(4, 5), device=f"{family}:1"), np.zeros((4, 5), np.float32)
    assert np.array_equal(fastnn.cuda.from_cuda_array(LikeCuPy(there), f"{family}:1").numpy(), values(4, 5))
    with pytest.raises(ValueError, match=rf"the array does not lie on {family}:0; pass device='{family}:1'"):
        fastnn.cuda.from_cuda_array(LikeCuPy(there), f"{family}:0")
    flat = fastnn.tensor(values(4, 5), device=f"{family}:0")
    with pytest.raises(ValueError, match=rf"does not lie on {family}:0, nor on any other GPU"):
        fastnn.cuda.from_cuda_array(LikeCuPy(flat, data=(here.ctypes.data, False)), f"{family}:0")


@on_the_emulator
def test_the_callers_stream_waits_for_batches(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads make them on the device's own stream. On the emulated device nothing is late, but the wait can be made to fail."""
    loader = fastnn.data.Loader((np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, np.int64)), 2, device=gpu)
    monkeypatch.setenv("FASTNN_EMULATED_FAIL", "cudaStreamWaitEvent")
    assert len(list(loader)) == 2  # on the same stream there is nothing to wait for
    with fastnn.cuda.stream(fastnn.cuda.Stream(gpu)), pytest.raises(fastnn.DeviceError, match="make a stream wait"):
        next(iter(loader))


@on_the_emulator
def test_our_stream_waits_for_the_producers(gpu: str) -> None:
    with pytest.raises(fastnn.DeviceError, match="record an event"):
        fastnn.cuda.from_cuda_array(LikeCuPy(fastnn.tensor(values(3), device=gpu), stream=NO_STREAM), gpu)


@on_the_emulator
def test_who_names_no_stream_is_waited_for(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 2 of the interface says nothing about streams, and PyTorch offers no other; in version 3 nothing is under way."""
    x = fastnn.tensor(values(3), device=gpu)
    quiet, silent = LikeCuPy(x), LikeCuPy(x, version=2)
    monkeypatch.setenv("FASTNN_EMULATED_FAIL", "cudaDeviceSynchronize")
    assert np.array_equal(fastnn.cuda.from_cuda_array(quiet, gpu).numpy(), values(3))
    with pytest.raises(fastnn.DeviceError, match="finish the work of the GPU"):
        fastnn.cuda.from_cuda_array(silent, gpu)


# --- PyTorch, where there is a GPU


@pytest.mark.parametrize("gpu", [gpu for gpu in GPUS if gpu == "cuda"])
def test_pytorch_both_ways(gpu: str) -> None:
    import torch

    x = fastnn.tensor(values(2, 3, 4, 5), device=gpu)
    theirs = torch.from_dlpack(x)
    assert theirs.is_cuda and theirs.data_ptr() == x._array.data_ptr and np.array_equal(theirs.cpu().numpy(), x.numpy())
    assert np.array_equal(fastnn.from_dlpack(theirs * 2).numpy(), 2 * x.numpy())
    assert np.array_equal(torch.as_tensor(x, device="cuda").cpu().numpy(), x.numpy())
    assert np.array_equal(fastnn.cuda.from_cuda_array(theirs * 3, gpu).numpy(), (theirs * 3).cpu().numpy())


@pytest.mark.parametrize("gpu", [gpu for gpu in GPUS if gpu == "cuda"])
def test_another_librarys_stream_may_be_gone_when_memory_is_freed(gpu: str) -> None:
    """A driver that is asked about a stream which was destroyed ends the process."""
    import torch

    runtime, handle, x = torch.cuda.cudart(), ctypes.c_void_p(), fastnn.tensor(values(3), device=gpu)
    runtime.cudaStreamCreate(ctypes.addressof(handle))
    capsule = x.__dlpack__(stream=handle.value)
    runtime.cudaStreamDestroy(handle.value)
    before = allocated(gpu)
    del capsule, x
    assert allocated(gpu) < before
