"""Whether the Trainer's steps are replayed (see fastnn.capture), and what it says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _C
from ..arguments import one_of
from ..captured import capture
from ..optim import Optimizer
from ..optim.full_batch import FullBatch
from ..tensor import Tensor
from .put_back import put_back

if TYPE_CHECKING:
    from .trainer import Trainer


class Replays:
    """The step of one `fit`: replayed, or eager and why."""

    def __init__(self, trainer: Trainer, wanted: bool | str) -> None:
        one_of("fit", "replay", wanted, ("auto", True, False))
        self.wanted, self.told = wanted, False
        reason = "replay=False" if wanted is False else reason_against(trainer, asked=wanted is True)
        if reason and wanted is True:
            raise ValueError(f"fit: the step cannot be replayed: {reason}")
        self.captured = None if reason else capture(trainer._whole_step)
        self.settings = _settings(trainer)
        trainer.replayed = f"eager: {reason or 'no step was done'}"
        if self.captured is not None:
            self.captured.announce = lambda: self.announce(trainer)

    def announce(self, trainer: Trainer) -> None:
        """Once, before the first step."""
        if not self.told:
            self.told, trainer.replayed = True, repr(self.captured).replace("captured step", "replayed")
            trainer._emit("after_capture", trainer.replayed)

    def step(self, trainer: Trainer, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of one step on one batch."""
        if self.captured is None:
            return self._eager(trainer, x, labels)
        trainer._batch = x, labels
        if (settings := _settings(trainer)) != self.settings:  # a callback changed them
            self.captured.release()
            self.captured, self.settings = capture(trainer._whole_step), settings
        try:
            result: tuple[Tensor, Tensor] = self.captured(x, labels)
        except _C.CaptureError as error:  # as if it had not begun
            if self.wanted is True:
                raise
            self.end()
            trainer.replayed = f"eager: {error}"
            return self._eager(trainer, x, labels)
        return result

    def _eager(self, trainer: Trainer, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with put_back(trainer):
            return trainer._whole_step(x, labels)

    def end(self) -> None:
        """Gives the memory back."""
        captured, self.captured = self.captured, None
        if captured is not None:
            captured.release()


def _settings(trainer: Trainer) -> list[Any]:
    """What a step reads besides the model and the optimizer."""
    parts = (trainer.loss, trainer.penalty)
    return [*parts, *[dict(getattr(part, "__dict__", {})) for part in parts], trainer.stepping.clip_norm, trainer.stepping.clip_value]


def reason_against(trainer: Trainer, *, asked: bool) -> str | None:
    """Why the step cannot be replayed or, unless that was asked for, is not by itself: only the library's own parts are known to do nothing
    but call kernels."""
    modules = list(trainer.model.modules())
    if trainer.stepping.accumulate > 1:
        return f"accumulate={trainer.stepping.accumulate} adds up gradients over several batches"
    if isinstance(trainer.optimizer, FullBatch):
        return f"{trainer.optimizer.name} looks at the loss while it steps"
    hooked = next((m for m in modules if m._hooks), None)
    if hooked is not None:
        return f"{type(hooked).__name__} has a forward hook"
    if asked:
        return None
    foreign = next((part for part in (*modules, trainer.loss, *_all_of(trainer.optimizer)) if not _of_the_library(part)), None)
    return None if foreign is None else f"{_name(foreign)} is not fastnn's own; replay=True tries it all the same"


def _all_of(optimizer: Optimizer) -> list[Optimizer]:
    """With those that it is made of."""
    return [optimizer, *(below for part in getattr(optimizer, "optimizers", ()) for below in _all_of(part))]


def _of_the_library(part: Any) -> bool:
    return _module(part).split(".")[0] == __name__.split(".")[0]


def _module(part: Any) -> str:
    return str(part.__module__ if hasattr(part, "__qualname__") else type(part).__module__)


def _name(part: Any) -> str:
    return str(getattr(part, "__qualname__", type(part).__qualname__))
