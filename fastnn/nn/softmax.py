"""Softmax layers. CrossEntropyLoss takes logits: it needs neither of them before it."""

from __future__ import annotations

from .. import ops
from ..tensor import Tensor
from .module import Module


class Softmax(Module):
    """e^x / sum e^x along dimension `dim`: positive numbers with sum 1; see ops.softmax."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """log(softmax(x)) along dimension `dim`, what NLLLoss takes; see ops.log_softmax."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
