"""Every call of operator new in a training step fails once: tests/test_allocation_failures.py takes some of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import test_allocation_failures as some

failing_new = some.failing_new


@pytest.mark.parametrize("what", ["eager", "recorded", "replayed"])
def test_each(failing_new: Path, what: str) -> None:
    some.test_every_operator_new_of_a_step(failing_new, what, 1)
