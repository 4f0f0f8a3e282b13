"""What the two estimators of scikit-learn have in common: which network, which data, how it is trained. Nothing here needs scikit-learn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import devices, models, random
from ..arguments import flag, function, instance, integer, number, one_of, other_word, shown, text
from ..data import ArrayDataset, Loader, Normalize
from ..data.loader import Batches
from ..nn import Module
from ..optim import Optimizer, schedules
from ..optim.presets import OPTIMIZERS, SCHEDULES
from ..tensor import Tensor, no_grad, tensor
from ..train import Callback, Trainer
from ..train.evaluation import draws_put_back, mode
from ..train.inference import Inference
from ..train.precision import Forward, checked_precision

_OF_MLP = {"hidden": (100,), "dropout": 0.0}  # as MLPClassifier's
_ROWS = 256  # of a batch that is predicted


def checked_settings(what: str, settings: Mapping[str, Any]) -> None:
    """Of an estimator, in fit, as scikit-learn wants it; what the Trainer looks at is left to it."""
    model, options, optimizer = settings["model"], settings["model_options"], settings["optimizer"]
    if not isinstance(model, Module) and not callable(model):
        one_of(what, "model", model, models.names())
    if options is not None:
        instance(what, "model_options", options, Mapping, "a dict of arguments of the model's maker, or None")
        for name in options:
            text(what, "a name in model_options", name)
        if options and isinstance(model, Module):
            raise ValueError(f"{what}: model_options must be None where model is made already; they are arguments of its maker")
    if not isinstance(settings["device"], str):
        raise other_word(what, "device", settings["device"], "a name, such as 'cpu' or 'cuda'")
    class_of_another = isinstance(optimizer, type) and not issubclass(optimizer, Optimizer)
    if class_of_another or isinstance(optimizer, Module) or not callable(optimizer):
        one_of(what, "optimizer", optimizer, tuple(OPTIMIZERS))
    if settings["loss"] is not None:
        function(what, "loss", settings["loss"], "a function of outputs and targets, such as nn.CrossEntropyLoss(), or None")
    one_of(what, "schedule", settings["schedule"], tuple(SCHEDULES))
    checked_precision(settings["precision"], devices.resolve(settings["device"]), what)
    number(what, "lr", settings["lr"], "[0, inf)")
    number(what, "l2", settings["l2"], "[0, inf)")
    integer(what, "epochs", settings["epochs"], 1), integer(what, "batch_size", settings["batch_size"], 1)
    integer(what, "n_iter_no_change", settings["n_iter_no_change"], 1)
    number(what, "validation_fraction", settings["validation_fraction"], "(0, 1)")
    flag(what, "early_stopping", settings["early_stopping"]), flag(what, "verbose", settings["verbose"])


def checked_samples(what: str, x: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Rows (N, D) or images (N, C, H, W), bytes or float32; of this shape where a model was fitted."""
    if x.ndim not in (2, 4):
        raise ValueError(f"{what}: X must be rows (N, D) or images (N, C, H, W), got shape {x.shape}; X.reshape makes one of them")
    if shape is not None and x.shape[1:] != shape:
        raise ValueError(f"{what}: X has samples of shape {x.shape[1:]}; expected {shape}, as fit was given")
    if x.dtype == np.uint8:
        return x
    with np.errstate(over="ignore"):
        narrow: np.ndarray = x.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise ValueError(f"{what}: X holds values beyond {np.finfo(np.float32).max:.3g}, the largest float32; it must be scaled before")
    return narrow


def made(what: str, settings: Mapping[str, Any], shape: tuple[int, ...], outputs: int, seed: int) -> Module:
    """The network for these samples: by its name, by what makes it, or a copy of the one that was given."""
    model, given = settings["model"], dict(settings["model_options"] or {})
    if isinstance(model, str) and model in models._OF_IMAGES and len(shape) != 3:
        instead = "X.reshape(-1, C, H, W) makes some of rows of pixels, and 'mlp' takes rows"
        raise ValueError(f"{what}: model {model!r} takes images (N, C, H, W), X has rows of {shape[0]}; {instead}")
    with random.using(random.Generator(seed)):
        if isinstance(model, Module):
            net = deepcopy(model)
        elif isinstance(model, str):
            net = models.create(model, input_shape=shape, num_classes=outputs, **({**_OF_MLP, **given} if model == "mlp" else given))
        else:
            keywords = {"input_shape": shape, "num_classes": outputs, **given}
            _takes(what, "model", model, **keywords)
            net = instance(what, "what model(...) returns", model(**keywords), Module, "a Module")
        with draws_put_back(), mode(net, False), no_grad():
            y = net(tensor(np.zeros((2, *shape), np.float32), device=next((p.device for p in net.parameters()), "cpu")))
    if not isinstance(y, Tensor) or y.shape != (2, outputs):
        got = y.shape if isinstance(y, Tensor) else shown(y)
        raise ValueError(f"{what}: model gives {got} for two samples of shape {shape}; expected (2, {outputs})")
    return net


def _takes(what: str, name: str, maker: Any, *words: Any, **keywords: Any) -> None:
    """TypeError for a function, or a class, that cannot be called so."""
    try:
        inspect.signature(maker).bind(*words, **keywords)
    except TypeError:
        wanted = f"the keywords {', '.join(keywords)}" if keywords else "a model and a rate"
        raise TypeError(f"{what}: {name} must be a function or class that takes {wanted}, got {shown(maker)}") from None
    except ValueError:  # of C, which does not say
        pass


@dataclass
class Fitted:
    """A network under way: what a later call trains on from, in this process or behind a pickle."""

    model: Module
    normalize: Normalize
    seed: int
    draw: int = 0
    epoch: int = 0
    optimizer: dict[str, Any] | None = None
    inference: Inference = field(default_factory=Inference)

    def outputs(self, x: np.ndarray, device: str) -> np.ndarray:
        """(N, outputs) in evaluation mode, float32; row by row the same for any number of rows but for rounding."""
        self.model.to(device)
        loader = Loader(ArrayDataset(x, np.zeros(len(x), np.int64)), _ROWS, normalize=self.normalize, device=device, prefetch=0)
        with draws_put_back(), mode(self.model, False), no_grad():
            run = Forward(self.model, inference=self.inference).evaluating()
            return np.concatenate([np.asarray(run(batch).numpy()) for batch, _ in loader.batches(0)])

    def train(
        self,
        what: str,
        settings: Mapping[str, Any],
        x: np.ndarray,
        labels: np.ndarray,
        loss: Any,
        callbacks: list[Callback],
        epochs: int,
        schedule: str,
    ) -> list[float]:
        """Epochs more, in one fit of a Trainer; the loss of each."""
        steps = epochs * -(-len(x) // settings["batch_size"])
        optimizer = _optimizer(what, settings, self.model, SCHEDULES[schedule](float(settings["lr"]), steps))
        if self.optimizer is not None:
            optimizer.load_state_dict(self.optimizer)
        trainer = Trainer(
            self.model,
            optimizer,
            loss,
            metrics=(),
            l2=settings["l2"],
            seed=self.seed,
            device=settings["device"],
            precision=settings["precision"],
            normalize=self.normalize,
        )
        trainer.epoch, trainer.generator.draw = self.epoch, self.draw
        history = trainer.fit(
            ArrayDataset(x, labels), epochs, batch_size=settings["batch_size"], callbacks=callbacks, progress=settings["verbose"]
        )
        self.epoch, self.draw, self.optimizer = trainer.epoch, trainer.generator.draw, optimizer.state_dict()
        return [float(row["loss"]) for row in history.rows]


def _optimizer(what: str, settings: Mapping[str, Any], model: Module, rate: schedules.Schedule) -> Optimizer:
    given = settings["optimizer"]
    if isinstance(given, type) and issubclass(given, Optimizer):
        maker: Any = given
        return instance(what, "optimizer", maker(model.parameters(), rate), Optimizer, "an optimizer")
    make: Callable[[Module, Any], Any] = OPTIMIZERS[given] if isinstance(given, str) else given
    _takes(what, "optimizer", make, model, rate)
    return instance(what, "what optimizer(model, rate) returns", make(model, rate), Optimizer, "an optimizer")


class Targets(Callback):
    """Gives, instead of the number of each sample, which stands in the place of a label, its row of targets."""

    def __init__(self, targets: np.ndarray, device: str) -> None:
        self._targets, self._device = targets, device

    def around_batches(self, trainer: Trainer, loader: Loader, batches: Batches) -> Batches:
        for x, numbers in batches:
            yield x, tensor(self._targets[numbers.numpy()], device=self._device)


class Judge(Callback):
    """Scores the network after each epoch, stops when it has not got better for `patience` epochs, and puts the best weights back."""

    def __init__(self, score: Callable[[], float], patience: int) -> None:
        self.scores: list[float] = []
        self.best = -np.inf
        self._score, self._patience, self._waited = score, patience, 0
        self._arrays: dict[str, np.ndarray] | None = None

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        self.scores.append(score := self._score())
        self._waited += 1
        if score > self.best or self._arrays is None:
            self.best, self._waited, self._arrays = score, 0, trainer.model.state_dict()
        trainer.stop = self._waited >= self._patience

    def after_fit(self, trainer: Trainer) -> None:
        if self._arrays is not None:
            trainer.model.load_state_dict(self._arrays)
            trainer.optimizer.weights_replaced()
