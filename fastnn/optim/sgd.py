"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from .optimizer import Optimizer, Parameters, Rate


class SGD(Optimizer):
    """g = gradient + weight_decay w;  v = momentum v + (1 - dampening) g;  w = w - lr v, with Nesterov w = w - lr (g + momentum v).

    PyTorch's form and defaults, lr 0.001 (Sutskever et al. 2013): v is g at the first step with momentum, also where that is switched on
    later, and holds no learning rate. weight_decay d equals a penalty d/2 |w|^2. maximize climbs: the gradient's sign is turned first.
    nesterov needs momentum > 0 and no dampening (ValueError).
    """

    kernel, struct = "sgd_step", "SGD"
    slots = ("momentum",)
    late_slots = slots

    def __init__(
        self,
        params: Parameters,
        lr: Rate = 1e-3,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        options = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, {"lr": lr, **options})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        self._number(group, "[0, inf)", "momentum")
        self._number(group, "(-inf, inf)", "dampening")
        self._flags(group, "nesterov", "maximize")
        if group["nesterov"] and not (group["momentum"] > 0 and group["dampening"] == 0):
            raise ValueError("SGD: nesterov needs momentum > 0 and dampening 0")

    def _uses(self, slot: str, group: dict[str, Any]) -> bool:
        return bool(group["momentum"])

    def _columns(self, group: dict[str, Any], lr: float, kind: Any) -> list[float]:
        sign = -1.0 if group["maximize"] else 1.0
        return [lr, group["weight_decay"], group["momentum"], float(group["nesterov"]), group["dampening"], sign]

    def _begin_late(self) -> None:
        """Where momentum is switched on later, steps are counted anew: at a first one, the kernel takes g for v, undampened."""
        position = 0
        for group in self.param_groups:
            behind = position + len(group["params"])
            if group["momentum"] and group["dampening"]:
                self._counts[[i for i in range(position, behind) if self._state["momentum"][i] is None]] = 0
            position = behind
