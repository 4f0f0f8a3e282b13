"""Newton's method with conjugate gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arguments import integer
from ..tensor import Tensor
from .full_batch import Closure, FullBatch, Vector
from .given import steps_of
from .optimizer import Parameters, Rate


class NewtonCG(FullBatch):
    """w = w + t p with (H + damping I) p = -g: Newton's step, H the Hessian of the loss, p by conjugate gradients (Dembo, Steihaug 1983).

    The lectures' reference for why nobody trains networks with it: no rate to choose, a handful of steps to the minimum, and each costs up
    to 2 cg_iterations evaluations of the loss of all data. H v is (g(w + e v) - g(w - e v)) / 2e, so the parameters must be float64
    (model.double(); ValueError otherwise: in float32 these differences are noise). Conjugate gradients stop where the residual is below
    cg_tolerance |g|, after cg_iterations, or where the curvature is negative (then along what was found so far). t begins at lr = 1 and
    is halved until loss <= before + 1e-4 t g p. `step(closure)` makes one step and returns the loss before it; dropout,
    batch norm in training and minibatches are refused as in LBFGS.
    """

    def __init__(
        self, params: Parameters, lr: Rate = 1.0, *, cg_iterations: int = 100, cg_tolerance: float = 1e-6, damping: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "cg_iterations": cg_iterations, "cg_tolerance": cg_tolerance, "damping": damping})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        self._number(group, "[0, inf)", "cg_tolerance", "damping")
        integer("NewtonCG", "cg_iterations", group["cg_iterations"], 1)
        for p in group["params"]:
            if p.dtype != "float64":
                raise ValueError(
                    f"NewtonCG: parameters must be float64 (model.double()), got {p.dtype}: differences of their gradients are noise"
                )

    def step(self, closure: Closure | None = None) -> Tensor | None:
        """One Newton step. ValueError without a closure, and where the loss is not the same function each time.

        Whatever raises within it, weights and optimizer are as they were."""
        return super().step(closure)

    def _step(self, closure: Closure | None) -> Tensor:
        first, loss, gradient = self._begin(closure)
        assert closure is not None
        x = self._get()
        p = self._solve(closure, x, gradient)
        slope, t, before = float(gradient @ p), self.rates()[0], loss
        for _ in range(30):
            self._set(x + t * p)
            loss, _ = self._evaluate(closure)
            if loss <= before + 1e-4 * t * slope:
                break
            t /= 2
        else:
            self._set(x)
            loss = before
        self.steps += 1
        self._known = self._get(), loss
        return first

    def _times_hessian(self, closure: Closure, x: Vector, v: Vector) -> Vector:
        e = np.cbrt(np.finfo(np.float64).eps) * (1 + np.linalg.norm(x)) / np.linalg.norm(v)
        self._set(x + e * v)
        _, ahead = self._evaluate(closure)
        self._set(x - e * v)
        _, behind = self._evaluate(closure)
        product: Vector = (ahead - behind) / (2 * e) + self.options["damping"] * v
        return product

    def _solve(self, closure: Closure, x: Vector, gradient: Vector) -> Vector:
        p, residual = np.zeros_like(x), -gradient
        v, square = residual, float(residual @ residual)
        limit = (self.options["cg_tolerance"] * np.linalg.norm(gradient)) ** 2
        for _ in range(self.options["cg_iterations"]):
            if square <= limit:
                break
            product = self._times_hessian(closure, x, v)
            curvature = float(v @ product)
            if curvature <= 0:
                return p if p.any() else v
            share = square / curvature
            p, residual = p + share * v, residual - share * product
            square, old = float(residual @ residual), square
            v = residual + square / old * v
        return p

    def state_dict(self) -> dict[str, Any]:
        """Nothing but the number of steps: Newton's method has no memory."""
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what state_dict gave. ValueError where it is another's."""
        steps = steps_of("NewtonCG.load_state_dict", state)
        if set(state) != {"steps"}:
            raise ValueError(f"NewtonCG.load_state_dict: expected 'steps' alone, got {', '.join(map(repr, state))}")
        self.steps = steps
