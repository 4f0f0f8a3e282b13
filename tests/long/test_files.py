"""Files at length: every byte of a checkpoint and of a model's file in every way, and a save that the kernel itself kills and fails, call by call
(strace)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import test_crashes as crashes
from test_checkpoint import QUIET
from test_hostile_files import make_sgd, poke

from fastnn import files, models
from fastnn.files import CorruptFile

halfway, retrained, longer, replaced = crashes.halfway, crashes.retrained, crashes.longer, crashes.replaced
pytestmark = crashes.pytestmark


@pytest.mark.parametrize("kind", ["checkpoint", "model"])
def test_every_byte_in_every_way(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    trainer = make_sgd(models.create("linear", input_shape=(1, 2, 2), num_classes=2))
    trainer.fit((np.zeros((4, 1, 2, 2), np.uint8), [0, 1, 0, 1]), 1, **QUIET)
    (trainer.save if kind == "checkpoint" else trainer.save_model)(path)
    whole, (reference, notes) = path.read_bytes(), files.read(path)
    same, pt = 0, whole.index(b'"format"')
    for position, before in enumerate(whole):
        for value in set(range(256)) - {before}:
            poke(path, position, value)
            try:
                arrays, found = files.read(path)
            except CorruptFile as error:
                assert str(path) in str(error)
                continue
            same += 1
            assert pt <= position < pt + 13 or before == ord(" ")
            assert found == notes and {k: a.tobytes() for k, a in arrays.items()} == {k: a.tobytes() for k, a in reference.items()}
        poke(path, position, before)
    print(f"{255 * len(whole):,} files, {same} of them with another word for the format or another space, all others refused")
    assert path.read_bytes() == whole


# --- strace: the kernel kills the process at a call, or gives an error in the call's place

Call = tuple[str, int]  # the system's name for it, the how-manyth of that name in a save
RAISED = 3  # a child's exit code


def under_strace(save: Callable[[Path], None], path: Path, *words: str) -> tuple[int, str]:
    """A save in a child, every call of which strace sees: the child stops until strace is there, so that the first it counts is the save's own.
    The child's exit code (RAISED for an OSError that names the file), or minus the signal that ended it, and what strace wrote."""
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGSTOP)
        code = 1
        try:
            save(path)
            code = 0
        except OSError as error:
            code = RAISED if error.filename == str(path) and error.strerror in str(error) else 1
        finally:
            os._exit(code)
    log = path.with_name("strace")
    try:
        os.waitpid(child, os.WUNTRACED)
        words = ("-e", "trace=%file,%desc", *words)
        with subprocess.Popen(["strace", "-p", str(child), "-o", log, *words], stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None and "attached" in (said := tracer.stderr.readline()), said
            os.kill(child, signal.SIGCONT)
    finally:
        os.kill(child, signal.SIGCONT)
        status = os.waitpid(child, 0)[1]
    text = log.read_text()
    log.unlink()
    return os.waitstatus_to_exitcode(status), text


def named(log: str) -> list[Call]:
    """The calls of a log, but those that are the memory's."""
    seen: Counter[str] = Counter()
    names = re.findall(r"^(\w+)\(", log, re.MULTILINE)
    return [(name, seen[name]) for name in names if not seen.update([name]) and name != "mmap"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace injects the faults")
def test_the_kernel_kills_and_fails_each_call(replaced: crashes.Replaced, tmp_path: Path) -> None:
    path, outcomes = tmp_path / "c", Counter[str]()
    path.write_bytes(replaced.old)
    status, log = under_strace(replaced.save, path)
    calls = named(log)
    assert status == 0 and replaced.which(path) == "new"
    renamed = calls.index(("rename", 1))
    assert {"openat", "flock", "write", "fchmod", "fsync", "rename", "close"} <= {name for name, _ in calls} and len(calls) - renamed == 4
    for at, (name, when) in enumerate(calls):
        for what in ("signal=KILL", "error=EIO", "error=ENOSPC", "error=EPERM"):
            path.write_bytes(replaced.old)
            status, log = under_strace(replaced.save, path, "-e", f"inject={name}:{what}:when={when}")
            where = f"{name} {when}, {what}: {status}"
            if what == "signal=KILL":
                assert status == -signal.SIGKILL and "+++ killed by SIGKILL +++" in log and named(log) == calls[: at + 1], where
            else:
                [injected] = re.findall(r"^(\w+)\(.*\(INJECTED\)$", log, re.MULTILINE)
                assert injected == name and named(log)[: at + 1] == calls[: at + 1] and status in (0, RAISED), where
                assert os.listdir(tmp_path) == ["c"], where
            found = replaced.which(path)
            assert found == ("new" if at > renamed or status == 0 else "old"), where
            outcomes[f"{what.split('=')[0]}, {found}"] += 1
            replaced.save(path)
            assert os.listdir(tmp_path) == ["c"] and replaced.which(path) == "new", where
    print(f"{len(calls)} calls, {outcomes.total()} faults: {dict(outcomes)}")
