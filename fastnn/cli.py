"""The command line: what `fastnn ...` runs, its errors and exit codes; the commands are in fastnn/commands."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence

from . import signals
from .commands import COMMANDS
from .commands.options import parser
from .commands.said import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 1 where it compared and found a difference, 2 after an error (one line on stderr), 130
    after Ctrl-C, 143 after SIGTERM."""
    from . import DeviceError
    from .error_words import lost, words

    answers = signals.Answers(held=False)
    try:
        with answers.given(), warnings.catch_warnings():
            warnings.showwarning = _warn
            different = _run(arguments) is False
    except KeyboardInterrupt as error:
        return say(f"{error}" or "interrupted", 128 + getattr(error, "signal", 2))
    except Exception as error:
        ours = isinstance(error, (ValueError, TypeError, OSError, ArithmeticError, MemoryError, ImportError, DeviceError)) or lost(error)
        told = f"error: {' '.join(words(error).split())}"
        if answers.seen:  # an import that is interrupted may fail in any way; but that results could not be written has to be said
            return say(f"interrupted, then {told}" if isinstance(error, OSError) else "interrupted", 128 + answers.seen)
        if not ours:
            raise
        return say(told, 2)
    if answers.seen:  # it was not raised, or what it was raised in passed over it, as Python does in a __del__
        return say("interrupted", 128 + answers.seen)
    return int(different)


def _run(arguments: Sequence[str] | None) -> bool | None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files and classes may have letters that the terminal has not
    options = parser(COMMANDS).parse_args(arguments)
    options.words = list(sys.argv[1:] if arguments is None else arguments)[1:]
    result: bool | None = options.run(options)
    print(end="", flush=True)  # what the standard output does not take is an error here, at Python's exit it would be none
    return result


def _warn(message: object, *_: object, **__: object) -> None:
    """Without the place in the program, which is none of the user's."""
    say(f"warning: {' '.join(str(message).split())}", 0)
