"""fastnn verify-resume: what it finds equal, that it finds what is not, and what it says."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import kernel_calls
import numpy as np
import pytest
from conftest import SEED
from faults import in_child
from test_cli import command

from fastnn import _C, files, verify_resume
from fastnn.cli import main

QUICK = ["verify-resume", "digits", "--model", "mlp", "--epochs", "2", "--threads", "1"]
MIXED = ["--mixup", "0.4", "--cutmix", "1"]
EVERYTHING = [*MIXED, "--ema", "0.9", "--accumulate", "2", "--clip-norm", "1", "--schedule", "plateau", "--augment", "flip"]
WAYS: dict[str, list[str]] = {
    "everything": [*EVERYTHING, "--samples", "300"],
    "replayed": [*MIXED, "--augment", "crop-flip", "--schedule", "one-cycle", "--optimizer", "muon", "--samples", "300"],
}
if _C.isa() in _C.isas("bfloat16"):
    eager = ["--replay", "off", "--samples", "300", "--batch-size", "32"]
    WAYS["everything, bf16"] = [*EVERYTHING, "--augment", "strong", *eager, "--precision", "bf16"]
for gpu in kernel_calls.GPUS:  # few samples: the emulated one takes its time
    drawn = ["--device", gpu, "--samples", "40", "--batch-size", "8", "--ema", "0.9", "--schedule", "plateau"]  # the mlp has dropout
    WAYS[f"replayed on {gpu}"] = [*drawn, "--augment", "crop-flip"]
    WAYS[f"bf16 on {gpu}"] = [*drawn, "--augment", "strong", "--precision", "bf16"]
    eager = ["--model", "lenet", "--replay", "off", "--batch-size", "4"]
    WAYS[f"everything, bf16 on {gpu}"] = [*drawn, *EVERYTHING, *eager, "--precision", "bf16"]


def begun_at(folder: Path) -> set[int]:
    """The steps that the processes of a run went on from."""
    return {json.loads(line)["since"] for line in (folder / "steps.jsonl").read_text().splitlines() if line.endswith("}")}


@pytest.mark.parametrize("words", WAYS.values(), ids=list(WAYS))
def test_killed_and_resumed_is_the_same(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed at other steps each time the suite runs; again where no process went on from the middle of an epoch, one time in twenty or ten."""
    seeds = random.Random(f"{SEED} {words}").sample(range(2**31), 5)
    assert any(goes_on_in_the_middle(words, seed, tmp_path / str(seed), capsys) for seed in seeds)


def goes_on_in_the_middle(words: list[str], seed: int, out: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    """Of an epoch: whether some process did. That all is equal is asserted."""
    code = main([*QUICK, *words, "--kills", "2", "--seed", str(seed), "--out", str(out)])
    told, wrong = capsys.readouterr()
    if code == 2:  # both kills came behind the last checkpoint
        assert "no run went on from a checkpoint" in wrong
        return False
    assert code == 0
    lines = told.splitlines()
    [steps, per_epoch] = re.findall(r"\d+", lines[1])[:2]
    assert lines[0] == "a run that nothing stops ..." and int(steps) == 2 * int(per_epoch)
    assert len(lines) == 5 and all(re.match(r"killed (after a step|within a step|while saving): ", line) for line in lines[2:4])
    assert any(re.search(r": after step \d+$", line) for line in lines[2:4])  # not "it had ended before" for both
    assert re.match(r"equal bit for bit, over \d+ steps \(\d+ of them done again\): parameters, .*history$", lines[4])
    assert (out / "whole" / "end.safetensors").exists()
    return any(since % int(per_epoch) for since in begun_at(out / "killed"))


FAULTS = {
    "generator": ("t.generator.draw += 1", r"draw"),
    "optimizer": ("t.optimizer._state[t.optimizer.slots[0]][0] = None", r"1\.weight, optimizer/0\.|optimizer/0\."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Planted into every process: something that a resumed training does not take from its file."""
    code, words = FAULTS[fault]
    (tmp_path / "sitecustomize.py").write_text(
        f"import fastnn.train.checkpoint as c\nload = c.load\ndef faulty(t, path):\n    load(t, path)\n    {code}\nc.load = faulty\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    arguments = [*QUICK, "--samples", "300", "--kills", "2", "--seed", "4", "--out", str(tmp_path / "runs")]
    assert main(arguments) == 1
    *_, difference, kept = capsys.readouterr().out.splitlines()
    where = r"differs first at step \d+ \(epoch [12], batch \d+\), (1 step|\d+ steps) after it went on from step \d+: "
    assert re.match(where, difference) and re.search(words, difference.split(": ", 1)[1])
    assert kept.startswith("both runs are kept in ")


def test_a_run_that_went_on_from_nothing_is_not_called_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Begun anew each time it has the same bits, and nothing was shown."""
    (tmp_path / "sitecustomize.py").write_text("import fastnn.train.checkpoint as c\nc.load = lambda t, path: None\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    assert main([*QUICK, "--samples", "300", "--kills", "2", "--seed", "4", "--out", str(tmp_path / "runs")]) == 2
    out, err = capsys.readouterr()
    assert "equal" not in out and "no run went on from a checkpoint, so nothing was verified: more --kills" in err


def line(step: int, since: int = 0, **other: Any) -> dict[str, Any]:
    arrays = {"w": 10 * step, "optimizer/0.m": step} | other.pop("arrays", {})
    place = {"epochs": 2, "epoch": (step - 1) // 4, "batch": (step - 1) % 4 + 1}
    return {"step": step, "since": since, **place, "draw": step, "loss": "0x1", "arrays": arrays, **other}


def test_the_first_difference_is_named() -> None:
    whole = [line(step) for step in range(1, 9)]
    first, rest = verify_resume.first_difference, [line(step, since=3) for step in range(4, 9)]
    assert first(whole, whole) is None
    assert first(whole, [*whole[:5], *rest]) is None  # killed after 5, went on from 3
    assert first(whole, [*whole[:3], *rest]) is None
    assert first(whole, [*whole[:5], line(4, since=3, arrays={"w": 0}), *rest[1:]]) == (
        "differs first at step 4 (epoch 1, batch 4), 1 step after it went on from step 3: w"
    )
    assert first(whole, [*whole[:3], *rest[:2], line(6, since=3, arrays={"optimizer/0.m": 0})]) == (
        "differs first at step 6 (epoch 2, batch 2), 3 steps after it went on from step 3: optimizer/0.m"
    )
    assert first(whole, [whole[0], line(2, loss="0x2", draw=9), *whole[2:]]) == (
        "differs first at step 2 (epoch 1, batch 2), before anything was resumed: draw, loss"
    )
    assert first(whole, whole[:-1]) == "differs: step 8 is missing"
    assert first(whole, [*whole, line(9)]) == "differs: step 9 is there, the whole run has 8"
    many = line(6, arrays={"w": 0, **{f"a{i}": i for i in range(9)}})
    assert str(first(whole, [*whole[:5], many])).endswith(": w, a0, a1, a2, a3, a4 and 4 more")


def test_what_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "whole").write_text("dear")
    for words, message in (
        (["--out", str(tmp_path / "mine")], "mine is not empty; name a new folder for the two runs"),
        (["--resume"], "--resume: verify-resume begins anew; leave it out"),
        (["--why-slow"], "--why-slow: verify-resume has no time to tell of; leave it out"),
        (["--report", "r.html"], "--report: verify-resume keeps the steps of both runs itself; leave it out"),
        (["--log", "csv"], "--log: verify-resume keeps the steps of both runs itself; leave it out"),
        (["--samples", "9", "--epochs", "1", "--batch-size", "32"], "the run has 1 step; there is nothing to kill it in"),
        (["--data", "absent"], "the training ended by itself: fastnn: error: --data: digits lie inside the package"),
    ):
        assert main([*QUICK, *words]) == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "mine" / "whole").read_text() == "dear"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("call", range(4))
def test_killed_while_saving_is_killed_there(call: int, tmp_path: Path) -> None:
    """Before and behind the fsync, before and behind the rename: the old file three times, the new one once."""
    path = tmp_path / "c"
    files.write(path, {"w": np.zeros(3)})

    def save() -> None:
        verify_resume._Kill(1, "while saving", 0.0)._die_in(call)
        files.write(path, {"w": np.ones(3)})

    assert in_child(save) == -signal.SIGKILL
    assert files.read(path)[0]["w"][0] == (call == 3) and len(os.listdir(tmp_path)) == (1 if call == 3 else 2)


def test_a_log_that_was_cut_off_is_read(tmp_path: Path) -> None:
    run = verify_resume._Run(str(tmp_path / "run"), [])
    assert run.steps() == []
    (tmp_path / "run" / "steps.jsonl").write_text(json.dumps(line(1)) + "\n" + json.dumps(line(2))[:-5])
    assert run.steps() == [line(1)]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"nonsense",
        b"7",
        b"[1]",
        b"null",
        b"{}",
        b'{"step": -1}',
        b'{"step": "a"}',
        b"9" * 5000,
        b"1e999",
        b"[" * 100_000,
        b"\xff\0\x80",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_lines_of_the_log_that_are_no_step_count_for_nothing(damaged: bytes, tmp_path: Path) -> None:
    run = verify_resume._Run(str(tmp_path / "run"), [])
    whole = [line(1), line(2), line(3)]
    (tmp_path / "run" / "steps.jsonl").write_bytes(b"\n".join([json.dumps(whole[0]).encode(), damaged, json.dumps(whole[2]).encode()]))
    assert run.steps() == [whole[0], whole[2]]
    assert verify_resume.first_difference(whole, run.steps()) == "differs: step 2 is missing"


def test_the_command_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As users call it, with a folder of their own."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (90, 8, 8), dtype=np.uint8), np.arange(90) % 3
    np.savez("mine.npz", train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    with command("verify-resume", "mine.npz", "--model", "linear", "--kills", "1", "--val-fraction", "0") as process:
        out, err = process.communicate()
    assert process.returncode == 0 and err == "" and "equal bit for bit" in out
    assert os.listdir(tmp_path) == ["mine.npz"]


def test_where_modules_of_other_names_lie_it_finds_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sources in a checkout, say, beside which `python -m` would look first; and a path behind `--`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fastnn").mkdir()
    for name in ("fastnn/__init__.py", "tempfile.py"):
        (tmp_path / name).write_text("raise ImportError('not this one')")
    images, labels = np.random.default_rng(0).integers(0, 256, (90, 8, 8), dtype=np.uint8), np.arange(90) % 3
    np.savez("mine.npz", train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    assert main(["verify-resume", "--model", "linear", "--kills", "1", "--epochs", "2", "--batch-size", "16", "--", "mine.npz"]) == 0
    assert "equal bit for bit" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_neither_folder_nor_training(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with command("verify-resume", "digits", "--model", "linear", "--epochs", "100000", "--threads", "1") as process:
        while not (logs := [log for log in tmp_path.glob("*/whole/steps.jsonl") if log.stat().st_size]):
            assert process.poll() is None
            time.sleep(0.05)
        with logs[0].open() as log:
            process.send_signal(number)
            process.communicate(timeout=60)
            log.seek(0, os.SEEK_END)
            end = log.tell()
            time.sleep(0.3)
            assert log.seek(0, os.SEEK_END) == end  # nobody writes any more
    assert process.returncode == 128 + number and os.listdir(tmp_path) == []
