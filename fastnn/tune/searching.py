"""Steps 4, 5 and 7: rate and weight decay searched, coarsely, then finely."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arguments import integer, number
from ..described import plural
from ..train import Trainer
from ..train.evaluation import Data
from .curves import of_course
from .runs import Course, Runs
from .search import search
from .space import choice, log_uniform
from .study import Study
from .trial import Trial
from .verdict import Fault, Verdict

_DECAYS = (0.0, 1e-5, 1e-4)
_STEPS = 200  # of a coarse trial, within 1 to 5 epochs
_FEWEST = 100  # steps after which a trial that learned nothing says something
_WIDENED = 2  # times, at most
COARSE, FINE, FINER = 10.0, 3.0, 1.5  # the range's ends are the rate divided by it and times it


@dataclass
class Searched:
    """Trials of one step, perhaps of several ranges side by side."""

    low: float
    high: float
    epochs: int
    studies: list[Study] = field(default_factory=list)
    courses: dict[int, Course] = field(default_factory=dict)  # by id of the trial

    @property
    def complete(self) -> list[Trial]:
        return [trial for study in self.studies for trial in study.trials if trial.state == "complete"]

    @property
    def best(self) -> Trial:
        return max(self.complete, key=lambda trial: trial.score or 0.0)

    @property
    def course(self) -> Course:
        """Of the best trial."""
        return self.courses[id(self.best)]

    def accuracy(self, trial: Trial) -> float:
        return self.courses[id(trial)].last("val_accuracy")

    def edge(self) -> str | None:
        """The end of the range of rates within a tenth of which (in logarithms) the best lies."""
        place = math.log(self.best["rate"] / self.low) / math.log(self.high / self.low)
        return "lower" if place <= 0.1 else "upper" if place >= 0.9 else None


def coarse(
    trainer: Trainer,
    train: Data,
    validation: Data | None = None,
    *,
    rate: float | None = None,
    trials: int = 8,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> Verdict:
    """Step 4: a coarse random search of the rate and the weight decay, by validation accuracy.

    `trials` short trainings of `epochs` (left out: as many as make 200 steps, 1 to 5), all from the weights as they are, rates log-uniform from
    rate / 10 to 10 rate, weight decays of 0, 1e-5, 1e-4 and the trainer's own (AdamW and other decoupled ones: log-uniform from 1e-4 to 1e-1). rate:
    left out, the trainer's own. A trial ends where its loss is no number or more than 3 times its first one. Where the best rate lies at an end of
    its range, within a tenth in logarithms, half as many trials go beyond it, evenly and at the best weight decay, twice at most.

    Fails where no trial is better than a guess by three standard errors after 100 steps or more ("labels"), where all diverge ("rate too high"), and
    where the best rate still lies at the end and is better than all others by more than a standard error ("edge"). `values`: rate,
    weight_decay, accuracy, epochs, studies.

    validation: left out, 15 % of the training set are taken for it. Otherwise as `tune.recipe`; the trainer is left as it was, bit for bit.
    Source: CS231n, "Training neural networks II" (choosing hyperparameters). ValueError and TypeError as there.
    """
    return _alone(Runs("coarse", trainer, train, validation, batch_size, seed), 4, COARSE, rate, trials, epochs)


def refine(
    trainer: Trainer,
    train: Data,
    validation: Data | None = None,
    *,
    rate: float | None = None,
    trials: int = 6,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> Verdict:
    """Step 5: a finer and longer search around a rate, from rate / 3 to 3 rate, three times as many epochs; otherwise as `tune.coarse`."""
    return _alone(Runs("refine", trainer, train, validation, batch_size, seed), 5, FINE, rate, trials, epochs)


def _alone(runs: Runs, step: int, factor: float, rate: float | None, trials: int, epochs: int | None) -> Verdict:
    what = runs.what
    integer(what, "trials", trials, 1, 2**20)
    if epochs is not None:
        integer(what, "epochs", epochs, 1, 2**31)
    if rate is not None:
        number(what, "rate", rate, "(0, inf)")
    runs.with_validation()
    around = runs.rate if rate is None else rate
    if not around:
        raise ValueError(f"{what}: the trainer's rate is 0; give rate=..., around which to search")
    usual = epochs_of(runs) * (1 if factor == COARSE else 3)
    return verdict_of(searched(runs, around, factor, decays(runs), trials, epochs or usual), runs, step)


def epochs_of(runs: Runs) -> int:
    """Of a coarse trial."""
    return min(5, max(1, math.ceil(_STEPS / runs.trainer.stepping.steps(runs.loader))))


def decays(runs: Runs) -> Any:
    """An axis of weight decays; None for an optimizer without."""
    if runs.decay is None:
        return None
    return log_uniform(1e-4, 1e-1) if runs.decoupled else choice(sorted({*_DECAYS, runs.decay}))


def searched(runs: Runs, rate: float, factor: float, decay: Any, trials: int, epochs: int) -> Searched:
    """decay: an axis, a value that stays, or None."""
    found = Searched(rate / factor, rate * factor, epochs)
    _add(found, runs, found.low, found.high, decay, trials)
    for _ in range(_WIDENED):
        if not found.complete or (end := found.edge()) is None:
            break
        low, high = (found.low / factor, found.low) if end == "lower" else (found.high, found.high * factor)
        found.low, found.high = min(low, found.low), max(high, found.high)
        _add(found, runs, low, high, None if decay is None else float(found.best["weight_decay"]), max(2, trials // 2), "grid")
    return found


def _add(found: Searched, runs: Runs, low: float, high: float, decay: Any, trials: int, method: str = "random") -> None:
    space: dict[str, Any] = {"rate": log_uniform(low, high)}
    if decay is not None:
        space["weight_decay"] = choice([decay]) if isinstance(decay, float) else decay

    def objective(trial: Trial) -> float:
        course = runs.run(runs.loader, epochs=found.epochs, rate=trial["rate"], decay=trial.get("weight_decay"), validate=True)
        found.courses[id(trial)] = course
        if course.ended:
            raise ArithmeticError(course.ended)
        return course.last("val_accuracy") - 1e-6 * min(course.last("val_loss"), 1e3)  # of equal ones the lower loss

    found.studies.append(search(objective, space, trials=trials, method=method, seed=runs.seed + len(found.studies), progress=False))


def verdict_of(found: Searched, runs: Runs, step: int, drops: bool = False) -> Verdict:
    """drops: whether the loss dropped in step 3, of the same labels and without penalties."""
    title = {4: "coarse search", 5: "fine search"}.get(step, "once more")
    count = sum(len(study) for study in found.studies)
    told = f"{plural(count, 'trial')} of {plural(found.epochs, 'epoch')}, rates {found.low:.2g} ... {found.high:.2g}"
    values: dict[str, Any] = {"studies": found.studies}
    failed = [trial for study in found.studies for trial in study.trials if trial.state == "failed"]
    if not found.complete:
        fault = Fault("rate too high", f"all diverged, the first: {failed[0].reason}: lower rates, or a look at the input (step 1)")
        return Verdict(step, title, told, [fault], [], values)
    best = found.best
    accuracy, error = found.accuracy(best), _error(found.accuracy(best), _count(runs))
    values |= {"rate": best["rate"], "weight_decay": best.get("weight_decay"), "accuracy": accuracy, "epochs": found.epochs}
    figure = f"{100 * accuracy:.1f} % in validation at {_words(best)}; {told}"
    verdict = Verdict(step, title, figure, [], [], values)
    guess = guessed(runs)
    if accuracy < guess + 3 * _error(guess, _count(runs)):
        if len(found.course.losses) < _FEWEST:
            verdict.advice.append(f"no better than a guess ({100 * guess:.0f} %) after {len(found.course.losses)} steps: more epochs")
            return verdict
        words = f"no trial is better than a guess ({100 * guess:.0f} %)"
        regularised = Fault(
            "underfitting", f"{words}, though without penalties the loss drops (step 3): a weaker penalty (l1, l2), less mixing"
        )
        verdict.faults = [regularised if drops else Fault("labels", f"{words}: do labels belong to their images?")]
    elif (end := found.edge()) is not None:
        beyond = f"{found.low / 10:.2g} ... {found.low:.2g}" if end == "lower" else f"{found.high:.2g} ... {found.high * 10:.2g}"
        text = f"the best rate lies at the {end} end of its range: widen it, {beyond}"
        inner = [found.accuracy(trial) for trial in found.complete if _inside(trial, found)]
        if accuracy > max(inner, default=0.0) + error:
            verdict.faults = [Fault("edge", text)]
        else:
            verdict.advice.append(f"{text}; others are as good within a standard error, {100 * error:.1f} %")
    if failed:
        verdict.advice.append(f"{plural(len(failed), 'trial')} ended early, at rates from {min(trial['rate'] for trial in failed):.2g} on")
    return verdict


def _inside(trial: Trial, found: Searched) -> bool:
    return 0.1 < math.log(trial["rate"] / found.low) / math.log(found.high / found.low) < 0.9


def _words(trial: Mapping[str, Any]) -> str:
    decay = "" if "weight_decay" not in trial else f", weight decay {trial['weight_decay']:.2g}"
    return f"rate {trial['rate']:.3g}{decay}"


def guessed(runs: Runs) -> float:
    """The accuracy of who always says the most frequent class."""
    labels = _validation(runs)
    return float(np.bincount(labels[labels >= 0]).max() / max(1, len(labels))) if (labels >= 0).any() else 0.0


def _validation(runs: Runs) -> np.ndarray:
    data: Any = runs.validation
    return np.asarray(getattr(data, "dataset", data).labels)


def _count(runs: Runs) -> int:
    return len(_validation(runs))


def _error(share: float, count: int) -> float:
    """The standard error of a share of so many; one that is 0 or 1 may be half a sample off."""
    share = min(max(share, 0.5 / count), 1 - 0.5 / count)
    return math.sqrt(share * (1 - share) / count)


def once_more(runs: Runs, before: float, rate: float, decay: float | None, trials: int, epochs: int) -> tuple[Verdict, Searched]:
    """Step 7: again from 5, closer; and its curves. before: the accuracy so far."""
    found = searched(runs, rate, FINER, decay, trials, epochs)
    verdict = verdict_of(found, runs, 7)
    if found.complete:
        read = of_course(found.course, guessed(runs))
        verdict.faults = [fault for fault in verdict.faults if fault.name != "edge"] + read.faults  # ends of so small a range are none
        verdict.advice = read.advice
        gained = verdict.values["accuracy"] - before
        better = gained > _error(before, _count(runs)) if not math.isnan(before) else False
        verdict.advice.append("better than before: go on so" if better else "no better than before by more than chance: this is it")
    return verdict, found
