"""The data sets of the command line: what lies at a path, and where a set of a name lies."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from .defaults import RECIPES

if TYPE_CHECKING:
    from ..data import Dataset, Resize, Sets

_PLACES = {
    "arrays": "an .npz file, or a folder of .npy files, with train_images, train_labels, test_images, test_labels",
    "cifar10": "the folder of its batches, the .tar.gz, or an .npz of JPEG files",
    "cifar100": "the folder of train and test, or the .tar.gz",
    "images": "the folder of photos",
}


def recognise_path(options: argparse.Namespace) -> None:
    """Turns a path given in the place of a data set's name into its kind and --data, and says so."""
    from ..data import recognise
    from ..data.recognise import KINDS

    if options.dataset in RECIPES:
        return
    path: str = options.dataset
    if options.data is not None:
        raise ValueError(f"the data set was given twice, as {path} and as --data {options.data}")
    options.dataset, options.data = recognise(path)
    print(f"{options.data}: {KINDS[options.dataset]}")


def load(
    dataset: str,
    path: str | None,
    *,
    size: int | None = None,
    resize: Resize | None = None,
    seed: int = 0,
    skip_broken: bool = False,
) -> Sets:
    from .. import data

    if dataset == "digits":
        if path is not None:
            raise ValueError("--data: digits lie inside the package; leave it out")
        return data.Sets(*_train_and_test(data.digits()), "the digits inside the package")
    path = _folder(dataset, _place(dataset, path))
    if dataset == "images":
        return data.image_folder(path, size or 64, resize=resize, seed=seed, skip_broken=skip_broken, progress=True)
    loaders: dict[str, Callable[[str], tuple[Dataset, Dataset]]] = {
        "mnist": data.mnist,
        "fashion-mnist": data.fashion_mnist,
        "idx": data.idx,
        "arrays": data.arrays,
        "cifar10": data.cifar10,
        "cifar100": data.cifar100,
    }
    return data.Sets(*_train_and_test(loaders[dataset](path)), path)


def _folder(dataset: str, path: str) -> str:
    """Where they lie: in the folder inside, where that is all there is, as `recognise` finds them for `fastnn train PATH`."""
    from ..data import recognise

    try:
        return recognise(path)[1] if os.path.isdir(path) else path
    except ValueError:
        if dataset == "images":
            raise
        return path  # its reader says what is missing


def names_of_photos(path: str | None, sets: Sets) -> str:
    """A checksum of the names of the photos that were read."""
    from ..data.recognise import names_below

    return names_below(_folder("images", _place("images", path)), sets.skipped)


def _place(dataset: str, path: str | None) -> str:
    from ..data.public import SETS, how_to

    usual = os.path.join(os.environ["FASTNN_DATA"], dataset) if "FASTNN_DATA" in os.environ else ""
    if path is None and os.path.exists(usual):
        path = usual
    if path is None:
        here = f"; what lies here under that name is ./{dataset}" if os.path.exists(dataset) else ""
        looked = usual and f" (in $FASTNN_DATA there is no {usual})"
        fetched = f"; {how_to(dataset)}" if dataset in SETS else ""
        raise ValueError(f"{dataset} needs --data: {_PLACES.get(dataset, 'the folder of its four IDX files')}{looked}{here}{fetched}")
    return path


def _train_and_test(pair: tuple[Dataset, Dataset]) -> tuple[Dataset, None, Dataset]:
    return pair[0], None, pair[1]


def passed_over(sets: Sets) -> str:
    return f"\nskipped: {len(sets.skipped)}, the first {sets.skipped[0][1]}" if sets.skipped else ""


def short_name(dataset: str) -> str:
    """A short one, for the run on a data set of this name or at this path."""
    name = os.path.basename(os.path.abspath(dataset))
    return next((name.removesuffix(end) for end in (".npz", ".tar.gz", ".tgz") if name.endswith(end)), name)
