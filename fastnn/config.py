"""What was picked and why."""

from __future__ import annotations

import platform

import numpy as np

from . import _C, devices
from .arguments import flag, integer, text


def show_config() -> str:
    """One line each: version, processor, instruction set and threads with the reason for the choice, memory. Returned, not printed."""
    from . import __version__

    memory = _C.memory_stats()
    lines = {
        "fastnn": f"{__version__} (Python {platform.python_version()}, numpy {np.__version__})",
        "processor": _processor(),
        "instruction set": f"{_C.isa()}: {_C.isa_reason()}",
        "available": ", ".join(_C.isas()),
        "threads": f"{_C.get_num_threads()}: {_C.threads_reason()}",
        "precision": _precision(),
        "memory": f"{memory['allocated'] / 2**20:.1f} MiB in use, {memory['reserved'] / 2**20:.1f} MiB held",
        "cuda": _cuda(),
    }
    return "\n".join(f"{name:16} {text}" for name, text in lines.items())


_PRECISIONS = {
    "highest": "float32 multiply-adds",
    "high": "nearly float32: 3xTF32 on tensor cores",
    "medium": "TF32 operands on tensor cores",
}


def _precision() -> str:
    """What products of float32 arrays are made of, on a GPU and on this processor."""
    precision = _C.get_precision()
    on_cpu = {
        ("high", "amx"): "float32 in two bfloat16 parts where that is faster",
        ("medium", "amx"): "bfloat16 operands",
        ("medium", "avx512bf16"): "bfloat16 operands where that is faster",
    }.get((precision, _C.isa()), "float32")
    here = "" if precision == "highest" else f"; on this CPU {on_cpu}"
    return f"{precision}: {_PRECISIONS[precision]}{here}; accumulated in float32"


def set_precision(precision: str) -> None:
    """What products of float32 arrays may be made of, on all devices; torch's words (torch.set_float32_matmul_precision).

    "highest" (default): float32 multiply-adds. "high": about float32's accuracy; 3xTF32 on a GPU's tensor cores (each operand split in two
    parts of 11 bits; infinite operands may give NaN), and on AMX three products of two bfloat16 parts (error at most 8e-6 in the norm).
    "medium": TF32 operands (11 bits) on tensor cores; bfloat16 operands (8 bits) on CPUs with avx512_bf16 or AMX (error 2e-3 to 3e-3 in the
    norm). Sums are float32 always. Where a CPU lacks the instructions, or float32 is faster for a shape (Winograd's algorithm on
    avx512_bf16), products are float32 under all three; `fastnn.show_config()` says what holds here. ValueError for another word.
    """
    _C.set_precision(text("set_precision", "precision", precision, "(highest, high or medium)"))


def get_precision() -> str:
    """What set_precision set."""
    return _C.get_precision()


def set_num_threads(n: int) -> None:
    """How many threads kernels may use from now on: 1 to 256. Results have the same bits for any number. `show_config()` says what was picked."""
    _C.set_num_threads(integer("set_num_threads", "n", n, 1, 257))


def set_finite_checks(on: bool) -> None:
    """Whether every kernel's result is looked at: the first NaN or infinity then raises FloatingPointError, which names the kernel and the
    layer. Steps run eagerly meanwhile."""
    _C.set_finite_checks(flag("set_finite_checks", "on", on))


def memory_stats(device: str = "cpu") -> dict[str, int]:
    """Bytes in live arrays (allocated, peak) and held from the system (reserved); blocks handed out (allocations) and how many were reused."""
    return _C.memory_stats(devices.resolve(device))


def empty_cache(device: str = "cpu") -> None:
    """Gives memory that no array uses back to the system."""
    _C.empty_cache(devices.resolve(device))


def _cuda() -> str:
    from . import cuda

    if not cuda.is_available():
        return f"not available: {cuda.why_not_available()}"
    return "; ".join(f"cuda:{i} {cuda.device_name(f'cuda:{i}')}" for i in range(cuda.device_count()))


def _processor(path: str = "/proc/cpuinfo") -> str:
    try:
        with open(path, errors="replace") as file:
            for line in file:
                if line.startswith("model name") and (name := line.partition(":")[2].strip()):
                    return name
    except OSError:
        pass
    return platform.processor() or platform.machine()
