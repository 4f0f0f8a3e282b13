"""Every public function and class with arguments drawn at random: what cannot work is refused in a way that helps."""

from __future__ import annotations

import os
import random
import resource
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bad_calls import RAW, attack, command, order, surface
from bad_calls import data as of_data
from bad_calls import nn as of_nn
from bad_calls import ops as of_ops
from bad_calls import optim as of_optim
from bad_calls import root as of_root
from bad_calls import train as of_train

import fastnn
from fastnn import cli, data, nn, ops, optim, train

FLOORS = {
    "fastnn": (of_root, (fastnn, fastnn.models, fastnn.neighbors, fastnn.cuda, fastnn.files), 40),
    "optim": (of_optim, (optim, optim.schedules), 60),
    "data": (of_data, (data,), 60),
    "train": (of_train, (train,), 60),
    "ops": (of_ops, (ops,), 40),
    "nn": (of_nn, (nn, nn.init), 40),
}  # subjects, what is public, calls of each
SUBJECTS = {floor: subjects.subjects() for floor, (subjects, _, _) in FLOORS.items()}
SEED = int(os.environ.get("FASTNN_BAD_CALLS_SEED", "7"))  # the same calls each time: others may find new texts to mend


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and 8 GiB more at most; figures of numpy that overflow are no refusals."""
    monkeypatch.chdir(tmp_path)
    fastnn.tensor(np.zeros(2**20))  # large arrays have addresses set aside, once: before the limit
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**33, before[1]))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("floor", FLOORS)
def test_good_arguments_are_good(floor: str) -> None:
    """Else nothing would be learned from the bad ones."""
    for subject in SUBJECTS[floor]:
        arguments = {name: make() for name, make in subject.good.items()}
        if subject.name in getattr(FLOORS[floor][0], "ABSENT", ()):
            with pytest.raises((FileNotFoundError, fastnn.DeviceError, TypeError)):
                subject.call(**arguments)
        else:
            subject.call(**arguments)


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
def test_bad_arguments_are_refused_in_words_that_help(floor: str) -> None:
    subjects = SUBJECTS[floor]
    rng, wrong, refused = random.Random(f"{SEED} {floor}"), [], 0
    for subject in subjects:
        for _ in range(FLOORS[floor][2]):
            outcome = attack(subject, rng)
            refused += outcome.refusal is not None
            if outcome.wrong:
                wrong.append(f"{outcome.words}\n    {outcome.refusal}\n    {outcome.wrong}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(subjects) * FLOORS[floor][2]} calls:", *wrong])
    assert refused > 0.4 * len(subjects) * FLOORS[floor][2]


def test_calls_in_any_order_are_answered_in_words_that_help() -> None:
    """Backward twice, step before backward, load before save, capture within capture, use after close, ..."""
    order.World().forward()
    rng, wrong, refused, came = random.Random(f"{SEED} order"), [], 0, set()
    for _ in range(150):
        world, names = order.World(), rng.choices(list(order.CALLS), k=4)
        for i, name in enumerate(names):
            came.add(name)
            try:
                order.CALLS[name](world)
            except Exception as error:
                refused += 1
                if said := order.wrong(error):
                    wrong.append(f"{' -> '.join(names[: i + 1])}\n    {type(error).__name__}: {error}\n    {said}")
    assert not wrong, "\n".join([f"{len(wrong)} of 600 calls:", *wrong])
    assert came == set(order.CALLS) and refused > 150


def test_the_command_line_says_in_one_line_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """Never a traceback; 2 is the code of every refusal. Every option of every command has its turn, a new one too."""
    command.files()
    rng, refused = random.Random(f"{SEED} command"), 0
    turns = [(name, option) for name, parser in command.commands().items() for option in command.options(parser)]
    for name, option in [*turns, *[("", "")] * 300]:
        words = command.words(rng, name, option)
        try:
            code = cli.main(words)
        except SystemExit as end:  # argparse
            code = end.code
        said = capsys.readouterr().err.strip()
        assert code in (0, 2), (words, code, said)
        if code == 2:
            refused += 1
            assert said.startswith("fastnn") and not RAW.search(said) and "Traceback" not in said, (words, said)
            assert len(said.splitlines()) == 1 and len(said) > 20, (words, said)
    assert len(turns) > 40 and refused > 200
