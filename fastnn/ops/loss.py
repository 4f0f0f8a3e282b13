"""Losses of samples or of pixels: C logits or scores beside a label, or beside probabilities."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .. import _C, recording
from ..arguments import array as as_array
from ..arguments import finite, refuse_other_integers, shown
from ..tensor import Array, ArrayLike, Op, Tensor, apply, tensor
from .cast import cast
from .shape import Shape, View, expect_tensor, floats, reshape, reshaped, transpose

geometry = lru_cache(1024)(_C.CrossEntropy)
soft_geometry = lru_cache(1024)(_C.SoftCrossEntropy)
margin_geometry = lru_cache(1024)(_C.MultiMargin)


class CrossEntropy(Op):
    __slots__ = ("labels", "weight", "arguments", "plan")

    def __init__(self, labels: Array, weight: Array | None, *arguments: Any) -> None:
        self.labels, self.weight, self.arguments = labels, weight, arguments  # smoothing, ignore_index, reduction

    def forward(self, logits: Array) -> Array:
        self.plan = geometry(logits.shape, *self.arguments)
        loss, top, log_sum, divisor = _C.cross_entropy_forward(self.plan, logits, self.labels, self.weight)
        self.save(logits, self.labels, self.weight, top, log_sum, divisor)
        return loss

    def backward(self, dloss: Array) -> tuple[Array | None, ...]:
        logits, labels, weight, top, log_sum, divisor = self.saved
        return (_C.cross_entropy_backward(self.plan, logits, labels, weight, top, log_sum, divisor, dloss),)


class SoftCrossEntropy(Op):
    __slots__ = ("target", "weight", "arguments", "plan")

    def __init__(self, target: Array, weight: Array | None, *arguments: Any) -> None:
        self.target, self.weight, self.arguments = target, weight, arguments  # smoothing, reduction

    def forward(self, logits: Array) -> Array:
        self.plan = soft_geometry(logits.shape, *self.arguments)
        loss, top, log_sum = _C.soft_cross_entropy_forward(self.plan, logits, self.target, self.weight)
        self.save(logits, self.target, self.weight, top, log_sum)
        return loss

    def backward(self, dloss: Array) -> tuple[Array | None, ...]:
        logits, target, weight, top, log_sum = self.saved
        return (_C.soft_cross_entropy_backward(self.plan, logits, target, weight, top, log_sum, dloss),)


class NLL(Op):
    __slots__ = ("labels", "weight", "arguments", "plan")

    def __init__(self, labels: Array, weight: Array | None, *arguments: Any) -> None:
        self.labels, self.weight, self.arguments = labels, weight, arguments  # ignore_index, reduction

    def forward(self, log_p: Array) -> Array:
        self.plan = geometry(log_p.shape, 0.0, *self.arguments)
        loss, divisor = _C.nll_forward(self.plan, log_p, self.labels, self.weight)
        self.save(log_p, self.labels, self.weight, divisor)
        return loss

    def backward(self, dloss: Array) -> tuple[Array | None, ...]:
        log_p, labels, weight, divisor = self.saved
        return (_C.nll_backward(self.plan, log_p, labels, weight, divisor, dloss),)


class MultiMargin(Op):
    __slots__ = ("labels", "weight", "arguments", "plan")

    def __init__(self, labels: Array, weight: Array | None, *arguments: Any) -> None:
        self.labels, self.weight, self.arguments = labels, weight, arguments  # p, margin, scale, reduction

    def forward(self, scores: Array) -> Array:
        self.plan = margin_geometry(scores.shape, *self.arguments)
        self.save(scores, self.labels, self.weight)
        return _C.multi_margin_forward(self.plan, scores, self.labels, self.weight)

    def backward(self, dloss: Array) -> tuple[Array | None, ...]:
        scores, labels, weight = self.saved
        return (_C.multi_margin_backward(self.plan, scores, labels, weight, dloss),)


# --- what comes in


def rows_of(what: str, name: str, x: Tensor, *, maps: bool) -> tuple[Tensor, Shape]:
    """What is to be judged - (N, C), (C) or, with `maps`, (N, C, d1, ...) - as rows of C, and the shape of their labels."""
    expect_tensor(what, x, name)
    if x.dtype in ("int64", "uint8", "bool"):
        raise TypeError(
            f"{what}: {name} must be scores of a float type, got dtype {x.dtype}; argmax takes classes from them, after the loss"
        )
    if x.ndim == 0 or (x.ndim > 2 and not maps):
        raise ValueError(f"{what}: {name} must have shape (N, C){', (N, C, d1, ...)' if maps else ''} or (C), got {x.shape}")
    if x.ndim <= 2:
        return (x if x.ndim == 2 else reshape(x, (1, x.shape[0]))), x.shape[:-1]
    shape = (x.shape[0], *x.shape[2:])
    if x.ndim == 4:  # pixel by pixel, as it lies
        return apply(View((prod(shape), x.shape[1]), (x.shape[1], 1), 0), x), shape
    return reshape(transpose(x, (0, *range(2, x.ndim), 1)), (prod(shape), x.shape[1])), shape


def as_labels(losses: Tensor, shape: Shape, reduction: str) -> Tensor:
    """A loss for each row in the shape of the labels."""
    return reshape(losses, shape) if reduction == "none" else losses


def checked_labels(what: str, labels: Any, shape: Shape, classes: int, ignore_index: int | None, device: str) -> Array:
    """Class labels as an int64 array of rank 1 on `device`, each in [0, classes) or ignore_index.

    Labels that a GPU holds are not looked at: the host would have to wait for it in each step. There a label that names no class makes the
    loss of its sample NaN.
    """
    values = labels if isinstance(labels, Tensor) else as_array(what, "labels", labels)
    if np.dtype(values.dtype).kind not in "iu":
        names = "; np.unique(labels, return_inverse=True)[1] are the numbers of names" if np.dtype(values.dtype).kind in "US" else ""
        raise TypeError(f"{what}: labels must be integers, got dtype {values.dtype}; class numbers are expected, not scores{names}")
    if values.shape != shape:
        each = "one per row of the logits" if len(shape) < 2 else f"one per pixel of the logits {(shape[0], classes, *shape[1:])}"
        hint = "; labels.reshape(-1) is that" if len(shape) == 1 and values.shape == (*shape, 1) else ""
        hint = "; labels.argmax(1) makes them of one-hot rows" if values.shape == (*shape, classes) and len(shape) == 1 else hint
        hint = "; logits of one dimension are the classes of a single sample" if not shape and values.size != 1 else hint
        raise ValueError(f"{what}: labels have shape {values.shape}; expected {shape}, {each}{hint}")
    if isinstance(values, Tensor) and values.dtype == "int64":
        array = reshaped(values._array, (values.size,))
    else:
        given = np.asarray(values)
        refuse_other_integers(what, given, "int64")
        array = _C.from_numpy(given.astype(np.int64).reshape(-1))
    if array.device == "cpu":
        try:
            _C.check_labels(what, array, shape, classes, ignore_index)
        except ValueError as error:
            meant = "" if recording.current() else _meant(array.numpy(), classes)  # while a step is recorded nobody looks at values
            raise ValueError(f"{error}{meant}") from None
    return array if array.device == device else array.to(device)


def _meant(labels: np.ndarray, classes: int) -> str:
    """Why labels may lie outside of the classes."""
    if classes == 1:
        return "; the last layer has one output: two classes take two"
    if labels.min(initial=classes) == 1 and labels.max(initial=0) == classes:
        return "; labels from 1 on become class numbers by np.asarray(labels) - 1"
    return ""


def finite_numbers(what: str, name: str, value: Any) -> np.ndarray:
    """Weights of a loss as numpy's array; masks are weights of 0 and 1."""
    given = as_array(what, name, value)
    if given.dtype.kind not in "iufb":
        raise TypeError(f"{what}: {name} must be numbers, got {shown(value)} of dtype {given.dtype}")
    if not np.isfinite(given).all():
        raise ValueError(
            f"{what}: {name} must be finite, got {given[~np.isfinite(given)][0]} at {tuple(map(int, np.argwhere(~np.isfinite(given))[0]))}"
        )
    return given


def summed(x: Tensor) -> str:
    """The type in which a loss of x is added up, and in which its weights and probabilities are: float32 of bfloat16."""
    return "float32" if x.dtype == "bfloat16" else x.dtype


def constant_beside(what: str, name: str, x: Tensor, value: Any) -> Array | None:
    """Weights of a loss as an array where x lies, in the type of its sums; they have no gradient."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise ValueError(f"{what}: {name} is a constant of the loss; pass {name}.detach()")
        return (value.to(x.device) if value.dtype in floats else tensor(value, summed(x), device=x.device))._array
    return tensor(finite_numbers(what, name, value), summed(x), device=x.device)._array


def _is_soft(labels: Any, ndim: int) -> bool:
    given = labels if isinstance(labels, Tensor) else as_array("cross_entropy", "labels", labels)
    dtype, rank = str(given.dtype), given.ndim
    return dtype.startswith(("float", "bfloat")) and rank == ndim


def _probabilities(labels: Any, logits: Tensor) -> Tensor:
    if not isinstance(labels, Tensor):
        return tensor(finite_numbers("cross_entropy", "labels", labels), summed(logits), device=logits.device)
    there = labels.to(logits.device)
    return cast(there, "float32") if logits.dtype == there.dtype == "bfloat16" else there


def _soft(logits: Tensor, labels: Any, weight: Array | None, ignore_index: int, reduction: str, smoothing: float) -> Tensor:
    if ignore_index >= 0:
        raise ValueError(f"cross_entropy: ignore_index {ignore_index} means nothing where the labels are probabilities; leave it out")
    target = _probabilities(labels, logits)
    if target.shape != logits.shape:
        fewer = target.ndim == logits.ndim == 2 and target.shape[0] == logits.shape[0] and target.shape[1] < logits.shape[1]
        mixed = f"; data.MixUp(num_classes={logits.shape[1]}) makes those of mixed batches so" if fewer else ""
        raise ValueError(
            f"cross_entropy: labels have shape {target.shape}, logits {logits.shape}; probabilities need the shape of the logits{mixed}"
        )
    (logits, shape), (target, _) = (rows_of("cross_entropy", "logits", x, maps=True) for x in (logits, target))
    expected = logits.shape[1:]
    if weight is not None and weight.shape != expected:
        raise ValueError(f"cross_entropy: weight has shape {weight.shape}; expected {expected}, one for each class")
    soft_geometry(logits.shape, smoothing, reduction)  # checks both, whichever way follows
    if not target.requires_grad:
        return as_labels(apply(SoftCrossEntropy(target._array, weight, smoothing, reduction), logits), shape, reduction)
    from . import clip, equal, log_softmax, sum, where  # a teacher that learns too

    logits = cast(logits, summed(logits))
    share = target * (1 - smoothing) + smoothing / logits.shape[1]
    share = share if weight is None else share * Tensor(weight)
    log_p = log_softmax(logits, 1)
    log_p = where(equal(share, 0.0), clip(log_p, -1e30), log_p)  # stands for infinity where nothing counts: 0 times that is NaN
    losses = -sum(log_p * share, 1)
    return reshape(losses, shape) if reduction == "none" else losses.sum() / float(logits.shape[0]) if reduction == "mean" else losses.sum()


# --- the losses


def cross_entropy(
    logits: Tensor,
    labels: Any,
    weight: ArrayLike = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(logits)[label], computed with log-sum-exp; logits (N, C), integer labels (N), or probabilities (N, C) of a float type.

    Maps: logits (N, C, d1, ...) and labels (N, d1, ...), each pixel a sample, or probabilities (N, C, d1, ...); a single sample: (C) and ().
    With smoothing e the target is (1 - e) onehot + e / C. `weight` (C) scales each class; "mean" divides by the sum of the weights of the
    labels that count. Samples with label `ignore_index` count nothing. reduction: "mean", "sum" or "none".
    Of probabilities t (mixup, distillation) the loss is -sum_c weight_c ((1 - e) t_c + e / C) log softmax(logits)_c, and "mean" divides by
    the number of samples, both as in PyTorch; a class with t = 0 counts nothing even where its logit is -inf.
    Labels and weights that lie on another device are brought to that of the logits. Beside bfloat16 logits weights and probabilities are
    float32, as the loss is.
    Raises TypeError for labels that are not integers, ValueError for wrong shapes or labels out of range. Never broadcasts. Labels that lie
    on a GPU are not looked at: one out of range makes the loss of its sample NaN.
    """
    expect_tensor("cross_entropy", logits, "logits")
    kept = constant_beside("cross_entropy", "weight", logits, weight)
    if logits.ndim and _is_soft(labels, logits.ndim):
        return _soft(logits, labels, kept, ignore_index, reduction, label_smoothing)
    rows, shape = rows_of("cross_entropy", "logits", logits, maps=True)
    array = checked_labels("cross_entropy", labels, shape, rows.shape[1], ignore_index, logits.device)
    return as_labels(apply(CrossEntropy(array, kept, label_smoothing, ignore_index, reduction), rows), shape, reduction)


def nll_loss(
    log_probabilities: Tensor, labels: Any, weight: ArrayLike = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-weight[label] log_probabilities[label]: what cross_entropy does after log_softmax; (N, C) and integer labels (N).

    Maps (N, C, d1, ...) with labels (N, d1, ...), and a single sample (C), as there.
    weight, ignore_index, reduction and what is raised: as for cross_entropy.
    """
    rows, shape = rows_of("nll_loss", "log_probabilities", log_probabilities, maps=True)
    array = checked_labels("nll_loss", labels, shape, rows.shape[1], ignore_index, rows.device)
    kept = constant_beside("nll_loss", "weight", rows, weight)
    return as_labels(apply(NLL(array, kept, ignore_index, reduction), rows), shape, reduction)


def multi_margin_loss(
    scores: Tensor, labels: Any, *, p: int = 1, margin: float = 1.0, weight: ArrayLike = None, reduction: str = "mean"
) -> Tensor:
    """1/C sum over c != label of weight[label] max(0, margin - scores[label] + scores[c])^p; scores (N, C), integer labels (N), or (C) and ().

    p is 1 or 2; "mean" divides by N. The slope at the kink is 0. Raises as cross_entropy does.
    """
    rows, shape = rows_of("multi_margin_loss", "scores", scores, maps=False)
    array = checked_labels("multi_margin_loss", labels, shape, rows.shape[1], None, rows.device)
    kept = constant_beside("multi_margin_loss", "weight", rows, weight)
    loss = apply(MultiMargin(array, kept, p, finite("multi_margin_loss", "margin", margin), 1 / max(rows.shape[1], 1), reduction), rows)
    return as_labels(loss, shape, reduction)


def multiclass_svm_loss(scores: Tensor, labels: Any, *, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """sum over c != label of max(0, scores[c] - scores[label] + margin); scores (N, C), integer labels (N). "mean" divides by N.

    C - 1 where all scores are equal and the margin is 1. (Crammer and Singer 2001 take the largest violation; Weston and Watkins 1999, and
    the lectures, their sum.) multi_margin_loss is this divided by C. Raises as cross_entropy does.
    """
    rows, shape = rows_of("multiclass_svm_loss", "scores", scores, maps=False)
    array = checked_labels("multiclass_svm_loss", labels, shape, rows.shape[1], None, rows.device)
    return as_labels(
        apply(MultiMargin(array, None, 1, finite("multiclass_svm_loss", "margin", margin), 1.0, reduction), rows), shape, reduction
    )
