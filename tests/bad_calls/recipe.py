"""fastnn.tune.recipe and its steps."""

from __future__ import annotations

from fastnn import data, train, tune

from . import Subject
from .data import rows_set
from .optim import Good, constants
from .train import trainer


def prepared() -> train.Trainer:
    return trainer(normalize=data.Normalize.fit(rows_set()))


def done() -> tune.Recipe:
    return tune.Recipe([tune.Verdict(1, "initial loss", "2.3", [tune.Fault("input", "too large")])])


def curves() -> train.History:
    return train.History([{"epoch": 1, "loss": 0.5, "accuracy": 0.5, "val_accuracy": 0.5}])


def subjects() -> list[Subject]:
    inside = ("Loader", "item 0", "data set", "ItemDataset", "ArrayDataset", "Linear", "cross_entropy", "SGD", "Sequential", "fit", "split")
    parts: Good = {"trainer": prepared, "train": rows_set, **constants(batch_size=5, seed=0)}
    more: Good = {"validation": rows_set, **constants(trials=2, epochs=1)}
    whole: Good = {**parts, **more, **constants(steps="1", keep_going=False, progress=False)}
    return [
        Subject("recipe", tune.recipe, whole, inside, {"steps": ("0", "3-1", 8, [0]), "trials": (1,)}),
        Subject("initial_loss", tune.initial_loss, parts, inside),
        Subject("overfit", tune.overfit, {**parts, **constants(batches=1, epochs=1)}, inside),
        Subject("drop_rate", tune.drop_rate, {**parts, **constants(steps=10, decay=1e-4)}, inside, {"steps": (9,)}),
        Subject("coarse", tune.coarse, {**parts, **more, **constants(rate=0.01)}, inside, {"rate": (0.0,)}),
        Subject("refine", tune.refine, {**parts, **more, **constants(rate=0.01)}, inside, {"rate": (0.0,)}),
        Subject("read_curves", tune.read_curves, {"history": curves, **constants(train_accuracy=0.5, chance=0.1)}, (), {"chance": (1.5,)}),
        Subject("Recipe.__getitem__", lambda step: done()[step], constants(step=1), ("Recipe",), {"step": (8,)}, kinds=(KeyError,)),
    ]


PLAIN = {
    "Fault": "a record",
    "Recipe": "made by recipe: see Recipe.__getitem__",
    "Verdict": "a record",
}
