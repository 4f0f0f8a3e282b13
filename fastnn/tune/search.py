"""The search: one trial after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from .. import random
from ..arguments import figure, flag, function, integer, one_of, shown, text
from ..described import plural
from ..other_names import told
from .objective import Training
from .space import Axis, Space, checked_space, drawn, grid_of
from .storage import Table, checked_pruner, failures, is_sampler, opened, plan_of, study_in, tpe
from .study import Study
from .trial import Pruned, Trial, cell, words

Objective = Callable[[Trial], float]
Values = Callable[[int], dict[str, Any]]
METHODS = ("random", "grid", "tpe")
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

    def end(self) -> None:
        """Of this search, however it ends."""


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

    def end(self) -> None: ...


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
    method: Any = "random",
    points: int | Mapping[str, int] | None = None,
    seed: int = 0,
    maximize: bool = True,
    storage: Any = None,
    name: str = "fastnn",
    prune: Any = None,
    catch: Sequence[type[Exception]] = _CATCH,
    progress: bool = True,
) -> Study:
    """Calls `objective(trial)` for `trials` points of the space and returns the Study; print it.

    objective: a function of a Trial (trial["rate"], ...) that returns the score, a number. Whatever it makes with fastnn's default generator
    (initial weights) is drawn by `seed`, alike for every trial: scores differ by the trial's values alone, and a trial's does not depend on those
    before it. space: a dict of names and axes: log_uniform(low, high), uniform, integers, choice, a list of values.
    method: "random": values are a function of (seed, index) (Bergstra, Bengio 2012: of few parameters that matter random points try more values
    than a grid). "grid": every combination of `points` values on each range (a number, or one by name; from end to end, evenly in logarithms for
    log_uniform) and all of each choice; without points, as many as give at most `trials`.
    "tpe": Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) over what was found so far; or an object of optuna.samplers.
    maximize: whether the higher score is the better.
    storage: the path of an SQLite file that keeps every trial (or a URL of Optuna's, for many machines; or an object of optuna.storages), under the
    `name` of the study. The same call goes on with a study that is there until `trials` are done in all, with the values that an
    uninterrupted one has; several processes that make it share the trials among them, each done once. A trial whose process was killed is done
    again by the next call on the same machine. ValueError where the study there has another space, method, seed, prune or maximize.
    prune: "median", "halving" (successive halving), "hyperband" or an object of optuna.pruners: what trial.should_prune() says of what the objective
    reported. method "tpe", storage and prune need Optuna (pip install '.[tune]').
    catch: exceptions that make a trial failed, with its reason, and not the end of the search: by default ArithmeticError (train.Diverged is
    one) and MemoryError; a score that is NaN or infinite counts as failed, too. progress: prints a line for each trial.

    Raises TypeError and ValueError for what cannot be searched, before the first trial; what the objective raises besides. Ctrl-C ends the search;
    the KeyboardInterrupt has the `study` so far.
    """
    function(_WHAT, "objective", objective, "a function of a trial that returns its score")
    axes = checked_space(_WHAT, space)
    _refuse_other_direction(objective, flag(_WHAT, "maximize", maximize))
    integer(_WHAT, "seed", seed, 0, 2**63), flag(_WHAT, "progress", progress)
    if not text(_WHAT, "name", name, "such as 'fastnn'"):
        raise ValueError(f"{_WHAT}: name must be the name of a study, got ''")
    caught = _checked_catch(catch)
    plan = _Plan(axes, method, trials, points, seed, maximize)
    with failures(storage):
        book = plan.book(storage, name, prune)
        try:
            _work(book, objective, seed, caught, progress and Progress(plan.count, maximize, book.trials()))
        except KeyboardInterrupt as error:
            error.study = found = plan.study(book)  # type: ignore[attr-defined]
            error.args = (_interrupted(found, storage),)
            raise
        finally:
            book.end()
        return plan.study(book)


def _interrupted(study: Study, storage: Any) -> str:
    done = plural(sum(trial.state != "running" for trial in study.trials), "trial")
    return f"search: interrupted with {done} done: {'the exception has them as its study' if storage is None else 'the same call goes on'}"


def _refuse_other_direction(objective: Objective, maximize: bool) -> None:
    if isinstance(objective, Training) and objective.maximize is not maximize:
        raise ValueError(
            f"{_WHAT}: maximize must be {objective.maximize} for the monitor {objective.monitor!r} of the objective, got {maximize}"
        )


class _Plan:
    """How many trials, and the values of each (None: a sampler of Optuna's gives them)."""

    def __init__(self, axes: Mapping[str, Axis], method: Any, trials: int | None, points: Any, seed: int, maximize: bool) -> None:
        sampled = is_sampler(method)
        if not sampled:
            one_of(_WHAT, "method", method, METHODS)
        if trials is not None:
            integer(_WHAT, "trials", trials, 1, 2**20)
        self.axes, self.seed, self.maximize = axes, seed, maximize
        self.sampler = method if sampled else None
        self.method: str = type(method).__name__ if sampled else method
        self.values: Values | None = None
        self.points: dict[str, int] | None = None
        if method == "grid":
            grid = grid_of(axes, points, trials)
            self.count, self.values, self.points = len(grid), grid.at, {name: len(found) for name, found in grid.axes.items()}
            return
        if points is not None:
            kind = ValueError if hasattr(points, "__index__") or isinstance(points, Mapping) else TypeError
            raise kind(f"{_WHAT}: points is for method 'grid', got {shown(points)}; leave it out, trials says how many there are")
        if trials is None:
            raise ValueError(f"{_WHAT}: trials must be given, how many there are to be; expected such as trials=20")
        self.count = trials
        if method == "random":
            self.values = lambda index: drawn(axes, seed, index)

    def book(self, storage: Any, name: str, prune: Any) -> Book:
        """In this process alone, or in Optuna's storage."""
        if storage is None and prune is None and self.values is not None:
            return Memory(self.count, self.values)
        pruner, there = checked_pruner(_WHAT, prune), opened(_WHAT, storage)
        plan = plan_of(self.axes, method=self.method, seed=self.seed, maximize=self.maximize, points=self.points, prune=prune)
        sampler = tpe(self.seed, 0) if self.method == "tpe" else self.sampler
        study = study_in(_WHAT, there, name, plan, sampler=sampler, pruner=pruner)
        return Table(study, self.axes, self.count, self.values, seed=self.seed, storage=there)

    def study(self, book: Book) -> Study:
        return Study(self.axes, book.trials(), maximize=self.maximize, method=self.method, seed=self.seed)


def _checked_catch(catch: Any) -> tuple[type[Exception], ...]:
    given = (catch,) if isinstance(catch, type) else catch
    if not isinstance(given, (tuple, list)) or not all(isinstance(one, type) and issubclass(one, Exception) for one in given):
        raise TypeError(f"{_WHAT}: catch must be kinds of exceptions, such as (ArithmeticError,), got {shown(catch)}")
    return tuple(given)


class Progress:
    """A line for each trial."""

    def __init__(self, count: int, maximize: bool, before: Sequence[Trial]) -> None:
        self._width, self._last, self._sign = len(str(count - 1)), count - 1, 1 if maximize else -1
        scores = [trial.score for trial in before if trial.state == "complete" and trial.score is not None]
        self._best = (max if maximize else min)(scores) if scores else None
        if before:
            print(f"{plural(len(before), 'trial')} of {count} there already{f', the best {self._best:.4f}' if scores else ''}", flush=True)

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
        last = trial.reports[max(trial.reports)] if trial.reports else math.nan
        trial._end("pruned", last if math.isfinite(last) else None)
    except catch as error:
        trial._end("failed", None, " ".join(f"{type(error).__name__}: {error}".split()))
    trial.seconds = time.perf_counter() - start
