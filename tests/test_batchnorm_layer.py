"""Batch normalisation as a layer: averages of statistics, frozen parameters, the identity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_twins import DTYPES, assert_close, direction, load, normal, same_layer, twins

import fastnn
from fastnn import nn

TN = torch.nn


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_momentum_statistics_are_averaged_as_pytorchs(dtype: str) -> None:
    same_layer(nn.BatchNorm2d(5, momentum=None), TN.BatchNorm2d(5, momentum=None), (3, 5, 4, 6), dtype)
    same_layer(
        nn.BatchNorm2d(5, momentum=None, track_running_stats=False),
        TN.BatchNorm2d(5, momentum=None, track_running_stats=False),
        (3, 5, 4, 6),
        dtype,
    )


def test_without_momentum_the_running_mean_is_that_of_all_batches() -> None:
    bn, x = nn.BatchNorm1d(3, momentum=None), normal(0, 5, 8, 3)
    for batch in x:
        bn(fastnn.tensor(batch))
    assert np.abs(bn.running_mean.numpy() - x.mean((0, 1))).max() < 1e-6
    assert np.abs(bn.running_var.numpy() - x.var(1, ddof=1).mean(0)).max() < 1e-6


def test_deviation_as_weight_and_mean_as_bias_recover_the_identity() -> None:
    x = fastnn.tensor(normal(0, 6, 5, 7, 7) * 3 + 2)
    for training in (True, False):
        bn = nn.BatchNorm2d(5).train(training)
        statistics = x.numpy().astype(np.float64)
        mean, var = statistics.mean((0, 2, 3)), statistics.var((0, 2, 3))
        state = {"weight": np.sqrt(var + bn.eps), "bias": mean, "running_mean": mean, "running_var": var}
        bn.load_state_dict(state)
        assert np.abs(bn(x).numpy() - x.numpy()).max() < 5e-6


def test_a_frozen_weight_gets_no_gradient_and_the_bias_its_own() -> None:
    """airbench's: weight stays 1, bias learns."""
    bn, theirs = nn.BatchNorm2d(5), TN.BatchNorm2d(5).double()
    load(theirs, bn.state_dict())
    bn.weight.requires_grad = False
    x, z = twins(normal(0, 3, 5, 4, 6), "float32")
    y = bn(x, None, "silu")
    y.backward(direction(y.shape))
    TN.functional.silu(theirs(z)).backward(torch.tensor(direction(y.shape)))
    assert bn.weight.grad is None
    assert_close(bn.bias.grad, theirs.bias.grad, 100)
    assert_close(x.grad, z.grad, 100)


def calls(net: nn.Module, x: fastnn.Tensor) -> dict[str, int]:
    net.zero_grad()
    x.grad = None
    with fastnn.profile() as kernels:
        y = net(x)
        y.backward(direction(y.shape))
    return {name: row["calls"] for name, row in kernels.items()}


def test_no_kernel_runs_for_what_is_frozen() -> None:
    """Convolution, normalisation and linear layer: forward, and nothing backward beyond the first that trains."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 5), nn.Linear(5, 2))
    x = fastnn.tensor(normal(0, 2, 3, 5, 5))
    every = calls(net, x)
    assert every["conv2d_backward_weight"] == every["batchnorm_backward"] == 1 and "conv2d_backward_input" not in every
    assert every["channel_sum"] == 3 and every["matmul"] == 6

    net[0].requires_grad_(False)
    frozen = calls(net, x)
    assert frozen.keys() == every.keys() - {"conv2d_backward_weight"} and frozen["channel_sum"] == 2

    net[1].requires_grad_(False)
    net[3].requires_grad_(False)
    frozen = calls(net, x)
    assert "batchnorm_backward" not in frozen and "copy" in frozen and frozen["channel_sum"] == 1
    assert frozen["matmul"] == 3, "forward twice and the gradient of one weight"

    x.requires_grad = True
    through = calls(net, x)
    assert "conv2d_backward_weight" not in through and through["conv2d_backward_input"] == 1 and through["matmul"] == 5
    assert through["channel_sum"] == 1 and net[4].weight.grad is not None
    for frozen_layer in (net[0], net[1], net[3]):
        frozen_layer.zero_grad()
    calls(net, x)
    assert all(p.grad is None for layer in (net[0], net[1], net[3]) for p in layer.parameters())
