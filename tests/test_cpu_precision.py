"""What the CPU multiplies below float32: bfloat16, in mixed training and under "medium" precision, and float32 in two parts under "high".

A pair's two products are exact in float32 and are added one after the other, each sum rounded; the operands are rounded before. So beside a
float64 reference of the rounded operands the error is that of float32 sums, and a tile's bits can be written down. AMX runs here where the core
was built with FASTNN_TILES_ON_CPU, or the processor has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import reference
from conv2d_geometries import CONV2D_GEOMETRIES, NETWORK_GEOMETRIES, Geometry, covering_geometries, plain_geometry
from kernel_calls import DEVICES, Array, Table, assert_within, call, normwise, plan, same_bits, using
from kernel_cases import Case, describe
from kernel_problems.products import MATRICES, conv2d_tolerance
from test_conv2d import DIRECTIONS, WITH_A_MIDDLE, operands, three
from test_matmul import SIZES, shapes

from fastnn import _C

if "cpu" not in DEVICES or "avx512bf16" not in _C.isas():
    pytest.skip("this processor does not multiply bfloat16", allow_module_level=True)

ROUNDED = [Table(isa, *kind) for isa in ("avx512bf16", "amx") if isa in _C.isas() for kind in (("bfloat16",), ("float32", "medium"))]
SPLIT = [Table("amx", "float32", "high")] if "amx" in _C.isas() else []
WAYS = [*ROUNDED, *SPLIT]
BFLOAT16_EPS = 2.0**-7


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Iterator[Table]:
    _C.set_winograd(False)
    with using(request.param):
        yield request.param
    _C.set_winograd(True)


def name_of(geometry: Geometry) -> str:
    return "-".join(map(describe, geometry))


def rounded(value: Array) -> Array:
    """To bfloat16 and back."""
    result: Array = _C.from_numpy(np.asarray(value, np.float32), dtype="bfloat16").numpy()
    return result


def stored(way: Table, value: Array) -> Array:
    return rounded(value) if way.dtype == "bfloat16" else value.astype(np.float32)


def prefix(way: Table) -> str:
    """Of the algorithms that are this way's own."""
    return "bf16_" if way.where == "avx512bf16" else "amx_split_" if way.precision == "high" else "amx_"


def product_prefix(way: Table) -> str:
    """The same of products of matrices: two parts are not worth taking apart."""
    return "" if way.precision == "high" else prefix(way)


def of_whole_windows(way: Table, direction: str, geometry: Geometry) -> bool:
    """On AMX few channels are multiplied by whole windows, but for what float32 has an algorithm of its own."""
    (_, c, *_), (*_, r, s), *_, dilation, groups = geometry
    if way.where != "amx" or way.precision == "high" or direction == "backward_input":
        return False
    if groups > 1 or not 1 < c < 16 or dilation != (1, 1) or r * -(-s * c // 16) > 16:
        return False
    with using(Table("avx512bf16", way.dtype)):
        return direction == "forward" or plan("conv2d_backward_weight", geometry, way.dtype)[0] != "winograd_first"


def expected_prefix(way: Table, direction: str, geometry: Geometry) -> str:
    """Winograd aside. Nothing for a few channels in a group, nor pairs for a sum over one image alone: there float32 is the faster way."""
    (n, c, *_), (k, *_), *_, groups = geometry
    inner = (k if direction == "backward_input" else c) // groups
    outer = (c if direction == "backward_input" else k) // groups
    wide = groups == 1 or (outer >= 4 and (direction != "backward_weight" or inner >= 4))
    if not wide:
        return ""
    if of_whole_windows(way, direction, geometry):
        return "amx_windows"
    alone = direction == "backward_weight" and n == 1
    if way.precision == "high":
        much = inner * geometry[1][2] * geometry[1][3] >= (1152 if direction == "backward_weight" else 576)
        return prefix(way) if inner >= 16 and much and not alone else ""
    if way.where == "amx" and inner >= 16:
        return prefix(way)
    if alone:
        return ""
    return "bf16_" if inner >= {"forward": 2, "backward_input": 1, "backward_weight": 5}[direction] else ""


def rounds(way: Table, direction: str, geometry: Geometry) -> bool:
    return expected_prefix(way, direction, geometry) in ("bf16_", "amx_", "amx_windows")


def ran_as(wanted: str) -> bool:
    """Whether the last call's algorithm begins so; with nothing wanted, that it is one of float32's."""
    algorithm: str = _C.last_call()["algorithm"]
    return algorithm.startswith(wanted) if wanted else not algorithm.startswith(("bf16_", "amx_"))


def ran(way: Table, direction: str, geometry: Geometry) -> bool:
    """Whether the last call ran as it should have."""
    return ran_as(expected_prefix(way, direction, geometry))


# Tiles: rows of an odd number of sixteens, of 16 images, of an odd number of rows; windows of several planes, of many images, of any channels
FOR_TILES = [
    *(plain_geometry(16, 40, width, 50, 3) for width in (7, 14, 21)),
    plain_geometry(8, 35, 28, 33, 3, 2),
    plain_geometry(4, 20, 49, 17, 1, 2),
    plain_geometry(16, 5, 7, 40, 3),
    plain_geometry(7, 15, 9, 33, 5),
    plain_geometry(6, 3, 30, 48, 7, 2),
    plain_geometry(5, 2, 17, 20, 4, 3),
    # of much to sum up, for two parts
    plain_geometry(3, 130, 9, 70, 3, 2),
    plain_geometry(5, 24, 8, 30, 7),
    plain_geometry(4, 94, 7, 50, 5, 2, 2),
]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("geometry", [*(g for g in CONV2D_GEOMETRIES if g[0][0]), *FOR_TILES], ids=name_of)
def test_convolutions_of_small_integers_are_exact(geometry: Geometry, direction: str, way: Table) -> None:
    case = Case(f"conv2d_{direction}", geometry, {"exact": True})
    (got,) = case.run(way).values()
    assert _C.last_call()["table"] == way.name.removesuffix("_medium").removesuffix("_high")
    assert ran(way, direction, geometry), _C.last_call()
    (expected,) = case.problem.expected  # a weight gradient is float32, however activations are stored
    assert np.array_equal(got, expected if direction == "backward_weight" else stored(way, expected))


@pytest.mark.parametrize(
    "geometry",
    [
        ((2, 96, 3, 700), (224, 96, 5, 5), (1, 1), (2, 2), (2, 2), (1, 1), 1),
        ((8, 192, 32, 32), (224, 192, 4, 4), (1, 1), (1, 1), (2, 2), (1, 1), 1),
    ],
    ids=name_of,
)
def test_a_weight_gradient_of_many_chunks_is_exact(geometry: Geometry, way: Table) -> None:
    """So many weights that there are few partial sums, and so many pixels that each is of several chunks, copied for all blocks in turn."""
    case = Case("conv2d_backward_weight", geometry, {"exact": True})
    (got,) = case.run(way).values()
    assert ran(way, "backward_weight", geometry), _C.last_call()
    assert np.array_equal(got, case.problem.expected[0])


@pytest.mark.parametrize(("ta", "tb"), [*itertools.product([False, True], repeat=2)])
@pytest.mark.parametrize("size", [*SIZES, (10, 64, 5000), (65, 33, 2049), (17, 16, 16_384)], ids=lambda s: "x".join(map(str, s)))
def test_products_of_small_integers_are_exact(size: tuple[int, int, int], ta: bool, tb: bool, way: Table) -> None:
    for bias in (False, True):
        case = Case("matmul", (*shapes(*size, ta, tb), ta, tb), {"exact": True, "bias": bias})
        (got,) = case.run(way).values()
        assert ran_as("matvec" if size[0] == 1 and tb else product_prefix(way))
        assert np.array_equal(got, stored(way, case.problem.expected[0]))


@pytest.mark.parametrize(("ta", "tb"), [(False, False), (False, True)])
@pytest.mark.parametrize("case", [m for m in MATRICES if len(m[0]) > 2], ids=name_of)
def test_batches_of_products_are_exact(case: Any, ta: bool, tb: bool, way: Table) -> None:
    (a, b) = case
    b = (*b[:-2], b[-1], b[-2]) if tb else b
    case = Case("matmul", (a, b, ta, tb), {"exact": True})
    assert np.array_equal(case.run(way)["y"], stored(way, case.problem.expected[0]))


def sum_of_pairs(a: Array, b: Array) -> Array:
    """The bits of a product whose sum one tile takes: float64 holds a float32 sum and a product of these operands exactly."""
    depth = a.shape[1] + a.shape[1] % 2
    a, b = np.pad(rounded(a), ((0, 0), (0, depth - a.shape[1]))), np.pad(rounded(b), ((0, depth - b.shape[0]), (0, 0)))
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for i in range(0, depth, 2):
        for k in (i + 1, i):
            total = (total.astype(np.float64) + np.multiply.outer(a[:, k].astype(np.float64), b[k].astype(np.float64))).astype(np.float32)
    return total


def sum_of_tiles(a: Array, b: Array) -> Array:
    """The same on AMX: for each 16 pairs the first numbers' products and the second ones' are summed up; both sums are added, then to the whole."""
    depth = -(-a.shape[1] // 32) * 32
    a, b = np.pad(rounded(a), ((0, 0), (0, depth - a.shape[1]))), np.pad(rounded(b), ((0, depth - b.shape[0]), (0, 0)))
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for i in range(0, depth, 32):
        sums = []
        for first in (i, i + 1):
            sums.append(np.zeros_like(total))
            for k in range(first, i + 32, 2):
                product = np.multiply.outer(a[:, k].astype(np.float64), b[k].astype(np.float64))
                sums[-1] = (sums[-1].astype(np.float64) + product).astype(np.float32)
        total = total + (sums[0] + sums[1])
    return total


@pytest.mark.parametrize(("instructions", "bits"), [("avx512bf16", sum_of_pairs), ("amx", sum_of_tiles)][: len(ROUNDED) // 2])
def test_the_bits_of_a_sum(instructions: str, bits: Any) -> None:
    random = np.random.default_rng(0)
    for m, n, k in ((5, 33, 64), (30, 16, 301), (14, 32, 512), (3, 7, 1)):
        a, b = (random.uniform(0.5, 2, shape) * random.choice([-1, 1], shape) for shape in ((m, k), (k, n)))
        with using(Table(instructions, "float32", "medium")):
            y = call("matmul", (a.shape, b.shape, False, False), [a, b, None])["y"]
        assert np.array_equal(y, bits(a, b))


@pytest.mark.parametrize("wide", [0, 1])
@pytest.mark.parametrize("split", SPLIT, ids=str)
def test_the_three_products_of_a_split_are_exact(split: Table, wide: int) -> None:
    """One operand of 16 bits, the other of few: each is wide once, so that both products with a low part are seen."""
    random = np.random.default_rng(0)
    geometry = plain_geometry(2, 24, 5, 26, 7)
    x, w, dy = (2, 24, 5, 5), (26, 24, 7, 7), (2, 26, 5, 5)
    with using(split):
        for direction, of, last in (("forward", (x, w), None), ("backward_input", (dy, w), x), ("backward_weight", (x, dy), w)):
            values = [random.integers(-(2**15), 2**15, s) if i == wide else random.integers(-2, 3, s) for i, s in enumerate(of)]
            inputs = [v.astype(np.float32) for v in values] + [None] * (direction == "forward")
            (got,) = call(f"conv2d_{direction}", geometry, inputs).values()
            assert _C.last_call()["algorithm"].startswith("amx_split_")
            expected = REFERENCES[direction](*(v.astype(np.float64) for v in values), last, *geometry[2:])
            assert np.abs(expected).max() < 2**24 and np.array_equal(got, expected)


REFERENCES = {
    "forward": reference.conv2d_forward,
    "backward_input": reference.conv2d_backward_input,
    "backward_weight": reference.conv2d_backward_weight,
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("geometry", [g for g in NETWORK_GEOMETRIES if g[0][0]] + covering_geometries(40)[1::2], ids=name_of)
def test_real_data(geometry: Geometry, direction: str, way: Table) -> None:
    """Beside float64 of the rounded operands: the bound of a float32 sum. Beside that of the operands given: what their rounding costs."""
    case = Case(f"conv2d_{direction}", geometry)
    (got,) = case.run(way).values()
    first, second, *_ = (rounded(o) if o is not None and o.ndim == 4 else o for o in case.problem.operands)
    if rounds(way, direction, geometry) or way.dtype == "bfloat16":
        last = geometry[{"backward_input": 0, "backward_weight": 1}[direction]] if direction != "forward" else case.problem.operands[2]
        expected = REFERENCES[direction](first.astype(np.float64), second.astype(np.float64), last, *geometry[2:])
    else:
        expected = case.problem.expected[0]
    stores = way.dtype == "bfloat16" and direction != "backward_weight"
    slack = np.abs(expected) * (BFLOAT16_EPS / 2 / 2.0**-23) if stores else 0
    split = 2.0**-16 / 2.0**-23 if way.precision == "high" else 0  # of each product, at most
    assert_within(got, expected, (1.02 + split) * np.asarray(case.problem.tolerance) + slack, f"{direction} of {name_of(geometry)}")
    axis = 0 if direction == "backward_weight" else 1
    if expected_prefix(way, direction, geometry) and got.size >= 16 * got.shape[axis]:
        error = normwise(got, case.problem.expected[0], axis)
        high = 8e-6 if got.size >= 64 * got.shape[axis] else 1.2e-5
        assert error < high if way.precision == "high" else 1e-5 < error < 6e-3, f"{error:.2e}"


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu"])
@pytest.mark.parametrize(
    "geometry", [plain_geometry(3, 20, 9, 33, 3, 2), plain_geometry(2, 16, 9, 40, 7), plain_geometry(4, 35, 5, 7, 1)], ids=name_of
)
def test_activations_of_convolutions(geometry: Geometry, activation: str, way: Table) -> None:
    x, w, _ = (rounded(o) for o in operands(geometry))
    b = np.random.default_rng(5).standard_normal(w.shape[0]).astype(np.float32)
    y = call("conv2d_forward", (*geometry, activation), [x, w, b], way.dtype)["y"]
    assert ran(way, "forward", geometry)
    expected = reference.conv2d_forward(x.astype(np.float64), w.astype(np.float64), b, *geometry[2:], activation)
    slack = np.abs(expected) * (BFLOAT16_EPS / 2 / 2.0**-23) if way.dtype == "bfloat16" else 0
    assert_within(y, expected, 1.02 * (conv2d_tolerance(x, w, b) + 4 + slack), f"{activation} of {name_of(geometry)}")


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize(
    ("geometry", "algorithm"),
    [
        (plain_geometry(1, 14, 12, 6, 3, 2, 2), "plain"),
        (plain_geometry(2, 16, 9, 16, 3, 1, 16), "depthwise"),
        (plain_geometry(3, 3, 12, 17, 5, 2, 1), "direct_small_c"),
    ],
    ids=str,
)
def test_an_activation_is_of_the_sum_not_of_what_is_stored(geometry: Geometry, algorithm: str, activation: str, way: Table) -> None:
    """Rounded once, behind it, in the forms that multiply float32 too."""
    x, w, _ = (rounded(o) for o in operands(geometry))
    y = call("conv2d_forward", (*geometry, activation), [x, w, None], way.dtype)["y"]
    if not _C.last_call()["algorithm"].startswith(("bf16_", "amx_")):
        assert _C.last_call()["algorithm"] == algorithm
    expected = reference.conv2d_forward(x.astype(np.float64), w.astype(np.float64), None, *geometry[2:], activation)
    slack = np.abs(expected) * (BFLOAT16_EPS / 2 / 2.0**-23) if way.dtype == "bfloat16" else 0
    assert_within(y, expected, 1.02 * (conv2d_tolerance(x, w, np.zeros(1)) + 4 + slack), f"{activation} of {name_of(geometry)}")


@pytest.mark.parametrize(
    ("geometry", "algorithm"), [(plain_geometry(16, 16, 32, 16, 3), "winograd4_narrow"), (plain_geometry(16, 64, 16, 64, 3), "winograd4")]
)
@pytest.mark.parametrize("row", ["conv2d_add_forward", "conv2d_add_backward_input"])
def test_what_is_added_is_rounded_with_the_sum(row: str, geometry: Geometry, algorithm: str) -> None:
    """257 + 1 where tiles are written. In a pass of its own 257 would be rounded to 256 or 258 first."""
    (batch, channels, height, width), weights = geometry[:2]
    x, w = np.ones((batch, channels, height, width), np.float32), np.zeros(weights, np.float32)
    w[:, :, 1, 1] = 256 // channels
    w[0, :, 1, 1] += row.endswith("input")
    w[:, 0, 1, 1] += row.endswith("forward")
    bias = [None] if row.endswith("forward") else []
    with using(Table("avx512bf16", "bfloat16")):
        (y,) = call(row, geometry, [x, w, *bias, np.ones_like(x)], "bfloat16").values()
        assert _C.last_call()["algorithm"] == algorithm
    assert y.min() == y.max() == 258


@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
def test_activations_and_biases_of_products(activation: str, way: Table) -> None:
    random = np.random.default_rng(0)
    for m, n, k in ((33, 70, 90), (10, 20, 3000), (200, 30, 600)):
        a, b, bias = rounded(random.standard_normal((m, k))), rounded(random.standard_normal((n, k))), random.standard_normal(n)
        y = call("matmul", ((m, k), (n, k), False, True, activation), [a, b, bias], way.dtype)["y"]
        expected = reference.matmul(a.astype(np.float64), b.astype(np.float64), bias.astype(np.float32), False, True, activation)
        assert_within(y, expected, 20 * k + (np.abs(expected) / 2 * BFLOAT16_EPS / 2.0**-23 if way.dtype == "bfloat16" else 0), activation)


@pytest.mark.parametrize(
    "geometry", [*covering_geometries(24), plain_geometry(12, 32, 16, 48, 3), plain_geometry(9, 40, 15, 31, 3, 2)], ids=name_of
)
def test_same_bits_for_any_number_of_threads(geometry: Geometry, way: Table, threads: None) -> None:
    for case in [*(Case(f"conv2d_{d}", geometry) for d in DIRECTIONS), Case("matmul", ((130, 2100), (2100, 70), False, False))]:
        _C.set_num_threads(1)
        alone = case.run(way)
        for count in (2, 3, 7):
            _C.set_num_threads(count)
            assert same_bits(case.run(way), alone), f"{case}: {count} threads differ from one"


@pytest.mark.parametrize("way", [w for w in WAYS if w.dtype == "float32"], ids=str, indirect=True)
def test_operands_anywhere_in_memory(way: Table) -> None:
    for geometry in (plain_geometry(3, 20, 9, 33, 3, 2), plain_geometry(2, 17, 9, 40, 3), plain_geometry(3, 24, 8, 24, 3, 1, 4)):
        for direction in DIRECTIONS:
            case = Case(f"conv2d_{direction}", geometry)
            assert same_bits(case.run(way, shifted=True), case.run(way))


# --- which way is taken

BF16, TAPS3, WINOGRAD, SMALL_C = "bf16_direct", "bf16_direct_taps3", "winograd4", "direct_small_c"
ALGORITHMS = [  # forward, backward to the input, backward to the weight
    (plain_geometry(64, 64, 32, 64, 3), (WINOGRAD, WINOGRAD, WINOGRAD)),  # four times fewer products are faster still
    (plain_geometry(128, 16, 32, 16, 3), ("winograd4_narrow", "winograd4_narrow", "winograd4_narrow")),
    (plain_geometry(6, 512, 7, 512, 3), (WINOGRAD, WINOGRAD, TAPS3)),
    (plain_geometry(16, 64, 56, 128, 3, 2), (BF16, BF16, BF16)),  # strides
    (plain_geometry(16, 64, 56, 128, 1, 2), (BF16, BF16, BF16)),
    (plain_geometry(64, 32, 14, 64, 5), (BF16, BF16, BF16)),
    (plain_geometry(64, 64, 16, 64, 3, 1, 4), (TAPS3, TAPS3, TAPS3)),
    (plain_geometry(64, 3, 32, 64, 3), (BF16, TAPS3, SMALL_C)),  # first layers
    (plain_geometry(16, 3, 224, 64, 7, 2), ("winograd_first", BF16, "winograd_first")),
    (plain_geometry(64, 1, 28, 32, 3), (SMALL_C, TAPS3, SMALL_C)),
    (plain_geometry(64, 32, 5, 32, 3), (TAPS3, TAPS3, TAPS3)),  # F(2 x 2) is slower than pairs
    (plain_geometry(64, 64, 6, 64, 3), (WINOGRAD, WINOGRAD, WINOGRAD)),  # tiles of 3 x 3 are not
    (plain_geometry(1, 128, 14, 128, 3), (TAPS3, TAPS3, "winograd2")),
]


@pytest.mark.parametrize("of", ROUNDED[:2], ids=str)
@pytest.mark.parametrize(("geometry", "algorithms"), ALGORITHMS, ids=[name_of(g) for g, _ in ALGORITHMS])
def test_the_algorithm_chosen(geometry: Geometry, algorithms: tuple[str, ...], of: Table) -> None:
    with using(of):
        assert tuple(plan(f"conv2d_{d}", geometry, of.dtype)[0] for d in DIRECTIONS) == algorithms


AMX, AMX_SPLIT, WINDOWS, DIRECT = "amx_direct", "amx_split_direct", "amx_windows", "direct"
ON_TILES = [
    (plain_geometry(64, 64, 32, 64, 3), (AMX, AMX, AMX), (WINOGRAD, WINOGRAD, WINOGRAD)),
    (plain_geometry(6, 512, 7, 512, 3), (AMX, AMX, AMX), (WINOGRAD, WINOGRAD, AMX_SPLIT)),
    (plain_geometry(16, 128, 28, 256, 3, 2), (AMX, AMX, AMX), (AMX_SPLIT, AMX_SPLIT, AMX_SPLIT)),
    (plain_geometry(16, 128, 28, 256, 1, 2), (AMX, AMX, AMX), (DIRECT, DIRECT, DIRECT)),
    (plain_geometry(16, 64, 56, 128, 3, 2), (AMX, AMX, AMX), (AMX_SPLIT, AMX_SPLIT, "winograd_strided")),
    (plain_geometry(64, 3, 32, 64, 3), (WINDOWS, AMX, WINDOWS), (SMALL_C, AMX_SPLIT, SMALL_C)),  # a tile's depth is 32 channels
    (plain_geometry(16, 3, 224, 64, 7, 2), (WINDOWS, AMX, "winograd_first"), ("winograd_first", AMX_SPLIT, "winograd_first")),
    (plain_geometry(64, 1, 28, 32, 3), (SMALL_C, AMX, SMALL_C), (SMALL_C, "direct_taps3", SMALL_C)),
    (plain_geometry(64, 64, 16, 64, 3, 1, 8), (TAPS3, TAPS3, TAPS3), ("direct_taps3", "direct_taps3", "direct_taps3")),
]


@pytest.mark.parametrize("of", WAYS[2:], ids=str)
@pytest.mark.parametrize(("geometry", "rounded_ones", "split"), ON_TILES, ids=[name_of(g) for g, *_ in ON_TILES])
def test_the_algorithm_chosen_on_tiles(geometry: Geometry, rounded_ones: tuple[str, ...], split: tuple[str, ...], of: Table) -> None:
    with using(of):
        planned = tuple(plan(f"conv2d_{d}", geometry, of.dtype)[0] for d in DIRECTIONS)
    assert planned == (split if of in SPLIT else rounded_ones)


def test_the_product_chosen(way: Table) -> None:
    names = [plan("matmul", p, way.dtype)[0] for p in (((64, 64), (64, 32)), ((64, 64), (64, 640)), ((10, 9000), (9000, 10)))]
    assert names == [product_prefix(way) + name for name in ("by_rows", "by_columns", "split_depth")]


@pytest.mark.parametrize(
    ("instructions", "precision"), [("avx512bf16", "highest"), ("avx512bf16", "high"), *([("amx", "highest")] if SPLIT else [])]
)
def test_float32_stays_float32_unless_asked(instructions: str, precision: str) -> None:
    """The bits of AVX-512: nothing is rounded; without AMX "high" would be slower than float32."""
    cases = [Case(f"conv2d_{d}", g) for g in (plain_geometry(4, 24, 9, 33, 3, 2), plain_geometry(16, 32, 16, 32, 3)) for d in DIRECTIONS]
    for case in [*cases, Case("matmul", ((65, 300), (300, 70), False, False))]:
        with using(Table("avx512", "float32")):
            plain = case.run(Table("avx512", "float32"))
        with using(Table(instructions, "float32", precision)):
            assert same_bits(case.run(Table(instructions, "float32")), plain)
            assert not _C.last_call()["algorithm"].startswith(("bf16_", "amx_")) and _C.last_call()["table"] == f"{instructions}_f32"


def test_a_residual_is_added_to_the_sum(way: Table) -> None:
    for geometry in (plain_geometry(2, 72, 12, 40, 3, 2), plain_geometry(3, 32, 8, 24, 1)):
        x, w, dy = (rounded(o) for o in operands(geometry))
        y = call("conv2d_forward", geometry, [x, w, None], way.dtype)["y"]
        added = call("conv2d_add_forward", (*geometry, "relu"), [x, w, None, dy], way.dtype)["y"]
        rounding = expected_prefix(way, "forward", geometry)
        assert _C.last_call()["algorithm"] == (rounding + "direct" if rounding or geometry[1][2] > 1 else "one_by_one")
        assert np.array_equal(added, stored(way, np.maximum(y + dy, 0)))


def test_convolution_and_batchnorm_are_the_two_rows(way: Table) -> None:
    geometry = plain_geometry(4, 72, 12, 40, 3, 2)
    x, w, _ = operands(geometry)
    z = call("conv2d_forward", geometry, [x, w, None], way.dtype)["y"]
    random = np.random.default_rng(1)
    gamma, beta = (random.standard_normal(40).astype(np.float32) for _ in range(2))
    mean, var = np.zeros(40, np.float32), np.ones(40, np.float32)
    norm = [gamma, beta, None, mean, var]
    expected = call("batchnorm_forward", (z.shape, 1e-5, 0.1, "relu", True, False), [z, *norm], way.dtype)
    got = call("conv2d_batchnorm_forward", (*geometry, 1e-5, 0.1, "relu", False), [x, w, None, *norm], way.dtype)
    assert _C.last_call()["algorithm"] == prefix(way) + "direct"
    assert np.array_equal(got.pop("z"), z) and same_bits(got, expected)


# --- special values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "geometry", [*WITH_A_MIDDLE, plain_geometry(3, 24, 12, 40, 3, 2), plain_geometry(3, 130, 12, 68, 3, 2)], ids=name_of
)
def test_what_is_not_finite_passes_through(geometry: Geometry, bad: float, way: Table) -> None:
    """One pixel that is not finite: what depends on it is not finite, the rest is as before. In two parts the infinities are those of float32."""
    x, w, dy = operands(geometry)
    clean = three(geometry, x, w, dy, way.dtype)
    x[1, 2, 6, 6], dy[1, 3, 2, 2] = bad, bad
    zero_x, zero_dy = np.zeros_like(x), np.zeros_like(dy)
    zero_x[1, 2, 6, 6], zero_dy[1, 3, 2, 2] = 1, 1
    ones_w, ones_x, ones_dy = np.ones_like(w), np.ones_like(x), np.ones_like(dy)
    touched = (
        three(geometry, zero_x, ones_w, dy, way.dtype)[0] != 0,
        three(geometry, x, ones_w, zero_dy, way.dtype)[1] != 0,
        (three(geometry, zero_x, w, ones_dy, way.dtype)[2] != 0) | (three(geometry, ones_x, w, zero_dy, way.dtype)[2] != 0),
    )
    for got, before, depends in zip(three(geometry, x, w, dy, way.dtype), clean, touched, strict=True):
        assert depends.any() and not depends.all()
        assert not np.isfinite(got[depends]).any()
        assert np.array_equal(got[~depends], before[~depends])
    if way in SPLIT:
        split = three(geometry, x, w, dy, way.dtype)
        with using(Table("avx512", "float32")):
            for got, expected in zip(split, three(geometry, x, w, dy, "float32"), strict=True):
                strange = ~np.isfinite(expected)
                assert np.array_equal(got[strange], expected[strange], equal_nan=True)


@pytest.mark.parametrize("of", ROUNDED, ids=str)
def test_products_of_special_values(of: Table) -> None:
    """Each product the only one beside zeros times ones: infinities, NaN, what is too large, denormals as zero."""
    numbers = np.array([1, -2, 0, np.inf, -np.inf, np.nan, 3.0e38, -3.0e38, 3.4e38, 1e-30, 1e-39, -1e-39, 1 + 2.0**-11], np.float32)
    a, b = np.zeros((len(numbers), 24), np.float32), np.ones((24, len(numbers)), np.float32)
    a[:, 3], b[3] = numbers, numbers
    with using(of):
        y = call("matmul", (a.shape, b.shape, False, False), [a, b, None], of.dtype)["y"]
    assert _C.last_call()["algorithm"].startswith(prefix(of))
    held = rounded(numbers)
    flushed = np.where(np.abs(held) < 2.0**-126, np.float32(0), held)
    with np.errstate(all="ignore"):
        expected = np.multiply.outer(flushed, flushed)
    expected[np.abs(expected) < 2.0**-126] = 0
    assert np.array_equal(y, stored(of, expected), equal_nan=True)
