"""Layers and parameters in plain lists and dicts, and plain tensors that require a gradient, which nobody finds: they would not be trained, moved or
saved, without a word."""

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
            if type(held) is Tensor or (type(held) in (list, tuple, dict) and held and name not in _KEPT):
                first = held if type(held) is Tensor else next(iter(held.values() if type(held) is dict else held))
                if (
                    (isinstance(first, Tensor) or hasattr(first, "named_parameters"))
                    and _untold(module, name)
                    and _lost(top, module, first)
                ):
                    _tell(module, name, held, first)


def _untold(module: Any, name: str) -> bool:
    return name not in _told.setdefault(type(module), set())


def _lost(top: Any, module: Any, child: Any) -> bool:
    """Whether it has something to train that the model does not know. A parent, or a frozen teacher, may be kept out of sight on purpose, and so
    may what an operation made."""
    if isinstance(child, Tensor):
        return child.requires_grad and child.is_leaf and not any(p is child for p in _parameters(top))
    if isinstance(child, type) or any(one is module for one in child.modules()):
        return False
    known = {id(p) for p in _parameters(top)}
    return any(p.requires_grad and id(p) not in known for p in _parameters(child))


def _parameters(module: Any) -> list[Tensor]:
    return [p for _, p in module.named_parameters()]


def _tell(module: Any, name: str, held: Any, first: Any) -> None:
    _told[type(module)].add(name)
    layer, kind, lost = type(module).__name__, type(held).__name__, "not trained, moved or saved with it"
    if held is first:
        said = f"a plain Tensor that requires a gradient, no parameter of {layer}: it is {lost}; nn.Parameter({name}) is one"
    elif isinstance(first, Tensor):
        said = f"a plain {kind} of parameters, which {layer} does not have: they are {lost}; make each an attribute, an nn.Parameter"
    else:
        instead = "ModuleDict" if type(held) is dict else "ModuleList"
        said = f"a plain {kind} of modules, whose parameters {layer} does not have: they are {lost}; nn.{instead}({name}) holds modules"
    warn(f"{layer}.{name} is {said}")
