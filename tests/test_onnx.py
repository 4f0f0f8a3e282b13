"""Models as ONNX files: what onnxruntime computes from them is what fastnn computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import GPUS

import fastnn
from fastnn import data, interop, models, nn, ops, train
from fastnn.cli import main
from fastnn.data.preprocessing import Preprocessing
from fastnn.interop.onnx_export import LEAST_OPSET
from fastnn.interop.onnx_graph import Graph
from fastnn.models import resnet

onnx = pytest.importorskip("onnx", reason="onnx is not installed: models are not written as ONNX")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: ONNX files are not run")

MAP, ROW = (4, 7, 6), (12,)  # of a sample
NEWEST = min(onnx.defs.onnx_opset_version(), 23)  # onnxruntime reads


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fastnn.seed(0)


def session(path: str = "m.onnx") -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads, options.inter_op_num_threads = 3, 1, 1
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def images(n: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, *shape), np.float32)


def computed(model: Any, x: np.ndarray) -> list[np.ndarray]:
    with fastnn.no_grad():
        y = model.eval()(fastnn.tensor(x))
    several = y.values() if isinstance(y, dict) else y if isinstance(y, (tuple, list)) else [y]
    return [np.asarray(one.numpy()) for one in several]


def compare(model: Any, shape: tuple[int, ...], sizes: tuple[int, ...] = (1, 2, 5), most: float = 1e-5, **options: Any) -> Any:
    """Writes it, and compares all outputs for batches of these sizes."""
    interop.to_onnx(model, "m.onnx", shape, **options)
    run = session()
    for n in sizes:
        x = images(n, shape)
        wanted = computed(model, x)
        got = run.run(None, {"input": x})
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=most, atol=most * max(1e-30, float(np.abs(b).max(initial=0))))
    return run


def kinds(path: str = "m.onnx") -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


# --- all networks, all layers

SMALL: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    **{name: ((3, 16, 18), {}) for name in ("resnet20", "resnet32", "resnet56", "vgg", "linear")},
    "airbench94": ((3, 26, 32), {"width": 0.25}),
    "mlp": ((1, 8, 8), {}),
    "lenet": ((1, 28, 28), {}),
    "vgg_small": ((1, 8, 8), {}),
    **{name: ((3, 33, 20), {}) for name in ("resnet18", "resnet34", "resnet50")},
    "alexnet": ((3, 67, 67), {"hidden": 32}),
    "vgg16": ((3, 32, 32), {"hidden": 32}),
}


@pytest.mark.parametrize("name", models.names())
def test_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)  # Philox takes a second for those of VGG-16
    monkeypatch.setattr(
        fastnn.Generator, "uniform", lambda self, shape, low, high, dtype="": high * (2 * rng.random(shape, np.float32) - 1)
    )
    narrow = (8, 16, 32, 64)  # an eighth of theirs: the same graph in a sixtieth of the time
    monkeypatch.setattr(
        resnet, "_imagenet", lambda blocks, n, shape, block, zero: resnet.ResNet(blocks, narrow, n, shape[0], True, block, zero)
    )
    shape, options = SMALL[name]
    model = models.create(name, input_shape=shape, num_classes=7, **options)
    run = compare(model, shape, (1, 3), 2e-5)
    assert run.get_inputs()[0].shape == ["batch", *shape] and run.get_outputs()[0].shape == ["batch", 7]
    names = {one.name for one in onnx.load("m.onnx").graph.initializer}
    assert {key for key in model.state_dict() if "num_batches" not in key} <= names


def trained(norm: Any) -> Any:
    """With statistics that are not those of the start."""
    for name in ("running_mean", "running_var"):
        if getattr(norm, name, None) is not None:
            getattr(norm, name).copy_from(np.random.default_rng(1).uniform(0.5, 2, norm.num_features).astype(np.float32))
    for p in norm.parameters():
        p.copy_from(np.random.default_rng(2).standard_normal(p.shape).astype(np.float32))
    return norm


LAYERS: dict[str, Callable[[], tuple[Any, tuple[int, ...]]]] = {
    "Linear": lambda: (nn.Linear(12, 5), ROW),
    "Linear of maps": lambda: (nn.Linear(6, 5, bias=False), MAP),
    "Conv2d": lambda: (nn.Conv2d(4, 6, 3, padding=1), MAP),
    "Conv2d strided": lambda: (nn.Conv2d(4, 6, (3, 2), (2, 1), (2, 0), (2, 1), groups=2, bias=False), MAP),
    "Conv2d same": lambda: (nn.Conv2d(4, 4, (2, 4), padding="same", groups=4), MAP),
    **{f"Conv2d {mode}": lambda mode=mode: (nn.Conv2d(4, 3, 3, padding=2, padding_mode=mode), MAP) for mode in ("reflect", "replicate", "circular")},
    "ConvTranspose2d": lambda: (nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), MAP),
    "ConvTranspose2d groups": lambda: (nn.ConvTranspose2d(4, 6, (3, 2), (3, 2), (0, 1), groups=2, dilation=(2, 1), bias=False), MAP),
    "ConvTranspose2d beyond": lambda: (nn.ConvTranspose2d(4, 3, 1, stride=3, output_padding=2), MAP),
    "BatchNorm1d": lambda: (trained(nn.BatchNorm1d(12)), ROW),
    "BatchNorm1d of series": lambda: (trained(nn.BatchNorm1d(5)), (5, 9)),
    "BatchNorm2d": lambda: (trained(nn.BatchNorm2d(4)), MAP),
    "BatchNorm2d plain": lambda: (trained(nn.BatchNorm2d(4, affine=False, eps=0.1)), MAP),
    "BatchNorm2d of the batch": lambda: (trained(nn.BatchNorm2d(4, track_running_stats=False)), MAP),
    "LayerNorm": lambda: (trained(nn.LayerNorm(12)), ROW),
    "LayerNorm of maps": lambda: (trained(nn.LayerNorm(MAP)), MAP),
    "LayerNorm of lines": lambda: (trained(nn.LayerNorm((7, 6), bias=False)), MAP),
    "GroupNorm": lambda: (trained(nn.GroupNorm(2, 4)), MAP),
    "GroupNorm of rows": lambda: (trained(nn.GroupNorm(3, 12, affine=False)), ROW),
    "GroupNorm of series": lambda: (trained(nn.GroupNorm(2, 4)), (4, 9)),
    "InstanceNorm2d": lambda: (trained(nn.InstanceNorm2d(4, affine=True)), MAP),
    "InstanceNorm2d tracking": lambda: (trained(nn.InstanceNorm2d(4, track_running_stats=True)), MAP),
    **{kind: lambda kind=kind: (getattr(nn, kind)(), MAP)
       for kind in ("ReLU", "SiLU", "GELU", "Sigmoid", "Tanh", "LeakyReLU", "ELU", "SELU", "Softplus")},
    "GELU tanh": lambda: (nn.GELU("tanh"), ROW),
    "ELU 0.3": lambda: (nn.ELU(0.3), ROW),
    "LeakyReLU -2": lambda: (nn.LeakyReLU(-2.0), ROW),
    "Softplus 2": lambda: (nn.Softplus(2.0, 1.0), ROW),
    "PReLU": lambda: (nn.PReLU(), MAP),
    "PReLU channels": lambda: (trained(nn.PReLU(4)), MAP),
    "PReLU rows": lambda: (trained(nn.PReLU(12)), ROW),
    "Maxout": lambda: (nn.Maxout(12, 4, 3), ROW),
    "MaxPool2d": lambda: (nn.MaxPool2d(2), MAP),
    "MaxPool2d ceil": lambda: (nn.MaxPool2d(3, 2, 1, ceil_mode=True), MAP),
    "MaxPool2d dilated": lambda: (nn.MaxPool2d((2, 3), (2, 1), (1, 1), (3, 2)), MAP),
    "MaxPool2d indices": lambda: (nn.MaxPool2d(3, 2, 1, return_indices=True), MAP),
    "AvgPool2d": lambda: (nn.AvgPool2d(3, 2, 1), MAP),
    **{f"AvgPool2d ceil {k}x{k}/{s} {counts}": lambda k=k, s=s, counts=counts: (nn.AvgPool2d(k, s, 1, True, counts), MAP)
       for k, s, counts in ((3, 2, True), (4, 3, True), (3, 2, False), (2, 2, True))},
    "AvgPool2d divisor": lambda: (nn.AvgPool2d(3, 2, 1, True, divisor_override=5), MAP),
    "AdaptiveAvgPool2d": lambda: (nn.AdaptiveAvgPool2d(1), MAP),
    "AdaptiveAvgPool2d even": lambda: (nn.AdaptiveAvgPool2d((7, 3)), MAP),
    "AdaptiveAvgPool2d uneven": lambda: (nn.AdaptiveAvgPool2d((3, 4)), MAP),
    "AdaptiveMaxPool2d": lambda: (nn.AdaptiveMaxPool2d(1), MAP),
    "AdaptiveMaxPool2d uneven": lambda: (nn.AdaptiveMaxPool2d((3, 4)), MAP),
    "MaxUnpool2d": lambda: (Unpooled(), MAP),
    "Upsample": lambda: (nn.Upsample(scale_factor=2), MAP),
    "Upsample nearest": lambda: (nn.Upsample((9, 11)), MAP),
    "Upsample by 1.4": lambda: (nn.Upsample(scale_factor=1.4), MAP),
    "Upsample bilinear": lambda: (nn.Upsample((10, 4), mode="bilinear"), MAP),
    "Upsample bilinear by 1.7": lambda: (nn.Upsample(scale_factor=1.7, mode="bilinear"), MAP),
    "Upsample bilinear corners": lambda: (nn.Upsample((10, 13), mode="bilinear", align_corners=True), MAP),
    "Upsample bilinear to one": lambda: (nn.Upsample((1, 1), mode="bilinear"), MAP),
    "Upsample bicubic": lambda: (nn.Upsample((10, 13), mode="bicubic"), MAP),
    "ZeroPad2d": lambda: (nn.ZeroPad2d((1, 2, 3, 0)), MAP),
    "ConstantPad2d": lambda: (nn.ConstantPad2d((1, 2, 0, 3), 1.5), MAP),
    "ReflectionPad2d": lambda: (nn.ReflectionPad2d((1, 2, 3, 0)), MAP),
    "ReplicationPad2d": lambda: (nn.ReplicationPad2d(2), MAP),
    "CircularPad2d": lambda: (nn.CircularPad2d((1, 2, 3, 0)), MAP),
    "SqueezeExcite": lambda: (nn.SqueezeExcite(4, 2), MAP),
    "Softmax": lambda: (nn.Softmax(1), MAP),
    "LogSoftmax": lambda: (nn.LogSoftmax(-1), ROW),
    "Flatten": lambda: (nn.Flatten(), MAP),
    "Flatten all": lambda: (nn.Flatten(0, -1), MAP),
    "Unflatten": lambda: (nn.Unflatten(1, (3, 2, 2)), ROW),
    "Identity": lambda: (nn.Identity(), MAP),
    "Dropout": lambda: (nn.Sequential(nn.Linear(12, 3), nn.Dropout(0.5)), ROW),
    "Dropout plain": lambda: (nn.Sequential(nn.Linear(12, 3), nn.Dropout(0.3, inverted=False)), ROW),
    "Dropout2d": lambda: (nn.Sequential(nn.ReLU(), nn.Dropout2d(0.5)), MAP),
    "DropConnect": lambda: (nn.DropConnect(nn.Linear(12, 3), 0.5), ROW),
    "StochasticDepth": lambda: (nn.Sequential(nn.ReLU(), nn.StochasticDepth(0.5)), MAP),
    "GaussianNoise": lambda: (nn.Sequential(nn.ReLU(), nn.GaussianNoise(0.5)), MAP),
    "Sequential": lambda: (nn.Sequential(nn.Conv2d(4, 3, 3), trained(nn.BatchNorm2d(3)), nn.SiLU(), nn.Flatten(), nn.Linear(60, 3)), MAP),
    "ModuleList": lambda: (Branches(nn.ModuleList([nn.Linear(12, 3), nn.Linear(12, 3)])), ROW),
    "ModuleDict": lambda: (Branches(nn.ModuleDict({"a": nn.Linear(12, 3), "b": nn.Linear(12, 3)}).values()), ROW),
}  # fmt: skip
NOT_LAYERS = {"Module", "Parameter", "Frozen", "Summary", "Penalty", "FractionalMaxPool2d"}  # the last one: test_what_onnx_has_not


class Unpooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Any) -> Any:
        y, where = self.pool(x)
        return self.unpool(y * 2.0, where, output_size=x.shape[2:])


class Branches(nn.Module):
    def __init__(self, branches: Any) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Any) -> Any:
        return self.branches[0](x) * ops.sigmoid(self.branches[1](x))


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    model, shape = LAYERS[name]()
    compare(model, shape, (2, 5))


def test_every_layer_is_tested() -> None:
    layers = {name for name in nn.__all__ if name[0].isupper() and "Loss" not in name}
    assert {name.split()[0] for name in LAYERS} == layers - NOT_LAYERS


@pytest.mark.parametrize("opset", [LEAST_OPSET, NEWEST])
def test_versions_of_the_operators(opset: int) -> None:
    model = nn.Sequential(
        *[LAYERS[name]()[0] for name in ("BatchNorm2d", "Upsample bilinear", "AvgPool2d ceil 3x3/2 True", "GroupNorm", "GELU")]
    )
    compare(model, MAP, opset=opset)
    assert onnx.load("m.onnx").opset_import[0].version == opset


# --- operations of one's own forward


class Own(nn.Module):
    """forward is any function."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Any) -> Any:
        return self.function(x, **self._parameters, **self._modules)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(np.random.default_rng(3).standard_normal(shape).astype(np.float32))


OWN: dict[str, tuple[Any, tuple[int, ...]]] = {
    "arithmetic": (lambda x: (2 - x) / (x * x + 1.5) - (-x) + 3 * x, MAP),
    "functions": (lambda x: ops.exp(-ops.abs(x)) + ops.log(x * x + 1) * ops.sqrt(ops.abs(x)) + (x * x) ** 1.5 + 2.0**x, MAP),
    "choices": (lambda x: ops.where(x > 0.3, x, 0.1 * x) + ops.maximum(x, -0.2) - ops.minimum(x, 0.5) + x.clip(-1, 0.4) + x.clip(min=0.1), MAP),
    "comparisons": (lambda x: ops.where(x != 0, x, 1.0) + ops.where(x <= 0.1, -x, x) + ops.where(x == 0, 1.0, x), MAP),
    "a mask as numbers": (lambda x: x * (x > 0.2) + (x < -1), MAP),
    "masks": (lambda x: (x > 0.2, x >= 0.5), MAP),
    "sums": (lambda x: (x.sum(), x.sum(1), x.mean((2, 3), keepdims=True), x.max(3), x.min((1, 2)), x.max()), MAP),
    "sums of maps": (lambda x: (x.sum(1), x.mean((2, 3), keepdims=True), x.max(3), x.min((1, 2))), MAP),
    "spread": (lambda x: (x.var((2, 3)), x.std(1, keepdims=True, correction=0), x.norm(axis=3)), MAP),
    "logsumexp": (lambda x: (ops.logsumexp(x, 1), ops.logsumexp(x, -1, keepdims=True)), MAP),
    "slices": (lambda x: (x[:, 1:], x[:, ::2, -3:, 1], x[..., None, 2:4], x[:, ::-1], x[:, :, 5:1:-2], x[:, None, 0]), MAP),
    "transpositions": (lambda x: (x.T, ops.transpose(x, (0, 2, 3, 1)), x.reshape(-1, 42).T), MAP),
    "shapes": (lambda x: ops.concat([x.reshape(-1, 12), ops.stack([x, 2 * x], 1).reshape(x.shape[0], 24)], 1), ROW),
    "several sizes of the batch": (lambda x: (x.reshape(x.shape[0] * 2, 6), x.reshape(2 * x.shape[0], 3, 2), x.reshape(1, x.shape[0], 12)), ROW),
    "take": (lambda x: (ops.take(x, [3, 0, -1], 1), ops.gather(x, 1, np.tile([[0, 5]], (x.shape[0], 1))), x[[0, 0]]), ROW),
    "pads": (lambda x: ops.pad(x, (1, 2, 0, 1), value=2.0), MAP),
    "maxout of maps": (lambda x: ops.maxout(x, 2), MAP),
    "detached": (lambda x: (x * 2).detach() + x, ROW),
    "twice": (lambda x: (x, x, x * 2), ROW),
    "a dict with the input's name": (lambda x: {"input": x * 2, "x": x}, ROW),
    "dict": (lambda x: {"logits": x * 2, "probabilities": ops.softmax(x, 1)}, ROW),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_operations(name: str) -> None:
    function, shape = OWN[name]
    fixed = name in ("sums", "take")
    run = compare(Own(function), shape, (1,) if fixed else (2, 5), dynamic_batch=not fixed)
    assert run.get_inputs()[0].shape[0] == (1 if fixed else "batch")
    if name == "dict":
        assert [one.name for one in run.get_outputs()] == ["logits", "probabilities"]


def attention(x: Any, query: Any, token: Any) -> Any:
    """With a token of its own before each sample's rows: the shape of a broadcast has the batch in it."""
    rows = x.reshape(-1, 4, 3)
    tokens = ops.broadcast_to(token.reshape(1, 1, 3), (x.shape[0], 1, 3))
    rows = ops.concat([tokens, rows], 1)
    scores = ops.softmax((rows @ query) @ ops.transpose(rows, (0, 2, 1)), -1)
    return (scores @ rows)[:, 0]


def test_parameters_and_products_of_one_s_own() -> None:
    compare(Own(attention, query=weight(3, 3), token=weight(3)), ROW)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv, self.shared = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(6, 6)

    def forward(self, x: Any) -> Any:
        y = nn.in_turn([self.conv, self.norm], x, residual=x, activation="gelu")
        return self.shared(ops.relu(self.shared(y)))


def test_names_of_nodes_and_weights() -> None:
    model = nn.Sequential(Residual(), nn.Flatten(), nn.Linear(168, 2))
    compare(model, MAP)
    graph = onnx.load("m.onnx").graph
    names = [node.name for node in graph.node]
    assert {"0.conv/Conv", "0.norm/BatchNormalization", "0.shared/Gemm", "0.shared/Gemm_2", "output"} - {"output"} <= {*names}, names
    weights = [one.name for one in graph.initializer]
    assert weights.count("0.shared.weight") == 1 and len({*weights}) == len(weights)
    assert graph.input[0].name == "input" and [one.name for one in graph.output] == ["output"]


def test_the_model_is_left_as_it_was() -> None:
    """Its mode, part by part, its statistics, and the generator: a training that exports on the way has the same bits."""
    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten())
    model[1].eval()
    before, drawn = model.state_dict(), fastnn.random.default_generator().draw
    interop.to_onnx(model, "m.onnx", MAP)
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert fastnn.random.default_generator().draw == drawn
    for name, values in model.state_dict().items():
        assert np.array_equal(values, before[name])
    first = Path("m.onnx").read_bytes()
    interop.to_onnx(model, "m.onnx", MAP)
    assert Path("m.onnx").read_bytes() == first


@pytest.mark.parametrize("gpu", GPUS)
def test_a_model_on_a_gpu(gpu: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.SiLU(), nn.Upsample((5, 4), mode="bilinear"), nn.Flatten(), nn.Linear(60, 2)
    )
    interop.to_onnx(model.to(gpu), "m.onnx", MAP)
    wanted = model.eval()(fastnn.tensor(images(3, MAP), device=gpu)).numpy()
    np.testing.assert_allclose(session().run(None, {"input": images(3, MAP)})[0], wanted, atol=1e-5)


# --- preprocessing, names


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_normalisation_in_the_graph(dtype: str) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (20, 3, 9, 9)).astype(dtype)
    normalize = data.Normalize.fit(data.ArrayDataset(raw, np.zeros(20, int)))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(196, 3))
    interop.to_onnx(model, "m.onnx", (3, 9, 9), normalize=normalize, dtype=dtype, softmax=True, classes=["a", "b", "ü"])
    run = session()
    (got,) = run.run(None, {"input": raw})
    wanted = train.Trained(model.eval(), None, normalize, {}).predict(raw)
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-6)
    about = run.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["a", "b", "ü"] and json.loads(about["normalize"]) == normalize.state()
    assert run.get_inputs()[0].type == f"tensor({'uint8' if dtype == 'uint8' else 'float'})"


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    "fit",
    [
        data.MeanImage.fit,
        partial(data.MeanImage.fit, std=True),
        data.ZCA.fit,
        partial(data.PCA.fit, components=7),
        partial(data.PCA.fit, components=7, whiten=True),
    ],
    ids=["mean image", "and deviation", "zca", "pca", "whitened"],
)
def test_preprocessing_of_every_kind_in_the_graph(fit: Callable[[data.Dataset], Preprocessing], dtype: str) -> None:
    """The file takes what the camera gives: of PCA, too, whose model takes rows."""
    raw = np.random.default_rng(0).integers(0, 256, (60, 3, 4, 5)).astype(dtype)
    normalize = fit(data.ArrayDataset(raw, np.zeros(60, int)))
    shape = normalize.output_shape((3, 4, 5))
    model = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3)).eval()
    interop.to_onnx(model, "m.onnx", shape, normalize=normalize, dtype=dtype)
    for n in (1, 20):
        (got,) = session().run(None, {"input": raw[:n]})
        np.testing.assert_allclose(got, model(normalize(raw[:n])).numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="which gives samples of shape"):
        interop.to_onnx(model, "m.onnx", (3, 4, 6), normalize=normalize)


def test_features_far_from_zero_keep_their_digits() -> None:
    x = (1e6 + np.random.default_rng(0).standard_normal((50, 12))).astype(np.float32)
    normalize = data.Normalize.fit(data.ArrayDataset(x, np.zeros(50, int)))
    model = nn.Linear(12, 3)
    interop.to_onnx(model, "m.onnx", ROW, normalize=normalize)
    (got,) = session().run(None, {"input": x})
    np.testing.assert_allclose(got, computed(model, normalize(x).numpy())[0], atol=2e-2)


def test_bytes_without_normalisation_and_a_shape_with_the_batch() -> None:
    model = Own(attention, query=weight(3, 3), token=weight(3))
    interop.to_onnx(model, "m.onnx", ROW, dtype="uint8", normalize=data.Normalize([2.0] * 12, [3.0] * 12))
    raw = np.random.default_rng(0).integers(0, 5, (7, 12)).astype(np.uint8)
    (got,) = session().run(None, {"input": raw})
    np.testing.assert_allclose(got, computed(model, (raw.astype(np.float32) - 2) / 3)[0], rtol=1e-5, atol=1e-6)


def test_the_input_itself_as_an_output() -> None:
    """It is the prepared one."""
    interop.to_onnx(Own(lambda x: (x, x * 2)), "m.onnx", ROW, normalize=data.Normalize([2.0] * 12, [4.0] * 12))
    first, second = session().run(None, {"input": images(3, ROW)})
    np.testing.assert_allclose(first, (images(3, ROW) - 2) / 4, rtol=1e-6, atol=1e-7)
    assert np.array_equal(second, 2 * first)


def test_a_model_that_was_trained_in_bfloat16_has_float32_weights() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    trainer = train.Trainer(model, fastnn.optim.Adam(model.parameters(), 1e-2), precision="bf16")
    trainer.fit(data.digits()[0].take(range(64)), epochs=1, progress=False)
    compare(model, (1, 8, 8))


# --- the command


@pytest.fixture
def saved() -> str:
    """A model of grey images, as fastnn train writes one."""
    assert main(["train", "digits", "--model", "linear", "--epochs", "1", "--out", "run"]) == 0
    return "run/model.safetensors"


def test_export_writes_a_saved_model(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the normalisation it takes what `fastnn predict` does, bytes; without it what the model takes."""
    test, known = data.digits()[1], train.load_model(saved)
    wanted = known.predict(test)
    capsys.readouterr()
    assert main(["export", saved, "raw.onnx", "--normalize", "--softmax"]) == 0
    assert "raw.onnx: " in (told := capsys.readouterr().out)
    assert "takes uint8 (batch, 1, 8, 8), raw images; gives probabilities of 10 classes" in told
    run = session("raw.onnx")
    np.testing.assert_allclose(run.run(None, {"input": test.images})[0], wanted, rtol=1e-4, atol=1e-6)
    assert json.loads(run.get_modelmeta().custom_metadata_map["classes"]) == list(map(str, range(10)))
    assert main(["export", saved, "m.onnx", "--fixed-batch", "--input-shape", "1", "8", "8", "--opset", "19"]) == 0
    assert "takes float32 (1, 1, 8, 8); gives logits of 10 classes" in capsys.readouterr().out
    assert known.normalize is not None
    (got,) = session().run(None, {"input": known.normalize(test.images[:1]).numpy()})
    np.testing.assert_allclose(np.exp(got) / np.exp(got).sum(), wanted[:1], rtol=1e-4, atol=1e-6)


def test_export_says_what_does_not_fit(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    train.save_model("own.safetensors", nn.Linear(2, 2))
    train.save_model("bare.safetensors", models.create("linear", input_shape=(2,)))
    capsys.readouterr()
    for words, said in (
        ([saved, "m.onnx", "--opset", "5"], f"{saved}: opset must lie between 18 and"),
        ([saved, "nowhere/m.onnx"], "there is no folder"),
        (["own.safetensors", "m.onnx"], "own.safetensors: says no architecture"),
        (["bare.safetensors", "m.onnx", "--normalize"], "--normalize: bare.safetensors was trained without a normalisation"),
        ([saved, "m.onnx", "--input-shape", "3", "8", "8"], f"{saved}: 1 (Linear(64->10)): got shape (2, 192)"),
    ):
        assert main(["export", *words]) == 2
        assert said in (told := capsys.readouterr().err) and told.count("\n") == 1, told


# --- what is refused


class Cube(fastnn.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.numpy() ** 3


REFUSED: dict[str, tuple[Any, str]] = {
    "random regions": (nn.Sequential(nn.ReLU(), nn.FractionalMaxPool2d(2, 3)), "FractionalMaxPool2d in 1 has no translation"),
    "random draws": (Own(lambda x: ops.dropout(x, 0.5)), "Dropout has no translation"),
    "a Function": (Own(lambda x, after: after(Cube.apply(x)), after=nn.ReLU()), "Cube has no translation"),
    "a number of the input": (Own(lambda x: x * float(x.sum())), "Mul reads a constant that is "),
    "numpy": (Own(lambda x: x + fastnn.tensor(np.abs(x.numpy()))), "Add reads a constant"),
    "a choice of Python's": (Own(lambda x: ops.exp(x) if float(x.numpy().flat[0]) > 0.5 else x * 2.0), "takes other operations"),
    "numpy alone": (Own(lambda x: fastnn.tensor(np.abs(x.numpy()))), "output does not come from the input"),
    "classes": (Own(lambda x: x.argmax(1)), "output does not come from the input"),
    "no Tensor": (Own(lambda x: 3.0), "returned 3.0; expected a Tensor"),
    "the mean of the batch": (Own(lambda x: x - x.mean(0)), "dynamic_batch=False"),
    "rows of the batch": (Own(lambda x: x[1:]), "dynamic_batch=False"),
    "a size that is no multiple of the batch's": (Own(lambda x: ops.concat([x, x[:1]])), "dynamic_batch=False"),
    "sizes beside the batch": (Own(lambda x: ops.pad(x, (x.shape[0], 0, 0, 0))), "dynamic_batch=False"),
    "bfloat16": (Own(lambda x: ops.cast(ops.cast(x, "bfloat16"), "float32")), "no translation"),
    "places of shares": (nn.AdaptiveMaxPool2d((2, 3), return_indices=True), "expected return_indices of nn.MaxPool2d"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_onnx_has_not(name: str) -> None:
    model, words = REFUSED[name]
    with pytest.raises(ValueError, match=r"^to_onnx: ") as caught:
        interop.to_onnx(model, "m.onnx", MAP)
    assert words in str(caught.value) and not Path("m.onnx").exists()


def test_arguments_that_do_not_fit() -> None:
    lenet = models.create("lenet", input_shape=(1, 28, 28))
    interop.to_onnx(lenet, "m.onnx")  # knows its shape
    with pytest.raises(ValueError, match="input_shape must be the shape of one sample, such as"):
        interop.to_onnx(nn.Linear(2, 2), "m.onnx")
    with pytest.raises(ValueError, match=r"got shape \(2, 3, 28, 28\); expected"):
        interop.to_onnx(lenet, "m.onnx", (3, 28, 28))
    with pytest.raises(ValueError, match="normalize has 3 means"):
        interop.to_onnx(lenet, "m.onnx", normalize=data.Normalize([0.0] * 3, [1.0] * 3))
    with pytest.raises(ValueError, match=r"classes has 2 names, output shape \(2, 10\); expected a name for each along axis 1"):
        interop.to_onnx(lenet, "m.onnx", classes=["a", "b"])
    with pytest.raises(TypeError, match="give the model that nn.frozen was given"):
        interop.to_onnx(nn.frozen(lenet), "m.onnx")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got a Trained; give its model, which is its attribute model"):
        interop.to_onnx(train.Trained(lenet, None, None, {}), "m.onnx")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weight is float64; expected float32, which model.float"):
        interop.to_onnx(nn.Linear(2, 2).double(), "m.onnx", (2,))
    with pytest.raises(ValueError, match="opset must lie between 18 and"):
        interop.to_onnx(lenet, "m.onnx", opset=17)


def test_more_than_the_format_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnn.interop.onnx_export._MOST", 1000)
    with pytest.raises(ValueError, match=r"m\.onnx: the weights take 1,040 bytes; an ONNX file must have less than 2 GiB"):
        interop.to_onnx(nn.Linear(25, 10), "m.onnx", (25,))


def test_a_file_that_could_not_be_written_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    interop.to_onnx(nn.Linear(2, 2), "m.onnx", (2,))
    before = Path("m.onnx").read_bytes()
    with monkeypatch.context() as patched, pytest.raises(onnx.checker.ValidationError):
        patched.setattr(Graph, "add", lambda self, kind, *inputs, **words: "none")  # a translation that is wrong: the checker sees it
        interop.to_onnx(nn.Sigmoid(), "m.onnx", (2,))
    assert Path("m.onnx").read_bytes() == before
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        interop.to_onnx(nn.Linear(2, 2), "nowhere/m.onnx", (2,))


def test_without_onnx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[onnx\]'"):
        interop.to_onnx(nn.Linear(2, 2), "m.onnx", (2,))
