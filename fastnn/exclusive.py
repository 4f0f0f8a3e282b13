"""What one thread works on and another must not touch meanwhile: refused, with the names of both."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

owners: dict[int, tuple[int, str]] = {}  # by id of the object: its thread, and what that does there
os.register_at_fork(after_in_child=lambda: _only_of(threading.get_ident()))


class Claim:
    """Of this thread, to several parts: for what is done thousands of times in a second, and so enters it in `owners` and takes it out itself."""

    def __init__(self, doing: str, **parts: list[Any]) -> None:
        self.doing, self.owner, self.parts = doing, _owner(doing), parts
        self.keys = tuple([id(one) for part in parts.values() for one in part])

    def refuse_others(self, key: int, owner: tuple[int, str]) -> None:
        """RuntimeError for a part that another thread has."""
        if owner[0] != self.owner[0]:
            raise _in_use(self.doing, next(name for name, part in self.parts.items() if key in map(id, part)), owner)


def _owner(doing: str) -> tuple[int, str]:
    return threading.get_ident(), f"{doing} in thread {threading.current_thread().name!r}"


def _in_use(doing: str, name: str, owner: tuple[int, str]) -> RuntimeError:
    return RuntimeError(f"{doing}: the {name} is in use by {owner[1]}; one at a time: wait for it, or give each thread its own")


@contextmanager
def claimed(doing: str, *, within: bool = False, **parts: Any) -> Iterator[None]:
    """Inside the block the parts belong to this piece of work alone: RuntimeError for one that another one has, of this thread or another.

    within: it may be part of a larger one of this thread, whose claim stays. A list stands for several parts of one name.
    """
    claim = _owner(doing)
    named = [(name, id(one)) for name, part in parts.items() for one in (part if isinstance(part, list) else [part])]
    try:
        for name, key in named:
            owner = owners.setdefault(key, claim)
            if owner is not claim and not (within and owner[0] == claim[0]):
                raise _in_use(doing, name, owner)
        yield
    finally:
        for _, key in named:  # no calls: behind each Ctrl-C could come
            if key in owners and owners[key] is claim:
                del owners[key]


def refuse_others(doing: str, name: str, part: Any) -> None:
    """RuntimeError when another thread claimed it."""
    owner = owners.get(id(part))
    if owner is not None and owner[0] != threading.get_ident():
        raise RuntimeError(
            f"{doing}: the {name} is in use by {owner[1]}; wait for it, or give each thread its own (copy.deepcopy, train.load_model)"
        )


def _only_of(thread: int) -> None:
    """In a forked child: the other threads are not there, nor is what they were doing."""
    for part, owner in list(owners.items()):
        if owner[0] != thread:
            del owners[part]
