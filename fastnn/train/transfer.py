"""Transfer learning in one call: what the table says, features first, then fine-tuning at a tenth of the rate."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import models, random
from ..arguments import flag, instance, integer, number, shown
from ..data import ArrayDataset, Dataset, Loader, Normalize
from ..data.items import as_dataset
from ..data.preprocessing import Preprocessing, same
from ..exclusive import refuse_others
from ..nn import Conv2d, Linear, Module
from ..optim import Adam, Optimizer, groups, schedules
from ..tensor import no_grad
from ..warned import warn
from .callbacks import Callback
from .evaluation import Data, device_of, mode, refuse_other_names
from .features import features
from .frozen_parts import freeze, unfreeze
from .heads import last_layer, replace_head
from .linear_probe import Probe, probe
from .precision import checked_precision
from .raw import known
from .stages import Stage
from .trainer import Trainer
from .transfer_plan import TransferPlan, plan_transfer

_TENTH = 0.1  # of the rate at which it was trained: "fine-tune with about 1/10 of the original learning rate" (CS231n, lecture 7)
_OPTIMIZER = "a function of parameter groups and a rate, such as optim.Adam or functools.partial(optim.SGD, momentum=0.9)"
_LOOKED_AT = 64  # samples by which the last layer is known to give the logits


@dataclass
class Transferred:
    """What `transfer` gives: trainer, to evaluate, predict, save_model and fit further; its plan; accuracy, of the linear classifier on samples that it
    was not fitted on (NaN where features did not come first); stages: that accuracy by stage, where several were compared; layer: the name of
    the layer whose features were taken."""

    trainer: Trainer
    plan: TransferPlan
    accuracy: float = float("nan")
    stages: dict[str, float] = field(default_factory=dict)
    layer: str = ""

    @property
    def model(self) -> Module:
        """The trained network, with its new last layer."""
        return self.trainer.model

    def __str__(self) -> str:
        rows = [f"{name:<24} {100 * accuracy:5.1f} %{'  <-' if name == self.layer else ''}" for name, accuracy in self.stages.items()]
        alone = [] if rows or np.isnan(self.accuracy) else [f"linear classifier on features: {100 * self.accuracy:.1f} %"]
        return "\n".join([str(self.plan), *(["linear classifiers by stage:", *rows] if rows else alone)])


def transfer(
    model: Module,
    train: Data,
    validation: Data | None = None,
    *,
    similar: bool,
    much: bool | None = None,
    frozen: Sequence[str] | None = None,
    features_first: bool = True,
    epochs: int = 10,
    lr: float = 1e-3,
    depth_factor: float = 0.5,
    optimizer: Callable[..., Optimizer] = Adam,
    batch_size: int | None = None,
    normalize: Preprocessing | None = None,
    seed: int = 0,
    precision: str = "float32",
    callbacks: Sequence[Callback] = (),
    resume: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Transferred:
    """Turns a pretrained network to other images, as the lectures' table has it (see `plan_transfer`, which decides, and is printed).

        model = models.create("resnet18", input_shape=(3, 224, 224))
        train.load_pretrained(model, "resnet18-f37072fd.pth")
        result = train.transfer(model, photos, validation, similar=True, normalize=imagenet)
        result.trainer.evaluate(test)
        result.trainer.save_model("ants-or-bees.safetensors")

    The model is changed in place: its last layer is replaced (see `replace_head`), and parts of it are frozen (`freeze`). Then

    - similar and little data: a linear classifier on the top-layer features becomes the last layer; nothing else is trained.
    - much data: the same first, so that the gradients of a random last layer do not spoil the features (Kumar et al., "Fine-tuning can distort
      pretrained features", 2022); then the parts that the plan names are fine-tuned for `epochs` epochs at lr / 10, the last stage and the
      head at that, each stage in front of it at `depth_factor` times the one behind it (Howard, Ruder 2018), all falling along a cosine.
      features_first=False begins with a new last layer at the full lr.
    - different and little: linear classifiers on the features of every stage are compared, and the best becomes the model: a models.Cut of the network
      where that stage is not the last. A warning says that little can be hoped for.

    similar, much, frozen: as in plan_transfer. lr: the rate at which such a network is trained from its beginning, by `optimizer`, a function of groups of
    parameters (see optim.groups) and a rate: optim.Adam, functools.partial(optim.SGD, momentum=0.9). The linear classifier is softmax regression with
    features of mean 0 and deviation 1, by L-BFGS, whose penalty is chosen on `validation`, or, without it, by five folds of the training set; it
    sees the images as they are, without augmentation, once. train: as Trainer.fit takes it; a Loader with augmentation augments in fine-tuning, and has
    a normalize and a batch_size of its own. normalize: how the network's images were prepared; left out, as a Trainer or a file of fastnn's says, else a
    Loader's, else (with a warning) fitted on `train`. resume: a checkpoint of the fine-tuning; features are passed over, and training goes on with
    the same bits. batch_size, precision, callbacks, progress: of Trainer and fit. seed: of the new layer, order and dropout; results are a function of it.

    Returns a Transferred. ValueError as plan_transfer, Trainer and fit raise it, and for a model that does more to the last layer's outputs than multiply
    them by a number; Interrupted as fit; RuntimeError while another thread fits the model.
    """
    what = "transfer"
    refuse_others(what, "model", instance(what, "model", model, Module, "a Module"))
    flag(what, "features_first", features_first), flag(what, "progress", progress)
    integer(what, "epochs", epochs, 0), integer(what, "seed", seed, 0, 2**63)
    number(what, "lr", lr, "(0, inf)"), number(what, "depth_factor", depth_factor, "(0, 1]")
    _check_maker(what, optimizer)
    checked_precision(precision, device_of(model), what)
    if batch_size is not None:
        integer(what, "batch_size", batch_size, 1)
    shape = None
    if normalize is not None:
        instance(what, "normalize", normalize, Preprocessing, "a data.Normalize, MeanImage, PCA or ZCA")
        shape = normalize.output_shape(_dataset(what, train, "train").shape)
    plan = plan_transfer(model, train, similar=similar, much=much, frozen=frozen, input_shape=shape)
    training, judging = (
        None if data is None else _dataset(what, data, name) for data, name in ((train, "train"), (validation, "validation"))
    )
    assert training is not None
    if judging is not None:
        refuse_other_names(f"{what}: validation", judging.classes, "the training set", training.classes)
        if judging.labels.max(initial=-1) >= training.num_classes:
            raise ValueError(
                f"{what}: validation has the label {judging.labels.max()}; the training set has {training.num_classes} classes, counted from 0: give "
                "both the same classes"
            )
    prepared = _normalize(model, train, training, normalize)
    _refuse_others(what, plan, prepared, device_of(model), train=train, validation=validation)
    if progress:
        print(plan, flush=True)
    made = _Maker(model, training, judging, plan, prepared, seed, batch_size)
    result = Transferred(None, plan)  # type: ignore[arg-type]
    if plan.little and not plan.similar:
        model = _best_stage(made, result)
        head = last_layer(what, model)[0]
    else:
        with random.using(random.Generator(seed)):
            head = replace_head(model, training.num_classes)
        if resume is None and (features_first or plan.little):
            result.accuracy, result.layer = made.take_over(model, made.probed(None)), head
    _train_alone(model, (*plan.tuned, head))
    factors = _factors(plan, head, 1.0 if features_first or plan.little else 1 / _TENTH, depth_factor)
    rate = schedules.cosine(_TENTH * lr, max(1, epochs), unit="epoch")
    result.trainer = Trainer(
        model,
        instance(what, "what optimizer gives", optimizer(groups(model, lr=rate, factors=factors), rate), Optimizer, "an optimizer"),
        seed=seed,
        normalize=prepared,
        classes=training.classes,
        resize=training.resize,
        precision=precision,
    )
    if progress and (words := str(result).removeprefix(str(plan)).strip()):
        print(words, flush=True)
    if not plan.little:
        result.trainer.fit(train, epochs, validation, batch_size=batch_size, callbacks=callbacks, resume=resume, progress=progress)
    elif not plan.similar:
        warn(
            "transfer: few images, different from those of the network: none of its features is made for them. More images, a network that was trained on "
            "more similar ones, or strong augmentation help more than any choice of layers"
        )
    return result


def _check_maker(what: str, optimizer: Any) -> None:
    if not callable(optimizer) or isinstance(optimizer, type) and not issubclass(optimizer, Optimizer):
        raise TypeError(f"{what}: optimizer must be {_OPTIMIZER}, got {shown(optimizer)}")


def _refuse_others(what: str, plan: TransferPlan, prepared: Preprocessing, device: str, **given: Data | None) -> None:
    """ValueError for a Loader that fit would refuse, when the model was changed."""
    for name, data in given.items():
        if plan.little or not isinstance(data, Loader):
            continue
        if not same(data.normalize, prepared):
            raise ValueError(f"{what}: {name}: the loader has normalize={data.normalize}, the network {prepared}; give both the same")
        if data.device != device:
            raise ValueError(f"{what}: {name}: the loader gives batches on {data.device}, the model lies on {device}; give both the same")


def _dataset(what: str, data: Data, name: str) -> Dataset:
    return data.dataset if isinstance(data, Loader) else as_dataset(data, f"{what}: {name}", loader=True)


def _normalize(model: Module, train: Data, training: Dataset, given: Preprocessing | None) -> Preprocessing:
    """How the images are prepared: as they were for the pretrained network."""
    if given is not None:
        return given
    found = known(model) or (train.normalize if isinstance(train, Loader) else None)
    if found is not None:
        return found
    warn(
        "transfer: nothing says how the images of the pretrained network were prepared; mean and deviation of the training set are taken: give its "
        "normalize, of torchvision's weights data.Normalize([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])"
    )
    return Normalize.fit(training)


def _train_alone(model: Module, parts: Sequence[str]) -> None:
    """Freezes all but these parts; in them, too, what the maker of a layer froze beside others that are trained (airbench94's gammas)."""
    fixed = []
    for module in model.modules():
        own = [p for p in module._parameters.values() if p is not None]
        if any(p.requires_grad for p in own):
            fixed += [p for p in own if not p.requires_grad]
    freeze(model)
    unfreeze(model, *parts)
    for p in fixed:
        p.requires_grad = False


def _factors(plan: TransferPlan, head: str, of_head: float, falling: float) -> dict[str, float]:
    """By which the rate is multiplied: 1 for the last stage, and less from stage to stage towards the input."""
    by_stage = [[part for part in stage.parts if part in plan.tuned] for stage in plan.stages]
    tuned = [parts for parts in by_stage if parts]
    return {head: of_head, **{part: falling**depth for depth, parts in enumerate(reversed(tuned)) for part in parts}}


@dataclass
class _Maker:
    """What linear classifiers are made of."""

    model: Module
    training: Dataset
    validation: Dataset | None
    plan: TransferPlan
    normalize: Preprocessing
    seed: int
    batch_size: int | None

    def probed(self, layer: str | None) -> Probe:
        """A linear classifier on what a layer gives, or on what goes into the last one."""
        sets = [None if part is None else self._features(part, layer) for part in (self.training, self.validation)]
        assert sets[0] is not None
        centred = layer is not None or last_layer("transfer", self.model)[1].bias is not None
        return probe(sets[0], sets[1], self.training.num_classes, centred=centred, seed=self.seed)

    def _features(self, dataset: Dataset, layer: str | None) -> ArrayDataset:
        return features(self.model, dataset, layer, normalize=self.normalize, batch_size=self.batch_size)

    def take_over(self, model: Module, found: Probe) -> float:
        """Puts the classifier into the last layer. What the model does to its outputs, a factor, is taken out. Returns its accuracy."""
        layer = last_layer("transfer", model)[1]
        _put(layer, found, 1.0)
        few = self.training.take(np.arange(min(_LOOKED_AT, len(self.training))))
        rows = features(model, few, normalize=self.normalize).images
        batch = Loader(few, len(few), normalize=self.normalize, device=device_of(model)).batch(np.arange(len(few)))[0]
        with mode(model, False), no_grad():
            given = np.asarray(model(batch).numpy(), np.float64)
        wanted = np.einsum("nf,kf->nk", rows, found.weight) + found.bias
        factor = float((given * wanted).sum() / max(1e-30, (wanted * wanted).sum())) if given.shape == wanted.shape else 0.0
        if factor <= 0 or np.abs(given - factor * wanted).max() > 1e-2 * max(1e-6, np.abs(given).max()):
            raise ValueError(
                "transfer: the model does more to the last layer's outputs than multiply them by a number, or does not give them; expected one that "
                "gives logits: features_first=False trains it all the same"
            )
        if abs(factor - 1) > 1e-3:
            _put(layer, found, factor)
        return found.accuracy


def _put(layer: Linear | Conv2d, found: Probe, factor: float) -> None:
    layer.weight.copy_from((found.weight / factor).reshape(layer.weight.shape).astype(np.float32))
    if layer.bias is not None:
        layer.bias.copy_from((found.bias / factor).astype(np.float32))


def _best_stage(made: _Maker, result: Transferred) -> Module:
    """The network, or what of it lies in front of the stage whose features tell the classes best."""
    model = made.model
    candidates: list[tuple[str, Stage | None]] = [(stage.layer, stage) for stage in made.plan.stages[:-1]]
    candidates.append((made.plan.head, None))
    probes = {name: made.probed(None if stage is None else stage.layer) for name, stage in candidates}
    result.stages = {name: found.accuracy for name, found in probes.items()}
    best = min(reversed(probes), key=lambda name: (-np.nan_to_num(probes[name].accuracy), probes[name].loss))
    result.layer, result.accuracy = best, probes[best].accuracy
    with random.using(random.Generator(made.seed)):
        if best == made.plan.head:
            replace_head(model, made.training.num_classes)
            made.take_over(model, probes[best])
            return model
        of: Any = getattr(model, "architecture", None)
        if of and isinstance(model, models.Cut):
            of = of["of"]
        cut = models.Cut(model, best, made.training.num_classes, probes[best].weight.shape[1])
    if of:
        cut.architecture = {
            "name": "cut",
            "input_shape": tuple(made.normalize.output_shape(made.training.shape)),
            "num_classes": made.training.num_classes,
            "of": {key: value for key, value in of.items() if key != "input_shape"},
            "layer": cut.layer,
            "features": cut.fc.in_features,
        }
    _put(cut.fc, probes[best], 1.0)
    return cut
