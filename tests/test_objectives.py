"""Searches by Optuna's samplers and pruners, ready objectives of trainings and folds, importances and pictures of trials."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastnn
from fastnn import data, nn, optim, train, tune

optuna = pytest.importorskip("optuna", reason="samplers, pruning and importances are Optuna's (extra tune)")

SPACE = {"rate": tune.log_uniform(1e-4, 1), "decay": tune.uniform(0, 1), "width": [16, (3, 4), None]}


def score(trial: tune.Trial) -> float:
    return -abs(trial["rate"] - 0.1) - trial["decay"]


def search(objective: Callable[[tune.Trial], float] = score, **options: Any) -> tune.Study:
    return tune.search(objective, SPACE, **{"trials": 8, "seed": 3, "progress": False, **options})


def seen(study: tune.Study) -> list[tuple[Any, ...]]:
    return [(trial.index, *trial.values(), trial.score, trial.state, trial.reason) for trial in study.trials]


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
