"""What holds for every row of kernels.def, on every table: the reference's result, the same bits whatever the threads, no byte touched
that is not its own. Special values, exactness and gradients of single rows stand in the file of their op."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import kernel_cases
import numpy as np
import pytest
import reference
from kernel_calls import ROWS, Table, assert_within, bits, plan, same_bits
from kernel_cases import CASES, Case

from fastnn import _C

CASE_PARAMETERS = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_row_has_cases_and_a_reference() -> None:
    assert {case.row for case in CASES} == set(ROWS)
    for row in ROWS:
        assert inspect.isfunction(getattr(reference, row))


def test_reference_imports_nothing_of_fastnn() -> None:
    for source in Path(reference.__file__).parent.glob("*.py"):
        assert "fastnn" not in source.read_text().split('"""', 2)[2]


@CASE_PARAMETERS
def test_case(case: Case, table: Table, threads: None) -> None:
    """The reference's result; the same bits again, with other numbers of threads, and from inputs that lie elsewhere."""
    _C.set_num_threads(1)
    alone = case.check(table)
    last = _C.last_call()
    assert last["row"] == case.row
    assert last["workers"] <= 1
    if has_typed_input(case):
        assert last["table"] == table.name
        assert last["device"].startswith(table.device)
    assert same_bits(case.run(table), alone), "rerun differs"
    for count in (2, 3, 7) if table.device == "cpu" else ():  # a GPU knows nothing of them
        _C.set_num_threads(count)
        assert same_bits(case.run(table), alone), f"{count} threads differ from one"
        assert _C.last_call()["algorithm"] == last["algorithm"]
    assert same_bits(case.run(table, shifted=True), alone), "inputs that start one element behind a 64-byte boundary differ"


def has_typed_input(case: Case) -> bool:
    """Whether an input tells which table runs: rows of fixed types alone run from the float32 table, and so does a list of nothing."""
    inputs = [operand for operand in ROWS[case.row]["operands"] if operand["direction"] != "out"]
    given = [value for operand, value in zip(inputs, case.problem.operands, strict=True) if operand["type"] in ("T", "R")]
    return any(value is not None and len(value) > 0 if isinstance(value, list) else value is not None for value in given)


@pytest.mark.parametrize("row", ROWS)
def test_threads_take_part(row: str, cpu_table: Table, threads: None) -> None:
    """On the largest of a row's cases more than one worker is seen: who takes a block is luck, so a busy machine gets some time."""
    _C.set_num_threads(3)
    case = max((c for c in CASES if c.row == row), key=lambda c: np.prod(c.parameters[0]))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        case.run(cpu_table)
        if _C.last_call()["workers"] > 1:
            return
    raise AssertionError(f"{case}: one worker ran all blocks, for 20 seconds")


@pytest.mark.parametrize("row", [name for name, row in ROWS.items() if row["planned"]])
def test_plan_names_an_algorithm_for_any_number_of_threads(row: str, table: Table, threads: None) -> None:
    for case in (c for c in CASES if c.row == row):
        names = set()
        for count in (1, 2, 3, 7):
            _C.set_num_threads(count)
            algorithm, scratch = plan(row, case.parameters, table.dtype)
            assert scratch >= 0
            names.add(algorithm)
        assert len(names) == 1 and "" not in names, f"{case}: {names}"


def test_a_wrong_result_is_noticed() -> None:
    """The comparison itself: an error of two units in one element of many fails."""
    expected = np.linspace(1, 2, 1000)
    got = expected.astype(np.float32)
    assert_within(got, expected, 0, "as it is")
    got[500] = np.nextafter(got[500], np.float32(3))
    with pytest.raises(AssertionError, match=r"1 of 1000 wrong; worst at \(500,\)"):
        assert_within(got, expected, 0, "changed")
    assert_within(got, expected, 2, "within")
    got[3] = np.nan
    with pytest.raises(AssertionError, match=r"worst at \(3,\): got nan"):
        assert_within(got, expected, 2, "NaN")


def test_problems_repeat() -> None:
    """A case's data depend on its name alone, so that a failing line repeats."""
    case = next(c for c in CASES if c.row == "conv2d_forward")
    first = case.problem
    kernel_cases._problem.cache_clear()
    assert all(a is b or bits(a) == bits(b) for a, b in zip(first.operands, case.problem.operands, strict=True))
