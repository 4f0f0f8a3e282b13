"""fastnn.train: the Trainer and what it takes, callbacks, files; calls in the wrong order."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
from tensorboard_stand_in import StandIn

import fastnn
from fastnn import data, nn, optim, train
from fastnn.train import Trainer

from . import Subject
from .data import bytes_set, rows_set
from .optim import Good, constants


def net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(5, 3))


def images_net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def trainer(**options: Any) -> Trainer:
    model = net()
    return Trainer(model, optim.SGD(model.parameters(), 0.1), **options)


def trained(**arguments: Any) -> Any:
    """A Trainer of these parts, and its first epoch."""
    model = arguments.setdefault("model", net())
    optimizer = arguments.pop("optimizer", None)
    model = model if isinstance(model, nn.Module) else net()
    made = Trainer(optimizer=optimizer(model) if type(optimizer) is type(trained) else optimizer, **arguments)
    return made.fit(rows_set(), 1, batch_size=5, progress=False)


def fitted(**arguments: Any) -> Any:
    return trainer().fit(**{"progress": False, **arguments})


def written(name: str) -> str:
    """A file of each kind."""
    if not os.path.exists(name):
        begun = trainer()
        begun.fit(rows_set(), 1, batch_size=5, progress=False)
        begun.save("checkpoint")
        begun.save_model("model")
        with contextlib.suppress(train.Diverged):
            spoilt = trainer(normalize=data.Normalize([0.0] * 5, [1.0] * 5))
            spoilt.fit((np.full((6, 5), np.nan), np.zeros(6, int)), 1, progress=False, callbacks=[train.ModelCheckpoint("checkpoint")])
        with open("junk", "wb") as file:
            file.write(b"\x10" * 300)
        history().save("history.csv")
        os.makedirs("folder", exist_ok=True)
    return name


def a_step(x: Any, labels: Any) -> Any:
    return trainer().step(x, labels)


def with_callback(make: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **a: trainer().fit(rows_set(), 1, rows_set(), batch_size=5, callbacks=[make(**a)], progress=False)


def logged(**arguments: Any) -> Any:
    with patch.dict(sys.modules, tensorboardX=StandIn()):
        return with_callback(train.TensorBoard)(**arguments)


def loaded() -> train.Trained:
    return train.load_model(written("model"), model=net())


def report() -> train.ClassReport:
    return train.ClassReport(np.array([[5, 1, 0], [0, 6, 2], [1, 0, 7]]))


def ensemble() -> train.Ensemble:
    return train.Ensemble([net(), net()])


def pictures_net() -> nn.Module:
    """Of images (1, 4, 4), as bytes_set has them."""
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))


def weights() -> dict[str, Any]:
    return pictures_net().state_dict()


def frozen(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda model, names: call(model, names)


def history() -> train.History:
    return train.History([{"epoch": 1, "loss": 0.5, "accuracy": 0.5}])


def statistics() -> train.ActivationStatistics:
    return train.activation_statistics(nn.Sequential(nn.Linear(5, 3), nn.ReLU()), fastnn.tensor(np.ones((2, 5), np.float32)))


# --- the order of calls


def swapped(times: int, then: str) -> None:
    model = net()
    ema = optim.EMA(model)
    ema.update()
    for _ in range(times % 3 if isinstance(times, int) else 1):
        ema.swap()
    {"update": ema.update, "state": ema.state_dict}.get(then if isinstance(then, str) else "", ema.swap)()


def in_order(first: str, second: str) -> None:
    """Two calls on one trainer, whatever came first."""
    one = trainer(ema=0.9)
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: one.fit(rows_set(), 1, batch_size=5, progress=False),
        "fit other data": lambda: one.fit(bytes_set(), 1, batch_size=5, progress=False),
        "fit nothing": lambda: one.fit((np.zeros((0, 5), np.float32), np.zeros(0, int)), 1, progress=False),
        "evaluate": lambda: one.evaluate(rows_set()),
        "predict": lambda: one.predict(rows_set()),
        "report": lambda: str(one.report(rows_set())),
        "save": lambda: one.save("order"),
        "resume": lambda: one.fit(rows_set(), 2, resume="order", batch_size=5, progress=False),
        "resume a model": lambda: one.fit(rows_set(), 2, resume=written("model"), progress=False),
        "resume junk": lambda: one.fit(rows_set(), 2, resume=written("junk"), progress=False),
        "resume a folder": lambda: one.fit(rows_set(), 2, resume=written("folder"), progress=False),
        "restore_best": one.restore_best,
        "no gradients": one.optimizer.step,
        "save elsewhere": lambda: one.save(os.path.join("absent", "c")),
        "backward twice": lambda: [loss.backward() for loss in [(one.model(fastnn.tensor(np.ones((2, 5))))).sum()] * 2],
        "plot": lambda: one.history.table() + str(one.history["accuracy"]),
        "load elsewhere": lambda: train.load_model(written("model"), model=nn.Linear(3, 3)),
    }
    for name in (first, second):
        calls.get(name if isinstance(name, str) else "fit", calls["fit"])()


ORDER = ("fit", "fit other data", "fit nothing", "evaluate", "predict", "report", "save", "resume", "resume a model", "resume junk", "resume a folder",
         "restore_best", "no gradients", "save elsewhere", "backward twice", "plot", "load elsewhere")  # fmt: skip

FILES = ("junk", "folder", "model", "order")  # that those calls read


def subjects() -> list[Subject]:
    parts: Good = {
        "model": net,
        "optimizer": lambda: lambda model: optim.SGD(model.parameters(), 0.1),
        "loss": nn.CrossEntropyLoss,
        **constants(
            metrics=("accuracy",), l1=0.0, l2=0.1, seed=0, device="cpu", normalize=None, classes=("a", "b", "c"), architecture=None
        ),
        **constants(resize=None, accumulate=2, clip_norm=1.0, clip_value=1.0, ema=0.9, precision="float32", group=None),
    }
    fit: Good = {
        "train": rows_set,
        "validation": rows_set,
        **constants(epochs=1, batch_size=5, callbacks=(), resume=None, restore_best=True, progress=False, replay="auto"),
    }
    inside = ("Loader", "item 0", "data set", "ItemDataset", "ArrayDataset", "Linear", "cross_entropy", "Penalty", "SGD", "Sequential")
    repeated: Good = {"path": lambda: written("bad-step.safetensors"), "model": net, "loss": nn.CrossEntropyLoss, **constants(device="cpu")}
    table: Good = {"rows": lambda: [{"epoch": 1, "loss": 0.5}]}
    batch: Good = {"x": lambda: fastnn.tensor(np.ones((2, 5))), "labels": lambda: fastnn.tensor(np.array([0, 1]))}
    kept: Good = {"model": net, **constants(path="m", architecture=None, classes=("a", "b"), normalize=None, resize=None, notes={})}
    views: Good = {
        "model": images_net,
        "dataset": bytes_set,
        "views": lambda: [(1.0, [data.Flip(1.0)])],
        **constants(normalize=None, batch_size=5, precision="float32", average="probabilities"),
    }
    page: Good = {
        "run": trainer,
        "activations": lambda: fastnn.tensor(np.ones((2, 5))),
        **constants(path="r.html", title="t", input_shape=(5,)),
    }
    plain: Good = {"views": lambda: [(1.0, [])]}
    pictures: Good = {"weights": lambda: nn.Linear(4, 2), **constants(path="w.png", shape=(1, 2, 2), titles=("a", "b"), columns=2)}
    counted: Good = {
        **{name: lambda: np.array([0, 1, 2, 0]) for name in ("predicted", "labels")},
        **constants(num_classes=3, ignore_index=-100),
    }
    searched: Good = {
        "trainer": trainer,
        "data": rows_set,
        **constants(low=1e-4, high=1.0, steps=4, smoothing=0.9, diverge=4.0, batch_size=5, replay="auto"),
    }
    looked_at: Good = {
        "model": lambda: nn.Sequential(nn.Linear(5, 3), nn.ReLU()),
        "x": lambda: fastnn.tensor(np.ones((2, 5), np.float32)),
        **constants(layers=("0", "1"), training=False, bins=5, limits=(-1.0, 1.0), saturation=0.97),
    }
    prepared = lambda: data.Normalize([8.0], [5.0])  # noqa: E731
    told: Good = {"model": pictures_net, "train": bytes_set, **constants(similar=True, much=True, frozen=("0",))}
    moved: Good = {
        **told,
        "validation": bytes_set,
        "optimizer": lambda: optim.Adam,
        "normalize": prepared,
        **constants(features_first=False, epochs=1, lr=0.1, depth_factor=0.5, batch_size=5, seed=0, precision="float32", callbacks=()),
        **constants(resume=None, progress=False),
    }
    extracted: Good = {
        "model": pictures_net,
        "dataset": bytes_set,
        "normalize": prepared,
        **constants(layer="1", average=True, batch_size=5),
    }
    orders = (*inside, "fit", "evaluate", "history", "file", "checkpoint", "model", "backward", "load_state_dict")
    return [
        Subject("Trainer", trained, parts, (*inside, "fit", "EMA", "Generator", "cannot", "device", "architecture", "models.create")),
        Subject("Trainer.fit", fitted, fit, (*inside, "evaluate", "normalize")),
        Subject("Trainer.evaluate", lambda data: trainer().evaluate(data), {"data": rows_set}, inside),
        Subject("Trainer.predict", lambda data, **a: trainer().predict(data, **a), {"data": rows_set, **plain}, (*inside, "images", "Flatten")),
        Subject("Trainer.step", a_step, batch, (*inside, "Trainer", "Flatten")),
        Subject("Trainer.save", lambda path: trainer().save(path), constants(path="saved")),
        Subject("EarlyStopping", with_callback(train.EarlyStopping), constants(patience=2, monitor="val_loss", mode="min")),
        Subject("ModelCheckpoint", with_callback(train.ModelCheckpoint), constants(path="kept", every=1)),
        Subject("WhySlow", train.WhySlow, constants(steps=20, warm_up=3)),
        Subject("HistoryFile", with_callback(train.HistoryFile), constants(path="history")),
        Subject("TensorBoard", logged, constants(folder="logs", every=1)),
        Subject("report_html", train.report_html, page, ("summary", "Linear", "Flatten", "activation_statistics")),
        Subject("History.load", lambda path: train.History.load(path), {"path": lambda: written("history.csv")}),
        Subject("save_model", train.save_model, kept, ("models.create", "input_shape", "num_classes")),
        Subject("load_model", train.load_model, {"path": lambda: written("model"), "model": net}, ("model",)),
        Subject("reproduce", train.reproduce, repeated, ("model", "file", "load_state_dict", "device", *inside)),
        Subject("History", lambda rows: train.History(rows).table(), table),
        Subject("History.__getitem__", lambda column: history()[column], constants(column="loss"), ("history",), kinds=(KeyError,)),
        Subject("History.best", lambda **a: history().best(**a), constants(monitor="loss", mode="min"), ("history",)),
        Subject("History.append", lambda row: history().append(row), {"row": lambda: {"epoch": 2, "loss": 0.4}}),
        Subject("History.plot", lambda path: history().plot(path), constants(path="h.png")),
        Subject("Trainer.save_model", lambda path: trainer().save_model(path), constants(path="m")),
        Subject("Trained.evaluate", lambda **a: loaded().evaluate(**a), {"data": rows_set, **constants(loss=None, metrics=("accuracy",))}, inside),
        Subject("Trained.predict", lambda data, **a: loaded().predict(data, **a), {"data": rows_set, **plain}, (*inside, "images", "Flatten")),
        Subject("Trained.top", lambda **a: loaded().top(**a), {"probabilities": lambda: np.ones((2, 3)), **constants(k=2)}),
        Subject("History.save", lambda path: history().save(path), constants(path="h")),
        Subject("accuracy", train.accuracy, {"logits": lambda: np.ones((4, 3)), "labels": lambda: np.array([0, 1, 2, 0])}),
        Subject("top5_accuracy", train.top5_accuracy, {"logits": lambda: np.ones((4, 7)), "labels": lambda: np.array([0, 1, 2, 0])}),
        Subject("top_k", train.top_k, constants(k=3)),
        Subject("confusion_matrix", train.confusion_matrix, counted),
        Subject("confusion_matrix", train.confusion_matrix, {**counted, "predicted": lambda: np.ones((4, 3), np.float32)}),
        Subject("ClassReport", lambda **a: str(train.ClassReport(**a)), {"matrix": lambda: np.eye(3, dtype=int), **constants(classes=("a", "b", "c"))}),
        Subject("ClassReport.most_confused", lambda k: report().most_confused(k), constants(k=3)),
        Subject("ClassReport.table", lambda most: report().table(most), constants(most=2)),
        Subject("ClassReport.plot", lambda path: report().plot(path), constants(path="c.png")),
        Subject("Trainer.report", lambda data: trainer().report(data), {"data": rows_set}, inside),
        Subject("Trained.report", lambda **a: loaded().report(**a), {"data": rows_set, **constants(loss=None)}, inside),
        Subject("find_rate", train.find_rate, searched, (*inside, "fit", "normalize"), {"low": (0.0, -1.0, 2.0), "diverge": (1.0,), "steps": (2,)}),
        Subject("RateSearch.plot", lambda path: train.find_rate(trainer(), rows_set(), steps=3).plot(path), constants(path="r.png")),
        Subject("activation_statistics", train.activation_statistics, looked_at, inside, {"limits": ((1.0, -1.0),), "layers": (("2",), "0")}),
        Subject("ActivationStatistics.__getitem__", lambda name: statistics()[name], constants(name="0"), (), kinds=(KeyError,)),
        Subject("ActivationStatistics.plot", lambda path: statistics().plot(path), constants(path="a.png")),
        Subject("replace_head", train.replace_head, {"model": pictures_net, **constants(classes=2, name="3")}),
        Subject("freeze", frozen(train.freeze), {"model": pictures_net, **constants(names="0")}),
        Subject("unfreeze", frozen(train.unfreeze), {"model": pictures_net, **constants(names="0")}),
        Subject("load_pretrained", train.load_pretrained, {"model": pictures_net, "source": weights, **constants(strict=True)}, ("load_state_dict",)),
        Subject("features", train.features, extracted, inside, {"layer": ("9", "")}),
        Subject("stages", train.stages, {"model": pictures_net, **constants(input_shape=(1, 4, 4))}, inside),
        Subject("plan_transfer", train.plan_transfer, {**told, **constants(input_shape=(1, 4, 4))}, (*inside, "stages"), {"frozen": (("9",), "0")}),
        Subject("transfer", train.transfer, moved, (*inside, "fit", "Trainer", "plan_transfer", "stages", "normalize"), {"depth_factor": (0.0, 2.0)}),
        Subject("six_views", train.six_views, constants(shift=1, padding_mode="edge"), ("Shift",)),
        Subject("Ensemble", train.Ensemble, {"models": lambda: [trainer(), net()], **constants(weights=[1.0, 2.0], normalize=None)}, inside),
        Subject("Ensemble.predict", lambda **a: ensemble().predict(**a), {"data": rows_set, **plain}, (*inside, "predict", "images", "Flatten")),
        Subject("Ensemble.evaluate", lambda **a: ensemble().evaluate(**a),
                {"data": rows_set, "metrics": lambda: ("accuracy",), "loss": nn.CrossEntropyLoss, **plain}, (*inside, "predict")),
        Subject("Ensemble.report", lambda **a: ensemble().report(**a), {"data": rows_set, "loss": nn.CrossEntropyLoss, **plain}, (*inside, "predict")),
        Subject("Ensemble.top", lambda **a: ensemble().top(**a), {"probabilities": lambda: np.ones((2, 3)), **constants(k=2)}),
        Subject("five_crops", train.five_crops, constants(size=(3, 4))),
        Subject("ten_crops", train.ten_crops, constants(size=(3, 4))),
        Subject("multi_scale", train.multi_scale, constants(scales=[5, 7], size=(3, 4))),
        Subject("average_views", train.average_views, views, inside),
        Subject("weight_images", train.weight_images, {"weights": lambda: nn.Linear(4, 2), **constants(shape=(1, 2, 2))}),
        Subject("show_weights", train.show_weights, pictures, ("weight_images",)),
        Subject("swapped", swapped, constants(times=1, then="swap"), ("EMA",), {"times": (0, 1, 2), "then": ("update", "state", "swap")}, script=True),
        Subject("in_order", in_order, constants(first="fit", second="save"), orders, {"first": ORDER, "second": ORDER}, (KeyError,), FILES, script=True),
    ]  # fmt: skip


PLAIN = {
    "ActivationStatistics": "made by activation_statistics: see its __getitem__ and plot",
    "Callback": "nothing to give",
    "Diverged": "an exception",
    "Finding": "a record",
    "Interrupted": "an exception",
    "LayerActivations": "a record",
    "Loaded": "made by load_pretrained",
    "Stage": "made by stages",
    "TransferPlan": "made by plan_transfer",
    "Transferred": "made by transfer",
    "RateSearch": "made by find_rate: see RateSearch.plot",
    "Snapshot": "a record",
    "UpdateRatios": "nothing to give",
    "Trainer.gradients": "called by step",
    "Trainer.objective": "called by step",
    "Trained": "made by load_model: see Trained.predict",
    "Snapshot.better_than": "called by the Trainer",
}
