"""Sequential and ModuleList."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, overload

from .module import Module


class _Numbered(Module):
    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> _Numbered: ...
    def __getitem__(self, index: int | slice) -> Module:
        chosen = list(self._modules.values())[index]
        if isinstance(chosen, Module):
            return chosen
        part = type(self)()
        for module in chosen:
            part.append(module)
        return part

    def append(self, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} holds modules, got {type(module).__name__}")
        self._modules[str(len(self._modules))] = module


class Sequential(_Numbered):
    """Calls its modules one after the other. A BatchNorm2d followed by ReLU or SiLU runs as one kernel, unless one of them has a hook."""

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        for module in modules:
            self.append(module)

    def forward(self, x: Any) -> Any:
        modules = list(self._modules.values())
        i = 0
        while i < len(modules):
            after = modules[i + 1] if i + 1 < len(modules) else None
            if after is not None and modules[i].folds(after):
                x = modules[i](x, None, after.activation)
                i += 2
            else:
                x = modules[i](x)
                i += 1
        return x


class ModuleList(_Numbered):
    """A list of modules whose parameters are found."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        for module in modules:
            self.append(module)
