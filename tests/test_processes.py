"""Processes and threads beside each other: forks, spawned children, many nets at once, two hands on one model."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captured_steps
import numpy as np
import pytest
from captured_steps import Training
from test_threads import STEP, python
from test_trainer import bits, blobs, trainer

import fastnn
from fastnn import _C, nn, optim
from fastnn.train import Callback, Trainer, load_model, save_model

# --- children

WORK = """
from fastnn.train import Trainer

def work():
    '''An eager step on the pool, and a fit: its batches come from threads, its steps are replayed.'''
    fastnn.seed(2)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 3))
    trainer = Trainer(model, optim.Adam(model.parameters(), 1e-2), seed=1)
    rng = np.random.default_rng(0)
    trainer.fit((rng.standard_normal((24, 1, 8, 8), np.float32), np.arange(24) % 3), 1, batch_size=8, progress=False)
    assert trainer.replayed.startswith("replayed"), trainer.replayed
    return step(), hashlib.sha256(b"".join(v.tobytes() for v in model.state_dict().values())).hexdigest()
"""

FORKS = """
fastnn.set_num_threads(2)
expected, held = work(), fastnn.capture(lambda x: (x * 2.0).exp())
two = held(fastnn.tensor([1.0, 2.0])).numpy().tobytes()
stop = False
def others():
    while not stop: work()
busy = threading.Thread(target=others)
if BUSY: busy.start()
for i in range(50):
    child = os.fork()
    if child == 0:
        try:
            same = work() == expected and held(fastnn.tensor([1.0, 2.0])).numpy().tobytes() == two
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 60
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            stop = True
            sys.exit(f"child {i} hangs")
        time.sleep(0.002)
    assert os.waitstatus_to_exitcode(done[1]) == 0, (i, done)
stop = True
if BUSY: busy.join()
assert work() == expected
print("fine")
"""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "while another thread trains"])
def test_a_hundred_forks_after_use(busy: bool) -> None:
    """Fifty each: pool, loader and captured steps give the child the parent's bits, and the parent goes on."""
    done = python(f"BUSY = {busy}\n" + STEP + WORK + FORKS, timeout=600)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_a_fork_goes_on_with_a_loaders_batches() -> None:
    """The threads that prepare them are the parent's: without their batches the child would wait for ever."""
    code = """
loader = fastnn.data.Loader((np.arange(640, dtype=np.float32).reshape(64, 10), np.arange(64)), 4, shuffle=True, seed=3, prefetch=PREFETCH, workers=2)
expected = [(x.numpy().tolist(), y.numpy().tolist()) for x, y in loader.batches(0)]
def same(batches, first): return [(x.numpy().tolist(), y.numpy().tolist()) for x, y in batches] == expected[first:]
for taken in (1, 5, 14, 16):
    batches, left = loader.batches(0), loader.batches(0)
    for _ in range(taken): next(batches)
    next(left)
    child = os.fork()
    if child == 0:
        try:
            fine = same(batches, taken) and same(loader.batches(0), 0)
            del left  # nor does it end the parent's threads
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            sys.exit(f"the child hangs after {taken}")
        time.sleep(0.002)
    assert os.waitstatus_to_exitcode(done[1]) == 0, (taken, done)
    assert same(batches, taken)
print("fine")
"""
    for prefetch in (1, 4):
        done = python(STEP + code.replace("PREFETCH", str(prefetch)), timeout=120)
        assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_a_fork_forgets_what_other_threads_were_doing() -> None:
    """A fit and a recording of another thread are not under way in the child, which may train the same model."""
    code = """
from fastnn import exclusive, recording
model = nn.Linear(2, 2)
inside, leave = threading.Event(), threading.Event()
def other():
    with exclusive.claimed("fit", model=model), recording.Recorder(None), recording._lock:
        inside.set()
        leave.wait()
thread = threading.Thread(target=other)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    assert recording.under_way == 0
    with exclusive.claimed("fit", model=model):
        y = fastnn.capture(lambda x: x * 2.0)(fastnn.tensor([1.5])).item()
    os._exit(0 if y == 3.0 else 1)
deadline = time.monotonic() + 30
while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
    if time.monotonic() > deadline:
        os.kill(child, 9)
    time.sleep(0.01)
try:
    with exclusive.claimed("fit", model=model): pass
except RuntimeError:
    print("here it is", os.waitstatus_to_exitcode(done[1]))
leave.set()
thread.join()
"""
    done = python(STEP + code)
    assert (done.returncode, done.stdout) == (0, "here it is 0\n"), done.stderr


def test_the_collector_may_end_a_watched_block_anywhere() -> None:
    """Also within the lines that begin or end another one of the same thread."""
    code = """
from fastnn import recording
def left():
    with recording.watched(): yield
block = left()
next(block)
with recording._lock: del block
print(recording.under_way)
"""
    done = python(STEP + code)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


SPAWN = """
import hashlib, multiprocessing, sys
import numpy as np
import fastnn
from fastnn import nn, optim

def trained(model):
    fastnn.seed(7)
    optimizer = optim.Adam(model.parameters(), 1e-2)
    x = fastnn.tensor(np.random.default_rng(0).standard_normal((6, 1, 8, 8), np.float32))
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(x), np.arange(6) % 3)
        loss.backward()
        optimizer.step()
    return hashlib.sha256(b"".join(v.tobytes() for v in model.state_dict().values())).hexdigest()

if __name__ == "__main__":
    fastnn.seed(1)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 3))
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        there = pool.map(trained, [model] * 4, chunksize=1)
    print({*there} == {trained(model)})
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_pool_of_processes_trains_a_pickled_model(method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SPAWN)
    done = subprocess.run([sys.executable, str(script), method], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:  # before Python 3.13
    import _xxsubinterpreters as interpreters
interpreters.run_string(interpreters.create(), f"import sys; sys.path[:] = {sys.path}" '''
try:
    import fastnn
except ImportError as error:
    print(error)
''')
"""


def test_another_interpreter_of_the_process_is_refused() -> None:
    done = python(SUBINTERPRETER, timeout=20)
    expected = "fastnn works in the main interpreter alone (mod_wsgi: WSGIApplicationGroup %{GLOBAL})\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


# --- threads


DAEMONS = """
class Twice(fastnn.Function):
    @staticmethod
    def forward(ctx, x):
        for i in range(1000): x.shape
        return x * 2.0
    @staticmethod
    def backward(ctx, dy):
        for i in range(1000): dy.shape
        return dy * 2.0

def eager():
    while True: step()
def of_ones_own():
    x = fastnn.tensor(np.ones((50, 50)), requires_grad=True)
    while True: Twice.apply(Twice.apply(x)).sum().backward()
def replayed():
    captured = fastnn.capture(lambda x: (x @ x).sum())
    while True: captured(fastnn.tensor(np.ones((50, 50))))
for work in (eager, of_ones_own, replayed):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
"""


def test_a_process_ends_while_daemon_threads_train() -> None:
    for _ in range(5):
        done = python(STEP + DAEMONS)
        assert done.returncode == 0 and "terminate" not in done.stderr, done.stderr


def eager(seed: int) -> Any:
    t = Training("lenet", "adam", seed=seed)
    return t.run(t.step, 3)


def captured(seed: int) -> Any:
    t = Training("lenet", "adam", seed=seed)
    return t.run(fastnn.capture(t.step), 3)


def fitted(seed: int) -> Any:
    t = trainer(seed)
    t.fit(blobs(60), 2, blobs(20, 1), batch_size=16, progress=False)
    return bits(t.model), [row["val_loss"] for row in t.history.rows]


@pytest.mark.usefixtures("without_memory_checks")
@pytest.mark.parametrize("train", [eager, captured, fitted])
def test_eight_threads_train_eight_nets(train: Callable[[int], Any], threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bits of eight runs one after the other."""
    monkeypatch.setattr(captured_steps, "DEVICE", "cpu")  # its pool is what they share
    fastnn.set_num_threads(2)
    alone = [train(seed) for seed in range(8)]
    together: list[Any] = [None] * 8
    start = threading.Barrier(8)

    def run(seed: int) -> None:
        start.wait()
        together[seed] = train(seed)

    running = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert together == alone and alone[0] != alone[1]


@pytest.mark.usefixtures("without_memory_checks")
def test_threads_set_by_another_thread_while_steps_are_recorded_and_replayed(threads: None) -> None:
    """What is planned for one number of threads runs with that number; a recording that saw two numbers is made again."""
    expected, ended = captured(3), threading.Event()

    def change() -> None:
        while not ended.is_set():
            for count in (1, 2, 7, 3):
                fastnn.set_num_threads(count)
                time.sleep(0)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(30):
            assert captured(3) == expected
    finally:
        ended.set()
        thread.join()


@pytest.mark.usefixtures("without_memory_checks")
def test_threads_set_between_two_recordings_of_a_step(threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, make = captured(3), _C.Recording
    counts = iter([1, 7, 2, 3])

    def recording(*arguments: Any) -> _C.Recording:
        fastnn.set_num_threads(next(counts, 3))
        return make(*arguments)

    monkeypatch.setattr(_C, "Recording", recording)
    assert captured(3) == expected and next(counts, None) is None
    counts = itertools.cycle([1, 2])
    with pytest.raises(_C.CaptureError, match="threads, precision or instruction set change again and again"):
        captured(3)


class Meanwhile(Callback):
    """Does something in another thread (or this one) in the middle of a fit, and keeps what it raised."""

    def __init__(self, *what: Callable[[], object], here: bool = False) -> None:
        self.what, self.here, self.raised = what, here, list[str]()

    def after_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.batch != 1 or self.raised:
            return
        if self.here:
            return self._do()
        thread = threading.Thread(target=self._do, name="other")
        thread.start()
        thread.join()

    def _do(self) -> None:
        for what in self.what:
            try:
                what()
                self.raised.append("")
            except RuntimeError as error:
                self.raised.append(str(error))


def test_two_threads_do_not_train_one_model(tmp_path: Path) -> None:
    t, undisturbed, file = trainer(), trainer(), tmp_path / "m"
    save_model(file, t.model)
    twin = Trainer(t.model, optim.SGD(t.model.parameters(), 0.1), normalize=fastnn.data.Normalize([127.5], [127.5]))
    x, labels = fastnn.tensor(np.zeros((2, 1, 6, 6), np.float32)), fastnn.tensor(np.array([0, 1]))
    meanwhile = Meanwhile(
        lambda: t.fit(blobs(20), 1, progress=False),
        lambda: twin.fit(blobs(20), 1, progress=False),
        lambda: t.evaluate(blobs(20)),
        lambda: twin.predict(x),
        lambda: t.step(x, labels),
        lambda: t.optimizer.step(),
        lambda: t.save(file),  # weights of one step beside moments of another
        lambda: t.save_model(file),
        lambda: load_model(file, model=t.model),
    )
    t.fit(blobs(60), 2, batch_size=16, callbacks=[meanwhile], progress=False)
    undisturbed.fit(blobs(60), 2, batch_size=16, progress=False)
    assert bits(t.model) == bits(undisturbed.model)
    by = "is in use by fit in thread 'MainThread'; "
    heads = ["fit: the model", "fit: the model", "evaluation: the model", "evaluation: the model", "Trainer.step: the model"]
    heads += ["Adam.step: the optimizer", *(f"{name}: the model" for name in ("Trainer.save", "save_model", "load_model"))]
    assert [message.split(by)[0] for message in meanwhile.raised] == [head + " " for head in heads], meanwhile.raised
    assert all("give each thread its own" in message for message in meanwhile.raised)
    t.evaluate(blobs(20)), twin.fit(blobs(20), 1, progress=False)  # now that it is done


def test_a_fit_inside_of_a_fit_of_the_same_model_is_refused() -> None:
    t = trainer()
    meanwhile = Meanwhile(
        lambda: t.fit(blobs(20), 1, progress=False),
        lambda: t.evaluate(blobs(20)),
        lambda: trainer(1).fit(blobs(20), 1, progress=False),
        here=True,
    )
    t.fit(blobs(60), 1, batch_size=16, callbacks=[meanwhile], progress=False)
    assert meanwhile.raised[0].startswith("fit: the model is in use by fit in thread 'MainThread'; one at a time")
    assert meanwhile.raised[1:] == ["", ""]


def test_a_fit_that_fails_leaves_the_model_free() -> None:
    t = trainer()
    with pytest.raises(ValueError):
        t.fit(blobs(0), 1, progress=False)
    t.fit(blobs(20), 1, progress=False)


@pytest.mark.parametrize("of_its_own", [False, True])
def test_a_step_of_an_optimizer_that_steps_already(of_its_own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of another one that has the same parameters."""
    p = fastnn.tensor(np.ones(3), requires_grad=True)
    p.grad = fastnn.tensor(np.ones(3, np.float32))
    optimizer, raised = optim.SGD([p], 0.1), list[str]()
    second = optim.SGD([p], 0.1) if of_its_own else optimizer
    launch = optimizer._launch

    def other() -> None:
        try:
            second.step()
        except RuntimeError as error:
            raised.append(str(error))

    def slow(kind: Any, arguments: Any) -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        launch(kind, arguments)

    monkeypatch.setattr(optimizer, "_launch", slow)
    optimizer.step()
    shared = "parameter" if of_its_own else "optimizer"
    assert len(raised) == 1 and raised[0].startswith(f"SGD.step: the {shared} is in use by SGD.step in thread 'MainThread'")
    np.testing.assert_allclose(p.numpy(), 0.9, rtol=1e-6)


def test_gradients_that_two_threads_add_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the sums would be lost: it is refused instead."""
    p = fastnn.tensor(np.ones(3), requires_grad=True)
    (p * 2.0).sum().backward()
    add = fastnn.tensor.__globals__["_add"]

    def slow(a: _C.Array, b: _C.Array) -> _C.Array:
        monkeypatch.undo()
        thread = threading.Thread(target=lambda: (p * 5.0).sum().backward())
        thread.start()
        thread.join()
        return add(a, b)

    monkeypatch.setitem(fastnn.tensor.__globals__, "_add", slow)
    with pytest.raises(RuntimeError, match=r"another thread changed the gradient of a parameter of shape \(3,\)"):
        (p * 3.0).sum().backward()
    assert p.grad is not None and p.grad.numpy().tolist() == [7, 7, 7]


def test_two_threads_go_backward_through_one_graph() -> None:
    """The second one comes while the first is within an operation: it is refused, wherever that is, and the first one's gradients are whole."""
    x = fastnn.tensor(np.ones(3), requires_grad=True)
    raised: list[str] = []

    class Meets(fastnn.Function):
        @staticmethod
        def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, dy: np.ndarray) -> np.ndarray:
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            return 2 * dy

    def other() -> None:
        for each in (loss, also):  # through the operation that began it all, and through one in the middle
            try:
                each.backward()
            except RuntimeError as error:
                raised.append(str(error).split(":")[0])

    y = Meets.apply(x * 3.0)
    loss, also = (y * 5.0).sum(), (y * 7.0).sum()
    loss.backward()
    assert raised == ["backward through Sum a second time", "backward through Meets a second time"]
    assert x.grad is not None and x.grad.numpy().tolist() == [30, 30, 30]


def test_weights_that_another_thread_changes_between_forward_and_backward() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = optim.SGD(model.parameters(), 0.1)
    loss = model(fastnn.tensor(np.ones((4, 2), np.float32))).sum()

    def other() -> None:
        model(fastnn.tensor(np.ones((4, 2), np.float32))).sum().backward()
        optimizer.step()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    with pytest.raises(RuntimeError, match="was overwritten after the forward pass"):
        loss.backward()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_thread_that_outlives_the_main_one_begins_to_read(prefetch: int) -> None:
    """Python begins no pool of threads any more."""
    code = f"""
import threading
from fastnn.data import Loader, blobs
def read():
    threading.main_thread().join()
    print(sum(len(labels) for _, labels in Loader(blobs(40), 16, prefetch={prefetch})))
threading.Thread(target=read).start()
"""
    done = python(code)
    assert (done.returncode, done.stdout) == (0, "40\n"), done.stderr
