"""Axes in Optuna's words, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arguments import shown
from .space import Axis, Choice, Integers, LogUniform, Range, Uniform

_PLAIN = (bool, int, float, str, type(None))


def distribution(axis: Axis) -> Any:
    """Its distribution: floats and whole numbers with both ends; a choice of what a table can hold, other values by number and name."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, Choice):
        return CategoricalDistribution(_words(axis))
    if isinstance(axis, Integers):
        return IntDistribution(axis.low, axis.high, log=axis.log)
    assert isinstance(axis, Range)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def axis_of(distribution: Any) -> Axis:
    """The axis of a distribution that `distribution` gave; what a table could not hold stays a word."""
    if hasattr(distribution, "choices"):
        return Choice(distribution.choices)
    if type(distribution).__name__ == "IntDistribution":
        return Integers(distribution.low, distribution.high, distribution.log)
    return (LogUniform if distribution.log else Uniform)(distribution.low, distribution.high)


def to_row(space: Mapping[str, Axis], values: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's values as a row has them."""
    return {name: _words(axis)[axis.position(values[name])] if isinstance(axis, Choice) else values[name] for name, axis in space.items()}


def from_row(space: Mapping[str, Axis], params: Mapping[str, Any]) -> dict[str, Any]:
    """And back; of a row whose values are not all there yet, those that are."""
    return {name: _value(axis, params[name]) for name, axis in space.items() if name in params}


def suggested(space: Mapping[str, Axis], trial: Any) -> dict[str, Any]:
    """What Optuna's sampler gives for one of its trials."""
    found = {}
    for name, axis in space.items():
        if isinstance(axis, Choice):
            found[name] = trial.suggest_categorical(name, _words(axis))
            continue
        assert isinstance(axis, Range)
        suggest: Callable[..., Any] = trial.suggest_int if isinstance(axis, Integers) else trial.suggest_float
        found[name] = suggest(name, axis.low, axis.high, log=axis.log)
    return from_row(space, found)


def _words(axis: Choice) -> list[Any]:
    return [value if type(value) in _PLAIN else f"{i}: {shown(value)}" for i, value in enumerate(axis.values)]


def _value(axis: Axis, param: Any) -> Any:
    if not isinstance(axis, Choice):
        return param
    words = _words(axis)
    return next((value for value, word in zip(axis.values, words) if type(word) is type(param) and word == param), param)
