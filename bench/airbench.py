"""Whole runs of airbench94 beside PyTorch, in turns: `python -m bench.airbench PATH [--recipe muon] [--runs 20] [--device cuda] [--compile]`.

Equal work: the same recipe, data, number of steps, evaluation and clock on both sides (from the whitening of the first layer to the end of the
evaluation), a run of each before that is not counted. PyTorch runs in float32 and in half precision, its speed record's form; fastnn in
float32, with TF32 products where --precision is medium, or with --mixed in bfloat16.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from statistics import mean, stdev
from types import ModuleType
from typing import Any

import numpy as np
import torch

import fastnn
from fastnn import data

from . import ROOT, airbench_torch, device
from .airbench_torch import FORMS
from .report import Report, arguments

Run = Callable[[int], tuple[float, float]]  # of a seed: accuracy, seconds
WARM_UP = 2**31


def example() -> ModuleType:
    """examples/airbench.py."""
    spec = importlib.util.spec_from_file_location("airbench_example", ROOT / "examples/airbench.py")
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look
    spec.loader.exec_module(module)
    return module


def some_of(dataset: data.ArrayDataset, count: int) -> data.ArrayDataset:
    """Evenly spread: a set may be sorted by class."""
    return dataset if count >= len(dataset) else dataset.take(np.linspace(0, len(dataset) - 1, count).astype(int))


def ours(sets: Any, options: Any) -> Run:
    recipe = airbench.RECIPES[options.recipe]

    def run(seed: int) -> tuple[float, float]:
        precision = "bf16" if options.mixed else "float32"
        settings = {"device": device.current.name, "width": options.width, "epochs": options.epochs, "precision": precision}
        result = airbench.run(sets, recipe, seed=seed, **settings)
        return result.accuracy, result.seconds

    return run


def theirs(training: data.ArrayDataset, test: data.ArrayDataset, form: airbench_torch.Form, options: Any) -> Run:
    place = device.current.torch_name
    pairs = [(np.ascontiguousarray(part.images), part.labels) for part in (training, test)]
    sets = airbench_torch.Sets(pairs[0], pairs[1], place, form)
    prepared = airbench_torch.prepare(options.recipe, form, options.width, place)
    return lambda seed: airbench_torch.run(sets, options.recipe, form, prepared, seed=seed, epochs=options.epochs)


class Side:
    """Made and warmed up when its first run is asked for."""

    def __init__(self, make: Callable[[], Run]) -> None:
        self.make = make
        self.run: Run | None = None

    def __call__(self, seed: int) -> tuple[float, float]:
        if self.run is None:
            self.run = self.make()
            self.run(WARM_UP)
        return self.run(seed)


def summarise(report: Report, sides: list[str]) -> None:
    report.say(f"\n{'mean of the runs':24}  runs  accuracy  deviation  seconds  deviation")
    for side in sides:
        rows = [row for row in report.rows if row["side"] == side]
        accuracy, seconds = ([row[key] for row in rows] for key in ("accuracy", "seconds"))
        spread = [stdev(values) if len(values) > 1 else 0.0 for values in (accuracy, seconds)]
        report.summary[side] = {"runs": len(rows), "accuracy": mean(accuracy), "seconds": mean(seconds), "deviations": spread}
        report.say(f"{side:24}  {len(rows):4}  {mean(accuracy):8.4f}  {spread[0]:9.4f}  {mean(seconds):7.3f}  {spread[1]:9.3f}")
    for side in sides[1:]:
        ratio = report.summary[side]["seconds"] / report.summary["fastnn"]["seconds"]
        report.summary[side]["ratio"] = ratio
        report.say(f"{side} / fastnn: {ratio:.2f}")


def main() -> None:
    parser = arguments("Whole runs of airbench94 beside PyTorch's, in turns.", devices=True)
    parser.add_argument("path", help="CIFAR-10: folder, .tar.gz or .npz of JPEG images")
    parser.add_argument("--recipe", choices=airbench.RECIPES, default="muon")
    parser.add_argument("--mixed", action="store_true", help="fastnn with activations in bfloat16")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--width", type=float, default=1.0, help="factor on the number of channels")
    parser.add_argument("--epochs", type=float, help="default: the recipe's")
    parser.add_argument("--samples", type=int, help="only so many training and test images, to try it")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well")
    options = parser.parse_args()
    options.threads = options.threads or fastnn.get_num_threads()
    fastnn.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    place = device.use(options)
    training, test = (some_of(part, options.samples or len(part)) for part in data.cifar10(options.path))
    report = Report(f"airbench-{options.recipe}" + "-mixed" * options.mixed, options)
    report.say(f"\n{len(training):,} training and {len(test):,} test images of {options.path}, recipe {options.recipe}")
    forms = {k: f for k, f in FORMS.items() if (place.is_gpu or f.dtype == torch.float32) and (options.compile or not f.compiled)}
    sides = {"fastnn": Side(lambda: ours(airbench.Sets(training, test), options))}
    sides.update({name: Side(partial(theirs, training, test, form, options)) for name, form in forms.items()})
    for run in range(options.runs):
        for name, side in sides.items():
            row = report.earlier(side=name, run=run)
            if row is None:
                accuracy, seconds = side(run)
                row = {"side": name, "run": run, "accuracy": accuracy, "seconds": seconds}
            report.rows.append(row)
            report.say(f"run {run:2}  {name:20}  accuracy {row['accuracy']:.4f}  {row['seconds']:8.3f} s")
            report.save()
    summarise(report, list(sides))
    report.write()


airbench = example()

if __name__ == "__main__":
    main()
