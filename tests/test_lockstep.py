"""Fifty steps in lockstep: before each, PyTorch takes our weights and buffers in float64 and in float32 and does the same step.

Free-running ReLU networks part from themselves within ten steps, in PyTorch too; in lockstep every step is judged by itself. Figures:
the loss, the running statistics, and each parameter's gradient error (normwise, median over the steps) beside that of PyTorch's float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch_twins
from kernel_calls import Table, plan, using
from torch_twins import load

import fastnn
from fastnn import _C, models, nn, optim

STEPS, BATCH, CLASSES = 50, 16, 10


def batches(shape: tuple[int, int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Noisy pictures of ten blurred patterns: something to learn. Three labels of ten are wrong, so that the loss stays away from 0."""
    random = np.random.default_rng(0)
    patterns = random.standard_normal((CLASSES, *shape))
    patterns = patterns + np.roll(patterns, 1, -1) + np.roll(patterns, 1, -2)
    drawn = [random.integers(0, CLASSES, BATCH) for _ in range(STEPS)]
    pictures = [(patterns[t] + random.standard_normal((BATCH, *shape))).astype(np.float32) for t in drawn]
    return [(x, np.where(random.random(BATCH) < 0.3, random.integers(0, CLASSES, BATCH), t)) for x, t in zip(pictures, drawn)]


def their_step(
    net: torch.nn.Module, state: dict[str, np.ndarray], x: np.ndarray, labels: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    load(net, state).zero_grad()
    loss = torch.nn.functional.cross_entropy(net(torch.tensor(x, dtype=next(net.parameters()).dtype)), torch.tensor(labels))
    loss.backward()
    return loss.item(), {name: p.grad.double().numpy() for name, p in net.named_parameters()}


def error(got: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(got.astype(np.float64) - exact) / np.linalg.norm(exact))


def strided(layers: Any) -> Any:
    """Strides of two over 64 channels and more, where "high" multiplies in two parts; of either library's layers."""

    def conv(channels: int, filters: int, stride: int) -> list[Any]:
        return [layers.Conv2d(channels, filters, 3, stride, 1, bias=False), layers.BatchNorm2d(filters), layers.ReLU()]

    return layers.Sequential(*conv(3, 64, 1), *conv(64, 128, 2), *conv(128, 128, 2), layers.Flatten(), layers.Linear(1152, CLASSES))


@pytest.fixture
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(Table(_C.isa(), "float32", request.param)):
        yield request.param


LOSS = {"highest": 1e-6, "high": 1e-5}
GRADIENT = {"highest": 0.0, "high": 3 * 8e-6}  # three times the bound of a product in two parts, where three times PyTorch's is less


@pytest.mark.parametrize(
    ("make", "make_theirs", "make_optimizer", "shape", "precision"),
    [
        (
            lambda: models.lenet(input_shape=(1, 20, 20), dropout=0.0),
            lambda: torch_twins.lenet(input_shape=(1, 20, 20), dropout=0.0),
            lambda p: optim.Adam(p, 1e-3),
            (1, 20, 20),
            "highest",
        ),
        (
            lambda: models.resnet20(input_shape=(3, 12, 12)),
            lambda: torch_twins.resnet20(),
            lambda p: optim.SGD(p, 0.02, momentum=0.9, weight_decay=1e-4),
            (3, 12, 12),
            "highest",
        ),
        (lambda: strided(nn), lambda: strided(torch.nn), lambda p: optim.Adam(p, 1e-3), (3, 9, 9), "high"),
    ],
    indirect=["precision"],
    ids=["lenet, Adam", "resnet20, SGD with momentum", "strides in two parts, Adam"],
)
def test_fifty_steps_in_lockstep(
    make: Callable[[], Any], make_theirs: Callable[[], Any], make_optimizer: Callable[[Any], Any], shape: Any, precision: str
) -> None:
    if precision == "high":
        algorithm = plan("conv2d_forward", ((BATCH, 64, 9, 9), (128, 64, 3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 1))[0]
        assert algorithm.startswith("amx_split") == (_C.isa() == "amx")
    fastnn.seed(0)
    net, exact, single = make(), make_theirs().double(), make_theirs()
    optimizer, criterion = make_optimizer(net.parameters()), nn.CrossEntropyLoss()
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in net.named_parameters()}
    losses = []
    for step, (x, labels) in enumerate(batches(shape)):
        state = net.state_dict()
        expected, gradients = their_step(exact, state, x, labels)
        _, theirs = their_step(single, state, x, labels)

        loss = criterion(net(fastnn.tensor(x)), labels)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        assert loss.item() == pytest.approx(expected, rel=LOSS[precision]), f"loss of step {step}"
        for name, p in net.named_parameters():
            errors[name].append((error(p.grad.numpy(), gradients[name]), error(theirs[name], gradients[name])))
        buffers = exact.state_dict()
        for name, b in net.named_buffers():
            assert error(b.numpy(), buffers[name].numpy()) <= 1e-5, f"{name} after step {step}"
        optimizer.step()

    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10]), "nothing was learned, so nothing was tested"
    medians = {name: np.median(pairs, axis=0) for name, pairs in errors.items()}
    worse = {
        name: f"{ours:.2g}, PyTorch's float32 {theirs:.2g}"
        for name, (ours, theirs) in medians.items()
        if ours > max(3 * theirs, GRADIENT[precision])
    }
    assert not worse, f"gradient errors more than 3 times those of PyTorch's own float32: {worse}"
    assert max(ours for ours, _ in medians.values()) > 1e-9, "no rounding at all: the same network was compared with itself"
