"""Tensors that somebody keeps: a module its parameters and buffers. `p *= 0.9` changes what is kept, not what a name stands for."""

from __future__ import annotations

from typing import Any

from .tensor import Tensor


class Kept(Tensor):
    """Overwritten by `+=`, `-=`, `*=` and `/=`, also where it requires no gradient: a frozen teacher follows its student."""

    __slots__ = ()


class Buffer(Kept):
    """A Tensor that register_buffer was given."""

    __slots__ = ()


def as_buffer(value: Any) -> Any:
    """The same object, kept from now on: whoever registered it may hold it under another name."""
    if type(value) is Tensor:
        value.__class__ = Buffer
    return value
