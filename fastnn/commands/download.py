"""`fastnn download`: public data sets, fetched because somebody asks."""

from __future__ import annotations

import argparse
import shlex


def download(options: argparse.Namespace) -> None:
    """Fetches a public data set into a folder of its name, checks each file's size and SHA-256, and says what to call next. What is there already is
    looked at and kept; after a cut connection the same command goes on where it stopped."""
    from ..data.public import download, usual_root

    folder = download(options.name, options.root, url=options.url)
    name, quoted = options.name.replace("-", "_"), shlex.quote(folder)
    train = options.name if options.root is None and usual_root() != "data" else f"{options.name} --data {quoted}"
    print(f"{folder}: {options.name}, whole, as it was published\ntrain:     fastnn train {train}")
    print(f"in Python: train, test = fastnn.data.{name}({folder!r})")
