"""What the range test of the learning rate found."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np

from .. import figures
from ..arguments import path as checked_path
from ..described import described, plural


class Smoothed:
    """m <- beta m + (1 - beta) x; gives m / (1 - beta^t), the mean so far where t is small (Kingma, Ba 2015)."""

    def __init__(self, beta: float) -> None:
        self.beta, self.mean, self.times = beta, 0.0, 0

    def add(self, value: float) -> float:
        self.times += 1
        self.mean = self.beta * self.mean + (1 - self.beta) * value
        return self.mean / (1 - self.beta**self.times)


class RateSearch:
    """What `find_rate` gives: `rates`, `losses` and `smoothed` losses of the steps that were done, and what they say; `print` it.

    `ended` says why the search stopped before its last step, "" where it did not; `replayed` what became of the steps, as a Trainer's. Where the
    losses fell by more than they scatter (`fell`), and else None:

    suggestion: the rate of the steepest descent. The slope of the smoothed loss over log10(rate) is that of the straight line (least squares)
    through the points within a quarter of a decade; the rate is where it is the most negative, up to the least smoothed loss.
    safe: a tenth of the rate of the least smoothed loss.

    Both are of the first parameter group with a rate above 0, for the batch size that was tried: for a constant rate, or as the top of a schedule.
    Begin with the suggestion; where training with that is unsteady, take the lower of both.
    """

    def __init__(self, asked: Sequence[float], *, diverge: float = 4.0, optimizer: str = "") -> None:
        self.asked = list(asked)  # all that were to be tried
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.ended = ""
        self.replayed = ""  # whether the steps were, or why not
        self._diverge, self._optimizer = diverge, optimizer

    def _add(self, loss: float, smoothed: float) -> None:
        """The next step's."""
        self.rates.append(self.asked[len(self.rates)])
        self.losses.append(loss)
        self.smoothed.append(smoothed)
        if not math.isfinite(loss):
            self.ended = "the loss, or the norm of the gradients, was no number"
            return
        least = min(self.smoothed)
        if smoothed > least + (self._diverge - 1) * abs(least):
            self.ended = f"the smoothed loss was more than {self._diverge:g} times its least"

    @property
    def least(self) -> int | None:
        """The number of the step with the least smoothed loss; None where not even the first was a number."""
        finite = [value for value in self.smoothed if math.isfinite(value)]
        return self.smoothed.index(min(finite)) if finite else None

    @property
    def fell(self) -> bool:
        """Whether the smoothed loss fell below the mean loss of the first tenth of the steps by more than twice what single losses scatter:
        sqrt(mean(d^2) / 2) of the differences d from one to the next, which a trend hardly changes (von Neumann 1941)."""
        if not self.least:
            return False
        losses = np.array(self.losses[: self.least + 1])
        begun = losses[: max(1, min(len(self.asked) // 10, self.least))].mean()
        return bool(begun - self.smoothed[self.least] > 2 * math.sqrt((np.diff(losses) ** 2).mean() / 2))

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply; None where it did not fall."""
        if self.least is None or not self.fell:
            return None
        slopes = self._slopes()[: self.least + 1]
        return self.rates[int(np.argmin(slopes))]

    @property
    def safe(self) -> float | None:
        """A tenth of the rate of the least smoothed loss; None where it did not fall."""
        return self.rates[self.least] / 10 if self.least is not None and self.fell else None

    def _slopes(self) -> np.ndarray:
        """Of the smoothed loss over log10(rate), at each step whose loss is a number."""
        values = np.array([value for value in self.smoothed if math.isfinite(value)])
        x = np.log10(self.rates[: len(values)])
        near = [np.flatnonzero(np.abs(x - at) <= 0.25 + 1e-9) for at in x]
        near = [found if len(found) > 1 else np.arange(max(i - 1, 0), min(i + 2, len(x))) for i, found in enumerate(near)]
        return np.array([np.polyfit(x[n] - x[i], values[n], 1)[0] for i, n in enumerate(near)])

    def __repr__(self) -> str:
        told = {name: float(f"{rate:.3g}") for name in ("suggestion", "safe") if (rate := getattr(self, name)) is not None}
        return described(self, f"{plural(len(self.rates), 'step')} of {len(self.asked)}", **told)

    def __str__(self) -> str:
        """What was tried, what it says, and what to do."""
        if not self.rates:
            return "no step was done"
        stopped = f"; then {self.ended}" if self.ended else ""
        tried = f"{plural(len(self.rates), 'step')} at rates from {self.rates[0]:.3g} to {self.rates[-1]:.3g}{stopped}"
        return "\n".join([tried, *self._advice()])

    def _advice(self) -> list[str]:
        least, suggestion, safe = self.least, self.suggestion, self.safe
        if least is None:
            return ["the first loss is no number, before any update: not the rate but data, weights or loss; fit says which"]
        if len(self.rates) < 3 or (self.ended and not self.fell):
            return [
                f"the loss did not fall before: begin at a lower rate, low={self.rates[0] / 1000:.1g}; or look at data, loss and weights"
            ]
        if suggestion is None or safe is None:
            return [
                f"the loss did not fall by more than it scatters: go up to a higher rate, high={self.asked[-1] * 100:.3g}, take larger batches or "
                "more steps; or look at data and labels"
            ]
        lines = [
            f"least smoothed loss  {self.smoothed[least]:.4g} at {self.rates[least]:.3g}",
            f"suggestion           {suggestion:.3g}, where it falls most steeply: lr={suggestion:.2g} for {self._optimizer or 'the optimizer'}",
            f"safe                 {safe:.3g}, a tenth of the rate of the least loss",
        ]
        if least == len(self.rates) - 1:
            lines.append(f"the loss still falls at the highest rate: the range is too small, try high={self.asked[-1] * 100:.3g}")
        return lines

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws losses and smoothed losses over the rate, on a logarithmic axis, with both suggestions, into a PNG, SVG or PDF. Needs matplotlib
        (pip install '.[plot]')."""
        checked_path("RateSearch.plot", "path", path)
        axes = (figure := figures.blank(6, 4)).subplots()
        axes.plot(self.rates, self.losses, ".", markersize=3, alpha=0.5, label="loss of a step")
        axes.plot(self.rates, self.smoothed, label="smoothed")
        for name, style in (("suggestion", "--"), ("safe", ":")):
            rate = getattr(self, name)
            if rate is not None:
                axes.axvline(rate, linestyle=style, color="grey", label=f"{name} {rate:.2g}")
        if self.least is not None:  # what goes up behind the least would press the rest flat
            begun = [value for value in self.losses[: self.least + 1] if math.isfinite(value)]
            low, high = min(begun), max(begun)
            axes.set_ylim(low - 0.1 * (high - low or 1), high + 0.5 * (high - low or 1))
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.grid(alpha=0.3)
        axes.legend()
        figures.save(figure, path)
