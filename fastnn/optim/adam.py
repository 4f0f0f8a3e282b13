"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from ..arguments import numbers
from .optimizer import Optimizer, Parameters, Rate


class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w = w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)  (Kingma, Ba 2014).

    t counts the steps of each parameter, as in PyTorch. g = gradient + weight_decay w (not decoupled: see AdamW). betas = (0.9, 0.999),
    eps = 1e-8. amsgrad takes the largest v so far in place of v (Reddi et al. 2018); maximize climbs; decoupled_weight_decay: as AdamW.
    """

    kernel, struct = "adam_step", "Adam"
    slots = ("m", "v", "max_v")

    def __init__(
        self,
        params: Parameters,
        lr: Rate = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        options = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad, "maximize": maximize}
        super().__init__(params, {"lr": lr, **options, "decoupled_weight_decay": decoupled_weight_decay})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        numbers(self.name, "betas", group["betas"], 2, "[0, 1)")
        self._number(group, "[0, inf)", "eps")
        self._flags(group, "amsgrad", "maximize", "decoupled_weight_decay")

    def _uses(self, slot: str, group: dict[str, Any]) -> bool:
        return slot != "max_v" or bool(group["amsgrad"])

    def _columns(self, group: dict[str, Any], lr: float, kind: Any) -> list[float]:
        sign = -1.0 if group["maximize"] else 1.0
        flags = float(group["decoupled_weight_decay"]), float(group["amsgrad"])
        return [lr, group["weight_decay"], *group["betas"], group["eps"], *flags, sign]


class AdamW(Adam):
    """Adam with decoupled decay: w = (1 - lr weight_decay) w, then Adam's step on the bare gradient (Loshchilov, Hutter 2017).

    The decay scales with the rate and not with the gradient's size. weight_decay = 1e-2 by default, as PyTorch; otherwise as Adam.
    """

    def __init__(
        self,
        params: Parameters,
        lr: Rate = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        options: dict[str, Any] = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad, "maximize": maximize}
        super().__init__(params, lr, **options, decoupled_weight_decay=True)
