"""What the host does in an optimizer's step, so that the next one, or a replay of it, can do it without the rest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import proxy

import numpy as np

from .. import _C, recording

if TYPE_CHECKING:
    from .launch import Launch
    from .optimizer import Moved, Optimizer


class Part(Protocol):
    """Of a step whose memory is all there."""

    def calls(self) -> list[Callable[[], None]]:
        """Its kernels."""

    def done(self) -> None:
        """They have run, or are recorded."""

    def let_go(self) -> None:
        """Of what only the kernels need."""


class Behind:
    """What comes behind the kernels of the others."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.what = what

    def calls(self) -> list[Callable[[], None]]:
        return []

    def done(self) -> None:
        self.what()

    def let_go(self) -> None: ...


class Update:
    """Rates and counts of one step of an optimizer: written where its kernels read them."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.launches, self.moved = optimizer, list[tuple[Any, "Launch"]](), list["Moved"]()
        self.lrs: list[float] | None = None  # of the step that fits() was asked about
        self.before = self.state() if recording.current() is not None else None

    def calls(self) -> list[Callable[[], None]]:
        for _, launch in self.launches:
            launch.take()
        return [partial(self.optimizer._launch, kind, launch) for kind, launch in self.launches]

    def done(self) -> None:
        """Counts the step; tells the recording, if there is one, and else is there for the next step."""
        o, recorder = self.optimizer, recording.current()
        self._count()
        if recorder is None or recorder.core is None:  # else nothing has moved yet
            vars(o).update(_moved=self.moved)
        if recorder is not None:
            ahead = sum(getattr(part, "optimizer", None) is o for part, _ in recorder.parts)
            recording.host_part(self, self.before)  # first: what raises from here on is undone with the recording
            self._know(ahead)
        else:
            self._keep()

    def _keep(self) -> None:
        o = self.optimizer
        on_the_host = all(launch.t.device == "cpu" for _, launch in self.launches)  # where what is written in place waits for no stream
        if o._again is not self and self.launches and on_the_host and not o.measure_updates:
            again, number = None, o._anew + 1
            if recording.rarely(number):  # where each step has other gradients, looking would be in vain
                at_work = {id(p) for _, launch in self.launches for p in launch.parameters}
                self.idle = [p for p in o._parameters if id(p) not in at_work]
                with suppress(MemoryError):  # the step is done, whether the next one is like it or not
                    self._know(0)
                    self.optimizer, again = proxy(o), self  # no cycle: an optimizer and its memory go at once
            vars(o).update(_again=again, _anew=number)

    def _know(self, ahead: int) -> None:
        """What the next step like it depends on. ahead: steps of the optimizer before this one in the same recording."""
        o = self.optimizer
        self.ahead, self.kept, self.form, self.formed, self.sizes = ahead, o._state, self._form(), o._checked, self._sizes()
        self.written: list[Any] = [None] * len(self.launches)  # in each launch's rates, for
        self.written_for: Any = None, None  # these rates, and options as they were last checked
        self.missed = 0  # how often what was found was not there, and what is there serves
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

    def serves(self) -> bool:
        """Whether the optimizer's next step, which nothing records, is this one again: then its kernels have what they need."""
        if recording.current() is not None or any(p._grad is not None for p in self.idle) or not self.fits():
            return False
        if not all(launch.is_again() for _, launch in self.launches):
            return False
        self.tell()
        return True

    def advance(self) -> None:
        self.tell()
        self._count()
        vars(self.optimizer).update(_moved=self.moved)

    def tell(self) -> None:
        """Writes the next step's rates and its number where the kernels read them."""
        o = self.optimizer
        lrs, self.lrs = o.rates() if self.lrs is None else self.lrs, None
        same = self.written_for[1] is o._checked and self.written_for[0] == lrs
        self.written_for = None, None  # whatever interrupts this
        for i, (kind, launch) in enumerate(self.launches):
            if not same or launch.numbers.rates is not self.written[i]:
                rates = [o._columns(group, lr, kind) for group, lr in zip(o.param_groups, lrs)]
                launch.rates.write(np.array(rates, np.float64))
                launch.numbers.rates = self.written[i] = rates
            launch.t.write(o._counts[launch.where] + 1)
        self.written_for = lrs, o._checked

    def let_go(self) -> None:
        """Of the gradients, also where the step came to nothing."""
        for _, launch in self.launches:
            launch.let_go()

    def _count(self) -> None:
        o = self.optimizer
        for _, launch in self.launches:
            o._counts[launch.where] += 1
        vars(o).update(steps=o.steps + 1)  # past what looks at names and values that are given

    def state(self) -> Any:
        return self.optimizer.steps, self.optimizer._counts.copy()

    def restore(self, state: Any) -> None:
        self.optimizer.steps, self.optimizer._counts[:] = state
