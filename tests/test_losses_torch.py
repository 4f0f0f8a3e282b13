"""Losses, softmax and penalties as users call them: PyTorch's values and gradients, finite differences, and what is refused."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kernel_calls import Table
from torch_twins import DTYPES, assert_close, direction, normal, twins

import fastnn
from fastnn import nn, ops, optim

TN, TF = torch.nn, torch.nn.functional
REDUCTIONS = ["mean", "sum", "none"]
WEIGHT = np.array([0.5, 2, 1, 0.25, 3], np.float32)
LABELS = np.array([0, 4, 2, 1, 2, 3])


def compare(ours: nn.Module, theirs: TN.Module, inputs: list[np.ndarray], targets: list[Any], dtype: str, terms: int = 20) -> None:
    """Loss and gradients of every input; the targets are constants."""
    ours, theirs = (ours.double() if dtype == "float64" else ours), theirs.double()
    mine, other = zip(*[twins(values, dtype) for values in inputs])
    given = [fastnn.tensor(t, dtype) if t.dtype.kind == "f" else t for t in targets]
    wanted = [torch.tensor(t, dtype=torch.float64 if t.dtype.kind == "f" else torch.int64) for t in targets]
    loss, expected = ours(*mine, *given), theirs(*other, *wanted)
    assert loss.dtype == dtype
    assert_close(loss, expected, terms, "loss")
    dy = direction(loss.shape)
    loss.backward(dy)
    expected.backward(torch.tensor(dy))
    for i, (x, z) in enumerate(zip(mine, other)):
        assert_close(x.grad, z.grad, terms, f"gradient {i}")
    assert list(ours.state_dict()) == list(theirs.state_dict())


def weights(weighted: bool, values: np.ndarray = WEIGHT) -> tuple[np.ndarray | None, torch.Tensor | None]:
    return (values, torch.tensor(values, dtype=torch.float64)) if weighted else (None, None)


# --- of samples


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("reduction", "smoothing", "weighted"), [*itertools.product(REDUCTIONS, [0.0, 0.1, 1.0], [False, True])])
def test_soft_labels_are_pytorchs(reduction: str, smoothing: float, weighted: bool, dtype: str) -> None:
    weight, theirs = weights(weighted)
    target = np.random.default_rng(3).dirichlet(np.ones(5), 6).astype(np.float32)
    compare(
        nn.CrossEntropyLoss(weight, reduction=reduction, label_smoothing=smoothing),
        TN.CrossEntropyLoss(theirs, reduction=reduction, label_smoothing=smoothing),
        [normal(0, 6, 5) * 4],
        [target],
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("reduction", "weighted", "ignore"), [*itertools.product(REDUCTIONS, [False, True], [-100, 2])])
def test_nll_is_pytorchs(reduction: str, weighted: bool, ignore: int, dtype: str) -> None:
    weight, theirs = weights(weighted)
    ours = nn.NLLLoss(weight, ignore_index=ignore, reduction=reduction)
    compare(ours, TN.NLLLoss(theirs, ignore_index=ignore, reduction=reduction), [-np.abs(normal(0, 6, 5))], [LABELS], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("reduction", "p", "weighted", "margin"), [*itertools.product(REDUCTIONS, [1, 2], [False, True], [1.0, 0.25])])
def test_multi_margin_is_pytorchs(reduction: str, p: int, weighted: bool, margin: float, dtype: str) -> None:
    weight, theirs = weights(weighted)
    ours = nn.MultiMarginLoss(p, margin, weight, reduction=reduction)
    compare(ours, TN.MultiMarginLoss(p, margin, theirs, reduction=reduction), [normal(0, 6, 5)], [LABELS], dtype)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_svm_is_multi_margin_without_the_division(reduction: str) -> None:
    compare(
        nn.MulticlassSVMLoss(0.5, reduction=reduction),
        type("Svm", (TN.Module,), {"forward": lambda self, s, y: 5 * TF.multi_margin_loss(s, y, margin=0.5, reduction=reduction)})(),
        [normal(0, 6, 5)],
        [LABELS],
        "float32",
    )


def test_svm_starts_at_the_number_of_classes_less_one() -> None:
    fastnn.seed(0)
    scores = fastnn.models.linear(num_classes=10, input_shape=(1, 8, 8))(fastnn.tensor(normal(0, 50, 1, 8, 8) * 1e-4))
    assert abs(float(nn.MulticlassSVMLoss()(scores * 0.0, np.arange(50) % 10)) - 9) < 1e-6
    assert abs(float(nn.MulticlassSVMLoss()(scores, np.arange(50) % 10)) - 9) < 0.2


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_class_without_a_share_counts_nothing_at_minus_infinity(weighted: bool, learned: bool, table: Table) -> None:
    """Neither in the loss nor in a gradient, its teacher's included: there the share of 0 comes out of a softmax."""
    with np.errstate(divide="ignore"):
        logits, shares = (np.log(np.array(p)) for p in ([[0.25, 0.75, 0]], [[0.5, 0.5, 0]]))
    z = fastnn.tensor(logits, table.dtype, True, table.device)
    teacher = fastnn.tensor(shares, table.dtype, learned, table.device)
    loss = ops.cross_entropy(z, ops.softmax(teacher, 1), np.array([1, 2, 3], np.float32) if weighted else None)
    loss.backward()
    w = np.array([1, 2]) if weighted else np.ones(2)
    each = -np.log([0.25, 0.75]) * w / 2
    assert_close(loss, np.array(each.sum()))
    # differences of numbers that are nine times as large where there are weights: so are their roundings
    assert_close(z.grad, np.array([[0.25 * w.sum() / 2 - w[0] / 2, 0.75 * w.sum() / 2 - w[1] / 2, 0]]), 41 if weighted else 1)
    if learned:
        assert_close(teacher.grad, np.array([[*(each - each.sum() / 2), 0]]))


def test_a_teacher_may_learn_too() -> None:
    """Probabilities that require a gradient get PyTorch's."""
    for reduction, smoothing in itertools.product(REDUCTIONS, [0.0, 0.1]):
        (x, z), (t, s) = twins(normal(0, 6, 5), "float32"), twins(np.abs(normal(1, 6, 5)) / 4, "float32")
        loss = ops.cross_entropy(x, t, fastnn.tensor(WEIGHT), reduction=reduction, label_smoothing=smoothing)
        expected = TF.cross_entropy(z, s, torch.tensor(WEIGHT, dtype=torch.float64), reduction=reduction, label_smoothing=smoothing)
        assert_close(loss, expected, 40)
        loss.backward(direction(loss.shape))
        expected.backward(torch.tensor(direction(loss.shape)))
        assert_close(x.grad, z.grad, 40)
        assert_close(t.grad, s.grad, 40)


# --- of elements

ELEMENT_LOSSES: dict[str, tuple[Callable[[str], nn.Module], Callable[[str], TN.Module]]] = {
    "mse": (lambda r: nn.MSELoss(reduction=r), lambda r: TN.MSELoss(reduction=r)),
    "l1": (lambda r: nn.L1Loss(reduction=r), lambda r: TN.L1Loss(reduction=r)),
    "smooth l1": (lambda r: nn.SmoothL1Loss(reduction=r), lambda r: TN.SmoothL1Loss(reduction=r)),
    "smooth l1, beta": (lambda r: nn.SmoothL1Loss(reduction=r, beta=0.3), lambda r: TN.SmoothL1Loss(reduction=r, beta=0.3)),
    "smooth l1, beta 0": (lambda r: nn.SmoothL1Loss(reduction=r, beta=0.0), lambda r: TN.SmoothL1Loss(reduction=r, beta=0.0)),
    "huber": (lambda r: nn.HuberLoss(reduction=r), lambda r: TN.HuberLoss(reduction=r)),
    "huber, delta": (lambda r: nn.HuberLoss(reduction=r, delta=0.3), lambda r: TN.HuberLoss(reduction=r, delta=0.3)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ELEMENT_LOSSES)
def test_losses_of_elements_are_pytorchs(name: str, reduction: str, dtype: str) -> None:
    """Both arguments have gradients; rank 4 lies in another order in memory."""
    ours, theirs = ELEMENT_LOSSES[name]
    for shape in ((7,), (3, 5), (2, 3, 4, 5), ()):
        x, target = normal(0, *shape), normal(1, *shape)
        compare(ours(reduction), theirs(reduction), [x, target], [], dtype, 200)


def test_l1_at_its_kink() -> None:
    x = fastnn.tensor([1.0, 2.0, np.nan], requires_grad=True)
    loss = ops.l1_loss(x, [1.0, np.nan, 0.0], reduction="none")
    loss.backward(np.ones(3))
    assert loss.numpy()[0] == 0 and x.grad.numpy()[0] == 0 and np.isnan(loss.numpy()[1:]).all() and np.isnan(x.grad.numpy()[1:]).all()


def test_squares_beyond_the_largest_number_are_infinite() -> None:
    x = fastnn.tensor([1e30, -np.inf])
    assert np.isposinf(ops.mse_loss(x, [0.0, 0.0], reduction="none").numpy()).all()
    assert ops.huber_loss(fastnn.tensor([1e30]), [0.0]).item() == np.float32(1e30)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("reduction", "weighted", "positive"), [*itertools.product(REDUCTIONS, [False, True], [False, True])])
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3, 4), (5,)])
def test_bce_with_logits_is_pytorchs(shape: tuple[int, ...], reduction: str, weighted: bool, positive: bool, dtype: str) -> None:
    per_class = WEIGHT.reshape(5, 1, 1) if len(shape) == 4 else WEIGHT
    weight, theirs = weights(weighted, per_class)
    pos_weight, their_pos_weight = weights(positive, per_class[::-1].copy())
    target = np.random.default_rng(1).random(shape).astype(np.float32)
    target[0] = np.round(target[0])
    compare(
        nn.BCEWithLogitsLoss(weight, reduction=reduction, pos_weight=pos_weight),
        TN.BCEWithLogitsLoss(theirs, reduction=reduction, pos_weight=their_pos_weight),
        [normal(0, *shape) * 5],
        [target],
        dtype,
        200,
    )


def test_bce_of_large_logits_keeps_its_digits() -> None:
    """Each relative to itself: 1e-30 is not 0 (PyTorch's float64 has no such digits either), and nothing overflows."""
    x = np.array([-200, -80, -30, -17, -5, 0, 5, 17, 30, 80, 200], np.float32)
    for target, sign in ((0.0, 1), (1.0, -1)):
        z = fastnn.tensor(x, requires_grad=True)
        loss = ops.binary_cross_entropy_with_logits(z, np.full(11, target), reduction="none")
        loss.backward(np.ones(11))
        exact = x.astype(np.float64) * sign
        expected, slope = np.logaddexp(0, exact), sign * np.exp(-np.logaddexp(0, -exact))
        expected, slope = (np.where(np.abs(v) < np.finfo(np.float32).tiny, 0, v) for v in (expected, slope))
        np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(z.grad.numpy(), slope, rtol=1e-6)


# --- softmax


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "dim"), [((7,), 0), ((5, 6), 1), ((5, 6), 0), *(((2, 3, 4, 5), d) for d in (0, 1, 2, 3, -1)), ((3, 4, 2), 1)]
)
def test_softmax_is_pytorchs(shape: tuple[int, ...], dim: int, dtype: str) -> None:
    pairs: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
        (nn.Softmax(dim), TN.Softmax(dim)),
        (nn.LogSoftmax(dim), TN.LogSoftmax(dim)),
        (lambda x: ops.logsumexp(x, dim), lambda x: torch.logsumexp(x, dim)),
        (lambda x: ops.logsumexp(x, dim, keepdims=True), lambda x: torch.logsumexp(x, dim, keepdim=True)),
    ]
    for ours, theirs in pairs:
        x, z = twins(normal(0, *shape) * 3, dtype)
        y, expected = ours(x), theirs(z)
        assert_close(y, expected, 20)
        y.backward(direction(y.shape))
        expected.backward(torch.tensor(direction(y.shape)))
        assert_close(x.grad, z.grad, 40)


def test_softmax_of_what_is_no_number() -> None:
    x = np.array([[1e4, 1e4, -1e4], [-np.inf, 0, 0], [-np.inf] * 3, [np.inf, 0, 0], [np.nan, 0, 0], [-1e30, 1e30, 0]], np.float32)
    for dim, values in ((1, x), (0, x.T)):
        for ours, theirs in ((ops.softmax, torch.softmax), (ops.log_softmax, torch.log_softmax), (ops.logsumexp, torch.logsumexp)):
            got, expected = ours(fastnn.tensor(values), dim).numpy(), theirs(torch.tensor(values), dim).numpy()
            np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=f"{ours.__name__} along {dim}")


def test_log_softmax_keeps_the_digits_that_log_of_softmax_loses() -> None:
    x = fastnn.tensor([[0.0, -200.0]])
    assert ops.log_softmax(x, 1).numpy().tolist() == [[0, -200]] and ops.softmax(x, 1).numpy()[0, 1] == 0


# --- gradients by differences


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: ops.cross_entropy(x, np.random.default_rng(0).dirichlet(np.ones(5), 4), label_smoothing=0.1),
        lambda x: ops.nll_loss(ops.log_softmax(x, 1), [1, 4, 0, 2], reduction="none"),
        lambda x: ops.multi_margin_loss(x, [1, 4, 0, 2], p=1),
        lambda x: ops.multi_margin_loss(x, [1, 4, 0, 2], p=2, reduction="sum"),
        lambda x: ops.multiclass_svm_loss(x, [1, 4, 0, 2]),
        lambda x: ops.mse_loss(x, normal(3, 4, 5)),
        lambda x: ops.l1_loss(x, normal(3, 4, 5), reduction="none"),
        lambda x: ops.smooth_l1_loss(x, normal(3, 4, 5), beta=0.7),
        lambda x: ops.huber_loss(x, normal(3, 4, 5), delta=0.7),
        lambda x: ops.binary_cross_entropy_with_logits(x, np.full((4, 5), 0.3), pos_weight=[2.0]),
        lambda x: ops.softmax(x, 0),
        lambda x: ops.softmax(x, 1),
        lambda x: ops.log_softmax(x, 0),
        lambda x: ops.logsumexp(x, 0),
        lambda x: ops.logsumexp(x, 1),
        lambda x: ops.penalty([x, x * 2.0], l1=0.3, l2=0.7),
    ],
)
def test_gradients_by_central_differences(fn: Callable[[fastnn.Tensor], fastnn.Tensor]) -> None:
    assert fastnn.gradcheck(fn, [normal(0, 4, 5)])


# --- penalties


def net() -> nn.Sequential:
    fastnn.seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.03), (0.02, 0.0), (0.02, 0.03)])
def test_penalty_is_of_the_weights_only(l1: float, l2: float) -> None:
    model = net()
    value = nn.Penalty(model, l1=l1, l2=l2)()
    value.backward()
    expected = 0.0
    for name, p in model.named_parameters():
        w = p.numpy().astype(np.float64)
        if name in ("0.weight", "4.weight"):
            expected += l2 * (w**2).sum() + l1 * np.abs(w).sum()
            np.testing.assert_allclose(p.grad.numpy(), 2 * l2 * w + l1 * np.sign(w), rtol=1e-6, atol=1e-8)
        else:
            assert p.grad is None, name
    assert value.item() == pytest.approx(expected, rel=1e-6) and value.shape == ()


def test_penalty_leaves_out_what_is_frozen_and_sees_what_is_replaced() -> None:
    model = net()
    penalty = nn.Penalty(model, l2=1.0)
    model[0].weight.requires_grad = False
    setattr(model, "4", nn.Linear(64, 2))
    assert [w.shape for w in penalty.weights()] == [(2, 64)]
    assert penalty().item() == pytest.approx(float((model[4].weight.numpy() ** 2).sum()), rel=1e-6)
    assert [w.shape for w in nn.Penalty([model[4].bias], l1=1.0).weights()] == [(2,)]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_l2_is_twice_as_much_weight_decay(momentum: float) -> None:
    """With SGD the penalty lambda sum W^2 moves weights as weight_decay = 2 lambda does."""
    results = []
    for penalised in (True, False):
        model = net()
        kernels = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim == 1]
        decay = 0.0 if penalised else 0.02
        optimizer = optim.SGD([{"params": kernels, "weight_decay": decay}, {"params": rest}], 0.1, momentum=momentum)
        penalty = nn.Penalty(model, l2=0.01 if penalised else 0.0)
        for step in range(5):
            optimizer.zero_grad()
            loss = nn.CrossEntropyLoss()(model(fastnn.tensor(normal(step, 8, 1, 6, 6))), np.arange(8) % 3)
            (loss + penalty()).backward()
            optimizer.step()
        results.append([p.numpy() for p in model.parameters()])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-6)


def test_penalty_is_one_kernel_each_way() -> None:
    model = net()
    with fastnn.profile() as kernels:
        nn.Penalty(model, l1=0.1, l2=0.1)().backward()
    assert kernels["penalty_forward"]["calls"] == 1 and kernels["penalty_backward"]["calls"] == 1


# --- what is refused


def x(*shape: int) -> fastnn.Tensor:
    return fastnn.tensor(normal(0, *shape))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.MSELoss()(x(3, 4), x(4)),
            ValueError,
            r"MSELoss\(\): mse_loss: input has shape \(3, 4\), target \(4,\); both need the same",
        ),
        (lambda: nn.L1Loss()(x(3), 1.0), ValueError, r"l1_loss: input has shape \(3,\), target \(\)"),
        (lambda: nn.BCEWithLogitsLoss()(x(3, 1), x(3)), ValueError, r"input has shape \(3, 1\), target \(3,\)"),
        (lambda: nn.HuberLoss()(normal(0, 3), x(3)), TypeError, "expected a Tensor, got numpy.ndarray"),
        (lambda: nn.MSELoss()(x(3), fastnn.tensor([1, 2, 3])), TypeError, "target has dtype int64; expected float32"),
        (
            lambda: ops.cross_entropy(x(3, 4), fastnn.tensor([0, 1, 2]), fastnn.tensor(normal(0, 4), "float64")),
            TypeError,
            "^cross_entropy: logits has dtype float32, weight has dtype float64; expected the same for all",
        ),
        (
            lambda: ops.nll_loss(x(3, 4), fastnn.tensor([0, 1, 2]), fastnn.tensor(normal(0, 4), "float64")),
            TypeError,
            "^nll_loss: log_probabilities has dtype float32, weight has dtype float64; expected the same for all",
        ),
        (
            lambda: ops.multi_margin_loss(x(3, 4), fastnn.tensor([0, 1, 2]), weight=fastnn.tensor(normal(0, 4), "float64")),
            TypeError,
            "^multi_margin_loss: scores has dtype float32, weight has dtype float64; expected the same for all",
        ),
        (
            lambda: nn.CrossEntropyLoss()(x(3, 4), x(3, 5)),
            ValueError,
            r"labels have shape \(3, 5\), logits \(3, 4\); probabilities need the shape",
        ),
        (lambda: nn.CrossEntropyLoss()(x(3, 4), x(3)), TypeError, "labels must be integers, got dtype float32"),
        (
            lambda: nn.CrossEntropyLoss(ignore_index=0)(x(3, 4), x(3, 4)),
            ValueError,
            "ignore_index 0 means nothing where the labels are prob",
        ),
        (lambda: nn.NLLLoss()(x(3, 4), [0, 4, 1]), ValueError, r"nll_loss: label 4 of sample 1 lies outside of \[0, 4\)"),
        (lambda: nn.NLLLoss()(x(3), [0]), ValueError, r"nll_loss: labels have shape \(1,\); expected \(\), one per row"),
        (lambda: nn.MultiMarginLoss()(x(3, 4), [0, -100, 1]), ValueError, "multi_margin_loss: label -100 of sample 1"),
        (lambda: nn.MulticlassSVMLoss()(x(3, 4), [0, 1]), ValueError, r"multiclass_svm_loss: labels have shape \(2,\); expected \(3,\)"),
        (lambda: nn.MulticlassSVMLoss()(x(3, 4), np.zeros(3)), TypeError, "multiclass_svm_loss: labels must be integers"),
        (lambda: nn.MultiMarginLoss(weight=[1, 2])(x(3, 4), [0, 1, 2]), ValueError, r"weight has shape \(2\)|weight has shape \(2,\)"),
        (lambda: nn.MultiMarginLoss(p=3), ValueError, "p must be 1 or 2, got 3"),
        (lambda: nn.MSELoss(reduction="all"), ValueError, "MSELoss: reduction must be none, mean or sum, got 'all'"),
        (lambda: nn.HuberLoss(delta=0), ValueError, "delta must be positive, got 0"),
        (lambda: nn.SmoothL1Loss(beta=-1), ValueError, "beta must not be negative, got -1"),
        (
            lambda: nn.BCEWithLogitsLoss(pos_weight=[1, 2])(x(3, 5), x(3, 5)),
            ValueError,
            r"pos_weight has shape \(2,\), which does not repeat",
        ),
        (
            lambda: ops.binary_cross_entropy_with_logits(x(2), fastnn.tensor(normal(0, 2), requires_grad=True)),
            ValueError,
            "target is a constant of the loss",
        ),
        (lambda: nn.CrossEntropyLoss(None, -100, "sum"), TypeError, "takes from 1 to 2 positional .*; give ignore_index=, .* by name"),
        (lambda: nn.Softmax(2)(x(3, 4)), ValueError, r"Softmax\(dim=2\): softmax: dim 2 does not exist in shape \(3, 4\)"),
        (lambda: nn.Penalty(net(), l2=-1), ValueError, "l2 must not be negative"),
        (lambda: nn.Penalty([], l2=1)(), ValueError, "there are no weights to penalise"),
        (lambda: ops.penalty(nn.ReLU().parameters(), l2=1), ValueError, "there are no weights to penalise"),
    ],
)
def test_refusals(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_empty_batches() -> None:
    """The sum over no sample is 0, their mean not a number, as in PyTorch."""
    none = fastnn.tensor(np.zeros((0, 4)), requires_grad=True)
    for loss in (nn.MultiMarginLoss, nn.MulticlassSVMLoss, nn.NLLLoss):
        assert loss(reduction="sum")(none, np.zeros(0, int)).item() == 0
        assert np.isnan(loss()(none, np.zeros(0, int)).item())
    assert nn.MSELoss(reduction="sum")(none, np.zeros((0, 4))).item() == 0 and np.isnan(nn.MSELoss()(none, np.zeros((0, 4))).item())
    assert nn.Softmax(1)(none).shape == (0, 4) and ops.logsumexp(none, 1).shape == (0,)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("shape", [(1,), (), (2, 1), (2, 3), (4,)])
def test_class_weights_beside_probabilities_never_broadcast(shape: tuple[int, ...], learned: bool) -> None:
    target = fastnn.tensor(normal(1, 2, 3), "float32", requires_grad=learned)
    with pytest.raises(ValueError, match="cross_entropy: weight has shape .*; expected " + re.escape("(3,)")):
        ops.cross_entropy(x(2, 3), target, fastnn.tensor(np.ones(shape, np.float32)))


@pytest.mark.parametrize("learned", [False, True])
def test_both_ways_of_probabilities_check_reduction_and_smoothing(learned: bool) -> None:
    target = fastnn.tensor(normal(1, 2, 3), "float32", requires_grad=learned)
    with pytest.raises(ValueError, match="reduction"):
        ops.cross_entropy(x(2, 3), target, reduction="avg")
    with pytest.raises(ValueError, match="label_smoothing"):
        ops.cross_entropy(x(2, 3), target, label_smoothing=3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beta", [0.0, 5e-324, 1e-320, 1e-300, 1e-45, 1e-39, 1.2e-38, 1e-30, 1e-10])
def test_smooth_l1_of_a_beta_that_is_next_to_nothing(beta: float, dtype: str) -> None:
    """1 / (2 beta) overflows there: it is l1, with the slope 0 at 0."""
    x = fastnn.tensor([0.0, 1.5, -2.0, 0.25], dtype, requires_grad=True)
    loss = ops.smooth_l1_loss(x, np.array([0.0, 1.0, 0.0, 0.25]), beta=beta, reduction="sum")
    loss.backward()
    assert loss.item() == pytest.approx(2.5, rel=1e-6) and x.grad.numpy().tolist() == [0, 1, -1, 0]
    assert nn.SmoothL1Loss(beta=beta)(x, np.zeros(4)).item() == pytest.approx(3.75 / 4, rel=1e-6)
