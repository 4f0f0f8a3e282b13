"""The search: one trial after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from .. import random
from ..arguments import figure, flag, function, integer, one_of, shown
from ..other_names import told
from .space import Axis, Space, checked_space, drawn, grid_of
from .study import Study
from .trial import Pruned, Trial, cell, words

Objective = Callable[[Trial], float]
Values = Callable[[int], dict[str, Any]]
_WHAT = "search"
_CATCH: tuple[type[Exception], ...] = (ArithmeticError, MemoryError)  # train.Diverged and fastnn.OutOfMemoryError are of them


class Book(Protocol):
    """Where trials are written down."""

    def claim(self) -> Trial | None:
        """The next one to do, which nobody else does then; None when none is left."""

    def keep(self, trial: Trial) -> None:
        """One that has ended."""

    def void(self, trial: Trial) -> None:
        """One that was broken off: it is to be done again."""

    def trials(self) -> list[Trial]:
        """All that there are."""


class Memory:
    """This process alone."""

    def __init__(self, count: int, values: Values) -> None:
        self._count, self._values, self._trials = count, values, list[Trial]()

    def claim(self) -> Trial | None:
        index = len(self._trials)
        return Trial(index, self._values(index)) if index < self._count else None

    def keep(self, trial: Trial) -> None:
        self._trials.append(trial)

    def void(self, trial: Trial) -> None: ...

    def trials(self) -> list[Trial]:
        return self._trials


@told(
    {
        **dict.fromkeys(("n_trials", "n_iter", "num_samples", "max_trials"), "it is trials"),
        **dict.fromkeys(("param_distributions", "param_grid", "params", "config", "search_space"), "it is space"),
        "direction": "it is maximize: True where the higher score is the better",
        "random_state": "it is seed",
        "cv": "tune.cross_validate(make, data, folds) is an objective's score",
    },
    several="all behind space are given by name",
)
def search(
    objective: Objective,
    space: Space,
    *,
    trials: int | None = None,
    method: str = "random",
    points: int | Mapping[str, int] | None = None,
    seed: int = 0,
    maximize: bool = True,
    catch: Sequence[type[Exception]] = _CATCH,
    progress: bool = True,
) -> Study:
    """Calls `objective(trial)` for `trials` points of the space and returns the Study; print it.

    objective: a function of a Trial (trial["rate"], ...) that returns the score, a number. Whatever it makes with fastnn's default generator
    (initial weights) is drawn by `seed`, alike for every trial: scores differ by the trial's values alone, and a trial's does not depend on those
    before it. space: a dict of names and axes: log_uniform(low, high), uniform, integers, choice, a list of values.
    method: "random": values are a function of (seed, index) (Bergstra, Bengio 2012: of few parameters that matter random points try more values
    than a grid). "grid": every combination of `points` values on each range (a number, or one by name; from end to end, evenly in logarithms for
    log_uniform) and all of each choice; without points, as many as give at most `trials`. maximize: whether the higher score is the better.
    catch: exceptions that make a trial failed, with its reason, and not the end of the search: by default ArithmeticError (train.Diverged is
    one) and MemoryError; a score that is NaN or infinite counts as failed, too. progress: prints a line for each trial.

    Raises TypeError and ValueError for what cannot be searched, before the first trial; what the objective raises besides. Ctrl-C ends the search;
    the KeyboardInterrupt has the `study` so far.
    """
    function(_WHAT, "objective", objective, "a function of a trial that returns its score")
    axes = checked_space(_WHAT, space)
    one_of(_WHAT, "method", method, ("random", "grid"))
    integer(_WHAT, "seed", seed, 0, 2**63), flag(_WHAT, "maximize", maximize), flag(_WHAT, "progress", progress)
    caught = _checked_catch(catch)
    count, values = _plan(axes, method, trials, points, seed)
    book = Memory(count, values)
    try:
        _work(book, objective, seed, caught, progress and Progress(count, maximize))
    except KeyboardInterrupt as error:
        error.study = _study(book, axes, maximize, method, seed)  # type: ignore[attr-defined]
        raise
    return _study(book, axes, maximize, method, seed)


def _study(book: Book, axes: Mapping[str, Axis], maximize: bool, method: str, seed: int) -> Study:
    return Study(axes, book.trials(), maximize=maximize, method=method, seed=seed)


def _checked_catch(catch: Any) -> tuple[type[Exception], ...]:
    given = (catch,) if isinstance(catch, type) else catch
    if not isinstance(given, (tuple, list)) or not all(isinstance(one, type) and issubclass(one, Exception) for one in given):
        raise TypeError(f"{_WHAT}: catch must be kinds of exceptions, such as (ArithmeticError,), got {shown(catch)}")
    return tuple(given)


def _plan(axes: Mapping[str, Axis], method: str, trials: int | None, points: Any, seed: int) -> tuple[int, Values]:
    """How many trials, and the values of each."""
    if trials is not None:
        integer(_WHAT, "trials", trials, 1, 2**20)
    if method == "grid":
        grid = grid_of(axes, points, trials)
        return len(grid), grid.at
    if points is not None:
        raise ValueError(f"{_WHAT}: points is for method 'grid', got {shown(points)}; leave it out, trials says how many there are")
    if trials is None:
        raise ValueError(f"{_WHAT}: trials must be given, how many there are to be; expected such as trials=20")
    return trials, lambda index: drawn(axes, seed, index)


class Progress:
    """A line for each trial."""

    def __init__(self, count: int, maximize: bool) -> None:
        self._width, self._last, self._sign = len(str(count - 1)), count - 1, 1 if maximize else -1
        self._best: float | None = None

    def tell(self, trial: Trial) -> None:
        better = trial.state == "complete" and (self._best is None or self._sign * (trial.score or 0.0) > self._sign * self._best)
        self._best = trial.score if better else self._best
        score = " " * 8 if trial.score is None else f"{trial.score:8.4f}"
        said = "the best so far" if better else trial.state if trial.state != "complete" else ""
        said = ": ".join(filter(None, [said, trial.reason[:100]]))
        line = f"trial {trial.index:>{self._width}} of 0 to {self._last}  {score}  {words(trial)}  {trial.seconds:.1f} s  {said}"
        print(line.rstrip(), flush=True)


def _work(book: Book, objective: Objective, seed: int, catch: tuple[type[Exception], ...], progress: Progress | bool) -> None:
    """Until nothing is left to claim."""
    while (trial := book.claim()) is not None:
        try:
            run(trial, objective, seed, catch)
        except BaseException:
            book.void(trial)
            raise
        book.keep(trial)
        if isinstance(progress, Progress):
            progress.tell(trial)


def run(trial: Trial, objective: Objective, seed: int, catch: tuple[type[Exception], ...] = _CATCH) -> None:
    """One trial, to its end, whatever that is."""
    start = time.perf_counter()
    try:
        with random.using(random.Generator(seed)):
            score = figure(_WHAT, "objective's score", objective(trial))
        if math.isfinite(score):
            trial._end("complete", score)
        else:
            trial._end("failed", None, f"the score is {cell(score)}")
    except Pruned:
        trial._end("pruned", trial.reports[max(trial.reports)] if trial.reports else None)
    except catch as error:
        trial._end("failed", None, " ".join(f"{type(error).__name__}: {error}".split()))
    trial.seconds = time.perf_counter() - start
