"""The recipe on trainers with a fault that was planted: it names that fault, and no other, in each of three seeds."""

from __future__ import annotations

import pytest
from planted import FAULTS, NAMES, planted

from fastnn import data, tune

pytestmark = pytest.mark.usefixtures("without_memory_checks")  # with them, no step is replayed

DIGITS = data.digits()[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault: str, seed: int) -> None:
    one = planted(fault, seed, DIGITS, optimizer="sgd" if seed == 2 else "adam")
    found = tune.recipe(one.trainer, one.training, one.validation, trials=4, epochs=4, batch_size=32, seed=seed, progress=False)
    assert not found.passed and [named.name for named in found.faults] == [NAMES[fault]], str(found)
