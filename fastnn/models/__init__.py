"""The networks of the lectures. `create(name, input_shape=..., num_classes=...)` builds any of them by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..arguments import instance, integer, shown, text
from ..elsewhere import absent
from ..nn import Module
from .airbench import Airbench94, airbench94
from .checks import image_shape
from .cut import Cut, cut_network
from .imagenet import ConvNet, alexnet, vgg16
from .lenet import lenet
from .mlp import linear, mlp
from .resnet import ResNet, resnet18, resnet20, resnet32, resnet34, resnet50, resnet56
from .vgg import vgg, vgg_small

__all__ = [
    "Airbench94",
    "ConvNet",
    "Cut",
    "ResNet",
    "airbench94",
    "alexnet",
    "create",
    "lenet",
    "linear",
    "mlp",
    "names",
    "register",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "vgg",
    "vgg16",
    "vgg_small",
]

_makers: dict[str, Callable[..., Module]] = {
    "linear": linear,
    "mlp": mlp,
    "lenet": lenet,
    "vgg": vgg,
    "vgg_small": vgg_small,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet56": resnet56,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "alexnet": alexnet,
    "vgg16": vgg16,
    "airbench94": airbench94,
}
_OF_IMAGES = {*_makers} - {"linear", "mlp"}  # which flatten what they get


def names() -> list[str]:
    """What `create` knows; and "cut", which needs another network."""
    return [name for name in _makers if name != "cut"]


def create(name: str, *, input_shape: tuple[int, ...], num_classes: int = 10, **options: Any) -> Module:
    """The network `name` for inputs of `input_shape`: (C, H, W); for "linear", "mlp" and registered ones of any rank, as (F,). options are the
    maker's own: `create("vgg", ..., widths=(32, 64))`.

    Its attribute `architecture` holds these arguments: files of the model say by them how to build it again. Raises ValueError for an
    unknown name, a shape of another rank, or one that is too small for its pools.
    """
    if text("models.create", "name", name) not in _makers:
        raise ValueError(f"no model is named {name!r}; there are {', '.join(names())}")
    integer("models.create", "num_classes", num_classes, 1)
    image_shape("models.create", "input_shape", input_shape, of_any_rank=name not in _OF_IMAGES)
    made = _makers[name](num_classes=num_classes, input_shape=tuple(input_shape), **options)
    model = instance("models.create", f"what the maker of {name!r} returns", made, Module, "a Module")
    model.architecture = {"name": name, "input_shape": tuple(input_shape), "num_classes": num_classes, **options}
    return model


_makers["cut"] = partial(cut_network, create)  # of images or features, as the other one


def register(name: str, maker: Callable[..., Module]) -> None:
    """Makes a network of one's own known to `create`, and so to files: `register("mynet", MyNet)`, where MyNet takes the keywords
    num_classes and input_shape. A program that loads the file registers the same name first. ValueError for a name that is taken."""
    if not callable(maker) or isinstance(maker, Module):
        raise TypeError(f"register: maker must be a function or a class that makes a Module, got {shown(maker)}")
    if not text("register", "name", name):
        raise ValueError("register: name is empty; give one, by which models.create finds the model")
    if _makers.get(name, maker) is not maker:
        raise ValueError(f"register: there is a model named {name!r} already; choose another name")
    _makers[name] = maker


if not TYPE_CHECKING:  # which knows the names that there are
    __getattr__ = absent(__name__)
