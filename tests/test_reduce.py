"""Sums and maxima over every subset of axes; ties, NaN, empty sums, long sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from kernel_calls import Table, call
from kernel_cases import Case

from fastnn import _C

SHAPES = [
    (),
    (7,),
    (3, 20),
    (3, 1, 5),
    (4, 3, 6),
    (2, 3, 4, 5),
    (3, 20, 1, 1),
    (1, 5, 3, 1),
    (2, 17, 5, 3),
    (2, 3, 4, 2, 3),
    (3, 1, 2, 1, 17),
]


def subsets(rank: int) -> list[tuple[int, ...]]:
    return [axes for size in range(rank + 1) for axes in itertools.combinations(range(rank), size)]


@pytest.mark.parametrize("row", ["sum", "max_forward", "max_backward"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_subset_of_axes(shape: tuple[int, ...], row: str, table: Table) -> None:
    for axes, keepdims in itertools.product(subsets(len(shape)), (False, True)):
        Case(row, (shape, axes, keepdims)).check(table)


@pytest.mark.parametrize("row", ["sum", "max_forward", "max_backward"])
def test_lengths_around_vectors_and_blocks(row: str, table: Table) -> None:
    for n in [*range(1, 36), 4095, 4097, 32_769, 65_537]:
        for shape, axes in (((n,), (0,)), ((3, n), (1,)), ((n, 3), (0,)), ((2, 5, n), (0, 2))):
            Case(row, (shape, axes, False)).check(table)


def test_negative_axes_count_from_the_end(table: Table) -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    assert np.array_equal(call("sum", (x.shape, (-1, 0), True), [x], table.dtype)["y"], x.sum((0, 2), keepdims=True))


def test_nan_wins_and_ties_go_to_the_first(table: Table) -> None:
    x = np.zeros((2, 40, 3, 3))
    x[0, 5] = x[0, 9] = 4
    x[1, 33] = x[1, 12] = np.nan
    x[:, :, 1, 1] = -np.inf
    written = call("max_forward", (x.shape, (1,), False), [x], table.dtype)
    edge = np.ones((3, 3), bool)
    edge[1, 1] = False
    assert (written["y"][0][edge] == 4).all() and (written["index"][0][edge] == 5).all()
    assert np.isnan(written["y"][1][edge]).all() and (written["index"][1][edge] == 12).all()
    assert (written["y"][:, 1, 1] == -np.inf).all() and (written["index"][:, 1, 1] == 0).all()


def test_nan_and_ties_in_chunks_far_apart(table: Table) -> None:
    """A single output, so that many blocks share its elements, each with a chunk that has a best of its own."""
    x = np.zeros(300_007)
    for winners, best in (((200_000, 99, 300_006), 7.0), ((250_000, 120_001, 299_999), np.nan)):
        x[list(winners)] = best
        written = call("max_forward", (x.shape, (0,), False), [x], table.dtype)
        assert written["index"] == min(winners) and (np.isnan(written["y"]) if np.isnan(best) else written["y"] == best)


def test_nan_wins_along_the_innermost_dimension(table: Table) -> None:
    for n, at in itertools.product((5, 16, 17, 64, 100), (0, 1, 4)):
        x = np.arange(3.0 * n).reshape(3, n)
        x[1, at] = np.nan
        written = call("max_forward", (x.shape, (1,), False), [x], table.dtype)
        assert written["index"].tolist() == [n - 1, at, n - 1]
        assert np.isnan(written["y"][1]) and written["y"][0] == n - 1


def test_what_is_not_finite_passes_through_sums(table: Table) -> None:
    x = np.ones((4, 50))
    x[0, 3], x[1, 7], x[2, 49] = np.nan, np.inf, -np.inf
    y = call("sum", (x.shape, (1,), False), [x], table.dtype)["y"]
    assert np.isnan(y[0]) and y[1] == np.inf and y[2] == -np.inf and y[3] == 50


def test_empty_sums_are_zero(table: Table) -> None:
    for shape, axes in (((0, 3), (0,)), ((2, 0, 5), (1,)), ((0, 3, 4, 4), (0, 2, 3)), ((0,), (0,))):
        Case("sum", (shape, axes, False)).check(table)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((1_000_003,), (0,)), ((300_001, 3), (0,)), ((3, 300_001), (1,)), ((64, 16, 64, 64), (0, 2, 3))],
    ids=str,
)
def test_long_sums_keep_their_digits(shape: tuple[int, ...], axes: tuple[int, ...], table: Table) -> None:
    x = np.full(shape, 0.1, np.float32)
    y = call("sum", (shape, axes, False), [x], table.dtype)["y"]
    expected = x.astype(np.float64).sum(axes)
    assert np.abs(y / expected - 1).max() < 2e-5  # equal terms: every rounding errs to the same side


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((2,), "axis 2 does not exist"),
        ((-3,), "axis -3 does not exist"),
        ((0, 0), "named twice"),
        ((0, -2), "named twice"),
    ],
)
def test_impossible_axes_are_refused(axes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _C.Reduce((3, 4), axes, False)
