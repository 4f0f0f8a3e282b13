"""500 trainings and 500 captured steps in one process, each with its model, optimizer, loader and arena: the resident set stays as it is."""

from __future__ import annotations

import pytest
from resident_set import ACTIONS, of_a_child


@pytest.mark.parametrize("name", ACTIONS)
def test_five_hundred(name: str) -> None:
    grown = of_a_child(name, 500, 200)  # Python's own pools are full after about 200
    print(f"\n{name}: 500 more grew the resident set by {grown.resident} KiB, arrays by {grown.allocated} bytes")
    assert grown.resident < 2048 and grown[1:] == (0, 0, 0), grown
