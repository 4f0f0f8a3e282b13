"""Ensembles: several models, or several moments of one training, whose probabilities are averaged."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..arguments import function, instance, items, numbers, shown
from ..data import Loader
from ..data.items import as_dataset
from ..data.preprocessing import Preprocessing
from ..described import described, plural
from ..nn import CrossEntropyLoss, Module
from ..tensor import no_grad, tensor
from .checkpoint import Trained, load_model, ranked
from .confusion import Counts
from .evaluation import Data, Loss, Sums, checked_value, mode_of_loss, refuse_other_names
from .metrics import Metric, by_name
from .per_class import ClassReport, reported
from .raw import known
from .trainer import Trainer
from .views import View

_WANTED = "files of save_model or checkpoints, what load_model gives, Trainers, or Modules"
_SMALLEST = float(np.finfo(np.float32).tiny)  # of a probability, whose logarithm is taken


class Ensemble:
    """Several models that predict together, by the mean of their probabilities: p(x) = (w_1 p_1(x) + ... + w_M p_M(x)) / (w_1 + ... + w_M).

        ensemble = train.Ensemble(["a.safetensors", "b.safetensors", trainer])
        ensemble.evaluate(test)      # {"loss": ..., "accuracy": ...}
        ensemble.predict(images)     # probabilities (N, classes)

    models: files of save_model or checkpoints (their best snapshot), what load_model gives, Trainers (with their averaged weights, as their own
    predict), or Modules; the files of several moments of one training make a snapshot ensemble (Huang et al., "Snapshot ensembles: train 1, get M
    for free", ICLR 2017). Each prepares the images in its own way, so that the models may have been fitted on other parts of a set and have
    different means; a Module as its training did, or with `normalize` where no Trainer has fitted it. weights: one for each, 1 unless given.

    ValueError where classes are called otherwise or stand in another order, where some models normalise their images and others do not, when they
    differ in the number of outputs, and for one Module given twice, which has the weights of now both times.
    """

    def __init__(self, models: Sequence[Any], *, weights: Sequence[float] | None = None, normalize: Preprocessing | None = None) -> None:
        if normalize is not None:
            instance("Ensemble", "normalize", normalize, Preprocessing, "a data.Normalize, MeanImage, PCA or ZCA")
        given = items("Ensemble", "models", models, f"a list of {_WANTED}")
        if not given:
            raise ValueError(f"Ensemble: models must be {_WANTED}, got none")
        self._names = [
            f"model {i} ({os.fspath(one) if isinstance(one, (str, os.PathLike)) else type(one).__name__})" for i, one in enumerate(given)
        ]
        self.models = [_ready(one, normalize) for one in given]
        each = (1.0,) * len(given) if weights is None else numbers("Ensemble", "weights", weights, within="[0, inf)")
        if len(each) != len(given) or not sum(each) > 0:
            raise ValueError(
                f"Ensemble: weights must be {len(given)} numbers, one for each model, with a positive sum, got {shown(weights)}"
            )
        self.weights = tuple(weight / sum(each) for weight in each)
        self._check()

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, of the first model that has some."""
        return next((tuple(one.classes) for one in self.models if one.classes), None)

    def predict(self, data: Any, *, views: Sequence[View] | None = None) -> np.ndarray:
        """Probabilities (N, classes), the mean taken in float64, for whatever the models' own predict takes; with views each model's are averages
        over those. ValueError, naming the model, for what one of them refuses, and for what Ensemble refuses."""
        self._check()
        mean: np.ndarray | float = 0.0
        for name, weight, one in zip(self._names, self.weights, self.models):
            if not weight:  # 0 times NaN would count
                continue
            try:
                probabilities = one.predict(data, views=views)
            except ValueError as error:
                raise ValueError(f"Ensemble.predict: {name}: {error}") from error
            if np.shape(mean) not in ((), probabilities.shape):
                raise ValueError(
                    f"Ensemble.predict: {name} gives probabilities of shape {probabilities.shape}, {self._names[0]} {np.shape(mean)}; "
                    "expected models with the same classes"
                )
            mean = mean + weight * probabilities.astype(np.float64)
        return np.asarray(mean, np.float32)

    def evaluate(
        self,
        data: Data,
        metrics: Sequence[str | Metric] = ("accuracy",),
        *,
        loss: Loss | None = None,
        views: Sequence[View] | None = None,
    ) -> dict[str, float]:
        """Loss and metrics over a data set, (images, labels) or a Loader that keeps the order: {"loss": ..., "accuracy": ...}. Both are given log p
        as logits, p being the averaged probabilities (1.2e-38 at least), all samples at once; without `loss`, a function of (logits, labels) such as
        nn.CrossEntropyLoss(weights), the loss is the mean of -log p(label)."""
        return self._evaluate("evaluate", data, loss, by_name(metrics), views)

    def report(self, data: Data, *, loss: Loss | None = None, views: Sequence[View] | None = None) -> ClassReport:
        """Confusion matrix, precision, recall and F1 of each class over what `evaluate` takes: see train.ClassReport. Labels that the loss ignores
        (its ignore_index) do not count."""
        return reported(partial(self._evaluate, "report", data, loss, by_name("accuracy"), views), self.classes)

    def _evaluate(
        self,
        what: str,
        data: Data,
        given: Loss | None,
        metrics: Mapping[str, Metric],
        views: Sequence[View] | None,
        counts: Counts | None = None,
    ) -> dict[str, float]:
        if given is not None:
            function(f"Ensemble.{what}", "loss", given, "a function of (logits, labels)")
        dataset = data.dataset if isinstance(data, Loader) else as_dataset(data, f"{what}: data", loader=True)
        refuse_other_names(f"{what}: the data set", dataset.classes, "the ensemble", self.classes)
        logits = tensor(np.log(np.maximum(self.predict(data if isinstance(data, Loader) else dataset, views=views), _SMALLEST)))
        labels, loss = tensor(dataset.labels), CrossEntropyLoss() if given is None else given
        sums = Sums(loss, metrics, counts=counts)
        if counts is not None:
            counts.classes = dataset.classes
        with mode_of_loss(loss, False), no_grad():
            sums.add(float(checked_value(loss(logits, labels), f"Ensemble.{what}")), logits, labels)
        return sums.means()

    def top(self, probabilities: np.ndarray, k: int = 5) -> list[list[tuple[str, float]]]:
        """For each row of `predict` the k most probable classes, best first: (name, probability); numbers where there are no names."""
        return ranked("Ensemble.top", probabilities, self.classes, k)

    def __len__(self) -> int:
        return len(self.models)

    def __repr__(self) -> str:
        return described(self, plural(len(self), "model"))

    def _check(self) -> None:
        """Of Trainers, which may have been fitted since, anew."""
        first, seen = self._names[0], dict[int, str]()
        for name, one in zip(self._names, self.models):
            if (twin := seen.setdefault(id(one.model), name)) != name:
                raise ValueError(
                    f"Ensemble: {twin} and {name} are one Module, with the weights that it has now; give files (trainer.save_model(path) writes "
                    "what it is at a moment) or copies (copy.deepcopy(model))"
                )
            refuse_other_names(f"Ensemble: {name}", one.classes, "the ensemble", self.classes)
            if (one.normalize is None) != (self.models[0].normalize is None):
                raise ValueError(
                    f"Ensemble: {first} has normalize={self.models[0].normalize}, {name} normalize={one.normalize}: one of them would see images as "
                    "it never did; give Ensemble the normalize of a Module that no Trainer has fitted; data.Normalize([0.0], [1.0]), one of each "
                    "per channel, says that images are meant to stay as they are"
                )


def _ready(one: Any, normalize: Preprocessing | None) -> Trained | Trainer:
    """Something that predicts probabilities of raw images."""
    if isinstance(one, (Trained, Trainer)):
        return one
    if isinstance(one, (str, os.PathLike)):
        return load_model(one)
    if isinstance(one, Module):
        return Trained(one, None, known(one) if normalize is None else normalize, {})
    raise TypeError(f"Ensemble: models must be {_WANTED}, got {shown(one)} among them")
