"""fastnn.train: fit, evaluate, predict, callbacks, the best snapshot, divergence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import data, models, nn, optim, random
from fastnn.data import ArrayDataset, Loader, Normalize
from fastnn.train import Callback, Diverged, EarlyStopping, ModelCheckpoint, Snapshot, Trainer, accuracy, top5_accuracy
from fastnn.train.metrics import total


def blobs(n: int, seed: int = 0) -> ArrayDataset:
    """Three classes of 1 x 6 x 6 bytes, told apart by their brightness, with enough noise that some are wrong."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.normal(80 + 40 * labels[:, None, None], 60, (n, 6, 6)).clip(0, 255).astype(np.uint8)
    return ArrayDataset(images, labels, ["dark", "grey", "bright"])


def net(seed: int = 0, dropout: float = 0.3) -> nn.Sequential:
    """One of everything whose state or randomness a training must carry: batch norm and dropout."""
    fastnn.seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(16, 3)
    )  # fmt: skip


def trainer(seed: int = 0, lr: float = 1e-2, **options: object) -> Trainer:
    model = net(seed)
    return Trainer(model, optim.Adam(model.parameters(), lr), seed=seed, **options)  # type: ignore[arg-type]


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state_dict().items()}


# --- fit


def test_fit_learns_and_keeps_a_history() -> None:
    t = trainer()
    history = t.fit(blobs(150), 4, blobs(60, 1), batch_size=16, progress=False)
    assert list(history.rows[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    assert history["epoch"] == [1, 2, 3, 4] and history["lr"] == [1e-2] * 4
    assert history["loss"][-1] < history["loss"][0] and history["val_accuracy"][-1] > 0.8
    assert t.optimizer.steps == 4 * 10 and t.epoch == 4 and t.batch == 0
    t.fit(blobs(150), 2, batch_size=16, progress=False)  # goes on
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]


def test_result_depends_on_the_seed_alone(threads: None) -> None:
    results = []
    for count in (1, 2, 3, 7):
        fastnn.set_num_threads(count)
        t = trainer()
        fastnn.seed(99 + count)  # the trainer owns its generator
        t.fit(blobs(100), 2, blobs(40, 1), batch_size=16, progress=False)
        results.append(bits(t.model))
    assert all(result == results[0] for result in results)
    other = trainer()
    other.generator = random.Generator(1)
    other.fit(blobs(100), 2, batch_size=16, progress=False)
    assert bits(other.model) != results[0]


def test_a_plain_loop_gives_the_same_bits() -> None:
    training = blobs(100)
    t = trainer()
    t.fit(training, 2, batch_size=16, progress=False)

    model = net()
    optimizer, criterion = optim.Adam(model.parameters(), 1e-2), nn.CrossEntropyLoss()
    loader = Loader(training, 16, shuffle=True, seed=0, normalize=Normalize.fit(training))
    fastnn.seed(0)
    for _ in range(2):
        for x, labels in loader:
            optimizer.zero_grad()
            criterion(model(x), labels).backward()
            optimizer.step()
    assert bits(model) == bits(t.model)


def test_validation_does_not_touch_the_training() -> None:
    seen, blind = trainer(), trainer()
    seen.fit(blobs(100), 3, blobs(40, 1), batch_size=16, progress=False, restore_best=False)
    blind.fit(blobs(100), 3, batch_size=16, progress=False)
    assert bits(seen.model) == bits(blind.model)


def test_normalisation_is_fitted_on_the_training_set_only() -> None:
    training, validation = blobs(100), ArrayDataset(np.full((30, 6, 6), 255, np.uint8), np.zeros(30, int))
    t = trainer()
    t.fit(training, 1, validation, progress=False)
    assert t.normalize is not None and t.normalize.state() == Normalize.fit(training).state()


def test_the_best_snapshot_comes_back() -> None:
    """The rate rises until the net is worse than before: the last epoch is not the best."""
    model = net()
    t = Trainer(model, optim.SGD(model.parameters(), lambda step: 0.05 if step < 30 else 20.0))
    validation = blobs(60, 1)
    history = t.fit(blobs(150), 6, validation, batch_size=16, progress=False)
    key = list(zip(history["val_accuracy"], [-loss for loss in history["val_loss"]]))
    best = key.index(max(key))
    assert best < 5 and t.best is not None and t.best.epoch == best + 1
    assert t.evaluate(validation) == {"loss": history["val_loss"][best], "accuracy": history["val_accuracy"][best]}
    last = Trainer(net(), optim.SGD(model.parameters(), 0.1))
    assert last.best is None
    last.restore_best()  # nothing to restore


def test_which_snapshot_is_better() -> None:
    def at(accuracy: float, loss: float) -> Snapshot:
        return Snapshot(0, accuracy, loss, {})

    assert at(0.1, 9).better_than(None)
    assert at(0.9, 2).better_than(at(0.8, 1)) and not at(0.8, 1).better_than(at(0.9, 2))
    assert at(0.9, 1).better_than(at(0.9, 2)) and not at(0.9, 2).better_than(at(0.9, 1))
    assert not at(0.9, 1).better_than(at(0.9, 1)) and not at(float("nan"), 1).better_than(at(0.9, 1))


# --- callbacks


def test_events_come_in_order() -> None:
    log: list[str] = []

    class Log(Callback):
        def __getattribute__(self, name: str):  # type: ignore[no-untyped-def]
            if name.startswith(("before_", "after_")):
                log.append(name)
            return super().__getattribute__(name)

    trainer().fit(blobs(32), 2, blobs(9, 1), batch_size=16, callbacks=[Log()], progress=False)
    epoch = ["before_epoch", *["before_step", "after_step"] * 2, "before_evaluate", "after_evaluate", "after_epoch"]
    assert log == ["before_fit", *epoch * 2, "after_fit"]


def test_a_callback_sees_the_finished_epoch_and_can_stop() -> None:
    class Stop(Callback):
        def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
            assert trainer.history.rows[-1] == row and trainer.epoch == row["epoch"]
            trainer.stop = trainer.epoch == 2

    assert len(trainer().fit(blobs(32), 10, callbacks=[Stop()], progress=False)) == 2


def test_early_stopping_counts_epochs_without_progress() -> None:
    t = trainer(lr=0.0)  # the running statistics move, so judge by what cannot: the first epoch stays the best
    t.model.eval()
    history = t.fit(blobs(32), 10, blobs(9, 1), callbacks=[EarlyStopping(3, monitor="lr", mode="max")], progress=False)
    assert len(history) == 4
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        EarlyStopping(0)


def test_progress_prints_one_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    trainer().fit(blobs(32), 2, blobs(9, 1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["epoch", "loss", "accuracy", "val", "loss", "val", "accuracy", "rate", "seconds"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"] and len({len(line) for line in lines}) == 1


# --- divergence


def test_a_rate_that_is_too_high_is_named() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))
    t = Trainer(model, optim.SGD(model.parameters(), 1e30))
    with pytest.raises(Diverged, match=r"(nan|inf) at epoch 1, batch 2: the rate 1e\+30 is most likely too high; start again with 1e\+29"):
        t.fit(blobs(100), 2, batch_size=16, progress=False)


def test_nan_in_the_data_is_named_and_weights_stay() -> None:
    images = np.ones((32, 6, 6), np.float32)
    images[20, 3, 3] = np.nan
    model = net()
    before = bits(model)
    t = Trainer(model, optim.Adam(model.parameters(), 0.1), normalize=Normalize([0.0], [1.0]))
    with pytest.raises(Diverged, match="epoch 1, batch 1: the input holds NaN"):
        t.fit((images, np.zeros(32, int)), 1, batch_size=32, progress=False)
    assert {k: v for k, v in bits(model).items() if "running" not in k and "tracked" not in k} == {
        k: v for k, v in before.items() if "running" not in k and "tracked" not in k
    }


# --- evaluate, predict


def test_evaluation_weighs_samples_and_restores_the_mode() -> None:
    t, test = trainer(), blobs(50)
    t.fit(blobs(60), 1, progress=False)
    whole = t.evaluate(Loader(test, 50, normalize=t.normalize))
    parts = t.evaluate(Loader(test, 7, normalize=t.normalize))
    assert parts["accuracy"] == whole["accuracy"] and parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert t.model.training
    t.model.eval()
    t.evaluate(test)
    assert not t.model.training and not t.model[5].training


def test_predict_gives_probabilities_of_raw_images() -> None:
    t, test = trainer(), blobs(40)
    t.fit(blobs(90), 3, batch_size=16, progress=False)
    probabilities = t.predict(test)
    assert probabilities.shape == (40, 3) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    assert (probabilities == t.predict(test.images)).all()
    assert np.mean(probabilities.argmax(1) == test.labels) == t.evaluate(test)["accuracy"]
    x, _ = next(iter(Loader(test, 40, normalize=t.normalize)))
    np.testing.assert_allclose(t.predict(x), probabilities, rtol=1e-6)


def test_metrics_by_name_and_of_ones_own() -> None:
    def is_first(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return labels == 0

    model = net()
    t = Trainer(model, optim.Adam(model.parameters()), metrics=["accuracy", is_first])
    row = t.fit(blobs(30), 1, progress=False).rows[0]
    assert row["is_first"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no metric is named 'acuracy'; there are accuracy, top5_accuracy"):
        Trainer(model, t.optimizer, metrics=["acuracy"])
    scores = np.arange(12.0).reshape(2, 6)
    assert top5_accuracy(scores, np.array([0, 1])).tolist() == [False, True]


def test_refusals() -> None:
    t, none = trainer(), ArrayDataset(np.zeros((0, 6, 6), np.uint8), np.zeros(0, int))
    with pytest.raises(ValueError, match="fit: the training set is empty"):
        t.fit(none, 1, progress=False)
    with pytest.raises(ValueError, match="evaluate: the data set is empty"):
        t.evaluate(none)
    with pytest.raises(ValueError, match="predict: there are no images"):
        t.predict(none)
    with pytest.raises(TypeError, match=r"item 0 of the list is of type int; expected \(image, label\)"):
        t.fit([1, 2, 3], 1, progress=False)
    with pytest.raises(TypeError, match="fit: train: expected a data set, a Loader, .* got numpy.ndarray"):
        t.fit(np.zeros((3, 6, 6), np.uint8), 1)
    with pytest.raises(ValueError, match="device 'tpu' is not one of 'cpu', 'cuda'"):
        Trainer(t.model, t.optimizer, device="tpu")


def test_label_outside_the_models_classes_is_refused() -> None:
    t = trainer()
    with pytest.raises(ValueError, match="label"):
        t.fit(ArrayDataset(np.zeros((8, 6, 6), np.uint8), np.full(8, 3)), 1, progress=False)


def test_history_table_and_plot(tmp_path) -> None:  # type: ignore[no-untyped-def]
    history = trainer().fit(blobs(32), 2, blobs(9, 1), progress=False)
    assert len(history.table().splitlines()) == 3
    with pytest.raises(KeyError, match="no column 'val_acuracy'; it has epoch, loss"):
        history["val_acuracy"]
    pytest.importorskip("matplotlib")
    history.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_models_by_name_train_on_digits() -> None:
    train, _ = data.digits()
    for name in ("linear", "mlp", "lenet", "vgg_small"):
        model = models.create(name, input_shape=train.shape)
        t = Trainer(model, optim.Adam(model.parameters(), 1e-3))
        assert t.fit(train.take(range(64)), 2, batch_size=32, progress=False)["loss"][1] < 2.5


def test_modes_come_back_as_they_were_and_normalisation_must_agree() -> None:
    train, _ = data.digits()
    small = train.take(range(64))
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    model[1].eval()
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.1), normalize=data.Normalize([1.0], [2.0]))
    trainer.evaluate(small)
    assert [m.training for m in model.modules()] == [True, True, False, True]
    with pytest.raises(ValueError, match="give both the same"):
        trainer.fit(data.Loader(small, 16), 1, progress=False)


def test_a_part_in_evaluation_mode_stays_so_while_the_rest_is_trained() -> None:
    train, _ = data.digits()
    back, head = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
    model = nn.Sequential(back.requires_grad_(False).eval(), head)
    before, weight = back.state_dict(), head[1].weight.numpy().copy()
    trainer = Trainer(model, optim.SGD(head.parameters(), 0.1))
    trainer.fit(train.take(range(64)), 2, train.take(range(64, 96)), progress=False, restore_best=False)
    assert all((before[name] == value).all() for name, value in back.state_dict().items())
    assert not (head[1].weight.numpy() == weight).all() and model.training and head.training and not back.training
    back.train()
    trainer.fit(train.take(range(64)), 1, progress=False)
    assert not (back[1].running_mean.numpy() == before["1.running_mean"]).all()
    model.eval()  # the whole of it: no part is meant
    assert back[1].num_batches_tracked.item() == 1
    trainer.fit(train.take(range(64)), 1, progress=False)
    assert back[1].num_batches_tracked.item() == 2 and not model.training


def test_callbacks_say_early_what_they_lack(tmp_path: Path) -> None:
    train, _ = data.digits()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.1))
    with pytest.raises(ValueError, match="there is no folder"):
        trainer.fit(train, 1, callbacks=[ModelCheckpoint(tmp_path / "missing" / "x")], progress=False)
    with pytest.raises(ValueError, match="no 'val_loss' to watch"):
        trainer.fit(train, 1, callbacks=[EarlyStopping(1)], progress=False)


# --- what a user gives or sets, and nobody would read


@pytest.mark.parametrize("replay", [True, False])
def test_a_metric_that_raises_once_costs_no_batch_and_trains_none_twice(replay: bool, without_memory_checks: None) -> None:
    """It is asked behind the update; the fit that is called again goes on behind that, to the weights of an undisturbed one."""

    def run(fails_at: int) -> tuple[list[bytes], list[int]]:
        asked = [0]

        def metric(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
            asked[0] += 1
            if asked[0] == fails_at:
                raise RuntimeError("no more paper")
            return logits.argmax(1) == labels

        fastnn.seed(1)
        model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 3))
        t = Trainer(model, optim.Adam(model.parameters(), 0.01), metrics=[metric], seed=2)
        images, labels = np.random.default_rng(0).standard_normal((40, 2)).astype(np.float32), np.arange(40) % 3
        if fails_at:
            with pytest.raises(RuntimeError, match="no more paper"):
                t.fit((images, labels), 2, batch_size=8, progress=False, replay=replay)
            assert (t.optimizer.steps, t.epoch, t.batch) == (fails_at, 0, fails_at)
        t.fit((images, labels), 2 - t.epoch, batch_size=8, progress=False, replay=replay)
        return [p.numpy().tobytes() for p in model.parameters()], [t.optimizer.steps, t.generator.draw]

    assert run(3) == run(0)


@pytest.mark.parametrize("metric, words", [
    (lambda logits, labels: (logits.argmax(1) == labels).mean(), r"gave the one number 0\.\d+ for 50 samples; expected a number for each sample"),
    (lambda logits, labels: 1.0, r"gave the one number 1\.0 for 50 samples; expected a number for each sample, of shape \(50,\)"),
    (lambda logits, labels: np.ones((len(labels), 2)), r"gave an array of shape \(50, 2\) for 50 samples; expected a number for each sample"),
    (lambda logits, labels: np.ones(3), r"gave an array of shape \(3,\) for 50 samples; expected a number for each sample"),
])  # fmt: skip
def test_a_metric_is_one_number_for_each_sample(metric: Any, words: str) -> None:
    t = trainer(metrics=[metric])
    with pytest.raises(ValueError, match=f"metrics: <lambda> {words}"):
        t.evaluate(blobs(50))
    with pytest.raises(ValueError, match="metrics: <lambda> gave"):
        t.fit(blobs(50), 1, progress=False)


def test_of_a_single_sample_the_mean_is_its_number() -> None:
    raw = Normalize([0.0], [1.0])
    assert trainer(metrics=[lambda logits, labels: 0.25], normalize=raw).evaluate(blobs(50).take([0]))["<lambda>"] == 0.25
    assert trainer(metrics=[lambda logits, labels: [0.25] * len(labels)], normalize=raw).evaluate(blobs(50))["<lambda>"] == 0.25


def test_metrics_of_maps_count_each_label() -> None:
    """Labels (N, H, W): the accuracy is the share of the labels that are right."""
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(4, 3, 5, 6)), rng.integers(0, 3, (4, 5, 6))
    assert total("accuracy", accuracy(scores, labels), labels) / 4 == pytest.approx((scores.argmax(1) == labels).mean())


@pytest.mark.parametrize("name, words", [
    ("clip_norm", r"Trainer has no attribute 'clip_norm': give clip_norm=\.\.\. to Trainer\(\.\.\.\), or set trainer\.stepping\.clip_norm"),
    ("clip", r"Trainer has no attribute 'clip': give clip_norm="),
    ("accumulate", "set trainer.stepping.accumulate"),
    ("l2", "give l2=... to Trainer(...), or set trainer.penalty"),
    ("ema", "give ema=... to Trainer(...)"),
    ("callbacks", "give callbacks=... to fit(...)"),
    ("batch_size", "give batch_size=... to fit(...)"),
    ("lr", "set trainer.optimizer.param_groups[0]['lr']"),
    ("seed", "give seed=... to Trainer(...), or set trainer.generator"),
    ("augment", "give it to the data.Loader that fit trains on"),
    ("nots", "the nearest is 'notes'"),
    ("zzz", "nothing would read it; a subclass may have attributes of its own"),
    ("model", "Trainer: model cannot be changed afterwards; make another Trainer(..., model=...)"),
    ("device", "Trainer: device cannot be changed afterwards"),
])  # fmt: skip
def test_an_attribute_that_nobody_reads_is_refused(name: str, words: str) -> None:
    t = trainer()
    with pytest.raises(AttributeError, match=words if "\\" in words else re.escape(words)):
        setattr(t, name, 3)


@pytest.mark.parametrize("name, words", [
    ("optimizer", "must be an optimizer"), ("loss", "must be a function of"), ("metrics", "must be names or functions"),
    ("penalty", "must be an nn.Penalty or None"), ("precision", "must be 'float32' or 'bf16'"), ("normalize", "must be a data.Normalize, .* or None"),
    ("resize", "must be a data.Resize or None"), ("classes", "must be the names"), ("generator", "must be a random.Generator"),
    ("stepping", "must be a Stepping"), ("history", "must be a train.History"), ("notes", "must be a dict"), ("batch", "must not be negative"),
    ("epoch", "must not be negative"),
])  # fmt: skip
def test_what_may_be_set_is_checked(name: str, words: str) -> None:
    t = trainer()
    before = getattr(t, name)
    with pytest.raises((TypeError, ValueError), match=f"{name} {words}"):
        setattr(t, name, -3)
    assert getattr(t, name) is before
    if name != "metrics":
        setattr(t, name, before)
    for part, value in (("accumulate", 0), ("clip_norm", "x"), ("clip_value", -1), ("ema", 0.9)):
        with pytest.raises((TypeError, ValueError), match=f"Trainer: {part} must"):
            setattr(t.stepping, part, value)


def test_what_may_be_set_counts() -> None:
    t = trainer()
    t.optimizer, t.loss = optim.SGD(t.model.parameters(), 0.1), nn.MulticlassSVMLoss()
    t.metrics = ["accuracy", "top5_accuracy"]  # type: ignore[assignment]
    t.metrics = t.metrics
    t.penalty, t.stepping.clip_norm = nn.Penalty(t.model, l2=0.1), 0.5
    assert "top5_accuracy" in t.fit(blobs(30), 1, progress=False).rows[0]

    class Own(Trainer):
        lr = 0.0

    own = Own(net(), optim.SGD(net().parameters(), 0.1))
    own.lr, own.mine = 3.0, 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("returns, words", [
    (lambda y: None, "returned None; expected a Tensor; is a return missing"),
    (lambda y: (y, y), "returned a tuple of Tensor; expected a Tensor; return the logits alone"),
    (lambda y: y.numpy(), "returned numpy.ndarray; expected a Tensor; an array has no gradient"),
    (lambda y: [y], "returned a list of Tensor; expected a Tensor"),
])  # fmt: skip
def test_a_model_that_gives_no_tensor(returns: Callable[[fastnn.Tensor], Any], words: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))

        def forward(self, x: fastnn.Tensor) -> Any:
            return returns(self.layers(x))

    t = Trainer(model := Net(), optim.SGD(model.parameters(), 0.1))
    images = fastnn.tensor(np.ones((2, 1, 6, 6)))
    for call in (
        lambda: t.fit(blobs(30), 1, progress=False),
        lambda: t.evaluate(blobs(30)),
        lambda: t.predict(blobs(30)),
        lambda: t.predict(images),
        lambda: t.step(images, fastnn.tensor(np.array([0, 1]))),
    ):
        with pytest.raises(TypeError, match=f"Net.forward {words}"):
            call()


def test_a_layer_that_the_optimizer_does_not_know_is_told() -> None:
    model = net()
    optimizer = optim.SGD(model.parameters(), 0.1)
    model[6] = nn.Linear(16, 3)
    t = Trainer(model, optimizer)
    with pytest.warns(
        UserWarning, match="fit: 2 of 6 parameters of the model are not the optimizer's and will not be trained: 6.weight, 6.bias;"
    ) as told:
        t.fit(blobs(30), 1, progress=False)
    assert told[0].filename == __file__
    model[6].weight.requires_grad = model[6].bias.requires_grad = False  # on purpose
    t.fit(blobs(30), 1, progress=False)


@pytest.mark.parametrize("name, meant", [
    ("on_epoch_end", "call it after_epoch"), ("on_train_begin", "call it before_fit"), ("on_train_batch_end", "call it after_step"),
    ("on_weird", "the hooks are"), ("after_epochs", "call it after_epoch"),
])  # fmt: skip
def test_a_hook_that_is_none_is_refused(name: str, meant: str) -> None:
    kind = type("Keras", (Callback,), {name: lambda self, *_: None})
    with pytest.raises(TypeError, match=f"fit: Keras.{name} would never be called: {meant}.*before_fit, after_fit, before_epoch"):
        trainer().fit(blobs(30), 1, callbacks=[kind()], progress=False)


def test_a_callback_may_have_helpers() -> None:
    helpers = {name: lambda self, *_: None for name in ("plot", "_after_epoch", "step")}
    kind = type("Own", (Callback,), {**helpers, "on_device": "cpu"})
    trainer().fit(blobs(30), 1, callbacks=[kind()], progress=False)


def test_a_checkpoint_of_another_model_names_the_model(tmp_path: Path) -> None:
    t = trainer()
    t.fit(blobs(30), 1, progress=False)
    t.save(tmp_path / "c")
    other = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    before = bits(other)
    with pytest.raises(ValueError, match="c: load_state_dict of Sequential: "):
        Trainer(other, optim.Adam(other.parameters())).fit(blobs(30), 2, resume=tmp_path / "c", progress=False)
    assert bits(other) == before
