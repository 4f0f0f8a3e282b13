"""Every hot kernel beside PyTorch's: `python -m bench.kernels [--only conv2d_forward "resnet20 8x8" ...] [--turns 10]`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

import fastnn
from fastnn import _C

from .case import Case, difference, first
from .layers import ConvLayer, layers_of
from .passes import all_passes
from .peak import Peak, reuse_freed_memory
from .products import convolutions, linears
from .report import Report, arguments
from .timing import Turns, quantile, take_turns

CONV_NETS = ("vgg", "resnet20", "resnet18", "lenet")
LINEAR_NETS = ("mlp", "lenet", "vgg", "resnet18")
WIDTHS = (31, 22, 9, 9, 13, 7, 8, 8, 12, 10)


def all_cases() -> Iterator[Case]:
    cases = [case for net in CONV_NETS for layer in layers_of(net) if isinstance(layer, ConvLayer) for case in convolutions(layer)]
    yield from sorted(cases, key=lambda case: ["forward", "input", "weight"].index(case.row.rsplit("_", 1)[1]))
    for net in LINEAR_NETS:
        for layer in layers_of(net):
            if not isinstance(layer, ConvLayer):
                yield from linears(layer)
    yield from sorted(all_passes(), key=lambda case: case.row)


def measure(case: Case, turns: int, peak: Peak | None) -> dict[str, Any]:
    """Agreement first, then turns with the FMA loop or the copy among them."""
    ours, theirs = case.make()
    expected = {form: first(call()).copy() for form, call in theirs.items()}
    got = first(ours())
    algorithm = _C.last_call()["algorithm"]
    apart = max(difference(got, e) for e in expected.values()) if case.comparable else None
    gauge = None if peak is None else peak.gflops if case.flop else lambda: peak.copy_gbs(case.nbytes)
    result = take_turns({"fastnn": ours, **theirs}, turns, least_seconds=0.01, pause=0.01, gauge=gauge)
    form = result.fastest(list(theirs))
    ratios = result.ratios(form, "fastnn")
    work = (case.flop or case.nbytes) / 1e9
    return {
        "row": case.row,
        "name": case.name,
        "judged": case.judged,
        "algorithm": algorithm,
        "unit": "GFLOP/s" if case.flop else "GB/s",
        "rate": work / result.median("fastnn"),
        "torch rate": work / result.median(form),
        "opponent": form,
        "ms": {side: 1e3 * result.median(side) for side in result.seconds},
        "ratio": median(ratios),
        "lower quartile": quantile(ratios, 0.25),
        "percent": percent(result, work),
        "difference": apart,
    }


def percent(result: Turns, work: float) -> dict[str, float] | None:
    """Of the gauge (FMA loop or copy): the best call against its best reading, and the median over the turns."""
    if not result.gauge:
        return None
    shares = [work / seconds / reading for seconds, reading in zip(result.seconds["fastnn"], result.gauge)]
    return {"best": 100 * work / result.best("fastnn") / max(result.gauge), "median": 100 * median(shares)}


def show(report: Report, r: dict[str, Any]) -> None:
    share = "-" if r["percent"] is None else f"{r['percent']['best']:.0f} {r['percent']['median']:.0f}"
    apart = "-" if r["difference"] is None else f"{r['difference']:.0e}"
    times = f"{r['ms']['fastnn']:.3f}", f"{r['ms'][r['opponent']]:.3f}", r["opponent"], f"{r['ratio']:.2f}", f"{r['lower quartile']:.2f}"
    report.line((r["name"], r["algorithm"], *times, f"{r['rate']:.0f}", share, apart), WIDTHS)


def heading(report: Report, r: dict[str, Any]) -> None:
    share = "% of FMA" if r["unit"] == "GFLOP/s" else "% of copy"
    report.say()
    report.line((r["row"], "algorithm", "ms", "torch ms", "form", "ratio", "quartile", r["unit"], share, "difference"), WIDTHS)
    report.line(("", "", "", "", "", "median", "lower", "median", "best median", ""), WIDTHS)


def summarize(report: Report) -> None:
    """The goal's figure: medians over the 3x3 layers with C >= 64, by direction."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for r in report.rows:
        if r["judged"]:
            rows[r["row"]].append(r)
    for row, judged in rows.items():
        figures: dict[str, float] = {"layers": len(judged), "ratio": median(r["ratio"] for r in judged)}
        if judged[0]["percent"] is not None:
            figures |= {which: median(r["percent"][which] for r in judged) for which in ("best", "median")}
        report.summary[row] = figures
        share = f"best {figures['best']:.0f} %, median {figures['median']:.0f} % of the FMA loop; " if "best" in figures else ""
        report.say(f"{row}, median over {len(judged)} 3x3 layers with C >= 64: {share}{figures['ratio']:.2f} times PyTorch's speed")


def main() -> None:
    parser = arguments("Kernels beside PyTorch's, turn by turn, in percent of an FMA loop or a copy of the same second.")
    parser.add_argument("--only", nargs="+", default=[""], help='parts of "row name", e.g. conv2d_forward "resnet20 8x8"')
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    options.threads = options.threads or fastnn.get_num_threads()
    fastnn.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    reuse_freed_memory()
    report = Report("kernels", options)
    try:
        peak = Peak(options.threads)
    except ValueError as error:
        peak = None
        report.say(str(error))
    row = ""
    for case in all_cases():
        if not any(part in f"{case.row} {case.name}" for part in options.only):
            continue
        result = measure(case, options.turns, peak)
        if case.row != row:
            heading(report, result)
            row = case.row
        show(report, result)
        report.rows.append(result)
    report.say()
    summarize(report)
    report.write()


if __name__ == "__main__":
    with torch.no_grad():
        main()
