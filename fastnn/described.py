"""What objects look like when they are printed: one line that says how they were made and where they stand."""

from __future__ import annotations

import inspect
from typing import Any

_PLAIN = (type(None), bool, int, float, str, tuple)


def described(thing: Any, *words: str, **settings: Any) -> str:
    """A class's name with words and settings in parentheses: "SGD(lr=0.1, 2 parameters)"; settings first."""
    return f"{type(thing).__name__}({', '.join([*(f'{name}={value!r}' for name, value in settings.items()), *words])})"


def plural(n: int, thing: str) -> str:
    """ "1 epoch", "3 classes" """
    return f"{n} {thing}{'' if n == 1 else 'es' if thing in ('batch', 'class') else 's'}"


class Described:
    """Looks like the call that made it, as far as it keeps plain values under the names of the arguments."""

    def __repr__(self) -> str:
        return described(self, **self._made_of())

    def _made_of(self) -> dict[str, Any]:
        names = inspect.signature(type(self)).parameters
        return {name: value for name in names if isinstance(value := vars(self).get(name, ...), _PLAIN) and len(repr(value)) <= 60}
