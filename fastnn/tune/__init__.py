"""Tuning: hyper-parameters searched at random, on a grid or by Optuna's samplers.

    def objective(trial):
        trainer = make(rate=trial["rate"], decay=trial["decay"])
        trainer.fit(training, 3, progress=False)
        return trainer.evaluate(validation)["accuracy"]

    space = {"rate": tune.log_uniform(1e-4, 1), "decay": tune.log_uniform(1e-5, 1e-2)}
    study = tune.search(objective, space, trials=20)
    print(study)    # the trials, the best first, and what they say

Judge trials by validation data or folds of the training set, never by the test set.
"""

from typing import TYPE_CHECKING

from ..elsewhere import absent
from .search import search
from .space import choice, integers, log_uniform, uniform
from .study import Study
from .trial import Pruned, Trial

__all__ = [
    "Pruned",
    "Study",
    "Trial",
    "choice",
    "integers",
    "log_uniform",
    "search",
    "uniform",
]

if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = absent(__name__)
