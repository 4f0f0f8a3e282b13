"""At batch 1: which kernel runs, that several threads share its work, and that a matrix meets a vector as it meets many."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from conv2d_geometries import plain_geometry
from kernel_calls import Table, call, plan, same_bits
from kernel_cases import Case

from fastnn import _C

LAYERS: dict[str, tuple[str, tuple[Any, ...]]] = {  # of the reference nets
    "resnet20 32x32 16-16": ("conv2d_forward", plain_geometry(1, 16, 32, 16, 3)),
    "resnet20 8x8 64-64": ("conv2d_add_forward", plain_geometry(1, 64, 8, 64, 3)),
    "resnet18 28x28 128-128": ("conv2d_forward", plain_geometry(1, 128, 28, 128, 3)),
    "resnet18 7x7 512-512": ("conv2d_forward", plain_geometry(1, 512, 7, 512, 3)),
    "mlp 784-512": ("matmul", ((1, 784), (512, 784), False, True)),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_several_threads_take_part(layer: str, cpu_table: Table, threads: None) -> None:
    """Who takes a block is luck, so a busy machine gets some time."""
    row, parameters = LAYERS[layer]
    case = Case(row, parameters)
    _C.set_num_threads(1)
    alone = case.run(cpu_table)
    _C.set_num_threads(3)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert same_bits(case.run(cpu_table), alone)
        if _C.last_call()["workers"] > 1:
            return
    raise AssertionError(f"{layer}: one worker ran all blocks, for 20 seconds")


def test_a_vector_has_its_kernel(cpu_table: Table) -> None:
    for shape, (ta, tb), algorithm in (((1, 300), (False, True), "matvec"), ((1, 300), (False, False), ""), ((2, 300), (False, True), "")):
        b = (40, 300) if tb else (300, 40)
        assert (plan("matmul", (shape, b, ta, tb), cpu_table.dtype)[0] == "matvec") == (algorithm == "matvec")


@pytest.mark.parametrize(("K", "N"), [(1, 1), (15, 3), (16, 4), (33, 5), (784, 130), (4097, 9)])
def test_a_vector_is_a_row_of_many(K: int, N: int, cpu_table: Table) -> None:
    """Small integers: the sums are exact, so the order does not matter."""
    random = np.random.default_rng(K)
    a, b, bias = (random.integers(-3, 4, shape).astype(np.float32) for shape in ((3, K), (N, K), (N,)))
    many = call("matmul", ((3, K), (N, K), False, True, "relu"), [a, b, bias], cpu_table.dtype)["y"]
    for i in range(3):
        one = call("matmul", ((1, K), (N, K), False, True, "relu"), [a[i : i + 1], b, bias], cpu_table.dtype)["y"]
        assert np.array_equal(one[0], many[i])
    if N > 2:
        assert np.count_nonzero(many)


def test_numbers_that_are_none_pass_through(cpu_table: Table) -> None:
    a, b = np.ones((1, 40), np.float32), np.ones((9, 40), np.float32)
    b[2, 39], b[4, 0], b[8, 17] = np.nan, np.inf, -np.inf
    y = call("matmul", ((1, 40), (9, 40), False, True), [a, b, None], cpu_table.dtype)["y"][0]
    assert np.isnan(y[2]) and y[4] == np.inf and y[8] == -np.inf and (y[[0, 1, 3, 5, 6, 7]] == 40).all()
