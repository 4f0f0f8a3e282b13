"""What kernels do below float32: storage in bfloat16, in every row, on the CPU and on GPUs.

A bfloat16 row reads bfloat16, computes in float32 and rounds once: beside the float32 row on the same (rounded) values it may differ by that
rounding and by the order of float32 sums. (conv2d_batchnorm_forward normalises what it stored: test_epilogues.py has it beside its two halves.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conv2d_geometries import CONV2D_GEOMETRIES, Geometry
from kernel_calls import NARROW_TABLES, ROWS, Array, Table, call, using
from kernel_cases import CASES, Case, describe
from kernel_problems import MATRICES
from kernel_problems.activation import FUNCTIONS
from test_activation import every_bfloat16

from fastnn import _C

FLOAT32_EPS, BFLOAT16_EPS = 2.0**-23, 2.0**-7
CPU_TABLES = [table for table in NARROW_TABLES if table.device == "cpu"]
DIRECTIONS = ["forward", "backward_input", "backward_weight"]


def typed(row: str) -> set[str]:
    """The operands that are stored as the table's type."""
    return {operand["name"] for operand in ROWS[row]["operands"] if operand["type"] == "T"}


def rounded(value: Any) -> Array:
    """To bfloat16 and back."""
    result: Array = _C.from_numpy(np.asarray(value, np.float32), dtype="bfloat16").numpy()
    return result


def written(row: str, value: Any) -> Array:
    """As a row of bfloat16 leaves its only result: a weight gradient in float32."""
    return (
        rounded(value)
        if typed(row) & {o["name"] for o in ROWS[row]["operands"] if o["direction"] == "out"}
        else np.asarray(value, np.float32)
    )


def narrow_operands(case: Case) -> list[Any]:
    inputs = [operand for operand in ROWS[case.row]["operands"] if operand["direction"] != "out"]
    stored = typed(case.row)
    return [
        rounded(value) if operand["name"] in stored and value is not None else value
        for operand, value in zip(inputs, case.problem.operands, strict=True)
    ]


def largest_tolerance(tolerance: Any) -> float:
    values = tolerance if isinstance(tolerance, list) else [tolerance]
    return max((float(np.max(t)) for t in values if t is not None and np.size(t)), default=0.0)


def _most(values: Any, absent: float = 1.0) -> float:
    return absent if values is None else float(np.abs(values).max(initial=0))


IN_BETWEEN = ("conv2d_batchnorm_forward", "conv2d_normalized_backward_weight")  # what lies between their halves is rounded, too


@pytest.mark.parametrize("narrow_table", NARROW_TABLES, ids=str)
@pytest.mark.parametrize("case", [case for case in CASES if typed(case.row) and case.row not in IN_BETWEEN], ids=str)
def test_bfloat16_is_float32_rounded_once(case: Case, narrow_table: Table) -> None:
    operands = narrow_operands(case)
    with using(Table(narrow_table.where, "float32")):
        wide = call(case.row, case.parameters, operands, "float32")
    with using(narrow_table):
        narrow = call(case.row, case.parameters, operands, "bfloat16")
        assert _C.last_call()["table"] == narrow_table.name or not any(np.size(o) for o in operands if o is not None)
    slack = FLOAT32_EPS * (largest_tolerance(case.problem.tolerance) + 8)
    for name, expected in wide.items():
        allowed = slack * np.maximum(1, np.abs(expected))
        if name in typed(case.row):
            of: Any = np.abs(expected)
            if case.row == "batchnorm_backward":  # dx is made of stored dresiduals, less two means of theirs: these may cancel
                of = np.maximum(of.max(initial=0), _most(operands[2]) * _most(operands[6]) * _most(wide.get("dresidual"), 0.0))
            if case.row in ("conv2d_add_forward", "conv2d_add_backward_input"):  # may add to the stored sum, without an epilogue for it
                added: Any = operands[3 if case.row == "conv2d_add_forward" else 2]
                of = of.max(initial=0) + np.abs(added).max(initial=0)
            allowed = allowed + BFLOAT16_EPS * of
        with np.errstate(all="ignore"):
            same = (narrow[name] == expected) | (np.abs(narrow[name].astype(np.float64) - expected) <= allowed)
        assert (same | (np.isnan(expected) & np.isnan(narrow[name]))).all(), f"{name} of {case}"


ELEMENTWISE = [
    *((row, ()) for row in ("relu_forward", "silu_forward", "exp", "log", "sqrt")),
    *(("power", (exponent,)) for exponent in (2.0, -1.0, 1.7)),
    *(("pointwise_forward", function) for function in FUNCTIONS),
]


@pytest.mark.parametrize("narrow", CPU_TABLES, ids=str)
@pytest.mark.parametrize(("row", "constants"), ELEMENTWISE, ids=str)
def test_every_bfloat16_gives_what_float32_does_rounded_once(row: str, constants: tuple[Any, ...], narrow: Table) -> None:
    """To the bit, for all 65,536; denormals count as zero."""
    x = every_bfloat16("float32")
    with using(Table(narrow.where, "float32")):
        expected = rounded(call(row, (x.shape, *constants), [x], "float32")["y"])
    with using(narrow):
        got = call(row, (x.shape, *constants), [x], "bfloat16")["y"]
        assert _C.last_call()["table"] == narrow.name
    got, expected = (np.where(np.abs(y) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), y), y) for y in (got, expected))
    other = (got.view(np.uint32) != expected.view(np.uint32)) & ~(np.isnan(got) & np.isnan(expected))
    assert not other.any(), f"{row}{constants}({x[other][0]!r}) = {got[other][0]!r}, in float32 {expected[other][0]!r}"


# --- products


@pytest.fixture
def directly() -> Iterator[None]:
    _C.set_winograd(False)
    yield
    _C.set_winograd(True)


@pytest.mark.usefixtures("directly")
@pytest.mark.parametrize("narrow", CPU_TABLES, ids=str)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("geometry", CONV2D_GEOMETRIES[::3], ids=lambda g: "-".join(map(describe, g)))
def test_convolutions_of_small_integers_on_the_cpu_are_exact(geometry: Geometry, direction: str, narrow: Table) -> None:
    case = Case(f"conv2d_{direction}", geometry, {"exact": True})
    with using(narrow):
        (got,) = call(case.row, geometry, case.problem.operands, "bfloat16").values()
        assert _C.last_call()["table"] == narrow.name
    assert np.array_equal(got, written(case.row, case.problem.expected[0]))


@pytest.mark.parametrize("narrow", CPU_TABLES, ids=str)
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False)], ids=str)
@pytest.mark.parametrize("shapes", [*MATRICES, ((70, 2500), (2500, 33))], ids=lambda s: "-".join(map(describe, s)))
def test_matrix_products_of_small_integers_on_the_cpu_are_exact(shapes: Any, transposed: tuple[bool, bool], narrow: Table) -> None:
    (a, b), (ta, tb) = shapes, transposed
    if len(a) != len(b) and ta:
        pytest.skip("a shared b meets a as it lies: the core refuses the transpose")
    swap = [(*s[:-2], s[-1], s[-2]) if t else s for s, t in ((a, ta), (b, tb))]
    case = Case("matmul", (*swap, ta, tb), {"exact": True})
    with using(narrow):
        (got,) = call("matmul", case.parameters, case.problem.operands, "bfloat16").values()
        assert not got.size or _C.last_call()["table"] == narrow.name
    assert np.array_equal(got, rounded(case.problem.expected[0]))
