"""Adam."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _C
from ..tensor import Array
from .optimizer import Optimizer, Parameters, Rate


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w = w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)  (Kingma, Ba 2014).

    t counts the steps of this optimizer (PyTorch: of each parameter; they differ where a parameter gets its first gradient late).
    g = gradient + weight_decay w (not decoupled). betas = (0.9, 0.999), eps = 1e-8, as PyTorch.
    """

    slots = ("m", "v")
    decoupled = False

    def __init__(
        self,
        params: Parameters,
        lr: Rate = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if len(group["betas"]) != 2 or not all(0 <= b < 1 for b in group["betas"]):
            raise ValueError(f"Adam: betas must be two numbers in [0, 1), got {group['betas']}")
        if not group["eps"] >= 0:
            raise ValueError(f"Adam: eps must not be negative, got {group['eps']}")

    def _columns(self, group: dict[str, Any], lr: float) -> list[float]:
        return [lr, group["weight_decay"], *group["betas"], group["eps"], float(self.decoupled)]

    def _launch(self, groups: int, w: list[Array], g: list[Array], state: list[list[Array]], group: Array, rates: Array) -> None:
        t = _C.from_numpy(np.asarray(self.steps + 1, np.int64), rates.device)
        _C.adam_step(_C.Adam(len(w), groups), w, g, state[0], state[1], group, rates, t)
