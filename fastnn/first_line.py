"""Ctrl-C and SIGTERM in the first moments of the command `fastnn`, while its modules are imported, and in its last, when all is written.

There is nothing to save then, and an exception would not do: raised within an import it may come out as numpy's ImportError, and Python
ends with a traceback. So the process ends at once: one line, and the exit code. This is the first of fastnn's modules to run and imports
little; what comes before it, Python's own start, is out of reach. While Python takes itself apart nothing is left to end: the code is that of
what was done.
"""

from __future__ import annotations

import atexit
import os
import sys


def is_command() -> bool:
    """Whether fastnn is imported because this process is its command: `python -m fastnn`, or the script that pip makes of pyproject.toml."""
    words = getattr(sys, "argv", None) or [""]
    if words[0] == "-m":  # Python is still looking for the module that it is to run
        return sys.orig_argv[-len(words)] in ("fastnn", "-mfastnn")
    if os.path.basename(words[0]) != "fastnn":
        return False
    try:
        with open(words[0], "rb") as script:  # somebody's own program may have the name, too
            return b"from fastnn.__main__ import" in script.read(4096)
    except OSError:
        return False


def answer() -> None:
    """From now on, one line and the end; a signal that is ignored (nohup) stays ignored."""
    import signal  # no other process pays for it

    for number, before in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is before:
            signal.signal(number, leave)
            atexit.register(_ignore, number)  # Python would put back the default, which kills, before it is gone


def _ignore(number: int) -> None:
    import signal

    if signal.getsignal(number) is leave:
        signal.signal(number, signal.SIG_IGN)


def leave(number: int, frame: object) -> None:
    if sys.stderr is not None:  # where it was closed, its number may be another file's
        try:
            os.write(2, b"fastnn: interrupted\n")
        except OSError:
            pass
    os._exit(128 + number)
