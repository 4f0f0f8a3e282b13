"""Optimizers of a loss that stays the same function: they evaluate it several times per step, on all data, without chance."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import _C, random, recording
from ..arguments import function, instance
from ..profiler import profile
from ..tensor import Tensor
from .optimizer import Optimizer, Parameters

Vector = np.ndarray
Closure = Callable[[], Tensor]


class FullBatch(Optimizer):
    """Base of LBFGS and NewtonCG: parameters and gradients as one float64 vector, and the refusal of what changes under the search.

    The closure must compute the loss of all data and its gradients (zero_grad, forward, backward), the same at the same weights. Refused
    with ValueError, before any weight is changed: dropout and other random layers that are active, batch normalisation in training (call
    model.eval() for both), a closure that gives two losses at the same weights: minibatches, augmentation; a loss or gradient that is not
    finite where the step begins; a weight_decay other than 0.
    """

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        super().__init__(params, {**defaults, "weight_decay": 0.0})
        self.evaluations = 0
        self._known: tuple[Vector, float] | None = None  # weights and loss at the end of the last step

    @property
    def options(self) -> dict[str, Any]:
        """Those of its only group."""
        return self.param_groups[0]

    def _refuse_other_parameters(self) -> None:
        super()._refuse_other_parameters()
        if len(self.param_groups) > 1:
            raise ValueError(f"{self.name}: takes one group of parameters, got {len(self.param_groups)}; the search is along one line")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused but for the first one."""
        if self.param_groups:
            raise ValueError(f"{self.name}: takes one group of parameters, got 2; the search is along one line")
        super().add_param_group(param_group)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if group["weight_decay"] != 0:
            raise ValueError(
                f"{self.name}: weight_decay must be 0, got {group['weight_decay']}: the search goes by the loss that the closure gives; add a "
                "penalty to that, nn.Penalty(model, l2=...)()"
            )

    def step(self, closure: Closure | None = None) -> Tensor | None:
        recorder = recording.current()
        if recorder is not None and recorder.core is not None:
            raise _C.CaptureError(f"{self.name} looks at the loss while it steps; step it outside of what is captured")
        self.rates()
        put_back = self._as_it_is()
        weights = [(p._array, p._array.to(p.device)) for p in self.options["params"]]  # now: putting them back must not need memory
        try:
            return self._step(closure)
        except BaseException:
            put_back()
            for array, before in weights:
                array.assign(before)
            raise

    def _step(self, closure: Closure | None) -> Tensor:
        raise NotImplementedError

    def _get(self) -> Vector:
        return np.concatenate([np.ravel(p.numpy()).astype(np.float64) for p in self.options["params"]])

    def _set(self, x: Vector) -> None:
        begin = 0
        for p in self.options["params"]:
            n = prod(p.shape)
            p.copy_from(x[begin : begin + n].reshape(p.shape).astype(p.dtype))
            begin += n

    def _evaluate(self, closure: Closure) -> tuple[float, Vector]:
        self.evaluations += 1
        loss = closure()
        zeros = [np.zeros(p.size) if p.grad is None else np.ravel(p.grad.numpy()) for p in self.options["params"]]
        return float(loss), np.concatenate(zeros).astype(np.float64)

    def _begin(self, closure: Closure | None) -> tuple[Tensor, float, Vector]:
        """The loss as the closure gave it, as a number, and the gradient at the weights as they are: after looking for chance."""
        if closure is None:
            raise ValueError(
                f"{self.name}.step needs a closure that computes the loss of all data and its gradients; it evaluates it several times. "
                "The Trainer's minibatches do not fit it"
            )
        function(f"{self.name}.step", "closure", closure, "a function that returns the loss, after backward()")
        self.rates()
        draw = random.default_generator().draw
        kept: list[Tensor] = []

        def keeping() -> Tensor:
            kept.append(instance(f"{self.name}.step", "closure", closure(), Tensor, "a function that returns the loss, a Tensor"))
            return kept[-1]

        if self._known is None:
            with profile() as kernels:
                loss, gradient = self._evaluate(keeping)
            if any(kernels.get(row, {}).get("calls") for row in ("batchnorm_forward", "conv2d_batchnorm_forward")):
                raise ValueError(
                    f"{self.name}: batch normalisation is in training, so its statistics move with every evaluation: model.eval()"
                )
            if random.default_generator().draw == draw:
                self._same(self._evaluate(closure), (loss, gradient))
        else:
            loss, gradient = self._evaluate(keeping)
            x, before = self._known
            if np.array_equal(x, self._get()) and not np.array_equal(loss, before, equal_nan=True):
                raise ValueError(self._changed(before, loss))
        if random.default_generator().draw != draw:
            raise ValueError(
                f"{self.name}: dropout or another random layer is active, so the loss is another function each time: model.eval()"
            )
        if not np.isfinite([loss, np.abs(gradient).max(initial=0)]).all():
            what = "gradient holds numbers that are not finite" if np.isfinite(loss) else f"loss is {loss}"
            raise ValueError(f"{self.name}: at the weights as they are the {what}: there is no direction to search in")
        return kept[0], loss, gradient

    def _same(self, again: tuple[float, Vector], first: tuple[float, Vector]) -> None:
        if not (np.array_equal(again[0], first[0], equal_nan=True) and np.array_equal(again[1], first[1], equal_nan=True)):
            raise ValueError(self._changed(first[0], again[0]))

    def _changed(self, first: float, again: float) -> str:
        return (
            f"{self.name}: the closure gave {first:.9g} and then {again:.9g} at the same weights; it needs all data, the same each time: "
            "no minibatches, no augmentation"
        )

    def state_arrays(self) -> dict[str, Any]:
        return {}
