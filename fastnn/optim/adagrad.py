"""Rates per weight from squared gradients: AdaGrad, RMSProp."""

from __future__ import annotations

from typing import Any

from .optimizer import Optimizer, Parameters, Rate


class Adagrad(Optimizer):
    """s = s + g^2;  w = w - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)  (Duchi, Hazan, Singer 2011).

    The sum is of *squared* gradients and never falls, so the steps shrink for good. g = gradient + weight_decay w; s begins at
    initial_accumulator_value; eps stands outside the root: 1e-10, as PyTorch (1e-7 in some lectures). t counts the steps of each parameter.
    """

    kernel, struct = "adagrad_step", "Adagrad"
    slots = ("sum",)

    def __init__(
        self,
        params: Parameters,
        lr: Rate = 1e-2,
        *,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
    ) -> None:
        options = {"lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps, "maximize": maximize}
        super().__init__(params, {"lr": lr, **options, "initial_accumulator_value": initial_accumulator_value})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        self._number(group, "[0, inf)", "lr_decay", "initial_accumulator_value", "eps")
        self._flags(group, "maximize")

    def _fresh(self, slot: str, group: dict[str, Any]) -> float:
        return float(group["initial_accumulator_value"])

    def _columns(self, group: dict[str, Any], lr: float, kind: Any) -> list[float]:
        return [lr, group["weight_decay"], group["lr_decay"], group["eps"], -1.0 if group["maximize"] else 1.0]


class RMSprop(Optimizer):
    """s = alpha s + (1 - alpha) g^2;  w = w - lr g / (sqrt(s) + eps)  (Tieleman, Hinton 2012).

    g = gradient + weight_decay w. momentum: v = momentum v + g / (sqrt(s) + eps), w = w - lr v. centered: s - m^2 in place of s, with
    m = alpha m + (1 - alpha) g, the variance of the gradient (Graves 2013). eps stands outside the root, as in PyTorch; so do the defaults:
    lr 0.01, alpha 0.99, eps 1e-8.
    """

    kernel, struct = "rmsprop_step", "RMSprop"
    slots = ("square", "mean", "momentum")

    def __init__(
        self,
        params: Parameters,
        lr: Rate = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
    ) -> None:
        options = {"alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {"lr": lr, **options, "centered": centered, "maximize": maximize})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        self._number(group, "[0, 1]", "alpha")
        self._number(group, "[0, inf)", "eps", "momentum")
        self._flags(group, "centered", "maximize")

    def _uses(self, slot: str, group: dict[str, Any]) -> bool:
        return slot == "square" or bool(group["centered" if slot == "mean" else "momentum"])

    def _columns(self, group: dict[str, Any], lr: float, kind: Any) -> list[float]:
        sign = -1.0 if group["maximize"] else 1.0
        return [lr, group["weight_decay"], group["alpha"], group["eps"], group["momentum"], float(group["centered"]), sign]
