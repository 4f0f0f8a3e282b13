"""What all optimizers share: parameter groups, rates that may be schedules, state that can be saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from .. import _C
from ..tensor import Array, Tensor
from .schedules import Schedule

Rate = float | Schedule
Parameters = Iterable[Tensor | dict[str, Any]]


class Optimizer:
    """Base of the optimizers. `params` is an iterable of parameters, or of groups {"params": [...], "lr": ..., other options}.

    A learning rate is a number or a schedule (a function of the step, counted from 0). Subclasses name their `options` (with defaults), the
    columns of the rates that their kernel reads, and the arrays (`slots`) they keep per parameter.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(f"{type(self).__name__}: params must be an iterable of parameters, got a single {type(params).__name__}")
        given = list(params)
        if not given:
            raise ValueError(f"{type(self).__name__}: no parameters given")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = []
        seen: set[int] = set()
        for group in groups:
            if not isinstance(group, dict):
                raise TypeError(f"{type(self).__name__}: expected parameter groups (dicts) throughout, got {type(group).__name__}")
            unknown = set(group) - set(defaults) - {"params"}
            if unknown:
                raise TypeError(
                    f"{type(self).__name__}: unknown option {', '.join(sorted(unknown))} in a parameter group; options are {', '.join(defaults)}"
                )
            merged = {**defaults, **group, "params": list(group["params"])}
            self._check(merged)
            for p in merged["params"]:
                if not isinstance(p, Tensor) or not p.is_leaf:
                    raise TypeError(f"{type(self).__name__}: parameters must be leaf tensors, got {type(p).__name__}")
                if id(p) in seen:
                    raise ValueError(f"{type(self).__name__}: a parameter of shape {p.shape} appears twice")
                seen.add(id(p))
            self.param_groups.append(merged)
        self.steps = 0
        self._state: dict[str, list[Array | None]] = {slot: [None] * len(seen) for slot in self.slots}

    def _check(self, group: dict[str, Any]) -> None:
        name = type(self).__name__
        if not callable(group["lr"]) and not isinstance(group["lr"], Real):
            raise TypeError(f"{name}: lr must be a number or a schedule, got {type(group['lr']).__name__}")
        if not callable(group["lr"]) and not group["lr"] >= 0:
            raise ValueError(f"{name}: lr must not be negative, got {group['lr']}")
        if not group["weight_decay"] >= 0:
            raise ValueError(f"{name}: weight_decay must not be negative, got {group['weight_decay']}")

    def _columns(self, group: dict[str, Any], lr: float) -> list[float]:
        raise NotImplementedError

    def _launch(self, groups: int, w: list[Array], g: list[Array], state: list[list[Array]], group: Array, rates: Array) -> None:
        raise NotImplementedError

    def rates(self) -> list[float]:
        """The learning rate of each group at the next step."""
        return [float(g["lr"](self.steps)) if callable(g["lr"]) else float(g["lr"]) for g in self.param_groups]

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update of every parameter that has a gradient. `closure`, when given, computes the loss and its gradients first; its loss is returned."""
        loss = closure() if closure is not None else None
        rates = np.array([self._columns(group, lr) for group, lr in zip(self.param_groups, self.rates())], np.float64)
        together: dict[tuple[str, str], list[tuple[int, int, Tensor]]] = {}  # by dtype and device: (position, group, parameter)
        position = 0
        for number, group in enumerate(self.param_groups):
            for p in group["params"]:
                if p.grad is not None:
                    if p.grad.shape != p.shape:
                        raise ValueError(f"{type(self).__name__}: a gradient has shape {p.grad.shape}; its parameter {p.shape}")
                    together.setdefault((p.dtype, p.device), []).append((position, number, p))
                position += 1
        for (_, device), members in together.items():
            numbers = _C.from_numpy(np.array([number for _, number, _ in members], np.int64), device)
            state = [[self._slot(slot, i, p) for i, _, p in members] for slot in self.slots]
            gradients = [p.grad._array for _, _, p in members if p.grad is not None]
            self._launch(len(self.param_groups), [p._array for _, _, p in members], gradients, state, numbers, _C.from_numpy(rates, device))
        self.steps += 1
        return loss

    def _slot(self, slot: str, position: int, p: Tensor) -> Array:
        array = self._state[slot][position]
        if array is not None and array.device != p.device:
            array = self._state[slot][position] = array.to(p.device)
        if array is None:
            array = self._state[slot][position] = _C.from_numpy(np.zeros(p.shape, p.dtype), p.device)
        return array

    # --- state

    def state_arrays(self) -> dict[str, Array]:
        """The arrays kept per parameter, by position and name: "0.momentum"."""
        return {f"{i}.{slot}": a for slot, arrays in self._state.items() for i, a in enumerate(arrays) if a is not None}

    def state_dict(self) -> dict[str, Any]:
        """Copies of the arrays kept per parameter, and "steps"."""
        return {"steps": self.steps, **{k: np.array(a.numpy(), order="C") for k, a in self.state_arrays().items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what state_dict gave. ValueError names what does not fit; nothing is changed then."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        fresh: dict[str, list[Array | None]] = {slot: [None] * len(parameters) for slot in self.slots}
        for key, value in state.items():
            if key == "steps":
                continue
            position, _, slot = key.partition(".")
            if slot not in fresh or not position.isdigit() or int(position) >= len(parameters):
                raise ValueError(
                    f"{type(self).__name__}.load_state_dict: unexpected {key!r}; expected <position>.<{' or '.join(self.slots)}>"
                )
            p = parameters[int(position)]
            values = np.asarray(value)
            if values.shape != p.shape:
                raise ValueError(f"{type(self).__name__}.load_state_dict: {key} has shape {values.shape}; its parameter {p.shape}")
            fresh[slot][int(position)] = _C.from_numpy(values.astype(p.dtype, copy=False), p.device)
        if "steps" not in state:
            raise ValueError(f"{type(self).__name__}.load_state_dict: 'steps' is missing")
        self.steps, self._state = int(state["steps"]), fresh
