"""fastnn search: rate and weight decay searched, in trainings that the options of `fastnn train` make."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..described import plural
from . import option_types as kinds
from .outcome import draw
from .training import description, prepare, refuse_options, sets_of, words_without

if TYPE_CHECKING:
    from ..data import Sets
    from ..tune import Study, Trial

_RANGES = {"sgd": (1e-4, 1.0), "muon": (1e-4, 1.0), "adagrad": (1e-4, 1.0)}  # of rates, where none is given
_RANGE = (1e-5, 0.1)
_EPOCHS = 3
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from fastnn.__main__ import command; sys.exit(command())"
# its own options, and how many words each has behind it; --epochs are those of a trial
_OWN = {
    "--jobs": 1,
    "--trials": 1,
    "--rate": 2,
    "--decay": 2,
    "--method": 1,
    "--storage": 1,
    "--name": 1,
    "--prune": 1,
    "--folds": 1,
    "--plot": 1,
    "--save": 1,
}


def add_options(command: argparse.ArgumentParser) -> None:
    """Those that `fastnn train` has not."""
    add = command.add_argument
    rate = kinds.number(float, 5e-324, float("inf"), "a number above 0")
    add(
        "--trials",
        metavar="N",
        type=kinds.number(int, 1, 2**20, "a whole number from 1 on"),
        default=20,
        help="default: 20; of a grid, at most",
    )
    add("--rate", metavar=("LOW", "HIGH"), nargs=2, type=rate, help="range of the rate (default: by the optimizer, 1e-5 to 0.1 for adam)")
    add("--decay", metavar=("LOW", "HIGH"), nargs=2, type=rate, help="range of the weight decay (default: it is not searched)")
    add(
        "--method",
        choices=["random", "grid", "tpe"],
        default="random",
        help="both in logarithms; tpe: by what was found so far, needs Optuna",
    )
    add(
        "--folds",
        metavar="K",
        type=kinds.number(int, 2, 2**31, "a whole number from 2 on"),
        help="judge by the mean over K folds of the training set",
    )
    add("--prune", choices=["median", "halving", "hyperband"], help="end trials that are not worth going on with (needs Optuna)")
    add(
        "--storage",
        metavar="FILE",
        type=kinds.path,
        help="an SQLite file of all trials; the same command goes on, several at once share them (needs Optuna)",
    )
    add(
        "--jobs",
        metavar="N",
        type=kinds.number(int, 1, 257, "a whole number from 1 to 256"),
        default=1,
        help="processes that share the trials by --storage, each with its share of the threads (default: 1)",
    )
    add("--helper", action="store_true", help=argparse.SUPPRESS)
    add("--name", metavar="NAME", default="fastnn", help="of the study in that file (default: fastnn)")
    add("--plot", metavar="PATH", type=kinds.path, help="draw the trials over rate and decay into a PNG, SVG or PDF")
    add("--save", metavar="PATH", type=kinds.path, help="write the trials as CSV (.csv) or JSON Lines")


def search(options: argparse.Namespace) -> None:
    """Tries out rates and weight decays in short trainings (--epochs, 3 unless told), judged by validation or by folds, and says which to take. The test
    set is not looked at. Other arguments as for fastnn train."""
    from .. import figures, tune

    _refuse(options)
    if options.plot is not None:
        options.plot = figures.checked(options.plot)
    again = shlex.join(["fastnn", "search", *options.words])
    options.epochs = options.epochs or _EPOCHS
    given_rate = options.lr
    sets = sets_of(options)
    space = _space(options, given_rate)
    trainer, fit = prepare(options, _first(options, sets))
    if options.folds is None and fit["validation"] is None:
        raise ValueError("--val-fraction: trials are judged by validation; give a larger one, or --folds")
    if not options.helper:
        described = description(options, trainer, fit, sets)
        print(described if "rate" not in space else described.replace(f" rate {options.lr:g} ", " rates of the search "), flush=True)
        print(f"trials: {', '.join(f'{name} {axis!r}' for name, axis in space.items())}", flush=True)
    del trainer, fit

    def searched(progress: bool) -> Study:
        return tune.search(
            _objective(options, sets), space, trials=options.trials, method=options.method, seed=options.seed, storage=options.storage,
            name=options.name, prune=options.prune, progress=progress,
        )  # fmt: skip

    try:
        with _helpers(options):
            study = searched(True)
        study = searched(False) if options.jobs > 1 else study  # with what the others did
    except KeyboardInterrupt as error:
        _tell_of_interrupt(error, getattr(error, "study", None), again if options.storage else "")
        raise
    if options.helper:
        return
    print(study)
    _write(options, study)
    if any(trial.state == "complete" for trial in study.trials):
        print(f"go on with: {_train(options, study.best)}")


def _refuse(options: argparse.Namespace) -> None:
    why = "is no training to tell of"
    alone = {"distributed": "shares trials by --jobs", "out": "writes no folder"}
    refuse_options("search", options, resume="goes on by --storage", why_slow="has no time to tell of", report=why, log=why, **alone)
    for name in ("rate", "decay"):
        ends = getattr(options, name)
        if ends is not None and ends[0] >= ends[1]:
            raise ValueError(f"--{name}: LOW must be less than HIGH, got {ends[0]:g} and {ends[1]:g}")
    if options.rate is not None and options.lr is not None:
        raise ValueError("--lr: the rate is searched, by --rate; leave one of both out")
    if options.decay is not None and options.weight_decay is not None:
        raise ValueError("--weight-decay: it is searched, by --decay; leave one of both out")
    if options.lr is not None and options.decay is None:
        raise ValueError("--lr: with a rate that is given, nothing is left to search; add --decay, or leave it out")
    if options.jobs > 1 and options.storage is None:
        raise ValueError("--jobs: several processes share the trials by --storage; add it")
    for name in ("storage", "save"):
        path = getattr(options, name)
        if path is not None and "://" not in path and (os.path.isdir(path) or not os.path.isdir(os.path.dirname(path) or ".")):
            raise ValueError(f"--{name}: {path} is a folder, or lies in one that is not there; give a file, in a folder that is")


@contextmanager
def _helpers(options: argparse.Namespace) -> Iterator[None]:
    """The other processes of --jobs, inside the block; behind it they have ended. Where the block is left early, they end after their step."""
    import subprocess

    from .. import get_num_threads, set_num_threads

    started, before = list[subprocess.Popen[str]](), get_num_threads()
    if options.jobs > 1 and not options.helper:
        threads = max(1, before // options.jobs)
        set_num_threads(threads)
        words = [
            *words_without(options.words, {name: 1 for name in ("--jobs", "--plot", "--save", "--threads")}),
            "--threads",
            str(threads),
            "--helper",
        ]
        command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), "search", *words]
        started += [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(options.jobs - 1)]
    try:
        yield
    except BaseException:
        for one in started:
            one.terminate()
        for one in started:
            one.communicate()
        raise
    finally:
        if started:
            set_num_threads(before)
    for one in started:
        _, said = one.communicate()
        if one.returncode:
            warnings.warn(f"a process of --jobs has ended: {said.strip() or f'exit code {one.returncode}'}", stacklevel=2)


def _space(options: argparse.Namespace, given_rate: float | None) -> dict[str, Any]:
    from ..tune import log_uniform

    rate = _RANGES.get(options.optimizer, _RANGE) if options.rate is None else options.rate
    ranges = {"rate": rate if given_rate is None else None, "decay": options.decay}
    return {name: log_uniform(*ends) for name, ends in ranges.items() if ends is not None}


def _first(options: argparse.Namespace, sets: Sets) -> Sets:
    """What the first trial begins with."""
    return sets if options.folds is None else next(iter(_folds(options, sets)))


def _folds(options: argparse.Namespace, sets: Sets) -> list[Sets]:
    from ..data import Sets, k_fold

    parts = k_fold(sets.train, options.folds, seed=options.seed)
    return [Sets(sets.train.take(rest), sets.train.take(fold), None, sets.origin) for rest, fold in parts]


def _objective(options: argparse.Namespace, sets: Sets) -> Callable[[Trial], float]:
    """The accuracy of the best epoch by validation; of folds the mean of their last epochs, for a fold chooses nothing."""
    from ..tune import Pruned, Report

    def prepared(trial: Trial, sets: Sets) -> tuple[Any, dict[str, Any]]:
        own = {"lr": trial.get("rate", options.lr), "weight_decay": trial.get("decay", options.weight_decay)}
        return prepare(argparse.Namespace(**{**vars(options), **own}), sets)

    def validated(trial: Trial) -> float:
        trainer, fit = prepared(trial, sets)
        trainer.fit(**fit, callbacks=[Report(trial)], progress=False)
        return float(max(trainer.history["val_accuracy"]))

    def folded(trial: Trial) -> float:
        scores: list[float] = []
        for part in _folds(options, sets):
            trainer, fit = prepared(trial, part)
            trainer.fit(**{**fit, "validation": None}, progress=False)
            scores.append(trainer.evaluate(part.validation)["accuracy"])
            trial.report(sum(scores) / len(scores), len(scores))
            if len(scores) < options.folds and trial.should_prune():
                raise Pruned
        return sum(scores) / len(scores)

    return validated if options.folds is None else folded


def _write(options: argparse.Namespace, study: Study) -> None:
    if options.save is not None:
        study.save(options.save)
        print(f"trials   {options.save}")
    if options.plot is not None:
        draw("plot", study.plot, options.plot)


def _tell_of_interrupt(error: BaseException, study: Study | None, again: str) -> None:
    if study is None or not len(study):
        return
    print(study, flush=True)
    done = f"interrupted; {plural(len(study), 'trial')} are done" if len(study) > 1 else "interrupted; one trial is done"
    error.args = (f"{done}; go on with: {again}" if again else f"{done}; with --storage they would be kept",)


def _train(options: argparse.Namespace, best: Trial) -> str:
    """The command of a whole training with what was found."""
    words = words_without(options.words, {**_OWN, "--epochs": 1})
    found = {"--lr": best.get("rate"), "--weight-decay": best.get("decay")}
    more = [part for name, value in found.items() if value is not None for part in (name, f"{value:.2g}")]
    return shlex.join(["fastnn", "train", *words, *more])
