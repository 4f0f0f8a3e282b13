"""The dropout layer."""

from __future__ import annotations

from .. import ops
from ..tensor import Tensor
from .module import Module


class Dropout(Module):
    """Inverted dropout: in training zero with probability p, else x / (1 - p); the identity in evaluation (Srivastava et al. 2014).

    The mask comes from the thread's generator (fastnn.seed) and is never stored. Raises ValueError unless 0 <= p <= 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must lie in [0, 1], got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, training=self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
