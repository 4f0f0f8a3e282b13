"""Shapes and geometries that nobody needs and somebody writes: results without elements, windows, strides and paddings far beyond the map. What
can be computed is, by whatever algorithm needs no memory for it; the rest is refused. Each of these once ended the process, or never ended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_calls import DEVICES, FLOAT_ISAS

import fastnn
from fastnn import _C, Tensor, ops

DEVICE = DEVICES[-1]
pytestmark = pytest.mark.usefixtures("without_memory_checks")


def ones(*shape: int) -> Tensor:
    return fastnn.tensor(np.ones(shape, np.float32), device=DEVICE, requires_grad=True)


def conv2d(x_shape: tuple[int, ...], w_shape: tuple[int, ...], **geometry: Any) -> tuple[Tensor, Tensor, Tensor]:
    x, w = ones(*x_shape), ones(*w_shape)
    y = ops.conv2d(x, w, None, **geometry)
    y.sum().backward()
    return y, x, w


def gradients(x: Tensor, w: Tensor) -> tuple[float, float]:
    assert x.grad is not None and w.grad is not None
    assert x.grad.shape == x.shape and w.grad.shape == w.shape
    return float(x.grad.numpy().sum()), float(w.grad.numpy().sum())


@pytest.fixture(params=FLOAT_ISAS if DEVICE == "cpu" else [None])
def each_table(request: pytest.FixtureRequest) -> Any:
    before = _C.isa()
    if request.param:
        _C.set_isa(request.param)
    yield
    _C.set_isa(before)


@pytest.mark.parametrize("shape", [(2, 4, 0, 0), (0, 4, 5, 0), (0, 4, 0, 0), (2, 4, 0, 3)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_maps_without_pixels(shape: tuple[int, ...], groups: int, each_table: None) -> None:
    """Their padding has windows."""
    y, x, w = conv2d(shape, (4, 4 // groups, 2, 2), groups=groups, padding=1)
    assert y.shape == (shape[0], 4, shape[2] + 1, shape[3] + 1) and not y.numpy().any()
    assert gradients(x, w) == (0, 0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 0), (4, 0, 2, 3)])
def test_normalisation_of_no_channels(shape: tuple[int, ...], training: bool, each_table: None) -> None:
    x, weight, bias = ones(*shape), ones(0), ones(0)
    mean, var = (fastnn.tensor(np.zeros(0, np.float32), device=DEVICE) for _ in range(2))
    y = ops.batch_norm(x, mean, var, weight, bias, training=training)
    y.sum().backward()
    assert y.shape == shape and x.grad is not None and x.grad.shape == shape


def test_replayed_steps_without_elements() -> None:
    scale, w = ones(1), ones(4, 1, 2, 2)

    @fastnn.capture
    def step(x: Tensor) -> Tensor:
        scale.grad = w.grad = None
        y = ops.conv2d(x * scale, w, None, groups=4, padding=1)
        y.sum().backward()
        return y

    for _ in range(3):
        assert step(ones(2, 4, 0, 0).detach()).shape == (2, 4, 1, 1)
        assert gradients(scale, w) == (0, 0)


@pytest.mark.parametrize("pool", [ops.adaptive_avg_pool2d, ops.adaptive_max_pool2d])
def test_pools_of_no_channels_end(pool: Any) -> None:
    """Ten million squared windows over nothing."""
    x = ones(1, 0, 4, 4)
    y = pool(x, 10**7)
    y.backward(np.zeros(y.shape, np.float32))
    assert y.shape == (1, 0, 10**7, 10**7)


@pytest.mark.parametrize("stride", [7, 1_000, 100_000, (1_519_111_591, 1_517_889_155)])
def test_strides_beyond_the_map(stride: Any, each_table: None) -> None:
    """The one window knows no stride: neither do time and memory."""
    y, x, w = conv2d((1, 3, 4, 4), (2, 3, 2, 2), stride=stride)
    assert y.numpy().tolist() == [[[[12.0]], [[12.0]]]]
    assert gradients(x, w) == (24, 24)
    assert x.grad is not None and np.array_equal(x.grad.numpy()[0, 0], np.pad(np.full((2, 2), 2.0), ((0, 2), (0, 2))))


@pytest.mark.parametrize("far", [5_800, 400_000_000])
def test_taps_far_beyond_the_map(far: int, each_table: None) -> None:
    """Eight of nine lie in the padding: a copy of it would be vast."""
    y, x, w = conv2d((1, 5, 1, 1), (8, 5, 3, 3), padding=far, dilation=far)
    assert (y.numpy() == 5).all() and gradients(x, w) == (40, 40)
    assert w.grad is not None and np.array_equal(w.grad.numpy()[0, 0], np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]))


def test_strides_and_padding_far_beyond_the_map(each_table: None) -> None:
    """Nine windows, of which one meets the map."""
    far = 10_000 if DEVICE == "cpu" else 100  # GPUs have a block for each phase of the stride, the emulated one after the other
    y, x, w = conv2d((1, 3, 4, 4), (2, 3, 2, 2), stride=far, padding=far)
    assert y.shape == (1, 2, 3, 3) and y.numpy().sum() == 24
    assert gradients(x, w) == (24, 24)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_lower_precision_of_a_vast_geometry(precision: str) -> None:
    before = _C.get_precision()
    _C.set_precision(precision)
    try:
        y, x, w = conv2d((1, 64, 1, 1), (64, 64, 3, 3), padding=400_000_000, dilation=400_000_000)
    finally:
        _C.set_precision(before)
    assert (y.numpy() == 64).all() and gradients(x, w) == (4096, 4096)


@pytest.mark.parametrize(
    "geometry, text",
    [
        (
            {"padding": 1_073_741_824, "dilation": 1_073_741_824},
            "2147483649 x 2147483649 pixels with padding; each must be less than 2**30",
        ),
        ({"padding": 100_000, "stride": 100_000}, "stride 100000 x 100000 x groups 1 must be at most 2**31"),
    ],
)
def test_what_no_kernel_counts_to_is_refused(geometry: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match="conv2d") as caught:
        conv2d((1, 1, 1, 1), (1, 1, 3, 3), **geometry)
    assert text in str(caught.value)


@pytest.mark.parametrize("padding", [2**31, 2**62, 2**63, (2**63 - 1, 0, 0, 0)])
def test_padding_that_overflows_is_refused(padding: Any) -> None:
    """It gave maps without pixels."""
    for mode in ("constant", "replicate"):
        with pytest.raises(ValueError, match=r"^pad: padding must be less than 2\*\*31, got"):
            ops.pad(fastnn.tensor(np.ones((1, 1, 2, 2))), padding, mode)


def test_padding_larger_than_memory_is_out_of_memory() -> None:
    with pytest.raises(fastnn.OutOfMemoryError, match="larger than any memory"):
        ops.pad(fastnn.tensor(np.ones((1, 1, 2, 2))), 2**31 - 1, "replicate")
