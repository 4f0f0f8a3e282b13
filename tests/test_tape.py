"""The tape: what is recorded, walked, freed and refused."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch_twins import assert_close, normal, twins

import fastnn
from fastnn import _C, Tensor, models, ops
from fastnn.ops.conv2d import Conv2d
from fastnn.ops.conv2d_batchnorm import Conv2dBatchNorm

Shape = tuple[int, ...]


# --- the tape


def test_gradients_add_up_over_uses_and_calls() -> None:
    x, z = twins(normal(0, 3, 4), "float64")
    for _ in range(2):
        for t in (x, z):
            y = t * t
            (y * t + y.sum() * t).sum().backward()
    assert_close(x.grad, z.grad, 40)


def test_results_in_between_keep_no_gradient() -> None:
    x = fastnn.tensor([2.0], requires_grad=True)
    y = x * 3.0
    (y * y).sum().backward()
    with pytest.warns(UserWarning, match=r"^grad of a Tensor of shape \(1,\) that an operation made is None"):
        assert y.grad is None
    assert not y.is_leaf and x.is_leaf
    assert x.grad.item() == 36 and not x.grad.requires_grad


def test_backward_takes_a_gradient() -> None:
    x = fastnn.tensor(np.ones((2, 3)), requires_grad=True)
    weights = np.arange(6.0).reshape(2, 3)
    (x * 2.0).backward(weights)
    assert np.array_equal(x.grad.numpy(), 2 * weights)
    x.backward(fastnn.tensor(weights))  # a leaf is its own result
    assert np.array_equal(x.grad.numpy(), 3 * weights)
    with pytest.raises(ValueError, match=r"one element, got shape \(2, 3\); pass gradient="):
        (x * 2.0).backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\); expected \(2, 3\)"):
        (x * 2.0).backward(np.ones(3))
    with pytest.raises(TypeError, match=r"^backward\(\): gradient: cannot use values of dtype <U1; expected numbers"):
        (x * 2.0).backward("a")


@pytest.mark.parametrize("word", ["retain_graph", "create_graph", "inputs"])
def test_backward_says_what_stands_for_pytorchs_arguments(word: str) -> None:
    words: dict[str, Any] = {word: True}
    with pytest.raises(TypeError, match=f"there is no argument '{word}'; it takes gradient; .* add the losses and call it once"):
        fastnn.tensor(1.0, requires_grad=True).backward(**words)


def test_gradients_do_not_share_memory_with_what_was_passed() -> None:
    x = fastnn.tensor(np.ones(3), requires_grad=True)
    seed = fastnn.tensor(np.ones(3))
    x.backward(seed)
    seed.copy_from(np.zeros(3))
    assert x.grad.numpy().all()


def test_leaves_do_not_share_a_gradient() -> None:
    a, b, c = (fastnn.tensor(np.ones((2, 1, 3, 1)), requires_grad=True) for _ in range(3))
    (a + b + c.reshape(6).reshape(2, 1, 3, 1)).backward(np.ones((2, 1, 3, 1)))
    a.grad.copy_from(np.zeros(a.shape))
    assert b.grad.numpy().all() and c.grad.numpy().all()


def test_backward_without_history_explains_itself() -> None:
    with pytest.raises(RuntimeError, match="no history"):
        fastnn.tensor([1.0]).backward()


def test_second_backward_explains_itself() -> None:
    x = fastnn.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="backward through Sum a second time.*Run the forward pass again"):
        y.backward()
    z = x * x  # a part shared by two losses
    z.sum().backward()
    with pytest.raises(RuntimeError, match="backward through Multiply a second time"):
        (z + 1.0).sum().backward()


OVERWRITTEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Multiply": lambda x, w: x * w,
    "Divide": lambda x, w: x / w,
    "MatMul": lambda x, w: x @ w,
    "Linear": lambda x, w: ops.linear(x, w),
    "Power": lambda x, w: w**2.0,
    "Log": lambda x, w: w.log(),
    "SiLU": lambda x, w: ops.silu(w),
    "Pointwise": lambda x, w: ops.gelu(w),
    "Extremum": lambda x, w: ops.maximum(x, w),
    "Var": lambda x, w: w.var(),
    "Reshape of Multiply": lambda x, w: x * w.reshape(3, 3),
}


@pytest.mark.parametrize("name", OVERWRITTEN)
def test_changed_saved_arrays_are_refused(name: str) -> None:
    x, w = (fastnn.tensor(np.abs(normal(i, 3, 3)) + 1, requires_grad=True) for i in range(2))
    y = OVERWRITTEN[name](x, w).sum()
    w.copy_from(np.ones((3, 3)))
    with pytest.raises(
        RuntimeError, match=rf"backward of {name.split()[-1]}: saved array \d of shape \(3, 3\) was overwritten.*before optimizer.step"
    ):
        y.backward()


def test_a_write_that_backward_does_not_read_is_allowed() -> None:
    x, w = (fastnn.tensor(normal(i, 3), requires_grad=True) for i in range(2))
    y = (x + w).sum()
    w.copy_from(np.zeros(3))
    y.backward()
    assert x.grad.numpy().tolist() == [1, 1, 1]


def test_no_grad_and_detach() -> None:
    x = fastnn.tensor([1.0, 2.0], requires_grad=True)
    with fastnn.no_grad():
        assert not fastnn.is_grad_enabled()
        assert not (x * x).requires_grad
        with fastnn.no_grad():
            pass
        assert not fastnn.is_grad_enabled()
    assert fastnn.is_grad_enabled() and (x * x).requires_grad
    with pytest.raises(ZeroDivisionError), fastnn.no_grad():
        raise ZeroDivisionError
    assert fastnn.is_grad_enabled()

    @fastnn.no_grad()
    def square(t: Tensor) -> Tensor:
        return t * t

    assert not square(x).requires_grad and not square(x).requires_grad and fastnn.is_grad_enabled()
    y = x * 3.0
    d = y.detach()
    assert not d.requires_grad and d._array.data_ptr == y._array.data_ptr
    (y * d).sum().backward()
    assert x.grad.numpy().tolist() == [9, 18]


def test_no_grad_around_what_yields_is_refused() -> None:
    def batches() -> Any:
        yield 1

    for decorate in (fastnn.no_grad(), fastnn.no_grad):
        with pytest.raises(TypeError, match="no_grad: batches yields, and what runs between its yields is not inside; write `with no_grad"):
            decorate(batches)

    async def fetched() -> None: ...

    with pytest.raises(TypeError, match="no_grad: fetched awaits, and what runs between its awaits is not inside"):
        fastnn.no_grad()(fetched)


def test_no_grad_is_of_one_thread() -> None:
    seen = []
    with fastnn.no_grad():
        thread = threading.Thread(target=lambda: seen.append(fastnn.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_values_can_be_read_while_gradients_are_recorded() -> None:
    x = fastnn.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2.0
    assert y.numpy().tolist() == [2, 4] and float(y[0]) == 2 and y.sum().item() == 6 and np.asarray(y).sum() == 6 and repr(y)
    y.sum().backward()
    assert x.grad.numpy().tolist() == [2, 2]


def step(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    y = ops.relu(ops.conv2d(x, w, b, padding=1))
    y = ops.max_pool2d(ops.batch_norm(y, None, None, training=True), 2)
    y = ops.dropout(y, 0.25) / (y.exp().sum().sqrt() + 1.0)
    return ops.cross_entropy(ops.linear(ops.flatten(y), fastnn.tensor(np.ones((3, 64)))), np.array([0, 2]))


@pytest.mark.parametrize("with_backward", [True, False])
def test_a_step_leaves_nothing_behind(with_backward: bool) -> None:
    x, w, b = (fastnn.tensor(normal(i, *s), requires_grad=True) for i, s in enumerate([(2, 3, 8, 8), (4, 3, 3, 3), (4,)]))

    def run() -> list[weakref.ref[Any]]:
        loss = step(x, w, b)
        watched = [weakref.ref(loss), weakref.ref(loss._op)]
        if with_backward:
            loss.backward()
        for t in (x, w, b):
            t.grad = None
        return watched

    run()  # constants that operations share are made once
    while gc.collect():  # what other tests left, whose finalizers may leave more
        pass
    gc.disable()
    try:
        before = fastnn.memory_stats()["allocated"]
        watched = run()
        assert [r() for r in watched] == [None, None], "a reference cycle keeps the tape alive"
        assert fastnn.memory_stats()["allocated"] == before
        assert gc.collect() == 0, "a step leaves garbage for the collector"
    finally:
        gc.enable()


def test_backward_frees_as_it_goes() -> None:
    x = fastnn.tensor(np.ones(300_000, np.float32), requires_grad=True)
    y = x
    for _ in range(20):
        y = (y * 1.01).exp().log()
    loss = y.sum()
    recorded = fastnn.memory_stats()["allocated"]
    _C.reset_peak_memory()
    del y
    loss.backward()
    stats = fastnn.memory_stats()
    assert stats["peak"] - recorded < 5 * x._array.nbytes, "gradients of the whole chain were held at once"
    assert stats["allocated"] < recorded - 35 * x._array.nbytes, "saved arrays outlived backward although the loss is still there"
    assert loss.item() > 0


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "preactivation"])
def test_a_second_gradient_is_added_where_the_convolution_writes_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits of a sum in a pass of its own; most sums of residual networks are gone."""
    x, labels = fastnn.tensor(normal(0, 4, 3, 32, 32)), np.array([0, 3, 9, 1])

    def run() -> tuple[list[bytes], int, int]:
        fastnn.seed(7)
        options = {"preactivation": True} if name == "preactivation" else {}
        model = models.create("resnet20" if options else name, input_shape=(3, 32, 32), num_classes=10, **options)
        with fastnn.profile() as p:
            ops.cross_entropy(model(x), labels).backward()
        calls = {row: counts["calls"] for row, counts in p.items()}
        return [q.grad.numpy().tobytes() for q in model.parameters()], calls.get("add", 0), calls.get("conv2d_add_backward_input", 0)

    fused, sums, added = run()
    for op in (Conv2d, Conv2dBatchNorm):
        monkeypatch.setattr(op, "adds", False)
    apart, all_sums, none = run()
    assert fused == apart
    assert none == 0 and added > 0 and sums + added == all_sums
    assert sums == {"resnet20": 0, "resnet18": 0}.get(name, sums)


def test_gradients_of_an_input_add_up_in_any_order() -> None:
    """Convolutions and others of one tensor, as first and as second operand."""
    random = [fastnn.tensor(normal(i, *s), "float64", requires_grad=True) for i, s in enumerate([(2, 4, 4, 4), (4, 4, 3, 3), (4, 4, 4, 4)])]

    def several(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
        h, u = x * 2.0, v * 0.5
        y = ops.conv2d(h, w, padding=1) + h
        y = y + ops.conv2d(h, w, padding=1, activation="relu") * ops.conv2d(h, u, padding=2)[:, :, :4, :4]
        return ops.conv2d_batch_norm(h, w, None, None, None, padding=1, residual=h) + y + ops.conv2d(u, u)[:2, :, :1, :1] + ops.conv2d(h, u)

    assert fastnn.gradcheck(several, random)


DEEP = """
import sys, threading
import fastnn

def run(backward):
    x = fastnn.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(10_000):
        y = y + 1.0
    if backward:
        y.backward()
        assert x.grad.item() == 1, x.grad
    assert y.item() == 10_001
    del y

sys.setrecursionlimit(100)
threading.stack_size(256 * 1024)
for backward in (True, False):
    thread = threading.Thread(target=run, args=(backward,))
    thread.start()
    thread.join()
    print("done")
"""


def test_a_chain_of_ten_thousand_needs_no_deep_stack() -> None:
    """Backward through it, and the destruction of one never walked, on 256 KiB of stack."""
    done = subprocess.run([sys.executable, "-c", DEEP], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\ndone\n", "")


def test_deepcopy_and_pickle() -> None:
    x = fastnn.tensor(normal(0, 2, 3, 4, 5), "float64", requires_grad=True)
    (x * x).sum().backward()
    for clone in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert type(clone) is Tensor and clone.dtype == "float64" and clone.requires_grad and clone.is_leaf
        assert np.array_equal(clone.numpy(), x.numpy()) and clone._array.data_ptr != x._array.data_ptr
    clone = copy.deepcopy(x)
    assert np.array_equal(clone.grad.numpy(), x.grad.numpy()) and clone.grad._array.data_ptr != x.grad._array.data_ptr
    a, b = copy.deepcopy([x, x])
    assert a is b
    for forbidden in (copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError, match=r"without a history.*detach\(\)"):
            forbidden(x * 2.0)
