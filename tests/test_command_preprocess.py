"""fastnn train --preprocess: what is fitted, kept, gone on with and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastnn import data, files
from fastnn.cli import main
from fastnn.data.preprocessing import same
from fastnn.train import load_model
from fastnn.train.checkpoint import notes_of

QUICK = ["--epochs", "2", "--batch-size", "64", "--seed", "3"]
KINDS = {
    "channel-mean": ("linear", lambda part: data.Normalize.fit(part, std=False)),
    "mean-image": ("linear", data.MeanImage.fit),
    "pca": ("mlp", lambda part: data.PCA.fit(part, 12)),
    "whiten": ("linear", lambda part: data.PCA.fit(part, 12, whiten=True, eps=0.01)),
    "zca": ("lenet", lambda part: data.ZCA.fit(part, eps=0.01)),
}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def arguments(kind: str, model: str, out: str) -> list[str]:
    more = ["--components", "12"] if kind in ("pca", "whiten") else []
    more += ["--whiten-eps", "0.01"] if kind in ("whiten", "zca") else []
    return ["train", "digits", *QUICK, "--model", model, "--preprocess", kind, *more, "--out", out]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_fitted_on_the_training_part_alone_and_kept(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, fit = KINDS[kind]
    assert main(arguments(kind, model, "first")) == 0
    training, _ = data.split(data.digits()[0], 0.1, seed=3)
    trained = load_model("first/model.safetensors")
    assert trained.normalize is not None and same(trained.normalize, fit(training))
    assert f"prepared by {trained.normalize}" in capsys.readouterr().out
    assert main(["evaluate", "first/model.safetensors"]) == 0
    assert f"accuracy {100 * trained.evaluate(data.digits()[1])['accuracy']:.1f} %" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["mean-image", "whiten", "zca"])
def test_a_run_goes_on_with_what_its_file_has(kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = KINDS[kind]
    assert main(arguments(kind, model, "whole")) == 0
    monkeypatch.setattr("fastnn.data.pca.PCA.fit", None)  # not fitted again
    monkeypatch.setattr("fastnn.data.zca.ZCA.fit", None)
    assert main(["train", "digits", "--resume", "--epochs", "3", "--out", "whole"]) == 0
    arrays, notes = files.read("whole/checkpoint.safetensors")
    assert notes["epoch"] == 3 and notes["notes"]["preprocess"] == kind
    capsys.readouterr()
    arrays["normalize/mean"] = arrays["normalize/mean"] + 1  # as if the images were others
    files.write("whole/checkpoint.safetensors", arrays, notes)
    assert main(["train", "digits", "--resume", "--epochs", "4", "--out", "whole"]) == 2
    assert "was trained on other images or labels than digits has now" in capsys.readouterr().err
    assert main(["train", "digits", "--resume", "--preprocess", "channels", "--out", "whole"]) == 2
    assert f"was started with preprocess {kind}, not channels" in capsys.readouterr().err


def test_image_files_are_prepared_in_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow decodes")
    test = data.digits()[1]
    for kind in ("pca", "zca"):
        assert main(arguments(kind, KINDS[kind][0], kind)) == 0
        for i in range(3):
            image.fromarray(np.rint(test.images[i, 0] * (255 / 16)).astype(np.uint8)).save(f"{i}.png")
        trained = load_model(f"{kind}/model.safetensors")
        expected = trained.predict(test.images[:3])
        np.testing.assert_allclose(trained.predict(["0.png", "1.png", "2.png"]), expected, atol=1e-6)
        capsys.readouterr()
        assert main(["predict", f"{kind}/model.safetensors", "0.png", "--top", "1"]) == 0
        assert f"{100 * expected[0].max():5.1f} %  {expected[0].argmax()}" in capsys.readouterr().out


def test_other_data_of_another_shape(capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)

    def write(side: int) -> None:
        np.savez(
            "a.npz",
            **{f"{part}_images": random.integers(0, 255, (60, 1, side, side)).astype(np.uint8) for part in ("train", "test")},
            **{f"{part}_labels": np.arange(60) % 2 for part in ("train", "test")},
        )

    write(6)
    options = ["--model", "linear", "--epochs", "1", "--preprocess", "zca", "--out", "run"]
    assert main(["train", "a.npz", *options]) == 0
    write(5)
    capsys.readouterr()
    assert main(["train", "a.npz", "--resume", "--epochs", "2", "--out", "run"]) == 2
    assert (
        "run/checkpoint.safetensors was trained on samples of shape (1, 6, 6); a.npz has (1, 5, 5): put them back"
        in capsys.readouterr().err
    )


def test_a_run_from_before_there_was_a_choice_goes_on() -> None:
    assert main(["train", "digits", *QUICK, "--model", "linear", "--out", "old"]) == 0
    arrays, notes = files.read("old/checkpoint.safetensors")
    for name in ("preprocess", "components", "whiten_eps"):
        del notes["notes"][name]
    files.write("old/checkpoint.safetensors", arrays, notes)
    assert main(["train", "digits", "--resume", "--epochs", "3", "--out", "old"]) == 0
    assert notes_of("old/checkpoint.safetensors")["normalize"].keys() == {"mean", "std"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--preprocess", "pca"],
            "--preprocess: pca makes rows of coordinates of images, vgg_small takes images: --model mlp or linear, or --pre",
        ),
        (["--preprocess", "zca", "--components", "3"], "--components: only for --preprocess pca and whiten, not zca; leave it out"),
        (["--whiten-eps", "0.1"], "--whiten-eps: only for --preprocess whiten and zca, not channels; leave it out"),
        (
            ["--preprocess", "pca", "--model", "mlp", "--components", "65"],
            "--preprocess pca: PCA.fit: components is 65, and 1294 samples of 64 values vary in at most 64 dir",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", *QUICK, *options]) == 2
    told = capsys.readouterr().err
    assert words in told and len(told.splitlines()) == 1


@pytest.mark.parametrize("given", ["0", "1.5", "-2", "nan", "x", ""])
def test_components_that_are_none(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "digits", f"--components={given}"])
    assert "is neither a whole number from 1 on nor a share of the variance below 1" in capsys.readouterr().err
