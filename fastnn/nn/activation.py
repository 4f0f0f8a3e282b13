"""Activation layers. `activation` is the name under which a kernel can do it in its own pass."""

from __future__ import annotations

from .. import ops
from ..tensor import Tensor
from .module import Module


class ReLU(Module):
    """max(0, x) (Nair, Hinton 2010)."""

    activation = "relu"

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class SiLU(Module):
    """x * sigmoid(x) (Elfwing, Uchibe, Doya 2017)."""

    activation = "silu"

    def forward(self, x: Tensor) -> Tensor:
        return ops.silu(x)
