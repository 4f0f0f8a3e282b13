"""Threads and processes: the same bits for any number of them, forks, concurrent trainings, forced instruction sets, a cheap import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch_twins import normal

import fastnn
from fastnn import _C, models, nn, optim

Bits = dict[str, bytes]


def train(model: nn.Module, optimizer: Any, x: np.ndarray, labels: np.ndarray, steps: int) -> Bits:
    """The bits of everything that training makes: losses, gradients, weights, buffers, the optimizer's state."""
    criterion, bits = nn.CrossEntropyLoss(label_smoothing=0.1), {}
    for step in range(steps):
        loss = criterion(model(fastnn.tensor(x)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bits[f"loss {step}"] = loss.numpy().tobytes()
    for name, p in model.named_parameters():
        bits[f"gradient of {name}"] = p.grad.numpy().tobytes()
    bits.update({k: v.tobytes() for k, v in model.state_dict().items()})
    bits.update({f"state {k}": np.asarray(v).tobytes() for k, v in optimizer.state_dict().items()})
    return bits


def resnet20(steps: int = 1) -> Bits:
    fastnn.seed(1)
    model = models.resnet20()
    return train(
        model, optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True), normal(0, 16, 3, 32, 32), np.arange(16) % 10, steps
    )


def lenet(steps: int = 2, seed: int = 1, batch: int = 32) -> Bits:
    """With dropout, whose masks must not depend on the threads either."""
    fastnn.seed(seed)
    model = models.lenet()
    return train(model, optim.Adam(model.parameters(), 1e-3), normal(seed, batch, 1, 28, 28), np.arange(batch) % 10, steps)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """By kernel: the largest number of workers that took blocks in one call."""
    seen: dict[str, int] = {}

    def watched(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = kernel(*args)
            last = _C.last_call()
            assert last["row"] == name
            seen[name] = max(seen.get(name, 0), last["workers"])
            return result

        return call

    for row in _C.rows():
        monkeypatch.setattr(_C, row["name"], watched(row["name"], getattr(_C, row["name"])))
    return seen


@pytest.mark.parametrize("run", [resnet20, lenet])
def test_same_bits_for_any_number_of_threads(run: Callable[[], Bits], workers: dict[str, int], threads: None) -> None:
    _C.set_num_threads(1)
    expected = run()
    assert max(workers.values()) == 1 and len(workers) > 10
    for count in (2, 3, 7):
        _C.set_num_threads(count)
        workers.clear()
        for _ in range(20):  # a busy machine may wake the others too late
            got = run()
            assert got.keys() == expected.keys()
            different = [name for name in expected if got[name] != expected[name]]
            assert not different, f"{count} threads give other bits than one: {different}"
            if max(workers.values()) > 1:
                break
        assert 1 < max(workers.values()) <= count, f"{count} threads were asked for, {workers} workers ran"


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_as_many_workers_run_as_were_asked_for(count: int, threads: None) -> None:
    fastnn.set_num_threads(count)
    assert fastnn.get_num_threads() == count
    x, w = (_C.from_numpy(normal(i, *s)) for i, s in enumerate([(64, 64, 32, 32), (64, 64, 9, 9)]))
    plan = _C.Conv2d(x.shape, w.shape, (1, 1), (4, 4), (4, 4))  # long enough for each to get a turn on two cores
    ran, deadline = 0, time.monotonic() + 30
    while ran < count and time.monotonic() < deadline:
        _C.conv2d_forward(plan, x, w, None)
        ran = max(ran, _C.last_call()["workers"])
    assert ran == count


def test_reruns_give_the_same_bits() -> None:
    assert lenet() == lenet()


def test_number_of_threads_is_checked_and_told(threads: None) -> None:
    fastnn.set_num_threads(5)
    assert fastnn.get_num_threads() == 5 and "5: set by set_num_threads" in fastnn.show_config()
    for wrong in (0, -1, 257):
        with pytest.raises(ValueError, match=rf"set_num_threads: n must lie between 1 and 256, got {wrong}"):
            fastnn.set_num_threads(wrong)
    for wrong in ("2", 1.5, None):
        with pytest.raises(TypeError):
            fastnn.set_num_threads(wrong)  # type: ignore[arg-type]
    assert fastnn.get_num_threads() == 5


# --- other processes


def python(code: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, env={**os.environ, **environment})


STEP = """
import hashlib, os, sys, threading, time
import numpy as np
import fastnn
from fastnn import models, nn, optim

def step():
    fastnn.seed(1)
    model = models.lenet()
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loss = nn.CrossEntropyLoss()(model(fastnn.tensor(np.random.default_rng(0).standard_normal((32, 1, 28, 28)))), np.arange(32) % 10)
    loss.backward()
    optimizer.step()
    return loss.item(), hashlib.sha256(b"".join(v.tobytes() for v in model.state_dict().values())).hexdigest()
"""


def test_instruction_sets_can_be_forced() -> None:
    code = STEP + "y = step(); from fastnn import _C; print(_C.isa(), _C.last_call()['table'], y[0]); print(fastnn.show_config())"
    losses = []
    for isa in _C.isas():
        done = python(code, FASTNN_ISA=isa)
        assert done.returncode == 0, done.stderr
        first, config = done.stdout.split("\n", 1)
        used, table, loss = first.split()
        own = [name for name in _C.isas("float32") if name in isa][-1]
        assert used == isa and table == f"{own}_f32" and f"{isa}: forced by FASTNN_ISA" in config
        losses.append(float(loss))
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-5)
    assert len(losses) == len(_C.isas()) >= 1 and "portable" in _C.isas()


def test_an_unknown_instruction_set_gives_one_clear_error() -> None:
    done = python(STEP + "step()", FASTNN_ISA="sse9")
    assert done.returncode == 1
    assert (
        done.stderr.strip().splitlines()[-1]
        == "ValueError: Conv2d: FASTNN_ISA names 'sse9', which is not one of portable, avx2, avx512, avx512bf16, amx"
    )
    assert done.stderr.count("Traceback") == 1


def test_import_is_quiet_and_loads_little() -> None:
    code = "import sys, fastnn; sys.stderr.write(' '.join(sorted(sys.modules)))"
    done = python(code)
    assert done.returncode == 0 and done.stdout == ""
    loaded = set(done.stderr.split())
    assert "numpy" in loaded and "fastnn._C" in loaded, "modules are printed, and nothing else"
    unwanted = {
        "safetensors",
        "tqdm",
        "matplotlib",
        "torch",
        "fastnn.nn",
        "fastnn.data",
        "fastnn.train",
        "fastnn.models",
        "fastnn.optim",
        "fastnn.cli",
    }
    assert not loaded & unwanted
    assert all(part.isidentifier() for name in loaded for part in name.split(".")), f"something was printed: {done.stderr[:200]}"


def test_import_loads_little_beyond_numpy() -> None:
    """What it costs is `python -m bench.imports`' business; what it is made of stays little."""
    code = "import sys, numpy; before = set(sys.modules); import fastnn; print(*sorted(set(sys.modules) - before))"
    loaded = python(code).stdout.split()
    others = [name for name in loaded if name.partition(".")[0] != "fastnn"]
    assert len(others) <= 12, others  # threading, heapq and what they are made of
    assert 20 < len(loaded) - len(others) <= 60, loaded


def test_submodules_come_when_asked_for() -> None:
    done = python(
        "import fastnn; print(fastnn.nn.Linear, fastnn.optim.SGD, fastnn.models.lenet, fastnn.gradcheck, fastnn.data, fastnn.train)"
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="module 'fastnn' has no attribute 'gpu'"):
        _ = fastnn.gpu  # type: ignore[attr-defined]
    missing = [name for name in fastnn.__all__ if not hasattr(fastnn, name)]
    assert not missing
