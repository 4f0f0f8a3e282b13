"""Calls of which one Tensor, list of Tensors, array or model lies on another device than all else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fastnn
from fastnn import Tensor, nn

from . import Outcome, Subject, Value, outcome
from .limit import Limit


def moved(value: Any, device: str) -> Any:
    """The same there; of several Tensors the last one; None for anything that lies nowhere."""
    if isinstance(value, nn.Parameter):
        value._array = value._array.to(device)
        return value
    if isinstance(value, Tensor):
        there = value.to(device).detach()
        there.requires_grad = value.requires_grad
        return there
    if isinstance(value, nn.Module):
        return value.to(device)
    if isinstance(value, list) and value and isinstance(value[-1], Tensor):
        return [*value[:-1], moved(value[-1], device)]
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.dtype != np.float64:
        return fastnn.tensor(value, device=device)
    return None


def calls(subjects: list[Subject], device: str) -> Iterator[tuple[Subject, str, Value]]:
    """For each argument that lies somewhere: with this one there."""
    for subject in subjects:
        for name, make in () if subject.script else subject.good.items():
            if moved(make(), device) is not None:
                yield subject, name, (f"on {device}", lambda make=make: moved(make(), device))


def judged(subject: Subject, name: str, value: Value, device: str, limit: Limit) -> Outcome:
    """What is refused names the argument and both devices; where there is no such device, or no such kernel, that."""
    answer = outcome(subject, {name: value}, limit)
    if answer.refusal is None or answer.refusal.startswith("DeviceError"):
        answer.wrong = None
    elif not answer.wrong and not ("cpu" in answer.refusal and device in answer.refusal):
        answer.wrong = "names not both devices"
    return answer
