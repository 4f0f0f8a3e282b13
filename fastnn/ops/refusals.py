"""What an operation says of arguments that it cannot take.

The operations themselves check shapes and values. Types of numbers and switches are looked at here ahead of it: True would do as 1, a Tensor of
one element as a number. Types of all other arguments are looked at only once something went wrong: whatever happened further in, the caller
reads which argument of which operation is of the wrong kind.
"""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache, wraps
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from .. import _C
from ..arguments import flag, shown, unwrapped
from ..other_names import unknown_name
from ..tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

_LOST = (AttributeError, LookupError, ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError)
_OURS = (_C.DeviceError, _C.OutOfMemoryError, _C.CaptureError, FloatingPointError)  # the last: of set_finite_checks


def explained(operation: F) -> F:
    """The same, whose errors name it and the argument that is of a wrong kind."""

    kinds = {name: str(kind) for name, kind in operation.__annotations__.items() if name != "return"}  # of all arguments, in their order
    plain = [(i, name, types) for i, (name, kind) in enumerate(kinds.items()) if (types := _plain_types(kind))]

    def fitted(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        for i, name, types in plain:
            if i < len(args):
                if type(args[i]) not in types:
                    args = (*args[:i], _fitting(operation.__name__, name, kinds[name], args[i]), *args[i + 1 :])
            elif name in keywords and type(keywords[name]) not in types:
                keywords[name] = _fitting(operation.__name__, name, kinds[name], keywords[name])
        return _C.Explained(operation, [], fitted, explain)(*args, **keywords)

    def explain(error: BaseException, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if isinstance(error, _LOST) and not isinstance(error, _OURS) and not _from_a_callers_function(error):
            better = _better(operation.__name__, operation, args, keywords, error)
            if better is not None:
                raise better

    call: Any = wraps(operation)(_C.Explained(operation, plain, fitted, explain))
    call.__module__ = "fastnn.ops"  # where a pickle finds it
    return call  # type: ignore[no-any-return]


def _from_a_callers_function(error: BaseException) -> bool:
    """Whether it comes out of a function of the caller's, as a model's forward, whose author reads what was said there, and where."""
    ours = ("fastnn", "numpy", *sys.stdlib_module_names)
    names = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.partition(".")[0] not in ours for name in names)


_PLAIN: dict[str, tuple[type, ...]] = {"None": (type(None),), "bool": (bool,), "int": (int,), "float": (int, float)}


def _plain_types(annotation: str) -> frozenset[type]:
    """The types that fit an annotation of numbers or switches; none of one that takes more than those."""
    kinds = [kind.strip() for kind in annotation.split("|")]
    fitting = all(kind in _PLAIN for kind in kinds) and kinds != ["None"]
    return frozenset(one for kind in kinds for one in _PLAIN[kind]) if fitting else frozenset()


def _fitting(operation: str, name: str, annotation: str, value: Any) -> Any:
    """For what is of none of the plain types: numpy's numbers fit, an array of rank 0 as the number that it holds."""
    if "bool" in annotation:
        flag(operation, name, value)
    elif (wanted := _wanted(annotation, value)) is not None:
        raise TypeError(f"{operation}: {name} must be {wanted}{' or None' if 'None' in annotation else ''}, got {shown(value)}")
    return _number_of(value)


def _number_of(value: Any) -> Any:
    return unwrapped(value) if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" else value


def typed(init: F) -> F:
    """The same `__init__` of a layer, which refuses arguments that are nothing of what they are annotated with, in its own words if it has some."""

    @wraps(init)
    def call(self: Any, *args: Any, **keywords: Any) -> None:
        name, better = type(self).__name__, None
        args, keywords = tuple(map(_number_of, args)), {word: _number_of(value) for word, value in keywords.items()}
        try:
            init(self, *args, **keywords)
        except _LOST as error:
            better = _better(name, init, (self, *args), keywords, error)
            if better is None:
                raise
        better = better or _of_wrong_kind(name, init, (self, *args), keywords)
        if better is not None:
            raise better

    return call  # type: ignore[return-value]


def _of_wrong_kind(name: str, function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Exception | None:
    signature = inspect.signature(function)
    for argument, given in signature.bind(*args, **keywords).arguments.items():
        kind = signature.parameters[argument].kind
        values = given if kind is inspect.Parameter.VAR_POSITIONAL else () if kind is inspect.Parameter.VAR_KEYWORD else (given,)
        annotation = str(function.__annotations__.get(argument, "Any"))
        for value in values:
            if (wanted := _wanted(annotation, value)) is not None:
                return TypeError(f"{name}: {argument}: expected {wanted}, got {shown(value)}{_MAKES if wanted == 'a Tensor' else ''}")
            if _too_large(annotation, value):
                return ValueError(f"{name}: {argument} must lie between -2**63 and 2**63 - 1, got {shown(value)}")
    return None


def _better(
    name: str, operation: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any], error: Exception
) -> Exception | None:
    text, original = str(error), error
    if type(error) is ValueError and re.search(_APART, text) and (apart := _of_other_device(name, operation, args, keywords)) is not None:
        return apart
    if type(error) is ValueError and type(wrong := _of_wrong_kind(name, operation, args, keywords)) is TypeError:
        return wrong  # before what is said of its value
    row = text.partition(":")[0]
    if type(error) in (ValueError, TypeError) and row != name and row in _rows():  # a kernel's name, which the caller never wrote
        text = _with_names(operation, f"{name}: {text.partition(': ')[2]}")
        error = type(error)(text)
    if type(error) is TypeError and re.search(_KIND, text):
        wrong = _of_wrong_kind(name, operation, args, keywords) or _of_wrong_dtype(name, operation, args, keywords)
        return wrong or error
    if (
        type(error) in (ValueError, TypeError)
        and re.search(rf"\b{name}( holds|:)", text)
        and not re.search(_INSIDE, text)
        and "\n" not in text
    ):
        return None if text == str(original) else error  # its own words
    try:
        given = inspect.signature(operation).bind(*args, **keywords).arguments
    except TypeError:  # Python's own words for a wrong number of them
        there = inspect.signature(operation)
        here = {word: f"here it is {other}" for word, other in _OTHER_WORDS if other in there.parameters}
        here["inplace"] = "nothing is in place; leave it out"
        by_name = [word for word, parameter in there.parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
        if "positional argument" in text and "were given" in text and by_name:
            return TypeError(f"{text}; give {', '.join(f'{word}=' for word in by_name)} by name")
        return unknown_name(name, there, here, keywords)
    wrong = _of_wrong_kind(name, operation, args, keywords)
    if wrong is not None:
        return wrong
    given.pop("self", None)
    if not re.search(_INSIDE, text):
        if type(error) in (ValueError, TypeError) and "\n" not in text:
            return None if re.search(rf"\b{name}\b", text) else type(error)(f"{name}: {text}")
        if isinstance(error, (LookupError, RuntimeError)):
            return None
    no_float = isinstance(error, OverflowError) and text.endswith("to float")  # Python's words for a number where floats do
    bits, wanted = (1023, "be a number that a float can hold") if no_float else (31, "lie between -2**31 and 2**31 - 1")
    for argument, value in given.items():
        if isinstance(value, int) and not -(2**bits) <= value < 2**bits:
            return ValueError(f"{name}: {argument} must {wanted}, got {shown(value)}")
    listed = ", ".join(f"{argument}={shown(value)}" for argument, value in given.items() if not isinstance(value, Tensor))
    shapes = ", ".join(f"{argument} of shape {value.shape}" for argument, value in given.items() if isinstance(value, Tensor))
    return ValueError(f"{name}: cannot work with {', '.join(part for part in (shapes, listed) if part)}")


def _with_names(operation: Callable[..., Any], text: str) -> str:
    """An operand of a kernel under the name of the argument that it was."""
    there = inspect.signature(operation).parameters
    found = re.match(r"(\w+: )(b|gamma|beta)( has (?:shape|dtype) .*)", text)
    called = {"b": "bias", "gamma": "weight", "beta": "bias"}[found[2]] if found and found[2] not in there else ""
    return f"{found[1]}{called}{found[3]}" if found and called in there else text


@lru_cache(None)
def _rows() -> set[str]:
    return {row["name"] for row in _C.rows()}


_APART = r"\w+ lies on .*; move one of them with"


def _of_other_device(name: str, operation: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Exception | None:
    """What a kernel says of its operands, said of the arguments."""
    given = inspect.signature(operation).bind(*args, **keywords).arguments
    first, *others = [(argument, value.device) for argument, value in given.items() if isinstance(value, Tensor)] or [("", "")]
    other = next(((argument, device) for argument, device in others if device != first[1]), None)
    if other is None:
        return None
    return ValueError(f"{name}: {other[0]} lies on {other[1]}, {first[0]} on {first[1]}; move one of them with .to('{first[1]}')")


_KIND = r"^\w+: \w+ has dtype \w+; expected"
_FLOATS = ("float32", "float64", "bfloat16")
_OF_WHOLE_NUMBERS = ("labels", "condition", "index", "indices")  # what is to be such, and is looked at by itself
_WIDE = ("weight", "bias", "running_mean", "running_var")  # float32 beside bfloat16, too


def _of_wrong_dtype(name: str, operation: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Exception | None:
    """What a kernel says of its operands, said of the arguments."""
    given = inspect.signature(operation).bind(*args, **keywords).arguments
    kinds = {name: dtype for argument, value in given.items() for name, dtype in _kinds(argument, value)}
    floats = {argument: kind for argument, kind in kinds.items() if kind in _FLOATS}
    if len(set(floats.values())) > 1:
        return _of_several_dtypes(name, floats)
    whole = next((argument for argument in kinds if argument not in floats and argument not in _OF_WHOLE_NUMBERS), None)
    if whole is None:
        return None
    instead = f"fastnn.tensor(x, 'float32') makes one, x.numpy() computes with {'masks' if kinds[whole] == 'bool' else 'whole numbers'}"
    return TypeError(f"{name}: {whole} has dtype {kinds[whole]}; expected float32 or float64; {instead}")


def _of_several_dtypes(name: str, floats: dict[str, str]) -> Exception:
    remedy = "fastnn.tensor(array, 'float32') makes one, model.double() a model"
    if set(floats.values()) == {"float32", "bfloat16"}:
        apart = {argument: kind for argument, kind in floats.items() if argument not in _WIDE}
        floats = apart if len(set(apart.values())) > 1 else floats
        narrow, wide = (next(argument for argument, kind in floats.items() if kind == one) for one in ("bfloat16", "float32"))
        remedy = f"fastnn.ops.cast({wide}, {narrow}.dtype) narrows it, and leaves its gradient float32"
    listed = ", ".join(f"{argument} has dtype {kind}" for argument, kind in floats.items())
    return TypeError(f"{name}: {listed}; expected the same for all; {remedy}")


def _kinds(argument: str, value: Any) -> list[tuple[str, str]]:
    """Tensors by their names, and their dtypes; of a list the first of each dtype."""
    if isinstance(value, Tensor):
        return [(argument, value.dtype)]
    first: dict[str, str] = {}
    for i, one in enumerate(value if isinstance(value, (list, tuple)) else ()):
        if isinstance(one, Tensor):
            first.setdefault(one.dtype, f"{argument}[{i}]")
    return [(name, dtype) for dtype, name in first.items()]


# What numpy, pybind11 and Python say of things further in.
_INSIDE = (
    r"incompatible|Unable to (cast|convert)|cannot convert|could not (convert|be broadcast)|setting an array|invalid literal|no attribute|not supported between"
    r"|unsupported operand|bad operand|truth value|unhashable|out of bounds for (axis|array)|is not (iterable|subscriptable|callable)|cannot be interpreted"
)
_OTHER_WORDS = (("axis", "dim"), ("dim", "axis"), ("keepdim", "keepdims"), ("start_dim", "start"), ("end_dim", "end"), ("input", "x"))
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
    value = _number_of(value)
    return hasattr(value, "__index__") and not isinstance(value, (bool, np.ndarray, Tensor))


def _too_large(annotation: str, value: Any) -> bool:
    """For integers, alone or several, where no other numbers fit."""
    given = value if isinstance(value, (tuple, list)) else (value,)
    wide = any(isinstance(one, (int, np.integer)) and not -(2**63) <= one < 2**63 for one in given)
    return wide and not re.search("float|Scalar|Scale|Any", annotation)


def _number(value: Any) -> bool:
    value = _number_of(value)
    return isinstance(value, Real) and not isinstance(value, bool)


def _several(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(_whole(one) or one is None or isinstance(one, (Tensor, float)) for one in value)


def _pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_whole, value))


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "Module": (lambda value: hasattr(value, "named_parameters") and not isinstance(value, type), "a Module"),
    "Mapping": (lambda value: hasattr(value, "items"), "a dict"),
    "Tensor": (lambda value: isinstance(value, Tensor), "a Tensor"),
    "int": (_whole, "an integer"),
    "float": (_number, "a number"),
    "Scalar": (_number, "a number"),
    "bool": (lambda value: isinstance(value, (bool, np.bool_)), "True or False"),
    "str": (lambda value: isinstance(value, str), "a word"),
    "Pair": (_pair, "a pair of integers"),
    "tuple": (lambda value: _several(value) and not any(isinstance(one, Tensor) for one in value), "several numbers"),
    "Sequence": (_several, "a list or a tuple"),
    "Scale": (
        lambda value: _number(value) or isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_number, value)),
        "a number or a pair",
    ),
    "Padding": (lambda value: isinstance(value, str) or _whole(value) or _pair(value), 'an integer, a pair, "same" or "valid"'),
}
