"""Convolution: exact on integers for some 220 shapes, bounded on real data; which algorithm ran; what holds without a reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conv2d_geometries import CONV2D_GEOMETRIES, NETWORK_GEOMETRIES, Geometry, covering_geometries, plain_geometry
from kernel_calls import Array, Table, call, normwise, plan, same_bits, struct
from kernel_cases import Case, describe

from fastnn import _C

DIRECTIONS = ["forward", "backward_input", "backward_weight"]


@pytest.fixture(autouse=True, scope="module")
def directly() -> Iterator[None]:
    """What holds here holds to the bit or nearly: Winograd's algorithm has a file of its own."""
    _C.set_winograd(False)
    yield
    _C.set_winograd(True)


def name_of(geometry: Geometry) -> str:
    return "-".join(map(describe, geometry))


def exact_case(direction: str, geometry: Geometry) -> Case:
    return Case(f"conv2d_{direction}", geometry, {"exact": True})


def mostly_inside(geometry: Geometry) -> bool:
    """Whether windows fit into the map and are no further apart than they are wide, so that zeros are nobody's fault."""
    x_shape, w_shape, stride, before, after, dilation, _ = geometry
    reach = [dilation[i] * (w_shape[2 + i] - 1) + 1 for i in range(2)]
    return x_shape[0] > 0 and all(
        max(reach[i], before[i] + 1, after[i] + 1) <= x_shape[2 + i]
        and reach[i] > before[i] + after[i]
        and stride[i] <= w_shape[2 + i]
        and 1 in (stride[i], dilation[i])
        for i in range(2)
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("geometry", CONV2D_GEOMETRIES, ids=name_of)
def test_exact_on_integers(geometry: Geometry, direction: str, table: Table) -> None:
    case = exact_case(direction, geometry)
    case.check(table)
    (expected,) = case.problem.expected
    if mostly_inside(geometry) and expected.size >= 50:
        assert np.count_nonzero(expected) > expected.size / 4, "too many zeros to prove anything"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("geometry", [g for g in NETWORK_GEOMETRIES if g[0][0]] + covering_geometries(40)[::2], ids=name_of)
def test_real_data_normwise(geometry: Geometry, direction: str, table: Table) -> None:
    """Elementwise within the bound of the longest sum, and per output channel (input channel for dx) in the 2-norm."""
    case = Case(f"conv2d_{direction}", geometry)
    (got,) = case.check(table).values()
    axis = 0 if direction == "backward_weight" else 1
    if got.size < 16 * got.shape[axis]:
        return  # a norm over few elements may be small by cancellation
    error = normwise(got, case.problem.expected[0], axis)
    assert error <= 2e-6 * float(np.finfo(got.dtype).eps) / float(np.finfo(np.float32).eps), f"{error:.2e}"


def test_bias_may_be_absent(table: Table) -> None:
    for geometry in (
        plain_geometry(2, 16, 9, 33, 3),
        plain_geometry(2, 3, 9, 16, 3),
        plain_geometry(2, 16, 9, 16, 3, 1, 16),
    ):
        Case("conv2d_forward", geometry, {"exact": True, "bias": False}).check(table)


@pytest.mark.parametrize(
    "geometry",
    covering_geometries(24) + [plain_geometry(12, 32, 16, 48, 3), plain_geometry(9, 3, 32, 32, 3)],
    ids=name_of,
)
def test_same_bits_for_any_number_of_threads(geometry: Geometry, table: Table, threads: None) -> None:
    for direction in DIRECTIONS:
        case = Case(f"conv2d_{direction}", geometry)
        _C.set_num_threads(1)
        alone = case.run(table)
        for count in (2, 3, 7):
            _C.set_num_threads(count)
            assert same_bits(case.run(table), alone), f"conv2d_{direction}: {count} threads differ from one"


# --- which algorithm runs

SMALL_C, TAPS3, DIRECT, ONE, DEPTHWISE, PLAIN = "direct_small_c", "direct_taps3", "direct", "one_by_one", "depthwise", "plain"
ALGORITHMS: list[tuple[Geometry, tuple[str, str, str]]] = [  # forward, backward to the input, backward to the weight
    (plain_geometry(8, 1, 28, 16, 5), (SMALL_C, DIRECT, SMALL_C)),  # first layers
    (plain_geometry(64, 3, 32, 64, 3), (SMALL_C, TAPS3, SMALL_C)),
    (plain_geometry(8, 3, 224, 64, 7, 2), (SMALL_C, DIRECT, SMALL_C)),
    (plain_geometry(128, 16, 32, 16, 3), (TAPS3, TAPS3, TAPS3)),  # 3x3
    (plain_geometry(128, 32, 16, 32, 3), (TAPS3, TAPS3, TAPS3)),
    (plain_geometry(64, 64, 32, 64, 3), (TAPS3, TAPS3, TAPS3)),
    (plain_geometry(16, 512, 7, 512, 3), (TAPS3, TAPS3, TAPS3)),
    (plain_geometry(16, 64, 56, 128, 3, 2), (DIRECT, DIRECT, DIRECT)),  # strides, 1x1
    (plain_geometry(16, 64, 56, 128, 1, 2), (DIRECT, DIRECT, DIRECT)),
    (plain_geometry(8, 64, 16, 128, 1), (ONE, ONE, DIRECT)),
    (plain_geometry(8, 3, 16, 128, 1), (ONE, ONE, SMALL_C)),
    (((8, 64, 16, 16), (128, 64, 1, 1), (1, 1), (1, 0), (1, 0), (1, 1), 1), (DIRECT, DIRECT, DIRECT)),
    (plain_geometry(4, 64, 16, 64, 3, 1, 64), (DEPTHWISE, DEPTHWISE, DEPTHWISE)),  # groups
    (plain_geometry(4, 64, 16, 64, 3, 1, 4), (TAPS3, TAPS3, TAPS3)),
]


@pytest.mark.parametrize(("geometry", "algorithms"), ALGORITHMS, ids=[name_of(g) for g, _ in ALGORITHMS])
def test_the_algorithm_chosen(geometry: Geometry, algorithms: tuple[str, str, str], cpu_table: Table) -> None:
    planned = [plan(f"conv2d_{d}", geometry, cpu_table.dtype)[0] for d in DIRECTIONS]
    if cpu_table.dtype == "float64" and geometry[0][1] == 3:  # three channels do not fit into a vector of two
        planned, algorithms = planned[:2], algorithms[:2]
    assert tuple(planned) == tuple(algorithms)


def test_the_algorithm_planned_is_the_one_that_ran(cpu_table: Table) -> None:
    for geometry, algorithms in zip(METAMORPHIC[:3], ((TAPS3,), (SMALL_C,), (DEPTHWISE,)), strict=True):
        x, w, _ = operands(geometry)
        call("conv2d_forward", geometry, [x, w, None], cpu_table.dtype)
        assert (_C.last_call()["algorithm"],) == algorithms


def test_windows_as_large_as_the_map_go_by_columns(cpu_table: Table) -> None:
    geometry = ((3, 5, 7, 9), (4, 5, 6, 8), (1, 1), (0, 0), (0, 1), (1, 1), 1)
    _, w, dy = operands(geometry)
    call("conv2d_backward_input", geometry, [dy, w], cpu_table.dtype)
    assert _C.last_call()["algorithm"] == "columns"


@pytest.mark.parametrize(
    ("direction", "names"),
    [
        ("forward", {SMALL_C, TAPS3, DIRECT, ONE, DEPTHWISE, PLAIN}),
        ("backward_input", {TAPS3, DIRECT, ONE, DEPTHWISE, PLAIN}),
        ("backward_weight", {SMALL_C, TAPS3, DIRECT, DEPTHWISE, PLAIN}),
    ],
)
def test_the_shapes_tested_reach_every_algorithm(direction: str, names: set[str], cpu_table: Table) -> None:
    plans = [plan(f"conv2d_{direction}", g, cpu_table.dtype)[0] for g in CONV2D_GEOMETRIES]
    few = {"columns"}  # seldom by chance: test_extreme_shapes.py
    assert {name: plans.count(name) >= 5 for name in set(plans) - few} == dict.fromkeys(names, True)


# --- without a reference

METAMORPHIC = [
    plain_geometry(4, 16, 9, 24, 3),
    plain_geometry(4, 3, 16, 17, 5),
    plain_geometry(6, 8, 7, 8, 3, 1, 8),
    plain_geometry(5, 12, 9, 16, 3, 2, 4),
    plain_geometry(6, 33, 8, 40, 1),
]


def operands(geometry: Geometry, seed: int = 0) -> tuple[Array, Array, Array]:
    """x, w, dy of real data."""
    random = np.random.default_rng(seed)
    y_shape = struct("conv2d_forward", geometry).y_shape
    x, w, dy = (random.standard_normal(shape).astype(np.float32) for shape in (geometry[0], geometry[1], y_shape))
    return x, w, dy


def three(geometry: Geometry, x: Array, w: Array, dy: Array, dtype: str) -> tuple[Array, Array, Array]:
    y = call("conv2d_forward", geometry, [x, w, None], dtype)["y"]
    dx = call("conv2d_backward_input", geometry, [dy, w], dtype)["dx"]
    dw = call("conv2d_backward_weight", geometry, [x, dy], dtype)["dw"]
    return y, dx, dw


def close(got: Array, expected: Array) -> bool:
    """Normwise, for sums taken in another order."""
    difference = np.linalg.norm((got - expected).astype(np.float64).ravel())
    return bool(difference <= 4 * 1e-6 * np.linalg.norm(expected.astype(np.float64).ravel()))


@pytest.mark.parametrize("geometry", METAMORPHIC, ids=name_of)
def test_a_batch_in_parts_is_the_batch(geometry: Geometry, table: Table) -> None:
    """y and dx to the bit, where the same algorithm ran; dw, summed in another order, closely."""
    x, w, dy = operands(geometry)
    y, dx, dw = three(geometry, x, w, dy, table.dtype)
    cut = x.shape[0] // 3
    dw_parts = np.zeros_like(dw)
    for part in (slice(0, cut), slice(cut, None)):
        smaller = (x[part].shape, *geometry[1:])
        for row in ("conv2d_forward", "conv2d_backward_input"):
            algorithms = [plan(row, g, table.dtype)[0] for g in (geometry, smaller)]
            assert algorithms[0] == algorithms[1]
        y_part, dx_part, dw_part = three(smaller, x[part], w, dy[part], table.dtype)
        assert np.array_equal(y_part, y[part])
        assert np.array_equal(dx_part, dx[part])
        dw_parts += dw_part
    assert close(dw_parts, dw)


@pytest.mark.parametrize("geometry", [g for g in METAMORPHIC if g[-1] == 1], ids=name_of)
def test_permuted_channels_permute_the_result(geometry: Geometry, table: Table) -> None:
    x, w, dy = operands(geometry)
    y, dx, dw = three(geometry, x, w, dy, table.dtype)
    random = np.random.default_rng(1)
    c, k = random.permutation(x.shape[1]), random.permutation(w.shape[0])
    y2, dx2, dw2 = three(geometry, x[:, c], w[k][:, c], dy[:, k], table.dtype)
    assert close(y2, y[:, k])
    assert close(dx2, dx[:, c])
    assert close(dw2, dw[k][:, c])


@pytest.mark.parametrize("geometry", METAMORPHIC, ids=name_of)
def test_mirrored_input_and_filter_mirror_the_result(geometry: Geometry, table: Table) -> None:
    x_shape, w_shape, stride, before, after, dilation, groups = geometry
    x, w, dy = operands(geometry)
    reach = [x_shape[2 + i] + before[i] + after[i] - dilation[i] * (w_shape[2 + i] - 1) - 1 for i in range(2)]
    unread = tuple(reach[i] % stride[i] for i in range(2))  # pixels behind the last window; mirrored, they must stand before the first
    mirrored = (
        x_shape,
        w_shape,
        stride,
        tuple(a - u for a, u in zip(after, unread, strict=True)),
        before,
        dilation,
        groups,
    )
    flip = (slice(None), slice(None), slice(None, None, -1), slice(None, None, -1))
    y, dx, dw = three(geometry, x, w, dy, table.dtype)
    y2, dx2, dw2 = three(mirrored, x[flip], w[flip], dy[flip], table.dtype)
    assert close(y2[flip], y)
    assert close(dx2[flip], dx)
    assert close(dw2[flip], dw)


# --- special values

WITH_A_MIDDLE = [
    plain_geometry(2, 16, 12, 24, 3),
    plain_geometry(2, 3, 12, 17, 5),
    plain_geometry(2, 8, 12, 8, 3, 1, 8),
    plain_geometry(2, 33, 12, 40, 1),
]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("geometry", WITH_A_MIDDLE, ids=name_of)
def test_what_is_not_finite_passes_through(geometry: Geometry, bad: float, table: Table) -> None:
    """One pixel in the middle that is not finite: all that depends on it is not finite, the rest is as before."""
    x, w, dy = operands(geometry)
    clean = three(geometry, x, w, dy, table.dtype)
    x[1, 2, 6, 6], dy[1, 3, 6, 6] = bad, bad
    zero_x, zero_dy = np.zeros_like(x), np.zeros_like(dy)
    zero_x[1, 2, 6, 6], zero_dy[1, 3, 6, 6] = 1, 1
    ones = np.ones_like(w)
    touched = (
        three(geometry, zero_x, ones, dy, table.dtype)[0] != 0,
        three(geometry, x, ones, zero_dy, table.dtype)[1] != 0,
        (three(geometry, zero_x, w, np.ones_like(dy), table.dtype)[2] != 0)
        | (three(geometry, np.ones_like(x), w, zero_dy, table.dtype)[2] != 0),
    )
    for got, before, depends in zip(three(geometry, x, w, dy, table.dtype), clean, touched, strict=True):
        assert depends.any()
        assert not np.isfinite(got[depends]).any()
        assert np.array_equal(got[~depends], before[~depends])


def test_an_infinite_pixel_keeps_its_sign(table: Table) -> None:
    geometry = plain_geometry(1, 4, 8, 16, 3)
    x, w, _ = operands(geometry)
    x[0, 1, 4, 4] = np.inf
    y = call("conv2d_forward", geometry, [x, np.abs(w) + 1, None], table.dtype)["y"]
    assert (y[0, :, 3:6, 3:6] == np.inf).all()


# --- what cannot be


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (((1, 3, 4, 4), (8, 3, 7, 7)), "a window of height 7 does not fit into 4 \\+ 0 \\+ 0 padding = 4"),
        (((1, 3, 8, 8), (8, 4, 3, 3)), "got 3 channels .* expects 4"),
        (((1, 3, 8, 8), (8, 3, 3, 3), (0, 1)), "stride must be at least 1"),
        (((1, 3, 8, 8), (8, 3, 3, 3), (1, 1), (-1, 0)), "padding must not be negative"),
        (((1, 4, 8, 8), (9, 2, 3, 3), (1, 1), (0, 0), (0, 0), (1, 1), 2), "groups = 2 must divide"),
        (((3, 8, 8), (8, 3, 3, 3)), r"\(N, C, H, W\)"),
    ],
)
def test_impossible_geometry_is_refused(geometry: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _C.Conv2d(*geometry)


def test_wrong_operands_are_refused() -> None:
    geometry = plain_geometry(1, 3, 8, 8, 3)
    conv, x, w = _C.Conv2d(*geometry), np.zeros(geometry[0], np.float32), np.zeros(geometry[1], np.float32)
    array = _C.from_numpy
    with pytest.raises(ValueError, match="conv2d_forward: w has shape"):
        _C.conv2d_forward(conv, array(x), array(w[:4]), None)
    with pytest.raises(TypeError, match="conv2d_forward: w has dtype float64; expected float32"):
        _C.conv2d_forward(conv, array(x), array(w.astype(np.float64)), None)
    with pytest.raises(TypeError, match="w must be an array, got None"):
        _C.conv2d_forward(conv, array(x), None, None)
    with pytest.raises(TypeError, match="takes 3 arrays"):
        _C.conv2d_forward(conv, array(x), array(w))
