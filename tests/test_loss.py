"""Cross-entropy: against the reference and against PyTorch in float64, at its ends, and by differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
import torch
from kernel_calls import Table, call
from kernel_cases import Case

import fastnn
from fastnn import _C

REDUCTIONS = ["none", "mean", "sum"]


@pytest.mark.parametrize(("smoothing", "weighted", "ignore_index"), [*itertools.product([0.0, 0.1, 1.0], [False, True], [-100, 2])])
@pytest.mark.parametrize("shape", [(1, 3), (7, 3), (5, 10), (33, 17), (300, 100), (4, 1003)], ids=str)
def test_every_combination(shape: tuple[int, int], smoothing: float, weighted: bool, ignore_index: int, table: Table) -> None:
    for reduction, scale in itertools.product(REDUCTIONS, (0.0, 3.0, 50.0)):
        for row in ("cross_entropy_forward", "cross_entropy_backward"):
            Case(row, (shape, smoothing, ignore_index, reduction), {"weighted": weighted, "scale": scale}).check(table)


@pytest.mark.parametrize(("reduction", "smoothing", "weighted"), [*itertools.product(REDUCTIONS, [0.0, 0.2], [False, True])])
def test_is_what_pytorch_computes(reduction: str, smoothing: float, weighted: bool, table: Table) -> None:
    random = np.random.default_rng(0)
    z, labels = random.standard_normal((40, 13)) * 4, random.integers(0, 13, 40)
    labels[::7] = -100
    weight = random.random(13) + 0.5 if weighted else None
    logits = torch.tensor(z, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        logits,
        torch.tensor(labels),
        None if weight is None else torch.tensor(weight),
        reduction=reduction,
        label_smoothing=smoothing,
    )
    expected.sum().backward()
    assert logits.grad is not None
    parameters = (z.shape, smoothing, -100, reduction)
    forward = call("cross_entropy_forward", parameters, [z, labels, weight], table.dtype)
    dloss = np.ones(40 if reduction == "none" else ())
    dx = call(
        "cross_entropy_backward",
        parameters,
        [z, labels, weight, forward["lse"], forward["divisor"], dloss],
        table.dtype,
    )["dx"]
    rounding = float(np.finfo(table.dtype).eps)
    assert np.abs(forward["loss"] - expected.detach().numpy()).max() <= 40 * rounding * max(1, float(expected.detach().abs().max()))
    assert np.abs(dx - logits.grad.numpy()).max() <= 40 * rounding


def test_huge_logits(table: Table) -> None:
    """Log-sum-exp neither overflows nor loses its digits."""
    z = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [3e4, 3e4, -3e4], [1e30, -1e30, 0]])
    labels = np.array([0, 1, 0, 0])
    forward = call("cross_entropy_forward", (z.shape, 0.0, -100, "none"), [z, labels, None], table.dtype)
    assert np.allclose(forward["loss"], [0, np.log(3), np.log(2), 0], rtol=1e-3)  # 1e4 + log 3 has no more digits in float32
    dx = call(
        "cross_entropy_backward",
        (z.shape, 0.0, -100, "none"),
        [z, labels, None, forward["lse"], forward["divisor"], np.ones(4)],
        table.dtype,
    )["dx"]
    assert np.isfinite(dx).all()
    assert np.allclose(dx[[0, 3]], 0, atol=1e-6)


def test_classes_that_are_impossible(table: Table) -> None:
    """A logit of minus infinity has probability 0."""
    z = np.array([[0, -np.inf, 0, 0]])
    forward = call("cross_entropy_forward", ((1, 4), 0.0, -100, "none"), [z, np.array([2]), None], table.dtype)
    assert np.allclose(forward["loss"], np.log(3))
    operands = [z, np.array([2]), None, forward["lse"], forward["divisor"], np.ones(1)]
    dx = call("cross_entropy_backward", ((1, 4), 0.0, -100, "none"), operands, table.dtype)["dx"]
    assert np.allclose(dx, [[1 / 3, 0, -2 / 3, 1 / 3]])
    forward = call("cross_entropy_forward", ((1, 4), 0.0, -100, "none"), [z, np.array([1]), None], table.dtype)
    assert forward["loss"][0] == np.inf


def test_nan_reaches_the_loss(table: Table) -> None:
    z = np.zeros((5, 20))
    z[3, 17] = np.nan
    forward = call("cross_entropy_forward", (z.shape, 0.0, -100, "none"), [z, np.zeros(5), None], table.dtype)
    assert np.isnan(forward["loss"]).tolist() == [False, False, False, True, False]
    assert np.isnan(call("cross_entropy_forward", (z.shape, 0.0, -100, "mean"), [z, np.zeros(5), None], table.dtype)["loss"])


def test_ignored_samples_count_for_nothing(table: Table) -> None:
    random = np.random.default_rng(0)
    z, labels = random.standard_normal((6, 5)), np.array([0, -1, 2, -1, 4, 1])
    z[[1, 3]] = np.nan
    kept = labels >= 0
    for reduction in ("mean", "sum"):
        forward = call("cross_entropy_forward", (z.shape, 0.1, -1, reduction), [z, labels, None], table.dtype)
        expected = reference.cross_entropy_forward(z[kept], labels[kept], None, 0.1, -1, reduction)
        assert np.allclose(forward["loss"], expected[0], rtol=1e-6)
        operands = [z, labels, None, forward["lse"], forward["divisor"], np.ones(())]
        dx = call("cross_entropy_backward", (z.shape, 0.1, -1, reduction), operands, table.dtype)["dx"]
        assert (dx[~kept] == 0).all() and np.isfinite(dx).all()


def test_nothing_but_ignored_samples(table: Table) -> None:
    """The mean of no sample is not a number, as in PyTorch; their sum is 0."""
    z, labels = np.ones((3, 4)), np.full(3, -100)
    assert np.isnan(call("cross_entropy_forward", (z.shape, 0.0, -100, "mean"), [z, labels, None], table.dtype)["loss"])
    assert call("cross_entropy_forward", (z.shape, 0.0, -100, "sum"), [z, labels, None], table.dtype)["loss"] == 0


def test_initial_loss_is_log_c(table: Table) -> None:
    for classes in (2, 10, 1000):
        z = np.zeros((8, classes))
        loss = call("cross_entropy_forward", (z.shape, 0.0, -100, "mean"), [z, np.arange(8) % classes, None], table.dtype)["loss"]
        assert abs(loss - np.log(classes)) < 1e-6 * np.log(classes) + 1e-6


def test_gradient_by_central_differences(table: Table) -> None:
    random = np.random.default_rng(0)
    z, labels, weight = random.standard_normal((4, 5)), np.array([1, 4, 0, 2]), random.random(5) + 0.5
    step, expected = 1e-6, np.zeros((4, 5))
    for i in np.ndindex(4, 5):
        up, down = z.copy(), z.copy()
        up[i] += step
        down[i] -= step
        losses = [reference.cross_entropy_forward(a, labels, weight, 0.1, -100, "mean")[0] for a in (up, down)]
        expected[i] = (losses[0] - losses[1]) / (2 * step)
    forward = call("cross_entropy_forward", (z.shape, 0.1, -100, "mean"), [z, labels, weight], table.dtype)
    operands = [z, labels, weight, forward["lse"], forward["divisor"], np.ones(())]
    dx = call("cross_entropy_backward", (z.shape, 0.1, -100, "mean"), operands, table.dtype)["dx"]
    assert np.abs(dx - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (((4, 3, 2), 0.0, -100, "mean"), r"\(N, C\)"),
        (((4, 3), 1.5, -100, "mean"), r"label_smoothing must lie in \[0, 1\]"),
        (((4, 3), 0.0, -100, "average"), "not one of none, mean, sum"),
        (((4, 0), 0.0, -100, "mean"), "no classes"),
    ],
)
def test_impossible_parameters_are_refused(parameters: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _C.CrossEntropy(*parameters)


@pytest.mark.parametrize("which", ["labels", "weight"])
def test_labels_and_weight_changed_before_backward_are_refused(which: str) -> None:
    logits = fastnn.tensor(np.zeros((2, 3)), requires_grad=True)
    kept = {"labels": fastnn.tensor([0, 1]), "weight": fastnn.tensor(np.ones(3, np.float32))}
    loss = fastnn.ops.cross_entropy(logits, kept["labels"], kept["weight"])
    kept[which].copy_from(np.full(kept[which].shape, 2))
    with pytest.raises(RuntimeError, match="overwritten after the forward pass"):
        loss.backward()
