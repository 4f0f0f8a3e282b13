"""check_gradients: whole models beside differences, kinks left out, and the Function found whose backward is wrong."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from kernel_calls import GPUS

import fastnn
from fastnn import Function, Tensor, check_gradients, nn, ops
from fastnn.data import ArrayDataset, Loader
from fastnn.exclusive import claimed
from fastnn.gradient_table import GradientCheck

RNG = np.random.default_rng(0)
X, LABELS = RNG.standard_normal((4, 3, 8, 8)), np.array([0, 3, 1, 4])


def square(factor: float, bad: slice = slice(None)) -> type[Function]:
    """x^2, whose backward gives `factor` times what is right, for the channels of `bad`."""

    class Square(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Any:
            ctx.save_for_backward(x)
            return x.numpy() ** 2

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Any:
            gradient = 2 * ctx.saved_tensors[0].numpy() * dy.numpy()
            gradient[:, bad] *= factor
            return gradient

    return Square


class Applied(nn.Module):
    def __init__(self, function: type[Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x)


def network(*inside: nn.Module) -> nn.Sequential:
    fastnn.seed(0)
    first = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.4)]
    return nn.Sequential(*first, *inside, nn.Flatten(), nn.Linear(96, 5))


def test_a_model_with_its_loss_is_right_and_stays_as_it_was() -> None:
    """In training: batch statistics, dropout with one mask, a running mean that moves."""
    model, loss = network(), nn.CrossEntropyLoss()
    model[0].weight.grad = fastnn.tensor(np.ones((6, 3, 3, 3)))
    before, draw = {name: value.copy() for name, value in model.state_dict().items()}, fastnn.random.default_generator().draw
    arrays = [t._array for t in model._state().values()]
    x = fastnn.tensor(X)
    found = check_gradients(model, (x, LABELS), loss=loss)
    assert found.ok and not found.wrong and found.functions == []
    assert [c.name for c in found] == ["input 0", *(name for name, _ in model.named_parameters())] and len(found) == 7
    assert all(c.verdict == "good" and c.checked - c.kinks >= 5 for c in found), print(found)
    assert found["6.weight"].checked == 20 and found["6.bias"].checked == 5 and found["6.weight"].shape == (5, 96)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert all(t._array is a and t.dtype != "float64" for t, a in zip(model._state().values(), arrays))
    assert model.training and fastnn.random.default_generator().draw == draw and x.grad is None
    assert model[0].weight.grad is not None and model[6].weight.grad is None


def test_gradients_are_those_of_pytorch() -> None:
    model = network().eval()
    twin = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
                               torch.nn.Dropout(), torch.nn.Flatten(), torch.nn.Linear(96, 5)).double().eval()  # fmt: skip
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in model.state_dict().items()})
    x = torch.tensor(X, requires_grad=True)
    torch.nn.functional.cross_entropy(twin(x), torch.from_numpy(LABELS)).backward()
    wanted = {"input 0": x.grad, **{name: p.grad for name, p in twin.named_parameters()}}
    for check in check_gradients(model, (X, LABELS), loss=nn.CrossEntropyLoss(), samples=None):
        assert check.checked == wanted[check.name].numel()
        assert check.analytic == pytest.approx(float(wanted[check.name][check.index]), rel=1e-9)
        assert check.numeric == pytest.approx(check.analytic, rel=1e-6)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "good"), (1.00001, "fair"), (1.001, "doubtful"), (2.0, "wrong"), (-1.0, "wrong")])
def test_a_wrong_backward_is_found_and_named(factor: float, verdict: str) -> None:
    """What lies behind it is right, what lies before is not."""
    found = check_gradients(network(Applied(square(factor))), (X, LABELS), loss=nn.CrossEntropyLoss())
    assert {c.name for c in found if c.verdict == "good"} >= {"7.weight", "7.bias"}
    error = abs(factor - 1) / max(abs(factor), 1)
    assert found["1.weight"].verdict == verdict and found["1.weight"].error == pytest.approx(error, rel=0.01, abs=1e-7)
    assert found.ok == (verdict in ("good", "fair"))
    if not found.ok:
        assert found.wrong == ["input 0", "0.weight", "1.weight", "1.bias"]  # a bias before batch normalisation has none
        (named,) = found.functions
        assert named.name == "Square.backward in 5, argument 0" and named.error == pytest.approx(error, rel=0.01)
        assert "\nSquare.backward in 5, argument 0: backward gives" in str(found) and "4 not ok" in repr(found)
    else:
        assert found.functions == []


def test_of_two_functions_the_wrong_one_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), Applied(square(1.0)), Applied(square(1.0, slice(1, 2))), Applied(square(0.5, slice(1, 2))))
    found = check_gradients(model, X[:, :, 0, 0])
    assert [named.name for named in found.functions] == ["Square.backward in 3, argument 0"] and found.functions[0].index[1] == 1
    found = check_gradients(square(3.0).apply, X[:, :, 0, 0])
    assert [named.name for named in found.functions] == ["Square.backward, argument 0"]


def test_an_element_of_many_is_found_where_all_are_looked_at() -> None:
    function = square(3.0, slice(7, 8)).apply
    x = RNG.standard_normal((2, 300))
    assert check_gradients(function, x, samples=5, seed=1).ok
    found = check_gradients(function, x, samples=None)["input 0"]
    assert found.verdict == "wrong" and found.index[1] == 7 and found.checked == 600


def test_samples_are_those_of_the_seed() -> None:
    model = network().eval()
    one, same, other = (check_gradients(model, (X, LABELS), loss=nn.CrossEntropyLoss(), seed=seed, samples=7) for seed in (1, 1, 2))
    assert str(one) == str(same) != str(other)
    seen = []

    class Identity(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Any:
            seen.append(x.numpy().copy())
            return x

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Any:
            return dy

    check_gradients(Identity.apply, np.zeros((5, 50)), samples=200)
    moved = [int(np.flatnonzero(x)[0]) for x in seen if x.any()]
    assert len(set(moved)) == 200 and len(moved) == 400


# --- kinks


def test_kinks_are_left_out_and_counted() -> None:
    """At 0, within the step on either side, and beyond it. At 0 backward is the difference, of |x| and max(x, 0)."""
    x = np.array([0.0, 1e-7, -1e-7, 3e-6, -3e-6, 9e-6, 2e-5, -2e-5, 1.0, -1.0])
    for function, kinks in ((ops.relu, 6), (ops.abs, 5), (lambda x: ops.maximum(x, 0.0), 5), (lambda x: ops.clip(x, 0.0, 1.0), 7)):
        found = check_gradients(function, x)["input 0"]
        assert (found.kinks, found.verdict) == (kinks, "good"), found


def test_a_wrong_backward_of_a_function_with_kinks_is_no_kink() -> None:
    class Rectified(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Any:
            return np.maximum(x.numpy(), 0)

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Any:
            return dy  # also where x < 0

    found = check_gradients(Rectified.apply, np.array([0.0, 1e-7, 1.0, -1.0]))
    assert (found["input 0"].kinks, found["input 0"].verdict, found["input 0"].index) == (2, "wrong", (3,)), found
    assert [named.name for named in found.functions] == ["Rectified.backward, argument 0"]
    beyond = type("Beyond", (Rectified,), {"backward": staticmethod(lambda ctx, dy: dy * 1.5)})
    assert check_gradients(beyond.apply, np.array([0.0]))["input 0"].verdict == "wrong"  # not between the two slopes


def test_many_kinks_at_once_of_a_deep_network() -> None:
    """Steps of a hundredth cross some for nearly every weight; none is taken for a fault, and a fault is not taken for them."""
    fastnn.seed(0)
    layers = [part for _ in range(4) for part in (nn.Linear(20, 20), nn.ReLU())]
    x = RNG.standard_normal((30, 20))
    found = check_gradients(nn.Sequential(*layers), x, eps=1e-3)
    assert found.ok and sum(c.kinks for c in found) > 20, found
    wrong = check_gradients(nn.Sequential(*layers, Applied(square(0.9)), nn.Linear(20, 3)), x, eps=1e-3)
    assert {c.verdict for c in wrong if c.name[0] in "0246"} == {"wrong"}, wrong
    assert wrong["9.weight"].verdict == "good" and [named.name for named in wrong.functions] == ["Square.backward in 8, argument 0"]


def test_where_all_lies_on_kinks_nothing_is_known() -> None:
    found = check_gradients(ops.relu, np.zeros(3))
    assert found["input 0"].verdict == "kinks" and not found.ok and "so nothing is known" in str(found)


def test_a_curved_function_has_no_kinks() -> None:
    x = np.linspace(-2, 2, 41)
    for function in (lambda x: ops.exp(x * 20.0), lambda x: ops.sigmoid(x * 50.0), lambda x: x**9.0):
        found = check_gradients(function, x, samples=None)["input 0"]
        assert found.kinks == 0 and found.verdict in ("good", "fair"), found


# --- what is checked


def test_parameters_of_the_loss_and_shared_ones_have_their_turn_once() -> None:
    class Weighed(nn.Module):
        def __init__(self, shared: nn.Parameter) -> None:
            super().__init__()
            self.scale, self.shared = nn.Parameter(np.array([0.3, 0.7, 1.0])), shared

        def forward(self, y: Tensor, target: Tensor) -> Tensor:
            return (((y - target) * self.scale) ** 2.0).mean() + (self.shared**2.0).sum()

    model = nn.Linear(2, 3)
    found = check_gradients(model, [X[:, :2, 0, 0], X[:, :, 1, 1]], loss=Weighed(model.weight))
    assert [c.name for c in found] == ["input 0", "weight", "bias", "loss.scale"] and found.ok


def test_frozen_parameters_are_left_out_and_unused_ones_named_so() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    model.spare = nn.Parameter(np.ones(2))
    found = check_gradients(model, X[:, :, 0, 0])
    assert [(c.name, c.verdict) for c in found] == [("input 0", "good"), ("spare", "unused"), ("1.weight", "good"), ("1.bias", "good")]
    assert found.ok


@pytest.mark.parametrize("assigned", [True, False])
def test_what_a_layer_counts_is_put_back_before_each_pass(assigned: bool) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", fastnn.tensor([1.0]))

        def forward(self, x: Tensor) -> Tensor:
            y = x * self.seen.item()
            more = self.seen.numpy() + 1
            if assigned:
                self.seen = fastnn.tensor(more)
            else:
                self.seen.copy_from(more)
            return y

    model = nn.Sequential(Counts(), nn.Linear(3, 2))
    assert check_gradients(model, X[:, :, 0, 0]).ok and model.state_dict()["0.seen"] == 1


def test_a_batch_of_a_loader_and_what_takes_integers() -> None:
    images = RNG.integers(0, 255, (8, 3, 8, 8)).astype(np.uint8)
    model = network()
    for batch in Loader(ArrayDataset(images, np.arange(8) % 5), 4):
        assert check_gradients(model, batch, loss=nn.CrossEntropyLoss(), samples=5).ok
    table = check_gradients(lambda table: ops.take(table, np.array([0, 2, 2]), 0), RNG.standard_normal((3, 2)))
    assert table.ok and table["input 0"].checked == 6
    pooled = check_gradients(nn.MaxPool2d(2, return_indices=True), X)
    assert pooled.ok


@pytest.mark.parametrize("device", GPUS)
def test_a_model_on_a_gpu_is_checked_on_the_cpu(device: str) -> None:
    model = network().to(device)
    assert check_gradients(model, (fastnn.tensor(X, device=device), LABELS), loss=nn.CrossEntropyLoss(), samples=3).ok
    assert model[0].weight.device == fastnn.tensor(X, device=device).device


def test_a_gradient_that_is_no_number_is_wrong() -> None:
    found = check_gradients(square(np.nan).apply, X[:, :, 0, 0])["input 0"]
    assert found.verdict == "wrong" and found.error == np.inf


def test_the_table() -> None:
    printed = str(check_gradients(nn.Linear(2, 3), X[:, :2, 0, 0])).splitlines()
    assert printed[0].split() == "gradient of shape checked kinks largest error at backward difference verdict".split()
    assert printed[2].split()[:6] == "weight 3 x 2 6 of".split() and printed[2].endswith("good") and len(printed) == 4
    found = check_gradients(nn.Linear(2, 3), X[:, :2, 0, 0])
    with pytest.raises(KeyError, match="GradientReport: there is no '0.weight'; there are input 0, weight, bias"):
        found["0.weight"]
    assert GradientCheck("w", (2,), 2, 0, 0.5, (1,), 1.0, 2.0).verdict == "wrong"


# --- what is refused


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: check_gradients(nn.Linear, X), TypeError, "fn must be a function of Tensors that returns one, or a Module, got the class Linear"),
        (lambda: check_gradients(lambda x: 3.0, X), TypeError, "fn must return a Tensor made of its arguments .*, it returned 3.0"),
        (lambda: check_gradients(lambda x: fastnn.tensor([1.0]), X), TypeError, "fn must return .* a Tensor that depends on no input and no"),
        (lambda: check_gradients(ops.relu, np.arange(3)), ValueError, "none of the inputs is of a float type"),
        (lambda: check_gradients(ops.log, np.array([-1.0])), ValueError, "the result of fn is no finite number"),
        (lambda: check_gradients(nn.Linear(3, 2), X[:, :, 0, 0], loss=nn.MSELoss()), ValueError, r"inputs must be \(x, target\) where there is"),
        (lambda: check_gradients(ops.relu, X, samples=0), ValueError, "samples must be at least 1, got 0"),
        (lambda: check_gradients(ops.relu, X, eps=0.0), ValueError, "eps must lie in"),
        (lambda: check_gradients(ops.relu, "abc"), TypeError, "inputs must be an array or a Tensor, or a list of them"),
    ],
)  # fmt: skip
def test_what_is_refused(call: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"^check_gradients: {words}"):
        call()


def test_what_draws_elsewhere_is_refused() -> None:
    drawn = np.random.default_rng(0)
    with pytest.raises(ValueError, match="^check_gradients: fn gives other values for the same arguments.*from fastnn's generator"):
        check_gradients(lambda x: x * float(drawn.random()), X)


def test_a_model_that_another_thread_fits_is_refused() -> None:
    model, begun, done = nn.Linear(3, 2), threading.Event(), threading.Event()

    def fit() -> None:
        with claimed("fit", model=model):
            begun.set()
            done.wait()

    thread = threading.Thread(target=fit)
    thread.start()
    begun.wait()
    try:
        with pytest.raises(RuntimeError, match="^check_gradients: the model is in use by fit"):
            check_gradients(model, X[:, :, 0, 0])
    finally:
        done.set()
        thread.join()
