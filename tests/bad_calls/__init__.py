"""Calls that cannot work: a public function or class, its good arguments, and one or two of them replaced by something else.

What comes back may be a result (whether it should have been: accepted.py), or one exception of a kind that tells: its type is one of `KINDS`,
TypeError for what the argument could never be (kinds.py), and its text names the argument, the function or the class, or the file (naming.py),
says what would be right (expectations.py), is one line, and is not Python's, numpy's or the compiled core's own complaint about what happened
further in.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastnn import CaptureError, DeviceError, OutOfMemoryError
from fastnn.files import CorruptFile
from fastnn.train import Diverged, Interrupted

from .expectations import says_what_would_do
from .kinds import wrong_type
from .limit import Limit
from .naming import arrays_of, names_one
from .values import LEFT_OUT, VALUES

Value = tuple[str, Callable[[], Any]]  # in words, and made anew

KINDS = (ValueError, TypeError, RuntimeError, IndexError, FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError)
OURS = (DeviceError, OutOfMemoryError, CorruptFile, Diverged, Interrupted, CaptureError)

RAW = re.compile(
    r"object has no attribute|has no len|object is not (callable|iterable|subscriptable|an iterator)|unsupported operand|not supported between"
    r"|bad operand|incompatible (function|constructor) arguments|invoked with|could not be broadcast|operands could not|could not convert|cannot convert"
    r"|invalid literal|must be real number|cannot be interpreted|only (length-1|integer scalar|0-dimensional)|truth value|inhomogeneous|std::|unhashable"
    r"|cannot unpack|not enough values|too many values|zip\(\)|can't multiply|cannot reshape|out of bounds for (axis|array)|division by zero|math domain|ufunc"
    r"|not in list|must be str|should be|sequence (item|of)|descriptor|__\w+__\(\) (got|takes|should)|expected str, bytes|setting an array element"
    r"| object at 0x|takes no arguments|shape mismatch"
    r"|need at least one array|zero-size array|negative dimensions|too (large|big) to (convert|be)|Unable to (cast|convert)"
)


@dataclass
class Subject:
    """Something to call: `good` makes each argument anew, `names` are words by which a text may name it besides its own."""

    name: str
    call: Callable[..., Any]
    good: dict[str, Callable[[], Any]]
    names: tuple[str, ...] = ()
    given: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # bad values of its own for some arguments
    kinds: tuple[type[Exception], ...] = ()  # that its protocol asks for
    files: tuple[str, ...] = ()  # that it reads, whatever its arguments
    script: bool = False  # its arguments choose what is called in which order: there is nothing to refuse


@dataclass
class Outcome:
    """One call: what was given in words, and what is wrong with what came back (None: nothing)."""

    words: str
    wrong: str | None
    refusal: str | None


def attack(subject: Subject, rng: random.Random, limit: Limit) -> Outcome:
    """One call with one or two bad arguments, drawn at random."""
    names = rng.sample(sorted(subject.good), min(len(subject.good), rng.choice((1, 2, 2, 2))))
    return outcome(subject, {name: rng.choice(values_of(subject, name, rng.random() < 0.5)) for name in names}, limit)


def outcome(subject: Subject, changed: dict[str, Value], limit: Limit) -> Outcome:
    """The call with these arguments changed."""
    good = {name: make() for name, make in subject.good.items()}
    given = {name: make() for name, (label, make) in changed.items() if label != LEFT_OUT}
    arguments = {name: value for name, value in {**good, **given}.items() if name in given or name not in changed}
    words = f"{subject.name}({', '.join(f'{name}={label}' for name, (label, _) in changed.items())})"
    try:
        limit.call(words, lambda: subject.call(**arguments))
    except BaseException as error:  # noqa: BLE001 - what comes is what is looked at
        wrong = complaint(error, subject, good, {name: given.get(name) for name in changed}, _paths(arguments.values()))
        return Outcome(words, wrong, f"{type(error).__name__}: {error}")
    return Outcome(words, None, None)


def values_of(subject: Subject, name: str, own: bool) -> list[Value]:
    """What an argument is replaced by: the values of its own, if it has some, or everybody's."""
    given: list[Value] = [(repr(value)[:60], lambda value=value: value) for value in subject.given.get(name, ())]
    return given if own and given else sorted(VALUES.items())


def _paths(arguments: Iterable[Any]) -> list[str]:
    """What may be a file's path, as an error says it."""
    return [
        os.fsdecode(one) if isinstance(one, bytes) else str(one) for one in arguments if isinstance(one, (str, bytes, int, os.PathLike))
    ]


def complaint(
    error: BaseException, subject: Subject, good: Mapping[str, Any], given: Mapping[str, Any], paths: Sequence[str] = ()
) -> str | None:
    """What is wrong with an exception as an answer to the arguments `given` in place of those of `good` (None: left out)."""
    text = str(error)
    if not isinstance(error, OURS) and type(error) not in (*KINDS, *subject.kinds):
        return f"{type(error).__name__} is no answer"
    if "\n" in text or not text:
        return "not one line"
    if raw := RAW.search(text):
        return f"{raw.group()!r} is what happened inside"
    if isinstance(error, (OSError, CorruptFile)):
        return None if names_its_file(error, (*paths, *subject.files)) else "names no file"
    if not says_what_would_do(text):
        return "does not say what would be right"
    words = (subject.name, *subject.name.split("."), *given, *subject.names)
    if not any(re.search(rf"\b{re.escape(word)}\b", text) for word in words):
        return f"names none of {', '.join(dict.fromkeys(words))}"
    if wanted := wrong_type(type(error), subject.name, good, given):
        return f"is to be a {wanted}"
    if not names_one(text, subject.name, arrays_of(good), list(given)):
        return f"does not say which argument: {' or '.join(given)}"
    return None


def names_its_file(error: BaseException, paths: Iterable[str]) -> bool:
    """The system's errors know theirs; ours begin with it."""
    if filename := getattr(error, "filename", None):
        return str(filename) in str(error)
    return any(path and str(error).startswith(f"{path}: ") for path in paths)
