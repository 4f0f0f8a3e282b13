"""Operations of one's own, and the check of their gradients."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from torch_twins import DTYPES, assert_close, direction, normal

import fastnn
from fastnn import Function, Tensor, nn, ops


class Cube(Function):
    """numpy in, numpy out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> np.ndarray:
        ctx.save_for_backward(x)
        return x.numpy() ** 3

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> np.ndarray:
        (x,) = ctx.saved_tensors
        return 3 * x.numpy() ** 2 * dy.numpy()


class ScaledProduct(Function):
    """Tensors in and out, two inputs, one plain argument."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.scale = scale
        return a * b * scale

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        a, b = ctx.saved_tensors
        return dy * b * ctx.scale, dy * a * ctx.scale if ctx.needs_input_grad[1] else None, None


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_and_gradients(dtype: str) -> None:
    for shape in [(), (5,), (2, 3, 4, 5)]:
        values = normal(0, *shape)
        x = fastnn.tensor(values, dtype, requires_grad=True)
        y = Cube.apply(x * 2.0)
        assert y.dtype == dtype and y.requires_grad
        dy = direction(shape)
        y.backward(dy)
        wide = values.astype(np.float64)
        assert_close(y, 8 * wide**3, 8)
        assert_close(x.grad, 24 * wide**2 * dy, 8)
        assert x.grad.dtype == dtype


def test_other_arguments_pass_through() -> None:
    a, b = (fastnn.tensor(normal(i, 3), requires_grad=True) for i in range(2))
    ScaledProduct.apply(a, b, 0.5).sum().backward()
    assert_close(a.grad, b.numpy() * 0.5)
    assert_close(b.grad, a.numpy() * 0.5)
    constant = fastnn.tensor(normal(2, 3))
    ScaledProduct.apply(a, constant, 0.5).sum().backward()
    assert constant.grad is None
    assert_close(a.grad, (b.numpy() + constant.numpy()) * 0.5)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
@pytest.mark.parametrize("made", [lambda x, dtype: x.astype(dtype), lambda x, dtype: fastnn.tensor(x.astype(dtype))])
def test_results_that_are_counted_have_no_gradient(made: Any, dtype: str) -> None:
    class Steps(Function):
        @staticmethod
        def forward(ctx: Any, x: fastnn.Tensor) -> Any:
            return made(x.numpy() > 0, dtype)

    x = fastnn.tensor([-1.0, 2.0], requires_grad=True)
    steps = Steps.apply(x)
    assert steps.dtype == dtype and not steps.requires_grad and steps.is_leaf and steps.numpy().tolist() == [0, 1]
    (x * steps.numpy()).sum().backward()
    assert x.grad is not None and x.grad.numpy().tolist() == [0, 1]


class Rows(Function):
    """An embedding: whole numbers, or a mask, in front of what has the gradient."""

    @staticmethod
    def forward(ctx: Any, index: Tensor, weight: Tensor) -> np.ndarray:
        ctx.index, ctx.shape = index.numpy(), weight.shape
        return weight.numpy()[ctx.index]

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[None, np.ndarray]:
        dw = np.zeros(ctx.shape)
        np.add.at(dw, ctx.index, dy.numpy())
        return None, dw


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", [[2, 0, 2], [True, False, True]], ids=str)
def test_a_result_of_floats_has_the_type_of_the_float_inputs(index: list[int], dtype: str) -> None:
    """Not that of the labels or the mask in front of them, which cut the fractions off, and with them the gradient."""
    weight = fastnn.tensor(normal(0, 3, 2), dtype, requires_grad=True)
    y = Rows.apply(fastnn.tensor(index), weight)
    assert y.dtype == dtype and y.requires_grad and np.array_equal(y.numpy(), weight.numpy()[index])
    y.sum().backward()
    assert weight.grad is not None and weight.grad.numpy().sum() == y.size


def test_forward_sees_no_history_and_records_nothing() -> None:
    seen = {}

    class Look(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            seen.update(requires_grad=x.requires_grad, recording=fastnn.is_grad_enabled(), needs=ctx.needs_input_grad)
            return x * 1.0

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Tensor:
            seen.update(recording_in_backward=fastnn.is_grad_enabled())
            return dy

    x = fastnn.tensor([1.0], requires_grad=True)
    Look.apply(x).backward()
    assert seen == {"requires_grad": False, "recording": False, "needs": (True,), "recording_in_backward": False}
    assert not Look.apply(x.detach()).requires_grad
    with fastnn.no_grad():
        assert not Look.apply(x).requires_grad


def test_none_means_no_gradient() -> None:
    class Stop(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 1.0

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> None:
            return None

    x = fastnn.tensor([1.0], requires_grad=True)
    (Stop.apply(x) + x).backward()
    assert x.grad.item() == 1


class Wrong(Function):
    """Returns whatever `answer` says as gradients of two inputs of shape (2, 3)."""

    answer: Any = None

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return Wrong.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.ones((2, 3)), "Wrong.backward returned 1 gradients; forward took 2 arguments"),
        ((np.ones((2, 3)),) * 3, "Wrong.backward returned 3 gradients; forward took 2 arguments"),
        ((np.ones((2, 3)), np.ones(3)), r"Wrong.backward: gradient 1 has shape \(3,\); its input has shape \(2, 3\)"),
        ((np.ones((3, 2)), None), r"Wrong.backward: gradient 0 has shape \(3, 2\); its input has shape \(2, 3\)"),
        ([np.ones((2, 3))] * 3, "Wrong.backward returned 3 gradients; forward took 2 arguments"),
        ((fastnn.tensor(np.ones((2, 3)), "float64"), None), "Wrong.backward: gradient 0 has dtype float64; its input has float32"),
        ((None, fastnn.tensor(np.ones((2, 3), int))), "Wrong.backward: gradient 1 has dtype int64; its input has float32"),
        ((np.array([["a"] * 3] * 2), None), "Wrong.backward: expected it to return one Tensor or array of numbers, got numpy.ndarray"),
        (("ab", None), "Wrong.backward: expected it to return one Tensor or array of numbers, got 'ab'"),
    ],
)
def test_backward_that_does_not_fit_is_refused(answer: Any, message: str) -> None:
    Wrong.answer = answer
    a, b = (fastnn.tensor(normal(i, 2, 3), requires_grad=True) for i in range(2))
    with pytest.raises((ValueError, TypeError), match=message):
        Wrong.apply(a, b).sum().backward()


def test_gradients_of_numpy_get_the_type_of_the_input() -> None:
    a, b = (fastnn.tensor(normal(i, 2, 3), requires_grad=True) for i in range(2))
    for answer in ((np.ones((2, 3), int), np.ones((2, 3), bool)), [[[1, 1, 1]] * 2, np.ones((2, 3), np.float64)]):
        Wrong.answer, a.grad, b.grad = answer, None, None
        Wrong.apply(a, b).sum().backward()
        for t in (a, b):
            assert t.grad.dtype == "float32" and t.grad.numpy().tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize(
    ("result", "kept", "message"),
    [
        (None, (), "Once.forward: expected it to return one Tensor or array of numbers, got None"),
        ((1.0, 2.0), (), r"Once.forward: expected it to return one Tensor or array of numbers, got \(1.0, 2.0\)"),
        ((fastnn.tensor([1.0]),) * 2, (), "Once.forward: .*, got a tuple of Tensor"),
        (1.0, (np.ones(2),), r"save_for_backward: tensors must be Tensors \(anything .* ctx.scale = scale\), got numpy.ndarray among them"),
        (1.0, (None,), "save_for_backward: tensors must be Tensors .*, got None among them"),
    ],
)
def test_forward_that_does_not_fit_is_refused(result: Any, kept: tuple[Any, ...], message: str) -> None:
    class Once(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Any:
            ctx.save_for_backward(*kept)
            return result

    with pytest.raises(TypeError, match=message):
        Once.apply(fastnn.tensor([1.0], requires_grad=True))


def test_missing_methods_are_named() -> None:
    class Empty(Function):
        pass

    class OneWay(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 1.0

    x = fastnn.tensor([1.0], requires_grad=True)
    with pytest.raises(NotImplementedError, match="static method forward"):
        Empty.apply(x)
    with pytest.raises(NotImplementedError, match="static method backward"):
        OneWay.apply(x).backward()


def test_saved_tensors_are_guarded_and_freed() -> None:
    x = fastnn.tensor([1.0, 2.0], requires_grad=True)
    y = Cube.apply(x).sum()
    x.copy_from(np.zeros(2))
    with pytest.raises(RuntimeError, match="saved array 0 .* was overwritten"):
        y.backward()
    y = Cube.apply(x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    gc.disable()
    try:
        y = Cube.apply(x * 2.0)
        context = weakref.ref(y._op.context)
        y.sum().backward()
        assert not context().saved_tensors, "saved tensors outlive backward"
        del y
        assert context() is None, "a reference cycle keeps the context alive"
    finally:
        gc.enable()


def test_inside_a_module() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return Cube.apply(self.fc(x))

    net = Net().double()
    assert fastnn.gradcheck(lambda x: net(x), [normal(0, 4, 3)])


# --- gradcheck


def test_gradcheck_passes_what_is_right() -> None:
    assert fastnn.gradcheck(Cube.apply, [normal(0, 2, 3)])
    assert fastnn.gradcheck(lambda a, b: ScaledProduct.apply(a, b, 0.5), [normal(0, 2, 3), fastnn.tensor(normal(1, 2, 3))])
    assert fastnn.gradcheck(lambda x, w, b: ops.conv2d(x, w, b, padding=1), [normal(0, 2, 2, 4, 3), normal(1, 3, 2, 3, 3), normal(2, 3)])
    assert fastnn.gradcheck(lambda x, labels: ops.cross_entropy(x, labels), [normal(0, 4, 3), np.array([0, 2, 1, 1])])


def test_gradcheck_at_kinks() -> None:
    assert fastnn.gradcheck(ops.relu, [np.array([0.0, -1.0, 1.0, 1e-8])])
    assert fastnn.gradcheck(lambda x: x.max(), [np.array([1.0, 1.0])])


def distorted(change: Any) -> type[Function]:
    class Distorted(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Any:
            return change(2 * ctx.saved_tensors[0].numpy() * dy.numpy())

    return Distorted


def one_element(g: np.ndarray) -> np.ndarray:
    g[1, 2] *= 1.001
    return g


@pytest.mark.parametrize(
    ("change", "element"),
    [
        (lambda g: -g, r"\(0, 0\)"),
        (lambda g: g * 1.0001, r"\(0, 0\)"),
        (lambda g: None, r"\(0, 0\)"),
        (lambda g: g * 0, r"\(0, 0\)"),
        (lambda g: g[::-1], r"\(0, 0\)"),
        (lambda g: np.full_like(g, np.nan), r"\(0, 0\)"),
        (one_element, r"\(1, 2\)"),
    ],
    ids=["sign", "a little too much", "none", "zero", "reversed", "nan", "one element"],
)
def test_gradcheck_catches_what_is_wrong(change: Any, element: str) -> None:
    with pytest.raises(AssertionError, match=rf"gradcheck: input 0, element {element}: backward gives .*, central difference"):
        fastnn.gradcheck(distorted(change).apply, [normal(0, 2, 3)])


def test_gradcheck_names_the_input() -> None:
    class Second(Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
            return a + b * 2.0

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
            return dy, dy

    with pytest.raises(AssertionError, match="input 1, element"):
        fastnn.gradcheck(Second.apply, [normal(0, 3), normal(1, 3)])


def test_gradcheck_of_a_module_looks_at_its_parameters() -> None:
    class Scale(nn.Module):
        def __init__(self, backward: Any) -> None:
            super().__init__()
            self.weight, self.frozen = nn.Parameter(normal(2, 3)), nn.Parameter(normal(3, 3))
            self.norm = nn.BatchNorm1d(3)
            self.frozen.requires_grad = False
            self.product = type("Product", (Function,), {"forward": staticmethod(product), "backward": staticmethod(backward)})

        def forward(self, x: Tensor) -> Tensor:
            return self.product.apply(self.norm(x), self.weight) * self.frozen

    def product(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x * w

    def right(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return dy * w, (dy * x).sum(0)

    def wrong(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        return right(ctx, dy)[0], right(ctx, dy)[1] * 2.0

    x = normal(0, 4, 3)
    for backward in (right, wrong):
        layer = Scale(backward)
        layer.weight.grad = fastnn.tensor(np.ones(3))
        before, arrays = layer.state_dict(), [t._array for t in layer._state().values()]
        if backward is right:
            assert fastnn.gradcheck(layer, [x])
        else:
            with pytest.raises(
                AssertionError, match=r"^gradcheck: parameter weight, element \(0,\): backward .*\(of the result's projection, "
            ):
                fastnn.gradcheck(layer, [x])
        assert all((before[name] == value).all() for name, value in layer.state_dict().items())
        assert all(t._array is a and t.dtype != "float64" for t, a in zip(layer._state().values(), arrays))
        assert layer.weight.grad is not None and layer.weight.grad.numpy().tolist() == [1, 1, 1] and layer.norm.weight.grad is None


def test_gradcheck_of_one_number_shows_its_gradient() -> None:
    with pytest.raises(AssertionError, match=r"element \(0,\): backward gives -6, central difference 6(\.\d+)?$|5\.9999\d+$"):
        fastnn.gradcheck(lambda x: distorted(lambda g: -g).apply(x).sum(), [np.array([3.0])])


def test_gradcheck_that_compares_nothing_is_refused() -> None:
    w = nn.Parameter(np.ones(3), dtype="float64")
    with pytest.raises(
        TypeError, match="gradcheck: the result depends on no input, so nothing was checked: fn has to work on the arguments"
    ):
        fastnn.gradcheck(lambda _: (w * w).sum(), [w])


def test_gradcheck_of_what_draws_is_told_why_not() -> None:
    def seeded(x: fastnn.Tensor) -> fastnn.Tensor:
        fastnn.seed(1)
        return ops.dropout(x, 0.5)

    with pytest.raises(ValueError, match="gradcheck: fn gives other values for the same arguments, .*: put dropout into evaluation mode"):
        fastnn.gradcheck(lambda x: ops.dropout(x, 0.5), [np.ones((3, 4))])
    assert fastnn.gradcheck(seeded, [np.ones((3, 4))])


def test_gradcheck_needs_a_float_input() -> None:
    with pytest.raises(ValueError, match="none of the inputs is of a float type"):
        fastnn.gradcheck(lambda x: x, [np.arange(3)])


def test_a_backward_that_writes_into_its_argument_is_refused() -> None:
    """Two inputs of a sum share that gradient."""

    class Zeroes(fastnn.Function):
        @staticmethod
        def forward(ctx: Any, x: fastnn.Tensor) -> Any:
            return x * 1.0

        @staticmethod
        def backward(ctx: Any, dy: fastnn.Tensor) -> Any:
            dy.copy_from(dy.numpy() * 0)
            return dy

    a, b = (fastnn.tensor(np.ones(3), requires_grad=True) for _ in range(2))
    with pytest.raises(RuntimeError, match="Zeroes.backward wrote into the gradient it was given"):
        (b + Zeroes.apply(a)).sum().backward()
