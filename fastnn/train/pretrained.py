"""Weights of somebody's training put into a network: PyTorch's and torchvision's names and shapes, from a file or a dict."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import files
from ..arguments import array, flag, instance, shown
from ..arguments import path as checked_path
from ..data.preprocessing import Preprocessing
from ..described import plural
from ..exclusive import refuse_others
from ..nn import Module
from ..nn.errors import checked_state, unfit
from ..warned import warn
from . import torch_file
from .checkpoint import check_kinds, model_state, naming
from .heads import last_layer
from .prepared import prepared_by
from .raw import remember

_WHAT = "load_pretrained"


class Loaded(NamedTuple):
    """What `load_pretrained` found, by the model's names: loaded; missing in the source; of another shape there (mismatched); and the source's
    names that the model has not (unexpected). Printed, it is one sentence."""

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]

    def __str__(self) -> str:
        rest = [
            f"{_few(keys)} {words}"
            for keys, words in (
                (self.missing, "not in the file: as initialised"),
                (self.mismatched, "of another shape there: as initialised"),
                (self.unexpected, "in the file alone: left out"),
            )
            if keys
        ]
        return "; ".join([f"{plural(len(self.loaded), 'array')} loaded", *rest])


def load_pretrained(model: Module, source: str | os.PathLike[str] | Mapping[str, Any], *, strict: bool = True) -> Loaded:
    """Puts pretrained weights into a model, in place, and says what became of each name; nothing is downloaded.

        model = models.create("resnet18", input_shape=(3, 224, 224), num_classes=1000)
        print(train.load_pretrained(model, "resnet18-f37072fd.pth"))      # torchvision's file: names and shapes are the same
        train.replace_head(model, 2)

    source: a safetensors file of anybody's; a file of torch.save(model.state_dict()), old and new form, also where the dict lies in a checkpoint as
    "state_dict", "model" or the like: it is read without PyTorch and nothing in it is run; a file of save_model or a checkpoint of the Trainer (its
    best snapshot), whose preprocessing `features`, `transfer` and `predict` of an Ensemble then know; or a dict of arrays by name (numpy,
    Tensors, PyTorch tensors). A first word that all names have and the model has not ("module." of DataParallel) is left out.

    strict: everything must be there and fit except the last layer, which may be missing or have other classes: then it stays as initialised, and is to be
    trained. strict=False takes what fits, warns of the rest, and refuses a source of which less than half of the model's arrays come.
    ValueError names what is missing, unexpected or of another shape, and what to do; nothing is changed then. RuntimeError while another
    thread fits the model. Files of others do not say how images are prepared: give `normalize` where the model is used, for torchvision's
    ImageNet weights of bytes data.Normalize([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]).
    """
    instance(_WHAT, "model", model, Module, "a Module")
    flag(_WHAT, "strict", strict)
    refuse_others(_WHAT, "model", model)
    if isinstance(source, Mapping):
        state = {
            str(k): array(_WHAT, f"source[{k!r}]", v) for k, v in source.items() if instance(_WHAT, "a name in source", k, str, "a str")
        }
        return _put(model, _own_names(model, state), strict, "source")
    if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
        raise TypeError(f"{_WHAT}: source must be a path or a dict of arrays by name, got {shown(source)}")
    path = checked_path(_WHAT, "source", source)
    state, _, prepared = read_weights(path)
    with naming(path):
        found = _put(model, _own_names(model, state), strict, "the file")
    if prepared is not None:
        remember(model, prepared)
    return found


def read_weights(path: str) -> tuple[dict[str, np.ndarray], dict[str, Any], Preprocessing | None]:
    """A model's arrays by name, of a file of torch.save or of safetensors; its notes and how images are prepared, which fastnn's own files have.
    CorruptFile, OSError."""
    if torch_file.is_torch(path):
        return torch_file.read(path), {}, None
    arrays, notes = files.read(path)
    with naming(path):
        check_kinds(notes, {name: (dict, type(None)) for name in ("architecture", "normalize", "resize", "averaged", "best")}, ())
        return (model_state(arrays, notes) if "architecture" in notes else arrays), notes, prepared_by(arrays, notes)


def _own_names(model: Module, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without first words that all names have and none of the model's: "module.", "model.", "_orig_mod."."""
    own = model._state()
    while state and not any(key in own for key in state):
        words = {key.partition(".")[0] for key in state}
        shorter = {key.partition(".")[2]: value for key, value in state.items()}
        if len(words) != 1 or "" in shorter:
            break
        state = shorter
    return state


def _put(model: Module, state: dict[str, np.ndarray], strict: bool, source: str) -> Loaded:
    own, state = model._state(), dict(checked_state(model, state))
    counts = [key for key in own if key.endswith("num_batches_tracked")]  # which old files lack
    loaded = [key for key in own if key in state and state[key].shape == own[key].shape]
    if wrong := [text for key in loaded for text in unfit(key, state[key], own[key])]:
        raise ValueError(f"{_WHAT}: {source}: {'; '.join(wrong[:5])}")
    found = Loaded(
        loaded,
        [key for key in own if key not in state and key not in counts],
        sorted(key for key in state if key not in own),
        [key for key in own if key in state and state[key].shape != own[key].shape],
    )
    _refuse_others(model, own, state, found, strict, source, len(own) - len(counts))
    model.load_state_dict({key: state[key] for key in loaded}, strict=False)
    return found


def _refuse_others(
    model: Module, own: Mapping[str, Any], state: Mapping[str, Any], found: Loaded, strict: bool, source: str, count: int
) -> None:
    """ValueError for the weights of another network; where not strict, a warning of what does not fit, but for the last layer."""
    kind = type(model).__name__
    first = f"{source} has names such as {_few(list(state), 2)}; the model ({kind}) {_few(list(own), 2)}"
    if not found.loaded:
        raise ValueError(f"{_WHAT}: of {source} nothing fits the model: {first}; expected weights of the same network, by PyTorch's names")
    try:
        head = last_layer(_WHAT, model)[0] + "."
    except ValueError:
        head = "\0"  # of no name
    shapes = [f"{key} has shape {state[key].shape}, expected {own[key].shape}" for key in found.mismatched if not key.startswith(head)]
    missing = [key for key in found.missing if not key.startswith(head)]
    problems = shapes[:5] + ([f"... and {len(shapes) - 5} more"] if shapes[5:] else [])
    problems += [f"missing {_few(missing)}"] if missing else []
    problems += [f"unexpected {_few(found.unexpected)}"] if found.unexpected else []
    if not problems:
        return
    hint = _hint(shapes, own, state)
    if strict:
        raise ValueError(
            f"{_WHAT}: {source} is not of this network ({kind}): {'; '.join(problems)}{hint}; strict=False takes what fits, and leaves the rest as "
            "initialised"
        )
    fitting = len([key for key in found.loaded if not key.endswith("num_batches_tracked")])
    if 2 * fitting < count:
        raise ValueError(
            f"{_WHAT}: of the model's {count} arrays only {fitting} fit {source}; expected half at least, or it is another network: "
            f"{'; '.join(problems)}{hint}"
        )
    warn(f"{_WHAT}: {'; '.join(problems)}: what is not loaded stays as initialised, and is to be trained{hint}")


def _hint(shapes: list[str], own: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """For the first weight of all, what its channels say."""
    name = next((key for key in own if len(own[key].shape) == 4), None)
    if not shapes or name is None or name not in state or state[name].shape == own[name].shape:
        return ""
    here, there = own[name].shape, state[name].shape
    if len(there) == 4 and here[0] == there[0] and here[2:] == there[2:]:
        return f"; it was trained on images of {plural(there[1], 'channel')}: make the model, and the images, of as many"
    return ""


def _few(names: list[str], most: int = 4) -> str:
    return f"{', '.join(names[:most])}{f' and {len(names) - most} more' if len(names) > most else ''}" or "none"
