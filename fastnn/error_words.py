"""What the command line says of an error, in one line."""

from __future__ import annotations


def words(error: BaseException) -> str:
    """The file and what is wrong with it; or that the standard output takes no more; or the error's own text."""
    if isinstance(error, OSError) and error.strerror:
        if error.filename is not None:  # without the number in front
            return f"{error.filename}: {error.strerror}"
        printed = not isinstance(error, BrokenPipeError)
        try:
            print(end="", flush=True)  # what it could not take, it cannot take now
        except OSError:
            printed = False
        if not printed:
            return f"cannot write to the standard output: {error.strerror}"
    return str(error) or type(error).__name__


def lost(error: BaseException) -> bool:
    """Whether it says that another process, which trains together with this one, has failed."""
    from .dist import RankLost

    return isinstance(error, RankLost)
