"""`python new_fails.py WHAT STEP`, with new_fails.cpp before all other libraries (LD_PRELOAD): a training step in which the k-th `operator new` of
the core fails, for every STEP-th k, each in a process of its own. Prints how many there were and, in words, what went wrong. WHAT may also be "given back".

Not counted is what pybind11 does while it makes an object of a bound class: it cannot do without memory there, and ends the process.
"""

from __future__ import annotations

import ctypes
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


def made_in_peace(function: Callable[..., Any]) -> Callable[..., Any]:
    def make(*arguments: Any, **keywords: Any) -> Any:
        library.new_waits(1)
        try:
            return function(*arguments, **keywords)
        finally:
            library.new_waits(-1)

    return make


for module, names in ((_C, ("Adam", "Recording", "Replay")), (fastnn.tape, ("_NoGrad",))):
    for name in names:
        setattr(module, name, made_in_peace(getattr(module, name)))


def refused(act: Callable[[Training], object], t: Training, k: int) -> bool:
    library.new_fails(k)
    try:
        act(t)
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
    t = make()
    library.new_fails(10**9)
    act(t)
    calls, expected = 10**9 - library.new_fails(0), t.state()

    def attack(k: int) -> int:
        """0: refused, and done the next time; 1: done without that memory, or never asked for it; 2: with other bits."""
        t = make()
        failed = refused(act, t, k)
        if failed:
            recover(t)
            act(t)
        return (0 if failed else 1) if t.state() == expected else 2

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
    give_back() if sys.argv[1] == "given back" else main(sys.argv[1], int(sys.argv[2]))
