"""Every public function and class with bad arguments: what cannot work is refused in a way that helps, and what is not refused is meant."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from bad_calls import RAW, Subject, accepted, attack, command, complaint, elsewhere, order, outcome, surface
from bad_calls import data as of_data
from bad_calls import nn as of_nn
from bad_calls import ops as of_ops
from bad_calls import optim as of_optim
from bad_calls import root as of_root
from bad_calls import train as of_train
from bad_calls import tune as of_tune
from bad_calls.limit import Limit
from bad_calls.values import LEFT_OUT
from faults import in_child
from kernel_calls import GPUS

import fastnn
from fastnn import cli, data, nn, ops, optim, train, tune

FLOORS = {
    "fastnn": (
        of_root,
        (fastnn, fastnn.models, fastnn.neighbors, fastnn.cuda, fastnn.files, fastnn.dist, fastnn.interop, fastnn.interop.sklearn),
        40,
    ),
    "optim": (of_optim, (optim, optim.schedules), 60),
    "data": (of_data, (data,), 60),
    "train": (of_train, (train,), 60),
    "tune": (of_tune, (tune,), 40),
    "ops": (of_ops, (ops,), 40),
    "nn": (of_nn, (nn, nn.init), 40),
}  # subjects, what is public, calls of each
SUBJECTS = {floor: subjects.subjects() for floor, (subjects, _, _) in FLOORS.items()}
SEED = int(os.environ.get("FASTNN_BAD_CALLS_SEED", "7"))  # the same calls each time: others may find new texts to mend


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and 8 GiB more at most; figures of numpy that overflow are no refusals."""
    monkeypatch.chdir(tmp_path)
    for device in ("cpu", *GPUS):  # large arrays have addresses set aside, once, and so has a GPU: before the limit
        fastnn.tensor(np.zeros(2**20), device=device)
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**33, before[1]))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def limit(capsys: pytest.CaptureFixture[str]) -> Iterator[Limit]:
    """It speaks where pytest does not listen: what that keeps is lost with the process."""
    with capsys.disabled():
        stderr = os.dup(2)
    with Limit(stderr) as limit:
        yield limit
    os.close(stderr)


@pytest.mark.parametrize("floor", FLOORS)
def test_good_arguments_are_good(floor: str, limit: Limit) -> None:
    """Else nothing would be learned from the bad ones."""
    for subject in SUBJECTS[floor]:
        call = partial(subject.call, **{name: make() for name, make in subject.good.items()})
        if subject.name in getattr(FLOORS[floor][0], "ABSENT", ()):
            with pytest.raises((FileNotFoundError, fastnn.DeviceError, TypeError)):
                limit.call(subject.name, call)
        else:
            limit.call(subject.name, call)


@pytest.mark.parametrize("floor", FLOORS)
def test_every_public_name_and_argument_is_called(floor: str) -> None:
    """A new function, class, method or argument comes with its bad calls, or with the reason in PLAIN why there is nothing to get wrong."""
    subjects, modules, _ = FLOORS[floor]
    called: dict[str, set[str]] = {}
    for subject in SUBJECTS[floor]:
        called.setdefault(subject.name.removeprefix("models.").removeprefix("cuda.").removeprefix("files."), set()).update(subject.good)
    public = surface.shown(modules)
    exempt = {name for name in public if {name, name.split(".")[0], f"{name}()"} & set(subjects.PLAIN)}
    missing = {
        name: [argument for argument in sorted(arguments - called.get(name, set())) if f"{name}.{argument}" not in subjects.PLAIN]
        for name, arguments in public.items()
        if name not in exempt
    }
    missing = {name: arguments for name, arguments in missing.items() if arguments or name not in called}
    assert not missing, "\n".join(f"{name}: {', '.join(arguments) or 'not called'}" for name, arguments in sorted(missing.items()))
    known = {
        *public,
        *(f"{name}()" for name in public),
        *(name.split(".")[0] for name in public),
        *(f"{name}.{argument}" for name in public for argument in public[name]),
    }
    assert not (gone := set(subjects.PLAIN) - known), f"no longer there: {gone}"


@pytest.mark.parametrize("floor", FLOORS)
def test_every_bad_value_alone_is_refused_in_words_that_help_or_is_meant(floor: str, limit: Limit, tmp_path: Path) -> None:
    """All of them for every argument. What is accepted is what tests/bad_calls/accepted lists; FASTNN_BAD_CALLS_ACCEPT=1 writes it."""
    taken: accepted.Taken = {}
    wrong, calls = [], 0
    for subject, argument, name, values in accepted.alone(SUBJECTS[floor]):
        os.chdir(_empty(tmp_path / "alone"))
        for value in values:
            calls += 1
            answer = outcome(subject, {argument: value}, limit)
            if answer.wrong:
                wrong.append(f"{answer.words}\n    {answer.refusal}\n    {answer.wrong}")
            elif answer.refusal is None and value[0] != LEFT_OUT:  # an argument that may be left out is no bad value
                taken.setdefault(name, set()).add(value[0])
    if "FASTNN_BAD_CALLS_ACCEPT" in os.environ:
        accepted.write(floor, taken)
    assert not wrong, "\n".join([f"{len(wrong)} of {calls} calls:", *wrong])
    assert not (other := accepted.differences(floor, taken)), "\n".join(other)
    assert calls > 1000 and sum(map(len, taken.values())) < 0.3 * calls


@pytest.mark.parametrize("gpu", GPUS)
def test_what_lies_on_another_device_is_refused_with_both_names_or_is_meant(gpu: str, limit: Limit) -> None:
    """One Tensor, array or model there, all else on the CPU; accepted/elsewhere.txt has what is meant: x alone, labels that a loss
    fetches, what data sets keep as arrays of numpy, which are copies."""
    taken: accepted.Taken = {}
    wrong = []
    for floor in FLOORS:
        for subject, argument, value in elsewhere.calls(SUBJECTS[floor], gpu):
            answer = elsewhere.judged(subject, argument, value, gpu, limit)
            if answer.wrong:
                wrong.append(f"{answer.words}\n    {answer.refusal}\n    {answer.wrong}")
            elif answer.refusal is None:
                taken[f"{floor} {subject.name}.{argument}"] = {"another device"}
    if "FASTNN_BAD_CALLS_ACCEPT" in os.environ:
        accepted.write("elsewhere", taken)
    assert not wrong, "\n".join(wrong)
    assert not (other := accepted.differences("elsewhere", taken)), "\n".join(other)


def _empty(folder: Path) -> Path:
    """Files that one call wrote are nothing to read for the next."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@pytest.mark.parametrize("floor", FLOORS)
def test_several_bad_arguments_are_refused_in_words_that_help(floor: str, limit: Limit) -> None:
    subjects, each = SUBJECTS[floor], FLOORS[floor][2]
    rng, wrong, refused = random.Random(f"{SEED} {floor}"), [], 0
    for subject in subjects:
        for _ in range(each):
            answer = attack(subject, rng, limit)
            refused += answer.refusal is not None
            if answer.wrong:
                wrong.append(f"{answer.words}\n    {answer.refusal}\n    {answer.wrong}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(subjects) * each} calls:", *wrong])
    assert refused > 0.4 * len(subjects) * each


@pytest.mark.parametrize(
    ("error", "wrong"),
    [
        (ValueError("Linear: out_features is wrong"), "does not say what would be right"),
        (ValueError("something must be positive"), "names none of Linear, out_features"),
        (ValueError("Linear: out_features must be positive, got -1"), None),
        (FileNotFoundError("there is no such file"), "names no file"),
        (FileNotFoundError("m: there is no such file"), None),
        (fastnn.files.CorruptFile("n: its end is missing"), "names no file"),
    ],
)
def test_what_is_wanted_of_a_refusal(error: Exception, wrong: str | None) -> None:
    assert complaint(error, Subject("Linear", int, {}), {"out_features": 2}, {"out_features": -1}, ["m"]) == wrong


@pytest.mark.parametrize(
    ("error", "given", "wrong"),
    [
        (ValueError("pad: mode must be one of a, b"), {"mode": "c"}, None),
        (TypeError("pad: mode must be one of a, b"), {"mode": "c"}, "is to be a ValueError"),
        (TypeError("pad: mode must be one of a, b"), {"mode": 1j}, None),
        (ValueError("pad: mode must be one of a, b"), {"mode": 1j}, "is to be a TypeError"),
        (ValueError("pad: mode must be one of a, b"), {"mode": None}, None),
        (ValueError("pad: expected a Tensor"), {"mode": 1j, "x": np.ones(3)}, None),
        (TypeError("pad: mode must be a word, got <Thing object at 0x7f>"), {"mode": 1j}, "' object at 0x' is what happened inside"),
        (ValueError("pad: expected an image"), {"x": np.ones(3)}, "does not say which argument: x"),
        (ValueError("pad: expected x to be an image"), {"x": np.ones(3)}, None),
        (ValueError("pad: expected an image"), {"x": np.ones(3), "mode": "c"}, None),
    ],
)
def test_what_is_wanted_of_type_and_name(error: Exception, given: dict[str, object], wrong: str | None) -> None:
    good = {"x": np.ones((1, 1, 2, 2)), "frame": np.ones((2, 2)), "mode": "a"}
    assert complaint(error, Subject("pad", int, {}), good, given) == wrong


def test_calls_in_any_order_are_answered_in_words_that_help(limit: Limit) -> None:
    """Backward twice, step before backward, load before save, capture within capture, use after close, ..."""
    order.World().forward()
    rng, wrong, refused, came = random.Random(f"{SEED} order"), [], 0, set()
    for _ in range(150):
        world, names = order.World(), rng.choices(list(order.CALLS), k=4)
        for i, name in enumerate(names):
            came.add(name)
            try:
                limit.call(" -> ".join(names[: i + 1]), partial(order.CALLS[name], world))
            except Exception as error:
                refused += 1
                if said := order.wrong(error):
                    wrong.append(f"{' -> '.join(names[: i + 1])}\n    {type(error).__name__}: {error}\n    {said}")
    assert not wrong, "\n".join([f"{len(wrong)} of 600 calls:", *wrong])
    assert came == set(order.CALLS) and refused > 150


def test_the_command_line_says_in_one_line_what_is_wrong(capsys: pytest.CaptureFixture[str], limit: Limit) -> None:
    """Never a traceback; 2 is the code of every refusal. Every option of every command has its turn, a new one too."""
    command.files()
    rng, refused = random.Random(f"{SEED} command"), 0
    turns = [(name, option) for name, parser in command.commands().items() for option in command.options(parser)]
    for name, option in [*turns, *[("", "")] * 300]:
        words = command.words(rng, name, option)
        try:
            code = limit.call(f"fastnn {' '.join(words)}", partial(cli.main, words))
        except SystemExit as end:  # argparse
            code = end.code
        said = capsys.readouterr().err.strip()
        assert code in (0, 2), (words, code, said)
        if code == 2:
            refused += 1
            assert said.startswith("fastnn") and not RAW.search(said) and "Traceback" not in said, (words, said)
            assert len(said.splitlines()) == 1 and command.names(said, words, option), (words, said)
    assert len(turns) > 40 and refused > 200


def _spins(x: object) -> None:
    while True:
        pass


def _waits(x: object) -> None:
    Event().wait()


@pytest.mark.parametrize("forever", [_spins, _waits])
def test_a_call_that_does_not_return_is_named(forever: Callable[[object], None]) -> None:
    with Limit(2, 0.2) as limit:
        outcome = attack(Subject("Linear", forever, {"x": int}), random.Random(3), limit)
    assert outcome.wrong == "TakesForever is no answer"
    assert re.fullmatch(r"TakesForever: Linear\(x=.+\) has not returned after 0.2 s", str(outcome.refusal))


def test_compiled_code_that_does_not_return_is_named() -> None:
    """It does not look for signals; the process ends."""

    def hang() -> None:
        with open("stderr", "wb") as stderr, Limit(stderr.fileno(), compiled=0.3) as limit:
            limit.call("Linear(x=nan)", lambda: all(repeat(True)))

    assert in_child(hang) == 1
    assert re.search(r'Timeout.*File "Linear\(x=nan\)", line 1 in', Path("stderr").read_text(), re.S)
