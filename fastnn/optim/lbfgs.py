"""L-BFGS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arguments import array, integer, one_of
from ..tensor import Tensor
from .full_batch import Closure, FullBatch, Vector
from .given import numbers_of, steps_of
from .line_search import Point, strong_wolfe
from .optimizer import Parameters, Rate


class LBFGS(FullBatch):
    """w = w - t H g, with H the inverse Hessian as the last `history_size` steps s and changes of the gradient y tell it (two-loop recursion;
    Liu, Nocedal 1989). line_search_fn="strong_wolfe" searches a t that meets the strong Wolfe conditions, which is what to use: None, the
    default as in PyTorch, takes t = lr (at the first step min(1, 1 / |g|_1) lr), and may diverge.

    `step(closure)` makes up to max_iter iterations with at most max_eval evaluations (default 1.25 max_iter), and ends early where no element
    of the gradient exceeds tolerance_grad or step and loss change by less than tolerance_change. Arguments, defaults and steps are
    torch.optim.LBFGS's. The closure
    must be the loss of all data without chance: active dropout, batch norm in training and a loss that changes at the same weights
    (minibatches, augmentation) are refused with ValueError, as far as they can be seen. The vectors are float64 on the CPU, whatever the
    parameters are: for small and middle-sized models. Returns the loss before the step.
    """

    def __init__(
        self,
        params: Parameters,
        lr: Rate = 1.0,
        *,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        integer("LBFGS", "max_iter", max_iter, 1)
        limits = {
            "max_iter": max_iter,
            "max_eval": max(1, max_iter * 5 // 4) if max_eval is None else max_eval,
            "history_size": history_size,
        }
        tolerances = {"tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change}
        super().__init__(params, {"lr": lr, **limits, **tolerances, "line_search_fn": line_search_fn})
        self.iterations = 0
        self._direction = self._gradient = np.zeros(0)
        self._t, self._scale = 0.0, 1.0
        self._y: list[Vector] = []
        self._s: list[Vector] = []

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        one_of("LBFGS", "line_search_fn", group["line_search_fn"], ("strong_wolfe", None))
        for name in ("max_iter", "max_eval", "history_size"):
            integer("LBFGS", name, group[name], 1)
        self._number(group, "[0, inf)", "tolerance_grad", "tolerance_change")

    def step(self, closure: Closure | None = None) -> Tensor | None:
        """Up to max_iter iterations. ValueError without a closure, and where the loss is not the same function each time.

        Whatever raises within it, weights and optimizer are as they were."""
        return super().step(closure)

    def _step(self, closure: Closure | None) -> Tensor:
        first, loss, gradient = self._begin(closure)
        assert closure is not None
        o, lr, begun = self.options, self.rates()[0], self.evaluations
        x = self._get()
        done = np.abs(gradient).max(initial=0) <= o["tolerance_grad"]
        self.steps += 1
        self._known = x, loss
        for iteration in range(0 if done else o["max_iter"]):
            self.iterations += 1
            direction = self._next_direction(gradient)
            slope = float(gradient @ direction)
            t = min(1.0, 1.0 / float(np.abs(gradient).sum())) * lr if self.iterations == 1 else lr
            self._direction, self._gradient, self._t = direction, gradient, t
            if slope > -o["tolerance_change"]:
                break
            before = loss

            def at(t: float, x: Vector = x, direction: Vector = direction) -> Point:
                self._set(x + t * direction)
                loss, gradient = self._evaluate(closure)
                return Point(t, loss, gradient, float(gradient @ direction))

            if o["line_search_fn"] is not None:
                left = o["max_eval"] - 1 - (self.evaluations - begun)
                start = Point(0.0, loss, gradient, slope)
                found = strong_wolfe(at, start, t, float(np.abs(direction).max()), left, o["tolerance_change"])
                t, loss, gradient = found.t, found.loss, found.gradient
            elif iteration + 1 < o["max_iter"]:
                _, loss, gradient, _ = at(t)
            self._t, x = t, x + t * direction
            self._set(x)
            x = self._get()
            self._known = (x, loss) if o["line_search_fn"] is not None or iteration + 1 < o["max_iter"] else (np.zeros(0), loss)
            if self.evaluations - begun + 1 >= o["max_eval"] or np.abs(gradient).max() <= o["tolerance_grad"]:
                break
            if np.abs(t * direction).max() <= o["tolerance_change"] or abs(loss - before) < o["tolerance_change"]:
                break
        return first

    def _next_direction(self, gradient: Vector) -> Vector:
        """-H gradient, after taking the last step into the history."""
        if self.iterations == 1:
            return -gradient
        y, s = gradient - self._gradient, self._direction * self._t
        product = float(y @ s)
        if product > 1e-10:
            most = self.options["history_size"] - 1
            self._y, self._s = [*self._y[-most:], y] if most else [y], [*self._s[-most:], s] if most else [s]
            self._scale = product / float(y @ y)
        q, parts = -gradient, []
        for y, s in zip(reversed(self._y), reversed(self._s)):
            parts.append(float(s @ q) / float(y @ s))
            q = q - parts[-1] * y
        r = q * self._scale
        for y, s, part in zip(self._y, self._s, reversed(parts)):
            r = r + (part - float(y @ r) / float(y @ s)) * s
        return r

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """Copies of direction, gradient, history (y, s: a row per step), the weights and loss it stands at, and a few numbers."""
        n = len(self._direction)
        known, loss = (np.zeros(0), np.nan) if self._known is None else self._known
        return {
            "steps": self.steps,
            "numbers": np.array([self._t, self._scale, self.iterations, self.evaluations, loss], np.float64),
            "direction": self._direction.copy(),
            "gradient": self._gradient.copy(),
            "y": np.array(self._y).reshape(len(self._y), n),
            "s": np.array(self._s).reshape(len(self._s), n),
            "at": known.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what state_dict gave. ValueError names what does not fit; nothing is changed then."""
        steps = steps_of("LBFGS.load_state_dict", state)
        expected = ("steps", "numbers", "direction", "gradient", "y", "s", "at")
        wrong = [f"{k!r} is missing" for k in expected if k not in state] + [f"unexpected {k!r}" for k in state if k not in expected]
        if wrong:
            raise ValueError(f"LBFGS.load_state_dict: {wrong[0]}")
        size = sum(p.size for p in self.options["params"])
        arrays = {k: array("LBFGS.load_state_dict", k, state[k]) for k in expected[1:]}
        state = {k: numbers_of("LBFGS.load_state_dict", k, a, a.shape) for k, a in arrays.items()}
        for k, rank in {"direction": 1, "gradient": 1, "y": 2, "s": 2}.items():
            if np.ndim(state[k]) != rank or np.shape(state[k])[-1] not in (0, size):
                raise ValueError(f"LBFGS.load_state_dict: {k} has shape {np.shape(state[k])}; the parameters have {size} elements")
        if np.shape(state["numbers"]) != (5,) or len(state["y"]) != len(state["s"]) or np.size(state["at"]) not in (0, size):
            shapes = ", ".join(f"{k} {np.shape(state[k])}" for k in ("numbers", "y", "s", "at"))
            raise ValueError(f"LBFGS.load_state_dict: got {shapes}; expected numbers (5,), y and s of as many rows, at (0,) or ({size},)")
        t, scale, iterations, evaluations, loss = (float(v) for v in state["numbers"])
        if not all(np.isfinite((t, scale, iterations, evaluations))) or min(iterations, evaluations) < 0:
            raise ValueError(f"LBFGS.load_state_dict: numbers are {list(state['numbers'])}; expected finite ones and counts")
        self._t, self._scale, self.iterations, self.evaluations = t, scale, int(iterations), int(evaluations)
        self._direction, self._gradient = np.array(state["direction"]), np.array(state["gradient"])
        self._y, self._s = list(np.array(state["y"])), list(np.array(state["s"]))
        self._known = None if np.isnan(loss) else (np.array(state["at"]), loss)
        self.steps = steps
