"""numpy's functions of Tensors: they compute with the values and give arrays, and refuse where that would lose a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..tape import is_grad_enabled
from ..tensor import Tensor

_OTHERWISE = {
    "absolute": "abs",
    "amax": "max",
    "amin": "min",
    "concatenate": "concat",
    "dot": "matmul",
    "hstack": "concat",
    "mean": "mean",
    "vstack": "concat",
}
_NEW = ("empty_like", "full_like", "ones_like", "zeros_like")  # their values are not those of the Tensor


def _refuse_to_lose(name: str, result: Any) -> None:
    """Raises for a result that could have had a gradient."""
    results = result if isinstance(result, (tuple, list)) else (result,)
    if name in _NEW or not any(getattr(getattr(one, "dtype", None), "kind", "") in ("f", "c") for one in results):
        return
    from .. import ops

    here = _OTHERWISE.get(name, name)
    instead = f"fastnn.ops.{here} keeps it; " if here in ops.__all__ else ""
    raise RuntimeError(  # a TypeError numpy takes for a __array_wrap__ of fewer arguments
        f"numpy.{name} of a Tensor that requires a gradient would lose the gradient: {instead}x.numpy() gives the values alone"
    )


def _values(given: Any, tensors: list[Tensor]) -> Any:
    """An argument with arrays for its Tensors, which are appended to `tensors`."""
    if isinstance(given, Tensor):
        tensors.append(given)
        return given.numpy()
    if type(given) in (tuple, list):
        return type(given)([_values(one, tensors) for one in given])
    return given


def _function(self: Tensor, function: Callable[..., Any], types: Any, args: Any, keywords: dict[str, Any]) -> Any:
    """np.mean(x), np.concatenate([x, y]), ..."""
    tensors: list[Tensor] = []
    result = function(*_values(args, tensors), **{name: _values(value, tensors) for name, value in keywords.items()})
    if is_grad_enabled() and any(t.requires_grad for t in tensors):
        _refuse_to_lose(function.__name__, result)
    return result


def _wrap(self: Tensor, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
    """np.exp(x) and other ufuncs: numpy asks one of the operands what becomes of the result."""
    if is_grad_enabled() and context is not None and any(isinstance(t, Tensor) and t.requires_grad for t in context[1]):
        _refuse_to_lose(context[0].__name__, array)
    return array[()] if return_scalar or not array.ndim else array


Tensor.__array_function__ = _function  # type: ignore[attr-defined]
Tensor.__array_wrap__ = _wrap  # type: ignore[attr-defined]
