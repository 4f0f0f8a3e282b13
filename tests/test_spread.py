"""var, std, norm, min: against PyTorch, far from the origin, at zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kernel_calls import assert_within
from torch_twins import DTYPES, compare, normal

import fastnn
from fastnn import ops

AXES = [((7,), None), ((3, 5), 1), ((2, 3, 4, 5), (0, 2, 3)), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), None), ((2, 3, 4), (0, -1))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("shape", "axis"), AXES, ids=str)
@pytest.mark.parametrize("name", ["var", "std"])
def test_spread_is_pytorchs(name: str, shape: tuple[int, ...], axis: int | tuple[int, ...] | None, keepdims: bool, dtype: str) -> None:
    for correction in (1, 0):
        compare(
            lambda x, c=correction: getattr(x, name)(axis, keepdims, correction=c),
            lambda x, c=correction: getattr(x, name)(dim=axis, keepdim=keepdims, correction=c),
            [normal(0, *shape) + 3],
            dtype,
            60,
        )
    compare(
        lambda x: getattr(x, name)(axis),
        lambda x: getattr(x, name)(axis) if axis is not None else getattr(x, name)(),
        [normal(0, *shape)],
        dtype,
        60,
    )


@pytest.mark.parametrize("mean", [1, 100, 1000, -10_000])
def test_variance_far_from_the_origin(mean: float) -> None:
    x = (normal(0, 50_000) + mean).astype(np.float32)
    exact = x.astype(np.float64).var(ddof=1)
    assert abs(fastnn.tensor(x).var().item() / exact - 1) < 1e-5


def test_no_spread_at_all() -> None:
    x = fastnn.tensor(np.full((3, 4), 2.5), requires_grad=True)
    y = x.std(1)
    y.sum().backward()
    assert y.numpy().tolist() == [0, 0, 0] and not x.grad.numpy().any(), "the slope of a standard deviation of 0 counts as 0"
    with pytest.raises(ValueError, match=r"var: 1 elements \(shape \(3, 1\), axis 1\) minus correction 1 leave none to divide by"):
        ops.var(fastnn.tensor(np.ones((3, 1))), 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), AXES, ids=str)
def test_norm_is_pytorchs(shape: tuple[int, ...], axis: int | tuple[int, ...] | None, dtype: str) -> None:
    compare(lambda x: x.norm(axis=axis), lambda x: torch.linalg.vector_norm(x, dim=axis), [normal(0, *shape)], dtype, 60)


def test_norm_of_nothing() -> None:
    x = fastnn.tensor([0.0, 0.0], requires_grad=True)
    x.norm().backward()
    assert x.grad.numpy().tolist() == [0, 0]


@pytest.mark.parametrize("other", [lambda x: x.norm(1), lambda x: ops.norm(x, 1), lambda x: x.norm(2, 1), lambda x: x.norm(np.ones(2))])
def test_the_order_of_a_norm_is_no_axis(other: Callable[[Any], Any]) -> None:
    x = fastnn.tensor(normal(0, 3, 4, 5))
    with pytest.raises(TypeError, match=r"^norm: got .* where others have the order of the norm, which is always 2 here; an axis"):
        other(x)
    assert x.norm(2).item() == ops.norm(x, 2.0).item() == x.norm().item() and np.array_equal(
        x.norm(2, dim=1).numpy(), x.norm(axis=1).numpy()
    )
    with pytest.raises(TypeError, match="^norm: there is no argument 'p'; .*; its order is 2$"):
        fastnn.tensor([1.0]).norm(p=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), AXES, ids=str)
def test_min_is_pytorchs(shape: tuple[int, ...], axis: int | tuple[int, ...] | None, dtype: str) -> None:
    compare(lambda x: x.min(axis), lambda x: torch.amin(x, dim=() if axis is None else axis), [normal(0, *shape)], dtype)
    x = fastnn.tensor([3.0, np.nan, 1.0])
    assert np.isnan(x.min().item()) and fastnn.tensor([3.0, 1.0, 1.0]).min().item() == 1


@pytest.mark.parametrize("name", ["var", "std", "norm", "min"])
def test_gradients_by_finite_differences(name: str) -> None:
    for axis in (None, 1, (0, 2, 3)):
        assert fastnn.gradcheck(lambda x, a=axis: getattr(x, name)(axis=a), [normal(0, 2, 3, 2, 2)])


def test_spread_does_not_move_with_the_mean_and_scales() -> None:
    x = normal(0, 4, 6)
    t = fastnn.tensor(x)
    variance, square = t.var(1).numpy(), (t * t).mean(1).numpy()
    assert_within(fastnn.tensor(x + 8).var(1).numpy(), variance, 8 * variance + 8 * variance**0.5, "x + 8 is rounded by 8 eps at most")
    assert np.array_equal((t * 4.0).std(1).numpy(), t.std(1).numpy() * 4), "times a power of two: exactly"
    assert_within(t.var(1, correction=0).numpy() + t.mean(1).numpy() ** 2, square, 8 * square, "the mean of the squares")
