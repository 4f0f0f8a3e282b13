"""Checkpoints and models while the process is killed, the disk is full or failing, the folder closed, the power lost: the old file or the new one
is there, whole; training goes on from it with the bits it would have had, the model predicts what it did. As SQLite is tested: at every call, by
every error."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import NUMBERS, Disk, Fail, Stop, in_child, recorded, watched
from test_checkpoint import QUIET, SaveAtStep, blobs, make, state

from fastnn import files, models, optim
from fastnn.cli import main
from fastnn.train import Diverged, History, ModelCheckpoint, Trainer, load_model

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the children only write a file


@dataclass
class Replaced:
    """A file and what is to take its place: `save` writes that, `meaning` is all that a user of the file gets out of it."""

    old: bytes
    new: bytes
    save: Callable[[Path], None]
    meaning: Callable[[Path], object]

    def which(self, path: Path) -> str:
        """ "old" or "new": the file at `path` means what that one does, to the last bit."""
        found = self.meaning(path)
        [name] = [name for name in ("old", "new") if found == self.meanings[name]]
        return name

    @cached_property
    def meanings(self) -> dict[str, object]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "c"
            return {name: (path.write_bytes(getattr(self, name)), self.meaning(path))[1] for name in ("old", "new")}


@dataclass
class Halfway(Replaced):
    """A training between two checkpoints: the trainer that writes the second, and where the whole leads."""

    trainer: Trainer
    end: tuple[dict[str, bytes], dict[str, object]]


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Halfway:
    folder = tmp_path_factory.mktemp("halfway")
    old, new, end = (folder / name for name in ("old", "new", "end"))
    whole = make("adam")
    whole.fit(blobs(100), 2, batch_size=16, callbacks=[SaveAtStep(old, 3), ModelCheckpoint(end)], **QUIET)
    trainer = make("adam")
    trainer.fit(blobs(100), 1, batch_size=16, resume=old, **QUIET)
    trainer.save(new)
    return Halfway(old.read_bytes(), new.read_bytes(), trainer.save, state, trainer, state(end))


def predictions(path: Path) -> tuple[Any, ...]:
    """What a model's file is for: classes, preprocessing, notes, and the probabilities to the last bit."""
    trained = load_model(path)
    assert trained.normalize is not None
    return trained.classes, trained.normalize.state(), trained.notes, trained.predict(blobs(12, 1)).tobytes()


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Replaced:
    """A model's file that is to be replaced by that of the same model an epoch later."""
    old, new = (tmp_path_factory.mktemp("retrained") / name for name in ("old", "new"))
    model = models.create("vgg", input_shape=(1, 6, 6), num_classes=3, widths=(4,), hidden=6)
    trainer = Trainer(model, optim.Adam(model.parameters(), 1e-2), seed=0)
    for path in (old, new):
        trainer.fit(blobs(100), 1, batch_size=16, **QUIET)
        trainer.notes = {"epoch": trainer.epoch}
        trainer.save_model(path)
    return Replaced(old.read_bytes(), new.read_bytes(), trainer.save_model, predictions)


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Replaced:
    """A history's file that is to be replaced by that of an epoch later."""
    old, new = (tmp_path_factory.mktemp("longer") / name for name in ("old", "new"))
    history = History({"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, 30))
    history.save(old)
    history.append({"epoch": 30, "loss": 0.1})
    history.save(new)
    return Replaced(old.read_bytes(), new.read_bytes(), history.save, Path.read_text)


@pytest.fixture(params=["halfway", "retrained", "longer"], ids=["checkpoint", "model", "history"])
def replaced(request: pytest.FixtureRequest) -> Replaced:
    """Each kind of file that a user would not like to lose."""
    found: Replaced = request.getfixturevalue(request.param)
    return found


def test_both_checkpoints_lead_to_the_same_end(halfway: Halfway, tmp_path: Path) -> None:
    """So below it is enough to see that one of them is there."""
    assert halfway.old != halfway.new
    for contents in (halfway.old, halfway.new):
        (tmp_path / "c").write_bytes(contents)
        make("adam", seed=9).fit(blobs(100), 2, batch_size=16, resume=tmp_path / "c", callbacks=[ModelCheckpoint(tmp_path / "d")], **QUIET)
        assert state(tmp_path / "d") == halfway.end


def calls_of(replaced: Replaced, path: Path) -> list[str]:
    """The calls to the system that an undisturbed save makes, by name."""
    calls: list[str] = []
    path.write_bytes(replaced.old)
    with watched(lambda name, arguments: calls.append(name)):
        replaced.save(path)
    return calls


def killed_at(k: int, replaced: Replaced, path: Path) -> bool:
    """Whether a save in the old file's place, in a child that SIGKILL ends ahead of its k-th call, came so far."""
    path.write_bytes(replaced.old)

    def save() -> None:
        with watched(Stop(k)):
            replaced.save(path)

    status = in_child(save)
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_killed_at_every_call(replaced: Replaced, tmp_path: Path) -> None:
    """kill -9 ahead of each open, write, fsync, rename, close; a write is cut in the middle. Each save finds the folder without leftovers, so
    that its k-th call is that of the undisturbed one, up to the last."""
    path = tmp_path / "c.safetensors"
    calls = calls_of(replaced, path)
    made, renamed = calls.index("flock"), calls.index("replace")  # the temporary file is there from the first on, up to the second
    assert calls[renamed:] == ["replace", "close", "fsync", "close"] and calls.count("write") > len(replaced.new) // 1000
    for k in range(len(calls)):
        assert killed_at(k, replaced, path)
        assert replaced.which(path) == ("old" if k <= renamed else "new"), calls[k]
        left = [name for name in os.listdir(tmp_path) if name != path.name]
        assert len(left) == (made <= k <= renamed), calls[k]
        for name in left:
            os.unlink(tmp_path / name)
    assert not killed_at(len(calls), replaced, path)  # so the last one killed was the last there is


def test_killed_while_it_removes_what_a_killed_save_left(replaced: Replaced, tmp_path: Path) -> None:
    """That takes calls of its own, behind the look into the folder; a save that is killed in one leaves the file as it was."""
    path = tmp_path / "c.safetensors"
    calls = calls_of(replaced, path)
    renamed, first, removal = calls.index("replace"), calls.index("listdir") + 1, ["open", "flock", "unlink", "close"]
    assert killed_at(renamed, replaced, path) and len(os.listdir(tmp_path)) == 2
    assert calls_of(replaced, path) == calls[:first] + removal + calls[first:]
    assert os.listdir(tmp_path) == [path.name] and replaced.which(path) == "new"
    for k, name in enumerate(removal):
        assert killed_at(renamed, replaced, path)
        assert killed_at(first + k, replaced, path)
        assert replaced.which(path) == "old" and len(os.listdir(tmp_path)) == (1 if name == "close" else 2), name
        replaced.save(path)
        assert os.listdir(tmp_path) == [path.name] and replaced.which(path) == "new", name


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_every_call_fails(replaced: Replaced, tmp_path: Path, number: int) -> None:
    path, failed, k = tmp_path / "c.safetensors", set(), 0
    while True:
        path.write_bytes(replaced.old)
        (tmp_path / ".c.safetensors.00.tmp").write_bytes(b"left over")
        fault, opened = Fail(k, number), len(os.listdir("/proc/self/fd"))
        try:
            with watched(fault):
                replaced.save(path)
        except OSError as error:
            assert error.errno == number and error.filename == str(path) and os.strerror(number) in str(error)
            late = "the new contents are there, but may not outlive a loss of power"
            assert ("the old contents are untouched" in str(error)) == (replaced.which(path) == "old") != (late in str(error))
            if number == errno.ENOSPC:
                assert f"{len(replaced.new):,} bytes were to be written, " in str(error)
            failed.add(fault.name)
        else:
            assert replaced.which(path) == "new"
            if not fault.name:
                break
        assert set(os.listdir(tmp_path)) <= {"c.safetensors", ".c.safetensors.00.tmp"}  # nothing of its own
        assert len(os.listdir("/proc/self/fd")) == opened + (fault.name == "close")  # which closed nothing
        replaced.save(path)
        assert os.listdir(tmp_path) == ["c.safetensors"]
        k += 1
    assert {"open", "write", "fsync", "replace"} <= failed and not {"listdir", "flock", "unlink"} & failed


def test_power_lost_after_every_call(replaced: Replaced, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(replaced.old)
    disk, looks, after = Disk(str(tmp_path), {path.name: replaced.old}), [], tmp_path / "after"

    def look() -> set[str]:
        found = set(disk.possible(path.name))
        assert None not in found
        after.mkdir(exist_ok=True)
        looks.append({(after / "c").write_bytes(contents or b"") and replaced.which(after / "c") for contents in found})
        return looks[-1]

    with recorded(disk, look):
        replaced.save(path)
    assert looks[0] == {"old"} and {"old", "new"} in looks and looks[-1] == {"new"}  # once save has returned, it is on the disk


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_full_disk(replaced: Replaced, tmp_path: Path, share: float) -> None:
    """With room for a share of the file."""
    path, size = tmp_path / "c.safetensors", len(replaced.new)
    path.write_bytes(replaced.old)

    def save() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * size),) * 2)
        with pytest.raises(OSError, match=f"File too large; {size:,} bytes were to be written; the old contents are untouched: '{path}"):
            replaced.save(path)

    assert in_child(save) == 0
    assert path.read_bytes() == replaced.old and os.listdir(tmp_path) == ["c.safetensors"]


def test_a_bad_step_on_a_full_disk(tmp_path: Path) -> None:
    """What diverged is the news; that its file could not be written is told behind it."""

    def train() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        trainer = make("adam")
        weight = next(iter(trainer.model.parameters()))
        weight.copy_from(np.full(weight.shape, np.inf))
        with pytest.raises(Diverged, match="The file that repeats it could not be written: .*File too large; ") as caught:
            trainer.fit(blobs(100), 1, batch_size=16, callbacks=[ModelCheckpoint(tmp_path / "c")], **QUIET)
        assert caught.value.file is None

    assert in_child(train) == 0
    assert os.listdir(tmp_path) == []


def test_the_command_line_on_a_full_disk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def train() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        assert main(["train", "digits", "--model", "linear", "--epochs", "1", "--out", str(tmp_path / "out")]) == 2

    assert in_child(train) == 0
    expected = rf"fastnn: error: {tmp_path}/out/checkpoint.safetensors: File too large; \d+,\d+ bytes were to be written\n"
    assert re.search(expected, capfd.readouterr().err) and not (tmp_path / "out" / "checkpoint.safetensors").exists()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that any user can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written(replaced: Replaced, open_folder: Path) -> None:
    """root may write everywhere; its child becomes nobody."""
    path = open_folder / "c.safetensors"
    path.write_bytes(replaced.old)
    open_folder.chmod(0o555)

    def save() -> None:
        if os.getuid() == 0:
            os.setgid(65534), os.setuid(65534)
        with pytest.raises(PermissionError, match=f"Permission denied; the old contents are untouched: '{path}"):
            replaced.save(path)
        assert path.read_bytes() == replaced.old

    assert in_child(save) == 0
    assert path.read_bytes() == replaced.old and os.listdir(open_folder) == ["c.safetensors"]


def test_a_folder_that_can_be_written_but_not_read(replaced: Replaced, open_folder: Path) -> None:
    path = open_folder / "c.safetensors"
    open_folder.chmod(0o333)

    def save() -> None:
        if os.getuid() == 0:
            os.setgid(65534), os.setuid(65534)
        replaced.save(path)

    assert in_child(save) == 0
    open_folder.chmod(0o755)
    assert replaced.which(path) == "new"


def test_places_where_no_file_can_be(halfway: Halfway, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    save, opened = halfway.trainer.save, len(os.listdir("/proc/self/fd"))
    for name, error, words in (
        ("file/c", NotADirectoryError, "Not a directory"),
        ("absent/c", FileNotFoundError, f"No such file or directory; there is no folder {tmp_path}/absent"),
        ("folder", IsADirectoryError, "is a folder; expected the name of a file"),
        ("pipe", OSError, "is no regular file, and a file would take its place"),
        ("c" * 300, OSError, "File name too long"),
    ):
        with pytest.raises(error, match=words) as caught:
            save(tmp_path / name)
        assert caught.value.filename == str(tmp_path / name)
    with pytest.raises(OSError, match="is no regular file"):
        save("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and len(os.listdir("/proc/self/fd")) == opened
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "pipe"] and (tmp_path / "file").read_bytes() == b"x"


def test_names_permissions_and_links_stay(halfway: Halfway, tmp_path: Path) -> None:
    longest = tmp_path / ("é" * 127)  # 254 bytes of the 255 that a name may have
    halfway.trainer.save(longest)
    longest.chmod(0o600)
    (tmp_path / "link").symlink_to(longest)
    halfway.trainer.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and stat.S_IMODE(longest.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["link", longest.name]


def test_what_a_living_process_is_writing_stays(halfway: Halfway, tmp_path: Path) -> None:
    """A child is stopped in the middle of its write; this process saves to the same name; the child goes on and its file is whole too."""
    path = tmp_path / "c.safetensors"

    def stopping() -> Callable[..., None]:
        writes = iter([False, False, True])
        return lambda name, arguments: os.kill(os.getpid(), signal.SIGSTOP) if name == "write" and next(writes, False) else None

    child = os.fork()
    if not child:
        try:
            with watched(stopping()):
                files.write(path, {"w": np.ones(9000)})
            os._exit(0)
        except BaseException:
            os._exit(1)
    try:
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        halfway.trainer.save(path)
        assert halfway.which(path) == "new" and len(os.listdir(tmp_path)) == 2
    finally:
        os.kill(child, signal.SIGCONT)
        status = os.waitpid(child, 0)[1]
    assert status == 0 and (files.read(path)[0]["w"] == 1).all() and os.listdir(tmp_path) == ["c.safetensors"]


def test_many_threads_write_and_read_one_file(tmp_path: Path) -> None:
    path, faults, until = tmp_path / "c", [], time.monotonic() + 0.7
    files.write(path, {"w": np.zeros(5000)})

    def work(number: int) -> None:
        try:
            while time.monotonic() < until:
                files.write(path, {"w": np.full(5000, number)})
                assert len(set(files.read(path)[0]["w"])) == 1
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and os.listdir(tmp_path) == ["c"]


def test_a_relative_name_in_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError, match="No such file or directory; the current folder is gone") as caught:
        files.replace("here.safetensors", b"x")
    assert caught.value.filename == "here.safetensors"
