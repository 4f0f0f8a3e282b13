"""fastnn info."""

from __future__ import annotations

import argparse


def info(options: argparse.Namespace) -> None:
    """Prints what was picked (instruction set, threads) and why."""
    from ..config import show_config

    print(show_config())
