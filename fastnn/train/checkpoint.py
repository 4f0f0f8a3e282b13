"""Checkpoints: arrays plus a few numbers, in one safetensors file that is replaced whole.

The model's arrays have PyTorch's keys; "optimizer/..." are the optimizer's, "best/..." the best snapshot's. The notes hold the
position (epoch, batch, steps), seed and draw, the running sums of the epoch, the history, and what the model is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files, models
from ..data import Normalize
from ..nn import Module
from .history import History

if TYPE_CHECKING:
    from .trainer import Trainer

_OPTIMIZER, _BEST = "optimizer/", "best/"


@dataclass
class Trained:
    """A model from a file, ready to predict: its classes, its preprocessing, and the notes stored with it."""

    model: Module
    classes: tuple[str, ...] | None
    normalize: Normalize | None
    notes: dict[str, Any]


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
    files.write(path, model.state_dict(), {**(notes or {}), **_description(architecture, classes, normalize)})


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
    return Trained(model.eval(), tuple(classes) if classes else None, Normalize(**normalize) if normalize else None, notes)


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
    from .trainer import Snapshot

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
    trainer.generator.seed, trainer.generator.draw = notes["seed"], notes["draw"]
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


class _naming:
    """Puts the file's name in front of a ValueError's message."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, ValueError):
            raise ValueError(f"{self.path}: {error}") from error
