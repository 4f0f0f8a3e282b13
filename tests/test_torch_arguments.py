"""The rarer arguments of layers, each with PyTorch's values, gradients and buffers, on every device there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import kernel_calls
import numpy as np
import pytest
import torch
from torch_twins import assert_close, compare, direction, normal, same_layer, twins

import fastnn
from fastnn import _C, nn, ops, optim

TN, F = torch.nn, torch.nn.functional
PLACES = [(device, "float32") for device in kernel_calls.DEVICES] + [("cpu", "float64")] * ("cpu" in kernel_calls.DEVICES)
everywhere = pytest.mark.parametrize(("device", "dtype"), PLACES)


@pytest.fixture
def recorded() -> Iterator[None]:
    """With memory checks on, captured steps run eagerly."""
    _C.set_memory_checks(False)
    yield
    _C.set_memory_checks(True)


Make = Callable[[Any], Any]  # of a layer, out of fastnn.nn or torch.nn
LAYERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    # --- pooling
    "max, dilated": (lambda n: n.MaxPool2d(3, 2, 1, 2), (2, 5, 11, 10)),
    "max, dilated by a pair": (lambda n: n.MaxPool2d((2, 3), (1, 2), (0, 1), (3, 2)), (2, 17, 9, 12)),
    "max, dilated, ceil": (lambda n: n.MaxPool2d(2, 3, 1, 4, ceil_mode=True), (2, 3, 13, 12)),
    "max, large windows": (lambda n: n.MaxPool2d(17, 2, 3), (2, 3, 20, 31)),
    "max, large windows, dilated": (lambda n: n.MaxPool2d((20, 14), (3, 1), (5, 2), (2, 1), ceil_mode=True), (1, 5, 50, 20)),
    "adaptive max, large shares": (lambda n: n.AdaptiveMaxPool2d((2, 3)), (2, 3, 41, 65)),
    "average, no padding counts": (lambda n: n.AvgPool2d(3, 2, 1, True, False), (2, 3, 8, 7)),
    "average, divisor": (lambda n: n.AvgPool2d((2, 3), None, (1, 0), False, True, 5), (2, 3, 8, 7)),
    # --- padding
    **{
        f"{mode} {padding}": (lambda n, mode=mode, padding=padding: getattr(n, f"{mode}Pad2d")(padding), (2, 5, 4, 6))
        for mode, padding in itertools.product(("Zero", "Reflection", "Replication", "Circular"), (1, (1, 2, 0, 3), (3, 0, 2, 1), 0))
    },
    "constant": (lambda n: n.ConstantPad2d((1, 2, 0, 3), -2.5), (2, 5, 4, 6)),
    "replication, far": (lambda n: n.ReplicationPad2d((9, 8, 7, 6)), (2, 3, 1, 2)),
    "circular, whole": (lambda n: n.CircularPad2d((3, 3, 4, 4)), (2, 3, 4, 3)),
    # --- convolutions
    **{
        f"conv, {mode} {padding}": (
            lambda n, mode=mode, padding=padding: n.Conv2d(4, 6, (3, 4), padding=padding, dilation=(2, 1), groups=2, padding_mode=mode),
            (2, 4, 7, 8),
        )
        for mode, padding in itertools.product(("zeros", "reflect", "replicate", "circular"), (0, (1, 3), "same", "valid"))
    },
    "conv, strided and reflected": (lambda n: n.Conv2d(3, 5, 3, 2, 2, 1, 1, False, "reflect"), (2, 3, 9, 8)),
    "transposed, output padding of dilation": (lambda n: n.ConvTranspose2d(3, 4, 3, 1, 1, 1, dilation=2), (2, 3, 5, 6)),
    "transposed, output padding of stride": (lambda n: n.ConvTranspose2d(3, 4, 3, 3, 1, 2, 1, False, 2), (2, 3, 5, 6)),
    "transposed, output padding beyond padding": (lambda n: n.ConvTranspose2d(3, 4, 3, 2, (0, 1), (3, 2), dilation=4), (2, 3, 5, 4)),
    "transposed, beyond, groups": (lambda n: n.ConvTranspose2d(4, 6, 2, (1, 3), 1, (2, 0), 2, False, 3), (2, 4, 5, 4)),
    "transposed, beyond, no padding": (lambda n: n.ConvTranspose2d(4, 6, 2, 1, 0, 2, 2, True, 3), (2, 4, 3, 4)),
    # --- maps of another size
    "bicubic": (lambda n: n.Upsample(scale_factor=2, mode="bicubic"), (2, 3, 4, 5)),
    "bicubic, smaller": (lambda n: n.Upsample((3, 4), mode="bicubic"), (2, 5, 9, 7)),
    "bicubic, corners": (lambda n: n.Upsample((7, 9), mode="bicubic", align_corners=True), (2, 3, 4, 5)),
    "bicubic, corners of one": (lambda n: n.Upsample((1, 5), mode="bicubic", align_corners=True), (2, 3, 4, 1)),
    "bicubic, fraction": (lambda n: n.Upsample(scale_factor=(1.7, 0.6), mode="bicubic"), (2, 3, 5, 7)),
    "bicubic, one pixel": (lambda n: n.Upsample(3, mode="bicubic"), (2, 3, 1, 1)),
    "bicubic, not the corners": (lambda n: n.Upsample((6, 6), None, "bicubic", False), (2, 3, 2, 3)),
    **{
        f"{mode}, recomputed {recompute}": (
            lambda n, mode=mode, recompute=recompute: n.Upsample(None, 1.7, mode, None, recompute),
            (2, 3, 5, 7),
        )
        for mode, recompute in itertools.product(("nearest", "bilinear", "bicubic"), (False, True))
    },
    # --- normalisation
    "bn 1d of rank 3": (lambda n: n.BatchNorm1d(5), (4, 5, 6)),
    "bn 1d of rank 3, average": (lambda n: n.BatchNorm1d(5, momentum=None, affine=False), (4, 5, 6)),
    "bn 1d of rank 3, no statistics": (lambda n: n.BatchNorm1d(5, 1e-3, 0.2, True, False), (4, 5, 6)),
    "bn 1d, no bias": (lambda n: n.BatchNorm1d(5, bias=False), (4, 5)),
    "bn 2d, no bias": (lambda n: n.BatchNorm2d(5, bias=False), (3, 5, 4, 3)),
    "bn 2d, average": (lambda n: n.BatchNorm2d(5, momentum=None), (3, 5, 4, 3)),
    "bn 2d, neither": (lambda n: n.BatchNorm2d(5, affine=False, track_running_stats=False), (3, 5, 4, 3)),
    "group norm, no bias": (lambda n: n.GroupNorm(2, 6, bias=False), (3, 6, 4, 5)),
    "group norm, not affine": (lambda n: n.GroupNorm(2, 6, 1e-3, False), (3, 6, 4)),
    "layer norm, no bias": (lambda n: n.LayerNorm((4, 5), bias=False), (3, 6, 4, 5)),
    "layer norm, not affine": (lambda n: n.LayerNorm((6, 4, 5), 1e-3, False), (3, 6, 4, 5)),
    "instance norm": (lambda n: n.InstanceNorm2d(5), (3, 5, 4, 6)),
    "instance norm, affine": (lambda n: n.InstanceNorm2d(5, 1e-3, 0.3, True), (3, 5, 4, 6)),
    "instance norm, no bias": (lambda n: n.InstanceNorm2d(5, affine=True, bias=False), (3, 5, 4, 6)),
    "instance norm, tracked": (lambda n: n.InstanceNorm2d(5, track_running_stats=True), (3, 5, 4, 6)),
    "instance norm, affine and tracked": (lambda n: n.InstanceNorm2d(17, 1e-4, 0.7, True, True), (2, 17, 3, 2)),
    # --- shapes
    "linear of rank 4": (lambda n: n.Linear(5, 3), (2, 3, 4, 5)),
    "linear of rank 3": (lambda n: n.Linear(5, 3, False), (2, 4, 5)),
    "linear of rank 1": (lambda n: n.Linear(5, 3), (5,)),
    "flatten the middle": (lambda n: n.Flatten(1, 2), (2, 3, 4, 5)),
    "flatten all": (lambda n: n.Flatten(0), (2, 3, 4, 5)),
    "flatten from behind": (lambda n: n.Flatten(-3, -2), (2, 3, 4, 5)),
    "unflatten": (lambda n: n.Unflatten(1, (3, 2, 2)), (4, 12)),
    "unflatten from behind": (lambda n: n.Unflatten(-1, (2, -1)), (4, 3, 6)),
    "identity with arguments": (lambda n: n.Identity(54, unused=True), (2, 3)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # PyTorch's, about its own speed
@everywhere
@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_pytorchs(name: str, device: str, dtype: str) -> None:
    make, shape = LAYERS[name]
    same_layer(make(nn), make(TN), shape, dtype, device)


# --- where the winners lie


@pytest.mark.parametrize("device", kernel_calls.DEVICES)
def test_places_of_winners_are_pytorchs(device: str) -> None:
    """Over windows of integers with many ties, and gradients beside them."""
    geometries = itertools.product([2, (3, 2), (1, 4)], [None, 1, (2, 3)], [0, 1, (1, 2)], [1, 2, (1, 3)], [False, True])
    values, seen = np.round(normal(0, 2, 5, 13, 11) * 2), 0
    for kernel, stride, padding, dilation, ceil_mode in geometries:
        theirs = TN.MaxPool2d(kernel, stride, padding, dilation, True, ceil_mode)
        ours = nn.MaxPool2d(kernel, stride, padding, dilation, True, ceil_mode)  # type: ignore[arg-type]
        x, z = twins(values, "float32")
        try:
            expected, places = theirs(z)
        except RuntimeError:  # padding of more than half a window
            with pytest.raises(ValueError, match="padding"):
                ours(x.to(device))
            continue
        y, indices = ours(x.to(device))
        assert indices.dtype == "int64" and indices.device.startswith(device)
        assert np.array_equal(indices.numpy(), places.numpy()), theirs
        assert np.array_equal(y.numpy(), expected.detach().numpy()), theirs
        y.backward(direction(y.shape)), expected.backward(torch.tensor(direction(y.shape)))
        assert_close(x.grad, z.grad, 20, str(theirs))
        seen += 1
    assert seen > 80


@pytest.mark.parametrize("device", kernel_calls.DEVICES)
@pytest.mark.parametrize("size", [1, 4, (3, 5), (None, 2), (9, 8)])
def test_places_of_adaptive_winners_are_pytorchs(size: Any, device: str) -> None:
    values = np.round(normal(0, 3, 17, 9, 8) * 2)
    y, indices = nn.AdaptiveMaxPool2d(size, True)(fastnn.tensor(values).to(device))
    expected, places = TN.AdaptiveMaxPool2d(size, True)(torch.tensor(values))
    assert np.array_equal(indices.numpy(), places.numpy()) and np.array_equal(y.numpy(), expected.numpy())


@pytest.mark.parametrize("device", kernel_calls.DEVICES)
@pytest.mark.parametrize("samples", [0, 1, 3])
def test_places_of_fractional_winners_hold_the_values(samples: int, device: str) -> None:
    """The regions are random: each place holds the value, and lies in its own region."""
    x = fastnn.tensor(normal(0, samples, 5, 12, 11)).to(device)
    y, indices = nn.FractionalMaxPool2d(2, output_ratio=0.7, return_indices=True)(x)
    assert indices.shape == y.shape == (samples, 5, 8, 7)
    flat, at = x.numpy().reshape(samples, 5, 132), indices.numpy().reshape(samples, 5, 56)
    assert np.array_equal(np.take_along_axis(flat, at, 2).reshape(y.shape), y.numpy())
    rows, columns = np.divmod(indices.numpy(), 11)
    assert (np.diff(rows.max(-1)) >= 0).all() and (np.diff(columns.max(-2)) >= 0).all()


UNPOOLS: dict[str, tuple[dict[str, Any], tuple[int, ...], Any]] = {
    "plain": ({"kernel_size": 2}, (2, 3, 6, 8), None),
    "cut off": ({"kernel_size": 2}, (2, 17, 7, 9), (7, 9)),
    "padded": ({"kernel_size": (3, 2), "stride": (3, 2), "padding": (1, 0)}, (2, 3, 7, 8), None),
    "all four sizes": ({"kernel_size": 2, "stride": 3}, (2, 3, 8, 8), (2, 3, 8, 8)),
    "overlapping": ({"kernel_size": 3, "stride": 1}, (1, 2, 6, 7), None),
}


@everywhere
@pytest.mark.parametrize("name", UNPOOLS)
def test_unpooling_is_pytorchs(name: str, device: str, dtype: str) -> None:
    """Values that pooling found and others at their places; where windows share a winner, PyTorch's last one stays too."""
    options, shape, size = UNPOOLS[name]
    _, indices = F.max_pool2d(torch.tensor(normal(0, *shape)), **options, return_indices=True)
    ours, theirs = nn.MaxUnpool2d(**options), TN.MaxUnpool2d(**options)
    x, z = twins(normal(1, *indices.shape), dtype)
    y, expected = ours(x.to(device), fastnn.tensor(indices.numpy(), "int64", device=device), size), theirs(z, indices, size)
    assert y.shape == tuple(expected.shape) and np.array_equal(y.numpy(), expected.detach().numpy().astype(dtype))
    y.backward(direction(y.shape)), expected.backward(torch.tensor(direction(y.shape)))
    assert np.array_equal(x.grad.numpy(), z.grad.numpy().astype(dtype))


def test_infinity_that_windows_share_stays_when_unpooled(table: kernel_calls.Table) -> None:
    """Where it won twice, the value that doesn't stay is left out: times 0 it would be NaN."""
    rows = np.array([[1, np.inf, 2], [3, -np.inf, -np.inf], [np.nan, 0, np.inf]], np.float32).reshape(1, 3, 1, 3)
    expected = np.array([[0, np.inf, 0], [3, -np.inf, 0], [np.nan, 0, np.inf]]).reshape(1, 3, 1, 3)
    x = fastnn.tensor(rows, table.dtype, device=table.device)
    y = ops.max_unpool2d(*ops.max_pool2d(x, (1, 2), 1, return_indices=True), (1, 2), 1)
    assert y.dtype == table.dtype and np.array_equal(y.numpy(), expected, equal_nan=True)


def test_pooling_and_unpooling_train_together() -> None:
    def autoencoder(n: Any, m: Any) -> Any:
        pool, unpool = n.MaxPool2d(2, return_indices=True), n.MaxUnpool2d(2)

        def run(x: Any) -> Any:
            y, indices = pool(x)
            return unpool(y * y, indices)

        return run

    compare(autoencoder(nn, ops), autoencoder(TN, torch), [normal(0, 2, 3, 6, 8)], "float32", 10)


def test_summary_shows_a_pool_with_indices() -> None:
    rows = nn.MaxPool2d(3, 2, 0, 2, return_indices=True).summary((3, 8, 10)).layers
    assert rows[0].output_shape == (3, 2, 3) and rows[0].note == "drops 1 rows, 1 columns"


# --- padding and sizes


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding_copies_bits(mode: str) -> None:
    """Not numbers, infinities and both zeros come through; every side of every width."""
    x = normal(0, 2, 3, 4, 5)
    x[0, 1, 2, 3], x[1, 2, 0, 0], x[0, 0, 3, 4], x[0, 0, 0, 0] = np.nan, np.inf, -np.inf, -0.0
    for sides in itertools.product(range(4), repeat=4):
        got, expected = ops.pad(fastnn.tensor(x), sides, mode).numpy(), F.pad(torch.tensor(x), sides, mode).numpy()
        assert np.array_equal(got.view(np.uint32), expected.view(np.uint32)), sides


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_gradients_of_padding_by_central_differences(mode: str) -> None:
    assert fastnn.gradcheck(lambda x: ops.pad(x, (2, 1, 0, 2), mode), [normal(0, 2, 2, 3, 4)])


def test_gradients_of_bicubic_by_central_differences() -> None:
    for align in (False, True):
        assert fastnn.gradcheck(
            lambda x, align=align: ops.upsample(x, (7, 3), mode="bicubic", align_corners=align), [normal(0, 2, 2, 4, 5)]
        )


def test_bicubic_keeps_what_is_constant_and_infinities_near() -> None:
    x = np.full((1, 2, 6, 12), 3.0, np.float32)
    assert np.abs(ops.upsample(fastnn.tensor(x), (13, 7), mode="bicubic").numpy() - 3).max() < 2e-6
    x[0, 0, 3, 5] = np.inf
    y = ops.upsample(fastnn.tensor(x), (12, 24), mode="bicubic").numpy()
    assert np.isfinite(y[0, 1]).all() and np.isfinite(y[0, 0, :, :6]).all() and not np.isfinite(y[0, 0, 6, 11])


@pytest.mark.parametrize("device", kernel_calls.DEVICES)
def test_transposed_convolution_to_a_size_is_pytorchs(device: str) -> None:
    options: dict[str, Any] = {"stride": (2, 3), "padding": 1, "dilation": 2}
    fastnn.seed(0)
    ours, theirs = nn.ConvTranspose2d(3, 4, 3, **options), TN.ConvTranspose2d(3, 4, 3, **options).double()
    theirs.load_state_dict({k: torch.tensor(v, dtype=torch.float64) for k, v in ours.state_dict().items()})
    ours.to(device)
    for size in [(11, 18), (12, 20), (11, 19), (2, 4, 12, 18)]:
        x, z = twins(normal(0, 2, 3, 5, 6), "float32")
        y, expected = ours(x.to(device), output_size=size), theirs(z, output_size=size)
        assert_close(y, expected, 60, str(size))


def test_kernels_are_the_usual_ones_where_arguments_are() -> None:
    """One kernel without padding mode or indices; those of the arguments otherwise."""
    x = fastnn.tensor(normal(0, 2, 4, 8, 8))

    def kernels(layer: nn.Module) -> set[str]:
        with fastnn.profile() as seen:
            layer(x)
        return set(seen)

    assert kernels(nn.MaxPool2d(2)) == kernels(nn.MaxPool2d(2, dilation=3)) == {"maxpool2d_inference"}
    assert kernels(nn.MaxPool2d(2, return_indices=True)) == {"maxpool2d_forward", "pool_places"}
    assert kernels(nn.Conv2d(4, 4, 3, padding=1)) == {"conv2d_forward"}
    assert kernels(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")) == {"conv2d_forward", "gather_forward"}
    assert kernels(nn.ConvTranspose2d(4, 4, 3, stride=2, output_padding=1, bias=False)) == {"conv2d_backward_input"}


def test_a_step_with_all_of_them_can_be_captured(recorded: None) -> None:
    """What is made once per shape - sources of padding, shares of bicubic, borders - is made outside of the recording: eager bits."""

    def training() -> tuple[nn.Module, Callable[..., Any]]:
        fastnn.seed(0)
        net = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
            nn.ConstantPad2d(1, 0.5),
            nn.MaxPool2d(3, 1, 1, 2),
            nn.AdaptiveMaxPool2d((3, 4)),
            nn.CircularPad2d(1),
            nn.ConvTranspose2d(4, 5, 2, 2, output_padding=2, dilation=3),
            nn.Upsample((7, 9), mode="bicubic"),
        ).to(kernel_calls.DEVICES[-1])
        optimizer, loss_of = optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss()

        def step(x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
            optimizer.zero_grad()
            loss = loss_of(net(x), labels)
            loss.backward()
            optim.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            return loss

        return net, step

    (eager, step), (net, to_capture) = training(), training()
    captured = fastnn.capture(to_capture)
    for i in range(5):
        x = fastnn.tensor(normal(i, 3, 2, 8, 9), device=kernel_calls.DEVICES[-1])
        labels = fastnn.tensor(np.random.default_rng(i).integers(0, 5, (3, 7, 9)))
        assert captured(x, labels).item() == step(x, labels).item(), f"step {i}"  # first the one that must not make constants
    assert captured.kernels and captured._takes[0].runs == 5, "it did not replay"
    assert all(np.array_equal(a, b) for a, b in zip(eager.state_dict().values(), net.state_dict().values()))
    assert not np.array_equal(net.state_dict()["1.running_mean"], np.zeros(4))
