"""Hyper-parameter search: what is drawn, what becomes of a trial, what a study says."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference

import fastnn
from fastnn import data, nn, optim, random, train, tune

SPACE = {"rate": tune.log_uniform(1e-4, 1), "decay": tune.log_uniform(1e-6, 1e-2), "width": [16, 32, 64]}


def bowl(trial: tune.Trial) -> float:
    """Highest at a rate of 0.01 and a decay of 1e-4."""
    return -((math.log10(trial["rate"]) + 2) ** 2) - (math.log10(trial["decay"]) + 4) ** 2


def search(objective: Any = bowl, space: Any = None, **options: Any) -> tune.Study:
    options = {"trials": 12, "progress": False, **options}
    return tune.search(objective, SPACE if space is None else space, **options)


def values(study: tune.Study) -> list[dict[str, Any]]:
    return [dict(trial) for trial in study.trials]


# --- spaces


def test_values_at_random_are_those_of_philox_by_seed_and_index() -> None:
    study = search(seed=7)
    for index in (0, 5, 11):
        w = [int(word) for word in reference.random_words(0, 6, 7, index, random.SEARCH)]
        u = [((w[2 * j] >> 5) * 2**26 + (w[2 * j + 1] >> 6)) / 2**53 for j in range(3)]
        assert study.trials[index]["rate"] == pytest.approx(1e-4 * 1e4 ** u[0], rel=1e-13)
        assert study.trials[index]["decay"] == pytest.approx(1e-6 * 1e4 ** u[1], rel=1e-13)
        assert study.trials[index]["width"] == [16, 32, 64][int(3 * u[2])]


def test_values_depend_on_seed_and_index_alone() -> None:
    assert values(search(trials=12, seed=3)) == values(search(trials=20, seed=3))[:12]
    assert values(search(lambda trial: fastnn.random.default_generator().uniform((3,)).sum())) == values(search())
    assert values(search(seed=3)) != values(search(seed=4))


@pytest.mark.parametrize(
    ("axis", "place"),
    [
        (tune.log_uniform(1e-5, 10), lambda x: math.log10(x / 1e-5) / 6),
        (tune.uniform(-2, 3), lambda x: (x + 2) / 5),
        (tune.integers(0, 9), lambda x: (x + 0.5) / 10),
    ],
)
def test_values_are_spread_evenly_over_the_axis(axis: Any, place: Any) -> None:
    """Kolmogorov's distance from the uniform distribution, of 2000 values: 1.95 / sqrt(n) is exceeded once in a thousand; steps of 1/10 add theirs."""
    found = np.sort([place(trial["x"]) for trial in search(lambda trial: 0.0, {"x": axis}, trials=2000).trials])
    assert 0 <= found[0] and found[-1] <= 1
    assert np.abs(found - np.arange(2000) / 2000).max() < 1.95 / math.sqrt(2000) + (0.06 if axis.words == "integers" else 0)


def test_integers_have_both_ends_and_their_logarithms_may_be_even() -> None:
    found = [trial["n"] for trial in search(lambda trial: 0.0, {"n": tune.integers(3, 5)}, trials=60).trials]
    assert set(found) == {3, 4, 5} and all(type(n) is int for n in found)
    found = [trial["n"] for trial in search(lambda trial: 0.0, {"n": tune.integers(1, 1023, log=True)}, trials=600).trials]
    assert 0.4 < np.mean(np.array(found) < 32) < 0.6 and min(found) == 1  # half of ten octaves


def test_a_grid_has_every_combination_evenly_in_logarithms() -> None:
    study = search(method="grid", points=3, trials=None)
    assert len(study) == 27 and len({tuple(trial.values()) for trial in study.trials}) == 27
    assert sorted({trial["rate"] for trial in study.trials}) == pytest.approx([1e-4, 1e-2, 1])
    assert sorted({trial["decay"] for trial in study.trials}) == pytest.approx([1e-6, 1e-4, 1e-2])
    assert {trial["rate"] for trial in study.trials} >= {1e-4, 1} and [t["width"] for t in study.trials[:4]] == [16, 32, 64, 16]
    assert study.best["rate"] == pytest.approx(1e-2) and study.best["decay"] == pytest.approx(1e-4)


def test_a_grid_has_at_most_as_many_trials_as_are_asked_for() -> None:
    assert len(search(method="grid", trials=30)) == 27 and len(search(method="grid", trials=12)) == 12
    assert len(search(method="grid", trials=None, points={"rate": 5, "decay": 2})) == 30
    assert len(search(space={"n": tune.integers(1, 3)}, objective=lambda t: 0.0, method="grid", trials=100)) == 3
    with pytest.raises(ValueError, match="trials must be at least 12, two points on each range"):
        search(method="grid", trials=11)
    with pytest.raises(ValueError, match="trials must be at least 27"):
        search(method="grid", trials=20, points=3)


def test_a_grid_of_one_point_takes_the_middle() -> None:
    space = {"rate": tune.log_uniform(1e-4, 1), "p": tune.uniform(0, 1), "n": tune.integers(2, 4)}
    (trial,) = search(lambda trial: 0.0, space, method="grid", points=1).trials
    assert dict(trial) == pytest.approx({"rate": 1e-2, "p": 0.5, "n": 3})


# --- trials


def test_diverged_and_scores_that_are_no_numbers_are_failed_trials() -> None:
    def objective(trial: tune.Trial) -> float:
        if trial.index == 2:
            raise train.Diverged("the loss is nan at epoch 1")
        if trial.index == 3:
            raise MemoryError("too large")
        return math.nan if trial.index == 4 else math.inf if trial.index == 5 else bowl(trial)

    study = search(objective)
    assert [trial.index for trial in study.trials if trial.state == "failed"] == [2, 3, 4, 5]
    reasons = [trial.reason for trial in study.trials[2:6]]
    assert reasons == ["Diverged: the loss is nan at epoch 1", "MemoryError: too large", "the score is nan", "the score is inf"]
    assert "4 of 12 trials failed, the first: Diverged: the loss is nan" in "\n".join(study.findings) and study.best.state == "complete"


def test_other_exceptions_end_the_search_unless_they_are_named() -> None:
    def objective(trial: tune.Trial) -> float:
        raise KeyError("lr")

    with pytest.raises(KeyError, match="lr"):
        search(objective)
    study = search(objective, catch=[KeyError])
    assert {trial.state for trial in study.trials} == {"failed"} and not study.at_edge
    with pytest.raises(ValueError, match=r"no best trial: expected one that is complete, there are 12 failed, the first: KeyError: 'lr'"):
        study.best  # noqa: B018
    with pytest.raises(TypeError, match="objective's score must be a number, got None"):
        search(lambda trial: None)
    with pytest.raises(TypeError, match="objective's score must be a number, got True"):
        search(lambda trial: True)


def test_weights_of_a_trial_do_not_depend_on_those_before_it() -> None:
    def sum_of_weights(trial: tune.Trial) -> float:
        return float(nn.Linear(5, trial["n"]).weight.numpy().sum())

    generator = random.default_generator()
    draw = generator.draw
    study = search(sum_of_weights, {"n": [4]}, trials=3, seed=2)
    assert len({trial.score for trial in study.trials}) == 1 and random.default_generator() is generator and generator.draw == draw
    fastnn.seed(2)
    assert study.trials[0].score == sum_of_weights(study.trials[0])


def test_reports_are_kept_and_a_pruned_trial_has_the_last_as_its_score() -> None:
    def objective(trial: tune.Trial) -> float:
        for step in range(4):
            trial.report(trial.index + step / 10, step)
            if trial.index == 1 and step == 2:
                raise tune.Pruned
        assert not trial.should_prune()
        return 0.0

    study = search(objective, trials=3)
    assert study.trials[0].reports == {0: 0.0, 1: 0.1, 2: 0.2, 3: 0.3}
    assert study.trials[1].state == "pruned" and study.trials[1].score == 1.2 and study.best.index == 0
    with pytest.raises(ValueError, match="step must be greater than that of the report before, 3, got 3"):
        study.trials[0].report(1.0, 3)


def test_ctrl_c_ends_the_search_and_has_the_study() -> None:
    def objective(trial: tune.Trial) -> float:
        if trial.index == 4:
            raise KeyboardInterrupt
        return bowl(trial)

    with pytest.raises(KeyboardInterrupt, match="^search: interrupted with 4 trials done: the exception has them as its study$") as caught:
        search(objective)
    assert values(caught.value.study) == values(search())[:4]  # type: ignore[attr-defined]


def test_a_trial_is_a_mapping_that_names_what_it_has() -> None:
    trial = search(trials=1).trials[0]
    assert list(trial) == ["rate", "decay", "width"] and {**trial} == dict(trial)
    with pytest.raises(KeyError, match="trial has no 'lr'; expected one of rate, decay, width"):
        trial["lr"]


# --- studies


def test_the_best_is_the_highest_or_the_lowest_and_the_first_of_equals() -> None:
    up, down = search(), search(maximize=False)
    scores = [trial.score for trial in up.trials]
    assert up.best.score == max(scores) and down.best.score == min(scores)
    assert search(lambda trial: 1.0).best.index == 0


@pytest.mark.parametrize(
    ("space", "at", "said"),
    [
        ({"rate": tune.log_uniform(1e-4, 1)}, 1, "the best rate, 1, lies at the upper edge of log_uniform(0.0001, 1): widen it, log_uniform(0.0001, 10)"),
        ({"rate": tune.log_uniform(1e-4, 1)}, 1e-4, "lies at the lower edge of log_uniform(0.0001, 1): widen it, log_uniform(1e-05, 1)"),
        ({"rate": tune.log_uniform(1e-4, 1)}, 0.01, None),
        ({"momentum": tune.uniform(0.5, 0.9)}, 0.9, "upper edge of uniform(0.5, 0.9): widen it, uniform(0.5, 1)"),
        ({"p": tune.uniform(0, 0.5)}, 0, None),  # nothing lies below a probability of 0
        ({"p": tune.uniform(0, 1)}, 1, None),
        ({"x": tune.uniform(-3, 1)}, -3, "uniform(-7, 1)"),
        ({"layers": tune.integers(2, 10)}, 10, "widen it, integers(2, 18)"),
        ({"width": tune.integers(16, 64, log=True)}, 16, "widen it, integers(4, 64, log=True)"),
        ({"width": [16, 32, 64]}, 64, "upper edge of choice([16, 32, 64]): widen it, choice([16, 32, 64, 128])"),
        ({"decay": [0.0, 1e-5, 1e-4]}, 1e-4, "widen it, choice([0.0, 1e-05, 0.0001, 0.001])"),
        ({"decay": [0.0, 1e-5, 1e-4]}, 0.0, None),
        ({"name": ["a", "b", "c"]}, "c", None),
        ({"layers": [1, 2, 3]}, 1, None),  # none at all is another model
        ({"p": [0.25, 0.5, 0.75]}, 0.75, None),
    ],
)  # fmt: skip
def test_a_best_value_at_the_edge_of_its_range_is_told_with_how_to_widen_it(space: Any, at: Any, said: str | None) -> None:
    (name,) = space

    def objective(trial: tune.Trial) -> float:
        return float(trial[name] == at if isinstance(at, str) else math.isclose(trial[name], at))

    study = search(objective, space, method="grid", points=5, trials=None)
    assert study.best.score == 1
    assert (name in study.at_edge) is (said is not None)
    assert not study.findings if said is None else study.findings[0].endswith(said) and study.findings[0] in str(study)


def test_narrowed_is_a_part_of_each_range_around_the_best() -> None:
    study = search(method="grid", points=5, trials=None)
    fine = study.narrowed(0.5)
    assert repr(fine["rate"]) == "log_uniform(0.001, 0.1)" and repr(fine["decay"]) == "log_uniform(1e-05, 0.001)"
    assert repr(fine["width"]) == "choice([16, 32, 64])"
    assert search(space=fine, method="grid", points=3, trials=None).best.score == pytest.approx(0)
    space = {"p": tune.uniform(0, 1), "n": tune.integers(4, 12), "w": tune.integers(8, 128, log=True)}
    study = search(lambda trial: -abs(trial["p"] - 1) - trial["n"] - abs(trial["w"] - 32), space, method="grid", points=5, trials=None)
    assert [repr(axis) for axis in study.narrowed(0.5).values()] == ["uniform(0.75, 1)", "integers(2, 6)", "integers(16, 64, log=True)"]


def test_the_table_has_the_best_first_and_print_says_it_all() -> None:
    study = search(lambda trial: 1 / 0 if trial.index == 3 else bowl(trial))
    lines = study.table().splitlines()
    assert lines[0].split() == ["trial", "score", "rate", "decay", "width", "seconds"] and len(lines) == 13
    ranks = [int(line.split()[0]) for line in lines[1:]]
    assert ranks[0] == study.best.index and ranks[-1] == 3 and lines[-1].endswith("failed: ZeroDivisionError: division by zero")
    assert study.table(2).splitlines()[-1] == "... and 10 trials more"
    assert str(study).splitlines()[0] == "12 trials (random, seed 0): 11 complete, 1 failed"
    assert repr(study) == f"Study(11 complete, 1 failed, best {study.best.score:.4g})"


def test_a_study_is_written_as_csv_and_json_lines(tmp_path: Path) -> None:
    def objective(trial: tune.Trial) -> float:
        trial.report(0.5, 1)
        return 1 / 0 if trial.index == 1 else bowl(trial)

    study = search(objective, trials=3)
    study.save(tmp_path / "trials.csv")
    with open(tmp_path / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["trial", "score", "state", "seconds", "reason", "rate", "decay", "width"]
    assert [float(row["rate"]) for row in rows] == [trial["rate"] for trial in study.trials] and rows[1]["score"] == ""
    study.save(tmp_path / "trials.jsonl")
    read = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert read[0]["score"] == study.trials[0].score and read[1]["score"] is None and read[1]["reports"] == {"1": 0.5}
    assert read[1]["reason"] == "ZeroDivisionError: division by zero"


def test_choices_may_be_of_anything(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures are matplotlib's (extra plot)")
    values = [np.arange(3.0), np.arange(4.0), nn.ReLU, bowl, (1, 2), True, 1, None]
    study = search(lambda trial: float(trial["x"] is values[3]), {"x": values, "y": [1]}, method="grid", points=1, trials=None)
    assert len(study) == 8 and study.best["x"] is bowl and not study.at_edge
    study.save(tmp_path / "trials.csv"), study.plot(tmp_path / "trials.png"), str(study)
    with open(tmp_path / "trials.csv", newline="") as file:
        assert [row["x"] for row in csv.DictReader(file)][1:] == [
            "numpy.ndarray",
            "the class ReLU",
            "the function bowl",
            "(1, 2)",
            "True",
            "1",
            "",
        ]


def test_progress_is_a_line_for_each_trial(capsys: pytest.CaptureFixture[str]) -> None:
    search(lambda trial: [0.25, 0.5, 0.125][trial.index], {"rate": [0.1]}, trials=3, progress=True)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("trial 0 of 0 to 2    0.2500  rate 0.1  0.0 s  the best so far") and "the best so far" in second
    assert third.endswith("0.0 s")
    search(progress=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: search(space={"rate": (1e-4, 1)}), "of two ends tune.log_uniform"),
        (lambda: search(space={"seconds": [1]}), "a column of every table of trials"),
        (lambda: search(points=3), "points is for method 'grid'"),
        (lambda: search(trials=None), "trials must be given"),
        (lambda: search(method="grid", trials=None), "method 'grid' needs points"),
        (lambda: search(method="grid", trials=None, points={"rate": 3}), r"a number for each range of the space \(rate, decay\), got \['rate'\]"),
        (lambda: search(n_trials=3), "there is no argument 'n_trials'; it is trials"),
        (lambda: tune.log_uniform(0, 1), "log_uniform: low must be positive"),
        (lambda: tune.log_uniform(1, 1), "low must be less than high"),
        (lambda: tune.integers(0, 5, log=True), "low must be at least 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_before_the_first_trial(call: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        call()


def test_the_package_comes_when_asked_for_and_needs_no_optuna() -> None:
    code = """
import sys, fastnn
assert "fastnn.tune" not in sys.modules
sys.modules["optuna"] = None
study = fastnn.tune.search(lambda trial: trial["x"], {"x": fastnn.tune.uniform(0, 1)}, trials=3, progress=False)
assert len(study) == 3 and "matplotlib" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- trainings


def test_a_search_on_digits_finds_a_rate_within_a_factor_of_the_best() -> None:
    """The best of a fine grid over five decades, of which a search of 16 trials at random comes within a factor of 6, or as high."""
    digits, _ = data.digits()
    training, validation = data.split(digits.take(range(800)), 0.25)

    def objective(trial: tune.Trial) -> float:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        trainer = train.Trainer(model, optim.SGD(model.parameters(), trial["rate"], momentum=0.9))
        trainer.fit(training, 2, progress=False)
        return trainer.evaluate(validation)["accuracy"]

    space = {"rate": tune.log_uniform(1e-5, 10)}
    found, fine = search(objective, space, trials=16), search(objective, space, method="grid", points=25, trials=None)
    assert found.best.score is not None and fine.best.score is not None
    assert abs(math.log(found.best["rate"] / fine.best["rate"])) < math.log(6) and found.best.score > fine.best.score - 0.03
    assert "rate" not in found.at_edge and fine.best.score > 0.85
    worst = min(fine.trials, key=lambda trial: trial.score if trial.score is not None else 0.0)
    assert worst["rate"] < 1e-3 or worst["rate"] > 1  # it was a search: rates matter
