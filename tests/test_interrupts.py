"""Ctrl-C and SIGTERM at any moment of a fit: what is saved, what is raised, which handlers stand afterwards, and that training goes on bit
for bit."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captured_steps import Training
from test_checkpoint import QUIET, make, state
from test_trainer import blobs

import fastnn
from fastnn import captured, data, exclusive, files, recording, signals
from fastnn.train import Callback, Interrupted, ModelCheckpoint, Trainer

pytestmark = pytest.mark.usefixtures("without_memory_checks")

TRAIN, VALIDATION = blobs(100), blobs(40, 1)  # 7 steps an epoch
EVENTS = [
    "before_fit", "before_epoch", "before_step", "after_step", "after_capture", "before_evaluate", "after_evaluate", "after_epoch", "after_fit",
]  # fmt: skip


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@lru_cache(1)
def whole() -> Any:
    """The state at the end of 3 epochs that nothing interrupted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "whole.safetensors")
        make("adam").fit(TRAIN, 3, VALIDATION, batch_size=16, callbacks=[ModelCheckpoint(path)], **QUIET)
        return state(path)


def interrupted(path: Path, *callbacks: Callback, number: int = signal.SIGINT, trainer: Trainer | None = None) -> Interrupted:
    """A fit that a signal ends: it says so, has saved, and the handlers are those from before."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="interrupted .*; saved to .* goes on") as caught:
        t = trainer or make("adam")
        t.fit(TRAIN, 3, VALIDATION, batch_size=16, callbacks=[ModelCheckpoint(path, every=2), *callbacks], **QUIET)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert caught.value.saved == str(path) and caught.value.signal == number
    return caught.value


def goes_on(path: Path) -> None:
    """From the checkpoint to the very state of the run that was never interrupted."""
    make("adam", 7).fit(TRAIN, 3, VALIDATION, batch_size=16, resume=path, callbacks=[ModelCheckpoint(path)], **QUIET)
    assert state(path) == whole()


class Sends(Callback):
    """A signal at the `count`-th time that the event comes."""

    def __init__(self, event: str, count: int, number: int) -> None:
        self.left, self.number = count, number
        setattr(self, event, self.event)

    def event(self, trainer: Trainer, *rest: object) -> None:
        self.left -= 1
        if self.left == 0:
            send(self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("event", EVENTS)
def test_in_a_callback(tmp_path: Path, event: str, number: int) -> None:
    often = {"before_step": 10, "after_step": 13, "before_epoch": 2, "before_evaluate": 2, "after_evaluate": 2, "after_epoch": 2}
    interrupted(tmp_path / "c", Sends(event, often.get(event, 1), number), number=number)
    goes_on(tmp_path / "c")


def test_after_the_last_epoch_it_says_where(tmp_path: Path) -> None:
    error = interrupted(tmp_path / "c", Sends("after_fit", 1, signal.SIGTERM), number=signal.SIGTERM)
    assert error.where == "interrupted at the end, after epoch 3"


def test_in_a_fit_that_has_nothing_to_do(tmp_path: Path) -> None:
    """Resumed after its last epoch, with a progress bar that never began."""
    make("adam").fit(TRAIN, 3, VALIDATION, batch_size=16, callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
    callbacks = [ModelCheckpoint(tmp_path / "again"), Sends("before_fit", 1, signal.SIGTERM)]
    with pytest.raises(Interrupted, match="interrupted at the end, after epoch 3; saved to"):
        make("adam").fit(TRAIN, 3, VALIDATION, batch_size=16, callbacks=callbacks, resume=tmp_path / "c", restore_best=False)
    assert state(tmp_path / "again") == whole()


class Once:
    """A function that sends a signal at its n-th call and then does what it always does."""

    def __init__(self, real: Callable[..., Any], count: int = 1, number: int = signal.SIGINT) -> None:
        self.real, self.left, self.number = real, count, number

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            send(self.number)
        return self.real(*args, **keywords)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("place", "name", "count"),
    [
        (captured, "_compare", 1),  # in capture, both recordings done
        (captured.Captured, "_drawing", 2),  # between the first and the second recording
        (captured.Captured, "_looking", 9),  # in a step, before its kernels run
        (os, "fsync", 1),  # while a checkpoint is written
        (os, "replace", 1),
        (os, "fsync", 2),
        (data.Loader, "batch", 12),  # in the thread that makes batches
        (np, "sum", 20),  # in the evaluation of a metric, or in training's
    ],
)
def test_in_the_midst(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: Any, name: str, count: int, number: int) -> None:
    real = getattr(place, name)
    once = Once(real, count, number)
    monkeypatch.setattr(place, name, once if not isinstance(place, type) else lambda *a, **k: once(*a, **k))
    interrupted(tmp_path / "c", number=number)
    assert once.left <= 0
    monkeypatch.undo()
    goes_on(tmp_path / "c")


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35, 0.5, 0.65, 0.8])
def test_from_outside_at_some_moment(tmp_path: Path, share: float) -> None:
    """A thread sends it some time after the first step, wherever the main thread is then."""

    class Later(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.optimizer.steps == 2:
                self.timer = threading.Timer(share * 0.02, send, [signal.SIGINT])
                self.timer.start()
            time.sleep(0.0005)

        def after_fit(self, trainer: Trainer) -> None:
            self.timer.join()

    interrupted(tmp_path / "c", Later())
    goes_on(tmp_path / "c")


# --- more than one


class Twice(Callback):
    def __init__(self, first: int, second: int) -> None:
        self.signals, self.after_it = (first, second), False

    def before_step(self, trainer: Trainer) -> None:
        if trainer.optimizer.steps == 9:
            for number in self.signals:
                send(number)
            self.after_it = True


def test_sigterm_again_and_again_changes_nothing(tmp_path: Path) -> None:
    """Batch systems send it to every process of a job, and then to the job."""
    twice = Twice(signal.SIGTERM, signal.SIGTERM)
    interrupted(tmp_path / "c", twice, Sends("after_interrupt", 1, signal.SIGTERM), number=signal.SIGTERM)
    assert twice.after_it
    goes_on(tmp_path / "c")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_a_signal_stops_at_once(tmp_path: Path, first: int) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    twice, trainer = Twice(first, signal.SIGINT), make("adam")
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.fit(TRAIN, 3, VALIDATION, batch_size=16, callbacks=[ModelCheckpoint(tmp_path / "c"), twice], **QUIET)
    assert not isinstance(caught.value, Interrupted) and not twice.after_it and trainer.optimizer.steps == 9
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    goes_on(tmp_path / "c")  # the checkpoint of the first epoch


def test_ctrl_c_while_the_interrupted_state_is_written_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Callback):
        def after_interrupt(self, trainer: Trainer) -> None:
            monkeypatch.setattr(os, "replace", Once(os.replace))

    with pytest.raises(KeyboardInterrupt) as caught:
        callbacks = [Slow(), ModelCheckpoint(tmp_path / "c"), Sends("before_step", 10, signal.SIGINT)]
        make("adam").fit(TRAIN, 3, VALIDATION, batch_size=16, callbacks=callbacks, **QUIET)
    monkeypatch.undo()
    assert not isinstance(caught.value, Interrupted) and os.listdir(tmp_path) == ["c"]
    assert files.read(tmp_path / "c")[1]["epoch"] == 1
    goes_on(tmp_path / "c")


def test_the_trainer_is_of_use_afterwards(tmp_path: Path) -> None:
    trainer = make("adam")
    interrupted(tmp_path / "c", Sends("after_step", 10, signal.SIGINT), trainer=trainer)
    assert trainer.evaluate(VALIDATION)["accuracy"] > 0  # the signal is dealt with
    trainer.fit(TRAIN, 2, VALIDATION, batch_size=16, callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
    assert state(tmp_path / "c")[0] == whole()[0]


# --- loops of one's own, where Ctrl-C is an exception like others


class Behind:
    """Ctrl-C behind the k-th call that fastnn makes of a function in C: where Python looks for signals."""

    def __init__(self, k: int) -> None:
        self.left = k

    def __call__(self, frame: Any, event: str, called: Any) -> None:
        if event == "c_return" and frame.f_globals.get("__name__", "").split(".")[0] in ("fastnn", "contextlib"):
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("calls", "stride", "optimizer"),
    [(None, 1, "adam"), (0, 5, "adam"), (1, 1, "adam"), (None, 3, "muon and adam")],
    ids=["eager", "recorded", "replayed", "eager, several launches"],
)
def test_behind_any_call_of_a_step(calls: int | None, stride: int, optimizer: str) -> None:
    """Gradients are recorded as before, no step is, nobody has the optimizer; put back to where it was, the step gives the same bits."""

    def make() -> tuple[Training, Callable[..., Any], Any, Any]:
        t = Training("lenet", optimizer)
        step = t.step if calls is None else fastnn.capture(t.step)
        t.run(step, calls or 0)
        return t, step, t.model.state_dict(), t.optimizer.state_dict()

    t, step, *_ = make()
    t.call(step, *t.data[0])
    expected = t.state()
    for k in itertools.count(1, stride):
        t, step, weights, moments = make()
        drawn = t.generator.draw
        try:
            sys.setprofile(Behind(k))
            t.call(step, *t.data[0])
            break
        except KeyboardInterrupt as error:
            kept = error  # as an interactive Python keeps it
        finally:
            sys.setprofile(None)
        assert fastnn.is_grad_enabled() and recording.current() is None and recording.under_way == 0, kept.__traceback__
        del kept
        assert not exclusive.owners and t.model[0].weight.sum().numpy().size == 1, "the core still records"
        t.model.load_state_dict(weights), t.optimizer.load_state_dict(moments)
        t.optimizer.zero_grad()
        t.generator.draw = drawn
        t.call(step, *t.data[0])
        assert t.state() == expected, k
    assert k > (20 if calls else 150)


# --- whose handlers


@pytest.fixture
def handler() -> Iterator[Callable[..., None]]:
    def own(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    yield own
    signal.signal(signal.SIGTERM, before)


class Handlers(Callback):
    def before_step(self, trainer: Trainer) -> None:
        self.seen = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


def test_a_handler_of_ones_own_for_sigterm_stays(handler: Callable[..., None]) -> None:
    seen = Handlers()
    make("adam").fit(TRAIN, 1, callbacks=[seen], **QUIET)
    assert seen.seen[1] is handler and signal.getsignal(signal.SIGTERM) is handler


def test_handlers_stand_during_a_fit_in_the_main_thread_alone() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert before[1] is signal.SIG_DFL
    here, there = Handlers(), Handlers()
    make("adam").fit(TRAIN, 1, callbacks=[here], **QUIET)
    thread = threading.Thread(target=lambda: make("adam").fit(TRAIN, 1, callbacks=[there], **QUIET))
    thread.start()
    thread.join()
    assert there.seen == before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert here.seen[0] is not before[0] and here.seen[1] is not before[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_nobody_asked_for_is_raised_at_the_end(number: int) -> None:
    with pytest.raises(signals.Ended) as caught, signals.held():
        send(number)
    assert caught.value.signal == number and not signals.waiting()


def test_a_signal_while_handlers_are_put_back_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    answers = signals.Answers(held=False)
    with answers.given():
        monkeypatch.setattr(signal, "signal", Once(signal.signal))
    assert answers.seen == signal.SIGINT
    monkeypatch.undo()
    with pytest.raises(KeyboardInterrupt), signals.held():
        monkeypatch.setattr(signal, "signal", Once(signal.signal))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_who_raises_signals_remembers_them_during_a_fit(tmp_path: Path) -> None:
    """As the command line does around one; one that came before, and was passed over, ends it at its first step."""
    answers = signals.Answers(held=False)
    with answers.given():
        interrupted(tmp_path / "c", Sends("after_step", 10, signal.SIGTERM), number=signal.SIGTERM)
        send(signal.SIGTERM)  # a further one changes nothing
        assert interrupted(tmp_path / "d", number=signal.SIGTERM).where == "interrupted in epoch 1, after batch 1 of 7"
        with pytest.raises(signals.Ended):
            send(signal.SIGINT)
    goes_on(tmp_path / "c")
