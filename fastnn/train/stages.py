"""The stages of a network, from the input to the output: what is frozen or trained together, and where its features are taken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from os.path import commonprefix
from threading import get_ident
from typing import Any

import numpy as np

from ..arguments import instance
from ..exclusive import refuse_others
from ..models.checks import image_shape
from ..nn import Linear, Module, ModuleList, Sequential
from ..nn.attributes import refuse_unmade
from ..nn.module import HookHandle
from ..tensor import Tensor, no_grad, tensor
from ..turns import by_turns, switched
from .heads import last_layer

_TRANSPARENT = (Sequential, ModuleList)  # which do no more than hold others


@dataclass(frozen=True)
class Stage:
    """A run of layers whose outputs have one size, or one hidden Linear.

    name: how it is called, after its parts: "layer3". parts: names of the modules that have parameters or statistics, as `freeze` and the factors
    of `optim.groups` take them. layer: the name of the layer whose output is the stage's, as `features` takes it; shape: of that output, without
    the batch."""

    name: str
    parts: tuple[str, ...]
    layer: str
    shape: tuple[int, ...]


def stages(model: Module, input_shape: tuple[int, ...] | None = None) -> list[Stage]:
    """Cuts a network into stages, from the input to the output, without the last layer (see `replace_head`).

        [stage.name for stage in train.stages(models.create("resnet18", input_shape=(3, 64, 64)))]
        # ['conv1, bn1', 'layer1', 'layer2', 'layer3', 'layer4']

    Layers that give maps of one size are one stage (as Lin et al., "Feature pyramid networks for object detection", 2017, section 3), a hidden
    Linear is one by itself; pools, activations and dropout belong to the stage in front of them. Sequentials are looked into, any other
    module of the model's is a layer. One sample of zeros of input_shape (C, H, W), by default that of models.create, is run in evaluation mode.
    ValueError without a shape, or for a model that has no last layer; RuntimeError while another thread fits the model.
    """
    instance("stages", "model", model, Module, "a Module")
    refuse_unmade("stages", model)
    shape = (getattr(model, "architecture", None) or {}).get("input_shape") if input_shape is None else input_shape
    if shape is None:
        raise ValueError(
            "stages: input_shape must be the shape of one image, as (3, 224, 224): the model, not made by models.create, does not say it"
        )
    sizes = image_shape("stages", "input_shape", shape, of_any_rank=True)
    head = last_layer("stages", model)[0]
    units = dict(_units(model))
    seen = _run(model, units, sizes)
    runs: list[list[str]] = []
    now: tuple[int, ...] | None = None
    for name, given in seen.items():
        if name == head or head.startswith(f"{name}."):
            break
        if learns(units[name]) and (now is None or isinstance(units[name], Linear) or given[1:] != now):
            runs, now = [*runs, []], given[1:]
        if runs:
            runs[-1].append(name)
    return [_stage(model, run, seen) for run in runs]


def _units(model: Module, prefix: str = "") -> list[tuple[str, Module]]:
    """The layers, by their dotted names: children, and those of Sequentials in their place."""
    found = []
    for name, child in model.named_children():
        inside = _units(child, f"{prefix}{name}.") if isinstance(child, _TRANSPARENT) else []
        found += inside or [(prefix + name, child)]
    return found


def _run(model: Module, units: dict[str, Module], sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape that each layer gives first, in the order of the calls."""
    seen: dict[str, tuple[int, ...]] = {}
    handles: list[HookHandle] = []
    here = get_ident()

    def watch(name: str, layer: Module) -> HookHandle:
        def note(_: Module, args: tuple[Any, ...], output: Any) -> None:
            if get_ident() == here and isinstance(output, Tensor):
                seen.setdefault(name, output.shape[1:])

        return layer.register_forward_hook(note)

    try:
        refuse = partial(refuse_others, "stages", "model", model)
        with by_turns(id(model), "evaluation", partial(switched, model, False), refuse), no_grad():
            handles.extend(watch(name, layer) for name, layer in units.items())
            dtype, device = next(((p.dtype, p.device) for _, p in model.named_parameters()), ("float32", "cpu"))
            try:
                model(tensor(np.zeros((1, *sizes)), dtype, device=device))
            except ValueError as error:
                raise ValueError(
                    f"stages: input_shape {sizes} does not go through the model ({error}); expected the shape of its images"
                ) from error
    finally:
        for handle in handles:
            handle.remove()
    return seen


def learns(module: Module) -> bool:
    """Whether it has parameters or statistics."""
    return bool(module._state())


def _stage(model: Module, run: list[str], seen: dict[str, tuple[int, ...]]) -> Stage:
    parts = _whole(model, run)
    maps = [name for name in run if len(seen[name]) == len(seen[run[0]])]  # a Flatten behind maps belongs to them, but gives none
    prefix = commonprefix([name.split(".")[:-1] for name in parts])
    short = [name.split(".", len(prefix))[-1] for name in parts]
    label = ", ".join(short) if len(parts) < 4 else f"{short[0]} ... {short[-1]}"
    return Stage(".".join([*prefix, label]), tuple(parts), maps[-1], seen[maps[-1]])


def _whole(model: Module, run: list[str]) -> list[str]:
    """Those that learn, and a Sequential's own name in place of all of its."""
    named = dict(model.named_modules())
    parts = [name for name in run if learns(named[name])]
    for name, module in reversed(list(named.items())):
        inside = [f"{name}.{child}" for child, below in module.named_children() if learns(below)]
        if name and isinstance(module, _TRANSPARENT) and inside and all(child in parts for child in inside):
            at = parts.index(inside[0])
            parts = [part for part in parts if part not in inside]
            parts.insert(at, name)
    return parts
