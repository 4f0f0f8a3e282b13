"""What one thread works on and another must not touch meanwhile: refused, with the names of both."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_owners: dict[int, tuple[int, str]] = {}  # by id of the object: its thread, and what that does there
os.register_at_fork(after_in_child=lambda: _only_of(threading.get_ident()))


@contextmanager
def claimed(doing: str, *, within: bool = False, **parts: Any) -> Iterator[None]:
    """Inside the block the parts belong to this piece of work alone: RuntimeError for one that another one has, of this thread or another.

    within: it may be part of a larger one of this thread, whose claim stays. A list stands for several parts of one name.
    """
    claim = threading.get_ident(), f"{doing} in thread {threading.current_thread().name!r}"
    named = [(name, id(one)) for name, part in parts.items() for one in (part if isinstance(part, list) else [part])]
    try:
        for name, key in named:
            owner = _owners.setdefault(key, claim)
            if owner is not claim and not (within and owner[0] == claim[0]):
                raise RuntimeError(f"{doing}: the {name} is in use by {owner[1]}; one at a time: wait for it, or give each thread its own")
        yield
    finally:
        for _, key in named:  # no calls: behind each Ctrl-C could come
            if key in _owners and _owners[key] is claim:
                del _owners[key]


def refuse_others(doing: str, name: str, part: Any) -> None:
    """RuntimeError when another thread claimed it."""
    owner = _owners.get(id(part))
    if owner is not None and owner[0] != threading.get_ident():
        raise RuntimeError(
            f"{doing}: the {name} is in use by {owner[1]}; wait for it, or give each thread its own (copy.deepcopy, train.load_model)"
        )


def _only_of(thread: int) -> None:
    """In a forked child: the other threads are not there, nor is what they were doing."""
    for part, owner in list(_owners.items()):
        if owner[0] != thread:
            del _owners[part]
