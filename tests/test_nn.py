"""Layers, losses and networks against PyTorch with copied weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch_twins
from torch_twins import DTYPES, assert_close, direction, load, normal, same_layer, spread, twins

import fastnn
from fastnn import Tensor, models, nn

TN = torch.nn

# --- layers

LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], TN.Module], tuple[int, ...]]] = {  # ours, PyTorch's, input
    "conv 3x3": (lambda: nn.Conv2d(3, 8, 3), lambda: TN.Conv2d(3, 8, 3), (2, 3, 7, 6)),
    "conv 1x1": (lambda: nn.Conv2d(5, 4, 1), lambda: TN.Conv2d(5, 4, 1), (2, 5, 4, 3)),
    "conv one channel": (lambda: nn.Conv2d(1, 6, 5, padding=2), lambda: TN.Conv2d(1, 6, 5, padding=2), (2, 1, 8, 8)),
    "conv stride": (lambda: nn.Conv2d(3, 8, 3, stride=2, padding=1), lambda: TN.Conv2d(3, 8, 3, stride=2, padding=1), (2, 3, 8, 7)),
    "conv no bias": (lambda: nn.Conv2d(3, 8, 3, bias=False), lambda: TN.Conv2d(3, 8, 3, bias=False), (2, 3, 6, 6)),
    "conv dilation": (lambda: nn.Conv2d(3, 4, 3, dilation=2), lambda: TN.Conv2d(3, 4, 3, dilation=2), (2, 3, 8, 9)),
    "conv groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), lambda: TN.Conv2d(4, 6, 3, groups=2), (2, 4, 6, 6)),
    "conv depthwise": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), lambda: TN.Conv2d(4, 8, 3, padding=1, groups=4), (2, 4, 6, 6)),
    "conv same": (lambda: nn.Conv2d(3, 4, (4, 3), padding="same"), lambda: TN.Conv2d(3, 4, (4, 3), padding="same"), (2, 3, 7, 6)),
    "conv valid": (lambda: nn.Conv2d(3, 4, 2, padding="valid"), lambda: TN.Conv2d(3, 4, 2, padding="valid"), (2, 3, 7, 6)),
    "conv pairs": (
        lambda: nn.Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(1, 3), dilation=(1, 2)),
        lambda: TN.Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(1, 3), dilation=(1, 2)),
        (2, 3, 9, 8),
    ),
    "linear": (lambda: nn.Linear(5, 7), lambda: TN.Linear(5, 7), (3, 5)),
    "linear no bias": (lambda: nn.Linear(5, 7, bias=False), lambda: TN.Linear(5, 7, bias=False), (3, 5)),
    "linear rank 4": (lambda: nn.Linear(5, 7), lambda: TN.Linear(5, 7), (2, 3, 4, 5)),
    "bn 2d": (lambda: nn.BatchNorm2d(5), lambda: TN.BatchNorm2d(5), (3, 5, 4, 6)),
    "bn 1d": (lambda: nn.BatchNorm1d(5), lambda: TN.BatchNorm1d(5), (9, 5)),
    "bn momentum": (lambda: nn.BatchNorm2d(5, eps=0.1, momentum=0.3), lambda: TN.BatchNorm2d(5, eps=0.1, momentum=0.3), (3, 5, 4, 6)),
    "bn not affine": (lambda: nn.BatchNorm2d(5, affine=False), lambda: TN.BatchNorm2d(5, affine=False), (3, 5, 4, 6)),
    "bn not tracked": (
        lambda: nn.BatchNorm2d(5, track_running_stats=False),
        lambda: TN.BatchNorm2d(5, track_running_stats=False),
        (3, 5, 4, 6),
    ),
    "pool": (lambda: nn.MaxPool2d(2), lambda: TN.MaxPool2d(2), (2, 3, 6, 7)),
    "pool overlapping": (lambda: nn.MaxPool2d(3, stride=2, padding=1), lambda: TN.MaxPool2d(3, stride=2, padding=1), (2, 3, 7, 8)),
    "pool ceil": (lambda: nn.MaxPool2d(3, stride=2, ceil_mode=True), lambda: TN.MaxPool2d(3, stride=2, ceil_mode=True), (2, 3, 8, 6)),
    "pool pairs": (lambda: nn.MaxPool2d((2, 3), (1, 2), (1, 0)), lambda: TN.MaxPool2d((2, 3), (1, 2), (1, 0)), (2, 3, 5, 8)),
    "average": (lambda: nn.AdaptiveAvgPool2d(1), lambda: TN.AdaptiveAvgPool2d(1), (2, 3, 5, 4)),
    "relu": (nn.ReLU, TN.ReLU, (2, 3, 4, 5)),
    "silu": (nn.SiLU, TN.SiLU, (2, 3, 4, 5)),
    "flatten": (nn.Flatten, TN.Flatten, (2, 3, 4, 5)),
    "flatten all": (lambda: nn.Flatten(0), lambda: TN.Flatten(0), (2, 3, 4, 5)),
    "flatten maps": (lambda: nn.Flatten(2), lambda: TN.Flatten(2), (2, 3, 4, 5)),
    "flatten between": (lambda: nn.Flatten(-3, -2), lambda: TN.Flatten(-3, -2), (2, 3, 4, 5)),
    "identity": (nn.Identity, TN.Identity, (2, 3)),
    "dropout 0": (lambda: nn.Dropout(0.0), lambda: TN.Dropout(0.0), (2, 3)),
    "sequence": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
        ),
        lambda: TN.Sequential(
            TN.Conv2d(3, 4, 3, bias=False), TN.BatchNorm2d(4), TN.SiLU(), TN.MaxPool2d(2), TN.Flatten(), TN.Linear(16, 3)
        ),
        (3, 3, 6, 6),
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")  # PyTorch's
@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_pytorchs(name: str, dtype: str) -> None:
    """Output, every gradient and every buffer, twice in training and once in evaluation."""
    make, make_theirs, shape = LAYERS[name]
    same_layer(make(), make_theirs(), shape, dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_state_dict_has_pytorchs_keys_shapes_and_types(name: str) -> None:
    make, make_theirs, _ = LAYERS[name]
    ours, theirs = make().state_dict(), make_theirs().state_dict()
    assert [(k, v.shape, v.dtype.name) for k, v in ours.items()] == [
        (k, tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in theirs.items()
    ]
    assert all(v.flags.c_contiguous for v in ours.values())


def test_batchnorm_with_residual_and_activation() -> None:
    for activation, theirs_activation in (
        ("none", lambda y: y),
        ("relu", torch.relu),
        ("silu", TN.functional.silu),
        ("gelu", TN.functional.gelu),
    ):
        for dtype in DTYPES:
            bn, theirs = nn.BatchNorm2d(5), TN.BatchNorm2d(5).double()
            bn = bn.double() if dtype == "float64" else bn
            spread(bn)
            load(theirs, bn.state_dict())
            (x, z), (r, s) = (twins(normal(i, 3, 5, 4, 6), dtype) for i in range(2))
            y, expected = bn(x, r, activation), theirs_activation(theirs(z) + s)
            y.backward(direction(y.shape))
            expected.backward(torch.tensor(direction(y.shape)))
            for got, wanted in (
                (y, expected),
                (x.grad, z.grad),
                (r.grad, s.grad),
                (bn.weight.grad, theirs.weight.grad),
                (bn.bias.grad, theirs.bias.grad),
            ):
                assert_close(got, wanted, 100, activation)


# --- loss


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [-100, 2])
def test_cross_entropy_is_pytorchs(ignore: int, weighted: bool, smoothing: float, reduction: str, dtype: str) -> None:
    weight = np.array([0.5, 2, 1, 0.25, 3], np.float32) if weighted else None
    ours = nn.CrossEntropyLoss(weight, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing)
    ours = ours.double() if dtype == "float64" else ours
    theirs = TN.CrossEntropyLoss(
        None if weight is None else torch.tensor(weight, dtype=torch.float64),
        ignore_index=ignore,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    labels = np.array([0, 4, 2, 1, -100 if ignore == -100 else 2, 3])
    x, z = twins(normal(0, 6, 5) * 4, dtype)
    loss, expected = ours(x, labels), theirs(z, torch.tensor(labels))
    assert_close(loss, expected, 10, "loss")
    dy = direction(loss.shape)
    loss.backward(dy)
    expected.backward(torch.tensor(dy))
    assert_close(x.grad, z.grad, 10, "gradient")
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize(
    "labels",
    [
        [0, 2, 1],
        np.array([0, 2, 1], np.uint8),
        np.array([0, 2, 1], np.int32),
        fastnn.tensor([0, 2, 1]),
        fastnn.tensor(np.array([0, 2, 1], np.uint8)),
    ],
)
def test_labels_of_any_integer_type(labels: Any) -> None:
    x, z = twins(normal(0, 3, 4), "float32")
    assert_close(nn.CrossEntropyLoss()(x, labels), TN.functional.cross_entropy(z, torch.tensor([0, 2, 1])), 8)


def test_cross_entropy_of_huge_logits_stays_finite() -> None:
    x = fastnn.tensor([[1e4, -1e4, 0.0], [-1e30, 1e30, 0.0]], requires_grad=True)
    loss = nn.CrossEntropyLoss(reduction="none")(x, [1, 1])
    assert loss.numpy().tolist() == [2e4, 0]
    loss.sum().backward()
    assert x.grad.numpy().tolist() == [[1, -1, 0], [0, 0, 0]]


# --- dropout


def test_dropout_masks_come_from_the_seed() -> None:
    layer, x = nn.Dropout(0.25), fastnn.tensor(np.ones((8, 4, 32, 32)), requires_grad=True)

    def masks() -> list[np.ndarray]:
        fastnn.seed(5)
        return [np.array(layer(x).numpy()) for _ in range(2)]

    (first, second), again = masks(), masks()
    assert np.array_equal(first, again[0]) and np.array_equal(second, again[1])
    assert not np.array_equal(first, second), "each call draws anew"
    fastnn.seed(6)
    assert not np.array_equal(first, layer(x).numpy())
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    n = first.size
    assert abs((first == 0).sum() - n / 4) < 5 * np.sqrt(n * 0.25 * 0.75)


def test_dropout_backward_draws_the_same_mask() -> None:
    x = fastnn.tensor(np.ones((3, 4, 5, 6)), requires_grad=True)
    layer = nn.Dropout(0.5)
    y = layer(x)
    layer(x)  # moves the generator on
    y.backward(np.ones(x.shape))
    assert np.array_equal(x.grad.numpy(), y.numpy()) and 0 < (y.numpy() == 0).mean() < 1


def test_dropout_at_its_ends() -> None:
    x = fastnn.tensor(normal(0, 50))
    assert nn.Dropout(0.5).eval()(x) is x and nn.Dropout(0.0)(x) is x
    assert not nn.Dropout(1.0)(x).numpy().any()


# --- networks


@pytest.fixture(scope="module")
def resnet18() -> Iterator[tuple[nn.Module, np.ndarray]]:
    fastnn.seed(0)
    model = models.resnet18(num_classes=10)
    spread(model)
    yield model, normal(1, 2, 3, 64, 64)


def test_resnet18_is_torchvisions(resnet18: tuple[nn.Module, np.ndarray]) -> None:
    """Our state_dict in a torchvision-shaped network gives our logits, in evaluation and in training, and so does theirs in ours."""
    ours, images = resnet18
    theirs = load(torch_twins.resnet18(10).double(), ours.state_dict())
    x, z = fastnn.tensor(images), torch.tensor(images, dtype=torch.float64)
    with torch.no_grad(), fastnn.no_grad():
        assert_close(ours.eval()(x), theirs.eval()(z), 100, "evaluation")
        assert_close(ours.train()(x), theirs.train()(z), 100, "training")
        for key, buffer in ours.named_buffers():
            assert_close(buffer.numpy().astype(np.float32), theirs.state_dict()[key], 100, key)
        torch.manual_seed(3)
        other = torch_twins.resnet18(10)
        ours.load_state_dict(other.state_dict())
        assert_close(ours.eval()(x), other.double().eval()(z), 100, "their weights in ours")


@pytest.mark.parametrize(
    ("make", "make_theirs"),
    [
        (lambda: models.lenet(), lambda: torch_twins.lenet()),
        (lambda: models.resnet20(input_shape=(1, 28, 28)), lambda: torch_twins.resnet20(in_channels=1)),
        (lambda: models.resnet18(10), lambda: torch_twins.resnet18(10)),
    ],
    ids=["lenet", "resnet20", "resnet18"],
)
def test_networks_have_pytorchs_keys(make: Callable[[], nn.Module], make_theirs: Callable[[], TN.Module]) -> None:
    ours, theirs = make().state_dict(), make_theirs().state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: tuple(v.shape) for k, v in theirs.items()}
    assert sum(k.endswith("num_batches_tracked") for k in ours) == sum(k.endswith("running_mean") for k in ours)


@pytest.mark.parametrize("name", models.names())
def test_every_model_by_name(name: str) -> None:
    fastnn.seed(1)
    size, options = (63, {"hidden": 32}) if name == "alexnet" else (32, {"hidden": 32} if name == "vgg16" else {})
    model = models.create(name, input_shape=(3, size, size), num_classes=7, **options)
    logits = model(fastnn.tensor(normal(0, 2, 3, size, size)))
    assert logits.shape == (2, 7)
    nn.CrossEntropyLoss()(logits, [3, 6]).backward()
    for key, p in model.named_parameters():
        assert not p.requires_grad or (p.grad is not None and np.isfinite(p.grad.numpy()).all()), key
    assert all(p.numpy().any() for key, p in model.named_parameters() if p.ndim > 1), "weights that start at 0 learn nothing"


def test_models_refuse_what_they_cannot_build() -> None:
    with pytest.raises(ValueError, match="no model is named 'squeezenet'; there are linear, mlp, lenet"):
        models.create("squeezenet", input_shape=(1, 28, 28))
    with pytest.raises(ValueError, match=r"input_shape must be \(C, H, W\), three integers of at least 1, got \(28, 28\)"):
        models.create("lenet", input_shape=(28, 28))
    for last_of, first_of in {(32, 32, 3): (3, 32, 32), (28, 28, 1): (1, 28, 28), (9, 9, 4): (4, 9, 9)}.items():
        with pytest.raises(ValueError) as caught:
            models.create("resnet20", input_shape=last_of)
        words = f"must be (C, H, W), got {last_of}, channels last as it looks; expected {first_of}"
        assert str(caught.value) == f"models.create: input_shape {words}"
        models.create("linear", input_shape=last_of)
    for meant in ((3, 32, 32), (64, 8, 8), (3, 32, 4), (1, 28, 28), (8, 4, 4), (8, 100, 1), (4, 4, 3)):
        models.create("resnet20", input_shape=meant)
    with pytest.raises(ValueError, match="lenet: .*at least 4 x 4, got 3 x 28"):
        models.create("lenet", input_shape=(1, 3, 28))
    with pytest.raises(ValueError, match="vgg: .*at least 8 x 8, got 4 x 4"):
        models.create("vgg", input_shape=(3, 4, 4))
    with pytest.raises(ValueError, match="alexnet: .*at least 63 x 63, got 62 x 80"):
        models.create("alexnet", input_shape=(3, 62, 80), hidden=8)
    with pytest.raises(ValueError, match="vgg16: .*at least 32 x 32, got 31 x 40"):
        models.create("vgg16", input_shape=(3, 31, 40), hidden=8)


# --- gradients of whole modules


def test_gradients_of_modules_by_central_differences() -> None:
    fastnn.seed(3)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1),
        nn.BatchNorm2d(3),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 4),
        nn.ReLU(),
        nn.Linear(4, 3),
    ).double()
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    owners = [(module, name) for module in net for name in module._parameters]

    def fn(x: Tensor, *parameters: Tensor) -> Tensor:
        for (module, name), value in zip(owners, parameters):
            module._parameters[name] = value
        return loss(net(x), [0, 2, 1])

    values = [np.array(getattr(module, name).numpy()) for module, name in owners]
    assert fastnn.gradcheck(fn, [normal(0, 3, 2, 8, 8), *values])
    assert net[0].weight.dtype == "float64" and net[1].running_mean.dtype == "float64"


def test_double_and_float() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = net.state_dict()
    assert {p.dtype for p in net.double().parameters()} == {"float64"}
    assert net[1].running_var.dtype == "float64" and net[1].num_batches_tracked.dtype == "int64"
    assert net(fastnn.tensor(normal(0, 4, 3), "float64")).dtype == "float64"
    net.load_state_dict(before)
    assert all(np.array_equal(v, before[k]) and v.dtype == before[k].dtype for k, v in net.float().state_dict().items())


# --- hooks


def test_hooks_see_and_replace() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    seen: list[Any] = []
    first = net[0].register_forward_hook(lambda module, args, output: seen.append((module, args, output)))
    x = fastnn.tensor(normal(0, 4, 3))
    y = net(x)
    assert seen[0][0] is net[0] and seen[0][1] == (x,) and seen[0][2].shape == (4, 2)
    second = net[0].register_forward_hook(lambda module, args, output: output * 0.0)
    assert not net(x).numpy().any() and len(seen) == 2
    second.remove()
    second.remove()
    assert np.array_equal(net(x).numpy(), y.numpy())
    first.remove()
    net(x)
    assert len(seen) == 3
