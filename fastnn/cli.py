"""The command line: fastnn train, fastnn evaluate, fastnn info."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .data import ArrayDataset
    from .nn import Module
    from .optim import Optimizer
    from .train import Trainer

# What `fastnn train DATASET` does without further options.
_DEFAULTS = {"optimizer": "adam", "schedule": "cosine", "val_fraction": 0.1, "seed": 0}
_RECIPES: dict[str, dict[str, Any]] = {
    "digits": {**_DEFAULTS, "model": "vgg_small", "epochs": 20, "batch_size": 32, "lr": 1e-3},
    "mnist": {**_DEFAULTS, "model": "lenet", "epochs": 6, "batch_size": 64, "lr": 1e-3, "val_fraction": 0.05},
    "fashion-mnist": {**_DEFAULTS, "model": "lenet", "epochs": 6, "batch_size": 64, "lr": 1e-3, "val_fraction": 0.05},
    "idx": {**_DEFAULTS, "model": "lenet", "epochs": 10, "batch_size": 64, "lr": 1e-3},
    "arrays": {**_DEFAULTS, "model": "lenet", "epochs": 10, "batch_size": 64, "lr": 1e-3},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 after an error (one line on stderr), 130 after Ctrl-C."""
    from . import DeviceError

    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt as error:
        return _say(f"{error}" or "interrupted", 130)
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError, DeviceError) as error:
        return _say(f"error: {' '.join(str(error).split())}", 2)
    return 0


def _say(message: str, code: int) -> int:
    print(f"fastnn: {message}", file=sys.stderr)
    return code


# --- the commands


def train(options: argparse.Namespace) -> None:
    """Trains a model and writes checkpoint, history, curves and the model into a folder; looks at the test set once, at the end."""
    from . import set_num_threads
    from .train import HistoryFile, Interrupted, ModelCheckpoint

    out = options.out or os.path.join("runs", options.dataset)
    checkpoint, history_file = (os.path.join(out, name) for name in ("checkpoint.safetensors", "history.jsonl"))
    _settle(options, checkpoint)
    if options.threads:
        set_num_threads(options.threads)
    training, test = _load(options.dataset, options.data)
    trainer, fit = _prepare(options, training)
    print(_description(options, trainer, fit, test), flush=True)
    os.makedirs(out, exist_ok=True)
    callbacks = [ModelCheckpoint(checkpoint), HistoryFile(history_file)]
    try:
        trainer.fit(**fit, callbacks=callbacks, resume=checkpoint if options.resume else None, restore_best=False)
    except Interrupted as error:
        where = f" --out {options.out}" if options.out else ""
        raise KeyboardInterrupt(f"{error.where}; go on with: fastnn train {options.dataset} --resume{where}") from error
    print(_test(trainer, test))
    _write_results(trainer, out, history_file)


def evaluate(options: argparse.Namespace) -> None:
    """Prints loss and accuracy of a saved model on a test set."""
    from .train import load_model

    trained = load_model(options.model_file)
    dataset = options.dataset or trained.notes.get("dataset")
    if dataset is None:
        raise ValueError(f"{options.model_file} does not say what it was trained on: add --dataset, one of {', '.join(_RECIPES)}")
    result = trained.evaluate(_load(dataset, options.data)[1])
    print(f"test loss {result['loss']:.4f}\ntest accuracy {100 * result['accuracy']:.1f} %")


def info(options: argparse.Namespace) -> None:
    """Prints what was picked (instruction set, threads) and why."""
    from .config import show_config

    print(show_config())


# --- the steps of a training


def _settle(options: argparse.Namespace, checkpoint: str) -> None:
    """Fills in the options that were not given: from the checkpoint with --resume, else from the data set's recipe."""
    from . import files

    recipe = _RECIPES[options.dataset]
    exists = os.path.exists(checkpoint)
    if options.resume:
        if not exists:
            raise ValueError(f"--resume: there is no {checkpoint} to go on from")
        saved = files.read(checkpoint)[1]
        recipe = {
            **saved.get("notes", {}),
            "epochs": saved.get("epochs"),
        }  # a resumed run may have been given more epochs than it began with
        for name in ("dataset", *_DEFAULTS, "model", "batch_size", "lr"):
            given = getattr(options, name)
            if name not in recipe:
                raise ValueError(f"{checkpoint} was not written by fastnn train: it does not say its {name}")
            if given is not None and given != recipe[name]:
                raise ValueError(f"--resume: {checkpoint} was started with {name.replace('_', '-')} {recipe[name]}, not {given}")
    elif exists:
        notes = files.read(checkpoint)[1]
        if notes.get("epoch", 0) < notes.get("epochs", 0):
            done = f"{notes['epoch']} of {notes['epochs']} epochs are done"
            raise ValueError(f"{checkpoint} is of an unfinished run ({done}): add --resume to go on, or choose another folder with --out")
    for name, value in recipe.items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)


def _load(dataset: str, path: str | None) -> tuple[ArrayDataset, ArrayDataset]:
    from . import data

    if dataset == "digits":
        return data.digits()
    if path is None and "FASTNN_DATA" in os.environ:
        path = os.path.join(os.environ["FASTNN_DATA"], dataset)
    if path is None:
        npz = "an .npz file with train_images, train_labels, test_images, test_labels"
        raise ValueError(f"{dataset} needs --data: {npz if dataset == 'arrays' else 'the folder of its four IDX files'}")
    loaders: dict[str, Callable[[str], tuple[ArrayDataset, ArrayDataset]]] = {
        "mnist": data.mnist,
        "fashion-mnist": data.fashion_mnist,
        "idx": data.idx,
        "arrays": data.arrays,
    }
    return loaders[dataset](path)


def _prepare(options: argparse.Namespace, training: ArrayDataset) -> tuple[Trainer, dict[str, Any]]:
    """The trainer, and what its fit takes."""
    from . import data, models, seed
    from .train import Trainer

    validation = None
    if options.val_fraction:
        training, validation = data.split(training, options.val_fraction, options.seed)
    normalize = data.Normalize.fit(training)
    loader = data.Loader(training, options.batch_size, shuffle=True, seed=options.seed, normalize=normalize, device=options.device)
    architecture = {"name": options.model, "input_shape": training.shape, "num_classes": training.num_classes}
    seed(options.seed)
    model = models.create(**architecture)
    optimizer = _optimizer(options, model, options.epochs * len(loader))
    trainer = Trainer(model, optimizer, seed=options.seed, normalize=normalize, architecture=architecture, device=options.device)
    trainer.notes = {name: getattr(options, name) for name in ("dataset", *_RECIPES[options.dataset])}
    return trainer, {"train": loader, "epochs": options.epochs, "validation": validation}


def _optimizer(options: argparse.Namespace, model: Module, steps: int) -> Optimizer:
    from .optim import SGD, Adam, schedules

    rate = {
        "constant": lambda: schedules.constant(options.lr),
        "step": lambda: schedules.step(options.lr, [int(part * steps) for part in (0.3, 0.6, 0.9)]),
        "cosine": lambda: schedules.cosine(options.lr, steps),
        "linear": lambda: schedules.linear(options.lr, steps),
    }[options.schedule]()
    return Adam(model.parameters(), rate) if options.optimizer == "adam" else SGD(model.parameters(), rate, momentum=0.9)


def _description(options: argparse.Namespace, trainer: Trainer, fit: dict[str, Any], test: ArrayDataset) -> str:
    from . import _C, cuda

    training, validation = fit["train"].dataset, fit["validation"]
    shape = " x ".join(str(n) for n in training.shape)
    counts = f"{len(training):,} for training, {len(validation or ()):,} for validation, {len(test):,} for the test"
    where = f"{_C.isa()}, {_C.get_num_threads()} threads" if trainer.device == "cpu" else cuda.device_name(trainer.device)
    parameters = sum(p.size for p in trainer.model.parameters())
    return (
        f"{options.dataset}: images of {shape} in {training.num_classes} classes; {counts}\n"
        f"{options.model}: {parameters:,} parameters; {options.optimizer}, rate {options.lr:g} ({options.schedule}), batches of "
        f"{options.batch_size}, {options.epochs} epochs, seed {options.seed}; float32 on {where}"
    )


def _test(trainer: Trainer, test: ArrayDataset) -> str:
    """The one look at the test set: with the best snapshot by validation, without validation with the last epoch's weights."""
    trainer.restore_best()  # not before the last checkpoint is written: that one goes on from the last weights
    accuracy = 100 * trainer.evaluate(test)["accuracy"]
    which = f"best epoch by validation: {trainer.best.epoch}" if trainer.best is not None else f"last epoch: {trainer.epoch}"
    return f"{which}\ntest accuracy {accuracy:.1f} %"


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
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help lists the options)\n")


def _number(kind: type, low: float, high: float, words: str) -> Callable[[str], Any]:
    """An argparse type: a number with low <= value < high."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value < high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
        return value

    return parse


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = _Parser(prog="fastnn", description="Trains convolutional networks with hand-written kernels.")
    parser.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_train(commands.add_parser("train", help="train a model on a data set", description=train.__doc__))
    command = commands.add_parser("evaluate", help="test accuracy of a saved model", description=evaluate.__doc__)
    command.add_argument("model_file", metavar="MODEL_FILE", help="model.safetensors or a checkpoint (its best snapshot)")
    command.add_argument("--dataset", choices=list(_RECIPES), help="default: the one it was trained on")
    command.add_argument("--data", metavar="PATH", help="where the data set lies")
    command.set_defaults(run=evaluate)
    command = commands.add_parser("info", help="instruction set, threads, memory", description=info.__doc__)
    command.set_defaults(run=info)
    return parser


def _add_train(command: argparse.ArgumentParser) -> None:
    from .models import names

    count = _number(int, 1, 2**31, "a whole number from 1 on")
    add = command.add_argument
    add("dataset", metavar="DATASET", choices=list(_RECIPES), help=f"one of {', '.join(_RECIPES)}")
    add("--model", metavar="NAME", choices=names(), help=f"one of {', '.join(names())}")
    add("--data", metavar="PATH", help="folder of the IDX files, or the .npz file for arrays (default: $FASTNN_DATA/DATASET)")
    add("--epochs", metavar="N", type=count)
    add("--batch-size", metavar="N", type=count)
    add("--lr", metavar="RATE", type=_number(float, 0, float("inf"), "a rate of 0 or more"), help="rate at the start")
    add("--optimizer", choices=["adam", "sgd"], help="adam (default), or sgd with momentum 0.9")
    add("--schedule", choices=["constant", "step", "cosine", "linear"], help="default: cosine; step: times 0.1 at 30, 60, 90 %%")
    add(
        "--val-fraction",
        metavar="F",
        type=_number(float, 0, 1, "a fraction from 0 to below 1"),
        help="share of the training set for validation",
    )
    add("--seed", metavar="N", type=_number(int, 0, 2**63, "a whole number from 0 on"))
    add("--threads", metavar="N", type=count, help="default: as many as the machine gives, see fastnn info")
    add("--device", metavar="NAME", default="cpu", help="cpu (default), cuda, cuda:1")
    add("--out", metavar="DIR", help="folder for model, history, curves, checkpoint (default: runs/DATASET)")
    add("--resume", action="store_true", help="go on from the checkpoint in the folder; options not given are those of its run")
    command.set_defaults(run=train)
