"""Real control groups: their quota and their CPUs, as a process sees them that the kernel has put there. Made beside this process's own, which
takes root and a version 1 hierarchy; where that is not so, test_limits.py has the same files by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastnn import _C

Make = Callable[..., Path]
BEGIN = """
import hashlib, os
import numpy as np
import fastnn
from fastnn import models, nn, optim, train

x, labels = np.random.default_rng(0).standard_normal((32, 1, 8, 8)).astype(np.float32), np.arange(32) % 10

def trained():
    fastnn.seed(1)
    model = models.lenet(input_shape=(1, 8, 8))
    optimizer = optim.Adam(model.parameters())
    for step in range(3):
        loss = nn.CrossEntropyLoss()(model(fastnn.tensor(x)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), hashlib.sha256(b"".join(v.tobytes() for v in model.state_dict().values())).hexdigest()
"""


def own_group(controller: str) -> Path:
    """In a container the path may be the host's, which is not there."""
    mount = Path("/sys/fs/cgroup") / controller
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") and (mount / path.lstrip("/")).is_dir():
            return mount / path.lstrip("/")
    return mount


@pytest.fixture
def make_group() -> Iterator[Make]:
    """make_group(controller, file=content, inside=a group that it made): the folder of a new group, which goes when the test has ended."""
    made: list[Path] = []

    def make(controller: str, inside: Path | None = None, **files: str) -> Path:
        group = (inside or own_group(controller)) / f"fastnn-test-{os.getpid()}-{len(made)}"
        try:
            group.mkdir()
            made.append(group)
            for name, text in files.items():
                (group / f"{controller}.{name}").write_text(text)
        except OSError as error:
            pytest.skip(f"no control group of version 1 can be made here: {error}")
        return group

    try:
        yield make
    finally:
        for group in reversed(made):
            group.rmdir()


def python_in(groups: list[Path], code: str) -> str:
    """What a process prints that the kernel has had in these groups since before Python began."""
    enter = "".join(f'echo $$ > "{group}/cgroup.procs" && ' for group in groups)
    shell = ["bash", "-c", f'{enter}exec "$0" -c "$1"', sys.executable, BEGIN + code]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


SAID = """
print(fastnn.get_num_threads())
print(next(line for line in fastnn.show_config().splitlines() if line.startswith("threads")).split(None, 1)[1])
"""
TRAINED = "bits = trained(); fastnn.set_num_threads(2); print(bits, trained() == bits)"


def said(text: str) -> tuple[int, str]:
    threads, line = text.splitlines()
    assert line.startswith(f"{threads}: ")
    return int(threads), line.split(": ", 1)[1]


def test_a_quota_is_seen_and_trains_the_same(make_group: Make) -> None:
    """One core's time in each period, on all CPUs."""
    group = make_group("cpu", cfs_quota_us="100000")
    *lines, trained = python_in([group], SAID + TRAINED).splitlines()
    threads, reason = said("\n".join(lines))
    assert threads == 1 and reason.startswith(f"min of {len(os.sched_getaffinity(0))} CPUs allowed, ")
    assert reason.endswith(" physical cores, a control-group quota of 1")
    assert [trained] == python_in([], TRAINED).splitlines() and trained.endswith(" True")


@pytest.mark.parametrize(
    ("outer", "inner", "granted"), [("100000", "-1", 1), ("300000", "100000", 1), ("150000", "-1", 2), ("-1", "-1", 0)]
)
def test_quotas_of_nested_groups(make_group: Make, outer: str, inner: str, granted: int) -> None:
    """A part of a core counts as one; the least of all groups around the process holds."""
    group = make_group("cpu", inside=make_group("cpu", cfs_quota_us=outer), cfs_quota_us=inner)
    threads, reason = said(python_in([group], SAID))
    granted = min(filter(None, [granted, _C.thread_limits()[2]]), default=0)  # there may be a quota around us, too
    usual, reason_here = _C.processors("/nothing")
    assert threads == min(usual, granted or usual)
    words = f"a control-group quota of {granted}" if granted else "no control-group quota"
    assert reason == reason_here.replace("no control-group quota", words)


def test_one_cpu_of_a_set(make_group: Make) -> None:
    cpu = str(min(os.sched_getaffinity(0)))
    group = make_group("cpuset", cpus=cpu, mems="0")  # a group begins with no memory either
    text = python_in([group], SAID + TRAINED + "; print(os.sched_getaffinity(0))")
    *lines, trained, mask = text.splitlines()
    threads, reason = said("\n".join(lines))
    assert mask == f"{{{cpu}}}" and threads == 1 and reason.startswith("min of 1 CPUs allowed, 1 physical cores, ")
    assert [trained] == python_in([], TRAINED).splitlines()


WHY_SLOW = """
model = models.mlp(input_shape=(1, 8, 8))
trainer, why = train.Trainer(model, optim.Adam(model.parameters())), train.WhySlow(50)
with open("GROUP/cgroup.procs", "w") as file: file.write(str(os.getpid()))
trainer.fit((x, labels), 100, batch_size=8, callbacks=[why], progress=False)
"""


def test_what_a_quota_took_is_told(make_group: Make) -> None:
    """A quarter of a core, from when all is imported and made."""
    group = make_group("cpu", cfs_quota_us="5000", cfs_period_us="20000")
    text = python_in([], WHY_SLOW.replace("GROUP", str(group)))
    assert "the control group's quota stopped the threads for" in text, text
