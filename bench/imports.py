"""What `import fastnn` costs beyond `import numpy`: `python -m bench.imports [--pairs 20]`. Processes in turns."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from .report import Report, arguments
from .timing import quantile

INSIDE = "import time, numpy; start = time.perf_counter(); import fastnn; print(time.perf_counter() - start)"


def process(code: str) -> tuple[float, str]:
    """Seconds from start to exit, and what it printed."""
    path = [entry for entry in sys.path if entry]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {code}"], cwd="/", check=True, capture_output=True, text=True
    )
    return time.perf_counter() - start, done.stdout


def main() -> None:
    import fastnn

    parser = arguments("The time of import fastnn beyond that of import numpy.")
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()
    options.threads = options.threads or fastnn.get_num_threads()
    report = Report("imports", options)
    process("import numpy, fastnn")
    pairs = [(process("import numpy")[0], process("import numpy, fastnn")[0]) for _ in range(options.pairs)]
    inside = [1e3 * float(process(INSIDE)[1]) for _ in range(options.pairs)]
    beyond = [1e3 * (b - a) for a, b in pairs]
    report.summary = {"numpy ms": 1e3 * median(a for a, _ in pairs), "beyond ms": median(beyond), "inside ms": median(inside)}
    report.rows = [{"beyond ms": b, "inside ms": i} for b, i in zip(beyond, inside)]
    report.say(f"\na process with import numpy: {report.summary['numpy ms']:.0f} ms (median of {options.pairs})")
    report.say(f"with import fastnn besides: {median(beyond):.1f} ms more, upper quartile {quantile(beyond, 0.75):.1f}")
    report.say(f"import fastnn timed inside a process that has numpy: {median(inside):.1f} ms, upper quartile {quantile(inside, 0.75):.1f}")
    report.write()


if __name__ == "__main__":
    main()
