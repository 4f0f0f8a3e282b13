"""Naive programs of people who come from PyTorch, Keras or scikit-learn: the text says what to write."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refusals import Case, check

import fastnn
from fastnn import data, nn, ops, optim, train
from fastnn.neighbors import KNeighborsClassifier

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((24, 1, 8, 8)).astype(np.float32), np.arange(24) % 3
DIGITS = data.digits()[0]
NAMES = np.array(["cat", "dog", "cow"])


def net(channels: int = 1, classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 2, 3, padding=1), nn.Flatten(), nn.Linear(128, classes))


def trainer(model: nn.Module | None = None, **options: Any) -> train.Trainer:
    model = model or net()
    return train.Trainer(model, optim.SGD(model.parameters(), 0.1), **options)


def fit(x: Any, y: Any, model: nn.Module | None = None, **options: Any) -> Any:
    return trainer(model).fit((x, y), 1, progress=False, **options)


def fit_with(**options: Any) -> Any:
    return trainer().fit((X, Y), 1, progress=False, **options)


LABELS: dict[str, Case] = {
    "one-hot": (lambda: fit(X, np.eye(3, dtype=int)[Y]), ValueError, r"^labels have shape \(24, 3\).*; labels.argmax\(1\) makes them"),
    "prices": (
        lambda: fit(X, Y + 0.5),
        TypeError,
        r"expected integers .*; a set holds class numbers; other targets go through Trainer.step, or",
    ),
    "a column of whole floats": (lambda: fit(X, Y[:, None] * 1.0), TypeError, r"; labels.reshape\(-1\).astype\(int\) makes them$"),
    "a column": (lambda: fit(X, Y[:, None]), ValueError, r"; labels.reshape\(-1\) makes them$"),
    "several labels": (
        lambda: fit(X, np.eye(3, dtype=int)[Y] + [1, 0, 0]),
        ValueError,
        r"images; a set holds class numbers; other targets",
    ),
    "some with several labels": (
        lambda: fit(X, np.maximum(np.eye(3)[Y], np.eye(3)[0])),
        TypeError,
        r"\); a set holds class numbers; other",
    ),
    "soft labels": (lambda: fit(X, np.full((24, 3), 1 / 3)), TypeError, r"; a set holds class numbers; other targets go through Trainer"),
    "words as objects": (
        lambda: fit(X, np.array(["a", "b"] * 12, object)),
        TypeError,
        r"np.unique\(labels, return_inverse=True\) numbers names",
    ),
    "one-hot floats": (lambda: fit(X, np.eye(3)[Y]), TypeError, r"dtype float64; expected integers .*; labels.argmax\(1\) makes them"),
    "floats": (lambda: fit(X, Y.astype(float)), TypeError, r"^labels have dtype float64; .*; labels.astype\(int\) makes them"),
    "booleans": (lambda: fit(X, Y > 0), TypeError, r"^labels have dtype bool; .*; labels.astype\(int\)"),
    "names": (
        lambda: fit(X, NAMES[Y]),
        TypeError,
        r"^labels have dtype <U3; .*; classes, labels = np.unique\(labels, return_inverse=True\)",
    ),
    "from 1": (
        lambda: fit(X, Y + 1),
        ValueError,
        r"label 3 of sample .*; labels from 1 on become class numbers by np.asarray\(labels\) - 1$",
    ),
    "one output": (lambda: fit(X, (Y > 0) * 1, net(classes=1)), ValueError, "; the last layer has one output: two classes take two$"),
    "too few outputs": (lambda: fit(X, Y, net(classes=2)), ValueError, r"lies outside of \[0, 2\), the classes of the logits$"),
}


class Sparse:
    def toarray(self) -> np.ndarray:
        return X


def loss(logits: Any, labels: Any) -> Any:
    return nn.CrossEntropyLoss()(logits, labels)


def logits() -> fastnn.Tensor:
    result: fastnn.Tensor = net()(fastnn.tensor(X))
    return result


LOSSES: dict[str, Case] = {
    "argmax": (
        lambda: loss(logits().argmax(1), Y),
        TypeError,
        "logits must be scores of a float type, got dtype int64; argmax takes classes from them",
    ),
    "a column": (lambda: loss(logits(), Y[:, None]), ValueError, r"labels have shape \(24, 1\); .*; labels.reshape\(-1\) is that$"),
    "names": (lambda: loss(logits(), NAMES[Y]), TypeError, r"; np.unique\(labels, return_inverse=True\)\[1\] are the numbers of names$"),
    "MSE of a column": (
        lambda: nn.MSELoss()(logits()[:, :1], Y),
        ValueError,
        r"input has shape \(24, 1\), target \(24,\); .*broadcast: target.reshape\(-1, 1\) has it$",
    ),
    "BCE beside a column": (
        lambda: nn.BCEWithLogitsLoss()(logits()[:, 0], Y[:, None] > 0),
        ValueError,
        r"nothing is broadcast: target.reshape\(-1\) has it$",
    ),
    "MSE of other sizes": (lambda: nn.MSELoss()(logits(), Y), ValueError, r"both need the same, nothing is broadcast$"),
    "one score": (lambda: loss(logits()[:, 0], Y), ValueError, "; logits of one dimension are the classes of a single sample$"),
}

IMAGES: dict[str, Case] = {
    "sparse": (lambda: fit(Sparse(), Y), TypeError, r"^ArrayDataset: images must be an array, got Sparse; its toarray\(\) makes one$"),
    "NHWC": (
        lambda: fit(X.transpose(0, 2, 3, 1), Y),
        ValueError,
        r"^ArrayDataset: .*\(24, 8, 8, 1\), .*; expected .*images.transpose\(0, 3, 1, 2\)",
    ),
    "NHWC to a net": (
        lambda: net()(fastnn.tensor(X.transpose(0, 2, 3, 1))),
        ValueError,
        r"with C = 1; x.transpose\(0, 3, 1, 2\) makes that of",
    ),
    "one image": (lambda: net()(fastnn.tensor(X[0])), ValueError, r"got shape \(1, 8, 8\); .*; x\[None\] is a batch of one image$"),
    "no channel": (lambda: net()(fastnn.tensor(X[:, 0])), ValueError, r"got shape \(24, 8, 8\); .*; x\[:, None\] gives grey images"),
    "integers": (lambda: fit(X.astype(int), Y), TypeError, r"images have dtype int64; .*; astype\(np.uint8\) makes bytes"),
    "NaN": (lambda: fit(np.where(X > 2, np.nan, X), Y), ValueError, "^Normalize.fit: sample .* holds nan at .*; repair or leave out"),
    "ragged": (lambda: fit([X[0], X[0, :, :7]], [0, 1]), ValueError, "^ArrayDataset: images must be an array, or lists of equal lengths"),
    "a list of two": (lambda: trainer().fit([X, Y], 1), TypeError, r"^fit: train: got a list of two; \(images, labels\) is a tuple$"),  # type: ignore[arg-type]
    "no labels": (lambda: trainer().fit(X, 1), TypeError, r"^fit: train: expected a data set, a Loader, \(images, labels\)"),
}

CALLS: dict[str, Case] = {
    "fit, frozen": (
        lambda: fit(X, Y, net().requires_grad_(False)),
        ValueError,
        r"^fit: all parameters of the optimizer are frozen; requires_grad_\(True\) of a module",
    ),
    "predict of an image": (
        lambda: trainer(normalize=data.Normalize([0.0], [1.0])).predict(X[0, 0]),
        ValueError,
        r"^predict: data of shape \(8, 8\) are 8 samples of 8 features; expected 1 feature, as the model was trained on; one image alone is image\[None\]$",
    ),
    "a module of torch": (
        lambda: nn.Sequential(torch.nn.ReLU()),  # type: ignore[arg-type]
        TypeError,
        r"^Sequential holds modules, got torch.* as module 0; it is PyTorch's, here nn.ReLU\(...\) makes one$",
    ),
    "a part of a schedule": (
        lambda: optim.SGD(net().parameters(), optim.schedules.cosine(0.1, 9)).param_groups[0]["lr"] * 0.1,
        TypeError,
        r"^a schedule is no number but a function of time: optimizer.rates\(\)\[0\] is the rate now, ",
    ),
    "Loader(X, Y)": (
        lambda: data.Loader(X, Y),
        TypeError,
        r"^Loader: batch_size must be a number, .* one: Loader\(\(x, y\), batch_size\)$",
    ),  # type: ignore[arg-type]
    "num_workers": (lambda: data.Loader((X, Y), 8, num_workers=2), TypeError, "^Loader: .*'num_workers'; it is workers, threads"),  # type: ignore[call-arg]
    "split((X, Y))": (lambda: data.split((X, Y), 0.1), TypeError, r"^split: dataset must be a data set, such as data.ArrayDataset"),  # type: ignore[type-var]
    "fit(X, Y)": (
        lambda: trainer().fit(X, Y),  # type: ignore[arg-type]
        TypeError,
        r"^Trainer.fit: epochs must be a number, got numpy.ndarray; images and labels are one: fit\(\(x, y\), epochs\)$",
    ),
    "fit(X, Y, epochs)": (
        lambda: trainer().fit(X, Y, epochs=1),  # type: ignore[misc]
        TypeError,
        r"^Trainer.fit: numpy.ndarray is one argument too many by its place; images and labels are one",
    ),
    "evaluate(X, Y)": (
        lambda: trainer().evaluate(X, Y),
        TypeError,
        r"^Trainer.evaluate: .* images and labels are one: evaluate\(\(x, y\)\)",
    ),  # type: ignore[call-arg]
    "predict((X, Y))": (lambda: trainer().predict((X, Y)), TypeError, "^predict: data must be images alone, got a pair"),
    "validation_data": (lambda: fit_with(validation_data=(X, Y)), TypeError, r"no argument 'validation_data'; it is validation=\(x, y\)"),
    "validation_split": (
        lambda: fit_with(validation_split=0.1),
        TypeError,
        r"no argument 'validation_split'; .*data.split\(dataset, 0.1\)",
    ),
    "verbose": (lambda: fit_with(verbose=0), TypeError, "^Trainer.fit: there is no argument 'verbose'; progress=False prints nothing$"),
    "misspelt": (lambda: fit_with(calbacks=[]), TypeError, r"^Trainer.fit: there is no argument 'calbacks'; is callbacks meant\?$"),
    "files to a Trainer": (
        lambda: trainer().predict(np.array(["cat.jpg"])),
        TypeError,
        r"^predict: data must be an array of images, got words; a list of them is read as the names of files$",
    ),
    "tensors of torch": (lambda: ops.concat([torch.ones(1)]), TypeError, r"^concat: expected Tensors, got torch.Tensor; fastnn.tensor"),  # type: ignore[list-item]
    "two of three sets": (lambda: [*data.Sets(DIGITS, None, None, "")], TypeError, "^Sets: sets.train, sets.validation and sets.test are"),
    "gamma": (lambda: optim.schedules.step(0.1, [3], gamma=0.5), TypeError, "^step: there is no argument 'gamma'; it is factor$"),  # type: ignore[call-arg]
    "T_max": (lambda: optim.schedules.cosine(0.1, T_max=9), TypeError, "^cosine: there is no argument 'T_max'; it is total$"),  # type: ignore[call-arg]
    "four rates": (
        lambda: optim.schedules.cosine(0.1, 9, 0, 1),
        TypeError,
        "^cosine: too many .*; by their place it takes lr, total, final$",
    ),  # type: ignore[call-arg]
    "verbose plateau": (lambda: optim.schedules.ReduceOnPlateau(0.1, verbose=True), TypeError, "'verbose'; nothing is printed; the hist"),  # type: ignore[call-arg]
    "save_best_only": (
        lambda: train.ModelCheckpoint("c", save_best_only=True),  # type: ignore[call-arg]
        TypeError,
        "^ModelCheckpoint: there is no argument 'save_best_only'; the best snapshot is in every checkpoint, and train.load_model takes",
    ),
    "metric": (lambda: KNeighborsClassifier(metric="l1"), TypeError, "^KNeighborsClassifier: .*'metric'; it is p: 1 for Manhattan dist"),  # type: ignore[call-arg]
    "batch_size beside a Loader": (
        lambda: trainer().fit(data.Loader((X, Y), 8), 1, batch_size=12, progress=False),
        ValueError,
        "^fit: batch_size is 12, but the loader makes batches of 8; leave it out, or give the data set$",
    ),
    "validation": (lambda: fit_with(validation=0.2), TypeError, "^fit: validation: expected a data set, .* got 0.2$"),
    "empty validation": (lambda: fit_with(validation=(X[:0], Y[:0])), ValueError, "^fit: the validation set is empty; leave it out"),
    "learning_rate": (lambda: optim.Adam(net().parameters(), learning_rate=0.1), TypeError, "^Adam: .*'learning_rate'; it is lr, a num"),  # type: ignore[call-arg]
    "momentum by place": (lambda: optim.SGD(net().parameters(), 0.1, 0.9), TypeError, "^SGD: 0.9 is one .*given by name$"),  # type: ignore[misc]
    "epochs of a Trainer": (lambda: trainer(epochs=3), TypeError, "^Trainer: there is no argument 'epochs'; give it to fit$"),
    "rate of a Trainer": (lambda: trainer(lr=0.1), TypeError, "^Trainer: there is no argument 'lr'; it is the optimizer's"),
    "restore_best_weights": (
        lambda: train.EarlyStopping(2, restore_best_weights=True),  # type: ignore[call-arg]
        TypeError,
        "^EarlyStopping: there is no argument 'restore_best_weights'; fit keeps and restores the best weights by itself$",
    ),
    "a net for a file": (lambda: train.load_model("a", net()), TypeError, r"^load_model: .*given by name: load_model\(path, model=net\)$"),  # type: ignore[misc]
}

OBJECTS: dict[str, Case] = {
    "layer.requires_grad": (
        lambda: setattr(net()[0], "requires_grad", False),  # type: ignore[index]
        AttributeError,
        r"^Conv2d.requires_grad = ... would change nothing; requires_grad_\(False\) is for all parameters below$",
    ),
    "layer.trainable": (lambda: setattr(net(), "trainable", 0), AttributeError, r"^Sequential.trainable = .*; requires_grad_\(False\)"),
    "loss, class": (
        lambda: trainer(loss=nn.CrossEntropyLoss),
        TypeError,
        r"got the class CrossEntropyLoss; CrossEntropyLoss\(\) is an object",
    ),
    "optimizer, class": (lambda: train.Trainer(net(), optim.Adam), TypeError, r"got the class Adam; Adam\(...\) makes one$"),  # type: ignore[arg-type]
    "callback, class": (lambda: fit_with(callbacks=[train.EarlyStopping]), TypeError, r"EarlyStopping among them; EarlyStopping\(...\)"),
    "state for parameters": (lambda: optim.Adam(net().state_dict()), TypeError, r"got a dict; model.parameters\(\) are a model's$"),
    "optimizer for a rate": (
        lambda: optim.schedules.step(optim.SGD(net().parameters()), (30,)),  # type: ignore[arg-type]
        TypeError,
        "^step: lr must be a number, got SGD; a schedule is given to an optimizer as its lr",
    ),
    "schedule.step()": (
        lambda: optim.schedules.cosine(0.1, 10).step(),
        AttributeError,
        "^a Schedule has no attribute 'step'; nothing is to",
    ),
    "trainer.score": (lambda: trainer().score, AttributeError, r"^a Trainer has no attribute 'score'; evaluate\(data\)"),
    "trainer.compile": (lambda: trainer().compile, AttributeError, "^a Trainer has no attribute 'compile'; train.Trainer"),
    "history.history": (lambda: train.History().history, AttributeError, r"^a History has no attribute 'history'; history\['loss'\]"),
    "history[0]": (lambda: train.History()[0], TypeError, r"^history: a column has a name, such as 'loss'; history.rows\[0\]"),  # type: ignore[index]
}
ALL = {
    f"{kind}, {name}": case
    for kind, cases in (("labels", LABELS), ("losses", LOSSES), ("images", IMAGES), ("calls", CALLS), ("objects", OBJECTS))
    for name, case in cases.items()
}


@pytest.mark.parametrize("name", ALL)
def test_what_it_says(name: str) -> None:
    check(ALL[name])


def test_a_metric_that_fails_is_named_with_what_it_was_given() -> None:
    def share(labels: Any, predictions: Any) -> Any:
        return (labels == predictions) + np.zeros(7)

    with pytest.raises(
        ValueError, match=r"^metrics: share\(logits of shape \(24, 3\), labels of shape \(24,\)\) raised ValueError: "
    ) as caught:
        trainer(metrics=[share]).evaluate((X, Y))
    assert caught.value.__cause__ is not None


def test_validation_is_looked_at_before_the_first_epoch() -> None:
    stays = trainer()
    with pytest.raises(TypeError, match="^fit: validation: expected a data set"):
        stays.fit((X, Y), 1, X)
    assert stays.epoch == 0 and not len(stays.history)


@pytest.mark.parametrize(
    ("last", "loss", "message"),
    [
        (nn.Softmax(1), nn.CrossEntropyLoss(), "^CrossEntropyLoss takes logits: leave out the Softmax in front of it$"),
        (nn.Sigmoid(), nn.CrossEntropyLoss(), "^CrossEntropyLoss takes logits: leave out the sigmoid in front of it$"),
        (
            nn.Softmax(1),
            nn.NLLLoss(),
            "^NLLLoss takes log-probabilities: put LogSoftmax in the place of the Softmax, or leave that out and take CrossEntropyLoss$",
        ),
        (nn.Identity(), nn.NLLLoss(), "^NLLLoss takes log-probabilities: put LogSoftmax behind the Linear, or take CrossEntropyLoss$"),
    ],
)
def test_an_activation_that_does_not_belong_to_the_loss(last: nn.Module, loss: Any, message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        loss(nn.Sequential(net(), last)(fastnn.tensor(X)), Y)
    with pytest.warns(UserWarning, match=message):
        trainer(nn.Sequential(net(), last), loss=loss).fit((X, Y), 1, progress=False)
    loss(ops.log_softmax(net()(fastnn.tensor(X)), 1), Y)


def test_what_is_read_from_a_file_is_no_net(tmp_path: Path) -> None:
    train.save_model(tmp_path / "m", net())
    read = train.load_model(tmp_path / "m", model=net())
    with pytest.raises(TypeError, match=r"^a Trained is no net: predict\(images\) gives probabilities, .model\(x\) the net's outputs$"):
        read(fastnn.tensor(X))
    with pytest.raises(AttributeError, match="^a Trained has no attribute 'eval'; .model is the net, in evaluation mode, and predict"):
        read.eval()
    with pytest.raises(AttributeError, match="^a Trained has no attribute 'nonsense'$"):
        _ = read.nonsense
    assert copy.copy(read).predict(X).shape == (24, 3)


def test_neighbours_of_a_data_set() -> None:
    dataset = data.ArrayDataset(X, Y)
    for given in ((dataset,), (dataset, Y)):
        with pytest.raises(TypeError, match="^fit: x must be an array, got ArrayDataset; set.images and set.labels are its arrays$"):
            fastnn.neighbors.KNeighborsClassifier(1).fit(*given)


def test_what_is_said_of_labels_helps_with_a_loaders_too() -> None:
    x, labels = next(iter(data.Loader((X, Y + 1), 8)))
    with pytest.raises(ValueError, match=r"by np.asarray\(labels\) - 1$"):
        nn.CrossEntropyLoss()(net()(x), labels)
    nn.CrossEntropyLoss()(net()(x), np.asarray(labels) - 1)
    for one_hot in (np.eye(3, dtype=int)[Y[:8]], fastnn.tensor(np.eye(3, dtype=int)[Y[:8]])):
        with pytest.raises(
            ValueError, match=r"labels have shape \(8, 3\); expected \(8,\), .*; labels.argmax\(1\) makes them of one-hot rows$"
        ):
            nn.CrossEntropyLoss()(net()(x), one_hot)
        nn.CrossEntropyLoss()(net()(x), one_hot.argmax(1))


def test_sigmoid_before_a_loss_of_logits() -> None:
    x = fastnn.tensor(X[:, 0, 0, 0], requires_grad=True)
    with pytest.warns(UserWarning, match="^BCEWithLogitsLoss takes logits: leave out the sigmoid"):
        nn.BCEWithLogitsLoss()(x.sigmoid(), np.ones(24))


def test_a_schedule_that_was_told_epochs_and_counts_steps() -> None:
    model = net()
    short = train.Trainer(model, optim.SGD(model.parameters(), optim.schedules.cosine(0.1, 3)))
    with pytest.warns(
        UserWarning, match=r"^fit: the schedule cosine\(0.1, 3\) ends after 3 steps, 3 epochs have 9; unit='epoch' counts epochs$"
    ):
        short.fit((X, Y), 3, batch_size=8, progress=False)
    model = net()
    train.Trainer(model, optim.SGD(model.parameters(), optim.schedules.cosine(0.1, 3, unit="epoch"))).fit((X, Y), 3, progress=False)
    train.Trainer(model, optim.SGD(model.parameters(), optim.schedules.linear(0.1, 2, 0.05))).fit((X, Y), 9, progress=False)


def test_a_step_without_backward() -> None:
    model = net()
    with pytest.warns(UserWarning, match=r"^SGD.step: no parameter has a gradient, nothing changes; call loss.backward\(\) first$"):
        optim.SGD(model.parameters(), 0.1).step()


def test_what_works_as_meant(tmp_path: Path) -> None:
    fit(X.tolist(), Y.tolist())
    fit(list(X), list(Y))
    fit(fastnn.tensor(X), fastnn.tensor(Y), batch_size=1000)
    fit(X[:, 0], Y)
    model = net()
    train.save_model(str(tmp_path / "m"), model)
    assert np.array_equal(train.load_model(tmp_path / "m", model=net()).model[2].weight.numpy(), model[2].weight.numpy())
    image, label = data.ArrayDataset(X, Y)[0]
    assert image.shape == (1, 8, 8) and label == 0


def test_what_classes_of_ones_own_mean_is_theirs() -> None:
    class Takes(nn.Module):
        requires_grad = True

        def __init__(self) -> None:
            super().__init__()
            self.requires_grad = False

        @property
        def broken(self) -> Any:
            return self.head.nowhere

    assert Takes().requires_grad is False
    with pytest.raises(
        AttributeError, match=r"^Takes has no attribute 'broken'; Takes.broken is a property: its own code raised AttributeError$"
    ):
        _ = Takes().broken

    class Net(nn.Sequential):
        pass

    model = Net(nn.Linear(2, 2))
    with pytest.warns(UserWarning, match=r"^Net.requires_grad = ... would change no parameter; requires_grad_\(False\) is for all"):
        model.requires_grad = False  # type: ignore[assignment, method-assign]
    assert all(p.requires_grad for p in model.parameters())


def test_a_part_without_gradients_is_none_of_a_mistake() -> None:
    """A frozen backbone beside a head, each with an optimizer of its own."""
    model = net()
    model[0].requires_grad_(False)
    together = optim.Together(optim.SGD(model[0].parameters(), 0.1), optim.Adam(model[2].parameters(), 1e-3))
    train.Trainer(model, together).fit((X, Y), 1, progress=False)


def test_a_metric_may_end_the_training_as_it_likes() -> None:
    class Pruned(Exception):
        pass

    def metric(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        raise Pruned("enough")

    with pytest.raises(Pruned, match="^enough$"):
        trainer(metrics=[metric]).fit((X, Y), 1, progress=False)


def test_each_item_is_fetched_once_an_epoch() -> None:
    class Items:
        fetched = 0

        def __len__(self) -> int:
            return 24

        def __getitem__(self, i: int) -> Any:
            Items.fetched += 1
            return X[i], int(Y[i])

    loader = data.Loader(data.ItemDataset(Items(), labels=Y), 8, normalize=data.Normalize([0.0], [1.0]))
    made = Items.fetched
    trainer(normalize=data.Normalize([0.0], [1.0])).fit(loader, 3, progress=False)
    assert Items.fetched - made == 3 * 24
