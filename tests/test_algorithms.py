"""The cases of CASES reach every algorithm of the CPU, on every table: what is said of all cases (test_rows.py, test_fence.py, the sanitizers
of .ci/sanitize) holds for all of them. Which there are, the sources say, and problems drawn at random."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import random_convolutions
import random_rows
from kernel_calls import CPU_TABLES, ROWS, Table, plan, using
from kernel_cases import least_cases
from random_numbers import CONVOLUTION_TABLES

from fastnn import _C

pytestmark = pytest.mark.skipif(not CPU_TABLES, reason="FASTNN_TEST_DEVICES leaves the CPU out")
SOURCES = Path(__file__).parent.parent / "csrc" / "cpu"
PLANS = re.compile(r"(?:\breturn|\bPlan \w+ =|\bConvAlgorithm \w+ =)\s*\{[^;]*;")
LISTS = re.compile(r"(?:const ConvAlgorithm\* const|\bList) (\w+)_list\[\] = \{([^}]*)\}")
PREFIXES = ("bf16_", "amx_split_", "amx_")  # of operands of bfloat16 (cpu/pairs.h)
vectors = pytest.mark.skipif("avx512" not in _C.isas(), reason="some algorithms need AVX-512's vectors")


def plain(algorithm: str) -> str:
    """Without what it multiplies."""
    return next((algorithm.removeprefix(prefix) for prefix in PREFIXES if algorithm.startswith(prefix)), algorithm)


def reached(row: str = "") -> set[str]:
    return {plain(name) for table in CONVOLUTION_TABLES for of, name in least_cases(table) if row in ("", of)}


@vectors
def test_cases_reach_what_the_sources_name() -> None:
    texts = [re.sub("//.*", "", path.read_text()) for path in SOURCES.rglob("*.cpp")]
    named = {name for text in texts for found in PLANS.findall(text) for name in re.findall('"([^"]+)"', found)}
    assert len(named) > 30
    assert named - reached() == ({"windows"} if "amx" not in _C.isas() else set())


@vectors
def test_cases_reach_each_directions_list() -> None:
    """Of float32's convolutions, winograd_sweep.cpp's among them, which a macro names."""
    lists = LISTS.findall((SOURCES / "conv2d" / "conv2d.cpp").read_text())
    assert [direction for direction, _ in lists] == ["forward", "backward_input", "backward_weight"]
    for direction, members in lists:
        names = {member.removesuffix(f"_{direction}") for member in re.findall(r"&(\w+)", members)}
        assert len(names) > 7 and names <= reached(f"conv2d_{direction}"), direction


def drawn() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Rows with a plan, and their parameters."""
    for number in range(4000):
        geometry = random_convolutions.drawn(1, number).geometry
        if geometry[0][0]:
            for row in ("forward", "add_forward", "normalized_backward_weight"):
                yield f"conv2d_{row}", (*geometry, "relu")
            for row in ("backward_input", "add_backward_input", "backward_weight"):
                yield f"conv2d_{row}", geometry
            normalized = *geometry, 1e-5, 0.1, "relu", False
            if random_rows.fits("Conv2dBatchNorm", normalized):
                yield "conv2d_batchnorm_forward", normalized
    for number in range(20 * len(random_rows.NAMES)):
        case = random_rows.drawn(1, number)
        if ROWS[case.row]["planned"]:
            yield case.row, case.parameters


@functools.cache
def problems() -> list[tuple[str, tuple[Any, ...]]]:
    return list(drawn())


@pytest.mark.parametrize("each", CONVOLUTION_TABLES, ids=str)
def test_cases_reach_what_is_drawn(each: Table) -> None:
    found = defaultdict(set)
    with using(each):
        for row, parameters in problems():
            found[row].add(plan(row, parameters, each.dtype)[0])
    cases = least_cases(each)
    missing = {(row, name) for row, names in found.items() for name in names if (row, name) not in cases}
    assert not missing, f"no entry of CASES runs {missing} on {each}: see EACH_ALGORITHM of conv2d_geometries.py"
    assert set(found) == {row for row, _ in cases if ROWS[row]["planned"]}
