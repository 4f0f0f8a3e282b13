"""Every row of kernels.def on its small cases, in a process where each array ends at a page that nobody may touch (FASTNN_ARENA=fenced).

A child of test_fence.py: it prints each case before running it, so that the last line names the one that faulted. With a number as argument
it reads that many bytes beyond an array instead, which must fault.
"""

from __future__ import annotations

import ctypes
import faulthandler
import sys

import numpy as np
from kernel_calls import CPU_TABLES, NARROW_TABLES, ROWS, Table, call, using
from kernel_cases import CASES, Case, elements, least_elements

from fastnn import _C

MOST = 3000  # elements: a few blocks; overruns depend on remainders


def run(case: Case, table: Table) -> None:
    """As one thread, and as three, each with its part of the scratch; then with results past the caches, where they lie as those need it."""
    for count, past_from in ((1, _C.get_past_caches_from()), (3, 0)):
        _C.set_num_threads(count)
        _C.set_past_caches_from(past_from)
        call(case.row, case.parameters, case.problem.operands, table.dtype)


def small() -> list[Case]:
    return [case for case in CASES if elements(case.parameters) <= max(MOST, least_elements(case.row))]


def main() -> None:
    faulthandler.enable()
    if len(sys.argv) > 1:
        array = _C.from_numpy(np.ones(5, np.float32))
        print("an array of 20 bytes", flush=True)
        ctypes.string_at(array.data_ptr + array.nbytes - 1 + int(sys.argv[1]), 1)
        return
    tables = [*CPU_TABLES, *(table for table in NARROW_TABLES if table.device == "cpu")]
    ran = 0
    for case in small():
        for table in tables:
            if table.dtype == "bfloat16" and not narrow(case):
                continue
            print(f"{case} on {table}", flush=True)
            with using(table), np.errstate(all="ignore"):
                run(case, table)
            ran += 1
    print(f"ran {ran} of {len({case.row for case in small()})} rows on {len(tables)} tables")


def narrow(case: Case) -> bool:
    """Whether the row has a form in bfloat16 that takes this case's operands."""
    return any(operand["type"] == "T" and operand["direction"] != "out" for operand in ROWS[case.row]["operands"])


if __name__ == "__main__":
    main()
