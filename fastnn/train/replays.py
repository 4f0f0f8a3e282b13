"""Whether the Trainer's steps are replayed (see fastnn.capture), and what it says of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from .. import _C
from ..arguments import one_of
from ..captured import Captured, attributes, capture
from ..nn.frozen import put_in_place
from ..ops.python_words import unchanged
from ..optim import Optimizer
from ..optim.full_batch import FullBatch
from ..tensor import Tensor
from .diverged import Diverged
from .learned import Buffers, buffers_of
from .op_by_op import Part
from .put_back import put_back

if TYPE_CHECKING:
    from .trainer import Trainer


class Replays:
    """The step of one `fit`: replayed, or eager and why."""

    def __init__(self, trainer: Trainer, wanted: bool | str) -> None:
        one_of("fit", "replay", wanted, ("auto", True, False))
        if (sharded := trainer.stepping.sharded) is not None and sharded.loader is not None:  # not of a Trainer that is being made
            sharded.begin(trainer)
        self.wanted, self.told = wanted, False
        reason = "replay=False" if wanted is False else reason_against(trainer, asked=wanted is True)
        if reason and wanted is True:
            raise ValueError(f"fit: the step cannot be replayed: {reason}")
        self.captured = None if reason else self._capture(trainer)
        trainer.replayed = f"eager: {reason or 'no step was done'}"

    def _capture(self, trainer: Trainer) -> Captured:
        self.settings, asked = _settings(trainer), self.wanted is True
        self._buffers = Buffers(buffers_of(trainer))

        def step(*parts: Any) -> list[tuple[Tensor, Tensor]]:
            """Python runs when the step is recorded, and only then: for what callbacks have put into the model or the trainer meanwhile, too."""
            if reason := reason_against(trainer, asked=asked):
                raise _C.CaptureError(reason)
            return trainer.stepping.update(trainer, list(zip(*[iter(parts)] * 4)))

        captured = capture(step)
        captured.announce = lambda: self.announce(trainer)
        return captured

    def announce(self, trainer: Trainer) -> None:
        """Before the first step of each recording, whose layers may be others; what is said is said once."""
        self._buffers = Buffers(buffers_of(trainer))
        if not self.told:
            self.told, trainer.replayed = True, repr(self.captured).replace("captured step", "replayed")
            trainer._emit("after_capture", trainer.replayed)

    def step(self, trainer: Trainer, parts: Sequence[Part]) -> list[tuple[Tensor, Tensor]]:
        """Loss and logits of each part of one step."""
        sharded = trainer.stepping.sharded
        if self.captured is None or (sharded is not None and not sharded.replays):
            return self._eager(trainer, parts)
        trainer._batch = parts[-1][:2]
        if not unchanged(_settings(trainer), self.settings):  # a callback changed them
            self.captured.release()
            self.captured = self._capture(trainer)
        self._buffers.keep()
        try:
            results: list[tuple[Tensor, Tensor]] = self.captured(*chain.from_iterable(parts))
        except Diverged:
            self._buffers.put_back()
            raise
        except _C.CaptureError as error:  # as if it had not begun
            self.refuse(trainer, str(error).removeprefix("capture: "), error)
            return self._eager(trainer, parts)
        except _C.OutOfMemoryError as error:  # all batches of a step at once take more than one after the other
            if len(parts) == 1 or self.captured.computing:
                raise
            self.refuse(trainer, f"the {len(parts)} batches of a step do not fit into memory together", error)
            return self._eager(trainer, parts)
        return results

    def refuse(self, trainer: Trainer, reason: str, error: Exception | None = None) -> None:
        """The rest of the fit is eager; or where replays were asked for, the error is raised, CaptureError if there is none."""
        if self.wanted is True:
            raise error or _C.CaptureError(reason)
        self.end()
        trainer.replayed = f"eager: {reason}"

    def _eager(self, trainer: Trainer, parts: Sequence[Part]) -> list[tuple[Tensor, Tensor]]:
        with put_back(trainer):
            return trainer.stepping.update(trainer, parts)

    def end(self) -> None:
        """Gives the memory back, and lets go of the trainer, whose methods are among the settings."""
        captured, self.captured, self.settings = self.captured, None, []
        if captured is not None:
            captured.release()


def _settings(trainer: Trainer) -> list[Any]:
    """What a step reads besides the model and what is kept of the optimizer. A method that is another now is another's, or another function."""
    stepping, parts = trainer.stepping, (trainer.loss, trainer.penalty)
    methods = (trainer.optimizer.step, None if stepping.ema is None else stepping.ema.update, trainer.objective, trainer.gradients)
    own = [attributes(part) for part in parts]
    return [*parts, *own, *methods, trainer.precision, stepping.clip_norm, stepping.clip_value]


def reason_against(trainer: Trainer, *, asked: bool) -> str | None:
    """Why the step cannot be replayed or, unless that was asked for, is not by itself: only the library's own parts are known to do nothing
    but call kernels."""
    modules, stepping = list(trainer.model.modules()), trainer.stepping
    if isinstance(trainer.optimizer, FullBatch):
        return f"{trainer.optimizer.name} looks at the loss while it steps"
    hooked = next((m for m in modules if m._hooks), None)
    if hooked is not None:
        return f"{type(hooked).__name__} has a forward hook"
    if asked:
        return None
    others = (trainer, stepping, stepping.ema, trainer.loss, trainer.penalty)
    parts = [part for part in (*modules, *others, *_all_of(trainer.optimizer)) if part is not None]
    return next((f"{reason}; replay=True tries it all the same" for part in parts if (reason := _foreign(part))), None)


def _all_of(optimizer: Optimizer) -> list[Optimizer]:
    """With those that it is made of."""
    return [optimizer, *(below for part in getattr(optimizer, "optimizers", ()) for below in _all_of(part))]


def _foreign(part: Any) -> str:
    """How a part runs Python that is not the library's; empty where it does not."""
    named = part if hasattr(part, "__qualname__") else type(part)
    if str(named.__module__).split(".")[0] != __name__.split(".")[0]:
        return f"{named.__qualname__} is not fastnn's own"
    other = put_in_place(part)
    return other and f"{type(part).__qualname__} {other}"
