"""Problems drawn at random for every row, on every instruction set: a slice of what tests/long/test_random_numbers.py runs."""

from __future__ import annotations

import os

import pytest
import random_convolutions
import random_numbers
import random_rows
from kernel_calls import CPU_TABLES, DEVICES, ROWS
from random_convolutions import FAMILIES

from fastnn import _C

if "cpu" not in DEVICES:
    pytest.skip("what is drawn is thickest around the CPU's choices", allow_module_level=True)
SEED = int(os.environ["FASTNN_TEST_SEED"])


def test_convolutions() -> None:
    ran, faults = random_numbers.run("convolutions", SEED, range(120))
    assert not faults, "\n".join(faults)
    assert sum(ran.values()) == 120 * 3 * len(random_numbers.CONVOLUTION_TABLES)


def test_all_other_rows() -> None:
    numbers = range(2 * len(random_rows.NAMES))
    ran, faults = random_numbers.run("rows", SEED, numbers)
    assert not faults, "\n".join(faults)
    for table in CPU_TABLES:
        assert {row for where, row in ran if where == str(table)} == set(random_rows.NAMES)


def test_every_row_is_drawn() -> None:
    convolutions = {"conv2d_forward", "conv2d_add_forward", "conv2d_backward_input", "conv2d_backward_weight"}
    assert set(random_rows.NAMES) | convolutions == set(ROWS)
    assert sum(weight for weight, *_ in FAMILIES) == 100


def test_a_number_is_one_problem() -> None:
    """Whatever is drawn beside it: a fault's line repeats it."""
    first, again = (random_convolutions.drawn(7, 40) for _ in range(2))
    assert str(first) == str(again) and all((a == b).all() for a, b in zip(first.operands(True).values(), again.operands(True).values()))
    assert str(random_rows.drawn(7, 40)) == str(random_rows.drawn(7, 40)) != str(random_rows.drawn(8, 40))


def test_a_fault_is_noticed_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last output channel of one direction is off by one."""

    def off(*arguments: object) -> dict[str, object]:
        written = plain(*arguments)
        if "dw" in written and written["dw"].size:
            written["dw"][-1] += 1
        return written

    plain = random_convolutions.call
    monkeypatch.setattr(random_convolutions, "call", off)
    table = random_numbers.CONVOLUTION_TABLES[0]
    _, faults = random_numbers.run("convolutions", 3, range(4), [table])
    assert len(faults) == 4
    assert faults[2].startswith(f"python tests/random_numbers.py convolutions --seed 3 --first 2 --count 1 --tables {table}")
    assert "backward_weight" in faults[2]
    assert _C.get_precision() == "highest"
