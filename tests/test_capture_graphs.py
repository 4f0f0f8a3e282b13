"""On a GPU the kernels between two looks of the host become a graph."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import numpy as np
import pytest
from captured_steps import DEVICE, Training, compare
from kernel_calls import GPUS
from test_trainer import bits, blobs, net

import fastnn
from fastnn import optim
from fastnn.train import Trainer

pytestmark = [
    pytest.mark.usefixtures("without_memory_checks"),
    pytest.mark.skipif(not GPUS, reason="no GPU and no FASTNN_CUDA_EMULATED"),
]


def test_a_step_is_one_graph() -> None:
    assert compare(5, net="lenet", optimizer="adam")._takes[0].replay.graphs == 1


def test_a_look_of_the_host_divides_it() -> None:
    t, again, seen = Training(), Training(), list[float]()

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> tuple[fastnn.Tensor, fastnn.Tensor]:
        t.optimizer.zero_grad()
        logits = t.model(x)
        loss = t.loss(logits, labels)
        fastnn.recording.look(loss, lambda value: seen.append(value.item()))
        loss.backward()
        t.optimizer.step()
        return loss, logits

    captured = fastnn.capture(step)
    assert t.run(captured, 5) == again.run(again.step, 5)
    assert captured._takes[0].replay.graphs == 2 and len(seen) == 5


def test_arrays_that_stay_on_the_host_are_copied_before_the_graph() -> None:
    """Labels, where the loss looks at them, and a constant: behind other results of the step, which must not lie in their place."""
    weights = fastnn.tensor([1.0, 2.0, 3.0])

    def step(x: fastnn.Tensor, factors: fastnn.Tensor) -> fastnn.Tensor:
        y = ((x * 2.0).exp() + 1.0).log()
        return y * factors.to(DEVICE) + weights.to(DEVICE)

    captured = fastnn.capture(step)
    for i in range(5):
        x, factors = fastnn.tensor([0.1 * i, 0.2, 0.3], device=DEVICE), fastnn.tensor([1.0, i, 3.0])
        assert captured(x, factors).numpy().tobytes() == step(x, factors).numpy().tobytes()
    assert captured._takes[0].replay.graphs == 1


def test_what_other_threads_do_meanwhile_is_no_part_of_it() -> None:
    """As the loader's thread, which makes batches on the device's own stream."""
    x, done, wrong = fastnn.tensor(np.arange(1000, dtype=np.float32), device=DEVICE), threading.Event(), list[int]()

    def work() -> None:
        for i in itertools.count():
            if not np.array_equal((x * float(i % 7)).numpy(), np.arange(1000) * np.float32(i % 7)):
                wrong.append(i)
            if done.is_set():
                return

    other = threading.Thread(target=work)
    other.start()
    try:
        for _ in range(20):
            assert compare(3, net="lenet", optimizer="adam")._takes[0].replay.graphs == 1
    finally:
        done.set()
        other.join()
    assert not wrong


def test_the_trainer_on_a_gpu() -> None:
    def trained(replay: bool) -> tuple[Any, ...]:
        model = net()
        t = Trainer(model, optim.Adam(model.parameters(), 1e-2), device=DEVICE, ema=0.9)
        history = t.fit(blobs(60), 2, batch_size=16, progress=False, replay=replay)
        assert t.replayed.startswith("replayed: ") == replay
        return bits(model), history["loss"]

    assert trained(True) == trained(False)
