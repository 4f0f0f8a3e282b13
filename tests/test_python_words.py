"""`==`, `-=`, format(), `x[0] = 1`: Python's own words, said to Tensors."""

from __future__ import annotations

import copy
import operator
import pickle
from array import array
from collections.abc import Callable
from re import escape
from typing import Any

import numpy as np
import pytest
import torch

import fastnn
from fastnn import _C, Tensor, nn, ops, tensor


def same(got: Any, expected: Any) -> bool:
    return isinstance(got, Tensor) and got.dtype == "bool" and np.array_equal(got.numpy(), expected)


LEFT, RIGHT = np.array([1.0, np.nan, 3.0], np.float32), np.array([1.0, np.nan, 2.0], np.float32)


@pytest.mark.parametrize("other", [tensor(RIGHT), RIGHT, RIGHT.tolist(), tuple(RIGHT)], ids=["Tensor", "numpy", "list", "tuple"])
def test_equality_is_of_elements(other: Any) -> None:
    x = tensor(LEFT)
    assert same(x == other, LEFT == RIGHT) and same(x != other, LEFT != RIGHT)
    assert same(other == x, LEFT == RIGHT) and same(other != x, LEFT != RIGHT)


def test_equality_with_what_else_holds_numbers() -> None:
    """Another library's tensor, a range, memory: never a plain False."""
    x = tensor([1, 2, 4])
    for other in (torch.tensor([1, 2, 3]), range(1, 4), memoryview(np.array([1, 2, 3])), array("q", [1, 2, 3])):
        assert same(x == other, [True, True, False]) and same(x != other, [False, False, True])
    assert same(x <= torch.tensor([1, 1, 4]), [True, False, True])
    with pytest.raises(ValueError, match=r"equal: .*\(3,\).*\(2,\)"):
        x == torch.tensor([1, 2])  # noqa: B015


def test_a_plus_in_front_is_the_same() -> None:
    x = tensor([1.0, -2.0], requires_grad=True)
    (+x).sum().backward()
    assert (+x).numpy().tolist() == [1, -2] and x.grad is not None and x.grad.numpy().tolist() == [1, 1]


def test_equality_with_numbers_and_what_is_none() -> None:
    labels = tensor([1, 0, 1])
    assert same(labels == 1, [True, False, True]) and same(np.int64(1) == labels, [True, False, True]) and bool(tensor(1) == 1)
    x: Any = labels
    assert (x == None) is False and (x != None) is True and (x == "1") is False and (x == object()) is False  # noqa: E711


def test_the_accuracy_of_every_tutorial() -> None:
    logits, labels = tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]]), np.array([1, 1, 1])
    assert np.mean((logits.argmax(1) == labels).numpy()) == pytest.approx(2 / 3)
    assert (logits.argmax(1) == tensor(labels)).numpy().sum() == 2


def test_other_shapes_are_refused_and_not_unequal() -> None:
    with pytest.raises(ValueError, match="equal.*3.*2"):
        tensor([1, 2, 3]) == tensor([1, 2])  # noqa: B015


def test_as_keys_tensors_are_what_they_are() -> None:
    a, b = tensor([1.0, 2.0]), tensor([1.0, 2.0])
    of = {a: "a", b: "b"}
    assert of[a] == "a" and of[b] == "b" and len({a, b, a}) == 2


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = tensor([2.0])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_a_captured_step_sees_that_a_tensor_of_equal_value_is_another(without_memory_checks: None) -> None:
    """0 and -0 are equal, and their products are not the same."""
    model, x = Scaled(), tensor([1.0, 3.0])
    model.scale = tensor([0.0])
    step = fastnn.capture(model)
    assert not np.signbit([step(x).numpy(), step(x).numpy()]).any()
    model.scale = tensor([-0.0])
    assert np.signbit(step(x).numpy()).all()


UPDATES: dict[str, Callable[[Any, Any], Any]] = {}


def update(sign: str) -> Callable[[Any], Any]:
    def keep(function: Any) -> Any:
        UPDATES[sign] = function
        return function

    return keep


@update("+")
def _(w: Any, v: Any) -> Any:
    w += v
    return w


@update("-")
def _(w: Any, v: Any) -> Any:
    w -= v
    return w


@update("*")
def _(w: Any, v: Any) -> Any:
    w *= v
    return w


@update("/")
def _(w: Any, v: Any) -> Any:
    w /= v
    return w


@update("**")
def _(w: Any, v: Any) -> Any:
    w **= v
    return w


@pytest.mark.parametrize("sign", UPDATES)
def test_a_parameter_is_changed_where_it_is_under_no_grad(sign: str) -> None:
    layer = nn.Linear(3, 2)
    w, before = layer.weight, layer.weight.numpy().copy()
    with fastnn.no_grad():
        result = UPDATES[sign](w, 2.0)
    assert result is w and layer.weight is w and w.requires_grad
    assert np.array_equal(w.numpy(), eval(f"before {sign} np.float32(2.0)", {"before": before, "np": np}))


@pytest.mark.parametrize("sign", UPDATES)
def test_and_refused_while_gradients_are_recorded(sign: str) -> None:
    w = tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=rf"^w {escape(sign)}= .* of a Tensor that requires a gradient .*no_grad"):
        UPDATES[sign](w, 2.0)
    assert w.numpy().tolist() == [1.0, 2.0]


def kept() -> dict[str, tuple[nn.Module, Any]]:
    frozen, norm, own = nn.Linear(2, 2).requires_grad_(False), nn.BatchNorm2d(2), nn.Module()
    own.register_buffer("mean", tensor([1.0, 2.0]))
    own.mean = tensor([3.0, 4.0])
    parts = {"frozen": (frozen, "weight"), "statistic": (norm, "running_var"), "copy": (copy.deepcopy(norm), "running_var")}
    parts.update(pickled=(pickle.loads(pickle.dumps(norm)), "running_var"), assigned=(own, "mean"))
    return {name: (module, getattr(module, attribute)) for name, (module, attribute) in parts.items()}


@pytest.mark.parametrize("sign", UPDATES)
@pytest.mark.parametrize("name", kept())
def test_what_a_module_keeps_is_changed_where_it_is_without_a_gradient_too(name: str, sign: str) -> None:
    module, w = kept()[name]
    before = w.numpy().copy()
    result = UPDATES[sign](w, 2.0)
    assert result is w and not w.requires_grad and any(w is one for one in (*module.parameters(), *module.buffers()))
    assert np.array_equal(w.numpy(), eval(f"before {sign} np.float32(2.0)", {"before": before, "np": np}))


def test_a_product_of_matrices_overwrites_too() -> None:
    layer, turned = nn.Linear(2, 2), tensor([[0.0, 1.0], [-1.0, 0.0]])
    w, before = layer.weight, layer.weight.numpy().copy()
    with pytest.raises(RuntimeError, match="^w @= .* of a Tensor that requires a gradient .*no_grad"):
        w @= turned
    with fastnn.no_grad():
        w @= turned
        assert w is layer.weight and np.array_equal(w.numpy(), np.stack([-before[:, 1], before[:, 0]], 1))
        with pytest.raises(ValueError, match=r"w @= ...: the result has shape \(2, 3\); expected \(2, 2\)"):
            w @= tensor(np.ones((2, 3)))
    x = kept_elsewhere = tensor([[1.0, 2.0]])
    x @= turned
    assert x.numpy().tolist() == [[-2, 1]] and kept_elsewhere.numpy().tolist() == [[1, 2]]


def test_what_is_overwritten_keeps_its_shape() -> None:
    w = tensor([1.0, 2.0], requires_grad=True)
    with fastnn.no_grad(), pytest.raises(ValueError, match=r"^w \+= ...: the result has shape \(3, 2\); expected \(2,\), that of w"):
        w += np.ones((3, 2))
    assert w.numpy().tolist() == [1, 2]


def test_a_teacher_follows_its_student() -> None:
    student = nn.Linear(2, 2)
    teacher = copy.deepcopy(student).requires_grad_(False)
    begun = student.weight.numpy().copy()
    student.weight.copy_from(np.full((2, 2), 100.0))
    with fastnn.no_grad():
        for p, q in zip(teacher.parameters(), student.parameters()):
            p *= 0.9
            p += 0.1 * q
    assert np.allclose(teacher.weight.numpy(), 0.9 * begun + 10)


def test_what_is_kept_takes_no_values_whose_gradient_would_be_lost() -> None:
    norm, mean = nn.BatchNorm2d(2), tensor([1.0, 2.0], requires_grad=True) * 2
    with pytest.raises(RuntimeError, match=r"^w \+= .* of what a module keeps.*no_grad"):
        UPDATES["+"](norm.running_mean, mean)
    assert not norm.running_mean.numpy().any()
    with fastnn.no_grad():
        UPDATES["+"](norm.running_mean, mean)
    assert norm.running_mean.numpy().tolist() == [2.0, 4.0]


@pytest.mark.parametrize("sign", UPDATES)
def test_elsewhere_the_name_gets_a_new_tensor(sign: str) -> None:
    x = tensor([1.0, 2.0])
    w = tensor([3.0, 4.0], requires_grad=True)
    loss = (w * x).sum()
    before = loss
    total = UPDATES[sign](loss, 2.0)
    assert total is not before and UPDATES[sign](x, 2.0) is not x and x.numpy().tolist() == [1.0, 2.0]
    total.backward()
    assert w.grad is not None and w.grad.numpy().any()


def test_a_loop_by_hand_learns() -> None:
    fastnn.seed(0)
    model, x = nn.Linear(4, 1), tensor(np.random.default_rng(0).standard_normal((32, 4), np.float32))
    wanted, losses = x @ tensor([[1.0], [-2.0], [0.5], [3.0]]), []
    for _ in range(60):
        loss = ops.mse_loss(model(x), wanted)
        loss.backward()
        with fastnn.no_grad():
            for p in model.parameters():
                p -= 0.2 * p.grad
                p.grad = None
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]


def test_a_backward_pass_refuses_what_was_changed_under_it() -> None:
    w = tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    with fastnn.no_grad():
        w -= 1.0
    with pytest.raises(RuntimeError):
        loss.backward()


def test_a_captured_step_does_not_freeze_it(without_memory_checks: None) -> None:
    w = tensor([1.0, 2.0], requires_grad=True)

    def step(x: Tensor) -> Tensor:
        nonlocal w
        loss = (w * x).sum()
        with fastnn.no_grad():
            w -= 0.5
        return loss

    with pytest.raises(_C.CaptureError):
        fastnn.capture(step)(tensor([1.0, 1.0]))


def test_format() -> None:
    loss = tensor(1.23456)
    assert f"{loss:.2f}" == "1.23" and f"{tensor([7]):5d}" == "    7" and f"{loss}" == f"{np.float32(1.23456).item()}"
    assert str(loss) == "tensor(1.23456)" and f"{tensor([1.5])}" == str(tensor([1.5]))
    with pytest.raises(TypeError, match=r"a Tensor of shape \(2,\) cannot be formatted with '.2f'"):
        f"{tensor([1.0, 2.0]):.2f}"


def test_round() -> None:
    loss = tensor([1.23456])
    assert round(loss, 3) == round(loss.item(), 3) and round(loss) == 1 and type(round(loss)) is int and round(tensor(7), 1) == 7


NOT_HERE: dict[str, Callable[[Any], Any]] = {
    r"^x\[...\] = value: Tensors do not change in parts; ops.where": lambda x: operator.setitem(x, 0, 5),
    r"^del x\[...\]: ": lambda x: operator.delitem(x, 0),
    r"^//: Tensors of floats have no such operation; compute with x.numpy\(\)": lambda x: x // 2,
    "^%: ": lambda x: 3 % x,
    r"^round\(\): a Tensor of shape \(2,\) is not one number; np.round\(x.numpy\(\)\)": lambda x: round(x, 1),
    r"^&: Tensors of floats .* comparisons give what does, as in \(x > 1\) & \(x < 3\)$": lambda x: x & (x < 3),
    r"^\|: ": lambda x: (x > 1) | x,
    "^~: ": lambda x: ~x,
    r"^<<: Tensors have no such operation; compute with x.numpy\(\)": lambda x: (x > 1) << 1,
}


@pytest.mark.parametrize("message", NOT_HERE)
def test_what_tensors_do_not_do(message: str) -> None:
    with pytest.raises(TypeError, match=message):
        NOT_HERE[message](tensor([1.0, 2.0]))


@pytest.mark.parametrize("kind", [float, int, bool])
def test_one_number_of_many(kind: Any) -> None:
    assert kind(tensor([[2.5]])) == kind(2.5)
    with pytest.raises(ValueError, match=rf"^{kind.__name__}\(\): a Tensor of shape \(2,\) is not one number; "):
        kind(tensor([1.0, 2.0]))


@pytest.mark.parametrize("other", [None, "a", {1: 2}, int, print], ids=str)
def test_arithmetic_with_what_is_no_number(other: Any) -> None:
    with pytest.raises(TypeError, match=r"^add: b: expected a Tensor, an array or a number beside a Tensor of shape \(2,\), got "):
        tensor([1.0, 2.0]) + other


def test_no_grad_with_and_without_parentheses() -> None:
    w = tensor([1.0], requires_grad=True)

    @fastnn.no_grad
    def bare(x: Tensor) -> Tensor:
        return x * w

    @fastnn.no_grad()
    def called(x: Tensor) -> Tensor:
        return x * w

    assert not bare(w).requires_grad and not called(w).requires_grad and (w * w).requires_grad and bare.__name__ == "bare"
    with pytest.raises(TypeError, match="^no_grad: function must be a function that it decorates, got fastnn|^no_grad: .* got Tensor"):
        fastnn.no_grad(w)


def test_copies_do_not_meet_the_words() -> None:
    x = tensor([1.0, 2.0], requires_grad=True)
    for other in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert other is not x and np.array_equal(other.numpy(), x.numpy()) and other.requires_grad and other.is_leaf
        other.copy_from(np.zeros(2))
    assert x.numpy().all()


def test_a_shallow_copy_of_a_result_leads_back_as_the_result_does() -> None:
    """plt.plot(x) copies what it draws."""
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    other = copy.copy(y)
    (other * y).sum().backward()
    assert x.grad is not None and np.array_equal(x.grad.numpy(), 4 * x.numpy() ** 3)
    assert not copy.copy(y.detach()).requires_grad


@pytest.mark.parametrize("dtype", [np.float64, np.dtype("float64"), float, "float64"], ids=str)
def test_types_of_numpy_and_python_name_a_dtype(dtype: Any) -> None:
    assert tensor([1, 2], dtype).dtype == "float64"


@pytest.mark.parametrize("dtype", [np.int32, str, object, "f8", 3], ids=str)
def test_other_types_are_refused(dtype: Any) -> None:
    with pytest.raises(ValueError if isinstance(dtype, str) else TypeError, match="fastnn.tensor: dtype .* is not one of float32"):
        tensor([1, 2], dtype)


@pytest.mark.parametrize("name", ops.__all__)
def test_operations_pickle(name: str) -> None:
    assert pickle.loads(pickle.dumps(getattr(ops, name))) is getattr(ops, name)


def test_requires_grad_is_true_or_false_of_numbers_that_have_gradients() -> None:
    x: Any = tensor([1.0, 2.0])
    for bad in ("no", 1, None):
        with pytest.raises(TypeError, match="requires_grad must be True or False, got"):
            x.requires_grad = bad
    labels = tensor([1, 2])
    with pytest.raises(TypeError, match="^requires_grad: only float32 and float64 tensors can require a gradient, this one is int64$"):
        labels.requires_grad = True
    x.requires_grad, labels.requires_grad = np.True_, False
    assert x.requires_grad is True and not labels.requires_grad
    (x * 2).sum().backward()
    assert x.grad.numpy().tolist() == [2.0, 2.0]


def test_one_integer_counts_and_chooses() -> None:
    n = tensor(2)
    assert list(range(n)) == [0, 1] and ["a", "b", "c"][n] == "c" and tensor([1.0, 2.0, 3.0])[:n].shape == (2,)  # type: ignore[call-overload, operator]
    assert np.zeros((4, 3))[tensor([1])].shape == (1, 3)
    for other, given in ((tensor(1.0), "of float32"), (tensor(True), "of bool"), (tensor([1]), r"of shape \(1,\)")):
        with pytest.raises(
            TypeError, match=f"^only a Tensor of rank 0 that holds an integer stands for a Python integer, got one {given}; int"
        ):
            range(other)  # type: ignore[call-overload]


def test_a_tensor_is_no_integer_that_is_kept() -> None:
    with pytest.raises(TypeError, match="^Loader: batch_size must be an integer, got Tensor$"):
        fastnn.data.Loader((np.zeros((4, 2)), [0, 1, 0, 1]), tensor(2))  # type: ignore[arg-type]
