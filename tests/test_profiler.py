"""fastnn.profile: calls, operations and bytes by layer and phase, eagerly and replayed; fastnn.peak."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter

import numpy as np
import pytest

import fastnn
from fastnn import _C, nn, ops, optim, profiler, train
from fastnn.profiler import Cost, Peak, Profile

Key = tuple[str, str, str]


pytestmark = pytest.mark.usefixtures("without_memory_checks")


class Training:
    def __init__(self) -> None:
        fastnn.seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Flatten(), nn.Linear(8 * 6 * 5, 10),
        )  # fmt: skip
        self.optimizer, self.loss = optim.SGD(self.model.parameters(), 0.1, momentum=0.9), nn.CrossEntropyLoss()
        rng = np.random.default_rng(0)
        self.batch = fastnn.tensor(rng.standard_normal((4, 3, 6, 5))), fastnn.tensor(rng.integers(0, 10, 4))

    def step(self, x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), labels)
        loss.backward()
        self.optimizer.step()
        return loss


EXPECTED: set[Key] = {  # layer, phase, row
    ("0", "forward", "conv2d_forward"),
    ("0", "backward", "conv2d_backward_weight"),
    ("0", "backward", "channel_sum"),
    ("0", "backward", "relu_backward"),
    ("2", "forward", "conv2d_batchnorm_forward"),
    ("2", "backward", "batchnorm_backward"),
    ("2", "backward", "conv2d_backward_weight"),
    ("2", "backward", "conv2d_backward_input"),
    ("6", "forward", "matmul"),
    ("6", "backward", "matmul"),
    ("6", "backward", "channel_sum"),
    ("CrossEntropyLoss", "forward", "cross_entropy_forward"),
    ("CrossEntropyLoss", "backward", "cross_entropy_backward"),
    ("", "optimizer", "sgd_step"),
}


def calls_of(p: Profile) -> Counter[Key]:
    found: Counter[Key] = Counter()
    for c in p.costs:
        found[c.layer, c.phase, c.row] += c.calls
    return found


def one(p: Profile, layer: str, row: str) -> Cost:
    (cost,) = [c for c in p.costs if (c.layer, c.row) == (layer, row)]
    return cost


@pytest.mark.parametrize("replayed", [False, True])
def test_every_call_has_its_layer_and_its_phase(replayed: bool) -> None:
    t = Training()
    step = fastnn.capture(t.step) if replayed else t.step
    step(*t.batch)
    with fastnn.profile() as p:
        for _ in range(3):
            step(*t.batch)
    found = calls_of(p)
    moved = {key for key in found if key[2] in ("copy", "copy_backward")}  # Flatten's
    assert set(found) - moved == EXPECTED
    assert found["0", "forward", "conv2d_forward"] == 3 and found["6", "backward", "matmul"] == 6
    if replayed:
        assert step._takes[0].runs == 4  # type: ignore[attr-defined]


def test_eager_and_replayed_steps_cost_the_same_work() -> None:
    t = Training()
    captured = fastnn.capture(t.step)
    profiles = []
    for step in (t.step, captured):
        step(*t.batch)
        with fastnn.profile() as p:
            step(*t.batch)
        profiles.append({(c.layer, c.phase, c.row, c.algorithm, c.calls, c.operations, c.bytes) for c in p.costs})
    assert profiles[0] == profiles[1]


def test_operations_and_bytes_of_the_rows() -> None:
    t = Training()
    t.step(*t.batch)
    with fastnn.profile() as p:
        t.step(*t.batch)
    pixels = 4 * 6 * 5
    first, second = one(p, "0", "conv2d_forward"), one(p, "2", "conv2d_backward_input")
    assert (first.kind, first.calls, first.operations) == ("Conv2d", 1, 2 * pixels * 16 * 3 * 9)
    assert first.bytes == 4 * (pixels * 3 + 16 * 3 * 9 + 16 + pixels * 16)
    assert second.operations == 2 * pixels * 8 * 16 * 9
    assert one(p, "2", "conv2d_batchnorm_forward").operations == second.operations
    assert one(p, "6", "channel_sum").operations == 0
    products = [c for c in p.costs if c.row == "matmul"]
    assert sum(c.operations for c in products) == 3 * 2 * 4 * 240 * 10
    assert all(0 < c.least <= c.seconds for c in p.costs)


def test_groups_divide_the_operations() -> None:
    layer, x = nn.Conv2d(8, 16, 3, groups=4), fastnn.tensor(np.ones((2, 8, 5, 5)))
    with fastnn.profile() as p:
        layer(x)
    assert p.costs[0].operations == 2 * (2 * 3 * 3) * 16 * (8 // 4) * 9


def test_by_kernel_as_a_dictionary() -> None:
    x = fastnn.tensor(np.ones(5, np.float32))
    with fastnn.profile() as p:
        ops.relu(x), ops.relu(x), x + x
    assert {row: (own["calls"], own["bytes"]) for row, own in p.items()} == {"relu_forward": (2, 80), "add": (1, 60)}
    assert sum(own["seconds"] for own in p.values()) <= p.seconds
    assert p.phases()["other"] == pytest.approx(sum(own["seconds"] for own in p.values()))


def test_names_are_paths_below_what_was_called() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            return self.inner(x) + x  # type: ignore[no-any-return]

    model = nn.Sequential(Block(), Block())
    with fastnn.profile() as p:
        model(fastnn.tensor(np.ones((2, 3), np.float32), requires_grad=True)).sum().backward()
    found = calls_of(p)
    for block in ("0", "1"):
        assert found[f"{block}.inner", "forward", "matmul"] == 1 and found[f"{block}.inner", "backward", "matmul"] == 2
        assert found[block, "forward", "add"] == 1
    assert {c.kind for c in p.costs if c.layer == "1"} == {"Block"}
    assert list(p.layers()) == sorted(p.layers(), key=lambda name: -sum(c.seconds for c in p.layers()[name]))


def test_a_step_that_raised_leaves_no_layer_behind() -> None:
    class Raises(nn.Module):
        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            raise KeyError("of the user")

    x, model = fastnn.tensor(np.ones((2, 3), np.float32)), nn.Sequential(nn.Linear(3, 3), Raises())
    with fastnn.profile() as p:
        with pytest.raises(KeyError):
            model(x)
        x + x
    assert calls_of(p) == {("0", "forward", "matmul"): 1, ("", "other", "add"): 1}


def test_off_again_and_each_profile_begins_anew() -> None:
    x = fastnn.tensor(np.ones(5, np.float32))
    with fastnn.profile() as p:
        ops.relu(x)
    ops.relu(x)
    with fastnn.profile() as q:
        pass
    assert p["relu_forward"]["calls"] == 1 and not q and not q.costs


def test_of_blocks_within_each_other_each_has_all() -> None:
    x = fastnn.tensor(np.ones(5, np.float32))
    with fastnn.profile() as outer:
        ops.relu(x)
        with fastnn.profile() as inner:
            ops.exp(x)
        ops.relu(x)
        with fastnn.profile() as other:
            ops.relu(x)
    ops.relu(x)
    assert {row: cost["calls"] for row, cost in outer.items()} == {"relu_forward": 3, "exp": 1}
    assert list(inner) == ["exp"] and list(other) == ["relu_forward"] and other["relu_forward"]["calls"] == 1
    first, second = (contextlib.ExitStack() for _ in range(2))
    a = first.enter_context(fastnn.profile())
    ops.relu(x)
    b = second.enter_context(fastnn.profile())
    ops.exp(x)
    first.close()
    ops.relu(x)
    second.close()
    assert sorted(a) == sorted(b) == ["exp", "relu_forward"] and not profiler._open


def test_a_fit_that_is_profiled_may_profile_its_steps() -> None:
    """WhySlow has a block of its own; so have L-BFGS and Newton."""
    images, labels = np.random.default_rng(0).integers(0, 256, (64, 1, 4, 4), np.uint8), np.arange(64) % 3
    seen = []
    for callbacks in ([], [train.WhySlow(3, warm_up=1)]):
        fastnn.seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        with fastnn.profile() as p:
            train.Trainer(net, optim.SGD(net.parameters(), 0.1)).fit((images, labels), 2, batch_size=8, callbacks=callbacks, progress=False)
        seen.append({row: cost["calls"] for row, cost in p.items()})
    assert seen[0] == seen[1] and seen[0]["sgd_step"] == 16
    assert callbacks[0].profile is not None and callbacks[0].profile["sgd_step"]["calls"] == 3


def test_kernels_of_other_threads_are_seen() -> None:
    x = fastnn.tensor(np.ones(5, np.float32))
    with fastnn.profile() as p:
        thread = threading.Thread(target=lambda: ops.relu(x))
        thread.start()
        thread.join()
    assert p["relu_forward"]["calls"] == 1


def test_the_table() -> None:
    """One line a cost, the rest summed up; a share of the peak where one is given."""
    p = Profile()
    costs = [
        Cost("conv2d_forward", "winograd", "layer1.conv", "Conv2d", "forward", 2, 0.5, 0.2, 10**11, 10**9),
        Cost("relu_forward", "", "relu", "ReLU", "forward", 2, 0.25, 0.1, 0, 10**9),
        Cost("sgd_step", "", "", "", "optimizer", 1, 0.125, 0.125, 0, 5 * 10**8),
        Cost("gather_normalize", "", "", "", "data", 1, 0.5, 0.5, 0, 1),
    ]
    p.take(costs, 1.0)
    lines = p.table(Peak(400.0, 16.0)).splitlines()
    assert lines[0].split() == ["layer", "phase", "kernel", "calls", "ms", "share", "GFLOP/s", "GB/s", "of", "peak"]
    first = "layer1.conv forward conv2d_forward (winograd) 2 500.00 50.0 % 200.0 2.0 50 %"
    assert lines[1].split() == first.split()
    assert lines[3].split() == "relu forward relu_forward 2 250.00 25.0 % - 4.0 25 %".split()
    assert lines[-1] == "1000.00 ms in all: data 500.00, forward 750.00, optimizer 125.00, outside of kernels 125.00"
    assert p.table(rows=1).splitlines()[2] == "and 3 more, 875.00 ms"
    assert "of peak" not in p.table()


def test_a_cost_against_the_roofline() -> None:
    peak = Peak(gflops=100.0, copy_gbs=10.0)
    bound_by_memory = Cost("relu_forward", "", "", "", "other", 1, 0.2, 0.2, 0, 10**9)
    bound_by_products = Cost("matmul", "", "", "", "other", 1, 0.2, 0.2, 10**10, 10**8)
    assert bound_by_memory.share(peak) == pytest.approx(0.5) and bound_by_products.share(peak) == pytest.approx(0.5)


def test_the_peak_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core measures something on every instruction set; a second look costs nothing."""
    isa = _C.isa()
    try:
        for name in _C.isas():
            _C.set_isa(name)
            gflops, copy = _C.measure_peak()
            assert 0.1 < gflops < 1e5 and 0.01 < copy < 1e4
    finally:
        _C.set_isa(isa)
    counted: list[int] = []
    monkeypatch.setattr(_C, "measure_peak", lambda: counted.append(1) or (100.0, 10.0))
    profiler._peak.cache_clear()
    try:
        assert fastnn.peak() == fastnn.peak() == Peak(100.0, 10.0) and counted == [1]
        assert "of peak" in str(Profile())
    finally:
        profiler._peak.cache_clear()


def test_a_call_while_a_layer_gets_its_number() -> None:
    """Of a signal's handler, say: neither waits for the other."""
    model, other, x = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.ReLU()), fastnn.tensor(np.ones((2, 4)))

    def see(frame: object, event: str, what: object) -> None:
        sys.setprofile(None)
        other(x)
        sys.setprofile(see)

    with profiler.profile() as p:
        sys.setprofile(see)
        model(x)
        sys.setprofile(None)
    assert {"Linear", "ReLU"} <= {cost.kind for cost in p.costs}
