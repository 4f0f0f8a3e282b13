"""Frozen models: normalisation folded within a bound, which form ran, replays with packed weights of the same bits, snapshots."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import kernel_calls
import numpy as np
import pytest
import torch
from test_folding import spread

import fastnn
from fastnn import _C, Tensor, models, nn, ops
from fastnn.nn.frozen import folded

DEVICE = kernel_calls.DEVICES[-1]
pytestmark = pytest.mark.usefixtures("without_memory_checks")  # with them every call is eager


def made(make: Callable[[], nn.Module], seed: int = 1) -> nn.Module:
    """In evaluation mode, with statistics and gammas away from 0 and 1."""
    fastnn.seed(seed)
    net = make()
    spread(net)
    return net.eval().to(DEVICE)


def images(*shape: int, seed: int = 0) -> Tensor:
    return fastnn.tensor(np.random.default_rng(seed).standard_normal(shape, np.float32), device=DEVICE)


def plain(net: nn.Module, x: Tensor) -> np.ndarray:
    with fastnn.no_grad():
        return np.array(net(x).numpy())


def off_by(got: np.ndarray, expected: np.ndarray) -> float:
    """Of the largest value of its row."""
    return float((np.abs(got - expected) / np.abs(expected).max(1, keepdims=True)).max())


def same(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> bool:
    left, right = (np.ascontiguousarray(v.numpy() if isinstance(v, Tensor) else v) for v in (a, b))
    return left.shape == right.shape and left.tobytes() == right.tobytes()


MODELS: dict[str, tuple[tuple[int, int, int], dict[str, Any], int]] = {  # input, options, normalisations that are folded
    "linear": ((1, 6, 6), {}, 0),
    "mlp": ((1, 8, 8), {"hidden": (24, 16)}, 0),
    "lenet": ((1, 12, 12), {}, 0),
    "vgg": ((3, 16, 16), {"widths": (16, 32)}, 4),
    "vgg_small": ((1, 8, 8), {}, 4),
    "resnet20": ((3, 16, 16), {}, 21),
    "resnet18": ((3, 32, 32), {"num_classes": 10}, 20),
    "resnet50": ((3, 32, 32), {"num_classes": 7}, 53),
    "airbench94": ((3, 25, 25), {"width": 0.25}, 0),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_are_frozen_and_say_the_same(name: str) -> None:
    shape, options, normalisations = MODELS[name]
    net = made(lambda: models.create(name, input_shape=shape, **options))
    x = images(3, *shape)
    expected = plain(net, x)
    fast = nn.frozen(net)
    with fastnn.profile() as kernels:
        first = fast(x)
    again, replay = fast(x), fast(x)
    assert len(fast.folded) == normalisations
    assert fast.form == f"frozen, {normalisations} normalisations folded, replayed" and not fast.as_they_are
    assert len(fast.kernels) == sum(k["calls"] for k in kernels.values())
    if name != "airbench94":
        assert "batchnorm_inference" not in fast.kernels
    assert not {"dropout", "relu_forward", "batchnorm_forward"} & set(fast.kernels)
    assert 0 < off_by(first.numpy(), expected) < 3e-5 if normalisations else off_by(first.numpy(), expected) < 1e-6
    assert same(first, again) and same(first, replay), "a replay has other bits than the first call"
    assert same(plain(net, x), expected), "the model itself has changed"


def test_residuals_run_in_the_epilogue() -> None:
    net = made(lambda: models.create("resnet20", input_shape=(3, 16, 16)))
    fast = nn.frozen(net)
    for _ in range(2):
        fast(images(2, 3, 16, 16))
    kinds = {kind: fast.kernels.count(kind) for kind in set(fast.kernels)}
    assert kinds == {"conv2d_forward": 12, "conv2d_add_forward": 9, "global_avgpool_forward": 1, "matmul": 1}


@pytest.mark.parametrize("kind", ["conv", "conv without bias", "linear", "no affine"])
def test_folding_is_exact_up_to_rounding_once(kind: str) -> None:
    """Every folded number is the float64 one rounded, and a layer is off by the rounding of its sum's terms alone."""
    layer: nn.Conv2d | nn.Linear = nn.Linear(40, 12) if kind == "linear" else nn.Conv2d(8, 12, 3, bias=kind != "conv without bias")
    norm = (nn.BatchNorm1d if kind == "linear" else nn.BatchNorm2d)(12, affine=kind != "no affine")
    net = made(lambda: nn.Sequential(layer, norm))
    weight, bias = folded(layer.weight, layer.bias, norm)
    w, mean, var = (t.numpy().astype(np.float64) for t in (layer.weight, norm.running_mean, norm.running_var))
    gamma, beta = (np.float64(d) if t is None else t.numpy().astype(np.float64) for t, d in ((norm.weight, 1), (norm.bias, 0)))
    b = np.float64(0) if layer.bias is None else layer.bias.numpy().astype(np.float64)
    scale = gamma / np.sqrt(var + norm.eps)
    exact = w * scale.reshape(-1, *[1] * (w.ndim - 1))
    assert same(weight, exact.astype(np.float32))
    assert bias is not None and same(bias, ((b - mean) * scale + beta).astype(np.float32))
    x = images(5, 40) if kind == "linear" else images(5, 8, 9, 9)
    got, expected = nn.frozen(net)(x).numpy(), plain(net, x)
    terms = 40 if kind == "linear" else 72
    bound = (terms + 4) * 1.2e-7 * (terms * np.abs(exact).max() * np.abs(x.numpy()).max() + np.abs((b - mean) * scale + beta).max())
    assert np.abs(got - expected).max() <= bound


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.GELU, lambda: nn.GELU("tanh")])
def test_activations(activation: Callable[[], nn.Module]) -> None:
    net = made(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), activation(), nn.Conv2d(8, 5, 3), activation(), nn.Flatten()))
    x = images(2, 3, 9, 9)
    fast = nn.frozen(net)
    assert off_by(fast(x).numpy(), plain(net, x)) < 1e-5
    fast(x)
    kept = isinstance(net[2], nn.GELU) and net[2].approximate == "tanh"
    layer = ["conv2d_forward", "pointwise_forward"] if kept else ["conv2d_forward"]
    assert fast.kernels == [*layer, *layer, "copy"]  # Flatten reorders


def test_linear_with_a_norm_over_something_else_is_left_alone() -> None:
    net = made(lambda: nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.ReLU()))
    x = images(4, 7, 6)  # (N, C, L): the norm is over dimension 1
    fast = nn.frozen(net)
    assert same(fast(x), plain(net, x)) and not fast.folded
    flat = images(4, 6)
    assert np.abs(fast(flat).numpy() - plain(net, flat)).max() < 1e-5 and fast.folded == ["0"]


@pytest.mark.skipif(DEVICE != "cpu", reason="the CPU's threads")
def test_same_bits_for_any_number_of_threads(threads: None) -> None:
    net = made(lambda: models.create("resnet18", input_shape=(3, 64, 64), num_classes=10))
    for batch in (1, 5):
        x, results = images(batch, 3, 64, 64), []
        for count in (1, 2, 3, 7):
            fastnn.set_num_threads(count)
            fast = nn.frozen(net)
            results += [np.array(fast(x).numpy()) for _ in range(3)]
        assert all(same(r, results[0]) for r in results)


def test_each_algorithm_keeps_its_weights() -> None:
    """The packed weights of every algorithm that packs: a replay that packed again, or read what it should have packed, has other bits."""
    layers: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "direct_small_c": (nn.Conv2d(3, 40, 7, 2, 3), (1, 3, 64, 64)),
        "direct_taps3": (nn.Conv2d(64, 48, 3, padding=1), (1, 64, 7, 7)),
        "direct": (nn.Conv2d(64, 48, 1, 2), (1, 64, 14, 14)),
        "one_by_one": (nn.Conv2d(64, 48, 1), (1, 64, 14, 14)),
        "one_by_one by columns": (nn.Conv2d(600, 212, 1), (1, 600, 5, 5)),
        "winograd2": (nn.Conv2d(64, 64, 3, padding=1), (1, 64, 14, 14)),
        "winograd4": (nn.Conv2d(64, 64, 3, padding=1), (1, 64, 32, 32)),
        "winograd4 by panels": (nn.Conv2d(64, 256, 3, padding=1), (1, 64, 28, 28)),
        "winograd_strided": (nn.Conv2d(64, 128, 3, 2, 1), (1, 64, 56, 56)),
        "winograd_strided by panels": (nn.Conv2d(128, 256, 3, 2, 1), (2, 128, 48, 46)),
        "winograd_first": (nn.Conv2d(3, 64, 7, 2, 3), (1, 3, 64, 64)),
        "winograd4_narrow": (nn.Conv2d(16, 32, 3, padding=1), (1, 16, 32, 32)),
        "by_columns": (nn.Linear(600, 212), (33, 600)),  # in three stretches of the depth; the last panel is narrower
        "by_rows": (nn.Linear(600, 70), (150, 600)),
        "split_depth": (nn.Linear(3000, 85), (40, 3000)),
    }
    for name, (layer, shape) in layers.items():
        layer.to(DEVICE)
        x, y = images(*shape), images(*shape, seed=1)
        fast = nn.frozen(nn.Sequential(layer, nn.ReLU()))
        expected = [ops.relu(layer(v)) for v in (x, y)]
        assert all(same(fast(v), e) for v, e in [(x, expected[0]), *zip((y, x) * 2, expected[::-1] * 2)]), name
        packs = DEVICE == "cpu" and _C.last_call()["algorithm"] != "plain"
        assert (fast.memory["packed"] > layer.weight.size * 4) == packs, name
        if packs:  # written behind the version's back: what is packed is what is read
            torch.from_dlpack(next(fast.model.parameters()).detach()).zero_()
            assert same(fast(x), expected[0]), f"{name} has packed its weights again"
        if packs and "winograd" not in name and _C.isa() == "avx512":
            if isinstance(layer, nn.Conv2d):
                plan = _C.plan("conv2d_forward", _C.Conv2d(shape, layer.weight.shape, layer.stride, layer.padding, layer.padding))
            else:
                plan = _C.plan("matmul", _C.MatMul(shape, layer.weight.shape, False, True))
            assert plan[0] == name.split()[0]


def test_weights_that_stay_choose_the_algorithm() -> None:
    """Few tiles are for Winograd's algorithm then: in the eager call that comes first, too, but not where no call is replayed."""
    layer = made(lambda: nn.Conv2d(128, 144, 3, padding=1))
    x = images(1, 128, 7, 7)
    operands = [torch.tensor(v.detach().numpy(), dtype=torch.float64) for v in (x, layer.weight, layer.bias)]
    exact = torch.relu(torch.nn.functional.conv2d(*operands, padding=1)).numpy()
    for replay, hooked, algorithm in ((True, False, "winograd2"), (False, False, "direct_taps3"), ("auto", True, "direct_taps3")):
        net = nn.Sequential(layer, nn.ReLU())
        if hooked:
            net[1].register_forward_hook(lambda module, args, y: y)
        fast, seen = nn.frozen(net, replay=replay), []
        for _ in range(3):
            seen.append(fast(x))
            if DEVICE == "cpu" and not seen[1:] and not hooked:  # the last call is ReLU's there
                assert _C.last_call()["algorithm"] == algorithm
        assert same(seen[0], seen[1]) and same(seen[0], seen[2])
        assert off_by(seen[0].numpy(), exact) < 3e-6  # of sums of 1,152 products
        assert same(seen[0], ops.relu(layer(x))) == (algorithm == "direct_taps3" or DEVICE != "cpu")


def test_a_refused_recording_does_not_change_the_bits() -> None:
    class Looked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * float(x.shape[0] + 0 * x.numpy()[0, 0, 0, 0])

    fast = nn.frozen(nn.Sequential(made(lambda: nn.Conv2d(128, 128, 3, padding=1)), Looked()), replay=True)
    x = images(1, 128, 7, 7)
    results = [fast(x) for _ in range(3)]
    assert "eager" in fast.form and all(same(y, results[0]) for y in results)


def test_packed_weights_follow_their_arrays() -> None:
    """The frozen copy is nobody else's; should its arrays be written all the same, they are packed anew."""
    net = made(lambda: nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()))
    fast, x = nn.frozen(net), images(1, 16, 32, 32)
    for _ in range(3):
        fast(x)
    weight = next(fast.model.parameters())
    weight.copy_from(weight.numpy() * 2)
    net[0].weight.copy_from(weight.numpy())
    assert same(fast(x), plain(net, x)) and same(fast(x), plain(net, x))


def test_a_frozen_model_is_a_snapshot() -> None:
    net = made(lambda: models.create("vgg_small", input_shape=(1, 8, 8)))
    x = images(2, 1, 8, 8)
    fast = nn.frozen(net)
    before = [np.array(fast(x).numpy()) for _ in range(3)][-1]
    for p in net.parameters():
        p.copy_from(np.zeros(p.shape, np.float32))
    net.train()
    assert same(fast(x), before)
    assert not same(nn.frozen(net)(x), before)


def test_copies_and_pickles_keep_the_weights() -> None:
    net = made(lambda: models.create("resnet20", input_shape=(3, 8, 8)))
    x = images(2, 3, 8, 8)
    fast = nn.frozen(net)
    for _ in range(2):
        y = fast(x)
    for other in (deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        other.model.to(DEVICE)  # a pickle comes back on the CPU
        assert not other.folded and not other.kernels
        assert all(same(other(x), y) for _ in range(3)) and other.kernels == fast.kernels and other.folded == fast.folded
        assert all(a is not b for a, b in zip(other.model.parameters(), fast.model.parameters(), strict=True))


def test_memory_goes_with_it() -> None:
    net = made(lambda: models.create("resnet18", input_shape=(3, 64, 64), num_classes=10))
    net, x = net.cpu(), fastnn.tensor(images(1, 3, 64, 64).numpy())
    gc.collect()
    before = fastnn.memory_stats()["allocated"]
    fast = nn.frozen(net)
    for _ in range(3):
        fast(x)
    assert fast.memory["packed"] > 4 * sum(p.size for p in net.parameters())
    assert fastnn.memory_stats()["allocated"] - before > fast.memory["packed"] + fast.memory["arena"]
    del fast
    gc.collect()
    assert fastnn.memory_stats()["allocated"] == before


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x.shape))
        return ops.flatten(self.body(x)) * 2.0


def test_modules_of_ones_own_run_as_they_are() -> None:
    net = made(Doubled)
    fast, x = nn.frozen(net), images(2, 3, 6, 6)
    for _ in range(3):
        y = fast(x)
    assert fast.as_they_are == {"Doubled": "is not fastnn's own"} and fast.folded == ["body.0"]
    assert fast.form == "frozen, 1 normalisations folded, eager: Doubled is not fastnn's own"
    assert len(fast.model.calls) == 3 and not net.calls and not fast.kernels
    tried = nn.frozen(net, replay=True)
    assert all(same(tried(x), y) for _ in range(4)) and tried.kernels == ["conv2d_forward", "copy", "multiply"]
    assert len(tried.model.calls) == 3  # once eagerly, twice while it was recorded


def test_hooks_are_called_and_their_modules_left_alone() -> None:
    net = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten()))
    seen: list[tuple[int, ...]] = []
    net[1].register_forward_hook(lambda module, args, y: seen.append(y.shape))
    x = images(2, 3, 8, 8)
    for replay in ("auto", True):
        fast = nn.frozen(net, replay=replay)
        seen.clear()
        for _ in range(3):
            fast(x)
        assert len(seen) == 3 and fast.as_they_are == {"1": "has a forward hook"} and fast.folded == ["2"]
        assert "eager: 1 has a forward hook" in fast.form


def test_what_cannot_be_recorded_runs_eagerly() -> None:
    """An average over all batches asks for the count of batches, also in evaluation."""
    net = made(lambda: nn.Sequential(nn.BatchNorm2d(3, momentum=None), nn.Flatten()))
    fast, x = nn.frozen(net), images(2, 3, 4, 4)
    assert all(same(fast(x), plain(net, x)) for _ in range(3)) and "eager: capture: " in fast.form


def test_statistics_of_the_batch_are_not_folded() -> None:
    net = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()))
    fast, x = nn.frozen(net), images(2, 3, 6, 6)
    assert all(same(fast(x), plain(net, x)) for _ in range(3)) and not fast.folded


def test_layers_used_twice_and_float64() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    net = made(lambda: nn.Sequential(conv, nn.BatchNorm2d(4), conv, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()))
    x = images(2, 4, 5, 5)
    fast = nn.frozen(net)
    assert off_by(fast(x).numpy(), plain(net, x)) < 1e-5
    assert fast.model[0] is fast.model[2] and len(fast.model[0].folds) == 2
    if DEVICE == "cpu":
        double = fastnn.tensor(x.numpy().astype(np.float64), "float64")
        expected = plain(net.double(), double)
        fast = nn.frozen(net)
        assert all(off_by(fast(double).numpy(), expected) < 1e-13 for _ in range(3))


def test_threads_record_for_themselves() -> None:
    net = made(lambda: models.create("lenet", input_shape=(1, 12, 12)))
    fast, x = nn.frozen(net), images(3, 1, 12, 12)
    expected, results = plain(net, x), []

    def run() -> None:
        results.extend(np.array(fast(x).numpy()) for _ in range(5))

    workers = [threading.Thread(target=run) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 20 and all(same(r, results[0]) for r in results)
    assert off_by(results[0], expected) < 1e-6


def test_no_gradients_and_bad_input() -> None:
    net = made(lambda: models.create("mlp", input_shape=(1, 8, 8)))
    fast = nn.frozen(net)
    x = fastnn.tensor(np.ones((2, 1, 8, 8), np.float32), device=DEVICE, requires_grad=True)
    assert not any(fast(x).requires_grad for _ in range(3))
    with pytest.raises(TypeError, match="fastnn.tensor"):
        fast(np.ones((2, 1, 8, 8), np.float32))
    with pytest.raises(ValueError, match=r"^1 \(Linear\(64->512\)\): got shape .*expected .*64"):
        fast(images(2, 1, 7, 7))
    with pytest.raises(TypeError, match="frozen: model must be a Module"):
        nn.frozen(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="replay"):
        nn.frozen(net, replay="sometimes")


@pytest.mark.parametrize("dtype", ["uint8", "bool", *(["float64"] if DEVICE == "cpu" else [])])
def test_inputs_of_other_dtypes_are_refused_as_by_the_model(dtype: str) -> None:
    net, x = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), fastnn.tensor(np.ones((2, 3, 5, 5)), dtype, device=DEVICE)
    said = []
    for call in (net, nn.frozen(net)):
        with pytest.raises(TypeError, match=r"^0 \(Conv2d\(3->4, 3x3\)\): conv2d: x has dtype .*fastnn.tensor\(") as refused:
            call(x)
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_a_forward_put_in_place_is_not_replayed() -> None:
    net, factor = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU()), [1.0]
    net[2].forward = lambda x: ops.relu(x) * factor[0]  # type: ignore[method-assign]
    fast, x = nn.frozen(net), fastnn.tensor(np.ones((2, 4), np.float32))
    assert fast.as_they_are == {"2": "has another forward put in place"}
    before = [fast(x).numpy() for _ in range(3)][-1]
    factor[0] = 2.0
    assert np.array_equal(fast(x).numpy(), 2 * before)


@pytest.mark.parametrize("kind", ["frozen", "captured"])
def test_a_call_within_a_call_has_results_of_its_own(kind: str) -> None:
    """Of a signal's handler, say; here at each call of a function in C that one makes."""
    layer = nn.Linear(4, 4)
    one = nn.frozen(layer) if kind == "frozen" else fastnn.capture(lambda x: layer(x).detach())
    a, b, c = (fastnn.tensor(np.full((2, 4), value, np.float32)) for value in (1, 5, 9))
    expected = [[one(x).numpy().copy() for x in (a, b, c)] for _ in range(3)][-1]
    places = 0

    def at(place: int) -> None:
        nonlocal places
        places, seen = 0, []

        def see(frame: object, event: str, what: object) -> None:
            nonlocal places
            if event in ("c_call", "c_return"):
                places += 1
                if places == place:
                    sys.setprofile(None)
                    seen.append(one(b).numpy())

        one(c)
        sys.setprofile(see)
        y = one(a)
        sys.setprofile(None)
        assert np.array_equal(y.numpy(), expected[0]) and all(np.array_equal(y, expected[1]) for y in seen)

    at(0)
    for place in range(1, places + 1):
        at(place)
    assert places > 3
