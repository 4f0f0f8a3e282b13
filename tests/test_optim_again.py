"""A step that is the last one again takes over its launches, and has the bits of one that makes its own."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch_twins import normal

import fastnn
from fastnn import nn, optim

SHAPES = [(4, 3), (7, 2), (5, 3, 3, 3), (2, 9)]
MAKE: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, 0.1),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.2),
    "Adam": lambda p: optim.Adam(p, 0.01),
    "amsgrad": lambda p: optim.AdamW(p, 0.01, amsgrad=True),
    "Adagrad": lambda p: optim.Adagrad(p, 0.1, lr_decay=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, 0.01, centered=True, momentum=0.5),
    "Muon": lambda p: optim.Muon(p, 0.05),
    "Together": lambda p: optim.Together(optim.Muon(p[:2], 0.05), optim.SGD(p[2:], 0.1, momentum=0.9)),
    "Lookahead": lambda p: optim.Lookahead(optim.Adam(p, 0.01), k=3),
    "schedule": lambda p: optim.SGD(p, optim.schedules.cosine(0.1, 40), momentum=0.9),
    "groups": lambda p: optim.Adam([{"params": p[:1], "amsgrad": True}, {"params": p[1:], "lr": 0.02}], 0.01),
}


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(normal(i, *shape)) for i, shape in enumerate(SHAPES)]


def give_gradients(given: list[nn.Parameter], step: int, absent: tuple[int, ...] = ()) -> None:
    for i, p in enumerate(given):
        p.grad = None if i in absent else fastnn.tensor(normal(100 * step + i, *p.shape))


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each launch that is put together anew."""
    made: list[int] = []
    gather = optim.Optimizer._gather

    def counted(self: Any, *arguments: Any) -> Any:
        made.append(1)
        return gather(self, *arguments)

    monkeypatch.setattr(optim.Optimizer, "_gather", counted)
    return made


@pytest.mark.parametrize("name", MAKE)
def test_launches_are_put_together_once(name: str, gathered: list[int]) -> None:
    given = parameters()
    optimizer = MAKE[name](given)
    give_gradients(given, 0)
    optimizer.step()
    first = len(gathered)
    assert first > 0
    for step in range(1, 6):
        give_gradients(given, step)
        optimizer.step()
    assert len(gathered) == first


def _rate(optimizer: optim.Optimizer, given: list[nn.Parameter]) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.03


def _decay(optimizer: optim.Optimizer, given: list[nn.Parameter]) -> None:
    optimizer.param_groups[0]["weight_decay"] = 0.2


def _slots(optimizer: optim.Optimizer, given: list[nn.Parameter]) -> None:
    for group in optimizer.param_groups:
        for option in {"amsgrad", "centered", "nesterov"} & group.keys():
            group[option] = not group[option]
        group.update({"momentum": 0.7, "dampening": 0.0} if "dampening" in group else {})


def _loaded(optimizer: optim.Optimizer, given: list[nn.Parameter]) -> None:
    optimizer.load_state_dict(
        {key: value * 2 if key.endswith(("momentum", "m")) else value for key, value in optimizer.state_dict().items()}
    )


def _other_weights(optimizer: optim.Optimizer, given: list[nn.Parameter]) -> None:
    given[1]._array = fastnn.tensor(normal(77, *given[1].shape))._array


def _written_weights(optimizer: optim.Optimizer, given: list[nn.Parameter]) -> None:
    given[1].copy_from(normal(77, *given[1].shape))


def _counted_anew(optimizer: optim.Optimizer, given: list[nn.Parameter]) -> None:
    for leaf in optimizer._leaves():
        leaf._counts[:] = 5


def _captured(optimizer: optim.Optimizer, given: list[nn.Parameter]) -> None:
    gradients = [p.grad for p in given]
    for p in given:
        p.grad = None

    def step() -> None:
        optimizer.zero_grad()
        for p in given:
            fastnn.ops.sum(p * p).backward()
        optimizer.step()

    captured = fastnn.capture(step)
    for _ in range(4):
        captured()
    for p, g in zip(given, gradients):
        p.grad = g


def _measured(optimizer: optim.Optimizer, given: list[nn.Parameter]) -> None:
    optimizer.measure_updates = not optimizer.measure_updates


CHANGES = {f.__name__: f for f in (_rate, _decay, _slots, _loaded, _other_weights, _written_weights, _counted_anew, _captured, _measured)}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", MAKE)
def test_it_has_the_bits_of_a_step_that_makes_its_own(name: str, change: str, without_memory_checks: None) -> None:
    if change == "_rate" and name == "schedule":
        pytest.skip("a number in the place of the schedule: the case of SGD")
    results = []
    for again in (True, False):
        given = parameters()
        optimizer = MAKE[name](given)
        for step in range(14):
            if step in (4, 9):
                CHANGES[change](optimizer, given)
            give_gradients(given, step, absent=(3,) if step in (6, 7, 11) else ())
            if not again:
                for leaf in optimizer._leaves():
                    leaf._again = None
            optimizer.step()
        results.append([*(p.numpy() for p in given), *optimizer.state_dict().values()])
    assert len(results[0]) == len(results[1])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_a_group_that_is_added_takes_part() -> None:
    given = parameters()
    optimizer = optim.SGD(given[:2], 0.5)
    for step in range(3):
        give_gradients(given, step)
        optimizer.step()
    optimizer.add_param_group({"params": given[2:]})
    before = given[3].numpy().copy()
    optimizer.step()
    np.testing.assert_array_equal(given[3].numpy(), before - np.float32(0.5) * given[3].grad.numpy())


def test_gradients_are_let_go_of() -> None:
    """Their memory is free for the next backward pass, and not kept until the next step."""
    before = fastnn.memory_stats()["allocated"]
    w = nn.Parameter(np.zeros(1 << 18, np.float32))
    optimizer = optim.SGD([w], 0.1)
    seen = []
    for _ in range(4):
        w.grad = fastnn.tensor(np.ones(1 << 18, np.float32))
        optimizer.step()
        optimizer.zero_grad()
        seen.append(fastnn.memory_stats()["allocated"])
    assert max(seen) < 1.5 * w.numpy().nbytes + before


def test_an_optimizers_memory_goes_with_it() -> None:
    """At once, and not when the garbage collector next looks."""
    before = fastnn.memory_stats()["allocated"]
    given = parameters()
    optimizer = optim.Adam(given, 0.1)
    gc.disable()
    try:
        for step in range(3):
            give_gradients(given, step)
            optimizer.step()
        assert optimizer._again is not None
        del optimizer, given
        assert fastnn.memory_stats()["allocated"] == before
    finally:
        gc.enable()


def test_loading_a_state_lets_go_of_the_one_before() -> None:
    w = nn.Parameter(np.zeros(1 << 18, np.float32))
    optimizer = optim.Adam([w], 0.1)
    for _ in range(2):
        w.grad = fastnn.tensor(np.ones(1 << 18, np.float32))
        optimizer.step()
    w.grad = None
    before, state = fastnn.memory_stats()["allocated"], optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert fastnn.memory_stats()["allocated"] < before + (1 << 18)


def test_a_step_that_came_to_nothing_lets_go_of_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    w = nn.Parameter(np.zeros(1 << 18, np.float32))
    optimizer = optim.SGD([w], 0.1)
    w.grad = fastnn.tensor(np.ones(1 << 18, np.float32))
    optimizer.step()
    w.grad = None
    before = fastnn.memory_stats()["allocated"]
    w.grad = fastnn.tensor(np.ones(1 << 18, np.float32))
    monkeypatch.setattr(optimizer, "_launch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        optimizer.step()
    w.grad = None
    assert fastnn.memory_stats()["allocated"] < before + (1 << 18)


def test_rates_that_were_half_told_are_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted between two kernels' rates; then the rate is what it was."""
    results = []
    for interrupted in (True, False):
        given = [nn.Parameter(normal(i, *shape)) for i, shape in enumerate([(3, 4), (5, 2)])]
        optimizer = optim.Muon(given, 0.1)
        for step in range(3):
            give_gradients(given, step)
            optimizer.step()
        if interrupted:
            optimizer.param_groups[0]["lr"] = 0.5
            columns, calls = optimizer._columns, iter(range(9))

            def second_is_interrupted(*words: Any, columns: Any = columns, calls: Any = calls) -> Any:
                if next(calls) == 1:
                    raise KeyboardInterrupt
                return columns(*words)

            with monkeypatch.context() as patched:
                patched.setattr(optimizer, "_columns", second_is_interrupted)
                with pytest.raises(KeyboardInterrupt):
                    optimizer.step()
            optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
        results.append([p.numpy() for p in given])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_every_element_is_stepped_once_by_any_number_of_threads(count: int, threads: None) -> None:
    """Of parameters smaller than a share, of none, and larger than a block."""
    fastnn.set_num_threads(count)
    sizes = [1, 0, 15, 17, 100_003, 3, 64, 40_000, 0, 5]
    given = [nn.Parameter(normal(i, size)) for i, size in enumerate(sizes)]
    before = [p.numpy().copy() for p in given]
    optimizer = optim.SGD(given, 0.5)
    for p in given:
        p.grad = fastnn.tensor(np.ones(p.shape, np.float32))
    optimizer.step()
    for p, w in zip(given, before):
        np.testing.assert_array_equal(p.numpy(), w - np.float32(0.5))


def test_a_step_that_was_refused_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = parameters()
    optimizer = optim.Adam(given, 0.01)
    for step in range(3):
        give_gradients(given, step)
        optimizer.step()
    expected = copy.deepcopy((given, optimizer))
    give_gradients(given, 3)
    with monkeypatch.context() as patched:
        patched.setattr(optimizer, "_launch", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            optimizer.step()
    assert optimizer.steps == 3 and (optimizer._counts == 3).all()
    for theirs, step_of in ((given, optimizer), expected):
        give_gradients(theirs, 3)
        step_of.step()
    for a, b in zip(given, expected[0]):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_gradients_that_take_turns_are_looked_at_rarely() -> None:
    """Where each step has other gradients than the one before, nothing is kept in vain but at the first, the second, the fourth, ... step."""
    given = parameters()
    optimizer = optim.SGD(given, 0.1)
    kept = 0
    for step in range(32):
        give_gradients(given, step, absent=(step % 2,))
        before = optimizer._again
        optimizer.step()
        kept += optimizer._again is not None and optimizer._again is not before
    assert kept <= 6


def test_recordings_of_two_shapes_share_a_table_of_rates_and_see_what_the_other_wrote(without_memory_checks: None) -> None:
    results = []
    for captured in (True, False):
        w = nn.Parameter(np.ones(3, np.float32))
        optimizer = optim.SGD([w], 0.5)

        def step(x: fastnn.Tensor, w: nn.Parameter = w, optimizer: optim.SGD = optimizer) -> None:
            optimizer.zero_grad()
            fastnn.ops.sum(x * w).backward()
            optimizer.step()

        run = fastnn.capture(step) if captured else step
        for rate, samples in [(0.5, 1), (0.5, 2)] * 3 + [(0.5, 1), (0.25, 2), (0.5, 1), (0.25, 2)]:
            optimizer.param_groups[0]["lr"] = rate
            run(fastnn.tensor(np.ones((samples, 3), np.float32)))
        results.append(w.numpy())
    np.testing.assert_array_equal(*results)
