"""A few training steps with each layer, loss and optimizer, eager and captured, on every instruction set: a line for each says what they came to.

A child of test_fence.py, without fences and where each array ends at a page that nobody may touch (FASTNN_ARENA=fenced)."""

from __future__ import annotations

import faulthandler
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from bad_calls.nn import LAYERS, LOSSES
from bad_calls.optim import OPTIMIZERS, Good
from kernel_calls import FLOAT_ISAS

import fastnn
from fastnn import _C, Tensor, nn, optim

WHOLE = {"LBFGS", "NewtonCG"}  # they run the model themselves, as often as they like
EAGER = {*WHOLE, "BatchNorm2d"}  # not captured; the last one's arguments ask for a mean whose weight the host computes


class Scaled(nn.Module):
    """A layer behind a weight, so that it always has a gradient to give on."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.scale, self.inner = nn.Parameter(np.ones(1)), inner

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x * self.scale)
        first: Tensor = y[0] if isinstance(y, tuple) else y
        return first


class Training(NamedTuple):
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    data: tuple[Tensor, Tensor]
    optimizer: optim.Optimizer


def made(good: Good) -> dict[str, Any]:
    return {key: make() for key, make in good.items() if key != "params"}


def of_layer(name: str) -> Training:
    good, make_input = LAYERS[name]
    model, x = Scaled(getattr(nn, name)(**made(good))), make_input().detach()
    return Training(model, lambda y, _: (y * y).sum(), (x, x), optim.SGD(model.parameters(), 1e-2))


def of_loss(name: str) -> Training:
    good, make_target = LOSSES[name]
    model, target = Scaled(nn.LogSoftmax(1)), make_target()
    target = target.detach() if isinstance(target, Tensor) else fastnn.tensor(target)
    return Training(model, getattr(nn, name)(**made(good)), (rows(4, 3), target), optim.SGD(model.parameters(), 1e-2))


def of_optimizer(name: str) -> Training:
    model = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.SiLU(), nn.Linear(7, 3))
    x, labels = rows(6, 5), fastnn.tensor(np.arange(6) % 3)
    if name == "NewtonCG":
        model, x = model.double(), fastnn.tensor(x.numpy(), "float64")
    return Training(model, nn.CrossEntropyLoss(), (x, labels), make_optimizer(name, model))


def make_optimizer(name: str, model: nn.Module) -> optim.Optimizer:
    matrices, others = ([p for p in model.parameters() if (p.ndim > 1) == wide] for wide in (True, False))
    if name == "Together":
        return optim.Together(make_optimizer("Muon", model), optim.SGD(others, 1e-2, momentum=0.9))
    if name == "Lookahead":
        return optim.Lookahead(optim.Adam(model.parameters()), k=1, model=model)
    return getattr(optim, name)(matrices if name == "Muon" else model.parameters(), **made(OPTIMIZERS[name]))  # type: ignore[no-any-return]


def rows(*shape: int) -> Tensor:
    return fastnn.tensor(np.random.default_rng(0).standard_normal(shape), "float32")


def digest(of: Callable[[str], Training], name: str, capture: bool) -> str:
    """Of three steps' losses, of the weights, states and averages behind them, and of what the model says then."""
    fastnn.seed(1)
    model, loss, data, optimizer = of(name)
    ema = optim.EMA(model, 0.9)

    def gradients(x: Tensor, target: Tensor) -> Tensor:
        model.zero_grad()
        value = loss(model(x), target)
        value.backward()
        return value

    def step(x: Tensor, target: Tensor) -> Any:
        if name in WHOLE:
            value = optimizer.step(lambda: gradients(x, target))
        else:
            value = gradients(x, target)
            optim.clip_grad_value_(model.parameters(), 0.5)
            optim.clip_grad_norm_(model.parameters(), 0.7)
            optimizer.step()
        ema.update()
        return value

    captured = fastnn.capture(step)
    seen = hashlib.sha256()
    for _ in range(3):
        seen.update((captured if capture else step)(*data).numpy().tobytes())
    assert bool(captured.kernels) == capture, f"{name} was not replayed"
    with fastnn.no_grad():
        seen.update(model.eval()(data[0]).numpy().tobytes())
    for state in (model.state_dict(), optimizer.state_dict(), ema.state_dict()):
        for key in sorted(state):
            seen.update(np.asarray(state[key]).tobytes())
    return seen.hexdigest()


def parts() -> Iterator[tuple[Callable[[str], Training], str]]:
    public = [getattr(optim, name) for name in optim.__all__]
    optimizers = {kind.__name__ for kind in public if isinstance(kind, type) and issubclass(kind, optim.Optimizer)} - {"Optimizer"}
    for of, names in ((of_layer, LAYERS), (of_loss, LOSSES), (of_optimizer, optimizers)):
        for name in sorted(names):
            yield of, name


def report(parts: Callable[[], Iterator[tuple[Any, str]]], digest: Callable[[Any, str], str]) -> None:
    """A line for each part on each instruction set, its name before it runs."""
    faulthandler.enable()
    for isa in FLOAT_ISAS:
        _C.set_isa(isa)
        for of, name in parts():
            print(f"{name} on {isa}: ", end="", flush=True)
            print(digest(of, name), flush=True)


def both_ways(of: Callable[[str], Training], name: str) -> str:
    eager = digest(of, name, False)
    assert name in EAGER or digest(of, name, True) == eager, "captured, it differs"
    return eager


if __name__ == "__main__":
    report(parts, both_ways)
