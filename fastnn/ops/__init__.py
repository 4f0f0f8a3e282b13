"""Every operation with a gradient: forward and backward side by side, one file per family. The bold rule: no arithmetic here, only kernels."""

from .activation import relu, silu
from .batchnorm import batch_norm
from .conv2d import conv2d
from .conv2d_batchnorm import conv2d_batch_norm
from .dropout import dropout
from .elementwise import add, divide, exp, log, multiply, power, sqrt, subtract
from .linear import linear, matmul
from .loss import cross_entropy
from .pool2d import adaptive_avg_pool2d, max_pool2d
from .reduce import broadcast_to, max, mean, sum
from .shape import flatten, index, reshape, transpose

__all__ = [
    "adaptive_avg_pool2d",
    "add",
    "batch_norm",
    "broadcast_to",
    "conv2d",
    "conv2d_batch_norm",
    "cross_entropy",
    "divide",
    "dropout",
    "exp",
    "flatten",
    "index",
    "linear",
    "log",
    "matmul",
    "max",
    "max_pool2d",
    "mean",
    "multiply",
    "power",
    "relu",
    "reshape",
    "silu",
    "sqrt",
    "subtract",
    "sum",
    "transpose",
]
