"""Ensembles: probabilities of several models averaged, against numpy."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import DEVICES

import fastnn
from fastnn import data, models, nn, optim, train
from fastnn.data import ArrayDataset, Normalize
from fastnn.train import Ensemble, Trainer, load_model

CLASSES = ("ant", "bee", "cat")


def pictures(seed: int = 0, classes: tuple[str, ...] | None = CLASSES) -> ArrayDataset:
    """Brighter from class to class."""
    random, labels = np.random.default_rng(seed), np.arange(60) % 3
    return ArrayDataset((random.integers(0, 120, (60, 1, 6, 6)) + 45 * labels[:, None, None, None]).astype(np.uint8), labels, classes)


def fitted(seed: int, dataset: ArrayDataset | None = None, device: str = "cpu", **options: Any) -> Trainer:
    fastnn.seed(seed)
    dataset = pictures(seed) if dataset is None else dataset
    model = models.create("lenet", input_shape=dataset.shape, num_classes=3)
    trainer = Trainer(model, optim.Adam(model.parameters(), 3e-3), seed=seed, device=device, **options)
    trainer.fit(dataset, 2, progress=False)
    return trainer


def by_hand(trainer: Trainer, images: np.ndarray) -> np.ndarray:
    """Softmax of the model's own logits, of images prepared by numpy."""
    assert trainer.normalize is not None
    x = (images - np.array(trainer.normalize.mean)[:, None, None]) / np.array(trainer.normalize.std)[:, None, None]
    e = np.exp(trainer.model.eval()(fastnn.tensor(x, device=trainer.device)).numpy().astype(np.float64))
    return np.asarray(e / e.sum(1, keepdims=True))


@pytest.mark.parametrize("device", DEVICES)
def test_the_mean_of_probabilities(device: str, tmp_path: Path) -> None:
    """Of models that were fitted on other sets, each with its own mean and deviation; as Trainer, file, loaded model and Module."""
    trainers, test = [fitted(seed, device=device) for seed in range(4)], pictures(9)
    trainers[0].save_model(tmp_path / "model")
    trainers[1].save(tmp_path / "checkpoint")
    several = [str(tmp_path / "model"), tmp_path / "checkpoint", trainers[2], trainers[3].model]
    each = np.stack([by_hand(trainer, test.images) for trainer in trainers])
    assert np.abs(each - each.mean(0)).max() > 0.01 and len({trainer.normalize.mean for trainer in trainers if trainer.normalize}) == 4
    ensemble = Ensemble(several)
    assert len(ensemble) == 4 and ensemble.classes == CLASSES and repr(ensemble) == "Ensemble(4 models)"
    for given in (test, test.images):
        got = ensemble.predict(given)
        np.testing.assert_allclose(got, each.mean(0), atol=1e-5)
        assert got.dtype == np.float32
    weighted = Ensemble(several, weights=(1, 0, 2, 5)).predict(test)
    np.testing.assert_allclose(weighted, np.average(each, 0, [1, 0, 2, 5]), atol=1e-5)
    expected = {
        "loss": -np.log(each.mean(0)[np.arange(60), test.labels]).mean(),
        "accuracy": (each.mean(0).argmax(1) == test.labels).mean(),
    }
    for data_given in (test, (test.images, test.labels)):
        assert ensemble.evaluate(data_given) == pytest.approx(expected, abs=1e-5)
    assert ensemble.evaluate(test, ("top5_accuracy",))["top5_accuracy"] == 1
    assert all(trainer.model.training == trainers[0].model.training for trainer in trainers)


def test_figures_per_class_of_several() -> None:
    """Of the averaged probabilities, by the pass of `evaluate`."""
    test, several = pictures(9), [fitted(seed) for seed in range(3)]
    ensemble, mirror = Ensemble(several), [(1.0, []), (1.0, [data.Flip(1.0)])]
    for averaged in ({}, {"views": mirror}):
        report = ensemble.report(test, **averaged)  # type: ignore[arg-type]
        expected = train.confusion_matrix(ensemble.predict(test, **averaged), test.labels)  # type: ignore[arg-type]
        assert np.array_equal(report.matrix, expected) and report.classes == CLASSES
        assert report.evaluated == ensemble.evaluate(test, **averaged)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^report: the data set has the classes ant, bee, dog; the ensemble ant, bee, cat"):
        ensemble.report(pictures(9, ("ant", "bee", "dog")))


def test_a_model_of_weight_0_has_no_part() -> None:
    """Not even where its outputs are no numbers."""
    one, broken, test = fitted(0), fitted(1), pictures(9)
    for parameter in broken.model.parameters():
        parameter.copy_from(np.full(parameter.shape, np.nan, np.float32))
    assert np.array_equal(Ensemble([one, broken], weights=[2, 0]).predict(test), Ensemble([one]).predict(test))


def test_an_ensemble_of_one_is_that_model(tmp_path: Path) -> None:
    trainer, test = fitted(0), pictures(9)
    assert Ensemble([trainer]).predict(test).tobytes() == trainer.predict(test).tobytes()
    assert Ensemble([trainer]).evaluate(test) == pytest.approx(trainer.evaluate(test), abs=1e-5)
    assert Ensemble([trainer]).top(trainer.predict(test)[:2], 1) == [
        [(CLASSES[row.argmax()], float(row.max()))] for row in trainer.predict(test)[:2]
    ]
    trainer.save_model(path := tmp_path / "model")
    assert Ensemble([path]).predict(test).tobytes() == load_model(path).predict(test).tobytes()


def test_moments_of_one_training(tmp_path: Path) -> None:
    class Moments(train.Callback):
        def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
            trainer.save_model(tmp_path / f"{trainer.epoch}")

    dataset = pictures()
    model = models.create("lenet", input_shape=dataset.shape, num_classes=3)
    trainer = Trainer(model, optim.SGD(model.parameters(), optim.schedules.cosine_restarts(0.1, 1, unit="epoch"), momentum=0.9))
    trainer.fit(dataset, 3, callbacks=[Moments()], progress=False)
    several = [load_model(tmp_path / str(epoch)) for epoch in (1, 2, 3)]
    each = [one.predict(dataset) for one in several]
    np.testing.assert_allclose(Ensemble(several).predict(dataset), np.mean(each, 0), atol=1e-6)
    assert np.abs(each[0] - each[2]).max() > 1e-4


def test_averaged_weights_and_views_are_the_models_own() -> None:
    trainers, test = [fitted(0, ema=0.5), fitted(1)], pictures(9)
    assert np.abs(trainers[0].predict(test) - by_hand(trainers[0], test.images)).max() > 1e-4  # the averaged weights
    mean = np.mean([trainer.predict(test) for trainer in trainers], 0)
    np.testing.assert_allclose(Ensemble(trainers).predict(test), mean, atol=1e-6)
    views = train.six_views()
    viewed = np.mean([trainer.predict(test, views=views) for trainer in trainers], 0)
    np.testing.assert_allclose(Ensemble(trainers).predict(test, views=views), viewed, atol=1e-6)
    assert Ensemble(trainers).evaluate(test, views=views)["loss"] == pytest.approx(
        -np.log(viewed[np.arange(60), test.labels]).mean(), abs=1e-5
    )
    assert np.abs(viewed - mean).max() > 1e-4


def test_classes_that_do_not_agree() -> None:
    test = pictures(9)
    other = ArrayDataset(test.images, test.labels, ("bee", "ant", "cat"))
    words = "has the classes bee, ant, cat; the ensemble ant, bee, cat: a label means another class; give both the same, in one order"
    with pytest.raises(ValueError, match=f"^Ensemble: model 1 .Trainer. {words}$"):
        Ensemble([fitted(0), fitted(1, other)])
    with pytest.raises(ValueError, match=f"^evaluate: the data set {words}$"):
        Ensemble([fitted(0)]).evaluate(other)
    unnamed = fitted(1, pictures(1, None))
    assert Ensemble([unnamed, fitted(0)]).classes == CLASSES
    normalize, more = unnamed.normalize, nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    with pytest.raises(
        ValueError, match=r"^Ensemble.predict: model 1 \(Sequential\) gives .* \(60, 4\), model 0 \(Trainer\) \(60, 3\); expected"
    ):
        Ensemble([unnamed, more], normalize=normalize).predict(test)


def test_preprocessing_that_does_not_agree() -> None:
    trainer, test = fitted(0), pictures(9)
    own = models.create("lenet", input_shape=test.shape, num_classes=3)
    with pytest.raises(
        ValueError, match=r"^Ensemble: model 0 \(Trainer\) has normalize=Norm.*, model 1 \(Sequential\) normalize=None: one .*; give Ens"
    ):
        Ensemble([trainer, own])
    normalize = Normalize.fit(test)
    told = Ensemble([trainer, own], normalize=normalize).predict(test)
    x = normalize(test.images)
    e = np.exp(own.eval()(x).numpy().astype(np.float64))
    np.testing.assert_allclose(told, (by_hand(trainer, test.images) + e / e.sum(1, keepdims=True)) / 2, atol=1e-5)
    with pytest.raises(ValueError, match=r"^Ensemble.predict: model 1 \(Trainer\): predict: the loader has normalize="):
        Ensemble([trainer, fitted(1)]).predict(data.Loader(test, 8, normalize=trainer.normalize))


def test_a_trainer_that_is_fitted_later_is_looked_at_again() -> None:
    """Two that know no preprocessing yet, of which one learns one."""
    dataset = pictures()
    late = [Trainer(m := models.create("lenet", input_shape=(1, 6, 6), num_classes=3), optim.SGD(m.parameters(), 0.1)) for _ in range(2)]
    ensemble = Ensemble(late)
    late[0].fit(dataset, 1, progress=False)
    with pytest.raises(ValueError, match="normalize=None: one of them would see images as it never did"):
        ensemble.predict(dataset)
    late[1].fit(dataset, 1, progress=False)
    assert ensemble.predict(dataset).shape == (60, 3)


def test_one_module_twice_is_no_ensemble() -> None:
    trainer = fitted(0)
    for several in ([trainer, trainer.model], [trainer.model] * 2):
        with pytest.raises(
            ValueError,
            match=r"^Ensemble: model 0 .* and model 1 \(Sequential\) are one Module, with the weights that it has now; give files",
        ):
            Ensemble(several)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Ensemble([trainer, copy.deepcopy(trainer.model)], normalize=trainer.normalize).predict(pictures(9))


def test_what_is_no_model_and_no_weight() -> None:
    trainer = fitted(0)
    with pytest.raises(TypeError, match="^Ensemble: models must be files of save_model .*, got dict among them$"):
        Ensemble([trainer, trainer.model.state_dict()])
    with pytest.raises(ValueError, match="^Ensemble: models must be files .*, got none$"):
        Ensemble([])
    with pytest.raises(TypeError, match="^Ensemble: models must be a list of files of .*, got 'model.safetensors'$"):
        Ensemble("model.safetensors")
    for weights in ([1.0, 2.0], [0.0]):
        with pytest.raises(ValueError, match="^Ensemble: weights must be 1 numbers, one for each model, with a positive sum, got "):
            Ensemble([trainer], weights=weights)


def test_a_loss_of_ones_own() -> None:
    """Given log p; labels that it ignores do not count, class weights do, and a sum is divided by the samples."""
    ensemble, test = Ensemble([fitted(0), fitted(1)]), pictures(9)
    log_p, labels = np.log(ensemble.predict(test).astype(np.float64)), test.labels
    each, weights = -log_p[np.arange(60), labels], np.array([1.0, 2.0, 5.0])
    assert ensemble.evaluate(test)["loss"] == pytest.approx(each.mean(), rel=1e-5)
    for loss, wanted in (
        (nn.CrossEntropyLoss(weights), (each * weights[labels]).sum() / weights[labels].sum()),
        (nn.CrossEntropyLoss(label_smoothing=0.1), (0.9 * each - 0.1 * log_p.mean(1)).mean()),
        (nn.CrossEntropyLoss(reduction="sum"), each.mean()),
        (nn.CrossEntropyLoss(ignore_index=1), each[labels != 1].mean()),
        (lambda logits, labels: logits.mean(), log_p.mean()),
    ):  # fmt: skip
        assert ensemble.evaluate(test, loss=loss)["loss"] == pytest.approx(wanted, rel=1e-5)
    ignoring = nn.CrossEntropyLoss(ignore_index=1)
    right = (log_p.argmax(1) == labels)[labels != 1]
    assert ensemble.evaluate(test, loss=ignoring)["accuracy"] == pytest.approx(right.mean())
    assert ensemble.report(test, loss=ignoring).matrix.sum() == 40 and ignoring.training
    with pytest.raises(TypeError, match=r"^Ensemble.evaluate: loss must be a function of \(logits, labels\)"):
        ensemble.evaluate(test, loss=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^Ensemble.report: loss gave shape \(60,\); expected one number"):
        ensemble.report(test, loss=nn.CrossEntropyLoss(reduction="none"))
