"""The processor's flags, by which a training knows that a gradient may have overflowed: up after a product that did, in whatever element and
thread, on every table of the CPU; down after a step in which nothing did."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
from conv2d_geometries import NETWORK_GEOMETRIES, Geometry, covering_geometries, y_shape_of
from kernel_calls import CPU_TABLES, NARROW_TABLES, Table, call, using

import fastnn
from fastnn import _C, data, models, nn, optim
from fastnn.train import Trainer

pytestmark = pytest.mark.skipif("cpu" not in os.environ.get("FASTNN_TEST_DEVICES", "cpu"), reason="a GPU keeps no such flags")


def meetings(geometry: Geometry, axis: int) -> list[tuple[int, int]]:
    """(output, input) along the axis that some tap brings together."""
    x_shape, w_shape, stride, before, _, dilation, _ = geometry
    outputs, inputs, taps = (shape[2 + axis] for shape in (y_shape_of(geometry), x_shape, w_shape))
    places = [(p, p * stride[axis] - before[axis] + r * dilation[axis]) for p in range(outputs) for r in range(taps)]
    return [(p, h) for p, h in places if 0 <= h < inputs]


TABLES = [
    *CPU_TABLES, *(table for table in NARROW_TABLES if table.device == "cpu"),
    *(Table(isa, "float32", "medium") for isa in ("avx512bf16", "amx") if isa in _C.isas()),
    *(Table(isa, "float32", "high") for isa in ("amx",) if isa in _C.isas()),
]  # fmt: skip
GEOMETRIES = [g for g in NETWORK_GEOMETRIES if g[0][0] and np.prod(g[0]) < 2**19][::3] + covering_geometries(60)
GEOMETRIES = [g for g in GEOMETRIES if meetings(g, 0) and meetings(g, 1)]
HUGE = {"float64": 1e200, "float32": 1e25, "bfloat16": 1e25}
SIZES = [(10, 64, 5000), (64, 10, 128), (300, 33, 65), (7, 1, 40), (1, 17, 40), (33, 300, 512)]


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def exceptions(row: str, parameters: object, operands: list[np.ndarray | None], table: Table) -> tuple[int, np.ndarray]:
    before = _C.float_exceptions()
    result = next(iter(call(row, parameters, operands, table.dtype).values()))  # type: ignore[arg-type]
    return _C.float_exceptions() - before, result


@pytest.mark.parametrize("on", TABLES, ids=str)
def test_of_weight_gradients(on: Table) -> None:
    draw = np.random.default_rng(1)
    with using(on):
        for geometry in GEOMETRIES:
            x, dy = numbers(geometry[0]), numbers(y_shape_of(geometry))
            count, dw = exceptions("conv2d_backward_weight", geometry, [x, dy], on)
            assert count == 0 and np.isfinite(dw).all(), geometry
            for _ in range(2):
                count, dw = exceptions("conv2d_backward_weight", geometry, [*one_product(draw, geometry, x, dy, HUGE[on.dtype])], on)
                assert count > 0 and 0 < np.count_nonzero(~np.isfinite(dw)), geometry


def one_product(draw: np.random.Generator, geometry: Geometry, x: np.ndarray, dy: np.ndarray, huge: float) -> tuple[np.ndarray, np.ndarray]:
    """Both huge in one element, which a tap brings together."""
    (n, channels, *_), (filters, per_group, *_), *_ = geometry
    (p, h), (q, w) = (draw.choice(meetings(geometry, axis)) for axis in (0, 1))
    image, k = draw.integers(n), draw.integers(filters)
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    x[image, k * (channels // per_group) // filters * per_group + draw.integers(per_group), h, w] = dy[image, k, p, q] = huge
    return x, dy


@pytest.mark.parametrize("on", TABLES, ids=str)
def test_of_matrix_products(on: Table) -> None:
    draw = np.random.default_rng(2)
    with using(on):
        for m, n, k in SIZES:
            for ta, tb in ((True, False), (False, True), (False, False)):
                a, b = (numbers(shape).astype(np.float64) for shape in ((k, m) if ta else (m, k), (n, k) if tb else (k, n)))
                parameters = (a.shape, b.shape, ta, tb)
                count, y = exceptions("matmul", parameters, [a, b, None], on)
                assert count == 0 and np.isfinite(y).all(), parameters
                i, j, at = (int(draw.integers(size)) for size in (m, n, k))
                a[(at, i) if ta else (i, at)] = b[(j, at) if tb else (at, j)] = HUGE[on.dtype]
                count, y = exceptions("matmul", parameters, [a, b, None], on)
                assert count > 0 and np.isinf(y[i, j]), parameters


@pytest.mark.parametrize("precision", ["float32", *(["bf16"] if _C.isa() in _C.isas("bfloat16") else [])])
@pytest.mark.parametrize("make", [models.lenet, models.resnet20, models.vgg_small], ids=lambda make: make.__name__)
def test_a_training_in_which_all_is_well_has_none(make: Callable[..., nn.Module], precision: str) -> None:
    """Else every step would read all gradients once more."""
    fastnn.seed(0)
    model = make(4, input_shape=(3, 32, 32))
    images = np.random.default_rng(0).integers(0, 256, (32, 3, 32, 32)).astype(np.uint8)
    trainer = Trainer(model, optim.Adam(model.parameters(), 1e-3), precision=precision)
    before = _C.float_exceptions()
    trainer.fit(data.ArrayDataset(images, np.arange(32) % 4), 2, batch_size=16, progress=False)
    assert _C.float_exceptions() == before


def test_what_others_have_left_behind_does_not_count() -> None:
    """numpy raises the same flags in the same thread, and looks at its own."""
    before = _C.float_exceptions()
    with np.errstate(all="ignore"):
        assert np.isinf(np.float32(3e38) * np.ones(40, np.float32) * np.float32(10)).all()
    y = fastnn.tensor(np.ones(40, np.float32)) * 2.0
    assert _C.float_exceptions() == before and y.sum().item() == 80
    with np.errstate(over="raise"):
        assert np.isinf((fastnn.tensor(np.full(40, 3e38, np.float32)) * 10.0).numpy()).all() and _C.float_exceptions() > before
        assert float(np.float32(1.0) * np.ones(40, np.float32).sum()) == 40


def test_a_step_without_a_recording_has_none_either() -> None:
    """On float images, which are looked at."""
    model = models.vgg_small(4)
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.01))
    before = _C.float_exceptions()
    trainer.fit((numbers((32, 1, 8, 8)), np.arange(32) % 4), 2, batch_size=8, progress=False, replay=False)
    assert _C.float_exceptions() == before
