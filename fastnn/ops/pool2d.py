"""Max and average pooling over sliding windows, even shares of a map, and random regions."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .. import _C, devices, random
from ..tensor import Array, Op, Tensor, apply
from .conv2d import Pair, pair
from .reduce import max

geometry = lru_cache(1024)(_C.Pool2d)
average_geometry = lru_cache(1024)(_C.AvgPool2d)
region_geometry = lru_cache(1024)(_C.RegionPool2d)
global_geometry = lru_cache(1024)(_C.GlobalPool)


class MaxPool2d(Op):
    __slots__ = ("arguments", "plan")

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments  # kernel, stride, padding, ceil_mode

    def forward(self, x: Array) -> Array:
        self.plan = geometry(x.shape, *self.arguments)
        y, winner = _C.maxpool2d_forward(self.plan, x)
        self.save(winner)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (winner,) = self.saved
        return (_C.maxpool2d_backward(self.plan, winner, dy),)


class GlobalAvgPool2d(Op):
    __slots__ = ("plan",)

    def forward(self, x: Array) -> Array:
        self.plan = global_geometry(x.shape)
        self.save()
        return _C.global_avgpool_forward(self.plan, x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (_C.global_avgpool_backward(self.plan, dy),)


class AvgPool2d(Op):
    """Over sliding windows, or with output_size alone, over even shares."""

    __slots__ = ("arguments", "plan")

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments  # kernel, stride, padding, ceil_mode, count_include_pad, divisor_override; or output_size

    def forward(self, x: Array) -> Array:
        self.plan = average_geometry(x.shape, *self.arguments)
        self.save()
        return _C.avgpool2d_forward(self.plan, x)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        return (_C.avgpool2d_backward(self.plan, dy),)


class RegionMaxPool2d(Op):
    """Over listed regions: what a subclass lists for an input."""

    __slots__ = ("plan",)

    def regions(self, x: Array) -> tuple[Array, _C.RegionPool2d]:
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        regions, self.plan = self.regions(x)
        y, winner = _C.regionpool2d_forward(self.plan, x, regions)
        self.save(winner, regions)
        return y

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        winner, regions = self.saved
        return (_C.regionpool2d_backward(self.plan, winner, regions, dy),)


class FractionalMaxPool2d(RegionMaxPool2d):
    __slots__ = ("size", "window", "pseudo_random")

    def __init__(self, size: Pair, window: Pair, pseudo_random: bool) -> None:
        self.size, self.window, self.pseudo_random = size, window, pseudo_random

    def regions(self, x: Array) -> tuple[Array, _C.RegionPool2d]:
        generator = random.default_generator()
        state = generator.state_on(x.device)
        drawn = _C.FractionalRegions(x.shape, self.size, self.window, self.pseudo_random, generator.next_draw())
        return _C.fractional_regions(drawn, state), region_geometry(x.shape, self.size, self.window, True)


class AdaptiveMaxPool2d(RegionMaxPool2d):
    __slots__ = ("size",)

    def __init__(self, size: Pair) -> None:
        self.size = size

    def regions(self, x: Array) -> tuple[Array, _C.RegionPool2d]:
        shares, window = even_shares(x.shape[2:], self.size)
        return shares.on(x.device), region_geometry(x.shape, self.size, window, False)


@lru_cache(256)
def even_shares(sizes: Pair, counts: Pair) -> tuple[devices.Copies, Pair]:
    """Begins and ends of the shares of both axes, as kernels read them, and the largest share."""
    axes = [np.arange(n)[:, None] * size + [0, size] for size, n in zip(sizes, counts)]
    borders = [np.stack([a[:, 0] // n, -(-a[:, 1] // n)]) for a, n in zip(axes, counts)]
    rows, columns = (int((b[1] - b[0]).max()) for b in borders)
    return devices.Copies(_C.from_numpy(np.concatenate(borders, axis=1)[None].astype(np.int64))), (rows, columns)


def max_pool2d(
    x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0, *, ceil_mode: bool = False
) -> Tensor:
    """The largest value of each window, stride = kernel_size by default; ties go to the first, NaN wins, padding never does.

    (N, C, H, W) -> (N, C, P, Q), P = floor((H + 2 padding - kernel) / stride) + 1; ceil with ceil_mode. Windows hold at most 256 pixels.
    """
    window = pair(kernel_size, "kernel_size")
    steps = window if stride is None else pair(stride, "stride")
    return apply(MaxPool2d(window, steps, pair(padding, "padding"), ceil_mode), x)


def avg_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The sum of each window divided by its number of pixels, stride = kernel_size by default.

    (N, C, H, W) -> (N, C, P, Q), P = floor((H + 2 padding - kernel) / stride) + 1; ceil with ceil_mode (the last window starts inside the map
    or its upper padding). Padding is 0 and counts, unless count_include_pad=False; what ceil_mode reaches beyond it never counts.
    divisor_override divides instead of the number of pixels. Raises ValueError for windows that do not fit and a divisor of 0.
    """
    if divisor_override == 0:
        raise ValueError("avg_pool2d: divisor_override must not be 0")
    window = pair(kernel_size, "kernel_size")
    steps = window if stride is None else pair(stride, "stride")
    return apply(AvgPool2d(window, steps, pair(padding, "padding"), ceil_mode, count_include_pad, divisor_override or 0), x)


def adaptive_size(output_size: int | tuple[int | None, int | None] | None, x: Tensor) -> Pair:
    """output_size for both axes; None keeps the input's."""
    if x.ndim != 4:
        raise ValueError(f"adaptive pooling expects an input of shape (N, C, H, W), got {x.shape}")
    if output_size is None or isinstance(output_size, int):
        output_size = (output_size, output_size)
    if not isinstance(output_size, (tuple, list)) or len(output_size) != 2:
        raise TypeError(f"output_size must be an int, None or a pair of them, got {output_size!r}")
    return pair(
        (x.shape[2] if output_size[0] is None else output_size[0], x.shape[3] if output_size[1] is None else output_size[1]), "output_size"
    )


def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int | None, int | None] | None) -> Tensor:
    """The mean of P x Q even shares of each map: (N, C, H, W) -> (N, C, P, Q); None keeps H or W.

    Output p has rows floor(p H / P) ... ceil((p + 1) H / P) - 1; 1 is the global average (Lin, Chen, Yan 2013).
    """
    size = adaptive_size(output_size, x)
    return apply(GlobalAvgPool2d() if size == (1, 1) else AvgPool2d(size), x)


def adaptive_max_pool2d(x: Tensor, output_size: int | tuple[int | None, int | None] | None) -> Tensor:
    """The largest value of P x Q even shares of each map, the shares of adaptive_avg_pool2d; NaN wins, ties go to the first.

    Shares hold at most 256 pixels, unless output_size is 1.
    """
    size = adaptive_size(output_size, x)
    if size == (1, 1):
        return max(x, (2, 3), keepdims=True)
    if min(size) < 1:
        raise ValueError(f"adaptive_max_pool2d: output_size must be at least 1, got {size}")
    return apply(AdaptiveMaxPool2d(size), x)


def checked_ratios(what: str, value: float | tuple[float, float]) -> tuple[float, float]:
    """An output_ratio of each direction."""
    ratios = value if isinstance(value, (tuple, list)) else (value, value)
    if len(ratios) != 2 or not all(0 < r < 1 for r in ratios):
        raise ValueError(f"{what}: output_ratio must lie between 0 and 1, got {value}")
    return ratios[0], ratios[1]


def fractional_max_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    output_size: int | Pair | None = None,
    output_ratio: float | tuple[float, float] | None = None,
    *,
    regions: str = "random",
) -> Tensor:
    """Max pooling over regions that lie at random (Graham, "Fractional max-pooling", 2014): (N, C, H, W) -> (N, C, P, Q).

    The output has output_size, or floor(output_ratio * H) rows. Each of P regions has kernel_size rows; the first begins at 0, the last ends
    with the map, and with a = (H - kernel_size) / (P - 1) the others begin
    random: after steps of floor(a) and floor(a) + 1 in random order; pseudo-random: at floor(a (i + u)) - floor(a u), u uniform (PyTorch's).
    Each sample draws its own regions, the same for all channels, from the thread's generator (fastnn.seed), in evaluation too:
    predictions are averaged over several calls. The same draw gives the same regions for a sample, whatever the batch it lies in.
    """
    if regions not in ("random", "pseudo-random"):
        raise ValueError(f'fractional_max_pool2d: regions must be "random" or "pseudo-random", got {regions!r}')
    if x.ndim != 4:
        raise ValueError(f"fractional_max_pool2d expects an input of shape (N, C, H, W), got {x.shape}")
    if (output_size is None) == (output_ratio is None):
        raise ValueError("fractional_max_pool2d: give either output_size or output_ratio")
    if output_ratio is not None:
        ratios = checked_ratios("fractional_max_pool2d", output_ratio)
        output_size = int(x.shape[2] * ratios[0]), int(x.shape[3] * ratios[1])
    assert output_size is not None
    size, window = pair(output_size, "output_size"), pair(kernel_size, "kernel_size")
    return apply(FractionalMaxPool2d(size, window, regions == "pseudo-random"), x)
