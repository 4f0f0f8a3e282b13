"""What is changed for a while and put back: by the first of several threads that want the same, and by the last. Others are refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

Change = Callable[[], Callable[[], None]]  # makes the change, and gives what puts back what was


def modes_of(part: Any) -> Callable[[], None]:
    """What puts each of its modules back into the mode, training or evaluation, that it is in now."""
    before = [(module, module.training) for module in part.modules()]

    def put_back() -> None:
        for module, training in before:
            module.training = training

    return put_back


def switched(part: Any, training: bool) -> Callable[[], None]:
    """Into that mode, all modules of the part; what is returned puts each back into the one that it was in."""
    put_back = modes_of(part)
    part.train(training)
    return put_back


class _Turn:
    """Of one way: the threads that are in it. Without `put_back` nobody joins: the change is not made yet, or is being put back."""

    def __init__(self, way: Hashable) -> None:
        self.way, self.users = way, dict[int, None]()
        self.put_back: Callable[[], None] | None = None


_turns: dict[Hashable, list[_Turn]] = {}  # of each thing, the outermost first: averaged weights, in evaluation mode
_passed = threading.Condition()  # an RLock's: the garbage collector may end another block of this thread within these lines


@contextmanager
def by_turns(
    thing: Hashable, way: Hashable, change: Change = lambda: _nothing, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Inside the block the change is made. Threads of the same way share it; RuntimeError for one of another way, but for what this thread has
    done itself around the block, alone. Nobody waits for another's block, so none can wait for one that waits for it. meanwhile: is called ahead,
    unless the thread is in such a block already, and may refuse."""
    me, turn = threading.get_ident(), None
    try:
        with _passed:
            turn = _open(thing, way, me, meanwhile)
            turn.users[me] = None
        if turn.put_back is None:
            turn.put_back = change()
        yield
    finally:
        try:
            if turn is not None:
                _leave(thing, turn, me)
        finally:  # no calls: behind each Ctrl-C could come
            if turn is not None and me in turn.users:
                del turn.users[me]


def _nothing() -> None: ...


def _open(thing: Hashable, way: Hashable, me: int, meanwhile: Callable[[], None]) -> _Turn:
    while True:
        turns = [turn for turn in _turns.get(thing, ()) if turn.users]
        depth = sum(me in turn.users for turn in turns)
        if not depth:
            meanwhile()
        mine, theirs = turns[:depth], turns[depth:]
        if not theirs and all(len(turn.users) == 1 or _agree(turn.way, way) for turn in mine):
            _turns[thing] = [*turns, turn := _Turn(way)]
            return turn
        fits = bool(theirs) and theirs[0].way == way and all(turn.way == "evaluation" for turn in theirs[1:])
        if fits and theirs[0].put_back is not None:
            return theirs[0]
        if not any(turn.put_back is None for turn in theirs):  # none that is being changed just now
            raise _refused(way, theirs or mine, me)
        _passed.wait(0.05)


def _agree(shared: Hashable, way: Hashable) -> bool:
    """Whether who shares a turn may be put into another within it: the same once more, or evaluation by averaged weights."""
    return way == shared or (way == "evaluation" and not isinstance(shared, str))


def _refused(way: Hashable, turns: list[_Turn], me: int) -> RuntimeError:
    turn, thread = next((turn, user) for turn in turns for user in turn.users if user != me)
    name = next((one.name for one in threading.enumerate() if one.ident == thread), "")
    return RuntimeError(
        f"{_words(way)}: the model is in use by {_words(turn.way)} in thread {name!r}; wait for it, or give each thread its own "
        "(copy.deepcopy, train.load_model)"
    )


def _words(way: Hashable) -> str:
    return str(way[-1] if isinstance(way, tuple) else way)


def _leave(thing: Hashable, turn: _Turn, me: int) -> None:
    with _passed:
        if len(turn.users) > 1:
            del turn.users[me]
            return
        put_back, turn.put_back = turn.put_back, None
    try:
        if put_back is not None:
            put_back()
    finally:
        with _passed:
            turn.users.clear()
            if not any(other.users for other in _turns.get(thing, ())):
                _turns.pop(thing, None)
            _passed.notify_all()


def _forked() -> None:
    """In a child: the other threads are not there; what they alone had changed is put back, and no lock is held by them."""
    global _passed
    _passed, me = threading.Condition(), threading.get_ident()
    for thing, turns in list(_turns.items()):
        for turn in reversed(turns):
            alone = bool(turn.users) and me not in turn.users
            turn.users = {me: None} if me in turn.users else {}
            if alone and turn.put_back is not None:
                turn.put_back()
        if not any(turn.users for turn in turns):
            del _turns[thing]


os.register_at_fork(after_in_child=_forked)
