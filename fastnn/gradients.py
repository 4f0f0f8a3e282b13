"""Gradient checking by central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arguments import array, function, items, number, shown
from .tensor import Tensor, no_grad, tensor


def gradcheck(fn: Callable[..., Tensor], inputs: Sequence[Any], *, eps: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-7) -> bool:
    """Compares the gradients of `fn` with (f(x + eps) - f(x - eps)) / (2 eps), everything in float64.

    `inputs` are Tensors or arrays; each float one is checked (it is copied to float64). The result of `fn` may have any shape: it is
    projected on fixed pseudo-random numbers. At a kink (one-sided differences disagree) an element passes when its gradient lies between them.
    Returns True, or raises AssertionError naming the input, the element and both figures; TypeError where the result depends on none of them,
    ValueError where `fn` gives other values for the same arguments.
    """
    function("gradcheck", "fn", fn, "a function of Tensors that returns one")
    number("gradcheck", "eps", eps, "(0, inf)")
    for name, bound in (("rtol", rtol), ("atol", atol)):
        number("gradcheck", name, bound, "[0, inf)")
    if isinstance(inputs, (Tensor, np.ndarray)):
        raise TypeError(f"gradcheck: inputs must be a list of arrays or Tensors, one for each argument of fn, got {shown(inputs)}")
    values = [array("gradcheck", "inputs", x) for x in items("gradcheck", "inputs", inputs, "a list of arrays or Tensors")]
    float_inputs = [i for i, v in enumerate(values) if v.dtype.kind == "f"]
    if not float_inputs:
        raise ValueError("gradcheck: none of the inputs is of a float type; at least one must be")
    doubles = [v.astype(np.float64) if i in float_inputs else v for i, v in enumerate(values)]

    leaves = [tensor(v, dtype="float64", requires_grad=True) if i in float_inputs else tensor(v) for i, v in enumerate(doubles)]
    y = fn(*leaves)
    if not isinstance(y, Tensor) or not y.requires_grad:
        kind = "a Tensor that depends on no input" if isinstance(y, Tensor) else shown(y)
        raise TypeError(f"gradcheck: fn must return a Tensor made of its arguments by fastnn's operations, it returned {kind}")
    direction = np.cos(np.arange(y.size) * 1.7 + 0.3).reshape(y.shape)
    y.backward(direction)
    with no_grad():
        if not np.array_equal(fn(*leaves).numpy(), y.numpy(), equal_nan=True):
            raise ValueError(
                "gradcheck: fn gives other values for the same arguments, so differences say nothing: put dropout into evaluation mode, or call "
                "fastnn.seed inside of fn"
            )

    def projected(i: int, at: tuple[int, ...], delta: float) -> float:
        moved = doubles[i].copy()
        moved[at] += delta
        with no_grad():
            arguments = [tensor(moved if j == i else v, dtype="float64" if j in float_inputs else None) for j, v in enumerate(doubles)]
            return float(np.sum(fn(*arguments).numpy() * direction))

    for i in float_inputs:
        grad = leaves[i].grad
        analytic = np.zeros_like(doubles[i]) if grad is None else grad.numpy()
        for at in np.ndindex(doubles[i].shape):
            up, here, down = projected(i, at, eps), projected(i, at, 0.0), projected(i, at, -eps)
            numeric, got = (up - down) / (2 * eps), float(analytic[at])
            if abs(got - numeric) <= atol + rtol * max(abs(numeric), abs(got)) + 1e-15 * abs(here) / eps * 8:
                continue
            right, left = (up - here) / eps, (here - down) / eps
            kink = abs(right - left) > 1e-3 * max(abs(right), abs(left), 1e-3)
            if kink and min(left, right) - atol <= got <= max(left, right) + atol:
                continue
            raise AssertionError(f"gradcheck: input {i}, element {at}: backward gives {got:.9g}, central difference {numeric:.9g}")
    if all(leaves[i].grad is None for i in float_inputs):
        raise TypeError(
            "gradcheck: the result depends on no input, so nothing was checked: fn has to work on the arguments that it is given, not on Tensors "
            "that it closes over"
        )
    return True
