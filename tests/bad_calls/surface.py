"""What fastnn shows to its users, found by looking at it: every public name that can be called, with the names of its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import fastnn

OPERATORS = ("add", "sub", "mul", "truediv", "pow", "rpow", "matmul", "rmatmul", "getitem", "setitem", "delitem", "lt", "le", "gt", "ge", "radd", "rsub",
             "rmul", "rtruediv", "contains", "array")  # fmt: skip


def shown(modules: tuple[ModuleType, ...]) -> dict[str, set[str]]:
    """The arguments of every function ("split"), class ("Loader") and method with arguments ("Loader.order") of these modules. A method that
    overrides another one of the library's takes what that takes, and is not listed again."""
    found: dict[str, set[str]] = {}
    for module in modules:
        for name in names_of(module):
            thing = getattr(module, name)
            if inspect.ismodule(thing) or not callable(thing):
                continue
            if inspect.isclass(thing) or arguments_of(thing):  # a function without arguments cannot be called badly
                found.setdefault(name, set()).update(arguments_of(thing))
            if inspect.isclass(thing):
                found.update({f"{owner.__name__}.{method}": arguments for owner, method, arguments in methods_of(thing)})
    return found


def names_of(module: ModuleType) -> list[str]:
    """Its `__all__`, or what it defines itself without an underscore."""
    own = [name for name, thing in vars(module).items() if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__]
    return list(getattr(module, "__all__", own))


def methods_of(cls: type) -> Iterator[tuple[type, str, set[str]]]:
    """Those with arguments, each where it is first defined, by a class of the library. A layer's `forward` is its call."""
    lineage = [base for base in cls.__mro__ if base.__module__.split(".")[0] == fastnn.__name__]
    for name in {name for base in lineage for name in vars(base)} - {"forward"}:
        if name.startswith("_") and name[2:-2] not in OPERATORS:
            continue
        owner = next(base for base in reversed(lineage) if name in vars(base))
        function = getattr(owner, name)
        arguments = arguments_of(function) - {"self"} if callable(function) and not inspect.isclass(function) else set()
        if arguments:
            yield owner, name, arguments


def arguments_of(function: Callable[..., Any]) -> set[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of the compiled core
        return set()
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
