"""Fused optimizer steps against torch.optim in float64, over several steps and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_calls import Array, Table, call

SHAPES = [(3, 5), (17,), (8, 3, 3, 3), (1,), (40_001,)]
STEPS = 6


def normal(seed: int) -> list[Array]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def torch_parameters(groups: list[dict[str, Any]], group: Array) -> tuple[list[torch.nn.Parameter], list[dict[str, Any]]]:
    parameters = [torch.nn.Parameter(torch.tensor(w, dtype=torch.float64)) for w in normal(0)]
    named = [{"params": [p for p, g in zip(parameters, group, strict=True) if g == i], **options} for i, options in enumerate(groups)]
    return parameters, named


def error_of(w: list[Array], parameters: list[torch.nn.Parameter]) -> float:
    return max(float(np.abs(a - p.detach().numpy()).max()) for a, p in zip(w, parameters, strict=True))


GROUP = np.array([0, 1, 2, 1, 0])


def test_sgd_is_torch_optim(table: Table) -> None:
    groups: list[dict[str, Any]] = [
        {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9, "nesterov": True},
        {"lr": 0.05, "weight_decay": 0.0, "momentum": 0.9, "nesterov": False},
        {"lr": 0.2, "weight_decay": 0.1, "momentum": 0.0, "nesterov": False},
    ]
    parameters, named = torch_parameters(groups, GROUP)
    optimizer = torch.optim.SGD(named)
    w, v = normal(0), [np.zeros(shape) for shape in SHAPES]
    rates = np.array([[g["lr"], g["weight_decay"], g["momentum"], g["nesterov"], 0, 1] for g in groups])
    for step in range(STEPS):
        g = normal(step + 1)
        for p, gradient in zip(parameters, g, strict=True):
            p.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        written = call("sgd_step", (len(SHAPES), 3), [w, g, v, GROUP, rates, np.full(5, step + 1), None], table.dtype)
        w, v = [written[f"w[{i}]"] for i in range(len(SHAPES))], [written[f"v[{i}]"] for i in range(len(SHAPES))]
        assert error_of(w, parameters) < 40 * (step + 1) * np.finfo(table.dtype).eps


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_is_torch_optim(decoupled: bool, table: Table) -> None:
    groups: list[dict[str, Any]] = [
        {"lr": 0.1, "weight_decay": 0.01, "betas": (0.9, 0.999), "eps": 1e-8},
        {"lr": 0.05, "weight_decay": 0.0, "betas": (0.8, 0.99), "eps": 1e-3},
        {"lr": 0.02, "weight_decay": 0.1, "betas": (0.0, 0.9), "eps": 1e-8},
    ]
    parameters, named = torch_parameters(groups, GROUP)
    optimizer = (torch.optim.AdamW if decoupled else torch.optim.Adam)(named)
    w, m, v = normal(0), [np.zeros(shape) for shape in SHAPES], [np.zeros(shape) for shape in SHAPES]
    rates = np.array([[g["lr"], g["weight_decay"], *g["betas"], g["eps"], decoupled, 0, 1] for g in groups])
    for step in range(STEPS):
        g = normal(step + 1)
        for p, gradient in zip(parameters, g, strict=True):
            p.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        written = call("adam_step", (len(SHAPES), 3), [w, g, m, v, v, GROUP, rates, np.full(5, step + 1), None], table.dtype)
        w, m, v = ([written[f"{name}[{i}]"] for i in range(len(SHAPES))] for name in "wmv")
        assert error_of(w, parameters) < 40 * (step + 1) * np.finfo(table.dtype).eps


def test_late_steps_lose_no_digits(table: Table) -> None:
    """Bias corrections at t = 100,000 and at t = 1 with beta2 near 1, where 1 - beta2^t is small."""
    for t, beta2 in ((100_000, 0.999), (1, 0.99999), (3, 0.999_999)):
        parameters, _ = torch_parameters([{}], np.zeros(5, int))
        optimizer = torch.optim.Adam(parameters, lr=0.1, betas=(0.9, beta2))
        w, g, m, v = normal(0), normal(1), normal(2), [np.abs(a) * (1 - beta2) for a in normal(3)]
        v = [a.astype(np.float32) for a in v]
        for p, gradient, m0, v0 in zip(parameters, g, m, v, strict=True):
            p.grad = torch.tensor(gradient, dtype=torch.float64)
            moments = {name: torch.tensor(value, dtype=torch.float64) for name, value in (("exp_avg", m0), ("exp_avg_sq", v0))}
            optimizer.state[p] = {"step": torch.tensor(float(t - 1)), **moments}
        optimizer.step()
        rates = np.array([[0.1, 0, 0.9, beta2, 1e-8, 0, 0, 1]])
        written = call("adam_step", (5, 1), [w, g, m, v, v, np.zeros(5), rates, np.full(5, t), None], table.dtype)
        w2 = [written[f"w[{i}]"] for i in range(5)]
        moved = max(float(np.abs(a - p.detach().numpy()).max()) for a, p in zip(w, parameters, strict=True))
        # float32: beta2 itself is rounded, 1 - beta2 with it
        assert error_of(w2, parameters) < moved * 100 * np.finfo(table.dtype).eps, (t, beta2)


@pytest.mark.parametrize("beta1", [0.0, 0.1, 0.9])
def test_a_large_gradient_leaves_nothing_of_itself_in_the_next_ones_moment(beta1: float, table: Table) -> None:
    """m = beta1 m + (1 - beta1) g: in m + (1 - beta1) (g - m) a small g would be rounded at the size of the old m."""
    old, g = [1e6 * a for a in normal(1)], normal(2)
    rates = np.array([[0.1, 0, beta1, 0.9, 1e-8, 0, 0, 1]])
    m = [a.astype(np.float32) for a in old]
    written = call("adam_step", (5, 1), [normal(0), g, m, [a * a for a in m], m, np.zeros(5), rates, np.full(5, 2), None], table.dtype)
    for i in range(5):
        expected = beta1 * m[i].astype(np.float64) + (1 - beta1) * g[i].astype(np.float64)
        size = beta1 * np.abs(m[i]) + (1 - beta1) * np.abs(g[i])
        assert (np.abs(written[f"m[{i}]"] - expected) <= 4 * np.finfo(table.dtype).eps * size).all()


def test_gradients_are_not_changed_and_nothing_happens_at_rate_zero(table: Table) -> None:
    w, g, v = normal(0), normal(1), normal(2)
    written = call("sgd_step", (5, 1), [w, g, v, np.zeros(5), np.array([[0.0, 0, 0.9, 0, 0, 1]]), np.full(5, 2), None], table.dtype)
    assert all(np.array_equal(written[f"w[{i}]"], w[i].astype(table.dtype)) for i in range(5))


def test_what_is_not_finite_stays_where_it_is(table: Table) -> None:
    w, g, v = ([a.copy() for a in normal(i)] for i in range(3))
    g[4][70] = np.nan
    written = call("sgd_step", (5, 1), [w, g, v, np.zeros(5), np.array([[0.1, 0, 0.9, 0, 0, 1]]), np.full(5, 2), None], table.dtype)
    assert np.flatnonzero(np.isnan(written["w[4]"])).tolist() == [70]
    assert all(np.isfinite(written[f"w[{i}]"]).all() for i in range(4))
