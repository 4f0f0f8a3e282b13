"""Losses that are nn.Modules with parameters and buffers of their own: part of what is trained, in all that the Trainer does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_trainer import bits

import fastnn
from fastnn import Tensor, nn, ops, optim
from fastnn.data import Normalize
from fastnn.train import Callback as Hooks
from fastnn.train import Diverged, ModelCheckpoint, Trainer, load_model, reproduce

IMAGES = np.random.default_rng(0).standard_normal((40, 1, 6, 6)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 40)
QUIET: dict[str, Any] = {"batch_size": 8, "progress": False, "restore_best": False}


class Scaled(nn.CrossEntropyLoss):
    """Of logits times a number for each class, which is learned."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.scale = nn.Parameter(np.ones((1, 3), np.float32))

    def forward(self, logits: Tensor, labels: Any) -> Tensor:
        return super().forward(logits * self.scale, labels)


class Normed(nn.Module):
    """Cross-entropy behind a batch normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm1d(3), nn.Dropout(0.5)

    def forward(self, logits: Tensor, labels: Any) -> Tensor:
        return ops.cross_entropy(self.dropout(self.norm(logits)), labels)


class Counting(nn.Module):
    """Classes weigh what they were seldom seen; no parameters, and a buffer that is assigned anew."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", fastnn.tensor(np.ones(3, np.float32)))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.seen = fastnn.tensor(0.9 * self.seen.numpy() + np.bincount(labels.numpy(), minlength=3).astype(np.float32))
        return ops.cross_entropy(logits, labels, 1 / self.seen)


def begin(loss: nn.Module, **options: Any) -> Trainer:
    fastnn.seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    normalize = Normalize([0.0], [1.0])
    return Trainer(model, optim.SGD([*model.parameters(), *loss.parameters()], 0.1), loss, normalize=normalize, **options)


class After(Hooks):
    def __init__(self, look: Callable[[Trainer], Any]) -> None:
        self.look = look

    def after_step(self, trainer: Trainer, loss: float) -> None:
        self.look(trainer)


def gradients(batch: int, **options: Any) -> list[np.ndarray]:
    """Of the one step that an epoch has."""
    trainer, seen = begin(Scaled(ignore_index=0), **options), []
    look = After(lambda t: seen.append([p.grad.numpy().copy() for p in t.optimizer.param_groups[0]["params"]]))
    trainer.fit((IMAGES, LABELS), 1, **{**QUIET, "batch_size": batch}, callbacks=[look])
    [only] = seen
    return only


@pytest.mark.parametrize("make", [Scaled, Normed, Counting])
def test_a_loss_goes_on_from_a_checkpoint_with_the_same_bits(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    whole, half, resumed = begin(make()), begin(make()), begin(make())
    whole.fit((IMAGES, LABELS), 4, **QUIET)
    half.fit((IMAGES, LABELS), 2, **QUIET, callbacks=[ModelCheckpoint(tmp_path / "c")])
    resumed.fit((IMAGES, LABELS), 4, **QUIET, resume=tmp_path / "c")
    assert bits(resumed.loss) == bits(whole.loss) != bits(half.loss) and bits(resumed.model) == bits(whole.model)  # type: ignore[arg-type]
    assert list(load_model(tmp_path / "c", model=half.model).model.state_dict()) == ["1.weight", "1.bias"]


def test_constants_of_a_library_loss_are_no_part_of_it(tmp_path: Path) -> None:
    """They are what it was made with, as the rate is: another one may be given when the training goes on."""
    begin(nn.CrossEntropyLoss(weight=np.ones(3))).save(tmp_path / "c")
    begin(nn.CrossEntropyLoss()).fit((IMAGES, LABELS), 1, **QUIET, resume=tmp_path / "c")


def test_batches_of_a_step_add_up_for_the_loss_too() -> None:
    for one, four in zip(gradients(40), gradients(10, accumulate=4)):
        assert np.abs(four - one).max() <= 1e-6 * np.abs(one).max()


def test_limits_are_of_all_gradients() -> None:
    assert [np.abs(g).max() for g in gradients(40, clip_value=1e-4)] == pytest.approx([1e-4] * 3)
    assert np.sqrt(sum((g.astype(float) ** 2).sum() for g in gradients(40, clip_norm=1e-3))) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}], ids=["plain", "clipped"])
@pytest.mark.parametrize("replay", [False, True])
def test_a_gradient_of_the_loss_that_is_no_number_stops_that_step(replay: bool, options: dict[str, Any]) -> None:
    class Corner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(np.zeros(1, np.float32))

        def forward(self, logits: Tensor, labels: Any) -> Tensor:
            return ops.cross_entropy(logits, labels) + ops.sqrt(self.w * self.w).sum()

    trainer = begin(Corner(), **options)
    with pytest.raises(Diverged, match="the norm of the gradients is nan at epoch 1, batch 1"):
        trainer.fit((IMAGES, LABELS), 1, **QUIET, replay=replay)
    assert trainer.optimizer.steps == 0 and trainer.loss.w.item() == 0  # type: ignore[attr-defined]


def test_a_bad_step_is_repeated_with_the_loss_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Falling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.norm = nn.Parameter(np.zeros((1, 1), np.float32)), nn.BatchNorm1d(3)

        def forward(self, logits: Tensor, labels: Any) -> Tensor:
            return 0.01 * ops.cross_entropy(self.norm(logits), labels) - ops.exp(self.w).sum()

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    trainer = begin(Falling())
    trainer.optimizer.param_groups[0]["lr"] = 2.0
    with pytest.raises(Diverged) as caught:
        trainer.fit((IMAGES, LABELS), 30, **QUIET)
    assert caught.value.found is not None and caught.value.file is not None
    found = reproduce(caught.value.file, model=begin(Falling()).model, loss=Falling())
    assert found is not None and found.op == caught.value.found.op == "Exp"
    assert trainer.loss.norm.num_batches_tracked.item() == trainer.optimizer.steps  # type: ignore[attr-defined]


def test_evaluation_leaves_a_loss_as_it_is() -> None:
    trainer = begin(Normed())
    trainer.fit((IMAGES, LABELS), 1, **QUIET)
    before = bits(trainer.loss)  # type: ignore[arg-type]
    shown = trainer.evaluate((IMAGES, LABELS))["loss"]
    assert bits(trainer.loss) == before and trainer.loss.dropout.training  # type: ignore[arg-type, attr-defined]
    trainer.loss.eval()  # type: ignore[attr-defined]
    assert trainer.evaluate((IMAGES, LABELS))["loss"] == shown
    assert not trainer.loss.dropout.training  # type: ignore[attr-defined]


def test_parameters_of_a_loss_that_nobody_trains_are_told() -> None:
    trainer = begin(Scaled())
    trainer.optimizer = optim.SGD(trainer.model.parameters(), 0.1)
    with pytest.warns(UserWarning, match="fit: 1 of 1 parameters of the loss are not the optimizer's and will not be trained: scale;"):
        trainer.fit((IMAGES, LABELS), 1, **QUIET)


def test_a_loss_that_is_a_plain_object_and_changes_within_is_seen_by_replays() -> None:
    class Plain:
        def __init__(self) -> None:
            self.by = [1.0]

        def __call__(self, logits: Tensor, labels: Any) -> Tensor:
            return ops.cross_entropy(logits, labels) * self.by[0]

    def losses(replay: bool) -> list[float]:
        loss = Plain()
        fastnn.seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
        trainer = Trainer(model, optim.SGD(model.parameters(), 0.1), loss)
        change = After(lambda t: loss.by.__setitem__(0, 5.0) if t.optimizer.steps == 5 else None)
        return [row["loss"] for row in trainer.fit((IMAGES, LABELS), 2, **QUIET, replay=replay, callbacks=[change])]

    assert losses(True) == losses(False)


def test_no_checkpoint_is_of_the_middle_of_a_step(tmp_path: Path) -> None:
    class Between(Hooks):
        def around_batches(self, trainer: Trainer, loader: Any, batches: Any) -> Any:
            for i, batch in enumerate(batches):
                if i == 1:
                    trainer.save(tmp_path / "c")
                yield batch

    with pytest.raises(RuntimeError, match="Trainer.save: some of the 2 batches of a step are done; save behind it, in after_step"):
        begin(Scaled(), accumulate=2).fit((IMAGES, LABELS), 1, **QUIET, callbacks=[Between()])
    begin(Scaled()).fit((IMAGES, LABELS), 1, **QUIET, callbacks=[Between()])
    assert (tmp_path / "c").exists()


def test_for_want_of_memory_buffers_come_back_also_where_others_lie_in_their_place() -> None:
    class Greedy(Counting):
        calls = 0

        def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
            loss = super().forward(logits, labels)
            self.calls += 1
            if self.calls == 3:
                raise MemoryError("no more")
            return loss

    trainer, seen = begin(Greedy()), []
    with pytest.raises(MemoryError, match="no more"):
        trainer.fit((IMAGES, LABELS), 1, **QUIET, callbacks=[After(lambda t: seen.append(t.loss.seen.numpy().copy()))])  # type: ignore[attr-defined]
    assert len(seen) == 2 and (trainer.loss.seen.numpy() == seen[-1]).all()  # type: ignore[attr-defined]
