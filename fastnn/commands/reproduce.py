"""fastnn reproduce."""

from __future__ import annotations

import argparse


def reproduce(options: argparse.Namespace) -> bool:
    """Repeats a bad step from the file that fastnn train left (bad-step.safetensors), op by op, and says whether it is the same again."""
    from ..train.bad_step import recorded
    from ..train.bad_step import reproduce as repeated

    message, before = recorded(options.file)
    print(f"then: {message}")
    found = repeated(options.file, device=options.device)
    print(f"again, op by op: {found or 'every value is finite'}")
    same = before == (None if found is None else found.state())
    if not same:
        print(f"another value than the first time: {before or 'none'}")
    return same
