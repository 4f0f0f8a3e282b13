"""Initialisers. Each overwrites a parameter in place with numbers of the thread's generator (fastnn.seed) and returns it.

fan_in = inputs per output (C/groups R S for convolutions), fan_out = outputs per input (K R S).
The lectures' Xavier is 1/fan_in, Glorot's 2/(fan_in + fan_out).
"""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from .. import random
from ..arguments import number, refuse_other_integers, text
from ..ops.refusals import explained
from ..tensor import Tensor


def uniform_values(shape: tuple[int, ...], bound: float) -> np.ndarray:
    return random.default_generator().uniform(shape, -bound, bound)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, window...)."""
    if len(shape) < 2:
        raise ValueError(f"fan_in and fan_out need a weight of rank 2 or more, got shape {shape}")
    window = prod(shape[2:])
    return shape[1] * window, shape[0] * window


_LINEAR = ("linear", *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much an activation shrinks the standard deviation: 1 for linear, convolutions (conv2d) and sigmoid, 5/3 for tanh, sqrt 2 for relu,
    sqrt(2 / (1 + param^2)) for leaky_relu (param: its slope, 0.01), 3/4 for selu. ValueError for another name."""
    gains = {**dict.fromkeys(_LINEAR, 1.0), "sigmoid": 1.0, "tanh": 5 / 3, "relu": sqrt(2.0), "selu": 0.75}
    if text("calculate_gain", "nonlinearity", nonlinearity) == "leaky_relu":
        return sqrt(2.0 / (1 + number("calculate_gain", "param (the slope of leaky_relu)", 0.01 if param is None else param) ** 2))
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain: {nonlinearity!r} is not one of leaky_relu, {', '.join(gains)}")
    return gains[nonlinearity]


def _fill(what: str, tensor: Tensor, values: np.ndarray, fractions: bool = False) -> Tensor:
    """`fractions`: the values are some, which a tensor of integers would cut off."""
    if fractions and not tensor.dtype.startswith(("float", "bfloat")):
        raise TypeError(f"{what}: tensor has dtype {tensor.dtype}; expected float32, float64 or bfloat16")
    refuse_other_integers(what, values, tensor.dtype)
    tensor.copy_from(values if tensor.dtype == "bfloat16" else values.astype(tensor.dtype, copy=False))
    return tensor


def _precision(tensor: Tensor) -> str:
    """In which samples are drawn."""
    return "float64" if tensor.dtype == "float64" else "float32"


def zeros_(tensor: Tensor) -> Tensor:
    """All 0: every unit then learns the same; for biases and last gammas only."""
    return _fill("zeros_", tensor, np.zeros(tensor.shape))


def ones_(tensor: Tensor) -> Tensor:
    return _fill("ones_", tensor, np.ones(tensor.shape))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """All `val`, which may be infinite: -inf masks logits."""
    value = number("constant_", "val", val, "[-inf, inf]")
    exact = val if isinstance(val, (int, np.integer)) and -(2**63) <= val < 2**63 else value  # no float holds 2**53 + 1
    return _fill("constant_", tensor, np.full(tensor.shape, exact), not value.is_integer())


def eye_(tensor: Tensor) -> Tensor:
    """The identity of a linear layer: a matrix with ones on its diagonal."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: needs a matrix, got shape {tensor.shape}")
    return _fill("eye_", tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Gaussian."""
    number("normal_", "std", std, "[0, inf)")
    return _fill("normal_", tensor, random.default_generator().normal(tensor.shape, mean, std, _precision(tensor)), True)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform between a and b."""
    random.checked_range("uniform_", _precision(tensor), a=a, b=b)
    return _fill("uniform_", tensor, random.default_generator().uniform(tensor.shape, a, b, _precision(tensor)), True)


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be fan_in or fan_out, got {mode!r}")
    fan = fans(tensor.shape)[mode == "fan_out"]
    if not fan:
        raise ValueError(f"tensor of shape {tensor.shape}: {mode} must be at least 1")
    return fan


def _gain(what: str, nonlinearity: str, a: float) -> float:
    """Looks at `a` also where only leaky_relu would."""
    return calculate_gain(nonlinearity, number(what, "a", a))


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Gaussian with std = gain / sqrt(fan) (He, Zhang, Ren, Sun 2015); a: the slope of leaky_relu, whose gain with 0 is relu's, sqrt 2."""
    return normal_(tensor, 0.0, _gain("kaiming_normal_", nonlinearity, a) / sqrt(_fan(tensor, mode)))


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform in +-gain sqrt(3 / fan); a = sqrt 5 is how Linear and Conv2d begin."""
    bound = _gain("kaiming_uniform_", nonlinearity, a) * sqrt(3.0 / _fan(tensor, mode))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Gaussian with std = gain sqrt(2 / (fan_in + fan_out)) (Glorot, Bengio 2010)."""
    return normal_(tensor, 0.0, number("xavier_normal_", "gain", gain, "[0, inf)") * sqrt(2.0 / sum(fans(tensor.shape))))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out))."""
    bound = number("xavier_uniform_", "gain", gain, "[0, inf)") * sqrt(6.0 / sum(fans(tensor.shape)))
    return uniform_(tensor, -bound, bound)


def orthogonal_(tensor: Tensor, gain: float = 1) -> Tensor:
    """gain times a random matrix (out, the rest) whose rows, or columns where there are fewer, are orthonormal (Saxe, McClelland, Ganguli 2014)."""
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: needs a weight of rank 2 or more, got shape {tensor.shape}")
    rows, columns = tensor.shape[0], prod(tensor.shape[1:])
    drawn = random.default_generator().normal((max(rows, columns), min(rows, columns)), 0.0, 1.0, _precision(tensor))
    q, r = np.linalg.qr(drawn.astype(np.float64))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # so that every orthogonal matrix is equally likely
    values = number("orthogonal_", "gain", gain) * (q.T if rows < columns else q).reshape(tensor.shape)
    return _fill("orthogonal_", tensor, values, True)


def dirac_values(shape: tuple[int, ...]) -> np.ndarray:
    """A convolution's weight (out, in, R, S) that hands input channel i to output channel i, and 0 where there is none."""
    if len(shape) < 3:
        raise ValueError(f"dirac_: needs the weight of a convolution, (out, in, window...), got shape {shape}")
    values, middle = np.zeros(shape, np.float32), tuple(n // 2 for n in shape[2:])
    for channel in range(min(shape[:2])):
        values[channel, channel][middle] = 1
    return values


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The identity of a convolution with padding "same": output channel i is input channel i (Zagoruyko, Komodakis 2017), in each of
    `groups` of output channels by itself. ValueError unless groups divides them."""
    if groups < 1 or (tensor.ndim and tensor.shape[0] % groups):
        raise ValueError(f"dirac_: groups = {groups} must divide the {tensor.shape[0] if tensor.ndim else 0} output channels")
    part = dirac_values((tensor.shape[0] // groups, *tensor.shape[1:]) if tensor.ndim else ())
    return _fill("dirac_", tensor, np.concatenate([part] * groups))


for _name in [name for name in globals() if name.endswith("_") and not name.startswith("_")]:
    globals()[_name] = explained(globals()[_name])
