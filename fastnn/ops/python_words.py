"""What Python's own words mean for Tensors, beside + - * /: `<`, `==`, `**`, `in`, `x[i]`, `-=`, `format()`, `float()`, and signs without a meaning
here; and operations that are methods as well: `x.exp()`, `x.clip(0)`."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from ..kept import Kept
from ..tensor import Scalar, Tensor
from . import (
    abs,
    add,
    clip,
    divide,
    equal,
    exp,
    gather,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    matmul,
    multiply,
    not_equal,
    power,
    sigmoid,
    sqrt,
    subtract,
    take,
    tanh,
)
from . import index as indexed
from .whole import all_whole, computed, is_whole, of_one


class _Identity(threading.local):
    """Inside `with by_identity:`, of this thread, `==` of Tensors asks whether they are the same object: for dicts and lists that hold some."""

    on = False

    def __enter__(self) -> None:
        self.on = True

    def __exit__(self, *_: object) -> None:
        self.on = False


by_identity = _Identity()


def unchanged(now: Any, before: Any) -> bool:
    """Whether two dicts or lists hold the same: Tensors and numpy's arrays where they are the same objects."""
    try:
        with by_identity:
            return bool(now == before)
    except Exception:  # another array of numpy's or of PyTorch's, which is not simply equal or not
        return False


_VALUES = (Tensor, np.ndarray, Real, np.generic, list, tuple, range, memoryview, array)


def _unary(operation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def method(self: Tensor) -> Tensor:
        return operation(self)

    method.__name__, method.__qualname__, method.__doc__ = operation.__name__, f"Tensor.{operation.__name__}", operation.__doc__
    return method


def _binary(operation: Callable[[Any, Any], Tensor], reflected: bool = False) -> Callable[[Tensor, Any], Tensor]:
    return (lambda self, other: operation(other, self)) if reflected else (lambda self, other: operation(self, other))


def _elementwise(operation: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Any], Any]:
    def compare(self: Tensor, other: Any) -> Any:
        if by_identity.on or not (isinstance(other, _VALUES) or hasattr(type(other), "__array__")):
            return NotImplemented  # Python goes on to ask for identity
        return operation(self, other)

    return compare


def _assigning(operation: Callable[[Any, Any], Tensor], sign: str) -> Callable[[Tensor, Any], Tensor]:
    """The name gets a new Tensor, as for numbers. What a module keeps (parameters, frozen ones too, and buffers), and any other leaf that
    requires a gradient, gets new values, under no_grad where a gradient would be lost."""

    def assign(self: Tensor, other: Any) -> Tensor:
        result = operation(self, other)
        if self._op is not None or not (self.requires_grad or isinstance(self, Kept)):
            return result
        if result.requires_grad:
            which = "a Tensor that requires a gradient" if self.requires_grad else "what a module keeps, by values that require a gradient,"
            raise RuntimeError(
                f"w {sign}= ... of {which} would change it while gradients are recorded; write it inside of "
                f"`with fastnn.no_grad():`, or let an optimizer do it"
            )
        if result.shape != self.shape:
            raise ValueError(f"w {sign}= ...: the result has shape {result.shape}; expected {self.shape}, that of w, which is written to")
        self.copy_from(result.numpy())
        return self

    return assign


def _format(self: Tensor, spec: str) -> str:
    """Of rank 0 the number, as PyTorch does: f"{loss}"; print(loss) and str(loss) say that it is a Tensor."""
    if not spec and self.shape:
        return str(self)
    if self.size != 1:
        raise TypeError(f"a Tensor of shape {self.shape} cannot be formatted with {spec!r}; only one element can, as x[0] or x.mean()")
    return format(self.item(), spec)


def _number(kind: type[Any]) -> Callable[[Tensor], Any]:
    """float(x), int(x), bool(x) of the only element."""
    hint = "; `(x > 0).any()` or .all() decides over all of them" if kind is bool else "; x[0] or x.mean() is one"

    def convert(self: Tensor) -> Any:
        if self.size != 1:
            raise ValueError(f"{kind.__name__}(): a Tensor of shape {self.shape} is not one number{hint}")
        return kind(self.item())

    return convert


def _index(self: Tensor) -> int:
    """As the number of something, range(n) and names[n]: an integer of rank 0. One of shape (1,) is several to numpy, whose a[x] keeps a dimension."""
    if self.shape or self.dtype not in ("int64", "uint8"):
        given = f"of shape {self.shape}" if self.shape else f"of {self.dtype}"
        raise TypeError(
            f"only a Tensor of rank 0 that holds an integer stands for a Python integer, got one {given}; int(x) makes one of a number"
        )
    return int(self.item())


def _round(self: Tensor, digits: int | None = None) -> Any:
    """Python's number, rounded, of the only element."""
    if self.size != 1:
        raise TypeError(f"round(): a Tensor of shape {self.shape} is not one number; np.round(x.numpy()) rounds all of them")
    return round(self.item(), digits)


def _copy(self: Tensor) -> Tensor:
    """copy.copy(x), which plt.plot(x) does: a leaf has values of its own, what an operation made is the same result once more."""
    if self._op is None:
        make, arguments = self.__reduce__()
        leaf: Tensor = make(*arguments)
        return leaf
    same = Tensor(self._array, self.requires_grad)
    same._op = self._op
    return same


def _refusing(sign: str, instead: str) -> Callable[..., Any]:
    """For signs that numpy's arrays have."""

    def refuse(self: Tensor, *_: Any) -> Any:
        raise TypeError(f"{sign}: Tensors have no such operation; {instead}")

    return refuse


def _of_whole(reflected: bool, sign: str, operation: str, instead: str) -> Callable[[Tensor, Any], Tensor]:
    """For signs between whole numbers, or their bits, and between masks: numpy's function `operation`."""

    def method(self: Tensor, other: Any) -> Tensor:
        a, b = (other, self) if reflected else (self, other)
        if not all_whole(a, b):
            raise TypeError(f"{sign}: Tensors of floats have no such operation; {instead}")
        return computed(operation, a, b, sign)

    return method


def _invert(self: Tensor) -> Tensor:
    if not is_whole(self):
        raise TypeError(f"~: Tensors of floats have no such operation; {_MASKS}, as in ~(x > 1)")
    return of_one("invert", self)


def _set_item(self: Tensor, key: Any, value: Any) -> None:
    raise TypeError(
        "x[...] = value: Tensors do not change in parts; ops.where(mask, value, x) and ops.concat make new ones, x.copy_from(values) overwrites all"
    )


def _clip(self: Tensor, min: Scalar | None = None, max: Scalar | None = None) -> Tensor:
    return clip(self, min, max)


def _gather(self: Tensor, axis: int, index: Any) -> Tensor:
    return gather(self, axis, index)


def _take(self: Tensor, index: Any, axis: int = 0) -> Tensor:
    return take(self, index, axis)


_WHOLE = "compute with x.numpy(), and fastnn.tensor(...) makes a Tensor of the result"
_MASKS = "comparisons give what does"
_OF_WHOLE = {  # signs: what it is called in Python and in numpy, and what is said of floats
    "//": ("floordiv", "floor_divide", _WHOLE),
    "%": ("mod", "remainder", _WHOLE),
    "&": ("and", "bitwise_and", f"{_MASKS}, as in (x > 1) & (x < 3)"),
    "|": ("or", "bitwise_or", f"{_MASKS}, as in (x > 1) | (x < 3)"),
    "^": ("xor", "bitwise_xor", f"{_MASKS}, as in (x > 1) ^ (x < 3)"),
}
_ABSENT = {"divmod()": "divmod", "<<": "lshift", ">>": "rshift"}

for _name, _method in {
    "pos": lambda self: self,
    "neg": lambda self: multiply(self, -1),
    "abs": _unary(abs),
    "rsub": _binary(subtract, reflected=True),
    "rtruediv": _binary(divide, reflected=True),
    "matmul": _binary(matmul),
    "rmatmul": _binary(matmul, reflected=True),
    "pow": lambda self, exponent: power(self, exponent),
    "rpow": lambda self, base: power(base, self),
    "lt": _binary(less),
    "le": _binary(less_equal),
    "gt": _binary(greater),
    "ge": _binary(greater_equal),
    "eq": _elementwise(equal),
    "ne": _elementwise(not_equal),
    "getitem": lambda self, index: indexed(self, index),
    "iter": lambda self: (self[i] for i in range(len(self))),
    "contains": lambda self, value: bool(equal(self, value).numpy().any()),
    "iadd": _assigning(add, "+"),
    "isub": _assigning(subtract, "-"),
    "imul": _assigning(multiply, "*"),
    "itruediv": _assigning(divide, "/"),
    "ipow": _assigning(power, "**"),
    "imatmul": _assigning(matmul, "@"),
    "copy": _copy,
    "format": _format,
    "float": _number(float),
    "int": _number(int),
    "bool": _number(bool),
    "index": _index,
    "round": _round,
    "setitem": _set_item,
    "delitem": _refusing("del x[...]", "x[:n] and ops.concat make a new one"),
    **{name: _of_whole(False, sign, numpys, instead) for sign, (name, numpys, instead) in _OF_WHOLE.items()},
    **{f"r{name}": _of_whole(True, sign, numpys, instead) for sign, (name, numpys, instead) in _OF_WHOLE.items()},
    **{f"i{name}": _assigning(_of_whole(False, sign, numpys, instead), sign) for sign, (name, numpys, instead) in _OF_WHOLE.items()},
    "invert": _invert,
    **{side + name: _refusing(sign, _WHOLE) for sign, name in _ABSENT.items() for side in ("", "r")},
}.items():
    _method.__name__, _method.__qualname__ = f"__{_name}__", f"Tensor.__{_name}__"  # by which they are shown, and pickled
    setattr(Tensor, f"__{_name}__", _method)
for _operation in (abs, exp, log, sigmoid, sqrt, tanh):
    setattr(Tensor, _operation.__name__, _unary(_operation))
_METHODS: dict[Callable[..., Tensor], Callable[..., Tensor]] = {clip: _clip, gather: _gather, take: _take}
for _function, _same in _METHODS.items():
    _same.__name__, _same.__qualname__, _same.__doc__ = _function.__name__, f"Tensor.{_function.__name__}", _function.__doc__
    setattr(Tensor, _function.__name__, _same)
