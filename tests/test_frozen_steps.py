"""Frozen models within captured steps, and what a first call leaves behind that failed or was refused."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest
from test_frozen import images, made, off_by, plain, same

import fastnn
from fastnn import _C, Tensor, data, nn, ops, optim, train
from fastnn.nn.frozen import folded

pytestmark = pytest.mark.usefixtures("without_memory_checks")  # with them every call is eager


def test_a_frozen_model_within_a_captured_step_is_recorded_once() -> None:
    fast = nn.frozen(made(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())))
    step, x = fastnn.capture(lambda x: fast(x) * 2.0), images(1, 3, 8, 8)
    fast(x)  # folds
    expected = fast(x) * 2.0
    assert all(same(step(x), expected) for _ in range(4)) and step._takes[0].runs == 4


def dropped() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.DropConnect(nn.Linear(192, 4), inverted=False))


def normalised() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 4))


@pytest.mark.parametrize("kind", ["norm", "bfloat16", "DropConnect", "DropConnect in bfloat16"])
def test_the_first_call_may_stand_within_a_captured_step(kind: str) -> None:
    """What is folded, narrowed or multiplied for it is no array of that step, which would have no bytes."""
    net, x = made(dropped if "DropConnect" in kind else normalised), images(2, 3, 8, 8)
    x = ops.cast(x, "bfloat16") if "bfloat16" in kind else x
    expected, fast = nn.frozen(net)(x) * 1.0, nn.frozen(net)
    step = fastnn.capture(lambda x: fast(x) * 1.0)
    assert all(same(step(x), expected) for _ in range(3)) and step._takes[0].runs == 3
    assert all(same(fast(x), expected) for _ in range(4)) and same(step(x), expected)
    assert "replayed" in fast.form and off_by(fast(x[:1]).numpy(), expected[:1].numpy()) < 1e-5


def test_of_two_threads_that_fold_at_once_the_first_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a step that is recorded twice would find other weights the second time."""
    fast, x, begun, go = nn.frozen(made(normalised)), images(2, 3, 8, 8), threading.Event(), threading.Event()
    slow = threading.Thread(target=fast, args=(x,))

    def folded_slowly(*given: Any) -> Any:
        result = folded(*given)
        if threading.current_thread() is slow:
            begun.set(), go.wait(60)
        return result

    def step(x: Tensor) -> Tensor:
        y = fast(x) * 1.0
        go.set(), slow.join()
        return y

    monkeypatch.setattr(sys.modules["fastnn.nn.frozen"], "folded", folded_slowly)
    slow.start(), begun.wait(60)
    assert same(fastnn.capture(step)(x), fast(x) * 1.0)


class Taught(nn.Module):
    """How far a student is from a frozen teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
        self.teacher = nn.frozen(made(normalised))

    def forward(self, x: Tensor) -> Tensor:
        return self.student(x) - self.teacher(x)


def test_a_teacher_within_a_captured_step() -> None:
    losses = []
    for captured in (False, True):
        net, x = made(Taught), images(8, 3, 8, 8)
        optimizer = optim.SGD(net.parameters(), 0.01)

        def step(x: Tensor, net: nn.Module = net, optimizer: optim.SGD = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        run = fastnn.capture(step) if captured else step
        losses.append([run(x).item() for _ in range(4)])
    assert losses[0] == losses[1] == sorted(losses[0], reverse=True)


def test_a_teacher_within_the_trainers_replays() -> None:
    samples = data.ArrayDataset(np.random.default_rng(0).standard_normal((8, 3, 8, 8), np.float32), np.arange(8) % 4)
    weights = []
    for replay in (False, True):
        net = made(Taught)
        trainer = train.Trainer(net, optim.SGD(net.parameters(), 0.1))
        trainer.fit(data.Loader(samples, 4), epochs=2, replay=replay)
        assert ("eager" in trainer.replayed) != replay
        weights.append(np.array(net.student[1].weight.numpy()))
    assert same(*weights)


@pytest.mark.parametrize("error", [MemoryError, _C.OutOfMemoryError])
def test_a_first_call_that_fails_is_none(error: type[Exception]) -> None:
    """The next one is as if it were the first, and replays come behind it."""
    failing = [True]

    class Once(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if failing[0]:
                raise error("no memory")
            return x

    net = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Once(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    fast, x = nn.frozen(net, replay=True), images(2, 3, 8, 8)
    with pytest.raises(error, match="no memory"):
        fast(x)
    failing[0] = False
    with fastnn.profile() as kernels:
        first = fast(x)
    assert kernels and not fast.kernels and all(same(fast(x), first) for _ in range(3))
    assert fast.form == "frozen, 1 normalisations folded, replayed"


def test_an_input_that_is_refused_leaves_the_replays() -> None:
    fast, x = nn.frozen(made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))), images(2, 3, 2, 2)
    kept: list[Tensor] = []
    fastnn.capture(lambda x: (kept.append(x * 2.0), kept[-1])[1])(x)
    fast(x)
    with pytest.raises(_C.CaptureError, match="was made while a captured step was recorded"):
        fast(kept[-1])
    assert all(same(fast(x), plain(fast.model, x)) for _ in range(3)) and "replayed" in fast.form
