"""A small VGG with batch normalisation (after Simonyan, Zisserman 2014)."""

from __future__ import annotations

from .. import nn
from .checks import network


@network
def vgg(
    num_classes: int = 10,
    input_shape: tuple[int, ...] = (3, 32, 32),
    widths: tuple[int, ...] = (64, 128, 256),
    hidden: int = 256,
    dropout: float = 0.5,
) -> nn.Sequential:
    """For each width twice conv 3x3 - BN - ReLU, then pool 2; linear `hidden` - ReLU - dropout, linear. H and W of at least 2 ** len(widths)."""
    channels, h, w = input_shape
    shrink = 2 ** len(widths)
    if h < shrink or w < shrink:
        raise ValueError(f"vgg: {len(widths)} pools of 2 need maps of at least {shrink} x {shrink}, got {h} x {w}")
    layers: list[nn.Module] = []
    for width in widths:
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    features = channels * (h // shrink) * (w // shrink)
    head = [nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_classes)]
    return nn.Sequential(*layers, *head)


@network
def vgg_small(num_classes: int = 10, input_shape: tuple[int, ...] = (1, 8, 8)) -> nn.Sequential:
    """vgg with widths 32 and 64 and 64 hidden units: for maps from 4 x 4 on."""
    return vgg(num_classes, input_shape, widths=(32, 64), hidden=64)
