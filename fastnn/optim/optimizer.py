"""What all optimizers share: parameter groups, rates that may be schedules, state that can be saved."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import _C, arguments, recording
from ..arguments import shown
from ..described import described, plural
from ..elsewhere import of_property
from ..exclusive import claimed
from ..ops.reduce import broadcast_to
from ..other_names import told
from ..tensor import Array, Tensor
from .edited import holds, refused, remembered, take_in_rates, unchanged
from .given import array_of, followed, groups_given, numbers_of, parameters_given, steps_of
from .launch import Launch, Numbers
from .schedules import Schedule, checked_rate, memory_of, rate_at
from .update import Behind, Part, Update

Rate = float | Schedule | Callable[[int], float]
Moved = tuple[list[int], list[int], Array]  # positions, numbers of pieces, sums
Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]
_NAMES = {
    **dict.fromkeys(("learning_rate", "learning_rate_init", "eta", "rate"), "it is lr, a number or a schedule"),
    **dict.fromkeys(("beta_1", "beta1", "beta_2", "beta2"), "both are betas=(beta1, beta2)"),
    **dict.fromkeys(("epsilon", "rho"), "see the docstring for PyTorch's name and default"),
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm"), "train.Trainer(..., clip_norm=...) or optim.clip_grad_norm_ clips"),
    **dict.fromkeys(("decay", "l2"), "weight_decay decays weights, a schedule as lr decays the rate"),
    **dict.fromkeys(("foreach", "fused", "capturable", "differentiable"), "one kernel serves all parameters always"),
}
_BY_NAME = "options behind lr are given by name"


def _zeros_like(p: Tensor) -> Tensor:
    zero = Tensor(_C.constant(np.zeros((1,) * p.ndim, p.dtype), p.device))
    if p.size == 1:  # nothing to repeat; a recorded constant is the same array in each replay
        return Tensor(zero._array.to(p.device))
    return broadcast_to(zero, p.shape)


class Optimizer:
    """Base of the optimizers. `params` is an iterable of parameters, of (name, parameter) as named_parameters() gives them, or of groups
    {"params": parameters or pairs or a single one, "lr": ..., other options}; names stay in the group as "param_names", and errors use them.

    A learning rate is a number or a schedule (see optim.schedules): a function of the step, counted from 0, or of the epoch, for which
    `steps_per_epoch` has to be set (the Trainer does it). Subclasses name the kernel and its struct, the columns of the rates that it reads,
    and the arrays (`slots`) kept per parameter. The steps of each parameter are counted apart: one without a gradient is left alone.
    """

    kernel = struct = ""
    slots: tuple[str, ...] = ()
    late_slots: tuple[str, ...] = ()  # of these: which may begin at 0 in the middle of a training (a momentum that is switched on)
    _again: Update | None = None  # the last step, where nothing recorded it,
    _anew = 0  # and how many were not the one before again

    def __init_subclass__(cls) -> None:
        if "__init__" in vars(cls) and cls.__module__.startswith(__name__.rpartition(".")[0]):
            cls.__init__ = told(_NAMES, several=_BY_NAME)(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.steps = 0
        self.steps_per_epoch: int | None = None
        self.measure_updates = False
        self._counts: np.ndarray = np.zeros(0, np.int64)  # steps of each parameter
        self._state: dict[str, list[Array | None]] = {slot: [] for slot in self.slots}
        self._parameters: list[Tensor] = []  # what counts and state belong to, by position
        self._checked: list[dict[str, Any]] = []  # the groups, as they were last checked
        for group in groups_given(self.name, params):
            self.add_param_group(group)
        self._moved: list[Moved] = []  # of the last step
        self._tables: dict[Any, Numbers] = {}  # of recorded steps

    @property
    def name(self) -> str:
        """What files and errors call it."""
        return type(self).__name__

    def __repr__(self) -> str:
        rates = {option: self._told_of(option) for option in self.defaults}
        groups = f"{len(self.param_groups)} groups of " if len(self.param_groups) > 1 else ""
        return described(self, groups + plural(len(self._parameters), "parameter"), f"{plural(self.steps, 'step')} done", **rates)

    def _told_of(self, option: str) -> Any:
        """Of all groups where they differ."""
        values = [group.get(option) for group in self.param_groups]
        return values[0] if len(set(map(str, values))) == 1 else values  # arrays are not simply equal or not

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuses options: `optimizer.lr = 0.01` would change nothing."""
        if name not in self.__dict__:
            self._refuse_option(name)
        if name == "steps" and not (type(value) is int and value >= 0):
            value = arguments.integer(self.name, "steps", value, 0)
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:  # of what is not there
        self._refuse_option(name)
        raise AttributeError(f"{self.name} has no attribute {name!r}{of_property(self, name)}")

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: without what belongs to recorded steps. Together with their parameters ((model, optimizer)) they go on."""
        kept = {name: value for name, value in vars(self).items() if name != "_again"}
        return {**kept, **{name: type(kept[name])() for name in ("_tables", "_checked") if name in kept}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def _refuse_option(self, name: str) -> None:
        option = "lr" if name in ("rate", "learning_rate") else name
        groups = vars(self).get("param_groups")
        if isinstance(groups, list) and any(isinstance(group, dict) and option in group for group in groups):
            raise AttributeError(
                f"{self.name} has no attribute {name}: it is an option of each parameter group, optimizer.param_groups[0]['{option}']"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Another group, {"params": ..., options}: parameters that were frozen so far, say. ValueError for one that is there already."""
        if not isinstance(param_group, dict):
            raise TypeError(f"{self.name}: expected parameter groups (dicts) throughout, got {shown(param_group)}")
        if "params" not in param_group:
            raise ValueError(f"{self.name}: a parameter group needs 'params'; it has {', '.join(map(str, param_group)) or 'nothing'}")
        self._refuse_other_parameters()
        self._refuse_unknown(param_group)
        merged = {**self.defaults, **param_group, **parameters_given(self.name, param_group["params"])}
        self._check(merged)
        seen = set(map(id, self._parameters))
        for p in merged["params"]:
            if id(p) in seen:
                raise ValueError(f"{self.name}: a parameter of shape {p.shape} appears twice")
            seen.add(id(p))
        if any("param_names" in group for group in self.param_groups) != ("param_names" in merged) and self.param_groups:
            raise ValueError(f"{self.name}: some groups have names of their parameters and some have none; give all or none")
        self.param_groups.append(merged)
        self._parameters.extend(merged["params"])
        self._counts = np.concatenate([self._counts, np.zeros(len(merged["params"]), np.int64)])
        for arrays in self._state.values():
            arrays.extend([None] * len(merged["params"]))

    def _refuse_unknown(self, group: dict[str, Any]) -> None:
        unknown = set(group) - set(self.defaults) - {"params", "param_names"}
        if unknown:
            raise TypeError(
                f"{self.name}: unknown option {', '.join(sorted(map(str, unknown)))} in a parameter group; options are "
                f"{', '.join(self.defaults)}"
            )

    def _refuse_other_parameters(self) -> None:
        if not holds(self.param_groups, self._parameters):
            raise ValueError(
                f"{self.name}: param_groups no longer hold the {len(self._parameters)} parameters that it was made with, in their order; "
                "what it remembers of each is kept by position. Further ones come by add_param_group; for others make a new optimizer"
            )

    def _refuse_edits(self) -> None:
        """Groups that were edited by hand into what add_param_group would not take."""
        self._refuse_other_parameters()
        if unchanged(self.param_groups, self._checked):
            return
        take_in_rates(self.param_groups, self._checked)
        if unchanged(self.param_groups, self._checked):
            return
        for number, group in enumerate(self.param_groups):
            try:
                self._check_edited(group)
            except (TypeError, ValueError) as error:
                raise refused(self.name, number, error) from None
        self._checked = remembered(self.param_groups)

    def _check_edited(self, group: dict[str, Any]) -> None:
        arguments.instance(self.name, "a parameter group", group, dict, "a dict")
        arguments.instance(self.name, "params", group["params"], (list, tuple), "a list of parameters")
        self._refuse_unknown(group)
        missing = [option for option in self.defaults if option not in group]
        if missing:
            raise ValueError(f"{self.name}: the option {', '.join(missing)} is missing; options are {', '.join(self.defaults)}")
        self._check(group)

    def _check(self, group: dict[str, Any]) -> None:
        if "lr" not in group:
            raise ValueError(f"{self.name}: every group needs an lr; give one in the defaults: super().__init__(params, {{'lr': lr}})")
        checked_rate(self.name, "lr", group["lr"])
        self._number(group, "[0, inf)", *[option for option in ("weight_decay",) if option in group])

    def _number(self, group: dict[str, Any], within: str, *options: str) -> None:
        for option in options:
            arguments.number(self.name, option, group[option], within)

    def _flags(self, group: dict[str, Any], *options: str) -> None:
        for option in options:
            arguments.flag(self.name, option, group[option])

    # --- what subclasses say of themselves

    def _columns(self, group: dict[str, Any], lr: float, kind: Any) -> list[float]:
        """The group's row of rates: of its options, the rate and the kind alone, since it is asked for when one of these changes."""
        raise NotImplementedError

    def _uses(self, slot: str, group: dict[str, Any]) -> bool:
        """Whether the group's options need that array."""
        return True

    def _fresh(self, slot: str, group: dict[str, Any]) -> float:
        """What the array begins with."""
        return 0.0

    def _kind(self, p: Tensor, group: dict[str, Any]) -> Any:
        """Parameters of different kinds take different launches."""
        return None

    def _launch(self, kind: Any, a: Launch) -> None:
        plan = getattr(_C, self.struct)(len(a.w), a.groups, a.pieces)
        getattr(_C, self.kernel)(plan, a.w, a.g, *a.state, a.group, a.rates, a.t, a.moved)

    # --- a step

    def rates(self) -> list[float]:
        """The learning rate of each group at the next step. Refuses, as the step does, groups that were edited into what cannot be."""
        self._refuse_edits()
        return self._rates(self.steps)

    def _rates(self, step: int) -> list[float]:
        what = f"{self.name}: lr"
        return [rate_at(group["lr"], step, self.steps_per_epoch, what) for group in self.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters; with set_to_none=False those that are there become zeros."""
        arguments.flag(f"{self.name}.zero_grad", "set_to_none", set_to_none)
        self._refuse_other_parameters()
        for group in self.param_groups:
            for p in group["params"]:
                if recording.under_way:
                    recording.see_leaf(p, asks=not set_to_none)
                p._grad = None if set_to_none or p._grad is None else _zeros_like(p)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update of every parameter that has a gradient. `closure`, when given, computes the loss and its gradients first; its loss is returned."""
        if closure is not None:
            arguments.function(f"{self.name}.step", "closure", closure, "a function that returns the loss, after backward()")
        loss = closure() if closure is not None else None
        leaves = self._leaves()
        first = [one._parameters[0] for one in leaves if one._parameters]  # all of them would cost as much as the step
        with claimed(f"{self.name}.step", within=True, optimizer=leaves, parameter=first):
            updates = self._updates()  # all memory first: a step is done by every parameter or by none
            try:
                launches = [launch for update in updates for launch in update.calls()]
                if not launches and leaves == [self]:
                    warnings.warn(
                        f"{self.name}.step: no parameter has a gradient, nothing changes; call loss.backward() first", stacklevel=2
                    )
                recording.at_once(launches)
                for update in sorted(updates, key=lambda update: isinstance(update, Behind)):  # what may raise comes last
                    update.done()
            finally:
                for update in updates:
                    update.let_go()
        return loss

    def _leaves(self) -> list[Optimizer]:
        """Those with parameters: of one that is made of others, these."""
        return [self]

    def _begin_late(self) -> None:
        """Before a step that is not the last one again, whose groups may have been edited."""

    def _updates(self) -> list[Part]:
        """What each of them is about to do, with the memory for it."""
        again, self._again = self._again, None
        if again is not None and again.serves():
            self._again = again
            return [again]
        lrs = self.rates()
        self._begin_late()
        update = Update(self)
        together: dict[tuple[str, str, Any], list[tuple[int, int, Tensor]]] = {}  # (position, group, parameter) of what one launch takes
        position = 0
        for number, group in enumerate(self.param_groups):
            for p in group["params"]:
                if p.grad is not None:
                    together.setdefault((p.dtype, p.device, self._kind(p, group)), []).append((position, number, p))
                position += 1
        for (_, device, kind), members in together.items():
            rates = [self._columns(group, lr, kind) for group, lr in zip(self.param_groups, lrs)]
            update.launches.append((kind, self._gather(members, np.array(rates, np.float64), device, update.moved)))
        return [update]

    def _gather(self, members: list[tuple[int, int, Tensor]], rates: np.ndarray, device: str, measured: list[Moved]) -> Launch:
        positions = [i for i, _, _ in members]
        slots = [
            [self._slot(slot, i, p, self.param_groups[n]) if self._uses(slot, self.param_groups[n]) else None for i, n, p in members]
            for slot in self.slots
        ]
        numbers, steps = np.array([n for _, n, _ in members], np.int64), self._counts[positions] + 1
        moved, pieces = None, 0
        if self.measure_updates:
            counts = [-(-p.size // _C.update_piece) for _, _, p in members]
            pieces = sum(counts)
            (moved,) = self._told(("moved", *positions), device, np.zeros((pieces, 2))).arrays
            measured.append((positions, counts, moved))
        what = (*positions, *numbers.tolist())  # a group's number stays where it is, so that parameters of another group have another place
        told = self._told(what, device, numbers, rates, steps)
        return Launch(positions, [p for _, _, p in members], slots, told, moved, len(rates), pieces)

    def _told(self, what: Sequence[Any], device: str, *values: np.ndarray) -> Numbers:
        """Numbers where the kernel reads them. In a recorded step they stay where they are: later steps write them there anew."""
        recorder = recording.current()
        if recorder is None:
            return Numbers([_C.constant(a, device) for a in values])
        calls = sum(getattr(part, "optimizer", None) is self for part, _ in recorder.parts)  # of this optimizer in this step so far
        key = calls, device, *what
        if key not in self._tables or any(a.shape != v.shape for a, v in zip(self._tables[key].arrays, values)):
            self._tables[key] = Numbers([_C.constant(v, device) for v in values])
        told = self._tables[key]
        told.write(values)
        return told

    def _slot(self, slot: str, position: int, p: Tensor, group: dict[str, Any]) -> Array:
        array = self._state[slot][position]
        if array is not None and (array.device != p.device or array.dtype != p.dtype):
            array = self._state[slot][position] = followed(f"{self.name}: {slot} of {self._called(position)}", array, p)
        if array is None:
            array = self._state[slot][position] = _C.constant(np.full(p.shape, self._fresh(slot, group), p.dtype), p.device)
            recording.when_refused(partial(self._state[slot].__setitem__, position, None))
        return array

    def _called(self, position: int) -> str:
        names = [name for group in self.param_groups for name in group.get("param_names", ())]
        return f"the parameter {names[position]}" if len(names) == len(self._parameters) else f"parameter {position}"

    def update_ratios(self) -> list[float]:
        """|w_new - w| / |w| of each parameter in the last step, in their order; NaN for those that the step left alone.

        Set `measure_updates = True` before the step: its kernel then adds up both norms on its way. Aim at about 1e-3 (1e-4 to 1e-2 is
        usual): far above, the rate is too high, far below, too low.
        """
        ratios = np.full(len(self._counts), np.nan)
        for positions, counts, moved in self._moved:
            sums = moved.numpy()
            ends = np.cumsum(counts)
            for position, end, count in zip(positions, ends, counts):
                change, size = np.sqrt(sums[end - count : end].sum(0))
                ratios[position] = change / size if size else np.inf if change else np.nan
        return [float(r) for r in ratios]

    # --- state

    def state_arrays(self) -> dict[str, Array]:
        """The arrays kept per parameter, by position and name: "0.momentum"."""
        return {f"{i}.{slot}": a for slot, arrays in self._state.items() for i, a in enumerate(arrays) if a is not None}

    def state_dict(self) -> dict[str, Any]:
        """Copies of the arrays kept per parameter, "counts" (the steps of each), "steps", and what schedules with a memory remember. Not the groups'
        options (lr, momentum, ...), as PyTorch's: they are those that an optimizer is made with."""
        arrays = {k: np.array(a.numpy(), order="C") for k, a in self.state_arrays().items()}
        for i, slot, group in self._lacking(self._state, self._counts):  # of an option that was switched on: what the next step begins with
            p = self._parameters[i]
            arrays[f"{i}.{slot}"] = np.full(p.shape, self._fresh(slot, group), p.dtype)
        return {"steps": self.steps, "counts": self._counts.copy(), **arrays, **self._schedule_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what state_dict gave; a state without "counts" counts `steps` for every parameter. ValueError names what does not fit;
        nothing is changed then."""
        what = f"{self.name}.load_state_dict"
        steps = steps_of(what, state)
        parameters = [p for group in self.param_groups for p in group["params"]]
        fresh: dict[str, list[Array | None]] = {slot: [None] * len(parameters) for slot in self.slots}
        schedules = self._schedule_state()
        for key, value in state.items():
            if key in ("steps", "counts") or key in schedules:
                continue
            position, _, slot = str(key).partition(".")
            if slot not in fresh or not position.isdecimal() or int(position) >= len(parameters):
                raise ValueError(f"{what}: unexpected {key!r}; expected <position>.<{' or '.join(self.slots)}>")
            p = parameters[int(position)]
            fresh[slot][int(position)] = array_of(what, key, value, p)
        counts = numbers_of(what, "counts", state.get("counts", np.full(len(parameters), steps)), (len(parameters),))
        missing = [key for key in schedules if key not in state]
        if missing:
            raise ValueError(f"{what}: {missing[0]} is missing: a schedule of this optimizer has a memory")
        remembered = {key: numbers_of(what, key, state[key], before.shape) for key, before in schedules.items()}
        if steps < 0 or not all(0 <= count < 2**53 and count == int(count) for count in counts):
            raise ValueError(f"{what}: steps and counts must be whole numbers and not negative, got {steps} and {counts}")
        if "counts" in state:
            self._refuse_missing(fresh, counts)
        memories = [(memory_of(group["lr"]), f"schedule.{number}") for number, group in enumerate(self.param_groups)]
        for memory, key in memories:
            if memory is not None:
                memory.check_state(what, key, remembered[key])
        for memory, key in memories:
            if memory is not None:
                memory.load_state(remembered[key])
        self.steps, self._counts, self._state, self._again = steps, counts.astype(np.int64), fresh, None

    def _as_it_is(self) -> Callable[[], None]:
        """What puts its state back and takes no memory: states are replaced, not written to, when others are loaded."""
        own, memories = dict(vars(self)), [memory_of(group["lr"]) for group in self.param_groups]
        schedules = [(memory, memory.state()) for memory in memories if memory is not None]

        def put_back() -> None:
            vars(self).update(own)
            for memory, state in schedules:
                memory.load_state(state)

        return put_back

    def _refuse_missing(self, fresh: dict[str, list[Array | None]], counts: np.ndarray) -> None:
        """A parameter that was stepped has the arrays that its group uses; those of `late_slots` may be absent from the whole state."""
        for i, slot, _ in self._lacking(fresh, counts):
            if slot not in self.late_slots or any(array is not None for array in fresh[slot]):
                raise ValueError(f"{self.name}.load_state_dict: '{i}.{slot}' is missing; its parameter was stepped {counts[i]} times")

    def _lacking(self, state: dict[str, list[Array | None]], counts: np.ndarray) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Positions of parameters that were stepped, and the arrays that their groups use and that are not there."""
        groups = [group for group in self.param_groups for _ in group["params"]]
        for slot, arrays in state.items():
            for i, (array, group) in enumerate(zip(arrays, groups)):
                if array is None and counts[i] > 0 and self._uses(slot, group):
                    yield i, slot, group

    def weights_replaced(self) -> None:
        """To be called when other weights were put into the model (the best snapshot): averages of the old ones begin anew."""

    def _schedule_state(self) -> dict[str, np.ndarray]:
        memories = ((i, memory_of(group["lr"])) for i, group in enumerate(self.param_groups))
        return {f"schedule.{i}": memory.state() for i, memory in memories if memory is not None}
