"""fastnn: convolutional networks trained by hand-written kernels, under a thin Python layer."""

from __future__ import annotations

from . import first_line

if first_line.is_command():  # before anything that takes time
    first_line.answer()

import importlib
import sys
from typing import TYPE_CHECKING, Any

try:
    from ._C import CaptureError, DeviceError, OutOfMemoryError, get_num_threads
except ModuleNotFoundError as error:
    if error.name != f"{__name__}._C":
        raise
    raise ImportError(
        f"fastnn's compiled core is not in {__path__[0]}: this is the source folder. "
        "Run `pip install .` in the checkout, then start Python from another folder"
    ) from error
from .elsewhere import missing
from .exchange import from_dlpack
from .function import Function
from .random import Generator, seed
from .tensor import Tensor, is_grad_enabled, no_grad, tensor

if hasattr(sys.modules.get("threadpoolctl"), "register"):  # since its version 3.2
    from . import threadpools as threadpools

if TYPE_CHECKING:
    from . import cli as cli
    from . import cuda, data, dist, interop, models, neighbors, nn, ops, optim, train, tune
    from . import files as files
    from . import random as random
    from .captured import capture
    from .config import empty_cache, get_precision, memory_stats, set_finite_checks, set_num_threads, set_precision, show_config
    from .gradient_check import check_gradients
    from .gradients import gradcheck
    from .profiler import peak, profile

__version__ = "0.1.0"

_submodules = ("cuda", "data", "dist", "interop", "models", "neighbors", "nn", "ops", "optim", "train", "tune", "files", "cli")
_config = ("empty_cache", "get_precision", "memory_stats", "set_finite_checks", "set_num_threads", "set_precision", "show_config")
_lazy = {
    **{"capture": "captured", "check_gradients": "gradient_check", "gradcheck": "gradients", "peak": "profiler", "profile": "profiler"},
    **dict.fromkeys(_config, "config"),
}

__all__ = [
    "CaptureError",
    "DeviceError",
    "Function",
    "Generator",
    "OutOfMemoryError",
    "Tensor",
    "capture",
    "check_gradients",
    "cuda",
    "data",
    "dist",
    "empty_cache",
    "from_dlpack",
    "get_num_threads",
    "get_precision",
    "gradcheck",
    "interop",
    "is_grad_enabled",
    "memory_stats",
    "models",
    "neighbors",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "peak",
    "profile",
    "seed",
    "set_finite_checks",
    "set_num_threads",
    "set_precision",
    "show_config",
    "tensor",
    "train",
    "tune",
]


def _made_when_asked_for(name: str) -> Any:
    """Submodules and seldom used functions are imported when first asked for, so that `import fastnn` stays cheap."""
    if name in _submodules:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _lazy:
        return getattr(importlib.import_module(f"{__name__}.{_lazy[name]}"), name)
    raise missing(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = _made_when_asked_for
