"""Every operation with a gradient: forward and backward side by side, one file per family. The bold rule: no arithmetic here, only kernels."""

from .activation import relu, silu
from .batchnorm import batch_norm
from .conv2d import conv2d
from .conv2d_batchnorm import conv2d_batch_norm
from .dropout import dropout
from .element_loss import (
    binary_cross_entropy_with_logits,
    huber_loss,
    l1_loss,
    mse_loss,
    penalty,
    smooth_l1_loss,
)
from .elementwise import add, divide, exp, log, multiply, power, sqrt, subtract
from .linear import linear, matmul
from .loss import cross_entropy, multi_margin_loss, multiclass_svm_loss, nll_loss
from .pool2d import adaptive_avg_pool2d, max_pool2d
from .reduce import broadcast_to, max, mean, sum
from .shape import flatten, index, reshape, transpose
from .softmax import log_softmax, logsumexp, softmax

__all__ = [
    "adaptive_avg_pool2d",
    "add",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "broadcast_to",
    "conv2d",
    "conv2d_batch_norm",
    "cross_entropy",
    "divide",
    "dropout",
    "exp",
    "flatten",
    "huber_loss",
    "index",
    "l1_loss",
    "linear",
    "log",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "max_pool2d",
    "mean",
    "mse_loss",
    "multi_margin_loss",
    "multiclass_svm_loss",
    "multiply",
    "nll_loss",
    "penalty",
    "power",
    "relu",
    "reshape",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "sqrt",
    "subtract",
    "sum",
    "transpose",
]
