"""fastnn.tune: spaces, searches, studies, ready objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn import optim, train, tune

from . import Subject, recipe
from .data import rows_set
from .optim import constants
from .train import net


def made(trial: Any = None) -> train.Trainer:
    model = net()
    return train.Trainer(model, optim.SGD(model.parameters(), 0.1))


def study() -> tune.Study:
    def objective(trial: tune.Trial) -> float:
        trial.report(0.5, 1)
        return float(trial["rate"])

    return tune.search(objective, {"rate": tune.log_uniform(0.1, 1), "width": [1, 2]}, trials=12, progress=False)


def trial() -> tune.Trial:
    return study().trials[0]


def searched(**arguments: Any) -> tune.Study:
    return tune.search(**{"progress": False, **arguments})


def trained(**arguments: Any) -> float:
    return tune.Training(**arguments)(a_running_one())


def reported(**arguments: Any) -> Any:
    report = tune.Report(**arguments)
    return made().fit(rows_set(), 1, rows_set(), batch_size=5, callbacks=[report], progress=False)


def a_running_one() -> tune.Trial:
    return tune.Trial(0, {"rate": 0.1})


def subjects() -> list[Subject]:
    inside = (
        "Loader",
        "item 0",
        "data set",
        "ItemDataset",
        "ArrayDataset",
        "Linear",
        "cross_entropy",
        "SGD",
        "Sequential",
        "fit",
        "evaluate",
        "Flatten",
    )
    space = {"space": lambda: {"rate": tune.log_uniform(0.1, 1), "width": [1, 2]}}
    search = {
        "objective": lambda: lambda trial: float(trial["rate"]),
        **space,
        **constants(trials=3, method="random", points=None, seed=0, maximize=True, storage=None, name="fastnn", prune=None, progress=False),
        "catch": lambda: (ArithmeticError,),
    }
    folds = {
        "make": lambda: made,
        "data": rows_set,
        **constants(folds=2, epochs=1, batch_size=5, metric="accuracy", seed=0),
        "trial": a_running_one,
    }
    training = {
        "make": lambda: made,
        "train": rows_set,
        "validation": rows_set,
        **constants(epochs=1, folds=None, batch_size=5, monitor="val_accuracy"),
    }
    pictures = constants(path="s.png", x="rate", y="width")
    return [
        Subject("log_uniform", tune.log_uniform, constants(low=0.1, high=1.0), (), {"low": (0.0, 1.0)}),
        Subject("uniform", tune.uniform, constants(low=0.1, high=1.0), (), {"low": (1.0, -1e308), "high": (0.1, 1e308)}),
        Subject("integers", tune.integers, constants(low=1, high=5, log=True), (), {"low": (6,)}),
        Subject("choice", tune.choice, {"values": lambda: [1, 2]}),
        Subject("search", searched, search, ("Linear",), {"method": ("sobol",), "prune": ("best",)}),
        Subject("search", searched, {**search, **constants(method="grid", points=2, trials=4)}, ("Linear",), {"points": ({"rate": 2, "width": 2},)}),
        Subject("Trial", lambda **a: tune.Trial(**a), {"index": lambda: 0, "values": lambda: {"rate": 0.1}}),
        Subject("Trial.report", lambda **a: a_running_one().report(**a), constants(value=0.5, step=1)),
        Subject("Trial.__getitem__", lambda name: trial()[name], constants(name="rate"), ("trial",), kinds=(KeyError,)),
        Subject("Study.narrowed", lambda share: study().narrowed(share), constants(share=0.5)),
        Subject("Study.table", lambda most: study().table(most), constants(most=2)),
        Subject("Study.save", lambda path: study().save(path), constants(path="t.csv")),
        Subject("Study.plot", lambda **a: study().plot(**a), pictures),
        Subject("Study.plot_curves", lambda path: study().plot_curves(path), constants(path="c.png")),
        Subject("Study.plot_importances", lambda path: study().plot_importances(path), constants(path="i.png")),
        Subject("plot_side_by_side", tune.plot_side_by_side, {"studies": lambda: {"a": study(), "b": study()}, **pictures}),
        Subject("load_study", stored, constants(storage="study.db", name="fastnn"), ("storage",)),
        Subject("Training", trained, training, (*inside, "Report", "search"), {"monitor": ("val_recall",)}),
        Subject("Training.__call__", lambda trial: tune.Training(made, rows_set(), rows_set(), epochs=1)(trial), {"trial": a_running_one}),
        Subject("Report", reported, {"trial": a_running_one, **constants(monitor="val_accuracy")}),
        Subject("cross_validate", tune.cross_validate, folds, (*inside, "k_fold", "report")),
        *recipe.subjects(),
    ]  # fmt: skip


def stored(**arguments: Any) -> tune.Study:
    """Of the study that lies there."""
    tune.search(lambda trial: 0.5, {"rate": tune.log_uniform(0.1, 1)}, trials=1, storage="study.db", progress=False)
    return tune.load_study(**arguments)


PLAIN: Mapping[str, str] = {
    "Callback": "of fastnn.train",
    "CrossValidation": "made by cross_validate",
    "Pruned": "an exception",
    "Study": "made by search: see its methods",
    **recipe.PLAIN,
}
