"""What holds for every row of kernels.def, on every table: the reference's result, the same bits whatever the threads, no byte touched
that is not its own. Special values, exactness and gradients of single rows stand in the file of their op."""

from __future__ import annotations

import inspect

import kernel_cases
import numpy as np
import pytest
import reference
from kernel_calls import ROWS, Table, assert_within, bits, call, same_bits, struct
from kernel_cases import CASES, Case

from fastnn import _C

CASE_PARAMETERS = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_row_has_cases_and_a_reference() -> None:
    assert {case.row for case in CASES} == set(ROWS)
    for row in ROWS:
        assert inspect.isfunction(getattr(reference, row))


def test_every_row_has_cases_of_several_blocks_and_of_none() -> None:
    """Threads have something to share, and N = 0 something to survive."""
    sizes: dict[str, list[int]] = {row: [] for row in ROWS}
    for case in CASES:
        operands = [o for o in case.problem.operands if o is not None]
        expected = [e for e in case.problem.expected if e is not None]
        flat = [a for o in operands + expected for a in (o if isinstance(o, list) else [o])]
        sizes[case.row].append(max((np.size(a) for a in flat), default=0))
    assert [row for row, s in sizes.items() if max(s) < 65_000] == []


def test_reference_imports_nothing_of_fastnn() -> None:
    assert "fastnn" not in inspect.getsource(reference).split('"""', 2)[2]


@CASE_PARAMETERS
def test_agrees_with_the_reference(case: Case, table: Table) -> None:
    case.check(table)
    last = _C.last_call()
    assert last["row"] == case.row
    if any(operand["type"] in ("T", "R") for operand in ROWS[case.row]["operands"]):
        assert last["table"] == (str(table) if not is_empty_list(case) else last["table"])


def is_empty_list(case: Case) -> bool:
    return case.row in ("sgd_step", "adam_step") and case.parameters[0] == 0  # no array tells the type


@CASE_PARAMETERS
def test_same_bits_for_any_number_of_threads_and_again(case: Case, table: Table, threads: None) -> None:
    _C.set_num_threads(1)
    alone = case.run(table)
    algorithm = _C.last_call()["algorithm"]
    assert _C.last_call()["workers"] <= 1
    assert same_bits(case.run(table), alone), "rerun differs"
    for count in (2, 3, 7):
        _C.set_num_threads(count)
        assert same_bits(case.run(table), alone), f"{count} threads differ from one"
        assert _C.last_call()["algorithm"] == algorithm


@pytest.mark.parametrize("row", ROWS)
def test_threads_take_part(row: str, table: Table, threads: None) -> None:
    """On the largest of a row's cases more than one worker is seen (within a few runs: who takes a block is luck)."""
    _C.set_num_threads(3)
    case = max((c for c in CASES if c.row == row), key=work)
    for _ in range(200):
        case.run(table)
        if _C.last_call()["workers"] > 1:
            return
    raise AssertionError(f"{case}: one worker ran all blocks, 200 times")


def work(case: Case) -> int:
    operands = [*case.problem.operands, *case.problem.expected]
    flat = [a for o in operands for a in (o if isinstance(o, list) else [o])]
    return sum(np.size(a) for a in flat if a is not None)


@CASE_PARAMETERS
def test_needs_the_alignment_of_one_element_only(case: Case, table: Table) -> None:
    """Inputs start one element behind a 64-byte boundary and are guarded on both sides; results are the same."""
    aligned = case.run(table)
    shifted = call(case.row, case.parameters, case.problem.operands, table.dtype, shifted=True)
    assert same_bits(aligned, shifted)


@pytest.mark.parametrize("row", [name for name, row in ROWS.items() if row["planned"]])
def test_plan_names_an_algorithm_for_any_number_of_threads(row: str, table: Table, threads: None) -> None:
    for case in (c for c in CASES if c.row == row):
        names = set()
        for count in (1, 2, 3, 7):
            _C.set_num_threads(count)
            algorithm, scratch = _C.plan(row, struct(row, case.parameters), table.dtype)
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
