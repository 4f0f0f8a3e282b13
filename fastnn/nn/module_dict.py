"""ModuleDict."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView

from .. import recording
from ..arguments import instance, text
from .attributes import checked_child, checked_name
from .module import Module


class ModuleDict(Module):
    """A dict of modules whose parameters are found; names are attributes as well, so they may not be those of Module."""

    _modules: dict[str, Module]

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update({} if modules is None else modules)

    def update(self, modules: Mapping[str, Module]) -> None:
        """Adds or replaces modules."""
        instance("ModuleDict", "modules", modules, (Mapping, ModuleDict), "a dict of modules by name")
        for name, module in modules.items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        checked_child(self, module, name)
        try:
            self._modules[checked_name(self, name, "module")] = module
        except ValueError as error:  # of a dict, a key
            raise KeyError(str(error)) from None

    def __getitem__(self, name: str) -> Module:
        return self._seen[self._known(name)]

    def __delitem__(self, name: str) -> None:
        del self._modules[self._known(name)]

    def _known(self, name: str) -> str:
        if text("ModuleDict", "name", name) not in self._modules:
            raise KeyError(f"ModuleDict: there is no module {name!r}; there are {', '.join(self._modules) or 'none'}")
        return name

    @property
    def _seen(self) -> dict[str, Module]:
        """They are part of a step that is recorded and looks at them, whether it calls this module or not."""
        return recording.know(self)._modules

    def __len__(self) -> int:
        return len(self._seen)

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __contains__(self, name: str) -> bool:
        return name in self._seen

    def keys(self) -> KeysView[str]:
        return self._seen.keys()

    def values(self) -> ValuesView[Module]:
        return self._seen.values()

    def items(self) -> ItemsView[str, Module]:
        return self._seen.items()
