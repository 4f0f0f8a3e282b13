"""What belongs to its process, and what to do instead of copying it."""

from __future__ import annotations

from typing import Any


class Uncopied:
    """Neither pickled nor copied. A class says what its user wants instead, and what errors call it (its name, else)."""

    _instead = _called = ""

    def __init_subclass__(cls, instead: str = "", called: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._instead, cls._called = instead or cls._instead, called or cls._called or cls.__name__

    def __reduce__(self) -> Any:
        raise TypeError(f"a {self._called} cannot be pickled or copied; {self._instead}")
