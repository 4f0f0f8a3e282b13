"""The training step of the reference nets beside PyTorch and JAX: `python -m bench.train [--nets mlp,lenet] [--pairs 20] [--device cuda] ...`."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import exp, log
from statistics import median
from typing import Any

import fastnn

from . import device, memory
from .fastnn_step import FastnnStep
from .jax_step import JaxStep, import_jax
from .reference_nets import REFERENCE_NETS
from .report import Report, arguments
from .timing import Call, quantile, seconds_of, take_turns
from .torch_step import TorchStep, forms

FIGURES = (("best of them", ""), ("median", "ratio"), ("lower", "quartile"), ("largest", "difference"))


def largest_difference(ours: FastnnStep, theirs: TorchStep | JaxStep) -> float:
    """Relative difference of the losses before, and after one and two updates from equal weights, dropout off."""
    theirs.load(ours.model.state_dict())
    for step in (ours, theirs):
        step.set_dropout(0.0)
    losses = [(float(ours()), float(theirs())) for _ in range(3)]
    return max(abs(a - b) / abs(b) for a, b in losses)


def measure(options: Namespace, name: str) -> dict[str, Any]:
    """Float32 meets float32: autocast is shown, and not what the ratio is taken to. Mixed training meets autocast."""
    threads, mixed, makers = options.threads, options.mixed, opponents_of(options)
    opponents = [title for title in makers if ("autocast" in title) == mixed]
    difference = {title: largest_difference(FastnnStep(name, threads, mixed=mixed), makers[title](name, threads)) for title in opponents}
    steps: dict[str, Call] = {
        "fastnn": FastnnStep(name, threads, mixed=mixed),
        **{title: make(name, threads) for title, make in makers.items()},
    }
    return {"net": name, **compare(options, steps, opponents), "difference": difference}


def compare(options: Namespace, contenders: Mapping[str, Call], opponents: list[str]) -> dict[str, Any]:
    """Turns of "fastnn" and the others, of which the best of `opponents` counts."""
    for call in contenders.values():
        for _ in range(3):
            call()
    stopwatch = partial(seconds_of, clock=time.process_time) if options.cpu_time else device.current.step_seconds
    turns = take_turns(contenders, options.pairs, least_seconds=0.05, pause=0.03, stopwatch=stopwatch)
    best = turns.fastest(opponents)
    ratios = turns.ratios(best, "fastnn")
    return {
        "median ms": {side: 1e3 * turns.median(side) for side in contenders},
        "opponent": best,
        "ratio": median(ratios),
        "lower quartile": quantile(ratios, 0.25),
        "seconds": turns.seconds,
    }


def opponents_of(options: Namespace) -> dict[str, Callable[[str, int], TorchStep | JaxStep]]:
    """What makes each of them for (net, threads)."""
    made: dict[str, Callable[[str, int], TorchStep | JaxStep]] = {
        title: partial(lambda form, name, threads: TorchStep(name, form, threads), form)
        for title, form in forms(options.compile, options.mixed).items()
    }
    return {**made, **({"JAX": JaxStep} if getattr(options, "jax", False) else {})}


def show(report: Report, row: dict[str, Any]) -> None:
    cells = [f"{ms:.2f}" for ms in row["median ms"].values()]
    figures = (f"{row['ratio']:.2f}", f"{row['lower quartile']:.2f}", f"{max(row['difference'].values()):.1e}")
    report.line((row["net"], *cells, row["opponent"], *figures), widths(opponents_of(report.options)))


def widths(chosen: Iterable[str]) -> list[int]:
    return [13, 9, *(max(10, len(form) - 3) for form in chosen), 22, 7, 9, 10]


def heading(report: Report) -> None:
    chosen = opponents_of(report.options)
    columns = [("net", ""), ("fastnn", "ms"), *((form.split()[0], " ".join([*form.split()[1:], "ms"])) for form in chosen), *FIGURES]
    for line in zip(*columns):
        report.line(line, widths(chosen))


def add_turns(parser: ArgumentParser) -> None:
    parser.add_argument("--nets", default=",".join(REFERENCE_NETS), help="which, separated by commas")
    parser.add_argument("--pairs", type=int, default=20, help="turns")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (takes minutes, needs a C++ compiler)")
    parser.add_argument("--cpu-time", action="store_true", help="processor time on one thread, where others are busy on the machine")
    parser.set_defaults(mixed=False)


def say_mean(report: Report) -> None:
    mean = exp(sum(log(row["ratio"]) for row in report.rows) / len(report.rows))
    report.summary["geometric mean"] = mean
    report.say(f"geometric mean of the median ratios: {mean:.2f}")


def main() -> None:
    parser = arguments("The training step of the reference nets beside PyTorch's, turn by turn.", devices=True)
    add_turns(parser)
    parser.add_argument("--mixed", action="store_true", help="mixed training in bfloat16 beside torch.autocast")
    parser.add_argument("--jax", action="store_true", help="a jit'ed step in JAX as well (pip install jax==0.10.2)")
    parser.add_argument("--memory", action="store_true", help="peak resident memory as well")
    options = parser.parse_args()
    options.threads = 1 if options.cpu_time else options.threads or fastnn.get_num_threads()
    if options.device != "cpu" and (options.cpu_time or options.memory or options.jax):
        parser.error("--cpu-time, --memory and --jax are about the CPU")
    if options.jax:
        try:
            import_jax(options.threads)
        except ValueError as error:
            parser.error(str(error))
    nets = options.nets.split(",")
    device.use(options)
    variant = "-mixed" * options.mixed + f"-{options.precision}" * (options.precision != "highest") + "-cpu-time" * options.cpu_time
    report = Report(f"train{variant}", options)
    report.say("\ntraining step: median ms; ratio = best opponent / fastnn, by pairs; difference of the losses over two updates")
    report.say(
        ("" if options.jax else "JAX: not measured; ") + ("processor time on one thread" if options.cpu_time else "time by the clock")
    )
    heading(report)
    for name in nets:
        row = report.earlier(net=name) or measure(options, name)
        show(report, row)
        report.rows.append(row)
        report.save()
    say_mean(report)
    if options.memory:
        memory.measure(report, nets)
    report.write()


if __name__ == "__main__":
    main()
