"""Layers, losses and initialisers, with PyTorch's names, arguments and state_dict keys."""

from . import init
from .activation import ReLU, SiLU
from .batchnorm import BatchNorm1d, BatchNorm2d
from .container import ModuleList, Sequential, in_turn
from .conv2d import Conv2d
from .dropout import Dropout
from .linear import Flatten, Identity, Linear
from .loss import CrossEntropyLoss
from .module import Module, Parameter
from .pool2d import AdaptiveAvgPool2d, MaxPool2d
from .summary import Summary, summary

__all__ = [
    "AdaptiveAvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "Linear",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Summary",
    "in_turn",
    "init",
    "summary",
]
