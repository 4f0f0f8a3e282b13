"""What a file says it unpacks to must fit into memory: a few kilobytes can say terabytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..files import SPARE, requested, room


def must_fit(name: str, size: int) -> None:
    """ValueError, naming the file, for more bytes than the machine has."""
    if size > (most := most_memory()):
        raise ValueError(f"{name}: says that it holds {size:,} bytes; this machine has {most:,}: damaged, or to be mapped from .npy files")


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """ValueError for a MemoryError inside the block that is the file's fault, which holds `size` bytes: an array of more, or a header so nested
    that Python's parser has no place for it, which it says in the same way though there is memory."""
    try:
        yield
    except MemoryError as error:
        wanted = requested(error)
        if wanted > size or (not wanted and room(size + SPARE)):
            raise ValueError(f"it holds {size:,} bytes, its header asks for more") from error
        raise


def most_memory(root: str = "/") -> int:
    """Bytes of this machine, or of the container it runs in."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open(os.path.join(root, "sys/fs/cgroup/memory.max")) as file:
            limit = int(file.read())
    except (OSError, ValueError):  # none, or "max"
        return most
    return min(most, limit) if limit > 0 else most
