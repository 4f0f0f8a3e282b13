"""What builds a model again: the arguments of models.create, which its files hold."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import files, models, random
from ..arguments import shown
from ..nn import Module


def architecture_of(model: Module, given: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
    """What builds the model again: `given` (ValueError when it builds another), or what models.create left in it, as long as that fits."""
    if given is not None and (not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given)):
        raise TypeError(f"architecture must be a dict, the arguments of models.create, got {shown(given)}")
    found = given or getattr(model, "architecture", None)
    if not found:
        return None
    try:
        files._plain(found, "architecture")
    except TypeError as error:
        if given:
            raise
        warnings.warn(f"{error}. The model's files will not say how to build it; load_model(path, model=...) takes one", stacklevel=3)
        return None
    with random.using(random.Generator(0)):
        twin = build(found)
    differing = [(a, b) for a, b in zip(_lines(model), _lines(twin)) if a != b]
    if not differing:
        return dict(found)
    if given:
        raise ValueError(f"architecture {dict(given)} makes another model: it has {differing[0][1]}, this one {differing[0][0]}")
    changed = f"it has {differing[0][0]} where models.create made {differing[0][1]}"
    warnings.warn(
        f"the model was changed after models.create ({changed}): its files will not say how to build it; load_model(path, model=...) takes one",
        stacklevel=3,
    )
    return None


def _lines(model: Module) -> list[str]:
    shapes = [f"{name} of shape {a.shape}" for named in (model.named_parameters(), model.named_buffers()) for name, a in named]
    return [type(model).__name__, *shapes, "no more parameters", *(line.strip() for line in repr(model).splitlines()), "no more layers"]


def build(architecture: Mapping[str, Any] | None, most: int = 2**46) -> Module:
    """most: bytes that a model may want at once; the architecture is at fault when it wants more, else there is too little memory."""
    if not architecture:
        raise ValueError("says no architecture; build the model yourself and give it: load_model(path, model=MyNet())")
    try:
        return models.create(**{**architecture, "input_shape": tuple(architecture["input_shape"])})
    except (TypeError, LookupError, ValueError, AttributeError, ArithmeticError, MemoryError) as error:
        if isinstance(error, MemoryError) and files.requested(error) <= most:
            raise
        hint = "models.register makes nets of your own known, load_model(path, model=...) takes one that is built"
        raise ValueError(f"its architecture {str(dict(architecture))[:400]} cannot be built: {error}; {hint}") from error


class _Sparing(random.Generator):
    """The initial weights of a model that is built for the arrays of a file: not many more than the file has, whatever it says of the model."""

    def __init__(self, numbers: int) -> None:
        super().__init__(0)
        self._left = numbers

    def bits(self, n: int, draw: int, purpose: int) -> np.ndarray:
        self._left -= n
        if not 0 <= n <= self._left:
            raise ValueError("it has more weights than the file")
        return super().bits(n, draw, purpose)


def build_for(architecture: Mapping[str, Any] | None, arrays: Mapping[str, np.ndarray]) -> Module:
    numbers = 16 * sum(a.size for a in arrays.values()) + 2**16  # initialisers draw more than once for a weight
    with random.using(_Sparing(numbers)):
        return build(architecture, most=8 * numbers)
