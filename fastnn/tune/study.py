"""What a search found: its trials, the best of them, and what they say."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .. import figures, files
from ..arguments import instance, integer, number, shown, text
from ..arguments import path as checked_path
from ..described import described, plural
from . import pictures
from .space import COLUMNS, Axis
from .trial import Trial, cell, words

_ORDER = ("complete", "pruned", "failed", "running")
_PLAIN = (bool, int, float, str, type(None))  # what a file holds; of other values it has the kind
_SHOWN = 20  # trials that print shows


class Study:
    """What `search` gives; `print` it: the trials, the best first, and `findings`.

    trials: all of them, by index; each is a Trial with its values, score, state, reason and seconds. best: the complete one with the highest score (the
    lowest with maximize=False), of equal ones the first. space: what was searched, by name. findings: what the trials say, in sentences.
    """

    def __init__(
        self, space: Mapping[str, Axis], trials: Iterable[Trial], *, maximize: bool = True, method: str = "random", seed: int = 0
    ) -> None:
        self.space, self.maximize, self.method, self.seed = dict(space), maximize, method, seed
        self.trials = sorted(trials, key=lambda trial: trial.index)

    @property
    def best(self) -> Trial:
        """ValueError where no trial is complete; it says how many failed, and why the first did."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        if not complete:
            raise ValueError(
                f"the study has no best trial: expected one that is complete, there are {self._counts() or 'none at all'}{self._why()}"
            )
        return min(complete, key=self._rank)

    def ranked(self) -> list[Trial]:
        """The trials, the best first, behind them those that were pruned, that failed, and that are still running."""
        return sorted(self.trials, key=lambda trial: (_ORDER.index(trial.state), trial.score is None, self._rank(trial), trial.index))

    @property
    def at_edge(self) -> dict[str, str]:
        """The names whose best value lies within a tenth of its range (in its logarithm, where that is drawn), or at the last value of a choice of
        ascending numbers, with the end: {"rate": "upper"}. Ends beyond which nothing is known, such as 0, are none."""
        if not any(trial.state == "complete" for trial in self.trials):
            return {}
        best = self.best
        return {name: end for name, axis in self.space.items() if (end := axis.edge(best[name])) is not None}

    @property
    def findings(self) -> list[str]:
        """Sentences: parameters whose best value lies at the edge of its range, with the range to try next; trials that failed."""
        found = []
        for name, end in self.at_edge.items():
            axis = self.space[name]
            found.append(f"the best {name}, {cell(self.best[name])}, lies at the {end} edge of {axis!r}: widen it, {axis.wider(end)!r}")
        if failed := [trial for trial in self.trials if trial.state == "failed"]:
            found.append(f"{len(failed)} of {plural(len(self.trials), 'trial')} failed{self._why()}")
        if running := [trial.index for trial in self.trials if trial.state == "running"]:
            found.append(f"still running elsewhere: {plural(len(running), 'trial')}, {', '.join(map(str, running[:10]))}")
        return found

    def narrowed(self, share: float = 0.25) -> dict[str, Axis]:
        """The space for a finer search: of `share` of each range's length (in logarithms, where those are drawn) around its best value, beyond the
        range too where that lies at its edge. Choices stay. ValueError unless 0 < share <= 1, and where no trial is complete."""
        number("narrowed", "share", share, "(0, 1]")
        best = self.best
        return {name: axis.around(best[name], share) for name, axis in self.space.items()}

    def table(self, most: int | None = None) -> str:
        """The trials as a table to print, the best first, behind them those that were pruned or failed; the first `most` of them."""
        most = len(self.trials) if most is None else integer("table", "most", most, 1)
        names = list(self.space)
        rows = [["trial", "score", *names, "seconds", ""]]
        for trial in self.ranked()[:most]:
            score = "" if trial.score is None else f"{trial.score:.4f}" if 1e-3 <= abs(trial.score) < 1e5 else f"{trial.score:.4g}"
            told = ": ".join(filter(None, [trial.state if trial.state != "complete" else "", trial.reason]))
            rows.append([str(trial.index), score, *(cell(trial[name]) for name in names), f"{trial.seconds:.1f}", told[:100]])
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join([*(value.rjust(width) for value, width in zip(row[:-1], widths)), row[-1]]).rstrip() for row in rows]
        left = len(self.trials) - most
        return "\n".join([*lines, *([f"... and {plural(left, 'trial')} more"] if left > 0 else [])])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the trials by index, one per line, whole or not at all: as CSV where the name ends in .csv, as JSON Lines else, with the columns
        trial, score, state, seconds, reason and those of the space; an empty cell, or null, where there is no score. JSON has the reports
        ({"1": 0.5, ...}) besides. Values of
        a choice that are no numbers or words stand there by their kind."""
        checked_path("Study.save", "path", path)
        rows = [self._row(trial) for trial in self.trials]
        if os.path.splitext(os.fspath(path))[1].lower() == ".csv":
            out = csv.writer(text := io.StringIO(), lineterminator="\n")
            out.writerow([*COLUMNS, *self.space])
            out.writerows(["" if value is None else value for value in row.values()] for row in rows)
            written = text.getvalue()
        else:
            reports = [{"reports": trial.reports} for trial in self.trials]
            written = "".join(f"{json.dumps({**row, **told})}\n" for row, told in zip(rows, reports))
        files.replace(path, written.encode("utf-8", "backslashreplace"))

    def plot(self, path: str | os.PathLike[str], x: str | None = None, y: str | None = None) -> None:
        """Draws the trials as dots over two parameters (the first two of the space, unless named; a single one with the score above it), coloured by
        score, on logarithmic axes where values are drawn so, into a PNG, SVG or PDF: where the good ones lie, and whether at an edge. A ring marks
        the best; pruned and failed trials have no colour. Needs matplotlib (pip install '.[plot]')."""
        checked_path("Study.plot", "path", path)
        figures.save(pictures.scatter(self, x, y), path)

    def plot_curves(self, path: str | os.PathLike[str]) -> None:
        """Draws what each trial reported, step by step, the best one in front, those that were pruned with a cross where they ended. ValueError where
        no trial has reported anything. Needs matplotlib (pip install '.[plot]')."""
        checked_path("Study.plot_curves", "path", path)
        if not any(trial.reports for trial in self.trials):
            raise ValueError("Study.plot_curves: no trial has reports; an objective calls trial.report(value, step), as tune.Training does")
        figures.save(pictures.curves(self), path)

    def importances(self) -> dict[str, float]:
        """How much each parameter matters, the largest first; the sum is 1. PED-ANOVA (Watanabe, Bansal, Hutter 2023), as Optuna computes it: how far
        a parameter's values in the best tenth of the complete trials are from those of all, in Pearson's divergence. Few trials say little. Needs
        Optuna (pip install '.[tune]'). ValueError below 10 complete trials, and where all of them have one score."""
        from .storage import importances

        return importances(self)

    def plot_importances(self, path: str | os.PathLike[str]) -> None:
        """Draws `importances` as bars. Needs Optuna and matplotlib (pip install '.[tune,plot]')."""
        checked_path("Study.plot_importances", "path", path)
        figures.save(pictures.bars(self.importances()), path)

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        return described(self, self._counts() or "no trial yet", *([f"best {self.best.score:.4g}"] if self._complete else []))

    def __str__(self) -> str:
        """How many trials, the best, the table and the findings."""
        ahead = f"{plural(len(self.trials), 'trial')} ({self.method}, seed {self.seed}): {self._counts()}"
        best = [f"best: {self.best.score:.4g} by {words(self.best)} (trial {self.best.index})"] if self._complete else []
        return "\n".join([ahead, *best, self.table(_SHOWN), *self.findings])

    @property
    def _complete(self) -> bool:
        return any(trial.state == "complete" for trial in self.trials)

    def _rank(self, trial: Trial) -> float:
        score = trial.score or 0.0
        return -score if self.maximize else score

    def _counts(self) -> str:
        """ "17 complete, 3 failed" """
        counts = Counter(trial.state for trial in self.trials)
        return ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])

    def _why(self) -> str:
        reason = next((trial.reason for trial in self.trials if trial.state == "failed"), "")
        return f", the first: {reason}" if reason else ""

    def _row(self, trial: Trial) -> dict[str, Any]:
        ours = dict(zip(COLUMNS, (trial.index, trial.score, trial.state, trial.seconds, trial.reason)))
        return {**ours, **{name: value if isinstance(value, _PLAIN) else shown(value) for name, value in trial.items()}}


def plot_side_by_side(studies: Mapping[str, Study], path: str | os.PathLike[str], x: str | None = None, y: str | None = None) -> None:
    """Draws several studies of one space beside each other, as Study.plot does, with one scale of colours: {"grid": ..., "random": ...}.

    ValueError for none, and for studies of other parameters. Needs matplotlib (pip install '.[plot]').
    """
    what = "plot_side_by_side"
    checked_path(what, "path", path)
    wanted = "a dict of titles and studies"
    if not isinstance(studies, Mapping):
        raise TypeError(f"{what}: studies must be {wanted}, got {shown(studies)}")
    if not studies:
        raise ValueError(f"{what}: studies must be {wanted}, got none")
    for title, study in studies.items():
        text(what, "studies' titles", title), instance(what, f"studies[{title!r}]", study, Study, "what tune.search gives")
    spaces = {title: list(study.space) for title, study in studies.items()}
    first = next(iter(spaces))
    for title, names in spaces.items():
        if set(names) != set(spaces[first]):
            raise ValueError(
                f"{what}: studies must have one space, got {', '.join(spaces[first])} for {first!r}, {', '.join(names)} for {title!r}"
            )
    figures.save(pictures.side_by_side(studies, x, y), path)
