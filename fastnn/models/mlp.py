"""A linear classifier and a multilayer perceptron."""

from __future__ import annotations

from math import prod

from .. import nn
from .checks import network


@network
def linear(num_classes: int = 10, input_shape: tuple[int, ...] = (1, 28, 28)) -> nn.Sequential:
    """s = W x + b."""
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(input_shape), num_classes))


@network
def mlp(
    num_classes: int = 10, input_shape: tuple[int, ...] = (1, 28, 28), hidden: tuple[int, ...] = (512, 256), dropout: float = 0.5
) -> nn.Sequential:
    """Hidden layers of the given widths, each Linear - ReLU - Dropout, then Linear."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = prod(input_shape)
    for n in hidden:
        layers += [nn.Linear(width, n), nn.ReLU(), nn.Dropout(dropout)]
        width = n
    return nn.Sequential(*layers, nn.Linear(width, num_classes))
