"""What a training changes: the model, and a loss that is a Module with tensors of its own (centres of classes, weights of tasks)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..nn import Module
from ..tensor import Tensor

if TYPE_CHECKING:
    from .trainer import Trainer


def with_loss(model: Module, loss: Any) -> Iterator[Module]:
    """The model and, where it is one, the loss."""
    yield model
    if isinstance(loss, Module):
        yield loss


def kept_loss(loss: Any) -> Module | None:
    """A loss whose tensors a checkpoint has: one with parameters, or somebody's own. (The library's keep the constants that they were made with.)"""
    if not isinstance(loss, Module) or not loss._state():
        return None
    library = type(loss).__module__.partition(".")[0] == __name__.partition(".")[0]
    return None if library and next(loss.named_parameters(), None) is None else loss


def parameters_of(trainer: Trainer) -> list[Tensor]:
    """All that a step may change: the model's, the loss's, and whatever else the optimizer was given."""
    several = [p for part in with_loss(trainer.model, trainer.loss) for _, p in part.named_parameters()]
    several += [p for group in trainer.optimizer.param_groups for p in group["params"]]
    return list({id(p): p for p in several}.values())


def buffers_of(trainer: Trainer) -> list[tuple[dict[str, Any], str, Tensor]]:
    """Where each lies, its name there, and itself: forward may have put another in its place since."""
    return [place for part in with_loss(trainer.model, trainer.loss) for place in buffers_below(part)]


def buffers_below(part: Module) -> list[tuple[dict[str, Any], str, Tensor]]:
    """The same, of one module and what is in it."""
    return [(m._buffers, name, b) for m in part.modules() for name, b in m._buffers.items() if b is not None]


class Buffers:
    """Copies of buffers: memory is taken once, and what they hold is copied before each step of many."""

    def __init__(self, places: list[tuple[dict[str, Any], str, Tensor]]) -> None:
        self._kept = [_kept(there, name, buffer) for there, name, buffer in places]

    def keep(self) -> None:
        """As they are now; callbacks may have put others in their places."""
        for i, (there, name, buffer, array, before) in enumerate(self._kept):
            now = there.get(name)
            if now is buffer and buffer._array is array:
                before.assign(array)
            elif now is not None:
                self._kept[i] = _kept(there, name, now)

    def put_back(self) -> None:
        """Those that `keep` saw last; it needs no memory, and may be begun anew at any point."""
        for there, name, buffer, array, before in self._kept:
            array.assign(before)
            buffer._array = array
            there[name] = buffer


def _kept(there: dict[str, Any], name: str, buffer: Tensor) -> tuple[dict[str, Any], str, Tensor, Any, Any]:
    return there, name, buffer, buffer._array, buffer._array.to(buffer.device)


def as_they_are(places: list[tuple[dict[str, Any], str, Tensor]]) -> Callable[[], None]:
    """Copies buffers once; what is returned puts them back."""
    return Buffers(places).put_back
