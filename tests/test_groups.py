"""Parameter groups of a model: decay, rates by name and by depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn import nn
from fastnn.optim import SGD, AdamW, groups, schedules


def net() -> nn.Sequential:
    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 3, 3))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))


def options_by_name(model: nn.Module, made: list[dict[str, Any]], option: str) -> dict[str, Any]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group.get(option) for group in made for p in group["params"]}


def test_biases_and_norms_are_spared_the_decay() -> None:
    model = net()
    decay = options_by_name(model, made := groups(model, weight_decay=0.1), "weight_decay")
    assert {name for name, d in decay.items() if d == 0} == {"0.0.bias", "0.1.weight", "0.1.bias", "0.3.bias", "2.bias", "4.bias"}
    assert decay["0.0.weight"] == decay["4.weight"] == 0.1 and len(decay) == len(list(model.parameters())) and len(made) == 2
    optimizer = AdamW(groups(model))  # the optimizer's own decay where nothing is said
    assert sorted(g["weight_decay"] for g in optimizer.param_groups) == [0.0, 1e-2]
    assert options_by_name(model, groups(model, weight_decay=0.1, no_decay=("norm", "0.0")), "weight_decay") == {
        name: 0.0 if name in ("0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias") else 0.1 for name, _ in model.named_parameters()
    }
    assert len(groups(model, weight_decay=0.1, no_decay=())) == 1


class RMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(np.ones(3))


class WeightNormConv2d(nn.Conv2d):
    pass


class NormalizedLinear(RMSNorm):
    pass


class WeightNorm(RMSNorm):
    pass


class Affine(nn.BatchNorm2d):
    pass


class NetOfNorms(RMSNorm):
    def __init__(self) -> None:
        super().__init__()
        self.below = RMSNorm()


def test_what_a_normalisation_is() -> None:
    """The library's and what derives from them, and leaves that are called so; no convolution, no net, whatever they are called."""
    norms = [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.InstanceNorm2d(2, affine=True), nn.LayerNorm(2), RMSNorm()]
    model = nn.Sequential(*norms, Affine(2), WeightNormConv2d(1, 1, 1), NormalizedLinear(), WeightNorm(), NetOfNorms())
    decay = options_by_name(model, groups(model, weight_decay=0.1, no_decay=["norm"]), "weight_decay")
    assert {name for name, d in decay.items() if d} == {"7.weight", "7.bias", "8.gain", "9.gain", "10.gain"}
    assert len(decay) == len(list(model.parameters()))


def test_rates_by_name_and_depth() -> None:
    model = net()
    rates = options_by_name(model, groups(model, lr=0.1, factors={"0": 0.1, "0.3": 0.5}), "lr")
    assert rates["0.0.weight"] == pytest.approx(0.01) and rates["0.3.bias"] == pytest.approx(0.05) and rates["2.weight"] == 0.1
    rates = options_by_name(model, groups(model, lr=0.8, depth_factor=0.5), "lr")
    assert [rates[n] for n in ("4.weight", "2.bias", "0.1.bias")] == pytest.approx([0.8, 0.4, 0.2])
    optimizer = SGD(groups(model, lr=schedules.linear(0.8, 10), depth_factor=0.5), 0.1)
    optimizer.steps = 5
    assert sorted(set(optimizer.rates())) == pytest.approx([0.1, 0.2, 0.4])


def test_frozen_parameters_are_left_out() -> None:
    model = net()
    for p in model[0].parameters():
        p.requires_grad = False
    assert set(options_by_name(model, groups(model, lr=0.1, factors={"0": 0.1}), "lr")) == {"2.weight", "2.bias", "4.weight", "4.bias"}


def test_decay_is_what_the_step_uses() -> None:
    model = net()
    before = {name: np.array(p.numpy()) for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = p * 0.0
    SGD(groups(model, weight_decay=0.5), 0.1).step()
    for name, p in model.named_parameters():
        factor = 0.95 if name in ("0.0.weight", "0.3.weight", "2.weight", "4.weight") else 1
        assert np.allclose(p.numpy(), factor * before[name], rtol=1e-6, atol=0), name


def test_bad_groups() -> None:
    for options, message in (
        ({"factors": {"0": 0.1}}, "factors and depth_factor multiply a rate: give lr as well"),
        ({"depth_factor": 0.5}, "give lr as well"),
        ({"lr": 0.1, "factors": {"features": 0.1}}, "no parameter is called 'features' or lies below it; there are 0.0.weight, "),
        ({"no_decay": ("bias", "gamma")}, "no parameter is called 'gamma'"),
    ):
        with pytest.raises(ValueError, match=message):
            groups(net(), **options)
