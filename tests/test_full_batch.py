"""L-BFGS against torch.optim.LBFGS, Newton's method against the minimum; what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch_twins import normal

import fastnn
from fastnn import nn, optim
from fastnn.optim import LBFGS, NewtonCG, schedules
from fastnn.train import Trainer

X, LABELS = normal(0, 40, 5), np.arange(40) % 3


def model(dtype: str = "float64", *extra: nn.Module) -> nn.Sequential:
    fastnn.seed(0)
    net = nn.Sequential(nn.Linear(5, 7), *extra, nn.SiLU(), nn.Linear(7, 3))
    return net.double() if dtype == "float64" else net


def closure_of(net: nn.Module, x: Any = X, decay: float = 1e-2) -> Callable[[], fastnn.Tensor]:
    def closure() -> fastnn.Tensor:
        for p in net.parameters():
            p.grad = None
        dtype = next(net.parameters()).dtype
        loss = nn.CrossEntropyLoss()(net(fastnn.tensor(x, dtype)), LABELS)
        for p in net.parameters():
            loss = loss + (p * p).sum() * decay
        loss.backward()
        return loss

    return closure


WOLFE = partial(LBFGS, line_search_fn="strong_wolfe")


def torch_closure_of(net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(torch.tensor(X, dtype=torch.float64)), torch.tensor(LABELS))
        loss = loss + 1e-2 * sum((p * p).sum() for p in net.parameters())
        loss.backward()
        return loss

    return closure


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")  # PyTorch's own line search does
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 3),
        ({"max_iter": 3, "history_size": 2}, 6),
        ({"lr": 0.3, "max_iter": 4}, 3),
        ({"max_iter": 10, "max_eval": 7}, 3),
        ({"tolerance_grad": 0.05}, 3),
        ({"tolerance_change": 1e-2}, 3),
        ({"history_size": 1, "max_iter": 6}, 2),
    ],
)
def test_lbfgs_takes_torchs_steps(options: dict[str, Any], steps: int, search: str | None) -> None:
    options = options if search is None else {**options, "line_search_fn": search}
    net = model()
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.SiLU(), torch.nn.Linear(7, 3)).double()
    theirs.load_state_dict({k: torch.tensor(v) for k, v in net.state_dict().items()})
    a = LBFGS(net.parameters(), **options)
    b = torch.optim.LBFGS(theirs.parameters(), **options)
    for step in range(steps):
        loss, expected = a.step(closure_of(net)), b.step(torch_closure_of(theirs, b))
        assert loss is not None and loss.item() == pytest.approx(float(expected), rel=1e-9), f"step {step}"
        for (name, p), q in zip(net.named_parameters(), theirs.parameters()):
            assert np.abs(p.numpy() - q.detach().numpy()).max() < 1e-7, f"{name} after step {step}"
        assert a.iterations == b.state[next(iter(theirs.parameters()))]["n_iter"]


def test_lbfgs_finds_the_minimum_in_float32_too() -> None:
    net, reference = model("float32"), model()
    optimizer, newton = WOLFE(net.parameters(), max_iter=200), NewtonCG(reference.parameters())
    optimizer.step(closure_of(net))
    for _ in range(12):
        newton.step(closure_of(reference))
    assert closure_of(net)().item() < closure_of(model())().item() - 0.05
    gradient = max(float(np.abs(p.grad.numpy()).max()) for p in net.parameters() if p.grad is not None)
    assert gradient < 1e-3


def test_newton_reaches_a_quadratics_minimum_in_one_step() -> None:
    w, target = nn.Parameter(normal(0, 4, 3, 2, 2), "float64"), normal(1, 4, 3, 2, 2).astype(np.float64)
    scale = np.geomspace(1, 10, w.size).reshape(w.shape)
    optimizer = NewtonCG([w], cg_tolerance=1e-10)

    def closure() -> fastnn.Tensor:
        w.grad = None
        d = w - target
        loss = (d * d * scale).sum()
        loss.backward()
        return loss

    before = closure().item()
    loss = optimizer.step(closure)
    assert loss is not None and loss.item() == before and np.abs(w.numpy() - target).max() < 1e-6
    assert optimizer.steps == 1


def test_newtons_step_length_is_halved_until_the_loss_falls_and_negative_curvature_is_left() -> None:
    for begin in (2.0, 0.1):  # log cosh: Newton's full step from 2 diverges; 1 - exp(-w^2): curvature is negative beyond 0.7
        w = nn.Parameter(np.array([begin]), "float64")

        def closure(w: nn.Parameter = w) -> fastnn.Tensor:
            w.grad = None
            loss = (w.exp() + (w * -1.0).exp()).log().sum() if w.numpy()[0] >= 0.1 else (w * w).sum()
            loss.backward()
            return loss

        optimizer, losses = NewtonCG([w]), []
        for _ in range(4):
            loss = optimizer.step(closure)
            assert loss is not None
            losses.append(loss.item())
        assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]
    w = nn.Parameter(np.array([1.5]), "float64")

    def bell() -> fastnn.Tensor:
        w.grad = None
        loss = 1.0 - (w * w * -1.0).exp().sum()
        loss.backward()
        return loss

    before = bell().item()
    NewtonCG([w]).step(bell)
    assert bell().item() < before


@pytest.mark.parametrize("make", [WOLFE, NewtonCG])
def test_chance_and_batches_are_refused_before_a_weight_moves(make: Any) -> None:
    for layers, message in (
        ((nn.Dropout(0.5),), "dropout or another random layer is active"),
        ((nn.BatchNorm1d(7),), "batch normalisation is in training, .* model.eval"),
    ):
        net = model("float64", *layers)
        kept = [np.array(p.numpy()) for p in net.parameters()]
        with pytest.raises(ValueError, match=f"(LBFGS|NewtonCG): {message}"):
            make(net.parameters()).step(closure_of(net))
        assert all((p.numpy() == k).all() for p, k in zip(net.parameters(), kept))
        net.eval()
        make(net.parameters()).step(closure_of(net))
        assert not all((p.numpy() == k).all() for p, k in zip(net.parameters(), kept))

    net, turn = model(), iter(range(1000))
    with pytest.raises(ValueError, match=r"gave .* and then .* at the same weights; .* no minibatches, no augmentation"):
        make(net.parameters()).step(lambda: closure_of(net, normal(next(turn), 40, 5))())
    net = model()
    optimizer = make(net.parameters())
    optimizer.step(closure_of(net))
    with pytest.raises(ValueError, match="at the same weights; .* no minibatches"):
        optimizer.step(closure_of(net, normal(5, 40, 5)))
    net.load_state_dict(model().state_dict())  # other weights: nothing to compare with
    optimizer.step(closure_of(net, normal(5, 40, 5)))


@pytest.mark.parametrize("make", [LBFGS, NewtonCG])
def test_other_refusals(make: Any) -> None:
    net = model()
    with pytest.raises(ValueError, match="step needs a closure .* The Trainer's minibatches do not fit it"):
        make(net.parameters()).step()
    with pytest.raises(ValueError, match="takes one group of parameters, got 2"):
        make([{"params": [net[0].weight]}, {"params": [net[0].bias]}])
    shallow = nn.Sequential(nn.Linear(5, 3)).double()
    with pytest.raises(ValueError, match="step needs a closure"):
        Trainer(shallow, make(shallow.parameters()), device="cpu").step(fastnn.tensor(X, "float64"), fastnn.tensor(LABELS))
    for bad, message in (
        (lambda: LBFGS(net.parameters(), line_search_fn="armijo"), "line_search_fn 'armijo' is not one of strong_wolfe, None"),
        (lambda: LBFGS(net.parameters(), max_iter=0), "max_iter must be at least 1, got 0"),
        (lambda: NewtonCG(model("float32").parameters()), "parameters must be float64 .* got float32"),
        (lambda: NewtonCG(net.parameters(), damping=-1.0), "damping must not be negative"),
        (lambda: NewtonCG(net.parameters(), cg_iterations=0), "cg_iterations must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: LBFGS(p, max_iter=3, history_size=4),
        lambda p: WOLFE(p, max_iter=3, history_size=4),
        lambda p: NewtonCG(p, cg_iterations=5),
    ],
)
def test_state_goes_round_bit_for_bit(make: Callable[[Any], Any]) -> None:
    net = model()
    optimizer = make(net.parameters())
    for _ in range(3):
        optimizer.step(closure_of(net))
    other = model()
    other.load_state_dict(net.state_dict())
    resumed = make(other.parameters())
    resumed.load_state_dict(optimizer.state_dict())
    for _ in range(3):
        optimizer.step(closure_of(net)), resumed.step(closure_of(other))
    assert all((p.numpy() == q.numpy()).all() for p, q in zip(net.parameters(), other.parameters())) and resumed.steps == 6
    for change in ({"velocity": np.zeros(1)}, {"direction": np.zeros(3)}):
        with pytest.raises(ValueError, match="load_state_dict: "):
            resumed.load_state_dict({**optimizer.state_dict(), **change})
    assert resumed.steps == 6


def test_rates_of_a_search_may_be_schedules() -> None:
    net = model()
    optimizer = LBFGS(net.parameters(), schedules.step(0.5, [1]), line_search_fn=None, max_iter=1)
    assert optimizer.rates() == [0.5]
    optimizer.step(closure_of(net))
    assert optimizer.rates() == pytest.approx([0.05])
    assert isinstance(optimizer, optim.Optimizer)


@pytest.mark.parametrize("make", [LBFGS, NewtonCG])
def test_batch_normalisation_behind_a_convolution_is_refused_too(make: Any) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).double()
    x, labels = fastnn.tensor(np.random.default_rng(0).standard_normal((6, 1, 4, 4)), dtype="float64"), np.arange(6) % 3

    def closure() -> fastnn.Tensor:
        net.zero_grad()
        loss: fastnn.Tensor = nn.CrossEntropyLoss()(net(x), labels)
        loss.backward()
        return loss

    with pytest.raises(ValueError, match="batch normalisation is in training"):
        make(net.parameters()).step(closure)
    net.eval()
    make(net.parameters()).step(closure)


def test_a_state_before_the_first_step_goes_round() -> None:
    layer = nn.Linear(2, 1)
    fresh, other = LBFGS(layer.parameters()), LBFGS(layer.parameters())
    state = fresh.state_dict()
    assert state["y"].shape[0] == state["s"].shape[0] == 0
    other.load_state_dict(state)
    with pytest.raises(ValueError, match=r"numbers \(4,\)"):
        other.load_state_dict({**state, "numbers": np.zeros(4)})


@pytest.mark.parametrize("kind", [LBFGS, NewtonCG])
def test_decay_is_refused_where_the_search_would_not_see_it(kind: Any) -> None:
    net = model()
    message = r"weight_decay must be 0, got 0.1: the search goes by the loss .* nn.Penalty\(model, l2=...\)"
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: {message}"):
        kind([{"params": list(net.parameters()), "weight_decay": 0.1}])
    optimizer, before = kind([{"params": list(net.parameters()), "weight_decay": 0}]), net.state_dict()
    optimizer.param_groups[0]["weight_decay"] = 0.1
    with pytest.raises(ValueError, match=message):
        optimizer.step(closure_of(net))
    assert all(np.array_equal(array, before[name]) for name, array in net.state_dict().items())
    with pytest.raises(TypeError, match="weight_decay must be a number, got 'a'"):
        kind([{"params": list(net.parameters()), "weight_decay": "a"}])


@pytest.mark.parametrize("make", [LBFGS, WOLFE, NewtonCG])
@pytest.mark.parametrize(
    ("slope", "what"), [(np.nan, "loss is nan"), (np.inf, "loss is inf"), (None, "gradient holds numbers that are not finite")]
)
def test_a_step_that_begins_where_nothing_is_finite_is_refused(make: Any, slope: float | None, what: str) -> None:
    """Also behind a step that was fine, and not as a closure that gives another loss each time."""
    p, broken = nn.Parameter(np.ones(2), "float64"), False
    optimizer = make([p])

    def closure() -> fastnn.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        if broken and slope is not None:
            loss = loss * slope
        loss.backward()
        if broken and slope is None:
            p.grad = p.grad * np.inf
        return loss

    for broken in (True, False, True):
        before, steps = p.numpy().copy(), optimizer.steps
        if not broken:
            optimizer.step(closure)
            p.copy_from(np.full(2, 3.0))
            continue
        with pytest.raises(ValueError, match=f"^{optimizer.name}: at the weights as they are the {what}: there is no direction"):
            optimizer.step(closure)
        assert optimizer.steps == steps and np.array_equal(p.numpy(), before)
