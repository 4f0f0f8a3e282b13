"""Arrays of a step that is only written down have no bytes: whoever takes one out of it, or looks at it in it, is told so. And what
recordings of one step share does not mix."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import kernel_calls
import numpy as np
import pytest

import fastnn
from fastnn import _C, capture, nn, ops, optim
from fastnn.tensor import Tensor

pytestmark = pytest.mark.usefixtures("without_memory_checks")
DEVICE = kernel_calls.DEVICES[-1]


def normal(*shape: int, **options: Any) -> Tensor:
    return fastnn.tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32), device=DEVICE, **options)


def escaped() -> Tensor:
    """What the Python of a step kept of its recording."""
    kept: list[Tensor] = []

    @capture
    def step(x: Tensor) -> Tensor:
        kept.append(x * 2.0)
        return kept[-1]

    step(normal(3))
    return kept[-1]


def frozen() -> Callable[[Tensor], Tensor]:
    fast = nn.frozen(nn.Linear(3, 2).to(DEVICE))
    for _ in range(3):
        fast(normal(3))
    return fast


USES: dict[str, Callable[[Tensor], object]] = {
    "by the next recording": lambda y: capture(lambda x: x + y)(normal(3)),
    "as an argument": lambda y: capture(lambda x: x + 1.0)(y),
    "as an argument of a recorded step": lambda y: (step := capture(lambda x: x + 1.0), step(normal(3)), step(y)),
    "by a frozen model": lambda y: frozen()(y),
    "eagerly": lambda y: y + 1.0,
    "by numpy": lambda y: y.numpy(),
    "as a copy that stays": lambda y: y._array.constant_on(DEVICE),
    "to be overwritten": lambda y: normal(3)._array.assign(y._array),
    "overwritten": lambda y: y._array.assign(normal(3)._array),
    "written": lambda y: y._array.write(np.zeros(3, np.float32)),
}


@pytest.mark.parametrize("use", USES)
def test_what_was_kept_of_a_recording_is_refused(use: str) -> None:
    y = escaped()
    with pytest.raises(_C.CaptureError, match=r"an array of shape \(3,\) was made while a captured step was recorded"):
        USES[use](y)


@pytest.mark.parametrize("how", ["constant_on", "assign", "write"])
def test_nothing_reads_or_writes_bytes_that_are_not_there_while_a_step_is_recorded(how: str) -> None:
    def step(x: Tensor) -> Tensor:
        y = x * 2.0
        if how == "constant_on":
            y._array.constant_on(DEVICE)
        elif how == "assign":
            x._array.assign(y._array)
        else:
            y._array.write(np.zeros(3, np.float32))
        return y

    with pytest.raises(_C.CaptureError, match="nothing was computed then"):
        capture(step)(normal(3))


def test_what_was_refused_once_is_refused_again() -> None:
    """Also where a step goes on behind the refusal: no place in the list is taken by what was refused."""
    y = escaped()

    def step(x: Tensor) -> Tensor:
        with contextlib.suppress(_C.CaptureError):
            y + x
        return y + x

    for _ in range(2):
        with pytest.raises(_C.CaptureError, match="was made while a captured step was recorded"):
            capture(step)(normal(3))


def test_labels_that_a_step_makes_are_refused_before_they_are_looked_at() -> None:
    def step(x: Tensor) -> Tensor:
        y, places = ops.max_pool2d(x, 2, return_indices=True)
        return ops.cross_entropy(y.reshape(1, 1), places.reshape(-1))

    with pytest.raises(_C.CaptureError, match="labels are made by the step"):
        capture(step)(fastnn.tensor(np.ones((1, 1, 2, 2), np.float32)))  # on a GPU kernels look at them


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.reshape(1, 3), lambda x: x.detach()])
def test_an_argument_that_the_step_has_by_another_name_too(view: Callable[[Tensor], Tensor]) -> None:
    """In the first call they are one array, in the next ones two: each stays what it is called."""
    ref = fastnn.tensor(np.arange(3.0))
    step = capture(lambda x: x * 10.0 + ref)
    for x in (view(ref), view(ref) + 1.0, view(ref)):
        assert step(x).numpy().ravel().tolist() == (x.numpy().ravel() * 10 + np.arange(3)).tolist()


def test_labels_that_a_step_made_are_refused_outside_of_it() -> None:
    kept: list[Tensor] = []

    def step(x: Tensor) -> Tensor:
        kept.append(ops.adaptive_max_pool2d(x, 1, return_indices=True)[1])
        return x * 2.0

    capture(step)(fastnn.tensor(np.ones((3, 1, 2, 2), np.float32)))
    with pytest.raises(_C.CaptureError, match="was made while a captured step was recorded"):
        ops.cross_entropy(fastnn.tensor(np.ones((3, 4), np.float32)), kept[0].reshape(3))


@pytest.mark.parametrize("make", [optim.LBFGS, optim.NewtonCG])
def test_a_search_is_not_captured_and_changes_nothing(make: Callable[[Any], optim.Optimizer]) -> None:
    w = fastnn.tensor(np.ones(3), dtype="float64", requires_grad=True)
    search = make([w])

    def closure() -> Tensor:
        search.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with pytest.raises(_C.CaptureError, match="looks at the loss while it steps; step it outside of what is captured"):
        capture(lambda: search.step(closure))()
    assert w.numpy().tolist() == [1.0, 1.0, 1.0]
    search.step(closure)
    assert np.abs(w.numpy()).max() < 1


def test_a_shape_larger_than_any_memory_is_refused_while_it_is_written_down() -> None:
    with pytest.raises(fastnn.OutOfMemoryError, match="larger than any memory"):
        capture(lambda x: ops.broadcast_to(x, (2**31, 2**31))[0, 0])(normal(1, 1))


# --- what recordings share


def test_gradients_of_one_recording_outlive_another_one() -> None:
    """Each call trains one of two models: the other one's gradients are those of its own last call, as eagerly."""

    def trained(captured: bool) -> list[bytes]:
        fastnn.seed(0)
        models = {name: nn.Linear(3, 2).to(DEVICE) for name in "ab"}
        seen = []

        def step(x: Tensor, which: str) -> Tensor:
            models[which].zero_grad()
            loss = (models[which](x) ** 2).sum()
            loss.backward()
            return loss

        act = capture(step) if captured else step
        for i, which in enumerate("abaabbab"):
            act(normal(4, 3) * float(i + 1), which)
            seen += [p.grad.numpy().tobytes() for m in models.values() for p in m.parameters() if p.grad is not None]
        return seen

    assert trained(True) == trained(False)


def test_an_argument_that_the_step_writes_is_refused_also_later() -> None:
    w = fastnn.tensor(np.ones(2), requires_grad=True, device=DEVICE)
    optimizer = optim.SGD([w], 1.0)

    @capture
    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        (w * 1.0).sum().backward()
        optimizer.step()
        return x * 1.0

    step(normal(2))
    before = w.numpy().tobytes()
    with pytest.raises(_C.CaptureError, match="argument 0 of the step is written in place"):
        step(w.detach())
    assert w.numpy().tobytes() == before


def test_what_a_step_has_written_before_it_ends_at_a_look_has_another_version() -> None:
    """Running statistics that were moved, then a loss that is no number."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(DEVICE)
    mean = model[1].running_mean
    assert mean is not None

    @capture
    def step(x: Tensor) -> Tensor:
        loss = model(x).sum()
        fastnn.recording.look(loss, refuse, unless_finite=True)
        return loss

    def refuse(loss: Tensor) -> None:
        raise ValueError("no number")

    step(normal(6, 3))
    version, before = mean._array.version, mean.numpy().tobytes()
    with pytest.raises(ValueError, match="no number"):
        step(normal(6, 3) * np.float32(np.inf).item())
    assert mean.numpy().tobytes() != before and mean._array.version > version
