"""Checkpoints: arrays plus a few numbers, in one safetensors file that is replaced whole.

The model's arrays have PyTorch's keys; "optimizer/..." are the optimizer's, "best/..." the best snapshot's. The notes hold the
position (epoch, batch, steps), seed and draw, the running sums of the epoch, the history, and what the model is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files, models, random
from ..data import Normalize
from ..nn import CrossEntropyLoss, Module
from . import evaluation
from .evaluation import Data, Loss
from .history import History
from .metrics import Metric, by_name

if TYPE_CHECKING:
    from .trainer import Trainer

_OPTIMIZER, _BEST = "optimizer/", "best/"


@dataclass
class Snapshot:
    """A copy of the model's arrays after `epoch` epochs, with its validation figures."""

    epoch: int
    accuracy: float
    loss: float
    arrays: dict[str, np.ndarray]

    def better_than(self, other: Snapshot | None) -> bool:
        """Higher accuracy, or the same at a lower loss; the earlier of equal ones stays."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass
class Trained:
    """A model from a file, ready to predict: its classes, its preprocessing, and the notes stored with it."""

    model: Module
    classes: tuple[str, ...] | None
    normalize: Normalize | None
    notes: dict[str, Any]

    def evaluate(self, data: Data, loss: Loss | None = None, metrics: Sequence[str | Metric] = ("accuracy",)) -> dict[str, float]:
        """Mean loss (cross-entropy by default) and metrics over a data set."""
        return evaluation.evaluate(self.model, data, loss or CrossEntropyLoss(), by_name(metrics), self.normalize)

    def predict(self, data: Any) -> np.ndarray:
        """Probabilities (N, classes) for a data set or an array of raw images."""
        return evaluation.predict(self.model, data, self.normalize)


def save_model(
    path: str | os.PathLike[str],
    model: Module,
    *,
    architecture: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    normalize: Normalize | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Writes the model's arrays and what is needed to use it: `architecture` is {"name", **arguments of models.create}."""
    files.write(path, model.state_dict(), {**_description(architecture, classes, normalize), "notes": dict(notes or {})})


def load_model(path: str | os.PathLike[str]) -> Trained:
    """Builds the model of a file of save_model or of a checkpoint (its best snapshot, if it has one), in evaluation mode."""
    arrays, notes = files.read(path)
    architecture = notes.get("architecture")
    if not architecture:
        raise ValueError(f"{os.fspath(path)}: says no architecture; build the model yourself and use load_state_dict(files.read(path)[0])")
    model = models.create(**{**architecture, "input_shape": tuple(architecture["input_shape"])})
    best = _below(_BEST, arrays)
    with _naming(path):
        model.load_state_dict(best or _model_arrays(arrays))
    classes, normalize = notes.get("classes"), notes.get("normalize")
    return Trained(model.eval(), tuple(classes) if classes else None, Normalize(**normalize) if normalize else None, notes["notes"])


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Writes all that `load` needs to go on as if nothing had happened."""
    optimizer = trainer.optimizer.state_dict()
    steps = optimizer.pop("steps")
    arrays = {**trainer.model.state_dict(), **{_OPTIMIZER + k: v for k, v in optimizer.items()}}
    best = trainer.best
    if best is not None:
        arrays.update({_BEST + k: v for k, v in best.arrays.items()})
    notes = {
        **_description(trainer.architecture, trainer.classes, trainer.normalize),
        "optimizer": type(trainer.optimizer).__name__,
        "epochs": trainer.epochs,
        "epoch": trainer.epoch,
        "batch": trainer.batch,
        "steps": steps,
        "seed": trainer.generator.seed,
        "draw": trainer.generator.draw,
        "sums": trainer.sums,
        "data": trainer.data,
        "history": trainer.history.rows,
        "best": None if best is None else {"epoch": best.epoch, "accuracy": best.accuracy, "loss": best.loss},
        "notes": trainer.notes,
    }
    files.write(path, arrays, notes)


def load(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Puts the trainer where the saved one stood. ValueError names the file and what does not fit; the trainer is unchanged then."""
    arrays, notes = files.read(path)
    if "epoch" not in notes:
        raise ValueError(f"{os.fspath(path)}: holds a model, not a checkpoint of a training")
    own = type(trainer.optimizer).__name__
    if notes["optimizer"] != own:
        raise ValueError(f"{os.fspath(path)}: made with the optimizer {notes['optimizer']}; the trainer has {own}")
    before = trainer.optimizer.state_dict()
    with _naming(path):
        trainer.optimizer.load_state_dict({"steps": notes["steps"], **_below(_OPTIMIZER, arrays)})
        try:
            trainer.model.load_state_dict(_model_arrays(arrays))
        except ValueError:
            trainer.optimizer.load_state_dict(before)
            raise
    trainer.epoch, trainer.batch, trainer.sums, trainer.data = notes["epoch"], notes["batch"], notes["sums"], notes["data"]
    trainer.generator = random.Generator(notes["seed"])
    trainer.generator.draw = notes["draw"]
    trainer.history = History(notes["history"])
    trainer.best = None if notes["best"] is None else Snapshot(arrays=_below(_BEST, arrays), **notes["best"])
    trainer.normalize = Normalize(**notes["normalize"]) if notes["normalize"] else None
    trainer.notes = notes["notes"]


def _description(architecture: Any, classes: Any, normalize: Normalize | None) -> dict[str, Any]:
    return {
        "architecture": dict(architecture) if architecture else None,
        "classes": list(classes) if classes else None,
        "normalize": normalize.state() if normalize else None,
    }


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}


def _model_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: a for name, a in arrays.items() if not name.startswith((_OPTIMIZER, _BEST))}


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the file's name in front of a ValueError's message."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
