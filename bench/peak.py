"""What the machine can do in this second: an FMA loop and a copy, native, on as many threads as the kernels beside them."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from fastnn import _C


class Peak:
    """peak.cpp built for this processor, or ValueError where no compiler is. `dtype`: of the operands of products."""

    def __init__(self, threads: int, dtype: str = "float32") -> None:
        compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))), None)
        if compiler is None:
            raise ValueError("no C++ compiler: percentages of peak and of a copy are left out")
        self.threads = threads
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "peak.so"
            source = Path(__file__).with_name("peak.cpp")
            flags = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-Wno-psabi", "-fPIC", "-shared", "-pthread"]
            built = subprocess.run([compiler, *flags, "-o", library, source], capture_output=True, text=True)
            if built.returncode:
                raise ValueError(f"{compiler} cannot build peak.cpp for this processor, percentages are left out: {built.stderr[:200]}")
            self._library = ctypes.CDLL(str(library))
        for name in ("fma_seconds", "bfloat16_seconds", "copy_seconds"):
            getattr(self._library, name).restype = ctypes.c_double
        self._library.bfloat16_isa.restype = ctypes.c_char_p
        there = self._library.bfloat16_isa().decode() in _C.isas()  # which asks the system for AMX's registers
        kind = "bfloat16" if dtype == "bfloat16" and there else "fma"
        self.product = "bfloat16's products" if kind == "bfloat16" else "FMA"
        self._run, self._flop = getattr(self._library, f"{kind}_seconds"), int(getattr(self._library, f"{kind}_flop")())
        self._usual = 800e9 if kind == "bfloat16" else 130e9  # FLOP/s of a thread: how often to run it

    def gflops(self, seconds: float = 0.01) -> float:
        """GFLOP/s of multiply-adds in registers, or of bfloat16's products, measured for about `seconds`."""
        iterations = int(seconds * self._usual / self._flop)
        seconds = float(self._run(self.threads, ctypes.c_long(iterations)))
        return self.threads * self._flop * iterations / seconds / 1e9

    def copy_gbs(self, nbytes: int, seconds: float = 0.01) -> float:
        """GB/s (read and written) of a copy that moves `nbytes` in all; the better of ordinary and streaming stores."""
        floats = nbytes // 8
        repeats = max(1, int(seconds * 15e9 / nbytes))
        rates: list[float] = [8 * floats * repeats / self._copy(floats, repeats, streaming) / 1e9 for streaming in (0, 1)]
        return max(rates)

    def _copy(self, floats: int, repeats: int, streaming: int) -> float:
        self._library.copy_seconds(self.threads, ctypes.c_long(floats), 1, streaming)
        return float(self._library.copy_seconds(self.threads, ctypes.c_long(floats), repeats, streaming))


def reuse_freed_memory() -> None:
    """Lets malloc keep what is freed, so that the page faults of fresh memory are not timed as if they were PyTorch's kernels."""
    libc = ctypes.CDLL(None)
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    for option, value in ((m_mmap_max, 0), (m_trim_threshold, 2**31 - 1), (m_top_pad, 2**28)):
        libc.mallopt(option, value)
