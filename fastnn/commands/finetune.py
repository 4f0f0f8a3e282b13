"""fastnn finetune: a pretrained network turned to other images."""

from __future__ import annotations

import argparse
import os
import shlex
from typing import TYPE_CHECKING, Any

from .. import signals
from . import option_types as kinds
from .data import load, names_of_photos, passed_over, recognise_path, short_name
from .outcome import tested, write_results
from .refusals import alone_in, few, make_folder, refuse_lost_class, refuse_unfit_data, results, try_folder
from .training import AUGMENTS, augmentation

if TYPE_CHECKING:
    from ..data import Dataset, Loader, Sets
    from ..data.preprocessing import Preprocessing
    from ..nn import Module
    from ..train import TransferPlan, Transferred

_OF_IMAGENET = ("resnet18", "resnet34", "resnet50", "alexnet", "vgg16")
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # torchvision's of ImageNet, times 255
_ENOUGH = 1000  # images, from which a part is kept for validation; of fewer, folds judge
_REPEATED = (
    "weights",
    "model",
    "similar",
    "much",
    "freeze",
    "features_first",
    "epochs",
    "batch_size",
    "lr",
    "optimizer",
    "normalize",
    "augment",
    "seed",
)


def finetune(options: argparse.Namespace) -> None:
    """Turns a pretrained network to other images: a new last layer, and, with many images, the layers in front of it at a tenth of the rate; see
    docs/transfer.md. Writes the model, which fastnn evaluate and predict take, and looks at the test set once, at the end."""
    from .. import set_num_threads
    from ..train import Interrupted, plan_transfer
    from ..train.pretrained import read_weights

    again = shlex.join(["fastnn", "finetune", *(word for word in options.words if word != "--resume"), "--resume"])
    if options.threads:
        set_num_threads(options.threads)
    arrays, notes, prepared = read_weights(options.weights)
    recognise_path(options)
    if options.similar is None:
        why = "whether its images are like those that the network was trained on decides which layers are trained"
        raise ValueError(f"{options.data or options.dataset}: add --similar or --different: {why}")
    options.out = options.out or os.path.join("runs", f"{short_name(options.data or options.dataset)}-finetuned")
    try_folder(options.out)
    options.given_fraction, options.cutmix = options.val_fraction, None
    sets = _sets(options, notes)
    model, normalize = _pretrained(options, arrays, notes, prepared, sets.train)
    refuse_unfit_data(options, sets)
    training, validation = _parts(options, sets)
    print(_description(options, training, validation, sets), flush=True)
    shape = normalize.output_shape(training.shape)
    plan = plan_transfer(model, training, similar=options.similar, much=options.much, frozen=options.freeze, input_shape=shape)
    resume = _checkpoint(options, plan)
    make_folder(options.out)
    try:
        with alone_in(options.out), signals.held():
            result = _transferred(options, model, normalize, training, validation, sets, resume)
            _finish(options, result, sets, validation)
    except Interrupted as error:
        error.args = (f"{error.where}; go on with: {again}",)
        raise


def _sets(options: argparse.Namespace, notes: dict[str, Any]) -> Sets:
    """Photos become as large as those that the network was trained on, unless told."""
    from ..data import Resize

    rule, resize, size = notes.get("resize"), None, options.size
    if options.dataset == "images" and size is None:
        shape = (notes.get("architecture") or {}).get("input_shape", ())
        resize = Resize(**rule) if rule else None
        size = int(shape[1]) if len(shape) == 3 else 224 if options.model in _OF_IMAGENET else 64
    elif options.dataset != "images" and (options.size is not None or options.skip_broken):
        given = "--skip-broken" if options.size is None else "--size"
        raise ValueError(f"{given}: only for folders of photos; {options.dataset} has images of one size")
    return load(options.dataset, options.data, size=size, resize=resize, seed=options.seed, skip_broken=options.skip_broken)


def _pretrained(
    options: argparse.Namespace, arrays: dict[str, Any], notes: dict[str, Any], own: Preprocessing | None, training: Dataset
) -> tuple[Module, Preprocessing]:
    """The network with its weights, made for images of this shape, and how its images are prepared."""
    from .. import models, seed
    from ..data import Normalize
    from ..train import load_pretrained
    from ..train.architectures import build_for
    from ..train.checkpoint import naming

    said = notes.get("architecture")
    if said and options.model not in (None, said.get("name")):
        raise ValueError(f"--model: {options.weights} holds a {said.get('name')}, not a {options.model}; leave it out")
    if not said and options.model is None:
        raise ValueError(f"{options.weights}: does not say which network it is of; add --model, one of {', '.join(models.names())}")
    channels = training.shape[0]
    way = options.normalize or ("file" if own else "imagenet" if channels == 3 and training.of_bytes else "data")
    if way == "file" and not own:
        raise ValueError(f"--normalize: {options.weights} does not say how its images were prepared; give imagenet or data")
    if way == "file" and own and not own.fits(training.shape):
        raise ValueError(f"--normalize: {own.misfit(training.shape)}; give --normalize data, or images of that shape")
    if way == "imagenet" and (channels != 3 or not training.of_bytes):
        raise ValueError(
            f"--normalize: imagenet's three means are of RGB photos of bytes; {options.dataset} has images of {channels} channels: data"
        )
    normalize = own if way == "file" and own else Normalize(_MEAN, _STD) if way == "imagenet" else Normalize.fit(training)
    shape = normalize.output_shape(training.shape)
    seed(options.seed)
    with naming(options.weights):
        if said:
            model = build_for({**said, "input_shape": list(shape)}, arrays)
        else:
            model = models.create(options.model, input_shape=shape, num_classes=training.num_classes)
        print(f"{options.weights}: {load_pretrained(model, arrays)}")
    options.model = (said or {}).get("name", options.model)
    model.to(options.device)
    print(f"images are prepared by {normalize}, {dict(file='as the file says', imagenet='as of ImageNet', data='of these images')[way]}")
    return model, normalize


def _parts(options: argparse.Namespace, sets: Sets) -> tuple[Dataset, Dataset | None]:
    """What is trained on, and what judges it; nothing where folds of the training set do."""
    from .. import data

    training, validation = sets.train, sets.validation
    fraction = (0.1 if len(training) >= _ENOUGH else 0.0) if options.val_fraction is None else options.val_fraction
    if validation is None and 0 < round(fraction * len(training)) < len(training):
        options.val_fraction = fraction
        training, validation = data.split(training, fraction, options.seed)
        refuse_lost_class(options, training, validation)
    return training, validation


def _description(options: argparse.Namespace, training: Dataset, validation: Dataset | None, sets: Sets) -> str:
    from .. import _C, cuda

    counts = f"{len(training):,} for training, {len(validation or ()):,} for validation, {len(sets.test or ()):,} for the test"
    where = f"{_C.isa()}, {_C.get_num_threads()} threads" if options.device == "cpu" else cuda.device_name(options.device)
    photos = (
        f"{sets.origin}; classes {few(training.classes)}{passed_over(sets)}\n" if options.dataset == "images" and training.classes else ""
    )
    shape = " x ".join(map(str, training.shape))
    return (
        f"{photos}{options.dataset}: images of {shape} in {training.num_classes} classes; {counts}\n{options.model}: {options.optimizer}, rate "
        f"{options.lr:g} (a tenth of it for what is pretrained), seed {options.seed}; {options.precision} on {where}"
    )


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Which a resumed run must have, too."""
    return {name: getattr(options, name) for name in _REPEATED}


def _checkpoint(options: argparse.Namespace, plan: TransferPlan) -> str | None:
    """To resume from. ValueError for one of another run, and where there is none."""
    from ..train.checkpoint import notes_of

    checkpoint = results(options.out)[0]
    if not os.path.exists(checkpoint):
        if options.resume and not plan.little:
            raise ValueError(f"--resume: there is no {checkpoint} to go on from")
        return None
    saved = notes_of(checkpoint)
    before = saved["notes"].get("finetune")
    if not options.resume:
        if saved["epoch"] < saved["epochs"]:
            raise ValueError(f"{checkpoint} is of an unfinished run: add --resume to go on, or choose another folder with --out")
        return None
    if before != (settings := _settings(options)):
        other = next((name for name in settings if (before or {}).get(name) != settings[name]), "weights")
        raise ValueError(f"--resume: {checkpoint} is of a run with another {other.replace('_', '-')}; give what it was begun with")
    return checkpoint if not plan.little else None


def _transferred(
    options: argparse.Namespace,
    model: Module,
    normalize: Preprocessing,
    training: Dataset,
    validation: Dataset | None,
    sets: Sets,
    resume: str | None,
) -> Transferred:
    from functools import partial

    from .. import optim
    from ..data import Loader
    from ..train import Callback, HistoryFile, ModelCheckpoint, Trainer, transfer

    notes = {"dataset": options.dataset, "seed": options.seed, "model": options.model, "finetune": _settings(options)}
    if options.dataset == "images":
        notes |= {"photos": names_of_photos(options.data, sets), "skip_broken": options.skip_broken}

    class Notes(Callback):
        """Ahead of the first checkpoint."""

        def before_fit(self, trainer: Trainer) -> None:
            trainer.notes.update(notes)

    makers: dict[str, Any] = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": partial(optim.SGD, momentum=0.9)}
    prepared = {"normalize": normalize, "augment": augmentation(options.augment, training), "device": options.device}
    loader: Loader = Loader(training, options.batch_size, shuffle=True, seed=options.seed, **prepared)
    checkpoint, history, *_ = results(options.out)
    result = transfer(
        model,
        loader,
        validation,
        similar=options.similar,
        much=options.much,
        frozen=options.freeze,
        features_first=options.features_first,
        epochs=options.epochs,
        lr=options.lr,
        optimizer=makers[options.optimizer],
        normalize=normalize,
        seed=options.seed,
        precision=options.precision,
        callbacks=[Notes(), ModelCheckpoint(checkpoint), HistoryFile(history)],
        resume=resume,
    )
    result.trainer.notes.update(notes)
    return result


def _finish(options: argparse.Namespace, result: Transferred, sets: Sets, validation: Dataset | None) -> None:

    trainer = result.trainer
    if trainer.epoch:
        print(tested(trainer, sets.test, validation) if sets.test is not None or validation is not None else f"last epoch: {trainer.epoch}")
        write_results(trainer, options.out, None)
        return
    if sets.test is not None:
        print(f"test accuracy {100 * trainer.evaluate(sets.test)['accuracy']:.1f} %")
    model = results(options.out)[2]
    trainer.save_model(model)
    print(f"model    {model}")


def add_options(command: argparse.ArgumentParser, dataset: Any, paths: str) -> None:
    """dataset: argparse's type of a data set's name or path, and `paths` what may lie there."""
    from ..models import names
    from .defaults import RECIPES

    count = kinds.number(int, 1, 2**31, "a whole number from 1 on")
    add = command.add_argument
    add(
        "weights", metavar="WEIGHTS", type=kinds.path, help="model.safetensors, a checkpoint, or weights of PyTorch: safetensors, .pth, .pt"
    )
    add("dataset", metavar="DATASET", type=dataset, help=f"one of {', '.join(RECIPES)}, or a path: {paths}")
    like = command.add_mutually_exclusive_group()
    like.add_argument("--similar", dest="similar", action="store_true", default=None, help="to the images that the network was trained on")
    like.add_argument("--different", dest="similar", action="store_false", help="from them: more layers are trained")
    much = command.add_mutually_exclusive_group()
    much.add_argument(
        "--much", dest="much", action="store_true", default=None, help="data (default: from 1,000 images, 100 of each class, on)"
    )
    much.add_argument("--little", dest="much", action="store_false", help="data: a linear classifier, nothing else is trained")
    add(
        "--model",
        metavar="NAME",
        choices=names(),
        help=f"which network the weights are of, where the file does not say it: {', '.join(names())}",
    )
    add("--freeze", metavar="NAME", nargs="+", help="parts that stay as they are, as conv1 layer1 'layer2.*'; all others are trained")
    add(
        "--no-features-first",
        dest="features_first",
        action="store_false",
        help="begin with a new last layer, not with one fitted to the features",
    )
    add(
        "--normalize",
        choices=["file", "imagenet", "data"],
        help="how images are prepared (default: as the file says, else RGB photos as ImageNet's)",
    )
    add("--data", metavar="PATH", type=kinds.path, help="where a data set given by name lies (default: $FASTNN_DATA/DATASET)")
    add("--size", metavar="N", type=count, help="photos become N x N pixels (default: as the network was trained on)")
    add("--skip-broken", action="store_true", help="pass over files that are no whole images, instead of ending there")
    add("--epochs", metavar="N", type=count, default=10, help="of fine-tuning (default: 10)")
    add("--batch-size", metavar="N", type=count, default=32, help="default: 32")
    rate = kinds.number(float, 5e-324, float("inf"), "a rate above 0")
    add("--lr", metavar="RATE", type=rate, default=1e-3, help="of a training from the beginning; a tenth of it is used (default: 0.001)")
    add("--optimizer", choices=["adam", "adamw", "sgd"], default="adam", help="default: adam; sgd has momentum 0.9")
    add(
        "--augment", choices=list(AUGMENTS), default="none", help="of the images that are fine-tuned on, as of fastnn train (default: none)"
    )
    share = kinds.number(float, 0, 1, "a fraction from 0 to below 1")
    add(
        "--val-fraction",
        metavar="F",
        type=share,
        help="share of the training set for validation (default: 0.1 from 1,000 images on, else folds)",
    )
    add("--seed", metavar="N", type=kinds.number(int, 0, 2**63, "a whole number from 0 to 2**63 - 1"), default=0)
    add("--threads", metavar="N", type=kinds.number(int, 1, 257, "a whole number from 1 to 256"), help="default: as fastnn info says")
    add("--device", metavar="NAME", type=kinds.device, default="cpu", help="cpu (default), cuda, cuda:1")
    add("--precision", choices=["float32", "bf16"], default="float32", help="bf16: mixed training (default: float32)")
    add("--out", metavar="DIR", type=kinds.path, help="folder for model, history, checkpoint (default: runs/DATASET-finetuned)")
    add("--resume", action="store_true", help="go on from the checkpoint in the folder, with the options it was begun with")
