"""Max and average pooling over sliding windows, even shares of a map, and random regions; max pooling taken back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .. import _C, devices, random, shard
from ..arguments import other_word, shown
from ..tensor import Array, Op, Tensor, apply
from .activation import led_past, relu_of
from .conv2d import Pair, pair
from .elementwise import binary, constant
from .gather import along, whole_numbers
from .reduce import Max
from .shape import reshaped

geometry = lru_cache(1024)(_C.Pool2d)
average_geometry = lru_cache(1024)(_C.AvgPool2d)
region_geometry = lru_cache(1024)(_C.RegionPool2d)
global_geometry = lru_cache(1024)(_C.GlobalPool)
places = lru_cache(1024)(_C.PoolPlaces)


class MaxPool2d(Op):
    """Of a ReLU's result, with activation "relu": nobody wins where nothing is above 0, so this gradient is that of both."""

    __slots__ = ("arguments", "wanted", "plan")

    def __init__(self, wanted: bool, *arguments: object) -> None:
        self.wanted = wanted  # the winners, also without a gradient
        self.arguments = arguments  # kernel, stride, padding, ceil_mode, dilation, activation

    def forward(self, x: Array) -> Array:
        self.plan = geometry(x.shape, *self.arguments)
        if not (self.wanted or self.needs[0]):
            return _C.maxpool2d_inference(self.plan, x)
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

    __slots__ = ("plan", "window")
    window: Pair

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
    __slots__ = ("size", "pseudo_random")

    def __init__(self, size: Pair, window: Pair, pseudo_random: bool) -> None:
        self.size, self.window, self.pseudo_random = size, window, pseudo_random

    def regions(self, x: Array) -> tuple[Array, _C.RegionPool2d]:
        generator = random.default_generator()
        state = generator.state_on(x.device)
        drawn = _C.FractionalRegions(x.shape, self.size, self.window, self.pseudo_random, generator.next_draw(), shard.offset(x.shape, 1))
        return _C.fractional_regions(drawn, state), region_geometry(x.shape, self.size, self.window, True)


class AdaptiveMaxPool2d(RegionMaxPool2d):
    __slots__ = ("size",)

    def __init__(self, size: Pair) -> None:
        self.size = size

    def regions(self, x: Array) -> tuple[Array, _C.RegionPool2d]:
        shares, self.window = even_shares(x.shape[2:], self.size)
        return shares.on(x.device), region_geometry(x.shape, self.size, self.window, False)


@lru_cache(256)
def even_shares(sizes: Pair, counts: Pair) -> tuple[devices.Copies, Pair]:
    """Begins and ends of the shares of both axes, as kernels read them, and the largest share."""
    axes = [np.arange(n)[:, None] * size + [0, size] for size, n in zip(sizes, counts)]
    borders = [np.stack([a[:, 0] // n, -(-a[:, 1] // n)]) for a, n in zip(axes, counts)]
    rows, columns = (int((b[1] - b[0]).max()) for b in borders)
    return devices.Copies(_C.constant(np.concatenate(borders, axis=1)[None].astype(np.int64))), (rows, columns)


@lru_cache(256)
def window_begins(counts: Pair, stride: Pair, padding: Pair) -> devices.Copies:
    """Where sliding windows begin, in the form of even_shares."""
    begins = np.concatenate([np.arange(n) * step - pad for n, step, pad in zip(counts, stride, padding)])
    return devices.Copies(_C.constant(np.stack([begins, begins])[None].astype(np.int64)))


def with_places(y: Tensor, winner: Array, regions: Array, width: int, window_width: int, dilation: Pair = (1, 1)) -> tuple[Tensor, Tensor]:
    """y, and where its elements lie in their maps of this width."""
    return y, Tensor(_C.pool_places(places(y.shape, width, window_width, dilation, regions.shape[0] != 1), winner, regions))


def over_regions(op: RegionMaxPool2d, x: Tensor, return_indices: bool) -> Any:
    y = apply(op, x)
    if not return_indices:
        return y
    winner, regions = op.saved
    return with_places(y, winner, regions, x.shape[3], op.window[1])


def max_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window, stride = kernel_size by default; ties go to the first, NaN wins, padding never does.

    (N, C, H, W) -> (N, C, P, Q), P = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1; ceil with ceil_mode. Elements of a
    window lie `dilation` apart. return_indices: (y, indices), int64 of y's shape: h W + w of each winner, what max_unpool2d takes; windows
    then hold at most 256 pixels, otherwise 256 rows and 256 columns. ValueError for windows that do not fit, padding of more than half a window.
    """
    window, pad, spread = pair(kernel_size, "kernel_size"), pair(padding, "padding"), pair(dilation, "dilation")
    steps = window if stride is None else pair(stride, "stride")
    if not return_indices:
        _refuse_long("max_pool2d: a window", window)
    if prod(window) > 256 and not return_indices:  # the winner of one call is kept as one byte
        rows = max_pool2d(x, (1, window[1]), (1, steps[1]), (0, pad[1]), (1, spread[1]), ceil_mode=ceil_mode)
        return max_pool2d(rows, (window[0], 1), (steps[0], 1), (pad[0], 0), (spread[0], 1), ceil_mode=ceil_mode)
    relu = relu_of(x) if prod(window) < 256 and not return_indices else None
    op = MaxPool2d(return_indices, window, steps, pad, ceil_mode, spread, "none" if relu is None else "relu")
    y = apply(op, x)
    if not return_indices:
        return y if relu is None else led_past(relu, y)
    (winner,) = op.saved
    return with_places(y, winner, window_begins(y.shape[2:], steps, pad).on(x.device), x.shape[3], window[1], spread)


def _refuse_long(what: str, size: Pair) -> None:
    """For the kernel's words name a limit of 256 pixels, which is that of one call."""
    if max(size) > 256:
        raise ValueError(f"{what} of {size[0]} x {size[1]} exceeds 256 rows or columns; 256 x 256 is the largest")


class MaxUnpool2d(Op):
    """Each value at its place of a map of zeros; of several at one place the last stays."""

    __slots__ = ("shape", "index", "plan")

    def __init__(self, shape: tuple[int, ...], index: np.ndarray) -> None:
        self.shape, self.index = shape, index

    def forward(self, x: Array) -> Array:
        maps = (*self.shape[:2], prod(self.shape[2:]))
        rows = (*x.shape[:2], prod(x.shape[2:]))
        flat = self.index.reshape(rows)
        order, last = np.broadcast_to(np.arange(rows[2]), rows), np.zeros(maps, np.int64)
        np.put_along_axis(last, flat, order, 2)
        kept = _C.from_numpy(np.take_along_axis(last, flat, 2) == order, x.device)
        zero = constant(0.0, x.dtype, x.device)._array
        values = _C.where(binary(rows, ()), kept, reshaped(x, rows), zero)  # not a product: infinity times 0 is NaN
        self.plan = along(maps, rows, 2, False)
        index = _C.from_numpy(flat, x.device)
        self.save(index)
        return reshaped(_C.gather_backward(self.plan, index, values), self.shape)

    def backward(self, dy: Array) -> tuple[Array | None, ...]:
        (index,) = self.saved
        return (reshaped(_C.gather_forward(self.plan, reshaped(dy, (*self.shape[:2], prod(self.shape[2:]))), index), self.index.shape),)


def max_unpool2d(
    x: Tensor,
    indices: Any,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """max_pool2d taken back: each value where `indices` (of max_pool2d's return_indices) say, zeros elsewhere (Zeiler, Fergus 2014).

    (N, C, P, Q) -> (N, C, H, W), H = (P - 1) stride - 2 padding + kernel, or output_size, (H, W) or (N, C, H, W), for maps that pooling cut
    off. Where windows overlapped and share a winner, the last value stays, in the order of the maps. Indices are looked at by the CPU.
    ValueError for indices of another shape, IndexError for those outside of the map.
    """
    window, pad = pair(kernel_size, "kernel_size"), pair(padding, "padding")
    steps = window if stride is None else pair(stride, "stride")
    if min(pad) < 0:
        raise ValueError(f"max_unpool2d: padding must not be negative, got {pad}")
    if x.ndim != 4:
        raise ValueError(f"max_unpool2d expects an input of shape (N, C, P, Q), got {x.shape}")
    size = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[2:], steps, pad, window))
    if output_size is not None:
        given = tuple(output_size)[-2:]
        if tuple(output_size) not in (given, (*x.shape[:2], *given)):
            raise ValueError(f"max_unpool2d: output_size must be (H, W) or {(*x.shape[:2], 'H', 'W')}, got {tuple(output_size)}")
        if len(given) != 2 or any(not n - s < g < n + s for n, g, s in zip(size, given, steps)):
            raise ValueError(
                f"max_unpool2d: output_size {tuple(output_size)} is further than stride {steps} from {size}, which input {x.shape} gives"
            )
        size = given
    if min(size) < 1:
        raise ValueError(f"max_unpool2d: input {x.shape}, kernel_size {window}, stride {steps} and padding {pad} give a map of {size}")
    values = whole_numbers(indices, prod(size), "max_unpool2d", negative=False)
    if values.shape != x.shape:
        raise ValueError(f"max_unpool2d: indices have shape {values.shape}, the input {x.shape}; they must be the same")
    return apply(MaxUnpool2d((*x.shape[:2], *size), values), x)


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
    divisor_override divides instead of the number of pixels. Raises ValueError for windows that do not fit and a divisor below 1.
    """
    if divisor_override is not None and divisor_override < 1:
        raise ValueError(f"avg_pool2d: divisor_override must be at least 1, got {divisor_override}")
    window = pair(kernel_size, "kernel_size")
    steps = window if stride is None else pair(stride, "stride")
    return apply(AvgPool2d(window, steps, pair(padding, "padding"), ceil_mode, count_include_pad, divisor_override or 0), x)


def adaptive_size(output_size: int | tuple[int | None, int | None] | None, x: Tensor) -> Pair:
    """output_size for both axes; None keeps the input's."""
    if x.ndim != 4:
        raise ValueError(f"adaptive pooling expects an input of shape (N, C, H, W), got {x.shape}")
    both: Any = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(both) != 2:
        raise TypeError(f"output_size must be an int, None or a pair of them, got {shown(output_size)}")
    return pair((x.shape[2] if both[0] is None else both[0], x.shape[3] if both[1] is None else both[1]), "output_size")


def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int | None, int | None] | None) -> Tensor:
    """The mean of P x Q even shares of each map: (N, C, H, W) -> (N, C, P, Q); None keeps H or W.

    Output p has rows floor(p H / P) ... ceil((p + 1) H / P) - 1; 1 is the global average (Lin, Chen, Yan 2013).
    """
    size = adaptive_size(output_size, x)
    return apply(GlobalAvgPool2d() if size == (1, 1) else AvgPool2d(size), x)


def adaptive_max_pool2d(x: Tensor, output_size: int | tuple[int | None, int | None] | None, *, return_indices: bool = False) -> Any:
    """The largest value of P x Q even shares of each map, the shares of adaptive_avg_pool2d; NaN wins, ties go to the first.

    return_indices: (y, indices), h W + w of each winner; shares then hold at most 256 pixels (unless output_size is 1), otherwise 256 rows
    and 256 columns.
    """
    size = adaptive_size(output_size, x)
    if size == (1, 1):
        op = Max((2, 3), True)
        if 0 in x.shape[2:]:
            raise ValueError(f"adaptive_max_pool2d: input {x.shape} has no pixels")
        y = apply(op, x)
        return (y, Tensor(op.saved[0])) if return_indices else y
    if min(size) < 1:
        raise ValueError(f"adaptive_max_pool2d: output_size must be at least 1, got {size}")
    if max(size) > 1 << 20:
        _C.empty((*x.shape[:2], *size), x.dtype, x.device)  # before the borders of as many shares are computed: OutOfMemoryError
    share = even_shares(x.shape[2:], size)[1]
    if not return_indices:
        _refuse_long("adaptive_max_pool2d: a share", share)
    if prod(share) > 256 and not return_indices:
        x = apply(AdaptiveMaxPool2d((x.shape[2], size[1])), x)
    return over_regions(AdaptiveMaxPool2d(size), x, return_indices)


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
    return_indices: bool = False,
    regions: str = "random",
) -> Any:
    """Max pooling over regions that lie at random (Graham, "Fractional max-pooling", 2014): (N, C, H, W) -> (N, C, P, Q).

    The output has output_size, or floor(output_ratio * H) rows. Each of P regions has kernel_size rows; the first begins at 0, the last ends
    with the map, and with a = (H - kernel_size) / (P - 1) the others begin
    random: after steps of floor(a) and floor(a) + 1 in random order; pseudo-random: at floor(a (i + u)) - floor(a u), u uniform (PyTorch's).
    Each sample draws its own regions, the same for all channels, from the thread's generator (fastnn.seed), in evaluation too:
    predictions are averaged over several calls. The same draw gives the same regions for a sample, whatever the batch it lies in.
    return_indices: (y, indices), h W + w of each winner.
    """
    if regions not in ("random", "pseudo-random"):
        raise other_word("fractional_max_pool2d", "regions", regions, '"random" or "pseudo-random"')
    if x.ndim != 4:
        raise ValueError(f"fractional_max_pool2d expects an input of shape (N, C, H, W), got {x.shape}")
    if (output_size is None) == (output_ratio is None):
        raise ValueError("fractional_max_pool2d: give either output_size or output_ratio")
    if output_ratio is not None:
        ratios = checked_ratios("fractional_max_pool2d", output_ratio)
        output_size = int(x.shape[2] * ratios[0]), int(x.shape[3] * ratios[1])
    assert output_size is not None
    size, window = pair(output_size, "output_size"), pair(kernel_size, "kernel_size")
    return over_regions(FractionalMaxPool2d(size, window, regions == "pseudo-random"), x, return_indices)
