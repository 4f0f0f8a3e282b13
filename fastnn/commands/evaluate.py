"""fastnn evaluate and predict: what saved models say of images."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .data import load, names_of_photos
from .defaults import RECIPES
from .said import say

if TYPE_CHECKING:
    from ..train import Trained, View


def evaluate(options: argparse.Namespace) -> None:
    """Prints loss and accuracy of a saved model on a test set, and how well it knows each class; of several models those of their averaged
    probabilities."""
    from .. import figures
    from ..train import Ensemble, load_model

    if options.plot is not None:
        options.plot = figures.checked(options.plot)
    several = [load_model(file) for file in options.model_files]
    trained, *others = several
    known = trained.notes.get("dataset")
    notes = trained.notes if isinstance(known, str) and known in RECIPES else {}  # else they are a program's own
    dataset = options.dataset or notes.get("dataset")
    if dataset is None:
        raise ValueError(f"{options.model_files[0]} does not say what it was trained on: add --dataset, one of {', '.join(RECIPES)}")
    for file, other in zip(options.model_files[1:], others):
        if (theirs := other.notes.get("dataset", dataset)) != dataset and options.dataset is None:
            raise ValueError(
                f"{file} was trained on {theirs}, {options.model_files[0]} on {dataset}: give models of one data set, or --dataset"
            )
        if other.resize != trained.resize:
            raise ValueError(
                f"{file} takes images by {other.resize}, {options.model_files[0]} by {trained.resize}: give models of one size"
            )
    if options.skip_broken and dataset != "images":
        raise ValueError(f"--skip-broken: only for folders of photos; {dataset} has images of one size")
    skip = options.skip_broken or bool(notes.get("skip_broken"))
    views = _views(options.views, several, dataset == "images")
    sets = load(dataset, options.data, resize=trained.resize, seed=notes.get("seed", 0), skip_broken=skip)
    name, part = ("test", sets.test) if sets.test is not None else ("validation", sets.validation)
    assert part is not None
    if "kept for the test" in sets.origin:
        drawn = [(one.notes.get("photos"), one.notes.get("seed", 0)) for one in several]
        if set(drawn) != {(names_of_photos(options.data, sets), notes.get("seed", 0))}:
            say(f"not the photos of the training: the {len(part)} drawn for the test may be some that the model was trained on", 0)
    judged: Any = Ensemble(several) if others or views else trained
    averaged = {"views": views} if views else {}
    report = judged.report(part, **averaged) if options.per_class or options.plot is not None else None
    result = judged.evaluate(part, **averaged) if report is None else report.evaluated
    of = f" by {len(several)} models" if others else ""
    of += f", {len(views)} views of each" if views else ""
    print(f"{name} loss {result['loss']:.4f}\n{name} accuracy {100 * result['accuracy']:.1f} % of {len(part):,} images{of}")
    if report is not None and options.plot is not None:
        print(f"confusion matrix  {_drawn(report.plot, options.plot)}")
    if options.per_class:
        print(f"\n{report}")


def _drawn(plot: Callable[[str], None], path: str) -> str:
    """Where the picture is. A matplotlib that is set up to draw by what is not there (TeX, a notebook) raises anything."""
    try:
        plot(path)
    except (OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"--plot: matplotlib cannot draw: {' '.join(str(error).split())[:200]}") from error
    return path


def predict(options: argparse.Namespace) -> None:
    """Prints the most probable classes of image files, as a saved model sees them."""
    from ..train import load_model

    trained = load_model(options.model_file)
    trained.model.to(options.device)
    if trained.classes is None:
        say(f"{options.model_file} names no classes; their numbers are given", 0)
    views = _views(options.views, [trained], True)
    ranked = trained.top(trained.predict(options.images, views=views), options.top)
    if options.json:
        found = [[{"class": name, "probability": p if math.isfinite(p) else None} for name, p in row] for row in ranked]  # JSON has no NaN
        print(json.dumps([{"file": file, "predictions": row} for file, row in zip(options.images, found)], indent=1))
        return
    for file, row in zip(options.images, ranked):
        print("\n".join([file, *(f"  {100 * probability:5.1f} %  {name}" for name, probability in row)]))


def _views(name: str, several: Sequence[Trained], photos: bool) -> list[View] | None:
    """What each image is seen as; for ten crops the models' rule for photos is changed: 256 pixels instead of 224, as AlexNet had it."""
    from ..data import Flip, Resize
    from ..train import six_views, ten_crops

    if name == "ten":
        resize = several[0].resize
        if not photos or resize is None:
            raise ValueError(
                "--views ten: crops are cut out of larger images, which there are of photos alone; mirror and six work for all"
            )
        for one in several:
            one.resize = Resize(**{**resize.state(), "size": [round(n * 256 / 224) for n in resize.size]})
        return ten_crops(resize.size)
    return six_views() if name == "six" else [(1.0, []), (1.0, [Flip(1.0)])] if name == "mirror" else None
