"""Images that reach a model otherwise than it was trained on them, and outputs that are no logits: what figures alone would not show."""

from __future__ import annotations

import weakref

import numpy as np

from ..data import Loader
from ..data.preprocessing import Preprocessing, same
from ..nn import CrossEntropyLoss, Module
from ..tensor import Tensor
from ..warned import warn

_known: dict[int, tuple[weakref.ref[Module], Preprocessing | None]] = {}  # by id: a class of one's own may say that it has no hash


def remember(model: Module, normalize: Preprocessing | None) -> None:
    """The preprocessing of a model that was fitted, or read from a file."""
    key = id(model)
    _known[key] = weakref.ref(model, lambda _: _known.pop(key, None)), normalize


def known(model: Module) -> Preprocessing | None:
    """How the images of a model that was fitted, or read from a file, are prepared."""
    return _known.get(id(model), (None, None))[1]


def warn_of_unfitted(what: str, data: object, loader: Loader, model: Module) -> None:
    """Before its first fit a Trainer does not know how to normalise, and with the same weights says something else than after it. A Loader
    that is given as `data` was told what to do."""
    if loader is not data and loader.normalize is None and _untold(model) and loader.dataset.of_bytes:
        warn(
            f"{what}: the model got the images as they are, bytes from 0 to 255: the first fit is what finds `normalize`; "
            "without one, give Trainer(..., normalize=data.Normalize.fit(training_set))"
        )


def _untold(model: Module) -> bool:
    """Whether no fit, or another Trainer's, has said how its images are prepared."""
    return id(model) not in _known or _known[id(model)][1] is not None


def warn_of_raw_training(loader: Loader, model: Module) -> None:
    """What a data set's bytes are divided by, `fit` finds; those of a Loader of one's own arrive as they are, and a rate that is right for
    values about 1 learns nothing from them. Once for a model."""
    if loader.normalize is None and _untold(model) and loader.dataset.of_bytes:
        warn(
            "fit: the Loader gives the images as they are, bytes from 0 to 255: Loader(..., normalize=data.Normalize.fit(train)) prepares "
            "them; normalize=data.Normalize([0.0], [1.0]), one of each per channel, says that they are meant to be so"
        )


def warn_of_raw(x: Tensor, normalize: Preprocessing | None) -> None:
    """For a Tensor, which goes to the model as it is: of what was normalised about half lies below 0."""
    if normalize is not None and x.size and np.min(normalize.mean) >= 0 and np.max(normalize.mean) > 0 and x.numpy().min() >= 0:
        warn(
            "predict: a Tensor goes to the model as it is, and this one was not normalised as the training set was: none of its values is "
            "below 0; give predict an array (x.numpy()) or a data set, which are normalised"
        )


def warn_of_lost(model: Module, normalize: Preprocessing | None) -> None:
    """For a file that is to say how images are prepared."""
    if normalize is None and known(model) is not None:
        warn(
            "save_model: the model was trained on normalised images, and the file will not say how: predictions of what is read from it "
            "will be others; write it with trainer.save_model(path), or give normalize=trainer.normalize"
        )


def warn_of_other_views(model: Module, normalize: Preprocessing | None) -> None:
    """For average_views, which is told how images are prepared."""
    own = known(model)
    if own is not None and not same(normalize, own):
        warn(f"average_views: normalize is {normalize}, the model was trained on images prepared by {own}; give it that: trainer.normalize")


def warn_of_probabilities(what: str, outputs: np.ndarray, loss: object = None) -> None:
    """For outputs whose softmax is about to be taken, in `predict` or by the loss."""
    if loss is not None and not isinstance(loss, CrossEntropyLoss) or outputs.ndim < 2 or not outputs.size:
        return
    if outputs.min() >= 0 and np.allclose(outputs.sum(1, dtype=np.float64), 1, atol=1e-4):
        taken = "predict takes their softmax" if loss is None else "the loss takes logits"
        warn(
            f"{what}: the model gives probabilities already, rows that add up to 1, and {taken}: leave out the Softmax at its end"
            f"{', or call model(x) yourself' if loss is None else ''}"
        )
