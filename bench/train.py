"""The training step of the reference nets beside PyTorch: `python -m bench.train [--nets mlp,lenet] [--pairs 20] ...`."""

from __future__ import annotations

import time
from math import exp, log
from statistics import median

import fastnn

from . import resident
from .fastnn_step import FastnnStep
from .reference_nets import REFERENCE_NETS
from .report import Report, arguments
from .timing import quantile, take_turns
from .torch_step import FORMS, TorchStep

WIDTHS = (9, 9, 10, 13, 10, 20, 7, 9, 10)
HEADINGS = ("net", "fastnn", "torch", "torch", "torch", "best of torch", "median", "lower", "largest")
UNITS = ("", "ms", "NCHW ms", "channels_last", "compile ms", "", "ratio", "quartile", "difference")


def largest_difference(ours: FastnnStep, theirs: TorchStep) -> float:
    """Relative difference of the losses before, and after one and two updates from equal weights, dropout off."""
    theirs.load(ours.model.state_dict())
    for step in (ours, theirs):
        step.set_dropout(0.0)
    losses = [(float(ours()), float(theirs())) for _ in range(3)]
    return max(abs(a - b) / abs(b) for a, b in losses)


def measure(report: Report, name: str, forms: list[str], pairs: int) -> None:
    threads = report.options.threads
    difference = {form: largest_difference(FastnnStep(name, threads), TorchStep(name, form, threads)) for form in forms}
    steps: dict[str, FastnnStep | TorchStep] = {
        "fastnn": FastnnStep(name, threads),
        **{form: TorchStep(name, form, threads) for form in forms},
    }
    for step in steps.values():
        for _ in range(3):
            step()
    turns = take_turns(
        steps, pairs, least_seconds=0.05, pause=0.03, clock=time.process_time if report.options.cpu_time else time.perf_counter
    )
    best = turns.fastest(forms)
    ratios = turns.ratios(best, "fastnn")
    milliseconds = {side: 1e3 * turns.median(side) for side in steps}
    row = {"net": name, "median ms": milliseconds, "opponent": best, "ratio": median(ratios), "lower quartile": quantile(ratios, 0.25)}
    report.rows.append({**row, "difference": difference, "seconds": turns.seconds})
    cells = [f"{milliseconds[side]:.2f}" if side in steps else "-" for side in ("fastnn", *FORMS)]
    figures = (f"{row['ratio']:.2f}", f"{row['lower quartile']:.2f}", f"{max(difference.values()):.1e}")
    report.line((name, *cells, best, *figures), WIDTHS)


def measure_memory(report: Report, nets: list[str]) -> None:
    report.say("\npeak resident MiB of 5 steps: in total / beyond the import")
    widths = (9, 14, 14, 20, 22)
    report.line(("net", "fastnn", "torch NCHW", "torch channels_last", "fastnn / least torch"), widths)
    report.summary["memory"] = {}
    for net in nets:
        sides = {side: resident.measure(side, net, report.options.threads) for side in ("fastnn", *FORMS[:2])}
        report.summary["memory"][net] = sides
        share = [sides["fastnn"][k] / min(sides[form][k] for form in FORMS[:2]) for k in ("peak", "beyond import")]
        cells = [f"{m['peak']:.0f} / {m['beyond import']:.0f}" for m in sides.values()]
        report.line((net, *cells, f"{share[0]:.2f} / {share[1]:.2f}"), widths)


def main() -> None:
    parser = arguments("The training step of the reference nets beside PyTorch's, turn by turn.")
    parser.add_argument("--nets", default=",".join(REFERENCE_NETS), help="which, separated by commas")
    parser.add_argument("--pairs", type=int, default=20, help="turns")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (takes minutes, needs a C++ compiler)")
    parser.add_argument("--cpu-time", action="store_true", help="processor time on one thread, where others are busy on the machine")
    parser.add_argument("--memory", action="store_true", help="peak resident memory as well")
    options = parser.parse_args()
    options.threads = 1 if options.cpu_time else options.threads or fastnn.get_num_threads()
    nets = options.nets.split(",")
    report = Report("train-cpu-time" if options.cpu_time else "train", options)
    report.say("\ntraining step: median ms; ratio = best form of PyTorch / fastnn, by pairs; difference of the losses over two updates")
    report.say("JAX: not measured" + ("; processor time on one thread" if options.cpu_time else ""))
    report.line(HEADINGS, WIDTHS)
    report.line(UNITS, WIDTHS)
    for name in nets:
        measure(report, name, list(FORMS if options.compile else FORMS[:2]), options.pairs)
    mean = exp(sum(log(row["ratio"]) for row in report.rows) / len(report.rows))
    report.summary["geometric mean"] = mean
    report.say(f"geometric mean of the median ratios: {mean:.2f}")
    if options.memory:
        measure_memory(report, nets)
    report.write()


if __name__ == "__main__":
    main()
