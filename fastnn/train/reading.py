"""What the figures of a training say, in sentences: each is a rule with a number that was looked at (CS231n, "Neural networks part 3": babysitting
the learning process)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from .checkpoint import Snapshot

Rows = Sequence[Mapping[str, float]]
Rule = Callable[[Rows], "str | None"]
RATIO, LOW_RATIO, HIGH_RATIO = 1e-3, 1e-4, 1e-2  # of update to weight: what to aim at, what is usual


def best_of(rows: Rows) -> int | None:
    """The index of the best row, as the Trainer ranks: the highest val_accuracy, at equal ones the lower val_loss; None without validation."""
    best: tuple[Snapshot, int] | None = None
    for i, row in enumerate(rows):
        if "val_loss" in row:
            one = Snapshot(i, row.get("val_accuracy", 0.0), row["val_loss"], {})
            if best is None or one.better_than(best[0]):
                best = one, i
    return None if best is None else best[1]


def readings(rows: Rows) -> list[str]:
    """What the rules say, in their order."""
    return [said for rule in RULES if (said := rule(rows)) is not None]


# --- the rules


def no_number(rows: Rows) -> str | None:
    for name in ("loss", "val_loss"):
        for i, row in enumerate(rows):
            if not math.isfinite(row.get(name, 0.0)):
                return f"{name} is {row[name]:g} in epoch {_epoch(rows, i)}: a lower rate, or a look at the data"
    return None


def exploded(rows: Rows) -> str | None:
    losses = _finite(rows, "loss")
    if len(losses) < 2 or losses[0] <= 0 or max(losses) <= 3 * losses[0]:
        return None
    return f"the training loss rose to {max(losses):.4g}, {max(losses) / losses[0]:.3g} times that of the first epoch: the rate is too high"


def flat(rows: Rows) -> str | None:
    losses = _finite(rows, "loss")
    if len(losses) < 3 or losses[0] <= 0 or (fell := 1 - min(losses) / losses[0]) >= 0.01:
        return None
    return f"the training loss fell by {100 * fell:.2g} % in {len(losses)} epochs: the rate is too low, or weights begin badly"


def overfits(rows: Rows) -> str | None:
    losses = _finite(rows, "val_loss")
    if len(losses) < 3 or not losses[-1] > 1.1 * (least := min(losses)) or least <= 0 or len(losses) != len(rows):
        return None
    at, own = losses.index(least), _finite(rows, "loss")
    if len(own) != len(rows) or own[-1] >= own[at]:
        return None
    return (
        f"the validation loss has risen from {least:.4g} (epoch {_epoch(rows, at)}) to {losses[-1]:.4g}, while the training loss fell from "
        f"{own[at]:.4g} to {own[-1]:.4g}: overfitting; more data or augmentation, weight decay, dropout, or an earlier end (train.EarlyStopping)"
    )


def gap(rows: Rows) -> str | None:
    at = best_of(rows)
    if at is None or not {"accuracy", "val_accuracy"} <= rows[at].keys():
        return None
    own, other = rows[at]["accuracy"], rows[at]["val_accuracy"]
    told = f"in epoch {_epoch(rows, at)}, the best, accuracy is {100 * own:.1f} % in training and {100 * other:.1f} % in validation"
    if own - other > 0.1:
        return f"{told}: a wide gap; weight decay, dropout, augmentation, more data"
    if own - other < 0.01 and own < 0.9:
        return f"{told}: no gap, and neither is high; a larger model, a longer training, less regularisation"
    return None


def still_better(rows: Rows) -> str | None:
    losses = _finite(rows, "loss")
    part = max(2, len(losses) // 4)
    if len(losses) < 4 or best_of(rows) not in (None, len(rows) - 1) or losses[-1] > min(losses) or losses[-1 - part] <= 0:
        return None
    if (fell := 1 - losses[-1] / losses[-1 - part]) < 0.05:
        return None
    return f"the training loss still falls, by {100 * fell:.0f} % in the last {part} epochs, and no epoch was better than the last: a longer training"


def ratio(rows: Rows) -> str | None:
    ratios = _finite(rows, "update_ratio")
    if not ratios:
        return None
    middle = sorted(ratios)[len(ratios) // 2]
    if LOW_RATIO <= middle <= HIGH_RATIO:
        return None
    side = "too high" if middle > HIGH_RATIO else "too low"
    return f"updates are {middle:.1e} of the weights (median), {LOW_RATIO:g} to {HIGH_RATIO:g} is usual: the rate is {side}"


RULES: tuple[Rule, ...] = (no_number, exploded, flat, overfits, gap, still_better, ratio)


def _finite(rows: Rows, column: str) -> list[float]:
    return [row[column] for row in rows if column in row and math.isfinite(row[column])]


def _epoch(rows: Rows, i: int) -> str:
    return f"{rows[i].get('epoch', i + 1):g}"
