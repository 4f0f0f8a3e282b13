"""Elementwise kernels: exp, log, sqrt and powers in units of the last place; broadcasting over all ranks, rank 4 among others included."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
from kernel_calls import ROWS, Table, assert_within, call, ulps
from kernel_cases import Case
from test_activation import dense, every_bfloat16, sweep, wide

from fastnn import _C

IN_ULPS = ["exp", "log", "sqrt"]
# The other rows that make one array of one, with where each is held to what.
OTHERS = {
    "power": "test_powers_within_4_ulp",
    "relu_forward": "test_activation.py: exact",
    "silu_forward": "test_activation.py: within 4 ulp",
    "pointwise_forward": "test_pointwise.py: each of its functions",
    "copy": "moves numbers",
    "maxpool2d_inference": "picks one number of several",
    "upsample2d_forward": "a sum of four: its case's bound",
    "avgpool2d_forward": "a sum: its case's bound",
    "global_avgpool_forward": "a sum: its case's bound",
    "sum": "a sum: its case's bound",
    "softmax_forward": "over sums: its case's bound",
    "log_softmax_forward": "over sums: its case's bound",
    "logsumexp_forward": "over sums: its case's bound",
}


def test_every_function_of_one_array_has_its_bound() -> None:
    kinds = {row: [(o["name"], o["type"], o["direction"]) for o in about["operands"]] for row, about in ROWS.items()}
    functions = {row for row, operands in kinds.items() if operands == [("x", "T", "in"), ("y", "T", "out")]}
    assert functions == {*IN_ULPS, *OTHERS}


@pytest.mark.parametrize("numbers", [sweep, dense, every_bfloat16])
@pytest.mark.parametrize("row", IN_ULPS)
def test_within_4_ulp(row: str, numbers: object, table: Table) -> None:
    x = numbers(table.dtype)  # type: ignore[operator]
    y = call(row, (x.shape,), [x], table.dtype)["y"]
    with np.errstate(all="ignore"):
        expected = getattr(reference, row)(wide(x))
    error = ulps(y, expected)
    worst = int(error.argmax())
    assert error[worst] <= 4, f"{row}({x[worst]!r}) = {y[worst]!r}, expected {expected[worst]!r}"


def test_special_values(table: Table) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0])
    expected = {
        "exp": [np.nan, np.inf, 0, 1, 1, None, None],
        "log": [np.nan, np.inf, np.nan, -np.inf, -np.inf, 0, np.nan],
        "sqrt": [np.nan, np.inf, np.nan, 0, -0.0, 1, np.nan],
    }
    for row, values in expected.items():
        y = call(row, (x.shape,), [x], table.dtype)["y"]
        for got, value in zip(y, values, strict=True):
            assert value is None or np.array_equal(got, value, equal_nan=True), row


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, 4.0, 0.5, -0.5, -1.0, -2.0, -3.0, 1.7, 0.25, 10.0])
def test_powers_within_4_ulp(exponent: float, table: Table) -> None:
    x = sweep(table.dtype, 200_001)
    x = x[np.isfinite(x) & (np.abs(x) >= np.finfo(x.dtype).tiny)]
    y = call("power", (x.shape, exponent), [x], table.dtype)["y"]
    with np.errstate(all="ignore"):
        error = ulps(y, reference.power(wide(x), x.dtype.type(exponent)))
    worst = int(error.argmax())
    assert error[worst] <= 4, f"{x[worst]!r} ** {exponent} = {y[worst]!r}"


def test_powers_of_special_values(table: Table) -> None:
    x = np.array([np.nan, np.inf, 0.0, -3.0])
    for exponent, expected in {
        2.0: [np.nan, np.inf, 0, 9],
        -1.0: [np.nan, 0, np.inf, -1 / 3],
        1.7: [np.nan, np.inf, 0, np.nan],
    }.items():
        y = call("power", (x.shape, exponent), [x], table.dtype)["y"]
        values = np.array(expected)
        assert_within(y, values, 4 * np.abs(np.where(np.isfinite(values), values, 0)), f"to the power of {exponent}")


# --- broadcasting

BINARY = ["add", "subtract", "multiply", "divide"]
FULL = (2, 3, 4, 5, 2)


def broadcastable(rank: int) -> list[tuple[int, ...]]:
    """Every way in which one side of rank `rank` repeats: its sizes are those of FULL's end, some of them 1."""
    return [
        tuple(1 if one else n for n, one in zip(FULL[:rank], ones, strict=True)) for ones in itertools.product([False, True], repeat=rank)
    ]


@pytest.mark.parametrize("rank", range(6))
def test_every_pair_of_repeated_dimensions(rank: int, table: Table) -> None:
    random = np.random.default_rng(rank)
    for a_shape, b_shape in itertools.product(broadcastable(rank), repeat=2):
        a, b = random.standard_normal(a_shape).astype(np.float32), random.standard_normal(b_shape).astype(np.float32)
        y = call("subtract", (a_shape, b_shape), [a, b], table.dtype)["y"]
        assert np.array_equal(y, a.astype(table.dtype) - b.astype(table.dtype)), (a_shape, b_shape)


@pytest.mark.parametrize("row", BINARY)
def test_sides_of_different_rank(row: str, table: Table) -> None:
    for a_rank, b_rank in itertools.product(range(6), repeat=2):
        for repeated in (False, True):
            a_shape, b_shape = FULL[5 - a_rank :], FULL[5 - b_rank :]
            a_shape = tuple(1 if repeated and i % 2 else n for i, n in enumerate(a_shape))
            Case(row, (a_shape, b_shape)).check(table)


@pytest.mark.parametrize("row", BINARY)
def test_lengths_around_vectors_and_blocks(row: str, table: Table) -> None:
    for n in [*range(1, 36), 32_767, 32_769, 65_537]:
        for a_shape, b_shape in (((n,), (n,)), ((n,), ()), ((1,), (n,)), ((3, n), (n,)), ((3, n), (3, 1))):
            Case(row, (a_shape, b_shape)).check(table)


@pytest.mark.parametrize("row", BINARY)
def test_special_values_follow_ieee(row: str, table: Table) -> None:
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.0, 3e38, 1e-30], table.dtype)
    a, b = (m.reshape(-1) for m in np.meshgrid(special, special))
    y = call(row, (a.shape, b.shape), [a, b], table.dtype)["y"]
    with np.errstate(all="ignore"):
        expected = getattr(np, row)(a, b)
    tiny = np.finfo(y.dtype).tiny
    same = np.isnan(expected) & np.isnan(y) | (y == expected) & (np.signbit(y) == np.signbit(expected))
    assert (same | (np.abs(y) < tiny) & (np.abs(expected) < tiny)).all()


def test_shapes_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="do not broadcast: sizes 3 and 4"):
        _C.Binary((2, 3), (4,))
