"""Results written past the caches (csrc/cpu/past_caches.h): the bits of those written through them, whatever the shape and the threads.
That arrays which begin anywhere are left to ordinary stores is seen by fenced_rows.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from kernel_calls import CPU_TABLES, NARROW_TABLES, Table, same_bits, using
from kernel_cases import CASES, Case, elements
from test_bfloat16 import typed

from fastnn import _C

TABLES = [*CPU_TABLES, *(table for table in NARROW_TABLES if table.device == "cpu")]
pytestmark = pytest.mark.skipif(not CPU_TABLES, reason="FASTNN_TEST_DEVICES leaves the CPU out")
NEVER = 2**62
MIB = 2**20

# Whole vectors a pixel, so that results are aligned, and more than a block of them.
MAP = (5, 64, 24, 18)
POOL = ((5, 48, 25, 30), (3, 3), (2, 2), (1, 1), True)
NORM = (1e-5, 0.1, "relu", True)
ALIGNED = [
    *(Case(row, (MAP,)) for row in ("relu_forward", "relu_backward", "silu_forward", "silu_backward", "exp", "log", "sqrt")),
    *(Case(f"pointwise_{direction}", (MAP, "leaky_relu", 0.1, 0.0)) for direction in ("forward", "backward")),
    Case("power", (MAP, 2.0)),
    *(Case(row, (MAP, MAP)) for row in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "prelu_forward", "prelu_slope")),
    *(Case("add", shapes) for shapes in (((300, 64), (64,)), ((300, 1), (300, 64)), ((9, 1, 64), (9, 50, 64)))),
    *(Case(f"maxpool2d_{way}", (MAP, (2, 2), (2, 2), (0, 0), False)) for way in ("forward", "inference", "backward")),
    *(Case(f"maxpool2d_{way}", POOL) for way in ("forward", "inference", "backward")),
    Case("maxpool2d_backward", ((5, 64, 25, 19), (2, 2), (2, 2), (0, 0), False)),  # with a rim
    *(Case(f"avgpool2d_{way}", (MAP, (2, 3), (2, 3), (0, 0), False, True, 0)) for way in ("forward", "backward")),
    *(Case(f"avgpool2d_{way}", (*POOL, True, 0)) for way in ("forward", "backward")),
    *(Case(f"avgpool2d_{way}", (MAP, (5, 7))) for way in ("forward", "backward")),
    *(Case("upsample2d_forward", (MAP, (48, 36), bilinear)) for bilinear in (False, True)),
    *(Case("batchnorm_forward", (shape, *NORM, residual)) for shape in (MAP, (9, 24, 33, 32)) for residual in (False, True)),
    Case("batchnorm_inference", (MAP, 1e-5, 0.1, "relu", False, False)),
    *(Case("batchnorm_backward", (shape, *NORM, residual)) for shape in (MAP, (9, 24, 33, 32)) for residual in (False, True)),
    *(Case(f"groupnorm_{way}", (shape, 4, 1e-5, True)) for shape in (MAP, (14, 64, 6, 5)) for way in ("forward", "backward")),
]
# Rows and samples of whole vectors of 8, but not of 16.
HALF_VECTORS = [
    Case("add", ((300, 40), (40,))),
    *(Case(f"groupnorm_{way}", ((9, 24, 33, 31), 4, 1e-5, True)) for way in ("forward", "backward")),
]
ROWS = {case.row for case in ALIGNED + HALF_VECTORS} | {"conv2d_add_forward", "conv2d_normalized_backward_weight"}
ANY = [case for case in CASES if case.row in ROWS and elements(case.parameters) < 20_000]


@pytest.fixture
def switch() -> Iterator[None]:
    before = _C.get_past_caches_from()
    yield
    _C.set_past_caches_from(before)


@pytest.mark.parametrize("any_table", TABLES, ids=str)
@pytest.mark.parametrize("case", ALIGNED + HALF_VECTORS, ids=str)
def test_same_bits_as_through_the_caches(case: Case, any_table: Table, threads: None, switch: None) -> None:
    with using(any_table):
        for count in (1, 3):
            _C.set_num_threads(count)
            _C.set_past_caches_from(NEVER)
            through = case.run(any_table)
            assert not _C.last_call()["past_caches"]
            _C.set_past_caches_from(0)
            assert same_bits(case.run(any_table), through), f"{count} threads"
            assert _C.last_call()["past_caches"] == (not any_table.name.startswith(("avx512", "amx")) or case not in HALF_VECTORS)
            assert same_bits(case.run(any_table, shifted=True), through), f"{count} threads, shifted inputs"
        if any_table.dtype != "bfloat16":
            case.check(any_table)


@pytest.mark.parametrize("any_table", TABLES, ids=str)
def test_any_shape(any_table: Table, threads: None, switch: None) -> None:
    _C.set_num_threads(3)
    with using(any_table), np.errstate(all="ignore"):
        for case in ANY:
            if any_table.dtype != "bfloat16" or typed(case.row):
                _C.set_past_caches_from(NEVER)
                through = case.run(any_table)
                _C.set_past_caches_from(0)
                assert same_bits(case.run(any_table), through), case


@pytest.mark.parametrize("beyond", [-16, -1, 0, 1])
def test_where_it_begins(beyond: int, isa: str, threads: None) -> None:
    """ReLU of as many bytes as are written past the caches unless somebody asks for less, of some elements more and of fewer."""
    assert _C.get_past_caches_from() == 32 * MIB
    _C.set_num_threads(2)
    n = 8 * MIB + beyond
    x = np.resize(np.random.default_rng(n).standard_normal(4099, np.float32), n)
    y = _C.relu_forward(_C.Elements((n,)), _C.from_numpy(x)).numpy()
    assert _C.last_call()["past_caches"] == (beyond >= 0)
    assert np.array_equal(y, np.maximum(x, 0))
