"""The command: `fastnn`, or python -m fastnn."""

import sys

from . import first_line


def command() -> int:
    first_line.answer()  # where the import did not see that it was the command's
    from .cli import main

    code = main()
    try:
        print(end="", flush=True)
    except OSError:  # which main has said; Python would say it again at its exit, and change the code to 120
        sys.stdout = None
    return code


if __name__ == "__main__":
    sys.exit(command())
