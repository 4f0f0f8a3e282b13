"""Trainings killed and interrupted many times, at moments drawn anew in each run; minutes. `python -m pytest -o addopts= -s tests/long/test_killed.py`."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from kernel_calls import GPUS
from test_checkpoint import QUIET, make
from test_interrupts import TRAIN, VALIDATION, goes_on, interrupted

from fastnn import _C, recording
from fastnn.cli import main
from fastnn.random import default_generator
from fastnn.train import Callback, Interrupted, ModelCheckpoint, Trainer

SEED = random.SystemRandom().randrange(2**31)
EVERYTHING = ["--ema", "0.99", "--accumulate", "2", "--clip-norm", "1", "--augment", "flip"]
RUNS = {
    "lenet": ["--model", "lenet"],
    "lenet, eager": ["--model", "lenet", "--replay", "off"],
    "lenet, everything": ["--model", "lenet", "--schedule", "plateau", *EVERYTHING],
    "vgg_small": ["--model", "vgg_small", "--optimizer", "sgd", "--schedule", "one-cycle"],
    "vgg_small, everything": ["--model", "vgg_small", "--optimizer", "adamw", *EVERYTHING],
    "resnet20": ["--model", "resnet20", "--augment", "crop-flip", "--optimizer", "muon"],
    "mlp, plateau": ["--model", "mlp", "--schedule", "plateau", "--optimizer", "rmsprop"],
    "mlp, three threads": ["--model", "mlp", "--threads", "3", "--optimizer", "adagrad"],
    "linear": ["--model", "linear", "--schedule", "warmup"],
    "linear, whole batches": ["--model", "linear", "--batch-size", "300"],
    **(
        {"lenet, bf16": ["--model", "lenet", "--precision", "bf16"], "vgg_small, bf16": ["--model", "vgg_small", "--precision", "bf16", *EVERYTHING]}
        if _C.isa() in _C.isas("bfloat16")
        else {}
    ),
}  # fmt: skip
for gpu in GPUS:
    for precision in ("float32", "bf16"):
        few = f"--device {gpu} --precision {precision} --samples 60 --batch-size 6".split()  # the emulated one takes its time
        drawn = [*few, "--ema", "0.9", "--schedule", "plateau"]
        RUNS[f"mlp, {precision} on {gpu}"] = ["--model", "mlp", *drawn, "--augment", "strong"]
        RUNS[f"lenet, {precision} on {gpu}"] = ["--model", "lenet", *drawn, "--augment", "crop-flip"]
        eager = ["--model", "lenet", "--replay", "off", "--schedule", "plateau", *few, *EVERYTHING]
        RUNS[f"lenet, eager, everything, {precision} on {gpu}"] = eager


@pytest.mark.parametrize("words", RUNS.values(), ids=list(RUNS))
def test_killed_ten_times(words: list[str], tmp_path: Path) -> None:
    print(f"\n--seed {SEED}: {' '.join(words)}")
    sizes = ["--epochs", "3", "--samples", "400"]
    threads = [] if "--threads" in words else ["--threads", "1"]
    out = ["--out", str(tmp_path), "--seed", str(SEED)]
    assert main(["verify-resume", "digits", *sizes, *words, *threads, "--kills", "10", *out]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("without_memory_checks")
def test_interrupted_at_150_moments(number: int, tmp_path: Path) -> None:
    """From a thread, while Python switches often."""
    chance, before = random.Random(SEED), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for i in range(150):
            delay = chance.random() * 0.04

            class Later(Callback):
                def before_fit(self, trainer: Trainer) -> None:
                    self.timer = threading.Timer(self.delay, os.kill, [os.getpid(), number])
                    self.timer.start()

                def after_fit(self, trainer: Trainer) -> None:
                    self.timer.join()

                delay: float

            later = Later()
            later.delay = delay
            error = interrupted(tmp_path / str(i), later, number=number)
            if i % 30 == 0:
                print(f"\nseed {SEED}, {delay:.4f} s: {error.where}", end="")
            goes_on(tmp_path / str(i))
    finally:
        sys.setswitchinterval(before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file between open() and its with block
@pytest.mark.usefixtures("without_memory_checks")
def test_ctrl_c_twice_at_150_moments(tmp_path: Path) -> None:
    """Handlers, the thread's generator, the recorder: as before; on disk the last whole checkpoint, or none yet, and nothing else."""
    chance, handlers, ends = random.Random(SEED), signal.getsignal(signal.SIGINT), Counter[str]()
    for i in range(150):
        folder, trainer, ended = tmp_path / str(i), make("adam"), threading.Event()
        folder.mkdir()
        generator = default_generator()

        def press(pauses: tuple[float, float], ended: threading.Event = ended) -> None:
            for pause in pauses:
                time.sleep(pause)
                if not ended.is_set():
                    os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press, args=[(chance.random() * 0.03, chance.random() * 0.002)])
        try:
            try:
                thread.start()
                trainer.fit(TRAIN, 3, VALIDATION, batch_size=16, callbacks=[ModelCheckpoint(folder / "c")], **QUIET)
                end = "not at all"
            except Interrupted:
                end = "after the step"
            except KeyboardInterrupt:
                end = "at once"
            ended.set()
            thread.join()
        except KeyboardInterrupt:  # it came when the fit was over
            thread.join()
            end = "too late"
        ends[end] += 1
        assert signal.getsignal(signal.SIGINT) is handlers and default_generator() is generator
        assert recording.current() is None and recording.under_way == 0
        assert [name for name in os.listdir(folder) if name[0] != "."] in ([], ["c"])
        if (folder / "c").exists():
            goes_on(folder / "c")
    print(f"\nseed {SEED}: {dict(ends)}", end="")
    assert ends["at once"] > 50
