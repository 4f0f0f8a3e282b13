"""The report of a training: one HTML file, what stands in it, and where it can be written."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_trainer import bits, blobs, trainer

import fastnn
from fastnn import models, nn, optim, train
from fastnn.cli import main
from fastnn.train import Callback, History, Trainer, UpdateRatios, reading, report_curves, report_html

NAN, INF = float("nan"), float("inf")
pytest.importorskip("matplotlib")


class Page(HTMLParser):
    """Tags that are closed as they were opened, texts, tables; nothing from elsewhere."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html, self.open, self.text, self.tags = path.read_text(encoding="utf-8"), [""], "", list[str]()
        self.cells: list[tuple[str, str]] = []  # of rows: their class, their text
        self.feed(self.html)
        self.close()
        assert self.open == [""], self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert tag not in ("script", "img", "link", "iframe", "object"), tag
        for name, value in attributes:
            assert name not in ("src", "onload", "onclick", "srcset"), name
            assert not name.endswith("href") or str(value).startswith("#"), value
            assert name.startswith("xmlns") or "//" not in str(value), value
            assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)", str(value))), value
        if tag == "tr":
            self.cells.append((str(dict(attributes).get("class", "")), ""))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            assert "url(" not in data and "@import" not in data
            return
        self.text += data
        if "tr" in self.open:
            self.cells[-1] = self.cells[-1][0], f"{self.cells[-1][1]} {data}"


def rows(**columns: list[float]) -> History:
    count = len(next(iter(columns.values())))
    return History([{"epoch": i + 1, **{name: values[i] for name, values in columns.items()}} for i in range(count)])


def drawn(monkeypatch: pytest.MonkeyPatch, history: History) -> dict[str, Any]:
    """The axes by their titles."""
    figures: list[Any] = []
    monkeypatch.setattr(report_curves, "_svg", lambda figure: figures.append(figure) or "")
    report_curves.curves(history.rows)
    return {axes.get_title(): axes for axes in figures[0].axes if axes.get_title()}


# --- what stands in it


def test_a_report_of_a_training(tmp_path: Path) -> None:
    fastnn.seed(0)
    model = models.create("lenet", input_shape=(1, 6, 6), num_classes=3)
    t = Trainer(model, optim.Adam(model.parameters(), optim.schedules.cosine(1e-2, 12)), clip_norm=1.5, ema=0.9, l2=1e-4, seed=3)
    t.notes["made <for>"] = "a & b"
    validation = blobs(21, 1)
    t.fit(blobs(60), 4, validation, batch_size=16, callbacks=[UpdateRatios()], progress=False)
    before = bits(model)
    report_html(t, tmp_path / "r.html", title="a <b> & 'c'")
    page = Page(tmp_path / "r.html")
    assert page.html.startswith("<!DOCTYPE html>") and page.tags.count("svg") == 2 and "default-src 'none'" in page.html
    assert page.text.count("a <b> & 'c'") == 2 and "<b>" not in page.html  # title and heading
    for words in (
        "cosine(0.01, 12)", "Adam(", "16 steps done",
        "CrossEntropyLoss()", "clip_norm=1.5", "EMA(decay=0.9", "made <for>", "a & b", "60", "batch_size=16",
        "3: dark, grey, bright", f"{sum(p.size for p in model.parameters()):,} parameters", "Conv2d(1->32, 3x3, padding 1)", "float32",
        f"fastnn {fastnn.__version__}", np.__version__, t.replayed,
    ):  # fmt: skip
        assert words in page.text, words
    assert re.search(r"validation samples\s*21", " ".join(text for _, text in page.cells))
    assert str(model.summary((1, 6, 6))) in page.text
    best = [text for kind, text in page.cells if kind == "best"]
    assert t.best is not None and len(best) == 1 and best[0].split()[0] == str(t.best.epoch)
    assert f"Best by validation: epoch {t.best.epoch}, " in page.text and f"{100 * t.best.accuracy:.2f}%" in best[0]
    for row in t.history:
        assert any(
            text.split()[0] == f"{row['epoch']:.0f}" and f"{row['loss']:.4f}" in text and f"{row['val_loss']:.4f}" in text
            for _, text in page.cells
        )
    for ratio, (name, p) in zip(t.optimizer.update_ratios(), model.named_parameters()):
        assert any(text.split() == [name, *" x ".join(map(str, p.shape)).split(), f"{ratio:.2e}"] for _, text in page.cells), name
    assert bits(model) == before and len(list(tmp_path.iterdir())) == 1


def test_a_report_of_a_history_alone(tmp_path: Path) -> None:
    """From the file of a run that is long gone; settings are not known then."""
    history = rows(loss=[1.0, 0.5, 0.4], accuracy=[0.5, 0.6, 0.7], val_loss=[1.1, 0.6, 0.7], val_accuracy=[0.4, 0.6, 0.6], lr=[0.1] * 3)
    history.save(tmp_path / "h.csv")
    report_html(History.load(tmp_path / "h.csv"), tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert [text.split()[0] for kind, text in page.cells if kind == "best"] == ["2"]  # at equal accuracy the lower loss
    assert "optimizer" not in page.text and "3 epochs. Best by validation: epoch 2, loss 0.5000, accuracy 60.00%" in page.text


@pytest.mark.parametrize("history, words", [
    (History(), "No epoch is done yet."),
    (History([{}]), "1 epoch. Last: epoch 1, ."),
    (rows(loss=[NAN]), "loss is nan in epoch 1"),
    (rows(loss=[INF, 1.0], val_loss=[NAN, -INF], val_accuracy=[NAN, 0.5]), "loss is inf in epoch 1"),
    (History([{"loss": 1.0}, {"own": 0.5}, {"val_top": 2.0}]), "own"),
    (rows(loss=[0.0, 0.0, 0.0], lr=[0.0, 1.0, 0.1], accuracy=[1.0, 1.0, 1.0]), "nothing stands out"),
    (rows(update_ratio=[NAN, 0.0, 1e-3], update_ratio_min=[NAN, 0.0, 1e-4], update_ratio_max=[NAN, 0.0, INF]), "update ratio"),
    (rows(**{f"own{i}": [1.0] for i in range(40)}), "own39"),
])  # fmt: skip
def test_whatever_a_history_holds_is_a_page(tmp_path: Path, history: History, words: str) -> None:
    report_html(history, tmp_path / "r.html")
    assert words in Page(tmp_path / "r.html").text


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "$\\frac{", "a_$b^c$", "\x00\x1b", "\ud800", '"&quot;', "]]>", "é\u2028", "猫かα", "x" * 500]
)
def test_names_are_letters_and_nothing_else(tmp_path: Path, name: str) -> None:
    """Of columns, classes, titles: neither HTML nor formulas."""
    t = trainer(classes=(name, "b", "c"))
    t.history.append({"epoch": 1, name: 0.5, f"val_{name}": 0.25})
    report_html(t, tmp_path / "r.html", title=name)
    page = Page(tmp_path / "r.html")
    if name.isprintable():
        assert page.text.count(name) >= 4
    assert page.tags.count("script") == 0


def test_a_net_of_ones_own_is_shown_as_it_prints_or_summed_up_for_a_shape(tmp_path: Path) -> None:
    t = trainer()
    report_html(t, tmp_path / "r.html")
    assert repr(t.model) in Page(tmp_path / "r.html").text
    report_html(t, tmp_path / "r.html", input_shape=(1, 6, 6))
    assert str(t.model.summary((1, 6, 6))) in Page(tmp_path / "r.html").text


def test_a_callback_may_write_it_within_a_training(tmp_path: Path) -> None:
    class Writes(Callback):
        def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
            report_html(trainer, tmp_path / "r.html", input_shape=(1, 6, 6))

    plain, t = trainer(), trainer()
    plain.fit(blobs(60), 2, blobs(9, 1), batch_size=16, progress=False)
    t.fit(blobs(60), 2, blobs(9, 1), batch_size=16, callbacks=[Writes()], progress=False)
    assert bits(t.model) == bits(plain.model) and "2 epochs" in Page(tmp_path / "r.html").text


def test_another_thread_waits_for_the_end_of_a_fit(tmp_path: Path) -> None:
    told: list[str] = []

    class Asks(Callback):
        def before_epoch(self, trainer: Trainer) -> None:
            with ThreadPoolExecutor(1) as pool:
                told.append(str(pool.submit(report_html, trainer, tmp_path / "r.html").exception()))

    t = trainer()
    t.fit(blobs(32), 1, callbacks=[Asks()], progress=False)
    assert told[0].startswith("report_html: ") and "fit" in told[0] and list(tmp_path.iterdir()) == []


# --- curves


def test_curves_are_the_figures_and_means_of_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, val = [1.0, 0.5, NAN, 0.25], [1.5, 1.0, 0.75, 0.5]
    history = rows(loss=loss, val_loss=val, accuracy=[0.1, 0.2, 0.3, 0.4], val_accuracy=[0.1, 0.1, 0.2, 0.2], lr=[1.0, 0.1, 0.01, 0.001],
                   top5_accuracy=[0.5] * 4, val_top5_accuracy=[0.4] * 4, own=[1.0, 2.0, 3.0, 4.0], seconds=[1.0] * 4)  # fmt: skip
    axes = drawn(monkeypatch, history)
    gaps = ["gap: validation loss - training loss", "gap: training accuracy - validation accuracy"]
    assert list(axes) == ["loss", "accuracy", *gaps, "learning rate (of each epoch's first step)", "top5_accuracy", "own"]
    points, means = axes["loss"].lines[:2]
    assert list(points.get_xdata()) == [1, 2, 4] and list(points.get_ydata()) == [1.0, 0.5, 0.25] and points.get_linestyle() == "None"
    weights = [[math.exp(-((i - j) ** 2) / (2 * 0.5**2)) for j in range(3)] for i in range(3)]
    expected = [sum(w * x for w, x in zip(row, (1.0, 0.5, 0.25))) / sum(row) for row in weights]
    np.testing.assert_allclose(means.get_ydata(), expected, rtol=1e-12)
    assert [line.get_label() for line in axes["loss"].lines if not line.get_label().startswith("_")] == ["training", "validation"]
    np.testing.assert_allclose(axes[gaps[0]].lines[1].get_ydata(), [0.5, 0.5, 0.25])
    np.testing.assert_allclose(axes[gaps[1]].lines[1].get_ydata(), [0.0, 0.1, 0.1, 0.2], atol=1e-12)
    assert list(axes["learning rate (of each epoch's first step)"].lines[0].get_ydata()) == [1.0, 0.1, 0.01, 0.001]
    assert len(axes["own"].lines) == 2 and len(axes["top5_accuracy"].lines) == 4 and axes["own"].get_legend() is None


def test_what_the_user_has_set_up_for_pictures_does_not_matter(tmp_path: Path) -> None:
    """A matplotlib that writes by TeX, which is not there."""
    import matplotlib

    report_html(rows(loss=[1.0, 0.5]), tmp_path / "r.html")
    with matplotlib.rc_context({"text.usetex": True, "svg.fonttype": "path", "svg.hashsalt": None}):
        report_html(rows(loss=[1.0, 0.5]), tmp_path / "again.html")
    assert (tmp_path / "r.html").read_bytes() == (tmp_path / "again.html").read_bytes()


def test_update_ratios_stand_beside_the_line_of_a_thousandth(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = drawn(monkeypatch, rows(update_ratio=[1e-2, 1e-3], update_ratio_min=[1e-3, 1e-4], update_ratio_max=[1e-1, 1e-2]))[
        "update / weight ratio"
    ]
    aim, median = axes.lines
    assert set(aim.get_ydata()) == {1e-3} and list(median.get_ydata()) == [1e-2, 1e-3] and axes.get_yscale() == "log"


def test_the_mean_of_a_constant_is_that_and_a_long_curve_is_smooth() -> None:
    np.testing.assert_allclose(report_curves.smoothed([3.0] * 7), 3.0)
    assert report_curves.smoothed([]) == [] and report_curves.smoothed([2.0]) == [2.0]
    noise = np.random.default_rng(0).normal(size=400)
    assert np.std(report_curves.smoothed(list(noise))[50:-50]) < 0.3


# --- what the figures say


@pytest.mark.parametrize("history, words", [
    (rows(loss=[2.3, 2.3, 2.295]), "the training loss fell by 0.22 % in 3 epochs: the rate is too low"),
    (rows(loss=[1.0, 4.0, 0.5]), "rose to 4, 4 times that of the first epoch: the rate is too high"),
    (rows(loss=[1.0, 0.5, 0.2, 0.1], val_loss=[1.0, 0.6, 0.8, 1.0]),
     "risen from 0.6 (epoch 2) to 1, while the training loss fell from 0.5 to 0.1: overfit"),
    (rows(loss=[1.0, 0.1], accuracy=[0.9, 0.99], val_loss=[0.5, 0.5], val_accuracy=[0.7, 0.75]),
     "99.0 % in training and 75.0 % in validation: a wide gap"),
    (rows(loss=[1.0, 0.9], accuracy=[0.5, 0.55], val_loss=[0.9, 0.9], val_accuracy=[0.5, 0.56]), "no gap, and neither is high"),
    (rows(loss=[1.0, 0.8, 0.6, 0.4]), "still falls, by 50 % in the last 2 epochs"),
    (rows(loss=[1.0, 0.5], update_ratio=[0.1, 0.2]), "updates are 2.0e-01 of the weights (median), 0.0001 to 0.01 is usual: the rate is too high"),
    (rows(loss=[1.0, 0.5], update_ratio=[1e-6, 1e-6]), "the rate is too low"),
])  # fmt: skip
def test_what_the_figures_say(history: History, words: str) -> None:
    [said] = reading.readings(history.rows)
    assert words in said


def test_of_a_healthy_training_they_say_nothing() -> None:
    healthy = rows(loss=[1.0, 0.3, 0.11, 0.1, 0.1], accuracy=[0.6, 0.9, 0.96, 0.97, 0.97], val_loss=[0.8, 0.4, 0.2, 0.15, 0.15],
                   val_accuracy=[0.7, 0.9, 0.94, 0.95, 0.95], update_ratio=[3e-3, 1e-3, 1e-3, 5e-4, 4e-4])  # fmt: skip
    assert reading.readings(healthy.rows) == [] == reading.readings([])
    ragged = [{"loss": 1.0}, {"val_loss": 0.5}, {"own": 1.0}, {"loss": 0.5, "val_loss": 0.9}]
    assert reading.readings(ragged) == []


# --- where it is written


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    history, path = rows(loss=[1.0]), tmp_path / "r.html"
    for call, kind, words in (
        (lambda: report_html("h.csv", path), TypeError, "^report_html: run must be a Trainer or a History; History.load"),  # type: ignore[arg-type]
        (lambda: report_html(history, tmp_path), IsADirectoryError, f"is a folder; expected the name of a file.*{tmp_path}"),
        (lambda: report_html(history, tmp_path / "absent" / "r.html"), FileNotFoundError, f"there is no folder {tmp_path}/absent"),
        (lambda: report_html(history, path, input_shape=(1, 2, 3)), ValueError, "^report_html: input_shape is for the model of a Trainer"),
        (lambda: report_html(trainer(), path, input_shape=(1, 0, 3)), ValueError, "^report_html: input_shape must be at least 1, got 0"),
        (lambda: report_html(trainer(), path, input_shape=(2, 6, 6)), ValueError, "expected .*C = 1"),
        (lambda: report_html(trainer(), path, title=3), TypeError, "^report_html: title must be a str, got 3"),  # type: ignore[arg-type]
    ):
        with pytest.raises(kind, match=words):
            call()
        assert list(tmp_path.iterdir()) == []


def test_the_page_before_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.html"
    report_html(rows(loss=[1.0]), path)
    before = path.read_bytes()

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report_html(rows(loss=[2.0]), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_without_matplotlib_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install '.\[plot\]'"):
        report_html(rows(loss=[1.0]), tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_what_a_report_needs_waits_until_one_is_written() -> None:
    code = "import sys, fastnn.train; print([m for m in ('html', 'csv', 'matplotlib', 'tensorboardX', 'fastnn.train.reading') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- fastnn train


QUICK = ["train", "digits", "--model", "linear"]


def test_the_command_writes_report_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--report", "r.html", "--log", "csv"]
    assert main([*QUICK, "--epochs", "2", *more]) == 0
    assert capsys.readouterr().out.endswith("report   r.html\n")
    page = Page(tmp_path / "r.html")
    assert (
        "linear on digits" in page.text
        and "update ratio" in page.text
        and "notes: dataset" in page.text
        and "Best by validation" in page.text
    )
    assert main([*QUICK, "--epochs", "4", "--resume", *more]) == 0
    assert "4 epochs" in Page(tmp_path / "r.html").text
    history = History.load("runs/digits/history.csv")
    assert history["epoch"] == [1, 2, 3, 4] and history.rows == History.load("runs/digits/history.jsonl").rows
    assert len(history["update_ratio"]) == 4
    plain = ["checkpoint.safetensors", "curves.png", "history.jsonl", "model.safetensors"]
    assert sorted(os.listdir("runs/digits")) == sorted([*plain, "history.csv"])
    assert main([*QUICK, "--epochs", "4", "--out", "plain"]) == 0
    assert sorted(os.listdir("plain")) == plain and History.load("plain/history.jsonl")["loss"] == pytest.approx(history["loss"], rel=0.2)


def test_the_command_that_goes_on_writes_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard_stand_in import StandIn

    library = StandIn()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboardX", library)
    step = train.ModelCheckpoint.after_epoch

    def stopped(self: train.ModelCheckpoint, trainer: Trainer, row: dict[str, float]) -> None:
        step(self, trainer, row)
        os.kill(os.getpid(), 2)

    monkeypatch.setattr(train.ModelCheckpoint, "after_epoch", stopped)
    assert main([*QUICK, "--epochs", "3", "--log", "tensorboard", "--log", "csv", "--report", "r.html"]) == 130
    assert "fastnn train digits --resume --report r.html --log tensorboard --log csv" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboardX", library)
    assert main([*QUICK, "--resume", "--log", "tensorboard"]) == 0
    assert set(library.shown(os.path.join("runs", "digits", "tensorboard"))["epoch/loss"]) == {1, 2, 3}


def test_the_report_may_lie_among_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert (
        main([*QUICK, "--epochs", "1", "--out", "run", "--report", "run/r.html"]) == 0
        and (tmp_path / "run" / "r.html").stat().st_size > 9999
    )


@pytest.mark.parametrize("words, said", [
    (["--report", "."], "--report: . is a folder; give the file that is to be written"),
    (["--report", "absent/r.html"], "--report: there is no folder"),
    (["--log", "tensorboard"], "tensorboardX"),
])  # fmt: skip
def test_the_command_says_what_cannot_be_before_it_reads_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert main([*QUICK, "--epochs", "1", *words]) == 2
    told = capsys.readouterr()
    assert said in told.err and told.out == "" and list(tmp_path.iterdir()) == []


# --- activations


def dead_net() -> nn.Sequential:
    """Units 1, 3 and 4 of the first ReLU never fire."""
    fastnn.seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    model[1].bias.copy_from(np.where(np.isin(np.arange(6), [1, 3, 4]), -1e4, 5).astype(np.float32))
    return model


def of_dead_net(**options: Any) -> Trainer:
    model = dead_net()
    return Trainer(model, optim.SGD(model.parameters(), 1e-4), **options)


def section(path: Path) -> str:
    """What the page says of activations, without the picture."""
    html = Page(path).html
    text = re.sub(r"<svg.*?</svg>", "[picture]", html[html.index("<h2>Activations</h2>") :], flags=re.DOTALL)
    return re.sub(r"<[^>]*>", " ", text[: text.index("<h2>Epochs")])


def test_dead_channels_stand_there_by_layer_and_number(tmp_path: Path) -> None:
    """Of the validation data, prepared as the model takes them, from one end to the other."""
    t, validation = of_dead_net(), blobs(30, 1)
    t.fit(blobs(60), 1, validation, batch_size=16, progress=False)
    before, draw = bits(t.model), t.generator.draw
    report_html(t, tmp_path / "r.html")
    said, page = section(tmp_path / "r.html"), Page(tmp_path / "r.html")
    assert "in evaluation mode, of 30 samples of the validation set" in said and "[picture]" in said
    assert "3 channels in 1 layer are 0 for every one of these samples; the largest share has 2 (ReLU): 3 of 6" in said
    assert [" ".join(text.split()) for _, text in page.cells if "ReLU" in text] == ["2 (ReLU) 1 (Linear) 3 of 6 1, 3, 4"]
    x = fastnn.tensor(t.normalize(validation.images))  # type: ignore[misc]
    assert " ".join(train.activation_statistics(t.model, x).table().split()) in " ".join(said.split())
    assert all(f"{name}" in page.text for name in ("2 ReLU", "5 Tanh", "mean", "saturated")) and page.html.count("<svg") == 2
    assert bits(t.model) == before and t.generator.draw == draw and t.model.training
    x = fastnn.tensor(np.zeros((5, 1, 6, 6)))
    for given in (x, train.activation_statistics(t.model, x)):
        report_html(t, tmp_path / "r.html", activations=given)
        assert "as given to report_html" in section(tmp_path / "r.html") and "2 (ReLU): 3 of 6" in section(tmp_path / "r.html")


def test_where_no_channel_is_dead_that_is_said(tmp_path: Path) -> None:
    t = of_dead_net()
    t.model[1].bias.copy_from(np.full(6, 1e3, np.float32))
    t.fit((blobs(60).images, blobs(60).labels), 1, (blobs(9, 1).images, blobs(9, 1).labels), progress=False)
    report_html(t, tmp_path / "r.html")  # the validation data are gone
    assert "There are no validation data to look at" in section(tmp_path / "r.html")
    validation = blobs(9, 1)
    images, labels = validation.images, validation.labels
    t.fit(blobs(60), 1, (images, labels), progress=False)
    report_html(t, tmp_path / "r.html")
    assert "of 9 samples of the validation set" in section(tmp_path / "r.html")
    assert "None: every channel is other than 0 for some sample" in section(tmp_path / "r.html")


def test_averaged_weights_are_those_that_are_looked_at(tmp_path: Path) -> None:
    t, validation = of_dead_net(ema=0.5), blobs(9, 1)
    t.fit(blobs(60), 1, validation, progress=False)
    with t.stepping.averaged():
        wanted = train.activation_statistics(t.model, fastnn.tensor(t.normalize(validation.images)))  # type: ignore[misc]
    report_html(t, tmp_path / "r.html")
    assert " ".join(wanted.table().split()) in " ".join(section(tmp_path / "r.html").split())


def test_a_deep_net_has_some_of_its_layers_drawn(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), *[nn.Linear(36, 36) for _ in range(50)])
    t = Trainer(model, optim.SGD(model.parameters(), 1e-4))
    report_html(t, tmp_path / "r.html", activations=fastnn.tensor(np.zeros((5, 1, 6, 6))))
    assert "40 of the 51 layers are drawn" in section(tmp_path / "r.html")


def test_a_model_that_cannot_be_looked_at_has_a_report_all_the_same(tmp_path: Path) -> None:
    class Picky(nn.Module):
        def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
            if x.shape[0] == 9 and broken:
                raise ValueError("not <nine>")
            return x

    broken, validation = False, blobs(9, 1)
    model = nn.Sequential(Picky(), dead_net())
    t = Trainer(model, optim.SGD(model.parameters(), 1e-4))
    t.fit(blobs(60), 1, validation, progress=False)
    broken = True
    report_html(t, tmp_path / "r.html")
    assert "They could not be looked at: " in section(tmp_path / "r.html") and "not &lt;nine&gt;" in Page(tmp_path / "r.html").html
    with pytest.raises(ValueError, match="not <nine>"):
        report_html(t, tmp_path / "r.html", activations=fastnn.tensor(np.zeros((9, 1, 6, 6))))


def test_what_activations_are_refused(tmp_path: Path) -> None:
    for run, given, kind, words in (
        (
            of_dead_net(),
            np.zeros((2, 1, 6, 6)),
            TypeError,
            "activations must be a Tensor as the model takes it, or what train.activation_stat",
        ),
        (rows(loss=[1.0]), fastnn.tensor([1.0]), ValueError, "activations are of the model of a Trainer, and run is a History"),
    ):
        with pytest.raises(kind, match=f"^report_html: {words}"):
            report_html(run, tmp_path / "r.html", activations=given)  # type: ignore[arg-type]
