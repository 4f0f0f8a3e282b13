"""What moves the elements of a Tensor, exactly, with gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch_twins import DTYPES, compare, direction, normal

import fastnn
from fastnn import Tensor, ops

Shape = tuple[int, ...]

RESHAPES: list[tuple[Shape, Shape]] = [
    ((2, 3, 4, 5), (120,)),
    ((120,), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (2, 60)),
    ((2, 60), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (5, 4, 3, 2)),
    ((2, 3, 4, 5), (2, 3, 20)),
    ((2, 3, 4, 5), (2, 3, 2, 2, 5)),
    ((2, 3, 2, 2, 5), (2, 3, 4, 5)),
    ((2, 1, 4, 5), (2, 20)),
    ((2, 20), (2, 1, 4, 5)),
    ((2, 6, 1, 1), (2, 6)),
    ((2, 6, 1, 1), (2, 2, 3, 1)),
    ((2, 1, 4, 5), (1, 2, 4, 5)),
    ((1,), ()),
    ((), (1, 1, 1, 1)),
    ((0, 3, 4, 5), (0, 60)),
]


def check_movement(shape: Shape, ours: Callable[[Tensor], Tensor], numpys: Callable[[np.ndarray], np.ndarray]) -> None:
    """Result and gradient bit for bit, for a function that moves elements and repeats none."""
    count = int(np.prod(shape))
    from_where = numpys(np.arange(count).reshape(shape))
    for dtype in DTYPES:
        x = fastnn.tensor(normal(0, *shape), dtype, requires_grad=True)
        y = ours(x)
        assert y.shape == from_where.shape and y.dtype == dtype, f"{shape}: {y.shape}, expected {from_where.shape}"
        assert np.array_equal(y.numpy(), x.numpy().ravel()[from_where])
        dy = direction(y.shape)
        (y * 1.0).backward(dy)
        expected = np.zeros(count)
        expected[from_where.ravel()] = dy.ravel()
        assert np.array_equal(x.grad.numpy(), expected.reshape(shape))


@pytest.mark.parametrize(("shape", "to"), RESHAPES)
def test_reshape(shape: Shape, to: Shape) -> None:
    check_movement(shape, lambda x: x.reshape(to), lambda x: x.reshape(to))
    assert fastnn.tensor(np.zeros(shape)).reshape(*to).shape == to
    integers = np.arange(int(np.prod(shape))).reshape(shape)
    assert np.array_equal(fastnn.tensor(integers).reshape(to).numpy(), integers.reshape(to))


def test_reshape_finds_the_open_size() -> None:
    x = fastnn.tensor(normal(0, 2, 3, 4))
    assert x.reshape(-1).shape == (24,) and x.reshape(2, -1).shape == (2, 12) and x.reshape((-1, 1, 2, 3)).shape == (4, 1, 2, 3)
    for wrong in ((5, -1), (-1, -1), (5, 5), (-2, 12), (0, -1)):
        with pytest.raises(ValueError, match=r"reshape: .*\(2, 3, 4\)"):
            x.reshape(wrong)


def test_flatten() -> None:
    check_movement((2, 3, 4, 5), ops.flatten, lambda x: x.reshape(2, 60))
    check_movement((2, 3, 4, 5), lambda x: ops.flatten(x, 2), lambda x: x.reshape(2, 3, 20))


def test_transpose_in_every_order() -> None:
    for shape in [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)]:
        check_movement(shape, lambda x: x.T, lambda x: x.T)
        for order in itertools.permutations(range(len(shape))):
            check_movement(shape, lambda x: ops.transpose(x, order), lambda x: x.transpose(order))  # noqa: B023
    check_movement((2, 3, 2, 3, 2), lambda x: x.transpose(4, 1, 0, 3, 2), lambda x: x.transpose(4, 1, 0, 3, 2))
    check_movement((2, 3, 4), lambda x: x.transpose(-1, 0, 1), lambda x: x.transpose(-1, 0, 1))
    labels = fastnn.tensor(np.arange(24).reshape(2, 3, 4))
    assert np.array_equal(labels.transpose(2, 0, 1).numpy(), labels.numpy().transpose(2, 0, 1))
    with pytest.raises(ValueError, match=r"axes \(0, 0\) are not a permutation"):
        fastnn.tensor(normal(0, 2, 3)).transpose(0, 0)


S = np.s_
SLICES: list[tuple[Shape, Any]] = [
    ((7,), S[2]),
    ((7,), S[-1]),
    ((7,), S[1:6:2]),
    ((7,), S[::-1]),
    ((7,), S[5:1:-2]),
    ((7,), S[3:3]),
    ((7,), S[-100:100]),
    ((3, 4), S[1]),
    ((3, 4), S[:, 2]),
    ((3, 4), S[::-1, ::2]),
    ((3, 4), S[..., -1]),
    ((3, 4), S[None, :, None]),
    ((2, 3, 4), S[..., 1:3]),
    ((2, 3, 4), S[1, ..., 0]),
    ((2, 3, 4), S[:, None]),
    ((2, 3, 4, 5), S[1]),
    ((2, 3, 4, 5), S[:, 1]),
    ((2, 3, 4, 5), S[:, :2]),
    ((2, 3, 4, 5), S[:, :, 1:3, ::2]),
    ((2, 3, 4, 5), S[::-1, ::-1, ::-1, ::-1]),
    ((2, 3, 4, 5), S[0, :, 2:, 1]),
    ((2, 3, 4, 5), S[-1, -1, -1, -1]),
    ((2, 3, 4, 5), S[..., None]),
    ((2, 3, 4, 5), S[:, 1, None]),
    ((2, 3, 4, 5), S[()]),
    ((2, 3, 4, 5), S[1:1]),
    ((2, 3, 2, 3, 2), S[0]),
    ((2, 3, 2, 3, 2), S[:, ::2, 1, ::-1]),
    ((), S[()]),
    ((), S[None]),
]


@pytest.mark.parametrize(("shape", "key"), SLICES, ids=str)
def test_slicing(shape: Shape, key: Any) -> None:
    check_movement(shape, lambda x: x[key], lambda x: np.asarray(x[key]))
    labels = np.arange(int(np.prod(shape))).reshape(shape)
    assert np.array_equal(fastnn.tensor(labels)[key].numpy(), labels[key])


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (3, IndexError, r"index 3 is out of bounds for dimension 0 of size 3 \(shape \(3, 4\)\)"),
        ((0, -5), IndexError, "index -5 is out of bounds for dimension 1"),
        ((0, 0, 0), IndexError, "does not fit shape"),
        ((..., ...), IndexError, "does not fit shape"),
        (np.array([True, False]), IndexError, r"a mask of shape \(2,\) for x of shape \(3, 4\); expected that shape, or the first"),
        (True, TypeError, "got bool"),
        (1.0, TypeError, "got float"),
    ],
    ids=str,
)
def test_slicing_refuses(key: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastnn.tensor(normal(0, 3, 4))[key]


def test_broadcast_to() -> None:
    for shape, to in [((1,), (5,)), ((2, 1, 4, 1), (2, 3, 4, 5)), ((1, 3, 1), (2, 3, 4))]:
        compare(lambda x: ops.broadcast_to(x, to), lambda x: x.expand(to), [normal(0, *shape)], "float64", 30)  # noqa: B023
    with pytest.raises(ValueError, match=r"\(2, 3\) cannot be repeated to \(2, 4\)"):
        ops.broadcast_to(fastnn.tensor(normal(0, 2, 3)), (2, 4))
