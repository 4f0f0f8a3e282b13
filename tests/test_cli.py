"""The command line: what it prints, writes, refuses, and how it goes on after Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_data import write_idx_folder

from fastnn import files
from fastnn.cli import main
from fastnn.commands.refusals import alone_in
from fastnn.optim import schedules
from fastnn.train import History

QUICK = ["--model", "linear", "--epochs", "2"]


def command(*arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fastnn", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTNN_DATA", raising=False)


def test_train_digits_prints_and_writes_what_the_readme_promises(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "digits: images of 1 x 8 x 8 in 10 classes; 1,294 for training, 144 for validation, 359 for the test" in out
    assert re.search(r"^epoch +loss +accuracy", out, re.M) and re.search(r"^ +2 +\d\.\d+", out, re.M)
    [accuracy] = re.findall(r"^test accuracy (\d+\.\d) %$", out, re.M)
    assert 40 < float(accuracy) < 95
    for name in ("model.safetensors", "history.jsonl", "curves.png"):
        assert f"runs/digits/{name}" in out.split("test accuracy")[1]
        assert Path("runs/digits", name).stat().st_size > 0
    rows = [json.loads(line) for line in Path("runs/digits/history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]

    assert main(["evaluate", "runs/digits/model.safetensors", "--data", "/nope"]) == 2
    assert "--data: digits lie inside the package" in capsys.readouterr().err
    for file in ("model.safetensors", "checkpoint.safetensors"):
        assert main(["evaluate", f"runs/digits/{file}"]) == 0
        assert f"test accuracy {accuracy} %" in capsys.readouterr().out


def test_why_slow(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--model", "linear", "--epochs", "1", "--why-slow"]) == 0
    out = capsys.readouterr().out
    assert "why slow: 20 steps of 32 samples" in out and re.search(
        r"^  between .* steps are eager$|^  between .* steps are replayed$", out, re.M
    )


def test_the_model_written_is_the_best_by_validation(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "constant", lambda lr: lambda step: lr if step < 4 * 41 else 1e3 * lr)  # the last two epochs go wild
    restless = ["--model", "linear", "--epochs", "6", "--optimizer", "sgd", "--lr", "0.01", "--schedule", "constant"]
    assert main(["train", "digits", *restless]) == 0
    out = capsys.readouterr().out
    [epoch] = re.findall(r"^best epoch by validation: (\d)$", out, re.M)
    assert epoch in "1234" and out.count("test accuracy") == 1
    model, checkpoint = (files.read(f"runs/digits/{name}.safetensors")[0] for name in ("model", "checkpoint"))
    assert all((array == checkpoint[f"best/{name}"]).all() for name, array in model.items())
    assert any((array != checkpoint[name]).any() for name, array in model.items())


def test_without_matplotlib_a_sentence_says_how_to_get_curves(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["train", "digits", *QUICK]) == 0
    assert "pip install '.[plot]'" in capsys.readouterr().out and not os.path.exists("runs/digits/curves.png")


def test_a_matplotlib_that_cannot_draw_costs_the_curves_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def plot(*_: object) -> None:
        raise RuntimeError("Failed to process string with tex because\nlatex could not be found")

    monkeypatch.setattr(History, "plot", plot)
    assert main(["train", "digits", *QUICK]) == 0
    told = capsys.readouterr().out
    assert told.endswith("curves   not drawn: matplotlib: Failed to process string with tex because latex could not be found\n")


def test_idx_and_arrays(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs("data/mnist")
    images, labels = write_idx_folder(Path("data/mnist"))
    for arguments in (["idx", "--data", "data/mnist"], ["mnist", "--data", "data/mnist"]):
        assert main(["train", *arguments, "--model", "lenet", "--epochs", "1", "--val-fraction", "0", "--out", f"out-{arguments[0]}"]) == 0
        assert "test accuracy" in capsys.readouterr().out
    np.savez("a.npz", train_images=images / 255, train_labels=labels, test_images=images / 255, test_labels=labels)
    assert main(["train", "arrays", "--data", "a.npz", *QUICK, "--schedule", "step", "--optimizer", "sgd", "--val-fraction", "0.5"]) == 0
    assert main(["train", "arrays", "--data", "a.npz", *QUICK, "--schedule", "plateau", "--optimizer", "muon", "--out", "other"]) == 0
    monkeypatch.setenv("FASTNN_DATA", "data")
    assert main(["evaluate", "out-mnist/model.safetensors"]) == 0
    assert main(["train", "cifar10"]) == 2
    assert "an .npz of JPEG files (in $FASTNN_DATA there is no data/cifar10)" in capsys.readouterr().err
    np.savez(
        "colours.npz",
        train_images=images[:, None].repeat(3, 1),
        train_labels=labels,
        test_images=images[:, None].repeat(3, 1),
        test_labels=labels,
    )
    assert main(["evaluate", "out-mnist/model.safetensors", "--dataset", "arrays", "--data", "colours.npz"]) == 2
    assert re.search(r"samples of shape \(3, \d+, \d+\); expected 1 channel, as the model was trained on", capsys.readouterr().err)


@pytest.mark.parametrize("arguments, words", [
    (["train", "digit"], r"fastnn train: error: argument DATASET: 'digit' is neither one of digits, .* nor a file or folder"),
    (["train", "digits", "--model", "squeezenet"], r"invalid choice: 'squeezenet' \(choose from .*lenet"),
    (["train", "digits", "--epochs", "0"], r"argument --epochs: '0' is not a whole number from 1 on"),
    (["train", "digits", "--lr", "fast"], r"argument --lr: 'fast' is not a rate"),
    (["train", "digits", "--val-fraction", "1"], r"argument --val-fraction: '1' is not a fraction from 0 to below 1"),
    (["train", "digits", "--model", "resnet18", "--device", "cuda:99"], r"error: .*(no CUDA kernels|driver|GPU|does not exist)"),
    (["train", "fashion-mnist"], r"error: fashion-mnist needs --data: the folder of its four IDX files"),
    (["train", "fashion-mnist", "--data", "absent"], r"error: absent: holds neither train-images-idx3-ubyte nor"),
    (["train", "arrays", "--data", "absent.npz"], r"error: .*absent.npz: No such file or directory"),
    (["train", "digits", "--model", "vgg", "--lr", "1e30", "--epochs", "1"], r"error: the loss is .* the rate \S+ is most likely too high"),
    (["train", "digits", *QUICK, "--out", "/proc/absent"], r"error: --out: cannot make the folder /proc/absent: No such file"),
    (["train", "arrays", "--data", "absent.npz", "--out", "/proc/absent"], r"error: --out: cannot make the folder /proc/absent"),
    (["train", "digits", "--data", "/tmp"], r"error: --data: digits lie inside the package; leave it out"),
    (["train", "digits", *QUICK, "--val-fraction", "0.9999"], r"error: --val-fraction: 0.9999 of 1438 images leaves nothing to train on"),
    (["train", "digits", "--resume"], r"error: --resume: there is no runs/digits/checkpoint.safetensors to go on from"),
    (["evaluate", "absent.safetensors"], r"error: .*absent.safetensors: No such file or directory"),
    (["evaluate", "damaged.safetensors"], r"error: damaged.safetensors: not a whole safetensors file"),
    ([], r"the following arguments are required: command"),
])  # fmt: skip
def test_errors_are_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    Path("damaged.safetensors").write_bytes(b"not what it says")
    try:
        code = main(arguments)
    except SystemExit as error:  # argparse
        code = error.code  # type: ignore[assignment]
    err = capsys.readouterr().err
    assert code == 2 and re.search(words, err) and err.count("\n") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_takes_no_more(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what was written to; a standard error that is closed is nobody's business."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    training = ["train", "digits", "--model", "linear", "--epochs", "1"]
    run = [sys.executable, "-m", "fastnn"]
    for words in (["info"], [*training, "--out", "a"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*run, *words], stdout=full, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (2, "fastnn: error: cannot write to the standard output: No space left on device\n")
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run([*run, *training, "--out", "b"], stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (2, "fastnn: error: cannot write to the standard output: Broken pipe\n")
    for closed in ("2>&-", ">&-", ">&- 2>&- <&-"):
        done = subprocess.run(
            ["bash", "-c", f'exec "$@" {closed}', "bash", *run, *training, "--why-slow", "--out", f"c{closed}"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and done.stderr == "" and Path(f"c{closed}/model.safetensors").exists()


def test_info_names_the_instruction_set_and_why() -> None:
    with command("info") as process:
        out, err = process.communicate()
    assert process.returncode == 0 and err == ""
    assert re.search(r"^instruction set +\w+: .+", out, re.M) and re.search(r"^threads +\d+: .+", out, re.M)


def test_ctrl_c_then_resume_gives_the_uninterrupted_model(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "digits", "--model", "vgg_small", "--epochs", "3", "--threads", "1"]
    with command(*arguments) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if re.match(r" +1 ", line):  # the first epoch is done, the second begins
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
        err = process.stderr.read()
    assert process.returncode == 130
    assert re.search(r"fastnn: interrupted in epoch [23], after batch \d+ of 41; go on with: fastnn train digits --resume\n", err)
    assert "Traceback" not in err

    assert main(arguments) == 2
    assert re.search(r"unfinished run \([12] of 3 epochs are done\): add --resume", capsys.readouterr().err)
    assert main(["train", "digits", "--resume", "--lr", "0.5"]) == 2
    assert "was started with lr 0.001, not 0.5" in capsys.readouterr().err
    assert main(["train", "digits", "--resume"]) == 0
    assert main([*arguments, "--out", "whole"]) == 0
    resumed, whole = (files.read(f"{out}/model.safetensors")[0] for out in ("runs/digits", "whole"))
    assert {k: v.tobytes() for k, v in resumed.items()} == {k: v.tobytes() for k, v in whole.items()}


def test_heavy_things_wait_until_needed() -> None:
    """`import fastnn` and `fastnn --help` load neither safetensors nor tqdm nor matplotlib."""
    code = "import sys, fastnn.cli; print([m for m in ('safetensors', 'tqdm', 'matplotlib', 'concurrent.futures') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_run_from_before_augmentation_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", *QUICK]) == 0
    arrays, notes = files.read("runs/digits/checkpoint.safetensors")
    del notes["notes"]["augment"], notes["resize"]
    files.write("runs/digits/checkpoint.safetensors", arrays, notes)
    assert main(["train", "digits", "--resume", "--epochs", "3"]) == 0
    assert "3 epochs" in capsys.readouterr().out


@pytest.mark.parametrize("augment", ["flip", "crop-flip", "colour", "camera", "strong"])
def test_training_images_are_augmented(augment: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Differently from one word to the other, and the same again."""
    losses = []
    for out, word in (("first", augment), ("again", augment), ("plain", "none")):
        assert main(["train", "digits", *QUICK, "--augment", word, "--out", out]) == 0
        assert (f"augmented by {word}" in capsys.readouterr().out) == (word != "none")
        losses.append([json.loads(line)["loss"] for line in Path(out, "history.jsonl").read_text().splitlines()])
    assert losses[0] == losses[1] != losses[2]


def test_a_run_that_stands_within_an_epoch_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", *QUICK, "--batch-size", "128"]) == 0
    path = "runs/digits/checkpoint.safetensors"
    arrays, notes = files.read(path)
    notes.update(batch=4, epoch=1, sums={"samples": 512, "loss": 1.0})
    files.write(path, arrays, notes)
    capsys.readouterr()
    assert main(["train", "digits", "--resume", "--epochs", "1"]) == 0
    told = capsys.readouterr().out
    assert "1 epoch, and 4 batches of the next of 1 done already: nothing is left to train" in told


def test_a_run_extended_by_resume_keeps_its_new_length(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--model", "linear", "--epochs", "1"]) == 0
    assert main(["train", "digits", "--resume", "--epochs", "3"]) == 0
    capsys.readouterr()
    assert main(["train", "digits", "--resume"]) == 0
    assert "3 epochs" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["test", "validation"])
def test_labels_outside_of_the_training_set_are_noticed_first(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not after the training, with everything that it found lost."""
    images, labels = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2
    if part == "validation":
        labels = np.where(np.arange(40) == 7, 3, labels)  # the only one of its class, which goes to the validation set
    tested = np.arange(10) if part == "test" else labels[:5].repeat(2)
    np.savez("tl.npz", train_images=images, train_labels=labels, test_images=images[:10], test_labels=tested)
    assert main(["train", "tl.npz", *QUICK, *(["--val-fraction", "0.6"] if part == "validation" else [])]) == 2
    told = capsys.readouterr()
    assert (
        "tl.npz: the test set has the label 9 at position 9, the training set the classes from 0 to 1 only" in told.err
        if part == "test"
        else "--val-fraction: 0.6 draws all samples of class 3 for validation, which leaves none to train on; a smaller one" in told.err
    )
    assert "loss" not in told.out and not Path("runs/tl/checkpoint.safetensors").exists()


def test_a_resumed_run_keeps_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits", "--model", "mlp", "--out", "here"]
    code, said = main([*words, "--epochs", "1", "--precision", "bf16"]), capsys.readouterr()
    if "needs avx512_bf16 or AMX" in said.err:
        pytest.skip("no bfloat16 on this processor")
    assert code == 0 and "bf16" in said.out
    assert main([*words, "--epochs", "2", "--resume"]) == 0 and "bf16" in capsys.readouterr().out
    assert main([*words, "--epochs", "3", "--resume", "--precision", "float32"]) == 2
    assert "was started with precision bf16, not float32" in capsys.readouterr().err


def test_two_trainings_do_not_write_into_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "--model", "linear", "--epochs", "1", "--out", str(tmp_path / "here")]
    (tmp_path / "here").mkdir()
    with alone_in(str(tmp_path / "here")):
        assert main(words) == 2
        assert f"--out: another fastnn train writes into {tmp_path / 'here'}; wait for its end" in capsys.readouterr().err
    assert main(words) == 0
