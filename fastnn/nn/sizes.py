"""Sizes that layers are given, looked at when the layer is made."""

from __future__ import annotations

from operator import index
from typing import Any

from ..arguments import number, shown
from ..ops.conv2d import Pair, pair


def _least(layer: str, name: str, smallest: int, least: int, value: object) -> None:
    if smallest < least:
        raise ValueError(f"{layer}: {name} must {'not be negative' if least == 0 else f'be at least {least}'}, got {value}")


def checked_size(layer: str, name: str, value: Any, least: int = 1) -> int:
    """An integer, numpy's too, of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{layer}: {name} must be an integer, got {shown(value)}")
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
    return number(layer, "eps", eps, "[0, inf)")


def checked_momentum(layer: str, momentum: float | None) -> float | None:
    """The weight of a batch in running statistics."""
    return None if momentum is None else number(layer, "momentum", momentum, "[0, 1]")
