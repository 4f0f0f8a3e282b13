"""The options of the command line, as argparse takes them."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from typing import NoReturn

from . import option_types as kinds
from .defaults import RECIPES
from .export import add_options as add_export_options
from .finetune import add_options as add_finetune_options
from .preprocess import KINDS, components
from .recipe import add_options as add_recipe_options
from .search import add_options as add_search_options
from .training import AUGMENTS

PUBLIC = ("mnist", "fashion-mnist", "cifar10", "cifar100")  # data.public's, which takes its time to import
Run = Callable[[argparse.Namespace], bool | None]

_PATHS = "a folder of photos, IDX files, CIFAR batches or .npy files, an .npz file, a CIFAR .tar.gz"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message += "''" if message == "unrecognized arguments: " else ""  # the word is an empty one
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help lists the options)\n")


def _dataset(text: str) -> str:
    """An argparse type: a data set's name, or a path."""
    if text not in RECIPES and not os.path.exists(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither one of {', '.join(RECIPES)} nor a file or folder that is there")
    return text


def parser(commands: Mapping[str, Run]) -> argparse.ArgumentParser:
    """Each command's docstring describes it; parsed options have it as `run`."""
    from .. import __version__

    parser = _Parser(prog="fastnn", description="Trains convolutional networks with hand-written kernels.")
    parser.add_argument("--version", action="version", version=f"fastnn {__version__}")
    parsers = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, words: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = parsers.add_parser(name, help=words, description=commands[name].__doc__)
        added.set_defaults(run=commands[name])
        return added

    count = kinds.number(int, 1, 2**31, "a whole number from 1 on")
    _add_train(command("train", "train a model on a data set"))

    search = command("find-rate", "try out learning rates before a training")
    _add_train(search)
    rate = kinds.number(float, 5e-324, float("inf"), "a rate above 0")
    search.add_argument("--low", metavar="RATE", type=rate, help="the lowest (default: by the optimizer, 1e-6 for adam)")
    search.add_argument("--high", metavar="RATE", type=rate, help="the highest (default: by the optimizer, 1 for adam)")
    several = kinds.number(int, 3, 2**31, "a whole number from 3 on")
    search.add_argument("--steps", metavar="N", type=several, default=100, help="from the lowest to the highest (default: 100)")

    add_finetune_options(command("finetune", "turn a pretrained network to other images"), _dataset, _PATHS)
    tuning = command("search", "try out rates and weight decays in short trainings")
    _add_train(tuning)
    add_search_options(tuning)

    recipe = command("recipe", "the seven steps of tuning, each with PASS or FAIL")
    _add_train(recipe)
    add_recipe_options(recipe)

    evaluate = command("evaluate", "test accuracy of a saved model, or of several that are averaged")
    files = "model.safetensors or a checkpoint (its best snapshot); of several their probabilities are averaged"
    evaluate.add_argument("model_files", metavar="MODEL_FILE", type=kinds.path, nargs="+", help=files)
    evaluate.add_argument("--dataset", choices=list(RECIPES), help="default: the one it was trained on")
    evaluate.add_argument("--data", metavar="PATH", type=kinds.path, help="where the data set lies")
    evaluate.add_argument("--skip-broken", action="store_true", help="leave out photos that cannot be read (as the training did)")
    _add_views(evaluate)

    evaluate.add_argument(
        "--per-class", action="store_true", help="precision, recall and F1 of each class, and what is most often confused"
    )
    evaluate.add_argument("--plot", metavar="PATH", type=kinds.path, help="draw the confusion matrix into a PNG, SVG or PDF")

    predict = command("predict", "classes of image files")
    predict.add_argument("model_file", metavar="MODEL_FILE", type=kinds.path, help="model.safetensors or a checkpoint (its best snapshot)")
    predict.add_argument("images", metavar="IMAGE", type=kinds.path, nargs="+", help="JPEG, PNG and what else Pillow reads")
    predict.add_argument("--top", metavar="N", type=count, default=5, help="default: 5")
    predict.add_argument("--json", action="store_true", help="print JSON")
    predict.add_argument("--device", metavar="NAME", type=kinds.device, default="cpu", help="cpu (default), cuda, cuda:1")
    _add_views(predict)

    add_export_options(command("export", "a saved model as an ONNX file"))

    verify = command("verify-resume", "whether a killed and resumed training has the same bits")
    _add_train(verify)
    verify.add_argument("--kills", metavar="N", type=count, default=5, help="how often the second run is killed (default: 5)")
    verify.add_argument("--samples", metavar="N", type=count, default=2000, help="of the training set, at most (default: 2000)")
    verify.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)

    reproduce = command("reproduce", "repeats a bad step from its file")
    reproduce.add_argument("file", metavar="FILE", type=kinds.path, help="bad-step.safetensors, named in the error of fastnn train")
    reproduce.add_argument("--device", metavar="NAME", type=kinds.device, help="cpu, cuda, cuda:1 (default: the training's)")

    download = command("download", "fetch a public data set")
    download.add_argument("name", metavar="NAME", choices=PUBLIC, help=f"one of {', '.join(PUBLIC)}")
    download.add_argument("--root", metavar="DIR", type=kinds.path, help="it comes into DIR/NAME (default: $FASTNN_DATA, or data here)")
    download.add_argument("--url", metavar="URL", help="of a folder that has the files (default: where they were published, and mirrors)")

    command("info", "instruction set, threads, memory")
    return parser


def _add_views(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--views",
        choices=["none", "mirror", "six", "ten"],
        default="none",
        help="of each image, whose probabilities are averaged: mirror: it and its mirror image; six: these, and moved by a pixel; ten: four "
        "corners and the centre, and mirrored, of photos read 256/224 as large (default: none)",
    )


def _add_train(command: argparse.ArgumentParser) -> None:
    from ..models import names
    from ..optim.presets import OPTIMIZERS, SCHEDULES

    count = kinds.number(int, 1, 2**31, "a whole number from 1 on")
    add = command.add_argument
    add("dataset", metavar="DATASET", type=_dataset, help=f"one of {', '.join(RECIPES)}, or a path: {_PATHS}")
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
        choices=list(AUGMENTS),
        help="of the training images; default for photos and CIFAR: crop-flip, else none; colour: crop-flip with brightness, contrast and "
        "saturation within 20 %%; pca: crop-flip with AlexNet's shifts along the training set's principal colours; camera: crop-flip with "
        "perspectives, lens distortion and noise; strong: flips, rotations, shifts, scales, colours within 40 %%, erased rectangles",
    )
    add(
        "--preprocess",
        choices=list(KINDS),
        help="fitted on the training set and kept with the model: channels: mean and deviation of each channel (default); channel-mean: the mean "
        "alone; mean-image: less the mean image; pca: coordinates along the principal components (for mlp and linear); whiten: these, of variance "
        "1; zca: whitened images",
    )
    add(
        "--components",
        metavar="K",
        type=components,
        help="of pca and whiten: how many, or the share of the variance to keep (default: 0.99)",
    )
    positive = kinds.number(float, 5e-324, float("inf"), "a number above 0")
    add("--whiten-eps", metavar="EPS", type=positive, help="added to variances, a share of their mean (default: whiten 1e-5, zca 0.1)")
    add("--accumulate", metavar="N", type=count, help="batches per step (default: 1)")
    add(
        "--mixup",
        metavar="ALPHA",
        type=positive,
        help="blend samples in pairs, by shares from Beta(ALPHA, ALPHA); usual: 0.2 (default: none)",
    )
    add(
        "--cutmix",
        metavar="ALPHA",
        type=positive,
        help="paste a rectangle of one sample into another; usual: 1; with --mixup each batch draws one",
    )
    add("--weight-decay", metavar="D", type=kinds.number(float, 0, float("inf"), "a decay of 0 or more"), help="default: the optimizer's")
    add("--clip-norm", metavar="NORM", type=positive, help="limit of the norm of the gradients (default: none)")
    decay = kinds.number(float, 0, 1, "a decay from 0 to below 1")
    add("--ema", metavar="DECAY", type=decay, help="average of the weights, for validation, test and the model (default: none)")
    add("--replay", choices=["auto", "off"], default="auto", help="whether steps are replayed without Python (default: auto)")
    add("--seed", metavar="N", type=kinds.number(int, 0, 2**63, "a whole number from 0 to 2**63 - 1"))
    threads = kinds.number(int, 1, 257, "a whole number from 1 to 256")
    add("--threads", metavar="N", type=threads, help="default: as many as the machine gives, see fastnn info")
    add("--device", metavar="NAME", type=kinds.device, default="cpu", help="cpu (default), cuda, cuda:1")
    add("--precision", choices=["float32", "bf16"], help="bf16: mixed training, activations in bfloat16 (default: float32)")
    add("--distributed", action="store_true", help="together with the other processes that mpirun has started (needs mpi4py)")
    add("--out", metavar="DIR", type=kinds.path, help="folder for model, history, curves, checkpoint (default: runs/DATASET)")
    add(
        "--report",
        metavar="FILE",
        type=kinds.path,
        help="an HTML file of settings, curves and epochs, written at the end (needs matplotlib)",
    )
    log = "also into the folder, after each epoch: csv: history.csv; tensorboard: the folder tensorboard (needs tensorboardX); may be given twice"
    add("--log", choices=["csv", "tensorboard"], action="append", default=[], help=log)
    add("--why-slow", action="store_true", help="after 20 steps, say where their time goes and what changes it")
    add(
        "--resume",
        action="store_true",
        help="go on from the checkpoint in the folder; options not given are those of its run, but --threads, --replay, --device, --report and --log",
    )
