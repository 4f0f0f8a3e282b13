"""A table on the screen, and the same with all figures in a file."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import ROOT, machine


def arguments(description: str) -> ArgumentParser:
    """What every bench understands."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, help="threads on both sides (default: what fastnn picks)")
    parser.add_argument("--keep", action="store_true", help="write to bench/results/<kind of machine>/ instead of runs/bench/")
    return parser


class Report:
    """Prints lines as they come, and at the end writes them and the rows to <bench>.txt and <bench>.json."""

    def __init__(self, bench: str, options: Namespace) -> None:
        self.bench, self.options, self.lines = bench, options, list[str]()
        self.machine = machine.describe(options.threads)
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.say(", ".join(f"{k} {' '.join(v) if isinstance(v, list) else v}" for k, v in self.machine.items()))

    def say(self, text: str = "") -> None:
        print(text, flush=True)
        self.lines.append(text)

    def line(self, cells: Sequence[str], widths: Sequence[int]) -> None:
        """One line of a table: the first column to the left, the others to the right."""
        self.say("  ".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths))).rstrip())

    def write(self) -> Path:
        folder = ROOT / "bench/results" / machine.kind(self.options.threads) if self.options.keep else ROOT / "runs/bench"
        folder.mkdir(parents=True, exist_ok=True)
        settings = {k: v for k, v in vars(self.options).items() if k != "keep"}
        content = {"bench": self.bench, "time": time.strftime("%Y-%m-%d %H:%M"), "machine": self.machine, "settings": settings}
        path = folder / f"{self.bench}.json"
        path.write_text(json.dumps({**content, "summary": self.summary, "rows": self.rows}, indent=1) + "\n")
        path.with_suffix(".txt").write_text("\n".join(self.lines) + "\n")
        print(f"\nwritten: {path.relative_to(ROOT)} and .txt")
        return path
