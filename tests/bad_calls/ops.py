"""fastnn.ops: every operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn import ops

from . import Subject
from .optim import Good, constants


def of(*shape: int) -> Callable[[], fastnn.Tensor]:
    return lambda: fastnn.tensor(np.random.default_rng(0).standard_normal(shape) + 0.1, "float32", requires_grad=True)


def classes() -> np.ndarray:
    return np.array([0, 2, 1, 0])


IMAGES, ROWS = of(2, 3, 6, 6), of(4, 3)
AXIS = constants(axis=1, keepdims=True)
WINDOW = constants(kernel_size=2, stride=2, padding=0)
CONV = constants(stride=1, padding=1, dilation=1, groups=1)
STATISTICS: Good = {"running_mean": of(3), "running_var": lambda: fastnn.tensor(np.ones(3))}
BN = constants(training=True, momentum=0.1, eps=1e-5, residual=None, activation="relu")

GOOD: dict[str, Good] = {
    **{name: {"x": ROWS} for name in ("abs", "exp", "relu", "selu", "sigmoid", "silu", "tanh", "log", "sqrt")},
    **{name: {"a": ROWS, "b": of(4, 3)} for name in ("add", "divide", "multiply", "subtract", "maximum", "minimum")},
    **{name: {"a": ROWS, "b": of(4, 3)} for name in ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal")},
    **{name: {"x": ROWS, **AXIS} for name in ("max", "mean", "min", "sum", "norm")},
    **{name: {"x": ROWS, **AXIS, **constants(correction=1)} for name in ("std", "var")},
    "adaptive_avg_pool2d": {"x": IMAGES, **constants(output_size=2)},
    "adaptive_max_pool2d": {"x": IMAGES, **constants(output_size=2, return_indices=True)},
    "avg_pool2d": {"x": IMAGES, **WINDOW, **constants(ceil_mode=False, count_include_pad=True, divisor_override=None)},
    "batch_norm": {"x": IMAGES, **STATISTICS, "weight": of(3), "bias": of(3), **BN},
    "binary_cross_entropy_with_logits": {"x": ROWS, "target": lambda: np.ones((4, 3), np.float32), **constants(weight=None, pos_weight=None, reduction="mean")},
    "broadcast_to": {"x": of(1, 3), **constants(shape=(4, 3))},
    "cast": {"x": ROWS, **constants(dtype="bfloat16")},
    "clip": {"x": ROWS, **constants(min=-1.0, max=1.0)},
    "concat": {"tensors": lambda: [ROWS(), ROWS()], **constants(axis=0)},
    "conv2d": {"x": IMAGES, "weight": of(4, 3, 3, 3), "bias": of(4), **CONV, **constants(activation="relu")},
    "conv2d_batch_norm": {
        "x": IMAGES, "weight": of(3, 3, 3, 3), "bias": of(3), **STATISTICS, "gamma": of(3), "beta": of(3), **CONV,
        **constants(momentum=0.1, eps=1e-5, residual=None, activation="relu"),
    },
    "conv_transpose2d": {"x": IMAGES, "weight": of(3, 4, 3, 3), "bias": of(4), **CONV, **constants(output_padding=0)},
    "cross_entropy": {"logits": ROWS, "labels": classes, **constants(weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.1)},
    "dropout": {"x": ROWS, **constants(p=0.5, training=True, inverted=True)},
    "dropout2d": {"x": IMAGES, **constants(p=0.5, training=True, inverted=True)},
    "elu": {"x": ROWS, **constants(alpha=1.0)},
    "flatten": {"x": IMAGES, **constants(start=1, end=-1)},
    "fractional_max_pool2d": {"x": IMAGES, **constants(kernel_size=2, output_size=3, output_ratio=None, return_indices=False, regions="random")},
    "gather": {"x": ROWS, "axis": lambda: 1, "index": lambda: np.zeros((4, 1), int)},
    "gaussian_noise": {"x": ROWS, **constants(std=0.5, training=True)},
    "gelu": {"x": ROWS, **constants(approximate="tanh")},
    "group_norm": {"x": of(2, 4, 3, 3), **constants(num_groups=2, weight=None, bias=None, eps=1e-5)},
    "huber_loss": {"x": ROWS, "target": of(4, 3), **constants(delta=1.0, reduction="mean")},
    "index": {"x": ROWS, **constants(key=(0, slice(1, 2)))},
    "l1_loss": {"x": ROWS, "target": of(4, 3), **constants(reduction="mean")},
    "layer_norm": {"x": ROWS, **constants(normalized_shape=3, weight=None, bias=None, eps=1e-5)},
    "leaky_relu": {"x": ROWS, **constants(negative_slope=0.01)},
    "linear": {"x": ROWS, "weight": of(2, 3), "bias": of(2), **constants(activation="relu")},
    "log_softmax": {"x": ROWS, **constants(dim=1)},
    "logsumexp": {"x": ROWS, **constants(dim=1, keepdims=True)},
    "matmul": {"a": ROWS, "b": of(3, 2)},
    "max_pool2d": {"x": IMAGES, **WINDOW, **constants(dilation=1, ceil_mode=True, return_indices=True)},
    "max_unpool2d": {"x": of(1, 1, 2, 2), "indices": lambda: np.array([[[[0, 2], [8, 10]]]]), **WINDOW, **constants(output_size=None)},
    "maxout": {"x": of(4, 6), **constants(pieces=2)},
    "mse_loss": {"x": ROWS, "target": of(4, 3), **constants(reduction="mean")},
    "multi_margin_loss": {"scores": ROWS, "labels": classes, **constants(p=2, margin=1.0, weight=None, reduction="mean")},
    "multiclass_svm_loss": {"scores": ROWS, "labels": classes, **constants(margin=1.0, reduction="mean")},
    "nll_loss": {"log_probabilities": ROWS, "labels": classes, **constants(weight=None, ignore_index=-100, reduction="mean")},
    "pad": {"x": IMAGES, **constants(padding=1, mode="constant", value=0.0)},
    "penalty": {"weights": lambda: [ROWS()], **constants(l1=0.1, l2=0.1)},
    "power": {"x": ROWS, **constants(exponent=2.0)},
    "prelu": {"x": ROWS, "weight": of(1)},
    "reshape": {"x": ROWS, **constants(shape=(3, -1))},
    "smooth_l1_loss": {"x": ROWS, "target": of(4, 3), **constants(beta=1.0, reduction="mean")},
    "softmax": {"x": ROWS, **constants(dim=1)},
    "softplus": {"x": ROWS, **constants(beta=1.0, threshold=20.0)},
    "stack": {"tensors": lambda: [ROWS(), ROWS()], **constants(axis=0)},
    "stochastic_depth": {"x": ROWS, **constants(p=0.5, mode="row", training=True)},
    "take": {"x": ROWS, "index": lambda: np.array([0, 2]), **constants(axis=0)},
    "transpose": {"x": ROWS, **constants(axes=(1, 0))},
    "unflatten": {"x": of(4, 6), **constants(dim=1, sizes=(2, 3))},
    "upsample": {"x": IMAGES, **constants(size=None, scale_factor=2, mode="bilinear", align_corners=False, recompute_scale_factor=None)},
    "where": {"condition": lambda: np.ones((4, 3), bool), "a": ROWS, "b": of(4, 3)},
    "zero_pad2d": {"x": IMAGES, **constants(padding=(1, 1, 1, 1))},
}  # fmt: skip


def forward_and_backward(name: str) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        y = getattr(ops, name)(**arguments)
        if isinstance(y, fastnn.Tensor) and y.requires_grad and y.dtype.startswith("float"):
            y.backward(np.ones(y.shape, y.dtype))
        return y

    return call


INSIDE = {
    "conv2d_batch_norm": ("batch_norm", "conv2d"),
    "fractional_max_pool2d": ("window",),
    "conv2d": ("window",),
    "max_pool2d": ("window",),
}


def subjects() -> list[Subject]:
    return [Subject(name, forward_and_backward(name), good, INSIDE.get(name, ())) for name, good in GOOD.items()]


PLAIN = {"norm.order": "refuses everything"}
