"""The network of the CIFAR-10 speed runs (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498)."""

from __future__ import annotations

import numpy as np

from .. import nn, ops
from ..arguments import number
from ..tensor import ArrayLike, Tensor
from .checks import image_shape, network, sizes
from .checks import images as checked_images

_WINDOW = 2  # of the whitening convolution
_IMAGES_AT_A_TIME = 250  # whose patches lie in the cache


class Airbench94(nn.Module):
    """whiten: conv 2x2 (see `whiten_with`) - GELU; three groups of conv 3x3 - max pool 2 - BN - GELU - conv 3x3 - BN - GELU; max pool 3; linear,
    times `scale`. Each BN runs with its GELU as one kernel.

    Frozen from the start (requires_grad False): whiten.weight and the gammas of BN. BN has eps 1e-12 and momentum 0.4 (the weight of the new
    value); the convolutions of the groups have no bias and start as the identity on their first filters, the others as PyTorch's.
    Parameters have the names of airbench94_muon.py: whiten, layers.1.conv1, layers.1.norm1, ..., head.
    """

    def __init__(self, num_classes: int, input_shape: tuple[int, ...], widths: tuple[int, int, int], scale: float | None) -> None:
        super().__init__()
        image_shape("airbench94", "input_shape", input_shape), sizes("airbench94", "widths", widths, "three integers of at least 1", 3)
        channels, h, w = input_shape
        rows, columns = (((n - 1) // 8) // 3 for n in (h, w))
        if rows < 1 or columns < 1:
            raise ValueError(f"airbench94: a convolution of 2 and pools of 2, 2, 2 and 3 need maps of at least 25 x 25, got {h} x {w}")
        patch = channels * _WINDOW**2
        self.whiten = nn.Conv2d(channels, 2 * patch, _WINDOW)
        self.whiten.weight.requires_grad = False
        inputs = (2 * patch, *widths[:2])
        groups = [_Group(before, width) for before, width in zip(inputs, widths)]
        self.layers = nn.Sequential(nn.GELU(), *groups, nn.MaxPool2d(3))
        features = widths[-1] * rows * columns
        self.head = nn.Linear(features, num_classes, bias=False)
        self.scale = 1 / features if scale is None else number("airbench94", "scale", scale, "(0, inf)")

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(ops.flatten(self.layers(self.whiten(x))))
        return logits * self.scale

    def whiten_with(self, images: ArrayLike, eps: float = 5e-4) -> None:
        """Makes whiten.weight the filters that whiten the 2x2 patches of these images (N, C, H, W), normalised as in training.

        Eigenvector i of the patches' second moments (not centred), largest eigenvalue first, divided by sqrt(eigenvalue_i + eps), is filter i;
        their negatives follow. airbench takes 5,000 training images.
        """
        given = checked_images("whiten_with", "images", images)
        if given.shape[1] != self.whiten.in_channels or min(given.shape[2:]) < _WINDOW:
            raise ValueError(
                f"whiten_with: images have shape {given.shape}; expected (N, {self.whiten.in_channels}, H, W) of at least 2 x 2"
            )
        number("whiten_with", "eps", eps, "(0, inf)")
        moments = _patch_moments(given)
        if not np.isfinite(moments).all():
            raise ValueError("whiten_with: images hold numbers that are not finite, or whose squares are not; expected normalised images")
        values, vectors = np.linalg.eigh(moments)
        filters = (vectors / np.sqrt(values + eps)).T[::-1].reshape(len(values), -1, _WINDOW, _WINDOW)
        self.whiten.weight.copy_from(np.concatenate([filters, -filters]).astype(np.float32))


class _Group(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, width)
        self.norm1 = _norm(width)
        self.conv2 = _convolution(width, width)
        self.norm2 = _norm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(ops.max_pool2d(self.conv1(x), 2), None, "gelu")
        y: Tensor = self.norm2(self.conv2(x), None, "gelu")
        return y


def _convolution(channels: int, width: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    weight = conv.weight.numpy().copy()
    weight[:channels] = nn.init.dirac_values(weight[:channels].shape)
    conv.weight.copy_from(weight)
    return conv


def _norm(width: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad = False
    return norm


def _patch_moments(images: np.ndarray) -> np.ndarray:
    """The mean of p p^T over all patches p, flattened as a filter (C, 2, 2) is."""
    n, c, h, w = images.shape
    total = np.zeros((c * _WINDOW**2,) * 2)
    for start in range(0, n, _IMAGES_AT_A_TIME):
        part = images[start : start + _IMAGES_AT_A_TIME].astype(np.float32, copy=False).transpose(1, 0, 2, 3)
        rows, columns = h - _WINDOW + 1, w - _WINDOW + 1
        shifted = [part[:, :, r : r + rows, s : s + columns] for r in range(_WINDOW) for s in range(_WINDOW)]
        patches = np.stack(shifted, 1).reshape(len(total), -1)
        total += patches @ patches.T
    moments: np.ndarray = total / (n * (h - _WINDOW + 1) * (w - _WINDOW + 1))
    return moments


@network
def airbench94(num_classes: int = 10, input_shape: tuple[int, ...] = (3, 32, 32), width: float = 1.0, muon: bool = False) -> Airbench94:
    """airbench94's network: groups of 64, 256 and 256 channels, times `width`. Call `whiten_with(images)` before training.

    Without muon the output is divided by 9 and whiten.bias starts at 0; with it (the form trained by Muon) the output is divided by the number
    of features and the head's weights are scaled to a standard deviation of 1. H and W of at least 25.
    """
    first, others = (max(1, round(width * n)) for n in (64, 256))
    model = Airbench94(num_classes, input_shape, (first, others, others), None if muon else 1 / 9)
    if muon:
        head = model.head.weight.numpy()
        model.head.weight.copy_from(head / head.std(ddof=1))
    else:
        nn.init.zeros_(model.whiten.bias)
    return model
