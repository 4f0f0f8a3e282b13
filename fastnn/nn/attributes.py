"""What may become an attribute of a Module, and under which name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from ..arguments import flag, shown, text
from ..elsewhere import of_property
from ..ops.conv2d import resolve_padding
from ..ops.pad import four_sides
from .sizes import checked_pair

C = TypeVar("C", bound=type)
Keeper = Callable[[str, str, Any], Any]  # (layer, name, value): the value as the layer keeps it

_LEAST = {"kernel_size": 1, "stride": 1, "dilation": 1, "padding": 0, "output_padding": 0}
_BASICS = ("_parameters", "_buffers", "_modules", "_hooks", "training")  # what Module.__init__ makes
_FIRST = "super().__init__() at the start of its __init__"
_INSTEAD = {"train": ", or call train(mode)", "eval": ", or call eval()"}
_FIT = "; train.Trainer(model, optimizer).fit(...) trains a model"
_HERE = {  # what other libraries' models have
    **dict.fromkeys(("fit", "compile", "train_on_batch", "fit_generator"), _FIT),
    **dict.fromkeys(("evaluate", "predict", "predict_proba", "score"), "; train.Trainer(model, optimizer) has evaluate and predict"),
    **dict.fromkeys(("save", "save_weights"), "; train.save_model(path, model) writes it"),
    **dict.fromkeys(("load", "load_weights"), "; train.load_model(path) reads a model, load_state_dict(arrays) takes its weights"),
    **dict.fromkeys(("weights", "trainable_weights", "get_weights", "variables"), "; model.named_parameters() goes through them"),
    **dict.fromkeys(("export", "to_onnx"), "; interop.to_onnx(model, path) writes an ONNX file"),
    **dict.fromkeys(("half", "bfloat16"), "; train.Trainer(..., precision='bf16') trains in bfloat16"),
    **dict.fromkeys(("extend", "insert"), "; append(module) adds one to the end of a Sequential or ModuleList"),
    **dict.fromkeys(
        ("register_forward_pre_hook", "register_full_backward_hook"), "; register_forward_hook(hook) is the hook that there is"
    ),
    "add": "; append(module) adds one to a Sequential",
    "add_module": "; setattr(model, name, module) adds one",
    "count_params": "; print(model.summary(input_shape)) counts them",
    "get_parameter": "; dict(model.named_parameters())[name] is it",
    "get_submodule": "; dict(model.named_modules())[name] is it",
    "layers": "; model.children() goes through them",
    "pop": "; del container[...] takes one out",
    "register_module": "; setattr(model, name, module) adds one",
    "trainable": "; model.requires_grad_(False) freezes it",
}
_FROZEN = ("requires_grad", "trainable")
BESIDE = ("optimizer/", "average/", "best/", "loss/", "normalize/")  # how names begin that a checkpoint has beside the model's
GUARDED = {"training", *_FROZEN, *_LEAST}  # what `checked` looks at: one look into a set for everything else that is assigned


def guarded(module: C) -> C:
    """The class Module, whose methods nothing but a function may replace from now on."""
    GUARDED.update(name for name, value in vars(module).items() if callable(value) and name[:2] != "__")
    return module


def keepers(init: Callable[..., Any]) -> dict[str, Keeper]:
    """How a layer keeps those of its `__init__`'s arguments that are sizes: as pairs, or as four sides."""
    kinds = {name: str(kind) for name, kind in init.__annotations__.items() if name in _LEAST}
    ways = {name: next((way for word, way in _WAYS.items() if word in kind), None) for name, kind in kinds.items()}
    return {name: way for name, way in ways.items() if way is not None}


def _as_pair(layer: str, name: str, value: Any) -> Any:
    return checked_pair(layer, name, value, _LEAST[name])


def _as_padding(layer: str, name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return _as_pair(layer, name, value)
    try:
        resolve_padding(value, (1, 1), (1, 1), (1, 1))
    except ValueError as error:
        raise ValueError(f"{layer}: {error}") from None
    return value


def _as_sides(layer: str, name: str, value: Any) -> Any:
    return four_sides(layer, value)


_WAYS: dict[str, Keeper] = {"Padding": _as_padding, "Pair": _as_pair, "tuple[int, int, int, int]": _as_sides}  # by annotation


def checked(module: Any, name: str, value: Any) -> Any:
    """What is assigned to a guarded name, as the layer's `__init__` would keep it."""
    layer = type(module).__name__
    if name == "training":
        return flag(layer, name, value)
    if name in _FROZEN:
        nothing = f"{layer}.{name} = ... would change nothing; requires_grad_({bool(value)}) is for all parameters below"
        if type(module).__module__.split(".")[0] == "fastnn":
            raise AttributeError(nothing)
        if name not in vars(module) and not hasattr(type(module), name):  # else it means something to a class of one's own
            warnings.warn(nothing.replace("nothing", "no parameter"), stacklevel=4)
        return value
    if name not in _LEAST:
        if callable(value) and not hasattr(value, "named_parameters"):
            return value
        raise TypeError(f"{layer}.{name} is a method; assign {shown(value)} to another name{_INSTEAD.get(name, '')}")
    keepers = type(module)._keepers
    if name in keepers:
        value = keepers[name](layer, name, value)
        if name == "kernel_size":
            _refuse_other_kernel(module, layer, value)
    return value


def _refuse_other_kernel(module: Any, layer: str, size: Any) -> None:
    weight = module._parameters.get("weight")
    if weight is not None and size != weight.shape[2:]:
        raise ValueError(
            f"{layer}: kernel_size {size} is not that of weight {weight.shape}; assign another weight first, or make a new layer"
        )


def missing(module: Any, name: str) -> AttributeError:
    """For a name that a module lacks."""
    layer = type(module).__name__
    if "_modules" not in vars(module) and name in _BASICS:
        return AttributeError(f"{layer}: call {_FIRST}; a Module without it cannot be used")
    return AttributeError(f"{layer} has no attribute {name!r}{of_property(module, name) or _HERE.get(name, '')}")


def _refuse_name(module: Any, name: Any, kind: str) -> None:
    layer = type(module).__name__
    if not text(layer, "name", name) or "." in name:
        raise ValueError(
            f"{layer}: {name!r} cannot name a {kind}: it {'has a dot' if name else 'is empty'}; give one of letters without dots"
        )
    if name.startswith(BESIDE):
        raise ValueError(f"{layer}: {name!r} cannot name a {kind}: a checkpoint has other arrays under such names; choose another")
    if hasattr(type(module), name):
        raise ValueError(f"{layer}: {name!r} cannot name a {kind}: the class {layer} has an attribute of that name; choose another")


def checked_name(module: Any, name: str, kind: str) -> str:
    """A name under which a parameter, buffer or module is found: as an attribute, and between the dots of a state_dict's keys."""
    _refuse_name(module, name, kind)
    owners = {"an attribute": vars(module), "a parameter": module._parameters, "a buffer": module._buffers, "a module": module._modules}
    for other, names in owners.items():
        if name in names and other != f"a {kind}":
            raise ValueError(f"{type(module).__name__}: {name!r} cannot name a {kind}: it names {other} already; choose another")
    return name


def take_in(module: Any, registry: dict[str, Any], name: str, value: Any) -> None:
    """Assigns a parameter or module. A name that is there keeps its place: order is what Sequential runs and optimizers count."""
    kind = "module" if registry is module._modules else "parameter"
    if name not in registry:
        _refuse_name(module, name, kind)
    if kind == "module":
        refuse_cycle(module, value)
    for other in (vars(module), module._parameters, module._buffers, module._modules):
        if other is not registry:
            other.pop(name, None)
    registry[name] = value


def of_other_kind(module: Any, name: str, registered: Any, value: Any) -> TypeError:
    """For a value that cannot take the place of what is registered."""
    kind = type(registered).__name__
    return TypeError(f"{type(module).__name__}.{name} is registered as a {kind}; cannot assign {type(value).__name__}")


def checked_child(module: Any, child: Any, place: Any) -> Any:
    """What a container is given to hold at a place: a number or a name."""
    from .module import Module

    if not isinstance(child, Module):
        raise TypeError(f"{type(module).__name__} holds modules, got {shown(child)} as module {shown(place)}{_instead_of(child)}")
    refuse_cycle(module, child)
    return child


def _instead_of(child: Any) -> str:
    """What to write for something that is no module."""
    from .. import nn  # which begins with this file

    kind = child if isinstance(child, type) else type(child)
    if kind.__module__.split(".")[0] == "torch":
        return f"; it is PyTorch's, here nn.{kind.__name__}(...) makes one" if hasattr(nn, kind.__name__) else "; it is PyTorch's"
    if isinstance(child, type):
        return f"; {child.__name__}(...) makes one"
    if isinstance(child, (list, tuple)):
        return "; nn.Sequential(*modules) makes one of them"
    if isinstance(child, Mapping):
        return "; nn.Sequential(modules by name) makes one of them"
    if child is None:
        return "; leave it out, or give nn.Identity()"
    return "; a function becomes one as the forward of a class of your own" if callable(child) else ""


def no_forward(module: Any) -> NotImplementedError:
    """For a module without the one method that it needs, which may be there under another name."""
    own = [name for base in type(module).__mro__[:-1] if base.__module__.split(".")[0] != "fastnn" for name in vars(base)]
    meant = next((name for name in own if name in ("call", "__call__")), None) or next(
        iter(get_close_matches("forward", own, 1, 0.8)), None
    )
    hint = f"; is its {meant} meant to be it?" if meant else ""
    return NotImplementedError(f"{type(module).__name__} has no forward method{hint}")


def refuse_cycle(module: Any, child: Any) -> None:
    """Raises where a module would contain itself: nothing could walk it, print it or run it."""
    refuse_unmade(type(module).__name__, child)
    below, seen = [child], {id(child)}
    while below:
        one = below.pop()
        if one is module:
            held = "itself" if child is module else f"the {type(child).__name__} that contains it"
            raise ValueError(f"{type(module).__name__}: a module cannot hold {held}; pass it as an argument, or keep it in a list")
        new = [m for m in one._modules.values() if m is not None and id(m) not in seen]
        seen.update(map(id, new))
        below += new


def refuse_unmade(what: str, module: Any) -> None:
    """Raises for a module whose `__init__` forgets that of Module, before something trips over it."""
    if "_modules" not in vars(module):
        layer = type(module).__name__
        raise TypeError(f"{what}: cannot use a {layer}, which does not call {_FIRST}")
