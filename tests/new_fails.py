"""`python new_fails.py WHAT STEP`, with new_fails.cpp before all other libraries (LD_PRELOAD): a training step in which the k-th `operator new` of
the core, or of pybind11 in it, fails, for every STEP-th k, each in a process of its own. Prints how many there were and, in words, what went wrong.
WHAT may also be "given back" and "objects"."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import test_allocation_failures as steps
from captured_steps import Training

import fastnn
from fastnn import _C

library = ctypes.CDLL(None)
library.new_fails.argtypes, library.new_fails.restype = [ctypes.c_long], ctypes.c_long


def allocated() -> int:
    gc.collect()
    return fastnn.memory_stats("cpu")["allocated"]


def refused(k: int, act: Callable[..., object], *arguments: Training) -> bool:
    library.new_fails(k)
    try:
        act(*arguments)
    except fastnn.OutOfMemoryError as error:
        told: Any = error
        assert told.free > 0 and told.held > 0 and "out of memory" in str(error)
        return True
    finally:
        library.new_fails(0)
    return False


def give_back() -> None:
    """Arrays of a size that nobody had before, where what remembers free memory wants memory itself: it goes back to the system instead."""
    for count in (12_345, 345_678):
        held = fastnn.memory_stats("cpu")["allocated"]
        array = fastnn.tensor(np.ones(count, np.float32))
        library.new_fails(1)
        del array
        print(f"{count}: {'refused' if library.new_fails(0) == 0 else 'nothing was asked for'}, ", end="")
        print(fastnn.memory_stats("cpu")["allocated"] - held, "bytes held", fastnn.tensor(np.ones(count, np.float32)).sum().item())


def objects() -> None:
    """One of a class of each kind, in Python as in pybind11: refused call by call until it is made."""
    x = fastnn.tensor(np.ones(3))._array
    for make in (
        lambda: _C.Power((3,), 2.0),
        lambda: _C.Reduce((3, 4), [0]),
        lambda: _C.ReplayMemory(),
        lambda: _C.Recording([x]),
        lambda: x.view((3, 1)),
    ):
        make()
        k, before = 0, allocated()
        while refused(k := k + 1, make):
            pass
        print(f"{type(make()).__name__}: {k - 1} refused, {allocated() - before} bytes held")


def main(what: str, step: int) -> None:
    start = steps.begun()
    buffers, drawn = start.model.state_dict(), start.generator.draw

    def put_back(t: Training) -> None:
        t.optimizer.zero_grad()
        t.model.load_state_dict(buffers)
        t.generator.draw = drawn

    make, act, recover = {
        "eager": (steps.begun, lambda t: t.call(t.step, *t.data[0]), put_back),
        "recorded": (lambda: steps.Captured(0), lambda t: t.call(t.captured, *t.data[0]), lambda t: None),
        "replayed": (lambda: steps.Captured(1), lambda t: t.call(t.captured, *t.data[0]), lambda t: None),
    }[what]
    act(make())  # what is made once
    before = allocated()
    t = make()
    library.new_fails(10**9)
    act(t)
    calls, expected, arrays = 10**9 - library.new_fails(0), t.state(), allocated() - before

    def attack(k: int) -> int:
        """0: refused, and done the next time; 1: done without that memory, or never asked for it; 2: with other bits; 4: arrays stayed behind."""
        before = allocated()
        t = make()
        failed = refused(k, act, t)
        if failed:
            recover(t)
            act(t)
        if t.state() != expected:
            return 2
        return 4 if allocated() - before != arrays else 0 if failed else 1

    ends = []
    for k in range(1, calls + 1, step):
        if not (child := os.fork()):
            end = 3
            try:
                end = attack(k)
            finally:
                os._exit(end)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if ends[-1] not in (0, 1):
            print(f"call {k} of {calls}: the process ended with {ends[-1]}", flush=True)
    print(f"{len(ends)} of {calls} calls failed, {ends.count(0)} were refused")


if __name__ == "__main__":
    {"given back": give_back, "objects": objects}.get(sys.argv[1], lambda: main(sys.argv[1], int(sys.argv[2])))()
