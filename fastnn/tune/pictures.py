"""A study's pictures: trials over two of its parameters, their curves, and which parameter matters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import figures
from ..arguments import shown, text
from .space import Axis, Choice, Range
from .trial import Trial, cell

if TYPE_CHECKING:
    from .study import Study

_LEFT = {"pruned": ("v", "pruned"), "failed": ("x", "failed"), "running": ("+", "running")}


def scatter(study: Study, x: Any, y: Any) -> Any:
    """The figure of `Study.plot`."""
    names = axes_to_draw("Study.plot", study.space, x, y)
    axes = (figure := figures.blank(6.4, 4.6)).subplots()
    dots = _dots(axes, study, names, _limits([study]))
    _finish(figure, axes, study, names, dots)
    return figure


def side_by_side(studies: Mapping[str, Study], x: Any, y: Any) -> Any:
    """The figure of `tune.plot_side_by_side`: one colour scale for all."""
    first = next(iter(studies.values()))
    names = axes_to_draw("plot_side_by_side", first.space, x, y)
    figure = figures.blank(1.4 + 4.6 * len(studies), 4.4)
    places = figure.subplots(1, len(studies), sharex=True, sharey=True, squeeze=False)[0]
    drawn = [_dots(axes, study, names, _limits(studies.values())) for axes, study in zip(places, studies.values())]
    for axes, (title, study) in zip(places, studies.items()):
        best = f"best {study.best.score:.4g}" if any(trial.state == "complete" for trial in study.trials) else "none complete"
        axes.set_title(f"{title}: {len(study)} trials, {best}")
        _label(axes, study.space, names)
    coloured = next((dots for dots in drawn if dots is not None), None)
    if coloured is not None:
        figure.colorbar(coloured, ax=list(places), label="score")
    return figure


def curves(study: Study) -> Any:
    """The figure of `Study.plot_curves`."""
    axes = (figure := figures.blank(6.4, 4.2)).subplots()
    reported = [trial for trial in study.trials if trial.reports]
    best = study.best if any(trial.state == "complete" for trial in study.trials) else None
    for trial in reported:
        kept = trial.state == "complete"
        style: dict[str, Any] = {"color": "C0" if kept else "grey", "alpha": 0.6 if kept else 0.5, "linewidth": 1}
        if trial is best:
            style = {"color": "C3", "linewidth": 2, "zorder": 3, "label": f"best: trial {trial.index}"}
        steps = [step for step, value in trial.reports.items() if math.isfinite(value)]
        axes.plot(steps, [trial.reports[step] for step in steps], "-" if kept else "--", **style)
        if trial.state != "complete" and steps:
            axes.plot(steps[-1], trial.reports[steps[-1]], "kx", markersize=4)
    for colour, line, label in (("C0", "-", "complete"), ("grey", "--", "pruned or failed")):
        axes.plot([], [], line, color=colour, label=label)
    axes.set(xlabel="step (epoch or fold)", ylabel="reported")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def bars(importances: Mapping[str, float]) -> Any:
    """The figure of `Study.plot_importances`."""
    axes = (figure := figures.blank(5.6, 1.2 + 0.4 * len(importances))).subplots()
    names = list(importances)[::-1]
    axes.barh(names, [importances[name] for name in names])
    for place, name in enumerate(names):
        axes.text(importances[name], place, f" {importances[name]:.2f}", va="center")
    axes.set(xlabel="importance (PED-ANOVA)", xlim=(0, 1.12 * max([*importances.values(), 1e-9])))
    return figure


def axes_to_draw(what: str, space: Mapping[str, Axis], x: Any, y: Any) -> list[str]:
    """Two names, those given or the first ones of the space; one where it has no more: the score is drawn over it."""
    given = [name for name in (x, y) if name is not None]
    for key, name in (("x", x), ("y", y)):
        if name is not None and text(what, key, name, "such as 'rate'") not in space:
            raise ValueError(f"{what}: {key} must be one of the space's names, {', '.join(space)}, got {shown(name)}")
    if len(given) == 2 and x == y:
        raise ValueError(f"{what}: x and y must be two names of the space, got {x!r} twice")
    others = sorted((name for name in space if name not in given), key=lambda name: isinstance(space[name], Choice))
    first = x if x is not None else next(iter(others if y is None or others else [y]))
    second = y if y is not None else next((name for name in others if name != first), None)
    return [first] if second is None or second == first else [first, second]


def _dots(axes: Any, study: Study, names: Sequence[str], limits: tuple[float, float]) -> Any:
    """What was judged as coloured dots, a ring around the best; the rest as marks without colour. The dots, None where there are none."""
    judged = [trial for trial in study.ranked() if trial.state == "complete"][::-1]  # the better in front of the worse
    for state, (mark, label) in _LEFT.items():
        if left := [trial for trial in study.trials if trial.state == state]:
            axes.scatter(*_places(study.space, left, names), marker=mark, color="grey", s=28, label=label, zorder=1)
    dots = None
    if judged:
        scores, (low, high) = [trial.score for trial in judged], limits
        dots = axes.scatter(
            *_places(study.space, judged, names), c=scores, vmin=low, vmax=high, cmap="viridis", s=44, edgecolors="black", linewidths=0.4
        )
        axes.scatter(
            *_places(study.space, [study.best], names), s=150, facecolors="none", edgecolors="C3", linewidths=1.8, label="best", zorder=3
        )
    return dots


def _places(space: Mapping[str, Axis], trials: Sequence[Trial], names: Sequence[str]) -> list[list[Any]]:
    """x and y of each: a value, or the number of one of a choice; the score where one name alone is drawn."""
    found = [[_place(space[name], trial[name]) for trial in trials] for name in names]
    return found if len(found) == 2 else [*found, [math.nan if trial.score is None else trial.score for trial in trials]]


def _place(axis: Axis, value: Any) -> Any:
    return axis.position(value) if isinstance(axis, Choice) else value


def _limits(studies: Any) -> tuple[float, float]:
    scores = [trial.score for study in studies for trial in study.trials if trial.state == "complete" and trial.score is not None]
    return (min(scores), max(scores)) if scores else (0.0, 1.0)


def _finish(figure: Any, axes: Any, study: Study, names: Sequence[str], dots: Any) -> None:
    _label(axes, study.space, names)
    if dots is not None and len(names) == 2:
        figure.colorbar(dots, ax=axes, label="score")


def _label(axes: Any, space: Mapping[str, Axis], names: Sequence[str]) -> None:
    """Logarithmic where values are drawn so; a choice by its words."""
    for axis, name in zip((axes.xaxis, axes.yaxis), names):
        kind = space[name]
        getattr(axes, f"set_{axis.axis_name}label")(name)
        if isinstance(kind, Choice):
            values = kind.grid(1)
            axis.set_ticks(range(len(values)), [cell(value) for value in values])
        elif isinstance(kind, Range):
            if kind.log:
                getattr(axes, f"set_{axis.axis_name}scale")("log")
            low, high = _room(kind)
            getattr(axes, f"set_{axis.axis_name}lim")(low, high)
    if len(names) == 1:
        axes.set_ylabel("score")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize="small")


def _room(axis: Range) -> tuple[float, float]:
    """The whole range, and a twentieth of it at each end."""
    if axis.low == axis.high:
        return axis.low - 1, axis.high + 1
    if axis.log:
        factor = (axis.high / axis.low) ** 0.05
        return axis.low / factor, axis.high * factor
    room = 0.05 * (axis.high - axis.low)
    return axis.low - room, axis.high + room
