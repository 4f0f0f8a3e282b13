"""Every operation with a gradient: forward and backward side by side, one file per family. The bold rule: no arithmetic here, only kernels."""

from typing import TYPE_CHECKING

from .. import _C
from ..elsewhere import absent
from ..tensor import Tensor
from .activation import elu, gelu, leaky_relu, relu, selu, sigmoid, silu, softplus, tanh
from .batchnorm import batch_norm
from .cast import cast
from .choice import abs, clip, equal, greater, greater_equal, less, less_equal, maximum, minimum, not_equal, where
from .conv2d import conv2d
from .conv2d_batchnorm import conv2d_batch_norm
from .conv_transpose2d import conv_transpose2d
from .dropout import dropout, dropout2d, gaussian_noise, stochastic_depth
from .element_loss import (
    binary_cross_entropy_with_logits,
    huber_loss,
    l1_loss,
    mse_loss,
    penalty,
    smooth_l1_loss,
)
from .elementwise import ARITHMETIC, add, constant, divide, exp, log, multiply, power, sqrt, subtract
from .gather import concat, gather, stack, take
from .layernorm import group_norm, layer_norm
from .linear import linear, matmul
from .loss import cross_entropy, multi_margin_loss, multiclass_svm_loss, nll_loss
from .pad import pad
from .pool2d import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, fractional_max_pool2d, max_pool2d, max_unpool2d
from .prelu import maxout, prelu
from .reduce import broadcast_to, max, mean, min, sum
from .refusals import explained
from .shape import flatten, index, reshape, transpose, unflatten, zero_pad2d
from .softmax import log_softmax, logsumexp, softmax
from .spread import norm, std, var
from .upsample import upsample

__all__ = [
    "abs",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "add",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "broadcast_to",
    "cast",
    "clip",
    "concat",
    "conv2d",
    "conv2d_batch_norm",
    "conv_transpose2d",
    "cross_entropy",
    "divide",
    "dropout",
    "dropout2d",
    "elu",
    "equal",
    "exp",
    "flatten",
    "fractional_max_pool2d",
    "gather",
    "gaussian_noise",
    "gelu",
    "greater",
    "greater_equal",
    "group_norm",
    "huber_loss",
    "index",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "less",
    "less_equal",
    "linear",
    "log",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "max_pool2d",
    "max_unpool2d",
    "maximum",
    "maxout",
    "mean",
    "min",
    "minimum",
    "mse_loss",
    "multi_margin_loss",
    "multiclass_svm_loss",
    "multiply",
    "nll_loss",
    "norm",
    "not_equal",
    "pad",
    "penalty",
    "power",
    "prelu",
    "relu",
    "reshape",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "sqrt",
    "stack",
    "std",
    "stochastic_depth",
    "subtract",
    "sum",
    "take",
    "tanh",
    "transpose",
    "unflatten",
    "upsample",
    "var",
    "where",
    "zero_pad2d",
]

for _name in __all__:
    globals()[_name] = explained(globals()[_name])

# Tensor's operators: no function of Python between them and the kernel, unless it has something to explain
for _name, _operation in {"add": add, "radd": add, "sub": subtract, "mul": multiply, "rmul": multiply, "truediv": divide}.items():
    setattr(Tensor, f"__{_name}__", _C.method(_C.elementwise(*ARITHMETIC[_operation.__name__], _operation, constant)))

from . import numpy_words as numpy_words  # noqa: E402  the words of the operations as they are now
from . import python_words as python_words  # noqa: E402
from . import torch_words as torch_words  # noqa: E402

if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = absent(__name__)
