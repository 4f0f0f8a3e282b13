"""Activations: every part of float32's range in units of the last place, and the special values."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from kernel_calls import Array, Table, call, ulps
from kernel_cases import Case


def sweep(dtype: str, count: int = 300_007) -> Array:
    """Numbers of every sign, exponent and kind: bit patterns at even distance over the whole range."""
    bits = np.linspace(0, 2**32 - 1, count).astype(np.uint32)
    if dtype == "float32":
        return bits.view(np.float32)
    return (bits[::4].astype(np.uint64) << np.uint64(32) | bits[::4].astype(np.uint64)).view(np.float64)


def dense(dtype: str) -> Array:
    """Where the functions bend: -20 ... 20."""
    return np.linspace(-20, 20, 400_001).astype(dtype)


def every_bfloat16(dtype: str) -> Array:
    with np.errstate(invalid="ignore"):
        return (np.arange(2**16, dtype=np.uint32) << 16).view(np.float32).astype(dtype)


def wide(x: Array) -> Array:
    """Denormals count as zero."""
    with np.errstate(all="ignore"):
        return np.where(np.abs(x) < np.finfo(x.dtype).tiny, x * 0, x).astype(np.longdouble)


@pytest.mark.parametrize("numbers", [sweep, dense, every_bfloat16])
def test_relu_is_exact(numbers: object, table: Table) -> None:
    x = numbers(table.dtype)  # type: ignore[operator]
    y = call("relu_forward", (x.shape,), [x], table.dtype)["y"]
    normal = ~(np.abs(x) < np.finfo(x.dtype).tiny)
    assert np.array_equal(y[normal], np.maximum(x, 0)[normal], equal_nan=True)
    assert (np.abs(y[~normal]) < np.finfo(x.dtype).tiny).all()


def test_relu_passes_the_gradient_where_it_is_open(table: Table) -> None:
    y = np.array([0.0, -0.0, 1e-30, 3.0, np.inf, 0.0])
    dy = np.array([1.0, 2.0, 3.0, np.nan, 5.0, np.nan])
    dx = call("relu_backward", (y.shape,), [y, dy], table.dtype)["dx"]
    assert np.array_equal(dx, np.array([0, 0, 3, np.nan, 5, 0], table.dtype), equal_nan=True)


@pytest.mark.parametrize("numbers", [sweep, dense, every_bfloat16])
def test_silu_within_4_ulp(numbers: object, table: Table) -> None:
    x = numbers(table.dtype)  # type: ignore[operator]
    with np.errstate(all="ignore"):
        expected = reference.silu_forward(wide(x))
    expected = np.where(np.isneginf(x), np.nan, expected)  # as PyTorch's
    y = call("silu_forward", (x.shape,), [x], table.dtype)["y"]
    error = ulps(y, expected)
    worst = int(error.argmax())
    assert error[worst] <= 4, f"silu({x[worst]!r}) = {y[worst]!r}, expected {expected[worst]!r}"


@pytest.mark.parametrize("numbers", [sweep, dense, every_bfloat16])
def test_slope_of_silu(numbers: object, table: Table) -> None:
    """Within 4 eps of the terms that it is the sum of (its own value is 0 near -1.28)."""
    x = numbers(table.dtype)  # type: ignore[operator]
    x = x[np.isfinite(x)]
    dx = call("silu_backward", (x.shape,), [x, np.ones_like(x)], table.dtype)["dx"]
    exact = wide(x)
    with np.errstate(all="ignore"):
        expected = reference.silu_backward(exact, np.ones_like(exact))
        terms = reference.sigmoid(exact) * (1 + np.abs(exact) * reference.sigmoid(-exact))
    info = np.finfo(x.dtype)
    error = np.abs(dx - expected) / (4 * terms * info.eps + 2 * info.tiny * np.maximum(1, np.abs(exact)))
    worst = int(error.argmax())
    assert error[worst] <= 1, f"silu'({x[worst]!r}) = {dx[worst]!r}, expected {expected[worst]!r}"


def test_silu_of_special_values(table: Table) -> None:
    x = np.array([np.nan, np.inf, 0.0, -0.0, 1e4, -1e4, 100.0])
    y = call("silu_forward", (x.shape,), [x], table.dtype)["y"]
    assert np.isnan(y[0]) and y[1] == np.inf
    assert (y[2:4] == 0).all() and not np.signbit(y[2]) and np.signbit(y[3])
    assert y[4] == 1e4 and y[5] == 0 and y[6] == 100
    dx = call("silu_backward", (x.shape,), [x, np.ones(7)], table.dtype)["dx"]
    assert np.isnan(dx[0]) and (dx[2:4] == 0.5).all() and dx[4] == 1 and dx[5] == 0


@pytest.mark.parametrize("row", ["relu_forward", "relu_backward", "silu_forward", "silu_backward"])
def test_lengths_around_vectors_and_blocks(row: str, table: Table) -> None:
    for n in [*range(1, 40), 32_767, 32_768, 32_769, 65_537]:
        Case(row, ((n,),)).check(table)


@pytest.mark.parametrize("row", ["relu", "silu"])
def test_backward_is_the_slope_of_forward(row: str) -> None:
    """Central differences in float64, away from the kink."""
    x = np.concatenate([np.linspace(-8, -0.1, 500), np.linspace(0.1, 8, 500)])
    step = 1e-6
    forward = [call(f"{row}_forward", (x.shape,), [x + d], "float64")["y"] for d in (step, -step)]
    given = x if row == "silu" else call("relu_forward", (x.shape,), [x], "float64")["y"]
    dx = call(f"{row}_backward", (x.shape,), [given, np.ones_like(x)], "float64")["dx"]
    assert np.abs((forward[0] - forward[1]) / (2 * step) - dx).max() < 1e-8
