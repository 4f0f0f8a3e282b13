"""Residual blocks: pre-activation against the same in PyTorch, blocks that start as their shortcut; weights too large to draw at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch_twins import assert_close, direction, load, normal

import fastnn
from fastnn import models, nn, ops
from fastnn.models.resnet import Bottleneck, ResNet

TN = torch.nn


class PreactivationBlock(TN.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = TN.BatchNorm2d(channels), TN.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = TN.BatchNorm2d(width), TN.Conv2d(width, width, 3, 1, 1, bias=False)
        changes = stride != 1 or channels != width
        self.downsample = TN.Sequential(TN.Conv2d(channels, width, 1, stride, bias=False)) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = torch.relu(self.bn1(x))
        y = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return y + (x if self.downsample is None else self.downsample(active))


class PreactivationResNet20(TN.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = TN.Conv2d(3, 16, 3, 1, 1, bias=False), TN.BatchNorm2d(64)
        channels = 16
        for i, width in enumerate((16, 32, 64)):
            blocks = []
            for j in range(3):
                blocks.append(PreactivationBlock(channels, width, 2 if i and not j else 1))
                channels = width
            self.add_module(f"layer{i + 1}", TN.Sequential(*blocks))
        self.fc = TN.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(torch.relu(self.bn1(x)).mean((2, 3)))


def test_preactivation_is_the_papers() -> None:
    """Logits in training and evaluation, and every gradient."""
    fastnn.seed(0)
    ours, theirs = models.resnet20(preactivation=True), PreactivationResNet20().double()
    load(theirs, ours.state_dict())
    for training in (True, False):
        ours.train(training), theirs.train(training)
        images = normal(1, 4, 3, 16, 16)
        y, expected = ours(fastnn.tensor(images)), theirs(torch.tensor(images, dtype=torch.float64))
        assert_close(y, expected, 1000)
        ours.zero_grad(), theirs.zero_grad()
        y.backward(direction(y.shape))
        expected.backward(torch.tensor(direction(y.shape)))
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert_close(p.grad, q.grad, 4000, name)


@pytest.mark.parametrize("norm", [nn.Identity, lambda: nn.GroupNorm(4, 16)])
@pytest.mark.parametrize("preactivation", [False, True])
def test_another_norm_may_take_the_place_of_a_blocks(preactivation: bool, norm: Callable[[], nn.Module]) -> None:
    """Whatever stands there, residual and activation are applied; frozen, too."""
    fastnn.seed(0)
    model = models.create("resnet20", input_shape=(3, 16, 16), preactivation=preactivation)
    block, x = model.layer1[0], fastnn.tensor(normal(0, 2, 16, 8, 8))
    block.bn1, block.bn2 = norm(), norm()
    if preactivation:
        expected = block.conv2(ops.relu(block.bn2(block.conv1(ops.relu(block.bn1(x)))))) + x
        model.bn1 = nn.GroupNorm(4, 64)
    else:
        expected = ops.relu(block.bn2(block.conv2(ops.relu(block.bn1(block.conv1(x))))) + x)
    assert_close(block(x), expected, 10)
    model.eval()
    images = fastnn.tensor(normal(1, 2, 3, 16, 16))
    assert_close(nn.frozen(model)(images), model(images), 4000)


@pytest.mark.parametrize("preactivation", [False, True])
def test_blocks_that_start_as_their_shortcut(preactivation: bool) -> None:
    fastnn.seed(0)
    model = models.create("resnet20", input_shape=(3, 16, 16), preactivation=preactivation, zero_init_residual=True)
    block = model.layer1[1]
    x = fastnn.tensor(np.abs(normal(0, 2, 16, 8, 8)), requires_grad=True)
    y = block(x)
    assert np.array_equal(y.numpy(), x.numpy())
    y.backward(direction(y.shape))
    moved = {name for name, p in block.named_parameters() if p.grad.numpy().any()}
    assert moved == ({"conv2.weight"} if preactivation else {"bn2.weight", "bn2.bias"}), "what stands before a zero does not move yet"
    assert np.array_equal(x.grad.numpy(), direction(y.shape).astype(np.float32))
    assert models.create("resnet20", input_shape=(3, 16, 16)).layer1[1].bn2.weight.numpy().all()


def test_bottlenecks_that_start_as_their_shortcut() -> None:
    model = ResNet((1, 1), (8, 16), 10, 3, False, Bottleneck, zero_init_residual=True)
    assert not model.layer2[0].bn3.weight.numpy().any() and model.layer2[0].bn2.weight.numpy().all()
    assert model.layer2[0].downsample[1].weight.numpy().all()
    assert ResNet((1,), (8,), 10, 3, False, Bottleneck).layer1[0].bn3.weight.numpy().all()


def test_large_initial_weights_come_in_pieces() -> None:
    """The same numbers as all at once."""
    n = (1 << 20) + 17
    words = fastnn.random.Generator(7).bits(2 * n, 0, fastnn.random.INIT)
    u = (words.astype(np.float64) + 0.5) / 2.0**32
    expected = (2 + 3 * (np.sqrt(-2 * np.log(u[:n])) * np.cos(2 * np.pi * u[n:]))).astype(np.float32)
    assert np.array_equal(fastnn.random.Generator(7).normal((n,), 2, 3), expected)
    expected = (-1 + 4 * (words[:n].astype(np.float64) / 2.0**32)).astype(np.float32)
    assert np.array_equal(fastnn.random.Generator(7).uniform((n,), -1, 3), expected)


def test_summary_of_resnet50_counts_torchvisions_multiply_adds() -> None:
    summary = models.resnet50().summary((3, 224, 224))
    assert summary.parameters == 25_557_032 and summary.macs == 4_089_184_256
    assert isinstance(summary, nn.Summary)
