"""How much larger a process becomes by doing the same thing again and again."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import fastnn
from fastnn import nn, optim
from fastnn.train import Trainer


class Growth(NamedTuple):
    resident: int  # KiB
    allocated: int  # bytes of the arena in arrays
    threads: int
    files: int


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


def standing() -> Growth:
    allocated = fastnn.memory_stats()["allocated"]  # arrays go with their names, not when the collector comes
    gc.collect()
    return Growth(resident(), allocated, len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")))


def growth(action: Callable[[], object], times: int, first: int = 5) -> Growth:
    """From behind the first few times to behind `times` more, the collector off."""
    gc.disable()
    for _ in range(first):
        action()
    before = standing()
    for _ in range(times):
        action()
    return Growth(*(after - start for after, start in zip(standing(), before)))


def of_a_child(name: str, times: int, first: int) -> Growth:
    """The same in a process of its own."""
    done = subprocess.run([sys.executable, __file__, name, str(times), str(first)], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    return Growth(*map(int, done.stdout.split()))


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(288, 3))


DATA = np.random.default_rng(0).standard_normal((24, 1, 8, 8), np.float32), np.arange(24) % 3


def fit() -> None:
    """A whole training: model, optimizer, loader with its threads, average, validation, a captured step."""
    model = net()
    Trainer(model, optim.Adam(model.parameters(), 1e-2), ema=0.9).fit(DATA, 1, DATA, batch_size=8, progress=False)


def capture() -> None:
    """A captured step and two replays."""
    model = net()
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    captured = fastnn.capture(step)
    for _ in range(3):
        captured(fastnn.tensor(DATA[0]), fastnn.tensor(DATA[1]))


ACTIONS = {"fit": fit, "capture": capture}


if __name__ == "__main__":
    name, times, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(*growth(ACTIONS[name], times, first))
