"""Every row of kernels.def on its small cases and on the least one of each algorithm, in a process where each array ends at a page that nobody
may touch (FASTNN_ARENA=fenced).

A child of test_fence.py: it prints each case before running it, so that the last line names the one that faulted, and which algorithms ran.
With a number as argument it reads that many bytes beyond an array instead, which must fault.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import sys
from collections import Counter

import numpy as np
from kernel_calls import CPU_TABLES, NARROW_TABLES, ROWS, Table, call, using
from kernel_cases import CASES, Case, elements, least_cases, least_elements
from random_numbers import CONVOLUTION_TABLES

from fastnn import _C

MOST = 3000  # elements: a few blocks; overruns depend on remainders
ASKED = {"Conv2d", "Conv2dBatchNorm", "MatMul"}  # structs of what a precision below float32's changes
TABLES = list(dict.fromkeys([*CPU_TABLES, *(table for table in NARROW_TABLES if table.device == "cpu"), *CONVOLUTION_TABLES]))


def run(case: Case, table: Table) -> str:
    """As one thread, and as three, each with its part of the scratch; then with results past the caches, where they lie as those need it."""
    for count, past_from in ((1, _C.get_past_caches_from()), (3, 0)):
        _C.set_num_threads(count)
        _C.set_past_caches_from(past_from)
        call(case.row, case.parameters, case.problem.operands, table.dtype)
    return str(_C.last_call()["algorithm"])


def tables_of(case: Case) -> list[Table]:
    small = elements(case.parameters) <= max(MOST, least_elements(case.row))
    return [table for table in TABLES if differs(case.row, table) and (small or case in least_cases(table).values())]


def differs(row: str, table: Table) -> bool:
    """Whether a row has a form of this table's own: in bfloat16 of operands that are kept so, below float32's precision of products."""
    if table.precision != "highest":
        return ROWS[row]["struct"] in ASKED
    operands = [operand for operand in ROWS[row]["operands"] if operand["direction"] != "out"]
    return table.dtype != "bfloat16" or any(operand["type"] == "T" for operand in operands)


def main() -> None:
    faulthandler.enable()
    if len(sys.argv) > 1:
        array = _C.from_numpy(np.ones(5, np.float32))
        print("an array of 20 bytes", flush=True)
        ctypes.string_at(array.data_ptr + array.nbytes - 1 + int(sys.argv[1]), 1)
        return
    ran: Counter[tuple[str, str, str]] = Counter()
    for case in CASES:
        for table in tables_of(case):
            print(f"{case} on {table}", flush=True)
            with using(table), np.errstate(all="ignore"):
                ran[str(table), case.row, run(case, table)] += 1
    print(json.dumps([[*key, count] for key, count in ran.items()]))


if __name__ == "__main__":
    main()
