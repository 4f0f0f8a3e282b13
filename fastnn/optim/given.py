"""What optimizers are given: parameters in PyTorch's forms, and states from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _C, recording
from ..arguments import array, integer, items, shown
from ..tensor import Array, Tensor


def groups_given(what: str, params: Any) -> list[Any]:
    """The parameter groups that `params` stands for."""
    if hasattr(params, "parameters"):
        raise TypeError(f"{what}: params must be an iterable of parameters, got a single {shown(params)}; model.parameters() is one")
    if isinstance(params, dict):
        wanted = (
            "a list of parameter groups, got a single dict: [{'params': ...}]"
            if "params" in params
            else "parameters, got a dict; model.parameters() are a model's"
        )
        raise TypeError(f"{what}: params must be {wanted}")
    given = _listed(what, params)
    if not given:
        raise ValueError(f"{what}: no parameters given")
    return given if isinstance(given[0], dict) else [{"params": given}]


def parameters_given(what: str, params: Any) -> dict[str, list[Any]]:
    """{"params": leaf tensors} of a group and, where they came as pairs, {"param_names": their names}."""
    given = [params] if isinstance(params, Tensor) else _listed(what, params)
    named = [isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str) for p in given]
    if any(named) and not all(named):
        raise ValueError(f"{what}: some parameters have names and some have none; give model.named_parameters() or model.parameters()")
    parameters = [p[1] for p in given] if any(named) else given
    for p in parameters:
        if not isinstance(p, Tensor) or not p.is_leaf:
            kind = "the result of an operation" if isinstance(p, Tensor) else shown(p)
            raise TypeError(f"{what}: parameters must be leaf tensors, got {kind}")
        if p.dtype not in ("float32", "float64"):
            raise TypeError(f"{what}: parameters must be float32 or float64, got a tensor of {p.dtype}")
    return {"params": parameters, **({"param_names": [p[0] for p in given]} if any(named) else {})}


def _listed(what: str, params: Any) -> list[Any]:
    if isinstance(params, (set, frozenset)):
        raise TypeError(f"{what}: params must have an order that stays, since states are kept by position: a list, not a set")
    if isinstance(params, Tensor):
        raise TypeError(f"{what}: params must be an iterable of parameters, got a single {shown(params)}")
    return items(what, "params", params, "an iterable of parameters")


# --- states


def steps_of(what: str, state: Any) -> int:
    """ "steps" of a state."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{what}: expected what state_dict() gave, got {shown(state)}")
    if "steps" not in state:
        theirs = "; PyTorch's optimizers have other states: take over the model's weights, and begin with a new optimizer"
        raise ValueError(f"{what}: 'steps' is missing{theirs if 'param_groups' in state else ''}")
    return integer(what, "steps", state["steps"])


def array_of(what: str, key: str, value: Any, beside: Tensor) -> Array:
    """An array of a state, in the type and the place of its parameter. It must have its shape."""
    values = array(what, key, value)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{what}: {key} holds {values.dtype}; expected numbers")
    if values.shape != beside.shape:
        raise ValueError(f"{what}: {key} has shape {values.shape}; its parameter {beside.shape}")
    return _C.from_numpy(values.astype(beside.dtype, copy=False), beside.device)


def followed(what: str, array: Array, t: Tensor) -> Array:
    """State where its tensor is now, and in the type of that where nothing is lost: float32 becomes float64. ValueError the other way."""
    if array.dtype == t.dtype:
        return array.constant_on(t.device)  # at once, also while a step is recorded
    if (array.dtype, t.dtype) != ("float32", "float64"):
        raise ValueError(
            f"{what} was made in {array.dtype}; in {t.dtype}, as the parameter is now, it would lose digits: make a new optimizer"
        )
    if recording.current() is not None:
        raise ValueError(
            f"{what} was made in {array.dtype}, and the parameter is {t.dtype} now: do the next step uncaptured, which converts it, or make "
            "a new optimizer"
        )
    return _C.constant(array.numpy().astype(t.dtype), t.device)


def numbers_of(what: str, key: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a state as float64, or as the integers they are."""
    values = array(what, key, value)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{what}: {key} holds {values.dtype}; expected numbers")
    if values.shape != shape:
        raise ValueError(f"{what}: {key} has shape {values.shape}; expected {shape}")
    return values
