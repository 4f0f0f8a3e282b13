"""Operations over elements that run without Python between the Tensor and the kernel (csrc/bind_elementwise.cpp): what `apply` does with the
same Op, to the last bit and to the last entry of the tape; and that they do run so."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import _C, ops
from fastnn.ops import activation, elementwise
from fastnn.tensor import Op, Tensor

ONE: dict[str, tuple[type[Op], Callable[..., Tensor]]] = {
    "exp": (elementwise.Exp, ops.exp),
    "log": (elementwise.Log, ops.log),
    "sqrt": (elementwise.Sqrt, ops.sqrt),
    "relu": (activation.ReLU, ops.relu),
    "silu": (activation.SiLU, ops.silu),
}
TWO: dict[str, tuple[type[Op], Callable[..., Tensor]]] = {
    "add": (elementwise.Add, ops.add),
    "subtract": (elementwise.Subtract, ops.subtract),
    "multiply": (elementwise.Multiply, ops.multiply),
    "divide": (elementwise.Divide, ops.divide),
    "+": (elementwise.Add, lambda a, b: a + b),
    "-": (elementwise.Subtract, lambda a, b: a - b),
    "*": (elementwise.Multiply, lambda a, b: a * b),
    "/": (elementwise.Divide, lambda a, b: a / b),
}


@contextmanager
def watched() -> Iterator[None]:
    """Somebody looks at Python's calls: the Op's own `forward` runs."""
    sys.setprofile(lambda *_: None)
    try:
        yield
    finally:
        sys.setprofile(None)


def inputs(name: str, dtype: str, grads: tuple[bool, ...]) -> list[Tensor]:
    shapes = [(2, 3, 4, 5)] if name in ONE else [(2, 3, 4, 5), (3, 1, 5)]
    random = np.random.default_rng(len(name))
    return [fastnn.tensor(random.uniform(0.5, 2, s), dtype, requires_grad=g) for s, g in zip(shapes, grads)]


def told(f: Callable[..., Tensor], given: list[Tensor]) -> Any:
    """All that can be seen of a call and its gradients."""
    y = f(*given)
    op = y._op
    tape = None
    if op is not None:
        assert op.edges is not None
        kept = [a.numpy().tobytes() for a in getattr(op, "_saved", ())]
        tape = (type(op), op.needs, [e is t for e, t in zip(op.edges, given)], [e is None for e in op.edges], kept)
        tape += (getattr(op, "_versions", ()), getattr(op, "shapes", None))
        y.backward(np.ones(y.shape))
    return (
        y.numpy().tobytes(),
        y.shape,
        y.dtype,
        y.requires_grad,
        tape,
        [None if t.grad is None else t.grad.numpy().tobytes() for t in given],
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_as_apply_does(name: str, dtype: str) -> None:
    _, f = (ONE | TWO)[name]
    for grads in [(True,), (False,)] if name in ONE else [(True, True), (True, False), (False, True), (False, False)]:
        ours = told(f, inputs(name, dtype, grads))
        with watched():
            assert ours == told(f, inputs(name, dtype, grads))
        assert (ours[4] is not None) == any(grads)


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_no_forward_of_python_runs_unless_somebody_looks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op, f = (ONE | TWO)[name]
    given = inputs(name, "float32", (True, True))

    def forward(*_: Any) -> Any:
        raise AssertionError("Python's own forward")

    monkeypatch.setattr(op, "forward", forward)
    f(*given)
    with watched(), pytest.raises((AssertionError, ValueError)):
        f(*given)


def test_inside_of_no_grad_nothing_is_recorded() -> None:
    x = fastnn.tensor(np.ones(3), requires_grad=True)
    with fastnn.no_grad():
        assert (x + x)._op is None and not (x * x).requires_grad and ops.relu(x)._op is None
    assert (x + x)._op is not None


def test_what_was_read_may_not_be_overwritten() -> None:
    x = fastnn.tensor(np.ones(3), requires_grad=True)
    y = x * x
    x.copy_from(np.zeros(3))
    with pytest.raises(RuntimeError, match="backward of Multiply: saved array 0 of shape .* was overwritten"):
        y.sum().backward()


def lets_go(call: Callable[[], object], patience: float) -> bool:
    """Whether another thread has the interpreter's lock during a call, which is repeated for so many seconds until one has.

    Nobody is asked to hand the lock over, so who has it must let go. A call may be over before a busy machine wakes the other.
    """
    ticks, ended, interval = 0, False, sys.getswitchinterval()

    def tick() -> None:
        nonlocal ticks
        while not ended:
            ticks += 1
            time.sleep(0)

    thread = threading.Thread(target=tick)
    sys.setswitchinterval(1000)
    thread.start()
    try:
        until = time.monotonic() + patience
        while time.monotonic() < until:
            time.sleep(0.001)
            before = ticks
            call()
            if ticks != before:
                return True
        return False
    finally:
        sys.setswitchinterval(interval)
        ended = True
        thread.join()


@pytest.mark.parametrize(
    "shapes, expected",
    [([(5,), (5,)], False), ([(2_000_000,), (2_000_000,)], True), ([(1000, 1), (1, 1000)], True)],
    ids=["small", "large", "outer"],
)
def test_all_but_small_calls_let_go_of_the_lock(shapes: list[tuple[int, ...]], expected: bool) -> None:
    """By operands and results: two small ones can make a large one."""
    a, b = (fastnn.tensor(np.ones(shape, np.float32)) for shape in shapes)
    plan = _C.Binary(*shapes)
    a + b
    patience = 60 if expected else 0.2
    assert lets_go(lambda: a + b, patience) == lets_go(lambda: _C.add(plan, a._array, b._array), patience) == expected
    assert _C.last_call()["row"] == "add"


def test_what_is_refused_is_explained() -> None:
    a = fastnn.tensor(np.ones(3))
    with pytest.raises(ValueError, match=r"^add: shapes \(3,\) and \(4,\) do not broadcast"):
        a + fastnn.tensor(np.ones(4))
    with pytest.raises(TypeError, match="^multiply: a has dtype float32, b has dtype float64; expected the same for all"):
        a * fastnn.tensor(np.ones(3), "float64")
    with pytest.raises(TypeError, match="relu: x: expected a Tensor, got"):
        ops.relu(np.ones(3))  # type: ignore[arg-type]


def test_numbers_on_either_side() -> None:
    a = fastnn.tensor([1.0, 2.0], requires_grad=True)
    (2.0 * a + 1 - a / 2 + (3 - a) + 4 / a).sum().backward()
    assert a.grad is not None
    np.testing.assert_allclose(a.grad.numpy(), [2 - 0.5 - 1 - 4, 2 - 0.5 - 1 - 1], rtol=1e-6)
