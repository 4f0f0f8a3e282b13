"""What a training writes for others to read: CSV, JSON Lines, TensorBoard's scalars; and the update ratios in them."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard_stand_in import StandIn
from test_trainer import bits, blobs, net, trainer

from fastnn import nn, optim, train
from fastnn.train import Callback, History, HistoryFile, Interrupted, ModelCheckpoint, TensorBoard, Trainer, UpdateRatios

NAN, INF = float("nan"), float("inf")
ODD = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 1e22, NAN, INF, -INF, 3.0]


class Adds(Callback):
    """A callback's own figure, from an epoch on."""

    def __init__(self, column: str = "own", begin: int = 1) -> None:
        self.column, self.begin = column, begin

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        if trainer.epoch >= self.begin:
            row[self.column] = trainer.epoch / 3


class StopsIn(Callback):
    """A Ctrl-C in an epoch's second step."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def after_step(self, trainer: Trainer, loss: float) -> None:
        if (trainer.epoch + 1, trainer.batch) == (self.epoch, 2):
            raise KeyboardInterrupt


def cells(path: Path) -> list[dict[str, str]]:
    """As another reader sees them."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def same(a: float, b: float) -> bool:
    return np.float64(a).tobytes() == np.float64(b).tobytes() or (math.isnan(a) and math.isnan(b))


# --- CSV


@pytest.mark.parametrize("name", ["h.csv", "H.CSV"])
def test_csv_has_every_digit(tmp_path: Path, name: str) -> None:
    history = History([{"epoch": i, "x": value} for i, value in enumerate(ODD, 1)])
    history.save(tmp_path / name)
    other = np.genfromtxt(tmp_path / name, delimiter=",", names=True)
    assert all(same(a, b) for a, b in zip(other["x"], ODD)) and other["epoch"].tolist() == list(range(1, 11))
    assert (tmp_path / name).read_text().splitlines()[:2] == ["epoch,x", "1,0.30000000000000004"]
    assert all(same(a, b) for a, b in zip(History.load(tmp_path / name)["x"], ODD))


def test_a_column_that_comes_later_leaves_earlier_rows_as_they_were(tmp_path: Path) -> None:
    rows = [
        {"epoch": 1, "loss": 0.5, "lr": 0.1},
        {"epoch": 2, "loss": 0.4, "val_loss": 0.6, "lr": 0.1},
        {"epoch": 3, "own": 7, "loss": 0.3},
    ]
    History(rows).save(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == "epoch,loss,val_loss,lr,own\n1,0.5,,0.1,\n2,0.4,0.6,0.1,\n3,0.3,,,7.0\n"
    assert History.load(tmp_path / "h.csv").rows == rows


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ""])
def test_a_history_is_read_as_it_was_written(tmp_path: Path, ending: str) -> None:
    for rows in (
        [],
        [{}],
        [{}, {}],
        [{"": 1.0}, {}],
        [{"a": 1.0}, {"b": 2.0}, {}],
        [{'a,"b"': 1.0, "c\nd": 2.0, " é;\t": 3.0, "=1+1": 4.0}, {"c\nd": 5.0}],
    ):
        path = tmp_path / f"h{ending}"
        History(rows).save(path)
        assert History.load(path).rows == rows, path.read_bytes()


def test_any_name_of_a_column_is_read_back(tmp_path: Path) -> None:
    rows = [{"a\rb": 1.0, "c": 2.0}, {"a\rb": 3.0, 'd"\n,': 4.0}]
    for name in ("h.csv", "h"):
        History(rows).save(tmp_path / name)
        assert History.load(tmp_path / name).rows == rows


def test_other_files_are_json_lines_as_before(tmp_path: Path) -> None:
    History([{"epoch": 1, "loss": NAN}, {"epoch": 2, "loss": 0.5}]).save(tmp_path / "h.txt")
    assert [json.loads(line)["loss"] for line in (tmp_path / "h.txt").read_text().splitlines()] == [None, 0.5]
    assert math.isnan(History.load(tmp_path / "h.txt")["loss"][0])


def test_what_spreadsheets_make_of_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_bytes(b"\xef\xbb\xbfepoch,loss\r\n1,0.5\r\n\r\n2,5e-1\r\n")
    assert History.load(tmp_path / "h.csv").rows == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.5}]


@pytest.mark.parametrize("name, contents, words", [
    ("h.csv", b"epoch,loss\n1,0.5\n2\n", "line 3 has 1 cells, the heading 2"),
    ("h.csv", b"epoch,loss\n1,0.5,7\n", "line 2 has 3 cells, the heading 2"),
    ("h.csv", b"epoch,loss\n1,low\n", "line 2 has 'low' as loss, which is no number"),
    ("h.csv", b"epoch,epoch\n1,2\n", "its heading has a column twice"),
    ("h.csv", b"epoch\n\xff\n", "can't decode byte 0xff"),
    ("h.csv", b'epoch\n"1\n', "unexpected end of data"),
    ("h", b'{"epoch": 1}\n[1]\n', r"line 2 is \[1\], no row \{column: number\}"),
    ("h", b'{"epoch": true}\n', "line 1 has True as epoch, which is no number"),
    ("h", b'{"epoch": "1"}\n', "line 1 has '1' as epoch, which is no number"),
    ("h", b'{"epoch": 1\n', "delimiter"),
    ("h", b"[" * 100000, "recursion"),
])  # fmt: skip
def test_what_is_no_history_is_said(tmp_path: Path, name: str, contents: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{name}: no history as (CSV|JSON Lines) \(.*{words}.*\); History.save writes one$"):
        History.load(tmp_path / name)


def test_places_where_no_history_can_be(tmp_path: Path) -> None:
    for path, kind in ((tmp_path, IsADirectoryError), (tmp_path / "absent" / "h.csv", FileNotFoundError)):
        with pytest.raises(kind, match=str(path)):
            History().save(path)
        with pytest.raises(kind, match=str(path)):
            History.load(path)
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(ValueError, match=f"^HistoryFile: path {tmp_path}/f.csv is a folder; give the file"):
        trainer().fit(blobs(9), 1, callbacks=[HistoryFile(tmp_path / "f.csv")], progress=False)


# --- HistoryFile


def test_the_file_is_whole_after_each_epoch(tmp_path: Path) -> None:
    """With the columns of validation from the second fit on, and those of a callback further down the list one epoch later."""
    seen: list[list[dict[str, str]]] = []

    class Looks(Callback):
        def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
            seen.append(cells(tmp_path / "h.csv"))

    t, calls = trainer(), [HistoryFile(tmp_path / "h.csv"), Looks(), Adds()]
    t.fit(blobs(32), 2, callbacks=calls, progress=False)
    t.fit(blobs(32), 2, blobs(9, 1), callbacks=calls, progress=False)
    assert [[row["epoch"] for row in rows] for rows in seen] == [["1"], ["1", "2"], ["1", "2", "3"], ["1", "2", "3", "4"]]
    assert [row.get("own", "") for row in seen[3]] == ["0.3333333333333333", "0.6666666666666666", "1.0", ""]
    assert seen[2][0]["val_loss"] == "" and float(seen[2][2]["val_loss"]) == t.history.rows[2]["val_loss"]
    assert History.load(tmp_path / "h.csv").rows == t.history.rows and len(list(tmp_path.iterdir())) == 1


def test_a_write_that_fails_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    t = trainer()
    t.fit(blobs(32), 1, callbacks=[HistoryFile(tmp_path / "h.csv")], progress=False)
    before = (tmp_path / "h.csv").read_bytes()

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=f"{tmp_path}/h.csv"):
        t.fit(blobs(32), 1, callbacks=[HistoryFile(tmp_path / "h.csv")], progress=False)
    assert (tmp_path / "h.csv").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("at", [2, 3])
def test_a_resumed_training_goes_on_in_its_file(tmp_path: Path, at: int) -> None:
    """Killed within an epoch; the file may have an epoch that the checkpoint has not."""

    def calls(name: str, *more: Callback) -> list[Callback]:
        return [*more, UpdateRatios(), ModelCheckpoint(tmp_path / "c", every=2), HistoryFile(tmp_path / f"{name}.csv")]

    trainer().fit(blobs(60), 5, blobs(9, 1), batch_size=16, callbacks=calls("whole"), progress=False)
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(blobs(60), 5, blobs(9, 1), batch_size=16, callbacks=calls("h", StopsIn(at + 1)), progress=False)
    assert len(cells(tmp_path / "h.csv")) == at
    resumed = trainer()
    resumed.fit(blobs(60), 5, blobs(9, 1), batch_size=16, callbacks=calls("h"), resume=tmp_path / "c", progress=False)
    whole, again = ([{**row, "seconds": 0} for row in cells(tmp_path / f"{name}.csv")] for name in ("whole", "h"))
    assert whole == again and [row["epoch"] for row in again] == list("12345") and again[0]["update_ratio"]


def test_nothing_done_leaves_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("epoch\n1\n")
    trainer().fit(blobs(32), 0, callbacks=[HistoryFile(tmp_path / "h.csv")], progress=False)
    assert (tmp_path / "h.csv").read_text() == "epoch\n1\n"


# --- update ratios


@pytest.mark.parametrize("replay", [True, False])
def test_update_ratios_are_those_of_the_last_step(replay: bool) -> None:
    """Beside norms taken of the weights themselves, before and behind it; the training has the bits that it has without."""

    class Compares(Callback):
        def before_step(self, trainer: Trainer) -> None:
            self.before = {name: p.numpy().astype(np.float64) for name, p in trainer.model.named_parameters()}

        def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
            weights = {name: p.numpy().astype(np.float64) for name, p in trainer.model.named_parameters() if p.ndim > 1}
            ratios = sorted(np.linalg.norm(w - self.before[name]) / np.linalg.norm(self.before[name]) for name, w in weights.items())
            assert len(ratios) == 2
            found = [row[name] for name in ("update_ratio_min", "update_ratio", "update_ratio_max")]
            np.testing.assert_allclose(found, [ratios[0], sum(ratios) / 2, ratios[1]], rtol=1e-4)

    plain, measured = trainer(), trainer()
    plain.fit(blobs(60), 3, batch_size=16, progress=False, replay=replay)
    measured.fit(blobs(60), 3, batch_size=16, callbacks=[UpdateRatios(), Compares()], progress=False, replay="auto" if replay else False)
    assert bits(plain.model) == bits(measured.model) and not measured.optimizer.measure_updates
    assert "update_ratio" in measured.history.table().replace("update ratio", "update_ratio")


def test_update_ratios_of_a_model_of_vectors_and_of_an_optimizer_without_them() -> None:
    norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36))
    t = Trainer(norm, optim.SGD(norm.parameters(), 0.1))
    t.fit(blobs(60), 1, callbacks=[UpdateRatios()], progress=False)
    assert 0 < t.history["update_ratio"][0] < 1
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    t = Trainer(model, optim.Lookahead(optim.SGD(model.parameters(), 0.1), k=2))
    t.fit(blobs(60), 1, callbacks=[UpdateRatios()], progress=False)
    assert 0 < t.history["update_ratio"][0] < 10


def test_update_ratios_of_an_epoch_that_is_interrupted_behind_its_last_step(tmp_path: Path) -> None:
    class Stops(Callback):
        def before_evaluate(self, trainer: Trainer) -> None:
            raise KeyboardInterrupt

        def after_step(self, trainer: Trainer, loss: float) -> None:
            trainer.save(tmp_path / "c")

    whole = trainer().fit(blobs(60), 2, blobs(9, 1), batch_size=16, callbacks=[UpdateRatios()], progress=False)
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(blobs(60), 2, blobs(9, 1), batch_size=16, callbacks=[UpdateRatios(), Stops()], progress=False)
    again = trainer()
    again.fit(blobs(60), 2, blobs(9, 1), batch_size=16, callbacks=[UpdateRatios()], resume=tmp_path / "c", progress=False)
    assert again.history["update_ratio"] == whole["update_ratio"] and np.isfinite(whole["update_ratio"]).all()


# --- TensorBoard


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setitem(sys.modules, "tensorboardX", made)
    return made


def test_every_column_is_a_scalar_of_its_epoch(tmp_path: Path, library: StandIn) -> None:
    t = trainer()
    t.fit(blobs(60), 3, blobs(9, 1), batch_size=16, callbacks=[Adds(begin=2), TensorBoard(tmp_path / "t")], progress=False)
    shown = library.shown(str(tmp_path / "t"))
    assert set(shown) == {f"epoch/{name}" for name in ("loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds", "own")}
    for name in ("loss", "val_accuracy", "lr"):
        assert shown[f"epoch/{name}"] == dict(zip((1, 2, 3), t.history[name]))
    assert shown["epoch/own"] == {2: 2 / 3, 3: 1.0}
    assert len(library.writers) == 1 and library.writers[0].closed and not t.optimizer.measure_updates


def test_steps_and_their_update_ratios(tmp_path: Path, library: StandIn) -> None:
    """Every third of eight steps, with the rate it was done at; the training has the bits that it has without."""
    losses: list[float] = []

    class Sees(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            losses.append(loss)

    def made() -> Trainer:
        model = net()
        return Trainer(model, optim.SGD(model.parameters(), lambda step: 0.1 / (step + 1)))

    t, plain = made(), made()
    t.fit(blobs(60), 2, batch_size=16, callbacks=[Sees(), TensorBoard(tmp_path / "t", every=3)], progress=False)
    plain.fit(blobs(60), 2, batch_size=16, progress=False)
    assert bits(t.model) == bits(plain.model) and not t.optimizer.measure_updates
    steps = library.shown(str(tmp_path / "t" / "steps"))
    assert steps["step/loss"] == {3: losses[2], 6: losses[5]}
    assert steps["step/lr"] == {3: pytest.approx(0.1 / 3), 6: pytest.approx(0.1 / 6)}
    assert {"update_ratio/0.weight", "update_ratio/6.weight"} < set(steps) and all(
        set(steps[f"update_ratio/{i}.weight"]) == {3, 6} for i in (0, 6)
    )
    assert all(0 < ratio < 1 for ratio in steps["update_ratio/0.weight"].values())


@pytest.mark.parametrize("whole", [False, True])
def test_a_resumed_training_goes_on_with_its_numbers(tmp_path: Path, library: StandIn, whole: bool) -> None:
    """What was written behind the checkpoint is written again, once each as TensorBoard shows it."""

    def fit(name: str, **more: Any) -> Trainer:
        t = trainer()
        calls = [*more.pop("more", []), TensorBoard(tmp_path / name, every=2), ModelCheckpoint(tmp_path / "c", every=2)]
        t.fit(blobs(60), 5, batch_size=16, callbacks=calls, progress=False, **more)
        return t

    fit("whole")
    with pytest.raises(KeyboardInterrupt):
        fit("t", more=[StopsIn(4)])
    for writer in library.writers if whole else ():
        writer.flush()  # what the system had taken when the process ended
    fit("t", resume=tmp_path / "c")
    assert len({writer.suffix for writer in library.writers}) == len(library.writers)
    for folder in ("", "steps"):
        first, again = (library.shown(os.path.join(tmp_path, name, folder).rstrip("/")) for name in ("whole", "t"))
        first.pop("epoch/seconds", None), again.pop("epoch/seconds", None)
        assert first == again and first


def test_an_interrupted_training_closes_its_files(tmp_path: Path, library: StandIn) -> None:
    class Asks(Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            os.kill(os.getpid(), 2)

    t = trainer()
    with pytest.raises(Interrupted):
        t.fit(blobs(60), 2, batch_size=16, callbacks=[Asks(), TensorBoard(tmp_path / "t", every=1)], progress=False)
    assert all(writer.closed for writer in library.writers) and not t.optimizer.measure_updates
    assert set(library.shown(str(tmp_path / "t" / "steps"))["step/loss"]) == {1}


def test_two_callbacks_that_measure_leave_the_optimizer_as_it_was(tmp_path: Path, library: StandIn) -> None:
    for on in (False, True):
        t = trainer()
        t.optimizer.measure_updates = on
        t.fit(blobs(32), 1, callbacks=[UpdateRatios(), TensorBoard(tmp_path / "t", every=1), UpdateRatios()], progress=False)
        assert t.optimizer.measure_updates is on


def test_an_error_within_a_fit_leaves_nothing_for_the_next(tmp_path: Path, library: StandIn) -> None:
    t, calls = trainer(), [UpdateRatios(), TensorBoard(tmp_path / "t", every=1)]
    with pytest.raises(KeyboardInterrupt):
        t.fit(blobs(60), 2, batch_size=16, callbacks=[StopsIn(1), *calls], progress=False)
    t.fit(blobs(60), 1, batch_size=16, callbacks=calls, progress=False)
    assert not t.optimizer.measure_updates and all(writer.closed for writer in library.writers)
    assert list(library.shown(str(tmp_path / "t"))["epoch/loss"]) == [1]


def test_without_the_library_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"^TensorBoard: its files need tensorboardX \(in the checkout: pip install '.\[tensorboard\]'\)$"
    ):
        TensorBoard(tmp_path)
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert 'tensorboard = ["tensorboardX>=2.6"]' in text


@pytest.mark.parametrize("make, words", [
    (lambda folder: TensorBoard(folder / "file"), "TensorBoard: folder .*/file cannot be, .*/file is a file; choose another folder"),
    (lambda folder: TensorBoard(folder / "file" / "below"), "TensorBoard: folder .*/below cannot be, .*/file is a file; choose another folder"),
    (lambda folder: TensorBoard(folder, every=0), "TensorBoard: every must be at least 1, got 0"),
    (lambda folder: TensorBoard(folder, every=True), "TensorBoard: every must be an integer, got True"),
    (lambda folder: TensorBoard(folder, update_freq=3), "TensorBoard: .*update_freq.*it is every"),
])  # fmt: skip
def test_what_tensorboard_cannot_do(tmp_path: Path, library: StandIn, make: Callable[[Path], Callback], words: str) -> None:
    (tmp_path / "file").touch()
    t = trainer()
    with pytest.raises((ValueError, TypeError), match=words):
        t.fit(blobs(32), 1, callbacks=[make(tmp_path)], progress=False)
    assert t.optimizer.steps == 0 and not library.writers


def test_names_are_those_of_the_model_and_of_the_loss(tmp_path: Path, library: StandIn) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(np.ones((1, 1)))

        def forward(self, logits: Any, labels: Any) -> Any:
            return nn.CrossEntropyLoss()(logits * self.scale, labels)

    model, loss = net(), Scaled()
    t = Trainer(model, optim.SGD([*model.parameters(), *loss.parameters()], 0.1), loss)
    t.fit(blobs(32), 1, callbacks=[TensorBoard(tmp_path / "t", every=1)], progress=False)
    assert "update_ratio/loss/scale" in library.shown(str(tmp_path / "t" / "steps"))
    assert train.TensorBoard is TensorBoard
