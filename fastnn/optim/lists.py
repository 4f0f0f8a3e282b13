"""Lists of tensors, cut by what one kernel call can take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .. import _C
from ..arguments import items, shown
from ..nn import Module
from ..tensor import Array, Tensor
from ..warned import warn

FLOATS = ("float32", "float64")


def by_place(tensors: Sequence[Tensor]) -> dict[tuple[str, str], list[int]]:
    """Positions of the tensors that have the same dtype and device."""
    places: dict[tuple[str, str], list[int]] = {}
    for i, t in enumerate(tensors):
        places.setdefault((t.dtype, t.device), []).append(i)
    return places


def scalar(value: float, device: str) -> Array:
    """A number where kernels of that device read it."""
    return _C.constant(np.asarray(value, np.float64), device)


class Told:
    """A number that kernels are told again and again, outside of recordings: behind the first time on a device that takes no memory."""

    def __init__(self) -> None:
        self._on: dict[str, Array] = {}

    def reach(self, device: str) -> None:
        """Takes the memory for it there."""
        if device not in self._on:
            self._on[device] = scalar(0.0, device)

    def on(self, value: float, device: str) -> Array:
        """Where kernels of that device read it."""
        self.reach(device)
        self._on[device].write(np.asarray(value, np.float64))
        return self._on[device]

    def __reduce__(self) -> tuple[type[Told], tuple[()]]:
        return Told, ()


def floats_of(model: Module) -> dict[str, Tensor]:
    """Parameters and buffers of a float type by name, in the model's order, each once."""
    seen: dict[int, str] = {}
    state = model._state()
    return {name: t for name, t in state.items() if t.dtype in FLOATS and seen.setdefault(id(t), name) == name}


def gradients_of(what: str, parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The gradients there are."""
    if hasattr(parameters, "parameters"):
        raise TypeError(f"{what}: parameters must be a Tensor or several, got {shown(parameters)}; model.parameters() gives them")
    given = [parameters] if isinstance(parameters, Tensor) else items(what, "parameters", parameters, "a Tensor or several")
    if not given and isinstance(parameters, Iterator):
        warn(
            f"{what}: the iterator gives no parameters, and nothing is clipped; an optimizer that was made of it has used it up: give model.parameters()"
        )
    for p in given:
        if not isinstance(p, Tensor):
            raise TypeError(f"{what}: expected parameters, got {shown(p)}")
    return [g for p in given if (g := p.grad) is not None]
