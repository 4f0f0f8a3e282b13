"""Batch normalisation: every combination against the reference, variances far from the origin, statistics and what is absent."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
from kernel_calls import Table, assert_within, call
from kernel_cases import Case
from kernel_problems.problem import normal

from fastnn import _C

ACTIVATIONS = ["none", "relu", "silu", "gelu"]
SHAPES = [(2, 3), (64, 10), (300, 129), (3, 7, 5, 4), (2, 16, 1, 1), (4, 33, 9, 8), (2, 100, 16, 16), (5, 1, 30, 31)]


@pytest.mark.parametrize(("activation", "residual", "affine"), [*itertools.product(ACTIVATIONS, [False, True], [False, True])])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_every_combination(shape: tuple[int, ...], activation: str, residual: bool, affine: bool, table: Table) -> None:
    for training in (True, False):
        parameters = (shape, 1e-3, 0.2, activation, training, residual)
        Case("batchnorm_backward", parameters, {"affine": affine}).check(table)
        if not training:
            Case("batchnorm_inference", parameters, {"affine": affine}).check(table)
        else:
            Case("batchnorm_forward", parameters, {"affine": affine, "running": affine}).check(table)


@pytest.mark.parametrize("shape", [(1000, 5), (65_000, 3), (4, 20, 33, 32), (64, 16, 32, 32), (512, 17, 1, 1)], ids=str)
@pytest.mark.parametrize("mean", [0, 1, -100, 1000])
def test_variance_far_from_the_origin(mean: float, shape: tuple[int, ...], table: Table) -> None:
    """To 1e-5, relative, with the mean up to 1000 standard deviations away."""
    random = np.random.default_rng(0)
    x = (random.standard_normal(shape) + mean).astype(np.float32)
    c = shape[1]
    written = call(
        "batchnorm_forward",
        (shape, 0.0, 1.0, "none", True, False),
        [x, None, None, None, np.zeros(c), np.zeros(c)],
        table.dtype,
    )
    axes, rows = (0, *range(2, x.ndim)), x.size // c
    var = x.astype(np.float64).var(axes)
    assert np.abs(written["rstd"] ** -2.0 / var - 1).max() < 1e-5
    assert np.abs(written["running_var"] * (rows - 1) / rows / var - 1).max() < 1e-5
    assert np.abs(written["mean"] - x.astype(np.float64).mean(axes)).max() <= max(abs(mean), 1) * 2e-7


@pytest.mark.parametrize("shape", [(65_000, 3), (40_000, 17), (64, 16, 32, 32), (64, 64, 16, 16), (2000, 512)], ids=str)
@pytest.mark.parametrize("pattern", ["first eighths apart", "sorted", "a first value"])
def test_variance_around_what_comes_first(pattern: str, shape: tuple[int, ...], table: Table) -> None:
    """Blocks of rows are summed around the mean of their first eighth: to 1e-5, relative, where that is as far from the block's as it can be."""
    random, c = np.random.default_rng(0), shape[1]
    block = max(64, 32768 // c // 64 * 64)
    rows = np.prod(shape) // c
    x = 1e-3 * random.standard_normal((rows, c)) + 30
    if pattern == "first eighths apart":
        x += np.where(np.arange(rows) % block < block // 8, 5.0, 0.0)[:, None]
    elif pattern == "sorted":
        x = np.sort(random.standard_normal((rows, c)), 0)
    else:
        x[::block] += 1e4
    x = x.astype(np.float32)
    maps = x if len(shape) == 2 else np.ascontiguousarray(x.reshape(shape[0], *shape[2:], c).transpose(0, 3, 1, 2))
    written = call("batchnorm_forward", (shape, 0.0, 1.0, "none", True, False), [maps, None, None, None, None, None], table.dtype)
    mean, var = x.astype(np.float64).mean(0), x.astype(np.float64).var(0)
    assert np.abs(written["rstd"] ** -2.0 / var - 1).max() < 1e-5
    assert np.abs(written["mean"] - mean).max() <= 1e-6 * max(np.abs(mean).max(), var.max() ** 0.5)


def test_constant_channels_have_no_variance(table: Table) -> None:
    x = np.full((4, 17, 6, 6), 3.7, np.float32)
    beta = np.arange(17.0)
    written = call("batchnorm_forward", (x.shape, 1e-5, 0.1, "none", True, False), [x, None, beta, None, None, None], table.dtype)
    assert np.abs(written["y"] - beta[:, None, None]).max() < 1e-2
    assert np.abs(written["rstd"] * 1e-5**0.5 - 1).max() < 1e-4


def test_gamma_of_one_and_beta_of_zero_are_the_absent_ones(table: Table) -> None:
    """To the bit."""
    random = np.random.default_rng(0)
    x, dy = random.standard_normal((3, 20, 5, 6)), random.standard_normal((3, 20, 5, 6))
    parameters = (x.shape, 1e-5, 0.1, "silu", True, False)
    one, zero = np.ones(20), np.zeros(20)
    given = call("batchnorm_forward", parameters, [x, one, zero, None, None, None], table.dtype)
    absent = call("batchnorm_forward", parameters, [x, None, None, None, None, None], table.dtype)
    assert all(np.array_equal(given[name], absent[name]) for name in given)
    statistics = [given["mean"], given["rstd"]]
    given = call("batchnorm_backward", parameters, [x, dy, one, zero, None, *statistics], table.dtype)
    absent = call("batchnorm_backward", parameters, [x, dy, None, None, None, *statistics], table.dtype)
    assert all(np.array_equal(given[name], absent[name]) for name in given)


def test_running_statistics_alone_or_not_at_all(table: Table) -> None:
    """Each may be absent; what is there moves by `momentum` towards the batch, the variance unbiased."""
    x = normal(np.random.default_rng(0), (6, 5, 4, 4))
    mean, var, n = x.mean((0, 2, 3)), x.var((0, 2, 3)), 6 * 16
    parameters = (x.shape, 1e-5, 0.25, "none", True, False)
    both = call("batchnorm_forward", parameters, [x, None, None, None, np.full(5, 2.0), np.full(5, 3.0)], table.dtype)
    moved = 0.75 * 2 + 0.25 * mean, 0.75 * 3 + 0.25 * var * n / (n - 1)
    assert_within(
        both["running_mean"], moved[0], 2 * moved[0] + 0.25 * 16 * np.abs(x).mean((0, 2, 3)), "mean: its roundings, and its sum's"
    )
    assert_within(both["running_var"], moved[1], 2 * moved[1] + 0.25 * 16 * var, "variance: its roundings, and its sum's")
    one = call("batchnorm_forward", parameters, [x, None, None, None, np.full(5, 2.0), None], table.dtype)
    assert np.array_equal(one["running_mean"], both["running_mean"])
    assert "running_var" not in one


def test_inference_equals_training_with_the_same_statistics(table: Table) -> None:
    x = np.random.default_rng(0).standard_normal((6, 33, 4, 4)).astype(np.float32)
    gamma, beta = np.linspace(0.5, 2, 33), np.linspace(-1, 1, 33)
    trained = call("batchnorm_forward", (x.shape, 0.0, 0.1, "relu", True, False), [x, gamma, beta, None, None, None], table.dtype)
    var = trained["rstd"].astype(np.float64) ** -2
    infer = call(
        "batchnorm_inference",
        (x.shape, 0.0, 0.1, "relu", False, False),
        [x, gamma, beta, None, trained["mean"], var],
        table.dtype,
    )
    assert np.abs(infer["y"] - trained["y"]).max() < 1e-5


def test_gradients_of_forward_by_central_differences(table: Table) -> None:
    """backward is the gradient of forward, through mean and variance too: the reference's forward, differentiated."""
    random = np.random.default_rng(3)
    x, dy, gamma, beta = (
        random.standard_normal((3, 2, 2, 2)),
        random.standard_normal((3, 2, 2, 2)),
        np.array([1.5, 0.7]),
        np.zeros(2),
    )

    def loss(x: reference.Array) -> float:
        y = reference.batchnorm_forward(x, gamma, beta, None, None, None, 1e-5, 0.1, "silu")[2]
        return float((y * dy).sum())

    step = 1e-6
    expected = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        expected[i] = (loss(up) - loss(down)) / (2 * step)
    parameters = (x.shape, 1e-5, 0.1, "silu", True, False)
    forward = call("batchnorm_forward", parameters, [x, gamma, beta, None, None, None], table.dtype)
    got = call("batchnorm_backward", parameters, [x, dy, gamma, beta, None, forward["mean"], forward["rstd"]], table.dtype)["dx"]
    assert np.abs(got - expected).max() / np.abs(expected).max() < (1e-6 if table.dtype == "float64" else 1e-5)


def test_what_is_not_finite_stays_in_its_channel(table: Table) -> None:
    x = np.random.default_rng(0).standard_normal((4, 20, 5, 5))
    clean = call("batchnorm_forward", (x.shape, 1e-5, 0.1, "relu", True, False), [x, None, None, None, None, None], table.dtype)
    x[2, 7, 1, 1] = np.nan
    dirty = call("batchnorm_forward", (x.shape, 1e-5, 0.1, "relu", True, False), [x, None, None, None, None, None], table.dtype)
    others = np.arange(20) != 7
    assert np.isnan(dirty["y"][:, 7]).all() and np.isnan(dirty["mean"][7]) and np.isnan(dirty["rstd"][7])
    assert np.array_equal(dirty["y"][:, others], clean["y"][:, others])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (((1, 8), 1e-5, 0.1, "none", True), "more than 1 value per channel"),
        (((1, 8, 1, 1), 1e-5, 0.1, "none", True), "more than 1 value per channel"),
        (((4, 8, 2), 1e-5), r"\(N, C\) or \(N, C, H, W\)"),
        (((4, 8), -1.0), "eps must not be negative"),
        (((4, 8), 1e-5, 0.1, "tanh"), "not one of none, relu, silu"),
    ],
)
def test_impossible_parameters_are_refused(parameters: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _C.BatchNorm(*parameters)
