"""Cases: a row of kernels.def, the fields of its struct, and the problem that they make. Every row has several in CASES."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import kernel_problems
import numpy as np
from kernel_calls import ROWS, Array, Table, assert_within, call, plan, using
from kernel_problems import FAMILIES
from kernel_problems.problem import Problem


@dataclass(frozen=True)
class Case:
    row: str
    parameters: tuple[Any, ...]  # of the row's struct
    options: dict[str, Any] = field(default_factory=dict, hash=False)  # of the problem: which operands are absent, which data

    def __str__(self) -> str:
        options = [name if value is True else f"{name}={describe(value)}" for name, value in self.options.items()]
        return "-".join([self.row, *map(describe, self.parameters), *options])

    @property
    def problem(self) -> Problem:
        return _problem(str(self), self)

    def run(self, table: Table, shifted: bool = False) -> dict[str, Array]:
        return call(self.row, self.parameters, self.problem.operands, table.dtype, shifted)

    def check(self, table: Table) -> dict[str, Array]:
        """Runs, compares with the reference, and returns what was written."""
        problem, written = self.problem, self.run(table)
        tolerances = problem.tolerance if isinstance(problem.tolerance, list) else [problem.tolerance] * len(problem.expected)
        present = [(e, t) for e, t in zip(problem.expected, tolerances, strict=True) if e is not None]
        flat = [(e, t) for value, t in present for e in (value if isinstance(value, list) else [value])]
        for (name, got), (expected, tolerance) in zip(written.items(), flat, strict=True):
            assert_within(got, expected, tolerance, f"{self.row} on {table}, {name} of {self}")
        return written


def describe(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value)) if value else "scalar"
    return str(value)


@functools.lru_cache(maxsize=32)
def _problem(name: str, case: Case) -> Problem:
    with np.errstate(all="ignore"):
        make: Callable[..., Problem] = getattr(kernel_problems, case.row)
        return make(np.random.default_rng(zlib.crc32(name.encode())), *case.parameters, **case.options)


# The cases that the generic tests run: each row with an empty, a tiny and an odd problem, and one of several blocks for the threads.
CASES = [Case(*sketch) for family in FAMILIES for sketch in family.cases()]


def elements(parameters: Any) -> int:
    """Of the largest shape among a struct's parameters."""
    return max((math.prod(p) for p in parameters if isinstance(p, tuple)), default=0)


@functools.cache
def least_cases(table: Table) -> dict[tuple[str, str], Case]:
    """By (row, algorithm): the smallest case that is not empty which this table's plan gives to the algorithm; "" where rows have no plan."""
    least: dict[tuple[str, str], Case] = {}
    with using(table):
        for case in sorted(CASES, key=lambda case: elements(case.parameters)):
            if np.prod(case.parameters[0]) > 0:
                algorithm = plan(case.row, case.parameters, table.dtype)[0] if ROWS[case.row]["planned"] else ""
                least.setdefault((case.row, algorithm), case)
    return least


@functools.cache
def least_elements(row: str) -> int:
    """Of the row's smallest case that is not empty."""
    return min(filter(None, (elements(case.parameters) for case in CASES if case.row == row)), default=0)
