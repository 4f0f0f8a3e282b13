"""What the command line's options are made of: argparse's types, whose refusals it puts behind the option's name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def number(kind: type, low: float, high: float, words: str) -> Callable[[str], Any]:
    """A number with low <= value < high."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value < high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
        return value

    return parse


def path(text: str) -> str:
    """Where something lies, or is to."""
    if not text:
        raise argparse.ArgumentTypeError("'' is not a path")
    return text


def device(text: str) -> str:
    """The name of a device that there is; the emulated ones are opened later."""
    from .. import DeviceError
    from ..devices import resolve

    if not text.startswith("cuda-emulated"):
        try:
            resolve(text)
        except (ValueError, DeviceError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error
    return text


def steps(text: str) -> list[int]:
    """Which of a recipe's."""
    from ..tune.recipe import checked_steps

    try:
        return checked_steps("recipe", text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).partition(": ")[2]) from error
