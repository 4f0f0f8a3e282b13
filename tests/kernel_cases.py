"""Cases: a row of kernels.def, the fields of its struct, and the problem that they make. Every row has several in CASES."""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import kernel_problems
import numpy as np
from conv2d_geometries import NETWORK_GEOMETRIES, plain_geometry
from kernel_calls import Array, Table, assert_within, call
from kernel_problems import Problem, Shape, view_parameters


@dataclass(frozen=True)
class Case:
    row: str
    parameters: tuple[Any, ...]  # of the row's struct
    options: dict[str, Any] = field(default_factory=dict, hash=False)  # of the problem: which operands are absent, which data

    def __str__(self) -> str:
        options = [name if value is True else f"{name}={describe(value)}" for name, value in self.options.items()]
        return "-".join([self.row, *map(describe, self.parameters), *options])

    @property
    def problem(self) -> Problem:
        return _problem(str(self), self)

    def run(self, table: Table, shifted: bool = False) -> dict[str, Array]:
        return call(self.row, self.parameters, self.problem.operands, table.dtype, shifted)

    def check(self, table: Table) -> dict[str, Array]:
        """Runs, compares with the reference, and returns what was written."""
        problem, written = self.problem, self.run(table)
        tolerances = problem.tolerance if isinstance(problem.tolerance, list) else [problem.tolerance] * len(problem.expected)
        present = [(e, t) for e, t in zip(problem.expected, tolerances, strict=True) if e is not None]
        flat = [(e, t) for value, t in present for e in (value if isinstance(value, list) else [value])]
        for (name, got), (expected, tolerance) in zip(written.items(), flat, strict=True):
            assert_within(got, expected, tolerance, f"{self.row} on {table}, {name} of {self}")
        return written


def describe(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value)) if value else "scalar"
    return str(value)


@functools.lru_cache(maxsize=32)
def _problem(name: str, case: Case) -> Problem:
    with np.errstate(all="ignore"):
        make: Callable[..., Problem] = getattr(kernel_problems, case.row)
        return make(np.random.default_rng(zlib.crc32(name.encode())), *case.parameters, **case.options)


# --- the cases that the generic tests run: each row with an empty, a tiny and an odd problem, and one of several blocks for the threads


def _case(row: str, *parameters: Any, **options: Any) -> Case:
    return Case(row, parameters, options)


SHAPES: list[Shape] = [(), (0,), (1,), (17,), (2, 3, 5, 7), (3, 100_003)]
VIEWS = [
    view_parameters((3, 4, 5), lambda x: x.transpose(2, 0, 1)),
    view_parameters((2, 3, 4, 5), lambda x: x, (2, 60)),  # flatten
    view_parameters((2, 60), lambda x: x.reshape(2, 3, 4, 5)),
    view_parameters((2, 3, 6, 7), lambda x: x[:, ::-1, 1:5:2, 6:1:-2]),
    view_parameters((4, 3, 2, 5), lambda x: x.transpose(1, 0, 3, 2)),
    view_parameters((7,), lambda x: x[3]),
    view_parameters((2, 3), lambda x: x[:0]),
    view_parameters((4, 33, 40, 41), lambda x: x, (4, 33 * 40 * 41)),
]
REPEATED = [
    view_parameters((3, 1, 5), lambda x: np.broadcast_to(x, (3, 4, 5))),
    view_parameters((1,), lambda x: np.broadcast_to(x, (90_000,))),
]
BROADCASTS = [
    ((), ()),
    ((0, 3), (3,)),
    ((5, 1, 7), (3, 1)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 3, 4, 5), (5,)),
    ((3, 100_003), (3, 1)),
    ((8, 16, 40, 40), (1, 16, 1, 1)),
]
REDUCTIONS = [
    ((7,), (0,)),
    ((3, 4, 5), (1,)),
    ((2, 3, 4, 5), (0, 2, 3)),
    ((2, 3, 4, 5), (1,)),
    ((3, 100_003), (1,)),
    ((100_003, 3), (0,)),
    ((8, 16, 40, 40), (2, 3)),
    ((300_007,), (0,)),
    ((2, 3, 2, 5, 4), (1, 3)),
    ((6, 64), (1,)),
]
POOLS = [
    ((2, 3, 8, 8), (2, 2), (2, 2), (0, 0), False),
    ((2, 17, 9, 7), (3, 2), (2, 1), (1, 1), False),
    ((1, 16, 7, 8), (3, 3), (2, 2), (1, 1), True),
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), False),
    ((2, 5, 16, 16), (16, 16), (1, 1), (0, 0), False),
    ((2, 3, 6, 6), (2, 2), (3, 3), (0, 0), True),
    ((0, 3, 6, 6), (2, 2), (2, 2), (0, 0), False),
    ((9, 24, 33, 32), (3, 3), (2, 2), (1, 1), False),
]
IMAGES: list[Shape] = [(2, 3, 4, 5), (1, 17, 1, 1), (0, 3, 2, 2), (3, 1, 9, 7), (9, 40, 33, 31)]
BATCHES: list[Shape] = [(5, 3), (33, 17), (4, 3, 5, 7), (2, 64, 1, 1), (9, 40, 33, 31), (7001, 33)]
MATRICES = [
    ((1, 1), (1, 1)),
    ((5, 7), (7, 3)),
    ((0, 7), (7, 3)),
    ((2, 3, 5), (2, 5, 4)),
    ((3, 5, 7), (7, 6)),
    ((257, 129), (129, 65)),
    ((64, 700), (700, 130)),
    ((65, 5000), (5000, 33)),
]


def _transposed(shape: Shape, transpose: bool) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if transpose else shape


def _cases() -> list[Case]:
    cases = []
    for direction in ("forward", "backward_input", "backward_weight"):
        cases += [_case(f"conv2d_{direction}", *geometry) for geometry in NETWORK_GEOMETRIES]
    cases.append(_case("conv2d_forward", *plain_geometry(2, 16, 8, 16, 3), bias=False))
    for (a, b), ta, tb in itertools.product(MATRICES, (False, True), (False, True)):
        if len(a) == len(b) or not ta:
            cases.append(_case("matmul", _transposed(a, ta), _transposed(b, tb), ta, tb, bias=ta == tb))
    cases += [_case("channel_sum", shape, exact=exact) for shape in [*BATCHES, (0, 3, 2, 2)] for exact in (True, False)]
    cases += [_case(f"maxpool2d_{direction}", *pool) for pool in POOLS for direction in ("forward", "backward")]
    cases += [_case(f"global_avgpool_{direction}", shape) for shape in IMAGES for direction in ("forward", "backward")]
    for shape, activation, residual in itertools.product(BATCHES, ("none", "relu", "silu"), (False, True)):
        cases.append(_case("batchnorm_forward", shape, 1e-5, 0.1, activation, True, residual))
        cases.append(_case("batchnorm_inference", shape, 1e-5, 0.1, activation, False, residual))
        cases += [_case("batchnorm_backward", shape, 1e-5, 0.1, activation, training, residual) for training in (True, False)]
    for shape in BATCHES[:3]:
        cases.append(_case("batchnorm_forward", shape, 1e-3, 0.3, "relu", True, False, affine=False, running=False))
        cases.append(_case("batchnorm_inference", shape, 1e-3, 0.3, "relu", False, False, affine=False))
        cases.append(_case("batchnorm_backward", shape, 1e-3, 0.3, "relu", True, False, affine=False))
    for row in ("relu_forward", "relu_backward", "silu_forward", "silu_backward", "exp", "log", "sqrt"):
        cases += [_case(row, shape) for shape in SHAPES]
    cases += [_case("dropout", shape, p, 5, 0) for shape in SHAPES for p in (0.0, 0.3, 1.0)]
    cases += [_case("power", shape, exponent) for shape in SHAPES for exponent in (2.0, 0.5, -1.0, 3.0, 0.0, 1.7)]
    for row, (a, b) in itertools.product(("add", "subtract", "multiply", "divide"), BROADCASTS):
        cases += [_case(row, *shapes) for shapes in dict.fromkeys([(a, b), (b, a)])]
    for row, (shape, axes), keepdims in itertools.product(("sum", "max_forward", "max_backward"), REDUCTIONS, (False, True)):
        cases.append(_case(row, shape, axes, keepdims))
    cases += [_case("sum", shape, axes, False, exact=False) for shape, axes in REDUCTIONS]
    cases += [_case("copy", *view) for view in VIEWS + REPEATED] + [_case("copy_backward", *view) for view in VIEWS]
    for direction, shape, reduction in itertools.product(("forward", "backward"), [(6, 10), (1, 1), (700, 100)], ("none", "mean", "sum")):
        cases.append(_case(f"cross_entropy_{direction}", shape, 0.0, -100, reduction))
        cases.append(_case(f"cross_entropy_{direction}", shape, 0.1, 0, reduction, weighted=True))
    cases += [
        _case(row, count, groups) for row in ("sgd_step", "adam_step") for count, groups in [(0, 1), (1, 1), (5, 1), (12, 3), (230, 2)]
    ]
    cases += [_case("gather_normalize", *s) for s in [((5, 3, 4, 6), 9), ((7, 33), 4), ((5, 1, 28, 28), 0), ((40, 3, 32, 32), 128)]]
    return cases + [_case("random_bits", n, 7, purpose) for n in (0, 1, 4, 7, 100_003) for purpose in (0, 3)]


CASES = _cases()
