"""Models as ONNX files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import files
from ..arguments import flag, instance, integer, items, one_of, shown
from ..arguments import path as checked_path
from ..data import PCA, MeanImage, Normalize
from ..data.dataset import checked_classes
from ..data.preprocessing import OfMatrix, OfSamples, Preprocessing
from ..nn import Frozen, Module
from ..tensor import Tensor, tensor
from ..train import Trained, Trainer
from ..train.evaluation import device_of, draws_put_back, mode
from . import onnx_maps as onnx_maps
from .onnx_graph import BATCH, INPUT, Dims, Graph, Node, NotInOnnx, differences
from .onnx_ops import TRANSLATIONS
from .traced import Trace, trace

LEAST_OPSET = 18  # from which on axes are inputs of every reduction, and attributes of Resize
_MOST = 2**31 - 2**20  # bytes: protobuf's limit, and room for what is around the weights
_RAW, _RAW_TYPE = "image", {"float32": 1, "uint8": 2}  # TensorProto.FLOAT, UINT8


def to_onnx(
    model: Module,
    path: str | os.PathLike[str],
    input_shape: Sequence[int] | None = None,
    *,
    normalize: Preprocessing | None = None,
    dtype: str = "float32",
    softmax: bool = False,
    classes: Sequence[str] | None = None,
    opset: int = LEAST_OPSET,
    dynamic_batch: bool = True,
) -> None:
    """Writes what the model computes in evaluation mode to an ONNX file, for onnxruntime and whatever else reads the format (https://onnx.ai).

        interop.to_onnx(model, "model.onnx", (3, 32, 32))
        onnxruntime.InferenceSession("model.onnx").run(None, {"input": images})     # images: float32 (N, 3, 32, 32), row-major

    The graph is made of the operations of a forward pass, in modules of fastnn and of your own. It has one input, "input", of shape (batch,
    *input_shape), and the output "output"; for a tuple or list "output_0", ..., for a dict its keys. Weights have the names of state_dict(),
    nodes those of their layers. All numbers are float32, weights of mixed training too. Outputs are those of model.eval() but for rounding.

    input_shape: of one sample, (C, H, W) or (F,); left out, that which models.create was given. normalize: that of the training (data.Normalize,
    MeanImage, PCA, ZCA), as a part of the graph, whose input then takes raw images, of the shape before PCA. dtype: of the input, "float32", or
    "uint8" for images of bytes, 0 to 255. softmax: probabilities along axis 1 instead of logits. classes: names, kept in the file's metadata
    ("classes", as JSON), as is what normalize does ("normalize"). opset: version of the operators, 18 or newer. dynamic_batch=False: for one
    sample at a time, for models in which the size of the batch is a number.

    The file is checked by onnx.checker (full_check), and written whole or not at all. The library onnx is needed (pip install '.[onnx]';
    ModuleNotFoundError). ValueError, naming operation and layer, for what ONNX has not: random draws (FractionalMaxPool2d), Functions of your
    own, bfloat16, float64, numbers that Python makes of the input (x.numpy(), `if x.sum() > 0`); and for 2 GiB of weights, the format's limit.
    RuntimeError while another thread trains the model.
    """
    if isinstance(model, (Frozen, Trained, Trainer)):
        instead = "the model that nn.frozen was given" if isinstance(model, Frozen) else "its model, which is its attribute model"
        raise TypeError(f"to_onnx: model must be a Module, got a {type(model).__name__}; give {instead}")
    instance("to_onnx", "model", model, Module, "a Module")
    checked_path("to_onnx", "path", path)
    shape = _shape(model, input_shape)
    raw = shape if normalize is None else _raw_shape(normalize, shape)
    one_of("to_onnx", "dtype", dtype, tuple(_RAW_TYPE))
    flag("to_onnx", "softmax", softmax), flag("to_onnx", "dynamic_batch", dynamic_batch)
    names = checked_classes("to_onnx", classes)
    library = _onnx()
    integer("to_onnx", "opset", opset, LEAST_OPSET, library.defs.onnx_opset_version() + 1)
    about = {"classes": None if names is None else list(names), "normalize": None if normalize is None else normalize.state()}
    with files.memory_for(path, "written"):
        try:
            graph, outputs = _graph(model, shape, dynamic_batch)
            head = _preprocessed(graph, normalize, dtype, len(raw))
            _check_classes(names, outputs)
            named = _postprocessed(graph, outputs, softmax)
        except NotInOnnx as error:
            raise ValueError(f"to_onnx: {error}") from None
        _refuse_large(path, graph)
        given = _Value(INPUT, _RAW_TYPE[dtype], [None if dynamic_batch else 1, *raw])
        made = _model(library, [*head, *graph.nodes], graph.constants, given, named, opset, about)
        library.checker.check_model(made, full_check=True)
        files.replace(path, made.SerializeToString())


def _onnx() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError:
        raise ModuleNotFoundError("ONNX files need the library onnx (in the checkout: pip install '.[onnx]')") from None
    return onnx


def _shape(model: Module, given: Any) -> tuple[int, ...]:
    if given is None:
        given = (getattr(model, "architecture", None) or {}).get("input_shape")
        if given is None:
            raise ValueError("to_onnx: input_shape must be the shape of one sample, such as (3, 32, 32): the model does not know it")
    sizes = items("to_onnx", "input_shape", given, "the shape of one sample, such as (3, 32, 32)")
    if isinstance(given, np.ndarray | Tensor) or not sizes:
        raise (ValueError if not sizes else TypeError)(
            f"to_onnx: input_shape must be the shape of one sample, such as (3, 32, 32), got {shown(given)}"
        )
    return tuple(integer("to_onnx", "input_shape", n, 1, 2**31) for n in sizes)


def _raw_shape(normalize: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a sample, before it is prepared."""
    instance("to_onnx", "normalize", normalize, Preprocessing, "a data.Normalize, MeanImage, PCA or ZCA")
    if isinstance(normalize, OfSamples):
        if (made := normalize.output_shape(normalize.shape)) != shape:
            raise ValueError(
                f"to_onnx: normalize is {normalize}, which gives samples of shape {made}, input_shape is {shape}; give that one"
            )
        return normalize.shape
    if len(shape) not in (1, 3) or len(normalize.mean) != shape[0]:
        wanted = f"{shape[0]} means" if len(shape) in (1, 3) else "an input_shape of (C, H, W) or (F,)"
        raise ValueError(f"to_onnx: normalize has {len(normalize.mean)} means, input_shape is {shape}; expected {wanted}")
    return shape


# --- what the model computes


def _graph(model: Module, shape: tuple[int, ...], dynamic_batch: bool) -> tuple[Graph, list[tuple[str, Tensor, Tensor]]]:
    """Two runs, of other numbers and of other sizes, and what they have in common; the outputs of both, by name."""
    rng, device = np.random.default_rng(0), device_of(model)
    _refuse_double(model)
    with mode(model, False), draws_put_back():
        runs = [
            trace(model, tensor(rng.standard_normal((n, *shape), np.float32), device=device)) for n in ((2, 3) if dynamic_batch else (1, 1))
        ]
    parameters = {id(t._array): name for name, t in model._state().items()}
    held: dict[int, np.ndarray] = {}
    graphs = [Graph(one, other, parameters, held) for one, other in (runs, runs[::-1])]
    for graph in graphs:
        graph.take(TRANSLATIONS)
    differences(*graphs)
    outputs = [_outputs(graph, run) for graph, run in zip(graphs, runs)]
    if [name for name, _ in outputs[0]] != [name for name, _ in outputs[1]]:
        raise NotInOnnx("the model gives other outputs for other inputs; it must give the same")
    return graphs[0], [(name, one, other) for (name, one), (_, other) in zip(*outputs)]


def _refuse_double(model: Module) -> None:
    other = next((f"{name} is {t.dtype}" for name, t in model.named_parameters() if t.dtype != "float32"), "")
    if other:
        raise ValueError(f"to_onnx: {other}; expected float32, which model.float() makes of all")


def _outputs(graph: Graph, run: Trace) -> list[tuple[str, Tensor]]:
    result = run.result
    if isinstance(result, Tensor):
        found = [("output", result)]
    elif isinstance(result, (tuple, list)):
        found = [(f"output_{i}", one) for i, one in enumerate(result)]
    else:
        found = [(str(key), one) for key, one in result.items()] if isinstance(result, dict) else []
    if not found or not all(isinstance(one, Tensor) for _, one in found):
        raise NotInOnnx(f"the model returned {shown(result)}; expected a Tensor, or a tuple, list or dict of some")
    for name, one in found:
        if not graph.comes_from_input(one._array):
            raise NotInOnnx(
                f"{name} does not come from the input by operations of fastnn.ops, as far as they can be followed; it must: what Python or "
                "numpy computes is not seen"
            )
    return found


# --- what stands around it


def _check_classes(names: Sequence[str] | None, outputs: list[tuple[str, Tensor, Tensor]]) -> None:
    for name, y, _ in outputs if names else ():
        if y.ndim < 2 or y.shape[1] != len(names or ()):
            raise ValueError(
                f"to_onnx: classes has {len(names or ())} names, {name} shape {y.shape}; expected a name for each along axis 1"
            )


class _Value:
    """An input or output of the file."""

    def __init__(self, name: str, kind: int, dims: Dims) -> None:
        self.name, self.kind, self.dims = name, kind, dims


def _preprocessed(graph: Graph, normalize: Preprocessing | None, dtype: str, rank: int) -> list[Node]:
    """Nodes in front, which make of raw images what the model takes; it reads their result instead of the input then."""
    if normalize is None and dtype == "float32":
        return []
    before, graph.nodes, graph.step = graph.nodes, [], None
    x = graph.add("Cast", INPUT, to=1) if dtype == "uint8" else INPUT
    if isinstance(normalize, Normalize):
        x = _normalized(graph, x, normalize, dtype, rank)
    elif isinstance(normalize, OfSamples):
        x = _centred(graph, x, normalize)
    head, graph.nodes = graph.nodes, before
    graph.read_instead(x)
    return head


def _normalized(graph: Graph, x: str, normalize: Normalize, dtype: str, rank: int) -> str:
    """(x - mean) / std in float32, and of bytes x scale + shift, as the kernel that makes batches does it."""
    along = (1, -1, *[1] * (rank - 1))
    first, second = (normalize.scale, normalize.shift) if dtype == "uint8" else (normalize.mean, normalize.std)
    kinds = ("Mul", "Add") if dtype == "uint8" else ("Sub", "Div")
    for kind, values in zip(kinds, (first, second)):
        x = graph.add(kind, x, graph.fixed(np.asarray(values, np.float32).reshape(along), f"normalize.{kind.lower()}"))
    return x


def _centred(graph: Graph, x: str, normalize: OfSamples) -> str:
    """Less the mean of each value; then a factor for all of them (MeanImage), or a product with a matrix (PCA, ZCA)."""
    x = graph.add("Sub", x, graph.fixed(normalize.mean[None].astype(np.float32), "normalize.mean"))
    if isinstance(normalize, MeanImage):
        return x if normalize.std == 1 else graph.add("Div", x, graph.number(normalize.std))
    if not isinstance(normalize, OfMatrix):
        raise NotInOnnx(f"normalize is {normalize!r}, which has no translation")
    x = graph.add("MatMul", graph.add("Flatten", x, axis=1), graph.fixed(normalize._rows.T, "normalize.matrix"))
    return x if isinstance(normalize, PCA) else graph.add("Reshape", x, graph.integers(0, *normalize.shape))


def _postprocessed(graph: Graph, outputs: list[tuple[str, Tensor, Tensor]], softmax: bool) -> list[_Value]:
    named = []
    graph.step = None
    for wanted, one, other in outputs:
        name, value = graph.unique(wanted), graph.value(one._array)
        if softmax:
            if one.ndim < 2:
                raise ValueError(f"to_onnx: softmax goes along axis 1, which an output of shape {one.shape} has not; leave it out")
            value = graph.add("Softmax", value, axis=1)
        graph.nodes.append(Node("Identity", f"{name}/Identity", [value], [name], {}))
        kind = {"float32": 1, "bool": 9, "int64": 7}[one.dtype]
        named.append(_Value(name, kind, graph.dims(one.shape, other.shape)))
    _rename(graph, [one.name for one in named])
    return named


def _rename(graph: Graph, names: list[str]) -> None:
    """What an Identity alone reads takes the output's name, and the Identity goes."""
    for name in names:
        at = next(i for i, node in enumerate(graph.nodes) if node.outputs == [name])
        value = graph.nodes[at].inputs[0]
        maker = next((node for node in graph.nodes if value in node.outputs), None)
        if maker is None or value in names:  # the input itself, or given out under another name already
            continue
        del graph.nodes[at]
        maker.outputs = [name if one == value else one for one in maker.outputs]
        for node in graph.nodes:
            node.inputs = [name if one == value else one for one in node.inputs]


# --- the file


def _refuse_large(path: str | os.PathLike[str], graph: Graph) -> None:
    size = sum(values.nbytes for values in graph.constants.values())
    if size > _MOST:
        raise ValueError(
            f"to_onnx: {os.fspath(path)}: the weights take {size:,} bytes; an ONNX file must have less than 2 GiB, the format's limit for one file"
        )


def _model(
    library: Any,
    nodes: list[Node],
    constants: dict[str, np.ndarray],
    given: _Value,
    outputs: list[_Value],
    opset: int,
    about: dict[str, Any],
) -> Any:
    helper, read = library.helper, {name for node in nodes for name in node.inputs}
    made = [helper.make_node(n.kind, n.inputs, n.outputs, name=n.name, **n.attributes) for n in nodes]
    weights = [library.numpy_helper.from_array(values, name) for name, values in constants.items() if name in read]
    ends = [
        helper.make_tensor_value_info(v.name, v.kind, [*([BATCH if v.dims[0] is None else v.dims[0]] if v.dims else []), *v.dims[1:]])
        for v in (given, *outputs)
    ]
    graph = helper.make_graph(made, "fastnn", ends[:1], ends[1:], weights)
    imports = [helper.make_opsetid("", opset)]
    version = helper.find_min_ir_version_for(imports)
    made = helper.make_model(graph, producer_name="fastnn", producer_version=_version(), opset_imports=imports, ir_version=version)
    helper.set_model_props(made, {key: json.dumps(value) for key, value in about.items() if value is not None})
    return made


def _version() -> str:
    from .. import __version__

    return __version__
