"""The maxout layer."""

from __future__ import annotations

from math import sqrt

from .. import ops
from ..tensor import Tensor
from . import init
from .module import Module, Parameter
from .sizes import checked_size


class Maxout(Module):
    """The largest of `pieces` linear functions: (..., in_features) -> (..., out_features) (Goodfellow et al. 2013).

    weight (out_features * pieces, in_features) and bias start as a Linear's; output c is the largest of rows c * pieces ... (c + 1) * pieces - 1.
    Between maps ops.maxout(x, pieces) does the same with the channels of a convolution. Raises ValueError unless pieces >= 1.
    """

    def __init__(self, in_features: int, out_features: int, pieces: int = 2, bias: bool = True) -> None:
        super().__init__()
        self.in_features = checked_size("Maxout", "in_features", in_features)
        self.out_features = checked_size("Maxout", "out_features", out_features)
        self.pieces = checked_size("Maxout", "pieces", pieces)
        bound, rows = 1 / sqrt(max(1, in_features)), out_features * pieces
        self.weight = Parameter(init.uniform_values((rows, in_features), bound))
        self.register_parameter("bias", Parameter(init.uniform_values((rows,), bound)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        if not x.shape or x.shape[-1] != self.in_features:
            raise ValueError(f"got shape {x.shape}; expected (..., {self.in_features})")
        rows = ops.linear(ops.reshape(x, (x.size // max(1, self.in_features), self.in_features)), self.weight, self.bias)
        return ops.reshape(ops.maxout(rows, self.pieces), (*x.shape[:-1], self.out_features))

    def extra_repr(self) -> str:
        return f"{self.in_features}->{self.out_features}, pieces={self.pieces}" + (", no bias" if self.bias is None else "")
