"""Where both sides run (`--device`), how arrays come there, and how time is taken there. One device serves a whole command: `use(options)`."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Protocol

import numpy as np
import torch

import fastnn
from fastnn import _C, devices

from .peak import Peak
from .timing import Call, Stopwatch, seconds_of

LAYOUTS = {"channels_last": torch.channels_last, "NCHW": torch.contiguous_format}
TORCH_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Gauge(Protocol):
    """What the device can do at this moment."""

    product: str  # what gflops() runs

    def gflops(self) -> float: ...
    def copy_gbs(self, nbytes: int) -> float: ...


class Device:
    """The CPU, and what all devices have in common. `dtype` is the storage type of activations."""

    name = "cpu"
    torch_name = "cpu"
    is_gpu = False
    kernel_seconds: Stopwatch = staticmethod(seconds_of)
    step_seconds: Stopwatch = staticmethod(seconds_of)

    def __init__(self, dtype: str = "float32") -> None:
        self.dtype = dtype
        self.item_size = TORCH_TYPES[dtype].itemsize

    def ours(self, values: np.ndarray, real: bool = False) -> _C.Array:
        """`real`: an operand that is float32 whatever the storage type."""
        dtype = "float32" if real or values.dtype != np.float32 else self.dtype
        return _C.from_numpy(values, self.name, dtype if values.dtype == np.float32 else "")

    def theirs(self, values: np.ndarray, layout: str = "NCHW", real: bool = False) -> torch.Tensor:
        tensor = torch.from_numpy(values.copy()).to(self.torch_name)
        if tensor.dtype == torch.float32 and not real:
            tensor = tensor.to(TORCH_TYPES[self.dtype])
        return tensor.to(memory_format=LAYOUTS[layout])

    def synchronize(self) -> None:
        """Waits for both sides."""

    def gauge(self, threads: int) -> Gauge:
        """ValueError says why there is none."""
        return Peak(threads, self.dtype)

    @contextmanager
    def one_stream(self) -> Iterator[None]:
        """Both sides give their kernels to one stream, so that one clock serves both."""
        yield


class Gpu(Device):
    """A GPU, or its emulation, on which PyTorch runs on the CPU and nothing is worth timing but everything can be tried."""

    is_gpu = True

    def __init__(self, name: str, dtype: str = "float32") -> None:
        super().__init__(dtype)
        self.emulated = name.startswith("cuda-emulated")
        if self.emulated:
            devices.open_emulated(os.environ["FASTNN_CUDA_EMULATED"])
        self.name = devices.resolve(name)
        self.torch_name = "cpu" if self.emulated else self.name
        self.step_seconds = partial(seconds_of, clock=self.clock)
        self.kernel_seconds = self.cold_seconds
        # Larger than any L2; writing it takes long enough for the next launches to be queued behind it.
        self._flushed = torch.empty(1 if self.emulated else 2**26, dtype=torch.float32, device=self.torch_name)

    def synchronize(self) -> None:
        fastnn.cuda.synchronize(self.name)
        if not self.emulated:
            torch.cuda.synchronize(self.torch_name)

    def clock(self) -> float:
        self.synchronize()
        return time.perf_counter()

    def cold_seconds(self, call: Call, calls: int = 1) -> float:
        """The median of single calls, 200 at most, between two events, each behind a write that empties the L2. Needs one_stream()."""
        marks = [(fastnn.cuda.Event(self.name), fastnn.cuda.Event(self.name)) for _ in range(min(calls, 200))]
        for start, end in marks:
            self._flushed.zero_()
            start.record()
            call()
            end.record()
        self.synchronize()
        return max(1e-6, median(start.elapsed_time(end) for start, end in marks) / 1e3)

    def gauge(self, threads: int) -> Gauge:
        return GpuGauge(self)

    @contextmanager
    def one_stream(self) -> Iterator[None]:
        if self.emulated:
            yield
            return
        stream = fastnn.cuda.Stream(self.name)
        with fastnn.cuda.stream(stream), torch.cuda.stream(torch.cuda.ExternalStream(stream.cuda_stream)):
            yield
            self.synchronize()


class GpuGauge:
    """cuBLAS' large square product in the storage type, and a copy; both of PyTorch, timed as the kernels are."""

    product = "GEMM"

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, side = gpu, 64 if gpu.emulated else 8192
        self._a, self._b = (torch.randn(side, side, device=gpu.torch_name, dtype=TORCH_TYPES[gpu.dtype]) for _ in range(2))

    def gflops(self) -> float:
        return 2e-9 * len(self._a) ** 3 / self.gpu.kernel_seconds(lambda: self._a @ self._b, 3)

    def copy_gbs(self, nbytes: int) -> float:
        source = torch.randn(max(1, nbytes // 8), device=self.gpu.torch_name)
        target = torch.empty_like(source)
        return 8e-9 * len(source) / self.gpu.kernel_seconds(lambda: target.copy_(source), 10)


current: Device = Device()


def use(options: Namespace) -> Device:
    """Makes `--device`, `--dtype` and `--precision` hold for both sides from now on."""
    global current
    dtype = getattr(options, "dtype", "float32")
    current = Device(dtype) if options.device == "cpu" else Gpu(options.device, dtype)
    fastnn.set_precision(options.precision)
    if current.is_gpu:  # PyTorch's strongest form; it has no 3xTF32, so "high" meets its plain float32
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = options.precision == "medium"
    return current
