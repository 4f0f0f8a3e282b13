"""Muon against torch.optim.Muon and the published airbench step; what it does to singular values; refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch_twins import DTYPES, assert_close, normal

import fastnn
from fastnn import _C, nn, optim
from fastnn.optim import Muon

SHAPES = [(6, 4), (4, 6), (8, 3, 3, 3), (8, 3, 3, 3), (20, 1, 3, 3), (1, 5), (3, 2, 2)]


def matrix(values: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float64).reshape(len(values), -1)


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch rounds the direction to bfloat16 first: here it does not."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda t: t.clone())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.02, "momentum": 0.6, "nesterov": False, "weight_decay": 0.0},
        {"lr": 0.1, "ns_steps": 3, "adjust_lr_fn": "match_rms_adamw", "ns_coefficients": (2.0, -1.5, 0.5), "eps": 1.0},
        {"adjust_lr_fn": "original", "momentum": 0.0},
    ],
)
def test_twenty_steps_are_torch_optims(options: dict[str, Any], dtype: str, in_float64: None) -> None:
    values = [normal(i, *shape) for i, shape in enumerate(SHAPES)]
    ours = [nn.Parameter(v, dtype) for v in values]
    theirs = [torch.nn.Parameter(matrix(v)) for v in values]
    a, b = Muon(ours, **options), torch.optim.Muon(theirs, **options)
    for step in range(20):
        for i, (p, q) in enumerate(zip(ours, theirs)):
            g = normal(1000 * (step + 1) + i, *p.shape)
            p.grad, q.grad = fastnn.tensor(g, dtype), matrix(g)
        a.step(), b.step()
        for i, (p, q) in enumerate(zip(ours, theirs)):
            assert_close(np.array(p.numpy()).reshape(q.shape), q, 400, f"parameter {i} after step {step + 1}")
    assert len({p.numpy().tobytes() for p in ours}) == len(ours)


def airbench(w: torch.Tensor, g: torch.Tensor, buffer: torch.Tensor, lr: float, momentum: float) -> None:
    """One step of airbench94_muon.py (K. Jordan 2024) in float64."""
    buffer.mul_(momentum).add_(g)
    x = g.add(buffer, alpha=momentum)
    w.mul_(math.sqrt(len(w)) / w.norm())
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(3):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    w.add_(x.T if tall else x, alpha=-lr)


def test_airbenchs_variant() -> None:
    w = [normal(i, *shape) for i, shape in enumerate(SHAPES)]
    ours = [nn.Parameter(v, "float64") for v in w]
    theirs = [matrix(v) for v in w]
    buffers = [torch.zeros_like(t) for t in theirs]
    optimizer = Muon(ours, 0.24, momentum=0.6, weight_decay=0, ns_steps=3, adjust_lr_fn="none", renormalize=True)
    for step in range(5):
        for i, (p, q, buffer) in enumerate(zip(ours, theirs, buffers)):
            g = normal(50 * (step + 1) + i, *p.shape)
            p.grad = fastnn.tensor(g, "float64")
            airbench(q, matrix(g), buffer, 0.24, 0.6)
        optimizer.step()
        for p, q in zip(ours, theirs):
            assert np.abs(np.array(p.numpy()).reshape(q.shape) - q.numpy()).max() < 1e-5  # eps meets another scale of the direction


def test_every_singular_value_comes_near_one() -> None:
    w = nn.Parameter(np.zeros((12, 5, 3, 3), np.float32))
    optimizer = Muon([w], 1.0, weight_decay=0.0, momentum=0.0, nesterov=False, adjust_lr_fn="none")
    w.grad = fastnn.tensor(normal(0, 12, 5, 3, 3) * np.geomspace(0.05, 1, 12, dtype=np.float32)[:, None, None, None])
    optimizer.step()
    values = np.linalg.svd(np.array(w.numpy()).reshape(12, -1), compute_uv=False)
    assert 0.5 < values.min() and values.max() < 1.4


def test_a_gradient_of_zero_moves_nothing() -> None:
    w = nn.Parameter(normal(0, 4, 3))
    before = np.array(w.numpy())
    w.grad = fastnn.tensor(np.zeros((4, 3)))
    Muon([w], 0.1, weight_decay=0.0).step()
    assert (w.numpy() == before).all()


def test_matrices_of_one_size_share_a_call() -> None:
    p = [nn.Parameter(normal(i, 8, 3, 3, 3)) for i in range(3)]
    q = nn.Parameter(normal(9, 27, 8))
    for parameter in (*p, q):
        parameter.grad = fastnn.tensor(normal(1, *parameter.shape))
    with fastnn.profile() as kernels:
        Muon([*p, q]).step()
    assert kernels["muon_step"]["calls"] == 2


def test_a_list_of_another_size_is_refused() -> None:
    w, g, v = ([_C.from_numpy(np.zeros((3, 5), np.float32))] for _ in range(3))
    group, rates = _C.from_numpy(np.zeros(1, np.int64)), _C.from_numpy(np.zeros((1, 7)))
    with pytest.raises(ValueError, match=r"muon_step: w\[0\] has shape \(3, 5\); expected 16 elements"):
        _C.muon_step(_C.Muon(1, 1, 0, 4, 4, 3), w, g, v, group, rates, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params": [np.zeros(3)]}, r"a parameter of shape \(3,\) is no matrix; give biases and norms to another optimizer"),
        ({"params": [np.zeros((0, 3))]}, r"a parameter of shape \(0, 3\) is no matrix"),
        ({"ns_steps": 0}, "ns_steps must lie between 1 and 99, got 0"),
        ({"ns_coefficients": (1, 2)}, "ns_coefficients must be three numbers"),
        ({"adjust_lr_fn": "muon"}, "adjust_lr_fn 'muon' is not one of original, match_rms_adamw, none"),
        ({"momentum": -1}, "momentum must not be negative"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    values = options.pop("params", [np.zeros((2, 2))])
    with pytest.raises(ValueError, match=f"Muon: {message}"):
        Muon([nn.Parameter(v) for v in values], **options)


def test_state_goes_round_bit_for_bit() -> None:
    def run(optimizer: optim.Optimizer, p: nn.Parameter, steps: range) -> bytes:
        for step in steps:
            p.grad = fastnn.tensor(normal(step, *p.shape))
            optimizer.step()
        return p.numpy().tobytes()

    p = nn.Parameter(normal(0, 5, 2, 3, 3))
    optimizer = Muon([p], 0.1)
    run(optimizer, p, range(3))
    other = nn.Parameter(np.array(p.numpy()))
    resumed = Muon([other], 0.1)
    resumed.load_state_dict(optimizer.state_dict())
    assert run(resumed, other, range(3, 6)) == run(optimizer, p, range(3, 6))
