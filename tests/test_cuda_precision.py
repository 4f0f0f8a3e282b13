"""Products of the CUDA kernels: bfloat16, and float32 under "high" and "medium" precision. (What bfloat16 rows do otherwise: test_bfloat16.py.)"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np
import pytest
from conv2d_geometries import CONV2D_GEOMETRIES, NETWORK_GEOMETRIES, Geometry, plain_geometry
from kernel_calls import GPUS, WAYS, Table, call, conv2d_word, normwise, plan, using, word
from kernel_cases import Case, describe
from kernel_problems import MATRICES
from test_bfloat16 import DIRECTIONS, rounded, written

from fastnn import _C

pytestmark = pytest.mark.skipif(not GPUS, reason="no GPU and no FASTNN_CUDA_EMULATED")
every_gpu = pytest.mark.parametrize("gpu", GPUS)
every_way = pytest.mark.parametrize(("dtype", "precision", "multiply", "gpu"), WAYS, ids=lambda v: v)
every_tensor_core = pytest.mark.parametrize(("dtype", "precision", "multiply", "gpu"), [w for w in WAYS if w[2] != "ffma"], ids=lambda v: v)
NORMWISE = {
    "tf32x3": 8e-6,
    "tf32": 2e-3,
    "bf16": 1.5e-2,
    "bf16_groups": 1.5e-2,
}  # TF32 keeps 11 bits of each operand, bfloat16 8; results are stored in the latter


@every_tensor_core
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("geometry", CONV2D_GEOMETRIES[::3], ids=lambda g: "-".join(map(describe, g)))
def test_convolutions_of_small_integers_are_exact(
    geometry: Geometry, direction: str, dtype: str, precision: str, multiply: str, gpu: str
) -> None:
    row, case = f"conv2d_{direction}", Case(f"conv2d_{direction}", geometry, {"exact": True})
    with using(Table(gpu, dtype, precision)):
        (got,) = call(row, geometry, case.problem.operands, dtype).values()
        algorithm = _C.last_call()["algorithm"]
    assert algorithm in ("depthwise", "narrow_groups", f"implicit_gemm_{conv2d_word(multiply, geometry, direction)}")
    (expected,) = case.problem.expected
    assert np.array_equal(got, written(row, expected) if dtype == "bfloat16" else expected.astype(np.float32)), algorithm


@every_tensor_core
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)], ids=str)
@pytest.mark.parametrize("shapes", MATRICES, ids=lambda s: "-".join(map(describe, s)))
def test_matrix_products_of_small_integers_are_exact(
    shapes: Any, transposed: tuple[bool, bool], dtype: str, precision: str, multiply: str, gpu: str
) -> None:
    (a, b), (ta, tb) = shapes, transposed
    if len(a) != len(b) and ta:
        pytest.skip("a shared b meets a as it lies: the core refuses the transpose")
    swap = [(*s[:-2], s[-1], s[-2]) if t else s for s, t in ((a, ta), (b, tb))]
    case = Case("matmul", (*swap, ta, tb), {"exact": True})
    with using(Table(gpu, dtype, precision)):
        (got,) = call("matmul", case.parameters, case.problem.operands, dtype).values()
        ends = word(multiply, swap[0][-1], swap[1][-1])
        assert not got.size or _C.last_call()["algorithm"].endswith(f"_{ends}")
    (expected,) = case.problem.expected
    assert np.array_equal(got, rounded(expected) if dtype == "bfloat16" else expected.astype(np.float32))


@every_tensor_core
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_real_data_normwise(direction: str, dtype: str, precision: str, multiply: str, gpu: str) -> None:
    """Per output channel in the 2-norm: what the operands' rounding costs, and no more."""
    errors = []
    for geometry in [g for g in NETWORK_GEOMETRIES if g[0][0]][:8]:
        case = Case(f"conv2d_{direction}", geometry)
        with using(Table(gpu, dtype, precision)):
            (got,) = call(case.row, geometry, case.problem.operands, dtype).values()
        with using(Table(gpu, "float32")):
            (plain,) = call(case.row, geometry, case.problem.operands, "float32").values()
        assert not np.array_equal(got, plain), "the bits of plain multiply-adds: another kernel ran"
        axis = 0 if direction == "backward_weight" else 1
        if got.size >= 16 * got.shape[axis]:
            errors.append(normwise(got, case.problem.expected[0], axis))
    assert errors and max(errors) <= NORMWISE[multiply], f"{max(errors):.2e}"
    if multiply != "tf32x3":
        assert max(errors) > 1e-5, "no rounding of the operands at all: another kernel ran"


@every_gpu
def test_what_is_not_finite_under_high_precision(gpu: str) -> None:
    """Operands are split in two; what Inf leaves must not meet a zero. Every pair of these, each the only product that is not 0 or 1 * 1."""
    numbers = np.array([1, -2, 1 + 2.0**-11, 0, np.inf, -np.inf, np.nan, 3.4e38, 3.4022e38, 1e-30], np.float32)
    depth = 24
    a, b = np.ones((len(numbers), depth), np.float32), np.ones((depth, len(numbers)), np.float32)
    a[:, 3], b[3] = numbers, numbers
    with np.errstate(all="ignore"):
        expected = np.multiply.outer(numbers, numbers) + np.float32(depth - 1)
    with using(Table(gpu, "float32", "high")):
        y = call("matmul", (a.shape, b.shape, False, False), [a, b, None], "float32")["y"]
        assert _C.last_call()["algorithm"] == "gemm_tf32x3"
    assert np.array_equal(np.isnan(y), np.isnan(expected)) and np.array_equal(np.isinf(y), np.isinf(expected))
    finite = np.isfinite(expected)
    assert np.array_equal(np.sign(y), np.sign(expected), equal_nan=True)
    assert (np.abs(y[finite] - expected[finite]) <= 2.0**-20 * np.abs(expected[finite])).all()


# --- which kernel runs, and shapes for the widest tiles

ALGORITHMS: list[tuple[Geometry, str]] = [
    (plain_geometry(8, 1, 28, 16, 5), "implicit_gemm"),
    (plain_geometry(64, 3, 32, 64, 3), "implicit_gemm"),
    (plain_geometry(16, 64, 56, 128, 3, 2), "implicit_gemm"),
    (plain_geometry(4, 64, 16, 64, 3, 1, 4), "implicit_gemm"),
    (plain_geometry(4, 64, 16, 64, 3, 1, 64), "depthwise"),
    (plain_geometry(4, 64, 16, 64, 3, 1, 16), "narrow_groups"),
]


@every_way
@pytest.mark.parametrize(("geometry", "family"), ALGORITHMS, ids=lambda v: v if isinstance(v, str) else "-".join(map(describe, v)))
def test_the_algorithm_chosen(geometry: Geometry, family: str, dtype: str, precision: str, multiply: str, gpu: str) -> None:
    with using(Table(gpu, dtype, precision)):
        names = [plan(f"conv2d_{direction}", geometry, dtype)[0] for direction in DIRECTIONS]
        products = [plan("matmul", shapes, dtype)[0] for shapes in (((64, 64), (64, 64)), ((10, 9000), (9000, 10)))]
    ends = [f"_{conv2d_word(multiply, geometry, direction)}" if family == "implicit_gemm" else "" for direction in DIRECTIONS]
    assert names == [family + end for end in ends]
    assert products == [f"gemm_{multiply}", f"gemm_split_{word(multiply, 10)}"]


@every_way
@pytest.mark.parametrize("columns", [1408, 704])
def test_products_of_many_tiles_are_exact(columns: int, dtype: str, precision: str, multiply: str, gpu: str) -> None:
    """As many outputs as fill a large GPU with tiles of 128 x 128 (of 128 x 64); smaller products get smaller ones."""
    case = Case("matmul", ((1536, 40), (40, columns), False, False), {"exact": True})
    with using(Table(gpu, dtype, precision)):
        (got,) = call("matmul", case.parameters, case.problem.operands, dtype).values()
        assert _C.last_call()["algorithm"] == f"gemm_{multiply}"
    (expected,) = case.problem.expected
    assert np.array_equal(got, rounded(expected) if dtype == "bfloat16" else expected.astype(np.float32))


EMULATED_WAYS = [way for way in WAYS if way[3].startswith("cuda-emulated")]


@pytest.mark.parametrize(("dtype", "precision", "multiply", "gpu"), EMULATED_WAYS, ids=lambda v: v)
@pytest.mark.parametrize("tile", range(5))
def test_every_tile_is_exact(tile: int, dtype: str, precision: str, multiply: str, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only large products would have the larger ones. Many rows and columns, their ends within a tile; neighbours of 16 bytes."""
    monkeypatch.setenv("FASTNN_EMULATED_TILE", str(tile))
    convolutions = [plain_geometry(3, 40, 13, 72, 3), plain_geometry(2, 16, 24, 136, 1), plain_geometry(2, 72, 11, 24, 3, 2)]
    cases = [Case(f"conv2d_{direction}", geometry, {"exact": True}) for geometry in convolutions for direction in DIRECTIONS]
    for ta, tb in ((False, False), (False, True), (True, False), (True, True)):
        a, b = ((1200, 264) if ta else (264, 1200)), ((152, 1200) if tb else (1200, 152))
        cases += [Case("matmul", (a, b, ta, tb), {"exact": True})]
    for case in cases:
        with using(Table(gpu, dtype, precision)):
            (got,) = call(case.row, case.parameters, case.problem.operands, dtype).values()
            assert _C.last_call()["algorithm"].endswith(f"_{multiply}")
        (expected,) = case.problem.expected
        assert np.array_equal(got, written(case.row, expected) if dtype == "bfloat16" else expected.astype(np.float32)), case


@pytest.mark.parametrize("shifted", [False, True], ids=["aligned", "shifted"])
@pytest.mark.parametrize("channels", [16, 12])
@pytest.mark.parametrize(("dtype", "precision", "multiply", "gpu"), [way for way in EMULATED_WAYS if way[0] == "bfloat16"], ids=lambda v: v)
def test_the_name_says_whether_warpgroups_multiplied(
    channels: int, shifted: bool, dtype: str, precision: str, multiply: str, gpu: str
) -> None:
    """The shape decides, not where operands lie: memory of others may begin anywhere."""
    group_products = ctypes.CDLL(os.environ["FASTNN_CUDA_EMULATED"]).fastnn_emulated_group_products
    group_products.restype = ctypes.c_uint64
    geometry = plain_geometry(2, channels, 9, channels, 3)
    cases = [Case(f"conv2d_{direction}", geometry, {"exact": True}) for direction in DIRECTIONS]
    for ta, tb in ((False, False), (False, True), (True, False), (True, True)):
        cases += [Case("matmul", ((channels, channels), (channels, channels), ta, tb), {"exact": True})]
    for case in cases:
        before = group_products()
        with using(Table(gpu, dtype, precision)):
            (got,) = call(case.row, case.parameters, case.problem.operands, dtype, shifted).values()
        assert _C.last_call()["algorithm"].endswith(f"_{word(multiply, channels)}")
        assert (group_products() > before) == (word(multiply, channels) == "bf16_groups"), case
        (expected,) = case.problem.expected
        assert np.array_equal(got, written(case.row, expected)), case
