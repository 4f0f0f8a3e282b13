"""Modules that run together: the same results as one by one, fewer kernels, and not where a hook would see the difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kernel_calls import GPUS
from torch_twins import DTYPES, assert_close, compare, direction, normal

import fastnn
from fastnn import Tensor, models, nn, ops

Results = dict[str, np.ndarray]
Kernels = dict[str, dict[str, Any]]


def spread(module: nn.Module) -> None:
    """Numbers away from 0 and 1 in the parameters of batch normalisation and its running statistics."""
    for i, value in enumerate([*module.parameters(), *module.buffers()]):
        if value.ndim == 1 and value.dtype != "int64":
            value.copy_from((np.abs(normal(i, *value.shape)) + 0.5).astype(value.dtype))


def one_by_one(net: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        for module in net.children():
            x = module(x)
        return x

    return run


def results_of(net: nn.Module, x: np.ndarray, call: Callable[[Tensor], Tensor], device: str = "cpu") -> tuple[Results, Kernels]:
    """Output, gradients and buffers after one pass from the state that net is in, which comes back; the kernels of forward."""
    state = net.state_dict()
    net.zero_grad()
    leaf = fastnn.tensor(x, requires_grad=True, device=device)
    with fastnn.profile() as kernels:
        y = call(leaf)
    y.backward(direction(y.shape))
    named = {"y": y, "dx": leaf.grad, **{n: p.grad for n, p in net.named_parameters()}, **dict(net.named_buffers())}
    results = {n: np.array(v.numpy()) for n, v in named.items()}
    net.load_state_dict(state)
    return results, {name: k for name, k in kernels.items() if k["calls"]}


def same(a: Results, b: Results) -> bool:
    return a.keys() == b.keys() and all(a[n].tobytes() == b[n].tobytes() for n in a)


CONV_BN = {"conv2d_batchnorm_forward"}
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], set[str], set[str]]] = {  # net, input, kernels in training, in evaluation
    "conv, bn": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        (4, 3, 9, 9),
        CONV_BN,
        {"conv2d_forward", "batchnorm_inference"},
    ),
    "conv, bn, relu": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        (4, 3, 9, 9),
        CONV_BN,
        {"conv2d_forward", "batchnorm_inference"},
    ),
    "conv, bn, silu": (
        lambda: nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU()),
        (4, 8, 9, 9),
        CONV_BN,
        {"conv2d_forward", "batchnorm_inference"},
    ),
    "depthwise, bn, relu": (
        lambda: nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8, affine=False), nn.ReLU()),
        (4, 8, 9, 9),
        CONV_BN,
        {"conv2d_forward", "batchnorm_inference"},
    ),
    "conv, relu": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (4, 3, 9, 9), {"conv2d_forward"}, {"conv2d_forward"}),
    "linear, relu": (lambda: nn.Sequential(nn.Linear(7, 9), nn.ReLU()), (5, 7), {"matmul"}, {"matmul"}),
    "linear, bn, relu": (
        lambda: nn.Sequential(nn.Linear(7, 9), nn.BatchNorm1d(9), nn.ReLU()),
        (5, 7),
        {"matmul", "batchnorm_forward"},
        {"matmul", "batchnorm_inference"},
    ),
    "two of each": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ReLU()),
        (4, 3, 9, 9),
        {"conv2d_forward", "conv2d_batchnorm_forward", "relu_forward"},
        {"conv2d_forward", "batchnorm_inference", "relu_forward"},
    ),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_sequential_folds_and_nothing_changes(name: str, training: bool) -> None:
    make, shape, in_training, in_evaluation = NETS[name]
    fastnn.seed(0)
    net = make()
    spread(net)
    net.train(training)
    x = normal(0, *shape)
    folded, kernels = results_of(net, x, net)
    assert set(kernels) == (in_training if training else in_evaluation)
    plain, apart = results_of(net, x, one_by_one(net))
    assert sum(k["calls"] for k in apart.values()) == len(net)
    assert same(folded, plain)
    assert training or not any(n.endswith("num_batches_tracked") and folded[n] for n in folded)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_a_hook_sees_its_own_layers_output(name: str, training: bool) -> None:
    make, shape, *_ = NETS[name]
    fastnn.seed(0)
    net = make().train(training)
    x = normal(0, *shape)
    before, kernels = results_of(net, x, net)
    outputs: list[np.ndarray] = []
    y = fastnn.tensor(x)
    state = net.state_dict()
    for module in net:
        y = module(y)
        outputs.append(np.array(y.numpy()))
    net.load_state_dict(state)
    for layer, expected in zip(net, outputs):
        seen: list[np.ndarray] = []
        handle = layer.register_forward_hook(lambda module, args, output: seen.append(np.array(output.numpy())))  # noqa: B023
        hooked, _ = results_of(net, x, net)
        handle.remove()
        assert len(seen) == 1 and np.array_equal(seen[0], expected)
        assert same(hooked, before)
    _, again = results_of(net, x, net)
    assert again.keys() == kernels.keys()


def test_a_hook_in_a_residual_block() -> None:
    fastnn.seed(0)
    block = models.resnet.BasicBlock(8, 16, 2)
    x = normal(0, 2, 8, 9, 9)
    folded, kernels = results_of(block, x, block)
    assert set(kernels) == CONV_BN and kernels["conv2d_batchnorm_forward"]["calls"] == 3
    for layer in (block.conv1, block.bn1, block.conv2, block.bn2):
        seen: list[Any] = []
        handle = layer.register_forward_hook(lambda module, args, output: seen.append(output.shape))  # noqa: B023
        hooked, kernels = results_of(block, x, block)
        handle.remove()
        assert seen == [(2, 16, 5, 5)] and same(hooked, folded)
        assert {n: k["calls"] for n, k in kernels.items()} == {"conv2d_forward": 1, "batchnorm_forward": 1, "conv2d_batchnorm_forward": 2}


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) * 2.0


class Shifted(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) + 1.0


def test_classes_of_ones_own_run_by_themselves() -> None:
    for net in (
        nn.Sequential(Doubled(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(Doubled(3, 8, 3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 8, 3), Shifted(8), nn.ReLU()),
    ):
        spread(net)
        x = normal(0, 2, 3, 7, 7)
        folded, kernels = results_of(net, x, net)
        plain, _ = results_of(net, x, one_by_one(net))
        assert same(folded, plain) and "conv2d_batchnorm_forward" not in kernels


def assert_all_close(ours: Results, theirs: Results) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if value.dtype == np.int64:
            assert np.array_equal(value, theirs[name])
        else:
            assert_close(value, theirs[name], 400, name)


ENDS: dict[str, Callable[[], list[nn.Module]]] = {
    "conv": lambda: [nn.Conv2d(4, 4, 3, padding=1)],
    "conv, relu": lambda: [nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()],
    "conv, bn": lambda: [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)],
    "conv, bn, relu": lambda: [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()],
    "conv, leaky": lambda: [nn.Conv2d(4, 4, 3, padding=1), nn.LeakyReLU()],
    "linear": lambda: [nn.Linear(6, 6)],
    "linear, relu": lambda: [nn.Linear(6, 6), nn.ReLU()],
    "group norm": lambda: [nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4)],
    "identity": lambda: [nn.Conv2d(4, 4, 3, padding=1), nn.Identity()],
}


class Ending(nn.Module):
    def __init__(self, modules: list[nn.Module], last: dict[str, Any]) -> None:
        super().__init__()
        self.body, self.last = nn.ModuleList(modules), last

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = nn.in_turn(list(self.body), x, **self.last)
        return y

    def one_by_one(self, x: Tensor) -> Tensor:
        """The residual in front of an activation layer at the end, the other activation behind all."""
        *before, end = self.body
        for module in before if "residual" in self.last else self.body:
            x = module(x)
        if "residual" in self.last:
            own = type(end) in (nn.ReLU, nn.LeakyReLU)
            x = end(x + self.last["residual"]) if own else end(x) + self.last["residual"]
        return {"none": lambda y: y, "relu": ops.relu, "silu": ops.silu, "gelu": ops.gelu}[self.last.get("activation", "none")](x)


@pytest.mark.parametrize("last", ["residual", "relu", "silu", "residual, gelu"])
@pytest.mark.parametrize("name", ENDS)
def test_a_residual_and_an_activation_that_the_last_module_does_not_take(name: str, last: str) -> None:
    """Nothing is dropped: the same as one by one, in training, in evaluation, with a hook and frozen."""
    fastnn.seed(0)
    shape = (2, 6) if "linear" in name else (2, 4, 6, 6)
    x, residual = normal(0, *shape), fastnn.tensor(normal(1, *shape))
    word = last.rpartition(" ")[2]
    given = {**({"residual": residual} if "residual" in last else {}), **({"activation": word} if word != "residual" else {})}
    net = Ending(ENDS[name](), given)
    spread(net)
    for training, hooked in ((True, False), (False, False), (False, True)):
        net.train(training)
        handle = net.body[-1].register_forward_hook(lambda module, args, y: None) if hooked else None
        ours, theirs = (results_of(net, x, call)[0] for call in (net, net.one_by_one))
        assert_all_close(ours, theirs)
        if handle is not None:
            handle.remove()
    fast = nn.frozen(net)
    assert_close(fast(fastnn.tensor(x)), net(fastnn.tensor(x)), 400)


def test_residuals_of_other_shapes_and_unknown_activations() -> None:
    conv, x = nn.Conv2d(4, 4, 3, padding=1), fastnn.tensor(normal(0, 2, 4, 6, 6))
    for residual in (fastnn.tensor(normal(0, 1, 4, 1, 1)), 3.0):
        with pytest.raises(ValueError, match=r"Conv2d\(4->4.*cannot add the residual .* to a result of shape \(2, 4, 6, 6\)"):
            conv(x, residual=residual)
    for modules in ([conv], [conv, nn.Identity()]):
        with pytest.raises(ValueError, match="activation 'tanh' is not one of none, relu, silu"):
            nn.in_turn(modules, x, activation="tanh")
    with pytest.raises(TypeError, match="unexpected keyword argument 'scale'"):
        nn.in_turn([conv, nn.Identity()], x, scale=2)


@pytest.mark.parametrize("tracked", [True, False])
def test_a_norm_in_evaluation_is_given_to_a_convolution(tracked: bool) -> None:
    """It normalises by what it keeps, which stays, as behind the convolution; a frozen one does too, whether it folds it or not."""

    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, track_running_stats=tracked)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x, self.norm, x, "relu")

    net = Given().eval()
    spread(net)
    x, before = normal(0, 2, 4, 6, 6), net.state_dict()
    ours, kernels = results_of(net, x, net)
    theirs, _ = results_of(net, x, lambda x: ops.relu(net.norm(net.conv(x)) + x))
    assert set(kernels) == {"conv2d_forward", "batchnorm_inference" if tracked else "batchnorm_forward"}
    assert_all_close(ours, theirs)
    assert same(before, net.state_dict())
    assert_close(nn.frozen(net)(fastnn.tensor(x)), ours["y"], 400)


def test_what_does_not_fit_is_named_as_before() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(9), nn.ReLU())
    with pytest.raises(ValueError, match=r"^1 \(BatchNorm2d\(9, .*got shape \(2, 8, 5, 5\); expected \(N, C, H, W\) with C = 9"):
        net(fastnn.tensor(normal(0, 2, 3, 7, 7)))
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    with pytest.raises(
        ValueError, match=r"^0 \(Conv2d\(3->8.*batch_norm: training needs more than 1 value per channel, got input \(1, 8, 1, 1\)"
    ):
        net(fastnn.tensor(normal(0, 1, 3, 3, 3)))
    with pytest.raises(ValueError, match="activation 'tanh' is not one of none, relu, silu"):
        ops.conv2d(fastnn.tensor(normal(0, 1, 3, 3, 3)), net[0].weight, activation="tanh")


@pytest.mark.parametrize("gpu", GPUS)
def test_on_a_gpu_folded_and_one_by_one_agree(gpu: str) -> None:
    """z is the same to the bit, statistics within a few units in the last place."""
    fastnn.seed(0)
    net = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU()).to(gpu)
    x = normal(0, 4, 8, 12, 12)
    folded, kernels = results_of(net, x, net, gpu)
    assert set(kernels) == {"conv2d_batchnorm_forward", "conv2d_forward"}
    plain, _ = results_of(net, x, one_by_one(net), gpu)
    for name, value in folded.items():
        size = np.abs(plain[name]).max()
        if name != "0.bias":  # whose gradient is 0, but for rounding
            assert np.abs(value - plain[name]).max() <= 2e-6 * size, name


# --- the fused operations against PyTorch and central differences

TF = torch.nn.functional


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
def test_products_with_an_activation_are_pytorchs(activation: str, dtype: str) -> None:
    theirs: Callable[[torch.Tensor], torch.Tensor] = {"none": lambda y: y, "relu": torch.relu, "silu": TF.silu}[activation]
    inputs = [normal(0, 3, 5, 7, 6), normal(1, 4, 5, 3, 3), normal(2, 4)]
    compare(
        lambda x, w, b: ops.conv2d(x, w, b, stride=2, padding=1, activation=activation),
        lambda x, w, b: theirs(TF.conv2d(x, w, b, stride=2, padding=1)),
        inputs,
        dtype,
        60,
    )
    for shape in ((6, 5), (2, 3, 5)):
        compare(
            lambda x, w, b: ops.linear(x, w, b, activation=activation),
            lambda x, w, b: theirs(TF.linear(x, w, b)),
            [normal(3, *shape), normal(4, 7, 5), normal(5, 7)],
            dtype,
            20,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
def test_convolution_with_normalisation_is_pytorchs(activation: str, residual: bool, dtype: str) -> None:
    theirs: Callable[[torch.Tensor], torch.Tensor] = {"none": lambda y: y, "relu": torch.relu, "silu": TF.silu}[activation]
    mean, var = np.linspace(-1, 1, 4, dtype=np.float32), np.linspace(0.5, 2, 4, dtype=np.float32)
    b = normal(6, 4)  # whose gradient is 0, but for rounding
    running = [fastnn.tensor(v, dtype) for v in (mean, var)]
    expected = [torch.tensor(v, dtype=torch.float64) for v in (mean, var)]

    def ours(x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, added: Tensor) -> Tensor:
        y = ops.conv2d_batch_norm(
            x,
            w,
            fastnn.tensor(b, dtype),
            *running,
            gamma,
            beta,
            padding=1,
            momentum=0.3,
            eps=1e-3,
            residual=added if residual else None,
            activation=activation,
        )
        return y if residual else y + added

    def torchs(x: Any, w: Any, gamma: Any, beta: Any, added: Any) -> torch.Tensor:
        y = TF.batch_norm(TF.conv2d(x, w, torch.tensor(b, dtype=torch.float64), padding=1), *expected, gamma, beta, True, 0.3, 1e-3)
        return theirs(y + added) if residual else theirs(y) + added

    shapes = [(3, 5, 6, 7), (4, 5, 3, 3), (4,), (4,), (3, 4, 6, 7)]
    compare(ours, torchs, [normal(i, *shape) for i, shape in enumerate(shapes)], dtype, 400)
    for got, wanted in zip(running, expected):
        assert_close(got, wanted, 40)


@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
def test_gradients_by_central_differences(activation: str) -> None:
    x, w, b = normal(0, 2, 3, 4, 5), normal(1, 2, 3, 2, 2), normal(2, 2)
    assert fastnn.gradcheck(lambda x, w, b: ops.conv2d(x, w, b, activation=activation), [x, w, b])
    assert fastnn.gradcheck(lambda x, w, b: ops.linear(x, w, b, activation=activation), [normal(3, 3, 4), normal(4, 2, 4), b])
    gamma, beta, residual = normal(5, 2), normal(6, 2), normal(7, 2, 2, 3, 4)
    assert fastnn.gradcheck(
        lambda x, w, b, gamma, beta, residual: ops.conv2d_batch_norm(
            x, w, b, None, None, gamma, beta, residual=residual, activation=activation
        ),
        [x, w, b, gamma, beta, residual],
    )
