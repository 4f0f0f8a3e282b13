"""A report on classes as text of at most 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..described import plural

if TYPE_CHECKING:
    from .per_class import ClassReport

_WIDTH = 80
_LABELS = ("class", "accuracy", "macro mean", "weighted mean")
_CONFUSIONS = 5


def table(report: ClassReport, most: int | None) -> str:
    support, precision, recall, f1 = report.support, report.precision, report.recall, report.f1
    total = f"{int(support.sum()):,}"
    occurs = np.flatnonzero(support + report.predicted)
    worst = occurs[np.lexsort((-support[occurs], f1[occurs]))]  # of equal ones, that of the most samples
    shown = np.arange(len(f1)) if most is None or len(f1) <= most else worst[:most]
    last = max(len("support"), len(total))
    room = _WIDTH - len("  precision  recall     F1  ") - last
    names = {int(c): shortened(report.classes[c], int(c), room) for c in shown}
    width = max(columns(name) for name in (*_LABELS, *names.values()))

    def line(name: str, *cells: str) -> str:
        return f"{padded(name, width)}  {cells[0]:>9}  {cells[1]:>6}  {cells[2]:>5}  {cells[3]:>{last}}"

    def row(name: str, *cells: float | np.ndarray, count: str) -> str:
        return line(name, *(f"{cell:.3f}" for cell in cells), count)

    lines = [line("class", "precision", "recall", "F1", "support")]
    lines += [row(names[c], precision[c], recall[c], f1[c], count=f"{support[c]:,}") for c in map(int, shown)]
    if rest := len(occurs) - len(shown) if len(shown) < len(f1) else 0:
        better = f1[worst[len(shown) :]]
        lines.append(f"... and {plural(rest, 'class')} with an F1 from {better.min():.3f} to {better.max():.3f}")
    lines += ["", line("accuracy", "", "", f"{report.accuracy:.3f}", total)]
    means = {"macro mean": report.macro, "weighted mean": report.weighted}
    lines += [row(name, *mean.values(), count=total) for name, mean in means.items()]
    return "\n".join([*lines, *_confusions(report), *_absences(report)])


def _confusions(report: ClassReport) -> list[str]:
    found, support = report._mistakes(_CONFUSIONS), report.support
    if not found:
        return []
    times = ["times", *(f"{n:,}" for _, _, n in found)]
    shares = ["of the class", *(f"{100 * n / support[t]:.1f} %" for t, _, n in found)]
    last, width = len(shares[0]), max(map(len, times))
    room = (_WIDTH - width - last - 3 * len("  ")) // 2
    both = [["true class", "taken for"], *([shortened(report.classes[c], c, room) for c in pair[:2]] for pair in found)]
    widths = [max(columns(pair[i]) for pair in both) for i in (0, 1)]
    names = ["  ".join(padded(name, width) for name, width in zip(pair, widths)) for pair in both]
    return ["", *(f"{pair}  {n:>{width}}  {share:>{last}}" for pair, n, share in zip(names, times, shares))]


def _absences(report: ClassReport) -> list[str]:
    """Why figures are 0 that nothing was divided for."""
    samples, predicted = report.support > 0, report.predicted > 0
    cases = {
        "precision is 0, never predicted": samples & ~predicted,
        "recall is 0, no samples": ~samples & predicted,
        "not in the macro mean, neither samples nor predictions": ~samples & ~predicted,
    }
    lines = [_listed(f"{words}: ", report.classes, list(map(int, which.nonzero()[0]))) for words, which in cases.items() if which.any()]
    return ["", *lines] if lines else []


def _listed(words: str, classes: Sequence[str], which: Sequence[int]) -> str:
    """As many names as have room in one line, and how many there are besides; the first one, cut, in any case."""
    rest = len(f" and {len(which):,} more")
    said, room = words + shortened(classes[which[0]], which[0], _WIDTH - len(words) - rest), _WIDTH - rest
    for place, c in enumerate(which[1:], 1):
        longer = f"{said}, {shortened(classes[c], c, 30)}"
        if columns(longer) > room:
            return f"{said} and {len(which) - place:,} more"
        said = longer
    return said


def shortened(name: str, number: int, room: int) -> str:
    """A name in at most `room` columns of a terminal, whole if it fits: else its number, beginning and end."""
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
    if columns(plain) <= room:
        return plain
    begin, end = f"{number}: ", ""
    left = room - len(begin) - len("...")
    for i in range(len(plain)):  # letters from both ends in turns
        letter = plain[-1 - i // 2] if i % 2 else plain[i // 2]
        left -= columns(letter)
        if left < 0:
            break
        begin, end = (begin, letter + end) if i % 2 else (begin + letter, end)
    return f"{begin}...{end}"


def padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def columns(text: str) -> int:
    """Of a terminal: a Chinese letter takes two, an accent behind its letter none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
