"""Callbacks that write and print."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_trainer import blobs, trainer

from fastnn import files
from fastnn.train import HistoryFile, ModelCheckpoint

# --- which are called


def test_callbacks_of_an_iterator_are_called_too(tmp_path: Path) -> None:
    for name, given in (
        ("generator", (ModelCheckpoint(path) for path in [tmp_path / "c"])),
        ("filter", filter(None, [HistoryFile(tmp_path / "h")])),
    ):
        trainer().fit(blobs(32), 1, callbacks=given, progress=False)  # type: ignore[arg-type]
        assert len(list(tmp_path.iterdir())) == 1, name
        next(tmp_path.iterdir()).unlink()


# --- what no file can hold


def test_notes_that_no_file_can_hold_are_refused_before_the_first_epoch(tmp_path: Path) -> None:
    t = trainer()
    t.notes["begun"] = {"in": tmp_path}
    with pytest.raises(
        TypeError, match=r"trainer.notes\['begun'\]\['in'\] is PosixPath, .*; JSON has Python's words, numbers, lists and dicts"
    ):
        t.fit(blobs(32), 1, callbacks=[ModelCheckpoint(tmp_path / "c")], progress=False)
    assert t.optimizer.steps == 0


# --- where files go


@pytest.mark.parametrize("kind", [HistoryFile, ModelCheckpoint])
def test_where_no_file_can_be_is_said_before_the_first_epoch(tmp_path: Path, kind: type) -> None:
    for path, words in (
        (tmp_path / "absent" / "file", f"there is no folder {tmp_path}/absent; make it"),
        (tmp_path, "is a folder; give the file"),
    ):
        t = trainer()
        with pytest.raises(ValueError, match=f"^{kind.__name__}: .*{words}"):
            t.fit(blobs(32), 1, callbacks=[kind(path)], progress=False)
        assert t.optimizer.steps == 0 and not len(t.history)


@pytest.mark.parametrize("kind", [HistoryFile, ModelCheckpoint])
def test_a_folder_that_cannot_be_written_is_said_before_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    """Also where a link leads into it. To root the system says that it may write anywhere."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "closed" / "file")
    monkeypatch.setattr("os.access", lambda path, how: os.path.basename(path) != "closed" and how == os.W_OK | os.X_OK)
    for path in (tmp_path / "closed" / "file", tmp_path / "link"):
        t = trainer()
        with pytest.raises(ValueError, match=f"^{kind.__name__}: nothing can be written into {tmp_path}/closed; choose another folder$"):
            t.fit(blobs(32), 2, callbacks=[kind(path)], progress=False)
        assert t.optimizer.steps == 0
    trainer().fit(blobs(32), 1, callbacks=[kind(tmp_path / "file")], progress=False)
    assert (tmp_path / "file").exists()


def test_a_checkpoint_of_every_second_epoch_has_the_last_one_too(tmp_path: Path) -> None:
    trainer().fit(blobs(32), 3, callbacks=[ModelCheckpoint(tmp_path / "c", every=2)], progress=False)
    assert files.read(tmp_path / "c")[1]["epoch"] == 3
