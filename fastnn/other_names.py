"""Arguments under the names that other libraries have for them: refused, and the name here is said."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from .arguments import shown

F = TypeVar("F", bound=Callable[..., Any])


def told(names: Mapping[str, str], *, several: str = "", number: str = "") -> Callable[[F], F]:
    """A decorator: TypeError for arguments that there are not, with what `names` says of them in words. `several`: what to write where too
    many are given by place, or something of several elements where the argument `number` stands."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            try:
                bound = signature.bind(*args, **keywords)
            except TypeError as error:
                raise _better(function.__qualname__.removesuffix(".__init__"), signature, names, several, args, keywords, error) from None
            given = bound.arguments.get(number)
            if _has_length(given):
                raise TypeError(
                    f"{function.__qualname__.removesuffix('.__init__')}: {number} must be a number, got {shown(given)}; {several}"
                )
            if isinstance(given, (np.generic, np.ndarray)):  # Python's number, which a file's notes can hold
                bound.arguments[number] = given.item()
                return function(*bound.args, **bound.kwargs)
            return function(*args, **keywords)

        return call  # type: ignore[return-value]

    return decorate


def _has_length(given: Any) -> bool:
    """Classes and arrays of rank 0 have a `__len__` that says nothing."""
    try:
        return not isinstance(given, str) and len(given) >= 0
    except TypeError:
        return False


def unknown_name(what: str, signature: inspect.Signature, names: Mapping[str, str], keywords: Any) -> TypeError | None:
    """For the first argument whose name there is not, what is meant by it perhaps."""
    there = [name for name in signature.parameters if name != "self" and name != "trainer"]
    unknown = next((name for name in keywords if name not in signature.parameters), None)
    if unknown is None:
        return None
    from difflib import get_close_matches

    near = get_close_matches(unknown, there, 1, 0.7)
    hint = names.get(unknown) or (f"is {near[0]} meant?" if near else "")
    return TypeError(f"{what}: there is no argument {unknown!r}{hint and '; '}{hint or '; it takes ' + ', '.join(there)}")


def _better(
    what: str, signature: inspect.Signature, names: Mapping[str, str], several: str, args: Any, keywords: Any, error: TypeError
) -> TypeError:
    unknown = unknown_name(what, signature, names, keywords)
    if unknown is not None:
        return unknown
    by_place = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if several and (len(args) > len(by_place) or any(p.name in keywords for p in by_place[: len(args)])):
        return TypeError(f"{what}: {shown(args[-1])} is one argument too many by its place; {several}")
    if len(args) > len(by_place):
        return TypeError(f"{what}: {error}; by their place it takes {', '.join(p.name for p in by_place if p.name != 'self')}")
    return TypeError(f"{what}: {error}")
