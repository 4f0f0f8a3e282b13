"""The command line: fastnn train, fastnn evaluate, fastnn info."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .data import ArrayDataset
    from .optim import Optimizer
    from .train import Trainer

# What `fastnn train DATASET` does without further options.
_RECIPES: dict[str, dict[str, Any]] = {
    "digits": {"model": "vgg_small", "epochs": 20, "batch_size": 32, "lr": 1e-3},
    "mnist": {"model": "lenet", "epochs": 6, "batch_size": 64, "lr": 1e-3},
    "fashion-mnist": {"model": "lenet", "epochs": 6, "batch_size": 64, "lr": 1e-3},
    "idx": {"model": "lenet", "epochs": 10, "batch_size": 64, "lr": 1e-3},
    "arrays": {"model": "lenet", "epochs": 10, "batch_size": 64, "lr": 1e-3},
}
_DEFAULTS = {"optimizer": "adam", "schedule": "cosine", "val_fraction": 0.1, "seed": 0}
_LASTING = ("model", "batch_size", "lr", "optimizer", "schedule", "val_fraction", "seed")  # what --resume must not change


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 after an error (one line on stderr), 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        return 0
    except KeyboardInterrupt as error:
        print(f"\nfastnn: {error or 'interrupted'}", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError) as error:
        print(f"fastnn: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


# --- the commands


def train(options: argparse.Namespace) -> None:
    """Trains a model on a data set and writes model, history, curves and checkpoint into a folder."""
    from . import set_num_threads
    from .files import write_text
    from .train import HistoryFile, Interrupted, ModelCheckpoint

    out = options.out or os.path.join("runs", options.dataset)
    checkpoint = os.path.join(out, "checkpoint.safetensors")
    _settle(options, checkpoint)
    if options.threads:
        set_num_threads(options.threads)
    train_set, test_set = _load(options.dataset, options.data)
    trainer, fit = _prepare(options, train_set)
    _announce(options, trainer, fit, test_set)
    os.makedirs(out, exist_ok=True)
    callbacks = [ModelCheckpoint(checkpoint), HistoryFile(os.path.join(out, "history.jsonl"))]
    try:
        history = trainer.fit(**fit, callbacks=callbacks, resume=checkpoint if options.resume else None, restore_best=False)
    except Interrupted as error:
        where = f" --out {options.out}" if options.out else ""
        raise KeyboardInterrupt(f"{error.where}, saved to {error.saved}; go on with: fastnn train {options.dataset} --resume{where}") from error
    _report(trainer, test_set)
    model = os.path.join(out, "model.safetensors")
    trainer.save_model(model)
    history.save(os.path.join(out, "history.jsonl"))
    print(f"model    {model}\nhistory  {os.path.join(out, 'history.jsonl')}")
    try:
        history.plot(os.path.join(out, "curves.png"))
        print(f"curves   {os.path.join(out, 'curves.png')}")
    except ModuleNotFoundError:
        print("curves   not drawn: they need matplotlib (pip install '.[plot]' in the checkout)")


def evaluate(options: argparse.Namespace) -> None:
    """Prints the accuracy of a saved model on a test set."""
    from .nn import CrossEntropyLoss
    from .train import Evaluator, load_model
