"""WhySlow: what it says of a training, each rule provoked; what it sees of the machine; that it changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import _C, data, nn, ops, optim, train
from fastnn.profiler import Cost, Peak, Profile
from fastnn.train import load, why_slow
from fastnn.train.advice import RULES, Facts, advice, other_programs, report
from fastnn.train.load import Load

pytestmark = pytest.mark.usefixtures("without_memory_checks")


# --- rules, on facts made up


def profile_of(*costs: Cost, seconds: float = 1.0) -> Profile:
    made = Profile()
    made.take(costs, seconds)
    return made


def cost(
    row: str, seconds: float, operations: float = 0, nbytes: float = 0, layer: str = "conv1", phase: str = "forward", calls: int = 10
) -> Cost:
    return Cost(row, "", layer, "Conv2d" if layer else "", phase, calls, seconds, seconds / calls, int(operations), int(nbytes))


USUAL = (  # 10 steps of 100 ms: products at 80 % of 100 GFLOP/s, passes at 80 % of 10 GB/s
    cost("conv2d_forward", 0.3, 24e9, 1e8),
    cost("conv2d_backward_weight", 0.4, 32e9, 1e8, phase="backward"),
    cost("relu_forward", 0.1, 0, 0.8e9, layer="relu"),
    cost("sgd_step", 0.1, 0, 0.8e9, layer="", phase="optimizer"),
)
IDLE = Load(seconds=1.0, own=2.0, busy=2.0, steal=0.0, waited=0.0, throttled=0.0)
GOOD = Facts(
    steps=10, samples=640, seconds=1.0, data=0.01, callbacks=0.01, profile=profile_of(*USUAL), replayed="replayed: 4 kernel calls", peak=Peak(100.0, 10.0),
    load=IDLE, threads=2, cpus=2, cores=2, isa="avx512", isas=("portable", "avx2", "avx512"), workers=1, channels={"conv1": (16, 32)},
)  # fmt: skip


def test_nothing_stands_out() -> None:
    assert advice(GOOD) == []
    assert (
        report(GOOD).splitlines()[-1].strip() == "nothing stands out: what is left is a smaller model, smaller images or a faster machine"
    )


@pytest.mark.parametrize(("cpus", "threads", "others", "left"), [
    (2, 2, 0.3, 1), (4, 4, 0.3, 3), (4, 3, 1.2, 2), (8, 8, 0.4, 7), (1, 1, 0.5, None), (2, 1, 1.6, None), (2, 2, 1.2, None),
])  # fmt: skip
def test_other_programs_are_left_what_they_use(cpus: int, threads: int, others: float, left: int | None) -> None:
    """The number of threads that was set already was advised."""
    load = replace(IDLE, own=threads, busy=threads + others)
    found = other_programs(replace(GOOD, load=load, threads=threads, cpus=cpus, cores=cpus))
    assert found is not None and f"used {others:.1f} of {cpus} CPU" in found[1]
    assert found[1].partition("stop them")[2] == (f", or leave them room: fastnn.set_num_threads({left}), --threads {left}" if left else "")


def with_costs(*costs: Cost, **more: Any) -> Facts:
    return replace(GOOD, profile=profile_of(*costs), **more)


PROVOKED: dict[str, tuple[Facts, str]] = {
    "data": (replace(GOOD, data=0.62, seconds=1.0), "62 % of the time is spent waiting for batches.*Loader\\(workers=...\\), now 1"),
    "augmentation": (
        with_costs(*USUAL, cost("gather_augment", 0.3, layer="", phase="data"), augment=("RandomCrop", "Flip")),
        "runs 30 % of the time.*now RandomCrop, Flip",
    ),
    "preprocessing": (
        with_costs(*USUAL, cost("matmul", 0.3, 1e9, layer="", phase="data"), normalize="ZCA"),
        r"the product of ZCA takes 30 % .*: data.ArrayDataset\(normalize\(images\), labels\) has it done once$",
    ),
    "few_threads": (replace(GOOD, threads=1), "1 thread computes, there are 2 cores.*set_num_threads\\(2\\)"),
    "many_threads": (replace(GOOD, threads=7), "7 threads share 2 CPUs.*set_num_threads\\(2\\)"),
    "other_programs": (replace(GOOD, load=replace(IDLE, own=1.1, busy=2.0)), "other programs used 0.9 of 2 CPUs.*set_num_threads\\(1\\)"),
    "stolen": (replace(GOOD, load=replace(IDLE, steal=0.4)), "gave 20 % of the CPUs to other machines"),
    "throttled": (replace(GOOD, load=replace(IDLE, throttled=0.25)), "stopped the threads for 0.25 of 1.00 s"),
    "eager": (replace(GOOD, replayed="eager: ReLU has a forward hook"), "not replayed \\(ReLU has a forward hook\\).*takes 8 %"),
    "checks": (replace(GOOD, checks=True, replayed="eager: checks"), "set_finite_checks\\(False\\)"),
    "small_products": (
        with_costs(cost("matmul", 0.9, 1e6), samples=10),
        "0.1 million operations on average, too few for 2 threads.*batch_size \\(now 1\\)",
    ),
    "overhead": (with_costs(*USUAL[:2]), "28 % of the time lies between replayed kernels.*batch_size \\(now 64\\)"),
    "optimizer": (
        with_costs(*USUAL[:2], cost("adam_step", 0.3, layer="", phase="optimizer")),
        "the update takes 30 %.*batch_size \\(now 64\\)",
    ),
    "odd_channels": (
        with_costs(cost("conv2d_forward", 0.5, 10e9), USUAL[3], cost("linear", 0.3, 0, 2.4e9, layer="fc"), channels={"conv1": (3, 20)}),
        "conv1 \\(3 -> 20 channels\\) takes 50 % at 20 % .*3 -> 32 would cost the same",
    ),
    "half_the_bytes": (
        with_costs(USUAL[0], cost("relu_forward", 0.5, 0, 4e9), bf16_isas=("avx512",)),
        '50 % of the time.*precision="bf16"',
    ),
    "tensor_cores": (replace(GOOD, device="cuda:0", peak=None), '70 % of the time.*set_precision\\("high"\\)'),
    "instruction_set": (replace(GOOD, isa="avx2"), "is avx2, this processor has avx512: unset FASTNN_ISA"),
    "direct": (replace(GOOD, winograd=False), "Winograd's algorithm is switched off"),
    "callbacks": (replace(GOOD, callbacks=0.14), "callbacks take 14 %"),
    "validation": (replace(GOOD, validation=0.4), "validation takes 40 % of an epoch"),
}


def test_every_rule_is_provoked() -> None:
    assert set(PROVOKED) == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize("rule", PROVOKED)
def test_each_rule_says_its_line_alone(rule: str) -> None:
    facts, line = PROVOKED[rule]
    (said,) = advice(facts)
    assert said.rule == rule and 0 <= said.share <= 1
    assert re.search(line, said.text) and f"  1. {said.text}" in report(facts).splitlines()


@pytest.mark.parametrize(
    ("loader", "line"),
    [
        ({"augment": ("Flip",), "mix": ("MixUp", "CutMix")}, "gathers, augments and mixes .*augment=.*, now Flip, or of .*mix=.*, now MixUp, CutMix$"),
        ({"mix": ("MixUp",)}, "gathers and mixes batches runs 30 %.*fewer of Loader\\(mix=...\\), now MixUp$"),
    ],
)  # fmt: skip
def test_mixed_pairs_are_known_to_it(loader: dict[str, Any], line: str) -> None:
    (said,) = advice(with_costs(*USUAL, cost("gather_augment", 0.3, layer="", phase="data"), **loader))
    assert said.rule == "augmentation" and re.search(line, said.text)


def test_a_product_behind_the_augmentation_is_none_of_it() -> None:
    (said,) = advice(with_costs(*USUAL, cost("matmul", 0.3, 1e9, layer="", phase="data"), normalize="PCA", augment=("Flip",)))
    assert said.rule == "preprocessing" and said.text.endswith("(data.Normalize, --preprocess channels)")


def test_what_is_not_seen_is_not_advised() -> None:
    """Too short a time for /proc/stat; no counters; a busy machine that has CPUs left; a quota below the cores."""
    crowded = replace(IDLE, own=1.1)
    short = replace(crowded, seconds=0.2)
    assert advice(replace(GOOD, load=short)) == [] and "0.20 s are too short to see other programs" in report(replace(GOOD, load=short))
    blind = Load(1.0, 2.0, None, None, None, None)
    assert advice(replace(GOOD, load=blind)) == [] and "cannot be seen here" in report(replace(GOOD, load=blind))
    assert advice(replace(GOOD, load=crowded, cpus=8, cores=8, quota=2)) == []
    assert advice(replace(GOOD, threads=2, cpus=8, cores=8, quota=2)) == []
    assert [a.rule for a in advice(replace(GOOD, threads=2, cpus=4, cores=4, quota=3))] == ["few_threads"]


def test_most_at_stake_comes_first() -> None:
    said = advice(replace(GOOD, callbacks=0.2, data=0.5))
    assert [a.rule for a in said] == ["data", "callbacks"]


def test_the_lines_of_the_report() -> None:
    lines = report(GOOD).splitlines()
    assert lines[0] == "why slow: 10 steps of 64 samples, 100.00 ms each, 640 samples a second"
    table = {line.split()[0]: line.split() for line in lines[1:7]}
    assert {name: (row[1], row[3]) for name, row in table.items()} == {
        "data": ("1.00", "1"), "forward": ("40.00", "40"), "backward": ("40.00", "40"), "optimizer": ("10.00", "10"), "between": ("8.00", "8"),
        "callbacks": ("1.00", "1"),
    }  # fmt: skip
    assert lines[7].strip().startswith("threads   2 (2 CPUs allowed, 2 physical cores, no quota); other programs used 0.0 CPUs")
    assert lines[8].strip() == "peak      products at 80 % of 100 GFLOP/s, the others at 80 % of a copy's 10 GB/s"
    assert (
        lines[9].strip()
        == "peak      most to win: conv1 (Conv2d), backward, conv2d_backward_weight: 40 % of the time at 80 % of what it could reach"
    )
    assert [line.strip() for line in lines[10:12]] == [
        "layer     conv1 (Conv2d): 70 % of the time at 80 % of what it could reach",
        "layer     relu (Conv2d): 10 % of the time at 80 % of what it could reach",
    ]
    assert len(lines) == 13


def test_the_slowest_layers_have_a_line_each() -> None:
    costs = [cost("conv2d_forward", 0.01 * i, 1e8 * i, layer=f"conv{i}") for i in range(1, 9)]
    lines = [line.split(maxsplit=1) for line in report(with_costs(*costs)).splitlines()]
    assert [text for first, text in lines if first == "layer"] == [
        *(f"conv{i} (Conv2d): {i} % of the time at 10 % of what it could reach" for i in (8, 7, 6, 5, 4)),
        "3 other layers: 6 %",
    ]
    unknown = report(with_costs(*costs, peak=None))
    assert "conv8 (Conv2d): 8 % of the time\n" in unknown


# --- what Linux tells


def test_busy_and_stolen_time_of_the_cpus_that_are_ours() -> None:
    text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 20 30 1000 500 1 2 40 7 7\ncpu1 10 0 0 0 0 0 0 5 0 0\ncpu2 999 0 0 0 0 0 0 0 0 0\nintr 1\n"
    tick = load._TICK
    assert load._stat(text, {0, 1}) == (pytest.approx(163 / tick), pytest.approx(45 / tick))
    assert load._stat("", {0}) == (None, None)


NO_COUNTS = ["letters", "-5", "1.5", "nan", "9" * 5000, "²", "\0", "\ufffd\ufffd"]


@pytest.mark.parametrize("word", NO_COUNTS, ids=lambda word: repr(word[:9]))
def test_counters_that_are_none(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known then; a CPU that is told of as it ought to be still counts."""
    good = "cpu1 10 0 0 0 0 0 0 5 0 0\n"
    assert load._stat(f"cpu0 {word} 20 30 1000 x 1 2 40 7 7\n{good}", {0, 1}) == load._stat(good, {1})
    assert load._stat(f"cpu{word} 1 1 1 1 1 1 1 1\ncpu{word}\n", {0}) == (None, None)
    monkeypatch.setattr(load, "_read", lambda path: f"7 {word} 1" if path.endswith("schedstat") else "")
    assert load._waited() is None


@pytest.mark.parametrize(
    ("groups", "files", "seconds"),
    [
        ("0::/\n", {"cpu.stat": "nr_periods 3\nnr_throttled 1\nthrottled_usec 250000\n"}, 0.25),
        ("0::/a/b\n", {"a/b/cpu.stat": "throttled_usec 250000\n", "a/cpu.stat": "throttled_usec 500000\n"}, 0.75),
        ("0::/path/of/the/host\n", {"cpu.stat": "throttled_usec 250000\n"}, 0.25),
        ("4:cpu,cpuacct:/job\n0::/\n", {"cpu/job/cpu.stat": "nr_throttled 9\nthrottled_time 250000000\n"}, 0.25),
        ("4:cpuacct,cpu:/\n", {"cpu,cpuacct/cpu.stat": "throttled_time 0\n"}, 0.0),
        ("4:cpuset:/job\n", {"cpu/job/cpu.stat": "throttled_time 250000000\n"}, None),
        ("", {}, None),
        *(("0::/\n", {"cpu.stat": f"nr_periods 3\nthrottled_usec {word}\n{word}\n"}, None) for word in ("", "1 2", *NO_COUNTS)),
        *((f"{word}\n0:{word}\n\n:\n0::{word}\n0::/\n", {"cpu.stat": "throttled_usec 250000\n"}, 0.25) for word in NO_COUNTS),
    ],
)
def test_throttled_time(groups: str, files: dict[str, str], seconds: float | None, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert load._throttled(str(tmp_path)) == seconds


def test_counters_that_are_no_text(tmp_path: Path) -> None:
    for name in ("proc/self/cgroup", "sys/fs/cgroup/cpu.stat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(range(256)) * 20)
    assert load._throttled(str(tmp_path)) is None


def test_loads_subtract_and_add() -> None:
    a, b = Load(10.0, 4.0, 9.0, 1.0, None, 0.0), Load(12.0, 5.0, 12.0, 1.5, 3.0, 0.5)
    assert b - a == Load(2.0, 1.0, 3.0, 0.5, None, 0.5) and (b - a).others == 1.0
    assert (b - a) + (b - a) == Load(4.0, 2.0, 6.0, 1.0, None, 1.0)


def test_a_look_at_this_machine() -> None:
    first = load.look()
    second = load.look()
    assert (second - first).seconds >= 0 and (second - first).own >= 0


# --- live: a training, on a clock that only the test moves


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(train.WhySlow, "_clock", staticmethod(made))
    return made


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = _C.get_num_threads()
    monkeypatch.setattr(_C, "thread_limits", lambda: (2, 2, 0))
    monkeypatch.setattr(why_slow, "peak", lambda: Peak(100.0, 10.0))
    _C.set_num_threads(2)
    yield
    _C.set_num_threads(threads)


class Takes(train.Callback):
    """So long for each batch, for each step, and from its end to the next one's batch."""

    def __init__(self, clock: Clock, data: float = 0.001, step: float = 1.0, between: float = 0.001) -> None:
        self.clock, self.data, self.step, self.between = clock, data, step, between

    def working(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """As a metric: within the step."""
        self.clock.now += self.step
        return np.zeros(len(labels))

    def around_batches(self, trainer: train.Trainer, loader: data.Loader, batches: Any) -> Any:
        for batch in batches:
            self.clock.now += self.data
            yield batch

    def after_step(self, trainer: train.Trainer, loss: float) -> None:
        self.clock.now += self.between


def model() -> nn.Sequential:
    fastnn.seed(0)
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 10))


def fit(
    clock: Clock, net: nn.Module | None = None, batch_size: int = 32, samples: int = 128, epochs: int = 2, steps: int = 4, **takes: float
) -> train.WhySlow:
    net = net or model()
    slow = Takes(clock, **takes)
    rng = np.random.default_rng(0)
    sets = rng.integers(0, 256, (samples, 1, 8, 8), np.uint8), rng.integers(0, 10, samples)
    trainer = train.Trainer(net, optim.SGD(net.parameters(), 0.01), metrics=[slow.working])
    why = train.WhySlow(steps, warm_up=1)
    trainer.fit(sets, epochs, batch_size=batch_size, callbacks=[slow, why], progress=False)
    assert why.facts is not None
    return why


def rules_of(why: train.WhySlow) -> set[str]:
    assert why.facts is not None
    return {a.rule for a in advice(replace(why.facts, load=None))}


def test_a_slow_data_set_is_named(clock: Clock) -> None:
    why = fit(clock, data=0.5)
    assert why.facts is not None and why.facts.data == pytest.approx(4 * 0.5) and why.facts.samples == 4 * 32
    assert "data" in rules_of(why) and "callbacks" not in rules_of(why)


def test_slow_callbacks_are_named(clock: Clock) -> None:
    """The last step's callbacks come behind what is counted, and so do those before the first."""
    why = fit(clock, samples=1024, between=0.5)
    assert why.facts is not None and why.facts.callbacks == pytest.approx(3 * 0.5)
    assert "callbacks" in rules_of(why) and "data" not in rules_of(why)


def test_one_thread_on_two_cores(clock: Clock) -> None:
    fastnn.set_num_threads(1)
    assert "few_threads" in rules_of(fit(clock))
    fastnn.set_num_threads(2)
    assert "few_threads" not in rules_of(fit(clock))


def test_a_batch_of_one(clock: Clock) -> None:
    assert "small_products" in rules_of(fit(clock, batch_size=1, samples=12))
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 512))
    assert "small_products" not in rules_of(fit(clock, wide, batch_size=32))


def test_a_hook_keeps_steps_from_being_replayed(clock: Clock) -> None:
    net = model()
    assert "eager" not in rules_of(fit(clock, net))
    handle = net[1].register_forward_hook(lambda *_: None)
    why = fit(clock, net)
    handle.remove()
    assert "eager" in rules_of(why) and "ReLU has a forward hook" in why.report()


def test_layers_are_named(clock: Clock) -> None:
    why = fit(clock)
    assert why.profile is not None and set(why.profile.layers()) >= {"0", "3", "CrossEntropyLoss"}
    assert why.facts is not None and why.facts.channels == {"0": (1, 16), "3": (1024, 10)}
    assert all(c.calls == 4 for c in why.profile.costs if c.row == "sgd_step")


def test_steps_of_several_epochs(clock: Clock) -> None:
    """Two steps an epoch, one to warm up: 1 + 2 + 1; what lies between epochs is not a step's."""
    why = fit(clock, samples=64, epochs=4)
    assert why.facts is not None and why.facts.steps == 4 and why.facts.samples == 4 * 32
    assert why.profile is not None and why.profile["sgd_step"]["calls"] == 4


def test_a_fit_that_ends_before(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(clock, samples=64, epochs=1, steps=20).facts.steps == 1  # type: ignore[union-attr]
    why = train.WhySlow()
    net = model()
    train.Trainer(net, optim.SGD(net.parameters(), 0.1)).fit((np.zeros((4, 1, 8, 8)), np.zeros(4, int)), 1, callbacks=[why], progress=False)
    assert why.facts is None and "the fit had 1 steps; the first 3 are not counted" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="nothing to report before 4 steps"):
        why.report()


def test_validation_is_known_after_an_epoch(clock: Clock) -> None:
    class Evaluates(train.Callback):
        def before_evaluate(self, trainer: train.Trainer) -> None:
            clock.now += 1000.0

    net, rng = model(), np.random.default_rng(0)
    sets = rng.integers(0, 256, (64, 1, 8, 8), np.uint8), rng.integers(0, 10, 64)
    why = train.WhySlow(2, warm_up=0)
    train.Trainer(net, optim.SGD(net.parameters(), 0.1)).fit(
        sets, 1, sets, batch_size=16, callbacks=[Takes(clock), Evaluates(), why], progress=False
    )
    assert why.facts is not None and why.facts.validation == 1.0 and "validation takes 100 % of an epoch" in why.report()


@pytest.mark.parametrize("replay", ["auto", False])
def test_the_same_bits(replay: bool | str) -> None:
    states: list[bytes] = []
    for callbacks in ([], [train.WhySlow(3)]):
        net, rng = model(), np.random.default_rng(0)
        sets = rng.integers(0, 256, (128, 1, 8, 8), np.uint8), rng.integers(0, 10, 128)
        trainer = train.Trainer(net, optim.Adam(net.parameters(), 0.01))
        trainer.fit(sets, 2, batch_size=16, callbacks=callbacks, progress=False, replay=replay)
        states.append(b"".join(w.tobytes() for w in net.state_dict().values()))
        assert trainer.replayed.startswith("replayed" if replay == "auto" else "eager")
    assert states[0] == states[1]


def test_the_profiler_is_off_after_an_error() -> None:
    class Fails(train.Callback):
        def after_step(self, trainer: train.Trainer, loss: float) -> None:
            if trainer.batch == 3:
                raise KeyError("of the user")

    net, rng = model(), np.random.default_rng(0)
    sets = rng.integers(0, 256, (128, 1, 8, 8), np.uint8), rng.integers(0, 10, 128)
    with pytest.raises(KeyError):
        train.Trainer(net, optim.SGD(net.parameters(), 0.1)).fit(
            sets, 1, batch_size=16, callbacks=[train.WhySlow(warm_up=0), Fails()], progress=False
        )
    ops.exp(fastnn.tensor(np.ones(3, np.float32)))
    assert _C.profile() and "exp" not in {entry["row"] for entry in _C.profile()}


def test_arguments() -> None:
    with pytest.raises(ValueError, match="WhySlow: steps"):
        train.WhySlow(0)
    with pytest.raises(ValueError, match="WhySlow: warm_up"):
        train.WhySlow(warm_up=-1)
