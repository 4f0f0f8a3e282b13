"""How batches become a step: gradients of several added up, clipped, the update, its average."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar

from .. import _C, random, recording, warned
from ..arguments import flag, function, instance, integer, number, several
from ..data import Loader, Resize
from ..data.loader import Batches
from ..data.preprocessing import Preprocessing
from ..data.settled import Settled
from ..exclusive import claimed, refuse_others
from ..nn import Module
from ..optim import EMA, SWA, Optimizer, clip_grad_norm_, clip_grad_value_
from ..tensor import Tensor, no_grad, tensor
from ..turns import by_turns
from . import evaluation
from .bad_step import explained
from .callbacks import Callback, checked_hooks
from .diverged import Diverged, check_loss, check_norm, look_at_gradients, look_at_input
from .evaluation import Loss
from .learned import parameters_of
from .op_by_op import Part, SharedPart
from .put_back import put_back, steps_of
from .sharded import gradients_of, kept, sharded_by

if TYPE_CHECKING:
    from ..dist import Group
    from .trainer import Trainer

Batch = tuple[Tensor, Tensor]
P = ParamSpec("P")
R = TypeVar("R")


def _limit(name: str, value: Any) -> float | None:
    return None if value is None else number("Trainer", name, value, "(0, inf)")


class Stepping(Settled):
    """accumulate: batches per step. clip_norm, clip_value: limits of the gradients, or None. ema: an average of the weights, or None. group: of
    processes that train together, or None."""

    _fixed = ("group", "sharded")
    _checks: ClassVar[Mapping[str, Callable[[Any, Any], Any]]] = {
        "accumulate": lambda stepping, value: integer("Trainer", "accumulate", value, 1),
        "clip_norm": lambda stepping, value: _limit("clip_norm", value),
        "clip_value": lambda stepping, value: _limit("clip_value", value),
        "ema": lambda stepping, value: None if value is None else instance("Trainer", "ema", value, EMA, "an optim.EMA or None"),
    }

    def __init__(
        self, accumulate: int, clip_norm: float | None, clip_value: float | None, ema: EMA | None, group: Group | None = None
    ) -> None:
        self.group, self.sharded = group, None if group is None else sharded_by(group)
        self.accumulate, self.ema = integer("Trainer", "accumulate", accumulate, 1), ema
        self.clip_norm, self.clip_value = _limit("clip_norm", clip_norm), _limit("clip_value", clip_value)
        self._loader: Loader | None = None
        self._parts: list[Part] = []  # of the step under way
        self._given = True  # whether batches of a fit may hold what is no number
        self._exceptions = -1  # that kernels had met before the step
        self._settle()

    def forget_average(self) -> None:
        """The model has other weights now."""
        if isinstance(self.ema, SWA) and self.ema.updates:
            warned.warn(
                f"fit: the best snapshot is back, and SWA's mean of {self.ema.updates} updates forgotten; restore_best=False keeps it"
            )
        if self.ema is not None:
            self.ema.reset()

    @property
    def under_way(self) -> bool:
        """Whether a fit is within a step."""
        return bool(self._parts)

    @property
    def parts(self) -> Sequence[Part]:
        """Of the step under way, as far as they have been taken."""
        return self._parts

    def steps(self, loader: Loader) -> int:
        """How many an epoch has."""
        return -(-len(loader) // self.accumulate)

    def counts(self, loader: Loader, first: int) -> Iterator[list[int]]:
        """For each step from batch `first` on: the samples of its batches."""
        self._loader, bounds = loader, loader.bounds()
        self._given = not loader.dataset.of_bytes
        sizes = [end - begin for begin, end in zip(bounds, bounds[1:])]
        while first < len(sizes):
            counts = sizes[first : first + self.accumulate]  # a callback may set it
            first += len(counts)
            yield counts

    def take(self, trainer: Trainer, batches: Iterator[Batch], counts: list[int], see: Callable[[float, Tensor, Tensor], None]) -> float:
        """One step on the next len(counts) batches; returns its loss. The gradient is that of all of them together: each batch counts by
        what its loss's mean divides by (samples, or what their labels weigh; see evaluation.count_of), and a sum is the sum of its parts.
        Diverged says what the step shows when it is repeated op by op. `trainer.batch` has passed these batches once the update is done, whatever
        raises behind it, and has not before."""
        self._parts, drawn, sums, steps = [], trainer.generator.draw, dict(trainer.sums), steps_of(trainer.optimizer)
        try:
            loss = self._take(trainer, batches, counts, see)
        except Diverged as error:
            self._told(error)
            trainer.generator.draw = drawn
            trainer.sums.update(sums)
            raise explained(trainer, self._loader, self._parts, error) from None
        except BaseException as error:
            self._told(error)
            if steps_of(trainer.optimizer) == steps:
                trainer.sums.update(sums)
            else:
                trainer.batch += len(counts)
            raise
        finally:
            self._parts = []
        trainer.batch += len(counts)
        return loss

    def _take(self, trainer: Trainer, batches: Iterator[Batch], counts: list[int], see: Callable[[float, Tensor, Tensor], None]) -> float:
        if self.sharded is not None:
            return self.sharded.take(self, trainer, [_following(trainer, batches) for _ in counts], counts, see)
        parts: list[SharedPart] = []
        if len(counts) == 1 or trainer._replays.captured is not None:  # a replay takes all batches of a step at once
            given = [_following(trainer, batches) for _ in counts]
            parts, batches = _shared(trainer, given, counts), iter(given)
        if not parts:
            with put_back(trainer):
                return self._accumulated(trainer, batches, counts, see)
        self._parts = [*parts]
        total = 0.0
        for (_, labels, share, _), (loss, logits) in zip(parts, trainer._replays.step(trainer, parts)):
            see(float(loss), logits, labels)
            total += share * float(loss)
        return total

    def update(self, trainer: Trainer, parts: Sequence[Part]) -> list[tuple[Tensor, Tensor]]:
        """A whole step: the gradients of all parts added up, and the update. Returns each part's loss and logits."""
        if self.sharded is not None:
            return self.sharded.update(self, trainer, parts)
        trainer.optimizer.zero_grad()
        results = [gradients_of(trainer, part) for part in parts]
        self.finish(trainer)
        return results

    def _accumulated(
        self, trainer: Trainer, batches: Iterator[Batch], counts: list[int], see: Callable[[float, Tensor, Tensor], None]
    ) -> float:
        """Of several batches, eagerly, one at a time."""
        adds_up = evaluation.adds_up(trainer.loss)
        trainer.optimizer.zero_grad()
        total = counted = 0.0
        expected = float(sum(counts))  # of what all batches together count, until the last one's labels are known
        for i, samples in enumerate(counts):
            x, labels = _following(trainer, batches)
            count = evaluation.count_of(trainer.loss, labels)
            if i == 0 and count:
                expected = count * sum(counts) / samples
            share = None if count == 0 else 1.0 if adds_up else count / expected
            self._parts.append((x, labels, share, samples / sum(counts) if adds_up else 1.0))
            if count == 0:  # every label is ignored
                trainer._batch = x, labels
                with no_grad():
                    loss, logits = tensor(0.0), trainer.forward(x)
            elif adds_up:
                loss, logits = trainer.gradients(x, labels, 1.0, penalised=samples / sum(counts))
            else:
                loss, logits = trainer.gradients(x, labels, count / expected)
            see(float(loss), logits, labels)
            total, counted = total + (share or 0.0) * float(loss), counted + count
        if not counted:
            check_loss(trainer, math.nan)
        if not adds_up and counted != expected:
            scale_gradients(parameters_of(trainer), expected / counted)
            total *= expected / counted
        self.finish(trainer)
        return total

    def _told(self, error: BaseException) -> None:
        if self.sharded is not None:
            self.sharded.group._fail(error)

    def sums(self, trainer: Trainer) -> evaluation.Sums:
        """Of the running epoch, over all ranks."""
        gathered = None if self.sharded is None else self.sharded.seen
        return evaluation.Sums(trainer.loss, trainer.metrics, trainer.sums, gathered=gathered)

    def batches(self, loader: Loader, epoch: int, first: int = 0) -> Batches:
        """Of an epoch, from number `first` on; of several ranks the rows of this one."""
        return loader.batches(epoch, first) if self.sharded is None else self.sharded.batches(loader, epoch, first)

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files: of several ranks the first."""
        return self.group is None or self.group.first

    def kept(self, callbacks: list[Callback]) -> list[Callback]:
        """Of several ranks the first one prints and writes."""
        return kept(self.sharded, callbacks)

    def begin(self, x: Tensor) -> None:
        """Ahead of the forward pass of each batch."""
        if (self._given or not self._parts) and x.device == "cpu" and self.clip_norm is None:
            look_at_input(x)

    def finish(self, trainer: Trainer) -> None:
        """From gradients to the next weights."""
        if self.clip_value is not None:
            clip_grad_value_(parameters_of(trainer), self.clip_value)
        if self.clip_norm is not None:
            norm = clip_grad_norm_(parameters_of(trainer), self.clip_norm)
            recording.look(norm, lambda norm: check_norm(trainer, float(norm)), unless_finite=True)
        else:
            look_at_gradients(trainer, self._exceptions)
            self._exceptions = _C.float_exceptions()
        trainer.optimizer.step()
        if self.ema is not None:
            self.ema.update()

    def averaged(self) -> AbstractContextManager[None]:
        """Inside the block the model holds the averaged weights, if there are any."""
        return nullcontext() if self.ema is None else self.ema.averaged()


def scale_gradients(parameters: Sequence[Tensor], factor: float) -> None:
    with no_grad():
        for p in parameters:
            if p.grad is not None:
                p.grad = p.grad * factor


def average_of(model: Module, ema: EMA | float | None) -> EMA | None:
    """What the Trainer's argument stands for: a decay, or an average made before (of the same model: ValueError)."""
    if isinstance(ema, EMA) and ema.model is not model:
        raise ValueError("Trainer: ema averages another model than the one that is trained")
    return ema if ema is None or isinstance(ema, EMA) else EMA(model, number("Trainer", "ema", ema, "[0, 1)"))


def _shared(trainer: Trainer, given: Sequence[Batch], counts: Sequence[int]) -> list[SharedPart]:
    """The parts of a step whose shares the numbers of samples tell, as a recording needs them. None where they depend on labels: then the rest
    of the fit is eager."""
    samples, adds_up = sum(counts), evaluation.adds_up(trainer.loss)
    weights = [1.0 if adds_up or len(counts) == 1 else evaluation.count_of(trainer.loss, labels) for _, labels in given]
    if not adds_up and any(not weight or weight * counts[0] != weights[0] * n for weight, n in zip(weights, counts)):
        trainer._replays.refuse(trainer, "batches of one step count by more than their samples (class weights, ignored labels)")
        return []
    whole = 1.0 if adds_up else weights[0] * samples / counts[0]
    return [(x, labels, weight / whole, n / samples if adds_up else 1.0) for (x, labels), weight, n in zip(given, weights, counts)]


def checked_parts(model: Any, optimizer: Any, normalize: Any, resize: Any, l1: float, l2: float) -> None:
    """What a Trainer is made of."""
    number("Trainer", "l1", l1, "[0, inf)"), number("Trainer", "l2", l2, "[0, inf)")
    instance("Trainer", "model", model, Module, "a Module")
    instance("Trainer", "optimizer", optimizer, Optimizer, "an optimizer, such as optim.Adam(model.parameters())")
    if normalize is not None:
        instance("Trainer", "normalize", normalize, Preprocessing, "a data.Normalize, MeanImage, PCA or ZCA")
    if resize is not None:
        instance("Trainer", "resize", resize, Resize, "a data.Resize")


def checked_fit(trainer: Trainer, epochs: Any, batch_size: Any, callbacks: Any, restore_best: Any, progress: Any) -> list[Callback]:
    """What `fit` is asked for. Returns the callbacks, which an iterator gives only once."""
    own = {id(p) for p in trainer.model.parameters()}
    if not any(id(p) in own for group in trainer.optimizer.param_groups for p in group["params"]):
        raise ValueError(f"fit: the optimizer ({trainer.optimizer.name}) has none of the model's parameters; make it of model.parameters()")
    if not any(p.requires_grad for group in trainer.optimizer.param_groups for p in group["params"]):
        raise ValueError(
            "fit: all parameters of the optimizer are frozen; requires_grad_(True) of a module, or of the model, has them trained"
        )
    warn_of_untrained("model", trainer.model, trainer.optimizer)
    if isinstance(trainer.loss, Module):
        warn_of_untrained("loss", trainer.loss, trainer.optimizer)
    integer("fit", "epochs", epochs, 0), batch_size is None or integer("fit", "batch_size", batch_size, 1)
    flag("fit", "restore_best", restore_best), flag("fit", "progress", progress)
    given = several("fit", "callbacks", callbacks, Callback, "a list of callbacks, such as [train.EarlyStopping(5)]")
    for callback in given:
        checked_hooks(callback)
    return given


def warn_of_untrained(what: str, module: Module, optimizer: Optimizer) -> None:
    """A layer that was put in after the optimizer was made stays as it is, unless someone says so."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    named = list(module.named_parameters())
    left = [name for name, p in named if p.requires_grad and id(p) not in held]
    if left:
        names = f"{', '.join(left[:3])}{', ...' if len(left) > 3 else ''}"
        way = f"make the optimizer of them too, when the {what} is whole, or set requires_grad = False"
        warnings.warn(
            f"fit: {len(left)} of {len(named)} parameters of the {what} are not the optimizer's and will not be trained: {names}; {way}",
            stacklevel=6,  # whoever called fit
        )


def _following(trainer: Trainer, batches: Iterator[Batch]) -> Batch:
    """The next one. Callbacks have run, and may have called `seed`."""
    batch = next(batches)
    random.go_on_with(trainer.generator)
    return batch


def alone(fit: Callable[Concatenate[Trainer, P], R]) -> Callable[Concatenate[Trainer, P], R]:
    """A method that needs the model and the optimizer for itself: RuntimeError, and nothing done, when another fit, or a thread that
    evaluates the model, has one of them."""

    @functools.wraps(fit)
    def wrapped(trainer: Trainer, /, *args: P.args, **keywords: P.kwargs) -> R:
        with claimed("fit", model=trainer.model, optimizer=trainer.optimizer._leaves()), by_turns(id(trainer.model), "fit"):
            return fit(trainer, *args, **keywords)

    return wrapped


def checked_loss(loss: Loss) -> Loss:
    """A function of (logits, labels) that gives one number."""
    function("Trainer", "loss", loss, "a function of (logits, labels)")
    if getattr(loss, "reduction", None) == "none":
        raise ValueError("Trainer: loss has reduction 'none'; a step needs one number: 'mean' or 'sum'")
    return loss


def checked_batch(trainer: Trainer, x: Any, labels: Any) -> None:
    """What a step takes."""
    refuse_others("Trainer.step", "model", trainer.model)
    for name, value in (("x", x), ("labels", labels)):
        instance("Trainer.step", name, value, Tensor, "a Tensor; fastnn.tensor(array) makes one")
