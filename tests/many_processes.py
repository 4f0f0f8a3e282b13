"""What tests/test_dist.py has several processes do: mpiexec -n 2 python many_processes.py FOLDER SCENARIO ... Each rank leaves
FOLDER/SCENARIO-SIZE-RANK.npz."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import data, dist, nn, optim, train, tune

FOLDER = Path(sys.argv[1])


def net(norm: type[nn.Module] | None = None, p: float = 0.3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        *([norm(6)] if norm else []),
        nn.ReLU(),
        nn.Dropout2d(p / 2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(p),
        nn.Linear(6 * 16, 10),
    )


def digits(n: int = 150) -> tuple[data.Dataset, data.Dataset]:
    training, test = data.digits()
    return training.take(np.arange(n)), test


def keep(name: str, group: dist.Group, trainer: train.Trainer, **more: Any) -> None:
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history.rows]
    found = {f"row {i} {k}": np.float64(v) for i, row in enumerate(rows) for k, v in row.items()}
    weights = {f"weight {k}": v for k, v in trainer.model.state_dict().items()}
    np.savez(FOLDER / f"{name}-{group.size}-{group.rank}.npz", **weights, **found, **more, replayed=trainer.replayed)


def fit(name: str, group: dist.Group, model: nn.Module, *, batch: int = 32, epochs: int = 2, replay: Any = "auto", **settings: Any) -> None:
    training, test = digits()
    trainer = train.Trainer(model, optim.SGD(model.parameters(), 0.1, momentum=0.9), seed=3, group=group, **settings)
    trainer.fit(training, epochs, test, batch_size=batch, progress=False, restore_best=False, replay=replay)
    keep(name, group, trainer)


# --- the same as one process


def plain(group: dist.Group) -> None:
    fastnn.seed(group.rank)  # weights differ, and become those of rank 0
    fit("plain", group, net())


def eager(group: dist.Group) -> None:
    fastnn.seed(0)
    fit("eager", group, net(), replay=False)


def accumulated(group: dist.Group) -> None:
    """Batches of 13, the last one of 7; the last step has fewer of them."""
    fastnn.seed(0)
    fit("accumulated", group, net(), batch=13, accumulate=3, clip_norm=0.5, ema=0.9)


def few(group: dist.Group) -> None:
    """150 samples in batches of 37: the last one has two, and a third rank none."""
    fastnn.seed(0)
    fit("few", group, net(), batch=37, l2=1e-3)


def summed(group: dist.Group) -> None:
    fastnn.seed(0)
    model, (training, _) = net(), digits(70)
    trainer = train.Trainer(model, optim.SGD(model.parameters(), 1e-3), nn.CrossEntropyLoss(reduction="sum"), seed=3, group=group, l2=0.1)
    trainer.fit(training, 1, batch_size=23, progress=False)
    keep("summed", group, trainer)


def weighed(group: dist.Group) -> None:
    """Classes weigh differently, and some labels are ignored: of the first batch all of rank 0's."""
    fastnn.seed(0)
    model, (training, test) = net(), digits(70)
    labels = np.array(training.labels)
    labels[:12] = 3
    images = training.raw(np.arange(70))[0]
    loss = nn.CrossEntropyLoss(np.linspace(0.5, 2, 10), ignore_index=3)
    trainer = train.Trainer(model, optim.SGD(model.parameters(), 0.1), loss, seed=3, group=group)
    trainer.fit(data.Loader((images, labels), 24, normalize=data.Normalize.fit(training)), 2, test, progress=False, restore_best=False)
    keep("weighed", group, trainer)


def mixed(group: dist.Group) -> None:
    fastnn.seed(0)
    model, (training, _) = net(), digits()
    augment = [data.RandomCrop(1), data.RandomErasing(0.5)]
    loader = data.Loader(training, 31, shuffle=True, seed=4, augment=augment, mix=[data.MixUp(0.3), data.CutMix(1.0)])
    trainer = train.Trainer(model, optim.Adam(model.parameters(), 1e-3), seed=3, group=group)
    trainer.fit(loader, 2, progress=False)
    keep("mixed", group, trainer)


def synchronised(group: dist.Group) -> None:
    """BatchNorm2d, and BatchNorm1d of which a rank may have a single row; the last batch has two."""
    group.sync_batchnorm = True
    fastnn.seed(0)
    model = nn.Sequential(*net(nn.BatchNorm2d), nn.BatchNorm1d(10), nn.GELU(), nn.Linear(10, 10))
    fit("synchronised", group, model, batch=37)
    group.sync_batchnorm = False


def local(group: dist.Group) -> None:
    fastnn.seed(0)
    fit("local", group, net(nn.BatchNorm2d))


def stepped(group: dist.Group) -> None:
    """Trainer.step, and a loop of one's own, on rows of 5 and the rest."""
    fastnn.seed(0)
    model, (training, _) = net(), digits(40)
    trainer = train.Trainer(model, optim.SGD(model.parameters(), 0.1), seed=3, group=group)
    rows = slice(0, 40) if group.size == 1 else slice(0, 5) if group.rank == 0 else slice(5, 40)
    x, labels = data.Loader(training, 40).batch(np.arange(40)[rows])
    losses = [trainer.step(x, labels)[0] for _ in range(3)]
    fastnn.seed(5)
    own, criterion = net(), nn.CrossEntropyLoss()
    optimizer = optim.SGD(own.parameters(), 0.1)
    dist.broadcast(own)
    for epoch in range(2):
        for x, labels in data.Loader(training, 16, shuffle=True).batches(epoch, shard=group.shard):
            optimizer.zero_grad()
            with group.part(len(labels)):
                criterion(own(x), labels).backward()
            dist.average_gradients(own, samples=len(labels))
            optimizer.step()
    if group.size > 1:
        with contextlib.suppress(fastnn.CaptureError):
            fastnn.capture(lambda: (own(x).sum().backward(), dist.average_gradients(own)))()
            raise AssertionError("its replays would not tell the others anything")
    keep("stepped", group, trainer, losses=losses, **{f"own {k}": v for k, v in own.state_dict().items()})


class Kernels(train.Callback):
    """The list of the replayed step."""

    def after_step(self, trainer: train.Trainer, loss: float) -> None:
        if trainer._replays.captured is not None:
            self.names = trainer._replays.captured.kernels


def overlapping(group: dist.Group) -> None:
    """Gradients of 4 MB, in several buckets."""
    fastnn.seed(0)
    model, (training, _) = (
        nn.Sequential(nn.Flatten(), nn.Linear(64, 700), nn.ReLU(), nn.Linear(700, 1000), nn.ReLU(), nn.Linear(1000, 10)),
        digits(),
    )
    trainer, seen = train.Trainer(model, optim.SGD(model.parameters(), 0.1), group=group), Kernels()
    trainer.fit(training, 1, batch_size=50, progress=False, callbacks=[seen])
    keep("overlapping", group, trainer, names=seen.names)


def judged(group: dist.Group) -> None:
    """Evaluation and report in turns: the bits of one process."""
    fastnn.seed(0)
    model, (_, test) = net(nn.BatchNorm2d), digits()
    trainer = train.Trainer(model, optim.SGD(model.parameters(), 0.1), metrics=["accuracy", "top5_accuracy"], l2=0.1, group=group)
    loader = data.Loader(test, 50)
    found, report = trainer.evaluate(loader), trainer.report(loader)
    keep("judged", group, trainer, matrix=report.matrix, **{f"row {k}": v for k, v in found.items()})


# --- files


class Stop(train.Callback):
    """SIGTERM to one rank alone, behind a step."""

    def __init__(self, rank: int, at: int) -> None:
        self.rank, self.at = rank, at

    def after_step(self, trainer: train.Trainer, loss: float) -> None:
        if trainer.stepping.group is not None and trainer.stepping.group.rank == self.rank and trainer.optimizer.steps == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def trainer_of(group: dist.Group) -> train.Trainer:
    fastnn.seed(0)
    model = net(nn.BatchNorm2d)
    return train.Trainer(model, optim.Adam(model.parameters(), 1e-2), seed=3, group=group, ema=0.9)


def whole(group: dist.Group) -> None:
    trainer, (training, test) = trainer_of(group), digits()
    trainer.fit(training, 3, test, batch_size=20, progress=False)
    keep("whole", group, trainer)


def interrupted(group: dist.Group) -> None:
    """In the middle of the second epoch, of which rank 1 is told: all ranks stop behind the same step, and go on from rank 0's file."""
    path, (training, test) = FOLDER / "checkpoint.safetensors", digits()
    trainer = trainer_of(group)
    callbacks = [train.ModelCheckpoint(path), train.HistoryFile(FOLDER / "history.csv"), Stop(group.size - 1, 11)]
    steps = -1
    try:
        trainer.fit(training, 3, test, batch_size=20, progress=False, callbacks=callbacks)
    except train.Interrupted:
        steps = trainer.optimizer.steps
    group.barrier()
    again = trainer_of(group)
    again.fit(training, 3, test, batch_size=20, progress=False, resume=path)
    again.save_model(FOLDER / "model.safetensors")
    keep("interrupted", group, again, steps=steps)


# --- what is lost


def refused(group: dist.Group) -> None:
    """What differs is named, on all ranks, and the group goes on."""
    said = []
    for name in ("data", "shape", "batch", "rate", "epochs", "normalize"):
        fastnn.seed(0)
        other = bool(group.rank)
        training, _ = digits(149 if other and name == "data" else 150)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 11 if other and name == "shape" else 10))
        mean = np.full((1, 8, 8), 5 + 1e-9 * (other and name == "normalize"))  # as which it is printed is the same
        trainer = train.Trainer(
            model, optim.SGD(model.parameters(), 0.2 if other and name == "rate" else 0.1), group=group, normalize=data.MeanImage(mean)
        )
        try:
            trainer.fit(
                training, 2 if other and name == "epochs" else 1, batch_size=16 if other and name == "batch" else 15, progress=False
            )
        except ValueError as error:
            said.append(str(error))
    for trying in (train.find_rate, tune.initial_loss, tune.recipe):
        try:
            trying(trainer, training)
        except ValueError as error:
            said.append(str(error))
    np.savez(FOLDER / f"refused-{group.size}-{group.rank}.npz", said=said)


class Fails(train.Callback):
    def __init__(self, how: str) -> None:
        self.how = how

    def after_step(self, trainer: train.Trainer, loss: float) -> None:
        if trainer.optimizer.steps < 4:
            return
        if self.how == "raises":
            raise ArithmeticError("no more of this")
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "ends":
            sys.exit(0)
        time.sleep(60)


def lost(group: dist.Group, how: str) -> None:
    fastnn.seed(0)
    model, (training, _) = net(), digits()
    trainer = train.Trainer(model, optim.SGD(model.parameters(), 0.1), group=group)
    callbacks = [Fails(how)] if group.rank == 1 else []
    trainer.fit(training, 1000, batch_size=20, progress=False, callbacks=callbacks)


def diverged(group: dist.Group) -> None:
    """One rank's data hold NaN: it says so, and the others that it has."""
    fastnn.seed(0)
    model, x = net(p=0.0), np.ones((8, 1, 8, 8), np.float32)
    trainer = train.Trainer(model, optim.SGD(model.parameters(), 0.1), group=group)
    x[group.rank] = np.nan if group.rank == 1 else 1
    said = ""
    try:
        trainer.step(fastnn.tensor(x), fastnn.tensor(np.zeros(8, np.int64)))
    except (train.Diverged, dist.RankLost) as error:
        said = f"{type(error).__name__}: {error}"
    np.savez(FOLDER / f"diverged-{group.size}-{group.rank}.npz", said=said)


def main() -> None:
    scenarios = sys.argv[2:]
    group = dist.init(timeout=2.0 if "lost:hangs" in scenarios else 60.0)
    for scenario in scenarios:
        name, _, how = scenario.partition(":")
        globals()[name](group, *([how] if how else []))


if __name__ == "__main__":
    with contextlib.suppress(SystemExit):
        main()
