"""Whole trainings, eager and replayed, on every instruction set, in float32 and mixed: a line for each says what it came to.

A child of test_fence.py, without fences and where each array ends at a page that nobody may touch (FASTNN_ARENA=fenced). With a number as
argument it reads that many bytes beyond the last weight when all is done, which must fault.
"""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from kernel_calls import FLOAT_ISAS
from test_checkpoint import state

import fastnn
from fastnn import _C, nn, optim
from fastnn.data import ArrayDataset, Flip, Loader
from fastnn.train import ModelCheckpoint, Trainer, load_model


def pictures(n: int, seed: int) -> ArrayDataset:
    """Bytes, 3 x 11 x 9: no size is a multiple of a vector."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 5
    return ArrayDataset(rng.normal(60 + 30 * labels[:, None, None, None], 40, (n, 3, 11, 9)).clip(0, 255).astype(np.uint8), labels)


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 19, 3, padding=1), nn.BatchNorm2d(19), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(19, 19, 3, padding=1, groups=19, bias=False), nn.BatchNorm2d(19), nn.SiLU(), nn.Dropout2d(0.1),
        nn.Conv2d(19, 34, 3, padding=1), nn.GELU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(136, 21), nn.ReLU(), nn.Dropout(0.3), nn.Linear(21, 5),
    )  # fmt: skip


def train(precision: str, replay: bool, folder: Path) -> Trainer:
    """Two epochs with validation and checkpoints, a third from the checkpoint; 38 samples in batches of 7: a smaller one ends each epoch."""
    for epochs, resume in ((2, None), (3, folder / "checkpoint")):
        fastnn.seed(1)
        model = net()
        trainer = Trainer(model, optim.Adam(model.parameters(), 1e-2), seed=2, precision=precision, ema=0.9, clip_norm=1.0)
        loader = Loader(pictures(38, 0), 7, shuffle=True, seed=3, augment=Flip())
        callbacks = [ModelCheckpoint(folder / "checkpoint")]
        trainer.fit(loader, epochs, pictures(12, 1), callbacks=callbacks, resume=resume, replay="auto" if replay else False, progress=False)
    trainer.save_model(folder / "model")
    return trainer


def runs() -> Iterator[tuple[str, str, bool]]:
    for isa, precision in [*((isa, "float32") for isa in FLOAT_ISAS), *((isa, "bf16") for isa in _C.isas("bfloat16"))]:
        for replay in (False, True):
            yield isa, precision, replay


def digest(folder: Path) -> str:
    """Of all that a checkpoint holds, and of what the model predicts."""
    arrays, notes = state(folder / "checkpoint")
    predicted = load_model(folder / "model", model=net()).predict(pictures(12, 1))
    return hashlib.sha256(repr((sorted(arrays.items()), notes, predicted.tobytes())).encode()).hexdigest()


def main() -> None:
    faulthandler.enable()
    for isa, precision, replay in runs():
        _C.set_isa(isa)
        print(f"{isa}, {precision}, {'replayed' if replay else 'eager'}: ", end="", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            trainer = train(precision, replay, Path(folder))
            assert ("kernel calls, arena" in trainer.replayed) == replay, trainer.replayed
            print(digest(Path(folder)), flush=True)
    if len(sys.argv) > 1:
        *_, last = trainer.model.parameters()
        print(f"a weight of {last._array.nbytes} bytes", flush=True)
        ctypes.string_at(last._array.data_ptr + last._array.nbytes - 1 + int(sys.argv[1]), 1)


if __name__ == "__main__":
    main()
