"""Short trainings of a Trainer, each from where it stands, of which nothing is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import random, signals
from ..arguments import instance, integer
from ..data import Dataset, Loader, split
from ..data.items import as_dataset
from ..exclusive import claimed
from ..nn import CrossEntropyLoss
from ..optim.full_batch import FullBatch
from ..tensor import Tensor, no_grad, tensor
from ..train import Trainer, evaluation, interrupt
from ..train.as_it_was import as_it_was
from ..train.evaluation import Data, Sums
from ..train.find_rate import _ratios as ratios_of
from ..train.loading import checked_validation, training_loader
from ..train.metrics import by_name
from ..train.replays import Replays
from ..train.sharded import refuse_ranks
from ..train.update_ratios import COLUMNS, Measuring, spread
from ..train.update_ratios import ratios_of as updates_of
from ..turns import by_turns

EXPLODED = 3.0  # times the first loss, at any step: the rate is too high
_FRACTION = 0.15  # of the training set for validation, where none is given
_LOOKED_AT = 1024  # samples of the training set on which a training ends up being judged


@dataclass
class Course:
    """What one short training showed."""

    rate: float | None
    decay: float | None
    losses: list[float] = field(default_factory=list)  # of every step, before its update
    rows: list[dict[str, float]] = field(default_factory=list)  # of every epoch
    ended: str = ""  # why before its last step
    train_accuracy: float = math.nan  # in evaluation mode, at the end

    @property
    def exploded(self) -> bool:
        return bool(self.ended)

    @property
    def end(self) -> float:
        """The mean loss of the last fifth of the steps."""
        last = self.losses[-max(1, len(self.losses) // 5) :]
        return math.inf if self.exploded else float(np.mean(last))

    def last(self, column: str) -> float:
        return self.rows[-1].get(column, math.nan) if self.rows else math.nan


class Runs:
    """Of one trainer on one training set, which a Loader prepares, and a validation set."""

    def __init__(
        self, what: str, trainer: Trainer, train: Data, validation: Data | None = None, batch_size: int | None = None, seed: int = 0
    ) -> None:
        self.what, self.trainer, self.seed = what, instance(what, "trainer", trainer, Trainer, "a train.Trainer"), seed
        _refuse_others(what, trainer)
        integer(what, "seed", seed, 0, 2**63)
        if batch_size is not None:
            integer(what, "batch_size", batch_size, 1)
        given = train if isinstance(train, Loader) else as_dataset(train, f"{what}: train", loader=True)
        if not len(given):
            raise ValueError(f"{what}: train is empty; it needs at least one sample")
        with as_it_was(trainer):  # for what it refuses of the data, and how it prepares them
            trainer.batch = 0
            loader = training_loader(trainer, given, batch_size)
            self.validation = None if validation is None else checked_validation(validation, trainer)
        self.loader: Loader = loader
        self.classes = loader.dataset.num_classes

    def with_validation(self) -> None:
        """Takes a part of the training set for it, where none was given."""
        if self.validation is None:
            dataset = self.loader.dataset
            if round(_FRACTION * len(dataset)) < 1:
                raise ValueError(f"{self.what}: {len(dataset)} samples are too few to take some for validation; give validation=...")
            rest, self.validation = split(dataset, _FRACTION, self.seed)
            self.loader = self.like(rest)

    def like(self, dataset: Dataset, *, plain: bool = False, mixed: bool = True) -> Loader:
        """A Loader of other samples that prepares them as this one; plain: without augmentation and mixing."""
        one = self.loader
        chance: dict[str, Any] = {} if plain else {"augment": one.augment, "mix": one.mix if mixed else ()}
        size = min(one.batch_size, len(dataset))
        settings: dict[str, Any] = {"normalize": one.normalize, "prefetch": one.prefetch, "workers": one.workers, "device": one.device}
        return Loader(dataset, size, shuffle=True, seed=one.seed, drop_last=one.drop_last, **settings, **chance)

    def first(self, batches: int) -> Dataset:
        """So many batches of samples, drawn by the seed."""
        dataset = self.loader.dataset
        words = random.Generator(self.seed).bits(len(dataset), 0, random.ORDER)
        return dataset.take(np.sort(np.argsort(words, kind="stable")[: batches * self.loader.batch_size]))

    # --- what the trainer brings

    @property
    def rate(self) -> float:
        """Its own, of the first group with one above 0; of a schedule the highest to come, behind a warm-up."""
        optimizer = self.trainer.optimizer
        before, optimizer.steps_per_epoch = optimizer.steps_per_epoch, self.trainer.stepping.steps(self.loader)
        try:
            first = next((i for i, rates in enumerate(zip(*map(optimizer._rates, self._to_come))) if any(rates)), None)
            return 0.0 if first is None else max(optimizer._rates(step)[first] for step in self._to_come)
        finally:
            optimizer.steps_per_epoch = before

    @property
    def _to_come(self) -> list[int]:
        now = self.trainer.optimizer.steps
        return [now + int(step) for step in np.unique(np.geomspace(1, 1e5, 150).astype(int) - 1)]

    @property
    def decay(self) -> float | None:
        """Its own; None for an optimizer that knows none."""
        own = [group["weight_decay"] for group in self.trainer.optimizer.param_groups if "weight_decay" in group]
        return max(own, default=None)

    @property
    def by_size(self) -> bool:
        """Whether steps are as long as the rate, whatever the gradients: usual rates are those of Adam then, else those of SGD."""
        return type(self.trainer.optimizer._leaves()[0]).__name__ not in ("SGD", "Adagrad", "Muon")

    @property
    def decoupled(self) -> bool:
        return any(group.get("decoupled_weight_decay") for group in self.trainer.optimizer.param_groups)

    def uniform(self, classes: int, labels: Tensor) -> float:
        """The loss of outputs that are all 0, for a sample."""
        with no_grad():
            zeros = tensor(np.zeros((len(labels), classes), np.float32), device=self.trainer.device)
            loss = float(evaluation.checked_value(self.trainer.loss(zeros, labels), self.what))
        return loss / len(labels) if evaluation.adds_up(self.trainer.loss) else loss

    # --- a training

    @contextmanager
    def standing(self, *, plain: bool = False, noise: bool = True) -> Iterator[Trainer]:
        """The trainer at the beginning of an epoch, to be worked on; behind the block it is as it was. plain: no weight decay, no penalty, no label
        smoothing; noise=False: no dropout and what else draws in training."""
        trainer, optimizer = self.trainer, self.trainer.optimizer
        decays = [(group, group["weight_decay"]) for group in optimizer.param_groups if "weight_decay" in group]
        modes = [(module, module.training) for module in trainer.model.modules()]
        parts = claimed(self.what, model=trainer.model, optimizer=optimizer._leaves()), by_turns(id(trainer.model), self.what)
        with ExitStack() as stack:
            for part in (*parts, signals.held(), as_it_was(trainer)):
                stack.enter_context(part)
            try:
                trainer.epoch, trainer.batch, trainer.normalize = 0, 0, self.loader.normalize
                trainer.sums, trainer.metrics, trainer.stepping.ema = {}, by_name(("accuracy",)), None
                if plain:
                    trainer.penalty, trainer.loss = None, unsmoothed(trainer.loss)
                    for group, _ in decays:
                        group["weight_decay"] = 0.0
                if not noise:
                    trainer.model.train()
                    for module in trainer.model.modules():
                        if getattr(module, "noisy", False):
                            module.eval()
                trainer.inference.release()
                yield trainer
            except interrupt.Interrupted as error:
                error.where = f"interrupted in {self.what}; the trainer is as it was"
                error.args = (error.where,)
                raise
            finally:
                trainer._batch = None
                for group, decay in decays:
                    group["weight_decay"] = decay
                for module, training in modes:
                    module.training = training

    def run(
        self,
        loader: Loader,
        *,
        epochs: int,
        steps: int | None = None,
        rate: float | None = None,
        decay: float | None = None,
        plain: bool = False,
        noise: bool = True,
        validate: bool = False,
        until: Callable[[dict[str, float]], bool] = lambda row: False,
        behind: Callable[[Trainer], None] = lambda trainer: None,
    ) -> Course:
        """One training of so many epochs, and of `steps` at most, at a rate that stays (None: the trainer's schedule); it ends early where `until` is
        true of an epoch's row, and where the loss is no number or more than 3 times the first. behind: looks at the trainer then."""
        course, decayed = Course(rate, decay), _decayed(self.trainer)
        with self.standing(plain=plain, noise=noise) as trainer:
            trainer.optimizer.steps_per_epoch = trainer.stepping.steps(loader)
            if rate is not None:
                ratios = ratios_of(trainer.optimizer.rates())
                for group, ratio in zip(trainer.optimizer.param_groups, ratios):
                    group["lr"] = rate * ratio
            if decay is not None:
                for group in decayed:
                    group["weight_decay"] = decay
            measuring = Measuring()
            measuring.begin(trainer)
            trainer._replays = Replays(trainer, "auto")
            try:
                self._train(trainer, loader, course, epochs, steps, validate, until)
                trainer._replays.end()
                if validate and not course.ended:
                    course.train_accuracy = trainer.evaluate(self._some())["accuracy"]
                behind(trainer)
            finally:
                measuring.end()
                trainer._replays.end()
        return course

    def _train(
        self, trainer: Trainer, loader: Loader, course: Course, epochs: int, steps: int | None, validate: bool, until: Callable[..., bool]
    ) -> None:
        for epoch in range(epochs):
            trainer.epoch, trainer.sums = epoch, {}
            sums, rate = Sums(trainer.loss, trainer.metrics, trainer.sums), trainer.optimizer.rates()[0]
            with (
                random.using(trainer.generator),
                evaluation.mode(trainer.model, True, trainer.loss),
                closing(loader.batches(epoch)) as batches,
            ):
                for counts in trainer.stepping.counts(loader, 0):
                    if steps is not None and len(course.losses) == steps:
                        return
                    course.losses.append(_step(trainer, batches, counts, sums))
                    course.ended = _ended(course.losses, self.least)
                    if course.ended:
                        return
                    interrupt.check()
            row = {"epoch": epoch + 1, **sums.means()}
            if validate:
                row.update({f"val_{name}": value for name, value in trainer.evaluate(self.validation).items()})  # type: ignore[arg-type]
                trainer.inference.release()
            row.update(lr=rate, **dict(zip(COLUMNS, spread(updates_of(trainer)))))
            course.rows.append(row)
            if until(row):
                return

    @property
    def least(self) -> float:
        """Of a first loss below that, three times it are no explosion: the model was trained already."""
        return 0.1 * math.log(max(self.classes, 2))

    def _some(self) -> Dataset:
        """Of the training set, to be looked at as the validation set is."""
        dataset = self.loader.dataset
        return dataset.take(np.unique(np.linspace(0, len(dataset) - 1, _LOOKED_AT).astype(np.int64)))


def _step(trainer: Trainer, batches: Any, counts: list[int], sums: Sums) -> float:
    """The loss of a sample; NaN or infinity where it, or the norm of the gradients, is no number."""
    trainer.stepping._parts = []
    try:
        loss = trainer.stepping._take(trainer, batches, counts, sums.add)
    except FloatingPointError as error:  # fit would repeat the step, and write a file; here it was asked for
        value = getattr(error, "loss", None)
        return math.inf if value is None else float(value)
    return loss / sum(counts) if evaluation.adds_up(trainer.loss) else loss


def _ended(losses: list[float], least: float) -> str:
    last, first = losses[-1], losses[0]
    if not math.isfinite(last):
        return f"the loss, or the norm of the gradients, is no number at step {len(losses)}"
    if first > 0 and last > EXPLODED * max(first, least):
        return f"the loss rises to {last:.3g} at step {len(losses)}, {last / first:.{0 if last > 10 * first else 1}f} times the first one"
    return ""


def _decayed(trainer: Trainer) -> list[dict[str, Any]]:
    """The groups that have a weight decay, or all where none has."""
    groups = [group for group in trainer.optimizer.param_groups if "weight_decay" in group]
    return [group for group in groups if group["weight_decay"]] or groups


def unsmoothed(loss: Any) -> Any:
    """The same loss of labels that are not smoothed."""
    if type(loss) is not CrossEntropyLoss or not loss.label_smoothing:
        return loss
    return CrossEntropyLoss(loss.weight, ignore_index=loss.ignore_index, reduction=loss.reduction)


def _refuse_others(what: str, trainer: Trainer) -> None:
    optimizer = trainer.optimizer
    if isinstance(optimizer, FullBatch):
        raise TypeError(
            f"{what}: trainer has {optimizer.name}, which searches its own steps; expected one that takes a rate: SGD, Adam, ..."
        )
    if not any(p.requires_grad for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            f"{what}: trainer has an optimizer whose parameters are all frozen; requires_grad_(True) of a module has them trained"
        )
    refuse_ranks(what, trainer)
