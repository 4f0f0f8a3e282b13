"""Studies in Optuna's storage: killed and resumed, shared by processes, read back; plans and storages that do not fit."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastnn import train, tune
from fastnn.tune.space import checked_space
from fastnn.tune.storage import Table

optuna = pytest.importorskip("optuna", reason="studies that last, samplers and pruning are Optuna's (extra tune)")

SPACE = {"rate": tune.log_uniform(1e-4, 1), "decay": tune.uniform(0, 1), "width": [16, (3, 4), None]}
# of a program: SPACE, and an objective that writes its index into the file of its first argument
PROGRAM = """
import glob, os, signal, sys, time
from fastnn import tune
space = {"rate": tune.log_uniform(1e-4, 1), "decay": tune.uniform(0, 1), "width": [16, (3, 4), None]}
def objective(trial):
    with open(sys.argv[1], "a") as file:
        file.write(f"{trial.index}\\n")
    trial.report(trial["rate"], 1)
    open(f"{sys.argv[1]}-{os.getpid()}", "w").close()
    while len(glob.glob(f"{sys.argv[1]}-*")) < int(sys.argv[7]):  # until there are so many processes
        time.sleep(0.01)
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


def start(
    folder: Path, *, killed_at: int = -1, seconds: float = 0.0, trials: int = 8, method: str = "random", together: int = 1
) -> subprocess.Popen[bytes]:
    words = [str(folder / "done"), str(folder / "study.db"), str(killed_at), str(seconds), str(trials), method, str(together)]
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
    processes = [start(tmp_path, seconds=0.05, trials=12, together=2) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    done = (tmp_path / "done").read_text().split()
    assert sorted(map(int, done)) == list(range(12))
    study = search(storage=tmp_path / "study.db", trials=12)
    assert seen(study) == seen(search(trials=12))
    workers = {
        row.user_attrs["worker"]["pid"] for row in optuna.load_study(study_name="fastnn", storage=f"sqlite:///{tmp_path}/study.db").trials
    }
    assert workers == {process.pid for process in processes}  # both of them


def test_of_two_that_take_one_index_the_second_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it comes about where both have looked before either has written."""
    storage, values = optuna.storages.InMemoryStorage(), {"rate": 0.1, "decay": 0.5, "width": 16}
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler())
    space = checked_space("search", SPACE)
    first, second = (Table(study, space, 3, lambda index: values, seed=0, storage=storage) for _ in range(2))
    one = first.claim()
    looks = iter([dict, *[second._counted] * 4])  # the first look shows nothing yet
    monkeypatch.setattr(second, "_counted", lambda: next(looks)())
    other = second.claim()
    assert one is not None and other is not None and (one.index, other.index) == (0, 1)
    assert [("void" in row.user_attrs, row.state.name) for row in study.trials] == [(False, "RUNNING"), (True, "FAIL"), (False, "RUNNING")]
    first.void(one)
    third = first.claim()
    assert third is not None and third.index == 0
    first.end(), second.end()


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


def test_a_database_that_takes_no_more_is_an_oserror_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "study.db"

    def objective(trial: tune.Trial) -> float:
        import sqlite3

        with sqlite3.connect(file) as tables:
            tables.execute("DROP TABLE trial_values")
        return 0.0

    with pytest.raises(OSError, match=f"^{file}: the study cannot be read or written: .*no such table"):
        search(objective, storage=file)
