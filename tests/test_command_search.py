"""fastnn search, and --weight-decay of fastnn train."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import cli, data, models, optim, train, tune

WORDS = ["search", "digits", "--model", "linear", "--optimizer", "sgd", "--epochs", "1"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTNN_DATA", raising=False)


def test_the_command_searches_prints_and_writes(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the picture is matplotlib's (extra plot)")
    words = ["--trials", "4", "--rate", "1e-4", "1", "--decay", "1e-6", "0.1", "--seed", "5", "--plot", "x.svg", "--save", "x.csv"]
    assert cli.main([*WORDS, *words]) == 0
    out = capsys.readouterr().out
    with open("x.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    same = tune.search(
        lambda trial: 0.0, {"rate": tune.log_uniform(1e-4, 1), "decay": tune.log_uniform(1e-6, 0.1)}, trials=4, seed=5, progress=False
    )
    assert [float(row["rate"]) for row in rows] == [trial["rate"] for trial in same.trials]
    best = max(rows, key=lambda row: float(row["score"]))
    assert f"best: {float(best['score']):.4g} by rate" in out and "rates of the search (cosine)" in out
    assert f"go on with: fastnn train digits --model linear --optimizer sgd --seed 5 --lr {float(best['rate']):.2g} --weight-decay " in out
    assert os.path.getsize("x.svg") > 5000

    training, validation = data.split(data.digits()[0], 0.1, 5)  # the best one again, in Python
    normalize = data.Normalize.fit(training)
    loader = data.Loader(training, 32, shuffle=True, seed=5, normalize=normalize)
    fastnn.seed(5)
    model = models.create("linear", input_shape=training.shape, num_classes=10)
    rate = optim.schedules.cosine(float(best["rate"]), len(loader))
    optimizer = optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=float(best["decay"]))
    trainer = train.Trainer(model, optimizer, seed=5, normalize=normalize)
    history = trainer.fit(loader, 1, validation, progress=False)
    assert history["val_accuracy"] == [float(best["score"])]


def test_folds_judge_by_their_mean_and_need_no_validation(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, "--trials", "2", "--folds", "3", "--save", "x.jsonl", "--lr", "0.05", "--decay", "1e-5", "1e-3"]) == 0
    out = capsys.readouterr().out
    assert "rate 0.05 (cosine)" in out and "trials: decay log_uniform(1e-05, 0.001)" in out and "--lr 0.05 --weight-decay" in out
    import json

    row = json.loads(Path("x.jsonl").read_text().splitlines()[0])
    assert list(row["reports"]) == ["1", "2", "3"] and row["score"] == row["reports"]["3"]


def test_a_stored_search_goes_on_and_is_pruned(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna", reason="studies that last are Optuna's (extra tune)")
    more = ["--storage", "study.db", "--prune", "median", "--method", "tpe"]
    assert cli.main([*WORDS, *more, "--trials", "2"]) == 0
    assert cli.main([*WORDS, *more, "--trials", "3"]) == 0
    told = capsys.readouterr()
    assert "2 trials of 3 there already" in told.out and told.out.count("trial 2 of 0 to 2") == 1 and not told.err
    assert len(tune.load_study("study.db")) == 3
    assert cli.main([*WORDS, *more, "--trials", "3", "--rate", "1e-3", "1"]) == 2
    assert "has another plan (space was {rate: log_uniform(0.0001, 1)}, is {rate: log_uniform(0.001, 1)})" in capsys.readouterr().err


def test_ctrl_c_says_what_is_done_and_how_to_go_on() -> None:
    pytest.importorskip("optuna", reason="studies that last are Optuna's (extra tune)")
    words = ["search", "digits", "--model", "lenet", "--epochs", "3", "--trials", "10", "--storage", "study.db"]
    process = subprocess.Popen([sys.executable, "-m", "fastnn", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("trial 1"):
        assert process.poll() is None
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "trial" in out
    assert re.fullmatch(
        r"fastnn: interrupted; \d trials are done; go on with: fastnn search digits --model lenet .* --storage study.db\n", err
    )
    assert len(tune.load_study("study.db")) >= 2


def test_jobs_share_the_trials(capfd: pytest.CaptureFixture[str]) -> None:
    optuna = pytest.importorskip("optuna", reason="studies that are shared are Optuna's (extra tune)")
    words = ["search", "digits", "--model", "lenet", "--epochs", "3", "--trials", "14", "--rate", "1e-4", "1e-2"]
    assert cli.main([*words, "--jobs", "2", "--storage", "study.db", "--save", "x.csv"]) == 0
    told = capfd.readouterr()
    assert told.out.count("trials: rate") == told.out.count("go on with: fastnn train digits") == 1 and not told.err
    assert all(len(re.findall(rf"^trial +{index} of 0 to 13 ", told.out, re.MULTILINE)) == 1 for index in range(14))
    rows = optuna.load_study(study_name="fastnn", storage="sqlite:///study.db").trials
    assert {row.user_attrs["worker"]["pid"] for row in rows} > {os.getpid()}
    shared = Path("x.csv").read_text()
    assert cli.main([*words, "--save", "x.csv"]) == 0  # by one process, the same
    seconds = re.compile(r"complete,[^,]*")
    assert seconds.sub("", shared) == seconds.sub("", Path("x.csv").read_text())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "1", "0.1"], "--rate: LOW must be less than HIGH, got 1 and 0.1"),
        (["--rate", "0", "1"], "argument --rate: '0' is not a number above 0"),
        (["--lr", "0.1"], "--lr: with a rate that is given, nothing is left to search"),
        (["--lr", "0.1", "--rate", "0.1", "1"], "--lr: the rate is searched, by --rate"),
        (["--weight-decay", "0.1", "--decay", "0.1", "1"], "--weight-decay: it is searched, by --decay"),
        (["--resume"], "--resume: search goes on by --storage; leave it out"),
        (["--out", "x"], "--out: search writes no folder; leave it out"),
        (["--val-fraction", "0"], "--val-fraction: trials are judged by validation; give a larger one, or --folds"),
        (["--save", "absent/x.csv"], "--save: absent/x.csv is a folder, or lies in one that is not there"),
        (["--plot", "x.foo"], "x.foo: foo is no kind of picture"),
        (["--jobs", "2"], "--jobs: several processes share the trials by --storage; add it"),
        (["--method", "grid", "--trials", "1"], "search: trials must be at least 2, two points on each range of the grid, got 1"),
    ],
)
def test_what_cannot_be_searched_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main([*WORDS, *words])
    except SystemExit as end:
        code = int(end.code or 0)
    told = capsys.readouterr()
    assert code == 2 and said in told.err and len(told.err.splitlines()) == 1 and "trial 0" not in told.out


# --- fastnn train --weight-decay


@pytest.mark.parametrize(("optimizer", "decays"), [("sgd", [0.25]), ("adam", [0.25]), ("adamw", [0.25, 0.0]), ("muon", [0.25, 0.0])])
def test_a_decay_goes_to_the_groups_that_have_one(optimizer: str, decays: list[float]) -> None:
    from fastnn.optim.presets import OPTIMIZERS, SCHEDULES, with_decay

    made = with_decay(OPTIMIZERS[optimizer](models.create("lenet", input_shape=(1, 8, 8)), SCHEDULES["constant"](0.1, 1)), 0.25)
    assert [group["weight_decay"] for group in made.param_groups] == decays


def test_train_decays_weights_and_a_resumed_run_goes_on_so(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "--model", "linear", "--optimizer", "sgd", "--lr", "0.05", "--epochs", "2"]
    assert cli.main([*words, "--weight-decay", "0.5", "--out", "a"]) == cli.main([*words, "--out", "b"]) == 0
    decayed, plain = (train.load_model(f"{name}/model.safetensors") for name in "ab")
    assert decayed.notes["weight_decay"] == 0.5 and plain.notes["weight_decay"] is None
    norms = [float(np.linalg.norm(np.concatenate([p.numpy().ravel() for p in one.model.parameters()]))) for one in (decayed, plain)]
    assert norms[0] < 0.5 * norms[1]
    assert cli.main(["train", "digits", "--resume", "--out", "a", "--epochs", "3"]) == 0
    capsys.readouterr()
    assert cli.main(["train", "digits", "--resume", "--out", "a", "--weight-decay", "0.1"]) == 2
    assert "was started with weight-decay 0.5, not 0.1" in capsys.readouterr().err
