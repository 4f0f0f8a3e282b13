"""A step of an optimizer is taken whole or not at all, also where it has several launches or is made of several optimizers; and taking it
whole costs neither bits nor the memory that is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import _C
from fastnn.optim import LBFGS, SGD, Adam, Lookahead, Muon, NewtonCG, Optimizer, Together
from fastnn.tensor import Tensor


def parameters(*shapes: tuple[int, ...], dtype: str = "float32") -> list[Tensor]:
    values = np.random.default_rng(len(shapes))
    made = [fastnn.tensor(values.standard_normal(shape), dtype=dtype, requires_grad=True) for shape in shapes]
    for p in made:
        p.grad = fastnn.tensor(values.standard_normal(p.shape), dtype=dtype)
    return made


def weights(optimizer: Optimizer) -> list[bytes]:
    return [p.numpy().tobytes() for group in optimizer.param_groups for p in group["params"]]


def state(optimizer: Optimizer) -> list[Any]:
    return [weights(optimizer), [np.asarray(value).tobytes() for value in optimizer.state_dict().values()]]


SEVERAL: dict[str, Callable[[], Optimizer]] = {
    "two types": lambda: Adam([*parameters((5, 3), (7,)), *parameters((4,), (2, 2), dtype="float64")], 0.1),
    "two shapes": lambda: Muon(parameters((8, 6), (5, 9)), 0.02),
    "together": lambda: Together(Muon(parameters((8, 6), (5, 9)), 0.02), Lookahead(SGD(parameters((9,)), 0.1, momentum=0.9), k=2)),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_launches_written_down_first_have_the_bits_of_launches_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory checks on, as in this suite, each launch runs at once; without them all are written down, and then run."""
    made, runs = [], []
    replay = _C.Replay

    def counted(*arguments: Any) -> Any:
        runs.append(arguments)
        return replay(*arguments)

    monkeypatch.setattr(_C, "Replay", counted)
    for checks in (True, False):
        optimizer = SEVERAL[name]()
        _C.set_memory_checks(checks)
        try:
            for _ in range(4):
                optimizer.step()
        finally:
            _C.set_memory_checks(True)
        made.append(state(optimizer))
        assert len(runs) == (0 if checks else 4)
    assert made[0] == made[1]


def test_a_step_leaves_the_memory_that_is_kept(without_memory_checks: None) -> None:
    """A captured step empties the arena's caches, since what it needs lies in its own block; a single step's memory is the next one's."""
    optimizer = SEVERAL["two shapes"]()
    optimizer.step()
    fastnn.empty_cache()  # of other tests
    before = fastnn.memory_stats()["reserved"]
    kept = _C.empty((3_000_000,))
    del kept
    reserved = fastnn.memory_stats()["reserved"]
    assert reserved >= before + 12_000_000, "the arena keeps what is freed"
    optimizer.step()
    assert fastnn.memory_stats()["reserved"] >= reserved
    fastnn.empty_cache()


class Refuses(SGD):
    """An optimizer of one's own, with a step of its own."""

    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("not today")


@pytest.mark.parametrize("first", [True, False])
def test_counts_are_those_of_the_weights_where_a_part_of_ones_own_raises(first: bool) -> None:
    adam, own = Adam(parameters((3, 2)), 0.1), Refuses(parameters((4,)), 0.1)
    together = Together(own, adam) if first else Together(adam, own)
    alone = Adam(parameters((3, 2)), 0.1)
    for steps in (1, 2):
        with pytest.raises(RuntimeError, match="not today"):
            together.step()
        alone.step()
        assert (adam.steps, own.steps) == (steps, 0) and state(adam) == state(alone)


def test_a_share_that_is_refused_is_refused_before_anything_is_done() -> None:
    fast = Lookahead(SGD(parameters((3,)), 0.1), k=2, alpha=lambda step: -1.0)
    together = Together(fast, Adam(parameters((2, 2)), 0.1))
    together.step()  # the first of two: nothing is asked of alpha
    before = state(together)
    with pytest.raises(ValueError, match="Lookahead: alpha must not be negative, got -1.0 at step 2"):
        together.step()
    assert state(together) == before and together.steps == 1


@pytest.mark.parametrize("make", [LBFGS, NewtonCG])
def test_a_search_is_no_part_of_others(make: Callable[[Any], Optimizer]) -> None:
    search = make(parameters((3,), dtype="float64"))
    for whole in (Lookahead, lambda o: Together(SGD(parameters((2,)), 0.1), o)):
        with pytest.raises(
            TypeError, match=rf"(Lookahead|Together): {search.name} evaluates the loss .* call its step\(closure\) by itself"
        ):
            whole(search)


def test_ratios_are_those_of_the_last_step_that_was_done() -> None:
    optimizer = SGD(parameters((3, 2), (4,)), 0.1)
    optimizer.measure_updates = True
    optimizer.step()
    ratios = optimizer.update_ratios()
    optimizer.param_groups[0]["lr"] = lambda step: 1.0 if step < 1 else -1.0
    with pytest.raises(ValueError, match="lr must not be negative"):
        optimizer.step()
    _C.fail_allocation(2)
    with pytest.raises(fastnn.OutOfMemoryError):
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
    _C.fail_allocation(0)
    assert optimizer.update_ratios() == ratios and all(0 < ratio < 1 for ratio in ratios)
