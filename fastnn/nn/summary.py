"""model.summary(input_shape): what each layer makes of one input."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from math import prod
from threading import get_ident
from typing import Any

import numpy as np

from ..arguments import shown
from ..exclusive import refuse_others
from ..ops.refusals import explained
from ..tensor import Tensor, no_grad, tensor
from ..turns import by_turns, switched
from .attributes import refuse_unmade
from .conv2d import Conv2d
from .conv_transpose2d import ConvTranspose2d
from .linear import Linear
from .maxout import Maxout
from .module import HookHandle, Module, Parameter
from .pool2d import AvgPool2d, MaxPool2d
from .sizes import checked_size


@dataclass
class LayerSummary:
    name: str
    layer: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    note: str = ""
    frozen: int = 0
    called: bool = True


@dataclass
class Summary:
    """Per layer: output shape (without the batch), parameters, how many of them are frozen, multiply-adds; `print` it. The sums are those of the
    whole model, layers that forward did not call (`called` is False) with it."""

    input_shape: tuple[int, ...]
    layers: list[LayerSummary] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.layers)

    @property
    def frozen(self) -> int:
        """The parameters that are not trained (requires_grad=False)."""
        return sum(row.frozen for row in self.layers)

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.layers)

    def __str__(self) -> str:
        cells = [("layer", "", "output", "parameters", "multiply-adds", "")]
        cells += [("input", "", _text(self.input_shape), "", "", "")]
        cells += [
            (r.name, r.layer, _text(r.output_shape) if r.called else "-", f"{r.parameters:,}", f"{r.macs:,}", r.note) for r in self.layers
        ]
        cells += [("total", "", "", f"{self.parameters:,}", f"{self.macs:,}", _frozen(self.frozen))]
        widths = [max(len(row[i]) for row in cells) for i in range(6)]
        return "\n".join(
            "  ".join(c.rjust(w) if 2 < i < 5 else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip() for row in cells
        )


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"


def _frozen(count: int) -> str:
    return f"{count:,} frozen" if count else ""


@explained
def summary(model: Module, input_shape: tuple[int, ...]) -> Summary:
    """Runs one sample of zeros of `input_shape` (C, H, W) in evaluation mode and notes every layer's output, parameters and multiply-adds.

    A module of several that has parameters of its own comes after them, with those alone. A layer called twice is listed twice, its parameters
    once; frozen ones count, and are marked; so are, at the end, those of layers that were not called. MaxPool2d marks rows and columns that the
    floor rule drops. RuntimeError while another thread fits the model.
    """
    if isinstance(model, Module):
        refuse_unmade("summary", model)
    result = Summary(tuple(checked_size("summary", "input_shape", size) for size in input_shape))
    counted, here = set[int](), get_ident()
    handles: list[HookHandle] = []

    def fresh(layer: Module, before: tuple[Tensor | None, ...] = ()) -> list[Tensor]:
        parameters = [
            p for p in (*before, *layer._parameters.values()) if isinstance(p, Parameter)
        ]  # DropConnect's layer has no such weight
        own = {id(p): p for p in parameters if id(p) not in counted}
        counted.update(own)
        return list(own.values())

    def add(name: str, layer: Module, own: list[Tensor], shape: tuple[int, ...], work: int, note: str, called: bool = True) -> None:
        fixed = sum(p.size for p in own if not p.requires_grad)
        notes = ", ".join(filter(None, (note, _frozen(fixed))))
        kind = type(layer).__name__ if layer._modules else repr(layer)
        result.layers.append(LayerSummary(name, kind, shape, sum(p.size for p in own), work, notes, fixed, called))

    def watch(name: str, module: Module) -> None:
        before = tuple(module._parameters.values())

        def note(layer: Module, args: tuple[Any, ...], output: Any) -> None:
            if get_ident() != here:  # another one evaluates the model meanwhile
                return
            own = fresh(layer, before)
            first = output[0] if isinstance(output, tuple) and output else output  # of a pool with indices
            if not isinstance(first, Tensor) and not layer._modules:
                raise TypeError(f"summary: {name} ({layer!r}): forward returned {shown(output)}; expected a Tensor")
            given = args[0].shape if args and isinstance(args[0], Tensor) else ()
            shape = first.shape[1:] if isinstance(first, Tensor) else ()
            add(name, layer, own, shape, macs(layer, given[1:], shape), dropped(layer, given))

        handles.append(module.register_forward_hook(note))

    for name, module in model.named_modules():
        if not module._modules or module._parameters:
            watch(name or type(module).__name__, module)
    try:
        refuse = partial(refuse_others, "summary", "model", model)
        with by_turns(id(model), "evaluation", partial(switched, model, False), refuse), no_grad():
            dtype, device = next(((p.dtype, p.device) for p in model.parameters()), ("float32", "cpu"))
            model(tensor(np.zeros((1, *input_shape)), dtype, device=device))
    finally:
        for handle in handles:
            handle.remove()
    for name, module in model.named_modules():
        if own := fresh(module):
            add(name or type(module).__name__, module, own, (), 0, "not called", called=False)
    return result


def macs(layer: Module, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
    """Multiply-adds of one sample."""
    if isinstance(layer, ConvTranspose2d):
        return prod(input_shape) * prod(layer.weight.shape[1:])
    if isinstance(layer, (Conv2d, Linear)):
        return prod(output_shape) * prod(layer.weight.shape[1:])
    if isinstance(layer, Maxout):
        return prod(output_shape) * layer.pieces * layer.in_features
    return 0


def dropped(layer: Module, input_shape: tuple[int, ...]) -> str:
    """Rows and columns of the input that no window reaches."""
    if not isinstance(layer, (MaxPool2d, AvgPool2d)) or layer.ceil_mode or len(input_shape) != 4:
        return ""
    sizes = zip(input_shape[2:], layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", (1, 1)))
    lost = [max(0, (n + 2 * pad - spread * (window - 1) - 1) % step - pad) for n, window, step, pad, spread in sizes]
    return f"drops {lost[0]} rows, {lost[1]} columns" if any(lost) else ""
