"""Every operation of a step looked at as it runs: where the first value that is no number comes from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from types import CodeType, FrameType
from typing import Any

import numpy as np

from .. import _C
from ..nn import Module
from ..ops.cast import Cast
from ..tensor import Op, Tensor, _add, run_backward


@dataclass(frozen=True)
class Finding:
    """The first value of a step that is NaN or infinite: `value` at `index` of the array `what` that `op` gave, `direction` "forward" or
    "backward" ("before" for what the step began with: input, labels, parameters), in the layer of that dotted name ("loss" for the loss).
    sample: its place among the step's samples, None where the array has no axis of samples; `bad` of the `samples` in the array have such a
    value (a batch normalisation spreads one over all)."""

    op: str
    layer: str
    direction: str
    what: str
    index: tuple[int, ...]
    value: float
    sample: int | None
    bad: int = 0
    samples: int = 0

    def __str__(self) -> str:
        at = f"{self.value} at {list(self.index)}" if self.index else f"{self.value}"
        if self.direction == "before":
            return f"{self.what} is {at} before the step"
        return f"{self.direction} of {self.op} in {self.layer}: {self.what} is {at}"

    def state(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "index": list(self.index), "value": str(self.value)}


class Watch:
    """Inside the block, in this thread, the results of each Op's forward and backward are looked at, until the first that is not finite:
    `found`. The interpreter's profile hook tells of them, so that nothing has to ask while no one watches.

    `where`: what names an operation outside of all layers. `inputs`: what the found operation had taken in, by name.
    """

    def __init__(self, model: Module) -> None:
        self.names = {id(m): name for name, m in model.named_modules()}
        self.parameters = {id(p): name for name, p in model.named_parameters()}
        self.where, self.first, self.samples = "the model", 0, 0
        self.found: Finding | None = None
        self.inputs: dict[str, Any] = {}
        self._layers: list[Module] = []
        self._makers: dict[Op, str] = {}
        self._open: list[dict[str, Any]] = []  # inputs of the operations under way
        self._before: Any = None

    def __enter__(self) -> Watch:
        self._before = sys.getprofile()
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before if callable(self._before) else None)  # cProfile's own, up to Python 3.11, cannot be put back from here

    def before(self, what: str, layer: str, values: np.ndarray, *, samples: bool = False) -> None:
        """Looks at something that the step begins with."""
        if self.found is None and (place := _first_bad(values)) is not None:
            index, value = place
            self.found = Finding("none", layer, "before", what, index, value, *self._which(values, samples))

    # --- what the interpreter tells

    def _see(self, frame: FrameType, event: str, result: Any) -> None:
        if self.found is not None or event not in ("call", "return"):
            return
        code = frame.f_code
        if code is _CALL:
            self._layer(frame, event)
        elif code is _ADD and event == "return" and result is not None:
            self._look("sum of gradients", self._top(), "backward", "the sum", result, frame.f_locals)
        elif code.co_name in ("forward", "backward") and code.co_argcount:
            op = frame.f_locals.get(code.co_varnames[0])
            if isinstance(op, Op):
                self._operation(op, code, frame, event, result)

    def _layer(self, frame: FrameType, event: str) -> None:
        if event == "call":
            self._layers.append(frame.f_locals["self"])
        elif self._layers:
            self._layers.pop()

    def _operation(self, op: Op, code: CodeType, frame: FrameType, event: str, result: Any) -> None:
        if event == "call":
            taken = {name: value for name, value in frame.f_locals.items() if name != code.co_varnames[0]}
            self._open.append(taken if code.co_name == "forward" else {**taken, "saved": tuple(getattr(op, "_saved", ()))})
            return
        inputs = self._open.pop() if self._open else {}
        if result is None:
            return
        if code.co_name == "forward":
            self._makers[op] = self._top()
            self._look(op.name, self._top(), "forward", "its result", result, inputs)
            return
        layer, edges = self._makers.get(op, self.where), _edges(frame)
        for i, gradient in enumerate(result):
            leaf = _behind_casts(edges[i]) if i < len(edges) else None
            name = self.parameters.get(id(leaf))
            what = f"the gradient of {name}" if name else f"the gradient of input {i}"
            self._look(op.name, layer, "backward", what, gradient, inputs, of_samples=not isinstance(leaf, Tensor))

    def _look(
        self, op: str, layer: str, direction: str, what: str, arrays: Any, inputs: dict[str, Any], *, of_samples: bool = True
    ) -> None:
        for array in _arrays(arrays):
            if self.found is not None or array.dtype[:5] not in ("float", "bfloa"):
                continue
            values = array.numpy()
            place = _first_bad(values)
            if place is not None:
                which = self._which(values, of_samples and len(array.shape) > 0 and array.shape[0] == self.samples)
                index, value = place
                self.found = Finding(op, layer, direction, what, index, value, *which)
                self.inputs = {name: a for key, v in inputs.items() for name, a in _named(key, v)}

    def _which(self, values: np.ndarray, of_samples: bool) -> tuple[int | None, int, int]:
        """The first sample with such a value, how many have one, and of how many."""
        if not of_samples or not values.ndim:
            return None, 0, 0
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
        return self.first + int(np.argmax(bad)), int(bad.sum()), len(bad)

    def _top(self) -> str:
        top = self._layers[-1] if self._layers else None
        if top is None or id(top) not in self.names:
            return self.where if top is None else f"{self.where} ({_short(top)})"
        name = self.names[id(top)]
        return f"{name} ({_short(top)})" if name else _short(top)


_CALL, _ADD = Module.__call__.__code__, _add.__code__

# One batch of a step: images, labels, its share of the gradient (None: forward alone), the share of the penalty that it carries.
Part = tuple[Tensor, Tensor, float | None, float]
SharedPart = tuple[Tensor, Tensor, float, float]


def run(
    watch: Watch,
    model: Module,
    forward: Callable[[Tensor], Tensor],
    objective: Callable[[Tensor, Tensor, float], Tensor],
    parts: Sequence[Part],
) -> None:
    """The step's forward and backward passes under the watch, up to the update."""
    for i, (x, labels, _, _) in enumerate(parts):
        batch = f"of batch {i + 1} of {len(parts)}" if len(parts) > 1 else ""
        watch.before(f"the input {batch}".strip(), "", x.numpy(), samples=True)
        if labels.dtype[:5] == "float":
            watch.before(f"the labels {batch}".strip(), "", labels.numpy(), samples=True)
        watch.first += x.shape[0]
    for name, p in model.named_parameters():
        watch.before(f"parameter {name}", name.rpartition(".")[0], p.numpy())
        p.grad = None
    watch.first = 0
    with watch:
        for x, labels, share, penalised in parts:
            if watch.found is not None:
                return
            watch.samples = x.shape[0]
            logits = forward(x)
            if share is not None:
                watch.where = "the loss"
                loss = objective(logits, labels, penalised)
                if loss.requires_grad:
                    loss.backward(None if share == 1 else share)
                watch.where = "the model"
            watch.first += x.shape[0]


def _edges(frame: FrameType | None) -> Sequence[Op | Tensor | None]:
    """Where the gradients of a `backward` that runs in `frame` go: the tape has taken them off the operation."""
    while frame is not None and frame.f_code is not run_backward.__code__:
        frame = frame.f_back
    edges: Sequence[Op | Tensor | None] = frame.f_locals["edges"] if frame else ()
    return edges


def _behind_casts(edge: Op | Tensor | None) -> Op | Tensor | None:
    while isinstance(edge, Cast) and edge.edges:
        edge = edge.edges[0]
    return edge


def _short(module: Module) -> str:
    return type(module).__name__ if module._modules else repr(module)


def _first_bad(values: np.ndarray) -> tuple[tuple[int, ...], float] | None:
    """Index and value of the first one, in row-major (N, C, H, W) order."""
    finite = np.isfinite(values)
    if finite.all():
        return None
    index = np.unravel_index(int(np.argmin(finite)), values.shape) if values.shape else ()
    return tuple(int(i) for i in index), float(values[index])


def _arrays(result: Any) -> Iterator[_C.Array]:
    if isinstance(result, _C.Array):
        yield result
    elif isinstance(result, (tuple, list)):
        for each in result:
            yield from _arrays(each)


def _named(name: str, value: Any) -> Iterator[tuple[str, _C.Array]]:
    found = list(_arrays(value))
    yield from (
        ((name, a) for a in found) if len(found) == 1 and isinstance(value, _C.Array) else ((f"{name}.{i}", a) for i, a in enumerate(found))
    )
