"""A training step while PyTorch, or scikit-learn, trains in the same process:
`python -m bench.beside [--other torch] [--nets lenet,resnet20] [--turns 12] [--threads 1] [--others 1]`.

Alone and beside it, in turns. Another library may take the cores it computes on; beyond that, a step should cost what it costs alone. So
what counts is the processor time of the step's own thread (with --threads 1 that is the whole step): spinning, waiting with a busy loop and caches
that were emptied are in it, waiting for a core is not. The clock's figure is printed beside it; with as many cores as threads it says the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from .fastnn_step import FastnnStep
from .report import Report, arguments
from .timing import calls_per_turn, quantile, seconds_of


class Busy:
    """Calls `work` again and again in a thread, while `on` is set."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.on, self.ended, self.steps = threading.Event(), False, 0
        self.thread = threading.Thread(target=self._train, args=(work,))
        self.thread.start()

    def _train(self, work: Callable[[], object]) -> None:
        while not self.ended:
            if self.on.wait(0.05):
                work()
                self.steps += 1

    def end(self) -> None:
        self.ended = True
        self.thread.join()


def convolutions(threads: int) -> Callable[[], object]:
    """A small convolution, trained by PyTorch."""
    torch.set_num_threads(threads)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3))
    x = torch.randn(32, 3, 32, 32)

    def work() -> None:
        torch.set_num_threads(threads)  # of this thread
        model(x).square().mean().backward()

    return work


def trees(threads: int) -> Callable[[], object]:
    """Boosted trees, scikit-learn's part that computes with OpenMP."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    x, labels = np.random.default_rng(0).standard_normal((20_000, 20)), np.arange(20_000) % 2

    def work() -> None:
        with threadpool_limits(threads, "openmp"):  # of this thread
            HistGradientBoostingClassifier(max_iter=3).fit(x, labels)

    return work


OTHERS = {"torch": convolutions, "scikit-learn": trees}


def measure(name: str, turns: int, threads: int, busy: Busy) -> dict[str, float]:
    """Medians of (beside / alone), turn by turn, eagerly and replayed."""
    step = FastnnStep(name, threads)
    row: dict[str, float] = {}
    for side in ("eager", "replayed"):
        run = getattr(step, side)
        batch = next(step.batches)
        calls = calls_per_turn(lambda: run(*batch), 0.3, seconds_of)  # noqa: B023 (called at once)
        ratios: dict[str, list[float]] = {"processor": [], "clock": []}
        for _ in range(turns):
            figures = []
            for beside in (False, True):
                (busy.on.set if beside else busy.on.clear)()
                time.sleep(0.2)
                before, start, clock = busy.steps, time.thread_time(), time.perf_counter()
                for _ in range(calls):
                    run(*batch)
                figures.append((time.thread_time() - start, time.perf_counter() - clock))
                assert busy.steps > before or not beside, "the other one did not train"
            for i, kind in enumerate(ratios):
                ratios[kind].append(figures[1][i] / figures[0][i])
        busy.on.clear()
        for kind, values in ratios.items():
            row[f"{side} {kind}"], row[f"{side} {kind}, upper quartile"] = median(values), quantile(values, 0.75)
    return row


def main() -> None:
    parser = arguments("A step while another library trains in the same process.")
    parser.add_argument("--other", choices=OTHERS, default="torch")
    parser.add_argument("--nets", type=lambda text: text.split(","), default=["lenet", "resnet20"])
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--others", type=int, default=1, help="the other one's threads")
    options = parser.parse_args()
    options.threads = options.threads or 1
    report = Report("beside", options)
    busy = Busy(OTHERS[options.other](options.others))
    try:
        report.say(f"\nbeside {options.other} on {options.others} threads / alone, median (upper quartile); ours on {options.threads}")
        for name in options.nets:
            row = measure(name, options.turns, options.threads, busy)
            report.rows.append({"net": name, **row})
            words = [f"{k} {row[k]:.2f} ({row[k + ', upper quartile']:.2f})" for k in row if "quartile" not in k]
            report.say(f"{name}: {', '.join(words)}")
            report.save()
    finally:
        busy.end()
    report.write()


if __name__ == "__main__":
    main()
