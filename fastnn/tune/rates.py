"""Step 3: the rate at which the loss drops within about a hundred steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .. import nn
from ..arguments import integer, number
from ..tensor import tensor
from ..train import Trainer, evaluation
from ..train.evaluation import Data
from .beginning import first_look
from .runs import Course, Runs, unsmoothed
from .verdict import Fault, Verdict

STEPS = 100
SMALL_DECAY = 1e-4
DROPS = 0.05  # of the loss that no learning at all gives: what counts as a drop
_PART = 1 / 3  # of the largest drop: less of one, and the rate is no good one
_BY_GRADIENT = (1e-1, 1e-2, 1e-3, 1e-4)  # SGD
_BY_SIZE = (1e-3, 1e-4, 1e-5)  # Adam


def drop_rate(
    trainer: Trainer, train: Data, *, steps: int = STEPS, decay: float = SMALL_DECAY, batch_size: int | None = None, seed: int = 0
) -> Verdict:
    """Step 3: at which rate the loss drops within about a hundred steps, on the whole training set, with a small weight decay.

        found = tune.drop_rate(trainer, training_set)
        print(found)
        found.values["rate"]

    `steps` steps at the trainer's own rate and at 1e-1, 1e-2, 1e-3, 1e-4 (SGD, Adagrad, Muon) or 1e-3, 1e-4, 1e-5 (others), each from the weights as
    they are. A course ends where the loss is no number, or more than 3 times the first one at any step. The end is the mean of the last fifth of
    the losses; the drop is the share by which it lies below what a model gets that knows no images, only how frequent the classes are,

        drop = 1 - end / min(first loss, entropy of the labels)          the first loss alone for losses other than the softmax's

    The trainer's own rate passes with a drop of 5 % and a third of the largest. Else it is "rate too high" where a lower one does best or it
    diverged, "rate too low" where a higher one does; where no rate gives a drop, "labels" (of a model that passes step 2), or "initialisation"
    where nothing moves at all. `values`: rate (the best), own, drops (by rate).

    Mixing and label smoothing are off, augmentation and dropout are not. decay: of the optimizer, where it has one. The trainer is left as it
    was, bit for bit. Source: CS231n, "Training neural networks II" (choosing hyperparameters). TypeError and ValueError as `train.find_rate`.
    """
    integer("drop_rate", "steps", steps, 10, 2**31), number("drop_rate", "decay", decay, "[0, inf)")
    return dropping(Runs("drop_rate", trainer, train, batch_size=batch_size, seed=seed), steps, decay)


def candidates(runs: Runs) -> list[float]:
    """The trainer's own rate, and those that suit its optimizer; the highest first."""
    usual = [rate for rate in (_BY_SIZE if runs.by_size else _BY_GRADIENT) if not math.isclose(rate, runs.rate, rel_tol=0.2)]
    return [runs.rate, *usual] if runs.rate else usual


def dropping(runs: Runs, steps: int = STEPS, decay: float = SMALL_DECAY, learns: bool | None = None) -> Verdict:
    """learns: whether step 2 has passed; None where it was not done."""
    loader = runs.like(runs.loader.dataset, mixed=False)
    epochs = -(-steps * runs.trainer.stepping.accumulate // len(loader)) + 1
    chance = knows_no_images(runs)
    small = None if runs.decay is None else decay
    tried = {rate: runs.run(loader, epochs=epochs, steps=steps, rate=rate, decay=small, plain=True) for rate in candidates(runs)}
    drops = {rate: _drop(course, chance) for rate, course in tried.items()}
    best = max(drops, key=lambda rate: drops[rate])
    own = runs.rate
    figure = f"in {steps} steps the loss goes from {tried[best].losses[0]:.3g} to {tried[best].end:.3g} at rate {best:.3g}"
    if own and own != best:
        figure += f"; to {tried[own].end:.3g} at the trainer's own, {own:.3g}"
    verdict = Verdict(3, "rate", figure, [], [], {"rate": best, "own": own, "drops": drops, "chance": chance})
    if drops[best] < DROPS:
        verdict.faults = _at_no_rate(runs, tried, learns)
    elif own and drops[own] < max(DROPS, _PART * drops[best]):
        verdict.faults = [_other_rate(own, best, tried[own])]
    others = [f"{rate:.3g}: {_told(course, drops[rate])}" for rate, course in sorted(tried.items(), reverse=True)]
    verdict.advice = ["; ".join(others)]
    return verdict


def knows_no_images(runs: Runs) -> float:
    """The loss of a model that gives each class its frequency; infinity where that is not known."""
    loss = unsmoothed(runs.trainer.loss)
    labels = runs.loader.dataset.labels
    labels = labels[:: max(1, len(labels) // 10_000)]
    known = labels[labels >= 0]
    if not isinstance(loss, nn.CrossEntropyLoss) or not len(known):
        return math.inf
    with np.errstate(divide="ignore"):
        classes = runs.classes if loss.weight is None else max(runs.classes, loss.weight.size)
        logits = np.log(np.bincount(known, minlength=classes) / len(known))
    logits = np.maximum(logits, -30).astype(np.float32)
    value = float(loss(tensor(np.tile(logits, (len(labels), 1)), device=runs.trainer.device), tensor(labels)))
    return value / len(labels) if evaluation.adds_up(loss) else value


def _drop(course: Course, chance: float) -> float:
    begun = min(course.losses[0], chance)
    return -math.inf if course.exploded or not begun > 0 else 1 - course.end / begun


def _told(course: Course, drop: float) -> str:
    return course.ended if course.exploded else f"{course.end:.3g} ({100 * drop:.0f} % lower)" if drop > 0 else f"{course.end:.3g}, no drop"


def _other_rate(own: float, best: float, course: Course) -> Fault:
    if course.exploded:
        return Fault("rate too high", f"at {own:.3g} {course.ended}: take {best:.3g}")
    if own > best:
        return Fault("rate too high", f"at {own:.3g} the loss stays at {course.end:.3g}: take {best:.3g}")
    return Fault("rate too low", f"at {own:.3g} the loss is nearly flat: take {best:.3g}")


def _at_no_rate(runs: Runs, tried: Mapping[float, Course], learns: bool | None) -> list[Fault]:
    """What steps 1 and 2 say, where they have not been done; if they pass, what is left."""
    from .small_set import small_set  # which asks for the rates here

    if not learns and (faults := first_look(runs).faults or small_set(runs).faults):
        return faults
    if all(course.exploded for course in tried.values()):
        return [Fault("rate too high", "at every rate the loss grows or is no number: lower rates, or a loss and an input of usual size")]
    words = "a few batches are learned by heart (step 2), but the loss of the whole set does not drop below that of a guess"
    return [Fault("labels", f"{words} by the classes' frequency, at any rate: do labels belong to their images?")]
