"""No kernel touches a byte beyond its operands, on any instruction set, alone, in steps and in whole trainings: a page behind each of them stops it,
in a second process one before each (csrc/fence.h).

Sentinels (conftest.py) see what is written there; this sees what is read, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fenced_calls
import fenced_rows
import fenced_steps
import pytest
from kernel_calls import CPU_TABLES, FLOAT_ISAS, ROWS
from kernel_cases import least_cases

from fastnn import _C

pytestmark = pytest.mark.skipif(not CPU_TABLES, reason="FASTNN_TEST_DEVICES leaves the CPU out")


SIDES = ["fenced", "fenced-before"]  # of each array, where a page begins that nobody may touch


def fenced(*arguments: str, script: str = "fenced_rows.py", arena: str = "fenced") -> subprocess.CompletedProcess[str]:
    here = Path(__file__).resolve().parent
    environment = {**os.environ, "FASTNN_ARENA": arena, "PYTHONPATH": f"{os.environ['PYTHONPATH']}{os.pathsep}{here}"}
    for name in ("FASTNN_TEST_DEVICES", "FASTNN_CUDA_EMULATED"):
        environment.pop(name, None)
    return subprocess.run([sys.executable, str(here / script), *arguments], capture_output=True, text=True, timeout=600, env=environment)


@pytest.mark.parametrize("arena", SIDES)
def test_every_row_keeps_to_its_operands(arena: str) -> None:
    """And every algorithm: on each table, those that the cases have (test_algorithms.py: all there are)."""
    done = fenced(arena=arena)
    *_, last = done.stdout.splitlines() or [""]
    assert done.returncode == 0, f"{last}: exit code {done.returncode}\n{done.stderr[-2000:]}"
    ran = {(table, row, algorithm): count for table, row, algorithm, count in json.loads(last)}
    planned = {(str(t), row, name) for t in fenced_rows.TABLES for row, name in least_cases(t) if fenced_rows.differs(row, t)}
    assert set(ran) >= planned, f"not run: {sorted(planned - set(ran))}"
    assert {row for _, row, _ in ran} == set(ROWS) and sum(ran.values()) > 1000 * len(CPU_TABLES)
    assert {table for table, *_ in ran} == set(map(str, fenced_rows.TABLES))


@pytest.mark.parametrize("arena", SIDES)
def test_the_fence_stands(arena: str) -> None:
    """The last byte of twenty can be read, the ones behind it not, nor the page before; or the first one, and none before it."""
    inside, outside = (("0",), ("1", "4096", "-4096")) if arena == "fenced" else (("0", "-19"), ("-20", "-4096", "4096"))
    for beyond in inside:
        assert fenced(beyond, arena=arena).returncode == 0
    for beyond in outside:
        done = fenced(beyond, arena=arena)
        assert done.returncode == -signal.SIGSEGV and done.stdout == "an array of 20 bytes\n", done.stderr


def test_whole_trainings_keep_to_their_arrays_and_have_the_same_bits() -> None:
    """Replayed steps make their arrays in one planned block: there it is the block that has fences, besides weights, states and batches. The fence
    behind the last weight stops what reads there when all is done."""
    outside, inside = fenced(script="fenced_training.py", arena=""), fenced("1", script="fenced_training.py")
    *lines, last = inside.stdout.splitlines() or [""]
    assert last == "a weight of 20 bytes", f"{inside.stdout}exit code {inside.returncode}\n{inside.stderr[-2000:]}"
    assert inside.returncode == -signal.SIGSEGV and "string_at" in inside.stderr
    assert outside.returncode == 0 and outside.stdout.splitlines() == lines, outside.stderr
    found = dict(line.split(": ") for line in lines)
    assert len(found) == 2 * len(FLOAT_ISAS) + 2 * len(_C.isas("bfloat16"))
    for name, digest in found.items():
        assert digest == found[name.replace("replayed", "eager")], name


CHILDREN = {"fenced_steps.py": fenced_steps.parts, "fenced_calls.py": fenced_calls.parts}


@pytest.fixture(scope="module")
def without_fences() -> dict[str, str]:
    return {script: fenced(script=script, arena="").stdout for script in CHILDREN}


@pytest.mark.parametrize("arena", SIDES)
@pytest.mark.parametrize("script", CHILDREN)
def test_whatever_python_calls_keeps_to_its_arrays(script: str, arena: str, without_fences: dict[str, str]) -> None:
    """Each layer, loss, optimizer, operation and augmentation, neighbours, frozen models."""
    inside = fenced(script=script, arena=arena)
    lines = inside.stdout.splitlines()
    assert inside.returncode == 0, f"{lines[-1] if lines else 'nothing'}: exit code {inside.returncode}\n{inside.stderr[-2000:]}"
    assert inside.stdout == without_fences[script]
    assert len(lines) == len(FLOAT_ISAS) * len(list(CHILDREN[script]())) > 50 * len(FLOAT_ISAS)
