"""Squeeze and excitation against the same in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_twins import DTYPES, assert_close, direction, load, normal, same_layer

import fastnn
from fastnn import nn

TN = torch.nn


class SqueezeExcitation(TN.Module):
    """torchvision.ops'."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = TN.Conv2d(channels, squeezed, 1), TN.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_block_is_torchvisions(dtype: str) -> None:
    fastnn.seed(0)
    same_layer(nn.SqueezeExcite(6, 4), SqueezeExcitation(6, 4), (3, 6, 5, 4), dtype)


def test_it_shrinks_by_sixteen_and_weighs_whole_maps() -> None:
    fastnn.seed(0)
    block = nn.SqueezeExcite(40)
    load(SqueezeExcitation(40, 2), block.state_dict())
    x = fastnn.tensor(np.abs(normal(0, 2, 40, 3, 3)) + 1)
    ratio = block(x).numpy() / x.numpy()
    assert np.allclose(ratio, ratio[:, :, :1, :1]) and (0 < ratio).all() and (ratio < 1).all() and ratio.std() > 0
    assert nn.SqueezeExcite(8).fc1.out_channels == 1


def test_it_counts_in_a_summary_and_learns() -> None:
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.SqueezeExcite(32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))
    summary = net.summary((3, 6, 6))
    assert [row.name for row in summary.layers][1:3] == ["1.fc1", "1.fc2"] and summary.layers[1].macs == 64
    y = net(fastnn.tensor(normal(0, 4, 3, 6, 6)))
    y.backward(direction(y.shape))
    assert all(p.grad is not None and p.grad.numpy().any() for p in net[1].parameters())


def test_saturated_gates_are_open_or_shut() -> None:
    block = nn.SqueezeExcite(2, 1)
    for bias, expected in ((200.0, 1), (-200.0, 0)):
        block.fc2.bias.copy_from(np.full(2, bias))
        assert_close(block(fastnn.tensor(np.ones((1, 2, 2, 2)))), np.full((1, 2, 2, 2), expected, np.float32) + 0.0, 4)
