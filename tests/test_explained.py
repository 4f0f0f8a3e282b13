"""Operations as users call them: csrc/bind_explained.cpp stands before each and behind it, without a function of Python."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import sys
import weakref
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import _C, nn, ops
from fastnn.ops.refusals import explained


@explained
def scaled(x: Any, times: int = 2, *, flip: bool = False) -> Any:
    """x times, or the other way round."""
    if isinstance(x, Exception):
        raise x
    return (times, x) if flip else (x, times)


def test_every_argument_is_annotated_in_its_place() -> None:
    """What is looked at ahead of a call goes by the annotations' order."""
    initialisers = [each for name, each in vars(nn.init).items() if name.endswith("_") and not name.startswith("_")]
    for operation in [*(getattr(ops, name) for name in ops.__all__), *initialisers]:
        arguments = [word for word in operation.__annotations__ if word != "return"]
        assert arguments == list(inspect.signature(operation).parameters), operation.__name__


@pytest.mark.parametrize(
    "call, result",
    [
        (lambda: scaled("a"), ("a", 2)),
        (lambda: scaled("a", 3), ("a", 3)),
        (lambda: scaled(x="a", flip=True, times=4), (4, "a")),
        (lambda: scaled("a", np.array(5)), ("a", 5)),
        (lambda: scaled("a", times=np.array(6)), ("a", 6)),
        (lambda: scaled("a", **{"".join(["ti", "mes"]): np.array(7)}), ("a", 7)),  # equal to the argument's name, and another object
    ],
)
def test_numbers_are_what_the_operation_takes(call: Any, result: Any) -> None:
    got = call()
    assert got == result and not any(isinstance(part, np.ndarray) for part in got)


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda: scaled("a", True), "scaled: times must be an integer, got True"),
        (lambda: scaled("a", times=1.5), "scaled: times must be an integer, got 1.5"),
        (lambda: scaled("a", flip=1), "scaled: flip must be True or False, got 1"),
        (lambda: scaled(), "scaled"),
        (lambda: scaled("a", 1, True, 3), r"scaled\(\) takes from 1 to 2 positional arguments but 4 were given; give flip= by name"),
        (lambda: scaled("a", no=1), "scaled"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, error: str) -> None:
    with pytest.raises(TypeError, match=error) as caught:
        call()
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(3),
        _C.CaptureError("scaled: no"),
        ValueError("scaled: its own words"),
        FloatingPointError("add: output y () is not finite at element 0"),
        OSError("no"),
    ],
)
def test_errors_with_nothing_to_explain_go_through_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        scaled(error) if isinstance(error, Exception) else _raising(error)
    assert caught.value is error and caught.value.__context__ is None
    assert [frame.name for frame in caught.traceback][-1] in ("scaled", "fail")


def _raising(error: BaseException) -> None:
    @explained
    def fail() -> None:
        raise error

    fail()


def test_finite_checks_name_the_kernel_and_the_layer() -> None:
    x, model = fastnn.tensor([[np.inf, 1.0]]), nn.Sequential(nn.Linear(2, 2))
    fastnn.set_finite_checks(True)
    try:
        with pytest.raises(FloatingPointError, match=r"^log: output y \(1,\) is not finite at element 0"):
            ops.log(fastnn.tensor([-1.0]))
        with pytest.raises(FloatingPointError, match="^divide: output y"):
            x / 0.0
        with pytest.raises(FloatingPointError, match=r"^0 \(Linear\(2->2\)\): matmul: output y \(1, 2\) is not finite"):
            model(x)
    finally:
        fastnn.set_finite_checks(False)


def test_it_stands_where_a_function_stood() -> None:
    assert inspect.signature(ops.relu) == inspect.signature(inspect.unwrap(ops.relu)) and inspect.isroutine(ops.relu)
    assert (ops.relu.__name__, ops.relu.__module__) == ("relu", "fastnn.ops") and "function relu" in repr(ops.relu)
    assert pickle.loads(pickle.dumps(ops.conv2d)) is ops.conv2d and copy.deepcopy(ops.conv2d) is ops.conv2d
    assert weakref.ref(ops.relu)() is ops.relu

    class Holder:
        method = scaled

    holder = Holder()
    assert holder.method(9) == (holder, 9) and Holder.method(1) == (1, 2)


def test_nothing_is_kept_of_a_call() -> None:
    x = object()
    before = sys.getrefcount(x)
    for _ in range(100):
        scaled(x, 3), scaled(x=x, times=np.array(3))
        for wrong in (lambda: scaled(x, "3"), lambda: scaled(x, no=x), lambda: scaled(ValueError(x))):
            with pytest.raises((TypeError, ValueError)):
                wrong()
    gc.collect()
    assert sys.getrefcount(x) == before


def test_an_operation_goes_with_what_held_it() -> None:
    def local(x: Any) -> Any:
        return x

    gone = weakref.ref(local)
    made = explained(local)
    assert made(4) == 4
    del local, made
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("arguments", [(), (len, [], len), (len, [(1, 2)], len, len), (len, 5, len, len)])
def test_it_is_made_of_four_parts(arguments: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        _C.Explained(*arguments)


def test_no_function_of_python_stands_before_an_operation() -> None:
    """For small arrays it was a fifth of the time."""
    called: list[str] = []
    x = fastnn.tensor(np.ones(3))

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        ops.sigmoid(x)
    finally:
        sys.setprofile(None)
    assert called[0] == "sigmoid"
