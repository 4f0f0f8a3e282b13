"""The checks around each kernel call (conftest.memory_checks) see what they are there for: another thread does what a broken kernel would, while
one runs."""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from kernel_calls import CPU_TABLES, struct

from fastnn import _C

pytestmark = [
    pytest.mark.skipif(not CPU_TABLES, reason="FASTNN_TEST_DEVICES leaves the CPU out"),
    pytest.mark.skipif(
        "FASTNN_ARENA" in os.environ, reason="without the arena nothing lies behind an array, and its memory goes back at once"
    ),
]
PATIENCE = 30  # seconds in which the other thread has run once while a kernel did


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """`act` again and again, in another thread."""
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not seen():
        assert time.monotonic() < end, f"not seen for {PATIENCE} seconds"


SHAPE = (1 << 22,)  # a few milliseconds


def test_a_byte_written_behind_an_array_is_seen() -> None:
    whole, part = (_C.from_numpy(np.ones(SHAPE, np.float32)) for _ in range(2))
    behind = whole.data_ptr + whole.nbytes + 3

    def refused() -> bool:
        try:
            _C.paste(struct("paste", (SHAPE, SHAPE, SHAPE, (1,), 0)), part, whole)
        except RuntimeError as error:
            assert str(error) == "fastnn internal error: paste wrote behind whole at byte 3"
            return True
        return False

    assert not refused()
    with meanwhile(lambda: ctypes.memset(behind, 0, 1)):  # type: ignore[arg-type]
        until(refused)
    assert not refused()


@pytest.mark.parametrize("checks", [True, False])
def test_outputs_are_poisoned_before_a_kernel_runs(checks: bool) -> None:
    """The last element is NaN until the kernel comes to it; without the checks it is what lay there."""
    x, seen = _C.from_numpy(np.ones(SHAPE, np.float32)), set[float]()
    relu = struct("relu_forward", (SHAPE,))
    place = _C.relu_forward(relu, x).data_ptr  # which the next array of this size takes again
    last = place + x.nbytes - 4

    def run() -> bool:
        y = _C.relu_forward(relu, x)
        assert y.data_ptr == place, "it lies elsewhere"
        y.copy_from(np.full(SHAPE, 7, np.float32))
        return any(math.isnan(value) for value in seen) if checks else seen >= {1.0, 7.0}

    _C.set_memory_checks(checks)
    try:
        with meanwhile(lambda: seen.add(ctypes.c_float.from_address(last).value)):
            until(run)
    finally:
        _C.set_memory_checks(True)
    assert any(math.isnan(value) for value in seen) == checks
