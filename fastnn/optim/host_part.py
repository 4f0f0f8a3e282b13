"""What the host does in an optimizer's step, so that a replay of the step can do it without the rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import _C, recording

if TYPE_CHECKING:
    from .optimizer import Launch, Moved, Optimizer


class Part(Protocol):
    """Of a step whose memory is all there."""

    def calls(self) -> list[Callable[[], None]]:
        """Its kernels."""

    def done(self) -> None:
        """They have run, or are recorded."""


class Behind:
    """What comes behind the kernels of the others."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.what = what

    def calls(self) -> list[Callable[[], None]]:
        return []

    def done(self) -> None:
        self.what()


class Update:
    """Rates and counts of one step of an optimizer: written where its kernels read them."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.launches, self.moved = optimizer, list[tuple[Any, "Launch"]](), list["Moved"]()
        self.lrs: list[float] | None = None  # of the step that fits() was asked about
        self.before = self.state() if recording.current() is not None else None

    def calls(self) -> list[Callable[[], None]]:
        return [partial(self.optimizer._launch, kind, launch) for kind, launch in self.launches]

    def done(self) -> None:
        """Counts the step; and tells the recording, if there is one."""
        for _, launch in self.launches:
            self.optimizer._counts[launch.positions] += 1
        self.optimizer.steps += 1
        recorder = recording.current()
        if recorder is None or recorder.core is None:  # else nothing has moved yet
            self.optimizer._moved = self.moved
        if recorder is None:
            return
        self.ahead = sum(getattr(part, "optimizer", None) is self.optimizer for part, _ in recorder.parts)  # its steps before this one
        self.kept, self.form, self.formed = self.optimizer._state, self._form(), self.optimizer._checked
        self.sizes = self._sizes()
        self.written: list[Any] = [None] * len(self.launches)  # in each launch's rates, for
        self.written_for: Any = None, None  # these rates, and options as they were last checked
        self.where = [_span(launch.positions) for _, launch in self.launches]
        self.counted: Any = None  # what `counts` are views of, or where positions are no slice, copies
        self.missed = 0  # how often what was found was not there, and what is there serves
        recording.host_part(self, self.before)
        self._look()

    def _look(self) -> None:
        """At the groups as they are now."""
        self.found: Any = None  # until what it finds is held
        self.groups = self.optimizer.param_groups
        self.options = [recording.held(group) for group in self.groups]
        self.numbers = [group["lr"] for group in self.groups] if all(type(group["lr"]) is float for group in self.groups) else None
        if type(self.groups) is list and all(type(group) is dict and recording.seen_by_identity(group) for group in self.groups):
            if not any(hasattr(value, "ndim") for group in self.groups for value in group.values()):  # arrays change in place
                self.found = _C.Found([self.groups], [], [])

    def _form(self) -> list[Any]:
        """What decides which arrays a launch takes; options besides are numbers in its rates."""
        o = self.optimizer
        groups = [([o._uses(slot, g) for slot in o.slots], o._kind(g["params"][0], g) if g["params"] else None) for g in o.param_groups]
        return [o.measure_updates, *groups, *[tuple(map(id, g["params"])) for g in o.param_groups]]

    def _sizes(self) -> list[int]:
        """Where groups end: their parameters are the same in the same order, as the optimizer sees to."""
        return [len(group["params"]) for group in self.optimizer.param_groups]

    def fits(self) -> bool:
        """Refuses here what the step would refuse: nothing is done yet, by no part."""
        o = self.optimizer
        same = self.found is not None and o.param_groups is self.groups and self.found.still()
        if not same:
            o._refuse_edits()
            if self._sizes() != self.sizes:
                return False
            if o._checked is not self.formed:  # another list where anything was edited
                if self._form() != self.form:
                    return False
                self.formed = o._checked
            self.missed += 1
            if self.found is not None and recording.rarely(self.missed):
                self._look()
        if o._state is not self.kept or o.measure_updates != self.form[0]:
            return False
        self.lrs = self.numbers if same and self.numbers else o._rates(o.steps + self.ahead)
        return True

    def advance(self) -> None:
        o = self.optimizer
        lrs, self.lrs = o.rates() if self.lrs is None else self.lrs, None
        same = self.written_for[1] is o._checked and self.written_for[0] == lrs
        if o._counts is not self.counted:
            self.counted, self.counts = o._counts, [o._counts[where] for where in self.where]
        for i, (where, counts, (kind, launch)) in enumerate(zip(self.where, self.counts, self.launches)):
            if not same or o._rates_at.get(id(launch.rates)) is not self.written[i]:
                rates = [o._columns(group, lr, kind) for group, lr in zip(o.param_groups, lrs)]
                launch.rates.write(np.array(rates, np.float64))
                o._rates_at[id(launch.rates)] = self.written[i] = rates
            if type(where) is list:
                counts[:] = o._counts[where]
            counts += 1
            launch.t.write(counts)
            if type(where) is list:
                o._counts[where] = counts
        self.written_for = lrs, o._checked
        vars(o).update(_moved=self.moved, steps=o.steps + 1)  # past what looks at names and values that are given

    def state(self) -> Any:
        return self.optimizer.steps, self.optimizer._counts.copy()

    def restore(self, state: Any) -> None:
        self.optimizer.steps, self.optimizer._counts[:] = state


def _span(positions: list[int]) -> Any:
    """As a slice where they stand side by side: numpy is quicker at those."""
    first = positions[0]
    return slice(first, first + len(positions)) if positions == list(range(first, first + len(positions))) else positions
