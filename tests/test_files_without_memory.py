"""Checkpoints and models written and read while memory is short, from nearly none to plenty: what is asked for, to the last bit, or one
OutOfMemoryError that names the file; then everything is as it was, and with memory again the next try succeeds. Never an abort, never a wait."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import in_child

import fastnn
from fastnn import data, models, nn, optim
from fastnn.train import Trainer, checkpoint, load_model

HEADROOM = [1 << 12, 1 << 14, 1 << 16, *range(0, 9 << 20, 1 << 18), 16 << 20, 64 << 20]  # bytes of address space beyond those in use
SECONDS = 20  # for one try, which takes a tenth of one
DONE, REFUSED = 0, 3
NET: dict[str, Any] = {"input_shape": (1, 16, 16), "num_classes": 10, "widths": (16, 64, 64), "hidden": 384}  # 0.7 MB, a checkpoint 3.5
# What malloc frees goes back to the system, and an array's memory is its own: else whatever was freed before would be there still.
ENVIRONMENT = {"FASTNN_ARENA": "off", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass
class Walk:
    """make: something; act: writes a file of it, or reads the file into it; state: all there is to it; made: the same of what act gives."""

    make: Callable[[], Any]
    act: Callable[[Any, Path], Any]
    state: Callable[[Any], Any]
    made: Callable[[Any], Any] = lambda result: result

    def done(self, subject: Any, path: Path) -> Any:
        """The act, and all that it leads to."""
        result = self.act(subject, path)
        return self.made(result), self.state(subject), path.read_bytes()


def trainer(seed: int) -> Trainer:
    """After an epoch: optimizer, average and best snapshot have arrays."""
    fastnn.seed(seed)
    model = models.create("vgg", **NET)
    convolutions, others = ([p for p in model.parameters() if (p.ndim == 4) == four] for four in (True, False))
    optimizer = optim.Together(optim.SGD(convolutions, 1e-3, momentum=0.9), optim.Adam(others, 1e-3))  # the second may find no room
    made = Trainer(model, optimizer, seed=seed, ema=0.9, normalize=data.Normalize([0.1], [1.1]))
    samples = np.random.default_rng(seed).standard_normal((8, 1, 16, 16), np.float32), np.arange(8)
    made.fit(samples, 1, samples, batch_size=4, progress=False)
    for row in made.history.rows:
        row["seconds"] = 0
    return made


def net() -> nn.Module:
    fastnn.seed(7)
    return models.create("vgg", **NET)


def bits(module: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in module.state_dict().items()}


def whole(t: Trainer) -> Any:
    """All that a checkpoint holds."""
    arrays, notes = checkpoint.contents(t)
    return {name: np.asarray(array).tobytes() for name, array in arrays.items()}, notes


WALKS = {
    "save": Walk(lambda: trainer(1), lambda t, path: t.save(path), whole),
    "save_model": Walk(lambda: trainer(1), lambda t, path: t.save_model(path), whole),
    "load": Walk(lambda: trainer(1), lambda t, path: checkpoint.load(t, path), whole),
    "load_model": Walk(net, lambda _, path: load_model(path), bits, lambda trained: bits(trained.model)),
    "load_model of a net": Walk(net, lambda module, path: load_model(path, model=module), bits, lambda trained: bits(trained.model)),
}


def attempt(walk: Walk, subject: Any, path: Path, headroom: int, expected: Any) -> int:
    """In a process of its own, which may end: the act with so many bytes, and, where these were too few, again without a limit."""
    before, old = walk.state(subject), path.read_bytes()

    def limited() -> None:
        signal.alarm(SECONDS)
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        refusal = None
        resource.setrlimit(resource.RLIMIT_AS, (used + headroom, resource.RLIM_INFINITY))
        try:
            result = walk.act(subject, path)
        except fastnn.OutOfMemoryError as error:
            refusal = str(error), error.requested, error.free, error.held
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if refusal is None:
            assert (walk.made(result), walk.state(subject), path.read_bytes()) == expected
        else:
            check(path, *refusal)
            assert path.read_bytes() == old and walk.state(subject) == before
            assert walk.done(subject, path) == expected
        assert os.listdir(path.parent) == [path.name]
        os._exit(DONE if refusal is None else REFUSED)

    return in_child(limited)


def check(path: Path, text: str, *numbers: int) -> None:
    words = r"(.*): out of memory while it was (written|read|loaded): (\d+) bytes requested, (\d+) free, (\d+) held by live arrays"
    told = re.fullmatch(words, text)
    assert told and told[1] == str(path) and tuple(map(int, told.groups()[2:])) == numbers, text


def main(what: str) -> None:
    """Prints how each try ended."""
    fastnn.set_num_threads(1)
    walk = WALKS[what]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.safetensors")
        trainer(0).save(path)
        old = path.read_bytes()
        expected = walk.done(walk.make(), path)
        subject = walk.make()
        for headroom in sorted(HEADROOM):
            path.write_bytes(old)
            print(headroom, attempt(walk, subject, path, headroom, expected), flush=True)


@pytest.mark.parametrize("what", WALKS)
def test_memory_from_none_to_plenty(what: str) -> None:
    ran = subprocess.run([sys.executable, __file__, what], env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=100)
    ends = [int(line.split()[1]) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0 and len(ends) == len(HEADROOM) and set(ends) == {DONE, REFUSED}, ran.stdout + ran.stderr
    assert ends[0] == REFUSED and ends[-1] == DONE


if __name__ == "__main__":
    main(sys.argv[1])
