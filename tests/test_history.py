"""The history of several fits, and what is judged by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_trainer import blobs, trainer

from fastnn.train import Callback, EarlyStopping, History, HistoryFile, ModelCheckpoint, Snapshot, Trainer

NAN = float("nan")


def rows(column: str, *values: float | None) -> History:
    """An epoch for each; None: it has no such column."""
    return History([{"epoch": i + 1, "loss": 1.0, **({} if v is None else {column: v})} for i, v in enumerate(values)])


class Says(Callback):
    """Puts the figures into the history that a test needs there, ahead of callbacks that judge them."""

    def __init__(self, column: str, *values: float) -> None:
        self.column, self.values = column, iter(values)

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        row[self.column] = next(self.values)


# --- columns


def test_a_column_is_that_of_the_rows_that_have_it() -> None:
    """Also when the last fit had no validation."""
    history = rows("val_loss", None, 0.5, 0.25, None)
    assert history["val_loss"] == [0.5, 0.25] and history["epoch"] == [1, 2, 3, 4]
    with pytest.raises(KeyError, match="history has no column 'val_los'; it has epoch, loss, val_loss"):
        history["val_los"]


def test_figures_stand_below_their_headings() -> None:
    """The validation's loss stood below "rate"."""
    plain = {"epoch": 1, "loss": 0.5, "accuracy": 0.25, "lr": 0.1, "seconds": 2}
    seen = {"epoch": 2, "loss": 0.4, "accuracy": 0.5, "val_loss": 0.75, "val_accuracy": 0.125, "lr": 0.1, "seconds": 3}
    first, second, third, fourth = History([plain, seen, {**plain, "epoch": 3, "mine": 7}]).table().splitlines()
    assert first.split() == "epoch loss accuracy val loss val accuracy rate seconds mine".split()
    ends = {title: first.index(title) + len(title) for title in ("loss", "val loss", "val accuracy", "rate", "seconds", "mine")}
    for row, given in ((second, plain), (third, seen), (fourth, plain)):
        assert row[: ends["loss"]].split()[-1] == f"{given['loss']:.4f}" and row[: ends["rate"]].split()[-1] == "0.1"
        assert row[: ends["seconds"]].split()[-1] == f"{given['seconds']:.1f}"
    assert second.split() == ["1", "0.5000", "25.00%", "0.1", "2.0"] and fourth[: ends["mine"]].split()[-1] == "7.0000"
    narrow, wide = (History([{**plain, "loss": loss}]).table().splitlines()[1] for loss in (0.5, 6.5e34))  # of a rate that is far too high
    assert wide == narrow.replace(" 0.5000", "6.5e+34")
    assert third[: ends["val loss"]].endswith("0.7500") and third[: ends["val accuracy"]].endswith("12.50%")


def test_progress_says_what_changed_columns_are(capsys: pytest.CaptureFixture[str]) -> None:
    t = trainer()
    t.fit(blobs(32), 1)
    t.fit(blobs(32), 2, blobs(9, 1))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    plain, seen = "epoch loss accuracy rate seconds".split(), "epoch loss accuracy val loss val accuracy rate seconds".split()
    assert [line if line[0] == "epoch" else line[0] for line in lines] == [plain, "1", plain, "1", seen, "2", "3"]


def test_what_is_no_number_is_null_in_json(tmp_path: Path) -> None:
    rows("val_loss", NAN, 0.5, float("inf")).save(tmp_path / "h")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    read = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "h").read_text().splitlines()]
    assert [row["val_loss"] for row in read] == [None, 0.5, None]


@pytest.mark.parametrize("history, axes", [
    (rows("accuracy", 0.5, 0.6), ["loss", "accuracy"]), (rows("val_accuracy", None, 0.6), ["loss", "accuracy"]), (rows("val_loss", 1.0, 0.5), ["loss"]),
    (History([{"loss": 1.0}, {"loss": 0.5}]), ["loss"]), (History([{"accuracy": 1.0}]), ["accuracy"]), (History(), ["loss"]),
])  # fmt: skip
def test_curves_of_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history: History, axes: list[str]) -> None:
    """A training with metrics=[] has no accuracy, rows of the user's may have no epoch: matplotlib warned of an empty legend, or a KeyError came."""
    figures = pytest.importorskip("matplotlib.figure")
    drawn: list[Any] = []
    save = figures.Figure.savefig
    monkeypatch.setattr(figures.Figure, "savefig", lambda figure, *a, **k: drawn.append(figure) or save(figure, *a, **k))
    history.plot(tmp_path / "curves.png")
    (figure,) = drawn
    assert [one.get_ylabel() for one in figure.axes] == axes and (tmp_path / "curves.png").stat().st_size
    if len(history):
        for one in figure.axes:
            assert one.get_legend() is not None and all(set(line.get_xdata()) <= {1, 2} for line in one.lines)
            assert all(float(tick).is_integer() for tick in one.get_xticks())


# --- which row is the best


def test_curves_stay_until_new_ones_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the picture's header and its pixels."""
    pixels = pytest.importorskip("PIL.ImageFile")
    pytest.importorskip("matplotlib")
    history = rows("accuracy", 0.5, 0.75)
    history.plot(tmp_path / "c.png")
    before = (tmp_path / "c.png").read_bytes()

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pixels, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        history.plot(tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    monkeypatch.undo()
    history.plot(tmp_path / "c.svg"), history.plot(tmp_path / "bare")
    assert b"<svg" in (tmp_path / "c.svg").read_bytes() and (tmp_path / "bare.png").read_bytes() == before


def test_the_best_is_a_row_also_where_others_lack_the_column() -> None:
    assert rows("val_loss", None, None, 0.5, 0.3, 0.4).best("val_loss") == 3
    assert rows("val_loss", 0.1, 0.5, 0.3, None).best("val_loss") == 0
    with pytest.raises(ValueError, match="monitor 'val_loss' is no column; there are epoch, loss$"):
        rows("val_loss", None).best("val_loss")


def test_what_is_no_number_is_the_worst() -> None:
    """It was never beaten where it came first: every comparison with it is false."""
    assert rows("val_loss", NAN, 0.5, 0.4).best("val_loss") == 2
    assert rows("val_accuracy", NAN, 0.5, NAN, 0.4).best("val_accuracy") == 1
    assert rows("val_loss", NAN, NAN).best("val_loss") == 0
    first, second = Snapshot(1, 0.0, NAN, {}), Snapshot(2, 0.0, 0.5, {})
    assert second.better_than(first) and not first.better_than(second) and not first.better_than(first)
    assert Snapshot(2, 0.1, 0.5, {}).better_than(Snapshot(1, NAN, 0.1, {})) and not Snapshot(2, NAN, 0.1, {}).better_than(second)


def test_a_name_says_what_is_better_or_mode_does() -> None:
    """An error rate was taken for something to be as high as can be."""
    for name in ("val_loss", "val_error", "top5_error", "word_error_rate", "Perplexity"):
        assert rows(name, 0.5, 0.3, 0.4).best(name) == 1 and rows(name, 0.5, 0.3, 0.6).best(name, "max") == 2
    for name in ("val_accuracy", "top5_accuracy", "macro_F1", "val_auc"):
        assert rows(name, 0.5, 0.3, 0.6).best(name) == 2 and rows(name, 0.5, 0.3, 0.6).best(name, mode="min") == 1
    words = r"the name of monitor 'dist' does not say what is better; give mode='min' \(the lower\) or mode='max'$"
    with pytest.raises(ValueError, match=f"^History.best: {words}"):
        rows("dist", 1).best("dist")
    with pytest.raises(ValueError, match=f"^EarlyStopping: {words}"):
        EarlyStopping(3, monitor="dist")
    with pytest.raises(ValueError, match="^EarlyStopping: mode 'low' is not one of min, max$"):
        EarlyStopping(3, monitor="dist", mode="low")


# --- stopping early


@pytest.mark.parametrize(("column", "mode"), [("val_error", None), ("dist", "min")])
def test_an_error_that_falls_is_progress(column: str, mode: str | None) -> None:
    t, falling = trainer(), Says(column, *(1 - i / 100 for i in range(6)), *[0.99] * 9)
    t.fit(blobs(32), 15, callbacks=[falling, EarlyStopping(3, monitor=column, mode=mode)], progress=False)
    assert len(t.history) == 6 + 3


def test_a_column_of_a_callback_is_the_historys_and_can_be_watched() -> None:
    """EarlyStopping found it in the row that it was given, and in none of the history's."""

    class Added(Callback):
        def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
            row["own_error"] = 0.5

    t = trainer()
    t.fit(blobs(32), 9, callbacks=[Added(), EarlyStopping(2, monitor="own_error")], progress=False)
    assert t.history["own_error"] == [0.5] * 3


def test_what_a_callback_puts_into_a_row_is_a_number_or_refused_where_it_is_written(tmp_path: Path) -> None:
    """True was written into checkpoints that nothing could read again; numpy's float32 went into none of the JSON Lines."""

    class Adds(Callback):
        def __init__(self, value: Any) -> None:
            self.value = value

        def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
            row["own"] = self.value

    checkpoint, lines = tmp_path / "c", tmp_path / "h"
    for write in (ModelCheckpoint(checkpoint), HistoryFile(lines)):
        for value in (True, "low"):
            with pytest.raises(TypeError, match=f"^History: own must be a number, got {value!r}$"):
                trainer().fit(blobs(9), 1, callbacks=[Adds(value), write], progress=False)
    assert list(tmp_path.iterdir()) == []
    writes = [Adds(np.float32(0.25)), ModelCheckpoint(checkpoint), HistoryFile(lines)]
    trainer().fit(blobs(9), 1, callbacks=writes, progress=False)
    assert json.loads(lines.read_text())["own"] == 0.25
    assert trainer().fit(blobs(9), 1, resume=checkpoint, progress=False)["own"] == [0.25]


def test_early_stopping_judges_the_running_fit() -> None:
    """Neither epochs without validation before it nor those in which an earlier fit had stopped count."""
    t, training, stop = trainer(), blobs(32), [EarlyStopping(3, monitor="val_loss")]
    t.fit(training, 5, progress=False)
    falling = [Says("val_loss", *(1 - i / 100 for i in range(10))), *stop]
    t.fit(training, 10, blobs(9, 1), callbacks=falling, progress=False)
    assert len(t.history) == 15
    t.fit(training, 10, blobs(9, 1), callbacks=[Says("val_loss", 0.2, *[0.5] * 9), *stop], progress=False)
    assert len(t.history) == 15 + 4  # the first was the best: three without progress
    t.fit(training, 10, blobs(9, 1), callbacks=[Says("val_loss", *[0.6, 0.5, 0.4] * 2, *[0.5] * 4), *stop], progress=False)
    assert len(t.history) == 19 + 6


def test_the_rate_of_an_epoch_is_that_of_its_steps() -> None:
    """Also where a callback sets it at the epoch's start."""

    class Steps(Callback):
        def before_epoch(self, trainer: Trainer) -> None:
            trainer.optimizer.param_groups[0]["lr"] = 0.1 / 2**trainer.epoch

    t = trainer()
    t.fit(blobs(60), 3, batch_size=16, callbacks=[Steps()], progress=False)
    assert [row["lr"] for row in t.history.rows] == [0.1, 0.05, 0.025]


def test_rows_of_json_lines_with_null_are_rows(tmp_path: Path) -> None:
    """As somebody reads them who does not know of History.load."""
    History([{"epoch": 1, "loss": float("nan")}, {"epoch": 2, "loss": 0.5}]).save(tmp_path / "h.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert rows[0]["loss"] is None
    again = History(rows)
    assert np.isnan(again.rows[0]["loss"]) and again.rows[1:] == [{"epoch": 2, "loss": 0.5}] and again.best("loss") == 1
