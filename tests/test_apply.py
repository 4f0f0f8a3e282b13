"""`apply` and `Op.save` in C++ (csrc/bind_tape.cpp): what they leave in Python's objects, to what they refer, what they refuse."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import _C
from fastnn.ops.elementwise import Add, Multiply
from fastnn.tensor import Array, Op, Tensor, apply


def ones(*shape: int, grad: bool = True) -> Tensor:
    return fastnn.tensor(np.ones(shape, np.float32), requires_grad=grad)


class Many(Op):
    """Takes any number of inputs, None among them, and returns the first."""

    __slots__ = ("seen",)

    def forward(self, *arrays: Any) -> Array:
        self.seen = arrays
        return arrays[0]


def test_what_is_recorded() -> None:
    a, b = ones(2, 3), ones(2, 3, grad=False)
    op = Multiply()
    y = apply(op, a, b)
    assert (op.needs, op.edges) == ((True, False), (a, None))
    assert type(y) is Tensor and y.requires_grad is True and y._op is op and y._grad is None and y.shape == (2, 3)
    assert [type(saved) for saved in op.saved] == [Array, Array] and op._versions == (0, 0)
    later = Add()
    apply(later, y, a)
    assert later.edges == (op, a) and later.serial > op.serial


def test_nothing_is_recorded_where_no_gradient_is_wanted() -> None:
    a, b = ones(2, 3), ones(2, 3, grad=False)
    for op, inputs in ((Add(), (b, b)), (Add(), (a, b))):
        with fastnn.no_grad():
            y = apply(op, *inputs)
        assert op.needs == (False, False) and not hasattr(op, "edges")
        assert y.requires_grad is False and y._op is None


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 100])
def test_any_number_of_inputs(count: int) -> None:
    inputs: list[Tensor | None] = [ones(3, grad=i % 3 == 0) for i in range(count)]
    if count > 1:
        inputs[1] = None
    op = Many()
    apply(op, *inputs)
    assert op.seen == tuple([None if t is None else t._array for t in inputs])
    assert op.needs == tuple([t is not None and i % 3 == 0 for i, t in enumerate(inputs)])
    assert op.edges == tuple([t if need else None for t, need in zip(inputs, op.needs)])


def test_versions_of_what_is_saved() -> None:
    a, b = ones(3), ones(3)
    a.copy_from(np.zeros(3))
    op = Many()
    op.save(a._array, None, b._array)
    assert op._versions == (a._array.version, 0, 0) and a._array.version == 1
    op.save()
    assert (op._saved, op._versions) == ((), ())
    with pytest.raises(TypeError, match="save: expected arrays or None, got float"):
        op.save(a._array, 1.0)  # type: ignore[arg-type]


def test_references_are_given_back() -> None:
    """As many as before, of everything that took part, whether it went well, was not recorded, or failed."""
    a, b = ones(2, 3), ones(2, 3)
    nothing = object()

    def well() -> None:
        (a * b).sum().backward()
        a.grad = b.grad = None

    def unrecorded() -> None:
        with fastnn.no_grad():
            a * b

    def refused() -> None:
        with pytest.raises(TypeError):
            apply(Multiply(), a, nothing)

    def failed() -> None:
        with pytest.raises(ValueError):
            apply(Multiply(), a, ones(5))

    for task in (well, unrecorded, refused, failed):
        task()
        gc.collect()
        held = [a, b, a._array, b._array, nothing, None, True, a.shape, Tensor, Multiply]
        before = [sys.getrefcount(one) for one in held]
        for _ in range(1000):
            task()
        gc.collect()
        after = [sys.getrefcount(one) for one in held]
        # None and True are everybody's: some may come or go, not one a call
        assert max(abs(x - y) for x, y in zip(before, after)) < 100, (task.__name__, before, after)


class Unfinished(Tensor):
    def __init__(self) -> None:  # leaves every slot unset
        pass


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: apply(), TypeError, "apply: the first argument must be an Op"),  # type: ignore[call-arg]
    (lambda: apply(ones(2), ones(2)), TypeError, "apply: the first argument must be an Op"),
    (lambda: apply(Add(), ones(2), np.ones(2)), TypeError, "Add: expected a Tensor, got numpy.ndarray; fastnn.tensor"),
    (lambda: apply(Add(), ones(2), Unfinished()), TypeError, "Add: expected a Tensor, got Unfinished"),
    (lambda: apply(Add(), ones(2)), TypeError, "positional argument"),
    (lambda: apply(Op(), ones(2)), NotImplementedError, "^$"),
    (lambda: _C.add(), TypeError, "add: parameters must be a Binary, got nothing"),
    (lambda: _C.add((2,), ones(2)._array, ones(2)._array), TypeError, "add: parameters must be a Binary, got tuple"),
    (lambda: _C.add(_C.Elements((2,)), ones(2)._array, ones(2)._array), TypeError, "must be a Binary, got .*Elements"),
    (lambda: _C.add(_C.Binary((2,), (2,)), ones(2)._array, 1.0), TypeError, "add: b must be an Array, got float"),
    (lambda: _C.add(_C.Binary((2,), (2,)), ones(2)._array), TypeError, "add takes 2 arrays, got 1"),
    (lambda: _C.add(_C.Binary((2,), (2,)), *[ones(2)._array] * 3), TypeError, "add got 3 arrays, 2 expected"),
    (lambda: _C.add(_C.Binary((2,), (2,)), ones(2)._array, ones(3)._array), ValueError, r"add: b has shape \(3,\); expected \(2,\)"),
    (lambda: _C.plan("add", _C.Elements((2,))), TypeError, "plan: parameters of add must be a Binary"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_what_a_gradient_is_wanted_of_may_not_answer() -> None:
    a = ones(2)
    a._wants = np.ones(2)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="ambiguous"):
        apply(Add(), a, ones(2))
    a._wants = 1  # type: ignore[attr-defined]
    assert apply(Add(), a, ones(2)).requires_grad is True


def test_the_answer_may_change_everything() -> None:
    """What is asked while an operation begins may replace the very arrays that it is about to take."""

    class Changes:
        def __init__(self, t: Tensor) -> None:
            self.t = t

        def __bool__(self) -> bool:
            self.t._wants, self.t._op, self.t._array = False, None, _C.from_numpy(np.zeros((2, 3), np.float32))
            return True

    for _ in range(20):
        a = ones(2, 3)
        a._wants = Changes(a)  # type: ignore[attr-defined]
        assert apply(Add(), a, ones(2, 3)).numpy().tolist() == [[2, 2, 2]] * 2


def test_what_is_no_array_makes_no_tensor() -> None:
    class Wrong(Op):
        def forward(self, x: Array) -> Any:
            return np.ones(2)

    with pytest.raises(TypeError, match="Tensor: expected an array of the compiled core, got"):
        apply(Wrong(), ones(2))


def test_shapes_are_those_of_the_array() -> None:
    """Tuples of shapes are kept and given out again: many more shapes than there are places, each twice."""
    random = np.random.default_rng(0)
    shapes = [tuple(random.integers(0, 5, random.integers(0, 7)).tolist()) for _ in range(3000)] * 2
    shapes += [(n,) for n in range(300)] + [(1, n) for n in range(300)] + [(n, 1) for n in range(300)]
    for shape in shapes:
        array = _C.empty(shape)
        assert array.shape == shape and array.numpy().shape == shape
    array = _C.empty((3, 4))
    assert array.shape is _C.empty((3, 4)).shape and array.shape is not _C.empty((4, 3)).shape
