"""What arguments must be. Each check returns the value, or raises one exception that names who asked, the argument, what came and what would do."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MappingView, Sequence, Set
from functools import lru_cache
from math import inf, isfinite, isnan
from numbers import Real
from operator import index
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
_MOST = 2**63
_PLAIN = (type(None), bool, int, float, str, bytes)


def shown(value: Any) -> str:
    """A value as an error says it: short ones as they are, anything else by its kind."""
    if isinstance(value, int) and value.bit_length() > 190:  # Python itself writes no more than 4300 digits
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, (tuple, list)) and any(isinstance(one, int) and one.bit_length() > 190 for one in value):
        return f"a {type(value).__name__} of {', '.join(map(shown, value[:4]))}{', ...' if value[4:] else ''}"
    if isinstance(value, (tuple, list, set)) and not all(isinstance(one, (*_PLAIN, tuple, list)) for one in value):
        return f"a {type(value).__name__} of {', '.join(dict.fromkeys(type(one).__name__ for one in value))}"
    if isinstance(value, (*_PLAIN, np.generic, tuple, list, set)):
        text = str(value) if isinstance(value, np.generic) else repr(value)
        if len(text) <= 60 and "\n" not in text:
            return text
    if isinstance(value, type) or callable(value) and hasattr(value, "__name__"):
        return f"{'the class' if isinstance(value, type) else 'the function'} {value.__name__}"
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}" if kind.__module__.partition(".")[0] in ("numpy", "torch") else kind.__qualname__


def integer(what: str, name: str, value: Any, least: int | None = None, below: int | None = None) -> int:
    """An integer, numpy's too, of at least `least` and less than `below`."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__") or hasattr(value, "_array"):  # a Tensor: few keep the result
        raise TypeError(f"{what}: {name} must be an integer, got {shown(value)}")
    try:
        number = index(value)
    except TypeError:  # an array that holds another type, or several
        raise TypeError(f"{what}: {name} must be an integer, got {shown(value)}") from None
    few = least is not None and below is not None and below < 2**31
    if least is not None and number < least:
        words = f"lie between {least} and {below - 1}" if few and below else "not be negative" if least == 0 else f"be at least {least}"
        raise ValueError(f"{what}: {name} must {words}, got {value}")
    if number >= (_MOST if below is None else below):
        words = f"lie between {least} and {below - 1}" if few and below else f"be less than 2**{(below or _MOST).bit_length() - 1}"
        raise ValueError(f"{what}: {name} must {words}, got {shown(value)}")
    return number


def number(what: str, name: str, value: Any, within: str = "(-inf, inf)") -> float:
    """A number in an interval: "[0, 1)" is 0 <= value < 1, "[0, inf)" anything finite that is not negative. NaN lies in none."""
    given = value if type(value) is float else figure(what, name, value)
    low, high, ends = _interval(within)
    if low < given < high or given in ends:
        return given
    if isnan(given) or (given in (inf, -inf) and high == inf and inf not in ends):
        raise ValueError(f"{what}: {name} must be a {'number' if inf in ends else 'finite number'}, got {shown(value)}")
    wanted = f"lie in {within}" if high < inf else f"be {'at least' if within[0] == '[' else 'greater than'} {low:g}"
    raise ValueError(f"{what}: {name} must {_WORDS.get(within, wanted)}, got {shown(value)}")


@lru_cache(None)
def _interval(within: str) -> tuple[float, float, tuple[float, ...]]:
    """Where an interval begins, where it ends, and which of both lie in it."""
    low, high = (float(end) for end in within[1:-1].split(","))
    return low, high, (low,) * (within[0] == "[") + (high,) * (within[-1] == "]")


def finite(what: str, name: str, value: Any) -> float:
    """A number that is neither NaN nor infinite; soon done, for what each call of an operation asks."""
    return float(value) if type(value) in (int, float) and isfinite(value) else number(what, name, value)


def unwrapped(value: Any) -> Any:
    """What an array of rank 0 holds, which is numpy's number; anything else as it is."""
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def figure(what: str, name: str, value: Any) -> float:
    """A number, NaN and infinities too: something that was measured."""
    value = unwrapped(value)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{what}: {name} must be a number, got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{what}: {name} must be a number that a float can hold, got {shown(value)}") from None


_WORDS = {"[0, inf)": "not be negative", "[0, inf]": "not be negative", "(0, inf)": "be positive", "(0, inf]": "be positive"}


def numbers(what: str, name: str, value: Any, count: int | None = None, within: str = "(-inf, inf)") -> tuple[float, ...]:
    """Several numbers (`count` of them) in an interval."""
    words = {2: "two", 3: "three"}.get(count or 0, "several")
    wanted = f"{words} numbers{'' if within in ('(-inf, inf)', '[0, inf]') else f' in {within}'}"
    given = [unwrapped(v) for v in value] if isinstance(value, (tuple, list, range)) or getattr(value, "ndim", 0) == 1 else None
    if given is None or not all(isinstance(v, Real) for v in given):
        raise TypeError(f"{what}: {name} must be {wanted}, got {shown(value)}")
    try:
        if count in (None, len(given)):
            return tuple(number(what, name, v, within) for v in given)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{what}: {name} must be {wanted}, got {shown(value)}")


def text(what: str, name: str, value: Any, hint: str = "") -> str:
    """A str."""
    if not isinstance(value, str):
        raise TypeError(f"{what}: {name} must be a str{f' {hint}' if hint else ''}, got {shown(value)}")
    return value


def path(what: str, name: str, value: Any) -> str:
    """Where a file or folder lies: a str or os.PathLike. As a str."""
    if not isinstance(value, (str, os.PathLike)) or not value or "\0" in os.fspath(value):
        raise (ValueError if isinstance(value, str) else TypeError)(f"{what}: {name} must be a path, got {shown(value)}")
    return str(os.fspath(value))


def one_of(what: str, name: str, value: T, choices: Sequence[T]) -> T:
    """One of a few values."""
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        listed = ", ".join(str(choice) for choice in choices)
        if isinstance(value, tuple(map(type, choices))):
            raise ValueError(f"{what}: {name} {shown(value)} is not one of {listed}")
        raise TypeError(f"{what}: {name} must be one of {listed}, got {shown(value)}")
    return value


def other_word(what: str, name: str, value: Any, wanted: str) -> ValueError | TypeError:
    """What to raise for a word that is none of `wanted`, or for what is no word."""
    return (ValueError if isinstance(value, str) else TypeError)(f"{what}: {name} must be {wanted}, got {shown(value)}")


def dtype_name(value: Any) -> str:
    """The word for a dtype, also of numpy's and Python's types of numbers: "float32". Of anything else ""."""
    if isinstance(value, type):
        words = {bool: "bool", int: "int64", float: "float64"}
        return words.get(value, value.__name__.rstrip("_") if issubclass(value, np.generic) else "")
    return value if isinstance(value, str) else value.name if isinstance(value, np.dtype) else ""


def refuse_other_integers(what: str, values: np.ndarray, dtype: str) -> None:
    """ValueError where the cast would make other numbers of them: 300 as uint8, 2**63 or NaN as int64."""
    if dtype not in ("uint8", "int64") or np.can_cast(values.dtype, dtype) or not values.size:
        return
    least, beyond = np.iinfo(dtype).min, np.iinfo(dtype).max + 1
    fits = (values > least - 1) & (values < beyond) if values.dtype.kind != "f" else (values >= least) & (values < float(beyond))
    if not fits.all():
        at = np.unravel_index(fits.argmin(), fits.shape)
        raise ValueError(f"{what}: {values[at]} at {tuple(map(int, at))} is no {dtype}; expected {least} to {beyond - 1}")


def refuse_other_kinds(what: str, values: np.ndarray, dtype: str) -> None:
    """TypeError where a Tensor that stays what it is has no place for numbers of this kind: fractions among integers, any in a mask."""
    kinds = {"bool": ("booleans", "b"), "uint8": ("integers", "iub"), "int64": ("integers", "iub")}
    wanted, taken = kinds.get(dtype, ("numbers", "fiub"))
    if values.dtype.kind not in taken:
        raise TypeError(f"{what}: got {values.dtype}; expected {wanted}, of which this Tensor of {dtype} is")


def flag(what: str, name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what}: {name} must be True or False, got {shown(value)}")
    return bool(value)


def instance(what: str, name: str, value: Any, kinds: type[T] | tuple[type[T], ...], wanted: str) -> T:
    """Something of a class; `wanted` says it in words."""
    if not isinstance(value, kinds):
        raise TypeError(f"{what}: {name} must be {wanted}, got {shown(value)}{_made(value, kinds)}")
    return value


def _made(value: Any, kinds: Any) -> str:
    """What to do with a class, where one of its objects is wanted."""
    return f"; {value.__name__}(...) makes one" if isinstance(value, type) and issubclass(value, kinds) else ""


def items(what: str, name: str, value: Any, wanted: str) -> list[Any]:
    """What a list or another iterable holds. Sets have no order, of dicts nobody knows whether keys or values are meant; their keys(), values()
    and items() are in order."""
    ordered = not isinstance(value, Set) or isinstance(value, (MappingView, Sequence)) or hasattr(value, "__reversed__")
    if ordered and not isinstance(value, (str, bytes, type, Mapping)):
        try:
            return list(value)
        except TypeError:  # no iterable, or an array of rank 0
            pass
    raise TypeError(f"{what}: {name} must be {wanted}, got {shown(value)}")


def names(what: str, name: str, value: Any, wanted: str) -> list[str]:
    """Words in order, or numbers that stand for some."""
    found = items(what, name, value, wanted)
    for one in found:
        if isinstance(one, bool) or not isinstance(one, (str, int, np.integer)):
            raise TypeError(f"{what}: {name} must be {wanted}, got {shown(one)} among them")
    return [str(one) for one in found]


def several(what: str, name: str, value: Any, kind: type[T], wanted: str) -> list[T]:
    """A list or another iterable of things of a class, all of which `wanted` names."""
    if isinstance(value, kind):
        raise TypeError(f"{what}: {name} must be {wanted}, got {shown(value)}")
    found = items(what, name, value, wanted)
    for one in found:
        if not isinstance(one, kind):
            raise TypeError(f"{what}: {name} must be {wanted}, got {shown(one)} among them{_made(one, kind)}")
    return found


def array(what: str, name: str, values: Any, wanted: str = "") -> np.ndarray:
    """As numpy's array: a list, a Tensor, PyTorch's (parameters too), bfloat16 as float32; one that is mapped from a file stays so. Of any object at all
    numpy makes an array of one: with `wanted`, which says in words what would do, that is TypeError."""
    if type(values) is np.ndarray and values.dtype.kind != "V":
        return values
    if hasattr(values, "toarray"):  # a sparse matrix, of which numpy would make a single object
        raise TypeError(f"{what}: {name} must be an array, got {shown(values)}; its toarray() makes one")
    if hasattr(values, "detach") and any(kind.__module__.partition(".")[0] == "torch" for kind in type(values).__mro__):
        return _of_torch(what, name, values)
    try:
        given: np.ndarray = np.asanyarray(
            values.numpy() if hasattr(values, "numpy") and not isinstance(values, (np.ndarray, type)) else values
        )
    except (ValueError, TypeError):
        raise ValueError(f"{what}: {name} must be an array, or lists of equal lengths, got {shown(values)}") from None
    if given.dtype.name == "bfloat16":  # JAX's, which float32 holds
        given = given.astype(np.float32)
    if wanted and not given.shape and given.dtype.kind not in "biuf" and not isinstance(values, int):
        raise TypeError(f"{what}: {name} must be {wanted}, got {shown(values)}")
    if np.ma.is_masked(given):  # what lies below the mask would count
        raise ValueError(
            f"{what}: {name} has masked values, which nothing here passes over; expected none: {name}.filled(value) replaces them"
        )
    return given if isinstance(given, np.memmap) else given.view(np.ndarray)  # whose words are numpy's own


def own_integers(values: np.ndarray) -> np.ndarray:
    """A copy as int64 in a plain array: what is looked at is what kernels then trust, whoever writes to the original meanwhile and whatever its
    class says. Those beyond int64 become its largest."""
    copied = np.array(values, subok=False)
    return np.minimum(copied, np.iinfo(np.int64).max).astype(np.int64) if copied.dtype == np.uint64 else copied.astype(np.int64)


_NUMPYS = ("torch.float16", "torch.float32", "torch.float64")


def _of_torch(what: str, name: str, values: Any) -> np.ndarray:
    """PyTorch's own numpy() gives neither parameters, nor what a GPU holds, nor bfloat16, which float32 holds. In the memory it has, where it can."""
    try:
        host = values.detach().cpu()
        host = host.float() if host.is_floating_point() and str(host.dtype) not in _NUMPYS else host
        given: np.ndarray = host.numpy()
    except (ValueError, TypeError, RuntimeError):
        kind = f"{shown(values)} of {values.dtype} ({values.layout}, on {values.device})"
        raise ValueError(f"{what}: {name} must be an array that numpy can hold, dense and on the CPU, got {kind}") from None
    return given


def function(what: str, name: str, value: Any, wanted: str) -> Callable[..., Any]:
    """Something that can be called; `wanted` says of what."""
    if not callable(value) or isinstance(value, type):
        made = f"; {value.__name__}() is an object of it" if isinstance(value, type) and "__call__" in dir(value) else ""
        raise TypeError(f"{what}: {name} must be {wanted}, got {shown(value)}{made}")
    checked: Callable[..., Any] = value
    return checked
