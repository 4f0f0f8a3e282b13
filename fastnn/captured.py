"""A training step recorded once and run again without Python."""

from __future__ import annotations

import linecache
import os
import threading
import traceback
from collections.abc import Callable
from math import copysign
from typing import Any

import numpy as np

from . import _C, devices, random, recording
from .arguments import integer, shown
from .exchange import from_dlpack
from .exclusive import Claim, owners
from .ops.python_words import unchanged
from .passed import flattened, parted, rebuilt, twin, with_tensors
from .tensor import Tensor
from .uncopied import Uncopied

_MOST = 8  # recordings kept: shapes, modes, ...


class Captured(Uncopied, called="captured step", instead="copy the model and its optimizer, and capture their step anew"):
    """What `capture` returns: call it as the step. `memory` says what the replay needs, `kernels` what it runs, `state` where it stands.

    private: nobody else changes the modules that the step calls; they are not looked at before each replay, and what kernels pack of
    their weights stays packed."""

    def __init__(self, step_fn: Callable[..., Any], verify: int, *, private: bool = False) -> None:
        self.step_fn, self.verify, self.private = step_fn, verify, private
        self._thread = threading.get_ident()
        self._memory = _C.ReplayMemory()
        self._takes: list[_Take] = []  # newest use first
        self._last: _Take | None = None  # which ran last
        self.busy = False  # a call of it within one, by a signal's handler or a finalizer, runs eagerly: there is one set of buffers
        self._drawn = np.zeros(2, np.int64)  # seed and draw, which kernels read
        self._copies = devices.Copies(from_dlpack(self._drawn)._array)
        self.computing = False  # whether kernels of the last call have begun: until then nothing is done
        self.announce: Callable[[], None] | None = None  # called when a recording is ready, before its first step

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if _C.instrumented() or recording.current() is not None:
            return self.step_fn(*args, **keywords)
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "a captured step belongs to the thread that captured it: it has one set of buffers; capture one in each thread"
            )
        if self.busy:
            return self.step_fn(*args, **keywords)
        self.busy, self.computing = True, False
        try:
            return self._replayed_or_recorded(args, keywords)
        except BaseException:
            if self._last is not None and self._last.replay is not None:
                self._last.replay.drop()
            raise
        finally:
            self.busy = False

    def _replayed_or_recorded(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        tensors, rest = parted(args, keywords)
        arrays = [t._array for t in tensors]
        for take in self._takes:
            if take.rest == rest and take.fits() and (results := self._begun(take, arrays)) is not None:
                if take is not self._takes[0]:
                    self._takes.remove(take)
                    self._takes.insert(0, take)
                return self._replayed(take, results, args, keywords)
        for _ in range(100):  # more than one when another thread sets the number of threads or the precision meanwhile
            recorded = self._recorded(tensors, arrays, rest, args, keywords)
            if recorded is not None and (results := self._begun(recorded, arrays)) is not None:
                return self._replayed(recorded, results, args, keywords)
        raise _C.CaptureError("capture: threads, precision or instruction set change again and again while the step is recorded")

    def _begun(self, take: _Take, arrays: list[_C.Array]) -> list[Tensor] | None:
        """The results, yet to be written: a step that is done is not to fail for want of memory. None where the arguments do not fit.

        All recordings share one memory: gradients of the last one that this one does not make anew are copied before it is written to."""
        if self._last is not take:
            anew = set(map(id, (*take.leaves, *take.bare)))
            for leaf, grad in zip(self._last.leaves, self._last.grads) if self._last is not None else ():
                if leaf.grad is grad and id(leaf) not in anew:
                    leaf.grad = Tensor(grad._array.to(grad.device))
        assert take.replay is not None
        results = take.replay.begin(arrays)
        if results is not None:
            self._last = take
        return results

    # --- before the first step

    def _recorded(self, tensors: list[Tensor], arrays: list[_C.Array], rest: Any, args: Any, keywords: Any) -> _Take | None:
        """Runs the step's Python twice, as two steps would, without computing anything; afterwards the host stands where it stood.

        None when the settings of kernels changed between the two.
        """
        if any(t.requires_grad for t in tensors):
            raise _C.CaptureError(
                "capture: an argument of the step requires a gradient, which only its first step would get; pass it detached"
            )
        self._takes = [t for t in self._takes if not t.stale()]
        # Arguments of their own: one that the step has by another name as well, too, is an argument here and that array there.
        apart = [twin(t) for t in tensors]
        args, keywords = with_tensors(apart, args, keywords)
        takes, done = [_Take(rest, _C.Recording([t._array for t in apart], self.private)) for _ in range(2)], False
        generator = random.default_generator()
        drawn = generator.draw
        try:
            for take in takes:
                before = generator.draw
                with take.recorder, self._drawing(generator):
                    result = self.step_fn(*args, **keywords)
                    take.recorder.check_end()
                if self.private:
                    take.recorder.modules.clear()
                    take.recorder.inputs.clear()
                take.take_in(result, generator.draw - before, {t._array.data_ptr for t in apart})
            if takes[0].core.settings != takes[1].core.settings:
                return None
            _compare(*takes)
            done = True
        except _C.CaptureError as error:
            raise _C.CaptureError(_located(error)) from None
        finally:
            for take in reversed(takes):
                take.recorder.leave()
                take.recorder.undo(refused=not done)
            generator.draw = drawn
            if not done:
                random.go_on_with(generator)  # the step may have called seed
        take = takes[1]
        take.make(self._memory)
        assert take.replay is not None
        places = [a.data_ptr for a in arrays]
        for a in take.replay.written():
            if a.nbytes and a.data_ptr in places:
                which = f"argument {places.index(a.data_ptr)} of the step is written in place, by another name"
                raise _C.CaptureError(f"capture: {which}, and a replay only reads its arguments; pass a copy of it")
        self._takes = [take, *self._takes][:_MOST]
        if self.announce is not None:
            self.announce()
        return take

    def _drawing(self, generator: random.Generator) -> Any:
        self._tell(generator)
        return generator.counting_from_here(self._copies)

    def _tell(self, generator: random.Generator) -> None:
        self._drawn[0], self._drawn[1] = generator.seed, generator.draw
        self._copies.follow(self._drawn)

    # --- all others

    def _replayed(self, take: _Take, outputs: list[Tensor], args: Any, keywords: Any) -> Any:
        """As an eager step would be, refused while another thread is at one of the optimizers."""
        claim, mine = take.claim, take.claim.owner
        try:
            for key in claim.keys:
                if (owner := owners.setdefault(key, mine)) is not mine:
                    claim.refuse_others(key, owner)
            take.runs += 1
            if self.verify and take.runs % self.verify == 0:
                apart = [twin(t) for t in parted(args, keywords)[0]]  # gradients of the last step are written to
                return self._verified(take, outputs, *with_tensors(apart, args, keywords))
            self._run(take)
            for after in take.afters:
                after()
            return take.rebuilt(outputs)
        finally:
            for key in claim.keys:  # no calls: behind each Ctrl-C could come
                if key in owners and owners[key] is mine:
                    del owners[key]

    def _run(self, take: _Take) -> None:
        replay = take.replay
        assert replay is not None
        if take.binding != replay.binding:
            take.binding, take.grads = replay.binding, [Tensor(a) for a in replay.kept()]
        generator = random.default_generator()
        before = [part.state() for part in take.parts] if take.looks else []
        self.computing = True
        if take.draws:
            self._tell(generator)
            generator.draw += take.draws
        for part in take.parts:
            part.advance()
        if take.looks:
            self._looking(take, replay, before)
        else:
            replay.run()
        for leaf, grad in zip(take.leaves, take.grads):
            leaf._grad = grad
        for leaf in take.bare:
            leaf._grad = None

    def _looking(self, take: _Take, replay: _C.Replay, before: list[Any]) -> None:
        while (look := replay.run()) >= 0:
            try:
                take.looks[look](*map(Tensor, replay.looked(look)))
            except BaseException:
                for part, state in zip(take.parts, before):
                    part.restore(state)
                raise

    def _verified(self, take: _Take, outputs: list[Tensor], args: Any, keywords: Any) -> Any:
        """The replay, and from the same beginning the eager step, which stays."""
        assert take.replay is not None
        generator = random.default_generator()
        written, drawn = take.replay.written(), generator.draw
        before, states = [a.to(a.device) for a in written], [part.state() for part in take.parts]
        self._run(take)
        ours = [*(a.to(a.device) for a in written), *(t._array for t in outputs), *(g._array.to(g.device) for g in take.grads)]
        for array, saved in zip(written, before):
            array.assign(saved)
        for part, state in zip(take.parts, states):
            part.restore(state)
        generator.draw = drawn
        with recording.Recorder(None) as eager:
            result = self.step_fn(*args, **keywords)
        leaves: list[Tensor] = []
        shape = flattened(result, leaves)
        theirs = [*written, *(t._array for t in leaves), *(leaf.grad._array for leaf in take.leaves if leaf.grad is not None)]
        names = [*(f"array {i} that the step changes" for i in range(len(written))), *(f"result {i}" for i in range(len(leaves)))]
        names += [f"gradient {i}" for i in range(len(take.leaves))]
        if shape != take.shape or len(ours) != len(theirs):
            raise RuntimeError("capture: the eager step returned something else than the replayed one")
        for name, a, b in zip(names, ours, theirs):
            if a.shape != b.shape or a.numpy().tobytes() != b.numpy().tobytes():
                raise RuntimeError(
                    f"capture: replay {take.runs} and the eager step differ in {name} of shape {b.shape}: the step depends on something "
                    "that its recording does not see; keep it eager, or make it an argument"
                )
        copies = [Tensor(t._array.to(t.device)) for t in leaves]  # as a replay gives them, of what is changed from here on, too
        for after in eager.afters:
            after()
        return take.rebuilt(copies)

    @property
    def bare_replay(self) -> _C.Replay | None:
        """The newest recording's, where a call is nothing else: one Tensor comes out, and the host has no part in it."""
        take = next(iter(self._takes), None)
        if take is None or take.shape is not Tensor or take.draws or take.looks or take.afters or take.parts or take.leaves or take.bare:
            return None
        return take.replay

    def release(self) -> None:
        """Forgets the recordings and lets go of their memory; gradients that lie in it are copied (OutOfMemoryError: forgotten)."""
        lying = [(leaf, grad) for take in self._takes for leaf, grad in zip(take.leaves, take.grads) if leaf.grad is grad]
        self._takes, self._memory, self._last = [], _C.ReplayMemory(), None
        try:
            copies = [Tensor(grad._array.to(grad.device)) for _, grad in lying]
        except _C.OutOfMemoryError:
            for leaf, _ in lying:
                leaf.grad = None
            raise
        for (leaf, _), copied in zip(lying, copies):
            leaf.grad = copied

    # --- looking at it

    @property
    def memory(self) -> dict[str, int]:
        """Bytes: "arena", planned for what the newest recording makes, on a GPU takes in as well; "alive", the most of it that is in use at once
        (what no plan can go below); of a frozen model also "packed", what all recordings keep of its weights. Empty before the first call."""
        replay = next((t.replay for t in self._takes if t.replay is not None), None)
        if replay is None:
            return {}
        packed = {"packed": sum(t.replay.packed for t in self._takes if t.replay is not None)} if self.private else {}
        return {"arena": replay.arena, "alive": replay.least, **packed}

    @property
    def kernels(self) -> list[str]:
        """What the newest recording runs, in its order."""
        replay = next((t.replay for t in self._takes if t.replay is not None), None)
        return [] if replay is None else replay.names()

    def __repr__(self) -> str:
        if not self.memory:
            return "captured step: not recorded yet"
        memory = {name: f"{size / 2**20:.1f} MiB" for name, size in self.memory.items()}
        return f"captured step: {len(self.kernels)} kernel calls, arena {memory['arena']} ({memory['alive']} in use at once)"


def attributes(holder: Any) -> dict[str, Any]:
    """By name, as they are now."""
    return recording.held(getattr(holder, "__dict__", {}))


def settings(module: Any) -> tuple[Any, ...]:
    """What a module is made of: its class, attributes (its mode, parameters, buffers and modules below among them), and the order of these modules."""
    return type(module), attributes(module), tuple(module._modules)


class _Take:
    """One recording and its replay."""

    def __init__(self, rest: Any, core: _C.Recording) -> None:
        self.rest, self.core = rest, core
        self.recorder = recording.Recorder(core)
        self.replay: _C.Replay | None = None
        self.runs, self.binding = 0, -1
        self.grads: list[Tensor] = []

    def take_in(self, result: Any, draws: int, arguments: set[int]) -> None:
        """What the step left behind. arguments: where they lie, themselves and under other shapes."""
        recorder, self.draws = self.recorder, draws
        returned: list[Tensor] = []
        self.shape = flattened(result, returned)
        self.results = [t._array for t in returned]
        self.leaves = [leaf for leaf, _ in recorder.leaves.values() if leaf._grad is not None]
        self.bare = [leaf for leaf, _ in recorder.leaves.values() if leaf._grad is None]  # which the step cleared
        self.begun = list(recorder.begun.values())
        self.gradients = [leaf._grad._array for leaf in self.leaves if leaf._grad is not None]
        self.parts = [part for part, _ in recorder.parts]
        stepped = {id(part.optimizer): part.optimizer for part in self.parts if hasattr(part, "optimizer")}.values()
        first = [optimizer._parameters[0] for optimizer in stepped if optimizer._parameters]
        self.claim = Claim("captured step", optimizer=list(stepped), parameter=first)
        self.afters, self.looks = recorder.afters, recorder.looks
        self.modules = list(recorder.modules.values())
        held = {id(t): t for m in self.modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None}
        held.update((id(leaf), leaf) for leaf, _ in (*recorder.leaves.values(), *recorder.begun.values()))
        held.update((key, t) for key, t in recorder.inputs.items() if t._array.data_ptr not in arguments)
        self.tensors = list(held.values())
        self.arrays = [t._array for t in self.tensors]
        self.needs = [t.requires_grad for t in self.tensors]
        self.missed = 0  # how often what was found was not there, and what is there equals it
        self.look()

    def look(self) -> None:
        """At what the modules hold now."""
        self.found: _C.Found | None = None  # until what it finds is held
        self.settings = [attributes(m) for m in self.modules]
        self.orders = [tuple(m._modules) for m in self.modules]  # which dicts that are equal may differ in
        self.zeros = [(m, name) for m in self.modules for name, value in m.__dict__.items() if type(value) is float and not value]
        self.signs = [copysign(1, m.__dict__[name]) for m, name in self.zeros]  # 0.0 and -0.0 are equal, and not the same
        if all(recording.seen_by_identity(m.__dict__) for m in self.modules):
            self.found = _C.Found(self.modules, self.tensors, [leaf for leaf, _ in self.begun])

    def make(self, memory: _C.ReplayMemory) -> None:
        self.replay = _C.Replay(self.core, self.results, self.gradients, memory)
        self.results, self.gradients, self.recorder = [], [], recording.Recorder(None)

    def stale(self) -> bool:
        """Whether it reads arrays that nobody uses any more."""
        return [t._array for t in self.tensors] != self.arrays

    def fits(self) -> bool:
        """It stands in front of every replay: what has not changed is to cost next to nothing."""
        if self.found is None or not self.found.still():
            if not self._as_it_was():
                return False
            self.missed += 1
            if self.found is not None and recording.rarely(self.missed):
                self.look()
        return all([part.fits() for part in self.parts])

    def _as_it_was(self) -> bool:
        return (
            unchanged([m.__dict__ for m in self.modules], self.settings)
            and [tuple(m._modules) for m in self.modules] == self.orders
            and [copysign(1, m.__dict__[name]) for m, name in self.zeros] == self.signs
            and [t._array for t in self.tensors] == self.arrays
            and [t.requires_grad for t in self.tensors] == self.needs
            and all([(leaf._grad is not None) == had for leaf, had in self.begun])
        )

    def rebuilt(self, outputs: list[Tensor]) -> Any:
        return rebuilt(self.shape, iter(outputs))


def capture(step_fn: Callable[..., Any], *, verify: int = 0) -> Captured:
    """Records a training step and runs it again without Python: the same kernels on the same memory, the same bits.

        @fastnn.capture
        def step(x, labels):
            optimizer.zero_grad()
            loss = criterion(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

    At the first call the step's Python runs twice without computing anything, and writes down what it would; the two lists must be equal, else
    CaptureError names the first difference. Then, and in all later calls, only the list runs, in one arena whose size is known before
    (`memory`). Arguments are Tensors, which the list reads where they lie (on a GPU: copies them to buffers of its own) and never writes to, and
    numbers, strings or None, which are part of it. Returned Tensors (alone or in tuples, lists and dicts) are copies without a history; the
    gradients of the parameters hold the last step's values until the next call.
    Shapes, types, devices, train() or eval(), requires_grad, the modules that are called, indexed or gone through, their order and attributes
    (as `==` has it, so no signs of zeros within lists and no order of dicts; of lists, dicts, sets and deques the first level; not what lies
    inside of objects, nor of classes), precision and threads make other recordings; the last 8 are kept. Updates follow the optimizer's options;
    a step that reads one in Python takes it as an argument.
    What changes by step is seen: rates and schedules, step counts, dropout's draws, the counters of batch normalisation; EMA.update() and
    Lookahead where they come last. What else Python does is not: a replay does not run it. So making tensors from host data, item(), numpy(),
    bool(), hooks and gradients made outside of the step raise CaptureError with the line; side effects that cannot be seen (a list that
    grows, an attribute that changes) are up to you. `verify=k` finds those that matter: every k-th replay is done a second time eagerly from
    the same state, and RuntimeError names the first array with other bits (parameters, state, results, gradients).
    Whatever raises while the step is recorded leaves parameters, state, gradients and generator as they were. With finite checks or memory
    checks on, inside another captured step and inside a call of its own (from a signal's handler), it runs eagerly. It belongs to the thread that
    captured it (RuntimeError).
    L-BFGS and Newton look at values and cannot be captured.
    `memory`: bytes of the arena, which holds all that the step makes; `kernels`: the names of what runs.
    """
    if not callable(step_fn) or isinstance(step_fn, type):
        raise TypeError(f"capture: step_fn must be a function that does a training step, got {shown(step_fn)}")
    return Captured(step_fn, integer("capture", "verify", verify, 0))


# --- refusals


def _compare(first: _Take, second: _Take) -> None:
    difference = second.core.difference(first.core)
    if not difference and second.shape != first.shape:
        difference = "they return something else"
    if not difference and (second.draws, len(second.looks), len(second.afters)) != (first.draws, len(first.looks), len(first.afters)):
        difference = "they draw another number of times, or end otherwise"
    if difference and [had for _, had in first.begun] != [had for _, had in second.begun]:
        difference += (
            "; it began without gradients, which zero_grad(set_to_none=False) leaves alone, the second with those of the first: do one step before "
            "the step is captured, or let zero_grad() forget them"
        )
    if difference:
        raise _C.CaptureError(f"the first two steps are not the same: {difference}")


def _located(error: BaseException) -> str:
    """The message with the line of the user's code that led to it."""
    here = os.path.dirname(__file__)
    outside = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if os.path.dirname(f.filename) != here and not f.filename.startswith(here + os.sep)
    ]
    if not outside:
        return f"capture: {error}"
    frame = outside[-1]
    line = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return f"capture: {error}, at {frame.filename}:{frame.lineno}: {line}"
