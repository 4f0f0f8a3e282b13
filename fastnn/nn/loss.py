"""Losses."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..tensor import ArrayLike, Tensor, tensor
from .module import Module


class CrossEntropyLoss(Module):
    """Softmax cross-entropy of logits (N, C) and integer labels (N); see ops.cross_entropy.

    At the start of a training with C balanced classes it is about log C.
    """

    def __init__(
        self, weight: ArrayLike | None = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(f"CrossEntropyLoss: reduction must be none, mean or sum, got {reduction!r}")
        dtype = weight.dtype if isinstance(weight, Tensor) else "float32"
        self.register_buffer("weight", None if weight is None else tensor(weight, dtype))
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, logits: Tensor, labels: Any) -> Tensor:
        return ops.cross_entropy(
            logits, labels, self.weight, ignore_index=self.ignore_index, reduction=self.reduction, label_smoothing=self.label_smoothing
        )
