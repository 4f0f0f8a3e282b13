"""Trainers with a fault that was put into them on purpose, and what the recipe is to call it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fastnn
from fastnn import data, nn, optim, train

NAMES = {
    "healthy": None,
    "rate x100": "rate too high",
    "rate /100": "rate too low",
    "zero init": "initialisation",
    "dead ReLUs": "dead units",
    "shuffled labels": "labels",
    "unnormalised input": "input",
    "overfit": "overfitting",
    "underfit": "underfitting",
}
FAULTS = [name for name in NAMES if name != "healthy"]


@dataclass
class Planted:
    trainer: train.Trainer
    training: data.Dataset
    validation: data.Dataset | None = None


def planted(fault: str, seed: int, whole: data.Dataset, *, width: int = 8, optimizer: str = "adam") -> Planted:
    rng = np.random.default_rng(seed)
    normalize, validation = data.Normalize.fit(whole), None
    if fault == "shuffled labels":
        images, labels = whole.raw(np.arange(len(whole)))
        whole = data.ArrayDataset(images, rng.permutation(labels))
    if fault == "unnormalised input":
        largest = float(whole.raw(np.arange(64))[0].max())
        normalize = data.Normalize([0.0], [largest / 255])  # bytes, as files have them
    if fault == "overfit":
        order = rng.permutation(len(whole))
        whole, validation = whole.take(order[:50]), whole.take(order[-400:])
    model = narrow(seed, whole.shape) if fault == "underfit" else net(seed, whole.shape, width)
    if fault == "zero init":
        for p in model.parameters():
            p.copy_from(np.zeros(p.shape, np.float32))
    if fault == "dead ReLUs":
        bias = dict(model.named_parameters())["3.bias"]
        bias.copy_from(np.full(bias.shape, -30, np.float32))
    factor = {"rate x100": 100.0, "rate /100": 0.01}.get(fault, 1.0)
    rates = {
        "adam": lambda: optim.Adam(model.parameters(), 1e-3 * factor),
        "sgd": lambda: optim.SGD(model.parameters(), 0.05 * factor, momentum=0.9),
    }
    return Planted(train.Trainer(model, rates[optimizer](), seed=seed, normalize=normalize), whole, validation)


def net(seed: int, shape: tuple[int, ...], width: int) -> nn.Sequential:
    fastnn.seed(seed)
    channels, height, across = shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (across // 4), 48),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(48, 10),
    )


def narrow(seed: int, shape: tuple[int, ...]) -> nn.Sequential:
    """Through two numbers."""
    fastnn.seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 2), nn.ReLU(), nn.Linear(2, 10))
