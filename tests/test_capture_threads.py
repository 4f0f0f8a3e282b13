"""Captured steps beside other threads: a replay has its optimizer for itself, as an eager step has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from captured_steps import Training
from test_trainer import bits, blobs, trainer

import fastnn
from fastnn import exclusive, optim, recording
from fastnn.train import Callback, Trainer

pytestmark = pytest.mark.usefixtures("without_memory_checks")


def raised(what: Callable[[], object]) -> str:
    try:
        what()
    except RuntimeError as error:
        return str(error)
    return ""


class Until(Callback):
    """Stands still in the middle of a fit until `go`."""

    def __init__(self) -> None:
        self.inside, self.go = threading.Event(), threading.Event()

    def before_step(self, trainer: object) -> None:
        self.inside.set()
        assert self.go.wait(60)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_replay_while_another_thread_fits_is_refused(wrapped: bool) -> None:
    """Of the whole optimizer, and of a part of it; and it has changed nothing."""
    t, undisturbed = trainer(), trainer()
    x, labels = fastnn.tensor(np.ones((2, 1, 6, 6), np.float32)), fastnn.tensor(np.array([0, 1]))

    def stepping(one: Trainer) -> Callable[[fastnn.Tensor, fastnn.Tensor], fastnn.Tensor]:
        inner = one.optimizer

        def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
            inner.zero_grad()
            loss = fastnn.ops.cross_entropy(one.model(x), labels)
            loss.backward()
            inner.step()
            return loss

        return step

    captured, eager = fastnn.capture(stepping(t)), stepping(undisturbed)
    for _ in range(2):
        captured(x, labels), eager(x, labels)
    if wrapped:
        t.optimizer, undisturbed.optimizer = optim.Lookahead(t.optimizer), optim.Lookahead(undisturbed.optimizer)
    until = Until()
    with ThreadPoolExecutor(1, "fits") as thread:
        fit = thread.submit(lambda: t.fit(blobs(60), 1, batch_size=16, callbacks=[until], progress=False))
        try:
            assert until.inside.wait(60)
            gradients = [id(p.grad) for p in t.model.parameters()]
            message = raised(lambda: captured(x, labels))
            assert [id(p.grad) for p in t.model.parameters()] == gradients and captured._takes[0].runs == 2
        finally:
            until.go.set()
        fit.result()
    assert message.startswith("captured step: the optimizer is in use by fit in thread 'fits_0'; one at a time"), message
    undisturbed.fit(blobs(60), 1, batch_size=16, progress=False)
    assert bits(t.model) == bits(undisturbed.model)
    captured(x, labels)
    assert not exclusive.owners


@pytest.mark.parametrize("of_its_own", [False, True])
def test_replays_of_two_threads_that_overlap(of_its_own: bool) -> None:
    """Steps of one optimizer, or of two with the same parameters; verified ones as well."""
    t, messages = Training(), list[str]()
    second = optim.SGD(t.model.parameters(), 0.1) if of_its_own else t.optimizer
    with ThreadPoolExecutor(1) as thread:
        other = thread.submit(lambda: fastnn.capture(lambda x, labels: (second.zero_grad(), t.step(x, labels), second.step())[1]))
        theirs = other.result()
        thread.submit(theirs, *t.data[0]).result()
        during = False

        def meanwhile(loss: fastnn.Tensor) -> None:
            if during:
                messages.append(thread.submit(raised, lambda: theirs(*t.data[0])).result())

        def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
            loss, _ = t.step(x, labels)
            recording.look(loss, meanwhile)
            return loss

        ours = fastnn.capture(step, verify=2)
        ours(*t.data[0])
        during = True
        ours(*t.data[0]), ours(*t.data[0])
        during = False
        thread.submit(theirs, *t.data[0]).result()
    assert len(messages) >= 3 and theirs._takes[0].runs == 2 and not exclusive.owners
    start = "captured step: the optimizer is in use by captured step in thread 'MainThread'"
    assert all(message.startswith(start) for message in messages), messages


def test_an_eager_step_while_a_replay_has_its_parameters() -> None:
    t, messages, during = Training(), list[str](), [False]
    twin = optim.SGD(t.model.parameters(), 0.1)

    def meanwhile(loss: fastnn.Tensor) -> None:
        if during[0]:
            with ThreadPoolExecutor(1) as thread:
                messages.append(thread.submit(raised, twin.step).result())

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        loss, _ = t.step(x, labels)
        recording.look(loss, meanwhile)
        return loss

    captured = fastnn.capture(step)
    captured(*t.data[0])
    during[0] = True
    captured(*t.data[0])
    assert messages and messages[0].startswith("SGD.step: the parameter is in use by captured step in thread 'MainThread'")
