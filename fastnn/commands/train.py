"""fastnn train."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from .. import signals
from ..described import plural
from .data import load, recognise_path, short_name
from .defaults import settle
from .outcome import finish
from .refusals import alone_in, make_folder, refuse_other_data, results, try_folder, try_report
from .training import description, prepare

if TYPE_CHECKING:
    from ..dist import Group
    from ..train import Callback


def train(options: argparse.Namespace) -> None:
    """Trains a model and writes checkpoint, history, curves and the model into a folder; looks at the test set once, at the end."""
    from .. import set_num_threads
    from ..data.dataset import refuse_other_classes
    from ..train import HistoryFile, Interrupted, ModelCheckpoint, UpdateRatios

    group = _group(options)
    launcher = ["mpirun", "-n", str(group.size)] if group.size > 1 else []
    again = shlex.join([*launcher, "fastnn", "train", options.dataset, "--resume", *repeated(options)])
    out = options.out or os.path.join("runs", short_name(options.dataset))
    checkpoint, history_file, *_ = results(out)
    if group.first:
        try_folder(out)
        try_report(options.report, out)
    more = _more_callbacks(options, out)
    recognise_path(options)
    saved = settle(options, checkpoint)
    if options.threads:
        set_num_threads(options.threads)
    sets = load(options.dataset, options.data, size=options.size, seed=options.seed, skip_broken=options.skip_broken)
    trainer, fit = prepare(options, sets, checkpoint if options.resume else None, group)
    refuse_other_data(options, checkpoint, saved, fit["train"], trainer.notes)
    refuse_other_classes(options.data or options.dataset, fit["train"].dataset, validation=fit["validation"], test=sets.test)
    print(description(options, trainer, fit, sets), flush=True)
    if options.resume and saved["epoch"] >= options.epochs:
        within = f", and {plural(saved['batch'], 'batch')} of the next" if saved["batch"] else ""
        print(
            f"{plural(saved['epoch'], 'epoch')}{within} of {options.epochs} done already: nothing is left to train; a larger --epochs goes on"
        )
    if group.first:
        make_folder(out)
    measuring = [UpdateRatios()] if options.report else []  # ahead of those that write what it finds
    callbacks = [*measuring, ModelCheckpoint(checkpoint), HistoryFile(history_file), *more]
    try:
        with alone_in(out) if group.first else nullcontext(), signals.held():
            trainer.fit(**fit, callbacks=callbacks, resume=checkpoint if options.resume else None, restore_best=False)
            finish(trainer, sets.test, fit["validation"], out, options.report)
    except Interrupted as error:
        error.args = (f"{error.where}; go on with: {again}",) if group.first else ()
        raise
    except Exception as error:
        group._fail(error)
        raise


def _group(options: argparse.Namespace) -> Group:
    """The processes that train together; of one without --distributed. The first one prints and writes."""
    from ..dist import Group, init

    if not options.distributed:
        return Group()
    group = init()
    if not group.first:
        sys.stdout = open(os.devnull, "w")
        warnings.showwarning = lambda *_, **__: None
    return group


def _more_callbacks(options: argparse.Namespace, out: str) -> list[Callback]:
    """What was asked for besides what every run writes."""
    from ..train import HistoryFile, TensorBoard, WhySlow

    logs: dict[str, Callable[[], Callback]] = {
        "csv": lambda: HistoryFile(os.path.join(out, "history.csv")),
        "tensorboard": lambda: TensorBoard(os.path.join(out, "tensorboard")),
    }
    return [*(logs[kind]() for kind in dict.fromkeys(options.log)), *([WhySlow()] if options.why_slow else [])]


def repeated(options: argparse.Namespace) -> list[str]:
    """The options that a resumed run needs again: where data and results lie, on which device, what is written besides."""
    words = [[f"--{name}", getattr(options, name)] for name in ("data", "out", "device", "report")]
    words += [["--log", kind] for kind in dict.fromkeys(options.log)]
    words = [[f"{name}={value}"] if str(value).startswith("-") else [name, value] for name, value in words if value not in (None, "cpu")]
    flags = {"--skip-broken": options.skip_broken, "--distributed": options.distributed}
    return [word for pair in words for word in pair] + [flag for flag, given in flags.items() if given]
