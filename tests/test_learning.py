"""Nets learn what can be learned, and do not where nothing is to be learned. Seconds each; the whole trainings are in tests/long."""

from __future__ import annotations

import numpy as np
import pytest
from shared_data import shared_data

import fastnn
from fastnn import data, models, nn, optim
from fastnn.data import ArrayDataset
from fastnn.train import Trainer


def train_on(training: ArrayDataset, name: str, epochs: int, batch_size: int = 32, lr: float = 1e-3) -> Trainer:
    fastnn.seed(0)
    model = models.create(name, input_shape=training.shape, num_classes=training.num_classes)
    total = epochs * (len(training) // batch_size)
    trainer = Trainer(model, optim.Adam(model.parameters(), optim.schedules.cosine(lr, total)))
    trainer.fit(training, epochs, batch_size=batch_size, progress=False)
    return trainer


@pytest.mark.parametrize("name, epochs, reached", [("linear", 15, 0.9), ("mlp", 10, 0.94), ("lenet", 8, 0.95), ("vgg_small", 6, 0.975)])
def test_digits_in_a_few_epochs(name: str, epochs: int, reached: float) -> None:
    train, test = data.digits()
    assert train_on(train, name, epochs).evaluate(test)["accuracy"] >= reached


def test_fashion_mnist_two_epochs_on_a_twentieth() -> None:
    train, test = data.fashion_mnist(shared_data("fashion-mnist"))
    assert train_on(train.take(range(3000)), "lenet", 2).evaluate(test.take(range(1000)))["accuracy"] >= 0.74


def test_the_initial_loss_is_that_of_guessing() -> None:
    train, _ = data.digits()
    model = models.create("vgg_small", input_shape=train.shape)
    loss = Trainer(model, optim.SGD(model.parameters(), 0.1), normalize=data.Normalize.fit(train)).evaluate(train)["loss"]
    assert 0.9 * np.log(10) <= loss <= np.log(10) + 0.7


def test_a_small_set_is_learned_by_heart() -> None:
    train, _ = data.digits()
    few = train.take(range(64))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.1, momentum=0.9))
    assert trainer.fit(few, 30, batch_size=16, progress=False)["accuracy"][-1] == 1.0


def test_shuffled_labels_teach_nothing() -> None:
    train, test = data.digits()
    shuffled = ArrayDataset(train.images, np.random.default_rng(0).permutation(train.labels))
    assert train_on(shuffled, "vgg_small", 3).evaluate(test)["accuracy"] < 0.2
