"""The linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from .. import ops
from ..tensor import Tensor
from . import init
from .activation import ReLU, absorb
from .module import Module, Parameter
from .sizes import checked_size


class Linear(Module):
    """y = x weight^T + bias: (..., in_features) -> (..., out_features).

    weight (out, in) and bias (out) start uniform in +-1/sqrt(in_features), as PyTorch's.
    `layer(x, activation="relu")` does the activation along with it; Sequential calls it so for a ReLU that follows.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features = checked_size("Linear", "in_features", in_features)
        self.out_features = checked_size("Linear", "out_features", out_features)
        bound = 1 / sqrt(max(1, in_features))
        self.weight = Parameter(init.uniform_values((out_features, in_features), bound))
        self.register_parameter("bias", Parameter(init.uniform_values((out_features,), bound)) if bias else None)

    def forward(self, x: Tensor, activation: str = "none") -> Tensor:
        if not x.shape or x.shape[-1] != self.in_features:
            hint = f"; Flatten would give {x.size // max(1, x.shape[0])} features" if x.ndim > 2 else ""
            raise ValueError(f"got shape {x.shape}; expected (..., {self.in_features}){hint}")
        return ops.linear(x, self.weight, self.bias, activation=activation)

    def absorbs(self, following: Sequence[Module]) -> tuple[int, dict[str, Any]]:
        return absorb(self, following, ReLU) if type(self) is Linear else (0, {})

    def extra_repr(self) -> str:
        return f"{self.in_features}->{self.out_features}" + (", no bias" if self.bias is None else "")
