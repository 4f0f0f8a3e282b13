"""Comparisons, where, maximum, minimum, clip, abs: against PyTorch, broadcasting, ties, NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_calls import GPUS, Table, call
from kernel_problems.elementwise import BROADCASTS
from torch_twins import DTYPES, assert_close, compare, normal, twins

import fastnn
from fastnn import Tensor, ops

SHAPES = [((), ()), ((5,), (5,)), ((2, 3, 4, 5), (3, 1, 1)), ((3, 1, 1), (2, 3, 4, 5)), ((2, 1, 4, 5), (2, 3, 4, 1)), ((0, 3), (3,))]
RELATIONS = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_extrema_are_pytorchs(name: str, shapes: tuple[tuple[int, ...], ...], dtype: str) -> None:
    """Ties too: numbers are rounded so that there are some, and those share the gradient."""
    inputs = [np.round(normal(i, *shape)) for i, shape in enumerate(shapes)]
    compare(getattr(ops, name), getattr(torch, name), inputs, dtype, 60)


def test_ties_get_half_each_and_nan_wins() -> None:
    a, b = fastnn.tensor([1.0, 2.0, 3.0, np.nan, 0.0], requires_grad=True), fastnn.tensor([1.0, 5.0, -3.0, 2.0, np.nan], requires_grad=True)
    y = ops.maximum(a, b)
    assert np.array_equal(y.numpy(), [1, 5, 3, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(ops.minimum(a, b).numpy(), [1, 2, -3, np.nan, np.nan], equal_nan=True)
    y.backward(np.array([1.0, np.inf, 2.0, 1.0, 1.0]))
    assert a.grad.numpy().tolist() == [0.5, 0, 2, 1, 1] and b.grad.numpy().tolist() == [0.5, np.inf, 0, 1, 1]


def test_extrema_with_numbers() -> None:
    x = fastnn.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    ops.maximum(x, 0).sum().backward()
    assert x.grad.numpy().tolist() == [0, 0.5, 1]
    assert ops.minimum(1.5, x).numpy().tolist() == [-1, 0, 1.5]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bounds", [(-0.5, 0.75), (None, 0.25), (0.0, None), (1.0, -1.0)], ids=str)
def test_clip_is_pytorchs(bounds: tuple[float | None, float | None], dtype: str) -> None:
    for shape in [(), (7,), (2, 3, 4, 5)]:
        x = np.round(normal(0, *shape) * 4) / 4  # some on the bounds
        compare(lambda x: x.clip(*bounds), lambda x: x.clip(*bounds), [x.astype(np.float32)], dtype)


def test_clip_at_zero_gives_the_same_zero_whatever_came_before() -> None:
    """-0.0 and 0.0 are one bound."""
    x = fastnn.tensor([-1.0, 1.0])
    for bound in (-0.0, 0.0, 0):
        assert not np.signbit(x.clip(bound).numpy()).any() and not np.signbit(x.clip(max=bound).numpy()[1])


def test_clip_needs_a_bound() -> None:
    with pytest.raises(ValueError, match="min and max are both None"):
        ops.clip(fastnn.tensor([1.0]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_abs_is_pytorchs(dtype: str) -> None:
    x = np.append(normal(0, 30), [0.0, -0.0]).astype(np.float32)
    compare(lambda x: abs(x), torch.abs, [x], dtype)
    compare(lambda x: x.abs(), torch.abs, [normal(1, 2, 3, 4, 5)], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", [*SHAPES, ((4,), (3, 1)), ((), (2, 3, 4, 5))], ids=str)
def test_where_is_pytorchs(shapes: tuple[tuple[int, ...], ...], dtype: str) -> None:
    full = np.broadcast_shapes(*shapes)
    for shape in {full, (), full[-1:], (2, *full[-3:]) if len(full) == 4 else full}:
        condition = np.asarray(normal(9, *shape) > 0)
        theirs = torch.tensor(condition)
        inputs = [normal(i, *s) for i, s in enumerate(shapes)]
        compare(lambda a, b, c=condition: ops.where(c, a, b), lambda a, b, c=theirs: torch.where(c, a, b), inputs, dtype, 60)


def test_where_broadcasts_all_three() -> None:
    condition = fastnn.tensor(np.array([[True], [False]]))
    a, b = fastnn.tensor([1.0, 2.0, 3.0], requires_grad=True), fastnn.tensor(5.0, requires_grad=True)
    y = ops.where(condition, a, b)
    assert y.numpy().tolist() == [[1, 2, 3], [5, 5, 5]]
    y.sum().backward()
    assert a.grad.numpy().tolist() == [1, 1, 1] and b.grad.item() == 3
    assert ops.where(a > 1.5, a, 0).numpy().tolist() == [0, 2, 3]


def test_where_lets_nothing_through_that_was_not_taken() -> None:
    """The other side's NaN and infinity reach neither the value nor the gradient."""
    a, b = fastnn.tensor([1.0, np.nan], requires_grad=True), fastnn.tensor([np.inf, 2.0], requires_grad=True)
    y = ops.where(np.array([True, False]), a, b)
    y.backward(np.array([np.inf, np.nan]))
    assert y.numpy().tolist() == [1, 2]
    assert a.grad.numpy().tolist() == [np.inf, 0] and b.grad.numpy()[0] == 0 and np.isnan(b.grad.numpy()[1])


def test_where_refuses() -> None:
    x = fastnn.tensor([1.0, 2.0])
    with pytest.raises(TypeError, match="condition has dtype int64; expected bool"):
        ops.where([1, 0], x, x)
    with pytest.raises(TypeError, match="^where: a has dtype float32, b has dtype float64; expected the same for all"):
        ops.where(x > 1, x, fastnn.tensor([1.0, 2.0], "float64"))
    with pytest.raises(ValueError, match=r"shapes \(3,\) \(condition\), \(2,\) and \(2,\) do not broadcast"):
        ops.where(np.ones(3, bool), x, x)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("dtype", [*DTYPES, "int64", "uint8", "bool"])
def test_relations_are_numpys(dtype: str, relation: str) -> None:
    for shapes in SHAPES:
        a, b = (np.round(np.abs(normal(i, *shape))).astype(dtype) for i, shape in enumerate(shapes))
        got = getattr(ops, relation)(fastnn.tensor(a, dtype), fastnn.tensor(b, dtype))
        assert got.dtype == "bool" and not got.requires_grad
        assert np.array_equal(got.numpy(), getattr(np, relation)(a, b)), shapes


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_relations_to_integers_of_any_size(dtype: str, relation: str) -> None:
    """Python's integers have no end: what no type of numpy's holds is a number too."""
    a, compared = np.array([0, 2**63 - 1, 1] if dtype == "int64" else [0, 1]).astype(dtype), getattr(ops, relation)
    for b in (2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, -(2**63) - 1, -(10**400)):
        for left, right in ((fastnn.tensor(a), b), (b, fastnn.tensor(a))):
            got, (p, q) = compared(left, right), (a.astype(object) if isinstance(side, Tensor) else side for side in (left, right))
            assert got.dtype == "bool" and np.array_equal(got.numpy(), getattr(np, relation)(p, q)), b


@pytest.mark.parametrize("relation", RELATIONS)
def test_relations_of_special_values(relation: str, table: Table) -> None:
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.0])
    a, b = (m.reshape(-1) for m in np.meshgrid(special, special))
    assert np.array_equal(call("compare", (a.shape, b.shape, relation), [a, b], table.dtype)["y"], getattr(np, relation)(a, b))


def test_operators() -> None:
    x = fastnn.tensor([1.0, 2.0, 3.0])
    results: list[Any] = [x < 2, x <= 2, x > 2, x >= 2, 2 < x, x < fastnn.tensor([3.0, 2.0, 1.0]), fastnn.tensor([1, 2]) > 1]
    expected = [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [0, 0, 1], [1, 0, 0], [0, 1]]
    assert [r.numpy().astype(int).tolist() for r in results] == expected
    assert {x: 1}[x] == 1, "keys are what they are, not what they hold"
    with pytest.raises(TypeError, match="at least one Tensor"):
        ops.less(1, 2)


@pytest.mark.parametrize("name", ["maximum", "minimum", "where"])
def test_gradients_by_finite_differences(name: str) -> None:
    a, b = normal(0, 2, 3, 2, 2), normal(1, 3, 1, 2)
    condition = normal(2, 2, 3, 2, 2) > 0
    function = getattr(ops, name)
    assert fastnn.gradcheck(lambda a, b: function(condition, a, b) if name == "where" else function(a, b), [a, b])


@pytest.mark.parametrize("gpu", GPUS)
def test_on_a_gpu(gpu: str) -> None:
    """The same values and gradients as on the CPU, bit for bit."""
    for a_shape, b_shape in BROADCASTS[:5]:
        results = []
        for device in ("cpu", gpu):
            a, b = (fastnn.tensor(np.round(normal(i, *s)), requires_grad=True, device=device) for i, s in enumerate((a_shape, b_shape)))
            y = ops.maximum(a, b) + ops.where(a > b, a, b * 2.0) + abs(a).clip(max=1.5)
            y.sum().backward()
            results.append([t.numpy().tobytes() for t in (y, a.grad, b.grad)])
        assert results[0] == results[1], (a_shape, b_shape)


def test_prelu_between_where_and_maximum() -> None:
    """max(x, 0) + w min(x, 0) = where(x > 0, x, w x) = prelu(x, w)."""
    x, w = fastnn.tensor(normal(0, 4, 3, 2, 2)), fastnn.tensor(normal(1, 3))
    slopes = w.reshape(3, 1, 1)
    by_extrema: Tensor = ops.maximum(x, 0) + slopes * ops.minimum(x, 0)
    assert_close(ops.where(x > 0, x, slopes * x), by_extrema)
    assert_close(ops.prelu(x, w), by_extrema)
    a, b = twins(normal(0, 4), "float32")
    assert_close(ops.maximum(a, -a), torch.abs(b))
