"""Denormals count as zero: every algorithm of every row gives for numbers below the least normal one the bits that it gives for zeros of their signs.
Those that only choose or move numbers hand them on; whoever computes with them next takes them for zero."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from fenced_rows import MOST
from kernel_calls import NARROW_TABLES, ROWS, Array, Table, bits, call, operand_dtype, using
from kernel_cases import CASES, Case, elements, least_cases

HANDED_ON = {
    *("copy", "copy_backward", "paste", "gather_forward", "exchange", "where", "batchnorm_inference"),  # which move, the last one its mean
    *("maxpool2d_forward", "regionpool2d_forward", "max_backward", "maximum", "minimum"),  # choose among others
    *(
        "relu_forward",
        "relu_backward",
        "prelu_backward",
        "pointwise_forward",
        "pointwise_backward",
        "clip_value",
    ),  # leave what is within bounds
    *("sgd_step", "adam_step", "rmsprop_step", "clip_norm", "average", "nll_forward"),  # leave what is not their turn, or copy it
}


def below_normal(case: Case, dtype: str) -> tuple[list[Any], list[Any]]:
    """The case's operands with every third number denormal, and with zeros of the same signs in the same places."""
    random = np.random.default_rng(zlib.crc32(str(case).encode()))
    inputs = [operand for operand in ROWS[case.row]["operands"] if operand["direction"] != "out"]
    denormal: list[Any] = []
    zero: list[Any] = []
    for operand, value in zip(inputs, case.problem.operands, strict=True):
        if value is None or operand["type"] not in ("T", "R"):
            for made in (denormal, zero):
                made.append(value)
            continue
        kept = operand_dtype(operand, dtype)
        tiny = float(np.finfo("float64" if kept == "float64" else "float32").tiny) / 8
        values = value if isinstance(value, list) else [value]
        signs = [np.where(random.random(v.shape) < 1 / 3, random.choice([-1.0, 1.0], v.shape), 0) for v in values]
        for made, size in ((denormal, tiny), (zero, 0.0)):
            several = [np.where(s != 0, np.copysign(size, s), v) for s, v in zip(signs, values, strict=True)]
            made.append(several if isinstance(value, list) else several[0])
    return denormal, zero


def cases(table: Table) -> list[Case]:
    """The smallest of each algorithm, and of each row the largest that is not large: of whole vectors and tails."""
    some = sorted((case for case in CASES if elements(case.parameters) <= MOST), key=lambda case: elements(case.parameters))
    return [*least_cases(table).values(), *{case.row: case for case in some}.values()]


def flushed(x: Array) -> Array:
    if not np.issubdtype(x.dtype, np.floating):
        return x
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)


def differs(case: Case, table: Table) -> list[str]:
    """Results in which denormals made a difference; those handed on, only where that is more than the denormal itself."""
    got, expected = (call(case.row, case.parameters, operands, table.dtype) for operands in below_normal(case, table.dtype))
    seen = flushed if case.row in HANDED_ON else np.asarray
    return [f"{name} of {case}" for name, value in expected.items() if bits(seen(got[name])) != bits(seen(value))]


def of_every_row(table: Table) -> list[str]:
    with np.errstate(all="ignore"):
        return [wrong for case in cases(table) for wrong in differs(case, table)]


def test_every_row_takes_them_for_zeros(table: Table) -> None:
    assert not of_every_row(table)


def test_every_row_takes_narrow_ones_for_zeros() -> None:
    for table in NARROW_TABLES:
        with using(table):
            assert not of_every_row(table)
