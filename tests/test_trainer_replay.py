"""The Trainer replays its step by itself: the same training bit for bit, and a report of what was replayed and why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_accumulation import HARD, Losses, Targets
from test_checkpoint import state
from test_trainer import bits, blobs, net

import fastnn
from fastnn import _C, data, nn, optim
from fastnn.data import Normalize
from fastnn.optim import EMA, Lookahead, schedules
from fastnn.train import Callback, Diverged, ModelCheckpoint, Trainer

pytestmark = pytest.mark.usefixtures("without_memory_checks")


def trainer(**options: Any) -> Trainer:
    model = net()
    return Trainer(model, Lookahead(optim.Adam(model.parameters(), schedules.cosine(1e-2, 60)), k=4), **options)


class Counts(Callback):
    """Which steps were replays."""

    def __init__(self) -> None:
        self.replays: list[int] = []
        self.reports: list[str] = []

    def after_capture(self, trainer: Trainer, report: str) -> None:
        self.reports.append(report)

    def after_step(self, trainer: Trainer, loss: float) -> None:
        captured = trainer._replays.captured
        self.replays.append(0 if captured is None else sum(take.runs for take in captured._takes))


def test_a_replayed_training_is_the_eager_one(tmp_path: Path) -> None:
    """110 samples in batches of 16: a smaller one ends each epoch; clipped, averaged, penalised, validated."""
    results, seen = [], Counts()
    for replay in (False, "auto"):
        t = trainer(ema=0.9, clip_norm=0.5, l2=1e-4, metrics=("accuracy",))
        history = t.fit(blobs(110), 4, blobs(40, 1), batch_size=16, progress=False, replay=replay, callbacks=[seen] if replay else [])
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
        t.save(tmp_path / "end.safetensors")
        results.append(
            (rows, state(tmp_path / "end.safetensors"), [p.grad.numpy().tobytes() for p in t.model.parameters() if p.grad is not None])
        )
    assert results[0] == results[1]
    assert seen.replays == list(range(1, 4 * 7 + 1))
    assert len(seen.reports) == 1 and "kernel calls, arena" in seen.reports[0] and t.replayed == seen.reports[0]
    assert t._replays.captured is None


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_steps_of_several_batches_are_replayed(reduction: str) -> None:
    """110 samples in batches of 16, three a step: the last step has one, of 14. Each form of step is one recording."""
    results: list[Any] = []
    for replay in (False, "auto"):
        loss, seen, losses = nn.CrossEntropyLoss(reduction=reduction), Counts(), Losses()
        t = trainer(loss=loss, accumulate=3, ema=0.9, clip_norm=0.5, l2=1e-3)
        history = t.fit(blobs(110), 3, batch_size=16, progress=False, replay=replay, callbacks=[seen, losses])
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
        gradients = [p.grad.numpy().tobytes() for p in t.model.parameters() if p.grad is not None]
        results.append((rows, losses.shown, bits(t.model), gradients, t.generator.draw, t.optimizer.steps))
        assert seen.replays == (list(range(1, 3 * 3 + 1)) if replay else [0] * 9) and t.replayed.startswith(
            "replayed" if replay else "eager"
        )
    assert results[0] == results[1] and results[0][-1] == 9


def test_an_ignored_label_ends_the_replays_of_several_batches() -> None:
    """In the second step of three: the first was a replay, and the training is the eager one all the same."""
    labels, results = HARD.copy(), []
    labels[9] = -100
    for replay in (False, "auto"):
        fastnn.seed(0)
        model, losses, seen = nn.Sequential(nn.Linear(4, 3)), Losses(), Counts()
        t = Trainer(model, optim.SGD(model.parameters(), 0.1), accumulate=2)
        t.fit(Targets(labels, 4), 1, progress=False, replay=replay, callbacks=[losses, seen])
        results.append((losses.shown, bits(model)))
        assert seen.replays == ([1, 0, 0] if replay else [0, 0, 0])
    assert results[0] == results[1] and t.replayed.startswith("eager: batches of one step count by more")


def test_memory_that_ends_within_a_replay_does_not_repeat_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels have run: statistics of batch normalisation would move twice."""

    def ended(*_: Any) -> None:
        raise _C.OutOfMemoryError("within the step")

    t = trainer(accumulate=2)
    nothing = data.Loader((np.full((32, 1, 6, 6), np.nan, np.float32), np.arange(32) % 3), 16, normalize=Normalize([0.0], [1.0]))
    monkeypatch.setattr("fastnn.train.trainer.check_loss", ended)
    monkeypatch.setattr("fastnn.train.stepping.look_at_input", lambda x: None)
    with pytest.raises(fastnn.OutOfMemoryError, match="within the step"):
        t.fit(nothing, 1, progress=False)
    assert t.replayed.startswith("replayed: ") and t.model.state_dict()["1.num_batches_tracked"] <= 2


def test_a_training_resumed_in_the_middle_is_the_same(tmp_path: Path) -> None:
    class Stop(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.optimizer.steps == 10:
                trainer.save(tmp_path / "middle.safetensors")

    whole = trainer()
    whole.fit(blobs(100), 3, batch_size=16, progress=False, callbacks=[Stop()])
    again = trainer()
    again.fit(blobs(100), 3, batch_size=16, progress=False, resume=tmp_path / "middle.safetensors")
    for t, name in ((whole, "whole"), (again, "again")):
        t.save(tmp_path / f"{name}.safetensors")
    assert state(tmp_path / "whole.safetensors") == state(tmp_path / "again.safetensors")


def test_a_loss_that_is_no_number_leaves_the_weights() -> None:
    """Also in a replayed step: its update is not run."""
    images = np.ones((64, 1, 6, 6), np.float32)
    images[50] = np.nan

    def run(replay: bool) -> tuple[str, dict[str, bytes], int]:
        fastnn.seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
        t = Trainer(model, optim.SGD(model.parameters(), 0.1))
        with pytest.raises(Diverged) as error:
            for _ in range(9):
                loader = fastnn.data.Loader((images, np.zeros(64, np.int64)), 8)
                t.fit(loader, 1, progress=False, replay=replay)
        return str(error.value), bits(model), t.optimizer.steps

    assert run(True) == run(False)
    assert run(True)[2] == 6


def test_what_is_not_replayed_is_reported() -> None:
    def report(model: nn.Module, loss: Any = None, optimizer: Any = optim.SGD, **options: Any) -> str:
        t = Trainer(model, optimizer(model.parameters(), 0.1), loss, normalize=Normalize.fit(blobs(40)), **options)
        t.fit(blobs(40), 1, batch_size=8, progress=False)
        return t.replayed

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(36, 3)

        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            return self.layer(fastnn.ops.flatten(x))

    class OwnSGD(optim.SGD): ...

    hooked = net()
    hooked.register_forward_hook(lambda module, args, output: None)
    assert report(net()).startswith("replayed: ")
    weighing = nn.CrossEntropyLoss([1.0, 2.0, 3.0])
    assert report(net(), weighing).startswith("replayed: ")
    assert report(net(), weighing, accumulate=2) == (
        "eager: batches of one step count by more than their samples (class weights, ignored labels)"
    )
    assert (
        report(Own()) == "eager: test_what_is_not_replayed_is_reported.<locals>.Own is not fastnn's own; replay=True tries it all the same"
    )
    assert report(net(), optimizer=OwnSGD).startswith("eager: test_what_is_not_replayed_is_reported.<locals>.OwnSGD is not")
    assert report(net(), lambda logits, labels: logits.sum()).startswith(
        "eager: test_what_is_not_replayed_is_reported.<locals>.<lambda> is not"
    )
    assert report(hooked) == "eager: Sequential has a forward hook"
    averaging = net()
    averaging[1].momentum = None  # the batch's weight is a number that changes
    assert "the host looks at the values" in report(averaging)


class OwnObjective(Trainer):
    def objective(self, logits: fastnn.Tensor, labels: fastnn.Tensor, penalised: float = 1.0) -> fastnn.Tensor:
        return super().objective(logits, labels, penalised) * (1.0 + self.epoch)


class OwnAverage(EMA):
    def update(self) -> None:
        self.decay = (1 + self.calls) / (10 + self.calls)
        super().update()


def _own_penalty(t: Trainer) -> None:
    t.penalty = lambda: (t.model[1].weight ** 2).sum() * (0.01 * t.epoch)  # type: ignore[assignment, index]


def _own_forward(t: Trainer) -> None:
    t.model[1].forward = lambda x: fastnn.ops.linear(x, t.model[1].weight) * (1.0 + t.epoch)  # type: ignore[index]


def _own_step(t: Trainer) -> None:
    step = t.optimizer.step

    def slower() -> None:
        t.optimizer.param_groups[0]["lr"] = 0.1 / (1 + t.optimizer.steps)
        step()

    t.optimizer.step = slower  # type: ignore[assignment, method-assign]


def _own_loss(t: Trainer) -> None:
    loss = nn.CrossEntropyLoss()
    t.loss = lambda logits, labels: loss(logits, labels) * (1.0 + t.epoch)


def _own_loss_forward(t: Trainer) -> None:
    loss = nn.CrossEntropyLoss()
    t.loss.forward = lambda logits, labels: loss(logits, labels) * (1.0 + t.epoch)  # type: ignore[attr-defined]


def _own_layer(t: Trainer) -> None:
    class Grows(nn.Linear):
        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            return super().forward(x) * (1.0 + t.epoch)

    t.model[1].__class__ = Grows  # type: ignore[index]


OWN: dict[str, Callable[[Trainer], None]] = {
    "penalty": _own_penalty,
    "forward": _own_forward,
    "step": _own_step,
    "loss": _own_loss,
    "loss.forward": _own_loss_forward,
    "layer": _own_layer,
}


@pytest.mark.parametrize("when", [0, 1])
@pytest.mark.parametrize("own", [*OWN, "trainer", "average"])
def test_python_of_ones_own_is_not_replayed(own: str, when: int) -> None:
    """Given to the trainer, or put in by a callback in the middle of a training."""

    class Puts(Callback):
        def before_epoch(self, trainer: Trainer) -> None:
            if trainer.epoch == when and own in OWN:
                OWN[own](trainer)
                trainer.model[1].note = "another recording"  # type: ignore[index]

    def end(replay: bool | str) -> tuple[dict[str, bytes], list[bytes]]:
        fastnn.seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
        average = OwnAverage(model, 0.5) if own == "average" else EMA(model, 0.5)
        kind = OwnObjective if own == "trainer" else Trainer
        t = kind(model, optim.SGD(model.parameters(), 0.1), ema=average)
        t.fit(blobs(40), 3, batch_size=8, progress=False, replay=replay, callbacks=[Puts()])
        assert replay is False or t.replayed.startswith("eager: ") and t.replayed.endswith("; replay=True tries it all the same")
        return bits(model), [a.numpy().tobytes() for a in average._averages]

    assert end("auto") == end(False)


def test_replay_true_is_replayed_or_raises() -> None:
    class Own(nn.Sequential):
        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            y: fastnn.Tensor = super().forward(x)
            return y * 2.0

    model = Own(nn.Flatten(), nn.Linear(36, 3))
    t = Trainer(model, optim.SGD(model.parameters(), 0.1))
    t.fit(blobs(40), 1, batch_size=8, progress=False, replay=True)
    assert t.replayed.startswith("replayed: ")
    t.stepping.accumulate, t.loss = 2, nn.CrossEntropyLoss([1.0, 2.0, 3.0])
    with pytest.raises(fastnn.CaptureError, match="batches of one step count by more than their samples"):
        t.fit(blobs(40), 1, batch_size=8, progress=False, replay=True)
    with pytest.raises(ValueError, match="replay 'always' is not one of auto, True, False"):
        t.fit(blobs(40), 1, progress=False, replay="always")

    class Looks(nn.Module):
        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            return x * float(x.max())

    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), Looks())
    t = Trainer(model, optim.SGD(model.parameters(), 0.1))
    before = bits(model)
    with pytest.raises(fastnn.CaptureError, match=r"the host looks at the values.*return x \* float"):
        t.fit(blobs(40), 1, batch_size=8, progress=False, replay=True)
    assert bits(model) == before and t.optimizer.steps == 0


def test_the_arena_is_printed_before_the_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    t = trainer()
    t.fit(blobs(100), 2, batch_size=16, callbacks=[ModelCheckpoint(tmp_path / "c.safetensors")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("replayed: ") and "arena 0." in lines[0] and lines[1].split()[0] == "epoch" and len(lines) == 4


def test_memory_is_given_back_after_a_fit() -> None:
    t = trainer()
    t.fit(blobs(100), 1, batch_size=16, progress=False)
    before = _C.memory_stats()["allocated"]
    for _ in range(3):
        t.fit(blobs(100), 1, batch_size=16, progress=False)
        assert _C.memory_stats()["allocated"] == before


@pytest.mark.parametrize("change", ["dropout", "smoothing", "clip", "momentum", "average", "optimizer", "precision"])
def test_what_a_callback_changes_is_seen(change: str) -> None:
    """The bits of eager steps, whatever attribute of the library's own parts is set between epochs."""

    class Changes(Callback):
        def before_epoch(self, trainer: Trainer) -> None:
            if trainer.epoch != 1:
                return
            modules = {type(m).__name__: m for m in trainer.model.modules()}
            if change == "dropout":
                modules["Dropout"].p = 0.1
            elif change == "smoothing":
                trainer.loss.label_smoothing = 0.3  # type: ignore[attr-defined]
            elif change == "clip":
                trainer.stepping.clip_norm = 0.01
            elif change == "momentum":
                modules["BatchNorm2d"].momentum = 0.5
            elif change == "average":
                trainer.stepping.ema = EMA(trainer.model, 0.5)
            elif change == "optimizer":
                trainer.optimizer = optim.Adam(trainer.model.parameters(), 0.01)
            else:
                trainer.precision = "bf16"

    if change == "precision" and _C.isa() not in _C.isas("bfloat16"):
        pytest.skip("this processor has no bfloat16")

    def end(replay: bool) -> list[bytes]:
        fastnn.seed(3)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 10))
        one = Trainer(model, optim.SGD(model.parameters(), lr=0.1), seed=1)
        one.fit(data.split(data.digits()[0], 0.2)[1], 3, progress=False, replay=replay, callbacks=[Changes()])
        assert one.replayed.startswith("replayed" if replay else "eager")
        averages = [] if one.stepping.ema is None else [a.numpy().tobytes() for a in one.stepping.ema._averages]
        return averages + [v.tobytes() for v in model.state_dict().values()]

    assert end(True) == end(False)


def test_another_array_of_numpys_on_the_loss_is_no_error() -> None:
    class Notes(Callback):
        def before_step(self, trainer: Trainer) -> None:
            trainer.loss.note = np.arange(3) + trainer.batch  # type: ignore[attr-defined]

    t = trainer()
    t.fit(blobs(40), 1, batch_size=8, progress=False, callbacks=[Notes()])
    assert t.replayed.startswith("replayed: ")
