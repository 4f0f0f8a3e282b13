"""Images that reach a model otherwise than it was trained on them, and probabilities taken for logits, are warned of; what is as it should be is not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import data, nn, optim, train
from fastnn.data import ArrayDataset, Loader, Normalize

RNG = np.random.default_rng(0)
SET = ArrayDataset(RNG.integers(0, 256, (24, 1, 6, 6), dtype=np.uint8), np.arange(24) % 3)
RAW = SET.images.astype(np.float32)


def trainer(*end: nn.Module, **options: Any) -> train.Trainer:
    fastnn.seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), *end)
    return train.Trainer(model, optim.SGD(model.parameters(), 0.01), **options)


@pytest.fixture
def fitted() -> Iterator[train.Trainer]:
    t = trainer()
    t.fit(SET, 1, progress=False)
    yield t


def whoever_called(seen: Any) -> None:
    assert [one.filename for one in seen] == [__file__]


@pytest.mark.parametrize("given", [SET, (SET.images, SET.labels), SET.take(range(5))], ids=["set", "pair", "part"])
def test_bytes_before_the_first_fit(given: Any) -> None:
    with pytest.warns(UserWarning, match=r"^evaluate: .* bytes from 0 to 255: .*normalize=data.Normalize.fit") as seen:
        trainer().evaluate(given)
    whoever_called(seen)
    with pytest.warns(UserWarning, match=r"^predict: .* bytes from 0 to 255") as seen:
        trainer().predict(SET.images)
    whoever_called(seen)


def test_bytes_by_a_second_trainer_of_a_fitted_model(fitted: train.Trainer) -> None:
    other = train.Trainer(fitted.model, fitted.optimizer)
    with pytest.warns(UserWarning, match="^evaluate: .* bytes from 0 to 255"):
        other.evaluate(SET)


def test_a_training_on_the_bytes_of_a_loader() -> None:
    """Told of once; a Loader that says how they are prepared, if only that they stay as they are, and floats are not."""
    t = trainer()
    with pytest.warns(UserWarning, match=r"^fit: the Loader gives .* bytes from 0 to 255: Loader\(.*Normalize.fit\(train\)\) ") as seen:
        t.fit(Loader(SET, 8), 1, progress=False)
    whoever_called(seen)
    t.fit(Loader(SET, 8), 1, progress=False)
    for normalize in (Normalize([0.0], [1.0]), Normalize.fit(SET)):
        trainer().fit(Loader(SET, 8, normalize=normalize), 1, progress=False)
    trainer().fit(Loader((RAW / 255, SET.labels), 8), 1, progress=False)


def test_what_says_how_it_is_prepared_is_not_warned_of(fitted: train.Trainer, tmp_path: Path) -> None:
    trainer(normalize=Normalize.fit(SET)).evaluate(SET)
    trainer().evaluate(Loader(SET, 8))
    trainer().evaluate((RAW / 255, SET.labels))
    of_raw = trainer()
    with pytest.warns(UserWarning, match="^fit: "):
        of_raw.fit(Loader(SET, 8), 1, progress=False)
    of_raw.evaluate(SET), of_raw.predict(SET.images), of_raw.predict(fastnn.tensor(RAW))
    fitted.evaluate(SET), fitted.predict(RAW)
    fitted.predict(next(iter(Loader(SET, 8, normalize=fitted.normalize)))[0])
    train.save_model(tmp_path / "raw", of_raw.model)
    fitted.save_model(tmp_path / "model")
    train.save_model(tmp_path / "model", fitted.model, normalize=fitted.normalize)
    read = train.load_model(tmp_path / "model", model=trainer().model)
    assert np.allclose(read.predict(SET.images), fitted.predict(SET))


def test_a_raw_tensor_after_a_fit_that_normalised(fitted: train.Trainer) -> None:
    with pytest.warns(UserWarning, match="^predict: a Tensor goes to the model as it is, and this one was not normalised") as seen:
        fitted.predict(fastnn.tensor(RAW))
    whoever_called(seen)


def test_a_file_that_loses_how_images_are_prepared(fitted: train.Trainer, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"^save_model: .*trainer.save_model\(path\), or give normalize=trainer.normalize") as seen:
        train.save_model(tmp_path / "model", fitted.model)
    whoever_called(seen)
    fitted.save_model(tmp_path / "model")
    read = train.load_model(tmp_path / "model", model=trainer().model)
    with pytest.warns(UserWarning, match="^save_model: "):
        train.save_model(tmp_path / "model", read.model)


def test_a_softmax_at_the_models_end() -> None:
    t = trainer(nn.Softmax(1), normalize=Normalize.fit(SET))
    with pytest.warns(UserWarning, match="^predict: the model gives probabilities already.*: leave out the Softmax") as seen:
        t.predict(SET)
    whoever_called(seen)
    with pytest.warns(UserWarning, match="^evaluate: the model gives probabilities already.*the loss takes logits") as seen:
        t.evaluate(SET)
    whoever_called(seen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t.loss = lambda p, labels: -fastnn.ops.log(p.gather(1, labels.reshape(-1, 1))).mean()
        t.evaluate(SET)
        trainer(nn.ReLU(), normalize=data.Normalize.fit(SET)).predict(SET)
