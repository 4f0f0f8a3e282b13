"""LeakSanitizer over import, training, checkpoints, errors and exit: memory that the core took and nothing refers to any more.

It needs no build of its own: its library is loaded before Python. What Python itself leaves is of no interest: only stacks with a frame of the core are.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from fastnn import _C

LEAKS = Path(__file__).resolve().parent.parent / "leaks.py"


def leaks(*arguments: str) -> list[str]:
    """The stacks."""
    library = subprocess.run(["gcc", "-print-file-name=liblsan.so"], capture_output=True, text=True, check=True).stdout.strip()
    assert Path(library).exists(), "gcc has no LeakSanitizer here"
    options = "fast_unwind_on_malloc=0:malloc_context_size=25:exitcode=23"  # the stacks of code without frame pointers, too
    environment = {**os.environ, "LD_PRELOAD": library, "LSAN_OPTIONS": options, "PYTHONMALLOC": "malloc"}
    done = subprocess.run([sys.executable, str(LEAKS), *arguments], capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode in (0, 23) and done.stdout.split() == ["ValueError", "ValueError", "OutOfMemoryError"], done.stderr
    assert "LeakSanitizer has encountered a fatal error" not in done.stderr, done.stderr
    return [part for part in re.split(r"\n\n", done.stderr) if "leak of" in part and Path(_C.__file__).name in part]


def test_nothing_leaks() -> None:
    found = leaks()
    assert not found, "\n\n".join(found)


def test_a_leak_is_seen() -> None:
    """An array handed to a library that never lets go of it. (An installed core has no names to ask for.)"""
    assert leaks("--leak")
