"""Strided copies against numpy's own views: transposed, sliced, mirrored, repeated, flattened, in and out of rank 4."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from kernel_calls import Array, Table, call
from kernel_cases import Case
from kernel_problems import view_parameters

from fastnn import _C

View = Callable[[Array], Array]
SHAPES = [(13,), (4, 5), (40, 33), (3, 4, 5), (2, 3, 4, 5), (3, 17, 8, 1), (9, 1, 4, 4), (2, 3, 2, 4, 3)]


def check_view(x_shape: tuple[int, ...], view: View, table: Table) -> None:
    x = np.random.default_rng(0).standard_normal(x_shape).astype(table.dtype)
    parameters = view_parameters(x_shape, view)
    assert np.array_equal(call("copy", parameters, [x], table.dtype)["y"], view(x))
    dx = np.zeros(x_shape, table.dtype)
    dy = np.random.default_rng(1).standard_normal(view(x).shape).astype(table.dtype)
    view(dx)[...] = dy
    assert np.array_equal(call("copy_backward", parameters, [dy], table.dtype)["dx"], dx)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_permutation(shape: tuple[int, ...], table: Table) -> None:
    for order in itertools.permutations(range(len(shape))):
        check_view(shape, lambda x, order=order: x.transpose(order), table)


SLICES = [
    slice(None),
    slice(1, None),
    slice(None, -1),
    slice(None, None, 2),
    slice(None, None, -1),
    slice(-1, 0, -2),
    slice(1, 2),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_slices(shape: tuple[int, ...], table: Table) -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        index = tuple(SLICES[i] for i in random.integers(len(SLICES), size=len(shape)))
        check_view(shape, lambda x, index=index: x[index], table)


def test_one_element_and_no_element(table: Table) -> None:
    for shape in SHAPES:
        check_view(shape, lambda x: x[tuple(n - 1 for n in x.shape) + (...,)], table)
        check_view(shape, lambda x: x[:0], table)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 3, 3), (3, 16, 1, 1), (0, 3, 2, 2), (7, 40, 9, 9)], ids=str)
def test_rank_4_is_flattened_and_rebuilt_in_row_major_order(shape: tuple[int, ...], table: Table) -> None:
    """Meaning follows the shape: reshape speaks row-major N, C, H, W, whatever lies in memory."""
    n, c, h, w = shape
    x = np.random.default_rng(0).standard_normal(shape).astype(table.dtype)
    flat = call("copy", view_parameters(shape, lambda x: x, (n, c * h * w)), [x], table.dtype)["y"]
    assert np.array_equal(flat, x.reshape(n, c * h * w))
    back = call("copy", view_parameters((n, c * h * w), lambda x: x.reshape(shape)), [flat], table.dtype)["y"]
    assert np.array_equal(back, x)


def test_repeated_elements(table: Table) -> None:
    for shape, wider in (
        ((1,), (5,)),
        ((), (4, 3)),
        ((3, 1), (2, 3, 4)),
        ((1, 3, 1, 1), (2, 3, 4, 5)),
        ((1, 17, 1, 1), (64, 17, 9, 9)),
    ):
        x = np.random.default_rng(0).standard_normal(shape).astype(table.dtype)
        parameters = view_parameters(shape, lambda x, wider=wider: np.broadcast_to(x, wider))
        assert np.array_equal(call("copy", parameters, [x], table.dtype)["y"], np.broadcast_to(x, wider))


def test_large_transposition(table: Table) -> None:
    check_view((700, 401), lambda x: x.T, table)
    check_view((8, 64, 33, 31), lambda x: x.transpose(0, 2, 3, 1), table)


def test_not_a_number_is_copied_as_it_is(table: Table) -> None:
    x = np.array([np.nan, -0.0, np.inf, -np.inf, 1])
    y = call("copy", view_parameters((5,), lambda x: x[::-1]), [x], table.dtype)["y"]
    assert np.array_equal(y, x[::-1], equal_nan=True) and np.signbit(y[3])


def test_lengths_around_vectors_and_blocks(table: Table) -> None:
    for n in [*range(1, 36), 32_769, 65_537]:
        for shape, view in (
            ((n,), lambda x: x),
            ((n,), lambda x: x[::-1]),
            ((2, n), lambda x: x.T),
            ((n, 2), lambda x: x[:, 1]),
        ):
            for row in ("copy", "copy_backward"):
                Case(row, view_parameters(shape, view)).check(table)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (((4,), (5,), (5,), (1,), 0), "reaches from 0 to 4, outside"),
        (((4,), (4,), (4,), (-1,), 2), "reaches from -1"),
        (((4,), (4,), (3,), (1,), 0), "do not make"),
        (((4,), (4,), (4,), (1, 1), 0), "do not make"),
    ],
)
def test_views_outside_of_the_array_are_refused(parameters: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _C.Strided(*parameters)
