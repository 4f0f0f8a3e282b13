"""The convolutions that are tested, each as the fields of the struct Conv2d: the layers of networks, a selection that covers all pairs
(and most triples) of values named in CONV2D_VALUES, and random ones without any symmetry, from a seed that the header of the run prints."""

from __future__ import annotations

import itertools
import os
import random as shuffler
from typing import Any

import numpy as np
import reference

Geometry = tuple[Any, ...]  # x_shape, w_shape, stride, pad_before, pad_after, dilation, groups


def y_shape_of(geometry: Geometry) -> tuple[int, ...]:
    x_shape, w_shape, stride, before, after, dilation, _ = geometry
    sizes = [reference.conv2d_size(x_shape[2 + i], w_shape[2 + i], stride[i], before[i], after[i], dilation[i]) for i in range(2)]
    return (x_shape[0], w_shape[0], *sizes)


def same_padding(window: int, dilation: int) -> tuple[int, int]:
    total = (window - 1) * dilation
    return total // 2, total - total // 2


def square_geometry(
    n: int, c: int, k: int, size: tuple[int, int], r: int, stride: int, padding: str, dilation: int, groups: int | str
) -> Geometry:
    g = c if groups == "C" else int(groups)
    before, after = {"0": (0, 0), "same": same_padding(r, dilation), "R": (r, r)}[padding]
    return (n, c, *size), (k, c // g, r, r), (stride, stride), (before, before), (after, after), (dilation, dilation), g


def is_possible(geometry: Geometry, most_products: float = 2e7) -> bool:
    x_shape, w_shape, *_, groups = geometry
    y_shape = y_shape_of(geometry)
    divides = x_shape[1] % groups == 0 and w_shape[0] % groups == 0 and w_shape[1] > 0
    return divides and min(y_shape[2:]) > 0 and np.prod(y_shape) * np.prod(w_shape[1:]) <= most_products


CONV2D_VALUES: list[list[Any]] = [
    [1, 2, 5],  # N
    [1, 3, 16, 17, 24, 64],  # C
    [1, 10, 16, 24, 33, 64],  # K
    [(1, 1), (3, 3), (7, 7), (15, 15), (31, 31), (32, 32), (5, 9)],  # H x W
    [1, 2, 3, 5, 7],  # R
    [1, 2, 3],  # stride
    ["0", "same", "R"],  # padding
    [1, 2],  # dilation
    [1, 2, "C"],  # groups
]


def covering_geometries(count: int) -> list[Geometry]:
    """Greedy: each next geometry brings the most pairs and triples of values not seen together before."""
    draw = shuffler.Random(0)
    seen: set[tuple[Any, ...]] = set()
    chosen: list[Geometry] = []
    while len(chosen) < count:
        best: tuple[int, Any, Any] = (-1, None, None)
        for _ in range(24):
            values = [draw.choice(options) for options in CONV2D_VALUES]
            geometry = square_geometry(*values)
            if not is_possible(geometry) or geometry in chosen:
                continue
            named = list(enumerate(values))
            news = {t for size in (2, 3) for t in itertools.combinations(named, size)} - seen
            gain = sum(10 if len(t) == 2 else 1 for t in news)
            best = max(best, (gain, news, geometry), key=lambda b: b[0])
        seen |= best[1]
        chosen.append(best[2])
    return chosen


def random_geometries(count: int, seed: int) -> list[Geometry]:
    """No symmetry: windows, strides, dilations and paddings differ by direction and side."""
    draw = shuffler.Random(seed)
    chosen: list[Geometry] = []
    while len(chosen) < count:
        groups, pair = (
            draw.choice([1, 1, 1, 2, 3, 8]),
            lambda low, high: (draw.randint(low, high), draw.randint(low, high)),
        )
        c, k = groups * draw.randint(1, 40 // groups + 1), groups * draw.randint(1, 70 // groups)
        x_shape, w_shape = (draw.randint(1, 6), c, *pair(1, 20)), (k, c // groups, *pair(1, 5))
        geometry = (x_shape, w_shape, pair(1, 3), pair(0, 3), pair(0, 3), pair(1, 3), groups)
        if is_possible(geometry, 1e7):
            chosen.append(geometry)
    return chosen


def plain_geometry(n: int, c: int, size: int, k: int, r: int, stride: int = 1, groups: int = 1) -> Geometry:
    """The layers that networks are made of."""
    pad = r // 2
    return (n, c, size, size), (k, c // groups, r, r), (stride, stride), (pad, pad), (pad, pad), (1, 1), groups


NETWORK_GEOMETRIES = [
    plain_geometry(8, 1, 28, 16, 5),
    plain_geometry(4, 3, 32, 16, 3),
    plain_geometry(4, 3, 32, 64, 3),
    plain_geometry(1, 3, 65, 64, 7, 2),
    plain_geometry(8, 16, 32, 16, 3),
    plain_geometry(9, 32, 16, 32, 3),
    plain_geometry(9, 64, 8, 64, 3),
    plain_geometry(4, 64, 14, 64, 3),
    plain_geometry(4, 128, 7, 128, 3),
    plain_geometry(4, 64, 17, 128, 3, 2),
    plain_geometry(8, 64, 16, 128, 1),
    plain_geometry(8, 64, 16, 128, 1, 2),
    plain_geometry(4, 64, 16, 64, 3, 1, 64),
    plain_geometry(4, 64, 16, 64, 3, 1, 4),
    plain_geometry(0, 16, 8, 16, 3),
    plain_geometry(3, 24, 1, 33, 1),
]
NARROW_GROUPS = [  # neither depthwise nor wide enough for the direct kernels
    plain_geometry(2, 16, 9, 16, 3, 1, 8),
    plain_geometry(2, 8, 12, 16, 3, 2, 8),
    plain_geometry(3, 12, 7, 36, 5, 1, 12),
    plain_geometry(2, 34, 8, 6, 1, 1, 2),
    plain_geometry(1, 30, 11, 4, 7, 2, 2),
]
LONG_SUMS = [  # of several stretches on a GPU, of several passes over the channels on a CPU
    plain_geometry(2, 256, 5, 16, 3),
    plain_geometry(1, 2100, 3, 33, 1),
]
EACH_ALGORITHM = [  # about the smallest problem of each, with a rest behind its vectors or tiles where it takes any (test_algorithms.py)
    plain_geometry(2, 19, 5, 19, 3, 1, 19),  # depthwise
    ((2, 9, 5, 6), (6, 3, 3, 3), (1, 1), (1, 1), (1, 1), (1, 1), 3),  # plain
    ((2, 1, 9, 8), (17, 1, 3, 3), (1, 1), (1, 1), (1, 1), (1, 1), 1),  # direct_small_c, on tiles too
    ((2, 3, 7, 6), (17, 3, 3, 3), (1, 1), (1, 1), (1, 1), (1, 1), 1),  # windows
    ((2, 10, 4, 5), (12, 5, 3, 3), (1, 1), (1, 1), (1, 1), (2, 1), 2),  # direct_taps3: pairs of bfloat16
    ((1, 10, 4, 5), (12, 5, 3, 3), (1, 1), (1, 1), (1, 1), (2, 1), 2),  # and of one image, which has none
    ((2, 10, 5, 7), (12, 5, 2, 2), (2, 1), (1, 0), (0, 1), (1, 1), 2),  # direct
    ((1, 10, 5, 7), (12, 5, 2, 2), (2, 1), (1, 0), (0, 1), (1, 1), 2),
    ((2, 17, 6, 7), (18, 17, 8, 9), (1, 1), (4, 4), (3, 4), (1, 1), 1),  # of two parts
    ((1, 32, 15, 12), (32, 32, 3, 3), (1, 1), (1, 1), (1, 1), (1, 1), 1),  # winograd2
    ((8, 32, 6, 6), (33, 32, 3, 3), (1, 1), (1, 1), (1, 1), (1, 1), 1),  # winograd4
    ((65, 16, 8, 5), (16, 16, 3, 3), (1, 1), (1, 1), (1, 1), (1, 1), 1),  # winograd4_narrow
    ((64, 16, 15, 5), (16, 16, 3, 3), (2, 2), (1, 1), (2, 1), (1, 1), 1),  # winograd_strided
    ((1, 16, 45, 47), (16, 16, 3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 1),  # and of one image, whose pixels make no pairs
    ((2, 3, 20, 43), (32, 3, 7, 7), (2, 2), (0, 3), (0, 5), (1, 1), 1),  # winograd_first
    ((3, 5, 7, 9), (4, 5, 6, 8), (1, 1), (0, 0), (0, 1), (1, 1), 1),  # columns
]
WIDE_TILES = [  # as many outputs as fill a large GPU with tiles of 128 x 128 and of 128 x 64; 1521 pixels are no multiple of anything
    plain_geometry(1, 8, 39, 1408, 1),
    plain_geometry(1, 8, 39, 704, 1),
]
TEST_SEED = int(os.environ.get("FASTNN_TEST_SEED", "0"))
CONV2D_GEOMETRIES = NETWORK_GEOMETRIES + NARROW_GROUPS + covering_geometries(145) + random_geometries(56, TEST_SEED)
