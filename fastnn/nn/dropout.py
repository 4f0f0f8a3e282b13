"""Layers that add noise in training. `noisy` marks them for monte_carlo."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from threading import RLock, get_ident
from typing import Any
from weakref import WeakKeyDictionary

from .. import ops, shard
from ..arguments import function, integer, number, other_word, shown
from ..exclusive import refuse_others
from ..ops.dropout import checked_rate
from ..ops.refusals import explained
from ..tensor import Tensor, no_grad
from ..turns import by_turns, switched
from .module import Module


class Dropout(Module):
    """In training zero with probability p, else x / (1 - p); the identity in evaluation (Srivastava et al. 2014).

    inverted=False is the lectures' plain form: zero or x in training, (1 - p) x in evaluation.
    The mask comes from the thread's generator (fastnn.seed) and is never stored. Raises ValueError unless 0 <= p <= 1.
    `inplace` is what torch code passes; nothing is ever in place.
    """

    noisy = True

    def __init__(self, p: float = 0.5, inplace: bool = False, *, inverted: bool = True) -> None:
        super().__init__()
        self.p, self.inverted = checked_rate(type(self).__name__, p), inverted

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, training=self.training, inverted=self.inverted)

    def extra_repr(self) -> str:
        return f"p={self.p}" + ("" if self.inverted else ", inverted=False")


class Dropout2d(Dropout):
    """Dropout of whole maps of (N, C, H, W), each sample's channels by themselves (Tompson et al. 2015)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout2d(x, self.p, training=self.training, inverted=self.inverted)


class DropConnect(Module):
    """A layer whose weights are dropped in training: DropConnect(nn.Linear(84, 10), 0.5) (Wan et al. 2013).

    In training each weight is 0 with probability p, else w / (1 - p), one mask for the batch; evaluation uses the whole weight as it is.
    inverted=False: 0 or w in training, (1 - p) w in evaluation. The bias is not dropped. `layer` is any module with a `weight`; its
    parameters are found under "layer.". Threads take turns, since its weight is exchanged while it runs. Raises ValueError unless
    0 <= p <= 1, TypeError for a layer without a weight.
    """

    noisy = True

    def __init__(self, layer: Module, p: float = 0.5, *, inverted: bool = True) -> None:
        super().__init__()
        if not isinstance(layer, Module) or not isinstance(getattr(layer, "weight", None), Tensor):
            got = repr(layer) if isinstance(layer, Module) else shown(layer)
            raise TypeError(f"DropConnect: expected a module with a weight, such as nn.Linear, got {got}")
        self.layer = layer
        self.p, self.inverted = checked_rate("DropConnect", p), inverted

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        with _turns.setdefault(layer, RLock()):
            whole = layer._parameters["weight"]
            assert whole is not None
            _exchanged[id(layer)] = get_ident(), layer, whole
            try:
                with shard.using(None):  # one mask for the batch
                    layer._parameters["weight"] = ops.dropout(whole, self.p, training=self.training, inverted=self.inverted)
                y: Tensor = layer(x)
            finally:
                layer._parameters["weight"] = whole
                _exchanged.pop(id(layer), None)
        return y

    def extra_repr(self) -> str:
        return f"p={self.p}" + ("" if self.inverted else ", inverted=False")


_turns = WeakKeyDictionary[Module, RLock]()  # of each layer, the thread that has put a dropped weight into it
_exchanged: dict[int, tuple[int, Module, Tensor]] = {}  # by the layer's id: that thread, the layer, its whole weight


def _forked() -> None:
    """In a child: what threads that are not there had exchanged is put back, and no lock is held by them."""
    for thread, layer, whole in list(_exchanged.values()):
        if thread != get_ident():
            layer._parameters["weight"] = whole
            del _exchanged[id(layer)]
    _turns.clear()


os.register_at_fork(after_in_child=_forked)


class StochasticDepth(Module):
    """Drops a residual branch in training: x + StochasticDepth(0.2)(branch(x)) (Huang et al. 2016).

    With probability p the branch is 0, else y / (1 - p); the identity in evaluation. mode "row": each sample by itself; "batch": the whole batch.
    `depth_rates` lets p grow with depth. Raises ValueError for other modes and unless 0 <= p <= 1.
    """

    noisy = True

    def __init__(self, p: float, mode: str = "row") -> None:
        super().__init__()
        if mode not in ("row", "batch"):
            raise other_word("StochasticDepth", "mode", mode, "'row' or 'batch'")
        self.p, self.mode = checked_rate("StochasticDepth", p), mode

    def forward(self, x: Tensor) -> Tensor:
        return ops.stochastic_depth(x, self.p, self.mode, training=self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, mode={self.mode!r}"


@explained
def depth_rates(blocks: int, p: float = 0.5) -> list[float]:
    """Rates of dropping that grow linearly with depth: block l of L is dropped with probability p l / L, the last one with p, so that
    survival is 1 - p l / L (Huang et al. 2016)."""
    checked_rate("depth_rates", p)
    integer("depth_rates", "blocks", blocks, 0, 2**20)
    return [p * block / blocks for block in range(1, blocks + 1)]


class GaussianNoise(Module):
    """x + std z in training, z standard normal; the identity in evaluation (Bishop 1995). Raises ValueError for a std that is negative or not finite."""

    noisy = True

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = number("GaussianNoise", "std", std, "[0, inf)")

    def forward(self, x: Tensor) -> Tensor:
        return ops.gaussian_noise(x, self.std, training=self.training)

    def extra_repr(self) -> str:
        return f"std={self.std}"


def _checked(what: str, y: Any) -> Tensor:
    if not isinstance(y, Tensor):
        raise TypeError(f"monte_carlo: {what} must return a Tensor, got {shown(y)}")
    return y


@explained
def monte_carlo(model: Module, x: Any, samples: int = 10, *, activation: Callable[[Any], Tensor] | None = None) -> Tensor:
    """The mean of `samples` outputs with the noise of training (Gal, Ghahramani 2016): noise layers (those with `noisy`) draw, all others,
    batch normalisation among them, evaluate. No gradients; modes are as before afterwards.

    activation: applied to each output before it is averaged (softmax: averages of probabilities rather than of scores).
    Raises ValueError when the model has no noise layer, or samples < 1, RuntimeError while another thread fits or evaluates it.
    """
    if activation is not None:
        function("monte_carlo", "activation", activation, "a function of the outputs")
    integer("monte_carlo", "samples", samples, 1, 2**31)
    noisy = [module for module in model.modules() if getattr(module, "noisy", False)]
    if not noisy:
        raise ValueError("monte_carlo: the model has no noise layer, so that all samples would be the same; it needs one, like nn.Dropout")

    def switch() -> Callable[[], None]:
        put_back = switched(model, False)
        for module in noisy:
            module.training = True
        return put_back

    refuse = partial(refuse_others, "monte_carlo", "model", model)
    with by_turns(id(model), "monte_carlo", switch, refuse), no_grad():
        total: Tensor | None = None
        for _ in range(samples):
            y = _checked("the model", model(x)) if activation is None else _checked("activation", activation(model(x)))
            total = y if total is None else total + y
    assert total is not None
    return total / float(samples)
