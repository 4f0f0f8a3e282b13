"""What layers say of attributes and names that no layer can have."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import Tensor, nn

X = fastnn.tensor(np.ones((1, 3, 6, 6), np.float32))


def refused(kind: type[Exception], message: str, do: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        do(*args)


# --- without super().__init__()


class Forgetful(nn.Module):
    def __init__(self) -> None:
        self.width = 1

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    "use",
    [
        lambda net: net(X),
        lambda net: list(net.parameters()),
        lambda net: list(net.named_modules()),
        lambda net: net.state_dict(),
        lambda net: net.eval(),
        lambda net: net.training,
        lambda net: net.register_buffer("mask", X),
        lambda net: net.register_forward_hook(lambda *_: None),
        repr,
    ],
)
def test_a_module_whose_init_forgets_that_of_module(use: Callable[[nn.Module], Any]) -> None:
    refused(AttributeError, "Forgetful: call super().__init__() at the start of its __init__", use, Forgetful())
    refused(AttributeError, "Forgetful has no attribute 'height'", getattr, Forgetful(), "height")


def test_nothing_holds_or_measures_such_a_module() -> None:
    for name, hold in (("Sequential", nn.Sequential), ("ModuleDict", lambda net: nn.ModuleDict({"a": net}))):
        refused(TypeError, f"{name}: cannot use a Forgetful, which does not call super().__init__()", hold, Forgetful())
    refused(TypeError, "Identity: cannot use a Forgetful", setattr, nn.Identity(), "child", Forgetful())
    refused(TypeError, "summary: cannot use a Forgetful", Forgetful().summary, (3,))


# --- names


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        ("a.b", "it has a dot"),
        ("forward", "the class Linear has an attribute of that name"),
        ("in_features", "it names an attribute already"),
        ("training", "it names an attribute already"),
    ],
)
def test_names_under_which_nothing_would_be_found(name: str, reason: str) -> None:
    layer = nn.Linear(2, 2)
    before = list(layer.state_dict()), dict(vars(layer))
    refused(ValueError, f"Linear: {name!r} cannot name a buffer: {reason}", layer.register_buffer, name, X)
    refused(ValueError, f"Linear: {name!r} cannot name a parameter: {reason}", layer.register_parameter, name, nn.Parameter([1.0]))
    assert (list(layer.state_dict()), dict(vars(layer))) == before


@pytest.mark.parametrize("name", ["", "a.b"])
def test_names_that_no_assignment_makes(name: str) -> None:
    refused(ValueError, f"Linear: {name!r} cannot name a parameter", setattr, nn.Linear(2, 2), name, nn.Parameter([1.0]))
    refused(ValueError, f"Linear: {name!r} cannot name a module", setattr, nn.Linear(2, 2), name, nn.ReLU())
    refused(KeyError, f"ModuleDict: {name!r} cannot name a module", nn.ModuleDict, {name: nn.ReLU()})


def test_one_name_is_not_registered_twice() -> None:
    layer, norm = nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)
    refused(ValueError, "'weight' cannot name a buffer: it names a parameter already", layer.register_buffer, "weight", X)
    refused(ValueError, "'bias' cannot name a buffer: it names a parameter already", layer.register_buffer, "bias", X)
    refused(ValueError, "it names a buffer already", norm.register_parameter, "running_mean", nn.Parameter([1.0, 1.0]))
    layer.inner = nn.ReLU()
    refused(ValueError, "it names a module already", layer.register_buffer, "inner", X)
    layer.register_buffer("mask", X)
    layer.register_buffer("mask", None)  # the same kind again replaces it
    layer.register_parameter("bias", nn.Parameter([1.0, 1.0]))
    assert list(layer.state_dict()) == ["weight", "bias"] and layer.mask is None


def test_a_class_attribute_would_hide_a_module() -> None:
    class Net(nn.Module):
        head = None

    refused(ValueError, "'head' cannot name a module: the class Net has an attribute of that name", setattr, Net(), "head", nn.ReLU())


def test_an_assignment_that_is_refused_changes_nothing() -> None:
    net = nn.Sequential(nn.ReLU())
    net.register_buffer("mask", X)
    refused(ValueError, "cannot hold itself", setattr, net, "mask", net)
    assert net.mask is X and list(net._modules) == ["0"]


# --- methods and the mode


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("train", False, "; assign False to another name, or call train(mode)"),
        ("eval", True, ", or call eval()"),
        ("forward", None, "; assign None to another name"),
        ("forward", nn.ReLU(), "; assign ReLU to another name"),
        ("forward", nn.ReLU, "; assign the class ReLU to another name"),
        ("parameters", nn.Parameter([1.0]), "; assign Parameter to another name"),
        ("state_dict", {}, "is a method"),
    ],
)
def test_only_a_function_replaces_a_method(name: str, value: Any, hint: str) -> None:
    layer: Any = nn.Linear(2, 2)
    refused(TypeError, f"Linear.{name} is a method", setattr, layer, name, value)
    refused(TypeError, hint, setattr, layer, name, value)
    assert callable(getattr(layer, name)) and list(layer.state_dict()) == ["weight", "bias"]
    layer.forward = lambda x: x
    assert layer(X) is X


def test_the_mode_is_true_or_false() -> None:
    layer: Any = nn.Dropout(0.5)
    for wrong in ("no", 0, None, nn.ReLU(), nn.Parameter([1.0])):
        refused(TypeError, "Dropout: training must be True or False, got", setattr, layer, "training", wrong)
    assert layer.training is True
    layer.training = np.bool_(False)
    assert layer.training is False


# --- sizes


def layers() -> list[Any]:
    pools = [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.MaxUnpool2d(2), nn.FractionalMaxPool2d(2, output_size=2)]
    return [nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 3), *pools]


@pytest.mark.parametrize("name", ["kernel_size", "stride", "padding", "dilation", "output_padding"])
def test_sizes_are_kept_as_the_constructor_keeps_them(name: str) -> None:
    for layer in (layer for layer in layers() if hasattr(layer, name)):
        kind, before = type(layer).__name__, getattr(layer, name)
        for wrong in (None, 2.5, (1,), (1, "2")):
            refused(TypeError, f"{kind}: {name} must be an int or a pair of ints, got {wrong!r}", setattr, layer, name, wrong)
        refused((TypeError, ValueError), f"{kind}: {name} must be an int", setattr, layer, name, "2")  # type: ignore[arg-type]
        refused(ValueError, f"{kind}: {name} must ", setattr, layer, name, -1)
        assert getattr(layer, name) == before and repr(layer)
        size = 3 if "Conv" in kind else 1
        setattr(layer, name, size)
        assert getattr(layer, name) == (size, size) and repr(layer)
        setattr(layer, name, [size, np.int64(size)])
        assert getattr(layer, name) == (size, size)


def test_a_size_that_is_assigned_is_the_one_that_counts() -> None:
    conv: Any = nn.Conv2d(3, 4, 3)
    pool: Any = nn.MaxPool2d(2)
    conv.stride, pool.kernel_size = 2, 3
    assert conv(X).shape == (1, 4, 2, 2) and "stride 2" in repr(conv) and pool(X).shape == (1, 3, 2, 2)
    reflecting: Any = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
    reflecting.padding = 2
    assert reflecting(X).shape == (1, 4, 8, 8), "padded as the constructor said"
    conv.padding, conv.stride = "same", 1
    assert conv(X).shape == (1, 4, 6, 6)
    refused(ValueError, 'Conv2d: padding must be an int, a pair, "same" or "valid", got \'none\'', setattr, conv, "padding", "none")
    conv.stride = 2
    refused(ValueError, 'padding "same" needs stride 1, got (2, 2)', conv, X)
    refused(TypeError, "AvgPool2d: padding must be an int or a pair of ints, got 'same'", setattr, nn.AvgPool2d(2), "padding", "same")


def test_the_weight_settles_the_kernels_size() -> None:
    conv: Any = nn.Conv2d(3, 4, 3)
    refused(ValueError, "Conv2d: kernel_size (5, 5) is not that of weight (4, 3, 3, 3)", setattr, conv, "kernel_size", 5)
    conv.weight = nn.Parameter(np.zeros((4, 3, 5, 5)))
    conv.kernel_size = 5
    assert conv(X).shape == (1, 4, 2, 2) and "5x5" in repr(conv)


def test_four_sides() -> None:
    pad: Any = nn.ZeroPad2d(1)
    refused(TypeError, "ZeroPad2d: padding must be an int or (left, right, top, bottom), got None", setattr, pad, "padding", None)
    pad.padding = 2
    assert pad.padding == (2, 2, 2, 2) and pad(X).shape == (1, 3, 10, 10)


def test_a_module_of_ones_own_names_its_attributes_freely() -> None:
    net = nn.Module()
    net.stride, net.padding, net.kernel_size = "2", None, 3
    assert (net.stride, net.padding, net.kernel_size) == ("2", None, 3)

    class Strided(nn.Conv2d):
        pass

    refused(TypeError, "Strided: stride must be an int or a pair of ints, got '2'", setattr, Strided(3, 4, 3), "stride", "2")


def test_an_error_stands_whatever_the_repr_does() -> None:
    class Odd(nn.Module):
        def extra_repr(self) -> str:
            return "ab"[7]

        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("the reason")

    refused(ValueError, "Odd: the reason", Odd(), X)
    refused(ValueError, "0 (Odd): the reason", nn.Sequential(Odd()), X)
    conv: Any = nn.Conv2d(3, 4, 3)
    conv.padding_mode = None
    refused(TypeError, "mode must be one of", conv, X)
    assert "None" in repr(conv)


# --- a module in itself


def test_no_module_contains_itself() -> None:
    inner = nn.Sequential(nn.ReLU())
    net, heads = nn.Sequential(nn.Sequential(inner)), nn.ModuleDict()
    refused(ValueError, "Sequential: a module cannot hold itself", setattr, net, "me", net)
    refused(ValueError, "Sequential: a module cannot hold the Sequential that contains it", setattr, inner, "above", net)
    for put in (inner.append, lambda module: inner.__setitem__(0, module)):
        refused(ValueError, "Sequential: a module cannot hold the Sequential that contains it", put, net)
    refused(ValueError, "ModuleDict: a module cannot hold the Sequential", heads.__setitem__, "a", nn.Sequential(heads))
    assert len(list(net.modules())) == 4 and repr(net) and len(heads) == 0
    inner.append(nn.Tanh())
    net.append(inner)  # twice in a model, but not in itself
    assert len(list(net.modules())) == 5
