"""One trial: the values that it is made with, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..arguments import figure, integer, shown, text
from .space import told


class Pruned(Exception):
    """Raised by an objective whose trial is not worth going on with: it counts as pruned, its score is what it reported last."""


class Trial(Mapping[str, Any]):
    """The values by name, `trial["rate"]`; and, when it is done, what came of them.

    index: its number in the study, from 0. state: "running", "complete", "pruned" or "failed"; reason: why it failed, else "". score: what the
    objective returned (pruned: what was reported last), None where there is none. seconds: how long it took. reports: value by step.
    """

    score: float | None

    def __init__(self, index: int, values: Mapping[str, Any]) -> None:
        if not isinstance(values, Mapping):
            raise TypeError(f"Trial: values must be a dict by name, got {shown(values)}")
        self.index = integer("Trial", "index", index, 0)
        self._values = {text("Trial", "values' names", name): value for name, value in values.items()}
        self.state, self.reason, self.score, self.seconds = "running", "", None, 0.0
        self.reports: dict[int, float] = {}
        self._tell: Callable[[float, int], None] | None = None  # whoever keeps reports besides
        self._judge: Callable[[], bool] | None = None

    def __getitem__(self, name: str) -> Any:
        if text("trial", "name", name, "such as 'rate'") not in self._values:
            raise KeyError(f"trial has no {name!r}; expected one of {', '.join(self._values)}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Trial({self.index}, {words(self)}, {self.state}{'' if self.score is None else f', score {self.score:.4g}'})"

    def report(self, value: float, step: int) -> None:
        """How good it is after `step` (an epoch, a fold): what pruning decides by. ValueError unless steps grow from one report to the next."""
        integer("report", "step", step, 0, 2**31)
        found = figure("report", "value", value)
        if self.reports and step <= (last := max(self.reports)):
            raise ValueError(f"report: step must be greater than that of the report before, {last}, got {step}")
        self.reports[int(step)] = found
        if self._tell is not None:
            self._tell(found, int(step))

    def should_prune(self) -> bool:
        """Whether, of what was reported, the study's `prune` says that going on is not worth it; the objective then raises tune.Pruned. False where
        the study prunes nothing."""
        return self._judge is not None and bool(self.reports) and self._judge()

    def _end(self, state: str, score: float | None = None, reason: str = "") -> None:
        self.state, self.score, self.reason = state, score, reason
        self._tell = self._judge = None


def words(values: Mapping[str, Any]) -> str:
    """ "rate 0.0123, decay 1e-05" """
    return ", ".join(f"{name} {cell(value)}" for name, value in values.items())


def cell(value: Any) -> str:
    """A value of a trial, in three digits."""
    if isinstance(value, float):
        return f"{value:.3g}" if math.isfinite(value) else told(value)
    return value if isinstance(value, str) else shown(value)
