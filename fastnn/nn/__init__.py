"""Layers, losses and initialisers, with PyTorch's names, arguments and state_dict keys."""

from . import init
from .activation import ReLU, SiLU
from .batchnorm import BatchNorm1d, BatchNorm2d
from .container import ModuleList, Sequential, in_turn
from .conv2d import Conv2d
from .dropout import Dropout
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
    "Dropout",
    "Flatten",
    "HuberLoss",
    "Identity",
    "L1Loss",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "MultiMarginLoss",
    "MulticlassSVMLoss",
    "NLLLoss",
    "Parameter",
    "Penalty",
    "ReLU",
    "Sequential",
    "SiLU",
    "SmoothL1Loss",
    "Softmax",
    "Summary",
    "in_turn",
    "init",
    "summary",
]
