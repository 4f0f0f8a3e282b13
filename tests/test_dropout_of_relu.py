"""Dropout behind ReLU: one pass over the result goes back through both, with the bits of two passes and a second draw."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from captured_steps import DEVICE, Training
from kernel_calls import DEVICES, NARROW_TABLES, TABLES, Table, call, same_bits, using
from relus import RELUS, TRAINED_ON, gradients, in_two_passes, leaves, normal, trained

import fastnn
from fastnn import Tensor, nn, ops

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 1e-38, 1.0, -1.0]


@pytest.mark.parametrize("p", [1e-9, 0.3, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("inverted", [True, False])
@pytest.mark.parametrize("any_table", [*TABLES, *NARROW_TABLES], ids=str)
def test_the_rows_have_the_same_bits(p: float, inverted: bool, any_table: Table) -> None:
    """Of every pair of special values, kept and dropped."""
    x, dy = (np.tile(v.ravel(), 40) for v in np.meshgrid(SPECIAL, SPECIAL))
    state, plan = np.array([3, 0]), (x.shape, p, 1, 2, inverted)
    scale = 1 / (1 - p) if inverted and p < 1 else 1.0
    with using(any_table):
        y = call("relu_forward", (x.shape,), [x], any_table.dtype)["y"]
        out = call("dropout", plan, [y, state], any_table.dtype)["y"]
        drawn_again = call("dropout", plan, [dy, state], any_table.dtype)["y"]
        expected = call("relu_backward", (x.shape,), [y, drawn_again], any_table.dtype)
        assert same_bits(call("pointwise_backward", (x.shape, "scaled_relu", scale), [out, dy], any_table.dtype), expected)
    passed = np.isinf(expected["dx"]).mean()
    assert passed > 0.02 if p < 0.6 else passed < 0.02


# --- on the tape

DROPOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda x: ops.dropout(x, 0.3),
    "plain dropout": lambda x: ops.dropout(x, 0.3, inverted=False),
    "dropout of all": lambda x: ops.dropout(x, 1.0),
    "dropout2d": lambda x: ops.dropout2d(x, 0.5),
    "depth": lambda x: ops.stochastic_depth(x, 0.5),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("relu", RELUS)
@pytest.mark.parametrize("dropout", DROPOUTS)
def test_one_pass_goes_back_through_both(dropout: str, relu: str, device: str) -> None:
    drop = DROPOUTS[dropout]
    for dtype in ("float32", "float64") if device == "cpu" else ("float32",):
        got, rows = gradients(drop, relu, device, dtype)
        assert "pointwise_backward" in rows and not {"dropout", "group_dropout", "relu_backward"} & set(rows), rows
        with in_two_passes("dropout"):
            expected, rows = gradients(drop, relu, device, dtype)
        assert "relu_backward" in rows and "pointwise_backward" not in rows, rows
        assert got == expected
        assert all(map(any, got)) or dropout == "dropout of all"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("relu", RELUS)
def test_others_who_read_what_relu_made(relu: str, device: str) -> None:
    """Before, behind, several: their gradients go through the ReLU."""

    def two(y: Tensor) -> Tensor:
        return ops.dropout(y, 0.3) * ops.exp(y)

    def behind(y: Tensor) -> Tensor:
        dropped = ops.dropout(y, 0.3)
        return dropped + y * y

    def twice(y: Tensor) -> Tensor:
        return ops.dropout(y, 0.3) - ops.dropout(y, 0.6)

    of = (two, behind, twice)
    got = [gradients(f, relu, device, "float32")[0] for f in of]
    with in_two_passes("dropout"):
        expected, rows = zip(*(gradients(f, relu, device, "float32") for f in of))
    assert all("pointwise_backward" not in r for r in rows) and got == list(expected)


@pytest.mark.parametrize("relu", RELUS)
def test_gradients_by_central_differences(relu: str) -> None:
    def call(*inputs: Tensor) -> Tensor:
        fastnn.seed(0)
        y = RELUS[relu](*inputs)
        return ops.dropout(y, 0.3) * ops.sigmoid(y) + ops.dropout(y, 0.5, inverted=False)

    assert fastnn.gradcheck(call, [t.numpy() for t in leaves(relu, "cpu", "float64")], rtol=1e-5, atol=1e-6)


def test_what_relu_made_is_free() -> None:
    """Neither it nor the mask is kept: of ReLU and dropout together the tape holds one array."""
    x = fastnn.tensor(normal(0, 500, 400), requires_grad=True)
    y = ops.relu(x)
    operation, before = weakref.ref(y._op), fastnn.memory_stats()["allocated"]
    z = ops.dropout(y, 0.5)
    assert fastnn.memory_stats()["allocated"] >= before + x.size * 4
    del y
    assert operation() is None and fastnn.memory_stats()["allocated"] == before
    z.sum().backward()
    assert np.array_equal(x.grad.numpy(), 2.0 * (z.numpy() > 0))


def test_without_gradients() -> None:
    with fastnn.no_grad():
        y = ops.dropout(ops.linear(*leaves("linear", "cpu"), activation="relu"), 0.5)
    assert y._op is None and not y.requires_grad
    x = fastnn.tensor(normal(0, 4, 3), requires_grad=True)
    y = ops.relu(x)
    with fastnn.no_grad():
        assert not ops.dropout(y, 0.5).requires_grad
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), x.numpy() > 0)


def test_a_result_that_was_overwritten() -> None:
    x = fastnn.tensor(normal(0, 4, 3), requires_grad=True)
    y = ops.relu(x)
    y.copy_from(normal(1, 4, 3))
    with pytest.raises(RuntimeError, match="ReLU.*was overwritten"):
        ops.dropout(y, 0.5).sum().backward()


def test_a_second_backward_explains_itself() -> None:
    x = fastnn.tensor(normal(0, 4, 3), requires_grad=True)
    y = ops.relu(ops.exp(x))
    z = ops.dropout(y, 0.5)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="backward through Exp a second time"):
        z.sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        ops.dropout(y, 0.5).sum().backward()


# --- in models


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Dropout2d(0.3), nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 5)
    )


@pytest.mark.parametrize(("on", "mixed"), TRAINED_ON, ids=str)
def test_training_has_the_bits_of_two_passes(on: Table, mixed: bool) -> None:
    got = trained(net, (5, 5), on, mixed)
    with in_two_passes("dropout"):
        assert trained(net, (5, 5), on, mixed) == got


@pytest.mark.usefixtures("without_memory_checks")
def test_a_captured_step_draws_once() -> None:
    def run() -> tuple[list[Any], list[str]]:
        t = Training("mlp")
        captured = fastnn.capture(t.step)
        return t.run(captured, 3), captured.kernels

    seen, kernels = run()
    assert kernels.count("dropout") == 2 and kernels.count("pointwise_backward") == 2 and "relu_backward" not in kernels
    with in_two_passes("dropout"):
        expected, kernels = run()
    assert kernels.count("dropout") == 4 and kernels.count("relu_backward") == 2
    assert seen == expected, DEVICE
