"""Layer, group and instance normalisation against the reference and PyTorch; statistics far from the origin; frozen parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from kernel_calls import Table, call, plan
from kernel_cases import Case
from torch_twins import DTYPES, assert_close, direction, load, normal, same_layer, twins

import fastnn
from fastnn import _C, nn, ops

TN = torch.nn

LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], TN.Module], tuple[int, ...]]] = {
    "layer": (lambda: nn.LayerNorm(7), lambda: TN.LayerNorm(7), (5, 7)),
    "layer of three": (lambda: nn.LayerNorm((5, 7)), lambda: TN.LayerNorm((5, 7)), (4, 5, 7)),
    "layer of a map": (lambda: nn.LayerNorm((3, 5, 4)), lambda: TN.LayerNorm((3, 5, 4)), (2, 3, 5, 4)),
    "layer of a channel": (lambda: nn.LayerNorm((5, 4)), lambda: TN.LayerNorm((5, 4)), (2, 3, 5, 4)),
    "layer of a row": (lambda: nn.LayerNorm(4), lambda: TN.LayerNorm(4), (2, 3, 5, 4)),
    "layer of all": (lambda: nn.LayerNorm((2, 3, 5, 4)), lambda: TN.LayerNorm((2, 3, 5, 4)), (2, 3, 5, 4)),
    "layer eps": (lambda: nn.LayerNorm(7, eps=0.5), lambda: TN.LayerNorm(7, eps=0.5), (5, 7)),
    "layer not affine": (
        lambda: nn.LayerNorm(7, elementwise_affine=False),
        lambda: TN.LayerNorm(7, elementwise_affine=False),
        (5, 7),
    ),
    "layer no bias": (lambda: nn.LayerNorm((3, 5, 4), bias=False), lambda: TN.LayerNorm((3, 5, 4), bias=False), (2, 3, 5, 4)),
    "group": (lambda: nn.GroupNorm(2, 6), lambda: TN.GroupNorm(2, 6), (3, 6, 4, 5)),
    "group of one": (lambda: nn.GroupNorm(6, 6), lambda: TN.GroupNorm(6, 6), (3, 6, 4, 5)),
    "group of all": (lambda: nn.GroupNorm(1, 6), lambda: TN.GroupNorm(1, 6), (3, 6, 4, 5)),
    "group of features": (lambda: nn.GroupNorm(2, 14), lambda: TN.GroupNorm(2, 14), (5, 14)),
    "group of a sequence": (lambda: nn.GroupNorm(3, 6), lambda: TN.GroupNorm(3, 6), (5, 6, 7)),
    "group not affine": (lambda: nn.GroupNorm(2, 6, 0.1, False), lambda: TN.GroupNorm(2, 6, 0.1, False), (3, 6, 4, 5)),
    "instance": (lambda: nn.InstanceNorm2d(5), lambda: TN.InstanceNorm2d(5), (3, 5, 4, 5)),
    "instance affine": (lambda: nn.InstanceNorm2d(5, affine=True), lambda: TN.InstanceNorm2d(5, affine=True), (3, 5, 4, 5)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_pytorchs(name: str, dtype: str) -> None:
    make, make_theirs, shape = LAYERS[name]
    same_layer(make(), make_theirs(), shape, dtype)


@pytest.mark.parametrize("size", [1, 2, 5, 16, 63, 64, 65, 257, 1000, 5000])
def test_rows_of_every_length(size: int, table: Table) -> None:
    for row in ("layernorm_forward", "layernorm_backward"):
        Case(row, ((7, size), 1, 1e-3, True)).check(table)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (3, 1), (8, 2), (15, 3), (16, 16), (48, 4), (130, 13)])
def test_groups_of_every_size(channels: int, groups: int, table: Table) -> None:
    for shape in ((3, channels, 1, 2), (2, channels, 13, 11), (5, channels)):
        for row in ("groupnorm_forward", "groupnorm_backward"):
            Case(row, (shape, groups, 1e-3, True)).check(table)


@pytest.mark.parametrize("mean", [1, -100, 1000])
@pytest.mark.parametrize(
    ("row", "shape", "n"), [("layernorm", (40, 3000), 1), ("layernorm", (3, 7, 33, 32), 3), ("groupnorm", (3, 8, 90, 80), 2)]
)
def test_variance_far_from_the_origin(row: str, shape: tuple[int, ...], n: int, mean: float, table: Table) -> None:
    """To 1e-5, relative, with the mean up to 1000 standard deviations away."""
    x = (np.random.default_rng(0).standard_normal(shape) + mean).astype(np.float32)
    written = call(f"{row}_forward", (shape, n, 0.0), [x, None, None], table.dtype)
    groups = x.astype(np.float64).reshape(*written["rstd"].shape, -1)
    assert np.abs(written["rstd"] ** -2.0 / groups.var(-1) - 1).max() < 1e-5
    assert np.abs(written["mean"] - groups.mean(-1)).max() <= max(abs(mean), 1) * 2e-7


def test_sample_by_sample_has_the_bits_of_piece_by_piece(cpu_table: Table) -> None:
    """The way is taken by the shape: enough samples that fit the caches, or so few numbers that one thread has them all."""
    rows = "groupnorm_forward", "groupnorm_backward"
    x, dy, gamma = (normal(i, *shape).astype(np.float64) for i, shape in enumerate([(8, 24, 40, 40)] * 2 + [(24,)]))
    results = []
    for n, way in ((8, "sample_by_sample"), (2, "piece_by_piece")):
        parameters = ((n, 24, 40, 40), 4, 1e-5, True)
        assert {plan(row, parameters, cpu_table.dtype)[0] for row in rows} == {way}
        written = call(rows[0], parameters, [x[:n], gamma, gamma], cpu_table.dtype)
        written |= call(rows[1], parameters, [x[:n], dy[:n], gamma, written["mean"], written["rstd"]], cpu_table.dtype)
        results.append([written[name][:2].tobytes() for name in ("y", "mean", "rstd", "dx")])
    assert results[0] == results[1]
    for shape, way in (((2, 6, 5, 7), "sample_by_sample"), ((64, 64, 64, 80), "piece_by_piece")):
        assert plan(rows[0], (shape, 4 if shape[1] > 6 else 3, 1e-5, True), cpu_table.dtype)[0] == way


def test_a_sample_is_normalised_by_itself() -> None:
    """To the bit: alone as in a batch, forward and backward."""
    for layer in (nn.LayerNorm((20, 7, 9)), nn.GroupNorm(4, 20), nn.InstanceNorm2d(20)):
        x = normal(0, 3, 20, 7, 9)
        whole = fastnn.tensor(x, requires_grad=True)
        y = layer(whole)
        y.backward(direction(y.shape))
        for n in range(3):
            one = fastnn.tensor(x[n : n + 1], requires_grad=True)
            z = layer(one)
            z.backward(direction(y.shape)[n : n + 1])
            assert np.array_equal(z.numpy()[0], y.numpy()[n]) and np.array_equal(one.grad.numpy()[0], whole.grad.numpy()[n])


def test_scale_and_shift_of_the_input_do_not_matter() -> None:
    x = normal(0, 4, 6, 5, 5).astype(np.float64)
    for layer in (nn.LayerNorm((6, 5, 5), eps=0), nn.GroupNorm(3, 6, eps=0)):
        a, b = (layer.double()(fastnn.tensor(v, "float64")).numpy() for v in (x, 3 * x + 7))
        assert np.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("row", ["layernorm", "groupnorm"])
def test_gamma_of_one_and_beta_of_zero_are_the_absent_ones(row: str, table: Table) -> None:
    """To the bit; and without `affine` dx is the same and nothing is written for gamma and beta."""
    x, dy = normal(0, 3, 20, 5, 6).astype(np.float64), normal(1, 3, 20, 5, 6).astype(np.float64)
    n, shape = (3, (1, 20, 5, 6)) if row == "layernorm" else (4, (20,))
    one, zero = np.ones(shape), np.zeros(shape)
    given, absent = (call(f"{row}_forward", (x.shape, n), [x, *p], table.dtype) for p in ((one, zero), (None, None)))
    assert all(np.array_equal(given[name], absent[name]) for name in given)
    statistics = [given["mean"], given["rstd"]]
    given, absent = (call(f"{row}_backward", (x.shape, n), [x, dy, p, *statistics], table.dtype) for p in (one, None))
    assert all(np.array_equal(given[name], absent[name]) for name in given)
    frozen = call(f"{row}_backward", (x.shape, n, 1e-5, False), [x, dy, one, *statistics], table.dtype)
    assert np.array_equal(frozen["dx"], given["dx"]) and frozen["dgamma"].shape == frozen["dbeta"].shape == (0,)


def test_gradients_by_central_differences() -> None:
    assert fastnn.gradcheck(
        lambda x, w, b: ops.layer_norm(x, (2, 3, 4), w, b), [normal(i, *s) for i, s in enumerate([(2, 2, 3, 4), (2, 3, 4), (2, 3, 4)])]
    )
    assert fastnn.gradcheck(lambda x, w, b: ops.group_norm(x, 2, w, b), [normal(i, *s) for i, s in enumerate([(2, 4, 2, 3), (4,), (4,)])])


def test_frozen_parameters_cost_nothing() -> None:
    layer = nn.LayerNorm((3, 5, 4))
    theirs = load(TN.LayerNorm((3, 5, 4)).double(), layer.state_dict())
    for p in layer.parameters():
        p.requires_grad = False
    x, z = twins(normal(0, 2, 3, 5, 4), "float32")
    with fastnn.profile() as kernels:
        y = layer(x)
        y.backward(direction(y.shape))
    theirs(z).backward(torch.tensor(direction(y.shape)))
    assert layer.weight.grad is None and layer.bias.grad is None
    assert_close(x.grad, z.grad, 100)
    assert kernels["layernorm_backward"]["bytes"] < 4 * (3 * x.size + layer.weight.size + 8), "gradients of frozen parameters were written"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _C.LayerNorm((2, 3, 4, 5), 2), "do not lie side by side"),
        (lambda: _C.LayerNorm((2, 3), 3), "cannot normalise over 3 dimensions"),
        (lambda: _C.LayerNorm((2, 3), 1, -1.0), "eps must not be negative"),
        (lambda: _C.GroupNorm((2, 6, 3), 2), r"\(N, C\) or \(N, C, H, W\)"),
        (lambda: _C.GroupNorm((2, 6), 4), "4 groups do not divide the 6 channels"),
        (lambda: nn.GroupNorm(4, 6), "num_groups = 4 must divide num_channels = 6"),
        (lambda: nn.GroupNorm(2, 6)(fastnn.tensor(np.zeros((2, 5, 2, 2)))), r"expected \(N, C, ...\) with C = 6"),
        (
            lambda: nn.LayerNorm((3, 4))(fastnn.tensor(np.zeros((2, 4, 3)))),
            r"LayerNorm.*got shape \(2, 4, 3\); expected one that ends in \(3, 4\)",
        ),
        (
            lambda: ops.layer_norm(fastnn.tensor(np.zeros((2, 4))), 4, fastnn.tensor(np.zeros(3))),
            r"weight has shape \(3,\); expected \(4,\)",
        ),
        (lambda: nn.InstanceNorm2d(3)(fastnn.tensor(np.zeros((2, 3, 1, 1)))), "one pixel has no variance"),
    ],
)
def test_impossible_shapes_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("momentum", [None, 0.0])
def test_statistics_that_are_told_of_no_momentum_stay(momentum: float | None) -> None:
    ours = nn.InstanceNorm2d(3, momentum=momentum, track_running_stats=True)
    theirs = TN.InstanceNorm2d(3, momentum=momentum, track_running_stats=True)
    for i in range(2):
        x = normal(i, 4, 3, 5, 5) + 2
        assert_close(ours(fastnn.tensor(x)), theirs(torch.tensor(x)), 16)
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name], value.numpy(), name)
    assert_close(ours.eval()(fastnn.tensor(x)), theirs.eval()(torch.tensor(x)), 16)


def test_sums_over_very_many_rows_lose_few_digits() -> None:
    """4,000 rows of a block in one float32 lost four times as many (drawn at random: dbeta of 2,310 rows of 5)."""
    rows = normal(0, 200_000, 5)
    layer = nn.LayerNorm(5)
    (layer(fastnn.tensor(rows)) * fastnn.tensor(rows)).sum().backward()
    expected = rows.astype(np.float64).sum(0)
    assert layer.bias.grad is not None
    assert np.abs(layer.bias.grad.numpy() - expected).max() < 8e-7 * np.abs(expected).max()
