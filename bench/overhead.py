"""What the host costs beyond the kernels: `python -m bench.overhead [--nets mlp] [--turns 30]`.

A training step of one sample, eager and captured, beside its list of kernels alone; small operations with a tape beside PyTorch's; and what only
moves memory, on tensors that lie in the caches, beside numpy's best. Processor time of one thread, in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F

import fastnn
from fastnn import ops

from .fastnn_step import FastnnStep
from .reference_nets import REFERENCE_NETS
from .report import Report, arguments
from .timing import quantile, seconds_of, take_turns

PROCESSOR_TIME = partial(seconds_of, clock=time.process_time)
SMALL: dict[str, tuple[Callable[..., object], Callable[..., object], list[tuple[int, ...]]]] = {  # ours, theirs, operands
    "x + y": (lambda x, y: x + y, lambda x, y: x + y, [(1, 8, 4, 4)] * 2),
    "relu": (ops.relu, torch.relu, [(1, 8, 4, 4)]),
    "conv2d": (partial(ops.conv2d, padding=1), partial(F.conv2d, padding=1), [(1, 8, 4, 4), (8, 8, 3, 3), (8,)]),
}


SIZES = {"1 KiB": (1, 4, 4, 16), "64 KiB": (4, 16, 16, 16), "1 MiB": (16, 32, 32, 16)}  # N, H, W, C: both sides lie channels-last
Sides = tuple[Callable[[], object], Callable[[], object]]  # fastnn, numpy


def _add(x: np.ndarray, y: np.ndarray) -> Sides:
    z = x[::-1].copy()
    a, b = map(_tensor, (x, z))
    return lambda: a + b, lambda: np.add(x, z, out=y)


def _relu(x: np.ndarray, y: np.ndarray) -> Sides:
    a = _tensor(x)
    return lambda: ops.relu(a), lambda: np.maximum(x, 0, out=y)


def _batch_norm(x: np.ndarray, y: np.ndarray) -> Sides:
    a, norm = _tensor(x), fastnn.nn.BatchNorm2d(x.shape[3]).eval()
    scale, shift = np.ones((2, x.shape[3]), np.float32)
    return lambda: norm(a), lambda: np.add(np.multiply(x, scale, out=y), shift, out=y)


def _max_pool(x: np.ndarray, y: np.ndarray) -> Sides:
    a, rows, result = _tensor(x), np.empty_like(x[:, ::2]), np.empty_like(x[:, ::2, ::2])
    return lambda: ops.max_pool2d(a, 2), lambda: np.maximum(
        np.maximum(x[:, ::2], x[:, 1::2], out=rows)[:, :, ::2], rows[:, :, 1::2], out=result
    )


def _sgd(x: np.ndarray, y: np.ndarray) -> Sides:
    w = fastnn.tensor(x, requires_grad=True)
    w.grad = fastnn.tensor(x)
    optimizer = fastnn.optim.SGD([w], 1e-3)
    return optimizer.step, lambda: np.subtract(x, np.multiply(x, np.float32(1e-3), out=y), out=x)


PASSES: dict[str, Callable[[np.ndarray, np.ndarray], Sides]] = {
    "x + y": _add, "relu": _relu, "batch norm (evaluation)": _batch_norm, "max pool 2 x 2": _max_pool, "sgd step": _sgd
}  # fmt: skip


def _tensor(x: np.ndarray) -> fastnn.Tensor:
    return fastnn.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def beside_numpy(name: str, size: str, turns: int) -> dict[str, float]:
    """Microseconds a call; numpy writes to arrays that are there already."""
    x = np.random.default_rng(0).standard_normal(SIZES[size]).astype(np.float32)
    ours, theirs = PASSES[name](x, np.empty_like(x))
    with fastnn.no_grad():
        taken = take_turns({"fastnn": ours, "numpy": theirs}, turns, least_seconds=0.02, stopwatch=PROCESSOR_TIME)
    ratios = taken.ratios("numpy", "fastnn")
    return {"fastnn us": 1e6 * taken.median("fastnn"), "numpy us": 1e6 * taken.median("numpy"), "ratio": median(ratios),
            "lower quartile": quantile(ratios, 0.25)}  # fmt: skip


def measure(name: str, turns: int) -> dict[str, float]:
    """Microseconds a step."""
    step, rng = FastnnStep(name, 1), np.random.default_rng(0)
    net = REFERENCE_NETS[name]
    x, labels = fastnn.tensor(rng.standard_normal((1, *net.input_shape))), fastnn.tensor(rng.integers(0, net.classes, 1))
    bare = fastnn.capture(lambda: step.eager(x, labels))  # nothing comes in from outside: its list can be run by itself
    for _ in range(3):
        step.replayed(x, labels)
        bare()
    replay = bare._takes[0].replay
    assert replay is not None
    contenders = {"eager": lambda: step.eager(x, labels), "replayed": lambda: step.replayed(x, labels), "kernels": replay.run}
    taken = take_turns(contenders, turns, least_seconds=0.05, stopwatch=PROCESSOR_TIME)
    beyond = {side: [1e6 * (a - b) for a, b in zip(taken.seconds[side], taken.seconds["kernels"])] for side in ("eager", "replayed")}
    return {
        "kernels us": 1e6 * taken.median("kernels"),
        **{f"{side} beyond us": median(values) for side, values in beyond.items()},
        "replayed beyond us, upper quartile": quantile(beyond["replayed"], 0.75),
    }


def small(name: str, turns: int) -> dict[str, float]:
    """Microseconds a call, each operand asking for a gradient."""
    ours, theirs, shapes = SMALL[name]
    values = [np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes)]
    a, b = [fastnn.tensor(v, requires_grad=True) for v in values], [torch.tensor(v, requires_grad=True) for v in values]
    contenders = {"fastnn": lambda: ours(*a), "torch": lambda: theirs(*b)}
    taken = take_turns(contenders, turns, least_seconds=0.02, stopwatch=PROCESSOR_TIME)
    ratios = taken.ratios("torch", "fastnn")
    return {
        **{f"{side} us": 1e6 * taken.median(side) for side in contenders},
        "ratio": median(ratios),
        "lower quartile": quantile(ratios, 0.25),
    }


def main() -> None:
    parser = arguments("What the host costs beyond the kernels.")
    parser.add_argument("--nets", type=lambda text: text.split(","), default=["mlp"])
    parser.add_argument("--turns", type=int, default=30)
    options = parser.parse_args()
    options.threads = 1
    report = Report("overhead", options)
    for name in options.nets:
        row = measure(name, options.turns)
        report.rows.append({"net": name, **row})
        report.say(f"\n{name}, batch 1: kernels {row['kernels us']:.1f} us; beyond them eagerly {row['eager beyond us']:.1f} us, replayed "
                   f"{row['replayed beyond us']:.1f} us (upper quartile {row['replayed beyond us, upper quartile']:.1f})")  # fmt: skip
    torch.set_num_threads(1)
    for name in SMALL:
        row = small(name, options.turns)
        report.rows.append({"operation": name, **row})
        report.say(f"{name} of {SMALL[name][2][0]}: {row['fastnn us']:.2f} us, PyTorch {row['torch us']:.2f}; ratio {row['ratio']:.2f} "
                   f"(lower quartile {row['lower quartile']:.2f})")  # fmt: skip
    for name in PASSES:
        for size in SIZES:
            row = beside_numpy(name, size, options.turns)
            report.rows.append({"pass": name, "size": size, **row})
            report.say(f"{name}, {size}: {row['fastnn us']:.2f} us, numpy {row['numpy us']:.2f}; ratio {row['ratio']:.2f} "
                       f"(lower quartile {row['lower quartile']:.2f})")  # fmt: skip
    report.write()


if __name__ == "__main__":
    main()
