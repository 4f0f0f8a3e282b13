"""Trainings and captured steps, again and again: nothing of them stays (500 of each: tests/long/test_five_hundred.py)."""

from __future__ import annotations

import pytest
from resident_set import ACTIONS, of_a_child


@pytest.mark.parametrize("name", ACTIONS)
def test_twenty_leave_nothing_behind(name: str) -> None:
    grown = of_a_child(name, 20, 10)
    assert grown.resident < 4096, f"{grown.resident} KiB more are resident"
    assert grown[1:] == (0, 0, 0), grown
