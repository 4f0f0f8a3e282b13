"""Ready objectives: a training judged by validation data or by folds, told epoch by epoch, and ended where it is not worth going on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from .. import random
from ..arguments import function, instance, integer, one_of, shown, text
from ..data import Dataset
from ..data.folds import k_fold
from ..described import described, plural
from ..other_names import told
from ..train import Callback, Trainer
from ..train.evaluation import Data
from ..train.history import best_row, checked_mode
from .trial import Pruned, Trial


class Report(Callback):
    """Tells a trial the row's `monitor` after every epoch, as step the number of the epoch, and ends the fit by tune.Pruned where the trial should be
    pruned. ValueError, in the first epoch, for a column that there is not."""

    def __init__(self, trial: Trial, monitor: str = "val_accuracy") -> None:
        self._trial = instance("Report", "trial", trial, Trial, "the trial that the objective was given")
        self.monitor = text("Report", "monitor", monitor, "such as 'val_accuracy'")

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        if self.monitor not in row:
            hint = (
                "; give fit validation data" if self.monitor.startswith("val_") and not any(name.startswith("val_") for name in row) else ""
            )
            raise ValueError(f"Report: there is no {self.monitor!r} to watch (monitor), only {', '.join(row)}{hint}")
        self._trial.report(row[self.monitor], trainer.epoch)
        if self._trial.should_prune():
            raise Pruned


class Training:
    """The objective of the common case: `tune.search(tune.Training(make, train, validation, epochs=3), space, trials=20)`.

    make: a function of a trial that gives the train.Trainer to train, with weights just drawn: def make(trial): model = ...; return
    train.Trainer(model, optim.SGD(model.parameters(), trial["rate"], weight_decay=trial["decay"])). train, validation, batch_size: as
    Trainer.fit takes them; train may be a function of the trial, for a data.Loader whose batch size or augmentation is searched.
    The score is the best epoch's `monitor`, a column of the history ("val_accuracy", "val_loss": search with maximize=False). Every epoch is
    reported, so that the search's `prune` can end a trial.
    folds: in the place of validation data: the mean over that many folds of `train`, a data set (see tune.cross_validate: of the last epoch, in which
    the fold has no part); each fold is reported, so that a trial can be pruned after some of them.
    """

    @told(
        {
            **dict.fromkeys(("validation_data", "val"), "it is validation"),
            "cv": "it is folds",
            "callbacks": "call fit in an objective of your own",
        }
    )
    def __init__(
        self,
        make: Callable[[Trial], Trainer],
        train: Data | Callable[[Trial], Data],
        validation: Data | None = None,
        *,
        epochs: int,
        folds: int | None = None,
        batch_size: int | None = None,
        monitor: str = "val_accuracy",
    ) -> None:
        what = "Training"
        self._make = function(what, "make", make, "a function of a trial that gives a train.Trainer")
        self.epochs = integer(what, "epochs", epochs, 1, 2**31)
        self.monitor = text(what, "monitor", monitor, "such as 'val_accuracy'")
        self.maximize = checked_mode(what, self.monitor, None) == "max"
        for name, value, least in (("batch_size", batch_size, 1), ("folds", folds, 2)):
            if value is not None:
                integer(what, name, value, least, 2**31)
        if isinstance(train, type):
            raise TypeError(f"{what}: train must be a data set, a Loader or a function of a trial that gives one, got {shown(train)}")
        if (folds is None) is (validation is None):
            given = "neither" if folds is None else "both"
            raise ValueError(f"{what}: validation or folds must be given, one of both to judge by, got {given}")
        if folds is not None:
            instance(what, "train", train, Dataset, "a data set, of which folds are made")
            if not self.monitor.startswith("val_"):
                raise ValueError(f"{what}: monitor must be of the fold, such as 'val_accuracy', got {self.monitor!r}")
        self._train, self._validation, self.folds, self.batch_size = train, validation, folds, batch_size

    def __repr__(self) -> str:
        return described(self, epochs=self.epochs, monitor=self.monitor, **({"folds": self.folds} if self.folds else {}))

    def __call__(self, trial: Trial) -> float:
        """The score of a trial; Pruned where it is not worth going on."""
        instance("Training", "trial", trial, Trial, "the trial of a search")
        if self.folds is not None:
            return self._over_folds(trial, self.folds)
        trainer = _made("Training", self._make(trial))
        given_by = callable(self._train) and not hasattr(self._train, "__len__")
        training = cast(Data, self._train(trial) if given_by else self._train)  # type: ignore[operator]
        known = len(trainer.history)
        report = Report(trial, self.monitor)
        trainer.fit(training, self.epochs, self._validation, batch_size=self.batch_size, callbacks=[report], progress=False)
        rows = trainer.history.rows[known:]
        return rows[best_row(rows, self.monitor, "max" if self.maximize else "min")][self.monitor]

    def _over_folds(self, trial: Trial, folds: int) -> float:
        assert isinstance(self._train, Dataset)
        metric = self.monitor.removeprefix("val_")
        options = {"epochs": self.epochs, "batch_size": self.batch_size, "metric": metric}
        return cross_validate(lambda: self._make(trial), self._train, folds, trial=trial, **options).mean  # type: ignore[arg-type]


class CrossValidation:
    """What `cross_validate` gives. results: of each fold what Trainer.evaluate says, {"loss": ..., "accuracy": ...}. scores: the `metric` of
    each. mean and spread: their mean and standard deviation (of the sample: divided by folds - 1)."""

    def __init__(self, results: list[dict[str, float]], metric: str) -> None:
        self.results, self.metric = results, metric

    @property
    def scores(self) -> np.ndarray:
        return np.array([result[self.metric] for result in self.results])

    @property
    def mean(self) -> float:
        return float(self.scores.mean())

    @property
    def spread(self) -> float:
        return float(self.scores.std(ddof=1))

    def __repr__(self) -> str:
        return described(self, plural(len(self.results), "fold"), f"{self.metric} {self.mean:.4g} +- {self.spread:.2g}")

    def __str__(self) -> str:
        """The figure of each fold, their mean and spread."""
        lines = [f"fold {i}  {self.metric} {score:.4f}" for i, score in enumerate(self.scores)]
        return "\n".join([*lines, f"mean    {self.metric} {self.mean:.4f}, spread {self.spread:.4f}"])


@told(
    {
        "cv": "it is folds",
        "estimator": "it is make, a function that gives a train.Trainer",
        "scoring": "it is metric",
        "n_splits": "it is folds",
    }
)
def cross_validate(
    make: Callable[[], Trainer],
    data: Dataset,
    folds: int = 5,
    *,
    epochs: int,
    batch_size: int | None = None,
    metric: str = "accuracy",
    seed: int = 0,
    trial: Trial | None = None,
) -> CrossValidation:
    """Trains anew for each fold on all the others and judges by the fold: mean and spread tell more of few data than one validation set does.

    make: a function without arguments that gives the train.Trainer of a fold, with weights just drawn. data: the training set (not the test
    set), dealt out by data.k_fold with `seed`, each class alike; seed draws the weights, too. epochs, batch_size: of each fold's fit. The figures
    are those of the last epoch, for the fold is no validation set: it chooses nothing. metric: what `scores`, `mean` and `spread` are of, "loss" or
    the name of one of the trainer's metrics. trial: of a search, in whose objective the mean is the score: told the mean so far after each fold, and
    ended by tune.Pruned where it should be. Normalisation is fitted on each fold's own training part.

    Raises TypeError where make gives no Trainer, ValueError for what data.k_fold and Trainer.fit refuse, and for a metric that there is not.
    """
    what = "cross_validate"
    function(what, "make", make, "a function without arguments that gives a train.Trainer")
    instance(what, "data", data, Dataset, "a data set, such as data.ArrayDataset(images, labels)")
    integer(what, "folds", folds, 2, 2**31), integer(what, "epochs", epochs, 1, 2**31), integer(what, "seed", seed, 0, 2**63)
    text(what, "metric", metric, "such as 'accuracy'")
    if batch_size is not None:
        integer(what, "batch_size", batch_size, 1)
    if trial is not None:
        instance(what, "trial", trial, Trial, "the trial of a search")
    results: list[dict[str, float]] = []
    with random.using(random.Generator(seed)):
        for step, (rest, fold) in enumerate(k_fold(data, folds, seed=seed), 1):
            trainer = _made(what, make())
            trainer.fit(data.take(rest), epochs, batch_size=batch_size, progress=False)
            results.append(trainer.evaluate(data.take(fold)))
            one_of(what, "metric", metric, list(results[0]))
            if trial is not None:
                trial.report(CrossValidation(results, metric).mean, step)
                if step < folds and trial.should_prune():
                    raise Pruned
    return CrossValidation(results, metric)


def _made(what: str, trainer: Any) -> Trainer:
    if not isinstance(trainer, Trainer):
        raise TypeError(f"{what}: make must give a train.Trainer, got {shown(trainer)}")
    return trainer
