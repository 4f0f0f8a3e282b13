"""The gradient of every operation, layer and loss by central differences in float64, found by name: a new one comes with its arguments in
tests/bad_calls. Kinks, shapes and corners stand in the file of each operation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bad_calls.nn import LAYERS, LOSSES
from bad_calls.ops import GOOD

import fastnn
from fastnn import nn, ops

# without a gradient
FLAT = {"equal", "greater", "greater_equal", "less", "less_equal", "not_equal"}
# what central differences in float64 cannot follow, and where it is looked at instead
ELSEWHERE = {"cast": "rounds to bfloat16: test_mixed.py"}
POSITIVE = {"log", "sqrt"}


def arguments_of(name: str) -> dict[str, Any]:
    arguments = {key: make() for key, make in GOOD[name].items()}
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
        given.update({key: fastnn.tensor(arguments[key].numpy(), "float64") for key in statistics})
        y = getattr(ops, name)(**{**arguments, **given})
        return y[0] if isinstance(y, tuple) else y

    assert fastnn.gradcheck(call, inputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layer(name: str) -> None:
    """Of the input and of every parameter."""
    good, make_input = LAYERS[name]
    fastnn.seed(1)
    layer = getattr(nn, name)(**{key: make() for key, make in good.items()}).double()
    start = {key: value.copy() for key, value in layer.state_dict().items()}
    parameters = dict(layer.named_parameters())

    def call(x: fastnn.Tensor, *values: fastnn.Tensor) -> fastnn.Tensor:
        fastnn.seed(0)
        layer.load_state_dict(start)  # running statistics too
        for key, value in zip(parameters, values):
            *path, last = key.split(".")
            holder = layer
            for part in path:
                holder = getattr(holder, part)
            holder._parameters[last] = value  # a tensor whose gradient is asked for
        y = layer(x)
        return y[0] if isinstance(y, tuple) else y

    assert fastnn.gradcheck(call, [make_input(), *(p.numpy() for p in parameters.values())], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_loss(name: str) -> None:
    good, make_target = LOSSES[name]
    loss, target = getattr(nn, name)(**{key: make() for key, make in good.items()}).double(), make_target()
    x = np.random.default_rng(0).standard_normal((4, 3))
    if isinstance(target, fastnn.Tensor):
        assert fastnn.gradcheck(loss, [x, target.numpy() + 0.25], rtol=1e-5, atol=1e-6)
    else:
        assert fastnn.gradcheck(lambda scores: loss(scores, target), [x], rtol=1e-5, atol=1e-6)


def test_nothing_is_left_out() -> None:
    assert set(GOOD) == set(ops.__all__) and set(ELSEWHERE) | FLAT <= set(ops.__all__)
    made = {name for name in nn.__all__ if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)}
    others = {"MaxUnpool2d", "Module", "ModuleDict", "ModuleList", "Sequential"}  # ops.max_unpool2d; containers
    assert made - others == set(LAYERS) | set(LOSSES)
