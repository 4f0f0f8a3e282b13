"""What goes into a captured step and comes out of it: Tensors, and what is part of the recording."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np

from . import _C
from .kept import Buffer, Kept
from .tensor import Tensor, is_grad_enabled

_PLAIN = (int, float, bool, str, bytes, type(None), np.bool_, np.integer, np.floating)


def _bits(value: Any) -> Any:
    """Equal for numbers, strings and None of the same type and bits: 0.0 is not -0.0, NaN is NaN."""
    number = value.item() if isinstance(value, np.generic) else value
    return type(value), number.hex() if isinstance(number, float) else number


class _Plain:
    """One of them that the step returns."""

    __slots__ = ("value", "bits")

    def __init__(self, value: Any) -> None:
        self.value, self.bits = value, _bits(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Plain) and self.bits == other.bits

    __hash__ = None  # type: ignore[assignment]


# --- arguments


def parted(args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[list[Tensor], Any]:
    """The Tensors, and what all the rest is."""
    tensors: list[Tensor] = []
    rest: list[Any] = [is_grad_enabled()]
    for value in args if not keywords else (*args, *keywords.values()):
        if isinstance(value, Tensor):
            tensors.append(value)
            rest.append(value.requires_grad)
        elif isinstance(value, _PLAIN):
            rest.append(_bits(value))
        else:
            raise TypeError(
                f"a captured step takes Tensors, numbers, strings and None; got {type(value).__name__}; fastnn.tensor(array) makes one"
            )
    if keywords:
        rest.append(tuple(keywords))
    return tensors, rest


def twin(t: Tensor) -> Tensor:
    """A copy of an argument, which `+=` changes where it would change the argument: what a module keeps."""
    return (Buffer if isinstance(t, Kept) else Tensor)(t._array.to(t.device))


def with_tensors(tensors: list[Tensor], args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of `parted`, with these Tensors for theirs."""
    others = iter(tensors)
    given = [next(others) if isinstance(value, Tensor) else value for value in (*args, *keywords.values())]
    return tuple(given[: len(args)]), dict(zip(keywords, given[len(args) :]))


# --- results


def flattened(value: Any, into: list[Tensor]) -> Any:
    """The result without its Tensors, which are appended to `into`."""
    if isinstance(value, Tensor):
        into.append(value)
        return Tensor
    kind, base = type(value), next((base for base in (tuple, list, dict) if isinstance(value, base)), None)
    if base is not None and not (hasattr(kind, "_make") or kind in (OrderedDict, defaultdict) or _made_as(kind, base)):
        raise _C.CaptureError(f"the step returns a {kind.__name__}, which is made in a way of its own; expected a {base.__name__}")
    if base is dict:
        return kind, {key: flattened(v, into) for key, v in value.items()}, *([value.default_factory] if kind is defaultdict else [])
    if base is not None:
        return kind, [flattened(v, into) for v in value]
    if isinstance(value, _PLAIN):
        return _Plain(value)
    raise _C.CaptureError(f"the step returns a {type(value).__name__}; expected Tensors, numbers, None, or tuples, lists and dicts of them")


def rebuilt(shape: Any, tensors: Any) -> Any:
    """The result of `flattened`, with these Tensors."""
    if shape is Tensor:
        return next(tensors)
    if isinstance(shape, _Plain):
        return shape.value
    kind, value, *factory = shape
    if isinstance(value, dict):
        return kind(*factory, {key: rebuilt(v, tensors) for key, v in value.items()})
    return getattr(kind, "_make", kind)([rebuilt(v, tensors) for v in value])  # a named tuple takes them one by one


def _made_as(kind: Any, base: Any) -> bool:
    """Whether a tuple, list or dict of one's own is made like those."""
    return kind.__new__ is base.__new__ and kind.__init__ is base.__init__
