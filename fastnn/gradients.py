"""Gradient checking by central differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .arguments import array, function, items, number, shown
from .tensor import Tensor, no_grad, tensor

_PROJECTED = " (of the result's projection, sum cos(1.7 i + 0.3) y_i)"


def gradcheck(fn: Callable[..., Tensor], inputs: Sequence[Any], *, eps: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-7) -> bool:
    """Compares the gradients of `fn` with (f(x + eps) - f(x - eps)) / (2 eps), everything in float64.

    `inputs` are Tensors or arrays; each float one is checked (it is copied to float64). Where `fn` is a nn.Module, so are its parameters that
    require a gradient: parameters and buffers are float64 while it is checked, and as they were afterwards. What else a function closes over is
    not checked. A result of several elements is projected on fixed pseudo-random numbers, and the figures are of that sum. At a kink (one-sided
    differences disagree) an element passes when its gradient lies between them.
    `fastnn.check_gradients` reports, of a model with its loss, too, instead of raising.
    Returns True, or raises AssertionError naming the input or parameter, the element and both figures; TypeError where the result depends on
    none of them, ValueError where `fn` gives other values for the same arguments.
    """
    function("gradcheck", "fn", fn, "a function of Tensors that returns one")
    number("gradcheck", "eps", eps, "(0, inf)")
    for name, bound in (("rtol", rtol), ("atol", atol)):
        number("gradcheck", name, bound, "[0, inf)")
    if isinstance(inputs, (Tensor, np.ndarray)):
        raise TypeError(f"gradcheck: inputs must be a list of arrays or Tensors, one for each argument of fn, got {shown(inputs)}")
    values = [array("gradcheck", "inputs", x) for x in items("gradcheck", "inputs", inputs, "a list of arrays or Tensors")]
    if not any(v.dtype.kind == "f" for v in values):
        raise ValueError("gradcheck: none of the inputs is of a float type; at least one must be")
    arguments = [tensor(v, dtype="float64", requires_grad=True) if v.dtype.kind == "f" else tensor(v) for v in values]

    def give(i: int) -> Callable[[np.ndarray], None]:
        def other(values: np.ndarray) -> None:  # a new Tensor: fn may keep what it was given
            arguments[i] = tensor(values, dtype="float64")

        return other

    with _in_float64(fn) as parameters:
        checked = {f"input {i}": (x, give(i)) for i, x in enumerate(arguments) if x.requires_grad}
        checked.update({f"parameter {name}": (p, p.copy_from) for name, p in parameters.items()})
        _check(lambda: fn(*arguments), checked, eps, rtol, atol)
    return True


@contextmanager
def _in_float64(fn: Any) -> Iterator[dict[str, Tensor]]:
    """A module's parameters that are trained; of any other function none. What it counts and averages meanwhile is forgotten."""
    if not hasattr(fn, "named_parameters"):
        yield {}
        return
    before = [(kept, kept._array, kept.grad) for kept in fn._state().values()]
    fn.double()
    for kept, values, _ in before:
        if kept._array is values:
            kept._array = tensor(kept)._array
    try:
        yield {name: p for name, p in fn.named_parameters() if p.requires_grad}
    finally:
        for kept, values, grad in before:
            kept._array, kept.grad = values, grad


_Checked = Mapping[str, tuple[Tensor, Callable[[np.ndarray], None]]]  # by name: the leaf, and what gives it other values


def _check(call: Callable[[], Tensor], checked: _Checked, eps: float, rtol: float, atol: float) -> None:
    y = call()
    if not isinstance(y, Tensor) or not y.requires_grad:
        kind = "a Tensor that depends on no input" if isinstance(y, Tensor) else shown(y)
        raise TypeError(f"gradcheck: fn must return a Tensor made of its arguments by fastnn's operations, it returned {kind}")
    direction = np.cos(np.arange(y.size) * 1.7 + 0.3).reshape(y.shape) if y.size > 1 else np.ones(y.shape)
    here = float(np.sum(y.numpy() * direction))
    y.backward(direction)
    with no_grad():
        if not np.array_equal(call().numpy(), y.numpy(), equal_nan=True):
            raise ValueError(
                "gradcheck: fn gives other values for the same arguments, so differences say nothing: put dropout into evaluation mode, or call "
                "fastnn.seed inside of fn"
            )
        for name, (x, give) in checked.items():
            values, analytic = x.numpy().copy(), np.zeros(x.shape) if x.grad is None else x.grad.numpy()
            for at in np.ndindex(values.shape):
                results = []
                for delta in (eps, -eps):
                    moved = values.copy()
                    moved[at] += delta
                    give(moved)
                    results.append(float(np.sum(call().numpy() * direction)))
                (up, down), got = results, float(analytic[at])
                if not _agrees(got, up, here, down, eps, rtol, atol):
                    said = f"backward gives {got:.9g}, central difference {(up - down) / (2 * eps):.9g}{_PROJECTED if y.size > 1 else ''}"
                    raise AssertionError(f"gradcheck: {name}, element {at}: {said}")
            give(values)
    if all(x.grad is None for x, _ in checked.values()):
        raise TypeError(
            "gradcheck: the result depends on no input, so nothing was checked: fn has to work on the arguments that it is given, not on Tensors "
            "that it closes over"
        )


def _agrees(got: float, up: float, here: float, down: float, eps: float, rtol: float, atol: float) -> bool:
    numeric = (up - down) / (2 * eps)
    if abs(got - numeric) <= atol + rtol * max(abs(numeric), abs(got)) + 1e-15 * abs(here) / eps * 8:
        return True
    right, left = (up - here) / eps, (here - down) / eps
    kink = abs(right - left) > 1e-3 * max(abs(right), abs(left), 1e-3)
    return kink and min(left, right) - atol <= got <= max(left, right) + atol
