"""Average, adaptive and resampling layers: PyTorch's values and gradients, exact integers, and what must not matter."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from kernel_calls import Table, assert_within, call
from kernel_cases import Case, describe
from torch_twins import DTYPES, direction, normal, same_layer, twins

import fastnn
from fastnn import _C, nn, ops

TN = torch.nn
F = torch.nn.functional


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (3, 2), (1, 4), (8, 8)], ids=describe)
@pytest.mark.parametrize("shape", [(2, 3, 16, 17), (1, 17, 9, 8)], ids=describe)
def test_every_window(shape: tuple[int, ...], kernel: tuple[int, int], table: Table) -> None:
    for stride, pad, flags in itertools.product(
        [(1, 1), (2, 2), (3, 1)], [(0, 0), (1, 1), (0, 1), (4, 4)], itertools.product([False, True], repeat=2)
    ):
        if 2 * pad[0] <= kernel[0] and 2 * pad[1] <= kernel[1]:
            for row in ("avgpool2d_forward", "avgpool2d_backward"):
                Case(row, (shape, kernel, stride, pad, *flags, 0)).check(table)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], TN.Module], tuple[int, ...]]] = {
    "average": (lambda: nn.AvgPool2d(2), lambda: TN.AvgPool2d(2), (2, 3, 6, 7)),
    "average overlapping": (lambda: nn.AvgPool2d(3, 2, 1), lambda: TN.AvgPool2d(3, 2, 1), (2, 5, 7, 8)),
    "average ceil": (lambda: nn.AvgPool2d(3, 2, 1, True), lambda: TN.AvgPool2d(3, 2, 1, True), (2, 3, 8, 6)),
    "average without padding": (
        lambda: nn.AvgPool2d((3, 2), (2, 1), 1, True, False),
        lambda: TN.AvgPool2d((3, 2), (2, 1), 1, True, False),
        (2, 3, 8, 6),
    ),
    "average divisor": (
        lambda: nn.AvgPool2d(3, 2, 1, divisor_override=5),
        lambda: TN.AvgPool2d(3, 2, 1, divisor_override=5),
        (2, 3, 8, 6),
    ),
    "adaptive 1": (lambda: nn.AdaptiveAvgPool2d(1), lambda: TN.AdaptiveAvgPool2d(1), (2, 3, 8, 6)),
    "adaptive": (lambda: nn.AdaptiveAvgPool2d((3, 4)), lambda: TN.AdaptiveAvgPool2d((3, 4)), (2, 3, 7, 6)),
    "adaptive larger": (lambda: nn.AdaptiveAvgPool2d(7), lambda: TN.AdaptiveAvgPool2d(7), (2, 3, 4, 3)),
    "adaptive kept": (lambda: nn.AdaptiveAvgPool2d((None, 2)), lambda: TN.AdaptiveAvgPool2d((None, 2)), (2, 3, 7, 6)),
    "adaptive max": (lambda: nn.AdaptiveMaxPool2d((3, 4)), lambda: TN.AdaptiveMaxPool2d((3, 4)), (2, 3, 7, 6)),
    "adaptive max 1": (lambda: nn.AdaptiveMaxPool2d(1), lambda: TN.AdaptiveMaxPool2d(1), (2, 3, 20, 21)),
    "nearest": (lambda: nn.Upsample(scale_factor=2), lambda: TN.Upsample(scale_factor=2), (2, 3, 4, 5)),
    "nearest size": (lambda: nn.Upsample((7, 3)), lambda: TN.Upsample((7, 3)), (2, 3, 4, 5)),
    "nearest fraction": (lambda: nn.Upsample(scale_factor=(1.7, 0.6)), lambda: TN.Upsample(scale_factor=(1.7, 0.6)), (2, 3, 5, 7)),
    "bilinear": (
        lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
        lambda: TN.Upsample(scale_factor=2, mode="bilinear"),
        (2, 3, 4, 5),
    ),
    "bilinear size": (lambda: nn.Upsample((9, 2), mode="bilinear"), lambda: TN.Upsample((9, 2), mode="bilinear"), (2, 3, 4, 5)),
    "bilinear fraction": (
        lambda: nn.Upsample(scale_factor=1.7, mode="bilinear"),
        lambda: TN.Upsample(scale_factor=1.7, mode="bilinear"),
        (2, 3, 4, 5),
    ),
    "bilinear corners": (
        lambda: nn.Upsample((7, 9), mode="bilinear", align_corners=True),
        lambda: TN.Upsample((7, 9), mode="bilinear", align_corners=True),
        (2, 3, 4, 5),
    ),
    "bilinear corners of one": (
        lambda: nn.Upsample((1, 5), mode="bilinear", align_corners=True),
        lambda: TN.Upsample((1, 5), mode="bilinear", align_corners=True),
        (2, 3, 4, 1),
    ),
    "zero pad": (lambda: nn.ZeroPad2d((1, 2, 0, 3)), lambda: TN.ZeroPad2d((1, 2, 0, 3)), (2, 3, 4, 5)),
    "zero pad all": (lambda: nn.ZeroPad2d(2), lambda: TN.ZeroPad2d(2), (2, 1, 4, 5)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_pytorchs(name: str, dtype: str) -> None:
    make, make_theirs, shape = LAYERS[name]
    same_layer(make(), make_theirs(), shape, dtype)


def test_sizes_of_numpy_are_sizes() -> None:
    x = fastnn.tensor(np.ones((1, 1, 4, 6)))
    for pool in (ops.adaptive_avg_pool2d, ops.adaptive_max_pool2d):
        assert pool(x, np.int64(2)).shape == (1, 1, 2, 2) and pool(x, (np.int32(2), None)).shape == (1, 1, 2, 6)


def test_nearest_takes_pytorchs_pixel_of_every_size() -> None:
    """Each pixel its own number, so that a neighbour would show."""
    for size in range(1, 12):
        x, z = twins(np.arange(size, dtype=np.float32).reshape(1, 1, 1, size), "float32")
        for count in range(1, 40):
            assert ops.upsample(x, (1, count)).numpy().ravel().tolist() == F.interpolate(z, (1, count)).detach().ravel().tolist()


def test_scales_that_round_take_pytorchs_pixel() -> None:
    """Quotients that float32 rounds across a whole number, sizes that stay, and sizes that double beside another scale."""
    for size, scale in itertools.product(range(1, 45), (0.3, 0.55, 0.7, 0.9, 1.01, 1.1, 1.2, 1.35, 1.7, 2.02, 2.3, 2.9)):
        if int(size * scale):
            x, z = twins(np.arange(size, dtype=np.float32).reshape(1, 1, 1, size) ** 2, "float32")
            for mode in ("nearest", "bilinear"):
                got, expected = ops.upsample(x, None, (1, scale), mode), F.interpolate(z, None, (1, scale), mode)
                assert np.abs(got.numpy() - expected.detach().numpy()).max() < 1e-3, (size, scale, mode)
    for size, count in ((41, 33), (40, 49), (23, 46), (35, 27), (7, 33), (29, 23)):
        x, z = twins(np.arange(size, dtype=np.float32).reshape(1, 1, 1, size), "float32")
        assert ops.upsample(x, (1, count)).numpy().ravel().tolist() == F.interpolate(z, (1, count)).detach().ravel().tolist()


def test_ceil_mode_and_padding_count_as_pytorchs() -> None:
    """Every window, stride and padding on a map of integers: the same numbers."""
    x, z = twins(np.arange(2 * 6 * 7, dtype=np.float32).reshape(1, 2, 6, 7), "float32")
    for kernel, stride, padding, ceil, include in itertools.product((2, 3, 5, 8), (1, 2, 3), (0, 1, 2), (False, True), (False, True)):
        if 2 * padding <= kernel <= 6 + 2 * padding + (stride - 1) * ceil:
            got = ops.avg_pool2d(x, kernel, stride, padding, ceil_mode=ceil, count_include_pad=include)
            wanted = F.avg_pool2d(z, kernel, stride, padding, ceil, include)
            assert got.shape == tuple(wanted.shape)
            assert np.abs(got.numpy() - wanted.detach().numpy()).max() < 1e-5, (kernel, stride, padding, ceil, include)


TURNED = [
    lambda x: ops.avg_pool2d(x, 3, 2, 1),
    lambda x: ops.adaptive_avg_pool2d(x, (3, 5)),
    lambda x: ops.adaptive_max_pool2d(x, (3, 5)),
    lambda x: ops.upsample(x, (11, 5), mode="bilinear"),
    lambda x: ops.upsample(x, (14, 5), mode="bilinear", align_corners=True),
]


@pytest.mark.parametrize("pool", TURNED)
def test_a_mirrored_map_gives_the_mirrored_result(pool: Callable[[fastnn.Tensor], fastnn.Tensor]) -> None:
    x = np.round(normal(0, 2, 3, 7, 9) * 8)
    straight, mirrored = pool(fastnn.tensor(x)).numpy(), pool(fastnn.tensor(x[:, :, ::-1, ::-1])).numpy()
    assert_within(straight, mirrored[:, :, ::-1, ::-1], 4 * np.abs(x).max(), "the mirrored map")


@pytest.mark.parametrize("pool", TURNED)
def test_samples_and_channels_do_not_meet(pool: Callable[[fastnn.Tensor], fastnn.Tensor]) -> None:
    """To the bit: one by one as in a batch, forward and backward."""
    x = normal(0, 3, 20, 7, 9)
    whole = fastnn.tensor(x, requires_grad=True)
    y = pool(whole)
    y.backward(direction(y.shape))
    for n in range(3):
        one = fastnn.tensor(x[n : n + 1, 4:9], requires_grad=True)
        z = pool(one)
        z.backward(direction(y.shape)[n : n + 1, 4:9])
        assert np.array_equal(z.numpy()[0], y.numpy()[n, 4:9])
        assert np.array_equal(one.grad.numpy()[0], whole.grad.numpy()[n, 4:9])


def test_gradients_by_central_differences() -> None:
    for pool in TURNED:
        assert fastnn.gradcheck(pool, [normal(0, 1, 2, 5, 6)])


def test_a_constant_map_stays_constant(table: Table) -> None:
    """Averages and mixtures of equal numbers are that number."""
    x = np.full((2, 17, 6, 7), 3.0)
    for parameters in (((3, 3), (2, 2), (1, 1), True, False, 0), ((4, 5),)):
        assert (call("avgpool2d_forward", (x.shape, *parameters), [x], table.dtype)["y"] == 3).all()
    for bilinear, align in ((False, False), (True, False), (True, True)):
        written = call("upsample2d_forward", (x.shape, (9, 13), bilinear, align), [x], table.dtype)["y"]
        assert np.abs(written - 3).max() <= 2e-6


def test_gradients_add_up_to_what_came(table: Table) -> None:
    """Each dy is handed out whole where weights sum to 1: exact for powers of two."""
    dy = np.ones((2, 17, 4, 4))
    dx = call("avgpool2d_backward", ((2, 17, 8, 8), (2, 2), (2, 2), (0, 0), False, True, 0), [dy], table.dtype)["dx"]
    assert (dx == 0.25).all()
    dx = call("upsample2d_backward", ((2, 17, 2, 2), (4, 4), True), [dy], table.dtype)["dx"]
    assert (dx.sum((2, 3)) == 16).all()


def test_what_is_not_finite_stays_where_it_is(table: Table) -> None:
    x = np.ones((1, 17, 6, 6))
    x[0, 3, 0, 0], x[0, 5, 5, 5] = np.nan, np.inf
    y = call("avgpool2d_forward", (x.shape, (2, 2), (2, 2)), [x], table.dtype)["y"]
    assert np.isnan(y[0, 3, 0, 0]) and y[0, 5, 2, 2] == np.inf and np.isfinite(y).sum() == y.size - 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _C.AvgPool2d((1, 3, 4, 4), (5, 5), (1, 1)), "avg_pool2d: a window of height 5 does not fit into 4"),
        (lambda: _C.AvgPool2d((1, 3, 8, 8), (2, 2), (2, 2), (2, 2)), "avg_pool2d: padding .* at most half"),
        (lambda: _C.AvgPool2d((1, 3, 8, 8), (0, 2)), "output_size must be at least 1"),
        (lambda: _C.AvgPool2d((3, 8, 8), (2, 2), (2, 2)), r"avg_pool2d expects .*\(N, C, H, W\)"),
        (lambda: _C.Upsample2d((1, 3, 8, 8), (0, 2)), "upsample2d: size must be at least 1"),
        (lambda: _C.Upsample2d((1, 3, 0, 8), (2, 2)), "has no pixels"),
        (lambda: nn.AvgPool2d(2, divisor_override=0)(fastnn.tensor(np.zeros((1, 1, 2, 2)))), "divisor_override must not be 0"),
        (lambda: nn.AdaptiveMaxPool2d(2, True)(fastnn.tensor(np.zeros((1, 1, 64, 64)))), "32 x 32 = 1024 exceeds 256"),
        (lambda: nn.AdaptiveMaxPool2d(1)(fastnn.tensor(np.zeros((1, 1, 0, 4)))), r"input \(1, 1, 0, 4\) has no pixels"),
        (lambda: nn.AdaptiveAvgPool2d(2)(fastnn.tensor(np.zeros((3, 4)))), r"\(N, C, H, W\), got \(3, 4\)"),
        (lambda: nn.Upsample(), "either size or scale_factor"),
        (lambda: nn.Upsample(2, 2.0), "either size or scale_factor"),
        (lambda: ops.upsample(fastnn.tensor(np.zeros((1, 1, 2, 2))), 4, mode="cubic"), "nearest.*bilinear.*bicubic.*got 'cubic'"),
        (lambda: ops.upsample(fastnn.tensor(np.zeros((1, 1, 2, 2))), 4, align_corners=True), "align_corners is an option of bilinear"),
        (lambda: ops.upsample(fastnn.tensor(np.zeros((1, 1, 2, 2))), scale_factor=-1), "must be positive and finite, got -1"),
        (lambda: nn.ZeroPad2d(-1)(fastnn.tensor(np.zeros((1, 1, 2, 2)))), "must not be negative"),
    ],
)
def test_impossible_geometry_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
