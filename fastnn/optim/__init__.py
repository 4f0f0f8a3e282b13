"""Optimizers whose update of all parameters is one kernel call; schedules of the learning rate; averages, clipping, parameter groups."""

from typing import TYPE_CHECKING

from ..elsewhere import absent
from . import schedules
from .adagrad import Adagrad, RMSprop
from .adam import Adam, AdamW
from .averages import EMA, SWA, update_bn
from .clip import clip_grad_norm_, clip_grad_value_
from .groups import groups
from .lbfgs import LBFGS
from .muon import Muon
from .newton import NewtonCG
from .optimizer import Optimizer
from .sgd import SGD
from .wrappers import Lookahead, Together

__all__ = [
    "EMA",
    "LBFGS",
    "SGD",
    "SWA",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lookahead",
    "Muon",
    "NewtonCG",
    "Optimizer",
    "RMSprop",
    "Together",
    "clip_grad_norm_",
    "clip_grad_value_",
    "groups",
    "schedules",
    "update_bn",
]

if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = absent(__name__)
