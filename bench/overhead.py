"""What a training step of one sample costs beyond its kernels, eagerly and replayed: `python -m bench.overhead [--nets mlp] [--turns 30]`.

Processor time of one thread, in turns: the eager step, the captured one, and its list of kernels alone.
"""

from __future__ import annotations

import time
from functools import partial
from statistics import median

import numpy as np

import fastnn

from .fastnn_step import FastnnStep
from .reference_nets import REFERENCE_NETS
from .report import Report, arguments
from .timing import quantile, seconds_of, take_turns


def measure(name: str, turns: int) -> dict[str, float]:
    """Microseconds a step."""
    step, rng = FastnnStep(name, 1), np.random.default_rng(0)
    net = REFERENCE_NETS[name]
    x, labels = fastnn.tensor(rng.standard_normal((1, *net.input_shape))), fastnn.tensor(rng.integers(0, net.classes, 1))
    for _ in range(3):
        step.replayed(x, labels)
    replay = step.replayed._takes[0].replay
    assert replay is not None
    contenders = {"eager": lambda: step.eager(x, labels), "replayed": lambda: step.replayed(x, labels), "kernels": replay.run}
    taken = take_turns(contenders, turns, least_seconds=0.05, stopwatch=partial(seconds_of, clock=time.process_time))
    beyond = {side: [1e6 * (a - b) for a, b in zip(taken.seconds[side], taken.seconds["kernels"])] for side in ("eager", "replayed")}
    return {
        "kernels us": 1e6 * taken.median("kernels"),
        **{f"{side} beyond us": median(values) for side, values in beyond.items()},
        "replayed beyond us, upper quartile": quantile(beyond["replayed"], 0.75),
    }


def main() -> None:
    parser = arguments("A step of one sample beyond its kernels.")
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
    report.write()


if __name__ == "__main__":
    main()
