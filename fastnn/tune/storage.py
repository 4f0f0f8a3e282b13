"""Trials in Optuna's storage: what makes a study resumable, parallel over processes, pruned, and sampled by what was found so far.

Optuna's trial is a row of its table here. Which index a row does is ours: `claim` adds a row with the lowest index that nobody has, and of several rows
of one index the first counts (Optuna numbers them one after the other, so exactly one process sees itself as the first). A row whose process is gone
counts no more, and its index is done again, with the same values.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from .. import random
from ..arguments import other_word, shown, text
from ..arguments import path as checked_path
from .axes import axis_of, distribution, from_row, suggested, to_row
from .space import Axis
from .study import Study
from .trial import Trial
from .worker import Worker, alive

Values = Callable[[int], dict[str, Any]]
_PRUNERS = {"median": "MedianPruner", "halving": "SuccessiveHalvingPruner", "hyperband": "HyperbandPruner"}
_PLAN = "fastnn"  # the attribute of a study that says what is searched, and how
_PATIENCE = 60.0  # seconds that a process waits for another's writing


def library(what: str, why: str) -> Any:
    """Optuna. ModuleNotFoundError says what needs it, and where it comes from."""
    try:
        import optuna
    except ImportError:
        raise ModuleNotFoundError(f"{what}: {why} needs Optuna (in the checkout: pip install '.[tune]')") from None
    return optuna


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna tells of every study, and warns of what is experimental: not in here. What its other users hear stays as it was."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


# --- what was asked for


def checked_pruner(what: str, prune: Any) -> Any:
    """Optuna's pruner of that name, or one of its objects."""
    if prune is None:
        return None
    optuna = library(what, "prune")
    if isinstance(prune, optuna.pruners.BasePruner):
        return prune
    if isinstance(prune, str) and prune in _PRUNERS:
        return getattr(optuna.pruners, _PRUNERS[prune])()
    raise other_word(what, "prune", prune, f"one of {', '.join(_PRUNERS)}, or an object of optuna.pruners")


def is_sampler(method: Any) -> bool:
    """One of Optuna's objects; who has one has imported it."""
    import sys

    optuna = sys.modules.get("optuna")
    return optuna is not None and isinstance(method, optuna.samplers.BaseSampler)


def tpe(seed: int, index: int) -> Any:
    """Of chance that is a function of both, so that a study that goes on in another process has the values that it would have had."""
    from optuna.samplers import TPESampler

    word = int(random.Generator(seed).bits(1, index, random.SEARCH)[0])
    return TPESampler(seed=word, constant_liar=True)


# --- the storage


def opened(what: str, storage: Any) -> Any:
    """Optuna's storage: in memory for None, an SQLite file for a path, what its URL says for one, an object of it as it is."""
    optuna = library(what, "storage" if storage is not None else "method or prune")
    if storage is None:
        return optuna.storages.InMemoryStorage()
    if isinstance(storage, optuna.storages.BaseStorage):
        return optuna.storages.get_storage(storage)  # in front of a database it puts what remembers ended rows
    if not isinstance(storage, (str, os.PathLike)):
        raise TypeError(f"{what}: storage must be the path of a file, or a URL of Optuna's, got {shown(storage)}")
    if isinstance(storage, str) and "://" in storage:
        return _of_url(what, storage, storage, {})
    file = checked_path(what, "storage", storage)
    if os.path.isdir(file):
        raise IsADirectoryError(f"{file}: is a folder; expected the name of a file, such as {os.path.join(file, 'study.db')}")
    if not os.path.isdir(folder := os.path.dirname(os.path.abspath(file))):
        raise FileNotFoundError(f"{file}: there is no folder {folder} to write it into; make it first")
    return _of_url(what, file, f"sqlite:///{os.path.abspath(file)}", {"connect_args": {"timeout": _PATIENCE}})


def _of_url(what: str, told: str, url: str, options: dict[str, Any]) -> Any:
    """Several processes may make the tables at once, of which all but one fail: they look again."""
    from optuna.storages import RDBStorage, get_storage

    for left in (3, 2, 1, 0):
        try:
            with quiet():
                return get_storage(RDBStorage(url, engine_kwargs=options))
        except Exception as error:
            if not left:
                reason = " ".join(str(error.__cause__ or error).split())[:200]
                kind = ModuleNotFoundError if isinstance(error, ImportError) else ValueError
                raise kind(f"{what}: storage {told} must be a database of Optuna's, or a file that is not there yet: {reason}") from None
            time.sleep(0.2)
    return None


@contextmanager
def failures(storage: Any) -> Iterator[None]:
    """Where a database can't be read or written any more (a full disk, a lost connection), OSError that names it, in the place of its own words."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "StorageInternalError":
            raise
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise OSError(f"{storage}: the study cannot be read or written: {reason}") from error


def study_in(what: str, storage: Any, name: str, plan: Mapping[str, Any], *, sampler: Any, pruner: Any) -> Any:
    """Optuna's study of that name, new or one that goes on. ValueError where what is there was searched in another way."""
    optuna = library(what, "storage")
    with quiet():
        direction = "maximize" if plan["maximize"] else "minimize"
        sampler, pruner = sampler or optuna.samplers.RandomSampler(), pruner or optuna.pruners.NopPruner()
        study = optuna.create_study(
            storage=storage, study_name=name, direction=direction, load_if_exists=True, sampler=sampler, pruner=pruner
        )
        trials = study.get_trials(deepcopy=False)
        before = study.user_attrs.get(_PLAN)  # read behind the trials: another process writes it ahead of its first one
        if before is None:
            if trials:
                raise ValueError(
                    f"{what}: the study {name!r} there has trials that were not made here; choose another name, or another storage"
                )
            study.set_user_attr(_PLAN, dict(plan))
            return study
    other = [part for part in plan if before.get(part) != plan[part]]
    if other:
        told = "; ".join(f"{part} was {_shown(before.get(part))}, is {_shown(plan[part])}" for part in other)
        raise ValueError(f"{what}: the study {name!r} there has another plan ({told}); give the same, or choose another name or storage")
    return study


def _shown(part: Any) -> str:
    if isinstance(part, dict):
        from optuna.distributions import json_to_distribution

        return "{" + ", ".join(f"{name}: {axis_of(json_to_distribution(one))!r}" for name, one in part.items()) + "}"
    return shown(part)


def plan_of(axes: Mapping[str, Axis], *, method: str, seed: int, maximize: bool, points: Any, prune: Any) -> dict[str, Any]:
    """What a study that goes on must have in common with its beginning, in words of JSON."""
    from optuna.distributions import distribution_to_json

    with quiet():
        space = {name: distribution_to_json(distribution(axis)) for name, axis in axes.items()}
    prune = prune if isinstance(prune, (str, type(None))) else type(prune).__name__
    return {"space": space, "method": method, "seed": seed, "maximize": maximize, "points": points, "prune": prune}


# --- its rows


class Table:
    """A study's rows, as `search` works through them. values: of each index; None where Optuna's sampler gives them."""

    def __init__(self, study: Any, axes: Mapping[str, Axis], count: int, values: Values | None, *, seed: int, storage: Any) -> None:
        self._study, self._axes, self._count, self._values, self._seed, self._storage = study, axes, count, values, seed, storage
        self._id: int = storage.get_study_id_from_name(study.study_name)
        self._tpe = type(study.sampler).__name__ == "TPESampler" and values is None
        self._worker = Worker()
        self._rows: dict[int, int] = {}  # those that are under way here, by index

    def claim(self) -> Trial | None:
        while True:
            rows = self._counted()
            index = next((index for index in range(self._count) if index not in rows), None)
            if index is None:
                return None
            row = self._add(index)
            if self._counted()[index]._trial_id == row:
                self._rows[index] = row
                return self._begun(index, row)
            self._out(row)

    def keep(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        row = self._rows.pop(trial.index)
        for name in ("seconds", "reason"):
            self._storage.set_trial_user_attr(row, name, getattr(trial, name))
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        self._storage.set_trial_state_values(row, states.get(trial.state, TrialState.FAIL), None if trial.score is None else [trial.score])

    def void(self, trial: Trial) -> None:
        self._out(self._rows.pop(trial.index))

    def trials(self) -> list[Trial]:
        return [_trial(index, row, self._axes) for index, row in self._counted().items()]

    def end(self) -> None:
        self._worker.end()

    def _add(self, index: int) -> int:
        """A row of that index, with its values where they are drawn here: no kill leaves one without."""
        from optuna.trial import TrialState, create_trial

        given = {} if self._values is None else to_row(self._axes, self._values(index))
        with quiet():
            distributions = {name: distribution(self._axes[name]) for name in given}
            attributes = {"index": index, "worker": self._worker.told()}
            row = create_trial(state=TrialState.RUNNING, params=given, distributions=distributions, user_attrs=attributes)
        number: int = self._storage.create_new_trial(self._id, template_trial=row)
        return number

    def _begun(self, index: int, row: int) -> Trial:
        import optuna

        before = self._study
        sampler = tpe(self._seed, index) if self._tpe else before.sampler
        with quiet():  # a Study made anew for each trial: one keeps the rows that it has read for as long as nobody calls its `ask`
            study = optuna.load_study(study_name=before.study_name, storage=self._storage, sampler=sampler, pruner=before.pruner)
            theirs = optuna.trial.Trial(study, row)
            trial = Trial(index, suggested(self._axes, theirs) if self._values is None else self._values(index))

        def judge() -> bool:
            with quiet():
                return theirs.should_prune()

        trial._tell, trial._judge = theirs.report, judge
        return trial

    def _counted(self) -> dict[int, Any]:
        """The rows that count, by index: of each the first that was not given up and whose process is not gone."""
        found = _rows_that_count(self._storage.get_all_trials(self._id), self._out)
        return dict(sorted(found.items()))

    def _out(self, row: int) -> None:
        """It counts no more."""
        from optuna.trial import TrialState

        with suppress(RuntimeError):  # UpdateFinishedTrialError: somebody else has said so
            self._storage.set_trial_user_attr(row, "void", True)
            self._storage.set_trial_state_values(row, TrialState.FAIL)


def _rows_that_count(rows: list[Any], gone: Callable[[int], None]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for row in sorted(rows, key=lambda row: row.number):
        attributes = row.user_attrs
        if "index" not in attributes or "void" in attributes:
            continue
        if row.state.name == "RUNNING" and not alive(attributes["worker"]):
            gone(row._trial_id)
        else:
            found.setdefault(attributes["index"], row)
    return found


def _trial(index: int, row: Any, axes: Mapping[str, Axis]) -> Trial:
    trial = Trial(index, from_row(axes, row.params))
    trial.reports.update(sorted(row.intermediate_values.items()))
    state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(row.state.name, "running")
    trial._end(state, row.values[0] if row.values else None, row.user_attrs.get("reason", ""))
    trial.seconds = row.user_attrs.get("seconds", 0.0)
    return trial


def load_study(storage: Any, name: str = "fastnn") -> Study:
    """The trials that a search has written into a storage so far, also while it goes on.

    storage: the path of its SQLite file, a URL of Optuna's, or an object of optuna.storages. Values of a choice that a table cannot hold
    (functions, tuples) come back as words. Needs Optuna (pip install '.[tune]'). FileNotFoundError where there is no such file, ValueError where
    it holds no study of that name, or one that `search` did not write.
    """
    what = "load_study"
    text(what, "name", name, "such as 'fastnn'")
    if (
        isinstance(storage, (str, os.PathLike))
        and "://" not in os.fspath(storage)
        and not os.path.exists(checked_path(what, "storage", storage))
    ):
        raise FileNotFoundError(f"{os.fspath(storage)}: there is no such file; expected what tune.search(..., storage=...) writes")
    if storage is None:
        raise TypeError(f"{what}: storage must be the path of a file, or a URL of Optuna's, got None")
    there = opened(what, storage)
    try:
        number = there.get_study_id_from_name(name)
    except KeyError:
        names = ", ".join(repr(study.study_name) for study in there.get_all_studies()) or "none"
        raise ValueError(f"{what}: the storage has no study of the name {name!r}; expected one of {names}") from None
    plan = there.get_study_user_attrs(number).get(_PLAN)
    if not isinstance(plan, dict):
        raise ValueError(f"{what}: the study {name!r} was not written by tune.search; expected one that was")
    from optuna.distributions import json_to_distribution

    axes = {name: axis_of(json_to_distribution(axis)) for name, axis in plan["space"].items()}
    rows = _rows_that_count(there.get_all_trials(number), lambda row: None)
    trials = [_trial(index, row, axes) for index, row in rows.items()]
    return Study(axes, trials, maximize=plan["maximize"], method=plan["method"], seed=plan["seed"])


def importances(study: Study) -> dict[str, float]:
    """Of `Study.importances`."""
    optuna = library("importances", "it")
    complete = [trial for trial in study.trials if trial.state == "complete"]
    scores = {trial.score for trial in complete}
    if len(complete) < 10 or len(scores) == 1:
        what = "all of one score" if len(complete) >= 10 else f"{len(complete)} complete"
        raise ValueError(f"importances: the study must have at least 10 complete trials of different scores, got {what}")
    with quiet():
        theirs = optuna.create_study(direction="maximize" if study.maximize else "minimize", sampler=optuna.samplers.RandomSampler())
        distributions = {name: distribution(axis) for name, axis in study.space.items()}
        theirs.add_trials(
            [
                optuna.trial.create_trial(params=to_row(study.space, trial), distributions=distributions, value=trial.score)
                for trial in complete
            ]
        )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(theirs, evaluator=evaluator)
    return dict(sorted(((name, float(value)) for name, value in found.items()), key=lambda pair: -pair[1]))
