"""GPUs: what there is, streams, events, memory. Importing this module opens nothing.

Kernels of one stream run in the order in which they were called, behind the back of Python: `synchronize()` waits for them, as do `item()`,
`float(t)` and `numpy()`. Each GPU has a stream of its own that everything uses unless `with fastnn.cuda.stream(s)` says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import _C, devices
from .arguments import instance, shown
from .tensor import Tensor

__all__ = [
    "Event",
    "Stream",
    "device_count",
    "device_name",
    "empty_cache",
    "from_cuda_array",
    "is_available",
    "mem_get_info",
    "memory_stats",
    "pin",
    "reset_peak_memory_stats",
    "stream",
    "synchronize",
    "why_not_available",
]


def is_available() -> bool:
    """Whether there is a GPU that this build runs on. `why_not_available()` says what is missing."""
    return why_not_available() is None


def why_not_available() -> str | None:
    """None when a GPU can be used, else the reason and what to do, in one sentence."""
    try:
        devices.open_cuda()
    except _C.DeviceError as error:
        return str(error)
    return None


def device_count() -> int:
    """How many GPUs can be used."""
    return len(devices.open_cuda()) if is_available() else 0


def device_name(device: str = "cuda") -> str:
    """What the GPU calls itself, and its compute capability."""
    return _C.describe_device(devices.resolve(device))


def synchronize(device: str = "cuda") -> None:
    """Waits until all that this thread gave to the device's current stream is done. DeviceError when some of it failed."""
    _C.synchronize(devices.resolve(device))


def mem_get_info(device: str = "cuda") -> tuple[int, int]:
    """(free, total) bytes of the GPU's memory, as its driver counts them."""
    return _C.device_memory(devices.resolve(device))


def memory_stats(device: str = "cuda") -> dict[str, int]:
    """Bytes in live arrays (allocated, peak) and held from the driver (reserved); blocks handed out (allocations) and how many were reused."""
    return _C.memory_stats(devices.resolve(device))


def reset_peak_memory_stats(device: str = "cuda") -> None:
    """Begins the peak of memory_stats anew."""
    _C.reset_peak_memory(devices.resolve(device))


def empty_cache(device: str = "cuda") -> None:
    """Gives memory that no array uses back to the driver."""
    _C.empty_cache(devices.resolve(device))


class Stream:
    """A queue of work of its own on a GPU. Use it by `with fastnn.cuda.stream(s):`; `wait(event)` lets it wait for another stream's event."""

    def __init__(self, device: str = "cuda") -> None:
        self._stream = _C.Stream(devices.resolve(device))

    @property
    def device(self) -> str:
        return self._stream.device

    @property
    def cuda_stream(self) -> int:
        """The address of the cudaStream_t, for other libraries."""
        return self._stream.handle

    def synchronize(self) -> None:
        """Waits until all work given to the stream is done."""
        self._stream.synchronize()

    def wait(self, event: Event) -> None:
        """What is given to the stream from now on waits until the event has happened; the caller does not."""
        instance("Stream.wait", "event", event, Event, "a cuda.Event")
        self._stream.wait(event._event)


@contextmanager
def stream(s: Stream) -> Iterator[None]:
    """Inside the block this thread gives its work on the stream's device to `s`. Arrays made on another stream may still be in the making:
    record an event there and let `s` wait for it."""
    instance("cuda.stream", "s", s, Stream, "a cuda.Stream")._stream.use()
    try:
        yield
    finally:
        _C.use_own_stream(s.device)


class Event:
    """A mark in a stream: `record()` sets it, `synchronize()` waits until the stream has reached it."""

    def __init__(self, device: str = "cuda") -> None:
        self._event = _C.Event(devices.resolve(device))

    def record(self) -> None:
        """Sets the mark behind all work given so far to this thread's stream of the device."""
        self._event.record()

    def synchronize(self) -> None:
        """Waits until the stream has reached the mark."""
        self._event.synchronize()

    def elapsed_time(self, later: Event) -> float:
        """Milliseconds from this mark to a later one, both reached, as the GPU's clock counts them."""
        instance("Event.elapsed_time", "later", later, Event, "a cuda.Event")
        return self._event.elapsed_time(later._event)


def pin(tensor: Tensor, device: str = "cuda") -> Tensor:
    """A copy of a CPU tensor in pinned memory: `pin(t).to("cuda")` returns at once and the GPU fetches the values by itself.

    The memory is kept until it has done so. Do not write to the copy before then (`synchronize()`).
    """
    instance("cuda.pin", "tensor", tensor, Tensor, "a Tensor")
    return Tensor(tensor._array.pinned(devices.resolve(device)))


def from_cuda_array(array: Any, device: str = "cuda") -> Tensor:
    """Shares the memory of an object with `__cuda_array_interface__` (CuPy, PyTorch, Numba), no copy.

    Rank 4 must lie N, H, W, C under the shape (N, C, H, W), other ranks row-major; ValueError where the strides do not fit.
    """
    if not hasattr(array, "__cuda_array_interface__"):
        raise TypeError(f"from_cuda_array: array must be an array on a GPU (with __cuda_array_interface__), got {shown(array)}")
    return Tensor(_C.from_cuda_array(array, devices.resolve(device)))
