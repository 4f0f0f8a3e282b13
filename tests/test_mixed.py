"""Mixed training: activations and operands of products in bfloat16; weights, sums, statistics and loss in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch_twins
from kernel_calls import NARROW_TABLES, Table, using
from torch_twins import load, normal

import fastnn
from fastnn import _C, data, models, nn, ops, optim
from fastnn.train import Trainer
from fastnn.train.precision import Forward

if not NARROW_TABLES:
    pytest.skip("no device here computes in bfloat16", allow_module_level=True)
EPS = 2.0**-8  # what rounding to bfloat16 may change, relative


@pytest.fixture(params=NARROW_TABLES, ids=str)
def device(request: pytest.FixtureRequest) -> Any:
    table: Table = request.param
    with using(table):
        yield table.device


def test_cast_rounds_as_pytorch_does_and_its_gradient_comes_back(device: str) -> None:
    x = fastnn.tensor(np.concatenate([normal(0, 1000), [1 + 2**-8, 1 + 3 * 2**-8, np.inf, -np.inf, np.nan, 3.4e38]]), requires_grad=True)
    narrow = ops.cast(x.to(device), "bfloat16")
    assert narrow.dtype == "bfloat16" and ops.cast(narrow, "bfloat16") is narrow
    assert np.array_equal(narrow.numpy(), torch.tensor(x.numpy()).bfloat16().float().numpy(), equal_nan=True)
    wide = ops.cast(narrow, "float32")
    assert wide.dtype == "float32" and np.array_equal(wide.numpy(), narrow.numpy(), equal_nan=True)
    wide.backward(fastnn.tensor(np.full(x.shape, 1 + 2.0**-12, np.float32), device=device))
    assert x.grad is not None and x.grad.dtype == "float32" and np.array_equal(x.grad.numpy(), np.ones(x.shape))
    with pytest.raises(ValueError, match="cast: from float32 to 'float16'; expected float32 and bfloat16"):
        ops.cast(x, "float16")


LAYERS: list[tuple[Any, tuple[int, ...]]] = [
    (lambda: nn.Linear(20, 7), (5, 20)),
    (lambda: nn.Conv2d(16, 24, 3, padding=1), (4, 16, 9, 9)),
    (lambda: nn.Conv2d(64, 64, 3, padding=1), (4, 64, 16, 16)),
    (lambda: nn.Conv2d(8, 8, 3, groups=8), (4, 8, 9, 9)),
    (lambda: nn.ConvTranspose2d(6, 4, 3, stride=2), (2, 6, 5, 5)),
    (lambda: nn.ConvTranspose2d(6, 4, 3, dilation=2, output_padding=1), (2, 6, 5, 5)),  # its last rows are the bias alone
    (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5)
        ),
        (4, 3, 8, 8),
    ),
    (lambda: nn.BatchNorm2d(6), (4, 6, 5, 5)),
    (lambda: nn.LayerNorm(20), (5, 20)),
    (lambda: nn.GroupNorm(2, 6), (4, 6, 5, 5)),
    (lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True), (4, 6, 5, 5)),
    (lambda: nn.PReLU(6), (4, 6, 5, 5)),
    (lambda: nn.GELU(), (5, 20)),
    (lambda: nn.AvgPool2d(2), (4, 6, 5, 5)),
    (lambda: nn.Upsample(scale_factor=2.0, mode="bilinear"), (2, 3, 4, 4)),
    (lambda: nn.Upsample(scale_factor=2.0, mode="bicubic"), (2, 3, 4, 4)),
    (lambda: nn.SqueezeExcite(16), (2, 16, 4, 4)),
    (lambda: nn.Softmax(1), (5, 20)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=lambda v: "" if callable(v) else "x".join(map(str, v)))
def test_layers_keep_bfloat16_and_their_weights_float32(make: Any, shape: tuple[int, ...], device: str) -> None:
    fastnn.seed(0)
    layer = make().to(device)
    dy = None
    results = []
    for narrow in (False, True):
        layer.zero_grad()
        x = fastnn.tensor(torch.tensor(normal(0, *shape)).bfloat16().float().numpy(), requires_grad=True)
        y = layer(ops.cast(x.to(device), "bfloat16") if narrow else x.to(device))
        assert y.dtype == ("bfloat16" if narrow else "float32")
        dy = dy if dy is not None else normal(1, *y.shape)
        ops.cast(y, "float32").backward(fastnn.tensor(dy, device=device))
        gradients = [x.grad, *(p.grad for p in layer.parameters())]
        assert all(g is not None and g.dtype == "float32" for g in gradients)
        results.append([y.numpy(), *(g.numpy() for g in gradients if g is not None)])
    errors = [np.linalg.norm(narrow - wide) / (np.linalg.norm(wide) + 1e-6) for wide, narrow in zip(*results, strict=True)]
    assert max(errors) < 6 * EPS, errors
    assert max(errors) > 0, "the bits of float32: it was not narrow at all"


def test_float32_beside_bfloat16_is_told_how_to_join_it() -> None:
    """The remedy for a parameter of one's own; what may be float32 there is not among what differs."""
    wide, remedy = fastnn.tensor(normal(0, 2, 3, 4, 4)), "narrows it, and leaves its gradient float32"
    x = ops.cast(wide, "bfloat16")
    gain = fastnn.tensor(normal(1, 1, 3, 1, 1), requires_grad=True)
    for call, cast in ((lambda: x * gain, "b, a"), (lambda: gain * x, "a, b")):
        with pytest.raises(TypeError, match=rf"^multiply: a has dtype .*; fastnn.ops.cast\({cast}.dtype\) {remedy}$"):
            call()
    (x * ops.cast(gain, x.dtype)).sum().backward()
    assert gain.grad is not None and gain.grad.dtype == "float32"
    expected = rf"batch_norm: x has dtype bfloat16, residual has dtype float32; .*fastnn.ops.cast\(residual, x.dtype\) {remedy}$"
    with pytest.raises(TypeError, match=expected):
        nn.BatchNorm2d(3)(x, wide)
    with pytest.raises(TypeError, match="^conv2d: bias has dtype bfloat16; expected float32$"):
        ops.conv2d(x, fastnn.tensor(normal(0, 2, 3, 1, 1), "bfloat16"), fastnn.tensor([0.0, 0.0], "bfloat16"))


def test_statistics_of_bfloat16_are_float32(device: str) -> None:
    """Of the same numbers in float32: the same."""
    x = fastnn.tensor(normal(0, 4, 6, 5, 5), "bfloat16", device=device)
    narrow, wide = (nn.InstanceNorm2d(6, track_running_stats=True).to(device) for _ in range(2))
    narrow(x), wide(ops.cast(x, "float32"))
    for name, array in wide.state_dict().items():
        np.testing.assert_array_equal(narrow.state_dict()[name], array, name)
    assert not np.array_equal(narrow.running_mean.numpy(), np.zeros(6, np.float32))


REDUCTIONS: dict[str, Any] = {
    "var": lambda x: ops.var(x, 1),
    "std of all": ops.std,
    "std without a spread": lambda x: ops.std(x[:, :1], 1, correction=0),
    "norm": lambda x: ops.norm(x, axis=0),
    "logsumexp": lambda x: ops.logsumexp(x, 1, keepdims=True),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_far_from_0_are_rounded_once(name: str, device: str) -> None:
    """Value and gradient are those of the same numbers in float32, to the bit after rounding: no mean, distance or sum was rounded on the way."""
    values = fastnn.tensor(normal(0, 6, 9) / 2 + 100, "bfloat16").numpy()
    results = []
    for dtype in ("float32", "bfloat16"):
        x = fastnn.tensor(values, device=device, requires_grad=True)
        y = REDUCTIONS[name](ops.cast(x, dtype))
        assert y.dtype == dtype
        y.backward(fastnn.tensor(normal(1, *y.shape), "bfloat16").numpy())
        assert x.grad is not None
        results.append([torch.tensor(a).bfloat16().float().numpy() for a in (y.numpy(), x.grad.numpy())])
    for wide, narrow, what in zip(*results, ("value", "gradient"), strict=True):
        np.testing.assert_array_equal(narrow, wide, what)


@pytest.mark.parametrize(
    ("operation", "values", "value", "gradient"),
    [
        (ops.var, [100, 100.5], 0.125, [-0.5, 0.5]),
        (lambda x: ops.logsumexp(x, 0), [200, 200], 201, [0.5, 0.5]),
    ],
    ids=["var", "logsumexp"],
)
def test_two_large_numbers_of_bfloat16(operation: Any, values: Any, value: float, gradient: Any, device: str) -> None:
    x = fastnn.tensor(np.array(values, np.float32), device=device, requires_grad=True)
    y = operation(ops.cast(x, "bfloat16"))
    y.backward()
    assert x.grad is not None
    assert y.item() == value and np.allclose(x.grad.numpy(), gradient, atol=1e-5)


CLASSES = np.arange(5) % 3
SHARES = np.exp(normal(1, 5, 3)) / np.exp(normal(1, 5, 3)).sum(1, keepdims=True)
WEIGHTS = np.array([1.0, 2.0, 0.5], np.float32)
LOSSES: dict[str, Any] = {
    "probabilities": lambda x: ops.cross_entropy(x, SHARES, label_smoothing=0.1),
    "weighted probabilities": lambda x: ops.cross_entropy(x, SHARES, fastnn.tensor(WEIGHTS, device=x.device)),
    "probabilities of numpy and weights": lambda x: nn.CrossEntropyLoss(WEIGHTS).to(x.device)(x, SHARES),
    "weights of numpy": lambda x: ops.cross_entropy(x, CLASSES, WEIGHTS),
    "a teacher that learns": lambda x: ops.cross_entropy(x, fastnn.tensor(SHARES, device=x.device, requires_grad=True)),
    "nll": lambda x: ops.nll_loss(x, CLASSES, WEIGHTS),
    "margins": lambda x: ops.multi_margin_loss(x, CLASSES, weight=WEIGHTS),
    "binary": lambda x: ops.binary_cross_entropy_with_logits(x, (SHARES > 0.3).astype(np.float32), pos_weight=WEIGHTS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_bfloat16_take_what_those_of_float32_take(name: str, device: str) -> None:
    """Losses and gradients of the same numbers, these rounded once."""
    values = fastnn.tensor(normal(0, 5, 3), "bfloat16").numpy()
    results = []
    for dtype in ("float32", "bfloat16"):
        x = fastnn.tensor(values, device=device, requires_grad=True)
        loss = LOSSES[name](ops.cast(x, dtype))
        assert loss.dtype == "float32"
        loss.backward()
        assert x.grad is not None
        results.append((loss.item(), x.grad.numpy()))
    (wide, wide_grad), (narrow, narrow_grad) = results
    assert narrow == pytest.approx(wide, rel=1e-6) and np.linalg.norm(narrow_grad - wide_grad) < EPS * np.linalg.norm(wide_grad)


def test_probabilities_may_be_bfloat16_as_well(device: str) -> None:
    x, target = (fastnn.tensor(a, "bfloat16", device=device) for a in (normal(0, 5, 3), SHARES))
    assert float(ops.cross_entropy(x, target)) == float(ops.cross_entropy(x, target.numpy()))


CONVOLUTIONS: list[Any] = [
    lambda x, w: ops.conv2d(x, w, padding=1),
    lambda x, w: ops.conv2d_batch_norm(x, w, None, None, None, padding=1),
    lambda x, w: ops.conv_transpose2d(x, w, padding=1),
]


@pytest.mark.parametrize("convolve", CONVOLUTIONS, ids=["conv2d", "conv2d_batch_norm", "conv_transpose2d"])
def test_a_weight_gradient_is_rounded_only_to_its_weights_type(convolve: Any, device: str) -> None:
    """Float32 beside float32 weights, out of the kernel at once; weights that were cast before get the same one rounded."""
    x = fastnn.tensor(normal(1, 4, 16, 8, 8), "bfloat16", device=device)
    values = fastnn.tensor(normal(2, 16, 16, 3, 3), "bfloat16").numpy()  # the same numbers for both
    grads = {}
    for dtype in ("float32", "bfloat16"):
        w = fastnn.tensor(values, device=device, requires_grad=True)
        y = ops.cast(convolve(x, ops.cast(w, dtype)), "float32")
        with fastnn.profile() as rows:
            (y * y).sum().backward()
        casts = [rows[row]["calls"] if row in rows else 0 for row in ("to_bfloat16", "to_float32")]
        assert casts == ([1, 0] if dtype == "float32" else [2, 1])  # the one is y's gradient
        assert w.grad is not None and w.grad.dtype == "float32"
        grads[dtype] = w.grad.numpy()
    rounded = fastnn.tensor(grads["float32"], "bfloat16").numpy()
    assert not np.array_equal(rounded, grads["float32"])
    np.testing.assert_array_equal(grads["bfloat16"], rounded)


@pytest.mark.parametrize("narrow", NARROW_TABLES, ids=str)
def test_a_model_in_mixed_training_sees_bfloat16(narrow: Table) -> None:
    seen = []
    with using(narrow):
        model = nn.Linear(4, 3)
        model.register_forward_hook(lambda _, inputs, y: seen.append((inputs[0].dtype, y.dtype, _C.last_call()["table"])))
        trainer = Trainer(model, optim.SGD(model.parameters(), 0.1), device=narrow.device, precision="bf16")
        x = fastnn.tensor(normal(0, 5, 4), device=narrow.device)
        assert trainer.forward(x).dtype == "float32"
        trainer.step(x, fastnn.tensor(np.arange(5) % 3, device=narrow.device))
        trainer.predict(x)
    assert seen == [("bfloat16", "bfloat16", narrow.name)] * 3


def test_gradients_are_no_worse_than_pytorchs_own_bfloat16(device: str) -> None:
    """resnet20 against float64, beside torch.autocast on the same weights and batch: median over the parameters."""
    fastnn.seed(0)
    model = models.create("resnet20", input_shape=(3, 32, 32), num_classes=10)
    x, labels = normal(0, 16, 3, 32, 32), np.arange(16) % 10
    gradients: dict[str, list[np.ndarray]] = {}
    for kind, dtype in (("exact", torch.float64), ("torch", torch.float32)):
        twin = load(torch_twins.resnet20(), model.state_dict()).to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "torch"):
            logits = twin(torch.tensor(x, dtype=dtype))
        torch.nn.functional.cross_entropy(logits.to(dtype), torch.tensor(labels)).backward()
        gradients[kind] = [p.grad.double().numpy() for p in twin.parameters()]
    model.to(device)
    logits = Forward(model, "bf16")(fastnn.tensor(x, device=device))
    nn.CrossEntropyLoss()(logits, fastnn.tensor(labels, device=device)).backward()
    gradients["ours"] = [p.grad.numpy() for p in model.parameters()]  # type: ignore[union-attr]

    def error(kind: str) -> float:
        return float(
            np.median([np.linalg.norm(g - e) / np.linalg.norm(e) for g, e in zip(gradients[kind], gradients["exact"], strict=True)])
        )

    assert 0.2 * error("torch") < error("ours") < 1.5 * error("torch"), (error("ours"), error("torch"))


def test_refused_where_it_would_be_slower() -> None:
    if "cpu" not in {table.device for table in NARROW_TABLES}:
        pytest.skip("the CPU is not among the devices under test")
    before = _C.isa()
    _C.set_isa("portable")
    try:
        with pytest.raises(
            ValueError, match=r"Trainer: precision='bf16' needs avx512_bf16 or AMX, this processor runs portable .*: float32"
        ):
            Trainer(nn.Linear(2, 2), optim.SGD([fastnn.tensor([1.0], requires_grad=True)], 0.1), precision="bf16")
    finally:
        _C.set_isa(before)
    with pytest.raises(ValueError, match="precision must be 'float32' or 'bf16', got 'fp16'"):
        Trainer(nn.Linear(2, 2), optim.SGD([fastnn.tensor([1.0], requires_grad=True)], 0.1), precision="fp16")


def trained(device: str, replay: Any = "auto", epochs: int = 1) -> tuple[Trainer, list[np.ndarray]]:
    train, _ = data.digits()
    if epochs == 1:
        train = data.split(train, 0.5)[0]
    fastnn.seed(0)
    model = models.create("lenet", input_shape=(1, 8, 8), num_classes=10)
    trainer = Trainer(model, optim.Adam(model.parameters(), lr=2e-3), seed=1, device=device, precision="bf16")
    trainer.fit(train, epochs, progress=False, replay=replay)
    return trainer, [p.numpy() for p in model.parameters()]


@pytest.mark.usefixtures("without_memory_checks")
def test_replayed_steps_have_the_bits_of_eager_ones(device: str) -> None:
    one, replayed = trained(device, True)
    _, eager = trained(device, False)
    assert one.replayed.startswith("replayed")
    assert all(p.dtype == "float32" for p in one.model.parameters())
    assert all(np.array_equal(a, b) for a, b in zip(replayed, eager, strict=True))


def test_digits_are_learned_as_well_as_in_float32() -> None:
    if "cpu" not in {table.device for table in NARROW_TABLES}:
        pytest.skip("learning takes minutes on the emulated device")
    trainer, _ = trained("cpu", epochs=12)
    assert trainer.evaluate(data.digits()[1])["accuracy"] > 0.96


def test_a_checkpoint_knows_its_precision(tmp_path: Any) -> None:
    if "cpu" not in {table.device for table in NARROW_TABLES}:
        pytest.skip("the CPU is not among the devices under test")
    trainer, _ = trained("cpu")
    trainer.save(tmp_path / "one.safetensors")
    model = models.create("lenet", input_shape=(1, 8, 8), num_classes=10)
    other = Trainer(model, optim.Adam(model.parameters(), lr=2e-3), seed=1)
    with pytest.raises(ValueError, match="precision='bf16'.*precision='float32'"):
        other.fit(data.digits()[0], 2, resume=tmp_path / "one.safetensors", progress=False)
