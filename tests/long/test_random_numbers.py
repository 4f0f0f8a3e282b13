"""Problems drawn at random, at length: 20,000 convolutions in three directions and 5,000 of the other rows on every instruction set, from a new
seed at each run (FASTNN_TEST_SEED repeats one). tests/random_numbers.py runs ranges of them, and a single one."""

from __future__ import annotations

import os
import sys
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
ran: Counter[tuple[str, ...]] = Counter()


@pytest.mark.parametrize("first", range(0, CONVOLUTIONS, AT_ONCE))
def test_convolutions(first: int) -> None:
    new, faults = random_numbers.run("convolutions", SEED, range(first, first + AT_ONCE))
    ran.update(new)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("first", range(0, ROWS, AT_ONCE))
def test_rows(first: int) -> None:
    new, faults = random_numbers.run("rows", SEED, range(first, first + AT_ONCE))
    ran.update(new)
    assert not faults, "\n".join(faults)


def test_what_ran() -> None:
    """Every row some tens of times, every algorithm hundreds of times, on every instruction set."""
    if sum(count for key, count in ran.items() if len(key) == 3) < 3 * CONVOLUTIONS * len(random_numbers.CONVOLUTION_TABLES):
        pytest.skip("not all of them ran, or not all of them held")
    for table in map(str, CPU_TABLES):
        assert all(ran[table, row] >= 40 for row in random_rows.NAMES)
    for table in map(str, random_numbers.CONVOLUTION_TABLES):
        for direction in ("forward", "backward_input", "backward_weight"):
            often = {key[2]: count for key, count in ran.items() if key[:2] == (table, direction)}
            assert min(often.values()) >= 150, (table, direction, often)
        if table.endswith("f32"):
            narrow = set() if table.startswith("portable") else {"winograd4_narrow"}
            assert {key[2] for key in ran if key[0] == table and len(key) == 3} >= (set(NORMWISE) - {"winograd4_narrow"}) | narrow
