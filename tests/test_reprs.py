"""What objects look like when they are printed: one line, that says how they were made and where they stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import data, nn, optim, train

IMAGES, LABELS = np.zeros((8, 1, 4, 4), np.uint8), np.arange(8) % 2


def net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def fitted() -> train.Trainer:
    model = net()
    trainer = train.Trainer(model, optim.SGD(model.parameters(), 0.25, momentum=0.5))
    trainer.fit((IMAGES, LABELS), 1, batch_size=4, progress=False)
    return trainer


def shared() -> data.ArrayDataset:
    return data.ArrayDataset(IMAGES, LABELS, ["cat", "dog"])


SGD = "SGD(lr={}, momentum={}, dampening=0.0, nesterov=False, weight_decay=0.0, maximize=False, 2 parameters, {})"
LOOKS: dict[str, tuple[Any, str]] = {
    "SGD": (lambda: optim.SGD(net().parameters(), 0.1, momentum=0.9), SGD.format(0.1, 0.9, "0 steps done")),
    "schedule": (
        lambda: optim.SGD(net().parameters(), optim.schedules.warmup(optim.schedules.cosine(0.1, 100, unit="epoch"), 5)),
        SGD.format("warmup(cosine(0.1, 100, unit='epoch'), 5)", 0.0, "0 steps done"),
    ),
    "groups": (
        lambda: optim.SGD([{"params": [p], "lr": i} for i, p in enumerate(net().parameters())]),
        SGD.format("[0, 1]", 0.0, "0 steps done").replace("2 parameters", "2 groups of 2 parameters"),
    ),
    "Lookahead": (lambda: optim.Lookahead(optim.SGD(net().parameters(), 0.1)), f"Lookahead({SGD.format(0.1, 0.0, '0 steps done')})"),
    "EMA": (lambda: optim.EMA(net()), "EMA(decay=0.999, every=1, start=0)"),
    "own schedule": (lambda: optim.schedules.Schedule(abs), "Schedule(abs, unit='step')"),
    "scaled": (lambda: optim.schedules.scaled(optim.schedules.constant(0.1), 2), "scaled(constant(0.1), 2)"),
    "plateau": (
        lambda: optim.schedules.ReduceOnPlateau(0.1),
        "ReduceOnPlateau(rate=0.1, monitor=None, factor=0.1, patience=10, bad_epochs=0)",
    ),
    "Trainer": (fitted, f"Trainer(Sequential on cpu, {SGD.format(0.25, 0.5, '2 steps done')}, CrossEntropyLoss(), 1 epoch done)"),
    "ArrayDataset": (shared, "ArrayDataset(8 samples of shape (1, 4, 4), uint8, 2 classes)"),
    "part": (lambda: data.ArrayDataset(IMAGES / 9.0, LABELS).take([1]), "ArrayDataset(1 sample of shape (1, 4, 4), float32)"),
    "ItemDataset": (lambda: data.ItemDataset([(IMAGES[0], 1)]), "ItemDataset(1 sample of shape (1, 4, 4), uint8, from a list)"),
    "Loader": (
        lambda: data.Loader(shared(), 4, shuffle=True, seed=3, augment=data.Flip()),
        "Loader(shuffle=True, seed=3, augment=(Flip(p=0.5, alternating=False),), 2 batches of 4 of "
        "ArrayDataset(8 samples of shape (1, 4, 4), uint8, 2 classes))",
    ),
    "Normalize": (lambda: data.Normalize([0.5], [0.25]), "Normalize(mean=[0.5], std=[0.25])"),
    "Normalize of features": (lambda: data.Normalize([0.5] * 9, [0.25] * 9), "Normalize(mean=0.5 ..., std=0.25 ..., 9 features)"),
    "Resize": (lambda: data.Resize(8), "Resize(size=(8, 8), channels=3, highest=255, filter='bilinear')"),
    "History, empty": (train.History, "History(no epoch yet)"),
    "History": (lambda: train.History([{"epoch": 1, "loss": 0.123456}]), "History(1 epoch, loss 0.1235)"),
    "EarlyStopping": (lambda: train.EarlyStopping(3), "EarlyStopping(patience=3, monitor='val_loss', mode='min')"),
    "ModelCheckpoint": (lambda: train.ModelCheckpoint("a.safetensors"), "ModelCheckpoint(path='a.safetensors', every=1)"),
    "Callback": (type("Mine", (train.Callback,), {}), "Mine()"),
    "Generator": (lambda: fastnn.Generator(7), "Generator(seed=7, draw=0)"),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), "MaxPool2d(3x3, stride 2, padding 1)"),
    "MaxPool2d, sides": (
        lambda: nn.MaxPool2d((3, 2), (1, 3), (1, 0), (1, 2)),
        "MaxPool2d(3x2, stride (1, 3), padding (1, 0), dilation (1, 2))",
    ),
    "MaxUnpool2d, sides": (lambda: nn.MaxUnpool2d((3, 2), (1, 2)), "MaxUnpool2d(3x2, stride (1, 2))"),
    "AvgPool2d, sides": (lambda: nn.AvgPool2d(2, (1, 3), (0, 1)), "AvgPool2d(2x2, stride (1, 3), padding (0, 1))"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_looks(name: str) -> None:
    make, expected = LOOKS[name]
    assert repr(make()) == str(make()) == expected


def test_a_loss_that_is_a_function() -> None:
    def squared(logits: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        return (logits * logits).mean()

    model = net()
    assert "squared, 0 epochs done" in repr(train.Trainer(model, optim.SGD(model.parameters()), squared))


def test_options_in_numpys_arrays() -> None:
    """They are taken, and arrays are not simply equal or not."""
    layer, betas = nn.Linear(2, 2), np.array([0.8, 0.9])
    assert "betas=array([0.8, 0.9])" in repr(optim.Adam(layer.parameters(), betas=betas))  # type: ignore[arg-type]
    groups = [{"params": [layer.weight], "betas": betas}, {"params": [layer.bias]}]
    assert "betas=[array([0.8, 0.9]), (0.9, 0.999)]" in repr(optim.Adam(groups))


# --- a data set's samples


def test_a_sample_of_a_data_set() -> None:
    images = np.arange(8 * 16, dtype=np.uint8).reshape(8, 1, 4, 4)
    for dataset in (data.ArrayDataset(images, LABELS), data.ItemDataset(list(zip(images, LABELS)))):
        image, label = dataset[3]
        assert np.array_equal(image, images[3]) and image.dtype == np.uint8 and label == 1 and type(label) is int
        assert np.array_equal(dataset[-1][0], images[7]) and dataset.take([5, 2])[np.int64(1)][1] == 0
        kind = type(dataset).__name__
        with pytest.raises(IndexError, match=f"^{kind}: there is no sample 8; it has 8, counted from 0$"):
            dataset[8]
        for several in (slice(2), [0, 1], np.array([0, 1]), (0, 1), "0", None, 1.0):
            with pytest.raises(TypeError, match=f"^{kind}: index .* is not the number of one sample; take"):
                dataset[several]  # type: ignore[index]
