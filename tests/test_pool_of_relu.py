"""Max pooling of a ReLU's result goes back past the ReLU: its winners say where nothing was above 0. The bits of both one after the other."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import pytest
from captured_steps import DEVICE, Training
from kernel_calls import DEVICES, Table
from relus import RELUS, TRAINED_ON, gradients, in_two_passes, leaves, normal, trained

import fastnn
from fastnn import Tensor, nn, ops

POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "2": lambda x: ops.max_pool2d(x, 2),
    "overlapping": lambda x: ops.max_pool2d(x, 3, 1, 1),
    "dilated": lambda x: ops.max_pool2d(x, (1, 2), 2, 0, (1, 2), ceil_mode=True),
    "255 pixels": lambda x: ops.max_pool2d(x, (15, 17), 2, (7, 8)),
    "in two calls": lambda x: ops.max_pool2d(x, (17, 18), 1, (8, 9)),  # the first is past the ReLU
}
WHOLE: dict[str, Callable[[Tensor], Tensor]] = {  # those that stay behind the ReLU
    "256 pixels": lambda x: ops.max_pool2d(x, 16, 1, 8),
    "with places": lambda x: ops.max_pool2d(x, 2, return_indices=True)[0],
    "adaptive": lambda x: ops.adaptive_max_pool2d(x, 2),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("relu", [r for r in RELUS if r != "linear"])
@pytest.mark.parametrize("pool", [*POOLS, *WHOLE])
def test_one_pass_goes_back_through_both(pool: str, relu: str, device: str) -> None:
    of = {**POOLS, **WHOLE}[pool]
    for dtype in ("float32", "float64") if device == "cpu" else ("float32",):
        got, rows = gradients(of, relu, device, dtype)
        with in_two_passes("pool2d"):
            expected, rows_of_two = gradients(of, relu, device, dtype)
        assert got == expected and all(map(any, got))
        assert "relu_backward" in rows_of_two and ("relu_backward" in rows) == (pool in WHOLE), (rows, rows_of_two)


@pytest.mark.parametrize("device", DEVICES)
def test_others_who_read_what_relu_made(device: str) -> None:
    """Before, behind, several: their gradients go through the ReLU."""

    def before(y: Tensor) -> Tensor:
        return ops.exp(y).sum() + ops.max_pool2d(y, 2).sum()

    def behind(y: Tensor) -> Tensor:
        pooled = ops.max_pool2d(y, 2)
        return ops.upsample(pooled, y.shape[2:]) * y

    def twice(y: Tensor) -> Tensor:
        return ops.max_pool2d(y, 2).sum() - ops.max_pool2d(y, 3, 1).sum()

    for of in (before, behind, twice):
        got, rows = gradients(of, "conv2d", device, "float32")
        assert ("relu_backward" in rows) == (of is not twice)
        with in_two_passes("pool2d"):
            assert gradients(of, "conv2d", device, "float32")[0] == got


def test_gradients_by_central_differences() -> None:
    def call(*inputs: Tensor) -> Tensor:
        y = RELUS["conv2d"](*inputs)
        return ops.max_pool2d(y, 3, 2, 1).sum() + (ops.max_pool2d(y, 2, 1) * ops.sigmoid(y[:, :, 1:, 1:])).sum()

    assert fastnn.gradcheck(call, [t.numpy() for t in leaves("conv2d", "cpu", "float64")], rtol=1e-5, atol=1e-6)


def test_what_relu_made_is_free() -> None:
    """Of ReLU and pool together the tape holds one byte of each window."""
    x = fastnn.tensor(normal(0, 2, 5, 100, 100), requires_grad=True)
    y = ops.relu(x)
    operation, before = weakref.ref(y._op), fastnn.memory_stats()["allocated"]
    z = ops.max_pool2d(y, 2)
    del y
    assert operation() is None and fastnn.memory_stats()["allocated"] < before
    (winner,) = z._op.saved
    assert (winner.dtype, winner.shape) == ("uint8", z.shape)
    z.sum().backward()
    best = x.numpy().reshape(2, 5, 50, 2, 50, 2).max((3, 5), keepdims=True)
    assert np.array_equal(x.grad.numpy(), ((x.numpy().reshape(2, 5, 50, 2, 50, 2) == best) & (best > 0)).reshape(x.shape))


def test_without_gradients() -> None:
    x = fastnn.tensor(normal(0, 1, 2, 4, 4), requires_grad=True)
    with fastnn.no_grad(), fastnn.profile() as rows:
        y = ops.max_pool2d(ops.relu(x), 2)
    assert y._op is None and not y.requires_grad and set(rows) == {"relu_forward", "maxpool2d_inference"}
    y = ops.relu(x)
    with fastnn.no_grad():
        assert not ops.max_pool2d(y, 2).requires_grad
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), x.numpy() > 0)


def test_a_result_that_was_overwritten() -> None:
    """Is pooled as it is, minus zeros too; of its gradient ReLU knows no more."""
    x, values = fastnn.tensor(normal(0, 1, 2, 4, 4), requires_grad=True), normal(1, 1, 2, 4, 4)
    y = ops.relu(x)
    y.copy_from(-np.abs(values))
    z = ops.max_pool2d(y, 2)
    assert np.array_equal(z.numpy(), ops.max_pool2d(fastnn.tensor(-np.abs(values)), 2).numpy()) and (z.numpy() < 0).all()
    with pytest.raises(RuntimeError, match="ReLU.*was overwritten"):
        z.sum().backward()
    zeros = fastnn.tensor(np.full((1, 2, 4, 4), -0.0), requires_grad=True)
    assert np.signbit(ops.max_pool2d(ops.relu(zeros), 2).numpy()).all()
    y = ops.relu(x)
    z = ops.max_pool2d(y, 2)
    y.copy_from(values)  # too late to matter
    z.sum().backward()
    assert np.count_nonzero(x.grad.numpy()) == np.count_nonzero(z.numpy())


def test_a_second_backward_explains_itself() -> None:
    x = fastnn.tensor(normal(0, 1, 2, 4, 4), requires_grad=True)
    y = ops.relu(ops.exp(x))
    z = ops.max_pool2d(y, 2)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="backward through Exp a second time"):
        z.sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        ops.max_pool2d(y, 2).sum().backward()


# --- in models


def net() -> nn.Module:
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3)
    return nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(64, 5))


@pytest.mark.parametrize(("on", "mixed"), TRAINED_ON, ids=str)
def test_training_has_the_bits_of_two_passes(on: Table, mixed: bool) -> None:
    got = trained(net, (11, 10), on, mixed)
    with in_two_passes("pool2d"):
        assert trained(net, (11, 10), on, mixed) == got


@pytest.mark.usefixtures("without_memory_checks")
def test_a_captured_step_has_no_relu_to_go_back_through() -> None:
    def run() -> tuple[list[object], list[str]]:
        t = Training("lenet")
        captured = fastnn.capture(t.step)
        return t.run(captured, 3), captured.kernels

    seen, kernels = run()
    with in_two_passes("pool2d"):
        expected, of_two = run()
    assert of_two.count("relu_backward") == kernels.count("relu_backward") + 1
    assert seen == expected, DEVICE
