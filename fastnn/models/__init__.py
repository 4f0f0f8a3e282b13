"""The networks of the lectures. `create(name, input_shape=..., num_classes=...)` builds any of them by name."""

from __future__ import annotations

from collections.abc import Callable

from ..nn import Module
from .lenet import lenet
from .mlp import linear, mlp
from .resnet import ResNet, resnet18, resnet20
from .vgg import vgg, vgg_small

__all__ = ["ResNet", "create", "lenet", "linear", "mlp", "names", "resnet18", "resnet20", "vgg", "vgg_small"]

_makers: dict[str, Callable[..., Module]] = {
    "linear": linear,
    "mlp": mlp,
    "lenet": lenet,
    "vgg": vgg,
    "vgg_small": vgg_small,
    "resnet20": resnet20,
    "resnet18": resnet18,
}


def names() -> list[str]:
    """What `create` knows."""
    return list(_makers)


def create(name: str, *, input_shape: tuple[int, ...], num_classes: int = 10) -> Module:
    """The network `name` for inputs of shape (C, H, W). ValueError for an unknown name, or a shape that is too small for its pools."""
    if name not in _makers:
        raise ValueError(f"no model is named {name!r}; there are {', '.join(_makers)}")
    if len(input_shape) != 3:
        raise ValueError(f"input_shape must be (C, H, W), got {input_shape}")
    return _makers[name](num_classes=num_classes, input_shape=input_shape)
