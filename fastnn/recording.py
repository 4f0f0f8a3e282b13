"""What a step tells while it is recorded (see captured.py): what the host does in it besides calling kernels. Nothing is computed then."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from . import _C, scopes

if TYPE_CHECKING:
    from .tensor import Tensor

M = TypeVar("M")
under_way = 0  # recordings and profiles of all threads: what is on the path of every step looks here first


CHANGING = (list, dict, set, deque, bytearray)  # in place


def held(named: dict[str, Any]) -> dict[str, Any]:
    """The same as it is now, and what lies in it stays alive: of what changes in place a copy."""
    return {name: copy(value) if isinstance(value, CHANGING) else value for name, value in named.items()}


def seen_by_identity(named: dict[str, Any]) -> bool:
    """Whether _C.Found sees all changes of these: in place, only entries of plain lists and dicts change."""
    return all(type(value) in (dict, list) for value in named.values() if isinstance(value, CHANGING))


def rarely(times: int) -> bool:
    """Whether something is to be tried again that did not serve so many times: the first, the second, the fourth, the eighth, ..."""
    return times & (times - 1) == 0


class HostPart(Protocol):
    """What the host does for each step: an optimizer's rates and counts. A replay does it before its kernels run."""

    def fits(self) -> bool:
        """Whether the recorded list is still what the step would do."""

    def advance(self) -> None:
        """Does the next step's part."""

    def state(self) -> Any: ...

    def restore(self, state: Any) -> None: ...


class _Asked:
    """A question of the step: a replay asks it before anything is done. It may refuse the step; another answer makes another recording."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.what, self.answer = what, what()

    def fits(self) -> bool:
        return self.what() == self.answer

    def advance(self) -> None: ...

    def state(self) -> None: ...

    def restore(self, state: None) -> None: ...


class Recorder:
    """A recording and what surrounds it. `core` is None while a step runs eagerly beside its replay: only what comes after it is kept back."""

    def __init__(self, core: _C.Recording | None) -> None:
        self.core = core
        self.parts: list[tuple[HostPart, Any]] = []  # with its state before
        self.afters: list[Callable[[], None]] = []
        self.looks: list[Callable[..., None]] = []
        self.modules: dict[int, Any] = {}
        self.registries: list[tuple[dict[str, Any], dict[str, Any]]] = []  # of these modules, and what they held before
        self.leaves: dict[int, tuple[Tensor, Tensor | None]] = {}  # whose gradient the step changes, with the one before
        self.begun: dict[int, tuple[Tensor, bool]] = {}  # leaves that the step asked before: whether they had a gradient
        self.inputs: dict[int, Tensor] = {}  # which operations take, and none of the step has made
        self.refused: list[Callable[[], object]] = []  # called when nothing comes of the recording
        self._end = 0
        self._counted = False

    def __enter__(self) -> Recorder:
        global under_way
        if self.core is not None:
            self.core.start()
            _C.note_inputs(self.inputs)
        with _lock:
            _begin()
            under_way, self._counted = under_way + 1, True
        _here.recorder = self
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """A second time as well: Ctrl-C may come while the first is under way, or while the recording begins."""
        global under_way
        if _here.recorder is self:
            _here.recorder = None
        with _lock:
            if self._counted:
                under_way, self._counted = under_way - 1, False
        if self.core is not None:
            _C.note_inputs(None)
            self.core.stop()

    def length(self) -> int:
        return 0 if self.core is None else len(self.core.names)

    def check_end(self) -> None:
        """What was put off to the end of the step stood there."""
        if self.afters and self.core is not None and self.length() != self._end:
            raise _C.CaptureError(
                "averages and slow weights (EMA.update, Lookahead.step) are brought up to date behind the step; call them last in it"
            )

    def put_off(self, what: Callable[[], None]) -> None:
        if not self.afters:
            self._end = self.length()
        self.afters.append(what)

    def undo(self, *, refused: bool) -> None:
        """As before the step: gradients, what modules hold (forward may assign a buffer), and what the host counts."""
        for registry, held in self.registries:
            registry.update(held)  # at once: Ctrl-C may come behind it
            for name in registry.keys() - held.keys():
                del registry[name]
        for part, state in reversed(self.parts):
            part.restore(state)
        for leaf, before in self.leaves.values():
            leaf.grad = before
        for what in self.refused if refused else ():
            what()


class _Here(threading.local):
    recorder: Recorder | None = None
    hears: Callable[[Tensor], None] | None = None


_here = _Here()
_lock = threading.RLock()  # the garbage collector may end another block of this thread within these lines


def _forked() -> None:
    """In a child: the other threads are not there, nor are the recordings that they had under way or the lock that one may have held."""
    global under_way, _lock
    under_way, _lock = int(_here.recorder is not None), threading.RLock()


os.register_at_fork(after_in_child=_forked)


def _begin() -> None:
    if not under_way:
        scopes.forget()


@contextmanager
def watched() -> Iterator[None]:
    """Inside the block it is followed which layers kernel calls belong to."""
    global under_way
    with _lock:
        _begin()
        under_way += 1
    try:
        yield
    finally:
        with _lock:
            under_way = max(0, under_way - 1)  # a forked child began with none


def current() -> Recorder | None:
    """The recording of this thread's step, if there is one."""
    return _here.recorder if under_way else None


@contextmanager
def paused() -> Iterator[None]:
    """What this thread makes inside the block is no part of the step that is recorded: it is computed, and was there before the step."""
    recorder = current()
    if recorder is None or recorder.core is None:
        yield
        return
    recorder.core.stop()
    _C.note_inputs(None)
    _here.recorder = None
    try:
        yield
    finally:
        recorder.core.start()
        _C.note_inputs(recorder.inputs)
        _here.recorder = recorder


def host_part(part: HostPart, before: Any) -> None:
    """Something that the host did and does again for every replay; `before`: its state before it did."""
    recorder = current()
    if recorder is not None:
        recorder.parts.append((part, before))


def ask(what: Callable[[], object]) -> None:
    """Asks it again before each replay of the step that is recorded: whether it raises, and whether the answer is the same."""
    recorder = current()
    if recorder is not None:
        recorder.parts.append((_Asked(what), None))


def at_the_end(what: Callable[[], None]) -> None:
    """Calls it: now, or when a step is recorded, behind each replay of it."""
    recorder = current()
    if recorder is None:
        what()
    else:
        recorder.put_off(what)


def at_once(launches: Sequence[Callable[[], None]]) -> None:
    """Calls kernels that write in place, all of them or none: several are written down first, so that all memory is there before one runs."""
    again = 100  # when another thread sets the number of threads or the precision meanwhile
    while len(launches) > 1 and again and current() is None and not _C.instrumented():
        core, again = _C.Recording([]), again - 1
        recorder = Recorder(core)
        try:
            with recorder:
                for launch in launches:
                    launch()
        finally:
            recorder.leave()
        replay = _C.Replay(core, [], [], _C.ReplayMemory(lasting=False))
        if replay.begin([]) is not None:
            replay.run()
            return
    for launch in launches:
        launch()


def look(tensor: Tensor, at: Callable[[Tensor], None], *, unless_finite: bool = False) -> None:
    """Calls at(tensor): now, or when one is recorded, in each replay at this place. What it raises ends the step there. unless_finite: only
    where the tensor, a single number, is not finite."""
    recorder = current()
    if recorder is None or recorder.core is None:
        if not (unless_finite and math.isfinite(tensor.item())):
            at(tensor)
        return
    recorder.core.look(tensor._array, unless_finite)
    recorder.looks.append(at)


def look_after_exceptions(tensors: Sequence[Tensor], at: Callable[..., None], since: int) -> None:
    """Calls at(*tensors) where a kernel of the CPU has overflowed, divided by 0 or had no result since _C.float_exceptions() was `since`, and
    in each replay where one has since it began."""
    recorder = current()
    if recorder is not None and recorder.core is not None:
        recorder.core.look_after_exceptions([t._array for t in tensors])
        recorder.looks.append(at)
    elif _C.float_exceptions() != since:
        at(*tensors)


def when_refused(what: Callable[[], object]) -> None:
    """Calls it when the step that is recorded is not done: what was made for it goes."""
    recorder = current()
    if recorder is not None:
        recorder.refused.append(what)


def see_module(module: Any) -> int:
    """A module that the step calls. Returns what `scopes.leave` takes."""
    know(module)
    return scopes.enter(module)


def know(module: M) -> M:
    """A module of the step, called, run inside another one's kernel or looked into: its mode, its parameters and what it holds are part of what
    was recorded. Returns it."""
    recorder = _here.recorder if under_way else None
    if recorder is not None and id(module) not in recorder.modules:
        _know_all(recorder, module)
    return module


def _know_all(recorder: Recorder, module: Any) -> None:
    """With those below it: not by its own walk, which asks to be known."""
    waiting = [module]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in recorder.modules:
            continue
        if each._hooks and recorder.core is not None:
            raise _C.CaptureError(f"{type(each).__name__} has a forward hook: Python that a replay would not run")
        recorder.modules[id(each)] = each
        recorder.registries += [(held, dict(held)) for held in (each._buffers, each._parameters)]
        waiting += each._modules.values()


def see_leaf(leaf: Tensor, *, asks: bool = False) -> None:
    """A leaf whose gradient is about to change. asks: to what depends on whether there is one."""
    if _here.hears is not None:
        _here.hears(leaf)
    recorder = current()
    if recorder is None or id(leaf) in recorder.leaves:
        return
    if asks:
        recorder.begun.setdefault(id(leaf), (leaf, leaf._grad is not None))
    recorder.leaves[id(leaf)] = leaf, leaf._grad


@contextmanager
def hearing(at: Callable[[Tensor], None], between: Callable[[], None] | None = None) -> Iterator[None]:
    """Inside the block, where a step is recorded or watched, at(leaf) is called for each share of a gradient that backward adds, and between() when
    those of an operation have been."""
    _here.hears, scopes._here.between = at, between
    try:
        yield
    finally:
        _here.hears = scopes._here.between = None


def read_leaf(leaf: Tensor) -> None:
    """A leaf whose gradient is looked at. One from outside is another array in each step, which a replay would not see."""
    recorder = current()
    if recorder is None or recorder.core is None or id(leaf) in recorder.leaves:
        return
    if leaf._grad is not None:
        raise _C.CaptureError(
            f"the gradient of a tensor of shape {leaf.shape} was made outside of the step: backward() belongs into it, and one in which "
            "gradients would pile up begins with zero_grad()"
        )
    recorder.begun.setdefault(id(leaf), (leaf, False))
