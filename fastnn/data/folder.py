"""Folders of photos: one sub-folder for each class, the class is the folder's name."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, NoReturn

import numpy as np

from .. import _C
from ..arguments import flag, instance, integer, items, number
from ..arguments import path as checked_path
from ..described import plural
from ..files import memory_for, reads
from .dataset import ArrayDataset, Dataset, checked_classes, checked_resize, split
from .items import ItemDataset
from .resize import Resize, each

Path = str | os.PathLike[str]
Skipped = list[tuple[str, str]]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MOST_DECODED_BYTES = 2 << 30  # of images that are decoded once and kept
_ARRAYS = (".npy", ".npz", ".gz", ".tgz", "-ubyte")
_CURVES, _OF_A_RUN = "curves.png", ("history.jsonl", "checkpoint.safetensors", "model.safetensors", "steps.jsonl")
_PARTS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}


@dataclass
class Sets:
    """What was found: the sets for training, validation and the test (None where there is none), how they came about in words, and which
    files were skipped (path, reason) because they are no whole images."""

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    origin: str
    skipped: Skipped = field(default_factory=list)

    def __iter__(self) -> NoReturn:
        raise TypeError("Sets: sets.train, sets.validation and sets.test are its data sets, None where there is none")


_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)  # links to nowhere, to themselves; pipes


class ImageFiles:
    """Image files with labels, decoded when asked for: `files[i]` is (image, label). A source of ItemDataset; `decoded()` reads all at once."""

    def __init__(self, paths: Sequence[Any], labels: Sequence[int], classes: Sequence[str] | None, resize: Resize) -> None:
        self.paths = items("ImageFiles", "paths", paths, "paths of image files")
        for one in self.paths:
            checked_path("ImageFiles", "paths", one)
        self.resize = resize
        instance("ImageFiles", "resize", resize, Resize, "a data.Resize")
        self.labels = np.array(
            [integer("ImageFiles", "labels", label, 0) for label in items("ImageFiles", "labels", labels, "class numbers")], np.int64
        )
        if len(self.labels) != len(self.paths):
            raise ValueError(f"ImageFiles: {len(self.paths)} paths and {len(self.labels)} labels; expected as many")
        self.classes = checked_classes("ImageFiles", classes)
        self.workers = _C.get_num_threads()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        if not -len(self) <= integer("ImageFiles", "i", i) < len(self):
            raise IndexError(f"ImageFiles: there is no file {i}; there are {len(self)}, counted from 0")
        return self.resize(self.paths[i]), int(self.labels[i])

    def decoded(self, progress: bool = False) -> ArrayDataset:
        """All of them in memory, as bytes; with a progress bar, on a terminal."""
        channels, height, width = self.resize.shape
        title = "reading images" if flag("ImageFiles.decoded", "progress", progress) else None
        with memory_for(self.paths[0] if self.paths else "", "read with all the others"):
            images = np.empty((len(self), height, width, channels), np.uint8)

            def fill(i: int) -> None:
                images[i] = self.resize(self.paths[i]).transpose(1, 2, 0)

            each(len(self), fill, title)
            return ArrayDataset(images.transpose(0, 3, 1, 2), self.labels, self.classes, resize=self.resize)

    def without_broken(self) -> tuple[ImageFiles, Skipped]:
        """Those that are whole images, and the others with the reason."""
        reasons: dict[int, str] = {}

        def look(i: int) -> None:
            try:
                self.resize(self.paths[i])
            except (ValueError, OSError) as error:
                if isinstance(error, OSError) and error.errno not in _NO_FILE:
                    raise
                reasons[i] = str(error)

        each(len(self), look)
        whole = [i for i in range(len(self)) if i not in reasons]
        kept = ImageFiles([self.paths[i] for i in whole], self.labels[whole].tolist(), self.classes, self.resize)
        return kept, [(self.paths[i], reasons[i]) for i in sorted(reasons)]


@reads
def image_folder(
    path: Path,
    size: int | Sequence[int] = 64,
    *,
    channels: int = 3,
    resize: Resize | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    keep: bool | None = None,
    skip_broken: bool = False,
    progress: bool = False,
) -> Sets:
    """`Sets` of the photos in a folder: path/CLASS/*.jpg, or path/train/CLASS/*.jpg beside path/val/CLASS/... and path/test/CLASS/...

    Classes are the names of the folders, sorted; images lie in them at any depth, behind links too, other files are passed over. Every image becomes
    `size` x `size` (or (H, W)) by the rule `Resize(size, channels=channels)`, or by the `resize` given. Where neither val nor test is there
    with classes inside, a `test_fraction` of each class, drawn by `seed`, is kept for the test. Folders of images beside train that are no such
    part (a test/ whose images lie in no class) are left out, with a warning that names them. keep: decode all images once and hold them as bytes (True), or
    decode each batch anew in the Loader's threads (False); left out, up to 2 GiB are held. progress: a bar while they are read, on a terminal.

    Raises ValueError naming the file that is no whole image (skip_broken=True passes over them, and over pipes and links to nowhere, and lists
    them in `skipped`), the folder without images, the class that training does not have, or the folder of which it is not clear whether it is a
    part or a class; OSError for a file that cannot be read, FileNotFoundError when there is no such folder. Needs Pillow.
    """
    root, rule = checked_path("image_folder", "path", path), checked_resize("image_folder", resize) or Resize(size, channels=channels)
    number("image_folder", "test_fraction", test_fraction, "(0, 1)"), integer("image_folder", "seed", seed, 0, 2**63)
    for name, value in (("skip_broken", skip_broken), ("progress", progress), *([("keep", keep)] if keep is not None else [])):
        flag("image_folder", name, value)
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{root}: there is no such folder; expected one with a sub-folder of images for each class")
    parts = parts_of(root)
    classes = data_folders(parts.get("train", root))
    skipped: Skipped = []
    if len(classes) == 1:
        raise ValueError(f"{parts.get('train', root)}: has one sub-folder, {classes[0]}; expected one for each of two or more classes")

    def read(folder: str) -> Dataset:
        return _read(folder, classes, rule, keep, skipped if skip_broken else None, progress)

    names = ", ".join(f"{os.path.basename(folder)}/" for folder in parts.values())
    if left := _left_out(root, parts):
        warnings.warn(
            f"{', '.join(left)}: left out, no val or test folder with a sub-folder of images for each class; the photos in {names} are used",
            stacklevel=3,  # above what reads() puts around this
        )
    if len(parts) < 2:
        rest, test = _with_test(parts.get("train", root), read(parts.get("train", root)), test_fraction, seed)
        where = f" in {names}" if parts else ""
        return Sets(rest, None, test, f"a folder of photos{where}, {test_fraction:.0%} of each class kept for the test", skipped)
    sets = {part: read(folder) for part, folder in parts.items()}
    return Sets(sets["train"], sets.get("validation"), sets.get("test"), f"a folder of photos in {names}", skipped)


def parts_of(root: str) -> dict[str, str]:
    """{"train": folder, "validation": ..., "test": ...} as far as they are there, train alone where no other has classes inside; empty when the
    classes lie directly in `root`. ValueError where neither is clear."""
    parts: dict[str, str] = {}
    for part, names in _PARTS.items():
        there = [os.path.join(root, name) for name in data_folders(root) if name.lower() in names]
        there = [folder for folder in there if data_folders(folder)]  # with classes inside; else it is a class of that name
        if len(there) > 1:
            raise ValueError(f"{root}: has {' and '.join(os.path.basename(folder) for folder in there)}; expected one of them")
        if there:
            parts[part] = there[0]
    if parts and "train" not in parts:
        raise ValueError(f"{root}: has {', '.join(os.path.basename(f) for f in parts.values())} but no train folder beside it")
    return parts if len(parts) > 1 or _train_alone(root, parts.get("train")) else {}


def _train_alone(root: str, train: str | None) -> bool:
    """Whether the classes lie in `train`, the other folders being no parts; else they lie in `root`."""
    beside = [name for name in data_folders(root) if train != os.path.join(root, name) and holds_images(os.path.join(root, name))]
    classes = [name for name in data_folders(train) if holds_images(os.path.join(train, name))] if train else []
    others = [name for name in beside if not any(name.lower() in names for names in _PARTS.values())]
    if train and len(classes) > 1 and others:
        name = os.path.basename(train)
        raise ValueError(
            f"{root}: {name}/ has the sub-folders of images {', '.join(classes)}, and {others[0]}/ beside it is no val or test folder: give {train} "
            f"itself if these are the classes; if {name} is one, move its images up out of them"
        )
    if not classes and not others and len(beside) + bool(train) > 1:
        parts = sorted([*beside, *([os.path.basename(train)] if train else [])])
        raise ValueError(
            f"{root}: {', '.join(parts)} hold no sub-folder of images for each class, which alone says what an image shows; "
            f"expected {os.path.join(root, 'train', 'CLASS')} with those of one class"
        )
    return bool(classes) and not others


def _left_out(root: str, parts: dict[str, str]) -> list[str]:
    """The folders of images beside the parts."""
    beside = [os.path.join(root, name) for name in data_folders(root)] if parts else []
    return [folder for folder in beside if folder not in parts.values() and holds_images(folder)]


def data_folders(folder: str) -> list[str]:
    """The names of the visible folders inside, sorted, without those in which only results of trainings lie: `fastnn train .` puts its own there."""
    return [name for name in subfolders(folder) if not _of_runs(os.path.join(folder, name))]


def _of_runs(folder: str) -> bool:
    below, run = [folder], False
    while below:
        here = below.pop()
        run = run or _is_run(here)
        with os.scandir(here) as entries:  # a class is left at its first photo, it may have many
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif entry.name.lower().endswith((*EXTENSIONS, *_ARRAYS)) and not _is_of_a_run(entry.path):
                    return False
    return run


def _is_run(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in _OF_A_RUN)


def _is_of_a_run(image: str) -> bool:
    """The one picture that a training draws is no photo of the class in whose folder it was told to write."""
    return os.path.basename(image) == _CURVES and _is_run(os.path.dirname(image))


def subfolders(folder: str) -> list[str]:
    """The names of the visible folders inside, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and _counts(entry.name))


def _counts(name: str) -> bool:
    """Whether a folder of this name is the user's, not one that a program has put there unasked. A class may be called __background__."""
    return not name.startswith(".") and name not in ("__MACOSX", "__pycache__")


def images_below(folder: str) -> list[str]:
    """The paths of the image files in a folder and below it, sorted."""
    return sorted(image for image in _images_below(folder) if not _is_of_a_run(image))


def holds_images(folder: str) -> bool:
    """Whether an image file lies in a folder or below it."""
    return any(not _is_of_a_run(image) for image in _images_below(folder))


def _images_below(folder: str) -> Iterator[str]:
    """Through links too, as where photos are sorted by links to them; each folder once, and none by a link up to what it lies in."""
    seen: set[str] = set()
    for where, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real, above = os.path.realpath(where), os.path.realpath(os.path.dirname(where))
        if real in seen or (where != folder and os.path.join(above, "").startswith(os.path.join(real, ""))):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if _counts(name))
        yield from (os.path.join(where, name) for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith("."))


def _refuse(error: OSError) -> None:
    """A folder that cannot be read: without this its images would be missing, and nobody told. One that is not there has none."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _read(folder: str, classes: list[str], rule: Resize, keep: bool | None, skipped: Skipped | None, progress: bool) -> Dataset:
    unknown = [name for name in data_folders(folder) if name not in classes and images_below(os.path.join(folder, name))]
    if unknown:
        raise ValueError(f"{os.path.join(folder, unknown[0])}: the training set has no class of that name; it has {', '.join(classes)}")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        inside = images_below(os.path.join(folder, name))
        paths, labels = paths + inside, labels + [label] * len(inside)
    files, broken = ImageFiles(paths, labels, classes, rule), list[tuple[str, str]]()
    if skipped is not None:
        files, broken = files.without_broken()
        skipped += broken
    _check_classes(folder, files, broken)
    kept = keep if keep is not None else len(files) * int(np.prod(rule.shape)) <= MOST_DECODED_BYTES
    return files.decoded(progress) if kept else ItemDataset(files)


def _with_test(folder: str, whole: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """(training, test), neither empty, with photos of each class to train on."""
    part, least = round(fraction * len(whole)), int(0.5 / min(fraction, 1 - fraction)) + 1
    if not 0 < part < len(whole):
        raise ValueError(
            f"{folder}: test_fraction {fraction:g} of {plural(len(whole), 'photo')} keeps {part} for the test, {len(whole) - part} for training; "
            f"expected at least {least} photos, or train and test folders"
        )
    rest, test = split(whole, fraction, seed)
    for label, name in enumerate(whole.classes or ()):
        if label not in rest.labels:
            held = plural(int((whole.labels == label).sum()), "photo")
            raise ValueError(
                f"{os.path.join(folder, name)}: test_fraction {fraction:g} keeps for the test all of its {held}; "
                f"expected at least {ceil(1 / (1 - fraction))}, for one to be left for training"
            )
    return rest, test


def _check_classes(folder: str, files: ImageFiles, broken: Skipped) -> None:
    if not files.classes:
        raise ValueError(f"{folder}: has no sub-folders; expected one with images for each class")
    if not len(files):
        raise ValueError(f"{folder}: its folders {', '.join(files.classes)} hold {_none(folder, broken)}")
    absent = [name for label, name in enumerate(files.classes) if label not in files.labels]
    if absent and os.path.basename(folder).lower() not in (*_PARTS["validation"], *_PARTS["test"]):
        inside = os.path.join(folder, absent[0])
        raise ValueError(f"{inside}: holds {_none(inside, broken)}")


def _none(folder: str, broken: Skipped) -> str:
    """What was looked for, or what was skipped."""
    reasons = [reason for path, reason in broken if path.startswith(os.path.join(folder, ""))]
    if reasons:
        return f"no whole image: {plural(len(reasons), 'file')} skipped, the first {reasons[0]}"
    return f"no images ({', '.join(EXTENSIONS)}); expected those of one class"
