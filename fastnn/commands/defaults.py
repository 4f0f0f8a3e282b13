"""What `fastnn train DATASET` does where the options do not say it: the data set's recipe, or with --resume what the run began with."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .preprocess import PREPROCESS

MIX = {"mixup": None, "cutmix": None}
STEP = {"accumulate": 1, "clip_norm": None, "ema": None, "precision": "float32"}
_DEFAULTS = {
    "optimizer": "adam",
    "schedule": "cosine",
    "val_fraction": 0.1,
    "seed": 0,
    "augment": "none",
    "weight_decay": None,
    **PREPROCESS,
    **MIX,
    **STEP,
}
_PICTURES = {**_DEFAULTS, "augment": "crop-flip"}
RECIPES: dict[str, dict[str, Any]] = {
    "digits": {**_DEFAULTS, "model": "vgg_small", "epochs": 20, "batch_size": 32, "lr": 1e-3},
    "mnist": {**_DEFAULTS, "model": "lenet", "epochs": 6, "batch_size": 64, "lr": 1e-3, "val_fraction": 0.05},
    "fashion-mnist": {**_DEFAULTS, "model": "lenet", "epochs": 6, "batch_size": 64, "lr": 1e-3, "val_fraction": 0.05},
    "idx": {**_DEFAULTS, "model": "lenet", "epochs": 10, "batch_size": 64, "lr": 1e-3},
    "arrays": {**_DEFAULTS, "model": "lenet", "epochs": 10, "batch_size": 64, "lr": 1e-3},
    "cifar10": {**_PICTURES, "model": "resnet20", "epochs": 20, "batch_size": 128, "lr": 2e-3, "val_fraction": 0.05},
    "cifar100": {**_PICTURES, "model": "resnet20", "epochs": 20, "batch_size": 128, "lr": 2e-3, "val_fraction": 0.05},
    "images": {**_PICTURES, "model": None, "epochs": 30, "batch_size": 32, "lr": 1e-3, "size": 64},
}
_MODELS_BY_SIZE = ((16, "vgg_small"), (64, "resnet20"), (2**31, "resnet18"))  # for photos: the first whose size is not below theirs


def settle(options: argparse.Namespace, checkpoint: str) -> dict[str, Any]:
    """Fills in the options that were not given: from the checkpoint with --resume, else from the data set's recipe. Returns the notes of the
    checkpoint that is there."""
    from ..train.checkpoint import notes_of

    recipe, options.given_fraction = dict(RECIPES[options.dataset]), None if options.resume else options.val_fraction
    if options.dataset == "images":
        size = options.size or recipe["size"]
        recipe["model"] = next(model for most, model in _MODELS_BY_SIZE if size <= most)
    elif options.size is not None or options.skip_broken:
        given = "--skip-broken" if options.size is None else "--size"
        raise ValueError(f"{given}: only for folders of photos; {options.dataset} has images of one size")
    exists, saved = os.path.exists(checkpoint), dict[str, Any]()
    if options.resume:
        if not exists:
            raise ValueError(f"--resume: there is no {checkpoint} to go on from")
        saved = notes_of(checkpoint)
        options.skip_broken = options.skip_broken or (options.dataset == "images" and bool(saved["notes"].get("skip_broken")))
        recipe = {
            "augment": "none",  # a run that began before there was any
            "weight_decay": None,
            **PREPROCESS,
            **MIX,
            **STEP,
            **({"precision": "bf16"} if "precision='bf16'" in saved.get("stepping", ()) else {}),  # before notes had it
            **saved["notes"],
            "epochs": saved["epochs"],  # it may have been given more than it began with
        }
        for name in ("dataset", *(name for name in RECIPES[options.dataset] if name != "epochs")):
            given = getattr(options, name)
            if name not in recipe:
                raise ValueError(f"{checkpoint} was not written by fastnn train: it does not say its {name}")
            if given is not None and given != recipe[name]:
                raise ValueError(f"--resume: {checkpoint} was started with {name.replace('_', '-')} {recipe[name]}, not {given}")
    elif exists:
        saved = notes_of(checkpoint)
        if saved["epoch"] < saved["epochs"]:
            done = f"{saved['epoch']} of {saved['epochs']} epochs are done"
            raise ValueError(f"{checkpoint} is of an unfinished run ({done}): add --resume to go on, or choose another folder with --out")
    for name, value in recipe.items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)
    return saved
