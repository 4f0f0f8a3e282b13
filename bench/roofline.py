"""The roofline figure of the layers of the reference nets, from what `python -m bench.kernels --keep` wrote: `python -m bench.report`.

Across: operations a byte (x, w and y, each counted once). Up: what a layer reached. The lines are the loop of multiply-adds and the copy that
were timed in the same turns. Winograd needs fewer operations than the direct sum that is counted, so it may lie above the line.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from . import ROOT
from .layers import ConvLayer, layers_of
from .reference_nets import REFERENCE_NETS

MIB = 2**20
COLOURS = {"conv2d_forward": "#1f5fa8", "conv2d_backward_input": "#c8581a", "conv2d_backward_weight": "#3d8f3d", "matmul": "#7a4fa0"}
WORDS = {
    "conv2d_forward": "forward",
    "conv2d_backward_input": "input gradient",
    "conv2d_backward_weight": "weight gradient",
    "matmul": "linear layers",
}
MARKS = {"mlp": "v", "lenet": "s", "vgg": "^", "resnet20": "D", "resnet18": "o"}


@dataclass(frozen=True)
class Point:
    net: str
    row: str
    name: str
    intensity: float  # operations a byte
    gflops: float


def bytes_of_layers() -> dict[str, float]:
    """Of x, w and y in float32, by the names that bench.kernels gives its cases; a linear layer's three products move the same arrays."""
    found: dict[str, float] = {}
    for net in REFERENCE_NETS:
        for layer in layers_of(net):
            if isinstance(layer, ConvLayer):
                found[layer.name] = 4.0 * (prod(layer.x) + prod(layer.w) + prod(layer.y))
            else:
                nbytes = 4.0 * (layer.rows * (layer.inputs + layer.outputs) + layer.inputs * layer.outputs)
                found |= {f"{layer.name} {which}": nbytes for which in ("forward", "input", "weight")}
    return found


def points(rows: list[dict[str, Any]], nbytes: dict[str, float]) -> list[Point]:
    """Of the rows that compute and are known."""
    found = []
    for row in rows:
        if row["unit"] == "GFLOP/s" and row["name"] in nbytes:
            operations = 1e9 * row["rate"] * 1e-3 * row["ms"]["fastnn"]
            found.append(Point(row["name"].split()[0], row["row"], row["name"], operations / nbytes[row["name"]], row["rate"]))
    return found


def ceilings(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """GFLOP/s of the loop of multiply-adds and GB/s of the copy of 64 MiB and more, medians of what stood beside the kernels."""
    measured: dict[str, list[float]] = {"GFLOP/s": [], "GB/s": []}
    for row in rows:
        if row["percent"] and (row["unit"] == "GFLOP/s" or row["name"].startswith("64 MiB")):
            measured[row["unit"]].append(100 * row["rate"] / row["percent"]["median"])
    if not all(measured.values()):
        raise ValueError("these rows hold no peak or no copy: run python -m bench.kernels --keep where a C++ compiler is")
    return median(measured["GFLOP/s"]), median(measured["GB/s"])


def draw(content: dict[str, Any], path: Path, nbytes: dict[str, float]) -> int:
    """Writes the figure; returns how many layers and directions it shows."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "fastnn", "svg.fonttype": "none"})  # the same file from the same figures; text stays text
    from matplotlib import pyplot as plt

    rows, machine = content["rows"], content["machine"]
    shown, (peak, copy) = points(rows, nbytes), ceilings(rows)
    figure, axes = plt.subplots(figsize=(8.5, 5.5))
    lowest, highest = min(p.intensity for p in shown) / 1.5, max(p.intensity for p in shown) * 1.5
    bend = peak / copy
    axes.plot([lowest, bend, highest], [lowest * copy, peak, peak], color="black", linewidth=1.2)
    axes.annotate(f"multiply-adds in registers: {peak:.0f} GFLOP/s", (highest, peak), ha="right", va="bottom", fontsize=9)
    axes.annotate(f"copy: {copy:.0f} GB/s", (lowest, lowest * copy), va="bottom", fontsize=9)
    for row, colour in COLOURS.items():
        for net, mark in MARKS.items():
            own = [p for p in shown if (p.row, p.net) == (row, net)]
            axes.scatter([p.intensity for p in own], [p.gflops for p in own], c=colour, marker=mark, s=34, alpha=0.8, linewidths=0)
    axes.set(xscale="log", yscale="log", xlabel="operations a byte (x, w, y counted once)", ylabel="GFLOP/s reached")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    handles = [plt.Line2D([], [], color=c, marker="o", linestyle="", label=WORDS[r]) for r, c in COLOURS.items()]
    handles += [plt.Line2D([], [], color="grey", marker=m, linestyle="", label=net) for net, m in MARKS.items()]
    axes.legend(handles=handles, fontsize=8, ncols=2, loc="lower right")
    threads = f"{machine['threads']} thread{'s' if machine['threads'] != 1 else ''}"
    axes.set_title(f"{machine['processor']}, {machine['instruction set']}, {threads}, float32, commit {machine['commit']}", fontsize=9)
    axes.grid(True, which="both", linewidth=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return len(shown)


def main() -> None:
    parser = ArgumentParser(description="Draws roofline.svg beside every kernels.json of bench/results, or beside the files given.")
    parser.add_argument("files", nargs="*", type=Path, help="kernels.json of bench.kernels")
    options = parser.parse_args()
    nbytes = bytes_of_layers()
    for file in options.files or sorted((ROOT / "bench/results").glob("*/kernels*.json")):
        path = file.with_name(file.stem.replace("kernels", "roofline") + ".svg")
        try:
            shown = draw(json.loads(file.read_text()), path, nbytes)
        except ValueError as error:
            print(f"{file}: {error}")
        else:
            print(f"{path}: {shown} layers and directions")


if __name__ == "__main__":
    main()
