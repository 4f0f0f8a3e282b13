"""Cross-entropy and NLL of maps (N, C, d1, ...) and of a single sample (C): PyTorch's values and gradients, on every device there is."""

from __future__ import annotations

import itertools
from typing import Any

import kernel_calls
import numpy as np
import pytest
import torch
from torch_twins import assert_close, direction, normal, twins

import fastnn
from fastnn import nn, ops

TN, F = torch.nn, torch.nn.functional
PLACES = [(device, "float32") for device in kernel_calls.DEVICES] + [("cpu", "float64")] * ("cpu" in kernel_calls.DEVICES)
everywhere = pytest.mark.parametrize(("device", "dtype"), PLACES)
REDUCTIONS = ["mean", "sum", "none"]
WEIGHT = np.array([0.5, 2, 1, 0.25, 3], np.float32)
SHAPES = [(5,), (3, 5), (3, 5, 7), (2, 5, 3, 4), (2, 5, 3, 2, 4), (2, 5, 1, 1), (1, 5, 6, 1), (0, 5, 2, 2)]
CHOICES = [*itertools.product(REDUCTIONS, [False, True], SHAPES)]


def labels_of(shape: tuple[int, ...], ignored: int | None = None) -> np.ndarray:
    labels = np.random.default_rng(len(shape)).integers(0, 5, (*shape[:1], *shape[2:]) if len(shape) > 1 else ())
    if ignored is not None:
        labels = np.where(labels == ignored, 3, labels)  # so that something counts
        if labels.size > 2:
            labels.flat[::3] = ignored
    return labels


def check(ours: nn.Module, theirs: TN.Module, values: np.ndarray, target: np.ndarray, device: str, dtype: str, terms: int = 30) -> None:
    ours = (ours.double() if dtype == "float64" else ours).to(device)
    x, z = twins(values, dtype)
    floats = target.dtype.kind == "f"
    given = fastnn.tensor(target, dtype, device=device) if floats else target
    loss, expected = ours(x.to(device), given), theirs.double()(z, torch.tensor(target, dtype=torch.float64 if floats else torch.int64))
    assert loss.dtype == dtype and loss.shape == tuple(expected.shape)
    if not values.size and loss.shape == ():  # a mean over nothing is NaN in both
        assert np.isnan(loss.item()) == np.isnan(expected.item())
        return
    assert_close(loss, expected, terms, "loss")
    loss.backward(direction(loss.shape)), expected.backward(torch.tensor(direction(loss.shape)))
    assert_close(x.grad, z.grad, terms, "gradient")


@everywhere
@pytest.mark.parametrize(("reduction", "weighted", "shape"), CHOICES, ids=str)
def test_cross_entropy_is_pytorchs(reduction: str, weighted: bool, shape: tuple[int, ...], device: str, dtype: str) -> None:
    weight = WEIGHT if weighted else None
    for smoothing, ignore in itertools.product((0.0, 0.1), (-100, 2)):
        options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": ignore}
        theirs = TN.CrossEntropyLoss(None if weight is None else torch.tensor(weight), **options)
        check(nn.CrossEntropyLoss(weight, **options), theirs, normal(0, *shape) * 3, labels_of(shape, ignore), device, dtype)


@everywhere
@pytest.mark.parametrize(("reduction", "weighted", "shape"), CHOICES, ids=str)
def test_probabilities_are_pytorchs(reduction: str, weighted: bool, shape: tuple[int, ...], device: str, dtype: str) -> None:
    weight = WEIGHT if weighted else None
    target = np.abs(normal(3, *shape))
    target /= target.sum(0 if len(shape) == 1 else 1, keepdims=True)
    for smoothing in (0.0, 0.1):
        theirs = TN.CrossEntropyLoss(None if weight is None else torch.tensor(weight), reduction=reduction, label_smoothing=smoothing)
        ours = nn.CrossEntropyLoss(weight, reduction=reduction, label_smoothing=smoothing)
        check(ours, theirs, normal(0, *shape) * 3, target, device, dtype)


@everywhere
@pytest.mark.parametrize(("reduction", "weighted", "shape"), CHOICES, ids=str)
def test_nll_is_pytorchs(reduction: str, weighted: bool, shape: tuple[int, ...], device: str, dtype: str) -> None:
    weight = WEIGHT if weighted else None
    for ignore in (-100, 2):
        theirs = TN.NLLLoss(None if weight is None else torch.tensor(weight), ignore_index=ignore, reduction=reduction)
        ours = nn.NLLLoss(weight, ignore_index=ignore, reduction=reduction)
        check(ours, theirs, -np.abs(normal(0, *shape)), labels_of(shape, ignore), device, dtype)


@everywhere
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_margins_of_one_sample_are_pytorchs(reduction: str, device: str, dtype: str) -> None:
    for p in (1, 2):
        theirs = TN.MultiMarginLoss(p, 0.5, torch.tensor(WEIGHT), reduction=reduction)
        check(nn.MultiMarginLoss(p, 0.5, WEIGHT, reduction=reduction), theirs, normal(0, 5), np.array(3), device, dtype)
    svm = nn.MulticlassSVMLoss(0.5, reduction=reduction)
    x = fastnn.tensor(normal(0, 5), dtype, device=device)
    assert svm(x, 3).shape == () and abs(svm(x, 3).item() - 5 * ops.multi_margin_loss(x, 3, margin=0.5).item()) < 1e-5


def test_labels_as_tensors_and_a_teacher_of_maps() -> None:
    """int64 Tensors of every rank, and probabilities that require gradients."""
    for shape in SHAPES[1:5]:
        labels = labels_of(shape)
        x = fastnn.tensor(normal(0, *shape))
        assert ops.cross_entropy(x, fastnn.tensor(labels, "int64")).item() == ops.cross_entropy(x, labels).item()
    (x, z), (t, s) = twins(normal(0, 2, 5, 3, 4), "float32"), twins(np.abs(normal(1, 2, 5, 3, 4)), "float32")
    for reduction in REDUCTIONS:
        weight = fastnn.tensor(WEIGHT)
        loss = ops.cross_entropy(x, t, weight, reduction=reduction, label_smoothing=0.1)
        expected = F.cross_entropy(z, s, torch.tensor(WEIGHT, dtype=torch.float64), reduction=reduction, label_smoothing=0.1)
        assert_close(loss, expected, 60)
        for tensor in (x, t, z, s):
            tensor.grad = None
        loss.backward(direction(loss.shape)), expected.backward(torch.tensor(direction(loss.shape)))
        assert_close(x.grad, z.grad, 60)
        assert_close(t.grad, s.grad, 60)


def test_pixels_cost_one_copy_each_way() -> None:
    """Maps lie pixel by pixel already: what is moved is one dense copy, and no transposition."""
    x = fastnn.tensor(normal(0, 2, 5, 6, 7), requires_grad=True)
    with fastnn.profile() as seen:
        ops.cross_entropy(x, np.zeros((2, 6, 7), int)).backward()
    assert {name: row["calls"] for name, row in seen.items()} == {
        "copy": 1,
        "cross_entropy_forward": 1,
        "cross_entropy_backward": 1,
        "copy_backward": 1,
    }


def test_gradients_by_central_differences() -> None:
    labels = labels_of((2, 5, 2, 3), 2)
    assert fastnn.gradcheck(lambda x: ops.cross_entropy(x, labels, label_smoothing=0.2, ignore_index=2), [normal(0, 2, 5, 2, 3)])
    assert fastnn.gradcheck(lambda x: ops.nll_loss(x, labels, reduction="none"), [normal(0, 2, 5, 2, 3)])
