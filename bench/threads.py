"""What threads are worth: `python -m bench.threads [--nets vgg,resnet18] [--pairs 20]`.

The step on one thread and on all of them in turns, and between them what an FMA loop gains from all: a host that lends half cores shows there;
processor time of 5 idle seconds behind a step; the step beside a busy process on one of
the cores, and alone, in turns.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import fastnn

from . import device
from .fastnn_step import FastnnStep
from .peak import Peak
from .report import Report, arguments
from .timing import Turns, quantile, take_turns

IDLE_SECONDS = 5.0
WIDTHS = (10, 10, 10, 9, 10, 10, 14, 12, 12, 9)
BUSY = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile True: pass"


class Step:
    """A training step on a number of threads, whatever ran before."""

    def __init__(self, name: str, threads: int) -> None:
        self.threads, self.step = threads, FastnnStep(name, threads)

    def __call__(self) -> object:
        fastnn.set_num_threads(self.threads)
        return self.step()


@contextmanager
def neighbour(cpu: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that never rests, on one CPU; stopped until it is told to go on (SIGCONT)."""
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(cpu)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


def beside(step: Step, pairs: int) -> Turns:
    """The step alone and beside a busy process, in turns."""
    with neighbour(max(os.sched_getaffinity(0))) as process:

        def busily() -> object:
            process.send_signal(signal.SIGCONT)
            try:
                return step()
            finally:
                process.send_signal(signal.SIGSTOP)

        return take_turns({"alone": step, "beside": busily}, pairs, least_seconds=0.3)


def idle(step: Step) -> float:
    """Processor seconds that the process uses in so many seconds behind a step."""
    step()
    before = time.process_time()
    time.sleep(IDLE_SECONDS)
    return time.process_time() - before


def measure(name: str, threads: int, pairs: int) -> dict[str, Any]:
    one, all_of_them = Step(name, 1), Step(name, threads)
    peaks = [Peak(1), Peak(threads)]

    def of_products() -> float:
        alone, together = [peak.gflops(0.02) for peak in peaks]
        return together / alone

    turns = take_turns({"one": one, "all": all_of_them}, pairs, least_seconds=0.05, gauge=of_products)
    ratios = turns.ratios("one", "all")
    shared = beside(all_of_them, max(4, pairs // 2))
    slower = shared.ratios("beside", "alone")
    return {
        "net": name,
        "ms on one": 1e3 * turns.median("one"),
        "ms on all": 1e3 * turns.median("all"),
        "ratio": median(ratios),
        "lower quartile": quantile(ratios, 0.25),
        "FMA ratio": median(turns.gauge),
        "idle cpu seconds": idle(all_of_them),
        "ms alone": 1e3 * shared.median("alone"),
        "ms beside": 1e3 * shared.median("beside"),
        "slower": median(slower),
        "FMA ratios": turns.gauge,
        "seconds": {**turns.seconds, **shared.seconds},
    }


def main() -> None:
    parser = arguments("Steps on one thread and on all, the processor time of an idle pool, and steps beside a busy process.")
    parser.add_argument("--nets", default="vgg,resnet18", help="which, separated by commas")
    parser.add_argument("--pairs", type=int, default=20, help="turns")
    options = parser.parse_args()
    options.threads = options.threads or fastnn.get_num_threads()
    if options.threads < 2:
        parser.error("there is one thread only: --threads 2")
    device.use(options)
    report, n = Report("threads", options), options.threads
    report.say(f"\nratio: one thread / {n} threads, by pairs; FMA: of a loop of multiply-adds in the same turns; idle: processor time of")
    report.say(
        f"{IDLE_SECONDS:.0f} s behind a step; slower: beside a busy process on one core / alone. Shared evenly it leaves {n - 0.5:.1f} of {n} cores:"
    )
    report.say(f"{n / (n - 0.5):.2f} where blocks of work go to whoever is free,")
    report.say("2.00 where each thread has its fixed part.")
    for line in (
        ("net", "1 thread", f"{n} threads", "ratio", "quartile", "FMA", "idle", "alone", "beside", "slower"),
        ("", "ms", "ms", "median", "lower", "median", "cpu seconds", "ms", "ms", "median"),
    ):
        report.line(line, WIDTHS)
    for name in options.nets.split(","):
        r = report.earlier(net=name) or measure(name, n, options.pairs)
        report.line(
            (
                name, f"{r['ms on one']:.1f}", f"{r['ms on all']:.1f}", f"{r['ratio']:.2f}", f"{r['lower quartile']:.2f}", f"{r['FMA ratio']:.2f}",
                f"{r['idle cpu seconds']:.3f}", f"{r['ms alone']:.1f}", f"{r['ms beside']:.1f}", f"{r['slower']:.2f}",
            ),
            WIDTHS,
        )  # fmt: skip
        report.rows.append(r)
        report.save()
    report.write()


if __name__ == "__main__":
    main()
