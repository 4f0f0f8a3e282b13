"""The gradient of every operation, layer and loss by central differences in float64, found by name: a new one comes with its arguments in
tests/bad_calls. Kinks, shapes and corners stand in the file of each operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bad_calls.nn import LAYERS, LOSSES
from bad_calls.ops import GOOD
from bad_calls.optim import Good

import fastnn
from fastnn import nn, ops

# without a gradient
FLAT = {"equal", "greater", "greater_equal", "less", "less_equal", "not_equal"}
# what central differences in float64 cannot follow, and where it is looked at instead
ELSEWHERE = {"cast": "rounds to bfloat16: test_mixed.py"}
POSITIVE = {"log", "sqrt"}


def arguments_of(name: str) -> dict[str, Any]:
    arguments = {key: make() for key, make in GOOD[name].items()}
    for key in {"b", "target"} & set(arguments):  # else it is what x or a is
        if isinstance(arguments[key], fastnn.Tensor):
            arguments[key] = fastnn.tensor(arguments[key].numpy()[::-1] * 1.7)
    if name in POSITIVE:
        arguments["x"] = fastnn.tensor(np.abs(arguments["x"].numpy()) + 0.5)
    if name in ("divide",):
        arguments["b"] = fastnn.tensor(np.abs(arguments["b"].numpy()) + 0.5)
    return arguments


@pytest.mark.parametrize("name", sorted(set(ops.__all__) - FLAT - set(ELSEWHERE)))
def test_operation(name: str) -> None:
    arguments = arguments_of(name)
    leaves = {key: value for key, value in arguments.items() if isinstance(value, fastnn.Tensor) and not key.startswith("running")}
    listed = {key: value for key, value in arguments.items() if isinstance(value, list) and isinstance(value[0], fastnn.Tensor)}
    assert leaves or listed
    statistics = [key for key in arguments if key.startswith("running")]
    inputs = [*leaves.values(), *(one for several in listed.values() for one in several)]

    def call(*values: fastnn.Tensor) -> fastnn.Tensor:
        fastnn.seed(0)  # the same masks, regions and noise each time
        given, rest = dict(zip(leaves, values)), iter(values[len(leaves) :])
        given.update({key: [next(rest) for _ in several] for key, several in listed.items()})
        given.update({key: fastnn.tensor(arguments[key].numpy(), values[0].dtype) for key in statistics})
        y = getattr(ops, name)(**{**arguments, **given})
        return y[0] if isinstance(y, tuple) else y

    assert fastnn.gradcheck(call, inputs, rtol=1e-5, atol=1e-6)
    same_in_float32(call, inputs)


def both(kind: type[nn.Module], good: Good) -> dict[str, nn.Module]:
    """The same one for each type."""
    made = {}
    for dtype in ("float32", "float64"):
        fastnn.seed(1)
        made[dtype] = kind(**{key: make() for key, make in good.items()})
    return {**made, "float64": made["float64"].double()}


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layer(name: str) -> None:
    """Of the input and of every parameter."""
    good, make_input = LAYERS[name]
    layers = both(getattr(nn, name), good)
    starts = {dtype: {key: value.copy() for key, value in layer.state_dict().items()} for dtype, layer in layers.items()}
    parameters = dict(layers["float64"].named_parameters())

    def call(x: fastnn.Tensor, *values: fastnn.Tensor) -> fastnn.Tensor:
        fastnn.seed(0)
        layer = layers[x.dtype]
        layer.load_state_dict(starts[x.dtype])  # running statistics too
        for key, value in zip(parameters, values):
            *path, last = key.split(".")
            holder = layer
            for part in path:
                holder = getattr(holder, part)
            holder._parameters[last] = value  # a tensor whose gradient is asked for
        y = layer(x)
        return y[0] if isinstance(y, tuple) else y

    inputs = [make_input(), *(p.numpy() for p in parameters.values())]
    assert fastnn.gradcheck(call, inputs, rtol=1e-5, atol=1e-6)
    same_in_float32(call, inputs, 5e-6 if name == "ConvTranspose2d" else 1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_loss(name: str) -> None:
    good, make_target = LOSSES[name]
    losses, target = both(getattr(nn, name), good), make_target()
    inputs = [np.random.default_rng(0).standard_normal((4, 3))]
    if isinstance(target, fastnn.Tensor):
        inputs.append(target.numpy() + 0.25)

    def call(x: fastnn.Tensor, y: Any = target) -> fastnn.Tensor:
        value: fastnn.Tensor = losses[x.dtype](x, y)
        return value

    assert fastnn.gradcheck(call, inputs, rtol=1e-5, atol=1e-6)
    same_in_float32(call, inputs)


def test_nothing_is_left_out() -> None:
    assert set(GOOD) == set(ops.__all__) and set(ELSEWHERE) | FLAT <= set(ops.__all__)
    made = {name for name in nn.__all__ if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)}
    others = {"MaxUnpool2d", "Module", "ModuleDict", "ModuleList", "Sequential"}  # ops.max_unpool2d; containers
    assert made - others == set(LAYERS) | set(LOSSES)


def gradients(call: Callable[..., Any], inputs: list[np.ndarray], dtype: str) -> list[np.ndarray]:
    """Of the result times fixed numbers, in dtype, for each input."""
    leaves = [fastnn.tensor(x, dtype, requires_grad=True) for x in inputs]
    y = call(*leaves)
    y.backward(np.random.default_rng(1).standard_normal(y.shape).astype(dtype))
    return [np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy().astype(np.float64) for leaf in leaves]


def same_in_float32(call: Callable[..., Any], inputs: list[Any], most: float = 1e-6) -> None:
    """The gradients in float32 beside those in float64, whose differences are of the size of the largest gradient of all."""
    values = [np.asarray(x.numpy() if isinstance(x, fastnn.Tensor) else x, np.float32) for x in inputs]
    narrow, wide = (gradients(call, values, dtype) for dtype in ("float32", "float64"))
    largest = max(np.abs(g).max(initial=0) for g in wide)
    assert largest > 0
    for got, expected in zip(narrow, wide, strict=True):
        assert np.abs(got - expected).max(initial=0) < most * largest
