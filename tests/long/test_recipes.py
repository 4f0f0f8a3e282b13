"""The recipe on the whole of Fashion-MNIST and on digits, as it is by default: faults that were planted are named, and nothing fails without one."""

from __future__ import annotations

import pytest
from planted import FAULTS, NAMES, planted
from shared_data import shared_data

from fastnn import data, tune


def fashion() -> data.Dataset:
    return data.fashion_mnist(shared_data("fashion-mnist"))[0]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault: str, seed: int, optimizer: str) -> None:
    one = planted(fault, seed, fashion(), width=16, optimizer=optimizer)
    found = tune.recipe(one.trainer, one.training, one.validation, batch_size=64, seed=seed)
    assert [named.name for named in found.faults] == [NAMES[fault]], str(found)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["digits", "fashion"])
def test_nothing_fails_without_a_fault(name: str, seed: int, optimizer: str) -> None:
    whole = data.digits()[0] if name == "digits" else fashion()
    one = planted("healthy", seed, whole, width=16, optimizer=optimizer)
    found = tune.recipe(one.trainer, one.training, batch_size=32 if name == "digits" else 64, seed=seed)
    assert found.passed and len(found) == 7, str(found)
