"""Objects whose settings are given when they are made: an attribute that nobody would read is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar


class Settled:
    """From `_settle()` on, which ends `__init__`, AttributeError for an attribute that there is not, with the place of what was meant, and for
    one that is `_fixed`; one with a check is checked (`_checks`: functions of the object and the value, which give what is kept).

    Subclasses of the user's may have attributes and properties of their own.
    """

    _fixed: ClassVar[tuple[str, ...]] = ()
    _checks: ClassVar[Mapping[str, Callable[[Any, Any], Any]]] = {}
    _places: ClassVar[Mapping[str, str]] = {}  # where else something is set, in words
    _settled = False

    def _settle(self) -> None:
        self.__dict__["_settled"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self._settled and name[0] != "_" and not _of_the_user(type(self), name):
            if name in self._fixed:
                raise AttributeError(_words_for_fixed(self, name))
            if name not in self.__dict__ and not hasattr(type(self), name) and _own(type(self)):
                raise AttributeError(_words_for_unknown(self, name))
            check = self._checks.get(name)
            value = value if check is None else check(self, value)
        super().__setattr__(name, value)


def _own(cls: type) -> bool:
    return cls.__module__.split(".")[0] == __name__.split(".")[0]


def _of_the_user(cls: type, name: str) -> bool:
    """Whether a subclass of another package says itself what this attribute is."""
    return any(name in vars(base) for base in cls.__mro__ if base is not object and not _own(base))


def _maker(cls: type) -> tuple[str, list[str]]:
    """The library's class, and what it takes."""
    own = next(base for base in cls.__mro__ if _own(base))
    return own.__name__, [*inspect.signature(own).parameters]


def _words_for_fixed(settled: Settled, name: str) -> str:
    cls, given = _maker(type(settled))
    return f"{cls}: {name} cannot be changed afterwards; make another {cls}({f'..., {name}=...' if name in given else '...'})"


def _words_for_unknown(settled: Settled, name: str) -> str:
    cls, given = _maker(type(settled))
    there = [known for known in (*given, *vars(settled), *settled._places) if not known.startswith("_")]
    near = name if name in there else next(iter(get_close_matches(name, there, 1, 0.6)), "")
    ways = [settled._places[near]] if near in settled._places else []
    if near in given:
        ways = [f"give {near}=... to {cls}(...)", *ways]
    elif near and not ways:
        ways = [f"the nearest is {near!r}"]
    return f"{cls} has no attribute {name!r}: {', or '.join(ways) or 'nothing would read it; a subclass may have attributes of its own'}"
