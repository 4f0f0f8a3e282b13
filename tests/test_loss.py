"""Cross-entropy: against the reference and against PyTorch in float64, at its ends, and by differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import reference
import torch
from kernel_calls import Table, assert_within, call, plan
from kernel_cases import Case
from kernel_problems.loss import multi_margin_backward
from kernel_problems.problem import normal

import fastnn
from fastnn import _C

REDUCTIONS = ["none", "mean", "sum"]
ROUNDINGS = 8  # of a loss that is a sum of what is not negative, relative; of probability and target, of which a gradient is the difference


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
        [z, labels, weight, forward["top"], forward["log_sum"], forward["divisor"], dloss],
        table.dtype,
    )["dx"]
    rounding = float(np.finfo(table.dtype).eps)
    assert np.abs(forward["loss"] - expected.detach().numpy()).max() <= 40 * rounding * max(1, float(expected.detach().abs().max()))
    assert np.abs(dx - logits.grad.numpy()).max() <= 40 * rounding


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_huge_logits(smoothing: float, reduction: str, table: Table) -> None:
    """Log-sum-exp neither overflows nor loses its digits: in float32 1e4 + log 3 has but three behind the point."""
    z = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [3e4, 3e4, -3e4], [1e4, 1e4 + 1, 1e4 + 2]])
    labels, parameters = np.array([0, 1, 0, 2]), (z.shape, smoothing, -100, reduction)
    loss, top, log_sum, divisor = reference.cross_entropy_forward(z, labels, None, smoothing, -100, reduction)
    dloss = np.ones(4 if reduction == "none" else ())
    forward = call("cross_entropy_forward", parameters, [z, labels, None], table.dtype)
    assert_within(forward["loss"], loss, ROUNDINGS * loss, "loss")
    assert_within(forward["log_sum"], log_sum, ROUNDINGS * log_sum, "log_sum")
    assert np.array_equal(forward["top"], top)
    operands = [z, labels, None, forward["top"], forward["log_sum"], forward["divisor"], dloss]
    dx = call("cross_entropy_backward", parameters, operands, table.dtype)["dx"]
    expected = reference.cross_entropy_backward(z, labels, None, divisor, dloss, smoothing, -100, reduction)
    assert_within(dx, expected, ROUNDINGS / float(divisor), "dx")


def test_the_largest_logits_there_are(table: Table) -> None:
    z = np.array([[1e30, -1e30, 0]])
    forward = call("cross_entropy_forward", (z.shape, 0.0, -100, "none"), [z, np.array([0]), None], table.dtype)
    assert forward["loss"].tolist() == [0]
    operands = [z, np.array([0]), None, forward["top"], forward["log_sum"], forward["divisor"], np.ones(1)]
    assert call("cross_entropy_backward", (z.shape, 0.0, -100, "none"), operands, table.dtype)["dx"].tolist() == [[0, 0, 0]]


def test_classes_that_are_impossible(table: Table) -> None:
    """A logit of minus infinity has probability 0."""
    z = np.array([[0, -np.inf, 0, 0]])
    forward = call("cross_entropy_forward", ((1, 4), 0.0, -100, "none"), [z, np.array([2]), None], table.dtype)
    assert_within(forward["loss"], np.log([3.0]), ROUNDINGS, "loss")
    operands = [z, np.array([2]), None, forward["top"], forward["log_sum"], forward["divisor"], np.ones(1)]
    dx = call("cross_entropy_backward", ((1, 4), 0.0, -100, "none"), operands, table.dtype)["dx"]
    assert_within(dx, np.array([[1 / 3, 0, -2 / 3, 1 / 3]]), ROUNDINGS, "dx")
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
    z, labels = normal(random, (6, 5)), np.array([0, -1, 2, -1, 4, 1])
    z[[1, 3]] = np.nan
    kept = labels >= 0
    for reduction in ("mean", "sum"):
        forward = call("cross_entropy_forward", (z.shape, 0.1, -1, reduction), [z, labels, None], table.dtype)
        expected = reference.cross_entropy_forward(z[kept], labels[kept], None, 0.1, -1, reduction)
        assert_within(forward["loss"], expected[0], ROUNDINGS * expected[0], "loss")
        operands = [z, labels, None, forward["top"], forward["log_sum"], forward["divisor"], np.ones(())]
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
    operands = [z, labels, weight, forward["top"], forward["log_sum"], forward["divisor"], np.ones(())]
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _C.SoftCrossEntropy((4,)), r"expects logits of shape \(N, C\), got \(4,\)"),
        (lambda: _C.SoftCrossEntropy((4, 3), 2.0), r"label_smoothing must lie in \[0, 1\], got 2"),
        (lambda: _C.MultiMargin((4, 3), 3), "p must be 1 or 2, got 3"),
        (lambda: _C.MultiMargin((4, 3, 1)), r"expects scores of shape \(N, C\)"),
        (lambda: _C.ElementLoss((4, 3), 1.0, 1.0, 1.0, "all"), "reduction 'all' is not one of none, mean, sum"),
        (lambda: _C.Softmax((4, 3), 2), r"dim 2 does not exist in shape \(4, 3\)"),
        (lambda: _C.Softmax((), 0), r"dim 0 does not exist in shape \(\)"),
        (lambda: _C.Distance((4, 3), (5, 2)), r"rows of a \(4, 3\) have 3 features, rows of b \(5, 2\) have 2"),
        (lambda: _C.Distance((4, 3), (5,)), r"b of shape \(N, D\), got \(4, 3\) and \(5,\)"),
        (lambda: _C.Distance((4, 3), (5, 3), 3), "p must be 1 or 2, got 3"),
    ],
)
def test_other_structs_refuse(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- soft labels, nll, margins: rows


def test_soft_labels_that_are_hard_ones(table: Table) -> None:
    """A one-hot target gives the loss of its label, a class that is impossible in both counts nothing, and NaN goes through."""
    random = np.random.default_rng(0)
    z, labels = random.standard_normal((40, 13)) * 4, random.integers(0, 13, 40)
    z[3, (labels[3] + 1) % 13] = -np.inf
    z[7, 5] = np.nan
    parameters, onehot = (z.shape, 0.0, "none"), np.eye(13)[labels]
    soft = call("soft_cross_entropy_forward", parameters, [z, onehot, None], table.dtype)
    hard = call("cross_entropy_forward", (z.shape, 0.0, -100, "none"), [z, labels, None], table.dtype)
    assert np.isnan(soft["loss"]).tolist() == [i == 7 for i in range(40)]
    assert_within(soft["loss"], hard["loss"], 2 * ROUNDINGS * hard["loss"], "loss")
    assert np.isfinite(soft["loss"][3])
    dsoft = call("soft_cross_entropy_backward", parameters, [z, onehot, None, soft["top"], soft["log_sum"], np.ones(40)], table.dtype)
    operands = [z, labels, None, hard["top"], hard["log_sum"], hard["divisor"], np.ones(40)]
    dhard = call("cross_entropy_backward", (z.shape, 0.0, -100, "none"), operands, table.dtype)
    assert_within(dsoft["dx"], dhard["dx"], ROUNDINGS, "dx")


def test_margin_of_equal_scores_is_the_number_of_other_classes(table: Table) -> None:
    for classes in (2, 10, 1030):
        z = np.full((6, classes), 2.5)
        loss = call("multi_margin_forward", (z.shape, 1, 1.0, 1.0, "mean"), [z, np.arange(6) % classes, None], table.dtype)["loss"]
        assert loss == classes - 1


def test_margin_of_the_lectures(table: Table) -> None:
    """CS231n's three images: scores of cat, car and frog, losses 2.9, 0 and 12.9."""
    z = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    written = call("multi_margin_forward", (z.shape, 1, 1.0, 1.0, "none"), [z, np.array([0, 1, 2]), None], table.dtype)
    assert_within(written["loss"], np.array([2.9, 0, 12.9]), 2 * (2 * 5.1 + 1), "two margins of two scores, which are rounded")


@pytest.mark.parametrize("p", [1, 2])
def test_margin_at_its_kink_and_beyond_numbers(p: int, table: Table) -> None:
    """Exactly at the margin loss and slope are 0; NaN goes through, -inf is far below."""
    z = np.zeros((4, 20))
    z[:, 0] = 1  # the label's: all others are at the kink
    z[1, 7], z[2, 7], z[3, 7] = np.nan, -np.inf, 0.5
    operands = [z, np.zeros(4), None]
    loss = call("multi_margin_forward", (z.shape, p, 1.0, 1.0, "none"), operands, table.dtype)["loss"]
    assert np.isnan(loss).tolist() == [False, True, False, False] and loss[[0, 2, 3]].tolist() == [0, 0, 0.5**p]
    dx = call("multi_margin_backward", (z.shape, p, 1.0, 1.0, "none"), [*operands, np.ones(4)], table.dtype)["dx"]
    assert np.argwhere(np.isnan(dx)).tolist() == [[1, 0], [1, 7]]
    assert not dx[[0, 2]].any() and dx[3, [0, 7]].tolist() == [-1, 1] and np.count_nonzero(dx[3]) == 2


@pytest.mark.parametrize("row", ["cross_entropy_forward", "soft_cross_entropy_forward", "nll_forward", "multi_margin_forward"])
def test_which_algorithm(row: str, table: Table) -> None:
    """Losses of samples are made side by side and added up in blocks, on a GPU in scratch."""
    fields = (0.0, "mean") if row.startswith("soft") else (1, 1.0, 1.0, "mean") if row.startswith("multi") else (0.0, -100, "mean")
    algorithm, scratch = plan(row, ((700, 10), *fields), table.dtype)
    assert (algorithm, scratch) == (("blocks_of_samples", 0) if table.device == "cpu" else ("samples", 2 * 700 * 8))


@pytest.mark.parametrize("which", ["labels", "weight"])
def test_labels_and_weight_changed_before_backward_are_refused(which: str) -> None:
    logits = fastnn.tensor(np.zeros((2, 3)), requires_grad=True)
    kept = {"labels": fastnn.tensor([0, 1]), "weight": fastnn.tensor(np.ones(3, np.float32))}
    loss = fastnn.ops.cross_entropy(logits, kept["labels"], kept["weight"])
    kept[which].copy_from(np.full(kept[which].shape, 2))
    with pytest.raises(RuntimeError, match="overwritten after the forward pass"):
        loss.backward()


@pytest.mark.parametrize(("seed", "classes"), [(15, 500), (39, 1500)])
def test_the_labels_slope_of_many_equal_terms(seed: int, classes: int, table: Table) -> None:
    """Found by problems drawn at random: every class beyond its margin takes the same number from the label's gradient, so the roundings of that
    sum agree and grow with their number. Here they are more than the 8 that its bound once allowed, where vectors are narrow."""
    fields = ((5, classes), 1, 100.0 if seed == 15 else 0.5, 0.1, "sum")
    problem = multi_margin_backward(np.random.default_rng(seed), *fields, weighted=True)
    (expected,), tolerance = problem.expected, problem.tolerance
    got = call("multi_margin_backward", fields, problem.operands, table.dtype)["dx"]
    assert_within(got, expected, tolerance, f"multi_margin_backward on {table}")
    if table.where in ("portable", "avx2") and table.dtype == "float32":
        with pytest.raises(AssertionError):
            assert_within(got, expected, tolerance * 8 / (8 + classes / 64), "as it once was")


@pytest.mark.parametrize("loss", ["cross_entropy", "nll", "multi_margin"])
@pytest.mark.parametrize("label", [-1, 3, 10**12])
def test_labels_that_others_change_after_they_were_looked_at_touch_no_other_row(loss: str, label: int) -> None:
    """Memory that is shared (from_dlpack) may be written to between forward and backward: NaN in that sample's gradient, and nowhere else."""
    function = {"cross_entropy": fastnn.ops.cross_entropy, "nll": fastnn.ops.nll_loss, "multi_margin": fastnn.ops.multi_margin_loss}[loss]
    scores = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    given = np.array([0, 1, 2, 0])

    def gradient(change: bool) -> np.ndarray:
        shared = given.copy()
        x = fastnn.tensor(scores, requires_grad=True)
        value = function(x, fastnn.from_dlpack(shared))
        if change:
            shared[1] = label
        value.backward()
        assert x.grad is not None
        return x.grad.numpy()

    right, found = gradient(False), gradient(True)
    assert np.isnan(found[1]).all() and (found[[0, 2, 3]] == right[[0, 2, 3]]).all()
