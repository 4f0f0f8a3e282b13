"""Several threads that evaluate one model, by its averages too: what the first changed stays for the last; who wants something else is refused."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_interrupts import Behind
from test_trainer import bits, blobs

import fastnn
from fastnn import nn, optim, turns
from fastnn.optim import EMA
from fastnn.train import Callback, Trainer, evaluation


class Net(nn.Module):
    """One that evaluation runs as it is: not frozen, so its modes count."""

    def __init__(self) -> None:
        super().__init__()
        fastnn.seed(0)
        self.norm, self.drop, self.last = nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Linear(36, 3)

    def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
        y: fastnn.Tensor = self.last(self.drop(self.norm(x)).reshape(x.shape[0], -1))
        return y


def fitted(**options: Any) -> Trainer:
    model = Net()
    t = Trainer(model, optim.SGD(model.parameters(), 0.1), **options)
    t.fit(blobs(32), 2, batch_size=16, progress=False)
    return t


class Other(threading.Thread):
    """Runs a function, at once."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work, self.raised = work, ""
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except RuntimeError as error:
            self.raised = str(error)

    def done(self) -> str:
        self.join(60)
        assert not self.is_alive()
        return self.raised


@pytest.fixture(autouse=True)
def nothing_left() -> Any:
    yield
    assert not turns._turns


@pytest.mark.parametrize("options", [{}, {"ema": 0.5}], ids=["modes", "averages"])
def test_threads_that_predict_with_one_trainer(options: dict[str, Any]) -> None:
    """One put the mode, or the weights, back while another computed: a few of a hundred were wrong, and running statistics had moved."""
    t = fitted(**options)
    images = blobs(8).images
    expected, before = t.predict(images), bits(t.model)
    averages = t.stepping.ema.state_dict() if t.stepping.ema is not None else {}
    wrong: list[int] = []

    def predicts() -> None:
        wrong.extend(i for i in range(25) if not np.array_equal(t.predict(images), expected))

    others = [Other(predicts) for _ in range(4)]
    assert [other.done() for other in others] == [""] * 4 and not wrong
    assert bits(t.model) == before and t.model.training
    after = t.stepping.ema.state_dict() if t.stepping.ema is not None else {}
    assert all(np.array_equal(after[k], v) for k, v in averages.items())


def test_the_last_one_out_puts_back() -> None:
    model = Net()
    model.drop.eval()
    entered, leave = threading.Event(), threading.Event()

    def evaluates() -> None:
        with evaluation.mode(model, False):
            entered.set()
            leave.wait(60)

    with evaluation.mode(model, False):
        other = Other(evaluates)
        entered.wait(60)
    assert not any(m.training for m in model.modules())
    leave.set()
    other.done()
    assert [m.training for m in (model, model.norm, model.drop)] == [True, True, False]


@pytest.mark.parametrize("shared", [False, True])
def test_who_wants_other_modes_or_weights_is_refused(shared: bool) -> None:
    """Not kept waiting: this thread may wait for the other one within its block."""
    t = fitted(ema=0.5)
    x = fastnn.tensor(np.full((1, 1, 6, 6), -1.0, np.float32))
    ema = t.stepping.ema
    assert ema is not None
    raw = Trainer(t.model, t.optimizer, normalize=t.normalize)
    with ema.averaged() if shared else evaluation.mode(t.model, False):
        epoch, weights = t.epoch, bits(t.model)
        wanted: list[Callable[[], Any]] = [lambda: nn.monte_carlo(t.model, x, 2), lambda: t.fit(blobs(16), 1, progress=False)]
        wanted += [lambda: optim.update_bn([x], t.model), (lambda: raw.predict(x)) if shared else (lambda: t.predict(x))]
        if shared:
            wanted.append(lambda: nn.summary(t.model, (1, 6, 6)))
        here = "averaged" if shared else "evaluation"
        for work in wanted:
            assert f"the model is in use by {here} in thread 'MainThread'; wait for it" in Other(work).done()
        assert t.epoch == epoch and bits(t.model) == weights
        nn.monte_carlo(t.model, x, 2)  # within, this thread does what it likes
    assert all(Other(work).done() == "" for work in wanted)


def test_what_one_of_several_does_within_is_not_done_to_the_others() -> None:
    """Two threads evaluate: neither puts the model into another mode, or other weights into it, under the other; a third joins neither's."""
    t = fitted(ema=0.5)
    x, ema = fastnn.tensor(np.zeros((1, 1, 6, 6), np.float32)), t.stepping.ema
    assert ema is not None
    entered, leave = threading.Event(), threading.Event()

    def evaluates() -> None:
        with evaluation.mode(t.model, False):
            entered.set()
            leave.wait(60)

    with evaluation.mode(t.model, False):
        nn_mode = Other(evaluates)
        entered.wait(60)
        for work in (lambda: nn.monte_carlo(t.model, x, 2), lambda: ema.averaged().__enter__()):
            with pytest.raises(RuntimeError, match="the model is in use by evaluation in thread"):
                work()
        with evaluation.mode(t.model, False):  # the same once more
            assert not t.model.training
        leave.set()
        nn_mode.done()
        with ema.averaged():  # alone again
            assert "in use by" in Other(lambda: evaluation.mode(t.model, False).__enter__()).done()


def test_averages_are_not_put_into_a_model_that_another_thread_fits(tmp_path: Any) -> None:
    raised: list[str] = []

    class Meanwhile(Callback):
        def before_step(self, trainer: Trainer) -> None:
            work = (
                lambda: trainer.predict(blobs(4).images),
                lambda: trainer.save_model(tmp_path / "m"),
                lambda: nn.monte_carlo(trainer.model, 0),
                lambda: nn.summary(trainer.model, (1, 6, 6)),
                lambda: optim.update_bn([fastnn.tensor(np.zeros((2, 1, 6, 6), np.float32))], trainer.model),
            )
            raised.extend(Other(one).done() for one in work)

    t, undisturbed = fitted(ema=0.5), fitted(ema=0.5)
    t.fit(blobs(32), 1, callbacks=[Meanwhile()], progress=False)
    undisturbed.fit(blobs(32), 1, progress=False)
    names = {message.split(" is in use by fit in thread")[0] for message in raised}
    assert names == {f"{doing}: the model" for doing in ("EMA.averaged", "monte_carlo", "summary", "update_bn")}
    assert bits(t.model) == bits(undisturbed.model)


def test_losses_are_shared_by_nets_of_several_threads() -> None:
    """One evaluates with it while another trains: nobody waits for that."""
    model, loss = Net(), nn.CrossEntropyLoss()
    with evaluation.mode(model, True, loss):
        other = Net()
        assert Other(lambda: evaluation.mode(other, False, loss).__enter__()).done() == ""


def test_a_change_that_fails_leaves_the_model_free() -> None:
    model = Net()
    ema = EMA(model, 0.5)
    ema.update()
    model.last = nn.Linear(36, 4)
    with pytest.raises(ValueError, match="the model no longer has"), ema.averaged():
        pass
    assert Other(lambda: evaluation.mode(model, False).__enter__()).done() == ""


def test_a_summary_is_of_its_own_forward() -> None:
    """Not of one that another thread does meanwhile."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            other = threading.Thread(target=self.layer, args=(x,))
            other.start()
            other.join(60)
            y: fastnn.Tensor = self.layer(x)
            return y

    summary = Twice().summary((3,))
    assert [(row.name, row.macs) for row in summary.layers] == [("layer", 6)]


def test_a_forked_child_waits_for_nobody() -> None:
    """The parent's other threads are not there: what they had changed is put back in the child."""
    model, entered, leave = Net(), threading.Event(), threading.Event()

    def evaluates() -> None:
        with evaluation.mode(model, False):
            entered.set()
            leave.wait(60)

    other = Other(evaluates)
    entered.wait(60)
    child = os.fork()
    if child == 0:
        try:
            back = model.training and not turns._turns
            with evaluation.mode(model, True):
                os._exit(0 if back and model.training else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    leave.set()
    other.done()


def test_behind_a_ctrl_c_nobody_waits() -> None:
    """After any call: what is held in memory may be half done then, but no other thread is kept from it."""
    for k in itertools.count(1):
        model = Net()
        try:
            sys.setprofile(Behind(k))
            with evaluation.mode(model, False):
                pass
            break
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        assert not any(turn.users for found in turns._turns.values() for turn in found), k
        with evaluation.mode(model, True):  # which forgets turns without anybody
            pass
    assert k > 20
