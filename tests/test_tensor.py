"""Every method and operator of Tensor against PyTorch in float64, with gradients."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch_twins import DTYPES, assert_close, compare, normal

import fastnn
from fastnn import ops

Shape = tuple[int, ...]

# --- making one


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros(3, np.float64), "float32"),
        (np.zeros(3, np.float16), "float32"),
        (np.zeros(3, np.float32), "float32"),
        (np.zeros(3, np.int8), "int64"),
        (np.zeros(3, np.uint16), "int64"),
        (np.zeros(3, np.int32), "int64"),
        (np.zeros(3, np.uint8), "uint8"),
        (np.zeros(3, bool), "bool"),
        (1.5, "float32"),
        (3, "int64"),
        ([[1, 2], [3, 4]], "int64"),
        ([1.0, 2.0], "float32"),
        (torch.zeros(3, dtype=torch.float64), "float32"),
    ],
)
def test_dtype_without_being_told(values: Any, expected: str) -> None:
    assert fastnn.tensor(values).dtype == expected


def test_dtype_when_told() -> None:
    for dtype in ("float32", "float64", "uint8", "int64", "bool"):
        assert fastnn.tensor([0, 1, 2], dtype).dtype == dtype
    assert fastnn.tensor(fastnn.tensor([1.0], "float64")).dtype == "float64", "a Tensor keeps its dtype"
    assert fastnn.tensor(ops.cast(fastnn.tensor([1.5]), "bfloat16")).dtype == "bfloat16"
    assert fastnn.tensor(np.array([0.1]), "float64").item() == 0.1


def test_tensor_copies() -> None:
    source = np.ones((2, 3), np.float32)
    t = fastnn.tensor(source)
    source[...] = 0
    assert t.numpy().all()
    other = fastnn.tensor(t)
    other.copy_from(source)
    assert t.numpy().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a", "b"],), "cannot use values of dtype"),
        (([1j],), "cannot use values of dtype complex128"),
        (([None],), "cannot use values of dtype object"),
        (([1, 2], None, True), "only float tensors can require a gradient, got int64"),
    ],
)
def test_tensor_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fastnn.tensor(*arguments)


def test_tensor_refuses_another_dtype() -> None:
    with pytest.raises(ValueError, match="'float16' is not one of float32, float64, bfloat16, uint8, int64, bool"):
        fastnn.tensor([1.0], "float16")


def test_what_it_is() -> None:
    t = fastnn.tensor(normal(0, 2, 3, 4, 5))
    assert (t.shape, t.ndim, t.size, len(t), t.dtype, t.requires_grad, t.grad, t.is_leaf) == (
        (2, 3, 4, 5),
        4,
        120,
        2,
        "float32",
        False,
        None,
        True,
    )
    assert repr(fastnn.tensor([1.0, 2.5], requires_grad=True)) == "tensor([1. , 2.5], requires_grad=True)"
    assert repr(fastnn.tensor([1.0], "float64")) == "tensor([1.], dtype=float64)"
    with pytest.raises(TypeError, match="rank 0"):
        len(fastnn.tensor(1.0))
    assert [float(row.sum()) for row in fastnn.tensor([[1.0, 2.0], [3.0, 4.0]])] == [3, 7]


# --- arithmetic with broadcasting

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / (b * b + 1.0),
}
BROADCASTS: list[tuple[Shape, Shape]] = [
    ((), ()),
    ((3,), ()),
    ((4,), (1,)),
    ((2, 3), (3,)),
    ((2, 3), (2, 1)),
    ((1, 3), (2, 1)),
    ((2, 3, 4), (3, 1)),
    ((4, 1, 3), (1, 2, 3)),
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), ()),
    ((2, 3, 4, 5), (5,)),
    ((2, 3, 4, 5), (4, 5)),
    ((2, 3, 4, 5), (4, 1)),
    ((2, 3, 4, 5), (3, 4, 5)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 3, 4, 5), (3, 1, 5)),
    ((2, 3, 4, 5), (1, 3, 1, 1)),
    ((2, 3, 4, 5), (2, 1, 4, 1)),
    ((2, 1, 4, 1), (1, 3, 1, 5)),
    ((1, 1, 1, 5), (2, 3, 4, 1)),
    ((6, 2, 3, 4, 5), (2, 3, 4, 5)),
    ((6, 2, 3, 4, 5), (1, 3, 1, 1)),
    ((2, 3, 2, 3, 2), (3, 1, 3, 1)),
    ((2, 3, 4, 5), (6, 1, 3, 1, 5)),
    ((2, 1, 1, 3, 1), (4, 1, 2)),
    ((0, 3), (3,)),
    ((0, 3, 4, 5), (1, 3, 1, 1)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATORS)
def test_broadcasting(name: str, dtype: str) -> None:
    f = OPERATORS[name]
    for a, b in BROADCASTS:
        for shapes in ((a, b), (b, a)):
            inputs = [normal(i, *shape) for i, shape in enumerate(shapes)]
            terms = int(np.prod(np.broadcast_shapes(a, b)))
            compare(f, f, inputs, dtype, terms)


def test_one_operand_alone_may_require_a_gradient() -> None:
    for f in OPERATORS.values():
        for which in (0, 1):
            operands = [fastnn.tensor(normal(i, 2, 3), requires_grad=i == which) for i in range(2)]
            f(*operands).sum().backward()
            assert operands[which].grad is not None and operands[1 - which].grad is None


def test_shapes_that_do_not_broadcast() -> None:
    a = fastnn.tensor(normal(0, 2, 3))
    for f in ARITHMETIC:
        with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\) do not broadcast: sizes 3 and 4"):
            f(a, fastnn.tensor(normal(1, 2, 4)))


ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv]
OTHERS = {
    "int": 2,
    "float": 2.5,
    "bool": True,
    "np.float64": np.float64(1.5),
    "np.float32": np.float32(0.5),
    "np.int64": np.int64(3),
    "array": normal(1, 3),
    "float64 array": normal(2, 2, 3).astype(np.float64),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", OTHERS)
def test_numbers_and_arrays_on_either_side(kind: str, dtype: str) -> None:
    other, inputs = OTHERS[kind], [normal(0, 2, 3) + 3]
    value = torch.tensor(np.asarray(other, np.float64))
    for f in ARITHMETIC:
        compare(lambda x, f=f: f(x, other), lambda x, f=f: f(x, value), inputs, dtype, 4)
        compare(lambda x, f=f: f(other, x), lambda x, f=f: f(value, x), inputs, dtype, 4)


def test_zeros_keep_their_sign() -> None:
    one = fastnn.tensor([1.0])
    for zero in (0.0, -0.0, 0.0):
        assert np.signbit((one * zero).numpy())[0] == np.signbit(zero)


def test_numbers_that_come_and_go() -> None:
    """The last few are at hand without Python: each is itself, beside every dtype, however many others stood there in between."""
    x = {dtype: fastnn.tensor([1.0, -2.0], dtype) for dtype in (*DTYPES, "bfloat16")}
    wanted = [float("nan"), 0.0, -0.0, 1, 1.0 + 2**-30, *np.arange(20) / 4]
    for number in [*wanted, *wanted[::-1]]:
        for dtype, t in x.items():
            given = number if isinstance(number, int) else float(number)
            held = fastnn.tensor([given, given], dtype)
            assert (t * given).dtype == dtype and (t * given).numpy().tobytes() == (t * held).numpy().tobytes(), f"{given!r}, {dtype}"
            assert (given - t).numpy().tobytes() == (held - t).numpy().tobytes(), f"{given!r}, {dtype}"
    for f in (lambda: x["float32"] * 10**400, lambda: 10**400 - x["float32"], lambda: ops.add(x["float32"], 10**400)):
        with pytest.raises(ValueError, match="must be a number that a float can hold"):
            f()


def test_mixed_dtypes_are_refused() -> None:
    a, b = fastnn.tensor([1.0]), fastnn.tensor([1.0], "float64")
    with pytest.raises(TypeError, match="add: a has dtype float32, b has dtype float64; expected the same"):
        a + b
    with pytest.raises(TypeError, match="at least one Tensor"):
        ops.add(1.0, 2.0)


# --- elementwise functions

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], bool]] = {  # ours, PyTorch's, whether inputs must be positive
    "negative": (lambda x: -x, lambda x: -x, False),
    "exp": (lambda x: x.exp(), lambda x: x.exp(), False),
    "log": (lambda x: x.log(), lambda x: x.log(), True),
    "sqrt": (lambda x: x.sqrt(), lambda x: x.sqrt(), True),
    "relu": (ops.relu, torch.relu, False),
    "silu": (ops.silu, torch.nn.functional.silu, False),
    **{f"power {e}": (lambda x, e=e: x**e, lambda x, e=e: x**e, e != int(e) or e < 0) for e in (2, 3, 0.5, 1.5, -1, -0.5, 1, 0)},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementwise(name: str, dtype: str) -> None:
    ours, theirs, positive = FUNCTIONS[name]
    for shape in [(), (7,), (3, 5), (2, 3, 4, 5), (2, 1, 3, 1, 4), (0,)]:
        x = normal(0, *shape)
        compare(ours, theirs, [np.abs(x) + np.float32(0.5) if positive else x], dtype, 12)


def test_powers_at_zero() -> None:
    for exponent, value, slope in ((0, 1, 0), (1, 0, 1), (2, 0, 0), (3, 0, 0)):
        x = fastnn.tensor([0.0, -0.0], requires_grad=True)
        y = x**exponent
        y.sum().backward()
        assert y.numpy().tolist() == [value] * 2 and x.grad.numpy().tolist() == [slope] * 2, f"exponent {exponent}"


def test_power_takes_numbers_alone() -> None:
    x = fastnn.tensor([1.0])
    with pytest.raises(TypeError, match="exponent must be a number, got Tensor"):
        x**x


# --- matrix products


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((4,), (4,)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((3, 4), (4, 5)),
        ((1, 1), (1, 1)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 5)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 3, 5, 4), (4,)),
        ((4,), (2, 3, 4, 5)),
        ((2, 3, 5, 4), (4, 6)),
        ((5, 4), (2, 3, 4, 6)),
        ((2, 3, 5, 4), (2, 3, 4, 6)),
        ((2, 1, 3, 5, 4), (4, 6)),
        ((2, 1, 3, 5, 4), (2, 1, 3, 4, 6)),
        ((0, 4), (4, 5)),
        ((3, 0), (0, 5)),
        ((0, 3, 4), (4, 5)),
    ],
)
def test_matmul(a: Shape, b: Shape, dtype: str) -> None:
    compare(lambda x, y: x @ y, torch.matmul, [normal(0, *a), normal(1, *b)], dtype, 60)


def test_matmul_with_arrays() -> None:
    a, b = normal(0, 3, 4), normal(1, 4, 5)
    assert_close(fastnn.tensor(a) @ b, a.astype(np.float64) @ b, 4)
    assert_close(a @ fastnn.tensor(b), a.astype(np.float64) @ b, 4)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((3, 4), (5, 6), r"\(3, 4\) @ \(5, 6\): the inner sizes 4 and 5 differ"),
        ((4,), (5,), "inner sizes 4 and 5"),
        ((), (3,), "at least one dimension"),
        ((2, 3, 4), (5, 4, 6), r"leading dimensions of \(2, 3, 4\) and \(5, 4, 6\) differ"),
    ],
)
def test_matmul_refuses(a: Shape, b: Shape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastnn.tensor(normal(0, *a)) @ fastnn.tensor(normal(1, *b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_over_the_last_dimension(dtype: str) -> None:
    for shape in [(5,), (3, 5), (2, 3, 5), (2, 3, 4, 5), (0, 5)]:
        inputs = [normal(0, *shape), normal(1, 7, 5), normal(2, 7)]
        compare(ops.linear, torch.nn.functional.linear, inputs, dtype, 24)
        compare(ops.linear, torch.nn.functional.linear, inputs[:2], dtype, 24)


# --- reductions

REDUCED: list[Shape] = [(), (5,), (3, 4), (2, 3, 4), (2, 3, 4, 5), (1, 3, 1, 5), (2, 3, 2, 3, 2)]


def axes_of(rank: int) -> list[Any]:
    return [None, *range(-rank, rank), *[c for n in range(2, rank + 1) for c in itertools.combinations(range(rank), n)]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sum", "mean", "max"])
def test_reductions_over_every_set_of_axes(name: str, dtype: str) -> None:
    for shape in REDUCED:
        for axis, keepdims in itertools.product(axes_of(len(shape)), (False, True)):
            dims = tuple(range(len(shape))) if axis is None else axis
            theirs = "amax" if name == "max" else name
            compare(
                lambda x: getattr(x, name)(axis, keepdims),  # noqa: B023
                lambda x: getattr(x, theirs)(dim=dims, keepdim=keepdims) if x.ndim else x * 1,  # noqa: B023
                [normal(0, *shape)],
                dtype,
                int(np.prod(shape)),
            )


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_in_asks_for_a_value(dtype: str) -> None:
    """As in numpy: whether one of the elements equals it."""
    t = fastnn.tensor(np.arange(6).reshape(2, 3), dtype)
    assert 1.0 in t and 5 in t and 6 not in t and -1 not in t
    assert np.array([0, 9, 9]) in t and fastnn.tensor([3, 9, 9], dtype) in t and np.array([9, 0, 1]) not in t
    assert True in fastnn.tensor([False, True]) and True not in fastnn.tensor([False])
    assert math.nan not in fastnn.tensor([math.nan]) and 0 not in fastnn.tensor(np.zeros((0, 3)))
    assert t in [t] and t in {0: 0, t: 1}  # those of Python ask for the object first


def test_argmax_speaks_row_major() -> None:
    x = normal(0, 2, 3, 4, 5)
    t = fastnn.tensor(x, requires_grad=True)
    for axis in (None, 0, 1, -1):
        position = t.argmax(axis)
        assert position.dtype == "int64" and not position.requires_grad
        assert np.array_equal(position.numpy(), np.argmax(x, axis))


def test_max_sends_its_gradient_to_one_winner() -> None:
    x = fastnn.tensor(np.ones((2, 3)), requires_grad=True)
    x.max(1).sum().backward()
    assert x.grad.numpy().tolist() == [[1, 0, 0], [1, 0, 0]]


def test_reductions_of_nothing() -> None:
    assert fastnn.tensor(np.zeros((0, 3))).sum(0).numpy().tolist() == [0, 0, 0]
    assert fastnn.tensor(np.zeros((0, 3))).sum().item() == 0
    assert np.isnan(fastnn.tensor(np.zeros((0, 3))).mean().item())
    assert fastnn.tensor(np.zeros((0, 3))).max(1).shape == (0,)
    with pytest.raises(ValueError, match=r"max over no elements: shape \(0, 3\), axis 0"):
        fastnn.tensor(np.zeros((0, 3))).max(0)
    with pytest.raises(ValueError, match=r"var: 0 elements \(shape \(0, 3\), axis 0\) minus correction -1 leave none to divide by"):
        fastnn.tensor(np.zeros((0, 3))).var(0, correction=-1)


def test_reductions_name_a_wrong_axis() -> None:
    x = fastnn.tensor(normal(0, 2, 3))
    with pytest.raises(ValueError, match=r"argmax: axis 0 does not exist in shape \(\)"):
        fastnn.tensor(1.0).argmax(0)
    with pytest.raises(ValueError, match=r"argmax: axis 2 does not exist in shape \(2, 3\)"):
        x.argmax(2)
    for reduction in (x.sum, x.mean, x.max):
        with pytest.raises(ValueError, match=r"axis 2 does not exist in shape \(2, 3\)"):
            reduction(2)
        with pytest.raises(ValueError, match="named twice"):
            reduction((0, -2))
