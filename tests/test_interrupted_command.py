"""Ctrl-C and SIGTERM at any moment of the command `fastnn`: while it is imported, while it reads, trains, tests and writes, and when all is
done: one line, the exit code 130 or 143, and files that are whole."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import command

from fastnn import files
from fastnn.train import load_model

BOTH = [signal.SIGINT, signal.SIGTERM]
AGAIN = "fastnn train digits --resume"
ROOT = Path(__file__).resolve().parent.parent
TRAIN = ("train", "digits", "--model", "linear", "--epochs", "1", "--threads", "1")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def script(name: str = "fastnn", entry: str | None = None) -> str:
    """What pip writes into bin for the entry in pyproject.toml."""
    [declared] = re.findall(r'^fastnn = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    module, function = (entry or declared).split(":")
    lines = [
        "import re, sys",
        f"from {module} import {function}",
        "if __name__ == '__main__':",
        "    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])",
        f"    sys.exit({function}())",
    ]
    os.makedirs("bin", exist_ok=True)
    Path("bin", name).write_text("\n".join(lines))
    return f"bin/{name}"


def at_import(module: str, action: str, *given: object) -> dict[str, str]:
    """The environment of a Python that does this when it looks for the module, before it runs anything of ours."""
    os.makedirs("site", exist_ok=True)
    Path("site/sitecustomize.py").write_text(f"""
import os, signal, sys

class Finder:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(Finder)
            {action}

sys.meta_path.insert(0, Finder)
""")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(["site", os.environ["PYTHONPATH"]])}


def ends(start: list[str], environment: dict[str, str], number: int, words: str = "interrupted", out: str = "") -> None:
    done = subprocess.run([sys.executable, *start], env=environment, capture_output=True, text=True)
    assert done.returncode == 128 + number and re.fullmatch(f"fastnn: {words}\n", done.stderr), done
    assert re.search(out, done.stdout) if out else not done.stdout


# --- while it is imported

FIRST = ["numpy", "fastnn._C", "fastnn.tensor", "fastnn.cli", "fastnn.commands", "fastnn.commands.options"]  # before main runs
LATER = ["fastnn.error_words", "fastnn.models", "fastnn.optim.presets", "fastnn.config"]  # from its first line on


@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("module", FIRST + LATER)
def test_at_an_import(module: str, number: int) -> None:
    environment = at_import(module, f"os.kill(os.getpid(), {number})")
    ends(["-m", "fastnn", "info"], environment, number)
    if module in FIRST:
        ends([script(), "info"], environment, number)


@pytest.mark.parametrize("module", FIRST)
def test_where_an_interrupt_would_come_out_as_another_error(module: str) -> None:
    """As in numpy, whose compiled part turns it into an ImportError."""
    raising = "try: os.kill(os.getpid(), signal.SIGINT)\n            except BaseException: raise ImportError('a failure of numpy')"
    ends(["-m", "fastnn", "info"], at_import(module, raising), signal.SIGINT)


@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("error", ["ImportError", "AttributeError", "SystemError"])
def test_an_import_that_fails_when_interrupted(error: str, number: int) -> None:
    failing = f"try: os.kill(os.getpid(), {number})\n            except BaseException: raise {error}('partially initialized')"
    ends(["-m", "fastnn", "info"], at_import("fastnn.models", failing), number)


@pytest.mark.parametrize("number", BOTH)
def test_an_interrupt_that_others_passed_over(number: int) -> None:
    """As Python does with what is raised in a __del__: a training notices at its first step, everything else at its end."""
    swallowing = f"try: os.kill(os.getpid(), {number})\n            except BaseException: pass"
    environment = at_import("fastnn.models", swallowing)
    ends(["-m", "fastnn", "info"], environment, number, out="instruction set")
    ends(["-m", "fastnn", *TRAIN], environment, number, r"interrupted in epoch 1, after batch 1 of 41; go on with: .*--resume", "^digits: ")


@pytest.mark.parametrize("seconds", [0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8])
def test_some_time_after_its_first_line(seconds: float) -> None:
    """Wherever it is then; the words are those of a training where that has begun."""
    ours, theirs = os.pipe()
    environment = at_import("fastnn._C", f"os.write({theirs}, b'here')")
    with command("train", "digits", "--epochs", "500", "--threads", "1", env=environment, pass_fds=[theirs]) as process:
        assert os.read(ours, 4) == b"here"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    os.close(ours), os.close(theirs)
    assert process.returncode == 130 and re.fullmatch("fastnn: interrupted.*\n", _without_progress(err)), err


def _without_progress(err: str) -> str:
    return err.split("\r")[-1].lstrip()


def test_ignored_signals_stay_ignored() -> None:
    """nohup, and shells that start a job in the background."""
    environment = at_import("fastnn._C", "os.kill(os.getpid(), signal.SIGINT)")
    done = subprocess.run(
        ["bash", "-c", 'trap "" INT; "$@"', "bash", sys.executable, "-m", "fastnn", "info"], env=environment, capture_output=True
    )
    assert done.returncode == 0 and done.stdout and not done.stderr


def test_a_standard_error_that_is_closed() -> None:
    environment = at_import("fastnn._C", "os.kill(os.getpid(), signal.SIGINT)")
    start = ["bash", "-c", 'exec "$@" 2>&-', "bash", sys.executable, "-m", "fastnn", "info"]
    assert subprocess.run(start, env=environment).returncode == 130


SHOW = "import fastnn, signal; print(signal.getsignal(2) is signal.default_int_handler, signal.getsignal(15) is signal.SIG_DFL)"


@pytest.mark.parametrize("how", ["-c", "a script", "a script of its name", "-m"])
def test_programs_that_import_fastnn_keep_their_handlers(how: str) -> None:
    Path("bin").mkdir()
    for name in ("other.py", "fastnn", "bin/fastnn"):
        Path(name).write_text(SHOW)
    start = {"-c": ["-c", SHOW], "a script": ["other.py"], "a script of its name": ["bin/fastnn"], "-m": ["-m", "other", "fastnn"]}[how]
    done = subprocess.run([sys.executable, *start], capture_output=True, text=True)
    assert done.stdout == "True True\n", done


# --- while it reads and trains


def has_open(process: int, name: str) -> bool:
    with suppress(OSError):  # closed meanwhile
        return any(os.path.basename(os.readlink(file)) == name for file in Path(f"/proc/{process}/fd").iterdir())
    return False


@pytest.mark.parametrize("number", BOTH)
def test_while_the_data_are_read(number: int) -> None:
    images = np.zeros((200_000, 1, 32, 32), np.uint8)  # takes a while to unpack
    np.savez_compressed("slow.npz", train_images=images, train_labels=np.zeros(200_000, np.uint8))
    with command("train", "arrays", "--data", "slow.npz") as process:
        while process.poll() is None and not has_open(process.pid, "slow.npz"):
            time.sleep(0.001)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number and err == "fastnn: interrupted\n"
    assert os.listdir() == ["slow.npz"]


def test_sigterm_in_an_epoch() -> None:
    with command("train", "digits", "--model", "linear", "--epochs", "500", "--threads", "1") as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if re.match(r" +1 ", line):
                process.send_signal(signal.SIGTERM)
                break
        process.stdout.read()
        err = process.stderr.read()
    assert process.returncode == 143
    [[epoch, batch]] = re.findall(
        r"^fastnn: interrupted in epoch (\d+), after batch (\d+) of 41; go on with: fastnn train digits --resume\n$", err
    )
    notes = files.read("runs/digits/checkpoint.safetensors")[1]
    assert (notes["epoch"] + 1, notes["batch"]) == (int(epoch), int(batch))


# --- from the last epoch on


CHILD = """
import functools, importlib, os, sys
from fastnn import __main__

def watch(place, when, *numbers):
    module, names = place.split(":")
    *owners, name = names.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    real = getattr(owner, name)

    def send(moment):
        if moment == when:
            for number in numbers:
                os.kill(os.getpid(), number)

    def sending(*arguments, **keywords):
        setattr(owner, name, real)
        send("before")
        result = real(*arguments, **keywords)
        send("behind")
        return result

    setattr(owner, name, sending)
"""


def run_with(*sends: tuple[Any, ...]) -> subprocess.CompletedProcess[str]:
    """A short training that sends itself signals before a function is called for the first time, or behind its return: (place, when, *signals)."""
    watching = [f"watch({place!r}, {when!r}, *{[int(number) for number in numbers]})" for place, when, *numbers in sends]
    code = "\n".join([CHILD, *watching, f"sys.argv[1:] = {TRAIN}", "sys.exit(__main__.command())"])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def results() -> list[str]:
    """The files that are there, each of them whole."""
    there = sorted(os.listdir("runs/digits"))
    if "model.safetensors" in there:
        load_model("runs/digits/model.safetensors")
    if "curves.png" in there:
        assert Path("runs/digits/curves.png").read_bytes().endswith(b"IEND\xaeB`\x82")
    assert [json.loads(line)["epoch"] for line in Path("runs/digits/history.jsonl").read_text().splitlines()] == [1]
    return there


EVERYTHING = ["checkpoint.safetensors", "curves.png", "history.jsonl", "model.safetensors"]
PLACES = [
    ("fastnn.train.trainer:Trainer.restore_best", "before"),
    ("fastnn.commands.outcome:tested", "before"),  # its first batch ends it
    ("fastnn.commands.outcome:tested", "behind"),
    ("fastnn.commands.outcome:write_results", "before"),
    ("fastnn.train.trainer:Trainer.save_model", "behind"),
    ("fastnn.train.history:History.plot", "before"),
    ("fastnn.commands.outcome:write_results", "behind"),
]


@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize(("place", "when"), PLACES)
def test_the_results_are_written(place: str, when: str, number: int) -> None:
    done = run_with((place, when, number))
    assert done.returncode == 128 + number and results() == EVERYTHING, done
    assert _without_progress(done.stderr) == f"fastnn: interrupted at the end, after epoch 1; the model is written; go on with: {AGAIN}\n"
    assert "model    runs/digits/model.safetensors" in done.stdout
    assert ("test accuracy" in done.stdout) == ((place, when) not in PLACES[:2])


def test_a_test_that_was_cut_short_is_made_up_for() -> None:
    run_with(("fastnn.commands.outcome:tested", "before", signal.SIGTERM))
    done = subprocess.run([sys.executable, "-m", *AGAIN.split()], capture_output=True, text=True)
    assert done.returncode == 0 and "test accuracy" in done.stdout and results() == EVERYTHING


@pytest.mark.parametrize("first", BOTH)
def test_sigterm_again_changes_nothing(first: int) -> None:
    done = run_with(("fastnn.commands.outcome:write_results", "before", first, signal.SIGTERM, signal.SIGTERM))
    assert done.returncode == 128 + first and results() == EVERYTHING, done


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize(
    ("place", "when", "there"),
    [
        ("fastnn.commands.outcome:write_results", "before", EVERYTHING[:1] + EVERYTHING[2:3]),
        ("fastnn.train.checkpoint:save_model", "behind", EVERYTHING[:1] + EVERYTHING[2:]),
        ("matplotlib.backends.backend_agg:FigureCanvasAgg.print_png", "before", EVERYTHING[:1] + EVERYTHING[2:]),
    ],
)
def test_ctrl_c_again_stops_at_once_and_leaves_whole_files(place: str, when: str, there: list[str], first: int) -> None:
    done = run_with((place, when, first, signal.SIGINT))
    assert done.returncode == 130 and done.stderr.endswith("fastnn: interrupted\n") and "Traceback" not in done.stderr, done
    assert results() == there


def test_results_that_cannot_be_written_are_told() -> None:
    failing = f"os.kill(os.getpid(), {signal.SIGTERM}); raise OSError(28, 'No space left on device', 'runs/digits/curves.png')"
    words = "interrupted, then error: runs/digits/curves.png: No space left on device"
    ends(["-m", "fastnn", *TRAIN], at_import("matplotlib", failing), signal.SIGTERM, f"(?s:.*){words}", "model    ")


@pytest.mark.parametrize("number", BOTH)
def test_after_its_last_word(number: int) -> None:
    """All is printed, nothing is left to be raised in."""
    done = run_with(("fastnn.cli:main", "behind", number))
    assert done.returncode == 128 + number and done.stderr.endswith("fastnn: interrupted\n") and "Traceback" not in done.stderr, done
    assert "curves   runs/digits/curves.png" in done.stdout and results() == EVERYTHING


@pytest.mark.parametrize("number", BOTH)
def test_while_python_takes_itself_apart(number: int) -> None:
    """What a module held is gone, then its signal comes: all was done, as the code says."""
    code = f"""
import os, sys
from fastnn import __main__

class Last:
    def __del__(self, kill=os.kill, process=os.getpid(), finalizing=sys.is_finalizing, write=os.write):
        write(1, b"last" if finalizing() else b"too early")
        kill(process, {int(number)})

last = Last()
sys.argv[1:] = ["info"]
sys.exit(__main__.command())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("last") and not done.stderr, done


@pytest.mark.parametrize("number", BOTH)
def test_ctrl_c_while_the_line_of_the_first_is_printed(number: int) -> None:
    done = run_with(("fastnn.commands.outcome:tested", "before", number), ("fastnn.cli:say", "before", signal.SIGINT))
    assert done.returncode == 130 and done.stderr.endswith("fastnn: interrupted\n") and "Traceback" not in done.stderr, done
    assert results() == EVERYTHING
