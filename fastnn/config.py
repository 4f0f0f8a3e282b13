"""What was picked and why."""

from __future__ import annotations

import platform

import numpy as np

from . import _C


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
        "precision": f"{_C.get_precision()}: {_PRECISIONS[_C.get_precision()]}",
        "memory": f"{memory['allocated'] / 2**20:.1f} MiB in use, {memory['reserved'] / 2**20:.1f} MiB held",
        "cuda": _cuda(),
    }
    return "\n".join(f"{name:16} {text}" for name, text in lines.items())


_PRECISIONS = {
    "highest": "float32 multiply-adds, accumulated in float32",
    "high": "nearly float32, on tensor cores where there are some (3xTF32), accumulated in float32",
    "medium": "TF32 operands on tensor cores where there are some, accumulated in float32",
}


def set_precision(precision: str) -> None:
    """What products of float32 arrays may be made of, on all devices; torch's words (torch.set_float32_matmul_precision).

    "highest" (default): float32 multiply-adds. "high": 3xTF32 on a GPU's tensor cores (each operand split in two parts of 11 bits; about
    float32's accuracy; infinite operands may give NaN). "medium": TF32 operands (11 bits). Sums are float32 always. The CPU computes all three
    as "highest". ValueError for another word.
    """
    _C.set_precision(precision)


def get_precision() -> str:
    """What set_precision set."""
    return _C.get_precision()


def _cuda() -> str:
    from . import cuda

    if not cuda.is_available():
        return f"not available: {cuda.why_not_available()}"
    return "; ".join(f"cuda:{i} {cuda.device_name(f'cuda:{i}')}" for i in range(cuda.device_count()))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
