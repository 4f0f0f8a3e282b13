"""Activation layers. `activation` is the name under which a kernel can do it in its own pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def absorb(module: Module, following: Sequence[Module], *kinds: type[Module]) -> tuple[int, dict[str, Any]]:
    """What `module.absorbs` says when its kernel can apply an activation of one of these kinds."""
    if following and type(following[0]) in kinds and not module._hooks and not following[0]._hooks:
        return 1, {"activation": following[0].activation}
    return 0, {}
