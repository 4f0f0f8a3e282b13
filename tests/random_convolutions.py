"""Convolutions drawn at random, thickest around the borders between algorithms, and a reference that is fast enough for tens of thousands.

The reference is checked against tests/reference, which is the judge: for one problem in sixteen, and for each that fails."""

from __future__ import annotations

import random as drawing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import reference
from conv2d_geometries import Geometry, is_possible, y_shape_of
from kernel_calls import Array, Table, assert_within, call, normwise, plan, same_bits, using
from kernel_cases import describe
from kernel_problems.problem import integers, largest, normal
from kernel_problems.products import conv2d_tolerance
from reference.activation import activation_forward

from fastnn import _C

EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 24, 25, 31, 32, 33, 40, 47, 48, 49, 63, 64, 65]  # around whole vectors and tiles
MOST_PRODUCTS = 1.5e6
NORMWISE = {"winograd4_narrow": 4e-6, "winograd4": 4e-6, "winograd2": 1e-6, "winograd_strided": 4e-6, "winograd_first": 4e-6}
BFLOAT16 = 2.0**-7 / 2.0**-23  # its eps, in units of float32's
FOUR_BY_FOUR = 4  # F(4 x 4) is bounded normwise; what a single element may be off beyond the bound of a direct sum
SPLIT = 2.0**-16 / 2.0**-23


# --- drawing


def _pair(draw: drawing.Random, low: int, high: int) -> tuple[int, int]:
    return draw.randint(low, high), draw.randint(low, high)


def _anything(draw: drawing.Random) -> Geometry:
    """No symmetry: windows, strides, dilations and paddings differ by direction and side."""
    groups = draw.choice([1, 1, 1, 2, 3, 8])
    c, k = groups * draw.randint(1, 40 // groups + 1), groups * draw.randint(1, 70 // groups)
    window = _pair(draw, 1, draw.choice([1, 3, 5, 11]))
    x, stride, dilation = (draw.choice([0, 1, 1, 2, 3, 5]), c, *_pair(draw, 1, 17)), _pair(draw, 1, 4), _pair(draw, 1, 3)
    return x, (k, c // groups, *window), stride, _pair(draw, 0, 3), _pair(draw, 0, 4), dilation, groups


def _three_wide(draw: drawing.Random) -> Geometry:
    """Windows three wide, one channel more or less than there are in whole vectors."""
    groups = draw.choice([1, 1, 1, 1, 2, 4])
    c, k = (groups * draw.choice([3, 4, 5, 6, *EDGES] if groups == 1 else [3, 4, 5, 6, 8, 16]) for _ in range(2))
    window, stride = (draw.choice([1, 2, 3, 3, 3, 4]), 3), (draw.randint(1, 2), draw.choice([1] * 9 + [2]))
    dilation, x = (draw.choice([1, 1, 2]), draw.choice([1] * 9 + [2])), (draw.randint(1, 4), c, *_pair(draw, 1, 19))
    return x, (k, c // groups, *window), stride, _pair(draw, 0, 2), _pair(draw, 0, 2), dilation, groups


def _few_channels(draw: drawing.Random) -> Geometry:
    groups = draw.choice([1, 1, 1, 2])
    c, k, window = groups * draw.randint(1, 5), groups * draw.choice(EDGES), _pair(draw, 1, 7)
    if draw.random() < 0.3:  # dx has few inputs, too
        c, k = k, c
    x = (draw.randint(1, 3), c, *_pair(draw, 1, 28))
    return x, (k, c // groups, *window), _pair(draw, 1, 2), _pair(draw, 0, 3), _pair(draw, 0, 3), (1, 1), groups


def _depthwise(draw: drawing.Random) -> Geometry:
    c, window = draw.choice([*EDGES[1:], 130]), _pair(draw, 1, 5)
    x = (draw.randint(1, 3), c, *_pair(draw, 1, 20))
    return x, (c, 1, *window), _pair(draw, 1, 3), _pair(draw, 0, 2), _pair(draw, 0, 2), _pair(draw, 1, 2), c


def _narrow_groups(draw: drawing.Random) -> Geometry:
    groups = draw.randint(2, 9)
    c, k = groups * draw.randint(1, 6), groups * draw.randint(1, 6)
    x = (draw.randint(1, 3), c, *_pair(draw, 1, 13))
    return x, (k, c // groups, *_pair(draw, 1, 4)), _pair(draw, 1, 2), _pair(draw, 0, 2), _pair(draw, 0, 2), _pair(draw, 1, 2), groups


def _long_sums(draw: drawing.Random) -> Geometry:
    """Many channels, many outputs, one pixel, or a window as large as the map."""
    c, k = draw.choice([(draw.randint(200, 1100), draw.randint(1, 40)), (draw.randint(1, 40), draw.randint(200, 1100)), (48, 65)])
    window = draw.choice([(1, 1), (1, 1), (2, 3), (3, 3)])
    x = (draw.randint(1, 3), c, *draw.choice([(1, 1), window, _pair(draw, 2, 6)]))
    return x, (k, c, *window), _pair(draw, 1, 2), _pair(draw, 0, 1), _pair(draw, 0, 1), (1, 1), 1


def _tiles(draw: drawing.Random, tile: int, counts: Sequence[int], channels: Sequence[int], stride: int = 1) -> Geometry:
    """Three by three over maps of about so many tiles of outputs in all."""
    rows, columns = _pair(draw, 1, 6) if tile == 4 else _pair(draw, 1, 3)
    if tile == 2 and draw.random() < 0.4:  # one image: what bfloat16's pairs leave to Winograd
        rows, columns = _pair(draw, 5, 8)
        counts = [rows * columns]
    images = -(-draw.choice(counts) // (rows * columns))
    left_over = (0, 0, 0, 1, 2, 3)[: 6 if tile == 4 else 4]
    sizes = [stride * (tile * n - draw.choice(left_over)) for n in (rows, columns)]
    before, after = draw.choice([((1, 1), (1, 1)), ((1, 1), (1, 1)), (_pair(draw, 0, 2), _pair(draw, 0, 2))])
    if stride == 2:
        before, after = (1, 1), _pair(draw, 0, 2) if draw.random() < 0.5 else (1, 1)
        sizes = [s - draw.choice([0, 0, 1]) for s in sizes]
    c, k = draw.choice(channels), draw.choice(channels)
    return (images, c, *sizes), (k, c, 3, 3), (stride, stride), before, after, (1, 1), 1


def _first_layer(draw: drawing.Random) -> Geometry:
    """Seven by seven with stride 2 over three channels: rows of as many tiles as fit the registers, of fewer, and of more."""
    rows, columns = draw.randint(2, 6), draw.choice([4, 6, 7, 10, 12, 14, 15, 17])
    images = -(-draw.choice([23, 24, 26, 30]) // (rows * columns))
    before, after = ((3, 3), (3, 3)) if draw.random() < 0.5 else (_pair(draw, 0, 6), _pair(draw, 0, 6))
    sizes = [2 * (4 * n - draw.choice([0, 0, 0, 1])) + 5 + draw.randint(0, 1) - a - b for n, a, b in zip((rows, columns), before, after)]
    k = draw.choice([32, 32, 64, 96])
    return (images, 3, *sizes), (k, 3, 7, 7), (2, 2), before, after, (1, 1), 1


def _halved(draw: drawing.Random) -> Geometry:
    """Three by three with stride 2 over many channels: long sums of which Winograd's forms take few."""
    x = (draw.randint(2, 4), draw.choice([127, 128, 129, 144, 160]), *_pair(draw, 2, 7))
    return x, (draw.choice([15, 16, 17, 33, 64, 65]), x[1], 3, 3), (2, 2), _pair(draw, 0, 2), _pair(draw, 0, 2), (1, 1), 1


def _as_large_as_the_map(draw: drawing.Random) -> Geometry:
    """Few windows over all of it: hardly any stride leaves more than one."""
    window, before, after = _pair(draw, 2, 12), _pair(draw, 0, 2), _pair(draw, 0, 2)
    dilation = draw.choice([(1, 1), (1, 1), _pair(draw, 1, 3)])
    reach = [d * (w - 1) + 1 for w, d in zip(window, dilation)]
    sizes = [max(1, r + draw.randint(0, 2) - a - b) for r, a, b in zip(reach, before, after)]
    after = tuple(a + max(0, r - s - b - a) for a, r, s, b in zip(after, reach, sizes, before))
    c = draw.choice([1, 1, 2, 3, 5, 15, 16, 17, 33])
    return (draw.randint(1, 5), c, *sizes), (draw.choice(EDGES), c, *window), _pair(draw, 1, 3), before, after, dilation, 1


FAMILIES: list[tuple[int, Any, float]] = [  # of a hundred; how; the most products
    (18, _anything, MOST_PRODUCTS),
    (3, _as_large_as_the_map, MOST_PRODUCTS),
    (19, _three_wide, MOST_PRODUCTS),
    (10, _few_channels, MOST_PRODUCTS),
    (6, _depthwise, MOST_PRODUCTS),
    (8, _narrow_groups, MOST_PRODUCTS),
    (4, _long_sums, MOST_PRODUCTS),
    (9, lambda draw: _tiles(draw, 4, range(21, 40), [15, 16, 17, 31, 32, 32, 33, 34, 40]), 1e7),
    (9, lambda draw: _tiles(draw, 2, range(22, 60), [16, 31, 32, 32, 33, 34, 40]), 1e7),
    (4, lambda draw: _tiles(draw, 4, range(22, 40), [16, 16, 32]), 1e7),
    (2, lambda draw: _tiles(draw, 4, range(254, 262), [16]), 1.5e7),
    (4, lambda draw: _tiles(draw, 4, range(122, 140), [16, 16, 16, 24, 32], 2), 1.5e7),
    (2, _first_layer, 1.5e7),
    (2, _halved, 1e7),
]


@dataclass
class Convolution:
    """One geometry, run in all directions; the reference's results are kept for the next instruction set."""

    seed: int
    number: int
    geometry: Geometry
    activation: str
    bias: bool
    adds: bool
    whole: bool  # small integers: equality
    winograd: bool
    threads: int
    shifted: bool
    kept: dict[Any, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [
            w for w, on in (("bias", self.bias), ("add", self.adds), ("integers", self.whole), ("no Winograd", not self.winograd)) if on
        ]
        words += [self.activation, f"{self.threads} threads", *(["shifted"] if self.shifted else [])]
        return f"{'-'.join(map(describe, self.geometry))} ({', '.join(words)})"

    def operands(self, rounded: bool) -> dict[str, Array]:
        """x, w, b, residual, dy."""
        if rounded and not self.whole:
            if "rounded" not in self.kept:
                wide = self.operands(False)
                self.kept["rounded"] = {n: v if n == "b" else to_bfloat16(v) for n, v in wide.items()}
            return dict(self.kept["rounded"])
        if "wide" not in self.kept:
            random, (x, w, *_), y = np.random.default_rng([self.seed, self.number]), self.geometry, y_shape_of(self.geometry)
            make = (lambda s: integers(random, s, 2 if self.winograd else 4)) if self.whole else (lambda s: normal(random, s))
            four = 4 if self.whole and self.winograd else 1  # every step of F(2 x 2) is exact
            self.kept["wide"] = {"x": make(x), "w": four * make(w), "b": make(w[:1]), "residual": make(y), "dy": four * make(y)}
        return dict(self.kept["wide"])

    def expected(self, direction: str, rounded: bool) -> Array:
        key = direction, rounded and not self.whole
        if key not in self.kept:
            given = self.operands(rounded)
            results = fast_reference(given["x"], given["w"], given["dy"], *self.geometry[2:])
            results["forward"] = self.finish(results["forward"], given)
            for name, result in results.items():
                if self.number % 16 == 0:
                    judge(self, name, rounded, result)
                self.kept[name, key[1]] = result
        result: Array = self.kept[key]
        return result

    def finish(self, sums: Array, given: dict[str, Array]) -> Array:
        sums = sums + given["b"][:, None, None] if self.bias else sums
        return np.asarray(activation_forward(sums + given["residual"] if self.adds else sums, self.activation))

    def row(self, direction: str) -> str:
        return "conv2d_add_forward" if self.adds and direction == "forward" else f"conv2d_{direction}"

    def parameters(self, direction: str) -> tuple[Any, ...]:
        return (*self.geometry, self.activation) if direction == "forward" else self.geometry


def drawn(seed: int, number: int) -> Convolution:
    draw = drawing.Random(f"{seed}-{number}")
    _, family, most = draw.choices(FAMILIES, [weight for weight, *_ in FAMILIES])[0]
    geometry = family(draw)
    while not is_possible(geometry, most):
        geometry = family(draw)
    whole = draw.random() < 0.5
    activation = draw.choice(["none", "none", "relu"] if whole else ["none", "none", "relu", "silu", "gelu"])
    rest = draw.random() < 0.7, draw.random() < 0.3, whole, draw.random() < 0.75, draw.choice([1, 1, 2, 3, 7]), draw.random() < 0.3
    return Convolution(seed, number, geometry, activation, *rest)


# --- the reference


def to_bfloat16(values: Array) -> Array:
    """Rounded to it, ties to even; held in float64."""
    return np.asarray(reference.to_bfloat16(values), np.float64)


def fast_reference(x: Array, w: Array, dy: Array, stride: Any, before: Any, after: Any, dilation: Any, groups: int) -> dict[str, Array]:
    """The sums of all directions, each as one product of matrices per group: every window is written out as a row."""
    (N, C, H, W), (K, _, R, S), (P, Q), G = x.shape, w.shape, dy.shape[2:], groups
    padded = np.pad(x, ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1])))
    n, c, h, v = padded.strides
    windows = np.lib.stride_tricks.as_strided(
        padded, (N, G, C // G, P, Q, R, S), (n, c * (C // G), c, h * stride[0], v * stride[1], h * dilation[0], v * dilation[1])
    )
    rows = windows.transpose(1, 0, 3, 4, 2, 5, 6).reshape(G, N * P * Q, C // G * R * S)
    weights = w.reshape(G, K // G, C // G * R * S)
    dys = dy.reshape(N, G, K // G, P * Q).transpose(1, 0, 3, 2).reshape(G, N * P * Q, K // G)
    y = (rows @ weights.transpose(0, 2, 1)).reshape(G, N, P, Q, K // G).transpose(1, 0, 4, 2, 3).reshape(N, K, P, Q)
    dw = (dys.transpose(0, 2, 1) @ rows).reshape(w.shape)
    parts = (dys @ weights).reshape(G, N, P, Q, C // G, R, S).transpose(1, 0, 4, 5, 6, 2, 3).reshape(N, C, R, S, P, Q)
    dx = np.zeros_like(padded)
    for r in range(R):
        for s in range(S):
            first_row, first_column = r * dilation[0], s * dilation[1]
            rows_of = slice(first_row, first_row + (P - 1) * stride[0] + 1, stride[0])
            dx[:, :, rows_of, first_column : first_column + (Q - 1) * stride[1] + 1 : stride[1]] += parts[:, :, r, s]
    dx = dx[:, :, before[0] : before[0] + H, before[1] : before[1] + W]
    return {"forward": y, "backward_input": dx, "backward_weight": dw}


def judge(problem: Convolution, direction: str, rounded: bool, result: Array) -> None:
    """What tests/reference says."""
    given, geometry = problem.operands(rounded), problem.geometry
    if direction == "forward":
        sums = reference.conv2d_forward(given["x"], given["w"], None, *geometry[2:])
        said, scale = problem.finish(sums, given), conv2d_tolerance(given["x"], given["w"], given["b"])
    elif direction == "backward_input":
        said = reference.conv2d_backward_input(given["dy"], given["w"], geometry[0], *geometry[2:])
        scale = given["w"].size * largest(given["dy"], given["w"])
    else:
        said = reference.conv2d_backward_weight(given["x"], given["dy"], geometry[1], *geometry[2:])
        scale = given["dy"].size * largest(given["x"], given["dy"])
    assert np.abs(result - said).max(initial=0) <= (0 if problem.whole else 4e-16 * scale), f"the fast reference is wrong: {problem}"


# --- comparing


def tolerance(problem: Convolution, direction: str, given: dict[str, Array], expected: Array) -> float:
    """Of a float32 sum, as in kernel_problems/products.py."""
    x, w, dy = given["x"], given["w"], given["dy"]
    if direction == "forward":
        added = 2 * largest(given["residual"]) if problem.adds else 0
        return conv2d_tolerance(x, w, given["b"]) + added + 4 * largest(expected)
    if direction == "backward_input":
        return float((w.shape[0] // problem.geometry[-1] * np.prod(w.shape[2:]) + 1) * largest(dy, w))
    return (dy.size // w.shape[0] + 1) * largest(x, dy)


def rounds(table: Table) -> bool:
    return table.dtype == "bfloat16" or table.precision == "medium"


def check(problem: Convolution, direction: str, table: Table) -> str:
    """Runs on the table in use; which algorithm did."""
    given, row, parameters = problem.operands(rounds(table)), problem.row(direction), problem.parameters(direction)
    names = {"forward": ("x", "w", "b"), "backward_input": ("dy", "w"), "backward_weight": ("x", "dy")}[direction]
    operands = [None if name == "b" and not problem.bias else given[name] for name in names]
    if row == "conv2d_add_forward":
        operands.append(given["residual"])
    written = call(row, parameters, operands, table.dtype, problem.shifted)
    last, (got,) = _C.last_call(), written.values()
    planned = plan(row, parameters, table.dtype)[0]
    assert last["algorithm"] == planned, f"{last['algorithm']} ran, {planned} was planned"
    assert last["table"] == table.name.removesuffix("_medium").removesuffix("_high"), last["table"]
    compare(problem, direction, table, planned, got)
    if problem.number % 8 == 0:
        _C.set_num_threads(5 if problem.threads == 1 else 1)
        assert same_bits(call(row, parameters, operands, table.dtype, not problem.shifted), written), "other threads, other bits"
        _C.set_num_threads(problem.threads)
    return planned


def compare(problem: Convolution, direction: str, table: Table, algorithm: str, got: Array) -> None:
    narrow = table.dtype == "bfloat16" and direction != "backward_weight"  # what is written
    expected, given = problem.expected(direction, rounds(table)), problem.operands(rounds(table))
    adds_to_stored = narrow and problem.adds and direction == "forward"
    exact = problem.whole and ("winograd" not in algorithm or algorithm == "winograd2") and not adds_to_stored
    what = f"{algorithm}, {direction}"
    if exact:
        assert_within(got, to_bfloat16(expected) if narrow else expected, 0, what)
        return
    allowed: Any = tolerance(problem, direction, given, expected) * (1.02 + (SPLIT if algorithm.startswith("amx_split") else 0))
    if "winograd" in algorithm and algorithm != "winograd2":
        allowed = FOUR_BY_FOUR * allowed
    if narrow:
        allowed = allowed + BFLOAT16 / 2 * np.abs(expected)
    if adds_to_stored:
        allowed = allowed + BFLOAT16 * 1.1 * (largest(expected) + largest(given["residual"]))
    assert_within(got, expected, allowed, what)
    axis = 0 if direction == "backward_weight" else 1
    plain = direction != "forward" or (problem.activation == "none" and not problem.adds)
    if algorithm in NORMWISE and not narrow and plain and got.size >= 64 * got.shape[axis]:
        error = normwise(got, expected, axis)
        assert error <= NORMWISE[algorithm], f"{what}: {error:.2e} normwise"


def run(seed: int, numbers: Sequence[int], tables: Sequence[Table]) -> tuple[Counter[tuple[str, str, str]], list[str]]:
    """How often each algorithm ran, by (table, direction, algorithm); and a line for each fault, which repeats it."""
    ran: Counter[tuple[str, str, str]] = Counter()
    faults = []
    for number in numbers:
        problem = drawn(seed, number)
        _C.set_winograd(problem.winograd)
        _C.set_num_threads(problem.threads)
        for table in tables:
            for direction in ("forward", "backward_input", "backward_weight"):
                try:
                    with using(table):
                        algorithm = check(problem, direction, table)
                    ran[str(table), direction, algorithm] += 1
                except AssertionError as error:
                    judge(problem, direction, rounds(table), problem.expected(direction, rounds(table)))
                    line = f"python tests/random_numbers.py convolutions --seed {seed} --first {number} --count 1 --tables {table}"
                    faults.append(f"{line}  # {direction} of {problem}: {error}")
    _C.set_winograd(True)
    return ran, faults
