"""Arithmetic with broadcasting (numpy's rules) and elementwise functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import copysign, inf
from math import log as logarithm
from typing import Any

import numpy as np

from .. import _C
from ..arguments import shown, unwrapped
from ..tensor import Array, Op, Scalar, Tensor, apply, tensor
from .activation import elements, elementwise
from .reduce import reduction
from .shape import expanded, floats, reshaped
from .whole import all_whole, computed, is_whole

binary = lru_cache(4096)(_C.Binary)
power_of = lru_cache(1024)(_C.Power)


@lru_cache(1024)
def constant(value: float, dtype: str, device: str, sign: float = 1.0) -> Tensor:
    """`sign` is part of the key: to the cache 0.0 and -0.0 are the same number."""
    try:
        return Tensor(_C.constant(np.asarray(value, "float32" if dtype == "bfloat16" else dtype), device, dtype))
    except OverflowError:
        raise ValueError(f"dtype {dtype} does not hold {value:g}; fastnn.tensor(x, 'float32') makes one that does") from None


def operands(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Numbers and numpy arrays beside a Tensor take its dtype."""
    if isinstance(a, Tensor):
        return a, b if isinstance(b, Tensor) else _beside(a, b, "b")
    if isinstance(b, Tensor):
        return _beside(b, a, "a"), b
    raise TypeError(f"expected at least one Tensor as a and b, got {shown(a)} and {shown(b)}")


def counted(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """The same, where whole numbers and booleans take the dtype of floats beside them, too."""
    if (is_whole(a) or is_whole(b)) and not all_whole(a, b):
        dtype = next((t.dtype for t in (a, b) if isinstance(t, Tensor) and t.dtype in floats), "float32")
        a, b = as_floats(a, dtype), as_floats(b, dtype)
    return operands(a, b)


def as_floats(x: Any, dtype: str) -> Any:
    """A Tensor of whole numbers or booleans as one of floats, without a gradient; all else as it is."""
    if not is_whole(x):
        return x
    if x.dtype != "bool":
        return tensor(x, dtype, device=x.device)
    one, zero = (constant(value, dtype, x.device)._array for value in (1.0, 0.0))
    return Tensor(_C.where(binary(x.shape, ()), x._array, expanded(reshaped(one, (1,) * x.ndim), x.shape), zero))


def _beside(t: Tensor, value: Any, name: str) -> Tensor:
    if isinstance(value, (int, float)):
        return constant(float(value), t.dtype, t.device, copysign(1.0, value))
    if value is None or isinstance(value, (str, bytes, dict, set, type)) or callable(value):
        raise TypeError(f"{name}: expected a Tensor, an array or a number beside a Tensor of shape {t.shape}, got {shown(value)}")
    return made_beside(t, value, name)


def made_beside(t: Tensor, value: Any, name: str) -> Tensor:
    """A Tensor of t's dtype, where t lies. What is wrong with the value is said of the argument `name`, which the caller wrote."""
    try:
        return tensor(value, dtype=t.dtype, device=t.device)
    except (TypeError, ValueError) as error:
        text = str(error).removeprefix("fastnn.tensor: ")
        raise type(error)(f"{name} {text[6:]}" if text.startswith("array ") else f"{name}: {text}") from None


def sum_to(d: Array, shape: tuple[int, ...]) -> Array:
    """Undoes broadcasting: sums a gradient over the dimensions in which an operand of `shape` was repeated."""
    if d.shape == shape:
        return d
    leading = len(d.shape) - len(shape)
    axes = (*range(leading), *(leading + i for i, n in enumerate(shape) if n == 1 and d.shape[leading + i] != 1))
    d = _C.sum(reduction(d.shape, axes, True), d)
    return reshaped(d, shape)


def _add(a: Array, b: Array) -> Array:
    return _C.add(binary(a.shape, b.shape), a, b)


def _multiply(a: Array, b: Array) -> Array:
    return _C.multiply(binary(a.shape, b.shape), a, b)


def _divide(a: Array, b: Array) -> Array:
    return _C.divide(binary(a.shape, b.shape), a, b)


def _negative(a: Array) -> Array:
    return _multiply(a, constant(-1.0, a.dtype, a.device)._array)


class Add(Op):
    __slots__ = ("shapes",)

    def forward(self, a: Array, b: Array) -> Array:
        first, second = self.shapes = a.shape, b.shape
        return _C.add(binary(first, second), a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return tuple([sum_to(dy, s) if need else None for s, need in zip(self.shapes, self.needs)])


class Subtract(Op):
    __slots__ = ("shapes",)

    def forward(self, a: Array, b: Array) -> Array:
        first, second = self.shapes = a.shape, b.shape
        return _C.subtract(binary(first, second), a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        a, b = self.shapes
        return sum_to(dy, a) if self.needs[0] else None, _negative(sum_to(dy, b)) if self.needs[1] else None


class Multiply(Op):
    __slots__ = ()

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        return _multiply(a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        a, b = self.saved
        da = sum_to(_multiply(dy, b), a.shape) if self.needs[0] else None
        db = sum_to(_multiply(dy, a), b.shape) if self.needs[1] else None
        return da, db


class Divide(Op):
    __slots__ = ()

    def forward(self, a: Array, b: Array) -> Array:
        self.save(a, b)
        return _divide(a, b)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        a, b = self.saved
        da = _divide(dy, b)
        db = sum_to(_negative(_divide(_multiply(da, a), b)), b.shape) if self.needs[1] else None  # -a / b^2
        return sum_to(da, a.shape) if self.needs[0] else None, db


class Exp(Op):
    __slots__ = ()

    def forward(self, x: Array) -> Array:
        y = _C.exp(elements(x.shape), x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (y,) = self.saved
        return (_multiply(dy, y),)


class Log(Op):
    __slots__ = ()

    def forward(self, x: Array) -> Array:
        self.save(x)
        return _C.log(elements(x.shape), x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (x,) = self.saved
        return (_divide(dy, x),)


class Sqrt(Op):
    __slots__ = ()

    def forward(self, x: Array) -> Array:
        y = _C.sqrt(elements(x.shape), x)
        self.save(y)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (y,) = self.saved
        return (_divide(dy, _add(y, y)),)


class Power(Op):
    __slots__ = ("exponent",)

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def forward(self, x: Array) -> Array:
        self.save(x)
        return _C.power(power_of(x.shape, self.exponent), x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (x,) = self.saved
        slope = _C.power(power_of(x.shape, self.exponent - 1 if self.exponent else 0.0), x)  # of x^0: 0 everywhere, at 0 too
        return (_multiply(dy, _multiply(slope, constant(self.exponent, x.dtype, x.device)._array)),)


ARITHMETIC: dict[str, tuple[type[Op], str, str]] = {  # as `elementwise` takes them, before `otherwise` and `constant`
    "add": (Add, "add", "shapes"),
    "subtract": (Subtract, "subtract", "shapes"),
    "multiply": (Multiply, "multiply", "inputs"),
    "divide": (Divide, "divide", "inputs"),
}


def _of_two(name: str) -> Callable[[Any, Any], Tensor]:
    op, *words = ARITHMETIC[name]

    def otherwise(a: Any, b: Any) -> Tensor:
        if all_whole(a, b):
            if name != "divide":
                return computed(name, a, b)
            a, b = as_floats(a, "float32"), as_floats(b, "float32")
        return apply(op(), *counted(a, b))

    return elementwise(op, *words, otherwise, constant)


add_tensors, subtract_tensors, multiply_tensors, divide_tensors = map(_of_two, ARITHMETIC)
exp_tensor = elementwise(Exp, "exp", "result", lambda x: apply(Exp(), x))
log_tensor = elementwise(Log, "log", "inputs", lambda x: apply(Log(), x))
sqrt_tensor = elementwise(Sqrt, "sqrt", "result", lambda x: apply(Sqrt(), x))


def add(a: Any, b: Any) -> Tensor:
    """a + b with broadcasting. Whole numbers and booleans give int64, beside floats they count as floats; so for - and *."""
    return add_tensors(a, b)


def subtract(a: Any, b: Any) -> Tensor:
    """a - b with broadcasting."""
    return subtract_tensors(a, b)


def multiply(a: Any, b: Any) -> Tensor:
    """a * b with broadcasting."""
    return multiply_tensors(a, b)


def divide(a: Any, b: Any) -> Tensor:
    """a / b with broadcasting; of whole numbers in float32."""
    return divide_tensors(a, b)


def power(x: Tensor | Scalar, exponent: Tensor | Scalar) -> Tensor:
    """x ** exponent for a constant exponent; d/dx = exponent * x ** (exponent - 1). Of a positive, finite constant x: exp(exponent log x)."""
    x, exponent = unwrapped(x), unwrapped(exponent)
    if (is_whole(x) and isinstance(exponent, (int, np.integer))) or (is_whole(exponent) and isinstance(x, (int, np.integer))):
        return computed("power", x, exponent)
    x, exponent = as_floats(x, "float32"), as_floats(exponent, "float32")
    if isinstance(exponent, Tensor) and not isinstance(x, Tensor):
        if not (of_number := isinstance(x, (int, float, np.integer, np.floating))) or not 0 < x < inf:
            kind = ValueError if of_number else TypeError
            raise kind(f"power: the base of a Tensor of exponents must be a positive, finite number, got {shown(x)}")
        if x == 1:  # 1 to any power, infinity and NaN too (IEEE 754-2019, 9.2.1)
            return apply(Power(0.0), exponent)
        return exp(exponent * logarithm(x))
    if not isinstance(exponent, (int, float, np.integer, np.floating)):
        raise TypeError(f"power: the exponent must be a number, got {type(exponent).__name__}; write exp(b * log(a)) for a variable one")
    if not isinstance(x, Tensor):
        raise TypeError(f"power: x: expected a Tensor, got {shown(x)}; fastnn.tensor(array) makes one")
    return apply(Power(float(exponent)), x)


def exp(x: Tensor) -> Tensor:
    """e ** x."""
    return exp_tensor(x)


def log(x: Tensor) -> Tensor:
    """Natural logarithm; -inf at 0, NaN below."""
    return log_tensor(x)


def sqrt(x: Tensor) -> Tensor:
    """Square root; NaN below 0."""
    return sqrt_tensor(x)
