"""Words of the command line that are no result: on stderr."""

from __future__ import annotations

import sys


def say(message: str, code: int) -> int:
    print(f"fastnn: {message}", file=sys.stderr)
    return code
