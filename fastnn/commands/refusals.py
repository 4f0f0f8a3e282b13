"""What `fastnn train` refuses before it begins: places where no results can lie, data that fit no model or not each other, and other data than
those of the run that is there."""

from __future__ import annotations

import argparse
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .defaults import RECIPES
from .preprocess import fitted_on

if TYPE_CHECKING:
    from ..data import Dataset, Loader, Sets

_FOR_FEATURES = ("mlp", "linear")
_MOST_CLASSES = 2**16  # without names, and with fewer samples than classes


def results(out: str) -> list[str]:
    """The files that a training writes."""
    return [os.path.join(out, name) for name in ("checkpoint.safetensors", "history.jsonl", "model.safetensors", "curves.png")]


def try_folder(out: str) -> None:
    """Whether results can be written, before the data are read, which may take long; a folder that was not there is taken away again."""
    for place in results(out):
        if os.path.isdir(place):
            raise ValueError(f"--out: {place} is a folder, where a file of the results is to be; move it away")
    new, above = list[str](), os.path.abspath(out)
    while not os.path.lexists(above):
        new.append(above)
        above = os.path.dirname(above)
    try:
        make_folder(out)
        if new:
            os.remove(results(out)[1])
    finally:
        with suppress(OSError):
            for folder in new:
                os.rmdir(folder)


def try_report(path: str | None, out: str) -> None:
    """Whether it can be written, before the training, which makes the folder `out`."""
    if path is None:
        return
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise ValueError(f"--report: {path} is a folder; give the file that is to be written, such as {os.path.join(path, 'report.html')}")
    if folder == os.path.realpath(out):
        return
    if not os.path.isdir(folder):
        raise ValueError(f"--report: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--report: nothing can be written into {folder}; choose another folder")


def make_folder(out: str) -> None:
    """With an empty history, by which it is known for a run where it lies among the folders of photos."""
    try:
        os.makedirs(out, exist_ok=True)
        if not os.path.exists(results(out)[1]):
            open(results(out)[1], "x").close()
    except OSError as error:
        raise ValueError(f"--out: cannot make the folder {out}: {error.strerror}") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise ValueError(f"--out: nothing can be written into {out}; choose another folder")


@contextmanager
def alone_in(out: str) -> Iterator[None]:
    """Of two trainings that write into one folder the second is refused: each would take the other's results for its own."""
    folder = None
    with suppress(OSError):  # it may be written, but not read
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                if folder is not None:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"--out: another fastnn train writes into {out}; wait for its end, or choose another folder") from None
        yield
    finally:
        if folder is not None:
            os.close(folder)


def refuse_unfit_data(options: argparse.Namespace, sets: Sets) -> None:
    """ValueError that names them: not after the training, when all that it found would be lost."""
    training, where = sets.train, options.data or options.dataset
    shape = training.shape
    for name, part in (("training", training), ("validation", sets.validation), ("test", sets.test)):
        if part is None:
            continue
        if not len(part):
            raise ValueError(f"{where}: the {name} set is empty")
        if part.shape != shape:
            raise ValueError(f"{where}: the {name} set has samples of shape {part.shape}, the training set {shape}; expected one shape")
        if part.of_bytes != training.of_bytes:
            kinds = ["bytes (0 to 255)" if of_bytes else "floats" for of_bytes in (part.of_bytes, training.of_bytes)]
            raise ValueError(f"{where}: the {name} set holds {kinds[0]}, the training set {kinds[1]}; give both of one kind, in one range")
    if training.num_classes < 2:
        raise ValueError(f"{where}: the training set has one class alone, which leaves nothing to learn; expected two or more")
    if training.classes is None and training.num_classes > max(_MOST_CLASSES, len(training)):
        at = training.labels.argmax()
        raise ValueError(
            f"{where}: the training set has the label {training.labels[at]} at position {at}, which makes {training.num_classes:,} classes of "
            f"{len(training):,} samples; expected class numbers without large gaps"
        )
    if options.given_fraction is not None and sets.validation is not None:
        raise ValueError(f"--val-fraction: {where} has a validation set of its own; leave it out")
    if options.augment == "colour" and len(shape) == 3 and shape[0] not in (1, 3):
        raise ValueError(f"--augment: colour is for grey and RGB images, {where} has {shape[0]} channels: --augment crop-flip")
    if len(shape) != 3 and options.model not in _FOR_FEATURES:
        raise ValueError(f"--model: {options.model} takes images, {where} has {shape[0]} features: --model {' or '.join(_FOR_FEATURES)}")
    if len(shape) != 3 and options.augment != "none":
        raise ValueError(f"--augment: {options.augment} changes images, {where} has {shape[0]} features; leave it out")
    if len(shape) != 3 and options.cutmix is not None:
        raise ValueError(f"--cutmix: a rectangle is cut out of images, {where} has {shape[0]} features; --mixup takes those")


def refuse_lost_class(options: argparse.Namespace, training: Dataset, validation: Dataset) -> None:
    """ValueError where the part that is drawn for validation takes all samples of a class that the model would not know then."""
    last = int(validation.labels.max(initial=-1))
    if last >= training.num_classes:
        raise ValueError(
            f"--val-fraction: {options.val_fraction} draws all samples of class {last} for validation, which leaves none to train on; a smaller "
            "one, another --seed, or --val-fraction 0"
        )


def refuse_other_data(
    options: argparse.Namespace, checkpoint: str, saved: Mapping[str, Any], loader: Loader, notes: Mapping[str, Any]
) -> None:
    """A run goes on with its own data alone, and those of another take no finished model's place. `saved` and `notes` are what the run that is
    there and the new one say of themselves."""
    if not saved:
        return
    here, before, training = options.data or options.dataset, saved["notes"], loader.dataset
    begun, anew = f"{checkpoint} was trained on", "name another folder with --out"
    dataset = before.get("dataset", options.dataset)
    if dataset != options.dataset and dataset in list(RECIPES):  # a program's own notes may be anything
        raise ValueError(f"{begun} {dataset}, not {options.dataset}: {anew}")
    if saved.get("classes") and training.classes and tuple(saved["classes"]) != training.classes:
        raise ValueError(f"{begun} the classes {few(saved['classes'])}; {here} has {few(training.classes)}: {anew}")
    if not options.resume:
        return
    if before.get("photos", notes.get("photos")) != notes.get("photos"):  # a run of an early version does not say them
        raise ValueError(
            f"{begun} other photos than {here} has now (some were added, removed or renamed): put them back, or begin anew and {anew}"
        )
    samples = saved["data"].get("samples", len(training))
    if samples != len(training):
        raise ValueError(f"{begun} {samples:,} samples; {here} has {len(training):,} for training: put them back, or begin anew and {anew}")
    prepared = loader.normalize
    given = training.shape if prepared is None else prepared.output_shape(training.shape)
    shape = (saved.get("architecture") or {}).get("input_shape", given)
    if tuple(shape) != given:
        raise ValueError(f"{begun} samples of shape {tuple(shape)}; {here} has {training.shape}: put them back, or begin anew and {anew}")
    normalize = None if prepared is None else prepared.state()
    other = before.get("labels", notes.get("labels")) != notes.get("labels") or saved.get("normalize", normalize) != normalize
    if other or (prepared is not None and not fitted_on(prepared, training)):
        raise ValueError(f"{begun} other images or labels than {here} has now: put them back, or begin anew and {anew}")


def few(names: Sequence[str]) -> str:
    """The first and the last of many."""
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:8])}, ... {names[-1]}"
