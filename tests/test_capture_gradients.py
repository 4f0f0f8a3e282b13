"""Gradients of a captured step are a leaf's own: neither the seed of backward(), nor zeros that it began with, nor an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import _C, nn, optim

pytestmark = pytest.mark.usefixtures("without_memory_checks")

ADDED: list[tuple[tuple[int, ...], Callable[[fastnn.Tensor, fastnn.Tensor], fastnn.Tensor]]] = [
    ((), lambda loss, s: loss + s),
    ((1,), lambda loss, s: loss + s.sum()),
    ((1,), lambda loss, s: loss + s.reshape(())),
    ((), lambda loss, s: s),
]
PLAIN: list[Callable[[Any], optim.Optimizer]] = [
    lambda p: optim.SGD(p, 0.1),
    lambda p: optim.SGD(p, 0.1, momentum=0.9),
    lambda p: optim.Adam(p, 0.1),
    lambda p: optim.RMSprop(p, 0.1),
]


@pytest.mark.parametrize("seed", [None, 0.5])
@pytest.mark.parametrize("shape, added", ADDED)
def test_a_gradient_that_is_the_seed_is_not_the_next_steps(shape: tuple[int, ...], added: Callable[..., Any], seed: float | None) -> None:
    """What changes it in place between two calls leaves the seed, which is part of the recording."""
    results = []
    for captured in (False, True):
        w, s = nn.Parameter(np.ones(3, np.float32)), nn.Parameter(np.full(shape, 0.5, np.float32))

        def step(x: fastnn.Tensor) -> None:
            w.grad = s.grad = None  # noqa: B023 (called at once)
            added((w * x).sum(), s).backward(seed)  # noqa: B023

        run = fastnn.capture(step) if captured else step
        for _ in range(3):
            run(fastnn.tensor([-1.0, 0.5, 2.0]))
            assert s.grad is not None
            results.append((None if w.grad is None else w.grad.numpy().tolist(), s.grad.numpy().tolist()))
            optim.clip_grad_value_([s], 0.25)
    assert results[:3] == results[3:]


@pytest.mark.parametrize("make", PLAIN)
@pytest.mark.parametrize("clip", [False, True])
def test_a_step_with_a_parameter_added_to_its_loss(make: Callable[[Any], optim.Optimizer], clip: bool) -> None:
    results = []
    for captured in (False, True):
        w, s = nn.Parameter(np.ones(3, np.float32)), nn.Parameter(np.float32(0.5))
        optimizer = make([w, s])

        def step(x: fastnn.Tensor) -> fastnn.Tensor:
            optimizer.zero_grad()  # noqa: B023 (called at once)
            loss = ((w * x) ** 2).sum() + s  # noqa: B023
            loss.backward()
            if clip:
                optim.clip_grad_norm_([w, s], 0.5)  # noqa: B023
            optimizer.step()  # noqa: B023
            return loss

        run = fastnn.capture(step) if captured else step
        results.append([(run(fastnn.tensor([0.0, 1.0, 2.0])).item(), w.numpy().tolist(), s.item()) for _ in range(3)])
    assert results[0] == results[1]


def test_zeros_of_a_single_number_are_not_the_next_steps() -> None:
    """Of a parameter that the loss does not have, which the step begins with and ends with."""
    results = []
    for captured in (False, True):
        w, u = nn.Parameter(np.ones(3, np.float32)), nn.Parameter(np.ones(1, np.float32))
        optimizer = optim.SGD([w, u], 0.1)
        (w.sum() + u.sum()).backward()

        def step(x: fastnn.Tensor) -> None:
            optimizer.zero_grad(set_to_none=False)  # noqa: B023 (called at once)
            ((w * x) ** 2).sum().backward()  # noqa: B023
            optimizer.step()  # noqa: B023

        run = fastnn.capture(step) if captured else step
        for _ in range(3):
            run(fastnn.tensor([0.0, 1.0, 2.0]))
            assert u.grad is not None
            u.grad.copy_from(np.ones(1, np.float32))
            results.append((w.numpy().tolist(), u.item()))
    assert results[:3] == results[3:]


def test_a_first_step_that_keeps_gradients_says_what_to_do() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), 0.1)

    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss = (model(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    captured, x = fastnn.capture(step), fastnn.tensor(np.ones((2, 3), np.float32))
    with pytest.raises(
        _C.CaptureError, match=r"not the same: entry 0 .*; it began without gradients.* do one step before the step is capt"
    ):
        captured(x)
    assert all(p.grad is None for p in model.parameters())
    step(x)
    captured(x), captured(x)
    assert captured._takes[0].runs == 2


@pytest.mark.parametrize("make", PLAIN)
def test_a_gradient_that_is_an_argument(make: Callable[[Any], optim.Optimizer]) -> None:
    """No optimizer writes to it, whichever of its arrays the options leave out."""
    results = []
    for captured in (False, True):
        w = nn.Parameter(np.ones(3, np.float32))
        optimizer = make([w])

        def step(x: fastnn.Tensor) -> None:
            w.grad = x  # noqa: B023 (called at once)
            optimizer.step()  # noqa: B023

        run = fastnn.capture(step) if captured else step
        for i in range(3):
            run(fastnn.tensor([-1.0, 0.5, 2.0]) * float(i + 1))
            results.append(w.numpy().tolist())
    assert results[:3] == results[3:]
