"""Parameter groups of a model: no decay on biases and norms, rates by name and by depth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import instance, items, number, shown, text
from ..nn import GroupNorm, InstanceNorm2d, LayerNorm, Module, Parameter
from ..nn.batchnorm import _BatchNorm
from .schedules import checked_rate, scaled

_NORMS = (_BatchNorm, GroupNorm, InstanceNorm2d, LayerNorm)
_NORM = re.compile(r"(?<!Weight)(?<!Spectral)Norm(?![a-z])")  # of activations: neither Normalized nor WeightNorm


def groups(
    model: Module,
    *,
    weight_decay: float | None = None,
    no_decay: Sequence[str] = ("bias", "norm"),
    lr: Any = None,
    factors: Mapping[str, float] | None = None,
    depth_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups for any optimizer: SGD(groups(model, weight_decay=5e-4), 0.1). Frozen parameters (requires_grad False) are left out.

    no_decay: these get weight_decay 0. "bias" stands for every bias, "norm" for every parameter of a normalisation layer: the library's, and
    modules of your own that hold no others and are called so, RMSNorm; anything else for a name (see below). The others get `weight_decay`, or
    without it the optimizer's.
    factors: {name: factor} multiplies `lr` (a number or a schedule; needed then) for parameters whose dotted name is that or lies below it:
    {"features": 0.1}; the longest name that fits counts. depth_factor: another factor for each child of the model that stands between a
    parameter and the output: 0.5 halves the rate from child to child towards the input (Howard, Ruder 2018). ValueError for a name that
    fits nothing.
    """
    instance("groups", "model", model, Module, "a Module")
    if isinstance(no_decay, str):
        raise TypeError(f"groups: no_decay must be several names, got {no_decay!r}; one is [{no_decay!r}]")
    no_decay = [text("groups", "no_decay", word, "for each name") for word in items("groups", "no_decay", no_decay, "several names")]
    if lr is not None:
        checked_rate("groups", "lr", lr)
    if weight_decay is not None:
        number("groups", "weight_decay", weight_decay, "[0, inf)")
    if factors is not None and not isinstance(factors, Mapping):
        raise TypeError(f"groups: factors must be a dict {{name: factor}}, got {shown(factors)}")
    for word, value in (factors or {}).items():
        number("groups", f"factors[{word!r}]", value, "[0, inf)")
    number("groups", "depth_factor", depth_factor, "(0, inf)")
    if lr is None and (factors or depth_factor != 1):
        raise ValueError("groups: factors and depth_factor multiply a rate: give lr as well")
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    norms = {id(p) for m in model.modules() if _normalises(m) for p in m._parameters.values() if p is not None}
    children = [name for name, child in model.named_children() if next(child.parameters(), None) is not None]
    for word in (*(w for w in no_decay if w not in ("bias", "norm")), *(factors or ())):
        if not any(_below(name, word) for name, _ in model.named_parameters()):
            raise ValueError(f"groups: no parameter is called {word!r} or lies below it; there are {', '.join(n for n, _ in named)}")

    def spared(name: str, p: Parameter) -> bool:
        words = {"bias": name.rpartition(".")[2] == "bias", "norm": id(p) in norms}
        return any(words.get(word, False) or _below(name, word) for word in no_decay)

    def factor(name: str) -> float:
        fits = [word for word in factors or () if _below(name, word)]
        own = (factors or {})[max(fits, key=len)] if fits else 1.0
        child = name.partition(".")[0]
        return own * depth_factor ** (len(children) - 1 - children.index(child) if child in children else 0)

    made: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, p in named:
        key = factor(name), spared(name, p)
        if key not in made:
            decay = {"weight_decay": 0.0} if key[1] else {} if weight_decay is None else {"weight_decay": weight_decay}
            made[key] = {"params": [], **({} if lr is None else {"lr": scaled(lr, key[0]) if key[0] != 1 else lr}), **decay}
        made[key]["params"].append(p)
    return list(made.values())


def _normalises(module: Module) -> bool:
    """What derives from another layer is that layer, and what holds layers may be anything: WeightNormConv2d(Conv2d), NormalizedNet."""
    if isinstance(module, _NORMS):
        return True
    layers = Module.__module__.rpartition(".")[0]
    own = not any(kind is not Module and kind.__module__.startswith(f"{layers}.") for kind in type(module).__mro__)
    return own and not module._modules and _NORM.search(type(module).__name__) is not None


def _below(name: str, word: str) -> bool:
    return name == word or name.startswith(word + ".")
