"""What goes wrong inside a layer, said with the layer's name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..arguments import array, refuse_other_integers, shown
from ..tensor import Tensor

_MAKES = "; fastnn.tensor(array) makes one"


def named(layer: Any) -> str:
    """A layer as an error says it: the error stands, whatever its repr makes of attributes that no layer has."""
    try:
        return repr(layer)
    except Exception:
        return type(layer).__name__


def refuse_what_is_no_tensor(layer: Any, args: tuple[Any, ...], error: AttributeError) -> None:
    """TypeError, where a layer of the library was called with something else and tripped over it."""
    wrong = [x for x in args if not isinstance(x, Tensor)]
    if wrong and type(layer).__module__.startswith(__name__.rpartition(".")[0]) and not layer._modules:
        better = TypeError(f"expected a Tensor, got {shown(wrong[0])}{_MAKES}")
        locate(better, layer)
        raise better from None


def say_who_gave(error: Exception, x: Any, module: Any) -> None:
    """Adds to a layer's error that the module in front of it gave what is no Tensor."""
    where: tuple[int, str, str, str] | None = getattr(error, "_fastnn_where", None)
    if isinstance(x, Tensor) or module is None or where is None or "expected a Tensor" not in where[-1]:
        return
    missing = ": is a return missing in its forward?" if x is None else ", which in front of another module has to be one Tensor"
    text = f"{where[-1].removesuffix(_MAKES)}: the result of {named(module)}{missing}"
    error.args = (str(error.args[0]).replace(where[-1], text), *error.args[1:])
    error._fastnn_where = (*where[:-1], text)  # type: ignore[attr-defined]


def wrong_channels(shape: tuple[int, ...], channels: int) -> ValueError:
    """For images that are none, or have other channels."""
    hint = ""
    if len(shape) == 4 and shape[3] == channels:
        hint = "; x.transpose(0, 3, 1, 2) makes that of images (N, H, W, C)"
    elif len(shape) == 3:
        hint = (
            "; x[None] is a batch of one image"
            if shape[0] == channels
            else "; x[:, None] gives grey images a channel"
            if channels == 1
            else ""
        )
    return ValueError(f"got shape {shape}; expected (N, C, H, W) with C = {channels}{hint}")


def checked_state(module: Any, state: Any) -> Mapping[str, Any]:
    """A dict of arrays by name."""
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise TypeError(f"{type(module).__name__}.load_state_dict: state must be a dict of arrays by name, got {shown(state)}")
    return {key: array(f"{type(module).__name__}.load_state_dict", key, value) for key, value in state.items()}


def unfit(name: str, values: np.ndarray, own: Tensor) -> Iterator[str]:
    """What keeps an array of a state from being the tensor of that name."""
    if values.shape != own.shape:
        yield f"{name} has shape {values.shape}, expected {own.shape}"
    if values.dtype.kind not in "fiub":
        yield f"{name} has dtype {values.dtype}, expected {own.dtype}"
    elif own.dtype == "bool" and not np.isin(values, (0, 1)).all():
        yield f"{name} has other values than 0 and 1, expected bool"
    elif own.dtype in ("uint8", "int64"):
        if values.dtype.kind == "f" and not (values == np.trunc(values)).all():
            yield f"{name} has fractions, expected {own.dtype}"
        else:
            try:
                refuse_other_integers(name, values, own.dtype)
            except ValueError as error:
                yield str(error)


def locate(error: Exception, module: Any) -> None:
    """Puts the layer's name in front of the message as the exception passes: "features.3.conv (Conv2d(64, 128, ...)): ..."."""
    where: tuple[int, str, str, str] | None = getattr(error, "_fastnn_where", None)
    if where is None:
        if module._modules or not error.args or not isinstance(error.args[0], str):
            return
        name, text = "", error.args[0]
    else:
        child, kind, name, text = where
        below = next((n for n, m in module._modules.items() if id(m) == child), kind)
        name = f"{below}.{name}" if name else below
    leaf = named(module) if where is None else error._fastnn_leaf  # type: ignore[attr-defined]
    error._fastnn_where = id(module), type(module).__name__, name, text  # type: ignore[attr-defined]  # not itself: errors are pickled and kept
    error._fastnn_leaf = leaf  # type: ignore[attr-defined]
    error.args = (f"{name} ({leaf}): {text}" if name else f"{leaf}: {text}", *error.args[1:])
