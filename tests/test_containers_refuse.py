"""A module in the wrong place, or of the wrong kind, is named with its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import Tensor, nn, optim, train

X = fastnn.tensor(np.ones((2, 1, 4, 4), np.float32))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x, x


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Any:
        x + 1.0


class Values(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x.numpy()


def refused(kind: type[Exception], message: str, do: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(kind, match=re.escape(message)) as caught:
        do(*args)
    assert caught.type is kind and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("child", "message"),
    [
        (nn.ReLU, "got the class ReLU as module 1; ReLU(...) makes one"),
        ([nn.ReLU()], "got a list of ReLU as module 1; nn.Sequential(*modules) makes one of them"),
        ({"a": nn.ReLU()}, "got dict as module 1; nn.Sequential(modules by name) makes one of them"),
        (None, "got None as module 1; leave it out, or give nn.Identity()"),
        (abs, "got the function abs as module 1; a function becomes one as the forward of a class of your own"),
        (3, "got 3 as module 1"),
    ],
)
def test_what_is_no_module(child: Any, message: str) -> None:
    refused(TypeError, f"Sequential holds modules, {message}", nn.Sequential, nn.ReLU(), child)
    refused(TypeError, f"ModuleList holds modules, {message}", nn.ModuleList, [nn.ReLU(), child])
    refused(TypeError, f"ModuleDict holds modules, {message.replace('module 1', 'module ' + repr('a'))}", nn.ModuleDict, {"a": child})


LAYERS = [nn.ReLU(), nn.Linear(4, 2), nn.Flatten(), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Sequential(nn.ReLU())]


@pytest.mark.parametrize("after", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_module_that_gives_no_tensor_to_the_next(after: nn.Module) -> None:
    place = "1.1.0" if isinstance(after, nn.Sequential) else "1.1"
    for giver in (Pair(), Values(), nn.MaxPool2d(2, return_indices=True)):
        net = nn.Sequential(nn.Identity(), nn.Sequential(giver, after))
        got = "numpy.ndarray" if isinstance(giver, Values) else "a tuple of Tensor"
        refused(TypeError, f"expected a Tensor, got {got}: the result of {giver!r}, which in front of another module has to be one", net, X)
        refused(TypeError, f"{place} (", net, X)
    net = nn.Sequential(nn.Identity(), nn.Sequential(Nothing(), after))
    refused(TypeError, "expected a Tensor, got None: the result of Nothing(): is a return missing in its forward?", net, X)


def test_what_a_model_itself_is_given_is_nobody_elses() -> None:
    refused(TypeError, "0 (ReLU()): relu: x: expected a Tensor, got None; fastnn.tensor(array) makes one", nn.Sequential(nn.ReLU()), None)


@pytest.mark.parametrize("replay", ["auto", True, False], ids=str)
@pytest.mark.parametrize(("last", "got"), [(Pair(), "a tuple of Tensor"), (Nothing(), "None")], ids=["pair", "nothing"])
def test_the_last_module_is_named_by_its_place(last: nn.Module, got: str, replay: Any) -> None:
    net = nn.Sequential(nn.Linear(4, 2), nn.Sequential(nn.ReLU(), last))
    trainer, samples = train.Trainer(net, optim.SGD(net.parameters())), (np.ones((4, 4), np.float32), [0, 1, 0, 1])
    message = f"Sequential[1][1] ({type(last).__name__}).forward returned {got}; expected a Tensor"
    refused(TypeError, message, lambda: trainer.fit(samples, 1, progress=False, replay=replay))
    refused(TypeError, message, trainer.evaluate, samples)
    refused(TypeError, message, trainer.predict, samples[0])


@pytest.mark.parametrize("replay", ["auto", False], ids=str)
@pytest.mark.parametrize("result", [3.0, "array"], ids=str)
def test_a_forward_that_gives_no_tensor(result: Any, replay: Any, without_memory_checks: None) -> None:
    class Net(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x).numpy() if result == "array" else result

    net = Net(4, 2)
    trainer, samples = train.Trainer(net, optim.SGD(net.parameters())), (np.ones((4, 4), np.float32), [0, 1, 0, 1])
    got = "numpy.ndarray" if result == "array" else "3.0"
    refused(TypeError, f"Net.forward returned {got}; expected a Tensor", lambda: trainer.fit(samples, 1, progress=False, replay=replay))
    wanted = (fastnn._C.CaptureError, "numpy()") if result == "array" else (TypeError, "Net.forward returned 3.0; expected a Tensor")
    refused(*wanted, lambda: trainer.fit(samples, 1, progress=False, replay=True))


def test_a_forward_of_another_name() -> None:
    class Misspelt(nn.Module):
        def foward(self, x: Tensor) -> Tensor:
            return x

    class Keras(nn.Module):
        def call(self, x: Tensor) -> Tensor:
            return x

    refused(NotImplementedError, "Misspelt has no forward method; is its foward meant to be it?", Misspelt(), X)
    refused(NotImplementedError, "Keras has no forward method; is its call meant to be it?", Keras(), X)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fit", "train.Trainer"),
        ("predict", "train.Trainer"),
        ("save", "train.save_model"),
        ("add", "append"),
        ("trainable", "model.requires_grad_"),
        ("insert", "append"),
        ("pop", "del container"),
        ("get_submodule", "dict(model.named_modules())"),
        ("register_forward_pre_hook", "register_forward_hook"),
    ],
)
def test_what_other_libraries_models_have(name: str, hint: str) -> None:
    refused(AttributeError, f"Sequential has no attribute '{name}'; {hint}", getattr, nn.Sequential(), name)


def test_a_summary_names_what_gives_no_tensor() -> None:
    refused(TypeError, "summary: 1 (Nothing()): forward returned None", nn.Sequential(nn.ReLU(), Nothing()).summary, (3,))
