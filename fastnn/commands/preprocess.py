"""Preprocessing on the command line: --preprocess, --components, --whiten-eps."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..data import Dataset
    from ..data.preprocessing import Preprocessing
    from ..dist import Group

KINDS = ("channels", "channel-mean", "mean-image", "pca", "whiten", "zca")
PREPROCESS = {"preprocess": "channels", "components": None, "whiten_eps": None}
_OF_ROWS, _WHITENING = ("pca", "whiten"), ("whiten", "zca")
_FOR_FEATURES = ("mlp", "linear")


def components(text: str) -> float:
    """An argparse type: how many, or a share of the variance."""
    try:
        value: float = int(text) if text.lstrip("+").isdecimal() else float(text)
    except ValueError:
        value = 0
    if not (0 < value < 1 or isinstance(value, int) and 1 <= value < 2**31):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number from 1 on nor a share of the variance below 1")
    return value


def _refuse_unfit(options: argparse.Namespace) -> None:
    """ValueError for options that another choice makes empty."""
    kind = options.preprocess
    for name, given, kinds in (("components", options.components, _OF_ROWS), ("whiten-eps", options.whiten_eps, _WHITENING)):
        if given is not None and kind not in kinds:
            raise ValueError(f"--{name}: only for --preprocess {' and '.join(kinds)}, not {kind}; leave it out")
    if kind in _OF_ROWS and options.model not in _FOR_FEATURES:
        raise ValueError(
            f"--preprocess: {kind} makes rows of coordinates of images, {options.model} takes images: --model {' or '.join(_FOR_FEATURES)}, or "
            "--preprocess zca, which leaves images images"
        )


def preprocessing(options: argparse.Namespace, training: Dataset, checkpoint: str | None) -> Preprocessing:
    """Fitted on the training set; that of the run that goes on, where there is one: its eigenvectors are not found again to the last bit
    everywhere."""
    from ..data import PCA, ZCA, MeanImage, Normalize

    _refuse_unfit(options)
    kind, eps = options.preprocess, {} if options.whiten_eps is None else {"eps": options.whiten_eps}
    if kind in ("channels", "channel-mean"):
        return Normalize.fit(training, std=kind == "channels")
    if checkpoint is not None:
        return _saved(options, training, checkpoint)
    try:
        if kind == "mean-image":
            return MeanImage.fit(training)
        if kind == "zca":
            return ZCA.fit(training, **eps)
        return PCA.fit(training, options.components or 0.99, whiten=kind == "whiten", **eps)
    except ValueError as error:
        raise ValueError(f"--preprocess {kind}: {error}") from error


def of_first(normalize: Preprocessing, group: Group | None) -> Preprocessing:
    """Rank 0's on all ranks: on another processor eigenvectors may have other last bits."""
    from ..data.preprocessing import restored

    if group is None or group.size == 1:
        return normalize
    state, arrays = group.gather_objects((normalize.state(), normalize.arrays()) if group.first else None)[0]
    return normalize if group.first else restored(state, arrays)


def _saved(options: argparse.Namespace, training: Dataset, checkpoint: str) -> Preprocessing:
    from .. import files
    from ..train.checkpoint import naming
    from ..train.prepared import prepared_by

    arrays, notes = files.read(checkpoint)
    with naming(checkpoint):
        saved = prepared_by(arrays, notes)
    if saved is None:
        raise ValueError(f"{checkpoint} does not say its preprocessing; begin anew and name another folder with --out")
    if not saved.fits(training.shape):
        here = options.data or options.dataset
        raise ValueError(
            f"{checkpoint} was trained on {saved.wanted(training.shape)}; {here} has {training.shape}: put them back, or begin anew and name another "
            "folder with --out"
        )
    return saved


def fitted_on(normalize: Preprocessing, training: Dataset) -> bool:
    """Whether these are the data whose mean it has; of a Normalize its state says so."""
    from ..data.moments import moments
    from ..data.preprocessing import OfSamples

    return not isinstance(normalize, OfSamples) or np.array_equal(moments("fastnn train", training).mean, normalize.mean)
