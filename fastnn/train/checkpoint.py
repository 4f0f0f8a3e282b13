"""Checkpoints: arrays plus a few numbers, in one safetensors file that is replaced whole.

The model's arrays have PyTorch's keys; "optimizer/..." are the optimizer's, "average/..." those of averaged weights, "best/..." the best
snapshot's, "loss/..." those of a loss (learned.kept_loss), "normalize/..." those of the preprocessing (prepared). The notes hold the position
(epoch, batch, steps), seed and draw, the running sums of the epoch, the history, and what the model is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from traceback import clear_frames
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files, random, warned
from ..arguments import array, figure, function, instance, integer, shown
from ..arguments import path as checked_path
from ..data import Resize
from ..data.dataset import checked_classes, checked_resize
from ..data.preprocessing import Preprocessing
from ..described import plural
from ..elsewhere import of_property
from ..exclusive import refuse_others
from ..nn import CrossEntropyLoss, Module
from ..nn.attributes import BESIDE
from ..other_names import told
from . import evaluation
from .architectures import architecture_of, build_for
from .confusion import Counts
from .evaluation import Data, Loss
from .history import History
from .inference import Inference
from .learned import kept_loss, with_loss
from .metrics import Metric, by_name
from .per_class import ClassReport, reported
from .precision import Forward
from .prepared import arrays_of, prepared_by, refuse_another
from .raw import remember, warn_of_lost
from .views import View

if TYPE_CHECKING:
    from .trainer import Trainer

_OPTIMIZER, _AVERAGE, _BEST, _LOSS, _ = BESIDE
_POSITION = ("epoch", "batch", "sums", "data", "generator", "history", "best", "normalize", "resize", "classes", "notes")


@dataclass
class Snapshot:
    """A copy of the model's arrays after `epoch` epochs, with its validation figures."""

    epoch: int
    accuracy: float
    loss: float
    arrays: dict[str, np.ndarray]

    def better_than(self, other: Snapshot | None) -> bool:
        """Higher accuracy, or the same at a lower loss; the earlier of equal ones stays. NaN is the worst of both."""
        return other is None or self._rank() > other._rank()

    def _rank(self) -> tuple[float, ...]:
        return tuple(-math.inf if math.isnan(figure) else figure for figure in (self.accuracy, -self.loss))


@dataclass
class Trained:
    """A model from a file, ready to predict: its classes, its preprocessing, the notes stored with it, and the rule by which an image file
    becomes its input (None when the file says nothing of it: trained on floats or features, or written by an early version)."""

    model: Module
    classes: tuple[str, ...] | None
    normalize: Preprocessing | None
    notes: dict[str, Any]
    resize: Resize | None = None
    inference: Inference = field(default_factory=Inference, repr=False, compare=False)

    def __getattr__(self, name: str) -> Any:
        here = "; .model is the net, in evaluation mode, and predict(images) gives probabilities" if hasattr(Module, name) else ""
        raise AttributeError(f"a Trained has no attribute {name!r}{of_property(self, name) or here}")

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        raise TypeError("a Trained is no net: predict(images) gives probabilities, .model(x) the net's outputs")

    @property
    def _forward(self) -> Forward:
        return Forward(self.model, inference=self.inference)

    def evaluate(self, data: Data, loss: Loss | None = None, metrics: Sequence[str | Metric] = ("accuracy",)) -> dict[str, float]:
        """Mean loss (cross-entropy by default) and metrics over a data set. ValueError when its classes are not the model's."""
        return self._evaluate("Trained.evaluate", data, loss, by_name(metrics))

    def report(self, data: Data, loss: Loss | None = None) -> ClassReport:
        """Confusion matrix, precision, recall and F1 of each class over what `evaluate` takes, by the same pass: see train.ClassReport. Labels that
        the loss ignores (its ignore_index) do not count."""
        return reported(partial(self._evaluate, "Trained.report", data, loss, by_name("accuracy")), self.classes)

    def _evaluate(
        self, what: str, data: Data, loss: Loss | None, metrics: Mapping[str, Metric], counts: Counts | None = None
    ) -> dict[str, float]:
        if loss is not None:
            function(what, "loss", loss, "a function of (logits, labels)")
        parts = (CrossEntropyLoss() if loss is None else loss, metrics, self.normalize)
        return evaluation.evaluate(self._forward, data, *parts, classes=self.classes, counts=counts)

    def predict(self, data: Any, *, views: Sequence[View] | None = None) -> np.ndarray:
        """Probabilities (N, classes) for an image file or a Pillow image, a list of them, a data set or an array of raw images.

        Files go through `resize`. views: of each image, over which probabilities are averaged, as in Trainer.predict. Raises ValueError naming the
        file that is no image, OSError for one that cannot be read.
        """
        return evaluation.predict(self._forward, data, self.normalize, self.resize, views)

    def top(self, probabilities: np.ndarray, k: int = 5) -> list[list[tuple[str, float]]]:
        """For each row of `predict` the k most probable classes, best first: (name, probability); numbers where there are no names."""
        return ranked("Trained.top", probabilities, self.classes, k)


def ranked(what: str, probabilities: Any, classes: Sequence[str] | None, k: int) -> list[list[tuple[str, float]]]:
    """The k most probable classes of each row of `predict`, best first."""
    probabilities = array(what, "probabilities", probabilities, "what predict gives")
    if probabilities.ndim != 2 or probabilities.dtype.kind != "f":
        given = f"shape {probabilities.shape} of {probabilities.dtype}"
        raise ValueError(f"{what}: probabilities must be what predict gives, (N, classes) of a float type, got {given}")
    integer(what, "k", k, 1)
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    names = [*(classes or ()), *map(str, range(len(classes or ()), probabilities.shape[1]))]
    return [[(names[c], float(row[c])) for c in chosen] for row, chosen in zip(probabilities, best)]


def save_model(
    path: str | os.PathLike[str],
    model: Module,
    *,
    architecture: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    normalize: Preprocessing | None = None,
    resize: Resize | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Writes the model's arrays and what is needed to use it: how to build it, its classes, its preprocessing, the rule for image files.

    architecture: {"name", **arguments of models.create}, known already of a model that models.create made. A net of one's own is built again
    by `load_model(path, model=MyNet())`, or from its name after `models.register("mynet", MyNet)`. ValueError when it does not describe the model;
    RuntimeError while another thread fits it.
    """
    checked_path("save_model", "path", path), instance("save_model", "model", model, Module, "a Module")
    refuse_others("save_model", "model", model)
    if notes is not None:
        instance("save_model", "notes", notes, Mapping, "a dict of what JSON can hold")
    if normalize is not None:
        instance("save_model", "normalize", normalize, Preprocessing, "a data.Normalize, MeanImage, PCA or ZCA")
    checked_resize("save_model", resize)
    warn_of_lost(model, normalize)
    classes = checked_classes("save_model", classes)
    with files.memory_for(path, "written"):
        about = _description(architecture_of(model, architecture), classes, normalize, resize)
        files.write(path, {**model.state_dict(), **arrays_of(normalize)}, {**about, "notes": dict(notes or {})})


@told({}, several="the net for its arrays is given by name: load_model(path, model=net)")
def load_model(path: str | os.PathLike[str], *, model: Module | None = None) -> Trained:
    """Builds the model of a file of save_model or of a checkpoint (its best snapshot, if it has one), in evaluation mode.

    model: the net to put the arrays into, for one that models.create cannot build. Raises ValueError, naming the file, when it is damaged,
    says no architecture, or does not fit the model; RuntimeError while another thread fits that.
    """
    checked_path("load_model", "path", path)
    if model is not None:
        instance("load_model", "model", model, Module, "a Module")
        refuse_others("load_model", "model", model)
    arrays, notes = files.read(path)
    with naming(path):
        _check_kinds(notes)
        classes, resize = notes.get("classes"), notes.get("resize")
        trained = Trained(
            model if model is not None else build_for(notes.get("architecture"), arrays),
            checked_classes("load_model", classes) or None,
            prepared_by(arrays, notes),
            notes.get("notes", {}),
            Resize(**resize) if resize else None,
        )
        state = model_state(arrays, notes)
        if model is None:
            trained.model.load_state_dict(state)
        else:
            _load_all([(model, state)])
    trained.model.eval()
    remember(trained.model, trained.normalize)
    return trained


def save_model_of(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """What the trainer's `save_model` writes: by rank 0, where several train together."""
    checked_path("save_model", "path", path)
    if trainer.stepping.writes:
        save_model(path, trainer.model, **about(trainer), notes=trainer.notes)


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Writes all that `load` needs to go on as if nothing had happened. RuntimeError while another thread fits the model: between its steps alone
    do weights, optimizer and position belong together."""
    checked_path("Trainer.save", "path", path)
    refuse_others("Trainer.save", "model", trainer.model)
    if trainer.stepping.under_way and trainer.stepping.accumulate > 1:
        raise RuntimeError(
            f"Trainer.save: some of the {trainer.stepping.accumulate} batches of a step are done; save behind it, in after_step"
        )
    if not trainer.stepping.writes:
        return
    _warn_of_unsaved(trainer)
    with files.memory_for(path, "written"):
        files.write(path, *contents(trainer))


def _warn_of_unsaved(trainer: Trainer) -> None:
    """Where something else is trained than parameters of the model and of the loss."""
    known = {id(p) for part in with_loss(trainer.model, trainer.loss) for _, p in part.named_parameters()}
    stepped = [p for leaf in trainer.optimizer._leaves() for p, count in zip(leaf._parameters, leaf._counts) if count]
    lost = [p for p in stepped if id(p) not in known]
    if lost:
        warned.warn(
            f"Trainer.save: the optimizer trains {plural(len(lost), 'parameter')} of neither the model nor the loss, the first of shape "
            f"{lost[0].shape}, which the file does not have: keep them in the model, or in a loss that is a nn.Module"
        )


def contents(trainer: Trainer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and notes of a checkpoint."""
    optimizer = trainer.optimizer.state_dict()
    steps = optimizer.pop("steps")
    arrays = {**trainer.model.state_dict(), **{_OPTIMIZER + k: v for k, v in optimizer.items()}, **arrays_of(trainer.normalize)}
    best, ema, loss = trainer.best, trainer.stepping.ema, kept_loss(trainer.loss)
    averages = ema.state_dict() if ema is not None else {}
    averaged = {count: averages.pop(count) for count in ("updates", "calls")} if averages else None
    arrays.update({_AVERAGE + k: v for k, v in averages.items()})
    if best is not None:
        arrays.update({_BEST + k: v for k, v in best.arrays.items()})
    if loss is not None:
        arrays.update({_LOSS + k: v for k, v in loss.state_dict().items()})
    notes = {
        **_description(**about(trainer)),
        "optimizer": trainer.optimizer.name,
        "averaged": averaged,
        "stepping": _stepping(trainer),
        "epochs": trainer.epochs,
        "epoch": trainer.epoch,
        "batch": trainer.batch,
        "steps": steps,
        "seed": trainer.generator.seed,
        "draw": trainer.generator.draw,
        "sums": trainer.sums,
        "data": trainer.data,
        "history": History(trainer.history.rows).rows,  # as `load` will check them
        "best": None if best is None else {"epoch": best.epoch, "accuracy": best.accuracy, "loss": best.loss},
        "notes": trainer.notes,
    }
    return arrays, notes


def load(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Puts the trainer where the saved one stood. ValueError names the file and what does not fit; the trainer is unchanged then."""
    checked_path("fit", "resume", path)
    arrays, notes = files.read(path)
    with naming(path):
        _check_kinds(notes, _TRAINING)
        _check_same(trainer, notes)
        refuse_another(prepared_by(arrays, notes), trainer.normalize)
        apply = _position(trainer, arrays, notes)
        parts: list[tuple[Any, dict[str, Any]]] = [(trainer.model, _model_arrays(arrays))]  # first: another model's optimizer fits neither
        parts.append((trainer.optimizer, {"steps": notes["steps"], **below(_OPTIMIZER, arrays)}))
        parts += _loss_part(trainer, below(_LOSS, arrays))
        if trainer.stepping.ema is not None:
            parts.append((trainer.stepping.ema, {**notes["averaged"], **below(_AVERAGE, arrays)}))
        _load_all([*parts, (_Position(trainer), apply)])


def _loss_part(trainer: Trainer, arrays: dict[str, np.ndarray]) -> list[tuple[Any, dict[str, Any]]]:
    loss = kept_loss(trainer.loss)
    if (loss is None) == bool(arrays):
        made, has = ("with", "none") if arrays else ("without", "some")
        raise ValueError(f"made {made} tensors of the loss; the loss of the trainer has {has}")
    return [] if loss is None else [(loss, arrays)]


class _Position:
    """The trainer's own attributes, as a part of what is loaded."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def _as_it_is(self) -> Callable[[], None]:
        return partial(self.load_state_dict, {name: getattr(self._trainer, name) for name in _POSITION})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self._trainer, name, value)


def _load_all(parts: list[tuple[Any, dict[str, Any]]]) -> None:
    """Each part's state, or, when one does not fit or there is no memory, none."""
    before = [partial(part.load_state_dict, part.state_dict()) if isinstance(part, Module) else part._as_it_is() for part, _ in parts]
    try:
        for part, state in parts:
            part.load_state_dict(state)
    except BaseException as error:
        clear_frames(error.__traceback__)  # what was made of the new states
        for put_back in reversed(before):
            put_back()
        raise


def _check_same(trainer: Trainer, notes: Mapping[str, Any]) -> None:
    own, ema = trainer.optimizer.name, trainer.stepping.ema
    classes, known = notes.get("classes"), trainer.classes
    if classes and known and tuple(classes) != known:
        raise ValueError(f"made with the classes {', '.join(classes)}; the trainer has {', '.join(known)}")
    if notes["optimizer"] != own:
        raise ValueError(f"made with the optimizer {notes['optimizer']}; the trainer has {own}")
    if (notes.get("averaged") is None) != (ema is None):
        raise ValueError(f"made {_with(notes.get('averaged') is not None)}; the trainer is {_with(ema is not None)}")
    for saved, has in zip(notes.get("stepping", ()), _stepping(trainer)):  # a file of an early version does not say it
        if saved != has:
            raise ValueError(f"made with {saved}; the trainer has {has}")


def _position(trainer: Trainer, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> dict[str, Any]:
    """The trainer's attributes as the file has them, all of them checked before one is changed."""
    generator, best = random.Generator(notes["seed"]), notes["best"]
    generator.draw = integer("Trainer", "draw", notes["draw"], 0, 2**48)
    return {
        "epoch": integer("Trainer", "epoch", notes["epoch"], 0),
        **_within_epoch(notes["batch"], notes["sums"], notes["data"]),
        "generator": generator,
        "history": History(notes["history"]),
        "best": None if best is None else _snapshot(below(_BEST, arrays), **best),
        "normalize": prepared_by(arrays, notes) or trainer.normalize,
        "resize": Resize(**notes["resize"]) if notes.get("resize") else trainer.resize,
        "classes": checked_classes("Trainer", notes.get("classes")) or trainer.classes,
        "notes": notes["notes"],
    }


def _within_epoch(batch: int, sums: dict[str, float], data: dict[str, int]) -> dict[str, Any]:
    for name, value in sums.items():
        figure("sums", name, value)
    for name in ("samples", "batch_size") if data or batch else ():
        integer("data", name, data.get(name), 1)
    if not 0 <= batch <= -(-data.get("samples", 0) // data.get("batch_size", 1)) or (batch and not sums.get("samples")):
        raise ValueError(f"its batch is {batch}, its sums {shown(sums)}, its data {shown(data)}: no place within an epoch")
    return {"batch": batch, "sums": sums, "data": data}


def _snapshot(arrays: dict[str, np.ndarray], epoch: Any, accuracy: Any, loss: Any) -> Snapshot:
    return Snapshot(integer("best", "epoch", epoch, 0), figure("best", "accuracy", accuracy), figure("best", "loss", loss), arrays)


_TRAINING = ("optimizer", "epochs", "epoch", "batch", "steps", "seed", "draw", "sums", "data", "history", "best", "normalize", "notes")
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("epochs", "epoch", "batch", "steps", "seed", "draw"), (int,)),
    **dict.fromkeys(("architecture", "normalize", "resize", "averaged", "best"), (dict, type(None))),
    **dict.fromkeys(("sums", "data", "notes"), (dict,)),
    **dict.fromkeys(("history", "stepping"), (list,)),
    "classes": (list, type(None)),
    "optimizer": (str,),
}


def _check_kinds(notes: Mapping[str, Any], needed: Sequence[str] = ()) -> None:
    if needed and "epoch" not in notes:
        raise ValueError("holds a model, not a checkpoint of a training")
    check_kinds(notes, _KINDS, needed)


def check_kinds(notes: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]], needed: Sequence[str]) -> None:
    """What the notes of a file say is of the kinds that are written. ValueError for another, and for what is missing."""
    missing = [name for name in needed if name not in notes]
    if missing:
        raise ValueError(f"does not say its {', '.join(missing)}; written by another program")
    for name, types in kinds.items():
        if name in notes and type(notes[name]) not in types:
            raise ValueError(f"its {name} is {shown(notes[name])}; written by another program")


def notes_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The notes of a checkpoint. ValueError, naming the file, when it is none."""
    notes = files.read(path)[1]
    with naming(path):
        _check_kinds(notes, _TRAINING)
    return notes


def about(trainer: Trainer) -> dict[str, Any]:
    """What the trainer knows about its model, as save_model takes it."""
    return {name: getattr(trainer, name) for name in ("architecture", "classes", "normalize", "resize")}


def _description(architecture: Any, classes: Any, normalize: Preprocessing | None, resize: Resize | None) -> dict[str, Any]:
    return {
        "architecture": dict(architecture) if architecture else None,
        "classes": list(classes) if classes else None,
        "normalize": normalize.state() if normalize else None,
        "resize": resize.state() if resize else None,
    }


def below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}


def model_state(arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The model of a file: the best snapshot of a checkpoint that has one, or its averaged weights, or the weights."""
    begun = (notes.get("averaged") or {}).get("updates")  # before its first update an average holds the initial weights
    return below(_BEST, arrays) or {**_model_arrays(arrays), **(below(_AVERAGE, arrays) if begun else {})}


def _model_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: a for name, a in arrays.items() if not name.startswith(BESIDE)}


def _stepping(trainer: Trainer) -> list[str]:
    """What must be the same when training goes on, in words."""
    return [f"accumulate={trainer.stepping.accumulate}", repr(trainer.stepping.ema), f"precision={trainer.precision!r}"]


def _with(averages: bool) -> str:
    return "with averaged weights (ema)" if averages else "without averaged weights (ema)"


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the file's name in front of an error's message: whatever is of a wrong type came from there. For want of memory OutOfMemoryError."""
    try:
        with files.memory_for(path, "loaded"):
            yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
