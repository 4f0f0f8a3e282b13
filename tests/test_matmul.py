"""Matrix products: exact on integers around the sizes of tiles, for every transposition, and the bound on real data."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from kernel_calls import Table, call, normwise, plan
from kernel_cases import Case

from fastnn import _C

# Around register tiles (rows of 4, 6, 8, 12, 14; columns of 8, 16, 32, 48, 64), cache blocks of powers of two, and primes.
SIZES = [(m, n, k) for m, n, k in zip(
    [1, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 101, 127, 128, 129, 257],
    [16, 1, 33, 8, 15, 48, 17, 64, 2, 31, 32, 7, 47, 49, 63, 13, 65, 10, 97, 96, 3, 128, 129, 16, 127, 4, 100, 61],
    [1, 2, 31, 32, 127, 16, 257, 8, 100, 255, 3, 17, 64, 61, 256, 129, 33, 7, 15, 512, 128, 65, 5, 300, 48, 513, 1024, 511],
    strict=True,
)]  # fmt: skip


def shapes(m: int, n: int, k: int, ta: bool, tb: bool, batch: tuple[int, ...] = ()) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (*batch, *((k, m) if ta else (m, k))), (*batch, *((n, k) if tb else (k, n)))


@pytest.mark.parametrize(("ta", "tb"), [*itertools.product([False, True], repeat=2)])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: "x".join(map(str, s)))
def test_exact_on_integers(size: tuple[int, int, int], ta: bool, tb: bool, table: Table) -> None:
    for bias in (False, True):
        Case("matmul", (*shapes(*size, ta, tb), ta, tb), {"exact": True, "bias": bias}).check(table)


@pytest.mark.parametrize(("ta", "tb"), [*itertools.product([False, True], repeat=2)])
def test_every_small_size(ta: bool, tb: bool, table: Table) -> None:
    for m, n, k in itertools.product(range(1, 8), (1, 2, 5, 8, 9), (1, 2, 3, 8)):
        Case("matmul", (*shapes(m, n, k, ta, tb), ta, tb), {"exact": True}).check(table)


@pytest.mark.parametrize(("ta", "tb"), [*itertools.product([False, True], repeat=2)])
def test_batches(ta: bool, tb: bool, table: Table) -> None:
    for batch, size in itertools.product([(1,), (5,), (0,), (2, 3, 2)], [(7, 17, 9), (33, 1, 64), (1, 16, 5)]):
        Case("matmul", (*shapes(*size, ta, tb, batch), ta, tb), {"exact": True}).check(table)


@pytest.mark.parametrize("tb", [False, True])
def test_leading_dimensions_meet_a_shared_matrix(tb: bool, table: Table) -> None:
    for leading in ((3,), (2, 3, 4), (0,)):
        _, b = shapes(7, 17, 9, False, tb)
        Case("matmul", ((*leading, 7, 9), b, False, tb), {"exact": True}).check(table)


@pytest.mark.parametrize(("ta", "tb"), [*itertools.product([False, True], repeat=2)])
def test_empty_sums_and_sides(ta: bool, tb: bool, table: Table) -> None:
    for size in ((0, 5, 3), (5, 0, 3), (5, 3, 0)):
        Case("matmul", (*shapes(*size, ta, tb), ta, tb), {"exact": True}).check(table)


@pytest.mark.parametrize(("ta", "tb"), [*itertools.product([False, True], repeat=2)])
def test_long_sums_cut_into_parts(ta: bool, tb: bool, table: Table) -> None:
    """Weight gradients: a small product over a long depth, with and without bias."""
    for size in ((10, 64, 5000), (65, 33, 2048), (17, 16, 16_384), (1, 10, 4096), (128, 100, 2050)):
        for bias in (False, True):
            Case("matmul", (*shapes(*size, ta, tb), ta, tb), {"exact": True, "bias": bias}).check(table)


@pytest.mark.parametrize(("ta", "tb"), [*itertools.product([False, True], repeat=2)])
def test_right_operands_larger_than_the_caches(ta: bool, tb: bool, table: Table) -> None:
    """They are packed a few rows at a time: whole, by parts of the depth, with columns and rows left over."""
    for size in ((5, 1033, 403), (650, 601, 701), (17, 130, 3333)):
        Case("matmul", (*shapes(*size, ta, tb), ta, tb), {"exact": True}).check(table)
    Case("matmul", (*shapes(9, 700, 600, ta, tb, (2,)), ta, tb), {"exact": True}).check(table)


@pytest.mark.parametrize(("ta", "tb"), [*itertools.product([False, True], repeat=2)])
def test_real_data_normwise(ta: bool, tb: bool, table: Table) -> None:
    for size in ((64, 10, 512), (128, 300, 784), (10, 129, 1000)):
        case = Case("matmul", (*shapes(*size, ta, tb), ta, tb))
        case.check(table)
        error = normwise(case.run(table)["y"], case.problem.expected[0], axis=1)
        assert error <= 2e-6 * float(np.finfo(table.dtype).eps) / float(np.finfo(np.float32).eps), f"{error:.2e}"


def test_what_is_not_finite_passes_through(table: Table) -> None:
    a, b = np.ones((20, 30)), np.ones((30, 40))
    a[7, 11], b[3, 5] = np.nan, np.inf
    y = call("matmul", (a.shape, b.shape, False, False), [a, b, None], table.dtype)["y"]
    expected = np.full((20, 40), 30.0)
    expected[:, 5], expected[7, :] = np.inf, np.nan
    assert np.array_equal(y, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((3, 4), (5, 6), "inner sizes 4 and 5 differ"),
        ((2, 3, 4), (3, 4, 5), "leading dimensions"),
        ((4,), (4, 5), "rank 2"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(a: tuple[int, ...], b: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _C.MatMul(a, b)


def test_the_left_operand_is_read_where_it_lies(cpu_table: Table) -> None:
    """No room is asked for a packed copy of it, where tiles are as wide as they can be; but for transposed ones of many long rows."""

    def scratch(*product: Any) -> float:  # in operands
        return plan("matmul", product, cpu_table.dtype)[1] / np.dtype(cpu_table.dtype).itemsize

    assert 0 < scratch((128, 784), (512, 784), False, True) < 64 * 784
    assert 0 < scratch((128, 512), (128, 784), True, False) < 64 * 512
    assert scratch((2048, 512), (2048, 2048), True, False) > 2048 * 512
