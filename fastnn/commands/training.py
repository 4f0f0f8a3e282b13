"""The training that options of fastnn train describe: for train, and for the commands that take its arguments."""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..described import plural
from .data import load, names_of_photos, passed_over, recognise_path
from .defaults import MIX, RECIPES, STEP, settle
from .preprocess import of_first, preprocessing
from .refusals import few, refuse_lost_class, refuse_unfit_data

if TYPE_CHECKING:
    from ..data import Augmentation, Dataset, Sets
    from ..dist import Group
    from ..nn import Module
    from ..optim import Optimizer
    from ..train import Trainer

AUGMENTS = ("none", "flip", "crop-flip", "colour", "pca", "camera", "strong")


def refuse_options(command: str, options: argparse.Namespace, **reasons: str) -> None:
    """Of fastnn train, that mean nothing to another command that takes its arguments."""
    for name, why in reasons.items():
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')}: {command} {why}; leave it out")


def sets_of(options: argparse.Namespace) -> Sets:
    """The data of a command that has no run to go on from, all options settled."""
    from .. import set_num_threads

    recognise_path(options)
    settle(options, os.path.join(os.devnull, "none"))
    if options.threads:
        set_num_threads(options.threads)
    return load(options.dataset, options.data, size=options.size, seed=options.seed, skip_broken=options.skip_broken)


def words_without(words: Sequence[str], left_out: Mapping[str, int]) -> list[str]:
    """A command's words without these options and so many words behind each; an option may be shortened, as argparse has it."""
    left, kept = iter(words), list[str]()
    for word in left:
        name, equals, _ = word.partition("=")
        behind = next((n for one, n in left_out.items() if name[:2] == "--" != name and one.startswith(name)), None)
        if behind is None:
            kept.append(word)
        for _ in range(0 if equals else behind or 0):
            next(left, None)
    return kept


def prepare(
    options: argparse.Namespace, sets: Sets, checkpoint: str | None = None, group: Group | None = None
) -> tuple[Trainer, dict[str, Any]]:
    """The trainer, and what its fit takes. checkpoint: that of the run that goes on."""
    from .. import data, models, seed
    from ..train import Trainer

    refuse_unfit_data(options, sets)
    training, validation = sets.train, sets.validation
    if validation is None and options.val_fraction:
        part = round(options.val_fraction * len(training))
        if part == len(training):
            raise ValueError(f"--val-fraction: {options.val_fraction} of {part} images leaves nothing to train on")
        if part:  # else a fraction of very few
            training, validation = data.split(training, options.val_fraction, options.seed)
            refuse_lost_class(options, training, validation)
    normalize = of_first(preprocessing(options, training, checkpoint), group)
    augment = augmentation(options.augment, training)
    mix = [kind(alpha) for kind, alpha in ((data.MixUp, options.mixup), (data.CutMix, options.cutmix)) if alpha is not None]
    prepared = {"normalize": normalize, "augment": augment, "mix": mix, "device": options.device}
    loader = data.Loader(training, options.batch_size, shuffle=True, seed=options.seed, **prepared)
    seed(options.seed)
    model = models.create(options.model, input_shape=normalize.output_shape(training.shape), num_classes=training.num_classes)
    optimizer = _optimizer(options, model, options.epochs * -(-len(loader) // options.accumulate))
    step = {name: getattr(options, name) for name in STEP}
    trainer = Trainer(model, optimizer, seed=options.seed, normalize=normalize, device=options.device, group=group, **step)
    trainer.notes = {name: getattr(options, name) for name in ("dataset", *RECIPES[options.dataset])}
    trainer.notes["labels"] = zlib.crc32(training.labels.tobytes())
    if options.dataset == "images":
        trainer.notes |= {"photos": names_of_photos(options.data, sets), "skip_broken": options.skip_broken}
    replay = {"auto": "auto", "off": False}[options.replay]
    return trainer, {"train": loader, "epochs": options.epochs, "validation": validation, "replay": replay}


def augmentation(name: str, training: Dataset) -> list[Augmentation]:
    from ..data import (
        ColorJitter,
        Flip,
        GaussianNoise,
        LensDistortion,
        PCAColor,
        RandomAffine,
        RandomCrop,
        RandomErasing,
        RandomPerspective,
    )

    shape = training.shape

    def crop() -> Augmentation:
        return RandomCrop(max(1, min(shape[1:]) // 8), padding_mode="reflect")

    def jitter(by: float) -> list[Augmentation]:
        return [ColorJitter(by, by, by)] if shape[0] in (1, 3) else []

    if name == "colour":
        return [crop(), Flip(), *jitter(0.2)]
    if name == "pca":
        return [crop(), Flip(), *([PCAColor.fit(training)] if shape[0] == 3 else [])]
    if name == "camera":
        bends = [RandomPerspective(0.3, padding_mode="reflect"), LensDistortion(0.15, padding_mode="reflect")]
        white = training.resize.highest / 255 if training.of_bytes and training.resize is not None else 1.0  # of the digits 16
        return [crop(), Flip(), *bends, GaussianNoise((0.0, 0.05 * white))]
    if name == "strong":
        warp = RandomAffine(15, translate=(0.1, 0.1), scale=(0.8, 1.2), padding_mode="reflect")
        return [Flip(), warp, *jitter(0.4), RandomErasing(0.25)]
    return [] if name == "none" else [Flip()] if name == "flip" else [crop(), Flip()]


def _optimizer(options: argparse.Namespace, model: Module, steps: int) -> Optimizer:
    from ..optim.presets import OPTIMIZERS, SCHEDULES, with_decay

    optimizer = OPTIMIZERS[options.optimizer](model, SCHEDULES[options.schedule](options.lr, steps))
    return optimizer if options.weight_decay is None else with_decay(optimizer, options.weight_decay)


def description(options: argparse.Namespace, trainer: Trainer, fit: dict[str, Any], sets: Sets) -> str:
    from .. import _C, cuda

    training, validation = fit["train"].dataset, fit["validation"]
    shape = " x ".join(str(n) for n in training.shape)
    counts = f"{len(training):,} for training, {len(validation or ()):,} for validation, {len(sets.test or ()):,} for the test"
    where = f"{_C.isa()}, {_C.get_num_threads()} threads" if trainer.device == "cpu" else cuda.device_name(trainer.device)
    parameters = sum(p.size for p in trainer.model.parameters())
    augmented = f", augmented by {options.augment}" if options.augment != "none" else ""
    mixed = " or ".join(f"{name} {alpha:g}" for name in MIX if (alpha := getattr(options, name)) is not None)
    augmented += f", mixed by {mixed}" if mixed else ""
    augmented += f", prepared by {trainer.normalize}" if options.preprocess != "channels" else ""
    photos = f"{sets.origin}; classes {few(training.classes)}{passed_over(sets)}\n" if options.dataset == "images" else ""
    group = trainer.stepping.group
    where += f", {group.size} ranks" if group is not None and group.size > 1 else ""
    return (
        f"{photos}{options.dataset}: images of {shape} in {training.num_classes} classes; {counts}{augmented}\n"
        f"{options.model}: {parameters:,} parameters; {options.optimizer}, rate {options.lr:g} ({options.schedule}), batches of "
        f"{options.batch_size}, {plural(options.epochs, 'epoch')}, seed {options.seed}; {trainer.precision} on {where}"
    )
