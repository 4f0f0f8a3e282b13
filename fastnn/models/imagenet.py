"""The networks that won ImageNet before residuals, with torchvision's names: AlexNet and VGG-16."""

from __future__ import annotations

from .. import nn, ops
from ..arguments import instance
from ..tensor import Tensor
from .checks import network

_ALEXNET = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))  # channels, window, stride, padding
_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions before the pool


class ConvNet(nn.Module):
    """classifier(flatten(features(x)))."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        for name, part in (("features", features), ("classifier", classifier)):
            setattr(self, name, instance("ConvNet", name, part, nn.Module, "a Module"))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(ops.flatten(self.features(x)))
        return logits


@network
def alexnet(num_classes: int = 1000, input_shape: tuple[int, ...] = (3, 224, 224), hidden: int = 4096, dropout: float = 0.5) -> ConvNet:
    """Five convolutions with three overlapping 3x3 pools of stride 2, two hidden layers behind dropout. H and W of at least 63.

    Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014: the form of torchvision, without the groups and the local
    response normalisation of Krizhevsky, Sutskever, Hinton 2012. torchvision averages maps of other sizes to 6 x 6 before the classifier; here
    that is as large as the maps of `input_shape`, the same at 224.
    """
    channels, *size = input_shape
    layers: list[nn.Module] = []
    for i, (width, window, stride, padding) in enumerate(_ALEXNET):
        layers += [nn.Conv2d(channels, width, window, stride=stride, padding=padding), nn.ReLU()]
        channels, size = width, [(n + 2 * padding - window) // stride + 1 for n in size]
        if i in (0, 1, 4):
            layers.append(nn.MaxPool2d(3, stride=2))
            size = [(n - 3) // 2 + 1 for n in size]
    _check("alexnet", size, 63, input_shape)
    drop, rest = nn.Dropout(dropout), nn.Dropout(dropout)
    head = [drop, nn.Linear(channels * size[0] * size[1], hidden), nn.ReLU(), rest, nn.Linear(hidden, hidden), nn.ReLU()]
    return ConvNet(nn.Sequential(*layers), nn.Sequential(*head, nn.Linear(hidden, num_classes)))


@network
def vgg16(
    num_classes: int = 1000,
    input_shape: tuple[int, ...] = (3, 224, 224),
    hidden: int = 4096,
    dropout: float = 0.5,
    batch_norm: bool = False,
) -> ConvNet:
    """2, 2, 3, 3, 3 convolutions 3x3 at 64, 128, 256, 512, 512 channels, each group with a pool of 2 behind it, two hidden layers. H and W of at
    least 32.

    Configuration D of Simonyan, Zisserman 2014; batch_norm: torchvision's vgg16_bn. Convolutions start as kaiming_normal(fan_out), linear layers
    as normal(0, 0.01), biases at 0. torchvision averages maps of other sizes to 7 x 7 before the classifier; here that is as large as the
    maps of `input_shape`, the same at 224.
    """
    channels, *size = input_shape
    size = [n // 32 for n in size]
    _check("vgg16", size, 32, input_shape)
    layers: list[nn.Module] = []
    for width, count in _VGG16:
        for _ in range(count):
            norm = [nn.BatchNorm2d(width)] if batch_norm else []
            layers += [nn.Conv2d(channels, width, 3, padding=1), *norm, nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    sizes = (channels * size[0] * size[1], hidden, hidden)
    head: list[nn.Module] = []
    for n, m in zip(sizes, sizes[1:]):
        head += [nn.Linear(n, m), nn.ReLU(), nn.Dropout(dropout)]
    model = ConvNet(nn.Sequential(*layers), nn.Sequential(*head, nn.Linear(hidden, num_classes)))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model


def _check(name: str, size: list[int], least: int, input_shape: tuple[int, ...]) -> None:
    if min(size) < 1:
        raise ValueError(f"{name}: its pools need maps of at least {least} x {least}, got {input_shape[1]} x {input_shape[2]}")
