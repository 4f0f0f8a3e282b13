"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from .. import _C
from ..tensor import Array
from .optimizer import Optimizer, Parameters, Rate


class SGD(Optimizer):
    """g = gradient + weight_decay w;  v = momentum v + g;  w = w - lr v, with Nesterov w = w - lr (g + momentum v).

    PyTorch's form (Sutskever et al. 2013): v starts at 0 and holds no learning rate. weight_decay d equals a penalty d/2 |w|^2.
    nesterov needs momentum > 0 (ValueError).
    """

    slots = ("momentum",)

    def __init__(self, params: Parameters, lr: Rate, *, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not group["momentum"] >= 0:
            raise ValueError(f"SGD: momentum must not be negative, got {group['momentum']}")
        if group["nesterov"] and not group["momentum"] > 0:
            raise ValueError("SGD: nesterov needs momentum > 0")

    def _columns(self, group: dict[str, Any], lr: float) -> list[float]:
        return [lr, group["weight_decay"], group["momentum"], float(group["nesterov"])]

    def _launch(self, groups: int, w: list[Array], g: list[Array], state: list[list[Array]], group: Array, rates: Array) -> None:
        _C.sgd_step(_C.SGD(len(w), groups), w, g, state[0], group, rates)
