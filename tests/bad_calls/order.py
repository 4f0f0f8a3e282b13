"""Calls in an order that nobody meant: some on one world of objects that belong together, drawn at random, each after whatever came before."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn import files, models, neighbors, nn, optim, train

from . import RAW, names_its_file
from .data import rows_set
from .expectations import says_what_would_do


class World:
    """A model, its optimizer, average, trainer and captured step; a classifier that saw nothing; a loop over batches; files in the folder."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
        self.optimizer = optim.SGD(self.model.parameters(), 0.1, momentum=0.9)
        self.ema = optim.EMA(self.model, 0.9)
        self.trainer = train.Trainer(self.model, self.optimizer, ema=self.ema)
        self.step = fastnn.capture(self.whole_step)
        self.frozen = nn.frozen(self.model)
        self.loss = self.forward()
        self.lbfgs = optim.LBFGS(self.model.parameters())
        self.batches = fastnn.data.Loader(rows_set(), 5).batches(0)
        self.neighbors = neighbors.KNeighborsClassifier(2)
        self.why_slow = train.WhySlow()
        self.counted = iter(range(1000))

    def x(self) -> fastnn.Tensor:
        return fastnn.tensor(np.ones((4, 5)))

    def forward(self) -> fastnn.Tensor:
        return (self.model(self.x() + fastnn.tensor(np.arange(20.0).reshape(4, 5))) ** 2.0).mean()

    def whole_step(self, x: fastnn.Tensor) -> fastnn.Tensor:
        self.optimizer.zero_grad()
        loss = (self.model(x) ** 2.0).mean()
        loss.backward()
        self.optimizer.step()
        return loss

    def in_a_thread(self) -> None:
        caught: list[BaseException] = []

        def call() -> None:
            try:
                self.step(self.x())
            except Exception as error:
                caught.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        if caught:
            raise caught[0]

    def fit(self, **keywords: Any) -> None:
        self.trainer.fit(rows_set(), 1, batch_size=5, progress=False, **keywords)


def replaced(world: World) -> None:
    world.model[2] = nn.Linear(4, 2)
    world.model[2](world.model[1](world.model[0](world.x())))


def nested_profile(world: World) -> None:
    with fastnn.profile(), fastnn.profile():
        world.forward()


def fit_within_a_fit(world: World) -> None:
    class Inner(train.Callback):
        def after_step(self, trainer: train.Trainer, loss: float) -> None:
            trainer.fit(rows_set(), 1, batch_size=5, progress=False)

    world.fit(callbacks=[Inner()])


def unfinished() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(3, 3)

    return Net()


def another(world: World) -> Callable[[], Any]:
    """A network of another shape."""
    return lambda: models.create("mlp", input_shape=(1, 5, 1), num_classes=3, hidden=(6,))


CALLS: dict[str, Callable[[World], Any]] = {
    "forward": lambda w: setattr(w, "loss", w.forward()),
    "backward": lambda w: w.loss.backward(),
    "backward of no scalar": lambda w: w.model(w.x()).backward(),
    "backward of a constant": lambda w: w.x().sum().backward(),
    "backward without recording": lambda w: unrecorded(w).backward(),
    "step": lambda w: w.optimizer.step(),
    "zero_grad": lambda w: w.optimizer.zero_grad(),
    "clip before backward": lambda w: optim.clip_grad_norm_(w.model.parameters(), 1.0),
    "lbfgs without a closure": lambda w: w.lbfgs.step(),
    "lbfgs without a loss": lambda w: w.lbfgs.step(lambda: None),
    "captured": lambda w: w.step(w.x()),
    "captured, other shape": lambda w: w.step(fastnn.tensor(np.ones((3, 5)))),
    "captured, wrong shape": lambda w: w.step(fastnn.tensor(np.ones((3, 6)))),
    "captured, an array": lambda w: w.step(np.ones((4, 5))),
    "captured in a thread": World.in_a_thread,
    "captured within captured": lambda w: fastnn.capture(lambda x: w.step(x))(w.x()),
    "captured, looks": lambda w: fastnn.capture(lambda x: float((x * 2.0).sum()))(w.x()),
    "captured, gives an object": lambda w: fastnn.capture(lambda x: w)(w.x()),
    "captured, other every time": lambda w: fastnn.capture(lambda x: x * float(next(w.counted)))(w.x()),
    "capture released": lambda w: w.step.release(),
    "frozen": lambda w: w.frozen(w.x()),
    "frozen, wrong shape": lambda w: w.frozen(fastnn.tensor(np.ones((4, 6)))),
    "a layer replaced": replaced,
    "a layer that is not there": lambda w: w.model[7],
    "a layer of another kind": lambda w: w.model.__setitem__(0, "relu"),
    "swap": lambda w: w.ema.swap(),
    "update": lambda w: w.ema.update(),
    "load what was not saved": lambda w: w.trainer.fit(rows_set(), 2, resume="never", progress=False),
    "load a model that was not saved": lambda w: train.load_model("never"),
    "save": lambda w: w.trainer.save("saved"),
    "load": lambda w: w.trainer.fit(rows_set(), 2, resume="saved", batch_size=5, progress=False),
    "load into another network": lambda w: train.load_model("saved", model=another(w)()),
    "reproduce a checkpoint": lambda w: train.reproduce("saved"),
    "model and optimizer of two": lambda w: train.Trainer(another(w)(), w.optimizer).fit(rows_set(), 1, progress=False),
    "load_state_dict of another": lambda w: w.model.load_state_dict(another(w)().state_dict()),
    "optimizer's state of another": lambda w: w.optimizer.load_state_dict(optim.Adam(w.model.parameters()).state_dict()),
    "average's state of another": lambda w: w.ema.load_state_dict(optim.EMA(another(w)()).state_dict()),
    "group twice": lambda w: w.optimizer.add_param_group({"params": list(w.model.parameters())}),
    "fit": World.fit,
    "fit within a fit": fit_within_a_fit,
    "evaluate": lambda w: w.trainer.evaluate(rows_set()),
    "restore_best": lambda w: w.trainer.restore_best(),
    "plot nothing": lambda w: w.trainer.history["loss"],
    "report before fit": lambda w: w.why_slow.report(),
    "nested profile": nested_profile,
    "batches, one": lambda w: next(w.batches),
    "batches, closed": lambda w: w.batches.close(),
    "predict before fit": lambda w: w.neighbors.predict(np.ones((2, 3))),
    "no super().__init__()": lambda w: unfinished(),
    "no forward": lambda w: nn.Module()(w.x()),
    "epochs without their number": lambda w: optim.SGD(w.model.parameters(), optim.schedules.step(0.1, (1,))).step(),
    "double": lambda w: w.model.double(),
    "float": lambda w: w.model.float(),
    "train": lambda w: w.model.train(),
    "eval": lambda w: w.model.eval(),
    "memory checks": lambda w: fastnn.set_finite_checks(False),
    "arrays of a folder": lambda w: files.read(os.getcwd()),
}
# what a text may name
NAMES = (
    "backward", "Linear", "BatchNorm1d", "SGD", "LBFGS", "capture", "captured", "Sequential", "EMA", "never", "saved", "load_state_dict", "fit", "Trainer",
    "history", "WhySlow", "profile", "KNeighborsClassifier", "super", "forward", "Optimizer", "steps_per_epoch", "clip_grad_norm_", "closure", "step",
    "evaluate", "Module", "CrossEntropyLoss", "model", "checkpoint",
)  # fmt: skip
KINDS = (
    ValueError,
    TypeError,
    RuntimeError,
    IndexError,
    AttributeError,
    NotImplementedError,
    FileNotFoundError,
    IsADirectoryError,
    KeyError,
    StopIteration,
)


def unrecorded(world: World) -> fastnn.Tensor:
    with fastnn.no_grad():
        return world.forward()


def wrong(error: BaseException) -> str | None:
    text = str(error)
    if type(error) is StopIteration:
        return None  # Python's own end
    if not isinstance(error, (fastnn.DeviceError, fastnn.OutOfMemoryError, files.CorruptFile, train.Diverged)) and not (
        type(error) in KINDS or type(error).__name__ == "CaptureError"
    ):
        return f"{type(error).__name__} is no answer"
    if not text or "\n" in text:
        return "not one line"
    if raw := RAW.search(text):
        return f"{raw.group()!r} is what happened inside"
    if isinstance(error, (OSError, files.CorruptFile)):
        return None if names_its_file(error, ("saved",)) else "names no file"
    if not says_what_would_do(text):
        return "does not say what would be right"
    return None if any(name in text for name in NAMES) else "names nothing"
