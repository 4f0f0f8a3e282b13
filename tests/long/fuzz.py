"""Coverage-guided fuzzing of everything that reads files (tests/parsers.py).

    pip install atheris                                    # libFuzzer for Python; not among fastnn's requirements
    python tests/long/fuzz.py idx --seconds 1200           # one parser, so many of processor time; a second run goes on from what the first found
    python tests/long/fuzz.py idx --keep 12                # the smallest inputs that reach everything, into tests/corpus/idx

What is found lies in build/fuzz/PARSER (--work): inputs that reached something new, crash-* for a fault, which also ends the run. The ordinary
suite replays tests/corpus (tests/test_hostile_data.py).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
MOST_SECONDS = 20  # for one file
INSTRUMENTED = "fastnn parsers PIL tarfile zipfile pickletools gzip json numpy.lib.format numpy.lib._format_impl".split()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parser")
    parser.add_argument("--seconds", type=float, default=60, help="of processor time: waiting for others, or being stopped, does not count")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=HERE.parent.parent / "build" / "fuzz")
    parser.add_argument("--keep", type=int, metavar="N", help="no fuzzing: at most N inputs of at most 1,000 bytes into tests/corpus")
    return parser.parse_args()


def too_long(number: int, frame: FrameType | None) -> None:
    raise AssertionError(f"one file took {MOST_SECONDS} seconds of processor time")


def fuzz(name: str, seconds: float, arguments: list[str]) -> None:
    """Ends after so many seconds of processor time. libFuzzer's own limits go by the clock, which says little on a busy machine."""
    import warnings

    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import parsers
        from PIL import Image

        Image.init()  # each format has a module, which is imported when it is asked for
    warnings.simplefilter("ignore")  # Pillow's about large images: once would be enough
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def one(contents: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        parsers.run(name, contents, folder)
        if time.process_time() - begin > seconds:
            print(f"{name}: {time.process_time() - begin:.0f} seconds of processor time", flush=True)
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.kill(os.getpid(), signal.SIGUSR1)  # libFuzzer ends in good order

    signal.signal(signal.SIGPROF, too_long)
    begin = time.process_time()
    atheris.Setup([sys.argv[0], *arguments], one)
    try:
        atheris.Fuzz()  # does not return
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(chosen: argparse.Namespace, work: Path) -> None:
    """The shortest first, each that reaches a line of ours, or goes from one to another, as none before it did."""
    import parsers

    seen: set[tuple[str, int, int]] = set()
    corpus = HERE.parent / "corpus" / chosen.parser
    corpus.mkdir(parents=True, exist_ok=True)
    inputs = sorted({path.read_bytes() for folder in (work, corpus) for path in folder.iterdir()}, key=lambda one: (len(one), one))
    kept = 0
    for contents in parsers.seeds(chosen.parser) + [one for one in inputs if len(one) <= 1000]:
        with tempfile.TemporaryDirectory() as folder:
            steps = reached(lambda: parsers.run(chosen.parser, contents, Path(folder)))  # noqa: B023
        if steps - seen and kept < chosen.keep and contents not in parsers.seeds(chosen.parser):
            (corpus / hashlib.sha256(contents).hexdigest()[:12]).write_bytes(contents)
            kept += 1
        seen |= steps


def reached(task: Callable[[], object]) -> set[tuple[str, int, int]]:
    """The steps from line to line that running it takes in fastnn."""
    steps: set[tuple[str, int, int]] = set()

    def tracing(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if f"{os.sep}fastnn{os.sep}" not in frame.f_code.co_filename:
            return None
        last = frame.f_lineno

        def line(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal last
            steps.add((frame.f_code.co_filename, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        return line

    sys.settrace(tracing)
    try:
        task()
    finally:
        sys.settrace(None)
    return steps


def main() -> None:
    chosen = options()
    work = chosen.work / chosen.parser
    work.mkdir(parents=True, exist_ok=True)
    limits = ["-rss_limit_mb=2500", "-timeout=86400", f"-artifact_prefix={work}/../{chosen.parser}-"]
    if chosen.keep:
        return keep(chosen, work)
    import parsers

    for number, contents in enumerate(parsers.seeds(chosen.parser)):
        (work / f"seed-{number}").write_bytes(contents)
    known = sorted({word for one in parsers.seeds(chosen.parser) for word in re.findall(rb"[\w.\-]{3,20}", one)})
    dictionary = chosen.work / f"{chosen.parser}.dict"
    dictionary.write_text("".join(f'"{word.decode()}"\n' for word in known))
    corpus = HERE.parent / "corpus" / chosen.parser
    # a process of its own: fastnn must not be imported before it is instrumented
    words = [
        f"-seed={chosen.seed}",
        "-max_len=8192",
        "-print_final_stats=1",
        *([f"-dict={dictionary}"] if known else []),
        str(work),
    ]
    code = "import sys; sys.path.insert(0, sys.argv[1]); import fuzz; fuzz.fuzz(sys.argv[2], float(sys.argv[3]), sys.argv[4:])"
    sys.exit(
        subprocess.run(
            [sys.executable, "-c", code, str(HERE), chosen.parser, str(chosen.seconds), *limits, *words]
            + ([str(corpus)] if corpus.is_dir() else [])
        ).returncode
    )


if __name__ == "__main__":
    main()
