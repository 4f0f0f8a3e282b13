"""The gradients of anything, an operation, a layer, a model with its loss, beside differences: a report."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any
from zlib import crc32

import numpy as np

from . import random
from .arguments import array, function, integer, items, number, shown
from .exclusive import refuse_others
from .function import Function, _UserOp
from .gradient_table import GOOD, GradientCheck, GradientReport
from .nn import Module
from .tensor import Tensor, no_grad, tensor

_WHAT = "check_gradients"
_STEPS = 8.0  # the second step is so much smaller, the third so much larger
_BY_ITSELF = 500  # elements of a Function's arguments, which is soon done
_UNIT = 4 * 2.0**-52  # of the sum of the result's magnitudes: what rounding makes of it


def check_gradients(
    fn: Callable[..., Tensor],
    inputs: Any,
    *,
    loss: Callable[..., Tensor] | None = None,
    samples: int | None = 20,
    eps: float = 1e-5,
    seed: int = 0,
) -> GradientReport:
    """Compares backward with central differences for every float input and every trained parameter, in float64, and reports each by name.

        print(fastnn.check_gradients(ops.conv2d, [x, w, b]))                                # an operation, a Function.apply
        print(fastnn.check_gradients(nn.BatchNorm2d(3), x))                                 # a layer: its input and its parameters
        print(fastnn.check_gradients(model, (x, labels), loss=nn.CrossEntropyLoss()))       # a model with its loss, on a batch of a Loader
        assert fastnn.check_gradients(model, (x, labels), loss=nn.CrossEntropyLoss()).ok

    fn: a function of Tensors, or a Module, of which a copy in float64 on the CPU is checked, in the mode (training, evaluation) that it is in: the
    model itself, its gradients, its running statistics and the generator stay as they are. inputs: an array or Tensor, or a list of them, one for
    each argument. loss: a function of (result, target), whose parameters are checked, too, where it is a Module ("loss.weight"); the last of
    `inputs` is then the target, which is not checked. A result of several elements is projected on fixed numbers, sum cos(1.7 i + 0.3) y_i.
    samples: how many elements of each array are looked at, drawn by `seed` without repetition; None: all of them. Each takes two forward passes.
    Layers that draw (dropout) draw the same masks each time: `seed` is the generator's.

    The numeric derivative n = (f(x + h) - f(x - h)) / (2 h) has h = eps max(1, |x|); with a = backward's, the relative error of an element is
    |a - n| / max(|a|, |n|), and 0 where both are 0. Where that is above 1e-7, what rounding alone can make of |a - n| is taken off
    (4 * 2^-52 sum |y_i| / h), steps of h / 8 and 8 h are tried, and the least error counts. By CS231n ("Gradient checks") up to 1e-7 is good; up
    to 1e-4 fair, for results with kinks or of many layers; above it is doubtful, and above 1e-2 the gradient is most likely wrong.
    An element whose difference straddles a kink (of ReLU, max, |x|) is left out and counted: its one-sided differences (f(x + h) - f(x)) / h and
    (f(x) - f(x - h)) / h lie as far apart as would explain the error, |a - n| <= |right - left| / 2, and not as of a smooth function, for which
    they are 8 times closer for a step of h / 8 and n is the same.

    Where a gradient is wrong, every `fastnn.Function` that was applied is checked by itself, with the arguments that it had; `functions` of the
    report, and the lines below its table, name those whose backward is wrong, and their layer.

    Raises TypeError where `fn` gives no Tensor, or one that depends on nothing that is checked; ValueError where there is nothing to check, the
    result is no number, or `fn` gives other values for the same arguments; RuntimeError while another thread fits the model.
    """
    function(_WHAT, "fn", fn, "a function of Tensors that returns one, or a Module")
    if loss is not None:
        function(_WHAT, "loss", loss, "a function of (result, target), such as nn.CrossEntropyLoss()")
    if samples is not None:
        integer(_WHAT, "samples", samples, 1)
    number(_WHAT, "eps", eps, "(0, 1)")
    values = _arrays(inputs, loss is not None)
    generator = random.Generator(integer(_WHAT, "seed", seed, 0, 2**63))
    copies: dict[int, Any] = {}  # of both: they may share parameters
    fn, loss = _copied(fn, copies), _copied(loss, copies)
    target = [] if loss is None else [_constant(values.pop())]
    given = [tensor(v, "float64", requires_grad=True) if v.dtype.kind == "f" else tensor(v) for v in values]
    modules = [(prefix, part) for prefix, part in (("", fn), ("loss.", loss)) if isinstance(part, Module)]
    named = [(f"input {i}", x) for i, x in enumerate(given)]
    named += [(prefix + name, p) for prefix, part in modules for name, p in part.named_parameters()]
    first = {id(leaf): name for name, leaf in reversed(named)}  # loss and model may share some
    leaves = {name: leaf for name, leaf in named if leaf.requires_grad and first[id(leaf)] == name}
    if not leaves:
        raise ValueError(f"{_WHAT}: none of the inputs is of a float type, and fn has no parameters that are trained; at least one must be")
    buffers = [
        (m._buffers, name, b, b._array) for _, part in modules for m in part.modules() for name, b in m._buffers.items() if b is not None
    ]

    def call() -> Tensor:
        generator.draw = 0
        for there, name, buffer, before in buffers:  # running statistics move on in training
            buffer._array = before.to("cpu")
            there[name] = buffer
        y = fn(*given)
        y = y if loss is None else loss(y, *target)
        return y[0] if isinstance(y, tuple) and y else y  # of a pool with indices

    with random.using(generator):
        calls = _Calls({id(m): f"{prefix}{name}" for prefix, part in modules for name, m in part.named_modules()})
        with calls.noted():
            y = call()
        checks = _compared(_Result(call, y), leaves, samples, eps, seed)
        wrong = any(check.verdict in ("doubtful", "wrong") for check in checks)
        more = None if samples is None else max(samples, _BY_ITSELF)
        functions = [found for one in calls.found.values() for found in one.checked(more, eps, seed)] if wrong else []
    return GradientReport(checks, functions)


def _arrays(inputs: Any, with_target: bool) -> list[np.ndarray]:
    wanted = "an array or a Tensor, or a list of them, one for each argument of fn"
    several = [inputs] if isinstance(inputs, (Tensor, np.ndarray)) or hasattr(inputs, "detach") else items(_WHAT, "inputs", inputs, wanted)
    values = [array(_WHAT, "inputs", x, wanted) for x in several]
    if odd := [v for v in values if v.dtype.kind not in "fiub"]:
        raise TypeError(f"{_WHAT}: inputs must be {wanted}, got one of {odd[0].dtype}")
    if with_target and len(values) < 2:
        raise ValueError(f"{_WHAT}: inputs must be (x, target) where there is a loss, as a Loader's batches are; got {len(values)}")
    return values


def _copied(part: Any, copies: dict[int, Any]) -> Any:
    """In float64 on the CPU, of a Module."""
    if not isinstance(part, Module):
        return part
    refuse_others(_WHAT, "model", part)
    copied = copy.deepcopy(part, copies).to("cpu").double()
    copied.zero_grad()
    return copied


def _constant(target: np.ndarray) -> Tensor:
    return tensor(target, "float64" if target.dtype.kind == "f" else None)


class _Result:
    """A function as it stands, and its result's projection."""

    def __init__(self, call: Callable[[], Tensor], y: Any) -> None:
        if not isinstance(y, Tensor) or not y.requires_grad:
            kind = "a Tensor that depends on no input and no parameter" if isinstance(y, Tensor) else shown(y)
            raise TypeError(f"{_WHAT}: fn must return a Tensor made of its arguments by fastnn's operations, it returned {kind}")
        self.call, self.y = call, y
        self.direction = np.cos(np.arange(y.size) * 1.7 + 0.3).reshape(y.shape) if y.size > 1 else np.ones(y.shape)
        values = y.numpy().astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{_WHAT}: the result of fn is no finite number, so differences say nothing; expected other inputs or parameters"
            )
        self.here, self.rounding = float(np.sum(values * self.direction)), _UNIT * float(np.sum(np.abs(values * self.direction)))
        with no_grad():
            if not np.array_equal(call().numpy(), y.numpy()):
                raise ValueError(
                    f"{_WHAT}: fn gives other values for the same arguments, so differences say nothing; expected that what it draws comes "
                    "from fastnn's generator"
                )

    def __call__(self) -> float:
        return float(np.sum(self.call().numpy().astype(np.float64) * self.direction))


def _compared(result: _Result, leaves: dict[str, Tensor], samples: int | None, eps: float, seed: int) -> list[GradientCheck]:
    result.y.backward(result.direction)
    if all(leaf.grad is None for leaf in leaves.values()):
        raise TypeError(
            f"{_WHAT}: the result depends on no input and no parameter, so nothing was checked; fn has to work on its arguments"
        )
    gradients = {name: None if leaf.grad is None else leaf.grad.numpy().astype(np.float64) for name, leaf in leaves.items()}
    with no_grad():
        return [_one(result, name, leaf, gradients[name], samples, eps, seed) for name, leaf in leaves.items()]


def _one(
    result: _Result, name: str, leaf: Tensor, gradient: np.ndarray | None, samples: int | None, eps: float, seed: int
) -> GradientCheck:
    check = GradientCheck(name, leaf.shape, 0, 0, 0.0, (), 0.0, 0.0, gradient is not None)
    analytic = np.zeros(leaf.shape) if gradient is None else gradient
    values, worst = leaf.numpy().copy(), -1.0
    for place in _places(name, values.size, samples, seed):
        index = tuple(int(i) for i in np.unravel_index(place, values.shape))
        element = _Element(result, leaf, values, index)
        try:
            error, numeric = element.compared(float(analytic[index]), eps)
        finally:
            element.move(0.0)
        check.checked += 1
        check.kinks += error is None
        if error is not None and error > worst:
            worst = error
            check.error, check.index, check.analytic, check.numeric = error, index, float(analytic[index]), numeric
    return check


def _places(name: str, size: int, samples: int | None, seed: int) -> Sequence[int]:
    if samples is None or samples >= size:
        return range(size)
    generator, count, found = random.Generator(seed), samples, dict[int, None]()
    while len(found) < samples:
        count *= 2
        found = dict.fromkeys((generator.bits(count, crc32(name.encode()), random.ORDER) % size).tolist())
    return sorted(list(found)[:samples])


class _Element:
    """One number of a leaf, which is moved and put back."""

    def __init__(self, result: _Result, leaf: Tensor, values: np.ndarray, index: tuple[int, ...]) -> None:
        self.result, self.leaf, self.values, self.index = result, leaf, values, index

    def move(self, by: float) -> float:
        """The step as it is: x + h is rounded."""
        moved = self.values.copy()
        moved[self.index] += by
        self.leaf._array = tensor(moved, "float64")._array  # a new one: fn may keep what it was given
        return float(moved[self.index] - self.values[self.index])

    def compared(self, analytic: float, eps: float) -> tuple[float | None, float]:
        """The relative error, or None at a kink, and the numeric derivative."""
        h = eps * max(1.0, abs(float(self.values[self.index])))
        first = self._differences(h)
        error = self._error(analytic, first, h)
        if error <= GOOD:
            return error, first.central
        closer = self._differences(h / _STEPS)
        if _is_kink(analytic, first, closer):
            return None, first.central
        farther = self._differences(h * _STEPS)
        tried = [(error, first.central)]
        tried += [(self._error(analytic, d, step), d.central) for d, step in ((closer, h / _STEPS), (farther, h * _STEPS))]
        least, numeric = min(tried, key=lambda one: one[0])
        return (least, numeric) if least < error else (error, first.central)

    def _differences(self, h: float) -> _Differences:
        up = self.move(h)
        above = self.result()
        down = self.move(-h)
        below, here = self.result(), self.result.here
        return _Differences((above - below) / (up - down), (above - here) / up, (below - here) / down)

    def _error(self, analytic: float, differences: _Differences, h: float) -> float:
        apart, most = abs(analytic - differences.central), max(abs(analytic), abs(differences.central))
        if not np.isfinite(apart):
            return float("inf")
        if apart > GOOD * most:
            apart = max(0.0, apart - self.result.rounding / h)
        return apart / most if most else 0.0


@dataclass
class _Differences:
    central: float
    right: float
    left: float

    @property
    def gap(self) -> float:
        return abs(self.right - self.left)


def _is_kink(analytic: float, first: _Differences, closer: _Differences) -> bool:
    """Whether a kink within the step explains the error: it lies apart by no more than half of the jump, and either the jump is still there
    when one goes closer (of a smooth function it would be an eighth), or it is gone, and the derivative is another. Rounding would grow by 8."""
    apart = abs(analytic - first.central)
    explained = apart <= 0.5 * first.gap * (1 + 1e-6) and closer.gap <= 1.5 * first.gap
    return explained and (closer.gap > 0.5 * first.gap or abs(first.central - closer.central) > 0.25 * apart)


# --- which Function it is


@dataclass
class _Applied:
    """One Function in one layer, and what it was first given."""

    function: type[Function]
    layer: str
    args: list[Any] = field(default_factory=list)

    def checked(self, samples: int | None, eps: float, seed: int) -> Iterator[GradientCheck]:
        """Of each argument whose gradient is wrong."""
        leaves = {}
        args = [tensor(a, "float64" if a.dtype.kind == "f" else None) if isinstance(a, np.ndarray) else a for a in self.args]
        for i, one in enumerate(args):
            if isinstance(one, Tensor) and one.dtype == "float64":
                one.requires_grad = True
                leaves[f"{self.function.__name__}.backward{self.layer and f' in {self.layer}'}, argument {i}"] = one
        if not leaves:
            return
        generator = random.default_generator()
        begin = generator.draw

        def call() -> Tensor:
            generator.draw = begin
            return self.function.apply(*args)

        yield from (c for c in _compared(_Result(call, call()), leaves, samples, eps, seed) if c.verdict in ("doubtful", "wrong"))


class _Calls:
    """The Functions that are applied inside the block, in this thread: the interpreter's profile hook tells of them."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.found: dict[tuple[type[Function], str], _Applied] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(before if callable(before) else None)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or frame.f_code is not _FORWARD:
            return
        op, arrays = frame.f_locals["self"], frame.f_locals["arrays"]
        args = [value if one is None else np.array(one.numpy()) for value, one in zip(op.args, arrays)]
        layer = self._layer(frame)
        self.found.setdefault((op.function, layer), _Applied(op.function, layer, args))

    def _layer(self, frame: FrameType | None) -> str:
        while frame is not None:
            if frame.f_code.co_name == "__call__" and (name := self.names.get(id(frame.f_locals.get("self")))) is not None:
                return name
            frame = frame.f_back
        return ""


_FORWARD = _UserOp.forward.__code__
