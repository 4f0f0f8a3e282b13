"""What a check of gradients found, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .arguments import text
from .described import described, plural

GOOD, FAIR, WRONG = 1e-7, 1e-4, 1e-2  # of CS231n, "Gradient checks"
_FINE = ("good", "fair", "unused")


@dataclass
class GradientCheck:
    """Of one parameter or input: `error` is the largest relative error, at `index`, where backward gave `analytic` and the difference `numeric`;
    `checked` elements were looked at, of which `kinks` lie on a kink and do not count. See `check_gradients`."""

    name: str
    shape: tuple[int, ...]
    checked: int
    kinks: int
    error: float
    index: tuple[int, ...]
    analytic: float
    numeric: float
    used: bool = True

    @property
    def verdict(self) -> str:
        """ "good" up to 1e-7, "fair" up to 1e-4, "doubtful" up to 1e-2, "wrong" above; "kinks" where every element lies on one, so that nothing
        is known; "unused" where the result does not depend on it."""
        if not self.used and self.error == 0:
            return "unused"
        if self.kinks == self.checked:
            return "kinks"
        return next((word for word, most in (("good", GOOD), ("fair", FAIR), ("doubtful", WRONG)) if self.error <= most), "wrong")

    @property
    def ok(self) -> bool:
        """Whether the verdict is "good", "fair" or "unused"."""
        return self.verdict in _FINE


class GradientReport:
    """A GradientCheck for each input and parameter: iterate, index by name, `print`, `ok`.

    `functions`: those of the model's own `fastnn.Function`s whose backward is wrong by itself, looked for where something is wrong.
    """

    def __init__(self, checks: Sequence[GradientCheck], functions: Sequence[GradientCheck] = ()) -> None:
        self.checks, self.functions = list(checks), list(functions)

    def __len__(self) -> int:
        return len(self.checks)

    def __iter__(self) -> Iterator[GradientCheck]:
        return iter(self.checks)

    def __getitem__(self, name: str) -> GradientCheck:
        text("GradientReport", "name", name, "such as 'input 0'")
        found = next((check for check in self.checks if check.name == name), None)
        if found is None:
            raise KeyError(f"GradientReport: there is no {name!r}; there are {', '.join(check.name for check in self.checks)}")
        return found

    @property
    def ok(self) -> bool:
        """Whether every gradient that could be looked at is right: no verdict is "doubtful", "wrong" or "kinks"."""
        return all(check.ok for check in self.checks)

    @property
    def wrong(self) -> list[str]:
        """The names of those that are not ok."""
        return [check.name for check in self.checks if not check.ok]

    def __repr__(self) -> str:
        return described(self, plural(len(self), "gradient"), f"{len(self.wrong)} not ok" if self.wrong else "ok")

    def __str__(self) -> str:
        """A line for each, the largest error where it lies; below it what is wrong, and why."""
        head = ("gradient of", "shape", "checked", "kinks", "largest error", "at", "backward", "difference", "verdict")
        rows = [head, *map(_cells, self.checks)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        left = (0, 1, 5, 8)
        lines = ["  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip() for row in rows]
        lines += [
            f"{check.name}: backward gives {check.analytic:.6g} at {check.index}, the difference is {check.numeric:.6g}"
            for check in self.functions
        ]
        if any(check.verdict == "kinks" for check in self.checks):
            lines.append("kinks: every element looked at lies on one, so nothing is known; other weights or inputs tell")
        return "\n".join(lines)


def _cells(check: GradientCheck) -> tuple[str, ...]:
    size = int(np.prod(check.shape))
    known = check.kinks < check.checked
    return (
        check.name,
        " x ".join(map(str, check.shape)) or "1",
        f"{check.checked:,} of {size:,}",
        str(check.kinks or ""),
        f"{check.error:.1e}" if known else "",
        str(check.index) if known else "",
        *(f"{value:.6g}" if known else "" for value in (check.analytic, check.numeric)),
        check.verdict,
    )
