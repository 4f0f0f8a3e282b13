"""A table on the screen, and the same with all figures in a file. `python -m bench.report` draws the roofline figure from such files."""

from __future__ import annotations

import json
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import ROOT, machine


def arguments(description: str, devices: bool = False) -> ArgumentParser:
    """What every bench understands; with `devices`, where it runs as well."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, help="threads on both sides (default: what fastnn picks)")
    parser.add_argument("--keep", action="store_true", help="write to bench/results/<kind of machine>/ instead of runs/bench/")
    parser.add_argument("--out", type=Path, help="write to this folder instead")
    parser.add_argument("--resume", action="store_true", help="go on where a run was stopped that wrote to the same place")
    parser.set_defaults(device="cpu", precision="highest")
    if devices:
        parser.add_argument("--device", help='"cpu", "cuda", or "cuda-emulated" to try a bench (FASTNN_CUDA_EMULATED says what)')
        parser.add_argument("--precision", choices=("highest", "high", "medium"), help="what float32 products are made of")
    return parser


class Report:
    """Prints lines as they come. save() writes rows and lines to <bench>.json and .txt whenever a row came, write() at the end."""

    def __init__(self, bench: str, options: Namespace) -> None:
        self.bench, self.options, self.lines = bench, options, list[str]()
        self.machine = machine.describe(options)
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        folder = ROOT / "bench/results" / machine.kind(options) if options.keep else options.out or ROOT / "runs/bench"
        self.path: Path = folder / f"{bench}.json"
        self._earlier = self._left_over() if options.resume else []
        self.say(", ".join(f"{k} {' '.join(v) if isinstance(v, list) else v}" for k, v in self.machine.items()))

    def _left_over(self) -> list[dict[str, Any]]:
        """Rows of the same machine, versions and commit."""
        content = json.loads(self.path.read_text()) if self.path.exists() else {}
        rows: list[dict[str, Any]] = content["rows"] if content.get("machine") == self.machine else []
        return rows

    def earlier(self, **key: str | int) -> dict[str, Any] | None:
        """A row that needs no measuring again."""
        return next((row for row in self._earlier if all(row[k] == v for k, v in key.items())), None)

    def say(self, text: str = "") -> None:
        print(text, flush=True)
        self.lines.append(text)

    def line(self, cells: Sequence[str], widths: Sequence[int]) -> None:
        """One line of a table: the first column to the left, the others to the right."""
        self.say("  ".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths))).rstrip())

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        settings = {k: v for k, v in vars(self.options).items() if k not in ("keep", "out", "resume")}
        content = {"bench": self.bench, "time": time.strftime("%Y-%m-%d %H:%M"), "machine": self.machine, "settings": settings}
        self.path.write_text(json.dumps({**content, "summary": self.summary, "rows": self.rows}, indent=1) + "\n")
        self.path.with_suffix(".txt").write_text("\n".join(self.lines) + "\n")

    def write(self) -> None:
        self.save()
        print(f"\nwritten: {os.path.relpath(self.path, ROOT)} and .txt")


if __name__ == "__main__":
    from .roofline import main

    main()
