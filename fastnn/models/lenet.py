"""A LeNet of today: two convolutions with pools, one hidden layer (after LeCun, Bottou, Bengio, Haffner 1998)."""

from __future__ import annotations

from .. import nn
from .checks import network


@network
def lenet(num_classes: int = 10, input_shape: tuple[int, ...] = (1, 28, 28), dropout: float = 0.5) -> nn.Sequential:
    """conv 3x3 32 - ReLU - pool 2, conv 3x3 64 - ReLU - pool 2, linear 128 - ReLU - dropout, linear. H and W of at least 4."""
    c, h, w = input_shape
    if h < 4 or w < 4:
        raise ValueError(f"lenet: two pools of 2 need maps of at least 4 x 4, got {h} x {w}")
    return nn.Sequential(
        nn.Conv2d(c, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (h // 4) * (w // 4), 128),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(128, num_classes),
    )
