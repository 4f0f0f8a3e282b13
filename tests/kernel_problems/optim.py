"""Optimizer steps, and what else goes over lists of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import reference
from numpy.random import Generator

from .problem import Array, Problem, Sketch, case, normal

PARAMETER_SHAPES = [(3, 5), (17,), (8, 3, 3, 3), (1,), (0,), (70_001,)]


def _shapes(count: int) -> list[tuple[int, ...]]:
    """Every sixth is large; of a long list, which is there for its length, only the first two and the last of those."""
    shapes = [PARAMETER_SHAPES[i % len(PARAMETER_SHAPES)] for i in range(count)]
    return [(71,) if shape == PARAMETER_SHAPES[-1] and 12 <= i < count - 6 else shape for i, shape in enumerate(shapes)]


def _parameters(random: Generator, count: int) -> list[Array]:
    return [normal(random, shape) for shape in _shapes(count)]


def _pieces(count: int) -> int:
    return sum(-(-int(np.prod(shape)) // 4096) for shape in _shapes(count))


def _updated(written: tuple[Any, ...], operands: list[Any], moved: Array | None, tolerances: list[float]) -> Problem:
    """The last of what a step writes, float64, are sums of up to 4096 numbers of the type computed in."""
    sums = 0 if moved is None else (written[-1] * 2.0**-12 + 1e-6) / np.finfo(np.float64).eps
    return Problem([*operands, moved], list(written), [*tolerances, sums])


def _moved(pieces: int) -> Array | None:
    return np.zeros((pieces, 2)) if pieces else None


def _tolerance(old: list[Array], new: list[Array], factor: float) -> float:
    return factor * max((float(np.abs(a - b).max(initial=0)) for a, b in zip(old, new, strict=True)), default=0.0) + 32


def sgd_step(random: Generator, count: int, groups: int, pieces: int) -> Problem:
    w, g, v = (_parameters(random, count) for _ in range(3))
    rates = np.array([[0.1, 0.01, 0.9, 1, 0, 1], [0.05, 0, 0.9, 0, 0.5, -1], [0.3, 0.1, 0, 0, 0, 1]])[:groups]
    operands = [w, g, v, random.integers(0, groups, count), rates, random.integers(1, 4, count)]
    return _updated(reference.sgd_step(*operands, _moved(pieces)), operands, _moved(pieces), [32, 32])


def adam_step(random: Generator, count: int, groups: int, pieces: int) -> Problem:
    w, g, m, v, top = (_parameters(random, count) for _ in range(5))
    v, top = [np.abs(a) for a in v], [np.abs(a) for a in top]
    rates = np.array([[0.1, 0.01, 0.9, 0.999, 1e-8, 1, 0, 1], [0.05, 0.02, 0.8, 0.9, 1e-3, 0, 1, -1], [0.3, 0, 0.5, 0.99, 1e-6, 0, 0, 1]])[
        :groups
    ]
    operands = [w, g, m, v, top, random.integers(0, groups, count), rates, random.integers(1, 5, count)]
    written = reference.adam_step(*operands, _moved(pieces))
    return _updated(written, operands, _moved(pieces), [_tolerance(w, written[0], 16), 32, 256, 256])


def adagrad_step(random: Generator, count: int, groups: int, pieces: int) -> Problem:
    w, g, s = (_parameters(random, count) for _ in range(3))
    rates = np.array([[0.1, 0.01, 0, 1e-10, 1], [0.05, 0.02, 0.1, 1e-3, -1], [0.3, 0, 0, 1e-10, 1]])[:groups]
    operands = [w, g, [np.abs(a) for a in s], random.integers(0, groups, count), rates, random.integers(1, 5, count)]
    written = reference.adagrad_step(*operands, _moved(pieces))
    return _updated(written, operands, _moved(pieces), [_tolerance(w, written[0], 16), 256])


def rmsprop_step(random: Generator, count: int, groups: int, pieces: int) -> Problem:
    w, g, s, m, v = (_parameters(random, count) for _ in range(5))
    s = [np.abs(a) + b**2 + 0.1 for a, b in zip(s, m, strict=True)]  # a mean square is no smaller than the mean's square
    rates = np.array([[0.01, 0.01, 0.99, 1e-8, 0.9, 1, 1], [0.05, 0.02, 0.8, 1e-3, 0, 0, -1], [0.03, 0, 0.9, 1e-8, 0.5, 0, 1]])[:groups]
    operands = [w, g, s, m, v, random.integers(0, groups, count), rates, random.integers(1, 5, count)]
    written = reference.rmsprop_step(*operands, _moved(pieces))
    return _updated(written, operands, _moved(pieces), [_tolerance(w, written[0], 256), 256, 32, _tolerance(v, written[3], 256)])


def muon_step(
    random: Generator,
    count: int,
    groups: int,
    pieces: int,
    rows: int,
    columns: int,
    steps: int,
    a: float,
    b: float,
    c: float,
    **options: Any,
) -> Problem:
    shape = options.get("shape", (rows, columns))
    w, g, v = ([normal(random, shape) for _ in range(count)] for _ in range(3))
    rates = np.array([[0.1, 0.01, 0.9, 1, 0.2, 0, 1e-7], [0.24, 0, 0.6, 1, 0.24, 1, 1e-7], [0.1, 0, 0, 0, 0.1, 0, 1e-7]])[:groups]
    operands = [w, g, v, random.integers(0, groups, count), rates]
    written = reference.muon_step(*operands, _moved(pieces), steps, a, b, c)
    return _updated(written, operands, _moved(pieces), [4096, 32])


def global_norm(random: Generator, count: int) -> Problem:
    g = [normal(random, PARAMETER_SHAPES[i % len(PARAMETER_SHAPES)]) for i in range(count)]  # more than fits into parts of one stretch
    norm = reference.global_norm(g)
    return Problem([g], [norm], float(norm) * 2.0**36)  # a float64 made of sums of squares in the type computed in


def clip_norm(random: Generator, count: int, limit: float = 1.0) -> Problem:
    g = _parameters(random, count)
    norm = reference.global_norm(g)
    return Problem([g, norm, np.array(limit)], [*reference.clip_norm(g, norm, np.array(limit))], 4)


def clip_value(random: Generator, count: int) -> Problem:
    g = _parameters(random, count)
    return Problem([g, np.array(0.5)], [*reference.clip_value(g, np.array(0.5))], 0)


def average(random: Generator, count: int, share: float = 0.1) -> Problem:
    a, w = (_parameters(random, count) for _ in range(2))
    return Problem([a, w, np.array(share)], [*reference.average(a, w, np.array(share))], 0 if share == 1 else 8)


def lookahead(random: Generator, count: int) -> Problem:
    slow, w = (_parameters(random, count) for _ in range(2))
    return Problem([slow, w, np.array(0.3)], [*reference.lookahead(slow, w, np.array(0.3))], 8)


def exchange(random: Generator, count: int) -> Problem:
    a, b = (_parameters(random, count) for _ in range(2))
    return Problem([a, b], [*reference.exchange(a, b)], 0)


QUINTIC = (3.4445, -4.7750, 2.0315)


def cases() -> list[Sketch]:
    steps = ("sgd_step", "adam_step", "adagrad_step", "rmsprop_step")
    cases = [case(row, count, groups, 0) for row in steps for count, groups in [(0, 1), (1, 1), (5, 1), (12, 3), (230, 2)]]
    cases += [case(row, count, 3, _pieces(count)) for row in steps for count in (3, 12, 114)]
    cases += [
        case("muon_step", count, groups, pieces, rows, columns, steps, *QUINTIC, **options)
        for count, groups, pieces, rows, columns, steps, options in [
            (0, 1, 0, 3, 4, 1, {}),
            (1, 1, 0, 1, 1, 2, {}),
            (1, 1, 1, 5, 9, 5, {}),
            (2, 2, 2, 17, 6, 3, {}),
            (3, 3, 3, 24, 27, 3, {"shape": (24, 3, 3, 3)}),
            (2, 3, 0, 20, 9, 2, {"shape": (20, 1, 3, 3)}),
            (4, 3, 12, 64, 150, 1, {"shape": (64, 6, 5, 5)}),
        ]
    ]
    lists = ("global_norm", "clip_norm", "clip_value", "average", "lookahead", "exchange")
    cases += [case(row, count) for row in lists for count in (0, 1, 12, 210)]
    return [*cases, case("clip_norm", 12, limit=1e9), case("average", 12, share=1.0)]
