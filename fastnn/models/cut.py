"""A network that ends in the middle: a linear classifier on what one of its layers gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import nn, ops
from ..arguments import instance, integer, text
from ..tensor import Tensor


class _Reached(Exception):
    """Ends a forward pass at the layer whose output is wanted."""

    def __init__(self, values: Any) -> None:
        self.values = values


class _End(nn.Module):
    """Stands in the place of that layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **keywords: Any) -> Any:
        raise _Reached(self.layer(*args, **keywords))


class Cut(nn.Module):
    """fc(means over H and W of what `layer` of a network gives for x): a linear classifier on the features of a stage (Alain, Bengio, "Understanding
    intermediate layers using linear classifier probes", 2016). What the network has behind that layer is not run; it stays in the model's
    state, so that the network can be had again.

    body: the network, which becomes a part of this one; of a Cut its network, whole again. layer: a dotted name of its named_modules. features: how
    many that layer gives, channels of maps, C H W of what is flattened. ValueError for a layer that there is not, and, when it is called, for one that
    forward does not call.
    """

    def __init__(self, body: nn.Module, layer: str, num_classes: int, features: int) -> None:
        super().__init__()
        instance("Cut", "body", body, nn.Module, "a Module")
        named = dict(body.named_modules())
        if not text("Cut", "layer", layer) or layer not in named:
            few = ", ".join([*named][1:4])
            raise ValueError(f"Cut: layer: there is no {layer!r} in the {type(body).__name__}; expected one of its named_modules, as {few}")
        integer("Cut", "num_classes", num_classes, 1, 2**31), integer("Cut", "features", features, 1, 2**31)
        if isinstance(body, Cut):
            body, layer = body._whole(), layer.removeprefix("body.")
            named = dict(body.named_modules())
            if layer not in named:
                raise ValueError(f"Cut: layer: {layer!r} is none of the network's; expected one of those below body, as body.{[*named][1]}")
        self.body, self.layer = body, layer
        self.fc = nn.Linear(features, num_classes)
        parent, _, child = layer.rpartition(".")
        named[parent]._modules[child] = _End(named[layer])
        dtype, device = next(((p.dtype, p.device) for _, p in body.named_parameters()), ("float32", "cpu"))
        if dtype == "float64":
            self.fc.double()
        self.fc.to(device)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self._features(x))
        return logits

    def _whole(self) -> nn.Module:
        """The network, whose forward passes end no more in the middle; this one is of no use behind it."""
        parent, _, child = self.layer.rpartition(".")
        end: Any = dict(self.body.named_modules())[self.layer]
        dict(self.body.named_modules())[parent]._modules[child] = end.layer
        return self.body

    def _features(self, x: Tensor) -> Tensor:
        """(N, F)"""
        try:
            self.body(x)
        except _Reached as reached:
            y: Tensor = reached.values
            return ops.mean(y, (2, 3)) if y.ndim == 4 else ops.flatten(y)
        raise ValueError(
            f"Cut: layer: forward of the {type(self.body).__name__} did not call {self.layer!r}; expected a layer that it calls"
        )


def cut_network(
    create: Callable[..., nn.Module],
    num_classes: int,
    input_shape: tuple[int, ...],
    of: Mapping[str, Any] | None = None,
    layer: str = "",
    features: int = 0,
) -> Cut:
    """For models.create("cut", of={arguments of another network but its input_shape}, layer=..., features=...): what files of a Cut say."""
    if not isinstance(of, Mapping) or of.get("name", "cut") == "cut":
        raise ValueError('cut: of must be a dict with the name of a network, as {"name": "resnet18", "num_classes": 1000}')
    return Cut(create(**{**of, "input_shape": input_shape}), layer, num_classes, features)
