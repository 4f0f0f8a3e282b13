"""Calls that cannot work, drawn at random: a public function or class, its good arguments, and one or two of them replaced by something else.

What comes back may be a result (the value fitted after all), or one exception of a kind that tells: its type is one of `KINDS`, and its text
names the argument, the function or the class, is one line, and is not Python's, numpy's or the compiled core's own complaint about what
happened further in.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastnn import DeviceError, OutOfMemoryError
from fastnn._C import CaptureError
from fastnn.files import CorruptFile
from fastnn.train import Diverged, Interrupted

from .limit import Limit
from .values import VALUES

KINDS = (ValueError, TypeError, RuntimeError, IndexError, FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError)
OURS = (DeviceError, OutOfMemoryError, CorruptFile, Diverged, Interrupted, CaptureError)

RAW = re.compile(
    r"object has no attribute|has no len|object is not (callable|iterable|subscriptable|an iterator)|unsupported operand|not supported between"
    r"|bad operand|incompatible (function|constructor) arguments|invoked with|could not be broadcast|operands could not|could not convert|cannot convert"
    r"|invalid literal|must be real number|cannot be interpreted|only (length-1|integer scalar|0-dimensional)|truth value|inhomogeneous|std::|unhashable"
    r"|cannot unpack|not enough values|too many values|zip\(\)|can't multiply|cannot reshape|out of bounds for (axis|array)|division by zero|math domain|ufunc"
    r"|not in list|must be str|should be|sequence (item|of)|descriptor|__\w+__\(\) (got|takes|should)|expected str, bytes|setting an array element"
    r"|takes no arguments|shape mismatch|need at least one array|zero-size array|negative dimensions|too (large|big) to (convert|be)|Unable to (cast|convert)"
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


@dataclass
class Outcome:
    """One call: what was given in words, and what is wrong with what came back (None: nothing)."""

    words: str
    wrong: str | None
    refusal: str | None


def attack(subject: Subject, rng: random.Random, limit: Limit) -> Outcome:
    """One call with one or two bad arguments."""
    arguments = {name: make() for name, make in subject.good.items()}
    changed = rng.sample(sorted(arguments), min(len(arguments), rng.choice((1, 1, 1, 2))))
    told = []
    for name in changed:
        label, value = drawn(subject, name, rng)
        if label == "(left out)":
            del arguments[name]
        else:
            arguments[name] = value
        told.append(f"{name}={label}")
    words = f"{subject.name}({', '.join(told)})"
    try:
        limit.call(words, lambda: subject.call(**arguments))
    except BaseException as error:  # noqa: BLE001 - what comes is what is looked at
        return Outcome(words, complaint(error, subject, changed), f"{type(error).__name__}: {error}")
    return Outcome(words, None, None)


def drawn(subject: Subject, name: str, rng: random.Random) -> tuple[str, Any]:
    own = subject.given.get(name, ())
    if own and rng.random() < 0.5:
        value = rng.choice(own)
        return repr(value)[:60], value
    label = rng.choice(sorted(VALUES))
    return label, VALUES[label]()


def complaint(error: BaseException, subject: Subject, changed: list[str]) -> str | None:
    """What is wrong with an exception as an answer to these arguments."""
    text = str(error)
    if not isinstance(error, OURS) and type(error) not in (*KINDS, *subject.kinds):
        return f"{type(error).__name__} is no answer"
    if "\n" in text or not text:
        return "not one line"
    if raw := RAW.search(text):
        return f"{raw.group()!r} is what happened inside"
    if isinstance(error, (OSError, CorruptFile)):  # names its file
        return None
    words = (subject.name, *subject.name.split("."), *changed, *subject.names)
    if not any(re.search(rf"\b{re.escape(word)}\b", text) for word in words):
        return f"names none of {', '.join(dict.fromkeys(words))}"
    return None
