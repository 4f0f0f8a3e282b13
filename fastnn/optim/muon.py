"""Muon: steps that are orthogonal matrices."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

from .. import _C
from ..arguments import integer, numbers, one_of
from ..tensor import Tensor
from .launch import Launch
from .optimizer import Optimizer, Parameters, Rate

_ADJUSTMENTS = ("original", "match_rms_adamw", "none")


class Muon(Optimizer):
    """v = momentum v + (1 - momentum) g;  u = nesterov ? (1 - momentum) g + momentum v : v;  X = u / max(|u|, eps);  ns_steps times
    X = a X + (b A + c A^2) X with A = X X^T;  w = (1 - lr weight_decay) w - lr adjustment X  (Jordan et al. 2024).

    The Newton-Schulz iteration brings every singular value of the direction near 1, so a step changes all directions of the matrix alike. For
    weights of two or more dimensions: one of shape (K, C, R, S) is the matrix K x (C R S); biases and norms belong to another optimizer
    (see Together), and so, usually, do the first and the last layer. Arguments, defaults and formula are torch.optim.Muon's; adjust_lr_fn
    "original" (or None) multiplies the rate by sqrt(max(1, rows / columns)), "match_rms_adamw" by 0.2 sqrt(max(rows, columns)).
    Beyond PyTorch: adjust_lr_fn="none" leaves the rate alone, and renormalize=True scales the weights to |w| = sqrt(rows) before each step
    (airbench94_muon: lr 0.24, momentum 0.6, weight_decay 0, ns_steps 3, adjust_lr_fn "none", renormalize).
    Products are made as set_precision says: in float32 by default, where PyTorch uses bfloat16; "medium" is enough for Muon and faster on a GPU.
    """

    kernel, struct = "muon_step", "Muon"
    slots = ("momentum",)

    def __init__(
        self,
        params: Parameters,
        lr: Rate = 1e-3,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        renormalize: bool = False,
    ) -> None:
        options = {"weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov, "ns_coefficients": ns_coefficients, "eps": eps}
        super().__init__(params, {"lr": lr, **options, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn, "renormalize": renormalize})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        self._number(group, "[0, inf)", "momentum", "eps")
        self._flags(group, "nesterov", "renormalize")
        one_of("Muon", "adjust_lr_fn", group["adjust_lr_fn"], (*_ADJUSTMENTS, None))
        numbers("Muon", "ns_coefficients", group["ns_coefficients"], 3)
        integer("Muon", "ns_steps", group["ns_steps"], 1, 100)
        for p in group["params"]:
            if p.ndim < 2 or p.size == 0:
                raise ValueError(
                    f"Muon: a parameter of shape {p.shape} is no matrix; give biases and norms to another optimizer: "
                    "optim.Together(Muon(matrices), SGD(others))"
                )

    def _kind(self, p: Tensor, group: dict[str, Any]) -> Any:
        return (p.shape[0], prod(p.shape[1:])), int(group["ns_steps"]), tuple(group["ns_coefficients"])

    def _columns(self, group: dict[str, Any], lr: float, kind: Any) -> list[float]:
        rows, columns = kind[0]
        name = group["adjust_lr_fn"]
        adjustment = sqrt(max(1.0, rows / columns)) if name in (None, "original") else 1.0
        if name == "match_rms_adamw":
            adjustment = 0.2 * sqrt(max(rows, columns))
        flags = float(group["nesterov"]), lr * adjustment, float(group["renormalize"])
        return [lr, group["weight_decay"], group["momentum"], *flags, group["eps"]]

    def _launch(self, kind: Any, a: Launch) -> None:
        (rows, columns), steps, coefficients = kind
        plan = _C.Muon(len(a.w), a.groups, a.pieces, rows, columns, steps, *coefficients)
        _C.muon_step(plan, a.w, a.g, a.state[0], a.group, a.rates, a.moved)
