"""Names, order, kinds and defaults of arguments: PyTorch's wherever a class or function here has a namesake there.

Whatever is positional here stands at the same place there; what follows may be keyword-only here. Other differences are listed, each with
its reason, and a reason that no difference needs is an error as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fastnn import nn, optim

ABSENT = {  # in no signature here
    "device": "layers are made on the CPU and moved by .to(device)",
    "dtype": "layers are float32; .double() makes them float64",
    "size_average": "deprecated in PyTorch in favour of reduction",
    "reduce": "deprecated in PyTorch in favour of reduction",
    "foreach": "one kernel serves all parameters always",
    "fused": "one kernel serves all parameters always",
    "capturable": "the step's number lies where kernels read it always",
    "differentiable": "no second derivatives",
    "generator": "the thread's: fastnn.seed",
    "_random_samples": "private",
}

NO_DEFAULT = "(required)"

# (class, argument): why it is not what it is in PyTorch
DIFFERENCES = {
    ("Parameter", "dtype"): "arrays come from numpy: float64 stays so on request alone; second, as of fastnn.tensor",
    ("Parameter", "data"): "called values here: there is no empty parameter",
    ("Parameter", "values"): "PyTorch's data",
    ("Sequential", "modules"): "PyTorch's args, which has no name for a caller",
    ("Sequential", "args"): "modules here",
    ("ModuleList", "modules"): "() for PyTorch's None: the same",
    ("Softmax", "dim"): "required: PyTorch's guess from the rank is deprecated",
    ("LogSoftmax", "dim"): "required: PyTorch's guess from the rank is deprecated",
    ("AdaptiveAvgPool2d", "output_size"): "1 by default: global pooling",
    ("AdaptiveMaxPool2d", "output_size"): "1 by default: global pooling",
    ("Dropout", "inverted"): "the lectures' plain form",
    ("Dropout2d", "inverted"): "the lectures' plain form",
    ("FractionalMaxPool2d", "regions"): "the paper's two kinds of regions; PyTorch has the second",
    ("Muon", "renormalize"): "of the recipe that trains CIFAR-10 in seconds",
}


def signature(function: Any) -> dict[str, inspect.Parameter]:
    """Without self; empty for a class that takes whatever comes."""
    parameters = dict(inspect.signature(function).parameters)
    kinds = {p.kind for p in parameters.values()}
    return {} if kinds == {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} else parameters


def positional(parameters: dict[str, inspect.Parameter]) -> list[str]:
    return [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]


def default(parameter: inspect.Parameter) -> Any:
    return NO_DEFAULT if parameter.default is parameter.empty else parameter.default


def differences(ours: dict[str, inspect.Parameter], theirs: dict[str, inspect.Parameter]) -> Iterator[tuple[str, str]]:
    """(argument, what is different)"""
    for name in theirs.keys() - ours.keys() - ABSENT.keys():
        yield name, "is not there"
    for name in ours.keys() - theirs.keys():
        yield name, "does not exist in PyTorch"
    for name in ours.keys() & theirs.keys():
        if default(ours[name]) != default(theirs[name]):
            yield name, f"is {default(ours[name])!r} by default, PyTorch's {default(theirs[name])!r}"
        if ours[name].kind is not theirs[name].kind and ours[name].kind is not inspect.Parameter.KEYWORD_ONLY:
            yield name, f"is {ours[name].kind.description}, PyTorch's {theirs[name].kind.description}"
    for here, there in zip(positional(ours), positional(theirs)):
        if here != there:
            yield here, f"stands where PyTorch has {there}"


INITIALISERS = [name for name in vars(nn.init) if not name.startswith("_") and (name.endswith("_") or name == "calculate_gain")]
PAIRS: dict[str, tuple[Any, Any]] = {
    **{name: (getattr(nn, name), getattr(torch.nn, name)) for name in nn.__all__ if name[0].isupper() and hasattr(torch.nn, name)},
    **{name: (getattr(optim, name), getattr(torch.optim, name)) for name in optim.__all__ if hasattr(torch.optim, name)},
    **{name: (getattr(nn.init, name), getattr(torch.nn.init, name)) for name in INITIALISERS},
    **{name: (getattr(optim, name), getattr(torch.nn.utils, name)) for name in ("clip_grad_norm_", "clip_grad_value_")},
}


@pytest.mark.parametrize("name", PAIRS)
def test_arguments_are_pytorchs(name: str) -> None:
    ours, theirs = map(signature, PAIRS[name])
    unexplained = [f"{name}: {argument} {what}" for argument, what in differences(ours, theirs) if (name, argument) not in DIFFERENCES]
    assert not unexplained, "\n".join(unexplained)


def test_every_reason_is_needed() -> None:
    seen = {(name, argument) for name, (ours, theirs) in PAIRS.items() for argument, _ in differences(signature(ours), signature(theirs))}
    assert not DIFFERENCES.keys() - seen
    there = {argument for _, theirs in PAIRS.values() for argument in signature(theirs)}
    assert not ABSENT.keys() - there


def test_what_has_namesakes() -> None:
    """All of the core: a class that is renamed or no longer exported would leave the comparison."""
    assert len(PAIRS) >= 70 and len(INITIALISERS) >= 11
    assert {"Conv2d", "BatchNorm2d", "MaxPool2d", "CrossEntropyLoss", "SGD", "AdamW", "LBFGS", "Muon"} <= PAIRS.keys()


def test_a_difference_of_each_kind_is_seen() -> None:
    def theirs(a, b=1, c=2, *, d=3):  # type: ignore[no-untyped-def]
        pass

    def check(ours: Any) -> set[tuple[str, str]]:
        return set(differences(signature(ours), signature(theirs)))

    assert check(theirs) == check(lambda a, *, b=1, c=2, d=3: None) == set()
    assert check(lambda a, b=1, *, c=2: None) == {("d", "is not there")}
    assert check(lambda a, b=1, *, c=2, d=3, e=4: None) == {("e", "does not exist in PyTorch")}
    assert check(lambda a, b=5, *, c=2, d=3: None) == {("b", "is 5 by default, PyTorch's 1")}
    assert check(lambda a, c=2, *, b=1, d=3: None) == {("c", "stands where PyTorch has b")}
    assert {name for name, _ in check(lambda a, b=1, c=2, d=3: None)} == {"d"}
