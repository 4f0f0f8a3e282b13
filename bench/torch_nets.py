"""The reference nets in PyTorch, with the layers, names and shapes of fastnn.models: state_dicts go across unchanged."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mlp() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in ((784, 512), (512, 256)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(256, 10))


def lenet() -> nn.Sequential:
    features = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))


def vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10))


class BasicBlock(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += shortcut
        return self.relu(y)  # type: ignore[no-any-return]


def resnet(blocks: tuple[int, ...], widths: tuple[int, ...], classes: int, imagenet_stem: bool) -> nn.Module:
    channels = widths[0]
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, channels, 7, 2, 3, bias=False) if imagenet_stem else nn.Conv2d(3, channels, 3, 1, 1, bias=False))
    model.add_module("bn1", nn.BatchNorm2d(channels))
    model.add_module("relu", nn.ReLU(inplace=True))
    if imagenet_stem:
        model.add_module("maxpool", nn.MaxPool2d(3, 2, 1))
    for i, (count, width) in enumerate(zip(blocks, widths)):
        stage = nn.Sequential()
        for j in range(count):
            stage.append(BasicBlock(channels, width, 2 if i > 0 and j == 0 else 1))
            channels = width
        model.add_module(f"layer{i + 1}", stage)
    model.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc", nn.Linear(channels, classes))
    return model


def resnet20() -> nn.Module:
    return resnet((3, 3, 3), (16, 32, 64), 10, imagenet_stem=False)


def resnet18() -> nn.Module:
    return resnet((2, 2, 2, 2), (64, 128, 256, 512), 1000, imagenet_stem=True)


def create(name: str) -> nn.Module:
    torch.manual_seed(0)
    makers = {"mlp": mlp, "lenet": lenet, "vgg": vgg, "resnet20": resnet20, "resnet18": resnet18}
    return makers[name]()
