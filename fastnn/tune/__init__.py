"""Tuning: hyper-parameters searched at random, on a grid or by Optuna's samplers.

    def make(trial):
        model = models.create("lenet", input_shape=training.shape)
        return train.Trainer(model, optim.SGD(model.parameters(), trial["rate"], momentum=0.9, weight_decay=trial["decay"]))

    space = {"rate": tune.log_uniform(1e-4, 1), "decay": tune.log_uniform(1e-6, 1e-2)}
    study = tune.search(tune.Training(make, training, validation, epochs=3), space, trials=20)
    print(study)    # the trials, the best first, and what they say

Judge trials by validation data or folds of the training set, never by the test set.

    found = tune.recipe(trainer, training)    # the seven steps of tuning, each with PASS or FAIL and what to change
"""

from typing import TYPE_CHECKING

from ..elsewhere import absent
from .beginning import initial_loss
from .curves import read_curves
from .objective import CrossValidation, Report, Training, cross_validate
from .rates import drop_rate
from .recipe import Recipe, recipe
from .search import search
from .searching import coarse, refine
from .small_set import overfit
from .space import choice, integers, log_uniform, uniform
from .storage import load_study
from .study import Study, plot_side_by_side
from .trial import Pruned, Trial
from .verdict import Fault, Verdict

__all__ = [
    "CrossValidation",
    "Fault",
    "Pruned",
    "Recipe",
    "Report",
    "Study",
    "Training",
    "Trial",
    "Verdict",
    "choice",
    "coarse",
    "cross_validate",
    "drop_rate",
    "initial_loss",
    "integers",
    "load_study",
    "log_uniform",
    "overfit",
    "plot_side_by_side",
    "read_curves",
    "recipe",
    "refine",
    "search",
    "uniform",
]

if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = absent(__name__)
