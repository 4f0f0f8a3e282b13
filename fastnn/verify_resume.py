"""fastnn verify-resume: a short training whole, and again killed at random moments and resumed; both must have the same bits.

Each training is a process of its own. Its log has a line for every step: loss, generator, a checksum of each array of the state. The killed one
saves in the middle of epochs too, dies by SIGKILL after a step, within one or while a checkpoint is written, and goes on from what lies there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files
from .train import Callback, ModelCheckpoint, checkpoint

if TYPE_CHECKING:
    from .data import Dataset, Sets
    from .train import Trainer

KINDS = ("after a step", "within a step", "while saving")
_STEPS = "steps.jsonl"
# where this process finds its modules, whatever the folder is that one stands in
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from fastnn.__main__ import command; sys.exit(command())"


def verify(options: argparse.Namespace, words: Sequence[str]) -> bool:
    """Runs the trainings that `words`, the command's arguments, describe, and prints what came of it. Returns whether all bits are equal."""
    folder = options.out or tempfile.mkdtemp(prefix="fastnn-verify-resume-")
    os.makedirs(folder, exist_ok=True)
    if os.listdir(folder):
        raise ValueError(f"--out: {folder} is not empty; name a new folder for the two runs")
    equal = None
    try:
        equal = _compared(options, words, folder)
    finally:
        if equal is not False and not options.out:
            shutil.rmtree(folder)
    if not equal:
        print(f"both runs are kept in {folder}")
    return equal


def _compared(options: argparse.Namespace, words: Sequence[str], folder: str) -> bool:
    chance = random.Random(options.seed or 0)
    print("a run that nothing stops ...", flush=True)
    whole = _Run(os.path.join(folder, "whole"), words)
    whole.go({})
    steps = whole.steps()
    if len(steps) < 2:
        raise ValueError(f"the run has {_steps(len(steps))}; there is nothing to kill it in: more --epochs, or a smaller --batch-size")
    per_epoch = max(1, len(steps) // max(1, steps[-1]["epochs"]))
    print(f"{len(steps)} steps, {per_epoch} an epoch, {len(steps[-1]['arrays'])} arrays", flush=True)
    again = _Run(os.path.join(folder, "killed"), words)
    for step in sorted(chance.randint(1, len(steps) - 1) for _ in range(options.kills)):
        save_every = chance.randint(1, max(1, per_epoch // 2))
        late = max(step, min(save_every + 1, len(steps) - 1))  # behind the first checkpoint: there is something to go on from
        plan = {"step": late, "how": chance.choice(KINDS), "part": chance.random(), "save_every": save_every}
        print(f"killed {plan['how']}: {again.go(plan)}", flush=True)
    again.go({"save_every": chance.randint(1, max(1, per_epoch // 2))})
    done = again.steps()
    difference = first_difference(steps, done) or whole.end_differs(again)
    if difference is None and not any(line["since"] for line in done):
        raise ValueError("no run went on from a checkpoint, so nothing was verified: more --kills, another --seed, or more --epochs")
    if difference is None:
        print(
            f"equal bit for bit, over {len(done)} steps ({len(done) - len(steps)} of them done again): parameters, buffers, optimizer, averages, "
            "best snapshot, generator, losses, history"
        )
    else:
        print(difference)
    return difference is None


def first_difference(whole: Sequence[Mapping[str, Any]], again: Sequence[Mapping[str, Any]]) -> str | None:
    """Between the logs of both runs: a sentence that names the step and what differs in it; None where there is nothing. A step that
    was done several times must have been the same each time."""
    expected = {line["step"]: line for line in whole}
    for line in again:
        step, since = line["step"], line["since"]
        if step not in expected:
            return f"differs: step {step} is there, the whole run has {len(whole)}"
        differing = _differing(expected[step], line)
        if differing:
            where = f"epoch {line['epoch'] + 1}, batch {line['batch']}"
            when = f"{_steps(step - since)} after it went on from step {since}" if since else "before anything was resumed"
            return f"differs first at step {step} ({where}), {when}: {_few(differing)}"
    missing = sorted(set(expected) - {line["step"] for line in again})
    return f"differs: step {missing[0]} is missing" if missing else None


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    numbers = [key for key in a if key not in ("arrays", "since") and a[key] != b.get(key)]
    names = [*a["arrays"], *(name for name in b["arrays"] if name not in a["arrays"])]
    return numbers + [name for name in names if a["arrays"].get(name) != b["arrays"].get(name)]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


class _Run:
    """A training in a folder of its own, in one process or several one after the other."""

    def __init__(self, folder: str, words: Sequence[str]) -> None:
        self.folder, self.words = folder, list(words)
        os.makedirs(folder)
        open(os.path.join(folder, _STEPS), "x").close()  # by which it is known for a run, no class, where it lies in the data's folder

    def go(self, plan: Mapping[str, Any]) -> str:
        """A process until it ends or is killed; says which. Raises ValueError with its last words when it fails by itself."""
        about = json.dumps({**plan, "folder": self.folder})
        command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), "verify-resume", "--child", about, *self.words]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode not in (0, -signal.SIGKILL) or (result.returncode and not plan):
            last = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
            raise ValueError(f"the training ended by itself: {last}")
        lines = self.steps()
        return f"after step {lines[-1]['step'] if lines else 0}" if result.returncode else "it had ended before"

    def steps(self) -> list[dict[str, Any]]:
        """The log, without a last line that was cut off, or any other that no step has written: that step counts as missing."""
        lines = []
        path = os.path.join(self.folder, _STEPS)
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as log:
            for text in log:
                with contextlib.suppress(ValueError, RecursionError):
                    if _is_a_step(line := json.loads(text)):
                        lines.append(line)
        return lines

    def end_differs(self, other: _Run) -> str | None:
        """The checkpoints at the end: arrays, history, sums, everything but the seconds."""
        ours, theirs = (_end(os.path.join(run.folder, "end.safetensors")) for run in (self, other))
        differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        return f"differs in what is saved at the end: {_few(differing)}" if differing else None


def _is_a_step(line: Any) -> bool:
    kinds = dict.fromkeys(("step", "since", "epochs", "epoch", "batch"), int) | {"arrays": dict}
    return isinstance(line, dict) and all(type(line.get(name)) is kind for name, kind in kinds.items())


def _end(path: str) -> dict[str, Any]:
    arrays, notes = files.read(path)
    return {**{name: (a.shape, a.dtype.str, a.tobytes()) for name, a in arrays.items()}, **_timeless(notes)}


def _timeless(notes: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(notes)
    kept["history"] = [{k: v for k, v in row.items() if k != "seconds"} for row in notes["history"]]
    kept["sums"] = {k: v for k, v in notes["sums"].items() if k != "seconds"}
    return {key: json.dumps(value) for key, value in kept.items()}  # NaN equals NaN there


# --- the process that trains


def child(plan: Mapping[str, Any], begin: Callable[[], tuple[Trainer, dict[str, Any]]]) -> None:
    """A training that logs its steps, saves in the middle of epochs, and kills itself where the plan says so. `begin` gives the Trainer and the
    arguments of its fit."""
    with contextlib.redirect_stdout(sys.stderr):
        trainer, fit = begin()
    path = os.path.join(plan["folder"], "checkpoint.safetensors")
    callbacks: list[Callback] = [_Log(os.path.join(plan["folder"], _STEPS)), ModelCheckpoint(path)]
    if "save_every" in plan:
        callbacks.append(_SaveEvery(path, plan["save_every"]))
    if "step" in plan:
        callbacks.insert(0, _Kill(plan["step"], plan["how"], plan["part"]))
    resume = path if os.path.exists(path) else None
    trainer.fit(**fit, callbacks=callbacks, resume=resume, restore_best=False, progress=False)
    trainer.save(os.path.join(plan["folder"], "end.safetensors"))


def fewer(sets: Sets, most: int, seed: int) -> Sets:
    """At most so many samples of the training and of the validation set, drawn by the seed."""

    def few(dataset: Dataset | None) -> Dataset | None:
        if dataset is None or len(dataset) <= most:
            return dataset
        return dataset.take(np.sort(np.random.default_rng(seed).permutation(len(dataset))[:most]))

    train = few(sets.train)
    assert train is not None
    return type(sets)(train, few(sets.validation), sets.test, sets.origin)


class _Log(Callback):
    def __init__(self, path: str) -> None:
        self.path = path
        self.since = 0  # the step that this process went on from

    def before_fit(self, trainer: Trainer) -> None:
        self.since = trainer.optimizer.steps

    def after_step(self, trainer: Trainer, loss: float) -> None:
        arrays, notes = checkpoint.contents(trainer)
        line = {key: notes[key] for key in ("epochs", "epoch", "batch", "draw")}
        sums = _timeless({"history": [], "sums": notes["sums"]})["sums"]
        dense = {name: np.asarray(a.numpy() if hasattr(a, "numpy") else a, order="C") for name, a in arrays.items()}
        checksums = {name: zlib.crc32(a.reshape(-1).view(np.uint8).data) for name, a in dense.items()}
        with open(self.path, "a", encoding="utf-8") as log:
            log.write(
                json.dumps(
                    {"step": notes["steps"], "since": self.since, **line, "loss": float(loss).hex(), "sums": sums, "arrays": checksums}
                )
                + "\n"
            )


class _SaveEvery(Callback):
    def __init__(self, path: str, steps: int) -> None:
        self.path, self.steps = path, steps

    def after_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.optimizer.steps % self.steps == 0:
            trainer.save(self.path)


class _Kill(Callback):
    """SIGKILL from step number `step` on: at the step's end, in the middle of the next (`part` of a step's time), or at the next save, in
    one of its calls to the system."""

    def __init__(self, step: int, how: str, part: float) -> None:
        self.step, self.how, self.part = step, how, part
        self._began = time.perf_counter()
        self._seconds = 0.0

    def before_step(self, trainer: Trainer) -> None:
        self._began = time.perf_counter()
        if self.how == KINDS[1] and trainer.optimizer.steps >= self.step:
            threading.Timer(self.part * self._seconds, _die).start()

    def after_step(self, trainer: Trainer, loss: float) -> None:
        self._seconds = time.perf_counter() - self._began
        if trainer.optimizer.steps < self.step:
            return
        if self.how == KINDS[0]:
            _die()
        if self.how == KINDS[2]:
            self._die_in(int(4 * self.part))

    def _die_in(self, call: int) -> None:
        """In the fsync or the rename of the next file that is written, before it or behind."""
        name = ("fsync", "replace")[call // 2]
        real: Callable[..., Any] = getattr(os, name)

        def dying(*args: Any, **keywords: Any) -> None:
            if call % 2:
                real(*args, **keywords)
            _die()

        setattr(os, name, dying)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
