"""The command line: words drawn at random."""

from __future__ import annotations

import random

import numpy as np

WORDS = (
    "",
    "a",
    "0",
    "1",
    "-1",
    "2.5",
    "nan",
    "inf",
    "1e400",
    "9" * 25,
    "cpu",
    "cuda:7",
    "absent",
    "junk",
    "folder",
    "tiny.npz",
    "é",
    "--",
    "\\0",
    "none",
    "adam",
    "linear",
)
OPTIONS = ("--model", "--data", "--size", "--epochs", "--batch-size", "--lr", "--optimizer", "--schedule", "--val-fraction", "--augment", "--seed", "--threads",
           "--device", "--out", "--resume", "--skip-broken", "--nonsense")  # fmt: skip


def files() -> None:
    """What the words name: a data set, a damaged file, a folder."""
    import os

    rng = np.random.default_rng(0)
    part = {"images": rng.integers(0, 255, (12, 1, 6, 6)).astype(np.uint8), "labels": np.arange(12) % 3}
    np.savez("tiny.npz", **{f"{name}_{kind}": values for name in ("train", "test") for kind, values in part.items()})
    with open("junk", "wb") as file:
        file.write(b"\x10" * 100)
    os.makedirs("folder")


def words(rng: random.Random) -> list[str]:
    """A command: some of it right."""
    kind = rng.choice(("train", "train", "train", "evaluate", "predict", "info", "nonsense"))
    if kind == "train":
        some = [word for _ in range(rng.choice((1, 2))) for word in (rng.choice(OPTIONS), rng.choice(WORDS))]
        return [
            "train",
            rng.choice(("tiny.npz", "tiny.npz", *WORDS)),
            "--model",
            "linear",
            "--epochs",
            "1",
            "--out",
            rng.choice(("runs", "junk")),
            *some,
        ]
    return [kind, *(rng.choice(("junk", "tiny.npz", "--top", "--data", "--json", *WORDS)) for _ in range(rng.choice((0, 1, 2, 3))))]
