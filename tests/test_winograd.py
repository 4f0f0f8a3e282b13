"""Winograd convolutions on the CPU: within the bounds of their errors on real data, exact where they can be, chosen where they should be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from conv2d_geometries import Geometry, plain_geometry
from kernel_calls import CPU_TABLES, Array, Table, call, normwise, plan, same_bits, struct, using
from kernel_cases import Case
from kernel_problems import integers
from test_conv2d import DIRECTIONS, close, name_of, operands, three

from fastnn import _C

FLOAT_TABLES = [table for table in CPU_TABLES if table.dtype == "float32"]
BOUNDS = {
    "winograd4_narrow": 4e-6,
    "winograd4": 4e-6,
    "winograd2": 1e-6,
    "winograd_strided": 4e-6,
    "winograd_first": 4e-6,
}  # normwise per output channel, against float64
NARROW = {"avx512": (16, 32), "avx2": (16,), "portable": ()}  # channels, one or two vectors of them, that have a form of their own


def geometry(
    n: int, c: int, h: int, w: int, k: int, before: tuple[int, int] = (1, 1), after: tuple[int, int] = (1, 1), stride: int = 1
) -> Geometry:
    return (n, c, h, w), (k, c, 3, 3), (stride, stride), before, after, (1, 1), 1


GEOMETRIES = [
    plain_geometry(16, 32, 12, 32, 3),
    plain_geometry(8, 64, 16, 64, 3),
    geometry(9, 40, 14, 13, 33),  # tails of channels, and of tiles on both sides
    geometry(3, 130, 15, 17, 70),  # several blocks of channels
    geometry(12, 33, 10, 11, 97, (0, 2), (2, 0)),  # padding on one side
    geometry(11, 48, 9, 14, 36, (2, 0), (1, 2)),
    geometry(7, 64, 31, 6, 200),
    geometry(20, 96, 7, 7, 150),  # more weights than tiles: blocks of work are panels
    plain_geometry(16, 80, 16, 96, 3),  # weight gradients in parts, of several blocks of channels
    plain_geometry(4, 128, 12, 352, 3),  # of more blocks than a unit of work has at most
    plain_geometry(8, 16, 32, 16, 3),  # one or two vectors of channels
    geometry(9, 16, 14, 13, 32),
    geometry(9, 32, 15, 18, 16, (2, 0), (1, 2)),
    geometry(11, 16, 11, 14, 16, (0, 2), (2, 0)),
    geometry(9, 40, 10, 7, 33),  # smaller tiles on the rim: 10 = 4 + 3 + 3, 7 = 4 + 3
    geometry(40, 33, 6, 6, 36),
    geometry(40, 32, 5, 5, 32),  # F(2 x 2): a map of 5 x 5 fills no tiles of 4 x 4 or 3 x 3
    geometry(90, 65, 2, 3, 34),
]
STRIDED = [
    geometry(24, 16, 32, 32, 32, stride=2),
    geometry(18, 48, 31, 30, 80, stride=2),  # tails of tiles on all sides, of x and of y
    geometry(66, 32, 15, 16, 16, (1, 1), (1, 0), stride=2),
    geometry(22, 32, 32, 24, 64, (1, 1), (0, 2), stride=2),
    geometry(66, 16, 13, 14, 48, stride=2),  # 7 = 4 + 3 on both sides
    geometry(16, 80, 32, 32, 96, stride=2),  # weight gradients in parts, of several blocks of channels
    geometry(64, 48, 13, 14, 320, stride=2),  # more weights than tiles: blocks of work are panels, forward
    geometry(64, 320, 14, 13, 48, stride=2),  # and backward to the input
]


def first_layer(n: int, h: int, w: int, k: int, before: tuple[int, int] = (3, 3), after: tuple[int, int] = (3, 3)) -> Geometry:
    return (n, 3, h, w), (k, 3, 7, 7), (2, 2), before, after, (1, 1), 1


FIRST = [  # forward and backward to the weight
    first_layer(2, 64, 64, 64),
    first_layer(3, 57, 112, 32, (0, 2), (3, 0)),  # tails of tiles on all sides, no padding and odd padding
    first_layer(1, 37, 250, 96, (6, 4), (4, 7)),  # several blocks in a row of tiles; tiles of zeros alone
    first_layer(2, 50, 99, 64, (2, 5), (1, 6)),
]
WIDE_VECTORS_OR_DIRECT = "winograd_strided with 32 registers"
ALGORITHMS = [  # forward, backward to the input, backward to the weight
    (plain_geometry(64, 64, 32, 64, 3), ("winograd4", "winograd4", "winograd4")),
    (plain_geometry(64, 32, 14, 64, 3), ("winograd4", "winograd4", "winograd4")),
    (plain_geometry(128, 16, 32, 16, 3), ("winograd4_narrow", "winograd4_narrow", "winograd4_narrow")),
    (plain_geometry(128, 32, 16, 32, 3), ("winograd4_narrow", "winograd4_narrow", "winograd4_narrow")),
    (geometry(64, 16, 12, 20, 32), ("winograd4_narrow", "winograd4_narrow", "winograd4_narrow")),
    (plain_geometry(16, 512, 7, 512, 3), ("winograd4", "winograd4", "winograd4")),
    (geometry(64, 32, 6, 6, 32), ("winograd4", "winograd4", "winograd4")),  # 3 x 3 tiles
    (geometry(64, 32, 5, 5, 32), ("winograd2", "winograd2", "winograd2")),
    (plain_geometry(1, 64, 8, 64, 3), ("direct_taps3", "direct_taps3", "direct_taps3")),  # few tiles
    (plain_geometry(128, 3, 32, 64, 3), ("direct_small_c", "direct_taps3", "direct_small_c")),
    (plain_geometry(16, 3, 224, 64, 7, 2), ("winograd_first", "direct", "winograd_first")),
    (plain_geometry(1, 3, 224, 64, 7, 2), ("winograd_first", "direct", "winograd_first")),
    (plain_geometry(16, 3, 224, 36, 7, 2), ("direct_small_c", "direct", "direct_small_c")),  # no whole panels of channels
    (plain_geometry(16, 4, 224, 64, 7, 2), ("direct_small_c", "direct", "direct_small_c")),
    (plain_geometry(16, 3, 224, 64, 7), ("direct_small_c", "direct", "direct_small_c")),
    (plain_geometry(64, 3, 14, 64, 7, 2), ("direct_small_c", "direct", "direct_small_c")),  # empty tiles
    (plain_geometry(64, 64, 32, 64, 3, 2), ("winograd_strided", "winograd_strided", "winograd_strided")),
    (plain_geometry(128, 16, 32, 32, 3, 2), ("winograd_strided", "winograd_strided", "winograd_strided")),
    (plain_geometry(64, 33, 32, 64, 3, 2), ("direct", "direct", "direct")),  # no whole vectors
    (plain_geometry(4, 64, 14, 64, 3, 2), ("direct", "direct", "direct")),  # few tiles
    (plain_geometry(16, 64, 14, 64, 3, 2), ("direct", "direct", "winograd_strided")),  # each of which costs no weights there
    (plain_geometry(16, 128, 14, 256, 3, 2), (WIDE_VECTORS_OR_DIRECT, WIDE_VECTORS_OR_DIRECT, "winograd_strided")),
    (plain_geometry(8, 128, 14, 256, 3, 2), ("direct", "direct", "winograd_strided")),
    (plain_geometry(1, 128, 56, 128, 3, 2), (WIDE_VECTORS_OR_DIRECT, WIDE_VECTORS_OR_DIRECT, "winograd_strided")),
    (plain_geometry(128, 64, 10, 64, 3, 2), ("direct", "direct", "direct")),  # half of them empty: 5 = 3 + 2
    (geometry(64, 64, 32, 32, 64, (0, 0), (1, 1), stride=2), ("direct", "direct", "direct")),
    (plain_geometry(64, 64, 32, 64, 3, 1, 2), ("direct_taps3", "direct_taps3", "direct_taps3")),  # groups
    (plain_geometry(64, 64, 32, 64, 5), ("direct", "direct", "direct")),
]


@pytest.fixture(params=FLOAT_TABLES, ids=str)
def float_table(request: pytest.FixtureRequest) -> Iterator[Table]:
    with using(request.param):
        yield request.param


def directions_of(shape: Geometry) -> list[str]:
    return DIRECTIONS[::2] if shape in FIRST else DIRECTIONS


def algorithm_of(direction: str, shape: Geometry) -> str:
    return plan(f"conv2d_{direction}", shape)[0]


@pytest.mark.parametrize(("shape", "expected"), ALGORITHMS, ids=[name_of(g) for g, _ in ALGORITHMS])
def test_the_algorithm_chosen(shape: Geometry, expected: tuple[str, ...], float_table: Table) -> None:
    if not {shape[0][1], shape[1][0]} <= set(NARROW[float_table.where]):
        expected = tuple(name.removesuffix("_narrow") for name in expected)
    few_tiles = "winograd_strided" if float_table.where == "avx512" else "direct"
    expected = tuple(few_tiles if name == WIDE_VECTORS_OR_DIRECT else name for name in expected)
    assert tuple(algorithm_of(direction, shape) for direction in DIRECTIONS) == expected


def test_switched_off_it_does_not_run(float_table: Table) -> None:
    _C.set_winograd(False)
    try:
        for shape, _ in ALGORITHMS:
            assert not any("winograd" in algorithm_of(direction, shape) for direction in DIRECTIONS)
    finally:
        _C.set_winograd(True)


def test_float64_is_computed_directly() -> None:
    for shape in GEOMETRIES + STRIDED + FIRST:
        assert not any("winograd" in plan(f"conv2d_{direction}", shape, "float64")[0] for direction in DIRECTIONS)


def test_the_shapes_reach_every_form(float_table: Table) -> None:
    forms = set(BOUNDS) if NARROW[float_table.where] else set(BOUNDS) - {"winograd4_narrow"}
    for direction, without in zip(DIRECTIONS, (None, "winograd_first", None), strict=True):
        reached = {algorithm_of(direction, shape) for shape in GEOMETRIES + STRIDED + FIRST}
        assert reached >= forms - {without}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("shape", GEOMETRIES, ids=name_of)
def test_error_on_real_data(shape: Geometry, direction: str, float_table: Table) -> None:
    expect_small_error(shape, direction, float_table)


@pytest.mark.parametrize("shape", STRIDED + FIRST, ids=name_of)
def test_error_of_strides_on_real_data(shape: Geometry, float_table: Table) -> None:
    for direction in directions_of(shape):
        expect_small_error(shape, direction, float_table)


def expect_small_error(shape: Geometry, direction: str, float_table: Table) -> None:
    case = Case(f"conv2d_{direction}", shape)
    (got,) = case.run(float_table).values()
    algorithm = _C.last_call()["algorithm"]
    assert "winograd" in algorithm
    error = normwise(got, case.problem.expected[0], 0 if direction == "backward_weight" else 1)
    assert error <= BOUNDS[algorithm], f"{algorithm}: {error:.2e}"


FEW_TILES = [  # one way where weights stay packed, another where they come once
    (geometry(1, 128, 8, 8, 144), "winograd2", "direct_taps3"),
    (geometry(1, 130, 7, 7, 131), "winograd2", "direct_taps3"),
    (geometry(1, 192, 14, 13, 128), "winograd4", "winograd2"),
    (geometry(4, 128, 4, 4, 128), "winograd2", "direct_taps3"),
    (geometry(1, 128, 9, 9, 129, (0, 2), (2, 0)), "winograd4", "winograd2"),
    (geometry(1, 128, 4, 4, 128), "direct_taps3", "direct_taps3"),  # too few all the same
    (geometry(1, 64, 8, 8, 128), "direct_taps3", "direct_taps3"),  # few weights
    (geometry(5, 128, 4, 4, 128), "direct_taps3", "direct_taps3"),  # so many images that none are kept
]


@pytest.mark.parametrize(("shape", "staying", "once"), FEW_TILES, ids=[name_of(g) for g, *_ in FEW_TILES])
def test_few_tiles_of_weights_that_stay(shape: Geometry, staying: str, once: str, float_table: Table) -> None:
    x, w, _ = operands(shape)
    bias = np.linspace(-1, 1, shape[1][0], dtype=np.float32)
    exact = call("conv2d_forward", shape, [x, w, bias], "float64")["y"]
    for stays, algorithm in ((True, staying), (False, once)):
        (got,) = call("conv2d_forward", (*shape, "none", stays), [x, w, bias]).values()
        assert _C.last_call()["algorithm"] == algorithm
        assert normwise(got, exact, 1) <= BOUNDS.get(algorithm, 2e-6)


@pytest.mark.parametrize("shape", [g for g in GEOMETRIES if g[0][2] <= 5], ids=name_of)
def test_two_by_two_is_exact_on_integers(shape: Geometry, float_table: Table) -> None:
    """Weights that are multiples of 4 make every step exact; so do gradients that are, backward to the weight."""
    random = np.random.default_rng(3)
    y_shape = struct("conv2d_forward", shape).y_shape
    x, w, dy = integers(random, shape[0], 2), 4 * integers(random, shape[1], 2), 4 * integers(random, y_shape, 2)
    direct: list[Array] = []
    for on in (False, True):
        _C.set_winograd(on)
        results = three(shape, x, w, dy, "float32")
        assert all("winograd2" in algorithm_of(direction, shape) for direction in DIRECTIONS) == on
        direct = direct or list(results)
        for got, expected in zip(results, direct, strict=True):
            assert np.array_equal(got, expected)


def tiles_of(size: int, most: int) -> list[tuple[int, int]]:
    """(first pixel, pixels) of the tiles that fill a side of a map: as many as needed of `most`, the last ones one shorter."""
    count = -(-size // most)
    whole = max(0, size - (most - 1) * count)
    begins = [min(i, whole) * most + max(0, i - whole) * (most - 1) for i in range(count)]
    return [(begin, min(most - (i >= whole), size - begin)) for i, begin in enumerate(begins)]


def cut(x: Array, tiles: list[tuple[int, int, int, int]], before: tuple[int, int], size: int) -> Array:
    """The size x size pixels from `before` each tile on, as images of their own: tile by tile; zeros around x."""
    padded = np.pad(x, ((0, 0), (0, 0), *((b, size) for b in before)))
    return np.concatenate([padded[:, :, row : row + size, column : column + size] for row, _, column, _ in tiles])


FITTING = [  # that neither 4 x 4 nor 2 x 2 tiles fill, and the rows and columns of their tiles
    (geometry(7, 40, 14, 13, 33), 4, [4, 4, 3, 3], [4, 3, 3, 3]),
    (geometry(12, 33, 10, 11, 97, (0, 2), (2, 0)), 4, [4, 3, 3], [4, 4, 3]),
    (geometry(20, 96, 7, 7, 150), 4, [4, 3], [4, 3]),
    (geometry(40, 33, 6, 9, 36), 4, [3, 3], [3, 3, 3]),
    (geometry(9, 48, 8, 6, 64), 4, [4, 4], [3, 3]),
    (geometry(40, 33, 5, 5, 34), 2, [2, 2, 1], [2, 2, 1]),
    (geometry(90, 65, 2, 3, 34), 2, [2], [2, 1]),
]


@pytest.mark.parametrize(("shape", "most", "rows", "columns"), FITTING, ids=[name_of(g[0]) for g in FITTING])
def test_smaller_tiles_fill_the_map(shape: Geometry, most: int, rows: list[int], columns: list[int], float_table: Table) -> None:
    """Every tile of a map, cut out with what its outputs depend on, gives as an image of its own, of one whole tile, the same bits; tiles
    that begin anywhere else would round otherwise."""
    x, w, dy = operands(shape)
    (n, channels, *_), (out_channels, *_) = shape[:2]
    down, across = tiles_of(x.shape[2], most), tiles_of(x.shape[3], most)
    assert ([height for _, height in down], [width for _, width in across]) == (rows, columns)
    tiles = [(row, height, column, width) for row, height in down for column, width in across]
    before = shape[3]
    patches, back = cut(x, tiles, before, most + 2), cut(dy, tiles, (2 - before[0], 2 - before[1]), most + 2)
    alone = (patches.shape, shape[1], (1, 1), (0, 0), (0, 0), (1, 1), 1)
    alone_back = ((len(back), channels, most, most), shape[1], (1, 1), (2, 2), (2, 2), (1, 1), 1)
    for direction, own in (("forward", alone), ("backward_input", alone_back), ("backward_weight", alone)):
        assert algorithm_of(direction, shape) == algorithm_of(direction, own) == f"winograd{most}"
    y, dx, _ = three(shape, x, w, dy, "float32")
    y_alone = call("conv2d_forward", alone, [patches, w, None])["y"]
    dx_alone = call("conv2d_backward_input", alone_back, [back, w])["dx"]
    for i, (row, height, column, width) in enumerate(tiles):
        place = (..., slice(row, row + height), slice(column, column + width))
        for whole, images in ((y, y_alone), (dx, dx_alone)):
            assert np.array_equal(images[i * n : (i + 1) * n, :, :height, :width], whole[place]), f"tile at {row}, {column}"
        one, one_alone = np.zeros_like(dy), np.zeros((len(patches), out_channels, most, most), np.float32)
        one[0][place] = one_alone[i * n, :, :height, :width] = dy[0][place]
        dw = call("conv2d_backward_weight", shape, [x, one])["dw"]
        assert np.array_equal(dw, call("conv2d_backward_weight", alone, [patches, one_alone])["dw"])


@pytest.mark.parametrize("shape", GEOMETRIES + STRIDED + FIRST, ids=name_of)
def test_same_bits_for_any_number_of_threads(shape: Geometry, float_table: Table, threads: None) -> None:
    for direction in directions_of(shape):
        case = Case(f"conv2d_{direction}", shape)
        _C.set_num_threads(1)
        alone = case.run(float_table)
        assert "winograd" in _C.last_call()["algorithm"]
        for count in (2, 3, 7):
            _C.set_num_threads(count)
            assert same_bits(case.run(float_table), alone), f"conv2d_{direction}: {count} threads differ from one"
        assert same_bits(case.run(float_table, shifted=True), alone)


@pytest.mark.parametrize("shape", [g for g in GEOMETRIES + STRIDED if g[0][0] >= 8], ids=name_of)
def test_a_batch_in_parts_is_the_batch(shape: Geometry, float_table: Table) -> None:
    """y and dx to the bit; dw closely."""
    x, w, dy = operands(shape)
    y, dx, dw = three(shape, x, w, dy, "float32")
    half = shape[0][0] // 2
    parts = np.zeros_like(dw)
    for part in (slice(0, half), slice(half, None)):
        smaller = (x[part].shape, *shape[1:])
        assert algorithm_of("forward", smaller) == algorithm_of("forward", shape)
        assert algorithm_of("backward_input", smaller) == algorithm_of("backward_input", shape)
        y_part, dx_part, dw_part = three(smaller, x[part], w, dy[part], "float32")
        assert np.array_equal(y_part, y[part])
        assert np.array_equal(dx_part, dx[part])
        parts += dw_part
    assert close(parts, dw)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_tiles_alone(bad: float, float_table: Table) -> None:
    """Everything that depends on it is not finite (infinities may become NaN); other tiles are as before."""
    shape = plain_geometry(16, 32, 12, 32, 3)
    x, w, dy = operands(shape)
    y, dx, dw = three(shape, x, w, dy, "float32")
    x[5, 2, 5, 6] = dy[5, 3, 5, 6] = bad
    y_bad, dx_bad, dw_bad = three(shape, x, w, dy, "float32")
    for got, before in ((y_bad, y), (dx_bad, dx)):
        assert not np.isfinite(got[5, :, 4:7, 5:8]).any()
        assert np.array_equal(got[:5], before[:5])
        assert np.array_equal(got[6:], before[6:])
        assert np.array_equal(got[5, :, 8:], before[5, :, 8:])
    assert not np.isfinite(dw_bad[3]).any()
    assert not np.isfinite(dw_bad[:, 2]).any()
    assert np.isfinite(dw_bad[4, 3:]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_in_a_first_layer(bad: float, float_table: Table) -> None:
    shape = FIRST[0]
    x, w, dy = operands(shape)
    y, _, dw = three(shape, x, w, dy, "float32")
    x[1, 2, 20, 31] = dy[0, 3, 6, 5] = bad
    y_bad, _, dw_bad = three(shape, x, w, dy, "float32")
    assert not np.isfinite(y_bad[1, :, 9:12, 14:18]).any()  # the windows that it lies in
    assert np.array_equal(y_bad[0], y[0]) and np.array_equal(y_bad[1, :, :, :12], y[1, :, :, :12])
    assert np.array_equal(y_bad[1, :, 12:], y[1, :, 12:]) and np.array_equal(y_bad[1, :, :8], y[1, :, :8])
    spoiled = np.zeros(dw.shape, bool)
    spoiled[3] = spoiled[:, 2, 1::2, ::2] = True  # the taps that its row and column meet
    assert not np.isfinite(dw_bad[spoiled]).any()
    assert np.array_equal(dw_bad[~spoiled], dw[~spoiled])


def test_gradients_are_those_of_the_direct_convolution(float_table: Table) -> None:
    """x w dy is one trilinear form: <y, dy> = <x, dx> = <w, dw>."""
    for shape in GEOMETRIES[:4] + STRIDED[:1] + FIRST[:2]:
        x, w, dy = operands(shape)
        y = call("conv2d_forward", shape, [x, w, None])["y"]
        dx = call("conv2d_backward_input", shape, [dy, w])["dx"]
        dw = call("conv2d_backward_weight", shape, [x, dy])["dw"]
        forms = [float((a.astype(np.float64) * b).sum()) for a, b in ((y, dy), (x, dx), (w, dw))]
        scale = np.linalg.norm(y.astype(np.float64)) * np.linalg.norm(dy.astype(np.float64))
        assert np.ptp(forms) <= 4e-6 * scale
