"""An ONNX graph while it is made of what a model did: nodes, constants, and which array has which name. Nothing here needs the library onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import shown
from ..tensor import Array
from .traced import Step, Trace

INPUT, BATCH = "input", "batch"
Dims = Sequence[int | None]  # None: a size that grows with the batch


class NotInOnnx(ValueError):
    """What a model does, and ONNX, or this translation, has not."""


@dataclass
class Node:
    """An operator, its inputs and outputs by name ("": left out), and its attributes."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


class Graph:
    """What the steps of `trace` do, step by step. `twin`: the same model's trace for other numbers, and for another size of the batch unless that is
    fixed: which sizes are the batch's, the two of them tell.

    A step that takes nothing which comes from the input is done already: its result is a constant, unless it has the batch's size.
    """

    def __init__(self, trace: Trace, twin: Trace, names: Mapping[int, str], held: dict[int, np.ndarray]) -> None:
        self.trace, self.twin = trace, twin
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.indices: dict[int, Node] = {}  # poolings whose winners were asked for, by their result
        self.step, self.other = trace.steps[0] if trace.steps else None, twin.steps[0] if twin.steps else None
        self._given = names  # parameters and buffers, by the id of their array
        self._held = held  # and their values, which graphs of one model share
        self._values: dict[int, str] = {id(trace.x._array): INPUT}  # of what comes from the input
        self._known: dict[int, str] = {}  # of constants
        self._used = {INPUT}
        self._batch = ""

    def take(self, translations: Mapping[Any, Callable[[Any, Any], str]]) -> None:
        """All steps. NotInOnnx for one without a translation."""
        if [type(s.op) for s in self.trace.steps] != [type(s.op) for s in self.twin.steps]:
            at = next((a for a, b in zip(self.trace.steps, self.twin.steps) if type(a.op) is not type(b.op)), self.trace.steps[-1])
            raise NotInOnnx(
                f"the model takes other operations for other inputs (from {at} on); it must do the same for all: ops.where chooses"
            )
        for step, other in zip(self.trace.steps, self.twin.steps):
            made = any(a is not None and id(a) in self._values for a in step.inputs)
            if not made and step.result.shape == other.result.shape:
                continue
            self.step, self.other = step, other
            translate = translations.get(type(step.op))
            if translate is None:
                raise NotInOnnx(f"{step} has no translation to ONNX; expected operations of an evaluation in float32: {_REST}")
            if step.result.dtype == "bfloat16":
                raise NotInOnnx(f"{step} gives bfloat16; expected float32 throughout, as weights of mixed training have it")
            self._values[id(step.result)] = translate(self, step)

    # --- names

    def value(self, array: Array | None) -> str:
        """The name of what the model computed, or of a constant; "" for what is left out."""
        if array is None:
            return ""
        return self._values.get(id(array)) or self.constant(array)

    def comes_from_input(self, array: Array | None) -> bool:
        return array is not None and id(array) in self._values

    def constant(self, array: Array) -> str:
        if id(array) not in self._known:
            if array.dtype not in ("float32", "int64", "bool"):
                raise NotInOnnx(f"{self.step}: a constant has dtype {array.dtype}; expected float32, which model.float() makes")
            name = self._given.get(id(array), "")
            values = self._held.setdefault(id(array), np.asarray(array.numpy(), order="C")) if name else array.numpy()
            self._known[id(array)] = self.fixed(values, name)
        return self._known[id(array)]

    def fixed(self, values: Any, name: str = "") -> str:
        """A constant of these values (row-major)."""
        found = self.unique(name or f"{self._place()}constant")
        self.constants[found] = np.asarray(values, order="C")
        return found

    def integers(self, *values: int) -> str:
        return self.fixed(np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.fixed(np.array(value, np.float32))

    def read_instead(self, name: str) -> None:
        """All that reads the input reads the value of that name, but for what asks for the size of the batch alone."""
        self._values[id(self.trace.x._array)] = name
        for node in self.nodes:
            node.inputs = [name if one == INPUT and node.kind != "Shape" else one for one in node.inputs]

    # --- nodes

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output, whose name it gives."""
        return self.several(kind, 1, *inputs, **attributes).outputs[0]

    def several(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> Node:
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        name = self.unique(f"{self._place()}{kind}")
        node = Node(kind, name, list(inputs), [name, *(self.unique(f"{name}_{i}") for i in range(1, outputs))], attributes)
        self.nodes.append(node)
        return node

    def _place(self) -> str:
        return f"{self.step.layer}/" if self.step is not None and self.step.layer else ""

    def unique(self, name: str) -> str:
        """A name that nothing else has: this one, or it with a number."""
        found, count = name, 1
        while found in self._used:
            count += 1
            found = f"{name}_{count}"
        self._used.add(found)
        return found

    # --- sizes

    def dims(self, shape: Sequence[int], twin: Sequence[int]) -> list[int | None]:
        """A size that both runs have, or None for one that is the batch's times a number."""
        small, large = self.trace.x.shape[0], self.twin.x.shape[0]
        if len(shape) != len(twin) or any(a != b and a * large != b * small for a, b in zip(shape, twin)):
            where, sizes = self.step or "the output", f"{tuple(shape)} for a batch of {small}, {tuple(twin)} for one of {large}"
            raise NotInOnnx(
                f"{where}: a shape is {sizes}; expected sizes that grow with the batch: dynamic_batch=False writes the model for one sample"
            )
        return [a if a == b else None for a, b in zip(shape, twin)]

    def shape(self, shape: Sequence[int], twin: Sequence[int], *, minus_one: bool = True) -> str:
        """A vector of sizes. minus_one: the only one that grows with the batch may be worked out from the others."""
        dims = self.dims(shape, twin)
        if None not in dims or (minus_one and dims.count(None) == 1 and 0 not in dims):
            return self.integers(*[-1 if n is None else n for n in dims])
        if not self._batch:
            self._batch = self.add("Shape", INPUT, start=0, end=1)
        parts = [self.integers(n) if n is not None else self._batch_times(m) for n, m in zip(dims, shape)]
        return self.add("Concat", *parts, axis=0)

    def _batch_times(self, size: int) -> str:
        times = size // self.trace.x.shape[0]
        return self._batch if times == 1 else self.add("Mul", self._batch, self.integers(times))


_REST = "what draws at random, losses and Functions of one's own are none"


def differences(first: Graph, second: Graph) -> None:
    """NotInOnnx unless both runs gave the same graph: what differs is a number that the model made of its input in Python, or of the batch's
    size, and would stand in the file as it was for one input."""
    for a, b in zip(first.nodes, second.nodes):
        if (a.kind, a.inputs, a.attributes) != (b.kind, b.inputs, b.attributes):
            raise _other(f"{a.name}: {_shown(a)} for one input, {_shown(b)} for another")
        for name in (name for name in a.inputs if name in first.constants):
            one, two = first.constants[name], second.constants[name]
            if one is not two and not np.array_equal(one, two, equal_nan=one.dtype.kind == "f"):
                raise _other(f"{a.name} reads a constant that is {_value(one)} for one input, {_value(two)} for another")
    if len(first.nodes) != len(second.nodes):
        raise _other(f"{len(first.nodes)} nodes for one input, {len(second.nodes)} for another")


def _value(values: np.ndarray) -> str:
    return f"{values.item():.4g}" if values.size == 1 else f"an array of shape {values.shape}"


def _shown(node: Node) -> str:
    return f"{node.kind} of {shown(node.inputs)} {shown(list(node.attributes.items()))}"


def _other(what: str) -> NotInOnnx:
    return NotInOnnx(
        f"{what}; in a file it would stay what it was. What the model makes of its input, it must make by operations of fastnn.ops, not in "
        "Python (numpy(), item(), if); where that depends on the size of the batch alone, dynamic_batch=False writes the model for one sample"
    )


__all__ = ["BATCH", "INPUT", "Dims", "Graph", "Node", "NotInOnnx", "Step", "differences"]
