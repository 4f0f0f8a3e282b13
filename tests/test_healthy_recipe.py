"""The recipe where nothing is wrong: no step fails."""

from __future__ import annotations

import pytest
from planted import planted

from fastnn import data, tune

pytestmark = pytest.mark.usefixtures("without_memory_checks")  # with them, no step is replayed

DIGITS = data.digits()[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nothing_fails_on_healthy_digits(seed: int) -> None:
    one = planted("healthy", seed, DIGITS, optimizer="sgd" if seed == 2 else "adam")
    found = tune.recipe(one.trainer, one.training, trials=4, epochs=3, batch_size=32, seed=seed, progress=False)
    assert found.passed and len(found) == 7 and found.accuracy is not None and found.accuracy > 0.93, str(found)
