"""Plans of memory, and recordings that compute nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from captured_steps import Training
from conftest import SEED

import fastnn
from fastnn import _C

pytestmark = pytest.mark.usefixtures("without_memory_checks")


def test_places_do_not_overlap_while_both_are_in_use() -> None:
    rng = np.random.default_rng(SEED)
    for _ in range(50):
        tenants = []
        for _ in range(int(rng.integers(1, 60))):
            first = int(rng.integers(0, 30))
            tenants.append((int(rng.integers(0, 5000)), first, first + int(rng.integers(0, 12))))
        for alignment in (64, 256):
            total, offsets = _C.place_all(tenants, alignment)
            ends = [offset + max(size, 1) for offset, (size, _, _) in zip(offsets, tenants)]
            for i, (_, first, last) in enumerate(tenants):
                assert offsets[i] % alignment == 0 and ends[i] <= total
                for j, (_, begin, end) in enumerate(tenants[:i]):
                    assert ends[i] <= offsets[j] or ends[j] <= offsets[i] or last < begin or end < first
            alive = max(sum(-(-max(s, 1) // alignment) * alignment for s, a, b in tenants if a <= t <= b) for t in range(45))
            assert alive <= total <= 1.5 * alive


def test_the_arena_is_known_before_the_first_replay_and_smaller_than_eager_memory() -> None:
    t, eager = Training("resnet20", batch=8), Training("resnet20", batch=8)
    captured = fastnn.capture(t.step)
    assert captured.memory == {} and "not recorded yet" in repr(captured)
    known: list[tuple[dict[str, int], bool]] = []
    before = [a.tobytes() for a in t.model.state_dict().values()]
    captured.announce = lambda: known.append((captured.memory, [a.tobytes() for a in t.model.state_dict().values()] == before))
    device = t.data[0][0].device
    eager.run(eager.step, 1)
    eager.optimizer.zero_grad()
    base = _C.memory_stats(device)["allocated"]
    _C.reset_peak_memory(device)
    eager.run(eager.step, 1)
    peak = _C.memory_stats(device)["peak"] - base
    t.run(captured, 2)
    memory = captured.memory
    assert known == [(memory, True)]
    assert memory["alive"] <= memory["arena"] <= 1.1 * memory["alive"] and memory["arena"] < peak
    assert f"{memory['arena'] / 2**20:.1f} MiB" in repr(captured)


def test_replays_allocate_nothing_but_results() -> None:
    t = Training("resnet20")
    captured = fastnn.capture(t.step)
    t.run(captured, 4)
    device = t.data[0][0].device
    before = _C.memory_stats(device)
    results = [captured(*t.data[0]) for _ in range(5)]
    after = _C.memory_stats(device)
    assert after["allocations"] - before["allocations"] == 2 * len(results)
    assert after["allocated"] - before["allocated"] < 2**14


def test_a_look_between_forward_and_backward() -> None:
    t, again, seen = Training(), Training(), list[float]()

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> tuple[fastnn.Tensor, fastnn.Tensor]:
        t.optimizer.zero_grad()
        logits = t.model(x)
        loss = t.loss(logits, labels)
        fastnn.recording.look(loss, at)
        loss.backward()
        t.optimizer.step()
        return loss, logits

    def at(loss: fastnn.Tensor) -> None:
        seen.append(loss.item())
        if len(seen) == 6:
            raise ZeroDivisionError("of the look")

    captured = fastnn.capture(step)
    assert t.run(captured, 5) == again.run(again.step, 5)
    weights, steps = t.model.state_dict(), t.optimizer.state_dict()
    with pytest.raises(ZeroDivisionError):
        t.call(captured, *t.data[0])
    assert t.optimizer.steps == 5 and all(np.array_equal(p, weights[name]) for name, p in t.model.state_dict().items() if "weight" in name)
    assert all(np.array_equal(a, steps[name]) for name, a in t.optimizer.state_dict().items())


@pytest.mark.parametrize(("dtype", "seen_of"), [("float32", [1, 3]), ("float64", [1, 3]), ("bfloat16", [0, 1, 2, 3])])
def test_a_look_at_what_is_not_finite(dtype: str, seen_of: list[int]) -> None:
    """The host is called where the number is NaN or infinite, and where the type is none that the core reads."""
    seen: list[float] = []

    @fastnn.capture
    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        sums = fastnn.ops.sum(x)
        narrow = fastnn.ops.cast(sums, dtype) if dtype == "bfloat16" else sums
        fastnn.recording.look(narrow, lambda value: seen.append(value.item()), unless_finite=True)
        return sums * 2.0

    values = [3.0, np.inf, -2.0, np.nan]
    wide = "float64" if dtype == "float64" else "float32"
    results = [step(fastnn.tensor(np.array([v, 0.0]), wide)).item() for v in values]
    assert np.array_equal(results, np.multiply(values, 2), equal_nan=True)
    assert np.array_equal(seen, [values[i] for i in seen_of], equal_nan=True)


def test_recording_computes_nothing_and_takes_no_memory() -> None:
    """The first call's peak is the arena and what outlives it: the optimizer's state."""
    t = Training("resnet20", "adam", batch=8)
    captured = fastnn.capture(t.step)
    device = t.data[0][0].device
    base = _C.memory_stats(device)["allocated"]
    _C.reset_peak_memory(device)
    loss, logits = t.call(captured, *t.data[0])
    parameters = sum(p.size for p in t.model.parameters()) * 4
    assert _C.memory_stats(device)["peak"] - base < captured.memory["arena"] * 1.125 + 2.3 * parameters


def test_a_recording_keeps_no_argument() -> None:
    """Nor under another shape."""
    w, x = (fastnn.tensor(np.ones(shape, np.float32)) for shape in ((1 << 16, 2), (4, 2, 1 << 15)))
    captured = fastnn.capture(lambda x: fastnn.ops.flatten(x, 1) @ w)
    base = _C.memory_stats()["allocated"]
    y = captured(x)
    assert _C.memory_stats()["allocated"] - base < captured.memory["arena"] + y.size * 4 + x.size * 4 // 2


def test_arguments_are_read_where_they_lie() -> None:
    """Wherever that is, with the bits of the eager step; what is returned, and a look, see the same values. No memory is planned for them."""
    rng, seen, n = np.random.default_rng(SEED), list[float](), 3 * 1031

    def step(x: fastnn.Tensor, row: fastnn.Tensor) -> tuple[fastnn.Tensor, fastnn.Tensor]:
        fastnn.recording.look(x, lambda x: seen.append(float(x.numpy()[0, 0])))
        return (fastnn.ops.softmax(x, -1) * row).sum(), x

    captured = fastnn.capture(step)
    for offset in (0, 1, 5, 0):
        flat = rng.standard_normal(n + 8, np.float32)
        x = fastnn.from_dlpack(flat[offset : offset + n].reshape(3, -1))
        row = fastnn.tensor(rng.standard_normal(n // 3, np.float32))
        fresh, own = captured(x, row)
        assert np.array_equal(fresh.numpy(), step(x, row)[0].numpy()) and np.array_equal(own.numpy(), x.numpy())
        flat[:] = 0
        assert own.numpy().all(), "a copy"
    assert len(seen) == 8 and seen[::2] == seen[1::2]
    assert 2 * n * 4 <= captured.memory["arena"] < 2.5 * n * 4, "two results of the size of x"


def test_an_argument_lives_until_the_step_is_done() -> None:
    x = fastnn.tensor(np.zeros(1000, np.float32))
    core = _C.Recording([x._array])
    core.start()
    try:
        y = x + 1.0
    finally:
        core.stop()
    replay = _C.Replay(core, [y._array], [], _C.ReplayMemory())
    before = _C.memory_stats()["allocated"]
    begun = replay.begin([fastnn.tensor(np.full(1000, 3, np.float32))._array])
    others = [fastnn.tensor(np.full(1000, 9, np.float32)) for _ in range(5)]  # where it lay, if it went
    assert begun is not None and replay.run() == -1 and np.array_equal(begun[0].numpy(), np.full(1000, 4, np.float32))
    del others, begun
    assert _C.memory_stats()["allocated"] - before < replay.arena + 4000, "and no longer"


def test_a_step_that_is_broken_off_keeps_no_argument() -> None:
    def at(value: fastnn.Tensor) -> None:
        if value.item() > 100:
            raise ZeroDivisionError("of the look")

    @fastnn.capture
    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        sums = x.sum()
        fastnn.recording.look(sums, at)
        return sums * 2.0

    assert step(fastnn.tensor(np.zeros(1 << 16, np.float32))).item() == 0
    before = _C.memory_stats()["allocated"]
    with pytest.raises(ZeroDivisionError):
        step(fastnn.tensor(np.ones(1 << 16, np.float32)))
    assert _C.memory_stats()["allocated"] - before < 1 << 16
    assert step(fastnn.tensor(np.zeros(1 << 16, np.float32))).item() == 0


def test_what_a_step_left_lying_about_has_no_values() -> None:
    kept: list[fastnn.Tensor] = []

    def step(x: fastnn.Tensor) -> fastnn.Tensor:
        kept.append(x * 2.0)
        return kept[-1] + 1.0

    captured = fastnn.capture(step)
    assert captured(fastnn.tensor([1.0])).item() == 3.0
    uses: list[Callable[[], object]] = [
        kept[0].numpy, kept[0].item, lambda: kept[0] + 1.0, lambda: kept[0].__dlpack__(), lambda: kept[0]._array.to("cpu"),
        lambda: kept[0].copy_from(np.zeros(1)), lambda: kept[0]._array.write(np.zeros(1, np.float32)),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(_C.CaptureError, match="was made while a captured step was recorded.*let the step return it"):
            use()
