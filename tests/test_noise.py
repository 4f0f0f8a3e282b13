"""Noise layers: masks bit for bit, rates and scales, evaluation, gradients, parts of a batch, averages over samples."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
from kernel_calls import GPUS, TABLES, Table, bits, call, using
from kernel_cases import Case
from torch_twins import assert_close, normal

import fastnn
from fastnn import _C, nn, ops

UNITS = ["channel", "sample", "batch"]

# --- kernels


@pytest.mark.parametrize("shape", [(3, 7), (2, 5, 6, 7), (9, 64, 16, 16), (4, 3, 11), (1, 300, 3, 3), (5, 1, 2, 2)], ids=str)
@pytest.mark.parametrize("unit", UNITS)
def test_group_masks_bit_for_bit(unit: str, shape: tuple[int, ...], table: Table) -> None:
    for p in (0.0, 0.3, 1.0):
        for draw, offset in ((0, 0), (2**40, 6), (1, 2**34 + 3)):
            Case("group_dropout", (shape, unit, p, draw, offset)).check(table)


def test_groups_are_dropped_as_a_whole(table: Table) -> None:
    x, state = np.ones((40, 6, 5, 4)), np.array([3, 0])
    for unit, axes in (("channel", (2, 3)), ("sample", (1, 2, 3)), ("batch", (0, 1, 2, 3))):
        y = call("group_dropout", (x.shape, unit, 0.5, 0, 0), [x, state], table.dtype)["y"]
        assert np.array_equal(y.min(axes), y.max(axes)), unit
        if unit != "batch":
            assert set(np.unique(y)) == {0, 2}


def test_parts_of_a_batch_draw_what_the_batch_draws(table: Table) -> None:
    state, x = np.array([11, 0]), np.ones((10, 6, 5, 5))
    rows = {
        "channel": lambda n, at: ("group_dropout", ((n, 6, 5, 5), "channel", 0.4, 2, at * 6)),
        "sample": lambda n, at: ("group_dropout", ((n, 6, 5, 5), "sample", 0.4, 2, at)),
        "noise": lambda n, at: ("gaussian_noise", ((n, 6, 5, 5), 0.4, 2, at * 150)),
    }
    for name, make in rows.items():
        row, parameters = make(10, 0)
        whole = call(row, parameters, [x, state], table.dtype)["y"]
        for begin, end in ((0, 3), (3, 4), (4, 10)):
            row, parameters = make(end - begin, begin)
            assert np.array_equal(call(row, parameters, [x[begin:end], state], table.dtype)["y"], whole[begin:end]), name


def test_gaussian_numbers(table: Table) -> None:
    """Each close to float64's from the same words; all of them normal: moments, and the share beyond 1, 2, 3 and 4."""
    n, state = 400_000, np.array([5, 0])
    z = call("gaussian_noise", ((n,), 1.0, 0, 0), [np.zeros(n), state], table.dtype)["y"].astype(np.float64)
    expected = reference.gaussian_noise(np.zeros(n), state, 1.0, 0, 0)
    assert (np.abs(z - expected) <= 8 * np.finfo(table.dtype).eps * np.abs(expected) + 1e-17).all()
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5 * (spread / n) ** 0.5
    for limit, share in ((1, 0.3173105), (2, 0.0455003), (3, 0.0026998), (4, 6.334e-5)):
        assert abs((np.abs(z) > limit).mean() - share) < 5 * (share / n) ** 0.5
    assert abs(np.corrcoef(z[::2], z[1::2])[0, 1]) < 5 / (n / 2) ** 0.5, "cosine and sine of a pair are independent"


@pytest.mark.parametrize("gpu", GPUS)
def test_cuda_draws_the_bits_of_the_cpu(gpu: str) -> None:
    fused = [table for table in TABLES if table.where in ("avx2", "avx512")]
    state, x = np.array([9, 0]), normal(0, 3, 5, 33, 7)
    for row, parameters in (("gaussian_noise", (x.shape, 0.5, 3, 1)), ("group_dropout", (x.shape, "channel", 0.5, 3, 1))):
        results = []
        for table in (*fused, Table(gpu, "float32")):
            with using(table):
                results.append(bits(call(row, parameters, [x, state], "float32")["y"]))
        assert len(set(results)) == 1, row


# --- layers

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: nn.Dropout(0.4),
    "plain dropout": lambda: nn.Dropout(0.4, inverted=False),
    "dropout2d": lambda: nn.Dropout2d(0.4),
    "plain dropout2d": lambda: nn.Dropout2d(0.4, inverted=False),
    "depth": lambda: nn.StochasticDepth(0.4),
    "depth of the batch": lambda: nn.StochasticDepth(0.4, "batch"),
    "noise": lambda: nn.GaussianNoise(0.4),
    "drop connect": lambda: nn.DropConnect(nn.Conv2d(6, 4, 3), 0.4),
}
X = normal(0, 8, 6, 5, 5)


@pytest.mark.parametrize("name", LAYERS)
def test_noise_comes_from_the_seed(name: str) -> None:
    layer = LAYERS[name]()

    def draws() -> list[bytes]:
        fastnn.seed(5)
        return [layer(fastnn.tensor(X)).numpy().tobytes() for _ in range(8)]

    first = draws()
    assert first == draws() and len(set(first)) > 1


@pytest.mark.parametrize("name", LAYERS)
def test_backward_draws_the_same_noise(name: str) -> None:
    """The layer is linear in its input once the noise is fixed: dx is found again by the same draw of the sum y dy."""
    layer, dy = LAYERS[name](), None
    x = fastnn.tensor(X, requires_grad=True)
    fastnn.seed(3)
    y = layer(x)
    layer(x)  # moves the generator on
    dy = normal(1, *y.shape)
    y.backward(dy)
    moved = X + 0.5 * normal(2, *X.shape)
    fastnn.seed(3)
    difference = layer(fastnn.tensor(moved)).numpy().astype(np.float64) - y.numpy()
    assert abs((difference * dy).sum() - ((moved - X) * x.grad.numpy().astype(np.float64)).sum()) < 1e-3


@pytest.mark.parametrize("name", LAYERS)
def test_evaluation(name: str) -> None:
    layer, x = LAYERS[name]().eval(), fastnn.tensor(X)
    y = layer(x)
    if name == "drop connect":
        assert np.array_equal(y.numpy(), layer.layer(x).numpy()), "the whole weight"
    elif name.startswith("plain"):
        assert_close(y, X * 0.6)
    else:
        assert y is x


@pytest.mark.parametrize("name", ["dropout", "plain dropout", "dropout2d", "plain dropout2d", "depth", "depth of the batch"])
def test_rates_scales_and_expected_values(name: str) -> None:
    """What is kept has the lectures' factor, how much is dropped is p, and training's mean is what evaluation gives."""
    fastnn.seed(1)
    layer, x = LAYERS[name](), fastnn.tensor(np.ones((50, 8, 4, 4)))
    ys = [layer(x).numpy() for _ in range(200)]
    factor = 1.0 if name.startswith("plain") else 1 / 0.6
    assert set(np.unique(ys)) == {0, np.float32(factor)}
    draws = {"dropout": 128 * 50, "dropout2d": 8 * 50, "depth": 50, "depth of the batch": 1}[name.removeprefix("plain ")] * 200
    assert abs(np.mean(np.asarray(ys) == 0) - 0.4) < 5 * (0.24 / draws) ** 0.5
    assert abs(np.mean(ys) - layer.eval()(x).numpy().mean()) < 5 * factor * (0.24 / draws) ** 0.5


def test_whole_channels_of_single_samples() -> None:
    y = nn.Dropout2d(0.5)(fastnn.tensor(np.ones((30, 20, 3, 4)))).numpy()
    kept = y.max((2, 3)) > 0
    assert np.array_equal(y, np.broadcast_to(kept[:, :, None, None] * 2.0, y.shape))
    assert 0 < kept.mean() < 1 and (kept != kept[0]).any(), "samples differ"
    with pytest.raises(ValueError, match=r"Dropout2d\(p=0.5\): dropout2d: got shape \(3, 4\); expected \(N, C, H, W\)"):
        nn.Dropout2d()(fastnn.tensor(np.ones((3, 4))))


def test_stochastic_depth_drops_rows_or_all() -> None:
    x = fastnn.tensor(np.ones((200, 3)))
    rows = ops.stochastic_depth(x, 0.5, "row").numpy()
    assert (rows == rows[:, :1]).all() and 0.3 < (rows[:, 0] == 0).mean() < 0.7
    for _ in range(20):
        assert len(np.unique(ops.stochastic_depth(x, 0.5, "batch").numpy())) == 1
    assert nn.depth_rates(4, 0.2) == pytest.approx([0.05, 0.1, 0.15, 0.2])


def test_drop_connect_drops_weights() -> None:
    """Zero or scaled weights of the wrapped layer, gradients for those that took part alone, the parameter itself untouched."""
    fastnn.seed(2)
    for inverted, factor in ((True, 4.0), (False, 1.0)):
        inner = nn.Linear(30, 20)
        layer = nn.DropConnect(inner, 0.75, inverted=inverted)
        before = inner.weight.numpy().copy()
        y = layer(fastnn.tensor(np.eye(30)))
        used = (y.numpy() - inner.bias.numpy()).T
        kept = np.abs(used) > 1e-6
        assert 0.15 < kept.mean() < 0.35
        assert_close(used, np.where(kept, before * factor, 0), 30)
        y.backward(np.ones(y.shape))
        assert np.array_equal(inner.weight.grad.numpy() != 0, kept) and inner.weight.grad.numpy().max() == factor
        assert np.array_equal(inner.weight.numpy(), before) and dict(layer.named_parameters())["layer.weight"] is inner.weight
        evaluated = layer.eval()(fastnn.tensor(np.eye(30))).numpy() - inner.bias.numpy()
        assert_close(evaluated.T, before * (1 if inverted else 0.25), 30)


def test_drop_connect_gives_the_weight_back_after_an_error() -> None:
    layer = nn.DropConnect(nn.Linear(3, 2), 0.5)
    with pytest.raises(ValueError, match=r"layer \(Linear\(3->2\)\): got shape \(1, 4\)"):
        layer(fastnn.tensor(np.ones((1, 4))))
    assert isinstance(layer.layer.weight, nn.Parameter)


def test_threads_that_drop_connect_leave_the_weight_whole() -> None:
    """One that came while another's dropped weight is in place would take it for the layer's own, and put it back for good."""
    inside, late = threading.Event(), threading.Event()

    class Meeting(nn.Linear):
        def forward(self, x: Any, activation: str = "none") -> Any:
            if threading.current_thread() is first:
                inside.set()
                late.wait(0.3)
            else:
                late.set()
                first.join(60)
            return super().forward(x, activation)

    net, x = nn.Sequential(nn.DropConnect(inner := Meeting(30, 20))), fastnn.tensor(np.ones((2, 30)))
    weight, before = inner.weight, net.state_dict()
    first, second = (threading.Thread(target=nn.monte_carlo, args=(net, x, 1)) for _ in range(2))
    first.start()
    assert inside.wait(60)
    second.start()
    second.join(60)
    assert inner.weight is weight and np.array_equal(net.state_dict()["0.layer.weight"], before["0.layer.weight"])


def test_layers_of_several_drop_connects_do_not_wait_for_each_other() -> None:
    """One whose layer waits for another thread's was kept waiting for ever."""
    other, x, came = nn.DropConnect(nn.Linear(3, 3), 0.5), fastnn.tensor(np.ones((2, 3))), []

    class Waiting(nn.Linear):
        def forward(self, x: Any, activation: str = "none") -> Any:
            thread = threading.Thread(target=lambda: came.append(other(x)), daemon=True)
            thread.start()
            thread.join(20)
            return super().forward(x, activation)

    nn.DropConnect(Waiting(3, 2), 0.5)(x)
    assert len(came) == 1


def test_a_forked_child_has_the_whole_weight() -> None:
    inside, leave = threading.Event(), threading.Event()

    class Slow(nn.Linear):
        def forward(self, x: Any, activation: str = "none") -> Any:
            inside.set()
            leave.wait(60)
            return super().forward(x, activation)

    layer, x = nn.DropConnect(Slow(3, 2), 0.5), fastnn.tensor(np.ones((2, 3)))
    weight = layer.layer.weight
    thread = threading.Thread(target=layer, args=(x,))
    thread.start()
    assert inside.wait(60) and layer.layer._parameters["weight"] is not weight
    if (child := os.fork()) == 0:
        try:
            leave.set()
            whole = layer.layer.weight is weight
            layer(x)
            os._exit(0 if whole and layer.layer.weight is weight else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    leave.set()
    thread.join(60)
    assert layer.layer.weight is weight


def test_gaussian_noise_is_added() -> None:
    fastnn.seed(0)
    x = fastnn.tensor(np.full((100, 50), 3.0), requires_grad=True)
    y = nn.GaussianNoise(0.5)(x)
    noise = y.numpy() - 3
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 0.5) < 0.03
    y.backward(normal(0, 100, 50))
    assert np.array_equal(x.grad.numpy(), normal(0, 100, 50))


def test_averages_over_samples() -> None:
    """Noise layers draw, batch normalisation evaluates; the mean comes near the whole network's; modes come back."""
    fastnn.seed(0)
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 4))
    x = fastnn.tensor(normal(0, 5, 6))
    before = model.state_dict()
    model.train()
    model._modules["2"].eval()
    y = nn.monte_carlo(model, x, 2000)
    assert [m.training for m in model.children()] == [True, True, False] and not y.requires_grad
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items()), "running statistics stay"
    assert np.abs(y.numpy() - model.eval()(x).numpy()).max() < 0.1
    once = nn.monte_carlo(model, x, 1).numpy()
    assert not np.array_equal(once, nn.monte_carlo(model, x, 1).numpy())
    squares = nn.monte_carlo(model, x, 500, activation=lambda t: t * t).numpy()
    assert (squares > y.numpy() ** 2).mean() > 0.9, "the mean of squares exceeds the square of the mean"
    with pytest.raises(ValueError, match="no noise layer"):
        nn.monte_carlo(nn.Linear(6, 4), x)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        nn.monte_carlo(model, x, 0)
    pair = nn.Sequential(nn.Dropout(0.5), nn.MaxPool2d(2, return_indices=True))
    with pytest.raises(TypeError, match="monte_carlo: the model must return a Tensor, got a tuple of Tensor"):
        nn.monte_carlo(pair, fastnn.tensor(np.ones((1, 1, 4, 4))))


@pytest.mark.parametrize("name", LAYERS)
def test_every_noise_layer_takes_part_in_averages(name: str) -> None:
    fastnn.seed(0)
    model = nn.Sequential(LAYERS[name](), nn.Flatten())
    samples = {nn.monte_carlo(model, fastnn.tensor(X), 1).numpy().tobytes() for _ in range(12)}
    assert len(samples) > 1
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Dropout2d(1.5), ValueError, r"Dropout2d: p must lie in \[0, 1\], got 1.5"),
        (lambda: nn.StochasticDepth(-1), ValueError, r"StochasticDepth: p must lie in \[0, 1\]"),
        (lambda: nn.StochasticDepth(0.1, "column"), ValueError, "mode must be 'row' or 'batch', got 'column'"),
        (lambda: ops.stochastic_depth(fastnn.tensor(X), 0.1, "column"), ValueError, "mode must be 'row' or 'batch'"),
        (lambda: nn.GaussianNoise(-0.1), ValueError, "std must not be negative, got -0.1"),
        (lambda: ops.gaussian_noise(fastnn.tensor(X), float("nan")), ValueError, "std must be a finite number, got nan"),
        (lambda: nn.DropConnect(nn.ReLU()), TypeError, r"expected a module with a weight, such as nn.Linear, got ReLU\(\)"),
        (lambda: nn.DropConnect(nn.Linear(2, 2), 7), ValueError, r"DropConnect: p must lie in \[0, 1\], got 7"),
        (lambda: nn.depth_rates(3, 2), ValueError, r"depth_rates: p must lie in \[0, 1\], got 2"),
        (lambda: _C.GroupDropout((3,), "channel", 0.5), ValueError, r"whole channels needs a batch of them, got shape \(3,\)"),
        (lambda: _C.GroupDropout((3, 3), "pixel", 0.5), ValueError, "unit 'pixel' is not one of channel, sample, batch"),
        (lambda: _C.Noise((3,), -1.0), ValueError, "std must not be negative"),
    ],
)
def test_impossible_arguments(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
