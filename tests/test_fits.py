"""Several fits of one trainer, one after the other: what belongs to which."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from test_trainer import bits, blobs, net

import fastnn
from fastnn import nn, optim
from fastnn.data import ArrayDataset, Loader
from fastnn.data.loader import Batches
from fastnn.train import Callback, ModelCheckpoint, Trainer

TRAIN, OTHER = blobs(96), blobs(96, 5)
VALIDATION, ANOTHER = blobs(40, 1), blobs(40, 6)


def trainer() -> Trainer:
    fastnn.seed(0)
    model = net()
    return Trainer(model, optim.SGD(model.parameters(), 0.05))


def fit(t: Trainer, data: ArrayDataset, epochs: int, validation: ArrayDataset | None = None, **options: object) -> list[bytes]:
    """The weights that are there afterwards."""
    t.fit(data, epochs, validation, batch_size=16, progress=False, **options)  # type: ignore[arg-type]
    return bits(t.model)


@pytest.mark.parametrize("validation", [None, ANOTHER], ids=["no validation", "other validation"])
def test_a_fit_is_not_undone_by_what_an_earlier_one_found_best(validation: ArrayDataset | None) -> None:
    """Retraining on everything, or on another task."""
    t = trainer()
    first = fit(t, TRAIN, 2, VALIDATION)
    assert t.best is not None
    last = fit(t, OTHER, 3, validation)
    assert last != first and (t.best is None if validation is None else t.best.epoch > 2)
    plain = trainer()
    fit(plain, TRAIN, 2, VALIDATION)
    expected = fit(plain, OTHER, 3, validation, restore_best=False)
    assert validation is not None or last == expected


def test_what_the_same_data_found_best_stays_over_fits() -> None:
    t = trainer()
    best = fit(t, TRAIN, 3, VALIDATION)
    at = t.best
    t.optimizer.param_groups[0]["lr"] = 30.0  # from here on it gets worse
    assert fit(t, TRAIN, 2, VALIDATION) == best and t.best is at


def test_what_was_best_before_a_resume_still_counts(tmp_path: Path) -> None:
    t, path = trainer(), tmp_path / "c.safetensors"
    fit(t, TRAIN, 3, VALIDATION, callbacks=[ModelCheckpoint(path)], restore_best=False)
    best = t.best
    again = trainer()
    again.optimizer.param_groups[0]["lr"] = 0.05
    fit(again, TRAIN, 3, VALIDATION, resume=path, restore_best=False)
    assert best is not None and again.best is not None and again.best.epoch == best.epoch


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_a_schedule_that_an_earlier_fit_has_used_up_is_warned_of(unit: str) -> None:
    fastnn.seed(0)
    model = net()
    total = 2 if unit == "epoch" else 2 * 6
    t = Trainer(model, optim.SGD(model.parameters(), optim.schedules.cosine(0.1, total, unit=unit)))
    fit(t, TRAIN, 2)
    with pytest.warns(
        UserWarning, match=r"fit: the schedule .* is at its end, where the rate is .*: set param_groups.*counted from step 12"
    ):
        fit(t, TRAIN, 2)


def test_an_interrupted_epoch_may_begin_anew_on_other_data() -> None:
    class Stops(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.batch == 3:
                raise RuntimeError("enough")

    t = trainer()
    with pytest.raises(RuntimeError, match="enough"):
        fit(t, TRAIN, 1, callbacks=[Stops()])
    small = blobs(64, 3)
    with pytest.raises(ValueError, match=r"within an epoch of 96 samples .* or set trainer.batch = 0, and the epoch begins anew"):
        fit(t, small, 1)
    t.batch = 0
    fit(t, small, 1)
    assert t.sums == {} and t.epoch == 1 and 0 < t.history["accuracy"][0] <= 1


def test_a_loader_that_prepares_validation_otherwise_is_refused_before_the_first_step() -> None:
    t = trainer()
    with pytest.raises(ValueError, match="fit: validation: the loader has normalize=None"):
        fit(t, TRAIN, 1, Loader(VALIDATION, 8))  # type: ignore[arg-type]
    assert t.optimizer.steps == 0


def test_data_at_the_address_of_data_that_is_gone_is_other_data() -> None:
    t = trainer()
    t.fit(TRAIN, 1, progress=False)
    easy = ArrayDataset(TRAIN.images, t.predict(TRAIN).argmax(1))
    t.fit(TRAIN, 1, easy, progress=False)
    assert t.best is not None and t.best.epoch == 2
    address, others = id(easy), [TRAIN]
    del easy
    while len(others) < 3000 and id(others[-1]) != address:
        others.append(ArrayDataset(TRAIN.images, (TRAIN.labels + 1) % 3))
    t.fit(TRAIN, 2, others[-1], progress=False)
    assert t.best.epoch > 2


def test_a_callback_s_seed_is_its_own(tmp_path: Path) -> None:
    """It makes its nets, and is not what the fit's dropout goes on with, which would be in no checkpoint."""
    made = []

    class Seeding(Callback):
        def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
            fastnn.seed(3)
            made.append(nn.Linear(3, 3).weight.numpy().tobytes())

    def run(epochs: int, *callbacks: Callback, **options: Any) -> tuple[Trainer, list[bytes]]:
        fastnn.seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(TRAIN.images[0].size, 3))
        t = Trainer(model, optim.SGD(model.parameters(), 0.05))
        return t, fit(t, TRAIN, epochs, callbacks=callbacks, **options)

    _, plain = run(4)
    assert run(4, Seeding())[1] == plain
    run(2, Seeding())[0].save(tmp_path / "half")
    assert run(4, Seeding(), resume=tmp_path / "half")[1] == plain
    fastnn.seed(3)
    assert set(made) == {nn.Linear(3, 3).weight.numpy().tobytes()}


def test_batches_that_are_not_handed_on() -> None:
    class Forgets(Callback):
        def around_batches(self, trainer: Trainer, loader: Loader, batches: object) -> None:  # type: ignore[override]
            pass

    with pytest.raises(TypeError, match=r"Forgets\.around_batches returned None; expected a generator: yield from batches"):
        trainer().fit(TRAIN, 1, callbacks=[Forgets()], progress=False)


def test_a_hook_that_ends_the_batches_early_or_gives_other_things_is_named() -> None:
    """A bare StopIteration came out of fit, or what the step tripped over."""

    class Looks(Callback):
        def around_batches(self, trainer: Trainer, loader: Loader, batches: Batches) -> Batches:
            yield from batches

    class Few(Looks):
        def around_batches(self, trainer: Trainer, loader: Loader, batches: Batches) -> Batches:
            yield from islice(batches, 2)

    class Halves(Looks):
        def around_batches(self, trainer: Trainer, loader: Loader, batches: Batches) -> Batches:
            for x, _ in batches:
                yield x  # type: ignore[misc]

    def run(*callbacks: Callback, accumulate: int = 1) -> Trainer:
        t = trainer()
        t.stepping.accumulate = accumulate
        t.fit(TRAIN, 1, batch_size=len(TRAIN) // 5, callbacks=callbacks, progress=False)
        return t

    for accumulate in (1, 2):
        with pytest.raises(
            ValueError, match=r"^fit: Few\.around_batches ended after 2 of \d batches; expected all of them: yield from batches$"
        ):
            run(Looks(), Few(), Looks(), accumulate=accumulate)
        with pytest.raises(
            TypeError, match=r"^fit: Halves\.around_batches gave Tensor as batch 1 of \d; expected a pair of Tensors, \(x, labels\)$"
        ):
            run(Halves(), Looks(), accumulate=accumulate)
    assert bits(run(Looks(), Looks()).model) == bits(run().model)
