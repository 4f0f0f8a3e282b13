"""The whole trainings, several seeds each, through the command line. Minutes: run with `python -m pytest -o addopts= -s tests/long`."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from shared_data import shared_data


def last_and_best(folder: Path, *arguments: str) -> tuple[float, float]:
    """Test accuracy in percent of the last epoch and of the best snapshot by validation, as `fastnn train` prints them."""
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "fastnn", "train", *arguments, "--out", str(folder)], capture_output=True, text=True, check=True
    )
    last, best = (float(found) for found in re.findall(r"epoch.*: (\d+\.\d+) % of the test set", result.stdout))
    print(f"\n{' '.join(arguments)}: last epoch {last:.2f} %, best by validation {best:.2f} %, {time.perf_counter() - start:.1f} s", end="")
    return last, best


def test_digits_five_seeds(tmp_path: Path) -> None:
    best = [last_and_best(tmp_path / str(seed), "digits", "--seed", str(seed))[1] for seed in range(5)]
    assert np.mean(best) >= 98.5 and min(best) >= 97.5, best


def test_fashion_mnist_three_seeds(tmp_path: Path) -> None:
    folder = str(shared_data("fashion-mnist"))
    arguments = ["fashion-mnist", "--data", folder, "--model", "lenet", "--epochs", "6"]
    last = [last_and_best(tmp_path / str(seed), *arguments, "--seed", str(seed))[0] for seed in range(3)]
    assert min(last) >= 91, last
