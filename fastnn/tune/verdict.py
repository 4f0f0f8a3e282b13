"""What a step of the recipe says: PASS or FAIL, the figure that it judged, and what to change."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

from ..described import described

FAULTS = (
    "input",  # images that are not about 0, or not about 1 in size
    "outputs",  # probabilities, where the loss takes logits
    "initialisation",  # weights that are 0, alike, too large or too small
    "dead units",  # ReLUs that are 0 for every sample
    "no number",  # NaN or infinity before the first update
    "labels",  # that have nothing to do with the images
    "rate too high",
    "rate too low",
    "underfitting",
    "overfitting",
    "edge",  # the best value lies at the edge of the range that was searched
)


@dataclass(frozen=True)
class Fault:
    """One of FAULTS by its name, and in words what was seen and what to change."""

    name: str
    text: str


@dataclass
class Verdict:
    """What one step found; `print` it. `figure` is in words what was judged, `values` the numbers behind it by name; `faults` why it failed (none:
    it passed), `advice` what else would be better."""

    step: int
    title: str
    figure: str
    faults: list[Fault] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.faults

    @property
    def names(self) -> list[str]:
        """Of the faults."""
        return [fault.name for fault in self.faults]

    def __repr__(self) -> str:
        return described(self, f"{self.step} {self.title}", "PASS" if self.passed else f"FAIL: {', '.join(self.names)}")

    def __str__(self) -> str:
        lines = [f"{self.step} {self.title:<14} {'PASS' if self.passed else 'FAIL'}  {self.figure}"]
        lines += [f"{fault.name}: {fault.text}" for fault in self.faults] + self.advice
        return "\n".join(part for i, line in enumerate(lines) for part in _wrapped(line, 17 if i == 0 else 23, 0 if i == 0 else 23))


def _wrapped(line: str, hanging: int, first: int) -> list[str]:
    more = hanging + 6 if first == 0 else hanging + 2
    return textwrap.wrap(
        line, 120, initial_indent=" " * first, subsequent_indent=" " * more, break_long_words=False, break_on_hyphens=False
    )
