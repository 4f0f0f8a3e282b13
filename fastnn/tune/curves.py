"""Step 6: what the curves of a training say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arguments import instance, number
from ..train import History, reading
from .runs import EXPLODED, Course
from .verdict import Fault, Verdict

WIDE = 0.1  # between the accuracies of training and validation
NONE = 0.05
HIGH = 0.9  # an accuracy below is worth more capacity, where there is no gap
_FLAT = 0.01
_FALLING = 0.05  # in the last quarter of the epochs


def read_curves(history: History, *, train_accuracy: float | None = None, chance: float | None = None) -> Verdict:
    """Step 6: reads the curves of a training, this one or any other.

        history = trainer.fit(training, 10, validation)
        print(tune.read_curves(history))

    Of the columns loss, accuracy, val_accuracy and lr, as far as they are there:

    loss NaN, or more than 3 times that of the first epoch                     "rate too high"
    loss within 1 % in all epochs, of at least 3                               "rate too low", or bad initial weights
    loss within 2 % in the first fifth (2 epochs at least), then 20 % lower    "initialisation"
    val_accuracy at chance, accuracy 10 % above it                             "labels"
    accuracy more than 10 % above val_accuracy                                 "overfitting": regularise
    accuracy below 90 %, not 5 % above val_accuracy, loss no longer falling    "underfitting": more capacity

    and in `advice`, without a failure: still falling at the end (longer), a plateau at one rate (lower it), a rate that dropped while the loss still
    fell (later), the validation loss rising again (an earlier end), updates beyond 1e-4 ... 1e-2 of the weights.

    train_accuracy: on the training set in evaluation mode, which counts in place of the last `accuracy`, with its dropout. chance: the accuracy of a
    guess, the share of the most frequent class; without it "labels" is not judged. Source: CS231n, "Neural networks part 3". TypeError for
    what is no History; ValueError for one without an epoch.
    """
    instance("read_curves", "history", history, History, "a train.History, as fit returns it")
    for name, value in (("train_accuracy", train_accuracy), ("chance", chance)):
        if value is not None:
            number("read_curves", name, value, "[0, 1]")
    if not len(history) or "loss" not in history.rows[0]:
        raise ValueError("read_curves: history has no epoch with a loss; expected one at least")
    return read(history.rows, [], math.nan if train_accuracy is None else train_accuracy, chance)


def of_course(course: Course, chance: float, step: int = 6, title: str = "curves") -> Verdict:
    """Of a training of the recipe's own."""
    verdict = read(course.rows, course.losses, course.train_accuracy, chance, course.ended)
    verdict.step, verdict.title = step, title
    return verdict


def read(rows: Sequence[dict[str, float]], steps: Sequence[float], train_accuracy: float, chance: float | None, ended: str = "") -> Verdict:
    losses = [row["loss"] for row in rows if "loss" in row]
    last: dict[str, float] = dict(rows[-1]) if rows else {}
    own = last.get("accuracy", math.nan) if math.isnan(train_accuracy) else train_accuracy
    other = last.get("val_accuracy", math.nan)
    values: dict[str, Any] = {"accuracy": own, "val_accuracy": other, "gap": own - other}
    if not losses:
        return Verdict(6, "curves", f"ended within the first epoch: {ended}", [Fault("rate too high", f"{ended}: a lower one")], [], values)
    figure = f"in {len(losses)} epochs the loss goes from {losses[0]:.3g} to {losses[-1]:.3g}"
    if not math.isnan(own):
        figure += f"; accuracy {100 * own:.1f} % in training"
    if not math.isnan(other):
        figure += f", {100 * other:.1f} % in validation"
    verdict = Verdict(6, "curves", figure, [], [], values)
    verdict.faults = _faults(rows, losses, steps, own, other, chance, ended)
    if verdict.passed:
        rules: tuple[Callable[[], str | None], ...] = (
            lambda: _early(rows),
            lambda: _plateau(rows, losses, own),
            lambda: reading.still_better(rows),
            lambda: reading.overfits(rows),
            lambda: reading.ratio(rows),
        )
        verdict.advice = [said for rule in rules if (said := rule()) is not None]
    return verdict


def _faults(
    rows: Sequence[dict[str, float]],
    losses: list[float],
    steps: Sequence[float],
    own: float,
    other: float,
    chance: float | None,
    ended: str,
) -> list[Fault]:
    if ended or not all(map(math.isfinite, losses)):
        return [Fault("rate too high", f"{ended or 'the loss is no number'}: a lower one; a warm-up, or clipping, where that is too slow")]
    if len(losses) > 1 and losses[0] > 0 and max(losses) > EXPLODED * losses[0]:
        return [Fault("rate too high", f"the loss rose to {max(losses):.4g}, {max(losses) / losses[0]:.3g} times that of the first epoch")]
    if _late(steps or losses):
        return [
            Fault(
                "initialisation",
                "the loss is flat at first and falls later: weights begin badly (He: sqrt(2 / fan_in)), or a layer is stuck",
            )
        ]
    if chance is not None and other < chance + 0.05 and own > chance + WIDE:
        return [
            Fault("labels", f"validation is no better than a guess ({100 * chance:.0f} %), training is: do labels belong to their images?")
        ]
    if own - other > WIDE:
        way = "regularise: weight decay, dropout, augmentation; or more data"
        return [Fault("overfitting", f"a wide gap of {100 * (own - other):.1f} %: {way}")]
    if (fell := _fell(losses, len(losses))) is not None and fell < _FLAT:
        return [
            Fault(
                "rate too low",
                f"the loss is flat, {100 * fell:.2g} % lower in {len(losses)} epochs: a higher rate, or other initial weights",
            )
        ]
    if own < HIGH and own - other < NONE and not _falling(losses):
        text = "more capacity: wider or more layers; less regularisation; features that tell more"
        return [Fault("underfitting", f"no gap, and training itself is at {100 * own:.1f} %: {text}")]
    return []


def _fell(losses: Sequence[float], count: int) -> float | None:
    """The share by which the loss fell in the last `count` epochs; None of fewer than three."""
    part = losses[-count:]
    return 1 - min(part) / part[0] if len(part) > 2 and part[0] > 0 else None


def _falling(losses: Sequence[float]) -> bool:
    """Whether in the last quarter of the epochs, two at least, the loss fell by more than 5 %; of a single epoch nobody knows."""
    part = max(2, len(losses) // 4)
    return len(losses) < 3 or losses[-1] < (1 - _FALLING) * losses[max(0, len(losses) - 1 - part)]


def _late(losses: Sequence[float]) -> bool:
    """Flat for the first fifth, then falling."""
    fifth = len(losses) // 5
    if fifth < 2 or not losses[0] > 0:
        return False
    width = max(1, fifth // 4)
    begun, behind, end = (float(np.mean(part)) for part in (losses[:width], losses[fifth - width : fifth], losses[-width:]))
    return 0.98 * begun < behind < 1.02 * begun and end < 0.8 * behind


def _plateau(rows: Sequence[dict[str, float]], losses: list[float], own: float) -> str | None:
    third = len(losses) // 3
    rates = {row["lr"] for row in rows[-third - 1 :] if "lr" in row} if third >= 2 else set()
    if third < 2 or len(rates) != 1 or own > 0.99 or (fell := _fell(losses, third + 1)) is None or fell >= 2 * _FLAT:
        return None
    return f"a plateau: the loss fell by {100 * fell:.1f} % in the last {third} epochs at one rate: lower it there, by 10 or as a cosine"


def _early(rows: Sequence[dict[str, float]]) -> str | None:
    """The rate dropped to a fifth or less while the loss fell by 5 % an epoch, and no longer did behind that."""
    for i in range(2, len(rows) - 2):
        if not all({"lr", "loss"} <= row.keys() for row in rows[i - 2 : i + 3]):
            continue
        before, behind = rows[i - 1]["loss"] / rows[i - 2]["loss"], rows[i + 2]["loss"] / rows[i + 1]["loss"]
        if 0 < rows[i]["lr"] <= rows[i - 1]["lr"] / 5 and before < 1 - _FALLING and behind > 1 - _FLAT:
            return f"the rate dropped too early, before epoch {rows[i].get('epoch', i + 1):g}, while the loss still fell: a later decay"
    return None
