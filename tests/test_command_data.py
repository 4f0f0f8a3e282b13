"""The command line and its data: results that lie among the photos, data that are other ones than those of the run, data that fit nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_data import write_idx_folder

from fastnn import data, files, models
from fastnn.cli import main
from fastnn.commands import COMMANDS
from fastnn.commands.options import parser
from fastnn.commands.train import repeated
from fastnn.train import save_model

image_module = pytest.importorskip("PIL.Image")

LINEAR = ["--model", "linear", "--epochs", "1", "--batch-size", "8", "--threads", "1"]
QUICK = [*LINEAR, "--size", "8"]
RESULTS = ["checkpoint.safetensors", "curves.png", "history.jsonl", "model.safetensors"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTNN_DATA", raising=False)


def photos(folder: str, classes: str = "cat dog", n: int = 12, seed: int = 0) -> None:
    """Of each class n, which differ in brightness."""
    rng = np.random.default_rng(seed)
    for k, name in enumerate(classes.split()):
        os.makedirs(f"{folder}/{name}")
        for i in range(n):
            image_module.fromarray(rng.integers(100 * k, 100 * k + 50, (8, 8, 3), np.uint8)).save(f"{folder}/{name}/{i}.png")


def said(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """Runs the command, and gives what it printed; of a refusal its one line."""
    assert main(words) == code, capsys.readouterr()
    out, err = capsys.readouterr()
    if code:
        assert err.count("\n") == 1, err
    return err if code else out + err


# --- results among the photos


@pytest.mark.parametrize(
    "place", [[], ["--out", "photos/result"], ["--out", "photos/some/result/"], ["--out", "photos/cat"], ["--out", "."]]
)
def test_results_are_no_class(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A training writes into the folder of its data: there may be a second one, and it is resumed and evaluated."""
    photos("photos")
    out = place[-1] if place else f"runs/{Path.cwd().name}"
    for more in ([], [], ["--resume", "--epochs", "2"]):
        where = "photos" if "." in place else "."  # what lies beside photos is no class where that is all there is
        told = said(capsys, 0, "train", where, *(more or QUICK), *place)
        assert "classes cat, dog\n" in told
        assert "images of 3 x 8 x 8 in 2 classes; 17 for training, 2 for validation, 5 for the test" in told
    told = said(capsys, 0, "evaluate", f"{out}/model.safetensors", "--data", "photos")
    assert "of 5 images" in told and "not the photos" not in told
    assert set(RESULTS) <= {*os.listdir(out)}


def test_a_folder_for_results_that_is_there_is_no_class(capsys: pytest.CaptureFixture[str]) -> None:
    """Empty, as a killed run or its user leaves it. One that has photos is a class, whatever else lies in it."""
    photos("photos")
    os.makedirs("photos/result")
    assert "holds no images; expected those of one class" not in said(capsys, 0, "train", "photos", *QUICK, "--out", "photos/result")
    photos("photos/result/run", "eel")
    Path("photos/result/run/history.jsonl").write_text("")
    assert data.image_folder("photos").train.classes == ("cat", "dog", "result")


def test_a_command_that_fails_leaves_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    photos("photos", "cat dog")
    Path("photos/cat/0.png").write_bytes(b"nothing")
    assert "0.png" in said(capsys, 2, "train", "photos", *QUICK, "--out", "photos/some/result")
    assert "0.png" in said(capsys, 2, "train", "photos", *QUICK)
    assert os.listdir() == ["photos"] and sorted(os.listdir("photos")) == ["cat", "dog"]


def test_two_runs_of_verify_resume_are_no_classes(capsys: pytest.CaptureFixture[str]) -> None:
    photos("photos")
    told = said(capsys, 0, "verify-resume", "photos", *QUICK, "--epochs", "2", "--kills", "1", "--out", "photos/two")
    assert "equal bit for bit" in told and data.image_folder("photos").train.classes == ("cat", "dog")


# --- other data than those of the run


def test_the_photos_of_the_training_are_known_again(capsys: pytest.CaptureFixture[str]) -> None:
    """By the names below the folder that was read, of the files that were whole: those decide what is drawn for the test."""
    photos("outer/inner")
    other, model = "not the photos of the training: ", "runs/outer/model.safetensors"
    said(capsys, 0, "train", "outer", *QUICK)
    for where in ("outer", "outer/inner"):
        assert other not in said(capsys, 0, "evaluate", model, "--data", where)
    said(capsys, 0, "train", "images", "--data", "outer", *QUICK, "--out", "named")
    assert other not in said(capsys, 0, "evaluate", "named/model.safetensors", "--data", "outer/inner")

    whole = Path("outer/inner/cat/0.png").read_bytes()
    Path("outer/inner/cat/0.png").write_bytes(b"nothing")
    said(capsys, 0, "train", "outer", *QUICK, "--skip-broken")
    assert other not in said(capsys, 0, "evaluate", model, "--data", "outer")
    Path("outer/inner/cat/0.png").write_bytes(whole)
    assert other in said(capsys, 0, "evaluate", model, "--data", "outer")
    Path("outer/inner/cat/0.png").unlink()
    assert other not in said(capsys, 0, "evaluate", model, "--data", "outer")


def test_a_finished_model_of_other_data_stays(capsys: pytest.CaptureFixture[str]) -> None:
    """Two folders of the same name have the same place for results."""
    photos("a/photos")
    photos("b/photos", "eel fox")
    said(capsys, 0, "train", "a/photos", *QUICK)
    model = Path("runs/photos/model.safetensors").read_bytes()
    told = said(capsys, 2, "train", "b/photos", *QUICK)
    there = "runs/photos/checkpoint.safetensors was trained on"
    assert f"{there} the classes cat, dog; b/photos has eel, fox: name another folder with --out" in told
    images = np.zeros((20, 8, 8), np.uint8)
    np.savez("photos.npz", train_images=images, train_labels=np.arange(20) % 2, test_images=images, test_labels=np.arange(20) % 2)
    assert f"{there} images, not arrays: name another folder with --out" in said(capsys, 2, "train", "photos.npz", *LINEAR)
    assert Path("runs/photos/model.safetensors").read_bytes() == model
    said(capsys, 0, "train", "b/photos", *QUICK, "--out", "other")
    saved, about = files.read("other/checkpoint.safetensors")
    files.write("other/checkpoint.safetensors", saved, {**about, "notes": {"dataset": ["a program's own"]}})
    said(capsys, 0, "train", "b/photos", *QUICK, "--out", "other")
    photos("a/photos/dog", "more")
    said(capsys, 0, "train", "a/photos", *QUICK)  # of the same kinds: training again is everyday's work


def test_a_run_goes_on_with_its_own_data(capsys: pytest.CaptureFixture[str]) -> None:
    photos("photos")
    said(capsys, 0, "train", "photos", *QUICK)
    there = "runs/photos/checkpoint.safetensors was trained on"
    on = ["train", "photos", "--resume", "--epochs", "2"]
    for change, words in (
        (("photos/cat", "photos/zebra"), "the classes cat, dog; photos has dog, zebra: name another"),
        (("photos/cat/0.png", "photos/dog/99.png"), "other photos than photos has now (some were added, removed or renamed)"),
    ):
        os.rename(*change)
        assert f"{there} {words}" in said(capsys, 2, *on)
        os.rename(*reversed(change))
    photos("photos", "eel")
    assert f"{there} the classes cat, dog; photos has cat, dog, eel: " in said(capsys, 2, *on)
    shutil.rmtree("photos/eel")
    saved, about = files.read("runs/photos/checkpoint.safetensors")
    early = {name: note for name, note in about["notes"].items() if name != "photos"}  # as an early version wrote them
    files.write("runs/photos/checkpoint.safetensors", saved, {**about, "notes": early})
    assert "\n1 epoch of 1 done already: nothing is left to train; a larger --epochs goes on\n" in said(
        capsys, 0, "train", "photos", "--resume", "--epochs", "1"
    )
    assert "done already" not in said(capsys, 0, *on)

    for n in (20, 30):
        images, labels = np.zeros((n, 8, 8), np.uint8), np.arange(n) % 2
        np.savez("a.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
        if n == 20:
            said(capsys, 0, "train", "a.npz", *LINEAR)
    again = ["train", "a.npz", "--resume", "--epochs", "2"]
    assert "runs/a/checkpoint.safetensors was trained on 18 samples; a.npz has 27 for training: " in said(capsys, 2, *again)
    for images, labels, words in (
        (np.zeros((20, 6, 8), np.uint8), np.arange(20) % 2, "samples of shape (1, 8, 8); a.npz has (1, 6, 8): put them back"),
        (np.ones((20, 8, 8), np.uint8), np.arange(20) % 2, "other images or labels than a.npz has now: put them back"),
        (np.zeros((20, 8, 8), np.uint8), (np.arange(20) + 1) % 2, "other images or labels than a.npz has now: put them back"),
    ):
        np.savez("a.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
        assert f"runs/a/checkpoint.safetensors was trained on {words}" in said(capsys, 2, *again)


def test_broken_photos_are_left_out_again_when_a_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    photos("photos")
    Path("photos/cat/broken.png").write_bytes(b"none")
    said(capsys, 0, "train", "photos", *QUICK, "--skip-broken")
    said(capsys, 0, "train", "photos", "--resume", "--epochs", "2")


def test_arrays_in_which_results_lie_are_found_from_above(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs("set/raw")
    for name, values in (("images", IMAGES), ("labels", np.arange(40) % 2)):
        np.save(f"set/raw/train_{name}.npy", values), np.save(f"set/raw/test_{name}.npy", values)
    monkeypatch.chdir("set/raw")
    said(capsys, 0, "train", ".", *LINEAR)
    monkeypatch.chdir("../..")
    said(capsys, 0, "train", "set", *LINEAR, "--out", "out")


@pytest.mark.parametrize("kind", ["idx", "arrays"])
def test_a_model_is_evaluated_on_the_path_that_it_was_trained_on(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the files lie in the single folder inside."""
    os.makedirs("given/inside")
    if kind == "idx":
        write_idx_folder(Path("given/inside"))
    else:
        for part in ("train", "test"):
            np.save(f"given/inside/{part}_images.npy", np.zeros((8, 4, 4), np.uint8))
            np.save(f"given/inside/{part}_labels.npy", np.arange(8) % 2)
    assert f"given/inside: {'IDX files' if kind == 'idx' else 'numpy arrays'}" in said(
        capsys, 0, "train", "given", *LINEAR, "--val-fraction", "0.5"
    )
    assert "test accuracy" in said(capsys, 0, "evaluate", "runs/given/model.safetensors", "--data", "given")
    said(capsys, 0, "train", kind, "--data", "given", *LINEAR, "--out", "again", "--val-fraction", "0.5")
    shutil.rmtree("given/inside")
    assert "error: given: holds n" in said(capsys, 2, "evaluate", "runs/given/model.safetensors", "--data", "given")


def test_a_file_called_test_makes_no_cifar(capsys: pytest.CaptureFixture[str]) -> None:
    photos("photos")
    Path("photos/cat/test").touch()
    assert "photos: a folder of photos" in said(capsys, 0, "train", "photos", *QUICK)


def test_options_that_would_do_nothing_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    photos("photos/train"), photos("photos/val", n=2)
    told = said(capsys, 2, "train", "photos", *QUICK, "--val-fraction", "0.5")
    assert "--val-fraction: photos has a validation set of its own; leave it out" in told
    arrays(np.zeros((40, 2, 8, 8), np.uint8), np.zeros((40, 2, 8, 8), np.uint8))
    told = said(capsys, 2, "train", "a.npz", *LINEAR, "--augment", "colour")
    assert "--augment: colour is for grey and RGB images, a.npz has 2 channels: --augment crop-flip" in told
    arrays(IMAGES, IMAGES)
    said(capsys, 0, "train", "a.npz", *LINEAR)
    told = said(capsys, 2, "evaluate", "runs/a/model.safetensors", "--data", "a.npz", "--skip-broken")
    assert "--skip-broken: only for folders of photos; arrays has images of one size" in told


def test_a_folder_that_takes_no_results_is_named_before_the_data_are_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.makedirs("closed")
    Path("closed/history.jsonl").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert "--out: nothing can be written into closed; choose another folder" in said(capsys, 2, "train", "digits", "--out", "closed")


def test_a_folder_like_an_option_comes_back_as_one_word(capsys: pytest.CaptureFixture[str]) -> None:
    told = repeated(parser(COMMANDS).parse_args(["train", "digits", "--out=-r", "--data", "x"]))
    assert told == ["--data", "x", "--out=-r"]


# --- data that fit nothing, noticed before the training


def arrays(train: np.ndarray, test: np.ndarray, labels: np.ndarray | None = None) -> str:
    """The file that holds them."""
    train_labels = np.arange(len(train)) % 2 if labels is None else labels
    np.savez("a.npz", train_images=train, train_labels=train_labels, test_images=test, test_labels=np.arange(len(test)) % 2)
    return "a.npz"


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
FEATURES = np.random.default_rng(0).random((40, 5), np.float32)
FAR = np.arange(40) % 2 + 2**40 * (np.arange(40) == 7)
UNFIT: dict[str, tuple[tuple[Any, ...], list[str], str]] = {
    "augmented features": (
        (FEATURES, FEATURES),
        ["--augment", "flip"],
        "--augment: flip changes images, a.npz has 5 features; leave it out",
    ),
    "features": ((FEATURES, FEATURES), ["--model", "lenet"], "--model: lenet takes images, a.npz has 5 features: --model mlp or linear"),
    "sizes": (
        (IMAGES, IMAGES[:, :6]),
        [],
        "a.npz: the test set has samples of shape (1, 6, 8), the training set (1, 8, 8); expected one shape",
    ),
    "nothing to test": ((IMAGES, IMAGES[:0]), [], "a.npz: the test set is empty"),
    "nothing to train": ((IMAGES[:0], IMAGES), [], "a.npz: the training set is empty"),
    "kinds": ((IMAGES, IMAGES / 255), [], "a.npz: the test set holds floats, the training set bytes (0 to 255); give both of one kind"),
    "one class": ((IMAGES, IMAGES, np.zeros(40, int)), [], "a.npz: the training set has one class alone"),
    "far labels": ((IMAGES, IMAGES, FAR), [], f"a.npz: the training set has the label {2**40 + 1} at position 7, which makes"),
}


@pytest.mark.parametrize(("given", "options", "words"), UNFIT.values(), ids=list(UNFIT))
def test_data_that_fit_nothing(given: Any, options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in said(capsys, 2, "train", arrays(*given), *LINEAR, *options)
    assert os.listdir() == ["a.npz"]


@pytest.mark.parametrize("name", RESULTS)
def test_a_folder_where_a_file_is_to_be(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.makedirs(f"runs/digits/{name}")
    words = f"--out: runs/digits/{name} is a folder, where a file of the results is to be; move it away"
    assert words in said(capsys, 2, "train", "digits", *LINEAR)


def test_more_threads_than_there_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "digits", "--threads", "257"])
    assert "argument --threads: '257' is not a whole number from 1 to 256" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_a_warning_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "val"):
        photos(f"photos/{part}")
    photos("photos", "test")
    assert main(["train", "photos", *QUICK]) == 0
    words = "photos/test: left out, no val or test folder with a sub-folder of images for each class; the photos in train/, val/ are used"
    assert f"fastnn: warning: {words}\n" in capsys.readouterr().err.replace("\r", "\n")


# --- models of other programs, and broken ones


def test_notes_that_a_program_made_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8), np.arange(20) % 2
    np.savez("a.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    notes: list[dict[str, Any]] = [
        {"dataset": "my cats"},
        {"dataset": ["a"]},
        {"dataset": None, "seed": "x", "skip_broken": 1},
        {"seed": -4},
    ]
    for own in notes:
        save_model("m", models.create("linear", input_shape=(1, 8, 8), num_classes=2), notes=own)
        assert "m does not say what it was trained on: add --dataset" in said(capsys, 2, "evaluate", "m", "--data", "a.npz")
        assert "test accuracy" in said(capsys, 0, "evaluate", "m", "--dataset", "arrays", "--data", "a.npz")


def test_probabilities_that_are_no_numbers_are_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    photos("photos", n=1)
    model = models.create("linear", input_shape=(3, 8, 8), num_classes=2)
    state = model.state_dict()
    model.load_state_dict({name: np.full_like(array, np.nan) for name, array in state.items()})
    save_model("m", model, resize=data.Resize(8))

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert main(["predict", "m", "photos/cat/0.png", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert [row["probability"] for row in found["predictions"]] == [None, None]
