"""Results that are made again for backward instead of being kept: the same bits, and the memory that this is for."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from conv2d_geometries import Geometry, plain_geometry
from kernel_calls import GPUS, NARROW_TABLES, TABLES, call, plan, same_bits, struct, using
from test_conv2d import name_of
from test_winograd import geometry

import fastnn
from fastnn import _C, Tensor, models, nn, ops, optim
from fastnn.ops.batchnorm import BatchNorm
from fastnn.ops.conv2d_batchnorm import Conv2dBatchNorm
from fastnn.ops.remade import remade


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


MAKERS = (BatchNorm, Conv2dBatchNorm)


def train(model: nn.Module, x: Tensor, labels: np.ndarray, steps: int = 3) -> list[bytes]:
    optimizer = optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        ops.cross_entropy(model(x), labels).backward()
        optimizer.step()
    return [value.tobytes() for value in model.state_dict().values()] + [p.grad.numpy().tobytes() for p in model.parameters()]


NETS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "vgg": ({}, (3, 16, 16)),
    "resnet20": ({}, (3, 16, 16)),
    "resnet18": ({}, (3, 32, 32)),
    "preactivation": ({"preactivation": True}, (3, 16, 16)),
    "lenet": ({}, (1, 28, 28)),
}


@pytest.mark.parametrize("name", NETS)
def test_training_has_the_bits_of_results_that_are_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, shape = NETS[name]
    x, labels = fastnn.tensor(normal(0, 3, *shape)), np.array([0, 3, 9])
    remade: list[str] = []

    def run() -> list[bytes]:
        fastnn.seed(7)
        model = models.create("resnet20" if name == "preactivation" else name, input_shape=shape, num_classes=10, **options)
        return train(model, x, labels)

    for maker in MAKERS:
        monkeypatch.setattr(maker, "made_of", lambda op, f=maker.made_of: (remade.append(op.name), f(op))[1])
    lean = run()
    assert (len(remade) > 0) == (name != "lenet"), remade
    for maker in MAKERS:
        monkeypatch.setattr(maker, "remakes", lambda op: False)
    assert run() == lean


@pytest.mark.parametrize("activation", ["none", "relu", "silu", "gelu"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("device", ["cpu", *GPUS])
def test_what_is_made_again_is_the_result(activation: str, affine: bool, training: bool, device: str) -> None:
    for dtype in ("float32", "float64") if device == "cpu" else ("float32",):
        x = fastnn.tensor(normal(0, 3, 5, 4, 6) * 3 + 1, dtype, requires_grad=True, device=device)
        gamma, beta = (fastnn.tensor(normal(i, 5), dtype, device=device) if affine else None for i in (1, 2))
        mean, var = (fastnn.tensor(abs(normal(i, 5)), dtype, device=device) for i in (3, 4))
        y = ops.batch_norm(x, mean, var, gamma, beta, training=training, activation=activation)
        assert y._op.remakes()
        assert remade(y._op).numpy().tobytes() == y._array.numpy().tobytes()
        if training:
            w = fastnn.tensor(normal(5, 5, 5, 3, 3), dtype, device=device)
            y = ops.conv2d_batch_norm(x, w, None, mean, var, gamma, beta, activation=activation)
            assert remade(y._op).numpy().tobytes() == y._array.numpy().tobytes()


GEOMETRIES: list[tuple[Geometry, bool]] = [  # and whether the activation is made where tiles are gathered
    (plain_geometry(8, 16, 32, 16, 3), True),  # winograd4_narrow, winograd4 of one and several blocks of input channels, winograd2
    (geometry(9, 32, 15, 18, 16, (2, 0), (1, 2)), True),
    (plain_geometry(9, 40, 13, 33, 3), True),
    (plain_geometry(8, 130, 14, 64, 3), True),
    (plain_geometry(8, 64, 14, 150, 3), False),
    (plain_geometry(40, 48, 6, 48, 3), True),
    (plain_geometry(16, 48, 7, 300, 3), False),
    (plain_geometry(5, 24, 9, 40, 3, 2), False),
    (plain_geometry(3, 24, 7, 24, 3, 1, 24), False),
    (plain_geometry(2, 3, 9, 5, 3), False),
]


@pytest.mark.parametrize(("shapes", "gathers"), GEOMETRIES, ids=lambda v: name_of(v) if isinstance(v, tuple) else str(v))
def test_the_weight_gradient_of_what_is_made_again(shapes: Geometry, gathers: bool, threads: None) -> None:
    """The bits of batchnorm_inference and then conv2d_backward_weight, on every table."""
    random = np.random.default_rng(3)
    z, dy = normal(0, *shapes[0]) * 3 + 1, normal(1, *struct("conv2d_forward", shapes).y_shape)
    gamma, beta, mean = (random.standard_normal(shapes[0][1]).astype(np.float32) for _ in range(3))
    rstd = abs(gamma[::-1].copy()) + np.float32(0.1)
    for table in (*TABLES, *NARROW_TABLES):
        with using(table):
            for activation, affine in (("relu", True), ("none", True), ("relu", False), ("gelu", True)):
                given = [gamma, beta] if affine else [None, None]
                scale = np.multiply(gamma, rstd, dtype="float64" if table.dtype == "float64" else "float32") if affine else rstd
                plan_of_norm = (z.shape, 1.0, 0.0, activation, False, False)
                x = call("batchnorm_inference", plan_of_norm, [z, scale, given[1], None, mean, np.zeros_like(mean)], table.dtype)["y"]
                expected = call("conv2d_backward_weight", shapes, [x, dy], table.dtype)
                algorithm, scratch = _C.last_call()["algorithm"], plan("conv2d_backward_weight", shapes, table.dtype)[1]
                for count in (1, 3):
                    _C.set_num_threads(count)
                    got = call("conv2d_normalized_backward_weight", (*shapes, activation), [z, *given, mean, rstd, dy], table.dtype)
                    assert same_bits(got, expected), f"{table} {activation}"
                    assert _C.last_call()["algorithm"] == algorithm
                needs = plan("conv2d_normalized_backward_weight", (*shapes, activation), table.dtype)[1]
                on_the_way = gathers and "winograd" in algorithm and activation != "gelu"
                assert (needs == plan("conv2d_backward_weight", shapes, table.dtype)[1]) == on_the_way, f"{table} {scratch}"


def two(x: Tensor, w: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    y = ops.conv2d_batch_norm(x, w, None, None, None, gamma, activation="relu", padding=1)
    return y, ops.conv2d(y, w, padding=1)


def operands() -> tuple[Tensor, Tensor, Tensor]:
    x, w, gamma = (fastnn.tensor(normal(i, *s), requires_grad=True) for i, s in enumerate([(8, 16, 32, 32), (16, 16, 3, 3), (16,)]))
    return x, w, gamma


def test_a_result_dies_as_soon_as_forward_has_read_it() -> None:
    x, w, gamma = operands()
    two(x, w, gamma)[1].sum().backward()
    gc.collect()
    before = fastnn.memory_stats()["allocated"]
    y, out = two(x, w, gamma)
    maps = (fastnn.memory_stats()["allocated"] - before) / x._array.nbytes
    assert 2.9 < maps < 3.5, "z, y and the second result"
    del y
    maps = (fastnn.memory_stats()["allocated"] - before) / x._array.nbytes
    assert 1.9 < maps < 2.4, "y is kept although it can be made again"
    _C.reset_peak_memory()
    out.sum().backward()
    assert (fastnn.memory_stats()["peak"] - before) / x._array.nbytes < 5.8


def test_frozen_weights_keep_no_input() -> None:
    x, w, gamma = operands()
    w.requires_grad = False
    before = fastnn.memory_stats()["allocated"]
    y = ops.conv2d(x * 2.0, w)
    assert fastnn.memory_stats()["allocated"] - before < 1.1 * x._array.nbytes
    y.sum().backward()
    assert x.grad is not None and w.grad is None


def test_what_it_is_made_of_must_not_change() -> None:
    x, w, gamma = operands()
    loss = two(x, w, gamma)[1].sum()
    gamma.copy_from(np.ones(16))
    with pytest.raises(RuntimeError, match=r"backward of Conv2dBatchNorm: saved array 3 of shape \(16,\) was overwritten"):
        loss.backward()


def test_a_maker_that_was_released_is_named() -> None:
    x, w, gamma = operands()
    y, out = two(x, w, gamma)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="the result of Conv2dBatchNorm, whose saved arrays were freed by an earlier backward"):
        out.sum().backward()


def test_a_step_of_vgg_holds_little_more_than_the_convolutions_results() -> None:
    """Maps in units of a 64-channel one at full size: z of all convolutions are 2 + 1 + 1/2, and at the narrowest place four such maps are alive."""
    fastnn.seed(0)
    model = models.create("vgg", input_shape=(3, 32, 32), num_classes=10)
    x, labels = fastnn.tensor(normal(0, 64, 3, 32, 32)), np.arange(64) % 10
    optimizer = optim.SGD(model.parameters(), 0.01)
    unit = 64 * 64 * 32 * 32 * 4

    def step() -> None:
        optimizer.zero_grad()
        ops.cross_entropy(model(x), labels).backward()
        optimizer.step()

    step()
    optimizer.zero_grad()
    at_rest = fastnn.memory_stats()["allocated"]
    _C.reset_peak_memory()
    loss = ops.cross_entropy(model(x), labels)
    kept = (fastnn.memory_stats()["allocated"] - at_rest) / unit
    assert kept < 4.8, f"{kept:.2f} maps wait for backward"
    del loss
    _C.reset_peak_memory()
    step()
    weights = sum(p._array.nbytes for p in model.parameters())
    alive = (fastnn.memory_stats()["peak"] - at_rest - weights) / unit
    assert alive < 5.6, f"{alive:.2f} maps are alive at once"


def test_a_result_written_to_before_it_is_read_is_not_made_again() -> None:
    conv, norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    y = norm(fastnn.tensor(np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32), requires_grad=True))
    y.copy_from(np.zeros(y.shape, np.float32))
    conv(y).sum().backward()
    assert conv.weight.grad is not None and not conv.weight.grad.numpy().any()
