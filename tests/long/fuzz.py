"""Coverage-guided fuzzing of everything that reads files (tests/parsers.py).

    pip install atheris                                    # libFuzzer for Python; not among fastnn's requirements
    python tests/long/fuzz.py idx --seconds 1200           # one parser; a second run goes on from what the first found
    python tests/long/fuzz.py idx --keep 12                # the smallest inputs that reach everything, into tests/corpus/idx

What is found lies in build/fuzz/PARSER (--work): inputs that reached something new, crash-* for a fault, which also ends the run. The ordinary
suite replays tests/corpus (tests/test_corpus.py).
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
INSTRUMENTED = ["fastnn", "parsers", "tarfile", "zipfile", "pickletools", "gzip", "json", "numpy.lib.format", "numpy.lib._format_impl"]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parser")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=HERE.parent.parent / "build" / "fuzz")
    parser.add_argument("--keep", type=int, metavar="N", help="no fuzzing: at most N inputs of at most 1,000 bytes into tests/corpus")
    parser.add_argument("--merge", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def fuzz(name: str, arguments: list[str]) -> None:
    import warnings

    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import parsers
    warnings.simplefilter("ignore")  # Pillow's about large images: once would be enough
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def one(contents: bytes) -> None:
        parsers.run(name, contents, folder)

    atheris.Setup([sys.argv[0], *arguments], one)
    try:
        atheris.Fuzz()  # does not return
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(chosen: argparse.Namespace, work: Path) -> None:
    """libFuzzer's merge picks the smallest set that covers what the whole does; of it the shortest are kept."""
    with tempfile.TemporaryDirectory() as least:
        again = [sys.executable, __file__, chosen.parser, "--work", str(chosen.work), "--merge", least, str(work)]
        subprocess.run(again, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = sorted((path.read_bytes() for path in Path(least).iterdir()), key=lambda one: (len(one), one))
    corpus = HERE.parent / "corpus" / chosen.parser
    corpus.mkdir(parents=True, exist_ok=True)
    for contents in [one for one in found if len(one) <= 1000][: chosen.keep]:
        (corpus / hashlib.sha256(contents).hexdigest()[:12]).write_bytes(contents)


def main() -> None:
    chosen = options()
    work = chosen.work / chosen.parser
    work.mkdir(parents=True, exist_ok=True)
    limits = ["-rss_limit_mb=2500", "-timeout=20", f"-artifact_prefix={work}/../{chosen.parser}-"]
    if chosen.merge:
        return fuzz(chosen.parser, [*limits, "-merge=1", *chosen.merge])
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
        f"-max_total_time={chosen.seconds}",
        f"-seed={chosen.seed}",
        "-max_len=8192",
        "-print_final_stats=1",
        *([f"-dict={dictionary}"] if known else []),
        str(work),
    ]
    code = "import sys; sys.path.insert(0, sys.argv[1]); import fuzz; fuzz.fuzz(sys.argv[2], sys.argv[3:])"
    sys.exit(
        subprocess.run(
            [sys.executable, "-c", code, str(HERE), chosen.parser, *limits, *words, *([str(corpus)] if corpus.is_dir() else [])]
        ).returncode
    )


if __name__ == "__main__":
    main()
