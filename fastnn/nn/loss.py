"""Losses."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import ops, recording
from ..arguments import array, number, other_word, several, shown
from ..ops.loss import finite_numbers
from ..ops.shape import floats
from ..tensor import ArrayLike, Tensor, tensor
from .module import Module


class Loss(Module):
    """Base of the losses: checks `reduction` and keeps weights as buffers."""

    def __init__(self, reduction: str, **weights: ArrayLike | None) -> None:
        super().__init__()
        if reduction not in ("none", "mean", "sum"):
            raise other_word(type(self).__name__, "reduction", reduction, "none, mean or sum")
        self.reduction = reduction
        for name, values in weights.items():
            if isinstance(values, Tensor) and values.requires_grad:
                raise ValueError(f"{type(self).__name__}: {name} is a constant of the loss; pass {name}.detach()")
            dtype = values.dtype if isinstance(values, Tensor) and values.dtype in floats else "float32"
            self.register_buffer(name, None if values is None else tensor(finite_numbers(type(self).__name__, name, values), dtype))

    def count(self, labels: Any) -> float:
        """What reduction="mean" divides by, for these labels or targets: their number, or what they weigh. Means of several batches, weighed
        by it, are the mean of all."""
        return float(np.size(_values(labels)))


def _values(labels: Any) -> np.ndarray:
    return array("loss", "labels", labels)


def _warn_of(loss: Loss, x: Any, makers: tuple[str, ...], takes: str) -> None:
    """For a result that the loss takes, and learns nothing good from."""
    op: Any = getattr(x, "_op", None)
    name = op.arguments[0] if getattr(op, "name", "") == "Pointwise" else getattr(op, "name", "")
    if name in makers:
        warnings.warn(f"{type(loss).__name__} takes {takes.format(name)}", stacklevel=4)


def _weight_of(labels: Any, weight: Tensor | None, ignore_index: int) -> float:
    """Of class numbers that are not ignored; the loss itself refuses those that are no class."""
    counted = _values(labels)[_values(labels) != ignore_index]
    return float(counted.size if weight is None else np.take(weight.numpy(), counted, mode="clip").sum(dtype=np.float64))


class CrossEntropyLoss(Loss):
    """Softmax cross-entropy of logits (N, C) and integer labels (N) or probabilities (N, C), or of maps (N, C, d1, ...) and labels
    (N, d1, ...) or probabilities (N, C, d1, ...); see ops.cross_entropy.

    At the start of a training with C balanced classes it is about log C.
    """

    def __init__(
        self, weight: ArrayLike | None = None, *, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(reduction, weight=weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, logits: Tensor, labels: Any) -> Tensor:
        _warn_of(self, logits, ("Softmax", "sigmoid"), "logits: leave out the {} in front of it")
        return ops.cross_entropy(
            logits, labels, self.weight, ignore_index=self.ignore_index, reduction=self.reduction, label_smoothing=self.label_smoothing
        )

    def count(self, labels: Any) -> float:
        values = _values(labels)
        if values.dtype.kind == "f":  # probabilities: every sample counts 1
            return values.size / values.shape[min(1, values.ndim - 1)] if values.size else 0.0
        return _weight_of(labels, self.weight, self.ignore_index)


class NLLLoss(Loss):
    """-weight[label] log p[label] of log-probabilities (N, C), as LogSoftmax gives them, and integer labels (N), or of maps
    (N, C, d1, ...) and labels (N, d1, ...); see ops.nll_loss."""

    def __init__(self, weight: ArrayLike | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)
        self.ignore_index = ignore_index

    def forward(self, log_probabilities: Tensor, labels: Any) -> Tensor:
        _warn_of(
            self,
            log_probabilities,
            ("Softmax", "sigmoid"),
            "log-probabilities: put LogSoftmax in the place of the {}, or leave that out and take CrossEntropyLoss",
        )
        _warn_of(self, log_probabilities, ("Linear",), "log-probabilities: put LogSoftmax behind the {}, or take CrossEntropyLoss")
        return ops.nll_loss(log_probabilities, labels, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)

    def count(self, labels: Any) -> float:
        return _weight_of(labels, self.weight, self.ignore_index)


class MulticlassSVMLoss(Loss):
    """sum over c != label of max(0, scores[c] - scores[label] + margin) of scores (N, C) and integer labels (N), mean over the samples.

    The multiclass SVM of the lectures (Weston, Watkins 1999). With margin 1 and small scores it starts at C - 1. See ops.multiclass_svm_loss.
    """

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = number("MulticlassSVMLoss", "margin", margin)

    def forward(self, scores: Tensor, labels: Any) -> Tensor:
        return ops.multiclass_svm_loss(scores, labels, margin=self.margin, reduction=self.reduction)


class MultiMarginLoss(Loss):
    """1/C sum over c != label of weight[label] max(0, margin - scores[label] + scores[c])^p, p 1 or 2; see ops.multi_margin_loss."""

    def __init__(self, p: int = 1, margin: float = 1.0, weight: ArrayLike | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)
        if p not in (1, 2):
            raise ValueError(f"MultiMarginLoss: p must be 1 or 2, got {shown(p)}")
        self.p, self.margin = p, number("MultiMarginLoss", "margin", margin)

    def forward(self, scores: Tensor, labels: Any) -> Tensor:
        return ops.multi_margin_loss(scores, labels, p=self.p, margin=self.margin, weight=self.weight, reduction=self.reduction)


class MSELoss(Loss):
    """(input - target)^2 of two tensors of one shape; see ops.mse_loss."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, x: Tensor, target: Any) -> Tensor:
        return ops.mse_loss(x, target, reduction=self.reduction)


class L1Loss(Loss):
    """|input - target| of two tensors of one shape; see ops.l1_loss."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, x: Tensor, target: Any) -> Tensor:
        return ops.l1_loss(x, target, reduction=self.reduction)


class SmoothL1Loss(Loss):
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, of d = input - target; see ops.smooth_l1_loss."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = number("SmoothL1Loss", "beta", beta, "[0, inf)")

    def forward(self, x: Tensor, target: Any) -> Tensor:
        return ops.smooth_l1_loss(x, target, beta=self.beta, reduction=self.reduction)


class HuberLoss(Loss):
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), of d = input - target; see ops.huber_loss."""

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = number("HuberLoss", "delta", delta, "(0, inf]")

    def forward(self, x: Tensor, target: Any) -> Tensor:
        return ops.huber_loss(x, target, delta=self.delta, reduction=self.reduction)


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of sigmoid(input) and target, of one shape, computed from the logits; see ops.binary_cross_entropy_with_logits."""

    def __init__(self, weight: ArrayLike | None = None, *, reduction: str = "mean", pos_weight: ArrayLike | None = None) -> None:
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)

    def forward(self, x: Tensor, target: Any) -> Tensor:
        _warn_of(self, x, ("Softmax", "sigmoid"), "logits: leave out the {} in front of it")
        return ops.binary_cross_entropy_with_logits(x, target, self.weight, pos_weight=self.pos_weight, reduction=self.reduction)


class Penalty:
    """A term of the loss: `penalty()` is l2 sum W^2 + l1 sum |W| over the weights of a model, a scalar with gradients.

        penalty = nn.Penalty(model, l2=1e-4)
        error = loss(model(x), labels) + penalty()

    Weights are the parameters of rank 2 and more that are trained: no biases, nothing of normalisations. Or give the tensors to penalise
    instead of a model. R = sum W^2 has the gradient 2 W, so l2 = d is weight_decay = 2 d of optim.SGD, only that the loss shown is then the
    loss minimised. Both factors: the elastic net (Zou, Hastie 2005). ValueError for negative factors.
    """

    def __init__(self, model: Module | Iterable[Tensor], *, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1, self.l2 = number("Penalty", "l1", l1, "[0, inf)"), number("Penalty", "l2", l2, "[0, inf)")
        self.model = model if isinstance(model, Module) else several("Penalty", "model", model, Tensor, "a Module, or Tensors")

    def weights(self) -> list[Tensor]:
        """What is penalised, as it is now."""
        if isinstance(self.model, Module):
            return [p for p in self.model.parameters() if p.ndim >= 2 and p.requires_grad]
        return self.model

    def __call__(self) -> Tensor:
        recording.ask(lambda: (self.l1, self.l2))
        return ops.penalty(self.weights(), l1=self.l1, l2=self.l2)

    def __repr__(self) -> str:
        return f"Penalty(l1={self.l1:g}, l2={self.l2:g})"
