"""Residual networks with torchvision's names (He, Zhang, Ren, Sun 2015)."""

from __future__ import annotations

from .. import nn, ops
from ..tensor import Tensor


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)); each BN runs with what follows it as one kernel."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.bn1(self.conv1(x), None, "relu")
        y = self.bn2(self.conv2(y), shortcut, "relu")
        return y


class ResNet(nn.Module):
    """Stem, stages of basic blocks (the first of each later stage halves the map), global average, linear.

    imagenet_stem: 7x7 stride 2 and a 3x3 max pool of stride 2, instead of one 3x3 convolution.
    Convolutions start as kaiming_normal(fan_out), as torchvision's.
    """

    def __init__(self, blocks: tuple[int, ...], widths: tuple[int, ...], num_classes: int, in_channels: int, imagenet_stem: bool) -> None:
        super().__init__()
        self.imagenet_stem = imagenet_stem
        channels = widths[0]
        if imagenet_stem:
            self.conv1 = nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.stages = len(blocks)
        for i, (count, width) in enumerate(zip(blocks, widths)):
            stage = []
            for j in range(count):
                stage.append(BasicBlock(channels, width, stride=2 if i > 0 and j == 0 else 1))
                channels = width
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x), None, "relu")
        if self.imagenet_stem:
            x = self.maxpool(x)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        logits: Tensor = self.fc(ops.flatten(self.avgpool(x)))
        return logits


def resnet20(num_classes: int = 10, input_shape: tuple[int, ...] = (3, 32, 32)) -> ResNet:
    """Three stages of three blocks at 16, 32, 64 channels, 1x1 shortcuts: the CIFAR form."""
    return ResNet((3, 3, 3), (16, 32, 64), num_classes, input_shape[0], imagenet_stem=False)


def resnet18(num_classes: int = 1000, input_shape: tuple[int, ...] = (3, 224, 224)) -> ResNet:
    """Four stages of two blocks at 64, 128, 256, 512 channels: the ImageNet form, torchvision's names and shapes."""
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), num_classes, input_shape[0], imagenet_stem=True)
