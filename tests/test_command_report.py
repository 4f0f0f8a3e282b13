"""fastnn evaluate --per-class and --plot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastnn import cli, data
from fastnn.train import ClassReport, Ensemble, View, load_model


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = (labels[:, None, None, None] * 60 + rng.integers(0, 90, (90, 1, 6, 6))).astype(np.uint8)
    np.savez("a.npz", train_images=images, train_labels=labels, test_images=images[:60], test_labels=labels[:60])
    assert cli.main(["train", "arrays", "--data", "a.npz", "--model", "linear", "--epochs", "1", "--out", "out"]) == 0
    return tmp_path


def test_the_command_prints_the_table_and_draws_the_figure(in_a_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    words, file = ["evaluate", "out/model.safetensors", "--data", "a.npz"], "out/model.safetensors"
    capsys.readouterr()
    assert cli.main(words) == 0
    plain = capsys.readouterr().out
    assert cli.main([*words, "--per-class", "--plot", "c.svg"]) == 0
    out = capsys.readouterr().out
    with np.load("a.npz") as arrays:
        report = load_model(file).report((arrays["test_images"], arrays["test_labels"]))
    assert out == f"{plain}confusion matrix  c.svg\n\n{report}\n" and plain.count("\n") == 2
    assert "predicted class" in Path("c.svg").read_text() or Path("c.svg").stat().st_size > 5000
    assert cli.main([*words, "--plot", "c"]) == 0
    assert capsys.readouterr().out == f"{plain}confusion matrix  c.png\n" and Path("c.png").read_bytes()[:4] == b"\x89PNG"
    for path, said in (("c.foo", "c.foo: foo is no kind of picture; expected one of "), ("out", "out: is a folder"),
                       ("absent/c.png", "absent/c.png: there is no folder absent to write it into")):  # fmt: skip
        assert cli.main([*words, "--plot", path]) == 2
        told = capsys.readouterr()
        assert told.err.startswith(f"fastnn: error: {said}") and told.err.count("\n") == 1 and not told.out


def test_the_table_of_several_models_and_views(in_a_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "arrays", "--data", "a.npz", "--model", "linear", "--epochs", "1", "--seed", "1", "--out", "b"]) == 0
    files = ["out/model.safetensors", "b/model.safetensors"]
    capsys.readouterr()
    assert cli.main(["evaluate", *files, "--data", "a.npz", "--views", "mirror", "--per-class"]) == 0
    out = capsys.readouterr().out
    with np.load("a.npz") as arrays:
        mirror: list[View] = [(1.0, []), (1.0, [data.Flip(1.0)])]
        report = Ensemble([load_model(file) for file in files]).report((arrays["test_images"], arrays["test_labels"]), views=mirror)
    assert out.endswith(f"60 images by 2 models, 2 views of each\n\n{report}\n")


def test_a_matplotlib_that_cannot_draw(in_a_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")

    def plot(*_: object) -> None:
        raise RuntimeError("Failed to process string with tex because\nlatex could not be found")

    monkeypatch.setattr(ClassReport, "plot", plot)
    assert cli.main(["evaluate", "out/model.safetensors", "--data", "a.npz", "--plot", "c.png"]) == 2
    assert (
        "fastnn: error: --plot: matplotlib cannot draw: Failed to process string with tex because latex could not"
        in capsys.readouterr().err
    )
