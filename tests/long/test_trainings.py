"""The whole trainings, several seeds each, through the command line. Minutes: run with `python -m pytest -o addopts= -s tests/long`."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from shared_data import shared_data
from torch_recipe import accuracy_by_torch, recipe
from torch_twins import lenet, vgg_small

from fastnn import _C, data
from fastnn.train import load_model


def accuracy_of(folder: Path, *arguments: str) -> float:
    """Test accuracy in percent, as `fastnn train` prints it."""
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "fastnn", "train", *arguments, "--out", str(folder)], capture_output=True, text=True, check=True
    )
    [found] = re.findall(r"^test accuracy (.+) %$", result.stdout, re.M)
    print(f"\n{' '.join(arguments)}: {found} %, {time.perf_counter() - start:.1f} s", end="")
    return float(found)


def means(ours: list[float], theirs: list[float]) -> str:
    return f"fastnn {np.mean(ours):.2f} % {np.round(ours, 1)}, PyTorch {np.mean(theirs):.2f} % {np.round(theirs, 1)}"


def assert_within_noise(ours: list[float], theirs: list[float]) -> None:
    """Of PyTorch with the same recipe and split: in the mean over the seeds at most 0.3 points lower."""
    print(f"\n{means(ours, theirs)}", end="")
    assert np.mean(ours) >= np.mean(theirs) - 0.3, means(ours, theirs)


def test_digits_five_seeds(tmp_path: Path) -> None:
    best = [accuracy_of(tmp_path / str(seed), "digits", "--seed", str(seed)) for seed in range(5)]
    assert np.mean(best) >= 98.5 and min(best) >= 97.5, best
    training, test = data.digits()
    exact = [100 * load_model(tmp_path / str(seed) / "model.safetensors").evaluate(test)["accuracy"] for seed in range(5)]
    theirs = [accuracy_by_torch(vgg_small, training, test, seed, **recipe("digits")) for seed in range(5)]
    assert_within_noise(exact, theirs)


def test_photos_of_ants_and_bees(tmp_path: Path) -> None:
    """244 photos from scratch, no test set: the best of 30 epochs by validation. Guessing the larger class gives 54.2 %."""
    with tarfile.open(shared_data("hymenoptera") / "hymenoptera_data.tar") as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # Python before 3.11.4 has none
    command = [sys.executable, "-m", "fastnn", "train", str(tmp_path), "--size", "64", "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    [found] = re.findall(r"^validation accuracy (.+) % \(there is no test set\)$", result.stdout, re.M)
    assert float(found) >= 68, found


@pytest.mark.parametrize("precision", ["float32", *(["bf16"] if _C.isa() in _C.isas("bfloat16") else [])])
def test_fashion_mnist_three_seeds(tmp_path: Path, precision: str) -> None:
    """Without validation: trained on all 60,000, judged after the last epoch."""
    folder = str(shared_data("fashion-mnist"))
    arguments = ["fashion-mnist", "--data", folder, "--model", "lenet", "--epochs", "6", "--val-fraction", "0", "--precision", precision]
    last = [accuracy_of(tmp_path / str(seed), *arguments, "--seed", str(seed)) for seed in range(3)]
    assert min(last) >= 91, last
    assert_within_noise(last, fashion_mnist_by_torch())


@functools.cache
def fashion_mnist_by_torch() -> list[float]:
    """In float32: minutes each."""
    training, test = data.fashion_mnist(shared_data("fashion-mnist"))
    return [accuracy_by_torch(lenet, training, test, seed, **recipe("fashion-mnist", val_fraction=0.0)) for seed in range(3)]
