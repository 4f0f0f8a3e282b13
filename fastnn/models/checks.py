"""What the makers of networks look at before they begin: an error names the maker and the argument, not the layer that the argument would go to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from ..arguments import array, flag, integer, number, shown
from ..data.dataset import channels_last

F = TypeVar("F", bound=Callable[..., Any])


def network(make: F) -> F:
    """The same maker, whose arguments are looked at by their names."""
    signature, name = inspect.signature(make), make.__qualname__.removesuffix(".__init__")

    @wraps(make)
    def checked(*args: Any, **keywords: Any) -> Any:
        try:
            given = signature.bind(*args, **keywords)
        except TypeError as error:
            raise TypeError(f"{name}: {error}; its arguments are {', '.join(signature.parameters)}") from None
        options = given.arguments.get("options", {})
        unknown = sorted(set(options) - set(_CHECKS))
        if unknown:
            raise TypeError(f"{name}: unknown option {', '.join(unknown)}; options are preactivation, zero_init_residual")
        for argument, value in {**given.arguments, **options}.items():
            if argument in _CHECKS:
                _CHECKS[argument](name, argument, value)
        return make(*given.args, **given.kwargs)

    return checked  # type: ignore[return-value]


def sizes(what: str, name: str, value: Any, words: str = "several integers of at least 1", count: int | None = None) -> tuple[int, ...]:
    """Integers of at least 1."""
    try:
        if isinstance(value, (tuple, list)) and count in (None, len(value)):
            return tuple(integer(what, name, n, 1) for n in value)
    except (TypeError, ValueError):
        pass
    kind = ValueError if isinstance(value, (tuple, list)) else TypeError
    raise kind(f"{what}: {name} must be {words}, got {shown(value)}")


def image_shape(what: str, name: str, value: Any, of_any_rank: bool = False) -> tuple[int, ...]:
    flat = of_any_rank or what in ("linear", "mlp")  # any shape is flattened
    if isinstance(value, (tuple, list)) and not value:
        raise ValueError(f"{what}: {name} is empty; expected the shape of one image, as (C, H, W)")
    shape = sizes(what, name, value, *(() if flat else ("(C, H, W), three integers of at least 1", 3)))
    if not flat and channels_last(shape):  # of which there are no data sets
        raise ValueError(f"{what}: {name} must be (C, H, W), got {shape}, channels last as it looks; expected {(shape[2], *shape[:2])}")
    return shape


def images(what: str, name: str, value: Any) -> Any:
    """An array (N, C, H, W)."""
    values = array(what, name, value, "images (N, C, H, W)")
    if values.ndim != 4 or values.dtype.kind not in "fiub" or 0 in values.shape:
        raise ValueError(f"{what}: {name} must be images (N, C, H, W), got shape {values.shape} of {values.dtype}")
    return values


def _count(what: str, name: str, value: Any) -> None:
    integer(what, name, value, 1)


def _hidden(what: str, name: str, value: Any) -> None:
    _count(what, name, value) if what != "mlp" else sizes(what, name, value)


def _share(what: str, name: str, value: Any) -> None:
    number(what, name, value, "[0, 1]")


_CHECKS: Mapping[str, Callable[[str, str, Any], Any]] = {
    "num_classes": _count,
    "in_channels": _count,
    "input_shape": image_shape,
    "hidden": _hidden,
    "blocks": sizes,
    "widths": sizes,
    "dropout": _share,
    "width": lambda what, name, value: number(what, name, value, "(0, inf)"),
    "muon": flag,
    "batch_norm": flag,
    "imagenet_stem": flag,
    "preactivation": flag,
    "zero_init_residual": flag,
}
