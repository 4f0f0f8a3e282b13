"""A training as one HTML file that opens anywhere, without a network and without JavaScript."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .. import files
from ..arguments import instance, integer, items, text
from ..arguments import path as checked_path
from ..exclusive import refuse_others
from ..tensor import Tensor
from .activation_table import ActivationStatistics
from .history import History
from .trainer import Trainer


def report_html(
    run: Trainer | History,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    input_shape: Sequence[int] | None = None,
    activations: ActivationStatistics | Tensor | None = None,
) -> None:
    """Writes what a training was and how it went into one HTML file, whole or not at all.

        trainer.fit(train, epochs=20, validation=validation, callbacks=[train.UpdateRatios()])
        train.report_html(trainer, "report.html")

    run: a Trainer, or a History (History.load(path) reads one), of which there are curves and figures alone. In it: what the figures say, in
    sentences with their numbers; the best epoch, as the Trainer ranks; curves of loss, accuracy and every further column as points and smoothed,
    gaps between training and validation, the rate, the update/weight ratios beside 1e-3 where UpdateRatios measured them; all epochs as a table;
    model, optimizer with its schedule, data, machine and versions; ratios of the last step by parameter, where the optimizer measured them; a
    histogram of what each layer gives, with mean, deviation, zeros and saturation, and the dead channels by layer and number (behind a ReLU, units
    that never fire).
    title: the heading. input_shape: of one sample, (C, H, W), for the summary of the layers; known of a model made by models.create.
    activations: a batch x as the model takes it (bfloat16 for what mixed training gives), or what train.activation_statistics gave; left out,
    up to 256 samples of the last fit's validation data, prepared as evaluate does, if they are still there.
    Nothing in the file is fetched from elsewhere. ModuleNotFoundError without matplotlib (pip install '.[plot]'); OSError, naming the path, where
    nothing can be written; RuntimeError while another thread fits the model.
    """
    what = "report_html"
    instance(what, "run", run, (Trainer, History), "a Trainer or a History; History.load(path) reads one from a file")
    checked_path(what, "path", path)
    heading = "Training" if title is None else text(what, "title", title) or "Training"
    shape = _checked_shape(run, input_shape)
    if activations is not None:
        if isinstance(run, History):
            raise ValueError("report_html: activations are of the model of a Trainer, and run is a History, which has none; leave them out")
        wanted = "a Tensor as the model takes it, or what train.activation_statistics gives"
        instance(what, "activations", activations, (ActivationStatistics, Tensor), wanted)
    if isinstance(run, Trainer):
        refuse_others(what, "model", run.model)
    from .report_page import written

    with files.memory_for(path, "written"):
        files.replace(path, written(run, heading, shape, activations).encode("utf-8", "backslashreplace"))


def _checked_shape(run: Trainer | History, shape: Any) -> tuple[int, ...] | None:
    if shape is None:
        return None
    if isinstance(run, History):
        raise ValueError("report_html: input_shape is for the model of a Trainer, and run is a History, which has none; leave it out")
    return tuple(integer("report_html", "input_shape", n, 1) for n in items("report_html", "input_shape", shape, "sizes (C, H, W)"))
