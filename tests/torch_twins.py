"""PyTorch's side of the comparisons: tensors with the same values, and the networks of fastnn.models in PyTorch's layers and names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

import fastnn

torch.set_num_threads(1)  # the tensors here are small: a second thread would only wait for the first

Array = np.ndarray[Any, np.dtype[Any]]
DTYPES = ["float32", "float64"]


def normal(seed: int, *shape: int) -> Array:
    """Standard normal samples that float32 holds exactly."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def twins(values: Array, dtype: str, requires_grad: bool = True) -> tuple[fastnn.Tensor, torch.Tensor]:
    """The same values for fastnn in `dtype` and for PyTorch in float64, the reference of both."""
    return fastnn.tensor(values, dtype, requires_grad), torch.tensor(values.astype(np.float64), requires_grad=requires_grad)


def numpy_of(value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    return value.numpy() if isinstance(value, fastnn.Tensor) else np.asarray(value)


def assert_close(got: Any, expected: Any, terms: int = 1, what: str = "") -> None:
    """The largest error is at most (4 + terms) roundings of the largest value expected; `terms` numbers were added up on the way."""
    got, expected = numpy_of(got), numpy_of(expected)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    assert np.isfinite(got).all() and np.isfinite(expected).all(), f"{what}: not finite"
    if got.size:
        error, size = float(np.abs(got - expected).max()), float(np.abs(expected).max())
        allowed = (4 + terms) * float(np.finfo(got.dtype).eps) * size
        assert error <= allowed, f"{what}: error {error:.3g} exceeds {allowed:.3g} (largest value {size:.3g})"


def direction(shape: tuple[int, ...], dtype: type = np.float64) -> Array:
    """A fixed gradient to send backward: no two elements alike."""
    return np.cos(np.arange(int(np.prod(shape))) * 1.7 + 0.3).astype(np.float32).reshape(shape).astype(dtype)


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], inputs: list[Array], dtype: str, terms: int = 1) -> None:
    """Values and every gradient of two functions of the same inputs."""
    a, b = zip(*[twins(x, dtype) for x in inputs])
    y, z = ours(*a), theirs(*b)
    assert y.dtype == dtype
    assert_close(y, z, terms, "value")
    y.backward(direction(y.shape))
    z.backward(torch.tensor(direction(tuple(z.shape))))
    for i, (p, q) in enumerate(zip(a, b)):
        assert p.grad is not None and p.grad.dtype == dtype, f"input {i} has no gradient of its type"
        assert_close(p.grad, q.grad if q.grad is not None else torch.zeros_like(q), terms, f"gradient {i}")


def load(module: torch.nn.Module, state: Mapping[str, Array]) -> torch.nn.Module:
    """Gives a PyTorch module our state_dict, strictly."""
    own = module.state_dict()
    module.load_state_dict({k: torch.tensor(np.asarray(v), dtype=own[k].dtype if k in own else None) for k, v in state.items()})
    return module


def spread(module: fastnn.nn.Module) -> None:
    """Numbers away from 0 and 1 in the parameters of batch normalisation and its running statistics."""
    for i, (name, value) in enumerate(module.state_dict().items()):
        if value.ndim == 1 and value.dtype.kind == "f":
            target = dict([*module.named_parameters(), *module.named_buffers()])[name]
            target.copy_from((np.abs(normal(i, *value.shape)) + 0.5).astype(value.dtype))


def same_layer(ours: fastnn.nn.Module, theirs: torch.nn.Module, shape: tuple[int, ...], dtype: str, device: str = "cpu") -> None:
    """Output, every gradient and every buffer of two layers, twice in training and once in evaluation; ours gives theirs its state."""
    theirs = theirs.double()
    if dtype == "float64":
        ours.double()
    spread(ours)
    load(theirs, ours.state_dict())
    ours.to(device)
    for step, training in enumerate((True, True, False)):
        ours.train(training), theirs.train(training)
        x, z = twins(normal(step, *shape) * 2 + 1, dtype)
        y, expected = ours(x.to(device) * 1.0), theirs(z * 1.0)
        assert y.dtype == dtype
        assert_close(y, expected, 100, f"output, step {step}")
        y.backward(direction(y.shape))
        expected.backward(torch.tensor(direction(y.shape)))
        assert_close(x.grad, z.grad, 100, f"input's gradient, step {step}")
        parameters = dict(theirs.named_parameters())
        assert [n for n, _ in ours.named_parameters()] == list(parameters)
        for key, p in ours.named_parameters():
            assert_close(p.grad, parameters[key].grad, 200, f"{key}'s gradient, step {step}")
        buffers = dict(theirs.named_buffers())
        assert [n for n, _ in ours.named_buffers()] == list(buffers)
        for key, b in ours.named_buffers():
            if key.endswith("num_batches_tracked"):
                assert b.dtype == "int64" and b.item() == buffers[key].item()
            else:
                assert_close(b, buffers[key], 40, f"{key}, step {step}")


# --- the networks


class BasicBlock(torch.nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.conv2 = torch.nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or channels != width:
            self.downsample = torch.nn.Sequential(torch.nn.Conv2d(channels, width, 1, stride, bias=False), torch.nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet(torch.nn.Module):
    """torchvision's ResNet of basic blocks; without the ImageNet stem, the CIFAR form."""

    def __init__(self, blocks: tuple[int, ...], widths: tuple[int, ...], num_classes: int, in_channels: int, imagenet_stem: bool) -> None:
        super().__init__()
        channels = widths[0]
        window, stride, padding = (7, 2, 3) if imagenet_stem else (3, 1, 1)
        self.conv1 = torch.nn.Conv2d(in_channels, channels, window, stride, padding, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(channels)
        self.maxpool = torch.nn.MaxPool2d(3, 2, 1) if imagenet_stem else torch.nn.Identity()
        self.stages = []
        for i, (count, width) in enumerate(zip(blocks, widths)):
            stage = []
            for j in range(count):
                stage.append(BasicBlock(channels, width, 2 if i > 0 and j == 0 else 1))
                channels = width
            self.add_module(f"layer{i + 1}", torch.nn.Sequential(*stage))
            self.stages.append(f"layer{i + 1}")
        self.fc = torch.nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(x.mean((2, 3)))


def resnet18(num_classes: int = 1000) -> ResNet:
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), num_classes, 3, imagenet_stem=True)


def resnet20(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    return ResNet((3, 3, 3), (16, 32, 64), num_classes, in_channels, imagenet_stem=False)


def lenet(num_classes: int = 10, input_shape: tuple[int, int, int] = (1, 28, 28), dropout: float = 0.5) -> torch.nn.Sequential:
    c, h, w = input_shape
    return torch.nn.Sequential(
        torch.nn.Conv2d(c, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * (h // 4) * (w // 4), 128),
        torch.nn.ReLU(),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(128, num_classes),
    )


def vgg_small(num_classes: int = 10, input_shape: tuple[int, int, int] = (1, 8, 8)) -> torch.nn.Sequential:
    channels, h, w = input_shape
    layers: list[torch.nn.Module] = []
    for width in (32, 64):
        for _ in range(2):
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1, bias=False), torch.nn.BatchNorm2d(width), torch.nn.ReLU()]
            channels = width
        layers.append(torch.nn.MaxPool2d(2))
    features = 64 * (h // 4) * (w // 4)
    head = [torch.nn.Flatten(), torch.nn.Linear(features, 64), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(64, num_classes)]
    return torch.nn.Sequential(*layers, *head)
