"""The command line: fastnn train, find-rate, search, recipe, finetune, evaluate, predict, export, verify-resume, reproduce, download, info."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shlex
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from . import signals
from .command_data import load, names_of_photos, passed_over, recognise_path, short_name
from .command_download import download
from .command_export import export
from .command_finetune import finetune
from .command_preprocess import preprocessing
from .command_recipe import recipe
from .command_search import search
from .described import plural
from .options import Run, parser
from .recipes import MIX, RECIPES, STEP, settle
from .refusals import alone_in, few, make_folder, refuse_lost_class, refuse_other_data, refuse_unfit_data, results, try_folder, try_report

if TYPE_CHECKING:
    from .data import Augmentation, Dataset, Sets
    from .dist import Group
    from .nn import Module
    from .optim import Optimizer
    from .train import Callback, Trained, Trainer, View


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 1 where it compared and found a difference, 2 after an error (one line on stderr), 130
    after Ctrl-C, 143 after SIGTERM."""
    from . import DeviceError
    from .error_words import lost, words

    answers = signals.Answers(held=False)
    try:
        with answers.given(), warnings.catch_warnings():
            warnings.showwarning = _warn
            different = _run(arguments) is False
    except KeyboardInterrupt as error:
        return _say(f"{error}" or "interrupted", 128 + getattr(error, "signal", 2))
    except Exception as error:
        ours = isinstance(error, (ValueError, TypeError, OSError, ArithmeticError, MemoryError, ImportError, DeviceError)) or lost(error)
        told = f"error: {' '.join(words(error).split())}"
        if answers.seen:  # an import that is interrupted may fail in any way; but that results could not be written has to be said
            return _say(f"interrupted, then {told}" if isinstance(error, OSError) else "interrupted", 128 + answers.seen)
        if not ours:
            raise
        return _say(told, 2)
    if answers.seen:  # it was not raised, or what it was raised in passed over it, as Python does in a __del__
        return _say("interrupted", 128 + answers.seen)
    return int(different)


def _run(arguments: Sequence[str] | None) -> bool | None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files and classes may have letters that the terminal has not
    options = parser(COMMANDS).parse_args(arguments)
    options.words = list(sys.argv[1:] if arguments is None else arguments)[1:]
    result: bool | None = options.run(options)
    print(end="", flush=True)  # what the standard output does not take is an error here, at Python's exit it would be none
    return result


def _say(message: str, code: int) -> int:
    print(f"fastnn: {message}", file=sys.stderr)
    return code


def _warn(message: object, *_: object, **__: object) -> None:
    """Without the place in the program, which is none of the user's."""
    _say(f"warning: {' '.join(str(message).split())}", 0)


# --- the commands


def train(options: argparse.Namespace) -> None:
    """Trains a model and writes checkpoint, history, curves and the model into a folder; looks at the test set once, at the end."""
    from . import set_num_threads
    from .data.dataset import refuse_other_classes
    from .train import HistoryFile, Interrupted, ModelCheckpoint, UpdateRatios

    group = _group(options)
    launcher = ["mpirun", "-n", str(group.size)] if group.size > 1 else []
    again = shlex.join([*launcher, "fastnn", "train", options.dataset, "--resume", *_repeated(options)])
    out = options.out or os.path.join("runs", short_name(options.dataset))
    checkpoint, history_file, *_ = results(out)
    if group.first:
        try_folder(out)
        try_report(options.report, out)
    more = _more_callbacks(options, out)
    recognise_path(options)
    saved = settle(options, checkpoint)
    if options.threads:
        set_num_threads(options.threads)
    sets = load(options.dataset, options.data, size=options.size, seed=options.seed, skip_broken=options.skip_broken)
    trainer, fit = _prepare(options, sets, checkpoint if options.resume else None, group)
    refuse_other_data(options, checkpoint, saved, fit["train"], trainer.notes)
    refuse_other_classes(options.data or options.dataset, fit["train"].dataset, validation=fit["validation"], test=sets.test)
    print(_description(options, trainer, fit, sets), flush=True)
    if options.resume and saved["epoch"] >= options.epochs:
        within = f", and {plural(saved['batch'], 'batch')} of the next" if saved["batch"] else ""
        print(
            f"{plural(saved['epoch'], 'epoch')}{within} of {options.epochs} done already: nothing is left to train; a larger --epochs goes on"
        )
    if group.first:
        make_folder(out)
    measuring = [UpdateRatios()] if options.report else []  # ahead of those that write what it finds
    callbacks = [*measuring, ModelCheckpoint(checkpoint), HistoryFile(history_file), *more]
    try:
        with alone_in(out) if group.first else nullcontext(), signals.held():
            trainer.fit(**fit, callbacks=callbacks, resume=checkpoint if options.resume else None, restore_best=False)
            _finish(trainer, sets.test, fit["validation"], out, options.report)
    except Interrupted as error:
        error.args = (f"{error.where}; go on with: {again}",) if group.first else ()
        raise
    except Exception as error:
        group._fail(error)
        raise


def _group(options: argparse.Namespace) -> Group:
    """The processes that train together; of one without --distributed. The first one prints and writes."""
    from .dist import Group, init

    if not options.distributed:
        return Group()
    group = init()
    if not group.first:
        sys.stdout = open(os.devnull, "w")
        warnings.showwarning = lambda *_, **__: None
    return group


def find_rate(options: argparse.Namespace) -> None:
    """Tries out learning rates, from far too low to far too high, in a few steps of the training that these options make, and says which to take;
    with --out, draws rates.png into that folder. Arguments as for fastnn train."""
    from . import set_num_threads
    from .train import find_rate as test_of_range
    from .train.find_rate import range_for

    why = "is no training to tell of"
    alone = "tries rates in one process"
    _refuse_options("find-rate", options, resume="begins anew", why_slow="has no time to tell of", report=why, log=why, distributed=alone)
    if options.out:
        try_folder(options.out)
    recognise_path(options)
    settle(options, os.path.join(os.devnull, "none"))  # no run to go on from
    if options.threads:
        set_num_threads(options.threads)
    sets = load(options.dataset, options.data, size=options.size, seed=options.seed, skip_broken=options.skip_broken)
    trainer, fit = _prepare(options, sets)
    try:
        low, high = range_for(trainer.optimizer, options.low, options.high)
    except ValueError as error:
        raise ValueError(f"--{'high' if options.low is None else 'low'}: {error}") from None
    print(_description(options, trainer, fit, sets), flush=True)
    found = test_of_range(trainer, fit["train"], low=low, high=high, steps=options.steps, replay=fit["replay"])
    print(found)
    if found.suggestion is not None:
        print(f"go on with: fastnn train ... --lr {found.suggestion:.2g}")
    if options.out:
        make_folder(options.out)
        _draw("rates", found.plot, os.path.join(options.out, "rates.png"))


def evaluate(options: argparse.Namespace) -> None:
    """Prints loss and accuracy of a saved model on a test set, and how well it knows each class; of several models those of their averaged
    probabilities."""
    from . import figures
    from .train import Ensemble, load_model

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
            _say(f"not the photos of the training: the {len(part)} drawn for the test may be some that the model was trained on", 0)
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
    from .train import load_model

    trained = load_model(options.model_file)
    trained.model.to(options.device)
    if trained.classes is None:
        _say(f"{options.model_file} names no classes; their numbers are given", 0)
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
    from .data import Flip, Resize
    from .train import six_views, ten_crops

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


def verify_resume(options: argparse.Namespace) -> bool:
    """Trains a short run whole, and again killed at random moments and resumed, and compares all bits: arguments as for fastnn train."""
    from . import verify_resume as verifying

    if options.child:
        verifying.child(options.child, lambda: _begin_short(options))
        return True
    keeps = "keeps the steps of both runs itself"
    alone = "compares trainings of one process"
    _refuse_options(
        "verify-resume", options, resume="begins anew", why_slow="has no time to tell of", report=keeps, log=keeps, distributed=alone
    )
    return verifying.verify(options, options.words)


def _refuse_options(command: str, options: argparse.Namespace, **reasons: str) -> None:
    """Of fastnn train, that mean nothing to another command that takes its arguments."""
    for name, why in reasons.items():
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')}: {command} {why}; leave it out")


def _begin_short(options: argparse.Namespace) -> tuple[Trainer, dict[str, Any]]:
    """The training of verify-resume."""
    from . import set_num_threads
    from .devices import open_emulated
    from .verify_resume import fewer

    if options.device.startswith("cuda-emulated"):
        open_emulated(os.environ["FASTNN_CUDA_EMULATED"])
    recognise_path(options)
    options.epochs = options.epochs or 3
    settle(options, os.path.join(options.child["folder"], "none"))
    if options.threads:
        set_num_threads(options.threads)
    sets = load(options.dataset, options.data, size=options.size, seed=options.seed, skip_broken=options.skip_broken)
    return _prepare(options, fewer(sets, options.samples, options.seed))


def reproduce(options: argparse.Namespace) -> bool:
    """Repeats a bad step from the file that fastnn train left (bad-step.safetensors), op by op, and says whether it is the same again."""
    from .train.bad_step import recorded
    from .train.bad_step import reproduce as repeated

    message, before = recorded(options.file)
    print(f"then: {message}")
    found = repeated(options.file, device=options.device)
    print(f"again, op by op: {found or 'every value is finite'}")
    same = before == (None if found is None else found.state())
    if not same:
        print(f"another value than the first time: {before or 'none'}")
    return same


def info(options: argparse.Namespace) -> None:
    """Prints what was picked (instruction set, threads) and why."""
    from .config import show_config

    print(show_config())


COMMANDS: dict[str, Run] = {
    "train": train,
    "find-rate": find_rate,
    "finetune": finetune,
    "search": search,
    "recipe": recipe,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "verify-resume": verify_resume,
    "reproduce": reproduce,
    "download": download,
    "info": info,
}


# --- the steps of a training


def _more_callbacks(options: argparse.Namespace, out: str) -> list[Callback]:
    """What was asked for besides what every run writes."""
    from .train import HistoryFile, TensorBoard, WhySlow

    logs: dict[str, Callable[[], Callback]] = {
        "csv": lambda: HistoryFile(os.path.join(out, "history.csv")),
        "tensorboard": lambda: TensorBoard(os.path.join(out, "tensorboard")),
    }
    return [*(logs[kind]() for kind in dict.fromkeys(options.log)), *([WhySlow()] if options.why_slow else [])]


def _repeated(options: argparse.Namespace) -> list[str]:
    """The options that a resumed run needs again: where data and results lie, on which device, what is written besides."""
    words = [[f"--{name}", getattr(options, name)] for name in ("data", "out", "device", "report")]
    words += [["--log", kind] for kind in dict.fromkeys(options.log)]
    words = [[f"{name}={value}"] if str(value).startswith("-") else [name, value] for name, value in words if value not in (None, "cpu")]
    flags = {"--skip-broken": options.skip_broken, "--distributed": options.distributed}
    return [word for pair in words for word in pair] + [flag for flag, given in flags.items() if given]


def _prepare(
    options: argparse.Namespace, sets: Sets, checkpoint: str | None = None, group: Group | None = None
) -> tuple[Trainer, dict[str, Any]]:
    """The trainer, and what its fit takes. checkpoint: that of the run that goes on."""
    from . import data, models, seed
    from .train import Trainer

    refuse_unfit_data(options, sets)
    training, validation = sets.train, sets.validation
    if validation is None and options.val_fraction:
        part = round(options.val_fraction * len(training))
        if part == len(training):
            raise ValueError(f"--val-fraction: {options.val_fraction} of {part} images leaves nothing to train on")
        if part:  # else a fraction of very few
            training, validation = data.split(training, options.val_fraction, options.seed)
            refuse_lost_class(options, training, validation)
    normalize = preprocessing(options, training, checkpoint)
    augment = _augmentation(options.augment, training)
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


def _augmentation(name: str, training: Dataset) -> list[Augmentation]:
    from .data import ColorJitter, Flip, GaussianNoise, LensDistortion, PCAColor, RandomAffine, RandomCrop, RandomErasing, RandomPerspective

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
        return [crop(), Flip(), *bends, GaussianNoise((0.0, 0.05))]
    if name == "strong":
        warp = RandomAffine(15, translate=(0.1, 0.1), scale=(0.8, 1.2), padding_mode="reflect")
        return [Flip(), warp, *jitter(0.4), RandomErasing(0.25)]
    return [] if name == "none" else [Flip()] if name == "flip" else [crop(), Flip()]


def _optimizer(options: argparse.Namespace, model: Module, steps: int) -> Optimizer:
    from .optim.presets import OPTIMIZERS, SCHEDULES, with_decay

    optimizer = OPTIMIZERS[options.optimizer](model, SCHEDULES[options.schedule](options.lr, steps))
    return optimizer if options.weight_decay is None else with_decay(optimizer, options.weight_decay)


def _description(options: argparse.Namespace, trainer: Trainer, fit: dict[str, Any], sets: Sets) -> str:
    from . import _C, cuda

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


def _finish(trainer: Trainer, test: Dataset | None, validation: Dataset | None, out: str, report: str | None) -> None:
    """The test, which a signal cuts short, and the results, which are written whatever comes of it: a signal waits for them."""
    from .train import interrupt

    trainer.restore_best()  # not before the last checkpoint is written: that one goes on from the last weights
    try:
        try:
            print(_test(trainer, test, validation))
        finally:
            _write_results(trainer, out, report)
        interrupt.check()
    except interrupt.Interrupted as error:
        error.where = f"interrupted at the end, after epoch {trainer.epoch}; the model is written"
        raise


def _test(trainer: Trainer, test: Dataset | None, validation: Dataset | None) -> str:
    """The one look at the test set: with the best snapshot by validation, without validation with the last epoch's weights."""
    within = f", and {plural(trainer.batch, 'batch')} of the next" if trainer.batch else ""
    which = f"best epoch by validation: {trainer.best.epoch}" if trainer.best is not None else f"last epoch: {trainer.epoch}{within}"
    if test is not None:
        return f"{which}\ntest accuracy {100 * trainer.evaluate(test)['accuracy']:.1f} %"
    assert validation is not None
    return f"{which}\nvalidation accuracy {100 * trainer.evaluate(validation)['accuracy']:.1f} % (there is no test set)"


def _write_results(trainer: Trainer, out: str, report: str | None) -> None:
    from .train import report_html

    _, history_file, model, curves = results(out)
    if not trainer.stepping.writes:
        return
    trainer.save_model(model)
    trainer.history.save(history_file)
    print(f"model    {model}\nhistory  {history_file}")
    _draw("curves", trainer.history.plot, curves)
    if report is not None:
        title = f"{trainer.notes['model']} on {trainer.notes['dataset']}"
        _draw("report", lambda path: report_html(trainer, path, title=title), report)


def _draw(name: str, plot: Callable[[str], None], path: str) -> None:
    """A picture, where there is a matplotlib that draws."""
    try:
        plot(path)
        print(f"{name:<8} {path}")
    except ModuleNotFoundError:
        print(f"{name:<8} not drawn: they need matplotlib (in the checkout: pip install '.[plot]')")
    except OSError:
        raise
    except Exception as error:  # a matplotlib that is set up to draw by what is not there: TeX, a notebook
        print(f"{name:<8} not drawn: matplotlib: {' '.join(str(error).split())[:200]}")
