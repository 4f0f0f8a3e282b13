"""Memory shared with other libraries."""

from __future__ import annotations

from typing import Any

from . import _C, devices
from .arguments import shown
from .tensor import Tensor

_DLPACK_GPUS = {2: "cuda", 12: "cuda-emulated"}  # kDLCUDA, kDLExtDev


def from_dlpack(array: Any) -> Tensor:
    """Shares the memory of an array of another library (numpy, PyTorch, ...) that lies as ours does; no copy. A Tensor gives its detach().

    Rank 4 must lie N, H, W, C under the shape (N, C, H, W) (PyTorch: channels_last), other ranks row-major.
    Raises ValueError where the strides do not fit; `fastnn.tensor(a)` copies.
    """
    if isinstance(array, Tensor):
        return array.detach()
    if not hasattr(array, "__dlpack_device__") or isinstance(array, type):
        raise TypeError(f"from_dlpack: array must be an array of a library that knows DLPack (numpy, PyTorch, ...), got {shown(array)}")
    device = array.__dlpack_device__()
    if not isinstance(device, tuple) or len(device) != 2:
        raise TypeError(f"from_dlpack: __dlpack_device__() of the array must give (kind, number), got {shown(device)}")
    kind, index = device
    stream = {"stream": _C.current_stream(devices.resolve(f"{_DLPACK_GPUS[kind]}:{index}"))} if kind in _DLPACK_GPUS else {}
    try:
        capsule = array.__dlpack__(max_version=(1, 0), **stream)
    except TypeError:  # from before DLPack 1.0
        capsule = array.__dlpack__(**stream)
    except BufferError as error:
        raise BufferError(
            f"from_dlpack: {type(array).__module__} does not share this array ({error}); fastnn.tensor(a) copies numbers"
        ) from error
    return Tensor(_C.from_dlpack(capsule))
