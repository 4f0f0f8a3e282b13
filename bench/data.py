"""The loader with crop, flip, colour and normalisation beside the same in torch operations, and what it adds to a training step:
`python -m bench.data [--pairs 20] [--cpu-time]`."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch

import fastnn
from fastnn import data
from fastnn.data.augment import frames_of
from fastnn.data.frames import Draws

from .fastnn_step import FastnnStep
from .reference_nets import REFERENCE_NETS
from .report import Report, arguments
from .timing import Stopwatch, quantile, seconds_of, take_turns
from .torch_augment import Augmented

SETS = {32: (4096, 128, 4), 224: (192, 32, 28)}  # by side: images, batch, padding
JITTER = 0.4
MEAN, STD = [125.3, 123.0, 113.9], [63.0, 62.1, 66.7]
WIDTHS = [16, 13, 13, 13, 22, 8, 10, 12]


def images_of(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SETS[side][0], 3, side, side)).astype(np.uint8)


def loader(side: int, **options: Any) -> data.Loader:
    images, (count, batch, padding) = images_of(side), SETS[side]
    augment = [data.RandomCrop(padding), data.Flip(), data.ColorJitter(JITTER, JITTER, JITTER)]
    normalize = data.Normalize(MEAN, STD)
    return data.Loader((images, np.arange(count) % 10), batch, shuffle=True, normalize=normalize, augment=augment, **options)


def torch_loader(side: int) -> Augmented:
    _, batch, padding = SETS[side]
    return Augmented(torch.tensor(images_of(side)), batch, padding, JITTER, torch.tensor(MEAN), torch.tensor(STD))


def epoch(batches: data.Loader) -> None:
    for x, _ in batches:
        assert x.shape[1] == 3


def endless(batches: data.Loader) -> Iterator[tuple[fastnn.Tensor, fastnn.Tensor]]:
    while True:
        yield from batches


def largest_difference(side: int) -> float:
    """Of the two sides' results for the same crops, flips and factors, where nothing is limited on the way and the crop is the whole image."""
    images = images_of(side)[:32] // 4 + 90
    steps = [data.Flip(), data.ColorJitter(0.2, 0.2, 0.2)]
    frames = frames_of(steps, 0, 0, 32, (side, side))
    ours, _ = data.Loader((images, np.zeros(32, int)), 32, normalize=data.Normalize(MEAN, STD)).batch(np.arange(32), frames)
    draws = Draws(0, 0, 32)
    draws.streams = 4  # of both steps
    factors = torch.tensor(np.stack([draws.uniform(0.8, 1.2, stream) for stream in (1, 2, 3)])).float()
    flipped, zeros = torch.tensor(frames.map[:, 2] < 0), torch.zeros(32, dtype=torch.int64)
    theirs = Augmented(torch.tensor(images), 32, 0, 0.2, torch.tensor(MEAN), torch.tensor(STD))
    batched = theirs.batched(torch.arange(32), zeros, zeros, flipped, factors)
    single = torch.stack([theirs.sample(theirs.images[i], 0, 0, bool(flipped[i]), factors[:, i].tolist()) for i in range(32)])
    return max(float((torch.tensor(ours.numpy()) - other).abs().max()) for other in (batched, single))


def measure_images(options: Namespace, stopwatch: Stopwatch, side: int) -> dict[str, Any]:
    """Images a second, from whole epochs."""
    theirs, count = torch_loader(side), SETS[side][0]
    sides = {"fastnn": partial(epoch, loader(side)), "torch batches": theirs.by_batch, "torch samples": theirs.by_sample}
    turns = take_turns(sides, options.pairs, least_seconds=0.05, pause=0.03, stopwatch=stopwatch)
    best = turns.fastest(["torch batches", "torch samples"])
    ratios = turns.ratios(best, "fastnn")
    return {
        "part": f"images {side}x{side}",
        "images a second": {name: count / turns.median(name) for name in sides},
        "opponent": best,
        "ratio": median(ratios),
        "lower quartile": quantile(ratios, 0.25),
        "difference": largest_difference(side),
        "seconds": turns.seconds,
    }


def measure_step(options: Namespace, stopwatch: Stopwatch) -> dict[str, Any]:
    """resnet20's step on batches that are there, on batches that a thread makes meanwhile, and on batches made between two steps; and the
    loader alone."""
    plain, ahead, between = (FastnnStep("resnet20", options.threads) for _ in range(3))
    ahead.batches, between.batches = endless(loader(32)), endless(loader(32, prefetch=0))
    alone = endless(loader(32, prefetch=0))
    steps = {"step alone": plain, "with the loader": ahead, "made in between": between, "loader alone": lambda: next(alone)}
    for step in steps.values():
        for _ in range(3):
            step()
    turns = take_turns(steps, options.pairs, least_seconds=0.05, pause=0.03, stopwatch=stopwatch)
    shares = [ours / whole for ours, whole in zip(turns.seconds["loader alone"], turns.seconds["step alone"])]
    return {
        "part": "resnet20 step",
        "batch": REFERENCE_NETS["resnet20"].batch,
        "median ms": {name: 1e3 * turns.median(name) for name in steps},
        "share of the step": median(shares),
        "upper quartile": quantile(shares, 0.75),
        "with / alone": median(turns.ratios("with the loader", "step alone")),
        "with / in between": median(turns.ratios("with the loader", "made in between")),
        "seconds": turns.seconds,
    }


def show(report: Report, row: dict[str, Any]) -> None:
    if row["part"] == "resnet20 step":
        times = ", ".join(f"{name} {ms:.2f}" for name, ms in row["median ms"].items())
        report.say(f"\nresnet20, batch {row['batch']}, ms: {times}")
        report.say(
            f"the loader takes {100 * row['share of the step']:.1f} % of the step (upper quartile {100 * row['upper quartile']:.1f} %); "
            f"step with loader / without {row['with / alone']:.3f}; made ahead / in between {row['with / in between']:.3f}"
        )
        return
    figures = [f"{n:,.0f}" for n in row["images a second"].values()]
    ratios = f"{row['ratio']:.1f}", f"{row['lower quartile']:.1f}", f"{row['difference']:.0e}"
    report.line((row["part"], *figures, row["opponent"], *ratios), WIDTHS)


def main() -> None:
    parser = arguments("The loader beside the same transforms in torch operations, and its share of resnet20's step, turn by turn.")
    parser.add_argument("--pairs", type=int, default=20, help="turns")
    parser.add_argument("--cpu-time", action="store_true", help="processor time on one thread, where others are busy on the machine")
    options = parser.parse_args()
    options.threads = 1 if options.cpu_time else options.threads or fastnn.get_num_threads()
    report = Report("data-cpu-time" if options.cpu_time else "data", options)
    stopwatch = partial(seconds_of, clock=time.process_time if options.cpu_time else time.perf_counter)
    fastnn.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    report.say(
        "\nimages a second with crop, flip, brightness, contrast, saturation, normalisation; ratio = fastnn / best form of torch, by pairs"
    )
    report.say("processor time on one thread" if options.cpu_time else f"{options.threads} threads")
    report.line(("", "fastnn", "torch batches", "torch samples", "best of torch", "ratio", "quartile", "difference"), WIDTHS)
    parts = [(f"images {side}x{side}", partial(measure_images, options, stopwatch, side)) for side in SETS]
    for part, measure in [*parts, ("resnet20 step", partial(measure_step, options, stopwatch))]:
        row = report.earlier(part=part) or measure()
        show(report, row)
        report.rows.append(row)
        report.save()
    report.write()


if __name__ == "__main__":
    main()
