"""Averages of the weights along the way: EMA, Polyak's, SWA; and batch statistics recomputed for them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from operator import is_
from typing import Any

import numpy as np

from .. import _C, recording
from ..arguments import instance, integer, number, shown
from ..exclusive import refuse_others
from ..nn import Module, Parameter
from ..nn.batchnorm import _BatchNorm
from ..tensor import Array, Tensor, no_grad
from ..turns import by_turns, switched
from .given import array_of
from .lists import Told, by_place, floats_of

_COUNTS = {"updates", "calls"}  # beside the averages in a state


class EMA:
    """average = decay average + (1 - decay) w after each step (`update()`), for all parameters and float buffers of a model, in one launch.

    The first update takes the weights as they are, as PyTorch's AveragedModel. decay=None gives every update the same weight: the mean of
    all (Polyak, Juditsky 1992). `update()` may be called after every step, as the Trainer does: it takes in every `every`-th after the first
    `start`. `with ema.averaged(): ...` puts the averages into the model, and afterwards the weights back, bit for bit.
    """

    def __init__(self, model: Module, decay: float | None = 0.999, *, every: int = 1, start: int = 0) -> None:
        what = type(self).__name__
        instance(what, "model", model, Module, "the model whose weights are averaged")
        self.model, self.decay, self.every, self.start = model, decay, every, start
        named = floats_of(model)
        if not named:
            raise ValueError(f"{what}: the model has no parameters")
        if taken := named.keys() & _COUNTS:
            raise ValueError(
                f"{what}: the model has a tensor called {min(taken)!r}, as a count of the averages' state is; choose another name"
            )
        self._names, self._tensors = list(named), list(named.values())
        self._registries: list[dict[str, Any]] = []  # of the model's modules, and what they held when it was last looked through
        self._held: list[Any] = []
        self._swapped = False
        self.reset()

    def __setattr__(self, name: str, value: Any) -> None:
        """Settings are checked whenever they are made."""
        if name == "decay" and value is not None:
            number(type(self).__name__, name, value, "[0, 1)")
        elif name in ("every", "start"):
            integer(type(self).__name__, name, value, 1 if name == "every" else 0)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_registries": [], "_held": []}

    def __repr__(self) -> str:
        """What it does, for files and errors."""
        return f"{type(self).__name__}(decay={self.decay}, every={self.every}, start={self.start})"

    def __deepcopy__(self, memo: dict[int, Any]) -> EMA:
        """An average of the copied model, as far as this one has come."""
        if self._swapped:
            raise RuntimeError(f"{type(self).__name__}: the averages are in the model's place; swap() back before copying")
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        EMA.__init__(copied, copy.deepcopy(self.model, memo), self.decay, every=self.every, start=self.start)
        copied.load_state_dict(self.state_dict())
        return copied

    def reset(self) -> None:
        """Forgets: the averages are the model's weights, and the next update takes them as they are then. RuntimeError while swapped."""
        self._refuse_swapped("reset")
        self._averages: list[Array] = [t._array.to(t.device) for t in self._tensors]
        self._share = Told()
        for t in self._tensors:
            self._share.reach(t.device)
        self.calls = self.updates = 0  # of update(), and those that took the weights in

    def _refuse_swapped(self, doing: str) -> None:
        """The weights lie where the averages did: they would be lost, or be taken for averages."""
        if self._swapped:
            raise RuntimeError(f"{type(self).__name__}.{doing}(): the averages are in the model's place; swap() back first")

    def update(self) -> None:
        """Takes the model's weights in. RuntimeError while swapped."""
        self._refuse_swapped("update")
        recording.ask(partial(self._refuse_swapped, "update"))
        recording.at_the_end(self._update)

    def _refuse_other_tensors(self, doing: str) -> None:
        """A layer that was replaced or appended has no average; a buffer that forward assigned anew is the buffer still. The model is looked
        through only where what its modules hold has changed. What is swapped comes back, whatever the model has become."""
        now = [self.model, *chain.from_iterable(map(dict.values, self._registries))]
        if len(now) == len(self._held) and all(map(is_, now, self._held)):
            return
        floats = floats_of(self.model)
        same = list(floats) == self._names and all(map(_is_still, self._tensors, floats.values()))
        if not same and list(map(id, floats.values())) != list(map(id, self._tensors)):
            if self._swapped:
                return
            own = set(map(id, self._tensors))
            other = [name for name, t in floats.items() if id(t) not in own] or ["a weight fewer, or in another order"]
            raise ValueError(
                f"{type(self).__name__}.{doing}(): the model no longer has the {len(self._tensors)} tensors that are averaged: now it has "
                f"{', '.join(other[:3])}{', ...' if other[3:] else ''}; make a new one of the model as it is"
            )
        self._tensors = list(floats.values())
        self._registries = [r for m in self.model.modules() for r in (m._parameters, m._buffers, m._modules)]
        self._held = [self.model, *chain.from_iterable(map(dict.values, self._registries))]

    def _update(self) -> None:
        self._refuse_other_tensors("update")
        self.calls += 1
        if self.calls <= self.start or (self.calls - self.start) % self.every:
            return
        share = 1 / (self.updates + 1) if self.decay is None or not self.updates else 1 - self.decay
        self._follow("update")
        for (_, device), members in by_place(self._tensors).items():
            averages, weights = [self._averages[i] for i in members], [self._tensors[i]._array for i in members]
            _C.average(_C.ParameterList(len(members)), averages, weights, self._share.on(share, device))
        self.updates += 1

    def swap(self) -> None:
        """Exchanges the model's weights and the averages, bit for bit."""
        self._refuse_other_tensors("swap")
        self._follow("swap")
        for members in by_place(self._tensors).values():
            averages, weights = [self._averages[i] for i in members], [self._tensors[i]._array for i in members]
            _C.exchange(_C.ParameterList(len(members)), averages, weights)
        self._swapped = not self._swapped

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block the model holds the averages (before the first update: its weights). Threads share that.
        RuntimeError while another thread fits the model, or evaluates it by the weights themselves."""
        doing = f"{type(self).__name__}.averaged"
        with by_turns(id(self.model), (id(self), "averaged"), self._put_in, partial(refuse_others, doing, "model", self.model)):
            yield

    def _put_in(self) -> Callable[[], None]:
        if self._swapped or not self.updates:
            return lambda: None
        self.swap()
        return self.swap

    def _follow(self, doing: str) -> None:
        changed = next(((n, t, a) for n, t, a in zip(self._names, self._tensors, self._averages) if t.dtype != a.dtype), None)
        if changed is not None:
            name, now, begun = changed
            raise TypeError(f"{type(self).__name__}.{doing}(): {name} has become {now.dtype}, its average is {begun.dtype}; make a new one")
        self._averages = [a if a.device == t.device else a.to(t.device) for a, t in zip(self._averages, self._tensors)]

    def state_dict(self) -> dict[str, Any]:
        """Copies of the averages by name, "updates" and "calls". RuntimeError while swapped."""
        self._refuse_swapped("state_dict")
        return {
            "updates": self.updates,
            "calls": self.calls,
            **{k: np.array(a.numpy(), order="C") for k, a in zip(self._names, self._averages)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what state_dict gave. ValueError names what does not fit, RuntimeError while swapped; nothing is changed then."""
        what, expected = f"{type(self).__name__}.load_state_dict", {*_COUNTS, *self._names}
        if not isinstance(state, Mapping):
            raise TypeError(f"{what}: expected what state_dict() gave, got {shown(state)}")
        self._refuse_swapped("load_state_dict")
        wrong = [f"{k} is missing" for k in sorted(expected - set(state))]
        wrong += [f"unexpected {k}" for k in state if k not in expected]
        if wrong:
            raise ValueError(f"{what}: {'; '.join(wrong)}")
        averages = [array_of(what, k, state[k], t) for k, t in zip(self._names, self._tensors)]
        updates, calls = (integer(what, k, state[k], 0) for k in ("updates", "calls"))
        self._averages, self.updates, self.calls = averages, updates, calls

    def _as_it_is(self) -> Callable[[], None]:
        """What puts its state back and takes no memory."""
        return partial(vars(self).update, dict(vars(self)))


def _is_still(before: Tensor, now: Tensor) -> bool:
    return now is before or (now.shape == before.shape and not isinstance(before, Parameter) and not isinstance(now, Parameter))


class SWA(EMA):
    """The plain mean of the weights at the times that `update()` is called: stochastic weight averaging (Izmailov et al. 2018).

    Call it at the end of each of the last epochs, at a constant or cyclic rate; or let the Trainer do it, which calls it after each step:
    Trainer(..., ema=SWA(model, every=len(loader), start=10 * len(loader))). At the end `swap()` and `update_bn(loader, model)`. A fit with
    validation data then wants restore_best=False: else it puts its best snapshot back and, with a warning, forgets the mean.
    """

    def __init__(self, model: Module, *, every: int = 1, start: int = 0) -> None:
        super().__init__(model, None, every=every, start=start)

    def __repr__(self) -> str:
        return f"SWA(every={self.every}, start={self.start})"


def update_bn(loader: Iterable[Any], model: Module) -> None:
    """Running statistics of every batch normalisation anew: the mean over one pass through `loader`, in training mode without gradients.

    `loader` gives batches or tuples that begin with one, as torch.optim.swa_utils.update_bn. Other layers do what they do in training:
    dropout draws, InstanceNorm2d(track_running_stats=True) moves its statistics by its momentum; no weight changes. A model without batch
    normalisation is left alone. Whatever is raised, all statistics are as they were: TypeError for what gives no batches, ValueError where
    there are none, RuntimeError while another thread fits or evaluates the model.
    """
    instance("update_bn", "model", model, Module, "a Module")
    if not hasattr(loader, "__iter__") or isinstance(loader, (Tensor, type)) or getattr(loader, "shape", None) == ():
        raise TypeError(f"update_bn: loader must give batches, got {shown(loader)}")
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        return
    batches = map(_batch_of, loader)
    first = next(batches, None)
    if first is None:
        raise ValueError("update_bn: loader gives no batches; an iterator that was gone through once is empty")
    refuse = partial(refuse_others, "update_bn", "model", model)
    with by_turns(id(model), "update_bn", partial(switched, model, True), refuse), no_grad():
        momenta = [m.momentum for m in norms]
        kept = [(t, t._array.to(t.device)) for m in model.modules() for t in m._buffers.values() if t is not None]
        try:
            for m in norms:
                m.running_mean.copy_from(np.zeros(m.running_mean.shape, m.running_mean.dtype))
                m.running_var.copy_from(np.ones(m.running_var.shape, m.running_var.dtype))
                m.num_batches_tracked.copy_from(np.asarray(0, np.int64))
                m.momentum = None  # every call counts the same
            for x in chain([first], batches):
                model(x)
        except BaseException:
            for t, array in kept:
                t._array.assign(array)
            raise
        finally:
            for m, momentum in zip(norms, momenta):
                m.momentum = momentum


def _batch_of(given: Any) -> Tensor:
    x = given[0] if isinstance(given, (tuple, list)) and given else given
    if not isinstance(x, Tensor):
        raise TypeError(f"update_bn: loader must give batches, or tuples that begin with one, got {shown(given)}")
    return x
