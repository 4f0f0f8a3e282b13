"""Transposed convolution: PyTorch's values and gradients, and the adjoint of conv2d."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch_twins import DTYPES, direction, normal, same_layer, twins

import fastnn
from fastnn import nn, ops

TN = torch.nn

GEOMETRIES: dict[str, tuple[tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "plain": ((3, 4, 3), {}, (2, 3, 5, 6)),
    "stride": ((3, 4, 2), {"stride": 2}, (2, 3, 5, 6)),
    "output padding": ((3, 4, 3), {"stride": 2, "padding": 1, "output_padding": 1}, (2, 3, 5, 6)),
    "pairs": ((3, 5, (3, 4)), {"stride": (3, 2), "padding": (0, 2), "output_padding": (2, 0)}, (2, 3, 4, 5)),
    "dilation": ((3, 4, 3), {"stride": 2, "padding": 2, "dilation": 2, "output_padding": 1}, (2, 3, 5, 6)),
    "groups": ((6, 8, 3), {"groups": 2, "padding": 1}, (2, 6, 5, 6)),
    "depthwise": ((6, 6, 4), {"groups": 6, "stride": 2, "padding": 1}, (2, 6, 5, 6)),
    "no bias": ((3, 4, 3), {"bias": False}, (2, 3, 5, 6)),
    "window smaller than stride": ((3, 4, 1), {"stride": 3, "output_padding": 2}, (2, 3, 4, 4)),
    "one pixel": ((16, 17, 4), {}, (2, 16, 1, 1)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_layer_is_pytorchs(name: str, dtype: str) -> None:
    arguments, options, shape = GEOMETRIES[name]
    same_layer(nn.ConvTranspose2d(*arguments, **options), TN.ConvTranspose2d(*arguments, **options), shape, dtype)


def test_initialisation_and_state_are_pytorchs() -> None:
    fastnn.seed(0)
    ours, theirs = nn.ConvTranspose2d(32, 24, 3, groups=4), TN.ConvTranspose2d(32, 24, 3, groups=4)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    for p, q in zip(ours.parameters(), theirs.parameters()):
        bound = 1 / np.sqrt(6 * 9)  # PyTorch's fan_in of a transposed weight
        assert 0.8 * bound < np.abs(p.numpy()).max() <= bound and q.abs().max() <= bound


def test_it_is_the_adjoint_of_conv2d() -> None:
    """<conv(a), b> = <a, conv_transpose(b)>: exact on integers."""
    random = np.random.default_rng(0)
    a, b, w = (random.integers(-3, 4, s).astype(np.float32) for s in ((2, 4, 11, 10), (2, 6, 5, 5), (6, 4, 3, 3)))
    y = ops.conv2d(fastnn.tensor(a), fastnn.tensor(w), stride=2, padding=1)
    assert y.shape == (2, 6, 6, 5)
    b = random.integers(-3, 4, y.shape).astype(np.float32)
    z = ops.conv_transpose2d(fastnn.tensor(b), fastnn.tensor(w), stride=2, padding=1, output_padding=(0, 1))
    assert z.shape == a.shape and float((y.numpy() * b).sum()) == float((a * z.numpy()).sum())


def test_gradients_by_central_differences() -> None:
    inputs = [normal(i, *s) for i, s in enumerate([(2, 2, 3, 3), (2, 3, 3, 2), (3,)])]
    assert fastnn.gradcheck(lambda x, w, b: ops.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=(1, 0)), inputs)


def test_kernels_are_conv2ds_and_frozen_parameters_cost_none() -> None:
    layer = nn.ConvTranspose2d(3, 4, 3, stride=2)
    x, _ = twins(normal(0, 2, 3, 5, 5), "float32")

    def kernels() -> dict[str, int]:
        with fastnn.profile() as seen:
            y = layer(x)
            y.backward(direction(y.shape))
        return {name: row["calls"] for name, row in seen.items()}

    assert kernels() == {"conv2d_backward_input": 1, "add": 1, "conv2d_forward": 1, "conv2d_backward_weight": 1, "channel_sum": 1}
    x.grad = None
    layer.requires_grad_(False)
    assert kernels() == {"conv2d_backward_input": 1, "add": 1, "conv2d_forward": 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.ConvTranspose2d(3, 8, 3)(fastnn.tensor(np.zeros((2, 4, 5, 5)))), r"expected \(N, C, H, W\) with C = 3"),
        (lambda: nn.ConvTranspose2d(6, 8, 3, groups=4), "groups = 4 must divide both in_channels = 6"),
        (
            lambda: nn.ConvTranspose2d(3, 8, 3, stride=2, output_padding=2)(fastnn.tensor(np.zeros((2, 3, 5, 5)))),
            r"output_padding \(2, 2\) must be smaller than stride \(2, 2\)",
        ),
        (lambda: nn.ConvTranspose2d(3, 8, 3, padding=4)(fastnn.tensor(np.zeros((2, 3, 5, 5)))), "leaves nothing of the output"),
        (lambda: nn.ConvTranspose2d(3, 8, 3, stride=0)(fastnn.tensor(np.zeros((2, 3, 5, 5)))), "stride"),
    ],
)
def test_impossible_geometry_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
