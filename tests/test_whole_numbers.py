"""Arithmetic of whole numbers and booleans, by numpy's; beside floats they count as floats, and gradients pass them by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import fastnn
from fastnn import _C, ops
from fastnn.tensor import Tensor, tensor

WHOLE = {
    "int64": np.array([[3, -7, 0], [12, 5, -1]]),
    "uint8": np.array([[3, 255, 0], [12, 5, 1]], np.uint8),
    "bool": np.array([[True, False, True], [False, False, True]]),
}
SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
}
OTHERS = {
    "number": 3,
    "numpy's": np.int64(-2),
    "array": np.array([5, -2, 1], np.int32),
    "list": [1, 2, 3],
    "Tensor": tensor([2, 1, 7], "uint8"),
}


def grad_of(x: Tensor) -> np.ndarray:
    assert x.grad is not None
    return x.grad.numpy()


def same(y: Tensor, expected: Any, dtype: str) -> None:
    assert (
        type(y) is Tensor and y.dtype == dtype and not y.requires_grad and np.array_equal(y.numpy(), expected) and y.shape == expected.shape
    )


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("sign", SIGNS)
def test_signs(sign: str, other: str, dtype: str) -> None:
    """In int64, so that bytes do not turn around and booleans count."""
    values, given = WHOLE[dtype], OTHERS[other]
    x, wide = tensor(values), values.astype(np.int64)
    beside = np.asarray(given.numpy() if isinstance(given, Tensor) else given).astype(np.int64)
    f = SIGNS[sign]
    same(f(x, given), f(wide, beside), "int64")
    if sign in ("//", "%"):
        with pytest.raises(ZeroDivisionError, match=f"^{sign}: b is 0 in places"):
            f(given, x)
        x, wide = x + 300, wide + 300
    same(f(given, x), f(beside, wide), "int64")


@pytest.mark.parametrize("sign", ["&", "|", "^"])
def test_masks(sign: str) -> None:
    x = tensor(np.array([[0.5, 2.0], [4.0, 1.0]], np.float32))
    first, second = x > 1, x < 3
    f = SIGNS[sign]
    same(f(first, second), f(first.numpy(), second.numpy()), "bool")
    same(f(first, True), f(first.numpy(), True), "bool")
    same(f(np.array([True, False]), first), f(np.array([True, False]), first.numpy()), "bool")
    same(~first, ~first.numpy(), "bool")


def test_of_one() -> None:
    for values in WHOLE.values():
        x, wide = tensor(values), values.astype(np.int64)
        same(-x, -wide, "int64")
        same(abs(x), abs(wide), "int64")
        same(x**2, wide**2, "int64")
        same(2 ** abs(x % 8), 2 ** abs(wide % 8), "int64")
        if values.dtype != bool:
            same(~x, ~wide, "int64")


def test_floats_beside_them() -> None:
    labels, mask = tensor([1, 0, 2]), tensor([True, False, True])
    same(labels / 2, np.array([0.5, 0, 1], np.float32), "float32")
    same(1 / (labels + 1), np.array([0.5, 1, np.float32(1) / 3], np.float32), "float32")
    same(labels * 0.5, np.array([0.5, 0, 1], np.float32), "float32")
    same(labels + np.array([0.5, 1.5, 2.5]), np.array([1.5, 1.5, 4.5], np.float32), "float32")
    same(labels**0.5, np.sqrt(np.array([1, 0, 2], np.float32)), "float32")
    for dtype in ("float32", "float64", "bfloat16"):
        x = tensor([1.5, -2.0, 3.0], dtype)
        for given in (labels, mask):
            values = given.numpy().astype(np.float64)
            assert (x * given).dtype == (given - x).dtype == dtype
            assert np.array_equal((x * given).numpy(), x.numpy() * values) and np.array_equal((given - x).numpy(), values - x.numpy())
            assert np.array_equal(ops.maximum(x, given).numpy(), np.maximum(x.numpy(), values))


@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (3, 4), (2, 3, 4, 5)])
def test_the_gradient_goes_through_the_floats(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x = tensor(values, requires_grad=True)
    y = x * (x > 0) * 2
    y.sum().backward()
    assert np.array_equal(y.numpy(), values * (values > 0) * 2) and np.array_equal(grad_of(x), (values > 0) * 2.0)


@pytest.mark.usefixtures("without_memory_checks")
def test_a_mask_of_floats_is_part_of_a_captured_step() -> None:
    w = tensor([1.0, -1.0, 2.0], requires_grad=True)

    @fastnn.capture
    def step(x: Tensor) -> Tensor:
        w.grad = None
        loss = (w * (x > 0) * x).sum()
        loss.backward()
        return loss

    for values in ([1.0, 2.0, -3.0], [-1.0, 2.0, 3.0]):
        x = np.array(values, np.float32)
        assert step(tensor(x)).item() == (w.numpy() * (x > 0) * x).sum() and np.array_equal(grad_of(w), (x > 0) * x)

    @fastnn.capture
    def counts(x: Tensor) -> Tensor:
        return (x > 0).sum()  # by the host

    with pytest.raises(_C.CaptureError, match="the host looks at the values of an array"):
        counts(tensor([1.0]))


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), ()])
def test_reductions(axis: Any, dtype: str) -> None:
    values = WHOLE[dtype]
    x = tensor(values)
    for keepdims in (False, True):
        same(x.sum(axis, keepdims), values.sum(axis if axis != () else (), np.int64, keepdims=keepdims), "int64")
        same(x.mean(axis, keepdims), values.mean(axis, keepdims=keepdims).astype(np.float32), "float32")
        same(x.max(axis, keepdims), values.max(axis, keepdims=keepdims), dtype)
        same(x.min(axis, keepdims), values.min(axis, keepdims=keepdims), dtype)
        same(x.any(axis, keepdims), values.any(axis, keepdims=keepdims), "bool")
        same(x.all(axis, keepdims), values.all(axis, keepdims=keepdims), "bool")
    floats = tensor(values.astype(np.float32))
    assert floats.any().numpy() == values.any() and floats.all(dim=0, keepdim=True).shape == (1, 3)


def test_accuracy_as_everybody_writes_it() -> None:
    scores, labels = tensor(np.eye(4, 3, dtype=np.float32)), tensor([0, 1, 1, 0])
    correct = 0
    for _ in range(2):
        correct += (scores.argmax(1) == labels).sum().item()
    right = scores.argmax(1) == labels
    assert correct == 6 and type(correct) is int and right.mean().item() == 0.75 and right.sum() / len(labels) == 0.75
    assert f"{right.sum() / len(labels):.2f}" == "0.75" and not right.all() and right.any()


def test_sums_do_not_turn_around() -> None:
    assert tensor(np.full(300, 255, np.uint8)).sum().item() == 76500 and tensor(np.full(2, 2**62 - 1)).sum().item() == 2**63 - 2
    assert np.isnan(tensor(np.zeros(0, int)).mean().item()) and tensor(np.zeros((0, 2), int)).sum(0).numpy().tolist() == [0, 0]


def test_choices() -> None:
    x = tensor([3, -7, 0])
    same(ops.maximum(x, 1), np.array([3, 1, 1]), "int64")
    same(ops.minimum(tensor([1, 1, 1], "uint8"), x), np.array([1, -7, 0]), "int64")
    same(x.clip(-1, 2), np.array([2, -1, 0]), "int64")
    same(x.clip(max=0.5), np.array([0.5, -7, 0], np.float32), "float32")
    same(ops.where(x > 0, x, -1), np.array([3, -1, -1]), "int64")
    same(ops.where(np.array([[True], [False]]), x, 2**60 + 1), np.array([[3, -7, 0], [2**60 + 1] * 3]), "int64")
    same(ops.where(x > 0, x, 0.5), np.array([3, 0.5, 0.5], np.float32), "float32")


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_masks_as_an_index(dtype: str) -> None:
    values = np.random.default_rng(1).integers(-9, 9, (2, 3, 4, 5)).astype(dtype)
    x = tensor(values, requires_grad=dtype == "float32")
    masks: list[np.ndarray] = [
        values > 0,
        np.array([True, False]),
        values[:, :, 0, 0] < 3,
        values[..., 0] > 99,
        np.ones((2, 3, 4, 5), bool),
    ]
    for mask in masks:
        for given in (mask, tensor(mask), mask.tolist()):
            assert np.array_equal(x[given].numpy(), values[mask]) and x[given].shape == values[mask].shape
    if dtype == "float32":
        (x[x > 0] * 3).sum().backward()
        assert np.array_equal(grad_of(x), (values > 0) * 3.0)


@pytest.mark.parametrize("sign", ["//=", "%=", "&=", "|=", "^=", "+=", "-=", "*="])
def test_what_a_module_keeps_is_written_to(sign: str) -> None:
    """As by +=: a buffer stays the same Tensor, of its dtype."""
    module = fastnn.nn.Module()
    module.register_buffer("n", tensor([7, 8, 9]))
    n, expected = module.n, {"n": np.array([7, 8, 9])}
    exec(f"n {sign} 3", expected)
    exec(f"module.n {sign} 3", {"module": module})
    assert module.n is n and n.dtype == "int64" and np.array_equal(n.numpy(), expected["n"])


def test_arrays_of_other_libraries() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    others = [np.full(3, 1.5, bfloat16), torch.full((3,), 1.5, dtype=torch.bfloat16), torch.full((3,), 1.5, requires_grad=True)]
    for other in others:
        same(tensor([1, 2, 3]) + other, np.array([2.5, 3.5, 4.5], np.float32), "float32")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.clip(2**70), ValueError, r"^clip: min must lie between -2\*\*63 and 2\*\*63 - 1, got 1180591620717411303424"),
        (lambda x: x + np.ones(2, int), ValueError, r"^add: shapes \(3,\) and \(2,\) do not broadcast"),
        (lambda x: x // np.ones(2, int), ValueError, r"shapes \(3,\) and \(2,\) do not broadcast"),
        (lambda x: x + 2**63, ValueError, r"^add: b must lie between -2\*\*63 and 2\*\*63 - 1, got 9223372036854775808"),
        (lambda x: np.array([1, 2, 2**63], np.uint64) - x, ValueError, r"^subtract: a must lie between"),
        (lambda x: x * None, TypeError, "^multiply: b: expected a Tensor, an array or a number, got None"),
        (lambda x: x & "a", TypeError, "^&: b: expected a Tensor, an array or a number, got 'a'"),
        (lambda x: x & 0.5, TypeError, "^&: Tensors of floats have no such operation; comparisons give what does"),
        (lambda x: x % 0, ZeroDivisionError, "^%: b is 0; expected what divides whole numbers"),
        (lambda x: x**-1, ValueError, r"^power: whole numbers to the power of -1; fastnn.tensor\(x, 'float32'\) has one"),
        (lambda x: x @ x, TypeError, "^matmul: a has dtype int64; expected float32 or float64"),
        (lambda x: x.exp(), TypeError, "^exp: x has dtype int64; expected float32 or float64"),
        (lambda x: x.any(1), ValueError, r"^any: axis 1 does not exist in shape \(3,\)"),
        (lambda x: x.sum((0, 0)), ValueError, "^sum: axis 0 is named twice"),
        (lambda x: x[:0].max(), ValueError, r"^max over no elements: shape \(0,\)"),
        (lambda x: x[[True, False]], IndexError, r"^index: a mask of shape \(2,\) for x of shape \(3,\); expected that shape"),
        (lambda x: ops.where(x > 0, x, np.ones(2, int)), ValueError, r"^where: shapes \(3,\) \(condition\), \(3,\) and \(2,\) do not"),
    ],
)
def test_refusals(call: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(tensor([1, 2, 3]))
