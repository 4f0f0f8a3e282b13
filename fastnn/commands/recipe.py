"""fastnn recipe: the seven steps of tuning, for the training that the options of `fastnn train` make."""

from __future__ import annotations

import argparse
import os
import shlex
from typing import TYPE_CHECKING

from . import option_types as kinds
from .refusals import make_folder, try_folder
from .training import description, prepare, refuse_options, sets_of, words_without

if TYPE_CHECKING:
    from ..tune import Recipe


def add_options(command: argparse.ArgumentParser) -> None:
    """Those that `fastnn train` has not."""
    add, trials = command.add_argument, kinds.number(int, 2, 2**20, "a whole number from 2 on")
    add("--steps", metavar="STEPS", type=kinds.steps, default="1-7", help="which of them: 1-3, 2, 1,3-5 (default: 1-7)")
    add("--trials", metavar="N", type=trials, default=8, help="of the coarse search; the finer ones have fewer (default: 8)")
    add("--keep-going", action="store_true", help="do the next step behind a FAIL, too")


def recipe(options: argparse.Namespace) -> bool:
    """Goes through the seven steps of tuning (initial loss, a few batches by heart, rate, coarse and fine search, curves, once more), each with PASS
    or FAIL, its figure, and what to change; exit code 1 where one failed. Arguments as for fastnn train; --epochs: of a coarse trial; with --out,
    writes recipe.txt into that folder."""
    from ..tune import recipe as steps

    why = "is no training to tell of"
    alone = "tries out in one process"
    refuse_options("recipe", options, resume="begins anew", why_slow="has no time to tell of", report=why, log=why, distributed=alone)
    epochs = options.epochs
    if options.out:
        try_folder(options.out)
    sets = sets_of(options)
    trainer, fit = prepare(options, sets)
    print(description(options, trainer, fit, sets), flush=True)
    chosen = {"steps": options.steps, "trials": options.trials, "epochs": epochs, "seed": options.seed, "keep_going": options.keep_going}
    found = steps(trainer, fit["train"], fit["validation"], **chosen)
    if found.passed and found.rate is not None:
        print(f"go on with: {_train(options, found)}")
    if options.out:
        make_folder(options.out)
        path = os.path.join(options.out, "recipe.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{found}\n")
        print(f"written  {path}")
    return found.passed


def _train(options: argparse.Namespace, found: Recipe) -> str:
    """The command of a training with what was found."""
    words = words_without(options.words, {"--steps": 1, "--trials": 1, "--keep-going": 0, "--epochs": 1, "--out": 1})
    decay = ["--weight-decay", f"{found.weight_decay:.2g}"] if found.weight_decay or options.weight_decay else []
    return shlex.join(["fastnn", "train", *words, "--lr", f"{found.rate:.2g}", *decay])
