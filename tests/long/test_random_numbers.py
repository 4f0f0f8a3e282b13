"""Problems drawn at random, at length: 20,000 convolutions in three directions and 5,000 of the other rows on every instruction set, from a new
seed at each run (FASTNN_TEST_SEED repeats one). tests/random_numbers.py runs ranges of them, and a single one. What ran is counted in files:
the processes of -n leave theirs side by side."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import random_numbers
import random_rows
from kernel_calls import CPU_TABLES
from random_convolutions import NORMWISE

SEED = int(os.environ["FASTNN_TEST_SEED"])
CONVOLUTIONS, ROWS, AT_ONCE = 20_000, 5_000, 500
PARTS = [*(("convolutions", first) for first in range(0, CONVOLUTIONS, AT_ONCE)), *(("rows", first) for first in range(0, ROWS, AT_ONCE))]
OTHERS = "PYTEST_XDIST_WORKER" in os.environ  # there are other processes, which run the rest
PATIENCE = 900  # seconds in which one part ends, unless its process has


@pytest.fixture(scope="session")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each part leaves its counts: the folder of all processes of a run is the one above each process's own."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if OTHERS else own) / "what_ran"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(("kind", "first"), PARTS)
def test_random_problems(kind: str, first: int, counts: Path) -> None:
    ran, faults = random_numbers.run(kind, SEED, range(first, first + AT_ONCE))
    unfinished = counts / f"{kind}-{first}.new"
    unfinished.write_text(json.dumps([[list(key), count] for key, count in ran.items()]))
    unfinished.rename(unfinished.with_suffix(""))  # whole, for whoever waits for it
    assert not faults, "\n".join(faults)


def all_counts(counts: Path) -> Counter[tuple[str, ...]] | None:
    """What all parts left, once the last ones have ended in other processes; None where some do not run."""
    wanted, there, since = [counts / f"{kind}-{first}" for kind, first in PARTS], 0, time.monotonic()
    while (now := sum(path.exists() for path in wanted)) < len(wanted):
        if now > there:
            there, since = now, time.monotonic()
        if not OTHERS or time.monotonic() - since > PATIENCE:
            return None
        time.sleep(1)
    ran: Counter[tuple[str, ...]] = Counter()
    for path in wanted:
        ran.update({tuple(key): count for key, count in json.loads(path.read_text())})
    return ran


def test_what_ran(counts: Path, request: pytest.FixtureRequest) -> None:
    """Every row some tens of times, every algorithm hundreds of times, on every instruction set."""
    selected = sum(item.name.startswith(test_random_problems.__name__) for item in request.session.items)
    ran = all_counts(counts) if selected == len(PARTS) else None
    if ran is None:
        pytest.skip("not all of them ran")
    for table in map(str, CPU_TABLES):
        assert all(ran[table, row] >= 40 for row in random_rows.NAMES)
    for table in map(str, random_numbers.CONVOLUTION_TABLES):
        for direction in ("forward", "backward_input", "backward_weight"):
            often = {key[2]: count for key, count in ran.items() if key[:2] == (table, direction)}
            assert min(often.values()) >= 150, (table, direction, often)
        if table.endswith("f32"):
            narrow = set() if table.startswith("portable") else {"winograd4_narrow"}
            assert {key[2] for key in ran if key[0] == table and len(key) == 3} >= (set(NORMWISE) - {"winograd4_narrow"}) | narrow
