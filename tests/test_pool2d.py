"""Pooling: ties, NaN, padding, ceil_mode over many windows; the average is bounded, the maximum exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
from kernel_calls import Table, call
from kernel_cases import Case, describe
from kernel_problems import Shape

from fastnn import _C

KERNELS = [(1, 1), (2, 2), (3, 3), (3, 2), (5, 5), (1, 4), (16, 16)]
STRIDES = [(1, 1), (2, 2), (3, 3), (2, 1)]
PADDINGS = [(0, 0), (1, 1), (0, 1), (2, 2), (8, 8)]


@pytest.mark.parametrize("stride", STRIDES, ids=describe)
@pytest.mark.parametrize("kernel", KERNELS, ids=describe)
@pytest.mark.parametrize("shape", [(2, 3, 16, 17), (1, 17, 19, 16), (3, 64, 16, 16)], ids=describe)
def test_maximum_of_every_window(shape: Shape, kernel: Shape, stride: Shape, table: Table) -> None:
    for pad, ceil_mode in itertools.product(PADDINGS, (False, True)):
        if 2 * pad[0] <= kernel[0] and 2 * pad[1] <= kernel[1]:
            for row in ("maxpool2d_forward", "maxpool2d_backward"):
                Case(row, (shape, kernel, stride, pad, ceil_mode)).check(table)


@pytest.mark.parametrize("dilation", [(1, 2), (2, 1), (3, 3), (2, 5)], ids=describe)
@pytest.mark.parametrize("kernel", [(2, 2), (3, 2), (1, 4), (3, 3)], ids=describe)
def test_elements_that_lie_apart(kernel: Shape, dilation: Shape, table: Table) -> None:
    for stride, pad, ceil_mode in itertools.product(STRIDES, [(0, 0), (1, 0), (0, 1), (1, 2)], (False, True)):
        if 2 * pad[0] <= kernel[0] and 2 * pad[1] <= kernel[1]:
            for row in ("maxpool2d_forward", "maxpool2d_backward"):
                Case(row, ((2, 17, 16, 19), kernel, stride, pad, ceil_mode, dilation)).check(table)


def test_ties_go_to_the_first(table: Table) -> None:
    x = np.full((1, 20, 4, 4), 7.0)
    written = call("maxpool2d_forward", (x.shape, (2, 2), (2, 2), (0, 0), False), [x], table.dtype)
    assert (written["index"] == 0).all()
    written = call("maxpool2d_forward", (x.shape, (3, 3), (2, 2), (1, 1), False), [x], table.dtype)
    assert written["index"][0, 0].tolist() == [[4, 3], [1, 0]]  # the first inside the map


def test_nan_wins_the_first_of_them(table: Table) -> None:
    x = np.arange(2 * 20 * 6 * 6, dtype=float).reshape(2, 20, 6, 6)
    x[0, :, 1, 1] = x[0, :, 2, 2] = x[1, 3, 5, 5] = np.nan
    geometry = ((3, 3), (1, 1), (1, 1), False)
    written = call("maxpool2d_forward", (x.shape, *geometry), [x], table.dtype)
    y, index = reference.maxpool2d_forward(x, *geometry)
    assert np.isnan(y).sum() == 20 * 14 + 4
    assert np.array_equal(written["y"], y, equal_nan=True)
    assert np.array_equal(written["index"], index)


def test_padding_never_wins(table: Table) -> None:
    for lowest in (-1e30, -np.inf):
        x = np.full((1, 17, 3, 3), lowest)
        written = call("maxpool2d_forward", (x.shape, (3, 3), (2, 2), (1, 1), False), [x], table.dtype)
        assert (written["y"] == np.asarray(lowest, table.dtype)).all()
        assert written["index"][0, 5].tolist() == [[4, 3], [1, 0]]


def test_plus_and_minus_zero_tie(table: Table) -> None:
    x = np.zeros((1, 16, 2, 2))
    x[:, :, 0, 0] = -0.0
    assert (call("maxpool2d_forward", (x.shape, (2, 2), (2, 2), (0, 0), False), [x], table.dtype)["index"] == 0).all()


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (3, 2), (15, 17)], ids=describe)
@pytest.mark.parametrize("shape", [(2, 3, 16, 17), (1, 17, 19, 18), (3, 64, 16, 17)], ids=describe)
def test_winners_above_zero(shape: Shape, kernel: Shape, table: Table) -> None:
    for stride, pad, ceil_mode in itertools.product(STRIDES, [(0, 0), (1, 0), (1, 1)], (False, True)):
        if 2 * pad[0] <= kernel[0] and 2 * pad[1] <= kernel[1]:
            for row in ("maxpool2d_forward", "maxpool2d_inference", "maxpool2d_backward"):
                Case(row, (shape, kernel, stride, pad, ceil_mode, (1, 1), "relu")).check(table)


def test_with_relu_nobody_wins_that_is_not_above_zero(table: Table) -> None:
    x = np.stack([np.full((20, 2, 2), value) for value in (-np.inf, -1.0, -0.0, 0.0, 1e-30, 2.0, np.nan)])
    x[:, :, 0, 0] = -3.0
    parameters = (x.shape, (2, 2), (2, 2), (0, 0), False, (1, 1), "relu")
    written = call("maxpool2d_forward", parameters, [x], table.dtype)
    for y in (written["y"], call("maxpool2d_inference", parameters, [x], table.dtype)["y"]):
        expected = [-3, -1, -0.0, 0, np.asarray(1e-30, table.dtype), 2, np.nan]
        assert np.array_equal(y[:, :, 0, 0], np.repeat(np.asarray(expected, table.dtype)[:, None], 20, 1), equal_nan=True)
        assert np.signbit(y[2]).all()
    assert (written["index"][:, :, 0, 0] == np.array([255, 255, 255, 255, 1, 1, 1])[:, None]).all()
    dx = call("maxpool2d_backward", parameters, [written["index"], np.full((7, 20, 1, 1), 5.0)], table.dtype)["dx"]
    assert (dx[:4] == 0).all() and (dx[4:] == np.array([[0, 5], [0, 0]])).all()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 31, 33])
@pytest.mark.parametrize("channels", [1, 3, 8, 15, 16, 17, 100])
def test_global_average(size: int, channels: int, table: Table) -> None:
    for row in ("global_avgpool_forward", "global_avgpool_backward"):
        Case(row, ((3, channels, size, size + 1),)).check(table)


def test_average_of_what_is_not_finite(table: Table) -> None:
    x = np.ones((2, 20, 5, 5))
    x[0, 3, 2, 2], x[1, 19, 4, 4] = np.nan, np.inf
    y = call("global_avgpool_forward", (x.shape,), [x], table.dtype)["y"][:, :, 0, 0]
    assert np.isnan(y[0, 3]) and y[1, 19] == np.inf
    assert (np.delete(y.ravel(), [3, 39]) == 1).all()


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (((1, 3, 4, 4), (5, 5), (1, 1)), "does not fit into 4"),
        (((1, 3, 8, 8), (2, 2), (2, 2), (2, 2)), "padding .* at most half"),
        (((1, 3, 40, 40), (17, 17), (1, 1)), "exceeds 256"),
        (((1, 3, 8, 8), (0, 2), (1, 1)), "kernel_size must be at least 1"),
        (((1, 3, 8, 8), (2, 2), (1, 1), (0, 0), False, (1, 0)), "dilation must be at least 1"),
        (((1, 3, 8, 8), (3, 3), (1, 1), (2, 2), False, (3, 3)), "padding .* at most half of kernel_size"),
        (((1, 3, 8, 8), (3, 3), (1, 1), (0, 0), False, (5, 1)), "window of height 11 does not fit into 8"),
        (((1, 3, 1, 8), (2, 2), (1, 1), (1, 0), False, (2, 1)), "window 0 of height 2 with dilation 2 has no pixel of the 1 there are"),
        (((1, 3, 16, 16), (16, 16), (1, 1), (0, 0), False, (1, 1), "relu"), "16 x 16 with relu exceeds 255"),
        (((1, 3, 8, 8), (2, 2), (2, 2), (0, 0), False, (1, 1), "gelu"), "activation must be none or relu"),
    ],
)
def test_impossible_geometry_is_refused(geometry: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _C.Pool2d(*geometry)
