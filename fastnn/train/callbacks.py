"""Callbacks: what happens around the steps of a training."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from .. import files
from ..arguments import integer, text
from ..arguments import path as checked_path
from ..described import Described
from ..other_names import told
from .history import best_row, checked_mode, heading, line

if TYPE_CHECKING:
    from ..data import Loader
    from ..data.loader import Batches
    from .trainer import Trainer


class Callback(Described):
    """Subclass and override what is needed. The trainer's `epoch`, `batch`, `history`, `best` say where it stands; `trainer.stop = True`
    ends the training after the epoch. first_rank_only: whether, of several processes that train together, rank 0 alone has it, as what prints or
    writes files; such a callback must not evaluate, which all ranks do together."""

    first_rank_only = False

    def before_fit(self, trainer: Trainer) -> None: ...

    def after_fit(self, trainer: Trainer) -> None: ...

    def before_epoch(self, trainer: Trainer) -> None: ...

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        """After validation: `row` is the epoch's row of the history, which already holds it: a number put into it is a column, for callbacks
        further down the list to watch, and in every file that is written later."""

    def around_batches(self, trainer: Trainer, loader: Loader, batches: Batches) -> Batches:
        """The batches that are left of an epoch; a generator of one's own may look at them on their way, or give others, as many of them."""
        return batches

    def before_step(self, trainer: Trainer) -> None: ...

    def after_step(self, trainer: Trainer, loss: float) -> None: ...

    def after_capture(self, trainer: Trainer, report: str) -> None:
        """Before the first step, when steps are replayed: how much memory they need."""

    def before_evaluate(self, trainer: Trainer) -> None: ...

    def after_evaluate(self, trainer: Trainer, result: dict[str, float]) -> None: ...

    def after_interrupt(self, trainer: Trainer) -> None:
        """After Ctrl-C or SIGTERM, at the end of the step in which it came."""


_HOOKS = [name for name in vars(Callback) if not name.startswith("_")]
_KERAS = {"begin": "before", "end": "after", "train": "fit", "test": "evaluate", "batch": "step"}


def checked_hooks(callback: Callback) -> None:
    """TypeError for a method that looks like a hook and would never be called; helpers of other names are the callback's own."""
    for name in sorted({name for base in type(callback).__mro__ for name in vars(base)} - {*_HOOKS}):
        near = get_close_matches(name, _HOOKS, 1, 0.85)
        if name.startswith("_") or not (near or name.startswith("on_")) or not callable(getattr(callback, name)):
            continue
        words = name.split("_")
        meant = near[0] if near else f"{_KERAS.get(words[-1], '')}_{_KERAS.get(words[-2], words[-2])}"
        hint = f"call it {meant}; the" if meant in _HOOKS else "the"
        raise TypeError(f"fit: {type(callback).__name__}.{name} would never be called: {hint} hooks are {', '.join(_HOOKS)}")


class EarlyStopping(Callback):
    """Stops when `monitor` has not improved for `patience` epochs of the running fit (of all of them where it goes on from a checkpoint, which
    does not say how many fits there were). The trainer keeps the best snapshot in any case.

    mode: "min" where the lower is the better, "max" where the higher is; left out, the column's name says it (see History.best), or ValueError.
    """

    @told({"restore_best_weights": "fit keeps and restores the best weights by itself", "min_delta": "any improvement counts"})
    def __init__(self, patience: int, *, monitor: str = "val_loss", mode: str | None = None) -> None:
        self.patience = integer("EarlyStopping", "patience", patience, 1)
        self.monitor = text("EarlyStopping", "monitor", monitor, "such as 'val_loss'")
        self.mode = checked_mode("EarlyStopping", self.monitor, mode)
        self._since = 0  # the first row that counts

    def before_fit(self, trainer: Trainer) -> None:
        self._since = 0 if trainer.resumed else len(trainer.history)
        if (
            len(trainer.history) and trainer.resumed and self.monitor in trainer.history.rows[-1]
        ):  # the rows alone decide, as if never interrupted
            self._judge(trainer)

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        if self.monitor not in row:
            hint = (
                "; give fit validation data" if self.monitor.startswith("val_") and not any(name.startswith("val_") for name in row) else ""
            )
            raise ValueError(f"EarlyStopping: there is no {self.monitor!r} to watch (monitor), only {', '.join(row)}{hint}")
        self._judge(trainer)

    def _judge(self, trainer: Trainer) -> None:
        rows = trainer.history.rows[self._since :]
        if len(rows) - 1 - best_row(rows, self.monitor, self.mode) >= self.patience:
            trainer.stop = True


def _check_place(what: str, path: str | os.PathLike[str]) -> None:
    """ValueError, before the first epoch, where no file can be."""
    path = os.path.realpath(path)  # behind a link, where files.replace writes
    if not os.path.isdir(folder := os.path.dirname(path)):
        raise ValueError(f"{what}: there is no folder {folder}; make it before training")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{what}: nothing can be written into {folder}; choose another folder")
    if os.path.isdir(path):
        raise ValueError(f"{what}: path {path} is a folder; give the file in it that is to be written")


class ModelCheckpoint(Callback):
    """Saves everything that training needs to go on: after every `every`-th epoch, at the end, and after Ctrl-C or SIGTERM."""

    first_rank_only = True

    @told(
        {
            **dict.fromkeys(("save_best_only", "monitor"), "the best snapshot is in every checkpoint, and train.load_model takes that"),
            **dict.fromkeys(("save_freq", "every_n_epochs", "period"), "it is every"),
            "save_weights_only": "trainer.save_model(path) writes the model alone",
        }
    )
    def __init__(self, path: str | os.PathLike[str], *, every: int = 1) -> None:
        self.path, self.every = checked_path("ModelCheckpoint", "path", path), integer("ModelCheckpoint", "every", every, 1)

    def before_fit(self, trainer: Trainer) -> None:
        _check_place("ModelCheckpoint", self.path)
        files._plain(trainer.notes, "trainer.notes")  # else the first epoch would be the last

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        if trainer.epoch % self.every == 0:
            trainer.save(self.path)

    def after_fit(self, trainer: Trainer) -> None:
        if trainer.epoch % self.every:
            trainer.save(self.path)

    def after_interrupt(self, trainer: Trainer) -> None:
        trainer.save(self.path)


class HistoryFile(Callback):
    """Writes the history after every epoch, as CSV where the path ends in .csv, else as JSON Lines (see History.save): all of it each time, replaced
    whole, so that a killed training leaves whole rows and one that is resumed goes on without doubled epochs. What callbacks further down the
    list put into a row comes with the next epoch, or at the end. `History.load(path)` reads it."""

    first_rank_only = True

    @told(
        {
            "append": "a resumed fit goes on with the rows of its checkpoint; the file is written anew each time",
            "separator": "CSV has commas",
        }
    )
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = checked_path("HistoryFile", "path", path)

    def before_fit(self, trainer: Trainer) -> None:
        _check_place("HistoryFile", self.path)

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        trainer.history.save(self.path)

    def after_fit(self, trainer: Trainer) -> None:
        if len(trainer.history):
            trainer.history.save(self.path)


class Progress(Callback):
    """A bar for the running epoch (on a terminal) and one line of the table for each that is done, with a heading where columns change."""

    first_rank_only = True

    def __init__(self) -> None:
        self._bar: Any = None
        self._columns: list[str] = []  # of the last heading

    def before_fit(self, trainer: Trainer) -> None:
        self._columns = []
        for row in trainer.history:
            self._print(row)

    def before_epoch(self, trainer: Trainer) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=trainer.batches, initial=trainer.batch, desc=f"epoch {trainer.epoch + 1}/{trainer.epochs}", unit="batch",
            leave=False, mininterval=0.1, disable=None if sys.stderr else True,
        )  # fmt: skip

    def after_capture(self, trainer: Trainer, report: str) -> None:
        if sys.stdout:  # None where it is closed
            self._bar.write(report)

    def after_step(self, trainer: Trainer, loss: float) -> None:
        self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
        self._bar.update(trainer.batch - self._bar.n)

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        self._bar.close()
        self._print(row)

    def after_interrupt(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()

    def _print(self, row: dict[str, float]) -> None:
        if list(row) != self._columns:
            self._columns = list(row)
            print(heading(row))
        print(line(row, row), flush=True)
