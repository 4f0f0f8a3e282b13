"""Optimizers made of optimizers: Lookahead, and several side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import is_
from typing import Any

import numpy as np

from .. import _C, recording
from ..arguments import instance, integer, number, shown
from ..described import described
from ..nn import Module
from ..tensor import Array, Tensor
from .full_batch import FullBatch
from .given import array_of, followed, steps_of
from .lists import Told, by_place, floats_of
from .optimizer import Optimizer, Rate
from .schedules import checked_rate, memory_of, rate_at
from .update import Behind, Part


class _Wrapper(Optimizer):
    """Passes on what one or several optimizers do."""

    def __init__(self, *optimizers: Optimizer) -> None:
        for optimizer in optimizers:
            if not isinstance(optimizer, Optimizer):
                raise TypeError(
                    f"{type(self).__name__}: expected an optimizer, such as optim.SGD(model.parameters(), 0.1), got {shown(optimizer)}"
                )
            if isinstance(optimizer, FullBatch):
                raise TypeError(
                    f"{type(self).__name__}: {optimizer.name} evaluates the loss as often as it likes and cannot be a part of others; call its "
                    "step(closure) by itself"
                )
        self.optimizers = optimizers
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]

    def __repr__(self) -> str:
        return described(self, *map(repr, self.optimizers))

    @property
    def name(self) -> str:
        return f"{type(self).__name__}({', '.join(optimizer.name for optimizer in self.optimizers)})"

    @property
    def steps(self) -> int:
        return self.optimizers[0].steps

    @steps.setter
    def steps(self, steps: int) -> None:
        raise AttributeError(f"{self.name}.steps is that of its optimizers; set optimizer.optimizers[0].steps, and so for each")

    @property
    def steps_per_epoch(self) -> int | None:
        return self.optimizers[0].steps_per_epoch

    @steps_per_epoch.setter
    def steps_per_epoch(self, steps: int | None) -> None:
        for optimizer in self.optimizers:
            optimizer.steps_per_epoch = steps

    @property
    def measure_updates(self) -> bool:
        return self.optimizers[0].measure_updates

    @measure_updates.setter
    def measure_updates(self, on: bool) -> None:
        for optimizer in self.optimizers:
            optimizer.measure_updates = on

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused: it would be unclear whose group it is."""
        raise ValueError(f"{self.name}.add_param_group: give the group to one of the optimizers that this one is made of, before making it")

    def _refuse_other_parameters(self) -> None:
        for optimizer in self.optimizers:
            optimizer._refuse_other_parameters()
        self._refuse_other_groups()

    def _refuse_other_groups(self) -> None:
        groups, own = [group for optimizer in self.optimizers for group in optimizer.param_groups], self.param_groups
        if not isinstance(own, list) or len(own) != len(groups) or not all(map(is_, own, groups)):
            raise ValueError(f"{self.name}: param_groups are no longer those of the optimizers that it is made of; make a new one of them")

    def rates(self) -> list[float]:
        self._refuse_other_parameters()
        return [rate for optimizer in self.optimizers for rate in optimizer.rates()]

    def _leaves(self) -> list[Optimizer]:
        return [leaf for optimizer in self.optimizers for leaf in optimizer._leaves()]

    def _updates(self) -> list[Part]:
        self.rates()  # what one of them refuses, all refuse
        recording.ask(self._refuse_other_groups)
        return [part for optimizer in self.optimizers for part in _parts(optimizer)]

    def weights_replaced(self) -> None:
        for optimizer in self.optimizers:
            optimizer.weights_replaced()

    def update_ratios(self) -> list[float]:
        return [ratio for optimizer in self.optimizers for ratio in optimizer.update_ratios()]

    def state_arrays(self) -> dict[str, Array]:
        return {f"{i}/{k}": a for i, optimizer in enumerate(self.optimizers) for k, a in optimizer.state_arrays().items()}

    def state_dict(self) -> dict[str, Any]:
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        parts = {f"{i}/{k}": v for i, state in enumerate(states) for k, v in state.items() if k != "steps"}
        others = {
            f"{i}/steps": np.asarray(o.steps) for i, o in enumerate(self.optimizers) if o.steps != self.steps
        }  # stepped before, or since
        return {"steps": self.steps, **parts, **others}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what state_dict gave. ValueError names what does not fit; nothing is changed then."""
        steps_of(f"{self.name}.load_state_dict", state)
        parts: list[dict[str, Any]] = [{"steps": state["steps"]} for _ in self.optimizers]
        for key, value in state.items():
            number, slash, rest = str(key).partition("/")
            if slash and number.isdecimal() and int(number) < len(parts):
                parts[int(number)][rest] = value
            elif key != "steps" and not self._own(key):
                raise ValueError(f"{self.name}.load_state_dict: unexpected {key!r}; expected <optimizer>/<what its state_dict gives>")
        put_back = self._as_it_is()
        try:
            for optimizer, part in zip(self.optimizers, parts):
                optimizer.load_state_dict(part)
        except BaseException:
            put_back()
            raise

    def _as_it_is(self) -> Callable[[], None]:
        parts = [super()._as_it_is(), *(optimizer._as_it_is() for optimizer in self.optimizers)]

        def put_back() -> None:
            for part in parts:
                part()

        return put_back

    def _own(self, key: str) -> bool:
        return False


def _parts(optimizer: Optimizer) -> list[Part]:
    """One with a step of its own does it when the others are done."""
    return optimizer._updates() if type(optimizer).step is Optimizer.step else [Behind(optimizer.step)]


class Together(_Wrapper):
    """Several optimizers that step as one, each on its own parameters: Together(Muon(filters, 0.24), SGD(others, 0.1)).

    ValueError for a parameter that two of them have.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        if not optimizers:
            raise ValueError("Together: no optimizers given")
        super().__init__(*optimizers)
        seen: set[int] = set()
        for p in (p for group in self.param_groups for p in group["params"]):
            if id(p) in seen:
                raise ValueError(f"Together: a parameter of shape {p.shape} belongs to two optimizers")
            seen.add(id(p))


class Lookahead(_Wrapper):
    """Every k steps of `optimizer`: slow = slow + alpha (w - slow);  w = slow  (Zhang, Lucas, Hinton, Ba 2019).

    The slow weights begin as the weights are when this is made. alpha is a number or a schedule of the steps done (schedules.lookahead gives
    airbench's); defaults k = 5, alpha = 0.5. With `model`, its float buffers (running statistics) are taken along, as airbench does.
    `finish()` puts the slow weights in place at the end. Call `model.to(device)` before or after, as with any optimizer.
    """

    k: int
    alpha: Rate

    def __init__(self, optimizer: Optimizer, *, k: int = 5, alpha: Rate = 0.5, model: Module | None = None) -> None:
        super().__init__(optimizer)
        self.k, self.alpha = k, alpha
        if model is not None:
            instance("Lookahead", "model", model, Module, "a Module")
        parameters = [p for group in self.param_groups for p in group["params"]]
        own, self._model = set(map(id, parameters)), model
        floats = {} if model is None else floats_of(model)
        names = [name for name, b in floats.items() if id(b) not in own and not b.requires_grad]
        self._buffers = {name: len(parameters) + i for i, name in enumerate(names)}
        self._fast: list[Tensor] = [*parameters, *(floats[name] for name in self._buffers)]
        self.weights_replaced()

    def __setattr__(self, name: str, value: Any) -> None:
        """k and alpha are checked whenever they are set: its own, whatever options its optimizer's groups have."""
        if name not in ("k", "alpha"):
            return super().__setattr__(name, value)
        if name == "k":
            integer("Lookahead", name, value, 1)
        elif memory_of(checked_rate("Lookahead", name, value, "[0, 1]")) is not None:
            raise TypeError(
                "Lookahead: alpha must be a number or a function of the steps; nobody would tell a plateau of it how training goes"
            )
        vars(self)[name] = value

    def weights_replaced(self) -> None:
        """The slow weights begin anew, as the weights are now."""
        super().weights_replaced()
        self._slow, self._share = [t._array.to(t.device) for t in self._fast], Told()

    def _updates(self) -> list[Part]:
        parts = super()._updates()
        self._settle()
        self._ask()
        recording.ask(self._ask)
        return [*parts, Behind(partial(recording.at_the_end, self._follow))]

    def _ask(self) -> None:
        """What the next step would refuse, while nothing is done yet."""
        if (self.steps + 1) % self.k == 0:
            self._alpha(self.steps + 1)

    def _look_up(self) -> bool:
        """A buffer that was assigned anew is the buffer still. Whether one was."""
        floats = floats_of(self._model) if self._model is not None and self._buffers else {}
        now = {i: floats[name] for name, i in self._buffers.items() if name in floats and floats[name].shape == self._fast[i].shape}
        before = list(self._fast)
        for i, buffer in now.items():
            self._fast[i] = buffer
        return not all(map(is_, before, self._fast))

    def _settle(self) -> None:
        """Slow weights and the share lie where the weights do, so that to follow them takes no memory."""
        self._slow = [
            a if (a.device, a.dtype) == (t.device, t.dtype) else followed(f"Lookahead: slow weight {i}", a, t)
            for i, (a, t) in enumerate(zip(self._slow, self._fast))
        ]
        for device in {t.device for t in self._fast}:
            self._share.reach(device)

    def _follow(self) -> None:
        if self.steps % self.k == 0:
            if self._look_up():
                self._settle()
            self._meet(self._alpha(self.steps))

    def _alpha(self, steps: int) -> float:
        alpha = rate_at(self.alpha, steps, self.steps_per_epoch, "Lookahead: alpha")
        return number("Lookahead", f"alpha at step {steps}", alpha, "[0, 1]")

    def finish(self) -> None:
        """The slow weights become the weights."""
        self._look_up()
        self._settle()
        self._meet(0.0)

    def _meet(self, alpha: float) -> None:
        for device, members in by_place(self._fast).items():
            slow, fast = [self._slow[i] for i in members], [self._fast[i]._array for i in members]
            _C.lookahead(_C.ParameterList(len(members)), slow, fast, self._share.on(alpha, device[1]))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **{f"slow.{i}": np.array(a.numpy(), order="C") for i, a in enumerate(self._slow)}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what state_dict gave. ValueError names what does not fit; nothing is changed then."""
        what, slow = f"{self.name}.load_state_dict", []
        steps_of(what, state)
        for i, t in enumerate(self._fast):
            if f"slow.{i}" not in state:
                raise ValueError(f"{what}: 'slow.{i}' is missing")
            slow.append(array_of(what, f"slow.{i}", state[f"slow.{i}"], t))
        super().load_state_dict(state)
        self._slow = slow

    def _own(self, key: str) -> bool:
        name, _, number = str(key).partition(".")
        return name == "slow" and number.isdecimal() and int(number) < len(self._fast)
