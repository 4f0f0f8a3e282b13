"""No kernel touches a byte beyond its operands, on any instruction set, alone, in steps and in whole trainings: a page behind each of them stops it
(csrc/fence.h).

Sentinels (conftest.py) see what is written there; this sees what is read, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fenced_rows
import fenced_steps
import pytest
from kernel_calls import CPU_TABLES, FLOAT_ISAS, ROWS
from kernel_cases import least_cases

from fastnn import _C

pytestmark = pytest.mark.skipif(not CPU_TABLES, reason="FASTNN_TEST_DEVICES leaves the CPU out")


def fenced(*arguments: str, script: str = "fenced_rows.py", arena: str = "fenced") -> subprocess.CompletedProcess[str]:
    here = Path(__file__).resolve().parent
    environment = {**os.environ, "FASTNN_ARENA": arena, "PYTHONPATH": f"{os.environ['PYTHONPATH']}{os.pathsep}{here}"}
    for name in ("FASTNN_TEST_DEVICES", "FASTNN_CUDA_EMULATED"):
        environment.pop(name, None)
    return subprocess.run([sys.executable, str(here / script), *arguments], capture_output=True, text=True, timeout=600, env=environment)


def test_every_row_keeps_to_its_operands() -> None:
    """And every algorithm: on each table, those that the cases have (test_algorithms.py: all there are)."""
    done = fenced()
    *_, last = done.stdout.splitlines() or [""]
    assert done.returncode == 0, f"{last}: exit code {done.returncode}\n{done.stderr[-2000:]}"
    ran = {(table, row, algorithm): count for table, row, algorithm, count in json.loads(last)}
    planned = {(str(t), row, name) for t in fenced_rows.TABLES for row, name in least_cases(t) if fenced_rows.differs(row, t)}
    assert set(ran) >= planned, f"not run: {sorted(planned - set(ran))}"
    assert {row for _, row, _ in ran} == set(ROWS) and sum(ran.values()) > 1000 * len(CPU_TABLES)
    assert {table for table, *_ in ran} == set(map(str, fenced_rows.TABLES))


def test_the_fence_stands() -> None:
    """The last byte can be read, the ones behind it not, nor the page before."""
    assert fenced("0").returncode == 0
    for beyond in ("1", "4096", "-4096"):
        done = fenced(beyond)
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


def test_each_layer_loss_and_optimizer_keeps_to_its_arrays() -> None:
    outside, inside = fenced(script="fenced_steps.py", arena=""), fenced(script="fenced_steps.py")
    lines = inside.stdout.splitlines()
    assert inside.returncode == 0, f"{lines[-1] if lines else 'nothing'}: exit code {inside.returncode}\n{inside.stderr[-2000:]}"
    assert outside.returncode == 0 and outside.stdout == inside.stdout, outside.stderr
    assert len(lines) == len(FLOAT_ISAS) * len(list(fenced_steps.parts())) > 50 * len(FLOAT_ISAS)
