"""A model made ready for inference: normalisation folded into weights, run again without Python, weights kept packed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from copy import deepcopy
from types import FunctionType
from typing import Any

import numpy as np

from .. import _C, ops, recording
from ..arguments import instance, one_of
from ..captured import Captured
from ..ops.cast import beside
from ..ops.inference import conv2d as conv2d_inference
from ..tensor import Tensor, no_grad, tensor
from .activation import GELU, ReLU, SiLU, absorb, finished
from .batchnorm import BatchNorm1d, BatchNorm2d
from .conv2d import Conv2d
from .linear import Linear
from .module import Module, Parameter

Norm = BatchNorm1d | BatchNorm2d
Affine = tuple[Tensor, Tensor | None]  # weight, bias


def folded(weight: Tensor, bias: Tensor | None, norm: Norm) -> Affine:
    """The weight and the bias of one product that does what `norm` in evaluation does behind the given one, worked out in float64:

    w' = w gamma / sqrt(var + eps), b' = (b - mean) gamma / sqrt(var + eps) + beta, for each output channel.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    mean, var = (np.asarray(t.numpy(), np.float64) for t in (norm.running_mean, norm.running_var))
    b, gamma, beta = (np.float64(0) if t is None else np.asarray(t.numpy(), np.float64) for t in (bias, norm.weight, norm.bias))
    scale = (1.0 if norm.weight is None else gamma) / np.sqrt(var + norm.eps)
    w = weight.numpy()
    by_channel = scale.reshape(-1, *(1,) * (w.ndim - 1))
    scaled = np.multiply(w, by_channel, out=np.empty_like(w), dtype=np.float64, casting="same_kind")  # rounded once
    values = (scaled, (b - mean) * scale + beta)
    new_weight, new_bias = (tensor(v, weight.dtype, device=weight.device) for v in values)
    return new_weight, new_bias


def _of_products(layer: Conv2d | Linear, norm: Norm | None, x: Tensor) -> Affine:
    weight, bias = (layer.weight, layer.bias) if norm is None else folded(layer.weight, layer.bias, norm)
    return beside(x, weight), bias


class _Folds(dict[tuple[Norm | None, str], Affine]):
    """The parameters of a layer folded with the normalisation behind it, in the type of its products; made when they are first needed, since
    only running the model tells what stands behind what."""

    def __reduce__(self) -> tuple[type[_Folds], tuple[()]]:
        return _Folds, ()  # a copy makes its own, where it lies then

    __copy__ = dict.copy  # as what it holds now

    def of(self, layer: Conv2d | Linear, norm: Norm | None, x: Tensor) -> Affine:
        weight: Any = layer.weight
        if not isinstance(weight, Parameter):  # put in place for this call by a module around the layer
            return _of_products(layer, norm, x)
        if (norm, x.dtype) not in self:
            with recording.paused():  # what is made while a step is recorded has no bytes, and is that step's alone
                self.setdefault((norm, x.dtype), _of_products(layer, norm, x))  # another thread may have come before
        return self[norm, x.dtype]

    @property
    def norms(self) -> bool:
        """Whether there is one among them."""
        return any(norm is not None for norm, _ in self)


def _foldable(norm: Module, kind: type[Norm], channels: int) -> bool:
    return type(norm) is kind and not norm._hooks and not norm.training and norm.running_mean is not None and norm.num_features == channels


class FrozenConv2d(Conv2d):
    """A Conv2d of a frozen model: takes a BatchNorm2d behind it into its weights, a residual and an activation into its epilogue."""

    weights_stay = False  # packed, from one call to the next

    def __init__(self, conv: Conv2d) -> None:
        self.__dict__.update(conv.__dict__, folds=_Folds())

    def forward(self, x: Tensor, norm: Norm | None = None, residual: Tensor | None = None, activation: str = "none") -> Tensor:
        if norm is not None and not _foldable(norm, BatchNorm2d, self.out_channels):
            return norm(self.forward(x), residual, activation)  # type: ignore[no-any-return]
        x, geometry = self.placed(x)
        weight, bias = self.folds.of(self, norm, x)
        stay = self.weights_stay
        return conv2d_inference(x, weight, bias, **geometry, residual=residual, activation=activation, weights_stay=stay)

    def absorbs(self, following: Sequence[Module]) -> tuple[int, dict[str, Any]]:
        if self._hooks or not following or not _foldable(following[0], BatchNorm2d, self.out_channels):
            return absorb(self, following, ReLU, SiLU, GELU)
        count, keywords = following[0].absorbs(following[1:])
        return 1 + count, {"norm": following[0], **keywords}

    def __repr__(self) -> str:
        return f"Conv2d({self.extra_repr()})"  # what errors call it


class FrozenLinear(Linear):
    """A Linear of a frozen model: takes a BatchNorm1d behind it into its weights."""

    def __init__(self, linear: Linear) -> None:
        self.__dict__.update(linear.__dict__, folds=_Folds())

    def forward(self, x: Tensor, activation: str = "none", norm: BatchNorm1d | None = None, residual: Tensor | None = None) -> Tensor:
        if not x.shape or x.shape[-1] != self.in_features:
            return super().forward(x)  # which refuses it
        if residual is not None and norm is None:
            return finished(self.forward(x), residual, activation)
        if norm is None:
            return ops.linear(x, *self.folds.of(self, None, x), activation=activation)
        if x.ndim != 2 or residual is not None:  # the channels of a batch norm are then not the features
            return norm(super().forward(x), residual, activation)  # type: ignore[no-any-return]
        return ops.linear(x, *self.folds.of(self, norm, x), activation=activation)

    def absorbs(self, following: Sequence[Module]) -> tuple[int, dict[str, Any]]:
        if self._hooks or not following or not _foldable(following[0], BatchNorm1d, self.out_features):
            return absorb(self, following, ReLU)
        count, keywords = following[0].absorbs(following[1:])
        return 1 + count, {"norm": following[0], **keywords}

    def __repr__(self) -> str:
        return f"Linear({self.extra_repr()})"


def as_it_is(module: Module) -> str:
    """Why a module runs as it is, in words; empty for one of the library's own without a hook, as its class says."""
    if module._hooks:
        return "has a forward hook"
    return put_in_place(module) if type(module).__module__.split(".")[0] == __name__.split(".")[0] else "is not fastnn's own"


def put_in_place(part: Any) -> str:
    """Which method of one object alone is another function, in words; empty where none is."""
    name = next((name for name in getattr(part, "__dict__", ()) if isinstance(getattr(type(part), name, None), FunctionType)), "")
    return f"has another {name} put in place" if name else ""


class Frozen:
    """What `frozen` returns: call it as the model. `model`: the copy that it runs. `as_they_are`: modules that run as they are, by name,
    and why. `folded`: names of the layers that have taken a normalisation into their weights so far. `form`: how it runs, in words.
    `kernels` and `memory` (bytes) of the newest recording of this thread, as of `capture`."""

    def __init__(self, model: Module, replay: bool | str) -> None:
        self.model = _prepared(model)
        self.as_they_are = {name or type(m).__name__: reason for name, m in self.model.named_modules() if (reason := as_it_is(m))}
        self._ask(replay)

    def _ask(self, replay: bool | str) -> None:
        self._replay, self._here = replay, threading.local()
        hooked = any(m._hooks for m in self.model.modules())
        name, why = next(iter(self.as_they_are.items()), ("", ""))
        reason = "replay=False" if replay is False else f"{name} {why}" if self.as_they_are and (hooked or replay is not True) else ""
        self._reason = reason
        for module in self.model.modules():
            if isinstance(module, FrozenConv2d):
                module.weights_stay = not reason  # also where a recording is refused later: the bits stay those of the calls before

    def __call__(self, x: Tensor) -> Tensor:
        replay: _C.Replay | None = getattr(self._here, "replay", None)
        if replay is None or recording.under_way or _C.instrumented() or not isinstance(x, Tensor):
            return self._other(x)
        captured: Captured = self._here.captured
        if not captured.busy:
            captured.busy = True
            try:
                results = replay.begin([x._array])
                if results is not None:
                    replay.run()
                    return results[0]  # type: ignore[no-any-return]
            finally:
                captured.busy = False
        return self._other(x)

    def _other(self, x: Tensor) -> Tensor:
        """What is not the newest recording once more."""
        with no_grad():
            if self._reason:
                return self.model(x)  # type: ignore[no-any-return]
            instance("a frozen model", "x", x, Tensor, "a Tensor; fastnn.tensor(array) makes one")
            if recording.current() is not None:  # a part of another step, which says itself what it refuses
                return self.model(x)  # type: ignore[no-any-return]
            here = self._here
            if not hasattr(here, "captured"):
                here.captured, here.seen = Captured(self.model, 0, private=True), set()
            x = Tensor(x._array)
            kind = (x.shape, x.dtype, x.device)
            y: Tensor
            if kind not in here.seen:  # the first of its kind may stay the only one
                y = self.model(x)
                here.seen.add(kind)
                return y
            try:
                y = here.captured(x)
                here.replay = here.captured.bare_replay
            except _C.CaptureError as error:
                y = self.model(x)
                self._reason = str(error)  # the model's own: its input alone would have been refused eagerly, too
            return y

    @property
    def folded(self) -> list[str]:
        return [
            name for name, module in self.model.named_modules() if isinstance(module, (FrozenConv2d, FrozenLinear)) and module.folds.norms
        ]

    @property
    def form(self) -> str:
        return f"frozen, {len(self.folded)} normalisations folded, " + (f"eager: {self._reason}" if self._reason else "replayed")

    @property
    def kernels(self) -> list[str]:
        captured: Captured | None = getattr(self._here, "captured", None)
        return [] if captured is None else captured.kernels

    @property
    def memory(self) -> dict[str, int]:
        captured: Captured | None = getattr(self._here, "captured", None)
        return {} if captured is None else captured.memory

    def __repr__(self) -> str:
        return f"{self.form}: {self.model!r}"

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "as_they_are": self.as_they_are, "replay": self._replay}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.model, self.as_they_are = state["model"], state["as_they_are"]
        self._ask(state["replay"])


def _prepared(model: Module) -> Module:
    """A copy in evaluation mode, whose layers can fold. Hooks are shared, not copied: what they write to is somebody else's."""
    copy = deepcopy(model, {id(m._hooks): list(m._hooks) for m in model.modules()}).eval()
    copy.zero_grad()
    new: dict[int, Module] = {}

    def of(module: Module) -> Module:
        if id(module) not in new:
            new[id(module)] = FrozenConv2d(module) if type(module) is Conv2d else FrozenLinear(module) if type(module) is Linear else module
        return new[id(module)]

    for module in list(copy.modules()):
        module._modules.update({name: of(child) for name, child in module._modules.items() if child is not None})
    return of(copy)


def frozen(model: Module, *, replay: bool | str = "auto") -> Frozen:
    """A copy of the model for inference: `fast = nn.frozen(model); y = fast(x)`.

    It evaluates (no dropout, running statistics) and keeps no gradients. Each BatchNorm that follows a Conv2d or Linear in Sequential or
    `nn.in_turn` is folded into its weights (see `folded`), residual and activation run in the epilogue. From the second input of
    a shape on, the forward pass is replayed without Python (`fastnn.capture`), with weights that stay packed as kernels read them. Results are those of
    model.eval() but for the rounding of the folded weights, and of Winograd's algorithm where it pays for weights that stay packed alone
    (up to 4 images of small maps): on ResNets 1e-5 of the largest logit; the same bits for any number of threads.
    It is a snapshot: what becomes of the model afterwards does not reach it. It lies where the model lay, takes one Tensor, and may be called from
    several threads, each of which records for itself; within a captured step it is a part of that. deepcopy and pickle keep the weights, not the recordings.
    Modules of your own and modules with a forward hook run as they are (`as_they_are` names them), and a model that has any is not replayed;
    replay=True tries it with modules of your own all the same; False never replays. Memory goes back with the object. TypeError unless it is a Module.
    """
    instance("frozen", "model", model, Module, "a Module")
    one_of("frozen", "replay", replay, ("auto", True, False))
    return Frozen(model, replay)
