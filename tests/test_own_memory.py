"""What each worker packs and transforms lies in memory of its thread (csrc/cpu/own.h) where it fits, or in scratch: the same bits, whatever
the kernel before left there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from torch_twins import normal

import fastnn
from fastnn import _C

# (N, C, H, W), (K, R), stride: one for each algorithm that keeps something there; the last blocks are not full
CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, int], int]] = {
    "winograd, tiles": ((3, 64, 13, 11), (48, 3), 1),
    "winograd, panels": ((1, 256, 7, 7), (192, 3), 1),
    "winograd, more than a thread has": ((6, 512, 14, 14), (64, 3), 1),
    "winograd, narrow": ((3, 16, 17, 18), (32, 3), 1),
    "winograd, strided": ((32, 32, 16, 14), (64, 3), 2),
    "direct": ((3, 24, 9, 9), (40, 5), 2),
    "first layer": ((2, 3, 19, 17), (32, 3), 1),
    "1x1": ((3, 80, 6, 6), (96, 1), 1),
}
PRODUCTS = [(60, 100, 130), (300, 70, 50), (9, 4000, 8), (128, 784, 512)]


@pytest.fixture
def checks() -> Any:
    """A function that switches the memory checks, with which all of it lies in scratch."""
    yield _C.set_memory_checks
    _C.set_memory_checks(True)


def _convolutions(case: str, scale: float) -> list[np.ndarray]:
    shape, (filters, window), stride = CONVOLUTIONS[case]
    x, w = normal(0, *shape) * scale, normal(1, filters, shape[1], window, window)
    pad = window // 2
    plan = _C.Conv2d(shape, w.shape, (stride, stride), (pad, pad), (pad, pad))
    a, b = _C.from_numpy(x), _C.from_numpy(w)
    y = _C.conv2d_forward(plan, a, b, None)
    return [r.numpy().copy() for r in (y, _C.conv2d_backward_input(plan, y, b), _C.conv2d_backward_weight(plan, a, y))]


def _products(_: str, scale: float) -> list[np.ndarray]:
    results = []
    for rows, depth, columns in PRODUCTS:
        a, b = _C.from_numpy(normal(0, rows, depth) * scale), _C.from_numpy(normal(1, depth, columns))
        results.append(_C.matmul(_C.MatMul((rows, depth), (depth, columns), False, False), a, b, None).numpy().copy())
    return results


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("case", [*CONVOLUTIONS, "products"])
def test_the_bits_are_those_of_scratch_whatever_lay_there(case: str, count: int, checks: Any, threads: None) -> None:
    fastnn.set_num_threads(count)
    run = _products if case == "products" else _convolutions
    checks(True)
    expected = run(case, 1)
    checks(False)
    run(case, np.nan)
    for _ in range(3):
        for got, wanted in zip(run(case, 1), expected):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_scratch_is_less_by_what_threads_have(case: str, checks: Any, threads: None) -> None:
    fastnn.set_num_threads(2)
    shape, (filters, window), stride = CONVOLUTIONS[case]
    pad = window // 2
    plan = _C.Conv2d(shape, (filters, shape[1], window, window), (stride, stride), (pad, pad), (pad, pad))
    checks(True)
    all_of_it = _C.plan("conv2d_forward", plan)
    checks(False)
    algorithm, scratch = _C.plan("conv2d_forward", plan)
    assert algorithm == all_of_it[0]
    assert (scratch < all_of_it[1]) == (case != "winograd, more than a thread has" or not algorithm.startswith("winograd")), algorithm


def test_workers_in_the_middle_of_a_block_have_memory_each(without_memory_checks: None, threads: None) -> None:
    """More than there are processors, and long enough for each to be stopped in its block while others go on."""
    x, w = (_C.from_numpy(normal(i, *s)) for i, s in enumerate([(32, 64, 32, 32), (64, 64, 9, 9)]))
    plan = _C.Conv2d(x.shape, w.shape, (1, 1), (4, 4), (4, 4))
    fastnn.set_num_threads(1)
    expected = _C.conv2d_forward(plan, x, w, None).numpy().copy()
    fastnn.set_num_threads(2 * (os.cpu_count() or 1) + 2)
    for _ in range(5):
        np.testing.assert_array_equal(_C.conv2d_forward(plan, x, w, None).numpy(), expected)


@pytest.mark.parametrize("switch", [_C.set_memory_checks, _C.set_finite_checks])
def test_a_replay_is_not_run_with_less_memory_than_it_was_planned_for(switch: Any, without_memory_checks: None) -> None:
    """Its scratch would have no room for what the threads' own held."""
    shape, weights = (3, 64, 13, 11), (48, 64, 3, 3)
    x, w = _C.from_numpy(normal(0, *shape)), _C.from_numpy(normal(1, *weights))
    recording = _C.Recording([x])
    recording.start()
    y = _C.conv2d_forward(_C.Conv2d(shape, weights, (1, 1), (1, 1), (1, 1)), x, w, None)
    recording.stop()
    replay = _C.Replay(recording, [y], [], _C.ReplayMemory())
    assert replay.begin([x]) is not None
    replay.run()
    switch(True)
    try:
        assert replay.begin([x]) is None
    finally:
        switch(False)
    assert replay.begin([x]) is not None
    replay.run()


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_of_threads_that_have_ended_goes_to_others(without_memory_checks: None) -> None:
    def work() -> None:
        _convolutions("winograd, tiles", 1)

    def in_threads(count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    in_threads(5)
    before = _resident()
    in_threads(60)
    assert _resident() - before < 16 << 20  # of 60 that each had half a huge page


def test_threads_at_the_same_time_have_memory_each(without_memory_checks: None) -> None:
    expected = _convolutions("winograd, tiles", 1)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(30):
            if any((got != wanted).any() for got, wanted in zip(_convolutions("winograd, tiles", 1), expected)):
                wrong.append(threading.current_thread().name)

    running = [threading.Thread(target=work) for _ in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not wrong


def test_a_forked_child_has_its_own(without_memory_checks: None) -> None:
    expected = _convolutions("winograd, tiles", 1)
    child = os.fork()
    if not child:
        same = False
        try:
            same = all((got == wanted).all() for got, wanted in zip(_convolutions("winograd, tiles", 1), expected))
        finally:
            os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("arena", ["off", "fenced"])
def test_where_blocks_are_exact_all_of_it_lies_in_scratch(arena: str) -> None:
    """So that a fault, or AddressSanitizer, tells of an element too many."""
    told = "from fastnn import _C; print(_C.plan('matmul', _C.MatMul((60, 100), (100, 130), False, False))[1])"
    sizes = [
        int(subprocess.run([sys.executable, "-c", told], env={**os.environ, **more}, capture_output=True, text=True, check=True).stdout)
        for more in ({"FASTNN_ARENA": ""}, {"FASTNN_ARENA": arena})
    ]
    assert sizes[0] < sizes[1]
