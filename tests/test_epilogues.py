"""What products do while they write their result: activations after the last sum, and the moments of batch normalisation.

An activation in the epilogue gives the bits of one that runs by itself (in float32; in bfloat16 relu does). conv2d_batchnorm_forward gives the
bits of its two halves on the CPU and in direct convolutions; from the tiles of a GPU, z's bits and statistics within `BOUND`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conv2d_geometries import CONV2D_GEOMETRIES, LONG_SUMS, NARROW_GROUPS, NETWORK_GEOMETRIES, WIDE_TILES, Geometry, plain_geometry
from kernel_calls import GPUS, WAYS, Array, Table, call, conv2d_word, plan, same_bits, struct, using
from kernel_cases import Case, describe

from fastnn import _C

Shape = tuple[int, ...]


def name_of(value: Any) -> str:
    return "-".join(map(describe, value)) if isinstance(value, tuple) else str(value)


@pytest.fixture
def directly() -> Iterator[None]:
    """Without Winograd, which is not exact on integers."""
    _C.set_winograd(False)
    yield
    _C.set_winograd(True)


every_way = pytest.mark.parametrize(("dtype", "precision", "multiply", "gpu"), WAYS, ids=lambda v: v)

# --- activations: exact on integers

SHAPES = [*CONV2D_GEOMETRIES[::5], *NETWORK_GEOMETRIES, *NARROW_GROUPS, *LONG_SUMS]
PRODUCTS: list[tuple[Shape, Shape, bool, bool]] = [
    ((5, 7), (7, 3), False, False),
    ((257, 129), (129, 65), False, False),
    ((700, 64), (700, 130), True, False),  # of several stretches on the CPU
    ((33, 600), (300, 600), False, True),
    ((2, 3, 500), (2, 500, 4), False, False),
    ((5000, 65), (5000, 33), True, False),  # depth cut into parts
    ((7, 16_384), (16, 16_384), False, True),
]


def relu_changes(case: Case) -> bool:
    """The sums have both signs, so that an activation too early, or none, would be seen."""
    before = Case(case.row, case.parameters[:-1], case.options).problem
    (sums,), (y,) = before.expected, case.problem.expected
    return bool((sums < 0).any()) and not np.array_equal(sums, y)


@pytest.mark.parametrize("geometry", [*SHAPES, *WIDE_TILES], ids=name_of)
def test_relu_of_convolutions_is_exact_on_integers(geometry: Geometry, table: Table, directly: None) -> None:
    case = Case("conv2d_forward", (*geometry, "relu"), {"exact": True})
    case.check(table)
    assert _C.last_call()["algorithm"] == plan("conv2d_forward", geometry, table.dtype)[0]
    assert relu_changes(case) or case.problem.expected[0].size < 50


@pytest.mark.parametrize("product", PRODUCTS, ids=name_of)
def test_relu_of_products_is_exact_on_integers(product: Any, table: Table) -> None:
    for bias in (False, True):
        case = Case("matmul", (*product, "relu"), {"exact": True, "bias": bias})
        case.check(table)
        assert _C.last_call()["algorithm"] == plan("matmul", product, table.dtype)[0]
        assert relu_changes(case)


def rounded(value: Array) -> Array:
    result: Array = _C.from_numpy(value.astype(np.float32), dtype="bfloat16").numpy()
    return result


@every_way
@pytest.mark.parametrize("geometry", [*SHAPES[::4], *LONG_SUMS, *WIDE_TILES, *NARROW_GROUPS[:2], NETWORK_GEOMETRIES[12]], ids=name_of)
def test_relu_in_every_way_of_multiplying(geometry: Geometry, dtype: str, precision: str, multiply: str, gpu: str) -> None:
    case = Case("conv2d_forward", (*geometry, "relu"), {"exact": True})
    with using(Table(gpu, dtype, precision)):
        (got,) = call(case.row, case.parameters, case.problem.operands, dtype).values()
        assert _C.last_call()["algorithm"] in ("depthwise", "narrow_groups", f"implicit_gemm_{conv2d_word(multiply, geometry, 'forward')}")
    (expected,) = case.problem.expected
    assert np.array_equal(got, rounded(expected) if dtype == "bfloat16" else expected)


@every_way
@pytest.mark.parametrize("product", PRODUCTS, ids=name_of)
def test_relu_of_products_in_every_way_of_multiplying(product: Any, dtype: str, precision: str, multiply: str, gpu: str) -> None:
    case = Case("matmul", (*product, "relu"), {"exact": True})
    with using(Table(gpu, dtype, precision)):
        (got,) = call(case.row, case.parameters, case.problem.operands, dtype).values()
        assert _C.last_call()["algorithm"] == plan("matmul", product, dtype)[0]
    (expected,) = case.problem.expected
    assert np.array_equal(got, rounded(expected) if dtype == "bfloat16" else expected)


# --- activations: the bits of one that runs by itself

REAL = [
    plain_geometry(4, 16, 9, 24, 3),
    plain_geometry(4, 3, 16, 17, 5),
    plain_geometry(6, 8, 7, 8, 3, 1, 8),
    plain_geometry(5, 12, 9, 16, 3, 2, 4),
    plain_geometry(4, 128, 7, 128, 3),
    NARROW_GROUPS[1],
    plain_geometry(9, 40, 14, 33, 3),  # Winograd's F(4 x 4) and F(2 x 2)
    plain_geometry(40, 32, 5, 32, 3),
    plain_geometry(5, 16, 13, 16, 3),  # of one or two vectors of channels
    plain_geometry(40, 16, 13, 16, 3, 2),  # with a stride
    plain_geometry(1, 3, 65, 64, 7, 2),  # of a first layer
    plain_geometry(3, 20, 9, 40, 5),  # directly
    plain_geometry(3, 40, 5, 33, 1),  # a product of matrices
    *LONG_SUMS,
]


def data(row: str, parameters: Any, seed: int = 0) -> list[Array]:
    random = np.random.default_rng(seed)
    s = struct(row, parameters)
    bias = s.y_shape[1 if row.startswith("conv") else -1]
    return [random.standard_normal(shape).astype(np.float32) for shape in (*parameters[:2], (bias,))]


def test_they_reach_every_algorithm(cpu_table: Table) -> None:
    every = {
        "direct_taps3",
        "direct_small_c",
        "direct",
        "one_by_one",
        "depthwise",
        "plain",
        "winograd2",
        "winograd4",
        "winograd4_narrow",
        "winograd_strided",
        "winograd_first",
    }
    missing = {name for name in every if name.startswith("winograd")} if cpu_table.dtype == "float64" else set()
    if cpu_table.where == "portable":
        missing.add("winograd4_narrow")
    assert {plan("conv2d_forward", g, cpu_table.dtype)[0] for g in REAL} == every - missing


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu"])
def test_fused_and_by_itself_are_the_same_bits(activation: str, table: Table) -> None:
    for row, parameters in [*(("conv2d_forward", g) for g in REAL), *(("matmul", p) for p in PRODUCTS)]:
        operands = data(row, parameters)
        operands[0].flat[3], operands[2][0] = np.nan, -np.inf
        fused = call(row, (*parameters, activation), operands, table.dtype)["y"]
        y = call(row, (*parameters, "none"), operands, table.dtype)["y"]
        alone = ("pointwise_forward", (y.shape, "gelu")) if activation == "gelu" else (f"{activation}_forward", (y.shape,))
        apart = call(*alone, [y], table.dtype)["y"]
        assert same_bits({"y": fused}, {"y": apart}), f"{row} {parameters}"
        assert np.isnan(fused).any() and not np.array_equal(fused, y, equal_nan=True)


@pytest.mark.parametrize("gpu", GPUS)
def test_relu_in_bfloat16_is_the_same_bits(gpu: str) -> None:
    with using(Table(gpu, "bfloat16")):
        for geometry in REAL:
            operands = data("conv2d_forward", geometry)
            fused = call("conv2d_forward", (*geometry, "relu"), operands, "bfloat16")["y"]
            y = call("conv2d_forward", geometry, operands, "bfloat16")["y"]
            assert same_bits({"y": fused}, call("relu_forward", (y.shape,), [y], "bfloat16"))


def test_backward_knows_nothing_of_the_activation(table: Table) -> None:
    geometry = REAL[0]
    x, w, _ = data("conv2d_forward", geometry)
    dy = np.random.default_rng(1).standard_normal(struct("conv2d_forward", geometry).y_shape)
    for row, operands in (("conv2d_backward_input", [dy, w]), ("conv2d_backward_weight", [x, dy])):
        assert same_bits(call(row, (*geometry, "relu"), operands, table.dtype), call(row, geometry, operands, table.dtype))


# --- an input gradient added to one that is there already

ADDED = [
    plain_geometry(16, 16, 32, 16, 3),  # winograd4_narrow, winograd4, by panels, winograd2
    plain_geometry(9, 64, 13, 40, 3),
    plain_geometry(20, 96, 7, 150, 3),
    plain_geometry(40, 48, 6, 48, 3),
    plain_geometry(24, 16, 32, 32, 3, 2),  # in a pass of its own: winograd_strided, direct, with pixels that no tap reaches
    plain_geometry(5, 33, 8, 40, 1),
    plain_geometry(6, 24, 9, 40, 1, 2),
    plain_geometry(2, 70, 15, 33, 1, 3),
    plain_geometry(1, 300, 5, 64, 5),
    plain_geometry(2, 64, 8, 64, 3, 1, 2),  # direct_taps3, depthwise, plain
    plain_geometry(3, 24, 7, 24, 3, 1, 24),
    plain_geometry(4, 6, 9, 6, 3, 1, 3),
]


@pytest.mark.parametrize("geometry", ADDED, ids=name_of)
def test_an_added_input_gradient_is_the_sum_of_both(geometry: Geometry, table: Table, threads: None) -> None:
    _, w, _ = data("conv2d_forward", geometry)
    random = np.random.default_rng(1)
    dy, before = (random.standard_normal(s) for s in (struct("conv2d_forward", geometry).y_shape, geometry[0]))
    dy, before = dy.astype(np.float32), before.astype(np.float32)
    dx = call("conv2d_backward_input", geometry, [dy, w], table.dtype)["dx"]
    expected = dx.astype(table.dtype) + before.astype(table.dtype)
    case = Case("conv2d_add_backward_input", geometry)
    for count in (1, 3):
        _C.set_num_threads(count)
        added = call("conv2d_add_backward_input", geometry, [dy, w, before], table.dtype)
        assert _C.last_call()["algorithm"] == plan("conv2d_backward_input", geometry, table.dtype)[0]
        assert same_bits(added, {"dx": expected})
    assert same_bits(case.run(table, shifted=True), case.run(table))


# --- the moments of batch normalisation

# Fused beside unfused, in units of eps: the mean by this many times the largest |z| of its channel, 1 / deviation by this many times itself
# and 1 + |mean| / deviation (a section's mean is a float32), y by what the two make of it.
BOUND = 4.0
NORMED = [
    *(g for g in NETWORK_GEOMETRIES if g[0][0]),
    plain_geometry(2, 3, 9, 5, 3),
    plain_geometry(3, 24, 7, 33, 1, 2),
    plain_geometry(17, 8, 8, 16, 3, 1, 2),
    plain_geometry(5, 4, 60, 8, 1),  # 18,000 pixels: sections are joined to blocks first
    *LONG_SUMS,
    *WIDE_TILES,
    *NARROW_GROUPS[:2],
]


def norm_data(geometry: Geometry, residual: bool, shift: float = 0) -> list[Array | None]:
    random = np.random.default_rng(5)
    x, w, b = data("conv2d_forward", geometry)
    k, y_shape = geometry[1][0], struct("conv2d_forward", geometry).y_shape
    gamma, beta, running_mean = (random.standard_normal(k).astype(np.float32) for _ in range(3))
    added = random.standard_normal(y_shape).astype(np.float32) if residual else None
    return [x, w, b + np.float32(shift), gamma, beta, added, running_mean, random.random(k).astype(np.float32) + np.float32(0.5)]


def both(
    geometry: Geometry, activation: str, residual: bool, dtype: str, shift: float = 0
) -> tuple[dict[str, Array], dict[str, Array], str]:
    """What the fused row and its two halves write, and the fused algorithm."""
    x, w, b, *norm = norm_data(geometry, residual, shift)
    fused = call("conv2d_batchnorm_forward", (*geometry, 1e-5, 0.1, activation, residual), [x, w, b, *norm], dtype)
    algorithm = _C.last_call()["algorithm"]
    z = call("conv2d_forward", geometry, [x, w, b], dtype)["y"]
    apart = call("batchnorm_forward", (z.shape, 1e-5, 0.1, activation, True, residual), [z, *norm], dtype)
    return fused, {"z": z, **apart}, algorithm


def assert_halves(fused: dict[str, Array], apart: dict[str, Array], dtype: str) -> None:
    eps, storage = 2.0**-23, 2.0**-7 if dtype == "bfloat16" else 2.0**-23
    assert same_bits({"z": fused["z"]}, {"z": apart["z"]})
    z, rstd = apart["z"].astype(np.float64), apart["rstd"].astype(np.float64)
    size = np.abs(z).max((0, 2, 3))
    off = {
        "mean": BOUND * eps * size,
        "rstd": BOUND * eps * rstd * (1 + np.abs(apart["mean"]) * rstd),
        "running_mean": BOUND * eps * size,
        "running_var": BOUND * eps * (1 + 1 / rstd**2 + size / rstd),
    }
    for name, allowed in off.items():
        assert (np.abs(fused[name].astype(np.float64) - apart[name]) <= allowed).all(), name
    slope = (off["mean"] * rstd + 2 * size * off["rstd"])[:, None, None] * 5  # gamma, and silu's slope
    assert (np.abs(fused["y"].astype(np.float64) - apart["y"]) <= slope + 4 * storage * np.abs(apart["y"])).all(), "y"


@pytest.mark.parametrize("geometry", NORMED, ids=name_of)
def test_fused_normalisation_beside_its_halves(geometry: Geometry, table: Table) -> None:
    for activation, residual in (("none", False), ("relu", True), ("silu", False), ("gelu", True)):
        fused, apart, algorithm = both(geometry, activation, residual, table.dtype)
        if table.device == "cpu" or algorithm in ("depthwise", "narrow_groups"):
            assert same_bits(fused, {name: apart[name] for name in fused})
        else:
            assert algorithm == "implicit_gemm_moments_ffma"
            assert_halves(fused, apart, table.dtype)


@every_way
@pytest.mark.parametrize("geometry", NORMED[1::2], ids=name_of)
def test_moments_in_every_way_of_multiplying(geometry: Geometry, dtype: str, precision: str, multiply: str, gpu: str) -> None:
    """In bfloat16 the statistics are those of z as it is stored, as if it had been read again."""
    with using(Table(gpu, dtype, precision)):
        fused, apart, algorithm = both(geometry, "relu", True, dtype)
    assert algorithm in ("depthwise", "narrow_groups", f"implicit_gemm_moments_{conv2d_word(multiply, geometry, 'forward')}")
    assert_halves(fused, apart, dtype)


@pytest.mark.parametrize("shift", [0, 1, -100, 1000])
def test_variance_far_from_the_origin(shift: float, table: Table) -> None:
    """Never from a sum of squares: within the bound also where the mean is many deviations away."""
    for geometry in (plain_geometry(4, 16, 14, 24, 3), plain_geometry(5, 4, 60, 8, 1)):
        fused, apart, _ = both(geometry, "none", False, table.dtype, shift)
        assert_halves(fused, apart, table.dtype)
        var = apart["z"].astype(np.float64).var((0, 2, 3))
        assert np.abs((fused["rstd"].astype(np.float64) ** -2 - 1e-5) / var - 1).max() < 1e-5 * (1 + abs(shift) / 100)


def test_which_algorithm_is_planned(table: Table) -> None:
    norm = (1e-5, 0.1, "relu", False)
    for geometry in (NETWORK_GEOMETRIES[4], NETWORK_GEOMETRIES[12], NARROW_GROUPS[0]):
        conv, fused = (
            plan(row, p, table.dtype)[0] for row, p in (("conv2d_forward", geometry), ("conv2d_batchnorm_forward", geometry + norm))
        )
        assert fused == (conv.replace("implicit_gemm", "implicit_gemm_moments"))


def test_one_value_per_channel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_norm: training needs more than 1 value per channel, got input \(1, 8, 1, 1\)"):
        _C.Conv2dBatchNorm((1, 4, 3, 3), (8, 4, 3, 3))
    with pytest.raises(ValueError, match="activation 'tanh' is not one of"):
        _C.Conv2d((1, 4, 3, 3), (8, 4, 3, 3), activation="tanh")
