"""Residual networks with torchvision's names (He, Zhang, Ren, Sun 2015)."""

from __future__ import annotations

from .. import nn, ops
from ..tensor import Tensor
from .checks import network


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)); each convolution runs with what follows it as one kernel."""

    expansion = 1  # channels of the output / width

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y: Tensor = nn.in_turn([self.conv1, self.bn1], x, activation="relu")
        y = nn.in_turn([self.conv2, self.bn2], y, residual=shortcut, activation="relu")
        return y

    def zero_init(self) -> None:
        """The block then starts as its shortcut (Goyal et al. 2017)."""
        nn.init.zeros_(self.bn2.weight)


class Bottleneck(nn.Module):
    """1x1 to `width` channels, 3x3, 1x1 to 4 width channels, plus the shortcut; the 3x3 has the stride, as in torchvision (ResNet "v1.5")."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y: Tensor = nn.in_turn([self.conv1, self.bn1], x, activation="relu")
        y = nn.in_turn([self.conv2, self.bn2], y, activation="relu")
        y = nn.in_turn([self.conv3, self.bn3], y, residual=shortcut, activation="relu")
        return y

    def zero_init(self) -> None:
        nn.init.zeros_(self.bn3.weight)


class PreactivationBlock(nn.Module):
    """conv2(relu(bn2(conv1(relu(bn1(x)))))) + shortcut: BN and ReLU before each convolution, none behind (He, Zhang, Ren, Sun, "Identity
    mappings in deep residual networks", 2016). A shortcut that changes shape is a 1x1 convolution of relu(bn1(x))."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        active: Tensor = nn.in_turn([self.bn1], x, activation="relu")
        shortcut = x if self.downsample is None else self.downsample(active)
        y: Tensor = self.conv2(nn.in_turn([self.conv1, self.bn2], active, activation="relu")) + shortcut
        return y

    def zero_init(self) -> None:
        nn.init.zeros_(self.conv2.weight)


Block = type[BasicBlock] | type[Bottleneck] | type[PreactivationBlock]


def _shortcut(channels: int, width: int, stride: int) -> nn.Module | None:
    if stride == 1 and channels == width:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))


class ResNet(nn.Module):
    """Stem, stages of blocks (the first of each later stage halves the map), global average, linear.

    imagenet_stem: 7x7 stride 2 and a 3x3 max pool of stride 2, instead of one 3x3 convolution.
    block: BasicBlock, Bottleneck or PreactivationBlock (bn1 and its ReLU then stand behind the last stage, not in the stem).
    zero_init_residual: the last gamma of each block (the last convolution of a PreactivationBlock) starts at 0, so that each block starts
    as its shortcut.
    Convolutions start as kaiming_normal(fan_out), as torchvision's.
    """

    @network
    def __init__(
        self,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int,
        in_channels: int,
        imagenet_stem: bool,
        block: Block = BasicBlock,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__()
        if len(blocks) != len(widths) or not blocks:
            raise ValueError(f"ResNet: {len(blocks)} stages of blocks and {len(widths)} widths; expected as many, and at least 1")
        self.imagenet_stem, self.preactivation = imagenet_stem, block is PreactivationBlock
        channels = widths[0]
        if imagenet_stem:
            self.conv1 = nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[-1] if self.preactivation else channels)
        self.stages = len(blocks)
        for i, (count, width) in enumerate(zip(blocks, widths)):
            stage = []
            for j in range(count):
                stage.append(block(channels, width, stride=2 if i > 0 and j == 0 else 1))
                channels = width * block.expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        for module in self.modules():
            if zero_init_residual and isinstance(module, (BasicBlock, Bottleneck, PreactivationBlock)):
                module.zero_init()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x) if self.preactivation else nn.in_turn([self.conv1, self.bn1], x, activation="relu")
        if self.imagenet_stem:
            x = self.maxpool(x)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        if self.preactivation:
            x = nn.in_turn([self.bn1], x, activation="relu")
        logits: Tensor = self.fc(ops.flatten(self.avgpool(x)))
        return logits


@network
def resnet20(num_classes: int = 10, input_shape: tuple[int, ...] = (3, 32, 32), **options: bool) -> ResNet:
    """Three stages of three blocks at 16, 32, 64 channels, 1x1 shortcuts: the CIFAR form. Options: preactivation, zero_init_residual."""
    return _cifar(3, num_classes, input_shape, **options)


@network
def resnet32(num_classes: int = 10, input_shape: tuple[int, ...] = (3, 32, 32), **options: bool) -> ResNet:
    """resnet20 with five blocks in each stage."""
    return _cifar(5, num_classes, input_shape, **options)


@network
def resnet56(num_classes: int = 10, input_shape: tuple[int, ...] = (3, 32, 32), **options: bool) -> ResNet:
    """resnet20 with nine blocks in each stage."""
    return _cifar(9, num_classes, input_shape, **options)


@network
def resnet18(num_classes: int = 1000, input_shape: tuple[int, ...] = (3, 224, 224), *, zero_init_residual: bool = False) -> ResNet:
    """Four stages of two blocks at 64, 128, 256, 512 channels: the ImageNet form, torchvision's names and shapes."""
    return _imagenet((2, 2, 2, 2), num_classes, input_shape, BasicBlock, zero_init_residual)


@network
def resnet34(num_classes: int = 1000, input_shape: tuple[int, ...] = (3, 224, 224), *, zero_init_residual: bool = False) -> ResNet:
    """resnet18 with 3, 4, 6, 3 blocks."""
    return _imagenet((3, 4, 6, 3), num_classes, input_shape, BasicBlock, zero_init_residual)


@network
def resnet50(num_classes: int = 1000, input_shape: tuple[int, ...] = (3, 224, 224), *, zero_init_residual: bool = False) -> ResNet:
    """resnet34 with bottlenecks for blocks: 256, 512, 1024, 2048 channels between them."""
    return _imagenet((3, 4, 6, 3), num_classes, input_shape, Bottleneck, zero_init_residual)


def _cifar(
    blocks: int, num_classes: int, input_shape: tuple[int, ...], preactivation: bool = False, zero_init_residual: bool = False
) -> ResNet:
    block: Block = PreactivationBlock if preactivation else BasicBlock
    return ResNet((blocks,) * 3, (16, 32, 64), num_classes, input_shape[0], False, block, zero_init_residual)


def _imagenet(blocks: tuple[int, ...], num_classes: int, input_shape: tuple[int, ...], block: Block, zero_init_residual: bool) -> ResNet:
    return ResNet(blocks, (64, 128, 256, 512), num_classes, input_shape[0], True, block, zero_init_residual)
