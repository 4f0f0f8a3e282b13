"""`report` of a Trainer and of a loaded model: the same pass as `evaluate`, and counts that are those of its predictions."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import GPUS
from test_evaluation import Pairs
from test_metrics import Given
from test_trainer import bits, blobs, trainer

import fastnn
from fastnn import _C, data, models, nn, optim
from fastnn.data import ArrayDataset, Dataset, Loader
from fastnn.train import Callback, ClassReport, Trained, Trainer, confusion_matrix, load_model, save_model, top_k

TEST = blobs(60, 1)


def of_predictions(model: Any, dataset: Any = TEST) -> np.ndarray:
    return confusion_matrix(model.predict(dataset), dataset.labels, 3)


# --- over what evaluate takes


def test_every_kind_of_data(model: Any) -> None:
    wanted, evaluated = of_predictions(model), model.evaluate(TEST)
    assert 0 < wanted.trace() < 60
    pairs = Pairs()
    loaders = [Loader(TEST, 7, normalize=model.normalize), Loader(TEST, 13, shuffle=True, seed=3, normalize=model.normalize)]
    for given in (TEST, (TEST.images, TEST.labels), *loaders, [TEST[i] for i in range(60)]):
        report = model.report(given)
        assert isinstance(report, ClassReport) and report.classes == ("dark", "grey", "bright")
        np.testing.assert_array_equal(report.matrix, wanted)
        assert report.accuracy == report.evaluated["accuracy"] == evaluated["accuracy"]
        assert report.evaluated["loss"] == pytest.approx(evaluated["loss"], rel=1e-6)
    assert model.report(TEST).evaluated == evaluated
    assert model.report(pairs).matrix.sum() == len(pairs)
    part = model.report(Loader(TEST, 16, drop_last=True, normalize=model.normalize))
    np.testing.assert_array_equal(part.matrix, of_predictions(model, TEST.take(range(48))))


def test_what_evaluate_refuses_in_the_name_of_report(model: Any) -> None:
    empty = TEST.take([])
    named = ArrayDataset(TEST.images, TEST.labels, ["dark", "bright", "grey"])
    for given, kind, words in (
        (Loader(TEST, 7), ValueError, "^report: the loader has normalize=None, the model Normalize"),
        (Loader(TEST, 7, normalize=model.normalize, augment=data.Flip()), ValueError, "^report: the loader has augment="),
        (empty, ValueError, "^report: the data set is empty; it needs at least one sample"),
        (named, ValueError, "^report: the data set has the classes dark, bright, grey; the model dark, grey, bright"),
        ((np.repeat(TEST.images, 3, 1), TEST.labels), ValueError, r"^report: the data set has samples of shape \(3, 6, 6\); expected 1 channel"),
        ("photos", TypeError, r"^report: data: expected a data set, a Loader, .*got 'photos'"),
    ):  # fmt: skip
        with pytest.raises(kind, match=words):
            model.report(given)


def test_words_of_other_libraries(fitted: Trainer) -> None:
    with pytest.raises(TypeError, match=r"^Trainer.report: .*images and labels are one: report\(\(x, y\)\)"):
        fitted.report(TEST.images, TEST.labels)  # type: ignore[call-arg]
    with pytest.raises(
        AttributeError, match=r"^a Trainer has no attribute 'confusion_matrix'; report\(data\) has counts and figures per class"
    ):
        _ = fitted.confusion_matrix
    with pytest.raises(TypeError, match="^Trained.report: loss must be a function of"):
        load = Trained(fitted.model, None, None, {})
        load.report(TEST, loss=3)  # type: ignore[arg-type]


def test_names_are_the_models_or_the_datas_or_numbers() -> None:
    logits = np.eye(4, dtype=np.float32)[:3] * 9
    for own, its, wanted in (
        (None, None, "0 1 2 3"),
        (None, "a b c", "a b c 3"),
        ("x y z", None, "x y z 3"),
        ("x y z w v", None, "x y z w"),
    ):
        model = Trained(Given(), None if own is None else tuple(own.split()), None, {})
        report = model.report(ArrayDataset(logits, np.arange(3), None if its is None else its.split()))
        assert " ".join(report.classes) == wanted and report.matrix.tolist() == np.diag([1, 1, 1, 0]).tolist()


# --- as evaluate does it


@pytest.mark.parametrize("device", ["cpu", *GPUS])
@pytest.mark.parametrize("options", [{}, {"ema": 0.5}, {"precision": "bf16"}, {"l2": 0.1, "metrics": ["accuracy", top_k(2)]}], ids=str)
def test_averages_precision_device_and_penalties(options: dict[str, Any], device: str) -> None:
    if "precision" in options and device == "cpu" and _C.isa() not in _C.isas("bfloat16"):
        pytest.skip("no bfloat16 on this processor")
    t = trainer(device=device, **options)
    t.fit(blobs(60), 2, batch_size=16, progress=False)
    before, draw = bits(t.model), fastnn.random.default_generator().draw
    report = t.report(TEST)
    np.testing.assert_array_equal(report.matrix, of_predictions(t))
    assert report.evaluated == t.evaluate(TEST) and report.accuracy == report.evaluated["accuracy"]
    assert bits(t.model) == before and fastnn.random.default_generator().draw == draw and t.model.training


def test_averaged_weights_are_other_ones() -> None:
    """Else the case above would say nothing."""
    t = trainer(lr=0.1, ema=0.99)
    t.fit(blobs(60), 2, batch_size=16, progress=False)
    with t.stepping.averaged():
        averaged = t.model.state_dict()
    plain = Trainer(t.model, t.optimizer, normalize=t.normalize)
    assert (plain.report(TEST).matrix != t.report(TEST).matrix).any()
    t.model.load_state_dict(averaged)
    np.testing.assert_array_equal(plain.report(TEST).matrix, t.report(TEST).matrix)


@pytest.mark.parametrize("ignored", [1, 2])
def test_labels_that_the_loss_ignores_do_not_count(fitted: Trainer, ignored: int) -> None:
    loss = nn.CrossEntropyLoss(ignore_index=ignored)
    wanted = of_predictions(fitted)
    wanted[ignored] = 0
    t = Trainer(fitted.model, fitted.optimizer, loss, normalize=fitted.normalize)
    for report in (t.report(TEST), Trained(fitted.model, None, fitted.normalize, {}).report(TEST, loss)):
        np.testing.assert_array_equal(report.matrix, wanted)
        assert report.accuracy == report.evaluated["accuracy"] and report.support[ignored] == 0


def test_the_same_for_any_number_of_threads_and_in_several_of_them(fitted: Trainer, threads: None) -> None:
    wanted, found = of_predictions(fitted), []
    for count in (1, 3):
        fastnn.set_num_threads(count)
        several = [threading.Thread(target=lambda: found.append(fitted.report(TEST).matrix)) for _ in range(3)]
        for one in several:
            one.start()
        for one in several:
            one.join()
    assert len(found) == 6 and all((one == wanted).all() for one in found)


class Told(Callback):
    """A report after each epoch."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.reports: list[ClassReport] = []

    def before_evaluate(self, trainer: Trainer) -> None:
        self.events.append("before")

    def after_evaluate(self, trainer: Trainer, result: dict[str, float]) -> None:
        self.events.append(result)

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        self.reports.append(trainer.report(TEST))


def test_within_a_fit_it_changes_nothing() -> None:
    told, fits = Told(), [trainer(), trainer()]
    rows = [t.fit(blobs(60), 3, TEST, batch_size=16, callbacks=given, progress=False) for t, given in zip(fits, ([told], []))]
    assert bits(fits[0].model) == bits(fits[1].model) and rows[0]["val_accuracy"] == rows[1]["val_accuracy"]
    assert [report.accuracy for report in told.reports] == rows[0]["val_accuracy"]
    assert told.events[::2] == ["before"] * 6 and told.events[1] == told.events[3] == told.reports[0].evaluated


class Maps(Dataset):
    """Images whose labels are maps, which no array of the library's sets takes."""

    shape, num_classes = (3, 4, 5), 3

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.maps = images, labels

    def __len__(self) -> int:
        return len(self.maps)

    @property
    def labels(self) -> np.ndarray:
        return self.maps

    def raw(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.images[positions], self.maps[positions]


def test_of_maps_every_pixel_counts() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(300, 3, 4, 5)).astype(np.float32), rng.integers(0, 3, (300, 4, 5))
    labels[rng.random(labels.shape) < 0.2] = 255
    t = Trainer(Given(), optim.SGD([nn.Parameter(np.ones(1))], 0.0), nn.CrossEntropyLoss(ignore_index=255))
    report = t.report(Maps(images, labels))
    keep = labels != 255
    wanted = np.zeros((3, 3), np.int64)
    np.add.at(wanted, (labels[keep], images.argmax(1)[keep]), 1)
    np.testing.assert_array_equal(report.matrix, wanted)
    assert report.support.sum() == keep.sum() and report.accuracy == report.evaluated["accuracy"]
    overlap = [((labels == c) & (images.argmax(1) == c)).sum() / (keep & ((labels == c) | (images.argmax(1) == c))).sum() for c in range(3)]
    np.testing.assert_allclose(report.f1 / (2 - report.f1), overlap, rtol=1e-12)


def test_outputs_of_which_none_is_the_highest() -> None:
    """The sample is named, in whichever batch it comes."""
    logits = np.ones((300, 3), np.float32)
    logits[290, 1] = np.nan
    with pytest.raises(
        ValueError, match="^report: the predicted logits of sample 290 hold NaN, of which no class is the highest; expected"
    ):
        Trained(Given(), None, None, {}).report((logits, np.zeros(300, int)))
    loss = nn.BCEWithLogitsLoss()
    one = Trained(Given(), None, None, {})
    with pytest.raises(
        ValueError, match=r"^report: logits have shape \(4, 1\), and the highest of one is always class 0; .*confusion_matrix"
    ):
        Trainer(one.model, optim.SGD([nn.Parameter(np.ones(1))], 0.0), lambda x, y: loss(x, x.numpy()), metrics=()).report(
            (np.ones((4, 1), np.float32), np.zeros(4, int))
        )


def test_a_model_of_its_own_file_reports_as_it_did_in_training(tmp_path: Path) -> None:
    fastnn.seed(0)
    model = models.create("linear", num_classes=3, input_shape=(1, 6, 6))
    normalize = data.Normalize.fit(TEST)
    save_model(tmp_path / "m", model, normalize=normalize)
    t = Trainer(model, optim.SGD(model.parameters(), 0.1), normalize=normalize)
    np.testing.assert_array_equal(load_model(tmp_path / "m").report(TEST).matrix, t.report(TEST).matrix)


def test_as_many_outputs_for_every_batch() -> None:
    """Else counts would stand in other classes' cells."""

    class Growing(nn.Module):
        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            return x if len(x) == 256 else x[:, :2]

    with pytest.raises(ValueError, match="^report: logits are of 2 classes, those of batches before of 3; expected as many for each"):
        Trained(Growing(), None, None, {}).report((np.ones((300, 3), np.float32), np.zeros(300, int)))
