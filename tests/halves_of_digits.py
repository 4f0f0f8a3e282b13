"""Networks that know the digits from 0 to 4, and the other five, for tests of transfer learning."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch_twins

import fastnn
from fastnn import data, models, nn, optim, train

SHAPES = {"vgg16": (3, 32, 32), "alexnet": (3, 63, 63), "airbench94": (3, 25, 25), "resnet50": (3, 32, 32)}
SMALL: dict[str, dict[str, Any]] = {"vgg16": {"hidden": 8}, "alexnet": {"hidden": 8}, "airbench94": {"width": 0.25}}


def made(name: str, classes: int = 10, **options: Any) -> nn.Module:
    fastnn.seed(0)
    shape = SHAPES.get(name, (1, 8, 8))
    return models.create(name, input_shape=shape, num_classes=classes, **{**SMALL.get(name, {}), **options})


def images(n: int, shape: tuple[int, ...] = (1, 8, 8), seed: int = 0) -> fastnn.Tensor:
    return fastnn.tensor(torch_twins.normal(seed, n, *shape))


@cache
def trained() -> train.Trainer:
    """Knows the digits from 0 to 4; not to be changed."""
    training, _ = data.digits()
    model = made("vgg_small", 5)
    trainer = train.Trainer(model, optim.Adam(model.parameters(), 2e-3))
    trainer.fit(training.take(training.labels < 5), 4, progress=False)
    return trainer


def others(part: int, most: int | None = None) -> data.ArrayDataset:
    """Digits from 5 to 9, for training or for the test."""
    digits = data.digits()[part]
    chosen = np.flatnonzero(digits.labels >= 5)[:most]
    names = ["five", "six", "seven", "eight", "nine"]
    return data.ArrayDataset(digits.images[chosen], digits.labels[chosen] - 5, names, resize=digits.resize)


def pretrained(known: train.Trainer, tmp_path: Path) -> nn.Module:
    known.save_model(tmp_path / "known.safetensors")
    model = made("vgg_small", 5)
    train.load_pretrained(model, tmp_path / "known.safetensors")
    return model
