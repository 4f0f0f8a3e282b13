"""What activations look like, layer by layer: for an initialisation, or a training that does not move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import numpy as np

from ..arguments import flag, instance, integer, names, number, numbers, shown
from ..exclusive import refuse_others
from ..nn import Module, Sigmoid, Tanh
from ..nn.attributes import refuse_unmade
from ..nn.module import HookHandle
from ..tensor import Tensor, no_grad
from ..turns import by_turns
from .activation_table import ActivationStatistics, LayerActivations
from .evaluation import draws_put_back, switch
from .learned import as_they_are, buffers_below

_WHAT = "activation_statistics"
_MOST = float(np.finfo(np.float64).max) / 4  # so that the width is a number, too; what lies beyond is outside


def activation_statistics(
    model: Module,
    x: Tensor,
    *,
    layers: Sequence[str] | None = None,
    training: bool = False,
    bins: int = 50,
    limits: tuple[float, float] | None = None,
    saturation: float = 0.97,
) -> ActivationStatistics:
    """Runs the model on one batch and looks at what each layer gives (the figure of CS231n's lecture on initialisation; Glorot, Bengio 2010).

        found = train.activation_statistics(model, x)
        print(found)                    # a table, a line for each layer
        found.plot("activations.png")   # a row of histograms
        found.dead                      # {"1": [3, 17]}: channels that are 0 for every sample

    x: a Tensor as the model takes it, (N, ...), on its device; bfloat16 for what layers give in mixed training. layers: names, as
    `named_modules` has them ("" for the model itself); left out, all modules without modules below. One that is called twice has two lines, the
    second named "name (2)". Layers that else run as one kernel run each by itself, so that every one's output is seen; a layer whose block
    tells it the activation behind it, or the residual to add (ResNet's normalisations), gives what comes of that.

    training=False: in evaluation mode; True: as `fit` runs it: dropout drops, batch normalisation takes the batch's statistics. Each layer's
    output, float32, float64 or bfloat16, is read as float64:

    mean, std (divided by the count), least, greatest: of the finite values; `nans` and `infinities` are counted.
    zeros: the share of values that are 0; behind a ReLU, what it cut off.
    saturated: of Tanh the share with |y| > saturation (0.97 by default, where the gradient 1 - y^2 is below 0.06), of Sigmoid with
    |2 y - 1| > saturation; None for other layers.
    counts, edges: the histogram, `bins` (50) of equal width over `limits` (low, high), the same for all layers; left out, from each layer's least
    to its greatest value. `outside` counts finite values beyond the limits.
    dead: the numbers of those channels that are 0 for every sample of x, at every place: axis 1 of outputs (N, K) and (N, C, H, W), else the last.

    No gradients are recorded, and modes, buffers (running statistics), generator and hooks are afterwards what they were, also after an exception.
    Raises TypeError for what is no Module or no Tensor, and for a layer in `layers` that gives no Tensor; ValueError for a layer that there is
    not, or that forward did not call; RuntimeError while another thread fits the model or evaluates it.
    """
    instance(_WHAT, "model", model, Module, "a Module")
    instance(_WHAT, "x", x, Tensor, "a Tensor; fastnn.tensor(array) makes one")
    flag(_WHAT, "training", training), integer(_WHAT, "bins", bins, 1, 2**20)
    number(_WHAT, "saturation", saturation, "(0, 1)")
    refuse_unmade(_WHAT, model)
    ends = None if limits is None else _limits(limits, bins)
    watched, asked = _watched(model, layers), layers is not None
    found: list[LayerActivations] = []
    here, times = get_ident(), dict[str, int]()

    def watch(name: str, layer: Module) -> HookHandle:
        def note(_: Module, args: tuple[Any, ...], output: Any) -> None:
            if get_ident() != here:  # another thread evaluates the model meanwhile
                return
            first = output[0] if isinstance(output, tuple) and output else output  # of a pool with indices
            if isinstance(first, Tensor) and "float" in first.dtype:
                times[name] = times.get(name, 0) + 1
                called = name if times[name] == 1 else f"{name} ({times[name]})"
                found.append(_looked_at(called, layer, first, bins, ends, saturation))
            elif asked:
                raise TypeError(
                    f"{_WHAT}: layers: {name!r} ({type(layer).__name__}) gave {shown(output)}; expected layers that give a Tensor of floats"
                )

        return layer.register_forward_hook(note)

    with _left_alone(model, training), no_grad():
        handles: list[HookHandle] = []
        try:
            handles.extend(watch(name, layer) for name, layer in watched)
            model(x)
        finally:
            for handle in handles:
                handle.remove()
    missed = [name for name, _ in watched if name not in times]
    if asked and missed:
        raise ValueError(f"{_WHAT}: layers: forward did not call {', '.join(map(repr, missed))}; expected layers that it calls")
    return ActivationStatistics(found)


def _limits(limits: Any, bins: int) -> tuple[float, float]:
    low, high = numbers(_WHAT, "limits", limits, 2)
    if not low < high or high - low == np.inf:
        raise ValueError(f"{_WHAT}: limits must be (low, high) with low less than high, got {shown(limits)}")
    if not (np.diff(np.linspace(low, high, bins + 1)) > 0).all():
        raise ValueError(f"{_WHAT}: limits must leave room for {bins} bins between them, got {shown(limits)}")
    return low, high


def _watched(model: Module, layers: Sequence[str] | None) -> list[tuple[str, Module]]:
    named = list(model.named_modules())
    if layers is None:
        return [(name or type(model).__name__, module) for name, module in named if not module._modules]
    wanted = names(_WHAT, "layers", layers, "a list of names of layers, as named_modules has them")
    there = dict(named)
    if absent := [name for name in wanted if name not in there]:
        raise ValueError(f"{_WHAT}: layers: there is no {absent[0]!r}; there are {', '.join(map(repr, there))}")
    if not wanted:
        raise ValueError(f"{_WHAT}: layers must be one name at least; leave it out for all layers")
    return [(name, there[name]) for name in dict.fromkeys(wanted)]


@contextmanager
def _left_alone(model: Module, training: bool) -> Iterator[None]:
    """Inside the block the mode is that one; behind it modes, buffers and the generator are what they were."""
    refuse = partial(refuse_others, _WHAT, "model", model)
    with by_turns(id(model), _WHAT, partial(switch, model, training), refuse):
        put_back = as_they_are(buffers_below(model))
        try:
            with draws_put_back():
                yield
        finally:
            put_back()


def _looked_at(
    name: str, layer: Module, output: Tensor, bins: int, limits: tuple[float, float] | None, saturation: float
) -> LayerActivations:
    values = np.asarray(output.numpy(), np.float64)
    finite = np.isfinite(values)
    every = bool(finite.all())
    known = values.ravel() if every else values[finite]
    low, high = (float(known.min()), float(known.max())) if known.size else (np.nan, np.nan)
    counts, edges = np.histogram(known, bins, limits or _ends(known, low, high, bins))
    with np.errstate(over="ignore"):  # infinity is the answer where squares are too large
        mean, std = (float(known.mean()), float(known.std())) if known.size else (np.nan, np.nan)
    return LayerActivations(
        name=name,
        layer=type(layer).__name__,
        shape=output.shape,
        mean=mean,
        std=std,
        least=low,
        greatest=high,
        zeros=float((values == 0).mean()) if values.size else np.nan,
        saturated=_saturated(layer, values, saturation),
        nans=0 if every else int(np.isnan(values).sum()),
        infinities=0 if every else int(np.isinf(values).sum()),
        counts=counts,
        edges=edges,
        outside=int(known.size - counts.sum()),
        dead=_dead(values),
        channels=values.shape[_channel_axis(values)] if values.ndim > 1 else 0,
    )


def _ends(values: np.ndarray, low: float, high: float, bins: int) -> tuple[float, float]:
    """Between which there is room for so many bins, also where all values are one."""
    if not values.size:
        return 0.0, 1.0
    least = 4 * bins * float(np.spacing(max(abs(low), abs(high))))
    margin = 0.0 if high - low > least else max(0.5 if high == low else 0.0, least)
    return max(low - margin, -_MOST), min(high + margin, _MOST)


def _saturated(layer: Module, values: np.ndarray, saturation: float) -> float | None:
    if not isinstance(layer, (Tanh, Sigmoid)) or not values.size:
        return None
    y = values if isinstance(layer, Tanh) else 2 * values - 1  # sigmoid(2 z) = (1 + tanh(z)) / 2
    return float((np.abs(y) > saturation).mean())


def _channel_axis(values: np.ndarray) -> int:
    return 1 if values.ndim in (2, 4) else values.ndim - 1


def _dead(values: np.ndarray) -> list[int]:
    if values.ndim < 2 or not values.size:
        return []
    axis = _channel_axis(values)
    others = tuple(i for i in range(values.ndim) if i != axis)
    return [int(c) for c in np.flatnonzero((values == 0).all(others))]
