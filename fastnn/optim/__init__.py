"""Optimizers whose update of all parameters is one kernel call, and schedules of the learning rate."""

from . import schedules
from .adam import Adam
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "Optimizer", "schedules"]
