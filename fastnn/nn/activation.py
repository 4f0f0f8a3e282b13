"""Activation layers. `activation` is the name under which a kernel can do it in its own pass."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops, recording
from ..arguments import number, other_word, shown
from ..ops.activation import ACTIVATIONS, in_epilogue
from ..tensor import Tensor
from .module import Module, Parameter
from .sizes import checked_size


class ReLU(Module):
    """max(0, x) (Nair, Hinton 2010). `inplace` is what torch code passes; nothing is ever in place."""

    activation = "relu"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class SiLU(Module):
    """x * sigmoid(x) (Elfwing, Uchibe, Doya 2017). `inplace` is what torch code passes; nothing is ever in place."""

    activation = "silu"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return ops.silu(x)


class GELU(Module):
    """x Phi(x), Phi the normal distribution function (Hendrycks, Gimpel 2016).

    approximate="tanh": 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). Raises ValueError for another word.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise other_word("GELU", "approximate", approximate, "'none' or 'tanh'")
        self.approximate = approximate

    @property
    def activation(self) -> str | None:
        return "gelu" if self.approximate == "none" else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class LeakyReLU(Module):
    """x above 0, negative_slope * x below (Maas, Hannun, Ng 2013). `inplace` is what torch code passes; nothing is ever in place."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class PReLU(Module):
    """x above 0, weight * x below, the slope being learned (He, Zhang, Ren, Sun 2015): one, or one per channel of (N, C, ...).

    weight (num_parameters) starts at `init`. Weight decay would pull the slopes to 0: give them a parameter group without it.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.num_parameters = checked_size("PReLU", "num_parameters", num_parameters)
        self.weight = Parameter(np.full(num_parameters, number("PReLU", "init", init), np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return ops.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class ELU(Module):
    """x above 0, alpha (exp(x) - 1) below (Clevert, Unterthiner, Hochreiter 2015). `inplace` is what torch code passes; nothing is ever in place."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = number("ELU", "alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        return ops.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class SELU(Module):
    """scale * elu(x, alpha) with alpha = 1.6732632423543772 and scale = 1.0507009873554805 (Klambauer, Unterthiner, Mayr, Hochreiter 2017).

    Keeps mean 0 and variance 1 where weights have variance 1 / fan_in. `inplace` is what torch code passes; nothing is ever in place.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return ops.selu(x)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold. Raises ValueError unless beta > 0."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = number("Softplus", "beta", beta, "(0, inf)"), number("Softplus", "threshold", threshold)

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


def absorb(module: Module, following: Sequence[Module], *kinds: type[Module]) -> tuple[int, dict[str, Any]]:
    """What `module.absorbs` says when its kernel can apply an activation of one of these kinds."""
    if following and type(following[0]) in kinds and following[0].activation is not None and not module._hooks and not following[0]._hooks:
        return 1, {"activation": following[0].activation}
    return 0, {}


_ACTIVATIONS = (ReLU, SiLU, GELU, Sigmoid, Tanh, LeakyReLU, PReLU, ELU, SELU, Softplus)


def finished(y: Any, residual: Tensor | None, activation: str = "none", norm: Module | None = None) -> Tensor:
    """activation(norm(y) + residual), where the layer that made y does not do it in its own pass."""
    if norm is not None:
        return norm(y, residual, activation)  # type: ignore[no-any-return]
    if residual is not None:
        if getattr(residual, "shape", None) != y.shape:
            raise ValueError(f"cannot add the residual {shown(residual)} to a result of shape {y.shape}; expected a Tensor of that shape")
        y = ops.add(y, residual)
    in_epilogue(activation)  # refuses a word that nobody knows
    return ACTIVATIONS[activation](y)


def last_of_several(module: Module, x: Any, keywords: dict[str, Any], last: dict[str, Any]) -> Any:
    """The module with `keywords`, which absorb what follows it, and `last`. A residual or an activation that its forward does not take comes
    behind it; a residual is added in front of an activation layer, as where that one is absorbed."""
    here = {**last, **keywords}
    residual = None if _takes(module, "residual") else here.pop("residual", None)
    if residual is not None and isinstance(module, _ACTIVATIONS):
        x, residual = finished(x, residual), None
    activation = "none"
    if "activation" in here and (residual is not None or not _takes(module, "activation")):
        activation = here.pop("activation")
    y = finished(module(x, **here), residual, activation)
    return finished(y, None, last.get("activation", "none")) if "activation" in keywords else y


def _takes(module: Module, word: str) -> bool:
    """Whether its forward has an argument of that name, or takes any."""
    code = getattr(inspect.unwrap(module.forward), "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARKEYWORDS:
        return True
    return word in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def absorbed(module: Module, following: Sequence[Module]) -> tuple[int, dict[str, Any]]:
    """What module.absorbs says, but where a function took the place of a forward; a recorded step knows what runs inside another's kernel."""
    count, keywords = module.absorbs(following)
    if any("forward" in m.__dict__ for m in (module, *following[:count])):
        return 0, {}
    for inside in following[:count] if recording.under_way else ():
        recording.know(inside)
    return count, keywords
