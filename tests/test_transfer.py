"""The lectures' table of transfer learning: what is trained, at which rates, what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_twins
from halves_of_digits import made, others, pretrained, trained

import fastnn
from fastnn import data, models, nn, optim, train
from fastnn.train.linear_probe import probe


@pytest.fixture
def known() -> train.Trainer:
    return trained()


# --- the linear classifier


def test_the_linear_classifier_is_at_the_minimum_of_its_loss() -> None:
    """Where the gradient of mean cross-entropy + |W|^2 / (2 C N), over standardised features, is 0: worked out in float64."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((80, 6)) * [1, 10, 0.1, 1, 1, 0] + 3, rng.integers(0, 3, 80)
    x[:, 1] += 8 * labels
    found = probe(data.ArrayDataset(x[:60].astype(np.float32), labels[:60]), data.ArrayDataset(x[60:].astype(np.float32), labels[60:]), 3)
    x = x[:60].astype(np.float32).astype(np.float64)
    std = np.sqrt(x.var(0) + 1e-4 * x.var(0).mean())
    logits = x @ found.weight.T + found.bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    missed = (p - np.eye(3)[labels[:60]]) / 60
    weight = found.weight * std
    gradient = missed.T @ ((x - x.mean(0)) / std) + weight / (found.strength * 60)
    assert np.abs(gradient).max() < 1e-4 and np.abs(missed.sum(0)).max() < 1e-4
    assert found.accuracy > 0.5 and found.strength in (1e-3, 1e-2, 1e-1, 1.0, 10.0)


# --- the table


CORNERS: list[tuple[bool, bool, str, tuple[str, ...]]] = [
    (True, False, "a linear classifier on top-layer features", ()),
    (True, True, "fine-tune a few layers", ("15",)),
    (False, True, "fine-tune a larger number of layers", ("7", "8", "10", "11", "15")),
    (False, False, "linear classifiers on several stages, compared", ()),
]


@pytest.mark.parametrize(("similar", "much", "method", "tuned"), CORNERS)
def test_the_four_corners_of_the_table(
    similar: bool, much: bool, method: str, tuned: tuple[str, ...], known: train.Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = pretrained(known, tmp_path)
    before = model.state_dict()
    training, validation = data.split(others(0), 0.2, seed=0)
    training = training if much else training.take(np.arange(60))
    plan = train.plan_transfer(model, training, similar=similar, much=much)
    assert (plan.method, plan.tuned, plan.head) == (method, tuned, "18") and method in str(plan)
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())
    arguments: dict[str, Any] = {"similar": similar, "much": much, "epochs": 3}
    if not similar and not much:
        with pytest.warns(UserWarning, match="few images, different from those of the network"):
            result = train.transfer(model, training, validation, **arguments)
        assert list(result.stages) == ["6", "13", "18"] and result.accuracy == max(result.stages.values())
    else:
        result = train.transfer(model, training, validation, **arguments)
        after = result.model.state_dict()
        changed = {name.rpartition(".")[0] for name in before if not np.array_equal(before[name], after[name])}
        assert changed == {*tuned, "18"} and not result.stages
    said = capsys.readouterr().out
    assert method in said and "because" not in said and "%" in said
    reached = result.trainer.evaluate(others(1))["accuracy"]
    assert reached > (0.9 if much else 0.7) and result.accuracy > 0.7
    assert result.trainer.epoch == (3 if tuned else 0)
    result.trainer.save_model(tmp_path / "new")
    loaded = train.load_model(tmp_path / "new")
    assert loaded.classes == ("five", "six", "seven", "eight", "nine") and loaded.evaluate(others(1))["accuracy"] == reached


def test_the_amount_decides_where_nobody_says_it() -> None:
    model = made("lenet", 3)

    def little(images: int, classes: int) -> bool:
        samples = data.ArrayDataset(np.zeros((images, 1, 8, 8), np.uint8), np.arange(images) % classes)
        return train.plan_transfer(model, samples, similar=True).little

    assert little(999, 2) and not little(1000, 2) and little(1000, 11) and not little(1100, 11)


def test_rates_fall_towards_the_input_from_a_tenth(known: train.Trainer, tmp_path: Path) -> None:
    model = pretrained(known, tmp_path)
    samples = others(0, 100)
    result = train.transfer(model, samples, similar=False, much=True, epochs=0, lr=1e-2, depth_factor=0.25, progress=False)
    rates = {id(p): group["lr"](0) for group in result.trainer.optimizer.param_groups for p in group["params"]}
    by_name = {name: rates[id(p)] for name, p in model.named_parameters() if id(p) in rates}
    assert {name: pytest.approx(rate) for name, rate in by_name.items()} == {
        name: 1e-3 * (0.25 if name.split(".")[0] in ("7", "8", "10", "11") else 1) for name in by_name
    }
    assert {name.split(".")[0] for name in by_name} == {"7", "8", "10", "11", "15", "18"}
    new = train.transfer(model, samples, similar=True, much=True, epochs=0, features_first=False, progress=False)
    head = [g["lr"](0) for g in new.trainer.optimizer.param_groups if any(p is model[18].weight for p in g["params"])]  # type: ignore[index]
    assert head == [pytest.approx(1e-3)] and np.isnan(new.accuracy)


def test_named_parts_are_frozen_instead_of_the_tables(known: train.Trainer, tmp_path: Path) -> None:
    model = pretrained(known, tmp_path)
    result = train.transfer(model, others(0, 60), similar=True, frozen=["0", "1", "3", "4"], epochs=0, progress=False)
    assert result.plan.tuned == ("7", "8", "10", "11", "15") and not result.plan.little
    assert str(result.plan).endswith("-> fine-tune all but the parts named: 7, 8, 10, 11, 15, 18; 0, 1, 3, 4 stay as they are")
    assert {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad} == {"0", "1", "3", "4"}


def test_transfer_repeats_and_resumes_to_the_same_bits(known: train.Trainer, tmp_path: Path) -> None:
    training = others(0, 300)  # without validation: the weights are the last ones

    class Stop(train.Callback):
        def after_epoch(self, trainer: train.Trainer, row: dict[str, float]) -> None:
            trainer.stop = trainer.epoch == 2

    states = []
    for callbacks, resume in (((), None), ((Stop(), train.ModelCheckpoint(tmp_path / "c")), None), ((), tmp_path / "c")):
        model = pretrained(known, tmp_path)
        fastnn.seed(len(states))  # whatever the thread's generator is at
        result = train.transfer(model, training, similar=True, much=True, epochs=4, callbacks=callbacks, resume=resume, progress=False)
        states.append(result.model.state_dict())
    assert all(np.array_equal(states[0][name], states[2][name]) for name in states[0])
    assert not all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_the_bits_are_the_same_for_any_number_of_threads(known: train.Trainer, tmp_path: Path) -> None:
    states, before = [], fastnn.get_num_threads()
    for threads in (1, 3):
        fastnn.set_num_threads(threads)
        try:
            result = train.transfer(pretrained(known, tmp_path), others(0, 100), similar=True, much=True, epochs=1, progress=False)
        finally:
            fastnn.set_num_threads(before)
        states.append(result.model.state_dict())
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_where_a_lower_stage_is_best_the_network_is_cut_there(tmp_path: Path) -> None:
    """Classes that the first layer's channel shows and the random layers behind it lose."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 120)
    images = (rng.integers(0, 100, (120, 1, 8, 8)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    model = made("lenet", 4)
    for name in ("3", "7"):
        nn.init.zeros_(dict(model.named_modules())[name].weight)  # type: ignore[arg-type]
    with pytest.warns(UserWarning):
        result = train.transfer(model, (images, labels), similar=False, normalize=data.Normalize([80.0], [40.0]), progress=False)
    assert result.layer == "2" and isinstance(result.model, models.Cut) and result.stages["2"] > 0.95 > 0.8 > result.stages["10"]
    assert result.trainer.evaluate((images, labels))["accuracy"] > 0.95
    assert [name for name, p in result.model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    x = fastnn.tensor(torch_twins.normal(0, 4, 1, 8, 8))
    result.model.eval()
    with fastnn.no_grad():
        y = model[:2](x)  # type: ignore[index]
        pooled = nn.MaxPool2d(2)(y).numpy().mean((2, 3))
        np.testing.assert_allclose(result.model.fc(fastnn.tensor(pooled)).numpy(), result.model(x).numpy(), atol=1e-5)
        np.testing.assert_allclose(nn.frozen(result.model)(x).numpy(), result.model(x).numpy(), atol=1e-5)
    result.trainer.save_model(tmp_path / "cut")
    loaded = train.load_model(tmp_path / "cut")
    assert isinstance(loaded.model, models.Cut) and np.array_equal(loaded.predict(images), result.trainer.predict(images))
    assert "cut" not in models.names() and loaded.predict(images).shape == (120, 2)
    with pytest.raises(ValueError, match="of must be a dict"):
        models.create("cut", input_shape=(1, 8, 8))
    with pytest.raises(ValueError, match="layer: there is no 'layer9'"):
        models.Cut(made("lenet"), "layer9", 2, 8)


@pytest.mark.filterwarnings("ignore:transfer. few images")
def test_a_cut_network_is_cut_again_nearer_to_the_input(tmp_path: Path) -> None:
    """What was behind the first cut is a part of the network still, and the file is that of one cut."""
    digits, normalize, model = others(0, 120), data.Normalize([4.0], [5.0]), made("vgg_small")
    cut = models.Cut(model, "13", 5, 64)
    cut.architecture = {
        "name": "cut",
        "input_shape": (1, 8, 8),
        "num_classes": 5,
        "of": {"name": "vgg_small"},
        "layer": "13",
        "features": 64,
    }
    nn.init.zeros_(dict(cut.named_modules())["body.7"].weight)  # type: ignore[arg-type]
    result = train.transfer(cut, digits, similar=False, normalize=normalize, progress=False)
    assert result.layer == "body.6" and isinstance(result.model, models.Cut) and result.model.layer == "6"
    assert set(result.model.state_dict()) == set(models.Cut(made("vgg_small"), "6", 5, 32).state_dict())
    assert result.trainer.evaluate(digits)["accuracy"] > 0.5
    result.trainer.save_model(tmp_path / "again")
    assert np.array_equal(train.load_model(tmp_path / "again").predict(digits), result.trainer.predict(digits))
    with pytest.raises(ValueError, match=r"'fc' is none of the network's; expected one of those below body, as body\.0"):
        models.Cut(result.model, "fc", 2, 8)


@pytest.mark.parametrize("similar", [True, False])
@pytest.mark.parametrize("much", [True, False])
@pytest.mark.filterwarnings("ignore:transfer. few images")
def test_a_network_of_principal_components_gets_rows_of_them(similar: bool, much: bool, tmp_path: Path) -> None:
    """Images are what the data set has; the plan, the classifiers and the file go by what the model takes."""
    training, first = others(0, 300), data.digits()[0].take(range(300))
    normalize = data.PCA.fit(first, 20, whiten=True)
    model = models.create("mlp", input_shape=(20,), hidden=(32, 16), num_classes=10)
    train.Trainer(model, optim.Adam(model.parameters(), 1e-2), normalize=normalize).fit(first, 3, progress=False)
    assert [stage.shape for stage in train.plan_transfer(model, training, similar=similar).stages] == [(32,), (16,)]
    result = train.transfer(model, training, similar=similar, much=much, epochs=2, progress=False)
    assert result.trainer.normalize is normalize and result.trainer.evaluate(training)["accuracy"] > 0.5
    result.trainer.save_model(tmp_path / "rows")
    assert np.array_equal(train.load_model(tmp_path / "rows").predict(training), result.trainer.predict(training))


@pytest.mark.usefixtures("without_memory_checks")
def test_a_cut_network_is_trained_and_replayed_as_any_other() -> None:
    """Whole or its last layer alone; what lies behind the cut gets no gradient."""
    digits, normalize = others(0, 64), data.Normalize([4.0], [5.0])
    for frozen in ((), ("body",)):
        states = []
        for replay in (False, True):
            fastnn.seed(0)
            cut = models.Cut(made("resnet20"), "layer1.1", 5, 16)
            train.freeze(cut, "body.layer1.2", "body.layer2", "body.layer3", "body.fc", *frozen)
            trainer = train.Trainer(cut, optim.Adam(optim.groups(cut), 1e-3), normalize=normalize)
            trainer.fit(digits, 2, progress=False, replay=replay)
            assert trainer.replayed.startswith("replayed") == replay
            states.append(cut.state_dict())
        assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
        first = models.Cut(made("resnet20"), "layer1.1", 5, 16).state_dict()
        moved = {name for name in first if not name.startswith("fc") and not np.array_equal(first[name], states[0][name])}
        assert ("body.conv1.weight" in moved) == (not frozen) and not any(name.startswith(("body.layer2", "body.fc")) for name in moved)


def test_a_factor_behind_the_last_layer_is_taken_into_account() -> None:
    """airbench94 divides its logits by 9, and has no bias; its frozen whitening and gammas stay frozen."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    photos = (rng.integers(0, 120, (90, 3, 25, 25)) + 40 * labels[:, None, None, None]).astype(np.uint8)
    model = made("airbench94", 4)
    normalize = data.Normalize([100.0] * 3, [50.0] * 3)
    result = train.transfer(model, (photos, labels), similar=False, much=True, epochs=0, normalize=normalize, progress=False)
    rows = train.features(model, (photos, labels), normalize=normalize)
    found = probe(rows, None, 3, centred=False)
    logits = rows.images @ found.weight.T
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(result.trainer.predict(photos), p, atol=2e-3)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "layers.3.norm1.bias" in trained and "layers.3.norm1.weight" not in trained and not {"whiten.weight", "whiten.bias"} & trained


def test_a_model_that_ends_otherwise_says_so() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3), nn.Tanh())
    digits, normalize = others(0, 60), data.Normalize([4.0], [5.0])
    with pytest.raises(ValueError, match="does more to the last layer's outputs than multiply them"):
        train.transfer(net, digits, similar=True, normalize=normalize, progress=False)
    train.transfer(net, digits, similar=True, much=True, features_first=False, epochs=1, normalize=normalize, progress=False)


def test_validation_has_the_classes_of_the_training_set(known: train.Trainer, tmp_path: Path) -> None:
    samples = others(0, 60)
    for validation, words in (
        ((samples.images, samples.labels + 1), "validation has the label 5; the training set has 5 classes, counted from 0"),
        (
            data.ArrayDataset(samples.images, samples.labels, list("abcde")),
            "validation has the classes a, b, c, d, e; the training set five, six",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            train.transfer(pretrained(known, tmp_path), samples, validation, similar=True, progress=False)


@pytest.mark.parametrize("name", ["train", "validation"])
def test_a_loader_that_prepares_images_otherwise_is_refused_before_anything_is_changed(
    name: str, known: train.Trainer, tmp_path: Path
) -> None:
    model = pretrained(known, tmp_path)
    before = model.state_dict()
    digits = others(0, 64)
    loader = data.Loader(digits, 32, normalize=data.MeanImage.fit(digits))
    given = {"train": digits, "validation": None, name: loader}
    with pytest.raises(
        ValueError, match=rf"transfer: {name}: the loader has normalize=MeanImage.*, the network Normalize.*; give both the same"
    ):
        train.transfer(model, **given, similar=True, much=True, progress=False)  # type: ignore[arg-type]
    assert before.keys() == model.state_dict().keys()
    assert all(np.array_equal(before[key], value) for key, value in model.state_dict().items())


def test_where_nothing_says_how_images_were_prepared_there_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="nothing says how the images of the pretrained network were prepared"):
        train.transfer(made("linear", 5), others(0, 50), similar=True, progress=False)


@pytest.mark.parametrize("wrong", [optim.SGD([nn.Parameter([1.0])], 0.1), nn.Linear, 3, "adam"])
def test_an_optimizer_is_a_function_of_groups_and_a_rate(wrong: Any) -> None:
    with pytest.raises(TypeError, match="transfer: optimizer must be a function of parameter groups and a rate"):
        train.transfer(made("lenet", 5), others(0, 50), similar=True, optimizer=wrong, normalize=data.Normalize([4.0], [5.0]))
