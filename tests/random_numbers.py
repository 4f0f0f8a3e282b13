"""Kernels against the reference on problems drawn at random (random_convolutions.py, random_rows.py), by range, so that a long run can stop and
go on, and with what a fault's line says:

    python tests/random_numbers.py convolutions --seed 1 --first 0 --count 20000 --out runs/convolutions.json
    python tests/random_numbers.py rows --seed 1 --first 0 --count 5000

A problem is the same for every instruction set, which all run it, and depends on the seed and its number alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import random_convolutions
import random_rows
from kernel_calls import CPU_TABLES, DEVICES, Table

from fastnn import _C

ROUNDING = [isa for isa in ("avx512bf16", "amx") if "cpu" in DEVICES and isa in _C.isas()]
CONVOLUTION_TABLES = [*CPU_TABLES, *(Table(isa, *kind) for isa in ROUNDING for kind in (("float32", "medium"), ("bfloat16",)))]
CONVOLUTION_TABLES += [Table("amx", "float32", "high")] if "amx" in ROUNDING else []
ROW_TABLES = [*CPU_TABLES, *(Table(isa, "bfloat16") for isa in ROUNDING)]
Ran = Counter[tuple[str, ...]]


def run(kind: str, seed: int, numbers: Sequence[int], tables: Sequence[Table] | None = None) -> tuple[Ran, list[str]]:
    """How often what ran, and a line for each fault."""
    threads = _C.get_num_threads()
    _C.set_memory_checks(True)
    try:
        if kind == "rows":
            return random_rows.run(seed, numbers, ROW_TABLES if tables is None else tables)  # type: ignore[return-value]
        return random_convolutions.run(seed, numbers, CONVOLUTION_TABLES if tables is None else tables)  # type: ignore[return-value]
    finally:
        _C.set_winograd(True)
        _C.set_num_threads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["convolutions", "rows"])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--tables", help="their names, with commas between; all without it")
    parser.add_argument("--out", type=Path, help="adds up what ran; a further call goes on behind what is there")
    chosen = parser.parse_args()
    known = {str(table): table for table in {*CONVOLUTION_TABLES, *ROW_TABLES}}
    tables = [known[name] for name in chosen.tables.split(",")] if chosen.tables else None
    state: dict[str, Any] = {"seed": chosen.seed, "next": chosen.first, "ran": [], "faults": []}
    if chosen.out and chosen.out.exists():
        state = json.loads(chosen.out.read_text())
        assert state["seed"] == chosen.seed, f"{chosen.out} is of seed {state['seed']}"
    ran: Ran = Counter({tuple(key): count for key, count in state["ran"]})
    end = chosen.first + chosen.count
    while state["next"] < end:
        numbers = range(state["next"], min(state["next"] + 200, end))
        new, faults = run(chosen.kind, chosen.seed, numbers, tables)
        ran += new
        for line in faults:
            print(line, flush=True)
        state.update(next=numbers.stop, ran=sorted([list(key), count] for key, count in ran.items()), faults=state["faults"] + faults)
        if chosen.out:
            chosen.out.write_text(json.dumps(state))
    for key, count in sorted(ran.items()):
        print(*key, count)
    print(f"{end - chosen.first} {chosen.kind} of seed {chosen.seed}: {len(state['faults'])} faults")
    sys.exit(1 if state["faults"] else 0)


if __name__ == "__main__":
    main()
