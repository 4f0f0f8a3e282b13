"""The command line: fastnn train, evaluate, predict, verify-resume, reproduce, info."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from . import option_types as kinds

if TYPE_CHECKING:
    from .data import Augmentation, Dataset, Resize, Sets
    from .nn import Module
    from .optim import Optimizer
    from .train import Trainer

# What `fastnn train DATASET` does without further options.
_STEP = {"accumulate": 1, "clip_norm": None, "ema": None}
_DEFAULTS = {"optimizer": "adam", "schedule": "cosine", "val_fraction": 0.1, "seed": 0, "augment": "none", **_STEP}
_PICTURES = {**_DEFAULTS, "augment": "crop-flip"}
_RECIPES: dict[str, dict[str, Any]] = {
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
_PATHS = "a folder of photos, IDX files, CIFAR batches or .npy files, an .npz file, a CIFAR .tar.gz"
_PLACES = {
    "arrays": "an .npz file, or a folder of .npy files, with train_images, train_labels, test_images, test_labels",
    "cifar10": "the folder of its batches, the .tar.gz, or an .npz of JPEG files",
    "cifar100": "the folder of train and test, or the .tar.gz",
    "images": "the folder of photos",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 1 where it compared and found a difference, 2 after an error (one line on stderr), 130
    after Ctrl-C, 143 after SIGTERM."""
    from . import DeviceError
    from .error_words import words

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files and classes may have letters that the terminal has not
    options = _parser().parse_args(arguments)
    options.words = list(sys.argv[1:] if arguments is None else arguments)[1:]
    try:
        return int(options.run(options) is False)
    except KeyboardInterrupt as error:
        return _say(f"{error}" or "interrupted", 128 + getattr(error, "signal", 2))
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, ImportError, DeviceError) as error:
        return _say(f"error: {' '.join(words(error).split())}", 2)


def _say(message: str, code: int) -> int:
    print(f"fastnn: {message}", file=sys.stderr)
    return code


# --- the commands


def train(options: argparse.Namespace) -> None:
    """Trains a model and writes checkpoint, history, curves and the model into a folder; looks at the test set once, at the end."""
    from . import set_num_threads
    from .data.dataset import refuse_other_classes
    from .train import HistoryFile, Interrupted, ModelCheckpoint, WhySlow

    again = shlex.join(["fastnn", "train", options.dataset, "--resume", *_repeated(options)])
    name = _recognise(options)
    out = options.out or os.path.join("runs", name)
    checkpoint, history_file = (os.path.join(out, name) for name in ("checkpoint.safetensors", "history.jsonl"))
    _settle(options, checkpoint)
    if options.threads:
        set_num_threads(options.threads)
    try:
        os.makedirs(out, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: cannot make the folder {out}: {error.strerror}") from error
    sets = _load(options.dataset, options.data, size=options.size, seed=options.seed, skip_broken=options.skip_broken)
    trainer, fit = _prepare(options, sets)
    refuse_other_classes(options.data or options.dataset, fit["train"].dataset, validation=fit["validation"], test=sets.test)
    print(_description(options, trainer, fit, sets), flush=True)
    callbacks = [ModelCheckpoint(checkpoint), HistoryFile(history_file), *([WhySlow()] if options.why_slow else [])]
    try:
        trainer.fit(**fit, callbacks=callbacks, resume=checkpoint if options.resume else None, restore_best=False)
    except Interrupted as error:
        error.args = (f"{error.where}; go on with: {again}",)
        raise
    trainer.restore_best()  # not before the last checkpoint is written: that one goes on from the last weights
    try:
        print(_test(trainer, sets.test, fit["validation"]))
    finally:
        _write_results(trainer, out, history_file)


def evaluate(options: argparse.Namespace) -> None:
    """Prints loss and accuracy of a saved model on a test set."""
    from .data.recognise import names_below
    from .train import load_model

    trained = load_model(options.model_file)
    dataset = options.dataset or trained.notes.get("dataset")
    if dataset is None:
        raise ValueError(f"{options.model_file} does not say what it was trained on: add --dataset, one of {', '.join(_RECIPES)}")
    skip = options.skip_broken or bool(trained.notes.get("skip_broken"))
    sets = _load(dataset, options.data, resize=trained.resize, seed=trained.notes.get("seed", 0), skip_broken=skip)
    name, part = ("test", sets.test) if sets.test is not None else ("validation", sets.validation)
    assert part is not None
    if "kept for the test" in sets.origin and trained.notes.get("photos") != names_below(_place(dataset, options.data)):
        _say(f"not the photos of the training: the {len(part)} drawn for the test may be some that the model was trained on", 0)
    result = trained.evaluate(part)
    print(f"{name} loss {result['loss']:.4f}\n{name} accuracy {100 * result['accuracy']:.1f} % of {len(part):,} images")


def predict(options: argparse.Namespace) -> None:
    """Prints the most probable classes of image files, as a saved model sees them."""
    from .train import load_model

    trained = load_model(options.model_file)
    trained.model.to(options.device)
    if trained.classes is None:
        _say(f"{options.model_file} names no classes; their numbers are given", 0)
    ranked = trained.top(trained.predict(options.images), options.top)
    if options.json:
        found = [[{"class": name, "probability": p} for name, p in row] for row in ranked]
        print(json.dumps([{"file": file, "predictions": row} for file, row in zip(options.images, found)], indent=1))
        return
    for file, row in zip(options.images, ranked):
        print("\n".join([file, *(f"  {100 * probability:5.1f} %  {name}" for name, probability in row)]))


def verify_resume(options: argparse.Namespace) -> bool:
    """Trains a short run whole, and again killed at random moments and resumed, and compares all bits: arguments as for fastnn train."""
    from . import verify_resume as verifying

    if options.child:
        verifying.child(options.child, lambda: _begin_short(options))
        return True
    if options.resume:
        raise ValueError("--resume: verify-resume begins anew; leave it out")
    return verifying.verify(options, options.words)


def _begin_short(options: argparse.Namespace) -> tuple[Trainer, dict[str, Any]]:
    """The training of verify-resume."""
    from . import set_num_threads
    from .devices import open_emulated
    from .verify_resume import fewer

    if options.device.startswith("cuda-emulated"):
        open_emulated(os.environ["FASTNN_CUDA_EMULATED"])
    _recognise(options)
    options.epochs = options.epochs or 3
    _settle(options, os.path.join(options.child["folder"], "none"))
    if options.threads:
        set_num_threads(options.threads)
    sets = _load(options.dataset, options.data, size=options.size, seed=options.seed, skip_broken=options.skip_broken)
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


# --- the steps of a training


def _settle(options: argparse.Namespace, checkpoint: str) -> None:
    """Fills in the options that were not given: from the checkpoint with --resume, else from the data set's recipe."""
    from .train.checkpoint import notes_of

    recipe = dict(_RECIPES[options.dataset])
    if options.dataset == "images":
        size = options.size or recipe["size"]
        recipe["model"] = next(model for most, model in _MODELS_BY_SIZE if size <= most)
    elif options.size is not None or options.skip_broken:
        given = "--skip-broken" if options.size is None else "--size"
        raise ValueError(f"{given}: only for folders of photos; {options.dataset} has images of one size")
    exists = os.path.exists(checkpoint)
    if options.resume:
        if not exists:
            raise ValueError(f"--resume: there is no {checkpoint} to go on from")
        saved = notes_of(checkpoint)
        recipe = {
            "augment": "none",  # a run that began before there was any
            **_STEP,
            **saved["notes"],
            "epochs": saved["epochs"],  # it may have been given more than it began with
        }
        for name in ("dataset", *(name for name in _RECIPES[options.dataset] if name != "epochs")):
            given = getattr(options, name)
            if name not in recipe:
                raise ValueError(f"{checkpoint} was not written by fastnn train: it does not say its {name}")
            if given is not None and given != recipe[name]:
                raise ValueError(f"--resume: {checkpoint} was started with {name.replace('_', '-')} {recipe[name]}, not {given}")
    elif exists:
        notes = notes_of(checkpoint)
        if notes["epoch"] < notes["epochs"]:
            done = f"{notes['epoch']} of {notes['epochs']} epochs are done"
            raise ValueError(f"{checkpoint} is of an unfinished run ({done}): add --resume to go on, or choose another folder with --out")
    for name, value in recipe.items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)


def _recognise(options: argparse.Namespace) -> str:
    """Turns a path given in the place of a data set's name into its kind and --data, and says so. Returns a short name for the run."""
    from .data import recognise
    from .data.recognise import KINDS

    if options.dataset in _RECIPES:
        return str(options.dataset)
    path: str = options.dataset
    if options.data is not None:
        raise ValueError(f"the data set was given twice, as {path} and as --data {options.data}")
    options.dataset, options.data = recognise(path)
    print(f"{options.data}: {KINDS[options.dataset]}")
    name = os.path.basename(os.path.abspath(path))
    return next((name.removesuffix(end) for end in (".npz", ".tar.gz", ".tgz") if name.endswith(end)), name)


def _repeated(options: argparse.Namespace) -> list[str]:
    """The options that a resumed run needs again: where data and results lie, on which device."""
    words = [[f"--{name}", getattr(options, name)] for name in ("data", "out", "device", "precision")]
    words = [pair for pair in words if pair[1] not in (None, "cpu", "float32")]
    return [word for pair in words for word in pair] + (["--skip-broken"] if options.skip_broken else [])


def _load(
    dataset: str,
    path: str | None,
    *,
    size: int | None = None,
    resize: Resize | None = None,
    seed: int = 0,
    skip_broken: bool = False,
) -> Sets:
    from . import data

    if dataset == "digits":
        if path is not None:
            raise ValueError("--data: digits lie inside the package; leave it out")
        return data.Sets(*_train_and_test(data.digits()), "the digits inside the package")
    path = _place(dataset, path)
    if dataset == "images":
        where = data.recognise(path)[1] if os.path.isdir(path) else path  # the folder inside, where that is all there is
        return data.image_folder(where, size or 64, resize=resize, seed=seed, skip_broken=skip_broken, progress=True)
    loaders: dict[str, Callable[[str], tuple[Dataset, Dataset]]] = {
        "mnist": data.mnist,
        "fashion-mnist": data.fashion_mnist,
        "idx": data.idx,
        "arrays": data.arrays,
        "cifar10": data.cifar10,
        "cifar100": data.cifar100,
    }
    return data.Sets(*_train_and_test(loaders[dataset](path)), path)


def _place(dataset: str, path: str | None) -> str:
    if path is None and "FASTNN_DATA" in os.environ:
        path = os.path.join(os.environ["FASTNN_DATA"], dataset)
    if path is None:
        here = f"; what lies here under that name is ./{dataset}" if os.path.exists(dataset) else ""
        raise ValueError(f"{dataset} needs --data: {_PLACES.get(dataset, 'the folder of its four IDX files')}{here}")
    return path


def _train_and_test(pair: tuple[Dataset, Dataset]) -> tuple[Dataset, None, Dataset]:
    return pair[0], None, pair[1]


def _prepare(options: argparse.Namespace, sets: Sets) -> tuple[Trainer, dict[str, Any]]:
    """The trainer, and what its fit takes."""
    from . import data, models, seed
    from .data.recognise import names_below
    from .train import Trainer

    training, validation = sets.train, sets.validation
    if validation is None and options.val_fraction:
        part = round(options.val_fraction * len(training))
        if part == len(training):
            raise ValueError(f"--val-fraction: {options.val_fraction} of {part} images leaves nothing to train on")
        if part:  # else a fraction of very few
            training, validation = data.split(training, options.val_fraction, options.seed)
    normalize = data.Normalize.fit(training)
    augment = _augmentation(options.augment, training.shape)
    loader = data.Loader(
        training, options.batch_size, shuffle=True, seed=options.seed, normalize=normalize, augment=augment, device=options.device
    )
    seed(options.seed)
    model = models.create(options.model, input_shape=training.shape, num_classes=training.num_classes)
    optimizer = _optimizer(options, model, options.epochs * -(-len(loader) // options.accumulate))
    step = {name: getattr(options, name) for name in _STEP}
    trainer = Trainer(model, optimizer, seed=options.seed, normalize=normalize, device=options.device, precision=options.precision, **step)
    trainer.notes = {name: getattr(options, name) for name in ("dataset", *_RECIPES[options.dataset])}
    if options.dataset == "images":
        trainer.notes |= {"photos": names_below(_place("images", options.data)), "skip_broken": options.skip_broken}
    replay = {"auto": "auto", "off": False}[options.replay]
    return trainer, {"train": loader, "epochs": options.epochs, "validation": validation, "replay": replay}


def _augmentation(name: str, shape: tuple[int, ...]) -> list[Augmentation]:
    from .data import ColorJitter, Flip, RandomAffine, RandomCrop, RandomErasing

    def crop() -> Augmentation:
        return RandomCrop(max(1, min(shape[1:]) // 8), padding_mode="reflect")

    def jitter(by: float) -> list[Augmentation]:
        return [ColorJitter(by, by, by)] if shape[0] in (1, 3) else []

    if name == "colour":
        return [crop(), Flip(), *jitter(0.2)]
    if name == "strong":
        warp = RandomAffine(15, translate=(0.1, 0.1), scale=(0.8, 1.2), padding_mode="reflect")
        return [Flip(), warp, *jitter(0.4), RandomErasing(0.25)]
    return [] if name == "none" else [Flip()] if name == "flip" else [crop(), Flip()]


def _optimizer(options: argparse.Namespace, model: Module, steps: int) -> Optimizer:
    from .optim.presets import OPTIMIZERS, SCHEDULES

    return OPTIMIZERS[options.optimizer](model, SCHEDULES[options.schedule](options.lr, steps))


def _description(options: argparse.Namespace, trainer: Trainer, fit: dict[str, Any], sets: Sets) -> str:
    from . import _C, cuda

    training, validation = fit["train"].dataset, fit["validation"]
    shape = " x ".join(str(n) for n in training.shape)
    counts = f"{len(training):,} for training, {len(validation or ()):,} for validation, {len(sets.test or ()):,} for the test"
    where = f"{_C.isa()}, {_C.get_num_threads()} threads" if trainer.device == "cpu" else cuda.device_name(trainer.device)
    parameters = sum(p.size for p in trainer.model.parameters())
    augmented = f", augmented by {options.augment}" if options.augment != "none" else ""
    photos = f"{sets.origin}; classes {_few(training.classes)}{_passed_over(sets)}\n" if options.dataset == "images" else ""
    return (
        f"{photos}{options.dataset}: images of {shape} in {training.num_classes} classes; {counts}{augmented}\n"
        f"{options.model}: {parameters:,} parameters; {options.optimizer}, rate {options.lr:g} ({options.schedule}), batches of "
        f"{options.batch_size}, {options.epochs} epochs, seed {options.seed}; {trainer.precision} on {where}"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:8])}, ... {names[-1]}"


def _passed_over(sets: Sets) -> str:
    return f"\nskipped: {len(sets.skipped)}, the first {sets.skipped[0][1]}" if sets.skipped else ""


def _test(trainer: Trainer, test: Dataset | None, validation: Dataset | None) -> str:
    """The one look at the test set: with the best snapshot by validation, without validation with the last epoch's weights."""
    which = f"best epoch by validation: {trainer.best.epoch}" if trainer.best is not None else f"last epoch: {trainer.epoch}"
    if test is not None:
        return f"{which}\ntest accuracy {100 * trainer.evaluate(test)['accuracy']:.1f} %"
    assert validation is not None
    return f"{which}\nvalidation accuracy {100 * trainer.evaluate(validation)['accuracy']:.1f} % (there is no test set)"


def _write_results(trainer: Trainer, out: str, history_file: str) -> None:
    model, curves = (os.path.join(out, name) for name in ("model.safetensors", "curves.png"))
    trainer.save_model(model)
    trainer.history.save(history_file)
    print(f"model    {model}\nhistory  {history_file}")
    try:
        trainer.history.plot(curves)
        print(f"curves   {curves}")
    except ModuleNotFoundError:
        print("curves   not drawn: they need matplotlib (in the checkout: pip install '.[plot]')")


# --- the options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message += "''" if message == "unrecognized arguments: " else ""  # the word is an empty one
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help lists the options)\n")


def _dataset(text: str) -> str:
    """An argparse type: a data set's name, or a path."""
    if text not in _RECIPES and not os.path.exists(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither one of {', '.join(_RECIPES)} nor a file or folder that is there")
    return text


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = _Parser(prog="fastnn", description="Trains convolutional networks with hand-written kernels.")
    parser.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_train(commands.add_parser("train", help="train a model on a data set", description=train.__doc__))
    command = commands.add_parser("evaluate", help="test accuracy of a saved model", description=evaluate.__doc__)
    command.add_argument("model_file", metavar="MODEL_FILE", type=kinds.path, help="model.safetensors or a checkpoint (its best snapshot)")
    command.add_argument("--dataset", choices=list(_RECIPES), help="default: the one it was trained on")
    command.add_argument("--data", metavar="PATH", type=kinds.path, help="where the data set lies")
    command.add_argument("--skip-broken", action="store_true", help="leave out photos that cannot be read (as the training did)")
    command.set_defaults(run=evaluate)
    command = commands.add_parser("predict", help="classes of image files", description=predict.__doc__)
    command.add_argument("model_file", metavar="MODEL_FILE", type=kinds.path, help="model.safetensors or a checkpoint (its best snapshot)")
    command.add_argument("images", metavar="IMAGE", type=kinds.path, nargs="+", help="JPEG, PNG and what else Pillow reads")
    command.add_argument("--top", metavar="N", type=kinds.number(int, 1, 2**31, "a whole number from 1 on"), default=5, help="default: 5")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--device", metavar="NAME", type=kinds.device, default="cpu", help="cpu (default), cuda, cuda:1")
    command.set_defaults(run=predict)
    command = commands.add_parser(
        "verify-resume", help="whether a killed and resumed training has the same bits", description=verify_resume.__doc__
    )
    _add_train(command)
    count = kinds.number(int, 1, 2**31, "a whole number from 1 on")
    command.add_argument("--kills", metavar="N", type=count, default=5, help="how often the second run is killed (default: 5)")
    command.add_argument("--samples", metavar="N", type=count, default=2000, help="of the training set, at most (default: 2000)")
    command.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    command.set_defaults(run=verify_resume)
    command = commands.add_parser("reproduce", help="repeats a bad step from its file", description=reproduce.__doc__)
    command.add_argument("file", metavar="FILE", type=kinds.path, help="bad-step.safetensors, named in the error of fastnn train")
    command.add_argument("--device", metavar="NAME", type=kinds.device, help="cpu, cuda, cuda:1 (default: the training's)")
    command.set_defaults(run=reproduce)
    command = commands.add_parser("info", help="instruction set, threads, memory", description=info.__doc__)
    command.set_defaults(run=info)
    return parser


def _add_train(command: argparse.ArgumentParser) -> None:
    from .models import names
    from .optim.presets import OPTIMIZERS, SCHEDULES

    count = kinds.number(int, 1, 2**31, "a whole number from 1 on")
    add = command.add_argument
    add("dataset", metavar="DATASET", type=_dataset, help=f"one of {', '.join(_RECIPES)}, or a path: {_PATHS}")
    add("--model", metavar="NAME", choices=names(), help=f"one of {', '.join(names())}")
    add("--data", metavar="PATH", type=kinds.path, help="where a data set given by name lies (default: $FASTNN_DATA/DATASET)")
    add("--size", metavar="N", type=count, help="photos become N x N pixels (default: 64)")
    add("--skip-broken", action="store_true", help="pass over files that are no whole images, instead of ending there")
    add("--epochs", metavar="N", type=count)
    add("--batch-size", metavar="N", type=count)
    add("--lr", metavar="RATE", type=kinds.number(float, 0, float("inf"), "a rate of 0 or more"), help="rate at the start")
    add("--optimizer", choices=list(OPTIMIZERS), help="default: adam; sgd has momentum 0.9, muon takes AdamW for biases and norms")
    add("--schedule", choices=list(SCHEDULES), help="of the rate; default: cosine; step: times 0.1 at 30, 60, 90 %%")
    add(
        "--val-fraction",
        metavar="F",
        type=kinds.number(float, 0, 1, "a fraction from 0 to below 1"),
        help="share of the training set for validation",
    )
    add(
        "--augment",
        choices=["none", "flip", "crop-flip", "colour", "strong"],
        help="of the training images; default for photos and CIFAR: crop-flip, else none; colour: crop-flip with brightness, contrast and "
        "saturation within 20 %%; strong: flips, rotations, shifts, scales, colours within 40 %%, erased rectangles",
    )
    add("--accumulate", metavar="N", type=count, help="batches per step (default: 1)")
    positive = kinds.number(float, 5e-324, float("inf"), "a number above 0")
    add("--clip-norm", metavar="NORM", type=positive, help="limit of the norm of the gradients (default: none)")
    decay = kinds.number(float, 0, 1, "a decay from 0 to below 1")
    add("--ema", metavar="DECAY", type=decay, help="average of the weights, for validation, test and the model (default: none)")
    add("--replay", choices=["auto", "off"], default="auto", help="whether steps are replayed without Python (default: auto)")
    add("--seed", metavar="N", type=kinds.number(int, 0, 2**63, "a whole number from 0 on"))
    add("--threads", metavar="N", type=count, help="default: as many as the machine gives, see fastnn info")
    add("--device", metavar="NAME", type=kinds.device, default="cpu", help="cpu (default), cuda, cuda:1")
    add(
        "--precision",
        choices=["float32", "bf16"],
        default="float32",
        help="bf16: mixed training, activations in bfloat16 (default: float32)",
    )
    add("--out", metavar="DIR", type=kinds.path, help="folder for model, history, curves, checkpoint (default: runs/DATASET)")
    add("--why-slow", action="store_true", help="after 20 steps, say where their time goes and what changes it")
    add("--resume", action="store_true", help="go on from the checkpoint in the folder; options not given are those of its run")
    command.set_defaults(run=train)
