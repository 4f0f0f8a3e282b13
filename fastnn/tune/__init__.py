"""Tuning: hyper-parameters searched at random, on a grid or by Optuna's samplers.

    def make(trial):
        model = models.create("lenet", input_shape=training.shape)
        return train.Trainer(model, optim.SGD(model.parameters(), trial["rate"], momentum=0.9, weight_decay=trial["decay"]))

    space = {"rate": tune.log_uniform(1e-4, 1), "decay": tune.log_uniform(1e-6, 1e-2)}
    study = tune.search(tune.Training(make, training, validation, epochs=3), space, trials=20)
    print(study)    # the trials, the best first, and what they say

Judge trials by validation data or folds of the training set, never by the test set.
"""

from typing import TYPE_CHECKING

from ..elsewhere import absent
from .objective import CrossValidation, Report, Training, cross_validate
from .search import search
from .space import choice, integers, log_uniform, uniform
from .storage import load_study
from .study import Study, plot_side_by_side
from .trial import Pruned, Trial

__all__ = [
    "CrossValidation",
    "Pruned",
    "Report",
    "Study",
    "Training",
    "Trial",
    "choice",
    "cross_validate",
    "integers",
    "load_study",
    "log_uniform",
    "plot_side_by_side",
    "search",
    "uniform",
]

if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = absent(__name__)
