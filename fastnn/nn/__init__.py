"""Layers, losses and initialisers, with PyTorch's names, arguments and state_dict keys."""

from . import init
from .activation import ELU, GELU, SELU, LeakyReLU, PReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .batchnorm import BatchNorm1d, BatchNorm2d
from .container import ModuleList, Sequential, in_turn
from .conv2d import Conv2d
from .dropout import DropConnect, Dropout, Dropout2d, GaussianNoise, StochasticDepth, depth_rates, monte_carlo
from .linear import Flatten, Identity, Linear
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
from .pool2d import AdaptiveAvgPool2d, MaxPool2d
from .softmax import LogSoftmax, Softmax
from .summary import Summary, summary

__all__ = [
    "AdaptiveAvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "DropConnect",
    "Dropout",
    "Dropout2d",
    "ELU",
    "Flatten",
    "GELU",
    "GaussianNoise",
    "HuberLoss",
    "Identity",
    "L1Loss",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Maxout",
    "Module",
    "ModuleList",
    "MultiMarginLoss",
    "MulticlassSVMLoss",
    "NLLLoss",
    "PReLU",
    "Parameter",
    "Penalty",
    "ReLU",
    "SELU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "StochasticDepth",
    "Summary",
    "Tanh",
    "depth_rates",
    "in_turn",
    "init",
    "monte_carlo",
    "summary",
]
