"""Layers and operations with what they cannot take: the text names the layer or the operation, the argument, and what would be right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import Case, check
from torch_twins import normal

import fastnn
from fastnn import data, nn, ops, train


def x(*shape: int, dtype: str = "float32") -> fastnn.Tensor:
    return fastnn.tensor(normal(0, *shape), dtype)


def labels(*values: int) -> np.ndarray:
    return np.array(values)


LAYERS: dict[str, Case] = {
    "conv, channels": (
        lambda: nn.Conv2d(3, 8, 3)(x(2, 4, 8, 8)),
        ValueError,
        r"Conv2d\(3->8, 3x3\): got shape \(2, 4, 8, 8\); expected \(N, C, H, W\) with C = 3",
    ),
    "conv, rank": (
        lambda: nn.Conv2d(3, 8, 3)(x(3, 8, 8)),
        ValueError,
        r"Conv2d\(3->8, 3x3\): got shape \(3, 8, 8\); expected \(N, C, H, W\)",
    ),
    "conv, integers": (
        lambda: nn.Conv2d(3, 8, 3)(fastnn.tensor(np.zeros((2, 3, 8, 8), np.uint8))),
        TypeError,
        "x has dtype uint8; expected float32 or float64",
    ),
    "conv, double": (
        lambda: nn.Conv2d(3, 8, 3)(x(2, 3, 8, 8, dtype="float64")),
        TypeError,
        "conv2d: x has dtype float64, weight has dtype float32, .*expected the same for all",
    ),
    "conv, numpy": (
        lambda: nn.Conv2d(3, 8, 3)(normal(0, 2, 3, 8, 8)),
        TypeError,
        r"Conv2d.*: expected a Tensor, got numpy.ndarray; fastnn.tensor\(array\) makes one",
    ),
    "conv, torch": (
        lambda: nn.Conv2d(3, 8, 3)(torch.zeros(2, 3, 8, 8)),
        TypeError,
        r"expected a Tensor, got torch.Tensor; fastnn.tensor\(array\)",
    ),
    "conv, small map": (
        lambda: nn.Conv2d(3, 8, 5)(x(2, 3, 4, 8)),
        ValueError,
        r"window of height 5 does not fit into 4 \+ 0 \+ 0 padding = 4; pad more or use a smaller window",
    ),
    "conv, dilated": (
        lambda: nn.Conv2d(3, 8, 3, dilation=4, padding=1)(x(2, 3, 9, 6)),
        ValueError,
        r"window of width 9 does not fit into 6 \+ 1 \+ 1",
    ),
    "conv, groups": (lambda: nn.Conv2d(6, 8, 3, groups=4), ValueError, "groups = 4 must divide both in_channels = 6 and out_channels = 8"),
    "conv, no groups": (lambda: nn.Conv2d(6, 8, 3, groups=0), ValueError, "groups = 0 must divide"),
    "conv, stride of 2**62": (
        lambda: nn.Conv2d(1, 1, 1, stride=2**62, padding=2**61)(x(1, 1, 4, 4)),
        ValueError,
        r"conv2d: stride must be less than 2\*\*31, got \(4611686018427387904, ",
    ),
    "conv, dilation of 2**62": (
        lambda: nn.Conv2d(1, 1, 3, dilation=2**62, padding=2**61)(x(1, 1, 4, 4)),
        ValueError,
        r"conv2d: dilation must be less than 2\*\*31, got ",
    ),
    "pool, stride of 2**62": (
        lambda: nn.MaxPool2d(2, 2**62)(x(1, 1, 4, 4)),
        ValueError,
        r"max_pool2d: stride must be less than 2\*\*31, got ",
    ),
    "conv, stride": (lambda: nn.Conv2d(3, 8, 3, stride=0)(x(2, 3, 8, 8)), ValueError, r"stride must be at least 1, got \(0, 0\)"),
    "conv, padding": (lambda: nn.Conv2d(3, 8, 3, padding=-1)(x(2, 3, 8, 8)), ValueError, r"padding must not be negative, got \(-1, -1\)"),
    "conv, padding word": (
        lambda: nn.Conv2d(3, 8, 3, padding="full")(x(2, 3, 8, 8)),
        ValueError,
        'padding must be an int, a pair, "same" or "valid", got \'full\'',
    ),
    "conv, same with stride": (
        lambda: nn.Conv2d(3, 8, 3, stride=2, padding="same")(x(2, 3, 8, 8)),
        ValueError,
        r'"same" needs stride 1, got \(2, 2\)',
    ),
    "conv, triple": (lambda: nn.Conv2d(3, 8, (3, 3, 3)), TypeError, r"kernel_size must be an int or a pair of ints, got \(3, 3, 3\)"),
    "conv, fraction": (lambda: nn.Conv2d(3, 8, 2.5), TypeError, "kernel_size must be an int or a pair of ints, got 2.5"),
    "linear, more weights than any memory holds": (
        lambda: nn.Linear(2**40, 2**40),
        fastnn.OutOfMemoryError,
        r"^shape \(1099511627776, 1099511627776\) is larger than any memory",
    ),
    "conv, more weights than any memory holds": (
        lambda: nn.Conv2d(2**31, 2**31, 2**15),
        fastnn.OutOfMemoryError,
        r"^shape \(2147483648, 2147483648, 32768, 32768\) is larger than any memory",
    ),
    "linear, features": (lambda: nn.Linear(5, 3)(x(2, 4)), ValueError, r"Linear\(5->3\): got shape \(2, 4\); expected \(..., 5\)"),
    "linear, not flat": (lambda: nn.Linear(60, 3)(x(2, 3, 4, 5)), ValueError, r"expected \(..., 60\); Flatten would give 60 features"),
    "linear, scalar": (lambda: nn.Linear(5, 3)(x()), ValueError, r"got shape \(\); expected \(..., 5\)"),
    "linear, integers": (
        lambda: nn.Linear(5, 3)(fastnn.tensor(np.zeros((2, 5), int))),
        TypeError,
        r"Linear\(5->3\): linear: x has dtype int64; expected float32 or float64",
    ),
    "linear, numpy": (
        lambda: nn.Linear(5, 3)(normal(0, 2, 5)),
        TypeError,
        r"Linear\(5->3\): linear: x: expected a Tensor, got numpy.ndarray",
    ),
    "bn, channels": (
        lambda: nn.BatchNorm2d(3)(x(2, 4, 5, 5)),
        ValueError,
        r"BatchNorm2d\(3, .*got shape \(2, 4, 5, 5\); expected \(N, C, H, W\) with C = 3",
    ),
    "bn, rank": (lambda: nn.BatchNorm1d(3)(x(2, 3, 5, 5)), ValueError, r"expected \(N, C\) or \(N, C, L\) with C = 3"),
    "bn, one value": (
        lambda: nn.BatchNorm2d(3)(x(1, 3, 1, 1)),
        ValueError,
        r"more than 1 value per channel, got input \(1, 3, 1, 1\); use a larger batch or eval\(\)",
    ),
    "bn, residual": (
        lambda: nn.BatchNorm2d(3)(x(2, 3, 4, 4), x(2, 3, 4, 5)),
        ValueError,
        r"residual has shape \(2, 3, 4, 5\); expected \(2, 3, 4, 4\)",
    ),
    "bn, activation": (
        lambda: nn.BatchNorm2d(3)(x(2, 3, 4, 4), None, "tanh"),
        ValueError,
        "activation 'tanh' is not one of none, relu, silu",
    ),
    "bn, no statistics": (lambda: ops.batch_norm(x(2, 3, 4, 4), None, None), ValueError, "evaluation needs running statistics"),
    "pool, rank": (lambda: nn.MaxPool2d(2)(x(3, 8, 8)), ValueError, r"MaxPool2d\(2x2, stride 2\): .*shape \(N, C, H, W\), got \(3, 8, 8\)"),
    "pool, small map": (lambda: nn.MaxPool2d(3)(x(2, 3, 2, 8)), ValueError, "window of height 3 does not fit into 2"),
    "pool, padding": (
        lambda: nn.MaxPool2d(2, padding=2)(x(2, 3, 8, 8)),
        ValueError,
        r"padding \(2, 2\) must be at most half of kernel_size \(2, 2\)",
    ),
    "pool, window": (
        lambda: nn.MaxPool2d((257, 1))(x(1, 1, 300, 20)),
        ValueError,
        r"max_pool2d: a window of 257 x 1 exceeds 256 rows or columns; 256 x 256 is the largest",
    ),
    "pool, window with indices": (
        lambda: nn.MaxPool2d(17, return_indices=True)(x(1, 1, 20, 20)),
        ValueError,
        r"MaxPool2d\(17x17, stride 17\): max_pool2d: a window of 17 x 17 = 289 exceeds 256",
    ),
    "pool, dilation": (lambda: nn.MaxPool2d(3, dilation=0), ValueError, r"MaxPool2d: dilation must be at least 1, got \(0, 0\)"),
    "pool, dilated": (lambda: nn.MaxPool2d(3, 1, 0, 4)(x(1, 1, 8, 9)), ValueError, "window of height 9 does not fit into 8"),
    "bn, residual of rank 3": (
        lambda: nn.BatchNorm1d(3)(x(2, 3, 5), x(2, 3, 1)),
        ValueError,
        r"expected \(N, C\) or \(N, C, L\) with C = 3 and a residual of its shape, got \(2, 3, 1\)",
    ),
    "unpool, rank": (lambda: nn.MaxUnpool2d(2)(x(1, 2, 2), labels(0)), ValueError, r"MaxUnpool2d.*shape \(N, C, P, Q\), got \(1, 2, 2\)"),
    "unpool, floats": (lambda: nn.MaxUnpool2d(2)(x(1, 1, 1, 1), x(1, 1, 1, 1)), TypeError, "max_unpool2d: the index must hold integers"),
    "unpool, integers": (
        lambda: ops.max_unpool2d(fastnn.tensor([[[[1]]]]), [[[[0]]]], 2),
        TypeError,
        "^max_unpool2d: x has dtype int64; expected float32 or float64; fastnn.tensor",
    ),
    "unpool, shape": (
        lambda: nn.MaxUnpool2d(2)(x(1, 1, 2, 2), np.zeros((1, 1, 2, 1), int)),
        ValueError,
        r"indices have shape \(1, 1, 2, 1\), the input \(1, 1, 2, 2\)",
    ),
    "unpool, beyond": (
        lambda: nn.MaxUnpool2d(2)(x(1, 1, 1, 1), np.full((1, 1, 1, 1), 4)),
        IndexError,
        r"max_unpool2d: index 4 at \(0, 0, 0, 0\) lies outside of the axis, which has 4 elements",
    ),
    "unpool, size": (
        lambda: nn.MaxUnpool2d(2)(x(1, 1, 2, 2), np.zeros((1, 1, 2, 2), int), output_size=(6, 4)),
        ValueError,
        r"output_size \(6, 4\) is further than stride \(2, 2\) from \(4, 4\)",
    ),
    "transposed, mode": (lambda: nn.ConvTranspose2d(2, 3, 3, padding_mode="reflect"), ValueError, "padding_mode must be zeros"),
    "transposed, size": (
        lambda: nn.ConvTranspose2d(2, 3, 3, 2)(x(1, 2, 4, 4), output_size=(11, 9)),
        ValueError,
        r"ConvTranspose2d.*output_size \(11, 9\) must lie less than stride \(2, 2\) above \(9, 9\) for input \(1, 2, 4, 4\)",
    ),
    "transposed, one side": (
        lambda: nn.ConvTranspose2d(2, 3, 3, 2)(x(1, 2, 4, 4), output_size=9),  # type: ignore[arg-type]
        TypeError,
        r"conv_transpose2d: output_size must be two integers \(P, Q\), got 9$",
    ),
    "transposed, fractions": (
        lambda: nn.ConvTranspose2d(2, 3, 3, 2)(x(1, 2, 4, 4), output_size=(9.0, 9.0)),  # type: ignore[arg-type]
        TypeError,
        "conv_transpose2d: output_size must be an integer, got 9.0",
    ),
    "transposed, output padding": (
        lambda: nn.ConvTranspose2d(2, 3, 3, 2, output_padding=3, dilation=3)(x(1, 2, 4, 4)),
        ValueError,
        r"output_padding \(3, 3\) must be smaller than stride \(2, 2\) or dilation \(3, 3\)",
    ),
    "conv, padding mode": (
        lambda: nn.Conv2d(2, 3, 3, padding_mode="mirror"),
        ValueError,
        "Conv2d: padding_mode must be zeros, reflect, repl",
    ),
    "conv, reflected too far": (
        lambda: nn.Conv2d(2, 3, 9, padding=4, padding_mode="reflect")(x(1, 2, 4, 8)),
        ValueError,
        r"Conv2d\(2->3, 9x9, padding 4, reflect\): pad: 'reflect' can add at most 3 on each side of 4 rows, got \(4, 4, 4, 4\)",
    ),
    "pad, mode": (
        lambda: ops.pad(x(1, 2, 3, 3), 1, "mirror"),
        ValueError,
        "pad: mode must be one of constant, reflect, replicate, circular",
    ),
    "pad, rank": (lambda: ops.pad(x(2, 3, 3), 1), ValueError, r"pad: expected a Tensor of shape \(N, C, H, W\), got \(2, 3, 3\)"),
    "pad, numpy": (lambda: ops.pad(normal(0, 1, 2, 3, 3), 1), TypeError, "pad: x: expected a Tensor, got numpy.ndarray"),
    "pad, value": (
        lambda: ops.pad(x(1, 2, 3, 3), 1, "reflect", 2.0),
        ValueError,
        "pad: value belongs to mode constant, got 2.0 with 'reflect'",
    ),
    "pad, fraction": (lambda: nn.ReflectionPad2d(1.5), TypeError, r"ReflectionPad2d: padding must be an int or \(left, .*got 1.5"),
    "pad, circular": (lambda: nn.CircularPad2d((0, 4, 0, 0))(x(1, 1, 3, 3)), ValueError, "can add at most 3 on each side of 3 columns"),
    "unflatten": (lambda: nn.Unflatten(1, (2, 4))(x(3, 6)), ValueError, r"Unflatten.*dimension 1 of \(3, 6\) cannot become \(2, 4\)"),
    "unflatten, dimension": (lambda: nn.Unflatten(2, (2, 3))(x(3, 6)), ValueError, r"dimension 2 does not exist in shape \(3, 6\)"),
    "upsample, recomputed": (
        lambda: nn.Upsample(4, recompute_scale_factor=True),
        ValueError,
        "Upsample: recompute_scale_factor belongs to scale_factor",
    ),
    "upsample, empty": (
        lambda: nn.Upsample(4, mode="bicubic")(x(1, 2, 0, 3)),
        ValueError,
        r"upsample2d: input \(1, 2, 0, 3\) has no pixels",
    ),
    "transposed, bias of rank 2": (
        lambda: ops.conv_transpose2d(x(1, 2, 4, 4), x(2, 3, 2, 2), x(3, 1)),
        ValueError,
        r"conv_transpose2d: bias has shape \(3, 1\); expected \(3,\), one for each output channel",
    ),
    "transposed, bias": (lambda: ops.conv_transpose2d(x(1, 2, 4, 4), x(2, 3, 2, 2), x(2)), ValueError, r"bias has shape \(2,\); expected"),
    "transposed, no groups": (
        lambda: ops.conv_transpose2d(x(1, 2, 4, 4), x(2, 3, 2, 2), groups=0),
        ValueError,
        "conv_transpose2d: groups = 0 must divide the 2 input channels",
    ),
    "transposed, groups": (
        lambda: ops.conv_transpose2d(x(1, 2, 4, 4), x(2, 3, 2, 2), groups=-1),
        ValueError,
        "conv_transpose2d: groups = -1 must divide the 2 input channels",
    ),
    "upsample, triple": (
        lambda: ops.upsample(x(1, 1, 2, 2), scale_factor=(2, 2, 2)),
        TypeError,
        r"upsample: scale_factor must be a number or a pair of numbers, got \(2, 2, 2\)",
    ),
    "upsample, word": (lambda: ops.upsample(x(1, 1, 2, 2), scale_factor="2"), TypeError, "upsample: scale_factor must be a number"),
    "upsample, nan": (
        lambda: ops.upsample(x(1, 1, 2, 2), scale_factor=float("nan")),
        ValueError,
        "upsample: scale_factor must be positive and finite, got nan",
    ),
    "upsample, infinite": (
        lambda: ops.upsample(x(1, 1, 2, 2), scale_factor=(1, float("inf"))),
        ValueError,
        "upsample: scale_factor must be positive and finite",
    ),
    "conv, made with a padding word": (lambda: nn.Conv2d(3, 3, 3, padding="foo"), ValueError, "Conv2d: padding must be an int, a pair"),
    "conv, made same with stride": (lambda: nn.Conv2d(3, 3, 3, 2, "same"), ValueError, 'Conv2d: padding "same" needs stride 1'),
    "conv, made without stride": (lambda: nn.Conv2d(3, 3, 3, 0), ValueError, r"Conv2d: stride must be at least 1, got \(0, 0\)"),
    "conv, made without window": (lambda: nn.Conv2d(3, 3, 0), ValueError, r"Conv2d: kernel_size must be at least 1, got \(0, 0\)"),
    "conv, out_channels": (lambda: nn.Conv2d(3, -3, 3), ValueError, "Conv2d: out_channels must be at least 1, got -3"),
    "transposed, made": (
        lambda: nn.ConvTranspose2d(3, 3, (3, 0)),
        ValueError,
        r"ConvTranspose2d: kernel_size must be at least 1, got \(3, 0\)",
    ),
    "linear, in_features": (lambda: nn.Linear(-1, 3), ValueError, "Linear: in_features must be at least 1, got -1"),
    "linear, fraction": (lambda: nn.Linear(2.5, 3), TypeError, "Linear: in_features must be an integer, got 2.5"),
    "maxout, out_features": (lambda: nn.Maxout(2, -1), ValueError, "Maxout: out_features must be at least 1, got -1"),
    "maxout, pieces": (lambda: ops.maxout(x(2, 4), 2.0), TypeError, "maxout: pieces must be an integer, got 2.0"),
    "upsample, made with a mode": (lambda: nn.Upsample(scale_factor=2, mode="trilinear"), ValueError, "Upsample: mode must be"),
    "upsample, made with corners": (
        lambda: nn.Upsample(scale_factor=2, align_corners=True),
        ValueError,
        "Upsample: align_corners is an option of bilinear",
    ),
    "upsample, made with a factor": (lambda: nn.Upsample(scale_factor=-1), ValueError, "Upsample: scale_factor must be positive"),
    "pad, made": (lambda: nn.ZeroPad2d(-1), ValueError, "ZeroPad2d: padding must not be negative, got -1"),
    "pad, made of two": (lambda: nn.ZeroPad2d((1, 2)), ValueError, r"ZeroPad2d: padding must be an int or \(left, right, top, bottom\)"),
    "pad, number": (
        lambda: ops.zero_pad2d(x(1, 1, 2, 2), 3),
        TypeError,
        r"zero_pad2d: padding must be \(left, right, top, bottom\), got 3",
    ),
    "average, made": (lambda: nn.AvgPool2d(2, divisor_override=0), ValueError, "AvgPool2d: divisor_override must not be 0"),
    "fractional, made": (
        lambda: nn.FractionalMaxPool2d(2, output_ratio=2),
        ValueError,
        "FractionalMaxPool2d: output_ratio must lie between 0 and 1, got 2",
    ),
    "prelu, made": (lambda: nn.PReLU(0), ValueError, "PReLU: num_parameters must be at least 1, got 0"),
    "bn, made": (lambda: nn.BatchNorm2d(3, eps=-1), ValueError, "BatchNorm2d: eps must not be negative, got -1"),
    "group norm, made": (lambda: nn.GroupNorm(2, 4, eps=-1), ValueError, "GroupNorm: eps must not be negative, got -1"),
    "instance norm, double": (
        lambda: nn.InstanceNorm2d(3, track_running_stats=True)(x(2, 3, 4, 4, dtype="float64")),
        TypeError,
        r"InstanceNorm2d.*: x has dtype float64, running_mean has dtype float32; expected the same for both; .*model.double\(\) a model",
    ),
    "instance norm, integers": (
        lambda: nn.InstanceNorm2d(3, track_running_stats=True)(fastnn.tensor(np.ones((2, 3, 4, 4), int))),
        TypeError,
        r"InstanceNorm2d.*: x has dtype int64, running_mean has dtype float32; .*fastnn.tensor\(x, 'float32'\) makes one",
    ),
    "instance norm, made": (lambda: nn.InstanceNorm2d(-1), ValueError, "InstanceNorm2d: num_features must be at least 1, got -1"),
    "conv, fraction of groups": (lambda: nn.Conv2d(4, 4, 3, groups=2.0), TypeError, "Conv2d: groups must be an integer, got 2.0"),
    "depth rates": (lambda: nn.depth_rates(-2), ValueError, "depth_rates: blocks must lie between 0 and 1048575, got -2"),
    "linear, weight": (lambda: ops.linear(x(2, 3), x(3)), ValueError, r"linear: weight must have shape \(out, in\), got \(3,\)"),
    "penalty, integers": (
        lambda: ops.penalty([x(2), fastnn.tensor([1, 2])], l2=1),
        TypeError,
        r"^penalty: weights\[1\] has dtype int64; expected float32 or float64; fastnn.tensor",
    ),
    "penalty, two types": (
        lambda: nn.Penalty(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2).double()), l2=1)(),
        TypeError,
        r"penalty: weights\[0\] has dtype float32, weights\[2\] has dtype float64; expected the same for all; .*model.double\(\) a model",
    ),
    "penalty, tensor": (lambda: ops.penalty(x(2, 3), l2=1), TypeError, "penalty: weights must be a list of Tensors"),
    "clip, tensor": (lambda: ops.clip(x(3), x(3)), TypeError, "clip: min must be a number or None, got Tensor"),
    "stack, number": (lambda: ops.stack([x(3), 3]), TypeError, "stack: expected Tensors, got 3; fastnn.tensor"),
    "concat, axis": (lambda: ops.concat([x(3)], axis=None), TypeError, "concat: axis must be an integer, got None"),
    "softmax, dim": (lambda: ops.softmax(x(3), dim=None), TypeError, "softmax: dim must be an integer, got None"),
    "sum, axis": (lambda: ops.sum(x(3), axis="a"), TypeError, "sum: axis must be an integer, several, or None, got 'a'"),
    "power, base": (lambda: (-2) ** x(3), ValueError, "power: the base of a Tensor of exponents must be a positive, finite number, got -2"),
    "power, base without end": (lambda: np.inf ** x(3), ValueError, "power: .* must be a positive, finite number, got inf"),
    "power, a huge integer": (
        lambda: ops.dropout(x(3), 10**400),
        ValueError,
        r"dropout: p must lie in \[0, 1\], got an integer of 1329 bits$",
    ),
    "reshape, a huge size": (
        lambda: x(3).reshape(10**5000),
        ValueError,
        "reshape: sizes must be less than 2..63, got .*an integer of 16610 bits",
    ),
    "conv, a huge pair": (
        lambda: nn.Conv2d(1, 2, (10**5000, 3)),
        ValueError,
        "Conv2d: kernel_size .* got a tuple of an integer of 16610 bits, 3",
    ),
    "index, huge": (lambda: x(3)[10**5000], IndexError, "index an integer of 16610 bits is out of bounds for dimension 0 of size 3"),
    "reshape, a set": (lambda: x(3).reshape({3, 1}), TypeError, "reshape: shape must be integers, got {1, 3}"),
    "clip, nan": (lambda: x(3).clip(np.nan, 1), ValueError, "clip: min must be a number or None, got nan, which bounds nothing"),
    "copy_from, bytes": (
        lambda: fastnn.tensor([1, 2], "uint8").copy_from([1, 300]),
        ValueError,
        r"copy_from: 300 at \(1,\) is no uint8; expected 0 to 255",
    ),
    "copy_from, fractions": (
        lambda: fastnn.tensor([1, 2]).copy_from([1.5, 2]),
        TypeError,
        "copy_from: got float64; expected integers, of which this Tensor of int64 is",
    ),
    "copy_from, masks": (
        lambda: fastnn.tensor([True, False]).copy_from([0.5, 1]),
        TypeError,
        "^copy_from: got float64; expected booleans, of which this Tensor of bool is$",
    ),
    "copy_from, masks of 0 and 1": (lambda: fastnn.tensor([True]).copy_from([1]), TypeError, "^copy_from: got int64; expected booleans"),
    "logsumexp, dim": (lambda: ops.logsumexp(x(), 0), ValueError, r"logsumexp: dim 0 does not exist in shape \(\)"),
    "loss, weight of numpy": (
        lambda: ops.cross_entropy(x(2, 3), [0, 9], np.ones(3)),
        ValueError,
        "cross_entropy: label 9 of sample 1 lies outside of",
    ),
    "loader, augment": (
        lambda: data.Loader((np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, int)), 2, augment="flip"),
        TypeError,
        "Loader: augment must be a step such as data.Flip.*, got 'flip'",
    ),
    "module dict, training": (lambda: nn.ModuleDict({"training": nn.ReLU()}), KeyError, "'training' cannot name a module"),
    "show_weights, columns": (
        lambda: train.show_weights(normal(0, 2, 1, 3, 3), "w.png", columns=0),
        ValueError,
        "show_weights: columns must be at least 1, got 0",
    ),
    "average, size": (lambda: nn.AdaptiveAvgPool2d(0)(x(2, 3, 4, 4)), ValueError, r"output_size must be at least 1, got \(0, 0\)"),
    "average, triple": (lambda: nn.AdaptiveAvgPool2d((1, 2, 3))(x(2, 3, 4, 4)), TypeError, r"output_size must be an int, None or a pair"),
    "average, rank": (lambda: nn.AdaptiveAvgPool2d(1)(x(2, 3)), ValueError, r"shape \(N, C, H, W\), got \(2, 3\)"),
    "flatten, scalar": (lambda: nn.Flatten()(x(3)), ValueError, r"Flatten.*dimensions 1 to -1 do not exist in shape \(3,\)"),
    "relu, numpy": (lambda: nn.ReLU()(normal(0, 3)), TypeError, "ReLU.*: expected a Tensor, got numpy.ndarray"),
    "relu, integers": (lambda: nn.ReLU()(fastnn.tensor([1, 2])), TypeError, "x has dtype int64"),
    "dropout, p": (lambda: nn.Dropout(1.5), ValueError, r"Dropout: p must lie in \[0, 1\], got 1.5"),
    "two arguments": (lambda: nn.ReLU()(x(3), x(3)), TypeError, r"ReLU\(\): .*takes 2 positional arguments but 3 were given"),
    "parameter": (lambda: nn.Parameter(["a"]), TypeError, "cannot use values of dtype"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_refusals(name: str) -> None:
    check(LAYERS[name])
