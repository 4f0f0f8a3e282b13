"""Bad values of every kind, each made anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn import nn


class Thing:
    """An object that can do nothing."""


def nothing(*arguments: Any) -> None:
    """A function that gives nothing."""


LEFT_OUT = "(left out)"
VALUES: dict[str, Callable[[], Any]] = {
    LEFT_OUT: lambda: None,
    "None": lambda: None,
    "True": lambda: True,
    "numpy True": lambda: np.True_,
    "0": lambda: 0,
    "1": lambda: 1,
    "7": lambda: 7,
    "-1": lambda: -1,
    "-2**40": lambda: -(2**40),
    "2**70": lambda: 2**70,
    "2.5": lambda: 2.5,
    "-0.5": lambda: -0.5,
    "0.0": lambda: 0.0,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "1j": lambda: 1j,
    "''": lambda: "",
    "'a'": lambda: "a",
    "'mean'": lambda: "mean",
    "'3'": lambda: "3",
    "b'a'": lambda: b"a",
    "[]": lambda: [],
    "[1]": lambda: [1],
    "(2, 3)": lambda: (2, 3),
    "(-1, 0)": lambda: (-1, 0),
    "(True, True)": lambda: (True, True),
    "(2.0, 3.0)": lambda: (2.0, 3.0),
    "(nan, nan)": lambda: (math.nan, math.nan),
    "(1, 2, 3, 4, 5)": lambda: (1, 2, 3, 4, 5),
    "[1, 'a']": lambda: [1, "a"],
    "[[1, 2], [3]]": lambda: [[1, 2], [3]],
    "[None]": lambda: [None],
    "{}": lambda: {},
    "{'a': 1}": lambda: {"a": 1},
    "{1: None}": lambda: {1: None},
    "{1, 2}": lambda: {1, 2},
    "slice": lambda: slice(1, 2),
    "thing": Thing,
    "class": lambda: Thing,
    "function": lambda: nothing,
    "iterator": lambda: iter([1, 2]),
    "numpy 0": lambda: np.float32(0),
    "numpy empty": lambda: np.zeros((0,), np.float32),
    "numpy scalar": lambda: np.array(3.0),
    "numpy ()": lambda: np.zeros((), np.int64),
    "numpy (3,)": lambda: np.arange(3.0),
    "numpy (4, 3)": lambda: np.ones((4, 3), np.float32),
    "numpy (2, 3, 4, 4)": lambda: np.ones((2, 3, 4, 4), np.float32),
    "numpy bytes (8, 1, 4, 4)": lambda: np.zeros((8, 1, 4, 4), np.uint8),
    "numpy ints": lambda: np.array([0, 9, -3]),
    "numpy bools": lambda: np.array([True, False, True]),
    "numpy words": lambda: np.array(["a", "b"]),
    "numpy objects": lambda: np.array([None, Thing()], object),
    "numpy nan (3,)": lambda: np.full(3, np.nan),
    "numpy nan": lambda: np.full((4, 3), np.nan, np.float32),
    "numpy complex": lambda: np.ones((4, 3), np.complex64),
    "tensor ()": lambda: fastnn.tensor(2.0),
    "tensor (3,)": lambda: fastnn.tensor(np.arange(3.0)),
    "tensor (4, 3)": lambda: fastnn.tensor(np.ones((4, 3)), requires_grad=True),
    "tensor (0, 3)": lambda: fastnn.tensor(np.ones((0, 3))),
    "tensor (2, 3, 4, 4)": lambda: fastnn.tensor(np.ones((2, 3, 4, 4))),
    "tensor double": lambda: fastnn.tensor(np.ones((4, 3)), "float64"),
    "tensor ints": lambda: fastnn.tensor(np.array([0, 9, -3])),
    "tensor bytes": lambda: fastnn.tensor(np.ones((2, 3, 4, 4), np.uint8)),
    "result": lambda: fastnn.tensor(np.ones(3), requires_grad=True) * 2.0,
    "module": lambda: nn.Linear(3, 2),
    "module class": lambda: nn.Linear,
    "parameters": lambda: list(nn.Linear(3, 2).parameters()),
}
