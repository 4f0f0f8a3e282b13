"""Layers in plain lists and dicts, which nobody finds: they would not be trained, moved or saved, without a word."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from ..tensor import Tensor
from ..warned import warn

_KEPT = ("_parameters", "_buffers", "_modules", "_hooks")  # what a Module finds things in
_told: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()  # by class: the attributes that were told of


def warn_of_unseen(top: Any) -> None:
    """Once for each attribute of a class. Only the first one held is looked at: lists may be long, and this is asked for at each step."""
    for _, module in top.named_modules():
        for name, held in vars(module).items():
            if type(held) in (list, tuple, dict) and held and name not in _KEPT:
                first = next(iter(held.values() if type(held) is dict else held))
                if hasattr(first, "named_parameters") and _untold(module, name) and _lost(top, module, first):
                    _tell(module, name, held)


def _untold(module: Any, name: str) -> bool:
    return name not in _told.setdefault(type(module), set())


def _lost(top: Any, module: Any, child: Any) -> bool:
    """Whether it has something to train that the model does not know. A parent, or a frozen teacher, may be kept out of sight on purpose."""
    if isinstance(child, type) or any(one is module for one in child.modules()):
        return False
    known = {id(p) for p in _parameters(top)}
    return any(p.requires_grad and id(p) not in known for p in _parameters(child))


def _parameters(module: Any) -> list[Tensor]:
    return [p for _, p in module.named_parameters()]


def _tell(module: Any, name: str, held: Any) -> None:
    _told[type(module)].add(name)
    layer, instead = type(module).__name__, "ModuleDict" if type(held) is dict else "ModuleList"
    warn(
        f"{layer}.{name} is a plain {type(held).__name__} of modules, whose parameters {layer} does not have: they are not trained, moved or "
        f"saved with it; nn.{instead}({name}) holds modules"
    )
