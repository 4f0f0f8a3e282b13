"""The command line: words drawn at random for every command and option that its parser has."""

from __future__ import annotations

import argparse
import os
import random
import re
from collections.abc import Mapping

import numpy as np

from fastnn import cli
from fastnn.commands.options import parser

WORDS = (
    "",
    "a",
    "0",
    "1",
    "-1",
    "2.5",
    "nan",
    "inf",
    "1e400",
    "9" * 25,
    "cpu",
    "cuda:7",
    "absent",
    "junk",
    "folder",
    "tiny.npz",
    "é",
    "--",
    "\\0",
    "none",
    "adam",
    "linear",
    "bf16",
)


def commands() -> Mapping[str, argparse.ArgumentParser]:
    found = next(action for action in parser(cli.COMMANDS)._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def options(command: argparse.ArgumentParser) -> list[str]:
    """All but --help, and what the command tells its own children."""
    shown = [action for action in command._actions if action.option_strings and action.help is not argparse.SUPPRESS]
    return [action.option_strings[-1] for action in shown if action.option_strings[-1] != "--help"]


def files() -> None:
    """What the words name: a data set, a damaged file, a folder."""
    rng = np.random.default_rng(0)
    part = {"images": rng.integers(0, 255, (12, 1, 6, 6)).astype(np.uint8), "labels": np.arange(12) % 3}
    np.savez("tiny.npz", **{f"{name}_{kind}": values for name in ("train", "test") for kind, values in part.items()})
    with open("junk", "wb") as file:
        file.write(b"\x10" * 100)
    os.makedirs("folder")


def words(rng: random.Random, name: str = "", option: str = "") -> list[str]:
    """A command, this one or any, with this option or some: part of it is right."""
    parsers = commands()
    name = name or rng.choice(("train", "train", "train", *parsers, "nonsense"))
    if name not in parsers:
        return [name, rng.choice(WORDS)]
    count = 1 if option else rng.choice((0, 1, 1, 2))
    several = [
        word for _ in range(count) for word in _option(parsers[name], option or rng.choice([*options(parsers[name]), "--nonsense"]), rng)
    ]
    if name == "train":
        out = rng.choice(("runs", "junk"))
        dataset = "tiny.npz" if option else rng.choice(("tiny.npz", "tiny.npz", *WORDS))
        return [name, dataset, "--model", "linear", "--epochs", "1", "--out", out, *several]
    if name == "verify-resume":  # nothing that begins two trainings
        return [name, "digits" if option else rng.choice(("absent", "junk", "folder", "digits")), *several, "--out", "."]
    return [name, *(rng.choice(("junk", "tiny.npz", *WORDS)) for _ in range(rng.choice((0, 1, 1, 2)))), *several]


def _option(parser: argparse.ArgumentParser, option: str, rng: random.Random) -> list[str]:
    takes = next((action.nargs != 0 for action in parser._actions if option in action.option_strings), True)
    return [option, rng.choice(WORDS)] if takes else [option]


def names(said: str, words: list[str], option: str) -> bool:
    """Whether a refusal begins with an option, an argument or a file of these words; with no other option than this one, if there is one."""
    text = said.split("error: ", 1)[1]
    places = [
        place.metavar or place.dest for one in (parser(cli.COMMANDS), *commands().values()) for place in one._get_positional_actions()
    ]
    if option and text.startswith("argument "):
        return any(text.startswith(f"argument {one}: ") for one in (option, *places))
    listed = _LISTED.sub("", text)
    ends = "[:, ]|$" if listed != text else "[:/]"
    return any(
        re.match(re.escape(word or "''") + (r"[: ]" if word.startswith("--") else rf"({ends})"), listed) for word in (*words, *places)
    )


_LISTED = re.compile(r"(argument|the following arguments are required:|unrecognized arguments:|the data set was given twice, as) +")
