"""Values that numpy or Python would take for others, in silence: True for 1, "" for nothing, a Tensor for its rows, NaN for a rate."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import data, files, models, nn, ops, optim, train

Case = tuple[Callable[[], Any], type[Exception], str]


def x(*shape: int) -> fastnn.Tensor:
    return fastnn.tensor(np.ones(shape, np.float32))


NUMBERS: dict[str, Case] = {
    "a word": (lambda: ops.elu(x(3), "3"), TypeError, "elu: alpha must be a number, got '3'"),
    "a Tensor": (lambda: ops.dropout(x(3), x(1)), TypeError, "dropout: p must be a number, got Tensor"),
    "True, a size": (lambda: ops.max_pool2d(x(1, 1, 4, 4), True), TypeError, "kernel_size: expected an integer or a pair of integers, got True"),
    "True, two sizes": (lambda: ops.conv2d(x(1, 1, 4, 4), x(1, 1, 1, 1), stride=(True, True)), TypeError, r"conv2d: stride: expected .* got \(True, True\)"),
    "True, an axis": (lambda: x(2, 3).sum(True), TypeError, "sum: axis must be an integer, several, or None, got True"),
    "True, a dim": (lambda: ops.softmax(x(2, 3), True), TypeError, "softmax: dim must be an integer, got True"),
    "True, a count": (lambda: ops.maxout(x(2, 4), True), TypeError, "maxout: pieces must be an integer, got True"),
    "True, rows": (lambda: x(2, 3).reshape(True, -1), TypeError, r"reshape: shape must be integers, got \(True, -1\)"),
    "True, a share": (lambda: ops.cross_entropy(x(2, 3), [0, 1], label_smoothing=True), TypeError, "label_smoothing must be a number"),
    "a fraction, a class": (lambda: ops.nll_loss(x(2, 3), [0, 1], ignore_index=np.float32(0)), TypeError, "ignore_index must be an integer"),
    "nan, a slope": (lambda: ops.leaky_relu(x(3), math.nan), ValueError, "leaky_relu: negative_slope must be a finite number, got nan"),
    "nan, a layer's slope": (lambda: nn.LeakyReLU(math.nan), ValueError, "LeakyReLU: negative_slope must be a finite number, got nan"),
    "nan, a margin": (lambda: nn.MultiMarginLoss(margin=math.nan), ValueError, "MultiMarginLoss: margin must be a finite number"),
    "nan, a correction": (lambda: x(4).var(correction=math.nan), ValueError, "var: correction must be a finite number, got nan"),
    "nan, a width": (lambda: ops.huber_loss(x(3), x(3), delta=math.nan), ValueError, "huber_loss: delta must be a number, got nan"),
    "one number in an array": (lambda: ops.leaky_relu(x(3), np.array([0.1])), TypeError, "leaky_relu: negative_slope must be a number, got numpy"),
    "inf, a std": (lambda: nn.GaussianNoise(math.inf), ValueError, "GaussianNoise: std must be a finite number, got inf"),
    "inf, eps": (lambda: ops.group_norm(x(2, 4, 3, 3), 2, eps=math.inf), ValueError, "group_norm: eps must be a finite number, got inf"),
    "momentum of nan": (lambda: nn.BatchNorm2d(3, momentum=math.nan), ValueError, "BatchNorm2d: momentum must be a finite number, got nan"),
    "momentum of 7": (
        lambda: ops.batch_norm(x(4, 3), x(3), x(3), training=True, momentum=7),
        ValueError,
        r"batch_norm: momentum must lie in \[0, 1\], got 7",
    ),
    "a negative divisor": (lambda: ops.avg_pool2d(x(1, 1, 4, 4), 2, divisor_override=-1), ValueError, "divisor_override must be at least 1"),
    "negative padding": (
        lambda: ops.max_unpool2d(x(1, 1, 1, 1), [[[[0]]]], 2, padding=-1),
        ValueError,
        r"max_unpool2d: padding must not be negative, got \(-1, -1\)",
    ),
    "five sizes": (
        lambda: ops.max_unpool2d(x(1, 1, 1, 1), [[[[0]]]], 2, output_size=(7, 7, 7, 2, 2)),
        ValueError,
        r"output_size must be \(H, W\) or \(1, 1, 'H', 'W'\), got \(7, 7, 7, 2, 2\)",
    ),
    "fractions of a shape": (lambda: ops.broadcast_to(x(1, 3), (2.0, 3.0)), TypeError, "broadcast_to: shape must be integers"),
    "a number that no float holds": (
        lambda: x(1) + 10**400,
        ValueError,
        "^add: b must be a number that a float can hold, got an integer of 1329 bits$",
    ),
    "on the left, too": (lambda: -(10**400) / x(1), ValueError, "^divide: a must be a number that a float can hold, got"),
    "compared with it": (lambda: x(1) < 10**400, ValueError, "^less: b must be a number that a float can hold, got"),
    "a power of it": (lambda: x(1) ** 10**400, ValueError, "^power: exponent must be a number that a float can hold, got"),
    "clipped by it": (lambda: ops.clip(x(1), 2**40, 10**400), ValueError, "^clip: max must be a number that a float can hold, got"),
    "samples without end": (lambda: nn.monte_carlo(nn.Dropout(), x(1), 2**70), ValueError, r"samples must be less than 2\*\*31"),
    "NaN among the weights": (
        lambda: nn.CrossEntropyLoss([1.0, math.nan]),
        ValueError,
        r"CrossEntropyLoss: weight must be finite, got nan at \(1,\)",
    ),
    "words for weights": (
        lambda: ops.cross_entropy(x(2, 3), [0, 1], np.array(["a", "b", "c"])),
        TypeError,
        "cross_entropy: weight must be numbers, got .* of dtype <U1",
    ),
    "NaN among probabilities": (
        lambda: ops.cross_entropy(x(1, 2), [[math.nan, 1.0]]),
        ValueError,
        r"cross_entropy: labels must be finite, got nan at \(0, 0\)",
    ),
}  # fmt: skip

THINGS: dict[str, Case] = {
    "numpy's array, handed on": (lambda: ops.flatten(np.ones((4, 3))), TypeError, "flatten: x: expected a Tensor, got numpy.ndarray"),
    "a word, handed on": (lambda: ops.dropout("x", 0.0), TypeError, "dropout: x: expected a Tensor, got 'x'"),
    "the rows of a Tensor": (lambda: ops.concat(x(4, 3)), TypeError, r"tensors must be a list of Tensors, got a Tensor; write concat\(\[x, y\]\)"),
    "a word for axes": (lambda: ops.transpose(x(2, 3), "01"), TypeError, "transpose: axes must be the dimensions in their new order, got '01'"),
    "fractions for axes": (lambda: ops.transpose(x(2, 3), np.array([1.0, 0.0])), ValueError, "transpose: axes .* are not a permutation"),
    "a set of axes": (lambda: ops.transpose(x(2, 3), {0, 1}), TypeError, r"transpose: axes must be the dimensions in their new order, got \{0, 1\}"),
    "axes beyond": (lambda: x(2, 3).transpose(2, 3), ValueError, r"transpose: axes \(2, 3\) are not a permutation of the 2 dimensions"),
    "an empty array of fractions": (lambda: x(3)[np.zeros(0)], TypeError, "the index must hold integers, got dtype float64"),
    "nothing for modules": (lambda: nn.ModuleDict(""), TypeError, "ModuleDict: modules must be a dict of modules by name, got ''"),
    "modules in no order": (lambda: nn.ModuleList({nn.ReLU(), nn.ReLU()}), TypeError, "ModuleList: modules must be several Modules"),
    "a weight that learns": (
        lambda: nn.CrossEntropyLoss(fastnn.tensor(np.ones(3), requires_grad=True)),
        ValueError,
        r"CrossEntropyLoss: weight is a constant of the loss; pass weight.detach\(\)",
    ),
    "numbers for paths": (lambda: data.ImageFiles([2, 3], [0, 1], None, data.Resize(4)), TypeError, "ImageFiles: paths must be a path, got 2"),
    "True for a class": (lambda: train.save_model("m", nn.Linear(2, 2), classes=[True, False]), TypeError, "classes must be the names .* got True"),
    "positions in no order": (
        lambda: data.ArrayDataset(np.zeros((3, 2)), [0, 1, 0]).take({0, 1}),
        TypeError,
        "take: indices must be positions or a mask, got",
    ),
    "fractions for classes": (lambda: data.k_fold([0.5, 1.5, 0.5], 2), TypeError, "k_fold: labels have dtype float64; expected integers .*whole"),
    "NaN for a class": (lambda: data.k_fold([0.0, math.nan, 0.0], 2), TypeError, "k_fold: labels have dtype float64; expected integers .*whole"),
    "objects for classes": (lambda: data.k_fold(np.array(["a", None], object), 2), TypeError, r"k_fold: .* object; .* labels.astype\(str\)"),
    "numbers for keys": (lambda: files.write("f", {}, {"a": {1: 2}}), TypeError, "files.write: a key in notes must be a str, got 1"),
    "a model that is made": (lambda: models.register("mine", nn.ReLU()), TypeError, "register: maker must be a function or a class .* got ReLU"),
    "a word for a switch": (lambda: nn.Parameter([1.0], requires_grad="no"), TypeError, "Parameter: requires_grad must be True or False, got 'no'"),
    "no batches": (lambda: optim.update_bn([], nn.BatchNorm1d(2)), ValueError, "update_bn: loader gives no batches"),
    "a length that steps do not need": (lambda: optim.schedules.cosine(0.1, 10).at(3, "a"), TypeError, "steps_per_epoch must be an integer, got 'a'"),
    "a parameter of integers": (
        lambda: nn.Parameter([1, 2], "int64"),
        TypeError,
        "only float tensors can require a gradient, got int64",
    ),
    "a maker of nothing": (
        lambda: (models.register("none", lambda **_: None), models.create("none", input_shape=(3,))),  # type: ignore[arg-type, return-value]
        TypeError,
        "models.create: what the maker of 'none' returns must be a Module, got None",
    ),
    "a network of no stages": (lambda: models.ResNet((), (), 10, 3, False), ValueError, "ResNet: 0 stages .*; expected as many, and at least 1"),
    "patches of NaN": (
        lambda: models.airbench94(width=0.1).whiten_with(np.full((2, 3, 25, 25), np.nan)),
        ValueError,
        "whiten_with: images hold numbers that are not finite",
    ),
    "a model without a name": (lambda: models.register("", nn.Linear), ValueError, "register: name is empty"),
    "images of no shape": (lambda: models.linear(3, ()), ValueError, r"linear: input_shape is empty; expected .* \(C, H, W\)"),
}  # fmt: skip

INITIALISERS: dict[str, Case] = {
    "None": (lambda: nn.init.constant_(x(3), None), TypeError, "constant_: val must be a number, got None"),
    "a word": (lambda: nn.init.constant_(x(3), "3"), TypeError, "constant_: val must be a number, got '3'"),
    "NaN": (lambda: nn.init.constant_(x(3), math.nan), ValueError, "constant_: val must be a number, got nan"),
    "a negative std": (lambda: nn.init.normal_(x(3), std=-1), ValueError, "normal_: std must not be negative, got -1"),
    "a from above b": (lambda: nn.init.uniform_(x(3), 2, 1), ValueError, "uniform_: a must not be larger than b, got a=2 and b=1"),
    "a negative gain": (lambda: nn.init.xavier_normal_(x(3, 3), -1), ValueError, "xavier_normal_: gain must not be negative, got -1"),
    "no gain": (lambda: nn.init.orthogonal_(x(3, 3), 1j), TypeError, "orthogonal_: gain must be a number, got complex"),
    "a slope that relu does not read": (
        lambda: nn.init.kaiming_normal_(x(3, 3), math.nan, nonlinearity="relu"),
        ValueError,
        "kaiming_normal_: a must be a finite number, got nan",
    ),
    "fractions in bytes": (
        lambda: nn.init.kaiming_uniform_(fastnn.tensor(np.ones((2, 2), np.uint8))),
        TypeError,
        "tensor has dtype uint8; expected float32 or float64",
    ),
    "a half in bytes": (lambda: nn.init.constant_(fastnn.tensor([1, 2]), 0.5), TypeError, "constant_: tensor has dtype int64"),
    "samples of a negative std": (lambda: fastnn.Generator(0).normal((3,), std=-1), ValueError, "Generator.normal: std must not be negative"),
    "samples from above": (lambda: fastnn.Generator(0).uniform((3,), 2, 1), ValueError, "Generator.uniform: low must not be larger than high"),
}  # fmt: skip

CASES = {
    f"{kind}, {name}": case
    for kind, cases in [("number", NUMBERS), ("thing", THINGS), ("init", INITIALISERS)]
    for name, case in cases.items()
}


@pytest.mark.parametrize("name", CASES)
def test_refusals(name: str) -> None:
    call, error, message = CASES[name]
    with pytest.raises(error) as caught:
        call()
    assert re.search(message, str(caught.value)), f"{str(caught.value)!r} does not say {message!r}"


def test_what_they_may_be_mistaken_for_is_taken() -> None:
    """numpy's numbers, a switch of numpy's, whole numbers in a tensor of integers, names of classes that are numbers."""
    assert ops.max_pool2d(x(1, 1, 4, 4), np.int64(2)).shape == (1, 1, 2, 2)
    assert ops.elu(x(3), np.float32(0.5)).shape == (3,)
    assert x(2, 3).sum(np.int32(1), np.True_).shape == (2, 1)
    assert nn.init.constant_(fastnn.tensor([1, 2]), 3).numpy().tolist() == [3, 3]
    assert data.ArrayDataset(np.zeros((2, 3)), [0, 1], range(2)).classes == ("0", "1")
    assert ops.concat((x(1, 2), x(1, 2))).shape == (2, 2) and x(3)[[]].shape == (0,)


def test_the_views_of_a_dict_are_in_order() -> None:
    net, numbers = nn.Sequential(nn.Linear(3, 2)), {"a": 0, "b": 1}
    dataset = data.ArrayDataset(np.zeros((4, 3)), [0, 1, 0, 1], classes=numbers.keys())
    assert dataset.classes == ("a", "b")
    optimizer = optim.SGD(dict(net.named_parameters()).items(), 0.1)
    assert optimizer.param_groups[0]["param_names"] == ["0.weight", "0.bias"]
    trainer = train.Trainer(net, optimizer, metrics={"accuracy": 1}.keys())
    stops = {train.EarlyStopping(2, monitor="loss"): "early"}
    assert "accuracy" in trainer.fit(dataset, 1, callbacks=stops.keys(), progress=False).rows[0]
    assert train.Trainer(net, optimizer, metrics={1: "accuracy"}.values()).metrics
    for unordered in ({"a", "b"}, frozenset("ab"), {"a": 0}):
        with pytest.raises(TypeError, match="classes must be the names of the classes"):
            data.ArrayDataset(np.zeros((2, 3)), [0, 1], classes=unordered)


@pytest.mark.parametrize("mask", [np.array([True, False, True]), fastnn.tensor(np.array([True, False, True]))], ids=["numpy", "Tensor"])
def test_masks_are_weights_of_0_and_1(mask: Any) -> None:
    logits, weights = fastnn.tensor(np.arange(6, dtype=np.float32).reshape(2, 3)), np.array([1.0, 0.0, 1.0])
    for loss in (
        lambda w: ops.cross_entropy(logits, [0, 2], w),
        lambda w: nn.CrossEntropyLoss(w)(logits, [0, 2]),
        lambda w: ops.binary_cross_entropy_with_logits(logits, np.ones((2, 3)), w),
    ):
        assert loss(mask).item() == loss(weights).item() > 0


def test_infinities_that_mean_something() -> None:
    assert nn.init.constant_(x(2), -math.inf).numpy().tolist() == [-math.inf, -math.inf]
    far = fastnn.tensor(np.array([-3.0, 2.0], np.float32), requires_grad=True)
    nn.HuberLoss(delta=math.inf, reduction="sum")(far, np.zeros(2)).backward()
    assert far.grad is not None and far.grad.numpy().tolist() == [-3, 2]
    assert nn.HuberLoss(delta=math.inf)(far, np.zeros(2)).item() == (9 + 4) / 4


@pytest.mark.parametrize(
    "labels", [np.array(list("aabbaabb")), list("aabbaabb"), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]], ids=["str", "list", "float"]
)
def test_folds_of_names_and_of_whole_floats(labels: Any) -> None:
    expected = list(data.k_fold(np.array([0, 0, 1, 1, 0, 0, 1, 1]), 2))
    for ours, same in zip(data.k_fold(labels, 2), expected, strict=True):
        assert all(map(np.array_equal, ours, same))


def test_an_array_of_rank_0_is_a_number() -> None:
    a, dataset = np.array, data.ArrayDataset(np.zeros((4, 3)), [0, 1, 0, 1])
    assert data.Loader(dataset, a(2)).batch_size == 2 and data.Resize(a(4)).size == (4, 4)
    net = nn.Sequential(nn.Linear(a(3), a(2)), nn.LeakyReLU(a(0.1)), nn.LayerNorm(2, eps=a(1e-5)))
    assert type(net[1].negative_slope) is float and "array" not in repr(net)
    trainer = train.Trainer(net, optim.SGD(net.parameters(), 0.1))
    assert len(trainer.fit(dataset, a(1), progress=False)) == 1 and type(trainer.epochs) is int  # as a checkpoint holds it
    with pytest.raises(TypeError, match=r"epochs must be a number, got numpy.ndarray; images and labels are one"):
        train.Trainer(net, optim.SGD(net.parameters(), 0.1)).fit(np.zeros((4, 3)), np.zeros(4, int))
    values = fastnn.tensor(np.array([[-1.0, 0.5, 2.0]], np.float32))
    for call, plain, boxed in (
        (ops.leaky_relu, (0.1,), (a(0.1),)),
        (ops.clip, (0.0, 1.0), (a(0.0), a(1.0))),
        (ops.power, (2,), (a(2),)),
        (ops.softmax, (1,), (a(1),)),
        (lambda *given: ops.layer_norm(*given[:2], eps=given[2]), (3, 0.5), (3, a(0.5))),
        (lambda *given: nn.Upsample(scale_factor=given[1])(given[0].reshape(1, 1, 1, 3)), (2.0,), (a(2.0),)),
    ):
        assert np.array_equal(call(values, *boxed).numpy(), call(values, *plain).numpy())
