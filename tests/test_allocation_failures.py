"""The k-th allocation finds no memory, for every k: one exception that says how much, nothing leaked, and afterwards the same bits."""

from __future__ import annotations

import gc
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pytest
from captured_steps import DEVICE, Training

import fastnn
from fastnn import _C, nn, optim
from fastnn.train import Trainer, checkpoint

pytestmark = pytest.mark.usefixtures("without_memory_checks")

S = TypeVar("S")
HERE = Path(__file__).resolve().parent


def allocated(at_most: float = math.inf) -> int:
    """Bytes in arrays; where that is more, without those that only cycles of Python hold."""
    now = fastnn.memory_stats(DEVICE)["allocated"]
    if now > at_most:
        gc.collect()
        now = fastnn.memory_stats(DEVICE)["allocated"]
    return now


def refused(act: Callable[[], object], k: int) -> bool:
    """Whether act's k-th allocation was asked for (and failed, and its exception said what it should)."""
    _C.fail_allocation(k)
    try:
        act()
    except fastnn.OutOfMemoryError as error:
        told: Any = error
        assert told.requested >= 0 and told.free > 0 and told.held >= 0
        assert f"{told.requested} bytes requested, {told.free} free, {told.held} held by live arrays" in str(error)
        assert _C.fail_allocation(0) == 0
        return True
    finally:
        left = _C.fail_allocation(0)
    assert left > 0, "an allocation failed and nobody heard of it"
    return False


class Attack(Generic[S]):
    """make: something in a known state; act: what is to survive; state: all that it changes; recover: what a user does before the next try."""

    def __init__(
        self, make: Callable[[], S], act: Callable[[S], object], state: Callable[[S], Any], recover: Callable[[S], object]
    ) -> None:
        self.make, self.act, self.state, self.recover = make, act, state, recover

    def run(self) -> int:
        """How many allocations there were, each of which failed once."""
        gc.collect()
        before = allocated()
        subject = self.make()
        self.act(subject)
        expected = self.state(subject)
        gc.collect()
        grown = allocated() - before
        for k in itertools.count(1):
            del subject
            before = allocated(before)
            subject = self.make()
            made = allocated()
            most = grown - (made - before)  # of what stays: gradients, the optimizer's arrays
            failed = refused(lambda: self.act(subject), k)  # noqa: B023 (called at once)
            if not failed:
                assert self.state(subject) == expected
                return k - 1
            self.recover(subject)
            assert allocated(made + most) - made <= most, f"allocation {k} failed, and memory stays behind"
            self.act(subject)
            assert self.state(subject) == expected, f"after a failure of allocation {k}"
            assert allocated(before + grown) - before <= grown, f"after a failure of allocation {k}, more is held"
        raise AssertionError


def training() -> Training:
    """Convolution, batch normalisation, dropout, Adam."""
    return Training("lenet", "adam")


def begun() -> Training:
    made = training()
    made.run(made.step, 1)
    return made


def parameters(t: Training) -> list[bytes]:
    return [p.numpy().tobytes() for p in t.model.parameters()]


@pytest.mark.parametrize("make", [training, begun], ids=["the first step", "a later step"])
def test_an_eager_step(make: Callable[[], Training]) -> None:
    """Weights and optimizer are as before. What a forward pass had changed by then - running statistics, the generator - is put back here."""
    start = make()
    weights, buffers, drawn = parameters(start), start.model.state_dict(), start.generator.draw
    del start

    def recover(t: Training) -> None:
        assert parameters(t) == weights
        t.optimizer.zero_grad()
        t.model.load_state_dict(buffers)
        t.generator.draw = drawn

    assert Attack(make, lambda t: t.call(t.step, *t.data[0]), Training.state, recover).run() > 20


class Captured(Training):
    def __init__(self, calls: int) -> None:
        super().__init__("lenet", "adam")
        self.captured = fastnn.capture(self.step)
        self.run(self.captured, calls)
        self.before = self.state()


@pytest.mark.parametrize("calls", [0, 1], ids=["recorded and planned", "replayed"])
def test_a_captured_step_is_done_whole_or_not_at_all(calls: int) -> None:
    def recover(t: Captured) -> None:
        assert t.state()[: len(t.before)] == t.before or calls == 0  # the optimizer's arrays come with the first step
        if calls == 0:
            assert t.optimizer.steps == 0 and t.generator.draw == 0

    attempts = Attack(lambda: Captured(calls), lambda t: t.call(t.captured, *t.data[0]), Training.state, recover).run()
    assert attempts > 10 if calls == 0 else attempts >= 2  # a replay on the CPU needs memory for its results alone


# --- the trainer


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(27, 4)
    )  # fmt: skip


DATA = np.random.default_rng(5).standard_normal((22, 1, 8, 8), np.float32), np.arange(22) % 4
FEW = DATA[0][:6], DATA[1][:6]


def trainer(device: str = DEVICE) -> Trainer:
    fastnn.seed(2)
    model = net()
    return Trainer(model, optim.Adam(model.parameters(), 1e-2), seed=3, ema=0.9, device=device)


def state(t: Trainer) -> Any:
    ema = t.stepping.ema
    assert ema is not None
    arrays = [
        *t.model.state_dict().values(),
        *map(np.asarray, t.optimizer.state_dict().values()),
        *map(np.asarray, ema.state_dict().values()),
    ]
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in t.history.rows]
    return [a.tobytes() for a in arrays], t.epoch, t.batch, t.generator.draw, rows


OPTIMIZERS: dict[str, Callable[[list[Any]], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, 0.1),
    "AdamW": lambda p: optim.AdamW(p, 0.1),
    "Adagrad": lambda p: optim.Adagrad(p, 0.1),
    "RMSprop": lambda p: optim.RMSprop(p, 0.1, momentum=0.9, centered=True),
    "Muon": lambda p: optim.Muon([w for w in p if w.ndim > 1], 0.1),  # a launch, with scratch, for each shape
    "Together": lambda p: optim.Together(optim.Muon([w for w in p if w.ndim > 1], 0.1), optim.Adam([w for w in p if w.ndim < 2], 0.1)),
    "Lookahead": lambda p: optim.Lookahead(optim.Adam(p, 0.1), k=2),
    "Together of Lookahead": lambda p: optim.Together(optim.Lookahead(optim.SGD(p[:2], 0.1), k=1), optim.Adam(p[2:], 0.1)),
}


def test_every_optimizer_is_attacked() -> None:
    """But those that call a closure, below."""
    classes = {name for name in optim.__all__ if isinstance(kind := getattr(optim, name), type) and issubclass(kind, optim.Optimizer)}
    assert classes - {"Optimizer", "LBFGS", "NewtonCG"} == set(OPTIMIZERS) - {"Together of Lookahead"}


@pytest.mark.parametrize("done, again", [(0, False), (1, False), (1, True)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_steps_whole_or_not_at_all(name: str, done: int, again: bool) -> None:
    """Also where it takes several kernels, for two types or for matrices of two shapes: all memory comes before the first runs. A step that is
    the last one again (done and not put together anew) may need none."""
    shapes = [((3, 4), "float32"), ((5,), "float32"), ((2, 3, 2), "float32"), ((3, 4), "float64"), ((5,), "float64")]
    parameters = [fastnn.tensor(np.ones(shape), dtype=dtype, requires_grad=True) for shape, dtype in shapes]
    numbers = [np.random.default_rng(i).standard_normal(p.shape) for i, p in enumerate(parameters)]

    def make() -> optim.Optimizer:
        for p, x in zip(parameters, numbers):
            p.copy_from(np.ones(p.shape))
            p.grad = fastnn.tensor(x, dtype=p.dtype)
        made = OPTIMIZERS[name](parameters)
        for _ in range(done):
            made.step()
        for leaf in () if again else made._leaves():
            leaf._again = None
        return made

    def bits(o: optim.Optimizer) -> Any:
        return [p.numpy().tobytes() for p in parameters], o.steps, [leaf._counts.tolist() for leaf in o._leaves()]

    def everything(o: optim.Optimizer) -> Any:
        return bits(o), [np.asarray(value).tobytes() for value in o.state_dict().values()]

    start = bits(make())
    untouched: list[Any] = []
    attempts = Attack(make, lambda o: o.step(), everything, lambda o: untouched.append(bits(o))).run()
    assert (attempts > 2 or again) and all(seen == start for seen in untouched)


@pytest.mark.parametrize("name", ["LBFGS", "NewtonCG"])
def test_a_search_begins_anew_where_it_began(name: str) -> None:
    """Line searches call the closure at other weights, where it may find no memory."""
    target = np.random.default_rng(0).standard_normal((3, 2))

    class Search:
        def __init__(self) -> None:
            self.w = fastnn.tensor(np.ones((3, 2)), dtype="float64", requires_grad=True)
            self.o: Any = optim.LBFGS([self.w], line_search_fn="strong_wolfe") if name == "LBFGS" else optim.NewtonCG([self.w])

        def closure(self) -> fastnn.Tensor:
            self.o.zero_grad()
            loss = ((self.w * self.w - fastnn.tensor(target, dtype="float64")) ** 2).sum()
            loss.backward()
            return loss

        def state(self) -> Any:
            return self.w.numpy().tobytes(), [np.asarray(value).tobytes() for value in self.o.state_dict().values()]

    untouched: list[Any] = []
    start = Search().state()
    attempts = Attack(Search, lambda s: s.o.step(s.closure), Search.state, lambda s: untouched.append(s.state())).run()
    assert attempts > 20 and all(seen == start for seen in untouched)


@pytest.mark.parametrize(
    "optimizer, keywords, replay",
    [
        ("Adam", {}, True),
        ("Adam", {}, False),
        ("Adam", {"accumulate": 2}, True),
        ("Adam", {"accumulate": 2}, False),
        ("Lookahead", {}, True),
        ("Together", {}, False),
    ],
    ids=str,
)
def test_a_fit_goes_on_where_it_failed(optimizer: str, keywords: dict[str, Any], replay: bool) -> None:
    """An epoch or two with validation: whichever allocation fails, calling fit again ends with the bits of an undisturbed one.

    On the CPU: on a GPU the host takes memory for the logits that it looks at when the step is done.
    """

    def make() -> Trainer:
        fastnn.seed(2)
        model = net()
        return Trainer(model, OPTIMIZERS[optimizer](list(model.parameters())), seed=3, ema=0.9, device="cpu", **keywords)

    def fit(t: Trainer) -> None:
        data, epochs, size = (DATA, 2, 8) if replay else (FEW, 1, 2)
        t.fit(data, epochs - t.epoch, FEW, batch_size=size, progress=False, restore_best=False, replay=replay)
        assert t.replayed.startswith(("replayed: ", "eager: no step was done") if replay else "eager: ")

    def recover(t: Trainer) -> None:
        t.inference.release()
        t.optimizer.zero_grad()

    assert Attack(make, fit, state, recover).run() > 50


def test_several_batches_that_do_not_fit_together_are_taken_one_after_the_other() -> None:
    """Whichever allocation fails, a fit that replays by itself ends with the same bits, or raises and goes on where it stood."""

    def fit(t: Trainer) -> Trainer:
        t.fit(DATA, 1, batch_size=4, progress=False, restore_best=False)
        return t

    def made() -> Trainer:
        fastnn.seed(2)
        model = net()
        return Trainer(model, optim.Adam(model.parameters(), 1e-2), seed=3, ema=0.9, device="cpu", accumulate=2)

    expected, replayed = state(fit(made())), {"replayed": 0, "eager": 0}
    for k in itertools.count(1):
        t = made()
        _C.fail_allocation(k)
        try:
            fit(t)
            left = _C.fail_allocation(0)
            replayed[t.replayed.partition(":")[0]] += left == 0
            assert left > 0 or t.replayed == "eager: the 2 batches of a step do not fit into memory together"
        except fastnn.OutOfMemoryError:
            left = _C.fail_allocation(0)
            t.optimizer.zero_grad()
            t.fit(DATA, 1 - t.epoch, batch_size=4, progress=False, restore_best=False)
        assert state(t) == expected, k
        if left > 0:
            break
    assert replayed["eager"] > 10 and replayed["replayed"] == 0


def test_a_checkpoint_is_written_whole_and_read_whole(tmp_path: Path) -> None:
    path, made = tmp_path / "a.safetensors", trainer()
    made.fit(DATA, 1, DATA, batch_size=8, progress=False)
    made.save(path)
    saved, whole = state(made), path.read_bytes()
    initial = state(trainer())
    if DEVICE == "cpu":  # nothing is copied before it is written: tests/test_files_without_memory.py takes numpy's memory away, too
        assert not refused(lambda: made.save(path), 1) and path.read_bytes() == whole
    for k in itertools.count(1):
        if not refused(lambda: made.save(path), k):
            break
        assert path.read_bytes() == whole and [p.name for p in tmp_path.iterdir()] == [path.name]

    def load(t: Trainer) -> None:
        checkpoint.load(t, path)

    def unchanged(t: Trainer) -> None:
        assert state(t) == initial and t.best is None and t.normalize is None

    assert Attack(trainer, load, state, unchanged).run() > 10
    assert state(made) == saved


def test_a_model_that_does_not_fit_changes_nothing_of_the_trainer(tmp_path: Path) -> None:
    """The average's arrays are looked at before the model's are written."""
    made = trainer()
    made.fit(DATA, 1, batch_size=8, progress=False)
    made.save(tmp_path / "a.safetensors")
    arrays, notes = fastnn.files.read(tmp_path / "a.safetensors")
    name = next(k for k in arrays if k.startswith("average/"))
    arrays[name] = np.zeros((1, 2, 3), np.float32)
    fastnn.files.write(tmp_path / "b.safetensors", arrays, notes)
    other = trainer()
    before = state(other)
    with pytest.raises(ValueError, match="b.safetensors"):
        checkpoint.load(other, tmp_path / "b.safetensors")
    assert state(other) == before


# --- memory of the core's own: lists, tables, what its objects consist of


@pytest.fixture(scope="module")
def failing_new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ for tests/new_fails.cpp")
    library = tmp_path_factory.mktemp("new") / "new_fails.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", HERE / "new_fails.cpp", "-o", library], check=True)
    return library


def with_failing_new(library: Path, *words: str) -> subprocess.CompletedProcess[str]:
    if "LD_PRELOAD" in os.environ:
        pytest.skip("a sanitizer has operator new")
    if DEVICE != "cpu":
        pytest.skip("a GPU's driver, or what emulates one, asks for memory as well")
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    return subprocess.run([sys.executable, HERE / "new_fails.py", *words], env=environment, capture_output=True, text=True, timeout=600)


def test_a_block_is_given_back_where_nothing_can_be_remembered(failing_new: Path) -> None:
    """A destructor that threw would end the process. A small block, and one of the heap of large ones."""
    ran = with_failing_new(failing_new, "given back")
    expected = [f"{count}: refused, 0 bytes held {count}.0" for count in (12_345, 345_678)]
    assert ran.stdout.splitlines() == expected, ran.stdout + ran.stderr


def test_objects_that_pybind11_cannot_remember(failing_new: Path) -> None:
    """By its own ways the process would end, or what the object holds be lost."""
    lines = with_failing_new(failing_new, "objects").stdout.splitlines()
    told = [re.fullmatch(r"(\w+): (\d+) refused, 0 bytes held", line) for line in lines]
    assert [t and t[1] for t in told] == ["Power", "Reduce", "ReplayMemory", "Recording", "Array"] and all(
        t and int(t[2]) > 1 for t in told
    ), lines


@pytest.mark.parametrize("what, step", [("eager", 5), ("recorded", 29), ("replayed", 1)])
def test_every_operator_new_of_a_step(failing_new: Path, what: str, step: int) -> None:
    """As above, by `operator new`: every one in tests/long, some of them here."""
    ran = with_failing_new(failing_new, what, str(step))
    told = re.fullmatch(r"(\d+) of (\d+) calls failed, (\d+) were refused\n", ran.stdout)
    assert told, ran.stdout + ran.stderr
    failed, calls, refused = map(int, told.groups())
    assert failed == len(range(0, calls, step)) >= 8 and refused >= 0.95 * failed - 1
