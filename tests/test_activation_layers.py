"""Activation layers against PyTorch: values, gradients, learned slopes; maxout; GELU inside batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch_twins import DTYPES, assert_close, compare, direction, load, normal, twins

import fastnn
from fastnn import nn, ops

TN, F = torch.nn, torch.nn.functional

LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], TN.Module]]] = {
    "sigmoid": (nn.Sigmoid, TN.Sigmoid),
    "tanh": (nn.Tanh, TN.Tanh),
    "leaky": (nn.LeakyReLU, TN.LeakyReLU),
    "leaky 0.2": (lambda: nn.LeakyReLU(0.2), lambda: TN.LeakyReLU(0.2)),
    "leaky rising": (lambda: nn.LeakyReLU(-0.5), lambda: TN.LeakyReLU(-0.5)),
    "prelu": (nn.PReLU, TN.PReLU),
    "prelu per channel": (lambda: nn.PReLU(3, 0.1), lambda: TN.PReLU(3, 0.1)),
    "elu": (nn.ELU, TN.ELU),
    "elu 0.3": (lambda: nn.ELU(0.3), lambda: TN.ELU(0.3)),
    "selu": (nn.SELU, TN.SELU),
    "gelu": (nn.GELU, TN.GELU),
    "gelu tanh": (lambda: nn.GELU(approximate="tanh"), lambda: TN.GELU(approximate="tanh")),
    "softplus": (nn.Softplus, TN.Softplus),
    "softplus 2, 3": (lambda: nn.Softplus(2, 3), lambda: TN.Softplus(2, 3)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_pytorchs(name: str, dtype: str) -> None:
    make, make_theirs = LAYERS[name]
    for shape in [(6, 3), (2, 3, 4, 5), (2, 3, 7), (0, 3), (2, 3, 2, 2, 3)]:
        ours, theirs = make(), make_theirs().double()
        ours = ours.double() if dtype == "float64" else ours
        assert {k: v.shape for k, v in ours.state_dict().items()} == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
        load(theirs, ours.state_dict())
        x, z = twins(normal(0, *shape) * 3, dtype)
        y, expected = ours(x), theirs(z)
        assert y.dtype == dtype
        assert_close(y, expected, 12, f"{shape}, value")
        y.backward(direction(y.shape))
        expected.backward(torch.tensor(direction(y.shape)))
        assert_close(x.grad, z.grad, 20, f"{shape}, gradient")
        for key, p in ours.named_parameters():
            assert_close(p.grad, dict(theirs.named_parameters())[key].grad, 100, f"{shape}, {key}")


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_by_finite_differences(name: str) -> None:
    layer = LAYERS[name][0]().double()
    assert fastnn.gradcheck(layer, [normal(1, 4, 3) * 2 + 0.1])


def test_slopes_of_prelu_by_finite_differences() -> None:
    x = normal(2, 2, 3, 4, 3)
    assert fastnn.gradcheck(ops.prelu, [x, np.array([0.25, -0.5, 1.5])])
    assert fastnn.gradcheck(ops.prelu, [x, np.array([0.25])])
    with pytest.raises(ValueError, match=r"prelu: weight has shape \(4,\); expected \(1,\) or \(3,\)"):
        ops.prelu(fastnn.tensor(x), fastnn.tensor(np.ones(4)))


def test_gradient_of_a_slope_is_the_same_bits_for_any_number_of_threads() -> None:
    before, gradients = fastnn.get_num_threads(), []
    for threads in (1, 2, 3, 7):
        fastnn.set_num_threads(threads)
        layer = nn.PReLU(16)
        layer(fastnn.tensor(normal(3, 8, 16, 40, 41))).backward(normal(4, 8, 16, 40, 41))
        gradients.append(layer.weight.grad.numpy().tobytes())
    fastnn.set_num_threads(before)
    assert len(set(gradients)) == 1


def test_constants_of_selu() -> None:
    """The fixed point of mean 0 and variance 1: the paper's two equations, in closed form, to double precision."""
    from math import erf, exp, pi, sqrt

    x = fastnn.tensor([-1e9, 1.0], dtype="float64")
    low, scale = ops.selu(x).numpy().tolist()
    alpha = -low / scale
    negative = exp(0.5) * (1 - erf(1 / sqrt(2))) / 2  # E[e^z; z < 0]
    twice = exp(2.0) * (1 - erf(sqrt(2))) / 2  # E[e^2z; z < 0]
    mean = scale * (1 / sqrt(2 * pi) + alpha * (negative - 0.5))
    square = scale**2 * (0.5 + alpha**2 * (twice - 2 * negative + 0.5))
    assert abs(mean) < 1e-15 and abs(square - 1) < 1e-14


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "pieces"), [((5, 6), 3), ((2, 6, 4, 5), 2), ((2, 6, 7), 3), ((3, 5, 2, 2), 1), ((2, 4, 3, 3), 4)], ids=str
)
def test_maxout(shape: tuple[int, ...], pieces: int, dtype: str) -> None:
    """The largest of neighbouring channels, and its gradient to the winner alone."""

    def theirs(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(shape[0], shape[1] // pieces, pieces, *shape[2:]).max(dim=2).values

    compare(lambda x: ops.maxout(x, pieces), theirs, [normal(0, *shape)], dtype)
    assert fastnn.gradcheck(lambda x: ops.maxout(x, pieces), [normal(0, *shape)])


def test_maxout_of_ties_and_nan() -> None:
    x = fastnn.tensor([[1.0, 1.0, 2.0], [np.nan, 3.0, np.nan]], requires_grad=True)
    y = ops.maxout(x, 3)
    assert y.numpy()[0] == 2 and np.isnan(y.numpy()[1])
    ops.maxout(x * fastnn.tensor([[1.0, 1.0, 0.5]]), 3).backward(np.array([[1.0], [0.0]]))
    assert x.grad.numpy()[0].tolist() == [1, 0, 0]
    for pieces in (2, 0):
        with pytest.raises(ValueError, match=r"shape \(2, 3\) has no channels that make groups"):
            ops.maxout(x, pieces)


def test_maxout_layer_is_the_largest_of_linear_ones() -> None:
    fastnn.seed(0)
    layer = nn.Maxout(5, 4, pieces=3)
    x = fastnn.tensor(normal(0, 2, 7, 5), requires_grad=True)
    parts = [ops.linear(x, fastnn.tensor(layer.weight.numpy()[i::3]), fastnn.tensor(layer.bias.numpy()[i::3])).numpy() for i in range(3)]
    y = layer(x)
    assert y.shape == (2, 7, 4)
    assert_close(y, np.maximum(np.maximum(parts[0], parts[1]), parts[2]), 5)
    y.sum().backward()
    assert layer.weight.grad.shape == (12, 5) and np.count_nonzero(np.abs(layer.weight.grad.numpy()).sum(1)) <= 12
    assert_close(layer.bias.grad.numpy().reshape(4, 3).sum(1), np.full(4, 14.0))  # each output has one winner a row
    with pytest.raises(ValueError, match="pieces must be at least 1"):
        nn.Maxout(3, 4, 0)


def test_sequential_folds_gelu_into_batch_normalisation() -> None:
    """One kernel, and the same result as two; the tanh form stays outside."""
    fastnn.seed(0)
    x = normal(0, 4, 5, 6, 7)
    for layer in (nn.GELU(), nn.GELU(approximate="tanh")):
        calls: list[str] = []
        bn = nn.BatchNorm2d(5)
        fused = nn.Sequential(bn, layer)
        a, b = fastnn.tensor(x, requires_grad=True), fastnn.tensor(x, requires_grad=True)
        with fastnn.profile() as profile:
            y = fused(a)
        calls = [row for row in ("batchnorm_forward", "pointwise_forward") if row in str(profile)]
        apart = layer(nn.BatchNorm2d(5)(b))
        assert_close(y, apart, 16)
        y.backward(direction(y.shape))
        apart.backward(direction(y.shape))
        assert_close(a.grad, b.grad, 100)
        assert calls == (["batchnorm_forward"] if layer.approximate == "none" else ["batchnorm_forward", "pointwise_forward"])


def test_the_form_of_gelu_may_change() -> None:
    """As alone, where it is folded into what stands in front of it, too."""
    fastnn.seed(0)
    x = fastnn.tensor(normal(0, 4, 5, 6, 7))
    for before, after in (("none", "tanh"), ("tanh", "none")):
        bn, gelu = nn.BatchNorm2d(5).eval(), nn.GELU(before)
        gelu.approximate = after
        assert_close(nn.Sequential(bn, gelu)(x), nn.GELU(after)(bn(x)), 16)
    gelu.approximate = "erf"
    with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', got 'erf'"):
        nn.Sequential(bn, gelu)(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.GELU("erf"), "approximate must be 'none' or 'tanh', got 'erf'"),
        (lambda: ops.gelu(fastnn.tensor([1.0]), "erf"), "approximate must be 'none' or 'tanh', got 'erf'"),
        (lambda: nn.Softplus(0), "beta must be positive, got 0"),
        (lambda: ops.softplus(fastnn.tensor([1.0]), -1.0), "beta must be positive, got -1"),
        (lambda: nn.PReLU(4)(fastnn.tensor(np.ones((2, 3)))), r"PReLU\(num_parameters=4\): prelu: weight has shape \(4,\)"),
    ],
)
def test_impossible_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", [nn.ReLU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.Dropout, nn.Dropout2d])
def test_inplace_is_taken_and_never_done(kind: Callable[..., nn.Module]) -> None:
    values = normal(0, 2, 3, 4, 5)
    x = fastnn.tensor(values)
    layer, before = kind(inplace=True), x.numpy().copy()
    fastnn.seed(0)
    y = layer(x)
    fastnn.seed(0)
    assert np.array_equal(x.numpy(), before) and np.array_equal(y.numpy(), kind()(x).numpy()) and repr(layer) == repr(kind())
