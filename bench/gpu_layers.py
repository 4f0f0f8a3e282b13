"""Convolutions by which a GPU is judged: of ResNet-18, ResNet-50 (stride in the 3x3) and airbench94, at a GPU's batch."""

from __future__ import annotations

from collections.abc import Iterator

from .layers import ConvLayer

RESNET_BATCH, AIRBENCH_BATCH = 64, 2000


def gpu_layers() -> list[ConvLayer]:
    """Each geometry once."""
    return list(dict.fromkeys([*resnet("resnet18", (2, 2, 2, 2), False), *resnet("resnet50", (3, 4, 6, 3), True), *airbench94()]))


def square(net: str, batch: int, pixels: int, channels: tuple[int, int], window: int, stride: int = 1, pad: int | None = None) -> ConvLayer:
    pad = window // 2 if pad is None else pad
    weight = (channels[1], channels[0], window, window)
    return ConvLayer(
        f"{net} {batch} x", (batch, channels[0], pixels, pixels), weight, (stride, stride), (pad, pad), False, channels[0] == 3
    )


def resnet(net: str, blocks: tuple[int, ...], bottleneck: bool) -> Iterator[ConvLayer]:
    def conv(pixels: int, *channels: int, window: int, stride: int = 1) -> ConvLayer:
        return square(net, RESNET_BATCH, pixels, (channels[0], channels[1]), window, stride)

    yield conv(224, 3, 64, window=7, stride=2)
    pixels, channels = 56, 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        outputs = 4 * width if bottleneck else width
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            if bottleneck:
                yield conv(pixels, channels, width, window=1)
                yield conv(pixels, width, width, window=3, stride=stride)
                yield conv(pixels // stride, width, outputs, window=1)
            else:
                yield conv(pixels, channels, width, window=3, stride=stride)
                yield conv(pixels // stride, width, width, window=3)
            if channels != outputs:
                yield conv(pixels, channels, outputs, window=1, stride=stride)
            pixels, channels = pixels // stride, outputs


def airbench94() -> Iterator[ConvLayer]:
    yield square("airbench94", AIRBENCH_BATCH, 32, (3, 24), 2, pad=0)
    channels, pixels = 24, 31
    for width in (64, 256, 256):
        yield square("airbench94", AIRBENCH_BATCH, pixels, (channels, width), 3)
        pixels //= 2
        yield square("airbench94", AIRBENCH_BATCH, pixels, (width, width), 3)
        channels = width
