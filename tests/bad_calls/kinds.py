"""Of which kind a value is, and whether an argument could be of that kind: TypeError is for a value of a wrong kind, ValueError for one of the
right kind that will not do. What an argument could be is seen by its good value."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np

from fastnn import Tensor, nn

# The kind of a good value: kinds of others that the argument may take too, which are answered with either exception.
BESIDE: dict[str, tuple[str, ...]] = {
    "word": ("flag",),  # "auto", True or False
    "number": ("flag", "several", "array"),  # one for each direction, parameter, ...
    "flag": ("number", "word"),
    "several": ("flag", "number", "word", "array", "iterator", "set", "mapping", "other"),
    "array": ("flag", "number", "several", "iterator"),
    "mapping": ("several",),
    "module": ("callable",),
    "callable": ("module", "number", "several"),
    "bytes": (),
    "other": ("flag", "module", "callable", "several", "array", "mapping", "iterator", "word", "number"),
    "nothing": ("flag", "number", "word", "bytes", "several", "array", "mapping", "module", "callable", "iterator", "set"),
}


def kind_of(value: Any) -> str:
    """In one word; that of an object which can do nothing is "stray", as of what no argument takes."""
    for kind, classes in _CLASSES.items():
        if isinstance(value, classes):
            return kind
    return "stray" if type(value).__name__ == "Thing" else "other"


_CLASSES: dict[str, Any] = {
    "nothing": type(None),
    "flag": (bool, np.bool_),
    "word": str,
    "bytes": bytes,
    "array": (np.ndarray, Tensor),
    "stray": (complex, slice, type),
    "number": (int, float, np.number),
    "several": (list, tuple, range),
    "mapping": Mapping,
    "set": Set,
    "module": nn.Module,
    "callable": (types.FunctionType, types.MethodType),
    "iterator": Iterator,
}


# Arguments that are of several kinds, which one good value does not show: either exception will do.
EITHER = {
    "conv2d.padding": '"same" beside numbers',
    "conv2d_batch_norm.padding": '"same" beside numbers',
    "Conv2d.padding": '"same" beside numbers',
    "weight_images.weights": "an array or a Tensor beside a model",
    "show_weights.weights": "an array or a Tensor beside a model",
    "Penalty.model": "a list of parameters beside a model",
    "models.create.options": "the test's own: a dict of them, or a dropout",
    "recipe.steps": "numbers beside words",
    "search.points": "a dict by name beside a number",
    "cuda.from_cuda_array.device": "where there is no GPU, the good array is wrong, too",
}


def wrong_type(error: type[BaseException], subject: str, good: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    """The exception that these values ask for, where it is the other one: of several bad arguments, any may be the one that is refused."""
    changed = [(good[name], value) for name, value in given.items()]
    if any(f"{subject}.{name}" in EITHER for name in given):
        return None
    if error is ValueError and all(_never(wanted, value) for wanted, value in changed):
        return "TypeError"
    return "ValueError" if error is TypeError and all(_alike(wanted, value) for wanted, value in changed) else None


def _never(good: Any, given: Any) -> bool:
    """Nothing that the argument could be."""
    wanted, kind = kind_of(good), kind_of(given)
    return kind not in (wanted, "nothing", *BESIDE[wanted])


def _alike(good: Any, given: Any) -> bool:
    """A word for a word, a number for a number, a switch for a switch."""
    return type(good) is type(given) and kind_of(good) in ("word", "number", "flag")
