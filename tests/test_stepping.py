"""Steps of the Trainer made of several batches, clipped, averaged, with any optimizer and schedule; and trainings that go on from a
checkpoint bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_checkpoint import QUIET, SaveAtStep, state
from test_trainer import bits, blobs, net

import fastnn
from fastnn import nn, optim
from fastnn.data import Loader, Normalize
from fastnn.optim import schedules
from fastnn.train import Callback, ModelCheckpoint, Trainer, load_model
from fastnn.train.diverged import why_diverged

TRAIN = blobs(100)
NORMALIZE = Normalize.fit(TRAIN)


def plain(seed: int = 0) -> nn.Sequential:
    """Nothing that looks at the batch as a whole."""
    fastnn.seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))


# --- accumulation


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_batches_accumulated_are_the_whole_batch(reduction: str) -> None:
    """100 samples: whole batches of 30 (and 10 at the end), against three of 10 each; of 7 each, five at a time (35, and 30 of 7, 7, 7, 7, 2)."""
    for whole, part, count in ((30, 10, 3), (35, 7, 5)):
        a, b = plain(), plain()
        lr = 0.1 if reduction == "mean" else 0.1 / whole
        one = Trainer(a, optim.SGD(a.parameters(), lr, momentum=0.9), nn.CrossEntropyLoss(reduction=reduction), normalize=NORMALIZE)
        many = Trainer(
            b, optim.SGD(b.parameters(), lr, momentum=0.9), nn.CrossEntropyLoss(reduction=reduction), normalize=NORMALIZE, accumulate=count
        )
        one.fit(TRAIN, 2, batch_size=whole, **QUIET)
        many.fit(TRAIN, 2, batch_size=part, **QUIET)
        assert one.optimizer.steps == many.optimizer.steps == 2 * -(-100 // whole) and many.optimizer.steps_per_epoch == -(-100 // whole)
        for (name, p), q in zip(a.named_parameters(), b.parameters()):
            assert np.abs(p.numpy() - q.numpy()).max() < 1e-5, name
        if reduction == "mean":
            assert many.history["loss"] == pytest.approx(one.history["loss"], rel=1e-5)


def test_one_batch_per_step_is_what_it_was() -> None:
    a, b = net(), net()
    t = Trainer(a, optim.Adam(a.parameters()), normalize=NORMALIZE)
    t.fit(TRAIN, 1, batch_size=16, **QUIET)
    optimizer, loader = optim.Adam(b.parameters()), Loader(TRAIN, 16, shuffle=True, seed=0, normalize=NORMALIZE)
    with fastnn.random.using(fastnn.Generator(0)):
        for x, labels in loader:
            optimizer.zero_grad()
            nn.CrossEntropyLoss()(b(x), labels).backward()
            optimizer.step()
    assert bits(a) == bits(b)


def test_steps_are_seen_whole() -> None:
    seen = []

    class Watch(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            seen.append((trainer.batch, trainer.optimizer.steps, loss > 0))

    model = plain()
    Trainer(model, optim.SGD(model.parameters(), 0.1), accumulate=3).fit(TRAIN, 1, batch_size=16, callbacks=[Watch()], progress=True)
    assert seen == [(3, 1, True), (6, 2, True), (7, 3, True)]


# --- clipping


def test_gradients_are_clipped_before_the_step() -> None:
    for options, limit in (({"clip_norm": 1e-3}, 1e-3), ({"clip_value": 1e-4}, None)):
        model = plain()
        before = model.state_dict()
        t = Trainer(model, optim.SGD(model.parameters(), 1.0), normalize=NORMALIZE, **options)  # type: ignore[arg-type]
        t.step(*next(iter(Loader(TRAIN, 16, normalize=NORMALIZE))))
        moved = [model.state_dict()[k] - v for k, v in before.items()]
        if limit is not None:
            assert np.sqrt(sum((m.astype(np.float64) ** 2).sum() for m in moved)) == pytest.approx(limit, rel=1e-2)
        else:
            assert max(np.abs(m).max() for m in moved) == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"clip_norm": 0.0}, "clip_norm must be positive, got 0.0"),
        ({"clip_value": -1.0}, "clip_value must be positive, got -1.0"),
        ({"ema": 1.0}, r"Trainer: ema must lie in \[0, 1\), got 1.0"),
        ({"ema": optim.EMA(plain())}, "ema averages another model"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    model = plain()
    with pytest.raises(ValueError, match=message):
        Trainer(model, optim.SGD(model.parameters(), 0.1), **options)


# --- averages


def test_averaged_weights_are_evaluated_kept_and_saved(tmp_path: Path) -> None:
    architecture = {"name": "lenet", "input_shape": (1, 6, 6), "num_classes": 3}
    model = fastnn.models.create(**architecture)  # type: ignore[arg-type]

    def rate(step: int) -> float:
        return 1e-2 if step < 14 else 1.0  # the last epoch goes wild

    t = Trainer(model, optim.Adam(model.parameters(), rate), ema=0.9, architecture=architecture, normalize=NORMALIZE)
    validation = blobs(40, 1)
    t.fit(TRAIN, 3, validation, batch_size=16, callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
    raw, ema = bits(model), t.stepping.ema
    assert ema is not None and ema.updates == 3 * 7
    result, probabilities = t.evaluate(validation), t.predict(validation)
    assert bits(model) == raw
    with ema.averaged():
        averaged = model.state_dict()
        assert bits(model) != raw
        alone = Trainer(model, optim.SGD(model.parameters(), 0.1), normalize=NORMALIZE)
        assert alone.evaluate(validation) == result and (alone.predict(validation) == probabilities).all()
    assert t.history["val_loss"][-1] == result["loss"]
    t.save_model(tmp_path / "m")
    saved = load_model(tmp_path / "m").model.state_dict()
    assert all(np.array_equal(saved[k], v) for k, v in averaged.items())
    t.restore_best()
    assert t.best is not None and t.best.epoch < 3 and t.evaluate(validation)["loss"] == t.best.loss
    assert all(np.array_equal(model.state_dict()[k], v) for k, v in t.best.arrays.items())


def test_a_checkpoint_with_and_a_trainer_without_averages(tmp_path: Path) -> None:
    def make(ema: float | None) -> Trainer:
        model = plain()
        return Trainer(model, optim.SGD(model.parameters(), 0.1), ema=ema)

    for given, wanted, message in ((0.9, None, "made with averaged"), (None, 0.9, "made without averaged")):
        make(given).fit(TRAIN, 1, callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
        with pytest.raises(ValueError, match=f"c: {message} weights .*; the trainer is with"):
            make(wanted).fit(TRAIN, 1, resume=tmp_path / "c", **QUIET)


# --- schedules


def test_the_trainer_says_how_long_an_epoch_is() -> None:
    model = plain()
    t = Trainer(model, optim.SGD(model.parameters(), schedules.step(0.1, (1, 2), unit="epoch")), accumulate=2)
    t.fit(TRAIN, 3, batch_size=16, **QUIET)
    assert t.optimizer.steps_per_epoch == 4 and t.history["lr"] == pytest.approx([0.1, 0.01, 0.001])


def test_the_trainer_tells_a_plateau_its_epochs() -> None:
    model = plain()
    plateau = schedules.ReduceOnPlateau(0.1, patience=0, monitor="lr")  # the rate itself: it does not fall by itself
    t = Trainer(model, optim.SGD(model.parameters(), plateau))
    t.fit(TRAIN, 4, **QUIET)
    assert t.history["lr"] == pytest.approx([0.1, 0.1, 0.01, 0.01])


# --- resuming

EVERYTHING: dict[str, Callable[[nn.Module], tuple[optim.Optimizer, dict[str, Any]]]] = {
    "adamw": lambda m: (optim.AdamW(optim.groups(m, weight_decay=0.1), schedules.warmup(schedules.cosine(0.01, 4, unit="epoch"))), {}),
    "adam amsgrad, ema": lambda m: (optim.Adam(m.parameters(), 0.01, amsgrad=True), {"ema": 0.9}),
    "adagrad, polyak": lambda m: (optim.Adagrad(m.parameters(), 0.05, lr_decay=0.01), {"ema": optim.EMA(m, None)}),
    "sgd, swa": lambda m: (optim.SGD(m.parameters(), 0.05), {"ema": optim.SWA(m, every=3, start=4)}),
    "rmsprop, plateau": lambda m: (
        optim.RMSprop(m.parameters(), schedules.ReduceOnPlateau(0.01, patience=0, threshold=0.2), centered=True, momentum=0.5),
        {"clip_norm": 0.5},
    ),
    "lookahead, accumulated": lambda m: (
        optim.Lookahead(optim.SGD(m.parameters(), schedules.one_cycle(0.1, 16), momentum=0.9), k=3, alpha=schedules.lookahead(16), model=m),
        {"accumulate": 2},
    ),
    "muon and sgd": lambda m: (
        optim.Together(
            optim.Muon([p for p in m.parameters() if p.ndim > 1], schedules.linear(0.05, 28), ns_steps=3, renormalize=True),
            optim.SGD([p for p in m.parameters() if p.ndim == 1], 0.1, momentum=0.9, dampening=0.1),
        ),
        {"ema": 0.5, "clip_value": 0.1},
    ),
}


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.parametrize("step", [1, 5, 9])
def test_resumed_is_the_same_as_uninterrupted(tmp_path: Path, name: str, step: int) -> None:
    def make(seed: int) -> Trainer:
        model = net(seed)
        optimizer, options = EVERYTHING[name](model)
        return Trainer(model, optimizer, seed=0, **options)

    validation = blobs(40, 1)
    middle, end, end_again = (tmp_path / f"{part}.safetensors" for part in ("middle", "end", "again"))
    make(0).fit(TRAIN, 4, validation, batch_size=16, callbacks=[SaveAtStep(middle, step), ModelCheckpoint(end)], **QUIET)
    make(7).fit(TRAIN, 4, validation, batch_size=16, resume=middle, callbacks=[ModelCheckpoint(end_again)], **QUIET)
    assert state(end_again) == state(end)


def test_another_optimizer_is_named(tmp_path: Path) -> None:
    model = plain()
    Trainer(model, optim.Lookahead(optim.SGD(model.parameters(), 0.1))).fit(TRAIN, 1, callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
    with pytest.raises(ValueError, match=r"c: made with the optimizer Lookahead\(SGD\); the trainer has Lookahead\(Adam\)"):
        Trainer(model, optim.Lookahead(optim.Adam(model.parameters()))).fit(TRAIN, 1, resume=tmp_path / "c", **QUIET)


def test_a_checkpoint_of_an_average_that_has_not_begun_gives_the_trained_weights(tmp_path: Path) -> None:
    model = net()
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.1), ema=optim.SWA(model, start=1000))
    trainer.fit(blobs(60), 2, **QUIET)
    trainer.save(tmp_path / "c.safetensors")
    loaded = load_model(tmp_path / "c.safetensors", model=net())
    assert all(np.array_equal(a, b) for a, b in zip(loaded.model.state_dict().values(), model.state_dict().values(), strict=True))


def test_slow_weights_begin_anew_with_the_best_snapshot() -> None:
    model = net()
    optimizer = optim.Lookahead(optim.SGD(model.parameters(), 0.1), k=5)
    Trainer(model, optimizer).fit(blobs(60), 3, blobs(30), progress=False)
    best = model.state_dict()
    optimizer.finish()
    assert all(np.array_equal(a, b) for a, b in zip(model.state_dict().values(), best.values(), strict=True))


def test_a_checkpoint_every_0_epochs_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        ModelCheckpoint(tmp_path / "c", every=0)


def test_slow_weights_within_several_optimizers_begin_anew_too() -> None:
    model = net()
    first, *rest = model.parameters()
    lookahead = optim.Lookahead(optim.SGD(rest, 0.1), k=5)
    Trainer(model, optim.Together(lookahead, optim.SGD([first], 0.1))).fit(blobs(60), 3, blobs(30), progress=False)
    best = model.state_dict()
    lookahead.finish()
    assert all(np.array_equal(a, b) for a, b in zip(model.state_dict().values(), best.values(), strict=True))


def test_a_best_snapshot_of_layers_that_were_replaced_is_forgotten() -> None:
    """It could not be put back, and fit said so behind its last epoch."""
    model, validation = net(), blobs(30)
    t = Trainer(model, optim.SGD(model.parameters(), 0.1))
    t.fit(blobs(60), 2, validation, progress=False)
    model[6] = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 3))
    t.optimizer = optim.SGD(model.parameters(), 0.0)
    t.fit(blobs(60), 1, validation, progress=False)
    assert t.best is not None and t.best.epoch == 3


def test_accumulate_may_be_set_within_an_epoch() -> None:
    """5 batches: one by itself, then two, two."""

    class Doubles(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            seen.append(trainer.batch)
            trainer.stepping.accumulate = 2

    seen: list[int] = []
    model = net()
    Trainer(model, optim.SGD(model.parameters(), 0.01)).fit(blobs(40), 1, batch_size=8, progress=False, callbacks=[Doubles()])
    assert seen == [1, 3, 5]


def test_a_place_within_an_epoch_that_was_not_begun_is_refused() -> None:
    model = net()
    t = Trainer(model, optim.SGD(model.parameters(), 0.01))
    t.batch = 2
    with pytest.raises(ValueError, match="fit: trainer.batch is 2, but no epoch was begun; set it to 0, or resume"):
        t.fit(blobs(40), 1, progress=False)


def test_a_rate_of_0_is_not_too_high() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    t = Trainer(model, optim.SGD(model.parameters(), 0.0))
    t.optimizer.steps = 1
    assert why_diverged(t, math.nan).endswith("though the rate is 0: it is the data, the loss, or the rate of a step before")
