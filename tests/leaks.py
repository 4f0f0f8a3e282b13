"""Imports, trains by every way there is, and exits: run by long/test_leaks.py under LeakSanitizer, which then lists what nothing refers to."""

from __future__ import annotations

import ctypes
import sys
import tempfile
from pathlib import Path

from resident_set import ACTIONS, DATA, net

import fastnn
from fastnn import _C, optim
from fastnn.train import Trainer


def main() -> None:
    fastnn.set_num_threads(3)
    for action in ACTIONS.values():
        action()
    model = net()
    trainer = Trainer(model, optim.Adam(model.parameters(), 1e-2), ema=0.9)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        trainer.fit(DATA, 1, DATA, batch_size=8, progress=False, replay=False)
        trainer.save(path)
        trainer.fit(DATA, 2, batch_size=8, resume=path, progress=False)
    trainer.predict(DATA[0])
    for shape in ((1, 2), (1,) * 9):  # what exceptions unwind
        try:
            _C.relu_forward(_C.Elements(shape), _C.from_numpy(DATA[0]))
        except ValueError as error:
            print(type(error).__name__)
    _C.fail_allocation(1)
    try:
        _C.from_numpy(DATA[0])
    except fastnn.OutOfMemoryError as error:
        print(type(error).__name__)
    if "--leak" in sys.argv:
        forget(fastnn.tensor(DATA[0]).__dlpack__())


def forget(capsule: object) -> None:
    """As a consumer that never calls the deleter: what it held is lost."""
    rename = ctypes.pythonapi.PyCapsule_SetName
    rename.argtypes = (ctypes.py_object, ctypes.c_char_p)
    rename(capsule, b"used_dltensor")


if __name__ == "__main__":
    main()
