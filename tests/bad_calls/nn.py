"""fastnn.nn: every layer and loss, made and called; initialisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import nn

from . import Subject
from .ops import IMAGES, ROWS, classes, of
from .optim import Good, constants, model

WINDOW = constants(kernel_size=2, stride=2, padding=0)
LOSS = constants(reduction="mean")

# layer: its arguments, what it is called with
LAYERS: dict[str, tuple[Good, Callable[[], Any]]] = {
    "AdaptiveAvgPool2d": (constants(output_size=2), IMAGES),
    "AdaptiveMaxPool2d": (constants(output_size=(2, None), return_indices=True), IMAGES),
    "AvgPool2d": ({**WINDOW, **constants(ceil_mode=True, count_include_pad=True, divisor_override=3)}, IMAGES),
    "BatchNorm1d": (constants(num_features=3, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, bias=True), ROWS),
    "BatchNorm2d": (constants(num_features=3, eps=1e-5, momentum=None, affine=True, track_running_stats=True, bias=True), IMAGES),
    "CircularPad2d": (constants(padding=1), IMAGES),
    "ConstantPad2d": (constants(padding=1, value=2.0), IMAGES),
    "ReflectionPad2d": (constants(padding=(1, 1, 1, 1)), IMAGES),
    "ReplicationPad2d": (constants(padding=1), IMAGES),
    "ZeroPad2d": (constants(padding=1), IMAGES),
    "Conv2d": (
        constants(in_channels=3, out_channels=4, kernel_size=3, stride=1, padding=1, dilation=1, groups=1, bias=True, padding_mode="zeros"),
        IMAGES,
    ),
    "ConvTranspose2d": (
        constants(
            in_channels=3,
            out_channels=4,
            kernel_size=3,
            stride=2,
            padding=1,
            output_padding=1,
            groups=1,
            bias=True,
            dilation=1,
            padding_mode="zeros",
        ),
        IMAGES,
    ),
    "DropConnect": ({"layer": lambda: nn.Linear(3, 2), **constants(p=0.5, inverted=True)}, ROWS),
    "Dropout": (constants(p=0.5, inplace=False, inverted=True), ROWS),
    "Dropout2d": (constants(p=0.5, inplace=False, inverted=True), IMAGES),
    "ELU": (constants(alpha=1.0, inplace=False), ROWS),
    "Flatten": (constants(start_dim=1, end_dim=-1), IMAGES),
    "FractionalMaxPool2d": (constants(kernel_size=2, output_size=3, output_ratio=None, return_indices=False, regions="random"), IMAGES),
    "GELU": (constants(approximate="tanh"), ROWS),
    "GaussianNoise": (constants(std=0.5), ROWS),
    "GroupNorm": (constants(num_groups=3, num_channels=3, eps=1e-5, affine=True, bias=True), IMAGES),
    "Identity": ({}, ROWS),
    "InstanceNorm2d": (constants(num_features=3, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, bias=True), IMAGES),
    "LayerNorm": (constants(normalized_shape=3, eps=1e-5, elementwise_affine=True, bias=True), ROWS),
    "LeakyReLU": (constants(negative_slope=0.1, inplace=False), ROWS),
    "Linear": (constants(in_features=3, out_features=2, bias=True), ROWS),
    "LogSoftmax": (constants(dim=1), ROWS),
    "MaxPool2d": ({**WINDOW, **constants(dilation=1, return_indices=False, ceil_mode=True)}, IMAGES),
    "Maxout": (constants(in_features=3, out_features=2, pieces=2, bias=True), ROWS),
    "PReLU": (constants(num_parameters=1, init=0.25), ROWS),
    "ReLU": (constants(inplace=False), ROWS),
    "SELU": (constants(inplace=False), ROWS),
    "SiLU": (constants(inplace=False), ROWS),
    "Sigmoid": ({}, ROWS),
    "Softmax": (constants(dim=1), ROWS),
    "Softplus": (constants(beta=1.0, threshold=20.0), ROWS),
    "SqueezeExcite": (constants(channels=3, squeeze_channels=2), IMAGES),
    "StochasticDepth": (constants(p=0.5, mode="row"), ROWS),
    "Tanh": ({}, ROWS),
    "Unflatten": (constants(dim=1, unflattened_size=(3, 1)), ROWS),
    "Upsample": (constants(size=None, scale_factor=2, mode="bilinear", align_corners=False, recompute_scale_factor=None), IMAGES),
}

LOSSES: dict[str, tuple[Good, Callable[[], Any]]] = {
    "CrossEntropyLoss": ({**LOSS, **constants(weight=[1.0, 2.0, 3.0], ignore_index=-100, label_smoothing=0.1)}, classes),
    "NLLLoss": ({**LOSS, **constants(weight=[1.0, 2.0, 3.0], ignore_index=-100)}, classes),
    "MulticlassSVMLoss": ({**LOSS, **constants(margin=1.0)}, classes),
    "MultiMarginLoss": ({**LOSS, **constants(p=2, margin=1.0, weight=[1.0, 2.0, 3.0])}, classes),
    "MSELoss": (LOSS, of(4, 3)),
    "L1Loss": (LOSS, of(4, 3)),
    "SmoothL1Loss": ({**LOSS, **constants(beta=1.0)}, of(4, 3)),
    "HuberLoss": ({**LOSS, **constants(delta=1.0)}, of(4, 3)),
    "BCEWithLogitsLoss": ({**LOSS, **constants(weight=[1.0, 2.0, 3.0], pos_weight=[1.0, 2.0, 3.0])}, lambda: np.ones((4, 3), np.float32)),
}

INITIALISERS: dict[str, Good] = {
    "constant_": constants(val=0.5),
    "dirac_": constants(groups=1),
    "eye_": {},
    "kaiming_normal_": constants(a=0.1, mode="fan_out", nonlinearity="relu"),
    "kaiming_uniform_": constants(a=0.1, mode="fan_in", nonlinearity="leaky_relu"),
    "normal_": constants(mean=0.0, std=0.1),
    "ones_": {},
    "orthogonal_": constants(gain=1.0),
    "uniform_": constants(a=-1.0, b=1.0),
    "xavier_normal_": constants(gain=1.0),
    "xavier_uniform_": constants(gain=1.0),
    "zeros_": {},
}


def layer(name: str) -> Callable[..., Any]:
    def call(x: Any, **arguments: Any) -> Any:
        made = getattr(nn, name)(**arguments)
        repr(made)
        return made(x)

    return call


def loss(name: str) -> Callable[..., Any]:
    return lambda x, target, **arguments: getattr(nn, name)(**arguments)(x, target)


def noisy() -> nn.Sequential:
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))


def named() -> nn.ModuleDict:
    return nn.ModuleDict({"a": nn.Linear(3, 2)})


def weight(name: str) -> Callable[[], Any]:
    return of(4, 3, 3, 3) if name == "dirac_" else of(4, 3)


def subjects() -> list[Subject]:
    inside = ("Linear", "Conv2d", "conv2d", "adaptive_avg_pool2d", "linear", "batch_norm", "cross_entropy")
    looked: Good = {"model": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), **constants(input_shape=(3, 6, 6))}
    two: Good = {"modules": lambda: nn.Linear(3, 3), "last": nn.ReLU}
    place = constants(index=1)
    return [
        *(Subject(name, layer(name), {"x": x, **good}, ("a Tensor", *inside)) for name, (good, x) in LAYERS.items()),
        *(Subject(name, loss(name), {"x": ROWS, "target": target, **good}, ("labels", "logits", "scores")) for name, (good, target) in LOSSES.items()),
        *(Subject(name, getattr(nn.init, name), {"tensor": weight(name), **good}) for name, good in INITIALISERS.items()),
        Subject("Parameter", nn.Parameter, {"values": lambda: np.ones(3), **constants(dtype="float32", requires_grad=True)}, ("tensor", "values of dtype")),
        Subject("Penalty", lambda **a: nn.Penalty(**a)(), {"model": model, **constants(l1=0.1, l2=0.1)}, ("penalty",)),
        Subject("depth_rates", nn.depth_rates, constants(blocks=3, p=0.5)),
        Subject("monte_carlo", nn.monte_carlo, {"model": noisy, "x": of(4, 3), **constants(samples=2, activation=None)}, ("Linear", "a Tensor")),
        Subject("summary", lambda **a: str(nn.summary(**a)), looked, ("Conv2d",)),
        Subject("frozen", lambda model, x, **a: nn.frozen(model, **a)(x), {"model": noisy, "x": of(4, 3), **constants(replay="auto")}, ("Linear",)),
        Subject("Sequential", lambda modules, last: nn.Sequential(modules, last)(of(4, 3)()), two, ("Linear", "Module")),
        Subject("in_turn", nn.in_turn, {"modules": lambda: [nn.Linear(3, 3), nn.ReLU()], "x": ROWS}, ("Linear", "Module")),
        Subject("ModuleList", nn.ModuleList, {"modules": lambda: [nn.ReLU()]}, ("Module",)),
        Subject("ModuleDict", nn.ModuleDict, {"modules": lambda: {"a": nn.ReLU()}}, ("Module",)),
        Subject("ModuleDict.update", lambda modules: named().update(modules), {"modules": lambda: {"a": nn.ReLU()}}),
        Subject("ModuleDict.__getitem__", lambda name: named()[name], constants(name="a"), kinds=(KeyError,)),
        Subject("ModuleDict.__setitem__", lambda name, module: named().__setitem__(name, module), {"name": lambda: "a", "module": nn.ReLU}, kinds=(KeyError,)),
        Subject("ModuleDict.__delitem__", lambda name: named().__delitem__(name), constants(name="a"), kinds=(KeyError,)),
        *(Subject(f"_Numbered.{name}", lambda name=name, **a: getattr(noisy(), name)(**a), good, ("Sequential",))
          for name, good in {"__getitem__": place, "__delitem__": place, "__setitem__": {**place, "module": nn.ReLU}, "append": {"module": nn.ReLU}}.items()),
        Subject("calculate_gain", nn.init.calculate_gain, constants(nonlinearity="leaky_relu", param=0.1)),
    ]  # fmt: skip


PLAIN = {
    "MaxUnpool2d": "ops.max_unpool2d",
    "Frozen": "what frozen returns",
    "Identity": "takes anything, as PyTorch's",
    "Module": "among the bad calls of fastnn",
    "Tensor": "among the bad calls of fastnn",
    "ModuleDict.__contains__": "anything may be asked for",
    "Conv2d.placed": "called by the layer",
    "Loss.count": "called by the Trainer",
    "Summary": "a record",
    "dirac_values": "called by dirac_",
    "fans": "called by the initialisers",
    "uniform_values": "called by the layers",
}
