"""The functions of csrc/pointwise.h: every part of float32's range in units of the last place, special values, slopes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference
from kernel_calls import GPUS, TABLES, Array, Table, assert_within, bits, call, ulps, using
from kernel_cases import Case
from kernel_problems.activation import FUNCTIONS
from test_activation import dense, every_bfloat16, sweep, wide

from fastnn import _C


def forward(x: Array, dtype: str, function: str, a: float = 0.0, b: float = 0.0) -> Array:
    return call("pointwise_forward", (x.shape, function, a, b), [x], dtype)["y"]


def backward(kept: Array, dy: Array, dtype: str, function: str, a: float = 0.0, b: float = 0.0) -> Array:
    return call("pointwise_backward", (kept.shape, function, a, b), [kept, dy], dtype)["dx"]


SMOOTH = [("sigmoid", 0.0, 0.0), ("tanh", 0.0, 0.0), ("elu", 1.0, 1.0), ("elu", 1.75, 1.0625), ("softplus", 1.0, 20.0), ("gelu", 0.0, 0.0)]


@pytest.mark.parametrize("numbers", [sweep, dense, every_bfloat16])
@pytest.mark.parametrize("function", SMOOTH, ids=str)
def test_within_4_ulp(function: tuple[str, float, float], numbers: object, table: Table) -> None:
    x = numbers(table.dtype)  # type: ignore[operator]
    exact = wide(x)
    with np.errstate(all="ignore"):
        expected = reference.pointwise_forward(exact, *function).astype(np.longdouble)
        if function[0] == "gelu":  # of -infinity NaN, as PyTorch's
            expected = np.where(np.isneginf(x), np.nan, expected)
    error = ulps(forward(x, table.dtype, *function), expected)
    if function[0] == "gelu" and table.dtype == "float64":  # beyond float32 the reference knows no better itself
        error /= np.maximum(1, np.fmin(np.abs(exact), 40) ** 2)
    worst = int(error.argmax())
    assert error[worst] <= 4, f"{function}({x[worst]!r}): {error[worst]} ulp from {expected[worst]!r}"


@pytest.mark.parametrize("numbers", [sweep, dense, every_bfloat16])
def test_gelu_with_tanh(numbers: object, table: Table) -> None:
    """Within 4 (1 + |z|) ulp: its value is x e^z where z is far below 0, and z is rounded."""
    x = numbers(table.dtype)  # type: ignore[operator]
    exact = wide(x)
    with np.errstate(all="ignore"):
        expected = np.where(np.isneginf(x), np.nan, reference.pointwise_forward(exact, "gelu_tanh"))  # as PyTorch's
        error = ulps(forward(x, table.dtype, "gelu_tanh"), expected)
        error /= 1 + np.fmin(np.abs(reference.gelu_tanh_argument(exact)), 1000)
    worst = int(error.argmax())
    assert error[worst] <= 4, f"gelu_tanh({x[worst]!r}): {error[worst]} from {expected[worst]!r}"


EXACT = [("abs", 0.0, 0.0), ("clip", -1.5, 2.25), ("clip", -np.inf, 3.0), ("leaky_relu", 0.25, 0.0), ("scaled_relu", 0.5, 0.0)]


@pytest.mark.parametrize("numbers", [sweep, every_bfloat16])
@pytest.mark.parametrize("function", EXACT, ids=str)
def test_exact_functions(function: tuple[str, float, float], numbers: object, table: Table) -> None:
    x = numbers(table.dtype)  # type: ignore[operator]
    y = forward(x, table.dtype, *function)
    with np.errstate(all="ignore"):
        expected = reference.pointwise_forward(x, *function)
    normal = ~(np.abs(expected) < np.finfo(x.dtype).tiny)
    assert np.array_equal(y[normal], expected[normal], equal_nan=True)
    assert (np.abs(y[~normal]) < np.finfo(x.dtype).tiny).all()


@pytest.mark.parametrize("numbers", [sweep, dense])
@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_slopes(function: tuple[str, float, float], numbers: object, table: Table) -> None:
    """Within 8 eps of the terms that they are the sum of."""
    x = numbers(table.dtype)  # type: ignore[operator]
    x = x[np.isfinite(x)]
    kept = forward(x, table.dtype, *function) if function[0] in ("sigmoid", "tanh") else x
    dx = backward(kept, np.ones_like(x), table.dtype, *function)
    exact = wide(kept)
    with np.errstate(all="ignore"):
        expected = reference.pointwise_slope(exact, *function)
        near = np.clip(exact, -30, 30)
        terms = {  # the slope itself but where it is a sum
            "gelu": lambda: reference.normal_distribution(near) + np.abs(near) * reference.normal_density(near),
            "gelu_tanh": lambda: reference.sigmoid(near) + near**4 * reference.sigmoid(near) * reference.sigmoid(-near) + 1e-6,
        }.get(function[0], lambda: np.abs(expected))()
    info = np.finfo(x.dtype)
    scale = np.maximum(1, near**2) if function[0].startswith("gelu") else 1  # how far rounding the exponent moves e^z
    error = np.abs(dx - expected) / (8 * terms * info.eps * scale + 2 * info.tiny * np.maximum(1, np.abs(near)))
    worst = int(error.argmax())
    assert error[worst] <= 1, f"{function}'({x[worst]!r}) = {dx[worst]!r}, expected {expected[worst]!r}"


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0]


@pytest.mark.parametrize(
    ("function", "values", "slopes"),  # of x = NaN, inf, -inf, 0, -0; slopes of None: they take the result
    [
        (("sigmoid", 0.0, 0.0), [np.nan, 1, 0, 0.5, 0.5], None),
        (("tanh", 0.0, 0.0), [np.nan, 1, -1, 0.0, -0.0], None),
        (("scaled_relu", 1.75, 0.0), [np.nan, np.inf, 0, 0.0, -0.0], [1.75, 1.75, 0, 0, 0]),
        (("leaky_relu", 0.25, 0.0), [np.nan, np.inf, -np.inf, 0.0, -0.0], [0.25, 1, 0.25, 0.25, 0.25]),
        (("elu", 1.5, 1.25), [np.nan, np.inf, -1.5, 0.0, -0.0], [1.25, 1.25, 0, 1.5, 1.5]),
        (("gelu", 0.0, 0.0), [np.nan, np.inf, np.nan, 0.0, -0.0], [np.nan, 1, 0, 0.5, 0.5]),
        (("gelu_tanh", 0.0, 0.0), [np.nan, np.inf, np.nan, 0.0, -0.0], [np.nan, 1, 0, 0.5, 0.5]),
        (("softplus", 1.0, 20.0), [np.nan, np.inf, 0, math.log(2), math.log(2)], [np.nan, 1, 0, 0.5, 0.5]),
        (("abs", 0.0, 0.0), [np.nan, np.inf, np.inf, 0.0, 0.0], [np.nan, 1, -1, 0, 0]),
        (("clip", -1.0, 2.0), [np.nan, 2, -1, 0.0, -0.0], [0, 0, 0, 1, 1]),
    ],
    ids=str,
)
def test_special_values(function: tuple[str, float, float], values: list[float], slopes: list[float] | None, table: Table) -> None:
    x, expected = np.array(SPECIAL), np.array(values)
    y, finite = forward(x, table.dtype, *function), np.where(np.isfinite(expected), expected, 0)
    assert_within(y, expected, 4 * np.abs(finite), f"{function}")
    assert np.array_equal(np.signbit(y[expected == 0]), np.signbit(expected[expected == 0]))
    if slopes is not None:
        dx = backward(x, np.ones(5), table.dtype, *function)
        tolerance = 4 * np.abs(np.nan_to_num(slopes)) + 1e-30  # in float64 GELU by tanh leaves 1e-259 of -infinity
        assert_within(dx, np.array(slopes), tolerance, f"the slope of {function}")


def test_nothing_passes_where_relu_and_clip_hold_back(table: Table) -> None:
    """Nor NaN, nor infinity; both bounds of clip let pass."""
    x, dy = np.array([-2.0, -1.0, 0.0, 2.0, 3.0]), np.array([np.nan, 2.0, np.inf, 3.0, np.inf])
    assert backward(x, dy, table.dtype, "scaled_relu", 2.0).tolist() == [0, 0, 0, 6, np.inf]
    assert backward(x, dy, table.dtype, "clip", -1.0, 2.0).tolist() == [0, 2, np.inf, 3, 0]
    assert forward(x, table.dtype, "clip", 5.0, 1.0).tolist() == [1] * 5, "a lower bound above the upper one gives the upper one"


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_lengths_around_vectors_and_blocks(function: tuple[str, float, float], table: Table) -> None:
    for n in [*range(1, 40, 3), 32_767, 32_769]:
        Case("pointwise_forward", ((n,), *function)).check(table)
        Case("pointwise_backward", ((n,), *function)).check(table)


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_backward_is_the_slope_of_forward(function: tuple[str, float, float]) -> None:
    """Central differences in float64, away from kinks."""
    x = np.concatenate([np.linspace(-8, -0.1, 500), np.linspace(0.1, 8, 500)])
    x = x[np.min(np.abs(x[:, None] - [-1.5, 2.25, 3.0]), axis=1) > 1e-3]
    step = 1e-6
    up, down = (forward(x + d, "float64", *function) for d in (step, -step))
    kept = forward(x, "float64", *function) if function[0] in ("sigmoid", "tanh") else x
    dx = backward(kept, np.ones_like(x), "float64", *function)
    assert np.abs((up - down) / (2 * step) - dx).max() < 2e-8


@pytest.mark.parametrize("gpu", [pytest.param(gpu) for gpu in GPUS])
@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_cuda_has_the_bits_of_the_cpu(function: tuple[str, float, float], gpu: str) -> None:
    """Wherever the CPU fuses multiply-adds too."""
    fused = [table for table in TABLES if table.where in ("avx2", "avx512")]
    x = np.concatenate([sweep("float32", 40_001), dense("float32")[::10]])
    x = x[np.isfinite(x)]
    results = []
    for table in (*fused, Table(gpu, "float32")):
        with using(table):
            results.append((forward(x, "float32", *function), backward(x, np.ones_like(x), "float32", *function)))
    tiny = np.finfo(np.float32).tiny
    for pair in results[1:]:
        for got, expected in zip(pair, results[0], strict=True):
            flushed = (np.abs(got) < tiny) & (np.abs(expected) < tiny)
            assert bits(np.where(flushed, 0, got)) == bits(np.where(flushed, 0, expected))


def test_unknown_functions_are_refused_and_all_known_ones_are_tested() -> None:
    with pytest.raises(ValueError, match="function 'sinh' is not one of sigmoid, tanh") as refused:
        _C.Pointwise((3,), "sinh")
    known = set(str(refused.value).partition(" is not one of ")[2].split(", "))
    assert {name for name, *_ in [*SMOOTH, *EXACT]} | {"gelu_tanh"} == known, "one has no bound: SMOOTH, EXACT, or a test of its own"
    assert {name for name, *_ in FUNCTIONS} == known, "tests/kernel_problems/activation.py lacks one"
