"""Studies in Optuna's storage: killed and resumed, shared by processes, pruned, sampled by what was found; and what they look like."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastnn
from fastnn import data, nn, optim, train, tune

optuna = pytest.importorskip("optuna", reason="studies that last, samplers and pruning are Optuna's (extra tune)")

SPACE = {"rate": tune.log_uniform(1e-4, 1), "decay": tune.uniform(0, 1), "width": [16, (3, 4), None]}
# of a program: SPACE, and an objective that writes its index into the file of its first argument
PROGRAM = """
import os, signal, sys, time
from fastnn import tune
space = {"rate": tune.log_uniform(1e-4, 1), "decay": tune.uniform(0, 1), "width": [16, (3, 4), None]}
def objective(trial):
    with open(sys.argv[1], "a") as file:
        file.write(f"{trial.index}\\n")
    trial.report(trial["rate"], 1)
    if trial.index == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(sys.argv[4]))
    return -abs(trial["rate"] - 0.1) - trial["decay"]
tune.search(objective, space, trials=int(sys.argv[5]), method=sys.argv[6], seed=3, storage=sys.argv[2], progress=False)
"""


def score(trial: tune.Trial) -> float:
    return -abs(trial["rate"] - 0.1) - trial["decay"]


def search(objective: Callable[[tune.Trial], float] = score, **options: Any) -> tune.Study:
    return tune.search(objective, SPACE, **{"trials": 8, "seed": 3, "progress": False, **options})


def start(folder: Path, *, killed_at: int = -1, seconds: float = 0.0, trials: int = 8, method: str = "random") -> subprocess.Popen[bytes]:
    words = [str(folder / "done"), str(folder / "study.db"), str(killed_at), str(seconds), str(trials), method]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *words])


def seen(study: tune.Study) -> list[tuple[Any, ...]]:
    return [(trial.index, *trial.values(), trial.score, trial.state, trial.reason) for trial in study.trials]


# --- killed, resumed, shared


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_study_that_is_killed_goes_on_as_if_it_had_not_been(method: str, tmp_path: Path) -> None:
    """SIGKILL within a trial, twice; tpe begins to sample by what it found at its eleventh trial."""
    trials, kills = (8, (3, 6)) if method == "random" else (13, (3, 11))
    for killed_at in kills:
        assert start(tmp_path, killed_at=killed_at, trials=trials, method=method).wait() == -signal.SIGKILL
    resumed = search(storage=tmp_path / "study.db", trials=trials, method=method)
    assert seen(resumed) == seen(search(trials=trials, method=method)) and len(resumed) == trials
    done = (tmp_path / "done").read_text().split()  # what was done is not done again
    assert list(map(int, done)) == [*range(kills[0] + 1), *range(kills[0], kills[1] + 1)]


def test_two_processes_do_each_trial_once(tmp_path: Path) -> None:
    processes = [start(tmp_path, seconds=0.1, trials=16) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    done = (tmp_path / "done").read_text().split()
    assert sorted(map(int, done)) == list(range(16))
    study = search(storage=tmp_path / "study.db", trials=16)
    assert seen(study) == seen(search(trials=16))
    workers = {
        row.user_attrs["worker"]["pid"] for row in optuna.load_study(study_name="fastnn", storage=f"sqlite:///{tmp_path}/study.db").trials
    }
    assert workers == {process.pid for process in processes}  # both of them


def test_a_trial_under_way_elsewhere_is_left_to_whom_it_belongs(tmp_path: Path) -> None:
    """As long as its process is there."""
    process = start(tmp_path, seconds=600, trials=1)
    try:
        while not (tmp_path / "done").exists():
            time.sleep(0.05)
        study = search(storage=tmp_path / "study.db", trials=3)
        assert [trial.state for trial in study.trials] == ["running", "complete", "complete"]
        assert "still running elsewhere: 1 trial, 0" in study.findings
    finally:
        process.kill()
        process.wait()
    assert [trial.state for trial in search(storage=tmp_path / "study.db", trials=3).trials] == ["complete"] * 3
    assert (tmp_path / "done").read_text().split() == ["0"]


def test_ctrl_c_and_errors_leave_a_trial_to_the_next_call(tmp_path: Path) -> None:
    def objective(trial: tune.Trial) -> float:
        if trial.index == 2 and stopping:
            raise stopping.pop()
        return score(trial)

    stopping: list[BaseException] = [ValueError("a mistake"), KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt) as caught:
        search(objective, storage=tmp_path / "study.db")
    assert len(caught.value.study) == 2  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="a mistake"):
        search(objective, storage=tmp_path / "study.db")
    assert seen(search(objective, storage=tmp_path / "study.db")) == seen(search())


def test_a_study_can_be_made_longer_and_several_lie_in_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.db"
    search(storage=file, trials=3)
    search(storage=str(file), trials=3, name="other", maximize=False)
    assert seen(search(storage=file, trials=6, progress=True)) == seen(search(trials=6))
    told = capsys.readouterr()
    assert told.out.splitlines()[0].startswith("3 trials of 6 there already, the best -0.") and len(told.out.splitlines()) == 4
    assert told.err == ""  # Optuna tells nothing
    with pytest.raises(ValueError, match="expected one of 'fastnn', 'other'"):
        tune.load_study(file, "third")


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    def objective(trial: tune.Trial) -> float:
        trial.report(0.5, 1)
        trial.report(math.inf, 2)
        if trial.index == 1:
            raise train.Diverged("the loss is nan")
        if trial.index == 2:
            raise tune.Pruned
        return math.nan if trial.index == 3 else score(trial)

    there = search(objective, storage=tmp_path / "study.db", trials=6, maximize=False)
    assert seen(there) == seen(search(objective, trials=6, maximize=False))
    read = tune.load_study(tmp_path / "study.db")
    assert [trial.state for trial in read.trials] == ["complete", "failed", "pruned", "failed", "complete", "complete"]
    assert [trial.reason for trial in read.trials[:4]] == ["", "Diverged: the loss is nan", "", "the score is nan"]
    assert read.trials[0].reports == {1: 0.5, 2: math.inf} and read.best.index == there.best.index and not read.maximize
    assert [t["rate"] for t in read.trials] == [t["rate"] for t in there.trials] and repr(read.space["rate"]) == repr(SPACE["rate"])
    assert all(trial.seconds > 0 for trial in read.trials)
    words = {16: 16, None: None, (3, 4): "1: (3, 4)"}  # a table holds no tuples
    assert [trial["width"] for trial in read.trials] == [words[trial["width"]] for trial in there.trials]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 4}, "seed was 3, is 4"),
        ({"method": "tpe"}, "method was 'random', is 'tpe'"),
        ({"prune": "median"}, "prune was None, is 'median'"),
        ({"maximize": False}, "maximize was True, is False"),
    ],
)
def test_another_plan_does_not_go_on_with_a_study(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    search(storage=tmp_path / "study.db", trials=1)
    with pytest.raises(ValueError, match=f"search: the study 'fastnn' there has another plan .*{said}.*choose another name"):
        search(storage=tmp_path / "study.db", **changed)


def test_another_space_and_trials_of_others_are_refused(tmp_path: Path) -> None:
    search(storage=tmp_path / "study.db", trials=1)
    with pytest.raises(ValueError, match=r"space was {rate: log_uniform\(0.0001, 1\), .* is {rate: log_uniform\(0.0001, 10\)}"):
        tune.search(score, {"rate": tune.log_uniform(1e-4, 10)}, trials=2, storage=tmp_path / "study.db")
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="mine").optimize(lambda trial: trial.suggest_float("x", 0, 1), 1)
    with pytest.raises(ValueError, match="the study 'mine' there has trials that were not made here"):
        search(storage=storage, name="mine")
    with pytest.raises(ValueError, match="the study 'mine' was not written by tune.search"):
        tune.load_study(storage, "mine")


def test_storages_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\x10" * 5000)
    with pytest.raises(
        ValueError, match="search: storage .*junk must be a database of Optuna's, or a file that is not there yet: .*not a database"
    ):
        search(storage=tmp_path / "junk")
    with pytest.raises(IsADirectoryError, match="is a folder; expected the name of a file"):
        search(storage=tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        search(storage=tmp_path / "absent" / "study.db")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        tune.load_study(tmp_path / "absent.db")
    with pytest.raises(ValueError, match="nosuch://here must be a database"):
        search(storage="nosuch://here")


# --- Optuna's samplers and pruners


def test_tpe_and_samplers_of_optuna_find_what_chance_does_not() -> None:
    random, tpe = search(trials=40), search(trials=40, method="tpe")
    later = [sum(trial.score or 0 for trial in study.trials[10:]) for study in (random, tpe)]
    assert later[1] > later[0] / 2  # all are negative: half as far from the best there is
    assert seen(tpe) == seen(search(trials=40, method="tpe")) != seen(search(trials=40, method="tpe", seed=4))
    given = search(trials=5, method=optuna.samplers.NSGAIISampler(seed=1))
    assert given.method == "NSGAIISampler" and len({trial["rate"] for trial in given.trials}) == 5


@pytest.mark.parametrize("prune", ["median", "halving", "hyperband", optuna.pruners.ThresholdPruner(lower=0.0)])
def test_pruning_stops_bad_trials_and_saves_their_epochs(prune: Any) -> None:
    """The best reaches its end; what bad ones would have cost is not spent."""
    steps = []

    def objective(trial: tune.Trial) -> float:
        for step in range(1, 28):
            steps.append(trial.index)
            trial.report(-step if trial.index % 3 == 2 else step + trial.index / 100, step)
            if trial.should_prune():
                raise tune.Pruned
        return trial.reports[27]

    study = search(objective, trials=18, prune=prune)
    pruned = [trial for trial in study.trials if trial.state == "pruned"]
    assert pruned and len(steps) < 18 * 27 * 0.85 and study.best.index % 3 != 2
    if prune not in ("halving", "hyperband"):  # which keep a part of any
        assert all(trial.index % 3 == 2 for trial in pruned)
    for trial in pruned:
        assert steps.count(trial.index) == len(trial.reports) < 27 and trial.score == list(trial.reports.values())[-1]
    del steps[:]
    search(objective, trials=18)
    assert len(steps) == 18 * 27


def test_optuna_is_told_of_where_it_is_missing() -> None:
    code = """
import sys
sys.modules["optuna"] = None
from fastnn import tune
for options in ({"storage": "study.db"}, {"method": "tpe"}, {"prune": "median"}):
    try:
        tune.search(lambda trial: 0.0, {"x": [1]}, trials=1, **options)
    except ModuleNotFoundError as error:
        assert "needs Optuna (in the checkout: pip install '.[tune]')" in str(error), error
    else:
        raise AssertionError(options)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- trainings


def some_digits() -> tuple[data.ArrayDataset, data.ArrayDataset]:
    digits, _ = data.digits()
    return data.split(digits.take(range(400)), 0.25)


def make(trial: tune.Trial) -> train.Trainer:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    return train.Trainer(model, optim.SGD(model.parameters(), trial["rate"], momentum=0.9))


RATES = {"rate": tune.log_uniform(1e-4, 1)}


def test_a_training_is_the_score_of_its_best_epoch_and_reports_each() -> None:
    training, validation = some_digits()
    study = tune.search(tune.Training(make, training, validation, epochs=3, batch_size=32), RATES, trials=3, seed=5, progress=False)
    for trial in study.trials:
        fastnn.seed(5)
        trainer = make(trial)
        trainer.fit(training, 3, validation, batch_size=32, progress=False)
        assert trial.reports == dict(enumerate(trainer.history["val_accuracy"], 1)) and trial.score == max(trainer.history["val_accuracy"])


def test_trainings_are_pruned_epoch_by_epoch() -> None:
    training, validation = some_digits()
    objective = tune.Training(make, training, validation, epochs=4)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
    study = tune.search(objective, {"rate": [0.1, 0.05, 1e-6]}, method="grid", trials=3, prune=pruner, progress=False)
    assert [trial.state for trial in study.trials] == ["complete", "complete", "pruned"] and len(study.trials[2].reports) < 4


def test_the_loader_of_a_training_may_depend_on_the_trial() -> None:
    training, validation = some_digits()
    sizes = []

    def loader(trial: tune.Trial) -> data.Loader:
        sizes.append(trial["batch_size"])
        return data.Loader(training, trial["batch_size"], shuffle=True, normalize=data.Normalize.fit(training))

    objective = tune.Training(lambda trial: make({**trial, "rate": 0.05}), loader, validation, epochs=1)  # type: ignore[arg-type]
    study = tune.search(objective, {"batch_size": [16, 64]}, method="grid", points=1, progress=False)
    assert sizes == [16, 64] and [trial.state for trial in study.trials] == ["complete"] * 2


def test_cross_validation_trains_on_all_other_folds_and_judges_by_each() -> None:
    training, _ = some_digits()
    found = tune.cross_validate(lambda: make({"rate": 0.05}), training, 3, epochs=2, seed=4)  # type: ignore[arg-type]
    fastnn.seed(4)
    scores = []
    for rest, fold in data.k_fold(training, 3, seed=4):
        trainer = make({"rate": 0.05})  # type: ignore[arg-type]
        trainer.fit(training.take(rest), 2, progress=False)
        scores.append(trainer.evaluate(training.take(fold))["accuracy"])
    assert list(found.scores) == scores and found.mean == pytest.approx(sum(scores) / 3)
    assert found.spread == pytest.approx(math.sqrt(sum((score - found.mean) ** 2 for score in scores) / 2))
    assert str(found).splitlines()[-1] == f"mean    accuracy {found.mean:.4f}, spread {found.spread:.4f}"
    with pytest.raises(ValueError, match="metric 'recall' is not one of loss, accuracy"):
        tune.cross_validate(lambda: make({"rate": 0.05}), training, 3, epochs=1, metric="recall")  # type: ignore[arg-type]


def test_folds_are_an_objective_and_a_trial_may_end_after_some() -> None:
    training, _ = some_digits()
    objective = tune.Training(make, training, folds=3, epochs=3, batch_size=16)
    study = tune.search(
        objective, {"rate": [0.1, 1e-6]}, method="grid", trials=2, prune=optuna.pruners.ThresholdPruner(lower=0.3), progress=False
    )
    assert [trial.state for trial in study.trials] == ["complete", "pruned"]
    assert list(study.trials[0].reports) == [1, 2, 3] and study.trials[0].score == study.trials[0].reports[3]
    assert list(study.trials[1].reports) == [1]
    assert study.trials[0].score == tune.cross_validate(lambda: make({"rate": 0.1}), training, 3, epochs=3, batch_size=16).mean  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda a, b: tune.Training(make, a, epochs=1), "validation or folds must be given, one of both to judge by, got neither"),
        (lambda a, b: tune.Training(make, a, b, folds=3, epochs=1), "got both"),
        (lambda a, b: tune.Training(make, a, folds=3, epochs=1, monitor="loss"), "monitor must be of the fold"),
        (
            lambda a, b: tune.search(tune.Training(lambda trial: None, a, b, epochs=1), RATES, trials=1),
            "make must give a train.Trainer, got None",
        ),
        (
            lambda a, b: tune.search(tune.Training(make, a, b, epochs=1, monitor="val_loss"), RATES, trials=1),
            "maximize must be False for the monitor",
        ),
        (
            lambda a, b: tune.search(tune.Training(make, a, b, epochs=1, monitor="val_recall"), RATES, trials=1),
            "there is no 'val_recall' to watch",
        ),
    ],
)
def test_objectives_that_cannot_be_judged_are_refused(call: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        call(*some_digits())


# --- pictures


def test_importances_tell_what_matters() -> None:
    space = {"rate": tune.log_uniform(1e-4, 1), "decay": tune.log_uniform(1e-6, 1e-2), "width": [16, 32]}
    study = tune.search(lambda trial: -(math.log10(trial["rate"]) ** 2) - 0.01 * trial["decay"], space, trials=60, progress=False)
    found = study.importances()
    assert list(found)[0] == "rate" and found["rate"] > 0.7 and sum(found.values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 10 complete trials of different scores, got 8 complete"):
        search().importances()


def test_pictures_are_drawn(tmp_path: Path) -> None:
    figures = pytest.importorskip("matplotlib.figure", reason="pictures are matplotlib's (extra plot)")
    drawn: list[Any] = []
    save = figures.Figure.savefig

    def objective(trial: tune.Trial) -> float:
        for step in range(1, 4):
            trial.report(step * score(trial), step)
        if trial.index == 5:
            raise tune.Pruned
        return 1 / 0 if trial.index == 6 else score(trial)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures.Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))[1])
        study, grid = search(objective, trials=16), search(objective, method="grid", trials=16)
        study.plot(tmp_path / "a.png")
        study.plot(tmp_path / "b.svg", x="width", y="rate")
        study.plot_curves(tmp_path / "c.png")
        study.plot_importances(tmp_path / "d.png")
        tune.plot_side_by_side({"grid": grid, "random": study}, tmp_path / "e.png")
        tune.search(lambda trial: trial["rate"], RATES, trials=3, progress=False).plot(tmp_path / "f.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("a.png", "b.svg", "c.png", "d.png", "e.png", "f.png"))
    scatter, named, curves, _, beside, single = (figure.axes for figure in drawn)
    assert scatter[0].get_xscale() == "log" and scatter[0].get_yscale() == "linear" and scatter[0].get_xlabel() == "rate"
    dots = max(scatter[0].collections, key=lambda dots: len(dots.get_offsets()))
    assert len(dots.get_offsets()) == 14 and sorted(dots.get_array()) == sorted(t.score for t in study.trials if t.state == "complete")
    assert [label.get_text() for label in named[0].get_xticklabels()] == ["16", "(3, 4)", "None"]
    assert len(curves[0].lines) >= 16 and [axes.get_title()[:6] for axes in beside[:2]] == ["grid: ", "random"]
    assert single[0].get_ylabel() == "score"


def test_pictures_of_what_is_not_there_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures are matplotlib's (extra plot)")
    with pytest.raises(ValueError, match="x must be one of the space's names, rate, decay, width, got 'lr'"):
        search().plot(tmp_path / "a.png", x="lr")
    with pytest.raises(ValueError, match="no trial has reports"):
        search().plot_curves(tmp_path / "a.png")
    with pytest.raises(ValueError, match="studies must have one space"):
        tune.plot_side_by_side({"a": search(), "b": tune.search(lambda t: 0.0, RATES, trials=1, progress=False)}, tmp_path / "a.png")
    assert not os.listdir(tmp_path)
