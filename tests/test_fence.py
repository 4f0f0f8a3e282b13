"""No kernel touches a byte beyond its operands, on any instruction set: a page behind each of them stops it (csrc/fence.h).

Sentinels (conftest.py) see what is written there; this sees what is read, too.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_calls import CPU_TABLES, ROWS

pytestmark = pytest.mark.skipif(not CPU_TABLES, reason="FASTNN_TEST_DEVICES leaves the CPU out")


def fenced(*arguments: str) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).resolve().parent
    environment = {**os.environ, "FASTNN_ARENA": "fenced", "PYTHONPATH": f"{os.environ['PYTHONPATH']}{os.pathsep}{here}"}
    for name in ("FASTNN_TEST_DEVICES", "FASTNN_CUDA_EMULATED"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, str(here / "fenced_rows.py"), *arguments], capture_output=True, text=True, timeout=600, env=environment
    )


def test_every_row_keeps_to_its_operands() -> None:
    done = fenced()
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1] if lines else 'nothing'}: exit code {done.returncode}\n{done.stderr[-2000:]}"
    found = re.fullmatch(r"ran (\d+) of (\d+) rows on (\d+) tables", lines[-1])
    assert found is not None and int(found[2]) == len(ROWS) and int(found[1]) > 5 * len(ROWS) and int(found[3]) >= len(CPU_TABLES)


def test_the_fence_stands() -> None:
    """The last byte can be read, the ones behind it not, nor the page before."""
    assert fenced("0").returncode == 0
    for beyond in ("1", "4096", "-4096"):
        done = fenced(beyond)
        assert done.returncode == -signal.SIGSEGV and done.stdout == "an array of 20 bytes\n", done.stderr
