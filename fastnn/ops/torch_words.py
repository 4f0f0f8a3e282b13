"""What PyTorch's words mean for Tensors: `dim` and `keepdim` are other names of axis and keepdims, and absent names say what is here instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _C
from ..arguments import flag, integer
from ..tensor import Tensor
from . import max, mean, min, norm, std, sum, transpose, var
from .gather import axis_of
from .reduce import axes_of
from .refusals import explained
from .whole import reduced

_HERE = {
    "amax": "x.max(axis)",
    "amin": "x.min(axis)",
    "argmin": "(-x).argmax(axis)",
    "argsort": "np.argsort(x.numpy())",
    "astype": "fastnn.tensor(x, dtype), a copy without a gradient; ops.cast(x, dtype), between float32 and bfloat16, passes it on",
    "bool": "x != 0",
    "byte": 'fastnn.tensor(x, "uint8")',
    "cat": "ops.concat([x, y], axis)",
    "chunk": "a slice, x[:n]",
    "clamp": "x.clip(min, max)",
    **dict.fromkeys(("clone", "copy"), "fastnn.tensor(x), or x + 0.0 for the gradient to pass"),
    "copy_": "x.copy_from(values)",
    "cumsum": "np.cumsum(x.numpy()), without a gradient",
    "data": "x.detach(), or x.numpy(); x.copy_from(values) writes",
    "dim": "x.ndim",
    "div": "x / y",
    "dot": "x @ y",
    "double": 'fastnn.tensor(x, "float64")',
    "eq": "x == y",
    "expand": "ops.broadcast_to(x, shape); operations do it by themselves",
    "flatten": "x.reshape(len(x), -1)",
    "float": 'fastnn.tensor(x, "float32"), a copy without a gradient; ops.cast(x, "float32"), of bfloat16, passes it on',
    "flip": "x[::-1], x[:, ::-1], ...",
    "ge": "x >= y",
    "grad_fn": "x.is_leaf, which says whether no operation made it",
    "gt": "x > y",
    "half": 'ops.cast(x, "bfloat16")',
    "index_select": "ops.take(x, positions, axis)",
    "int": 'fastnn.tensor(x, "int64")',
    "is_cuda": 'x.device != "cpu"',
    "le": "x <= y",
    "long": 'fastnn.tensor(x, "int64")',
    "lt": "x < y",
    "masked_fill": "ops.where(mask, value, x)",
    "mm": "x @ y",
    "mul": "x * y",
    "ndimension": "x.ndim",
    "ne": "x != y",
    "nelement": "x.size",
    "new_ones": "fastnn.tensor(np.ones(shape))",
    "new_zeros": "fastnn.tensor(np.zeros(shape))",
    "nonzero": "np.argwhere(x.numpy())",
    "numel": "x.size",
    "permute": "x.transpose(*axes)",
    "pow": "x ** exponent",
    "prod": "np.prod(x.numpy()), without a gradient",
    "ravel": "x.reshape(-1)",
    "repeat": "ops.concat([x] * n, axis); operations repeat sizes of 1 by themselves",
    "requires_grad_": "x.requires_grad = True",
    "round": "np.round(x.numpy())",
    "sort": "np.sort(x.numpy())",
    "split": "a slice, x[:n]",
    "square": "x * x",
    "squeeze": "x.reshape(*shape)",
    "sub": "x - y",
    "swapaxes": "x.transpose(*axes), all of them in their new order",
    "t": "x.T",
    "tolist": "x.numpy().tolist()",
    "topk": "np.argsort(-x.numpy())[..., :k], the places of the k largest",
    "type": "x.dtype",
    "unbind": "list(x), the slices along the first dimension",
    "unsqueeze": "x[None], x[:, None], ..., or x.reshape(*shape)",
    "view": "x.reshape(*shape)",
}
_NEW = "Tensors get new values by w -= ... under no_grad, x.copy_from(values), or as a new Tensor"
_DENSE = "every Tensor is dense"
_INSTEAD = {  # what is no expression
    **dict.fromkeys(("add_", "clamp_", "div_", "fill_", "mul_", "normal_", "sub_", "uniform_", "zero_"), _NEW),
    **dict.fromkeys(("contiguous", "is_contiguous", "stride"), _DENSE),
    "register_hook": "gradients lie in the grad of leaves after backward(); fastnn.Function is an operation of your own",
    "retain_grad": "only leaves keep a grad; x = x.detach(), x.requires_grad = True make one of what an operation gave",
}


def _absent(self: Tensor, name: str) -> Any:
    from .. import ops

    here = _HERE.get(name) or (f"ops.{name}(x, ...)" if name in ops.__all__ else "")
    if not here and isinstance(vars(np).get(name), np.ufunc):
        here = f"np.{name}(x.numpy()), without a gradient"
    said = f"; here it is {here}" if here else f"; {_INSTEAD[name]}" if name in _INSTEAD else ""
    raise AttributeError(f"a Tensor has no attribute {name!r}{said}")


def _argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Row-major position of the largest value (int64), without a gradient."""
    at = axis if axis is None else axis_of(integer("argmax", "axis", axis), x.ndim, "argmax", x.shape)
    kept, values = flag("argmax", "keepdims", keepdims), x.numpy()
    if not (values.size if at is None else values.shape[at]):
        raise ValueError(f"argmax over no elements: shape {x.shape}, axis {axis}")
    return Tensor(_C.from_numpy(np.asarray(np.argmax(values, at, keepdims=kept), np.int64), x.device))


_argmax.__name__ = "argmax"


def _any(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """Whether one of the elements along `axis` (an int, several, or None for all) is not 0, as booleans."""
    return reduced("any", x, axes_of("any", x, axis), keepdims)


def _all(x: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """Whether none of the elements along `axis` (an int, several, or None for all) is 0, as booleans."""
    return reduced("all", x, axes_of("all", x, axis), keepdims)


_any.__name__, _all.__name__ = "any", "all"


def _norm(self: Tensor, *order: Any, axis: Any = None, keepdims: bool = False, **words: Any) -> Tensor:
    if words:
        axis, keepdims = _said("norm", axis, keepdims, words)
    return norm(self, *order, axis=axis, keepdims=keepdims)


_norm.__name__, _norm.__qualname__, _norm.__doc__ = "norm", "Tensor.norm", norm.__doc__
_PAIRS = (
    "in PyTorch max(dim) and min(dim) give values and places; here x.{0}(axis) gives the values, x.argmax(axis) the places of the largest"
)


def _said(name: str, axis: Any, keepdims: bool, words: dict[str, Any]) -> tuple[Any, bool]:
    """Axis and keepdims out of PyTorch's words for them, which are taken out of `words`."""
    if "dim" in words:
        if name in ("max", "min"):
            raise TypeError(f"{name}: {_PAIRS.format(name)}")
        if axis is not None:
            raise TypeError(f"{name}: axis and dim are the same; give one of them")
        axis = words.pop("dim")
    keepdims = words.pop("keepdim", keepdims)
    other = [word for word in words if word != "correction" or name not in ("var", "std")]
    if other:
        wanted = "axis and keepdims (or dim and keepdim)" + (", correction" if name in ("var", "std") else "")
        hint = {"unbiased": "; unbiased=False is correction=0", "p": "; its order is 2"}.get(other[0], "")
        raise TypeError(f"{name}: there is no argument {other[0]!r}; it takes {wanted}{hint}")
    return axis, keepdims


def _along(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A reduction as a method, with numpy's names of its arguments or PyTorch's."""
    name = operation.__name__

    def method(self: Tensor, axis: Any = None, keepdims: bool = False, **words: Any) -> Tensor:
        if words:
            axis, keepdims = _said(name, axis, keepdims, words)
        return operation(self, axis, keepdims, **words)

    method.__name__, method.__qualname__, method.__doc__ = name, f"Tensor.{name}", operation.__doc__
    return method


def _transpose(self: Tensor, *axes: Any) -> Tensor:
    """Dimensions in the order `axes`, one by one or in a tuple; reversed without them. (0, 1) moves nothing in a matrix, of which a warning tells."""
    if self.ndim == 2 and all(type(a) is int for a in axes) and axes == (0, 1):
        text = "transpose: (0, 1) leaves a matrix as it is; x.T or x.transpose(1, 0) is what PyTorch's transpose(0, 1) does"
        warnings.warn(text, UserWarning, stacklevel=2)
    return transpose(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], (int, np.integer)) else axes or None)


class _Count(int):
    """How many elements; PyTorch's `size` is a method, and gives the shape."""

    __slots__ = ()

    def __call__(self, dim: Any = None) -> Any:
        raise TypeError(
            f"x.size is the number of elements; here PyTorch's x.size({'' if dim is None else dim}) is x.shape{'' if dim is None else f'[{dim}]'}"
        )


for _operation in (sum, mean, max, min, var, std, _argmax, explained(_any), explained(_all)):
    setattr(Tensor, _operation.__name__, _along(_operation))
Tensor.norm = _norm  # type: ignore[assignment]
Tensor.size = property(lambda self: _Count(self._array.size))  # type: ignore[assignment, method-assign]
Tensor.transpose = _transpose  # type: ignore[assignment]
Tensor.__getattr__ = _absent  # type: ignore[attr-defined]
