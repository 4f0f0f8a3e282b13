"""Bad values that are accepted, and that somebody has looked at: accepted/*.txt, a line for each argument that takes some.

Every argument is replaced by every bad value, alone. Most are refused; what is not may be meant (a number where numbers go, any shape where any
does), or nobody thought of it. The files hold what is meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import Subject, Value, values_of
from .values import LEFT_OUT, VALUES

FILES = Path(__file__).resolve().parent / "accepted"
SEPARATOR = " | "

# Several values in one word, the longest first.
GROUPS: dict[str, tuple[str, ...]] = {
    "anything": tuple(label for label in VALUES if label != LEFT_OUT),
    "operands": (
        *("0", "1", "7", "-1", "-2**40", "2**70", "2.5", "-0.5", "0.0", "numpy 0", "nan", "inf", "-inf", "True", "numpy True", "[1]"),
        *("numpy scalar", "numpy ()", "numpy (3,)", "numpy (4, 3)", "numpy ints", "numpy bools", "numpy nan (3,)", "numpy nan"),
        *("tensor ()", "tensor (3,)", "tensor (4, 3)", "result"),
    ),
    "every number": (
        "0",
        "1",
        "7",
        "-1",
        "-2**40",
        "2**70",
        "2.5",
        "-0.5",
        "0.0",
        "numpy 0",
        "nan",
        "inf",
        "-inf",
        "numpy scalar",
        "numpy ()",
    ),
    "finite numbers": ("0", "1", "7", "-1", "-2**40", "2**70", "2.5", "-0.5", "0.0", "numpy 0", "numpy scalar", "numpy ()"),
    "numbers from 0": ("0", "1", "7", "2**70", "2.5", "0.0", "numpy 0", "numpy scalar", "numpy ()"),
    "float tensors": ("tensor ()", "tensor (3,)", "tensor (4, 3)", "tensor (0, 3)", "tensor (2, 3, 4, 4)", "tensor double", "result"),
    "positive numbers": ("1", "7", "2**70", "2.5", "numpy scalar"),
    "numbers from 0 to 1": ("0", "1", "0.0", "numpy 0", "numpy ()"),
    "counts from 0": ("0", "1", "7", "numpy ()"),
    "switches": ("True", "numpy True"),
    "words": ("'a'", "'mean'", "'3'"),
    "axes": ("0", "1", "-1", "numpy ()"),
    "counts": ("1", "7"),
}

Taken = dict[str, set[str]]  # argument of a subject: the values that it takes


def alone(subjects: list[Subject]) -> Iterator[tuple[Subject, str, str, list[Value]]]:
    """Each argument, its name in the files, and all that it is replaced by."""
    times: Counter[str] = Counter()
    for subject in subjects:
        times[subject.name] += 1
        shown = subject.name if times[subject.name] == 1 else f"{subject.name} ({times[subject.name]})"
        for name in () if subject.script else subject.good:
            own = values_of(subject, name, True) if name in subject.given else []
            yield subject, name, f"{shown}.{name}", [*VALUES.items(), *own]


def known(floor: str) -> Taken:
    """What was looked at."""
    lines = (FILES / f"{floor}.txt").read_text().splitlines()
    return {name: _spread(words.split(SEPARATOR)) for name, _, words in (line.partition(": ") for line in lines)}


def write(floor: str, taken: Taken) -> None:
    (FILES / f"{floor}.txt").write_text("".join(f"{line(name, taken[name])}\n" for name in sorted(taken)))


def line(name: str, values: Iterable[str]) -> str:
    left, words = set(values), []
    for word, group in GROUPS.items():
        if left.issuperset(group):
            words.append(word)
            left.difference_update(group)
    order = list(VALUES)
    rest = sorted(left, key=lambda value: (order.index(value) if value in order else len(order), value))
    return f"{name}: {SEPARATOR.join([*words, *rest])}"


def _spread(words: Iterable[str]) -> set[str]:
    return {value for word in words for value in GROUPS.get(word, (word,))}


def differences(floor: str, taken: Taken) -> list[str]:
    """What is accepted now and was not, and the other way round, with what to do about it."""
    before, found = known(floor), []
    file = f"tests/bad_calls/accepted/{floor}.txt"
    for name in sorted({*before, *taken}):
        new, gone = (taken.get(name, set()) - before.get(name, set())), (before.get(name, set()) - taken.get(name, set()))
        now = line(name, taken[name]) if name in taken else "(no line)"
        if new:
            found.append(f"{name} takes {', '.join(sorted(new))}: refuse that, or, if it is meant, the line of {file} becomes\n    {now}")
        if gone:
            found.append(f"{name} takes no {', '.join(sorted(gone))} any more: the line of {file} becomes\n    {now}")
    return found
