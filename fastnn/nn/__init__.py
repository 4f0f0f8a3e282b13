"""Layers, losses and initialisers, with PyTorch's names, arguments and state_dict keys."""

from typing import TYPE_CHECKING

from ..elsewhere import absent
from . import init
from .activation import ELU, GELU, SELU, LeakyReLU, PReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .batchnorm import BatchNorm1d, BatchNorm2d
from .container import ModuleList, Sequential, in_turn
from .conv2d import Conv2d
from .conv_transpose2d import ConvTranspose2d
from .dropout import DropConnect, Dropout, Dropout2d, GaussianNoise, StochasticDepth, depth_rates, monte_carlo
from .flatten import Flatten, Identity, Unflatten
from .frozen import Frozen, frozen
from .layernorm import GroupNorm, InstanceNorm2d, LayerNorm
from .linear import Linear
from .loss import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    MulticlassSVMLoss,
    MultiMarginLoss,
    NLLLoss,
    Penalty,
    SmoothL1Loss,
)
from .maxout import Maxout
from .module import Module, Parameter
from .module_dict import ModuleDict
from .pad import CircularPad2d, ConstantPad2d, ReflectionPad2d, ReplicationPad2d, ZeroPad2d
from .pool2d import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, FractionalMaxPool2d, MaxPool2d, MaxUnpool2d
from .softmax import LogSoftmax, Softmax
from .squeeze_excite import SqueezeExcite
from .summary import Summary, summary
from .upsample import Upsample

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "CircularPad2d",
    "ConstantPad2d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "DropConnect",
    "Dropout",
    "Dropout2d",
    "ELU",
    "Flatten",
    "FractionalMaxPool2d",
    "Frozen",
    "GELU",
    "GaussianNoise",
    "GroupNorm",
    "HuberLoss",
    "Identity",
    "InstanceNorm2d",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "MaxUnpool2d",
    "Maxout",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiMarginLoss",
    "MulticlassSVMLoss",
    "NLLLoss",
    "PReLU",
    "Parameter",
    "Penalty",
    "ReLU",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "SELU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "SqueezeExcite",
    "StochasticDepth",
    "Summary",
    "Tanh",
    "Unflatten",
    "Upsample",
    "ZeroPad2d",
    "depth_rates",
    "frozen",
    "in_turn",
    "init",
    "monte_carlo",
    "summary",
]

if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = absent(__name__)
