"""What an operation says of arguments that it cannot take.

The operations themselves check shapes and values. Types are looked at here, and only once something went wrong: whatever happened further in,
the caller reads which argument of which operation is of the wrong kind.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import wraps
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from .. import _C
from ..arguments import shown
from ..tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

_LOST = (AttributeError, LookupError, ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError)
_OURS = (_C.DeviceError, _C.OutOfMemoryError, _C.CaptureError)


def explained(operation: F) -> F:
    """The same, whose errors name it and the argument that is of a wrong kind."""

    @wraps(operation)
    def call(*args: Any, **keywords: Any) -> Any:
        try:
            return operation(*args, **keywords)
        except _LOST as error:
            if isinstance(error, _OURS):
                raise
            better = _better(operation, args, keywords, error)
            if better is None:
                raise
        raise better

    return call  # type: ignore[return-value]


def _better(operation: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any], error: Exception) -> Exception | None:
    name, text = operation.__name__, str(error)
    if type(error) in (ValueError, TypeError) and text.startswith(f"{name}:") and not _INSIDE.search(text) and "\n" not in text:
        return None  # its own words
    try:
        given = inspect.signature(operation).bind(*args, **keywords).arguments
    except TypeError:  # Python's own words for a wrong number of them
        return None
    for argument, value in given.items():
        wanted = _wanted(str(operation.__annotations__.get(argument, "Any")), value)
        if wanted is not None:
            return TypeError(f"{name}: {argument}: expected {wanted}, got {shown(value)}{_MAKES if wanted == 'a Tensor' else ''}")
    if not _INSIDE.search(text):
        if type(error) in (ValueError, TypeError) and "\n" not in text:
            return None if re.search(rf"\b{name}\b", text) else type(error)(f"{name}: {text}")
        if isinstance(error, (IndexError, RuntimeError)):
            return None
    listed = ", ".join(f"{argument}={shown(value)}" for argument, value in given.items() if not isinstance(value, Tensor))
    shapes = ", ".join(f"{argument} of shape {value.shape}" for argument, value in given.items() if isinstance(value, Tensor))
    return ValueError(f"{name}: cannot work with {', '.join(part for part in (shapes, listed) if part)}")


# What numpy, pybind11 and Python say of things further in.
_INSIDE = re.compile(
    r"incompatible|Unable to (cast|convert)|could not (convert|be broadcast)|setting an array|invalid literal|no attribute|not supported between"
    r"|unsupported operand|bad operand|truth value|unhashable|out of bounds for (axis|array)|is not (iterable|subscriptable|callable)|cannot be interpreted"
)
_MAKES = "; fastnn.tensor(array) makes one"


def _wanted(annotation: str, value: Any) -> str | None:
    """What the annotation asks for, where the value is nothing of it."""
    kinds = [kind.strip() for kind in annotation.split("|")]
    if "Any" in kinds or (value is None and "None" in kinds):
        return None
    checks = [_CHECKS[kind] for kind in (k.partition("[")[0] for k in kinds) if kind in _CHECKS]
    if not checks or any(fits(value) for fits, _ in checks):
        return None
    return " or ".join(dict.fromkeys(words for _, words in checks))


def _whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, (bool, np.ndarray, Tensor)) and -(2**63) <= int(value) < 2**63


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _several(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(_whole(one) or one is None or isinstance(one, (Tensor, float)) for one in value)


def _pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_whole, value))


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "Tensor": (lambda value: isinstance(value, Tensor), "a Tensor"),
    "int": (_whole, "an integer"),
    "float": (_number, "a number"),
    "Scalar": (_number, "a number"),
    "bool": (lambda value: isinstance(value, (bool, np.bool_)), "True or False"),
    "str": (lambda value: isinstance(value, str), "a word"),
    "Pair": (_pair, "a pair of integers"),
    "tuple": (_several, "several numbers"),
    "Sequence": (_several, "several"),
    "Scale": (
        lambda value: _number(value) or isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_number, value)),
        "a number or a pair",
    ),
    "Padding": (lambda value: isinstance(value, str) or _whole(value) or _pair(value), 'an integer, a pair, "same" or "valid"'),
}
