"""Sequential and ModuleList."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from .. import recording
from ..arguments import integer, items, shown
from .activation import absorbed, last_of_several
from .attributes import checked_child, checked_name
from .errors import say_who_gave
from .module import Module


def in_turn(modules: Sequence[Module], x: Any, **last: Any) -> Any:
    """Calls the modules one after the other, those that can as one kernel with those before them; `last` are keywords for the last one.

    A Conv2d or Linear takes a ReLU behind it along; a BatchNorm2d a ReLU or SiLU; a Conv2d in training a BatchNorm2d with what that takes.
    A module with a hook runs by itself, and so does one of a class of your own. A residual and an activation that the last one does not take come behind it.
    """
    i = before = 0
    if not isinstance(modules, (list, tuple)):
        raise TypeError(f"in_turn: modules must be a list of Modules, got {shown(modules)}")
    while i < len(modules):
        module = modules[i]
        if not isinstance(module, Module):
            raise TypeError(f"in_turn: modules must be a list of Modules, got {shown(module)} as module {i}")
        count, keywords = absorbed(module, modules[i + 1 :])
        i, given = i + 1 + count, i
        try:
            x = last_of_several(module, x, keywords, last) if last and i == len(modules) else module(x, **keywords)
        except TypeError as error:
            say_who_gave(error, x, modules[before] if given else None)
            raise
        before = given
    return x


class _Numbered(Module):
    def __len__(self) -> int:
        return len(recording.know(self)._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(recording.know(self)._modules.values())

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> _Numbered: ...
    def __getitem__(self, index: int | slice) -> Module:
        if not isinstance(index, slice):
            found: Module = list(self)[self._place(index)]
            return found
        part = type(self)()
        for module in list(self)[index]:
            part.append(module)
        return part

    def __setitem__(self, index: int, module: Module) -> None:
        self._modules[list(self._modules)[self._place(index)]] = checked_child(self, module, index)

    def __delitem__(self, index: int) -> None:
        modules = list(self._modules.values())  # those behind it move up
        del modules[self._place(index)]
        self._modules.clear()
        self._modules.update({str(i): module for i, module in enumerate(modules)})

    def append(self, module: Module) -> Any:
        self._modules[str(len(self._modules))] = checked_child(self, module, len(self._modules))
        return self

    def _place(self, index: int) -> int:
        place = integer(type(self).__name__, "index", index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"{type(self).__name__}: there is no module {place}; it holds {len(self)}, counted from 0")
        return place % len(self)


class Sequential(_Numbered):
    """Calls its modules, or those of one dict by name, in turn; neighbours that can run as one kernel do, unless one has a hook: see `in_turn`."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        for name, module in modules[0].items() if len(modules) == 1 and isinstance(modules[0], Mapping) else enumerate(modules):
            self._modules[checked_name(self, str(name), "module")] = checked_child(self, module, name)

    def forward(self, x: Any) -> Any:
        return in_turn(list(recording.know(self)._modules.values()), x)


class ModuleList(_Numbered):
    """A list of modules whose parameters are found."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        for module in items("ModuleList", "modules", modules, "several Modules"):
            self.append(module)
