"""The last layer of a network, and another one in its place for other classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arguments import instance, integer, shown, text
from ..data.dataset import checked_classes
from ..exclusive import refuse_others
from ..nn import Conv2d, Linear, Module


def last_layer(what: str, model: Module, name: str | None = None) -> tuple[str, Linear | Conv2d]:
    """The layer of that name or, without one, the last that has parameters: (name, layer). ValueError unless it is a Linear or a Conv2d."""
    instance(what, "model", model, Module, "a Module")
    named = dict(model.named_modules())
    if name is not None and text(what, "name", name) not in named:
        raise ValueError(f"{what}: name: there is no layer {name!r}; there are {', '.join(n for n in named if n)[:400]}")
    own = [n for n, module in named.items() if any(p is not None for p in module._parameters.values())]
    if not own:
        raise ValueError(f"{what}: model ({type(model).__name__}) has no layer with parameters; expected one that ends in a Linear")
    found = own[-1] if name is None else name
    layer = named[found]
    if not isinstance(layer, (Linear, Conv2d)) or not found:
        kind = f"{found or 'the model itself'} ({type(layer).__name__})"
        wanted = (
            "give name=, the name of the Linear that gives the logits" if name is None else "expected a Linear or Conv2d inside the model"
        )
        raise ValueError(f"{what}: the last layer is {kind}; {wanted}" if name is None else f"{what}: name is of {kind}; {wanted}")
    return found, layer


def replace_head(model: Module, classes: int | Sequence[str], *, name: str | None = None) -> str:
    """Puts a new layer in the place of the last one, for other classes. Returns its name, as `freeze`, `optim.groups` and `features` take it.

        head = train.replace_head(model, 2)     # "fc" of a ResNet, "classifier.6" of AlexNet and VGG-16, "head" of airbench94
        head = train.replace_head(model, ["ants", "bees"])

    classes: how many, or their names. name: the dotted name of the layer, where the last one with parameters is not the one that gives the logits.
    A Linear becomes a Linear of as many inputs, a Conv2d one of as many input channels and the same window; with a bias where the old one
    had one, on its device, in its type and mode. Weights start as nn.Linear's, uniform in +-1/sqrt(inputs), from the thread's generator
    (fastnn.seed). A model of models.create knows the new number (its `architecture`), and so do its files. Make the optimizer
    afterwards: it has the parameters that it was given. ValueError for a last layer of another kind; RuntimeError while another thread fits the model.
    """
    found, old = last_layer("replace_head", model, name)
    refuse_others("replace_head", "model", model)
    if isinstance(classes, (str, bytes)):
        raise TypeError(f"replace_head: classes must be a number or several names, got {shown(classes)}")
    if hasattr(classes, "__index__") or not hasattr(classes, "__len__"):
        count = integer("replace_head", "classes", classes, 1, 2**31)
    else:
        count = len(checked_classes("replace_head", classes) or ())
        if not count:
            raise ValueError("replace_head: classes must be a number of at least 1 or several names, got none")
    parent_name, _, child = found.rpartition(".")
    parent = dict(model.named_modules())[parent_name]
    parent._modules[child] = _like(old, count)
    made: Any = getattr(model, "architecture", None)
    if isinstance(made, dict) and "num_classes" in made:
        model.architecture = {**made, "num_classes": count}
    return found


def _like(old: Linear | Conv2d, outputs: int) -> Linear | Conv2d:
    """A layer of the same kind, with other outputs."""
    new: Linear | Conv2d
    if isinstance(old, Linear):
        new = Linear(old.in_features, outputs, bias=old.bias is not None)
    else:
        if old.groups != 1:
            raise ValueError(
                f"replace_head: the last layer of model has {old.groups} groups; expected one, whose outputs may be of any number"
            )
        options = {key: getattr(old, key) for key in ("stride", "padding", "dilation", "padding_mode")}
        new = Conv2d(old.in_channels, outputs, old.kernel_size, bias=old.bias is not None, **options)
    new = new.double() if old.weight.dtype == "float64" else new
    return new.to(old.weight.device).train(old.training)
