"""The Trainer: fit, evaluate, predict."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from .. import devices, files, random, recording
from ..data import Loader, Resize
from ..data.dataset import checked_classes
from ..data.preprocessing import Preprocessing
from ..dist import Group
from ..nn import CrossEntropyLoss, Module, Penalty
from ..optim import EMA, Optimizer, schedules
from ..tensor import Tensor
from ..uncopied import Uncopied
from . import checkpoint, evaluation, interrupt
from .architectures import architecture_of
from .callbacks import Callback, Progress
from .checkpoint import Snapshot
from .diverged import check_loss
from .evaluation import Data, Loss, checked_value
from .history import History
from .inference import Inference
from .learned import kept_loss
from .loading import remaining_batches, training_loader, validation_of
from .metrics import Metric, by_name
from .names import names_of_evaluate, names_of_fit, names_of_report, names_of_trainer, warn_of_short_schedules
from .per_class import ClassReport, reported
from .precision import Forward, checked_precision
from .put_back import told
from .replays import Replays
from .settings import Settings
from .stepping import Stepping, alone, average_of, checked_batch, checked_fit, checked_loss, checked_parts
from .views import View


class Trainer(Settings, Uncopied, instead="save(path) writes all of it, fit(..., resume=path) goes on; save_model(path) keeps the model"):
    """Trains a model; the result is a pure function of the seed, the data and the model's initial weights.

        trainer = Trainer(model, optimizer, seed=0)
        trainer.fit(train, epochs=20, validation=validation)
        trainer.evaluate(test)      # {"loss": ..., "accuracy": ...}
        trainer.predict(images)     # probabilities (N, classes)

    loss: function of (logits, labels), CrossEntropyLoss() by default. metrics: names or functions, see train.metrics. l1, l2: penalties on
    the weights, see nn.Penalty: terms of every loss that is shown, in training and evaluation, since they are minimised with it. A loss that is
    a nn.Module may have parameters (given to the optimizer, too) and buffers: checkpoints have them, the best snapshot and save_model do not.
    device: where the model is moved to and trained, "cpu" or "cuda"; left out, where it lies. precision: "float32", or "bf16" for mixed
    training: activations and the operands of products in bfloat16, weights, sums, statistics and loss in float32. normalize: data.Normalize,
    MeanImage, PCA or ZCA; left out, `fit` fits mean and std per channel on its training set; a Loader has its own. accumulate: batches per step,
    each counted by what its loss's mean divides by; without batch norm that is the gradient of all of them together, as of one large batch; a
    replayed step has all of them at once, and where memory has no room for that, or labels weigh differently, steps are eager. clip_norm,
    clip_value: limits of the gradients (optim.clip_grad_norm_, clip_grad_value_). ema: a decay (0.999) or an optim.EMA (then stepping.ema);
    evaluate, predict, the best snapshot and save_model use the averaged weights. evaluate and predict run a frozen copy (nn.frozen) of a model
    that is made of fastnn's own parts; `inference.form` says what they ran. architecture (arguments of models.create; known of a model made by
    it), classes and resize (left out, the training set's) are stored in what `save_model` writes. group: dist.init(), of processes that train
    together: all call fit, evaluate and report; batches are the whole ones, figures those of all. Where training stands: `epoch` and `batch`
    (counts of what is done), `history`, `best` (the snapshot with the best validation accuracy, at equal accuracy the lower loss).
    """

    @names_of_trainer
    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Loss | None = None,
        *,
        metrics: Sequence[str | Metric] = ("accuracy",),
        l1: float = 0.0,
        l2: float = 0.0,
        seed: int = 0,
        device: str | None = None,
        precision: str = "float32",
        normalize: Preprocessing | None = None,
        classes: Sequence[str] | None = None,
        architecture: Mapping[str, Any] | None = None,
        resize: Resize | None = None,
        accumulate: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        ema: EMA | float | None = None,
        group: Group | None = None,
    ) -> None:
        checked_parts(model, optimizer, normalize, resize, l1, l2)
        self.device = evaluation.device_of(model) if device is None else devices.resolve(device)
        self.model, self.optimizer, self.loss = model, optimizer, checked_loss(CrossEntropyLoss() if loss is None else loss)
        self.penalty = Penalty(model, l1=l1, l2=l2) if l1 or l2 else None
        for part in filter(None, (model, kept_loss(self.loss))):
            part.to(self.device)
        self.precision = checked_precision(precision, self.device)
        self.metrics, self.architecture = by_name(metrics), architecture_of(model, architecture)
        self.stepping = Stepping(accumulate, clip_norm, clip_value, average_of(model, ema), group)
        self.generator = random.Generator(seed)  # dropout draws from it
        self.normalize, self.classes, self.resize = normalize, checked_classes("Trainer", classes), resize
        self.notes: dict[str, Any] = {}  # anything JSON can hold; kept in files
        self.history = History()
        self.best: Snapshot | None = None
        self._validated: list[Callable[[], Any]] = []  # which data it was judged by, unless that is gone
        self.epoch = self.batch = 0
        self.epochs = self.batches = 0  # where `fit` is heading
        self.stop = self.resumed = False  # resumed: whether the running fit goes on from a checkpoint
        self.sums: dict[str, float] = {}  # of the running epoch
        self.data: dict[str, int] = {}  # samples, batch size and order: what a position within an epoch depends on
        self._callbacks: list[Callback] = []
        self._saved: str | None = None
        self.replayed = ""  # of the last fit: whether its steps were replayed, or why not
        self._replays = Replays(self, False)
        self.inference = Inference()  # of evaluate and predict; its `form` says what they ran
        self._batch: tuple[Tensor, Tensor] | None = None  # the last one
        self._settle()

    # --- training

    @names_of_fit
    @alone
    def fit(
        self,
        train: Data,
        epochs: int,
        validation: Data | None = None,
        *,
        batch_size: int | None = None,
        callbacks: Sequence[Callback] = (),
        resume: str | os.PathLike[str] | None = None,
        restore_best: bool = True,
        progress: bool = True,
        replay: bool | str = "auto",
    ) -> History:
        """Trains for `epochs` more epochs; with `resume` (a checkpoint), goes on from there until `epochs` are done in all.

        train: a data set (shuffled by the trainer's seed, in batches of 64 unless batch_size says another number), a Loader, which has a
        batch_size of its own (ValueError for another one), (images, labels), or any object whose items are (image, label).
        With validation data the best snapshot is kept and, unless restore_best=False, put back at the end (that of an earlier fit only
        where the same data judged it). Ctrl-C and SIGTERM end the step, let the callbacks save, and raise Interrupted. Diverged when
        the loss or the norm of the gradients is no number: the step is repeated op by op, and the message names op, layer, element and sample.
        replay: "auto" records the step and runs it again without Python (fastnn.capture; the same bits) where all that it runs, this class
        too, is fastnn's own; True for any, ValueError or CaptureError when that cannot be; False never. `replayed` says what came of it.
        """
        callbacks = checked_fit(self, epochs, batch_size, callbacks, restore_best, progress)
        self.resumed = resume is not None
        if resume is not None:
            checkpoint.load(self, resume)
        loader, validation = training_loader(self, train, batch_size), validation_of(self, validation)
        self.epochs, self.batches, self.stop = epochs if resume is not None else self.epoch + epochs, len(loader), False
        self.optimizer.steps_per_epoch = self.stepping.steps(loader)
        warn_of_short_schedules(self.optimizer, self.epochs)
        self._callbacks, self._saved = self.stepping.kept([*([Progress()] if progress else []), *callbacks]), None
        self._replays = Replays(self, replay)
        self.inference.release()
        try:
            with interrupt.around(self), random.using(self.generator), evaluation.mode(self.model, True, self.loss):
                self._emit("before_fit")
                while self.epoch < self.epochs and not self.stop:
                    self._run_epoch(loader, validation)
                self._emit("after_fit")
        finally:
            self._callbacks = []
            self._batch = None
            self._replays.end()
        if restore_best:
            self.restore_best()
        return self.history

    def step(self, x: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        """One step on one batch, with the trainer's generator for dropout, as in `fit`. Returns the loss before the update and the logits."""
        checked_batch(self, x, labels)
        with told(self, x, labels):
            ((loss, logits),) = self.stepping.update(self, [(x, labels, 1.0, 1.0)])
        return float(loss), logits

    def gradients(self, x: Tensor, labels: Tensor, share: float = 1.0, penalised: float = 1.0) -> tuple[Tensor, Tensor]:
        """Forward, loss, backward on one batch: `share` times its gradients are added to what is there. Returns the loss and the logits."""
        self._batch = x, labels
        self.stepping.begin(x)
        logits = self.forward(x)
        loss = self.objective(logits, labels, penalised)
        recording.look(loss, lambda loss: check_loss(self, float(loss)), unless_finite=True)
        loss.backward(None if share == 1 else share)
        return loss, logits

    def objective(self, logits: Tensor, labels: Tensor, penalised: float = 1.0) -> Tensor:
        """What is minimised: the loss, and the penalties on the weights (or their share, of one batch of several)."""
        loss = checked_value(self.loss(logits, labels))
        return loss if self.penalty is None else loss + self.penalty() * penalised

    @property
    def forward(self) -> Forward:
        """model(x) in the trainer's precision."""
        return Forward(self.model, self.precision, self.inference)

    def restore_best(self) -> None:
        """Puts the best snapshot into the model; without one (no validation data) the last weights stay."""
        if self.best is not None:
            self.model.load_state_dict(self.best.arrays)
            self.optimizer.weights_replaced()
            self.stepping.forget_average()

    def _run_epoch(self, loader: Loader, validation: Data | None) -> None:
        sums = self.stepping.sums(self)
        self.sums = sums.values
        self._emit("before_epoch")
        self.sums.setdefault("lr", self.optimizer.rates()[0])  # behind the callbacks, which may set it
        start = time.perf_counter() - self.sums.get("seconds", 0.0)
        with closing(remaining_batches(self, loader)) as batches:
            for counts in self.stepping.counts(loader, self.batch):
                self._emit("before_step")
                loss = self.stepping.take(self, batches, counts, sums.add)
                self.sums["seconds"] = time.perf_counter() - start
                self._emit("after_step", loss)
                interrupt.check()
        row = {"epoch": self.epoch + 1, **sums.means()}
        if validation is not None:
            row.update({f"val_{name}": value for name, value in self.evaluate(validation).items()})
            self.inference.release()  # the next epoch has other weights, and may need the memory
        row.update(lr=self.sums["lr"], seconds=time.perf_counter() - start)
        self._finish_epoch(row)

    def _finish_epoch(self, row: dict[str, float]) -> None:
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}
        self.history.append(row)
        schedules.notice([group["lr"] for group in self.optimizer.param_groups], row)
        if "val_loss" in row:
            snapshot = Snapshot(self.epoch, row.get("val_accuracy", 0.0), row["val_loss"], {})
            if snapshot.better_than(self.best):
                with self.stepping.averaged():
                    snapshot.arrays = self.model.state_dict()
                self.best = snapshot
        self._emit("after_epoch", self.history.rows[-1])
        interrupt.check()

    # --- using the model

    @names_of_evaluate
    def evaluate(self, data: Data) -> dict[str, float]:
        """Mean loss and metrics over a data set, in evaluation mode: {"loss": ..., "accuracy": ...}."""
        return evaluation.of_trainer(self, data)

    @names_of_report
    def report(self, data: Data) -> ClassReport:
        """Confusion matrix, precision, recall and F1 of each class over what `evaluate` takes, by the same pass: see train.ClassReport."""
        return reported(lambda counts: evaluation.of_trainer(self, data, counts), self.classes)

    def predict(self, data: Any, *, views: Sequence[View] | None = None) -> np.ndarray:
        """Probabilities (N, classes) for a data set, a Loader, raw images or image files (by `resize`); a Tensor goes to the model as it is.
        views: of each image, over which probabilities are averaged, such as train.ten_crops(size) or train.six_views(); see average_views."""
        with self.stepping.averaged():
            return evaluation.predict(self.forward, data, self.normalize, self.resize, views)

    # --- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a checkpoint (one safetensors file, replaced whole): `fit(..., resume=path)` goes on from it, bit for bit."""
        checkpoint.save(self, path)
        self._saved = os.fspath(path)

    def save_model(self, path: str | os.PathLike[str]) -> None:
        """Writes the model with its classes and preprocessing; `train.load_model(path)` makes it ready to predict."""
        with files.memory_for(path, "written"), self.stepping.averaged():
            checkpoint.save_model_of(self, path)

    # --- inside

    def _emit(self, event: str, *args: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(self, *args)
