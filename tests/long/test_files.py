"""Files at length: every byte of a model's file in every way, and a save that the kernel itself kills and fails, call by call (strace)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from test_hostile_files import poke

from fastnn import files, models
from fastnn.files import CorruptFile
from fastnn.train import load_model, save_model


def test_every_byte_in_every_way(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save_model(path, models.create("linear", input_shape=(1, 2, 2), num_classes=2), classes=["a", "b"])
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
    load_model(path)


_SAVE = "import sys; import numpy as np; from fastnn import files; files.write(sys.argv[1], {'w': np.full(3000, float(sys.argv[2]))})"
_OURS = ("flock", "fchmod", "fsync", "rename")  # calls that nothing else in the process makes


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace injects the faults")
def test_the_kernel_kills_and_fails_each_call(tmp_path: Path) -> None:
    path, outcomes = tmp_path / "c", []
    for call in _OURS:
        for what in ("signal=KILL", "error=EIO", "error=ENOSPC", "error=EPERM"):
            for when in range(1, 4):
                files.write(path, {"w": np.zeros(3000)})
                inject = ["strace", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={when}"]
                done = subprocess.run([*inject, sys.executable, "-c", _SAVE, str(path), "1"], capture_output=True, text=True)
                found = set(files.read(path)[0]["w"])
                assert found in ({0.0}, {1.0}) and len(os.listdir(tmp_path)) <= 2
                assert done.returncode in (0, -9, 137) or str(path) in done.stderr
                outcomes.append((call, what, when, found))
    assert {0.0} in [found for *_, found in outcomes] and {1.0} in [found for *_, found in outcomes]
    files.write(path, {"w": np.zeros(1)})
    assert os.listdir(tmp_path) == ["c"]
