"""Squeeze and excitation."""

from __future__ import annotations

from .. import ops
from ..tensor import Tensor
from .conv2d import Conv2d
from .module import Module


class SqueezeExcite(Module):
    """x * sigmoid(fc2(relu(fc1(mean of each map)))): each channel weighed by what all of them show (Hu, Shen, Sun 2018).

    (N, channels, H, W) -> the same shape; fc1 and fc2 are 1x1 convolutions to squeeze_channels (channels / 16 by default) and back, with
    torchvision's state_dict keys and shapes.
    """

    def __init__(self, channels: int, squeeze_channels: int | None = None) -> None:
        super().__init__()
        squeezed = max(1, channels // 16) if squeeze_channels is None else squeeze_channels
        self.fc1, self.fc2 = Conv2d(channels, squeezed, 1), Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(ops.relu(self.fc1(ops.adaptive_avg_pool2d(x, 1))))
        return x * ops.sigmoid(scale)
