"""How operations on maps are said in ONNX: pooling and its inverse, and maps of another size."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops.conv2d import Pair
from ..ops.pool2d import AdaptiveMaxPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d, MaxUnpool2d
from ..ops.upsample import Upsample2d
from ..tensor import Tensor, apply, tensor
from .onnx_graph import Graph, NotInOnnx, Step
from .onnx_ops import of
from .traced import Places


def _window(x: Any, y: Any, window: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)) -> dict[str, Any]:
    """Of a pooling that needs no ceil_mode, about whose last windows runtimes do not agree: as much behind the map as the result's size asks for."""
    sizes = zip(x.shape[2:], y.shape[2:], window, stride, padding, dilation)
    after = [max(0, (p - 1) * s + d * (r - 1) + 1 - n - before) for n, p, r, s, before, d in sizes]
    return {"kernel_shape": list(window), "strides": list(stride), "pads": [*padding, *after]}


@of(MaxPool2d)
def _max_pool2d(graph: Graph, step: Step) -> str:
    window, stride, padding, _, dilation, _ = step.op.arguments
    words = _window(step.inputs[0], step.result, window, stride, padding, dilation)
    words |= {"dilations": list(dilation)} if dilation != (1, 1) else {}
    node = graph.several("MaxPool", 2 if step.op.wanted else 1, graph.value(step.inputs[0]), **words)
    graph.indices[id(step.result)] = node
    return node.outputs[0]


@of(Places)
def _places(graph: Graph, step: Step) -> str:
    """ONNX counts through all maps of the batch."""
    node = graph.indices.get(id(step.inputs[0]))
    if node is None:
        raise NotInOnnx(f"{step}: adaptive pooling has none in ONNX; expected return_indices of nn.MaxPool2d alone")
    return graph.add("Mod", node.outputs[1], graph.integers(step.op.size))


@of(MaxUnpool2d)
def _max_unpool2d(graph: Graph, step: Step) -> str:
    """Each value written to its place of a row of zeros. MaxUnpool's own indices count through all maps of the batch."""
    x, (_, c, h, w) = step.inputs[0], step.op.shape
    assert x is not None
    given = step.caller["indices"]
    indices = graph.value(given._array) if isinstance(given, Tensor) else graph.fixed(np.asarray(given, np.int64))
    rows = graph.integers(0, 0, -1)
    values, places = (graph.add("Reshape", name, rows) for name in (graph.value(x), indices))
    sizes = graph.shape((x.shape[0], c, h * w), (graph.other.inputs[0].shape[0], c, h * w), minus_one=False)  # type: ignore[union-attr]
    zeros = graph.add("Expand", graph.number(0), sizes)
    return graph.add("Reshape", graph.add("ScatterElements", zeros, places, values, axis=2), graph.integers(0, 0, h, w))


@of(GlobalAvgPool2d)
def _global(graph: Graph, step: Step) -> str:
    return graph.add("GlobalAveragePool", graph.value(step.inputs[0]))


@of(AvgPool2d)
def _avg_pool2d(graph: Graph, step: Step) -> str:
    x = graph.value(step.inputs[0])
    if len(step.op.arguments) == 1:
        return _even_shares(graph, x, step)
    window, stride, padding, _, counts, divisor = step.op.arguments
    words = _window(step.inputs[0], step.result, window, stride, padding)
    if divisor:
        sums = graph.add("AveragePool", x, **words, count_include_pad=1)
        return graph.add("Mul", sums, graph.number(window[0] * window[1] / divisor))
    after = words["pads"][2:]
    if counts and any(a > p for a, p in zip(after, padding)):  # ceil_mode: what lies beyond the padding does not count
        edge = [max(0, a - p) for a, p in zip(after, padding)]
        x = graph.add("Pad", x, graph.integers(0, 0, *padding, 0, 0, *padding), mode="constant")
        words, counts = {**words, "pads": [0, 0, *edge]}, False
    return graph.add("AveragePool", x, **words, count_include_pad=int(bool(counts)))


def _even_shares(graph: Graph, x: str, step: Step) -> str:
    """Windows where the sides divide, else one product with the shares for each axis."""
    sizes, counts = step.inputs[0].shape[2:], step.result.shape[2:]  # type: ignore[union-attr]
    if all(n % p == 0 for n, p in zip(sizes, counts)):
        window = [n // p for n, p in zip(sizes, counts)]
        return graph.add("AveragePool", x, kernel_shape=window, strides=window)
    rows, columns = (_shares(n, p) for n, p in zip(sizes, counts))
    return graph.add("MatMul", graph.fixed(rows), graph.add("MatMul", x, graph.fixed(columns.T)))


def _shares(size: int, count: int) -> np.ndarray:
    """(count, size): 1 / length where a row or column lies in the share."""
    place, share = np.arange(size), np.arange(count)[:, None]
    inside = (place >= share * size // count) & (place < -(-(share + 1) * size // count))
    shares: np.ndarray = (inside / inside.sum(1, keepdims=True)).astype(np.float32)
    return shares


@of(AdaptiveMaxPool2d)
def _adaptive_max_pool2d(graph: Graph, step: Step) -> str:
    """Axis by axis: each share's rows gathered, the last one again where a share has fewer, and the largest of them."""
    y = graph.value(step.inputs[0])
    for axis, size, count in zip((2, 3), step.inputs[0].shape[2:], step.op.size):  # type: ignore[union-attr]
        inside = _shares(size, count) > 0
        first, length = inside.argmax(1), inside.sum(1)
        index = first[:, None] + np.minimum(np.arange(length.max()), length[:, None] - 1)
        gathered = graph.add("Gather", y, graph.fixed(index.astype(np.int64)), axis=axis)
        y = graph.add("ReduceMax", gathered, graph.integers(axis + 1), keepdims=0)
    return y


@of(Upsample2d)
def _upsample2d(graph: Graph, step: Step) -> str:
    """Resize where it means the same: nearest neighbours of whole factors, linear ones without a scale of its own. Else rows and columns, or
    products with their shares, as the kernel has them."""
    x = step.inputs[0]
    assert x is not None
    size, bilinear, align_corners, *scales = step.op.arguments
    own = any(s and s * n != p for s, n, p in zip(scales, x.shape[2:], size))
    words = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if bilinear:
        words = {"mode": "linear", "coordinate_transformation_mode": "align_corners" if align_corners else "half_pixel"}
    if not own and (bilinear or all(p % n == 0 for p, n in zip(size, x.shape[2:]))):
        return graph.add("Resize", graph.value(x), "", "", graph.integers(*size), axes=[2, 3], **words)
    kept = [s or p / n for s, p, n in zip(scales, size, x.shape[2:])] if any(scales) else [0.0, 0.0]
    rows, columns = (_shares_of(n, p, bilinear, align_corners, s) for n, p, s in zip(x.shape[2:], size, kept))
    if bilinear:
        return graph.add("MatMul", graph.fixed(rows), graph.add("MatMul", graph.value(x), graph.fixed(columns.T)))
    y = graph.value(x)
    for axis, shares in ((2, rows), (3, columns)):
        y = graph.add("Gather", y, graph.fixed(shares.argmax(1).astype(np.int64)), axis=axis)
    return y


def _shares_of(size: int, count: int, bilinear: bool, align_corners: bool, scale: float) -> np.ndarray:
    """(count, size): what each row of the larger map takes of those of the smaller one, which the kernel says of maps with a single 1."""
    units = tensor(np.eye(size, dtype=np.float32).reshape(size, 1, size, 1))
    y = apply(Upsample2d((count, 1), bilinear, align_corners, scale, 1.0 if scale else 0.0), units)
    shares: np.ndarray = y.numpy().reshape(size, count).T
    return shares
