"""The convolution and linear layers of the reference nets, read off the models themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import fastnn
from fastnn import models, nn

from .reference_nets import REFERENCE_NETS

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ConvLayer:
    net: str
    x: Shape
    w: Shape
    stride: tuple[int, int]
    padding: tuple[int, int]
    bias: bool
    first: bool  # of its net: needs no input gradient

    @property
    def name(self) -> str:
        k, c, r, _ = self.w
        step = f" /{self.stride[0]}" if self.stride != (1, 1) else ""
        return f"{self.net} {self.x[2]}x{self.x[3]} {c}-{k} {r}x{r}{step}"

    @property
    def y(self) -> Shape:
        n, _, h, w = self.x
        k, _, r, s = self.w
        return n, k, (h + 2 * self.padding[0] - r) // self.stride[0] + 1, (w + 2 * self.padding[1] - s) // self.stride[1] + 1

    @property
    def flop(self) -> float:
        return 2.0 * float(np.prod(self.y)) * float(np.prod(self.w[1:]))

    @property
    def judged(self) -> bool:
        """Belongs to the median that is the goal: 3x3 with at least 64 input channels."""
        return self.w[1] >= 64 and self.w[2:] == (3, 3)


@dataclass(frozen=True)
class LinearLayer:
    net: str
    rows: int
    inputs: int
    outputs: int

    @property
    def name(self) -> str:
        return f"{self.net} {self.rows} x {self.inputs}-{self.outputs}"

    @property
    def flop(self) -> float:
        return 2.0 * self.rows * self.inputs * self.outputs


def layers_of(net: str) -> list[ConvLayer | LinearLayer]:
    """Each geometry once, in the order of the net, at the net's batch."""
    reference = REFERENCE_NETS[net]
    model = models.create(net, input_shape=reference.input_shape, num_classes=reference.classes).eval()
    found: dict[ConvLayer | LinearLayer, None] = {}

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        shape = (reference.batch, *inputs[0].shape[1:])
        if isinstance(layer, nn.Conv2d):
            assert isinstance(layer.padding, tuple) and layer.groups == 1 and layer.dilation == (1, 1)
            found[ConvLayer(net, shape, layer.weight.shape, layer.stride, layer.padding, layer.bias is not None, not found)] = None
        elif isinstance(layer, nn.Linear):
            found[LinearLayer(net, shape[0], layer.in_features, layer.out_features)] = None

    for module in model.modules():
        module.register_forward_hook(note)
    with fastnn.no_grad():
        model(fastnn.tensor(reference.batches(1)[0][0][:1]))
    return list(found)
