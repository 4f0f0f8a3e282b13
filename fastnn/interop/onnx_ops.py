"""How each operation is said in ONNX: one function per Op. Shapes outside are (N, C, H, W) on both sides, so nothing is turned round."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from typing import Any

import numpy as np

from ..ops.activation import Pointwise, ReLU, SiLU
from ..ops.batchnorm import BatchNorm
from ..ops.choice import Extremum, Where
from ..ops.conv2d import Conv2d
from ..ops.conv_transpose2d import ConvTranspose2d
from ..ops.elementwise import Add, Divide, Exp, Log, Multiply, Power, Sqrt, Subtract
from ..ops.gather import Concat, Gather
from ..ops.layernorm import GroupNorm, LayerNorm
from ..ops.linear import Linear, MatMul
from ..ops.prelu import Maxout, PReLU
from ..ops.reduce import BroadcastTo, Max, Sum
from ..ops.shape import Reshape, View, ZeroPad2d
from ..ops.softmax import LogSoftmax, LogSumExp, Softmax
from ..ops.spread import Norm, Var
from ..tensor import _Move
from .onnx_graph import Graph, Node, NotInOnnx, Step
from .traced import AsFloats, Compared

Translation = Callable[[Graph, Step], str]
TRANSLATIONS: dict[Any, Translation] = {}


def of(*kinds: type) -> Callable[[Translation], Translation]:
    """Registers the translation of these operations."""

    def register(translation: Translation) -> Translation:
        TRANSLATIONS.update(dict.fromkeys(kinds, translation))
        return translation

    return register


def plain(kind: str) -> Translation:
    """One node of the same inputs."""
    return lambda graph, step: graph.add(kind, *map(graph.value, step.inputs))


TRANSLATIONS.update(
    {
        Add: plain("Add"),
        Subtract: plain("Sub"),
        Multiply: plain("Mul"),
        Divide: plain("Div"),
        Exp: plain("Exp"),
        Log: plain("Log"),
        Sqrt: plain("Sqrt"),
        MatMul: plain("MatMul"),
        ReLU: plain("Relu"),
        _Move: plain("Identity"),
    }
)


# --- functions of one number


def activated(graph: Graph, x: str, name: str) -> str:
    """What stands behind a product or a normalisation."""
    if name == "silu":
        return graph.add("Mul", x, graph.add("Sigmoid", x))
    return _gelu(graph, x) if name == "gelu" else graph.add("Relu", x) if name == "relu" else x


@of(SiLU)
def _silu(graph: Graph, step: Step) -> str:
    return activated(graph, graph.value(step.inputs[0]), "silu")


def _gelu(graph: Graph, x: str) -> str:
    """x Phi(x), 2 Phi(x) = 1 + erf(x / sqrt 2); an operator of its own it is from opset 20 on only."""
    twice = graph.add("Add", graph.add("Erf", graph.add("Div", x, graph.number(sqrt(2)))), graph.number(1))
    return graph.add("Mul", graph.add("Mul", x, twice), graph.number(0.5))


def _gelu_tanh(graph: Graph, x: str) -> str:
    cube = graph.add("Mul", graph.add("Mul", x, x), x)
    inner = graph.add("Add", x, graph.add("Mul", cube, graph.number(0.044715)))
    twice = graph.add("Add", graph.add("Tanh", graph.add("Mul", inner, graph.number(sqrt(2 / np.pi)))), graph.number(1))
    return graph.add("Mul", graph.add("Mul", x, twice), graph.number(0.5))


def _elu(graph: Graph, x: str, alpha: float, scale: float) -> str:
    """scale x above 0, alpha (e^x - 1) below."""
    return graph.add("Elu", x, alpha=alpha) if scale == 1 else graph.add("Selu", x, alpha=alpha / scale, gamma=scale)


def _softplus(graph: Graph, x: str, beta: float, threshold: float) -> str:
    scaled = x if beta == 1 else graph.add("Mul", x, graph.number(beta))
    y = graph.add("Softplus", scaled)
    y = y if beta == 1 else graph.add("Div", y, graph.number(beta))
    if threshold >= 20:  # x itself, to float32
        return y
    return graph.add("Where", graph.add("Greater", scaled, graph.number(threshold)), x, y)


@of(Pointwise)
def _pointwise(graph: Graph, step: Step) -> str:
    x = graph.value(step.inputs[0])
    function, a, b = step.op.arguments
    if function in ("sigmoid", "tanh", "abs"):
        return graph.add(function.capitalize(), x)
    if function == "clip":
        return graph.add("Clip", x, *["" if bound in (-inf, inf) else graph.number(bound) for bound in (a, b)])
    if function == "leaky_relu":
        return graph.add("LeakyRelu", x, alpha=a)
    if function == "elu":
        return _elu(graph, x, a, b)
    if function == "softplus":
        return _softplus(graph, x, a, b)
    return {"gelu": _gelu, "gelu_tanh": _gelu_tanh}[function](graph, x)


@of(Power)
def _power(graph: Graph, step: Step) -> str:
    return graph.add("Pow", graph.value(step.inputs[0]), graph.number(step.op.exponent))


@of(PReLU)
def _prelu(graph: Graph, step: Step) -> str:
    x, slope = step.inputs
    assert x is not None and slope is not None
    single = slope.size == 1
    along = reshaped(graph, slope, (1,) if single else (slope.size, *[1] * (len(x.shape) - 2)))
    return graph.add("PRelu", graph.value(x), along)


def reshaped(graph: Graph, array: Any, shape: tuple[int, ...], name: str = "") -> str:
    """A weight in another shape."""
    if graph.comes_from_input(array):
        return graph.add("Reshape", graph.value(array), graph.integers(*shape))
    return graph.constant(array) if array.shape == shape else graph.fixed(array.numpy().reshape(shape), name)


# --- comparisons and choices


@of(Compared)
def _compared(graph: Graph, step: Step) -> str:
    kinds = {"less": "Less", "less_equal": "LessOrEqual", "greater": "Greater", "greater_equal": "GreaterOrEqual"}
    y = graph.add(kinds.get(step.op.relation, "Equal"), *map(graph.value, step.inputs))
    return graph.add("Not", y) if step.op.relation == "not_equal" else y


@of(AsFloats)
def _as_floats(graph: Graph, step: Step) -> str:
    return graph.add("Cast", graph.value(step.inputs[0]), to=1)  # TensorProto.FLOAT


@of(Where)
def _where(graph: Graph, step: Step) -> str:
    return graph.add("Where", graph.value(step.op.condition), *map(graph.value, step.inputs))


@of(Extremum)
def _extremum(graph: Graph, step: Step) -> str:
    return graph.add("Max" if step.op.largest else "Min", *map(graph.value, step.inputs))


# --- products


@of(Linear)
def _linear(graph: Graph, step: Step) -> str:
    return activated(graph, graph.add("Gemm", *map(graph.value, step.inputs), transB=1), step.op.activation)


@of(Conv2d)
def _conv2d(graph: Graph, step: Step) -> str:
    stride, before, after, dilation, groups = step.op.arguments
    window = step.inputs[1].shape[2:]  # type: ignore[union-attr]
    words = {"kernel_shape": list(window), "strides": list(stride), "pads": [*before, *after], "dilations": list(dilation), "group": groups}
    return activated(graph, graph.add("Conv", *map(graph.value, step.inputs), **words), step.op.activation)


@of(ConvTranspose2d)
def _conv_transpose2d(graph: Graph, step: Step) -> str:
    """output_padding is what the size of the result asks for beyond (n - 1) stride - pads + dilation (window - 1) + 1."""
    stride, before, after, dilation, groups = step.op.arguments
    x, w, _ = step.inputs
    assert x is not None and w is not None
    sizes = zip(x.shape[2:], stride, before, after, dilation, w.shape[2:])
    least = [(n - 1) * s - p - q + d * (r - 1) + 1 for n, s, p, q, d, r in sizes]
    more = [have - want for have, want in zip(step.result.shape[2:], least)]
    words = {"kernel_shape": list(w.shape[2:]), "strides": list(stride), "pads": [*before, *after], "dilations": list(dilation)}
    return graph.add("ConvTranspose", *map(graph.value, step.inputs), **words, group=groups, output_padding=more)


# --- normalisations


@of(BatchNorm)
def _batch_norm(graph: Graph, step: Step) -> str:
    x, gamma, beta, residual = step.inputs
    assert x is not None
    channels = np.ones(x.shape[1], np.float32)
    scale = graph.value(gamma) or graph.fixed(channels)
    shift = graph.value(beta) or graph.fixed(0 * channels)
    eps, _, name = step.op.arguments
    if step.op.training:
        y = _of_batch(graph, graph.value(x), scale, shift, eps, len(x.shape))
    else:
        y = graph.add(
            "BatchNormalization",
            graph.value(x),
            scale,
            shift,
            graph.value(step.op.running_mean),
            graph.value(step.op.running_var),
            epsilon=eps,
        )
    return activated(graph, y if residual is None else graph.add("Add", y, graph.value(residual)), name)


def _of_batch(graph: Graph, x: str, scale: str, shift: str, eps: float, rank: int) -> str:
    """By the batch's own statistics, as a layer without running ones evaluates."""
    axes, along = graph.integers(0, *range(2, rank)), graph.integers(-1, *[1] * (rank - 2))
    far = graph.add("Sub", x, graph.add("ReduceMean", x, axes))
    deviation = graph.add("Sqrt", graph.add("Add", graph.add("ReduceMean", graph.add("Mul", far, far), axes), graph.number(eps)))
    y = graph.add("Mul", graph.add("Div", far, deviation), graph.add("Reshape", scale, along))
    return graph.add("Add", y, graph.add("Reshape", shift, along))


@of(LayerNorm)
def _layer_norm(graph: Graph, step: Step) -> str:
    x, gamma, beta = step.inputs
    assert x is not None
    dims = step.op.dims
    normalized = tuple(x.shape[-dims:])
    scale = graph.fixed(np.ones(normalized, np.float32)) if gamma is None else reshaped(graph, gamma, normalized)
    shift = "" if beta is None else reshaped(graph, beta, normalized)
    return graph.add("LayerNormalization", graph.value(x), scale, shift, axis=-dims, epsilon=step.op.eps)


@of(GroupNorm)
def _group_norm(graph: Graph, step: Step) -> str:
    """Each group as a channel of InstanceNormalization: GroupNormalization has scales by channel from opset 21 on only."""
    x, gamma, beta = step.inputs
    assert x is not None
    groups, along = step.op.groups, (x.shape[1], *[1] * (len(x.shape) - 2))
    ones = np.ones(groups, np.float32)
    rows = graph.add("Reshape", graph.value(x), graph.integers(0, groups, -1))
    y = graph.add("InstanceNormalization", rows, graph.fixed(ones), graph.fixed(0 * ones), epsilon=step.op.eps)
    y = graph.add("Reshape", y, graph.integers(0, *x.shape[1:]))
    y = y if gamma is None else graph.add("Mul", y, reshaped(graph, gamma, along))
    return y if beta is None else graph.add("Add", y, reshaped(graph, beta, along))


# --- sums over axes


def _axes(step: Step) -> list[int]:
    return list(step.op.axes)


@of(Sum, Max)
def _reduce(graph: Graph, step: Step) -> str:
    kind = "ReduceSum" if isinstance(step.op, Sum) else "ReduceMax"
    if not step.op.axes:
        return graph.value(step.inputs[0])
    return graph.add(kind, graph.value(step.inputs[0]), graph.integers(*_axes(step)), keepdims=int(step.op.keepdims))


@of(Var)
def _var(graph: Graph, step: Step) -> str:
    x, axes = graph.value(step.inputs[0]), graph.integers(*_axes(step))
    far = graph.add("Sub", x, graph.add("ReduceMean", x, axes, keepdims=1))
    total = graph.add("ReduceSum", graph.add("Mul", far, far), axes, keepdims=int(step.op.keepdims))
    y = graph.add("Div", total, graph.number(step.op.divisor))
    return graph.add("Sqrt", y) if step.op.root else y


@of(Norm)
def _norm(graph: Graph, step: Step) -> str:
    return graph.add("ReduceL2", graph.value(step.inputs[0]), graph.integers(*_axes(step)), keepdims=int(step.op.keepdims))


@of(Softmax, LogSoftmax)
def _softmax(graph: Graph, step: Step) -> str:
    return graph.add("Softmax" if isinstance(step.op, Softmax) else "LogSoftmax", graph.value(step.inputs[0]), axis=step.op.dim)


@of(LogSumExp)
def _logsumexp(graph: Graph, step: Step) -> str:
    return graph.add("ReduceLogSumExp", graph.value(step.inputs[0]), graph.integers(step.op.dim), keepdims=1)


# --- shapes


@of(Reshape)
def _reshape(graph: Graph, step: Step) -> str:
    return graph.add("Reshape", graph.value(step.inputs[0]), graph.shape(step.op.shape, graph.other.op.shape))  # type: ignore[union-attr]


@of(BroadcastTo)
def _broadcast_to(graph: Graph, step: Step) -> str:
    sizes = graph.shape(step.op.shape, graph.other.op.shape, minus_one=False)  # type: ignore[union-attr]
    return graph.add("Expand", graph.value(step.inputs[0]), sizes)


@of(View)
def _view(graph: Graph, step: Step) -> str:
    x = step.inputs[0]
    assert x is not None
    if "order" in step.caller:
        return graph.add("Transpose", graph.value(x), perm=[int(a) for a in step.caller["order"]])
    if "keys" not in step.caller:
        raise NotInOnnx(f"{step} has no translation to ONNX; expected slices and transpositions")
    return _sliced(graph, graph.value(x), x.shape, step.caller["keys"])


def _sliced(graph: Graph, x: str, sizes: tuple[int, ...], keys: list[Any]) -> str:
    """x[keys]: the slices, then the axes of integers away, then those of None."""
    slices, axis = [], 0
    gone: list[int] = []
    new: list[int] = []
    for key in keys:
        if key is None:
            new.append(axis - len(gone) + len(new))
            continue
        if isinstance(key, slice):
            start, stop, step = key.indices(sizes[axis])
        else:
            start, stop, step = int(key) % sizes[axis], int(key) % sizes[axis] + 1, 1
            gone.append(axis)
        if (start, stop, step) != (0, sizes[axis], 1) or (sizes[axis] == 1 and axis in gone):
            slices.append((start, stop if stop >= 0 else -(2**63) + 1, axis, step))  # -1 would be the last one
        axis += 1
    if slices:
        x = graph.add("Slice", x, *[graph.integers(*column) for column in zip(*slices)])
    x = graph.add("Squeeze", x, graph.integers(*gone)) if gone else x
    return graph.add("Unsqueeze", x, graph.integers(*new)) if new else x


@of(ZeroPad2d)
def _zero_pad2d(graph: Graph, step: Step) -> str:
    _, c, h, w = step.inputs[0].shape  # type: ignore[union-attr]
    _, _, rows, columns = step.op.shape
    top, left = divmod(step.op.offset // c, columns)
    pads = graph.integers(0, 0, top, left, 0, 0, rows - h - top, columns - w - left)
    return graph.add("Pad", graph.value(step.inputs[0]), pads, mode="constant")


@of(Gather)
def _gather(graph: Graph, step: Step) -> str:
    axis, flat = step.op.arguments
    return graph.add("Gather" if flat else "GatherElements", graph.value(step.inputs[0]), graph.value(step.op.index), axis=axis)


@of(Concat)
def _concat(graph: Graph, step: Step) -> str:
    return graph.add("Concat", *map(graph.value, step.inputs), axis=step.op.axis)


@of(Maxout)
def _maxout(graph: Graph, step: Step) -> str:
    x, pieces = step.inputs[0], step.op.pieces
    assert x is not None
    pieced = graph.add("Reshape", graph.value(x), graph.integers(0, x.shape[1] // pieces, pieces, *x.shape[2:]))
    return graph.add("ReduceMax", pieced, graph.integers(2), keepdims=0)


__all__ = ["TRANSLATIONS", "Node", "of"]
