"""Optimizers, averages and clipping on a device: what they do on the CPU, from the same weights, and state that follows the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kernel_calls
import numpy as np
import pytest
import reference
from torch_twins import normal

import fastnn
from fastnn import devices, nn, optim
from fastnn.optim import EMA, clip_grad_norm_, clip_grad_value_, update_bn

every_gpu = pytest.mark.parametrize("gpu", kernel_calls.GPUS)

OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "sgd": lambda m: optim.SGD(m.parameters(), 0.1, momentum=0.9, dampening=0.1),
    "adamw": lambda m: optim.AdamW(optim.groups(m), 0.01, amsgrad=True),
    "adagrad": lambda m: optim.Adagrad(m.parameters(), 0.1, initial_accumulator_value=0.1),
    "rmsprop": lambda m: optim.RMSprop(m.parameters(), centered=True, momentum=0.5, eps=1e-2),
    "muon": lambda m: optim.Together(
        optim.Muon([p for p in m.parameters() if p.ndim > 1], 0.02, renormalize=True, ns_steps=2),
        optim.SGD([p for p in m.parameters() if p.ndim == 1], 0.1),
    ),
    "lookahead": lambda m: optim.Lookahead(optim.SGD(m.parameters(), 0.1), k=2, model=m),
}


def net() -> nn.Sequential:
    fastnn.seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def gradients(model: nn.Module, number: int) -> None:
    """The same on each device, so that a step is compared and not what led to it."""
    for i, p in enumerate(model.parameters()):
        p.grad = fastnn.tensor(normal(100 * number + i, *p.shape), device=p.device)


@every_gpu
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_and_averages_are_those_of_the_cpu(gpu: str, name: str) -> None:
    results: list[dict[str, Any]] = []
    for device in ("cpu", gpu):
        model = net()
        optimizer, ema = OPTIMIZERS[name](model), EMA(model, 0.5)
        model.to(device)  # after they were made: they follow
        optimizer.measure_updates = True
        norms = []
        for number in range(4):
            gradients(model, number)
            norms.append(float(clip_grad_norm_(model.parameters(), 3.0)))
            clip_grad_value_(model.parameters(), 0.5)
            optimizer.step()
            ema.update()
        assert all(p.device == devices.resolve(device) for p in model.parameters())
        assert all(a.device == devices.resolve(device) for a in optimizer.state_arrays().values())
        raw = model.state_dict()
        with ema.averaged():
            averaged = model.state_dict()
        assert all(np.array_equal(v, raw[k]) for k, v in model.state_dict().items())
        results.append({**raw, **{f"mean {k}": v for k, v in averaged.items()}, "norms": norms, "ratios": optimizer.update_ratios()})
        state = optimizer.state_dict()
        other = net().to(device)
        again = OPTIMIZERS[name](other)
        again.load_state_dict(state)
        assert all(np.array_equal(v, again.state_dict()[k]) for k, v in state.items())
    for key, value in results[0].items():
        assert np.allclose(results[1][key], value, rtol=1e-4, atol=1e-5), key


@every_gpu
@pytest.mark.parametrize("name", ["sgd", "lookahead"])
def test_state_follows_into_a_captured_step(gpu: str, name: str, without_memory_checks: None) -> None:
    """State that was made, or stepped, on the CPU and is first used there while a step is recorded."""

    def trained(captured: bool) -> dict[str, Any]:
        model = net()
        optimizer = OPTIMIZERS[name](model)
        gradients(model, 0)
        optimizer.step()
        model.to(gpu)

        def step(x: fastnn.Tensor) -> fastnn.Tensor:
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        act = fastnn.capture(step) if captured else step
        for number in range(4):
            act(fastnn.tensor(normal(number, 5, 2, 4, 4), device=gpu))
        assert all(a.device == devices.resolve(gpu) for a in optimizer.state_arrays().values())
        return {**model.state_dict(), **optimizer.state_dict()}

    eager, captured = trained(False), trained(True)
    assert all(np.array_equal(value, captured[key]) for key, value in eager.items())


@every_gpu
def test_batch_statistics_there(gpu: str) -> None:
    values = []
    for device in ("cpu", gpu):
        model = net().to(device)
        update_bn([(fastnn.tensor(normal(i, 4, 2, 4, 4), device=device), None) for i in range(3)], model)
        values.append(model.state_dict()["1.running_var"])
    assert np.allclose(values[0], values[1], rtol=1e-5)


@every_gpu
@pytest.mark.parametrize(("precision", "bound"), [("highest", 2.0**-17), ("high", 2.0**-17), ("medium", 2.0**-7)])
def test_muons_products_follow_the_precision(gpu: str, precision: str, bound: float) -> None:
    """TF32 has 11 bits; three iterations raise its rounding by their slope at most."""
    rates, group = np.array([[0.0, 0, 0, 0, 1.0, 0, 1e-7]]), np.zeros(1, np.int64)  # w - X: the iteration's result, turned
    w, g = np.zeros((24, 3, 3, 3), np.float32), normal(0, 24, 3, 3, 3)
    quintic = (3.4445, -4.7750, 2.0315)
    expected = reference.muon_step([w], [g.astype(np.float64)], [w], group, rates, None, 3, *quintic)[0][0]
    with kernel_calls.using(kernel_calls.Table(gpu, "float32", precision)):
        written = kernel_calls.call("muon_step", (1, 1, 0, 24, 27, 3, *quintic), [[w], [g], [w], group, rates, None])
    error = np.abs(written["w[0]"] - expected).max()
    assert error < bound and (precision != "medium" or error > 2.0**-17)
