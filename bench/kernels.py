"""Every hot kernel beside PyTorch's: `python -m bench.kernels [--only conv2d_forward "resnet20 8x8" ...] [--turns 10] [--device cuda]`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

import fastnn
from fastnn import _C

from . import device
from .case import Case, difference, first
from .device import Gauge
from .gpu_layers import gpu_layers
from .layers import ConvLayer, LinearLayer, layers_of
from .passes import all_passes
from .peak import reuse_freed_memory
from .products import convolutions, linears
from .report import Report, arguments
from .timing import Turns, quantile, take_turns

CONV_NETS = ("vgg", "resnet20", "resnet18", "lenet")
LINEAR_NETS = ("mlp", "lenet", "vgg", "resnet18")
WIDTHS = (31, 22, 9, 9, 13, 7, 8, 8, 12, 10, 13)


def all_cases() -> Iterator[Case]:
    """Of the reference nets at their batch; on a GPU, of the nets in gpu_layers besides, and those are judged."""
    layers = [layer for net in CONV_NETS for layer in layers_of(net) if isinstance(layer, ConvLayer)]
    cases = [case for layer in layers for case in convolutions(layer, layer.judged and not device.current.is_gpu)]
    if device.current.is_gpu:
        cases += [case for layer in gpu_layers() for case in convolutions(layer, True)]
    yield from sorted(cases, key=lambda case: ["forward", "input", "weight"].index(case.row.rsplit("_", 1)[1]))
    for net in LINEAR_NETS:
        for layer in layers_of(net):
            if isinstance(layer, LinearLayer):
                yield from linears(layer)
    yield from sorted(all_passes(), key=lambda case: case.row)


def measure(case: Case, turns: int, peak: Gauge | None) -> dict[str, Any]:
    """Agreement first, then turns with the gauge's product or copy among them."""
    ours, theirs = case.make()
    expected = {form: first(call()) for form, call in theirs.items()}
    got = first(ours())
    algorithm = _C.last_call()["algorithm"]
    apart = max(difference(got, e) for e in expected.values()) if case.comparable else None
    gauge = None if peak is None else peak.gflops if case.flop else lambda: peak.copy_gbs(case.nbytes)
    result = take_turns(
        {"fastnn": ours, **theirs}, turns, least_seconds=0.01, pause=0.01, gauge=gauge, stopwatch=device.current.kernel_seconds
    )
    # GFLOP/s that a copy of as many bytes would leave time for
    by_memory = peak.copy_gbs(case.nbytes) * case.flop / case.nbytes if peak and case.flop and case.nbytes else None
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
        "bound by memory": by_memory,
        "difference": apart,
    }


def percent(result: Turns, work: float) -> dict[str, float] | None:
    """Of the gauge (a product or a copy): the best call against its best reading, and the median over the turns."""
    if not result.gauge:
        return None
    shares = [work / seconds / reading for seconds, reading in zip(result.seconds["fastnn"], result.gauge)]
    return {"best": 100 * work / result.best("fastnn") / max(result.gauge), "median": 100 * median(shares)}


def show(report: Report, r: dict[str, Any]) -> None:
    share = "-" if r["percent"] is None else f"{r['percent']['best']:.0f} {r['percent']['median']:.0f}"
    apart = "-" if r["difference"] is None else f"{r['difference']:.0e}"
    times = f"{r['ms']['fastnn']:.3f}", f"{r['ms'][r['opponent']]:.3f}", r["opponent"], f"{r['ratio']:.2f}", f"{r['lower quartile']:.2f}"
    bound = r.get("bound by memory")
    report.line((r["name"], r["algorithm"], *times, f"{r['rate']:.0f}", share, apart, f"memory {bound:.0f}" if bound else ""), WIDTHS)


def heading(report: Report, r: dict[str, Any], product: str) -> None:
    share = f"% of {product}" if r["unit"] == "GFLOP/s" else "% of copy"
    report.say()
    report.line((r["row"], "algorithm", "ms", "torch ms", "form", "ratio", "quartile", r["unit"], share, "difference"), WIDTHS)
    report.line(("", "", "", "", "", "median", "lower", "median", "best median", ""), WIDTHS)


def summarize(report: Report, product: str) -> None:
    """The goal's figures: medians over the judged cases of a row."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for r in report.rows:
        if r["judged"]:
            rows[r["row"]].append(r)
    for row, judged in rows.items():
        figures: dict[str, float] = {"cases": len(judged), "ratio": median(r["ratio"] for r in judged)}
        if judged[0]["percent"] is not None:
            figures |= {which: median(r["percent"][which] for r in judged) for which in ("best", "median")}
        report.summary[row] = figures
        against = f"the {product}" if judged[0]["unit"] == "GFLOP/s" else "a copy"
        share = f"best {figures['best']:.0f} %, median {figures['median']:.0f} % of {against}; " if "best" in figures else ""
        report.say(f"{row}, median over {len(judged)} {judged_cases(row)}: {share}{figures['ratio']:.2f} times PyTorch's speed")


def judged_cases(row: str) -> str:
    if not device.current.is_gpu:
        return "3x3 layers with C >= 64"
    return "layers of ResNet-18, ResNet-50 and airbench94" if row.startswith("conv2d") else "cases that move 128 MiB or more"


def main() -> None:
    parser = arguments("Kernels beside PyTorch's, turn by turn, in percent of a product or a copy of the same second.", devices=True)
    parser.add_argument("--only", nargs="+", default=[""], help='parts of "row name", e.g. conv2d_forward "resnet20 8x8"')
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="how activations lie in memory")
    parser.add_argument("--direct", action="store_true", help="convolutions on the CPU without Winograd's algorithm")
    options = parser.parse_args()
    _C.set_winograd(not options.direct)
    options.threads = options.threads or fastnn.get_num_threads()
    fastnn.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    reuse_freed_memory()
    place = device.use(options)
    variant = "" if (options.precision, options.dtype) == ("highest", "float32") else f"-{options.precision}-{options.dtype}"
    variant += "-direct" if options.direct else ""
    report = Report(f"kernels{variant}", options)
    peak: Gauge | None = None
    try:
        peak = place.gauge(options.threads)
    except ValueError as error:
        report.say(str(error))
    product = peak.product if peak else "peak"
    row = ""
    with place.one_stream():
        for case in all_cases():
            if not any(part in f"{case.row} {case.name}" for part in options.only):
                continue
            result = report.earlier(row=case.row, name=case.name) or measure(case, options.turns, peak)
            if case.row != row:
                heading(report, result, product)
                row = case.row
            show(report, result)
            report.rows.append(result)
            report.save()
    report.say()
    summarize(report, product)
    report.write()


if __name__ == "__main__":
    with torch.no_grad():
        main()
