"""Sizes that layers are given, looked at when the layer is made."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any

from ..arguments import array, shown
from ..ops.conv2d import Pair, pair
from ..tensor import Tensor


def _least(layer: str, name: str, smallest: int, least: int, value: object) -> None:
    if smallest < least:
        raise ValueError(f"{layer}: {name} must {'not be negative' if least == 0 else f'be at least {least}'}, got {value}")


def checked_size(layer: str, name: str, value: Any, least: int = 1) -> int:
    """An integer, numpy's too, of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{layer}: {name} must be an integer, got {value!r}")
    _least(layer, name, index(value), least, value)
    return index(value)


def checked_pair(layer: str, name: str, value: int | Pair, least: int = 1) -> Pair:
    """Two of them, vertical and horizontal."""
    both = pair(value, f"{layer}: {name}")
    _least(layer, name, min(both), least, both)
    return both


def checked_groups(layer: str, groups: int, inputs: int, outputs: int) -> tuple[int, int, int]:
    """(in_channels, out_channels, groups) of a convolution."""
    inputs, outputs = checked_size(layer, "in_channels", inputs), checked_size(layer, "out_channels", outputs)
    if groups < 1 or inputs % groups or outputs % groups:
        raise ValueError(f"{layer}: groups = {groups} must divide both in_channels = {inputs} and out_channels = {outputs}")
    return inputs, outputs, checked_size(layer, "groups", groups)


def checked_eps(layer: str, eps: float) -> float:
    if not eps >= 0:
        raise ValueError(f"{layer}: eps must not be negative, got {eps}")
    return eps


def refuse_what_is_no_tensor(layer: Any, args: tuple[Any, ...], error: AttributeError) -> None:
    """TypeError, where a layer of the library was called with something else and tripped over it."""
    wrong = [x for x in args if not isinstance(x, Tensor)]
    if wrong and type(layer).__module__.startswith(__name__.rpartition(".")[0]) and not layer._modules:
        raise TypeError(f"{layer!r}: expected a Tensor, got {shown(wrong[0])}; fastnn.tensor(array) makes one") from None


def checked_state(module: Any, state: Any) -> Mapping[str, Any]:
    """A dict of arrays by name."""
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise TypeError(f"{type(module).__name__}.load_state_dict: state must be a dict of arrays by name, got {shown(state)}")
    return {key: array(f"{type(module).__name__}.load_state_dict", key, value) for key, value in state.items()}


def locate(error: Exception, module: Any) -> None:
    """Puts the layer's name in front of the message as the exception passes: "features.3.conv (Conv2d(64, 128, ...)): ..."."""
    where: tuple[Any, str, str] | None = getattr(error, "_fastnn_where", None)
    if where is None:
        if module._modules or not error.args or not isinstance(error.args[0], str):
            return
        name, text = "", error.args[0]
    else:
        child, name, text = where
        below = next((n for n, m in module._modules.items() if m is child), type(child).__name__)
        name = f"{below}.{name}" if name else below
    leaf = repr(module) if where is None else error._fastnn_leaf  # type: ignore[attr-defined]
    error._fastnn_where, error._fastnn_leaf = (module, name, text), leaf  # type: ignore[attr-defined]
    error.args = (f"{name} ({leaf}): {text}" if name else f"{leaf}: {text}", *error.args[1:])
