"""What metrics count as right, and what they are asked of."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from test_trainer import blobs

import fastnn
from fastnn import nn, optim
from fastnn.data import ArrayDataset
from fastnn.train import Trained, Trainer, accuracy, top5_accuracy, top_k
from fastnn.train.evaluation import Sums
from fastnn.train.metrics import by_name

NAN = float("nan")


# --- no number, equal ones


def test_logits_that_are_no_number_are_never_right() -> None:
    """No logit exceeds NaN: the top five of a net that had diverged were right throughout."""
    labels = np.arange(8)
    for count in (8, 3):
        logits = np.full((8, count), NAN)
        assert not top5_accuracy(logits, labels % count).any() and not accuracy(logits, labels % count).any()
    one = np.zeros((2, 8))
    one[:, 7] = NAN
    assert top5_accuracy(one, np.array([3, 4])).tolist() == [True, False]  # it is ahead of every other one
    assert accuracy(one, np.array([0, 7])).tolist() == [False, False]


@pytest.mark.parametrize("kind", [float, np.float32, int, bool])
def test_of_equal_logits_the_first_are_ahead(kind: type) -> None:
    labels = np.arange(-1, 9)
    assert top5_accuracy(np.ones((10, 8), kind), labels).tolist() == [0 <= label < 5 for label in labels]
    assert accuracy(np.ones((10, 8), kind), labels).tolist() == [label == 0 for label in labels]


def test_top5_is_the_place_in_a_stable_order() -> None:
    """Of maps too; with numbers that are often equal."""
    rng = np.random.default_rng(0)
    logits, labels = rng.integers(0, 4, (6, 9, 2, 3)).astype(np.float32), rng.integers(0, 9, (6, 2, 3))
    first = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(top5_accuracy(logits, labels), (first == labels[:, None]).any(1))
    np.testing.assert_array_equal(accuracy(logits, labels), first[:, 0] == labels)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 9, 12])
def test_top_k_is_the_place_in_a_stable_order(k: int) -> None:
    rng = np.random.default_rng(0)
    for places in ((), (2, 3)):
        logits, labels = rng.integers(0, 4, (40, 9, *places)).astype(np.float32), rng.integers(0, 9, (40, *places))
        first = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(top_k(k)(logits, labels), (first == labels[:, None]).any(1))
    if k == 1:
        np.testing.assert_array_equal(top_k(1)(logits, labels), accuracy(logits, labels))


def test_top_k_in_a_trainer() -> None:
    """A column of its own; labels that the loss ignores do not count."""
    assert top_k(5) is top5_accuracy and top_k(3) is top_k(3) is pickle.loads(pickle.dumps(top_k(3))) and repr(top_k(3)) == "top_k(3)"
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(200, 7)).astype(np.float32), rng.integers(0, 7, 200)
    model = Given()
    parts = (model, optim.SGD(model.parameters(), 0.0), nn.CrossEntropyLoss(ignore_index=4))
    found = Trainer(*parts, metrics=["accuracy", top_k(2), top_k(3), top_k(3), "top5_accuracy"]).evaluate((logits, labels))
    order = np.argsort(-logits, axis=1)[labels != 4] == labels[labels != 4][:, None]
    assert list(found) == ["loss", "accuracy", "top2_accuracy", "top3_accuracy", "top5_accuracy"]
    for name, k in zip(list(found)[1:], (1, 2, 3, 5)):
        assert found[name] == pytest.approx(order[:, :k].any(1).mean(), rel=1e-12)
    with pytest.raises(ValueError, match="^top_k: k must be at least 1, got 0"):
        top_k(0)
    with pytest.raises(TypeError, match="^top_k: k must be an integer, got True"):
        top_k(True)
    with pytest.raises(ValueError, match=r"^top3_accuracy: logits have shape \(2, 3\), labels \(3,\)"):
        top_k(3)(np.ones((2, 3)), np.arange(3))


# --- a single logit


def one_output() -> tuple[nn.Module, Any]:
    model, loss = nn.Sequential(nn.Flatten(), nn.Linear(36, 1)), nn.BCEWithLogitsLoss()
    return model, lambda logits, labels: loss(logits, labels.numpy()[:, None].astype(np.float32))


def test_one_logit_says_no_class() -> None:
    """The highest of one is class 0, and its softmax 1, whatever it is."""
    dataset = ArrayDataset(blobs(30).images, blobs(30).labels % 2)
    model, loss = one_output()
    two = "give the model two outputs and CrossEntropyLoss"
    for metric in ("accuracy", "top5_accuracy"):
        t = Trainer(model, optim.SGD(model.parameters(), 0.1), loss, metrics=metric)
        words = f"^metrics: {metric}.* logits have shape \\(30, 1\\), and the highest of one is always class 0; {two}, .*> 0\\) == labels$"
        with pytest.raises(ValueError, match=words):
            t.fit(dataset, 1, progress=False)
    t = Trainer(model, optim.SGD(model.parameters(), 0.1), loss, metrics=[lambda logits, labels: (logits[:, 0] > 0) == labels])
    assert t.fit(dataset, 20, progress=False)["<lambda>"][-1] > 0.7
    for given in (dataset, dataset.images, fastnn.tensor(np.ones((2, 1, 6, 6)))):
        with pytest.raises(
            ValueError, match=rf"^predict: the model gives shape \(\d+, 1\), and softmax of one number is always 1; {two}, or take"
        ):
            t.predict(given)
    flat = Trained(nn.Sequential(model, nn.Flatten(0)), None, None, {})
    with pytest.raises(ValueError, match=r"^predict: the model gives shape \(30,\)"):
        flat.predict(dataset)


# --- labels that the loss ignores


class Given(nn.Module):
    """What the net says of each sample is the sample."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(1, 1)

    def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
        return x + 0 * self.unused.weight.sum()


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("ignored", [-100, 2])
def test_labels_that_the_loss_ignores_are_neither_right_nor_wrong(maps: bool, reduction: str, ignored: int) -> None:
    """The same figures as over the others alone, in training and in evaluation, for any size of batches."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 7, *[3, 2] * maps)).astype(np.float32), rng.integers(0, 7, (40, *[3, 2] * maps))
    labels[rng.random(labels.shape) < 0.3] = ignored
    labels[:5] = ignored  # a whole batch
    keep = labels != ignored
    first = np.argsort(-logits, axis=1, kind="stable") == labels[:, None]
    wanted = {"accuracy": first[:, :1].any(1)[keep].mean(), "top5_accuracy": first[:, :5].any(1)[keep].mean(), "every": 1.0}

    def every(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.ones(len(labels))

    model, loss = Given(), nn.CrossEntropyLoss(ignore_index=ignored, reduction=reduction)
    sums = Sums(loss, by_name(["accuracy", "top5_accuracy", every]))
    for begin, end in ((0, 5), (5, 12), (12, 40)):
        x, y = fastnn.tensor(logits[begin:end]), fastnn.tensor(labels[begin:end])
        sums.add(float(loss(model(x), y)) if end > 5 or reduction == "sum" else NAN, x, y)
    means = sums.means()
    assert {name: means[name] for name in wanted} == pytest.approx(wanted) and np.isfinite(means["loss"])
    none = Sums(loss, by_name("accuracy"))
    none.add(NAN, fastnn.tensor(logits[:5]), fastnn.tensor(labels[:5]))
    assert np.isnan(none.means()["accuracy"])


def test_training_and_evaluation_pass_over_ignored_labels() -> None:
    dataset, model = blobs(60), nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    t = Trainer(model, optim.SGD(model.parameters(), 0.0), nn.CrossEntropyLoss(ignore_index=2))
    others = t.fit(dataset.take(np.flatnonzero(dataset.labels != 2)), 1, dataset, progress=False).rows[0]
    assert t.fit(dataset, 1, progress=False)["accuracy"][-1] == others["val_accuracy"] == others["accuracy"]


# --- names


def test_two_metrics_of_one_name_are_refused() -> None:
    """One of them was left out in silence."""

    def at_least(share: float) -> partial[np.ndarray]:
        return partial(lambda logits, labels, share: logits.max(1) > share, share=share)

    few, many = at_least(0.1), at_least(0.9)
    for pair, name in (((few, many), "partial"), ((lambda x, y: y, lambda x, y: y + 1), "<lambda>")):
        with pytest.raises(ValueError, match=f"^metrics: two of them are named '{name}'; give each a name of its own: metric.__name__ = "):
            by_name(pair)
    few.__name__, many.__name__ = "few", "many"  # type: ignore[attr-defined]
    assert by_name((few, many)) == {"few": few, "many": many}
    assert by_name(("accuracy", accuracy)) == {"accuracy": accuracy}  # one metric, twice


def test_a_metric_is_not_called_as_what_validation_finds() -> None:
    def val_loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return (logits.argmax(1) == labels) * 1.0

    with pytest.raises(ValueError, match="metrics: 'val_loss' is a column of its own; call the function otherwise"):
        Trainer(Given(), optim.SGD([nn.Parameter(np.ones(1))], 0.0), metrics=["accuracy", val_loss])
