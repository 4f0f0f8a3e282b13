"""Callbacks that write and print."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_trainer import blobs, trainer

from fastnn.train import HistoryFile, ModelCheckpoint

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
