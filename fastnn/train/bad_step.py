"""A step whose loss or gradient is no number: repeated op by op from the state before it, explained, and written to a file that repeats it."""

from __future__ import annotations

import os
import platform
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C, __version__, devices, files, nn, random
from ..arguments import figure, function, instance, integer, one_of, shown
from ..arguments import path as checked_path
from ..data import Loader
from ..nn import Module, Penalty
from ..tensor import Tensor, tensor
from . import checkpoint
from .architectures import build_for
from .callbacks import ModelCheckpoint
from .diverged import Diverged, why_diverged
from .evaluation import Loss, device_of
from .learned import buffers_of
from .op_by_op import Finding, Part, Watch, run
from .precision import Forward, checked_precision

if TYPE_CHECKING:
    from .trainer import Trainer

MOST_STATE = 256 << 20  # bytes of parameters and buffers that the file takes along

_MODEL, _LOSS, _BATCH, _TAKEN = "model/", "loss/", "batch/", "op/"


def explained(trainer: Trainer, loader: Loader | None, parts: Sequence[Part], error: Diverged) -> Diverged:
    """The same with what the repeated step shows. The trainer's generator must stand where it stood before the step; the model is left
    as it was, gradients are forgotten."""
    if not parts:
        return error
    buffers = [(*place, np.array(place[-1].numpy())) for place in buffers_of(trainer)]
    drawn = trainer.generator.draw
    watch = Watch(trainer.model)
    failed = ""
    try:
        run(watch, trainer.model, trainer.forward, trainer.objective, parts)
    except Exception as other:  # after a value that is no number a net of one's own may raise anything
        failed = f"; then {type(other).__name__} was raised: {other}"
    trainer.generator.draw = drawn
    for there, name, buffer, before in buffers:
        there[name] = buffer
        buffer.copy_from(before)
    trainer.optimizer.zero_grad()
    samples = _positions(loader, trainer, len(parts))
    found = watch.found
    partner = _partner(trainer, loader, parts, found, samples)
    told = _told(found, samples, loader, partner) if found is not None else "every value is finite: the step does not repeat itself"
    # again: while a replayed step runs, the optimizer's counts are those after it
    message = why_diverged(trainer, error.loss) if error.loss is not None else str(error)
    file, kept = _written(trainer, parts, watch, samples, message)
    explained = Diverged(f"{message}. Repeated op by op: {told}{failed}. {kept}", loss=error.loss, norm=error.norm)
    explained.found, explained.samples, explained.file = found, samples, file
    return explained


def reproduce(
    path: str | os.PathLike[str], *, model: Module | None = None, loss: Loss | None = None, device: str | None = None
) -> Finding | None:
    """Repeats the step of a file that Diverged names, op by op, from the state before it; returns the first value that is no number.

    model, loss: needed where the file does not say how to build them (a net, a loss of one's own); the model then holds that state.
    device: another than the training's. ValueError, naming the file, when it is of another kind, or holds the inputs of the operation alone
    because the state was too large.
    """
    name, (arrays, notes) = checked_path("reproduce", "path", path), _read(path)
    own = model is not None or loss is not None
    if model is not None:
        instance("reproduce", "model", model, Module, "a Module")
    if loss is not None:
        function("reproduce", "loss", loss, "a function of (logits, labels)")
    if device is not None:
        devices.resolve(device)
    if not notes["state"]:
        raise ValueError(
            f"{name}: the state was too large for it; it holds the batch and what the operation took in ({_TAKEN}...): "
            "fastnn.files.read gives these arrays"
        )
    with checkpoint.naming(path):
        model = model if model is not None else build_for(notes["architecture"], arrays)
        model.load_state_dict(checkpoint.below(_MODEL, arrays))
        tensors = checkpoint.below(_LOSS, arrays)
        if isinstance(loss, Module) and notes["loss"] is None:
            loss.load_state_dict(tensors)
        loss = loss if loss is not None else _loss_from(notes["loss"], tensors)
        model.to(notes["device"] if device is None else device)
        for key, module in model.named_modules():
            module.__dict__["training"] = key not in notes["evaluating"]
        for key, p in model.named_parameters():
            p.requires_grad = key not in notes["frozen"]
        penalty = Penalty(model, l1=notes["l1"], l2=notes["l2"]) if notes["l1"] or notes["l2"] else None
        generator, where = random.Generator(notes["seed"]), device_of(model)
        generator.draw = integer("reproduce", "draw", notes["draw"], 0, 2**48)
        parts = [_part(arrays, i, share, where) for i, share in enumerate(notes["shares"])]
        precision = checked_precision(notes["precision"], where)
        one_of("reproduce", "products", notes["products"], ("highest", "high", "medium"))

    def objective(logits: Tensor, labels: Tensor, penalised: float) -> Tensor:
        value: Tensor = loss(logits, labels)
        return value if penalty is None else value + penalty() * penalised

    watch, products = Watch(model), _C.get_precision()
    _C.set_precision(notes["products"])
    try:
        with files.memory_for(path, "repeated"), random.using(generator):
            run(watch, model, Forward(model, precision), objective, parts)
    except Exception as error:  # as in the training, see explained
        if watch.found is None and (own or isinstance(error, MemoryError)):
            raise
        if watch.found is None:  # model, loss and batch are all the file's
            raise ValueError(
                f"{name}: its step cannot be repeated ({files._short(error)}); expected a file as Diverged names it"
            ) from error
    finally:
        _C.set_precision(products)
    return watch.found


def _part(arrays: Mapping[str, np.ndarray], i: int, share: Any, where: str) -> Part:
    x, labels = (arrays.get(f"{_BATCH}{i}/{name}") for name in ("x", "labels"))
    if x is None or labels is None or not isinstance(share, list) or len(share) != 2:
        raise ValueError(f"holds no batch {i}; written by another program")
    part = None if share[0] is None else figure("reproduce", "share", share[0])
    return tensor(x, device=where), tensor(labels), part, figure("reproduce", "penalised", share[1])


def recorded(path: str | os.PathLike[str]) -> tuple[str, dict[str, Any] | None]:
    """What such a file says: the message of then, and the finding (Finding.state), None where the repeated step was finite."""
    notes = _read(path)[1]
    return notes["message"], notes["bad_step"]


# --- what is said


def _positions(loader: Loader | None, trainer: Trainer, batches: int) -> np.ndarray | None:
    """Of the step's samples, in the training set."""
    if loader is None:
        return None
    bounds = loader.bounds()
    first, last = trainer.batch, min(trainer.batch + batches, len(bounds) - 1)
    return loader.order(trainer.epoch)[bounds[first] : bounds[last]]


def _told(found: Finding, samples: np.ndarray | None, loader: Loader | None, partner: str) -> str:
    if found.sample is None or samples is None or loader is None or found.sample >= len(samples):
        return str(found)
    position = int(samples[found.sample])
    rows, paths = loader.dataset._rows, getattr(getattr(loader.dataset, "_source", None), "paths", None)
    row = position if rows is None else int(rows[position])
    file = f", {os.fspath(paths[row])}" if paths is not None and row < len(paths) and isinstance(paths[row], (str, os.PathLike)) else ""
    if found.bad == found.samples > 1:
        return f"{found}, as in all {found.samples} samples of the batch"
    others = f" and {found.bad - 1} more of the batch" if found.bad > 1 else ""
    part = f" (number {row} of the set that it is a part of)" if rows is not None and row != position else ""
    return f"{found}, in sample {position} of the training set{part}{file}{partner}{others}"


def _partner(trainer: Trainer, loader: Loader | None, parts: Sequence[Part], found: Finding | None, samples: np.ndarray | None) -> str:
    """What else may be to blame: with a Loader's `mix` each sample has something of another one."""
    mixing = None if loader is None else loader.mixing(trainer.epoch)
    if mixing is None or samples is None or found is None or found.sample is None:
        return ""
    first = 0
    for x, *_ in parts:
        own = samples[first : first + x.shape[0]]
        if first <= found.sample < first + len(own):
            mixture = mixing.of(own, x.shape[1:])
            other = int(own[mixture.partners[found.sample - first]])
            return f", mixed with sample {other}" if mixture.share < 1 and other != samples[found.sample] else ""
        first += len(own)
    return ""


# --- the file


def _written(trainer: Trainer, parts: Sequence[Part], watch: Watch, samples: np.ndarray | None, message: str) -> tuple[str | None, str]:
    """Where it lies, and the sentence that says so."""
    try:
        path = _place(trainer)
        arrays, notes = _contents(trainer, parts, watch, samples, message)
        files.write(path, arrays, notes)
    except (OSError, MemoryError, TypeError, ValueError) as error:  # what diverged is the news, not that
        return None, f"The file that repeats it could not be written: {error}"
    if not notes["state"]:
        return path, f"{path} holds the batch and what the operation took in, not the state, which is large"
    if notes["architecture"] and notes["loss"]:
        return path, f"fastnn reproduce {path} repeats it"
    missing = ", ".join(([] if notes["architecture"] else ["model=MyNet()"]) + ([] if notes["loss"] else ["loss=my_loss"]))
    return path, f"fastnn.train.reproduce({path!r}, {missing}) repeats it"


def _place(trainer: Trainer) -> str:
    """Beside the checkpoint; without one among the system's temporary files."""
    saved = next((os.fspath(c.path) for c in trainer._callbacks if isinstance(c, ModelCheckpoint)), None)
    if saved is not None:
        return os.path.join(os.path.dirname(saved), "bad-step.safetensors")
    return os.path.join(_own_folder(), f"bad-step-{threading.get_native_id()}.safetensors")


_OWN: dict[str, str] = {}  # below each place for temporary files that was set


def _own_folder() -> str:
    """This process's among the temporary files, where nobody else may write: a name that can be foreseen there may be another one's link to a
    file of ours. One for all, so that trainings that diverge one after the other do not fill the disk."""
    place = tempfile.gettempdir()
    if not os.path.isdir(_OWN.get(place, "")):
        _OWN[place] = tempfile.mkdtemp(prefix="fastnn-", dir=place)
    return _OWN[place]


def _contents(
    trainer: Trainer, parts: Sequence[Part], watch: Watch, samples: np.ndarray | None, message: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    model = trainer.model
    arrays: dict[str, Any] = {}
    for i, (x, labels, _, _) in enumerate(parts):
        arrays[f"{_BATCH}{i}/x"], arrays[f"{_BATCH}{i}/labels"] = x, labels
    if samples is not None:
        arrays["samples"] = samples
    state, (loss, weights) = model._state(), _loss_state(trainer.loss)
    whole = sum(a._array.nbytes for a in (*state.values(), *weights.values())) <= MOST_STATE
    if whole:
        arrays.update({_MODEL + name: a for name, a in state.items()})
    elif sum(a.nbytes for a in watch.inputs.values()) <= MOST_STATE:
        arrays.update({_TAKEN + name: a for name, a in watch.inputs.items()})
    if whole or loss is not None:
        arrays.update({_LOSS + name: a for name, a in weights.items()})
    penalty = trainer.penalty
    notes = {
        "bad_step": None if watch.found is None else watch.found.state(),
        "message": message,
        "state": whole,
        "epoch": trainer.epoch,
        "batch": trainer.batch,
        "steps": trainer.optimizer.steps,
        "optimizer": trainer.optimizer.name,
        "rate": trainer.optimizer.rates()[0],
        "seed": trainer.generator.seed,
        "draw": trainer.generator.draw,
        "shares": [[share, penalised] for _, _, share, penalised in parts],
        "architecture": dict(trainer.architecture) if trainer.architecture else None,
        "loss": loss,
        "l1": 0.0 if penalty is None else penalty.l1,
        "l2": 0.0 if penalty is None else penalty.l2,
        "precision": trainer.precision,
        "products": _C.get_precision(),
        "device": trainer.device,
        "evaluating": [name for name, module in model.named_modules() if not module.training],
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "versions": {"fastnn": __version__, "numpy": np.__version__, "python": platform.python_version(), "isa": _C.isa()},
    }
    return arrays, notes


def _loss_state(loss: Loss) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """What builds a loss of the library again, or None for one of somebody's own; and its tensors."""
    kind, own = type(loss), dict(loss._state()) if isinstance(loss, Module) else {}
    if not isinstance(loss, Module) or getattr(nn, kind.__name__, None) is not kind or loss._modules or loss._parameters:
        return None, own
    settings = {name: value for name, value in vars(loss).items() if name[0] != "_"}
    if not all(isinstance(value, (bool, int, float, str, type(None))) for value in settings.values()):
        return None, own
    weights = {name: value for name, value in loss._buffers.items() if value is not None}
    return {"class": kind.__name__, "settings": settings, "absent": [name for name in loss._buffers if name not in weights]}, weights


def _loss_from(about: Mapping[str, Any] | None, weights: Mapping[str, np.ndarray]) -> Loss:
    if about is None:
        raise ValueError("its loss is not the library's: give it, reproduce(path, loss=...)")
    kind, settings, absent = getattr(nn, str(about.get("class")), None), about.get("settings"), about.get("absent")
    if not isinstance(kind, type) or not issubclass(kind, Module) or not isinstance(settings, dict) or not isinstance(absent, list):
        raise ValueError(f"its loss is {shown(about.get('class'))}, none that the library writes")
    wrong = [name for name in settings if name.startswith("_") or callable(getattr(kind, name, None))]
    if wrong:
        raise ValueError(f"its loss has the setting {wrong[0][:80]}, which {kind.__name__} has not")
    loss: Module = kind.__new__(kind)
    Module.__init__(loss)
    loss.__dict__.update(settings)
    for name in absent:
        loss.register_buffer(name, None)
    for name, values in weights.items():
        loss.register_buffer(name, tensor(values))
    return loss


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, notes = files.read(path)
    if "bad_step" not in notes:
        raise ValueError(f"{os.fspath(path)}: is no file of a bad step; Diverged names such files")
    with checkpoint.naming(path):
        checkpoint.check_kinds(notes, _KINDS, list(_KINDS))
    return arrays, notes


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("bad_step", "architecture", "loss"), (dict, type(None))),
    **dict.fromkeys(("message", "precision", "products", "device"), (str,)),
    **dict.fromkeys(("shares", "evaluating", "frozen"), (list,)),
    **dict.fromkeys(("l1", "l2"), (int, float)),
    **dict.fromkeys(("seed", "draw"), (int,)),
    "state": (bool,),
}
