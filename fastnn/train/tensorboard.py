"""The callback that writes what TensorBoard shows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..arguments import integer
from ..arguments import path as checked_path
from ..other_names import told
from .callbacks import Callback
from .update_ratios import Measuring, ratios_of

if TYPE_CHECKING:
    from .trainer import Trainer

_ELSEWHERE = {
    **dict.fromkeys(("log_dir", "logdir", "path"), "it is folder"),
    **dict.fromkeys(("update_freq", "log_every_n_steps"), "it is every"),
    **dict.fromkeys(("histogram_freq", "write_graph", "write_images", "profile_batch"), "scalars alone are written"),
}


class TensorBoard(Callback):
    """Writes scalars for TensorBoard into a folder, by the library tensorboardX (pip install '.[tensorboard]'; ModuleNotFoundError without it):

        trainer.fit(train, epochs=20, callbacks=[train.TensorBoard("runs/first", every=10)])      # tensorboard --logdir runs

    After each epoch every column of its row, over the epoch (from 1): epoch/loss, epoch/accuracy, epoch/val_loss, epoch/lr, epoch/seconds, what
    callbacks ahead of it in the list have put there. With `every`, into the folder `steps` inside, of each every-th step and over the optimizer's
    steps (from 1): step/loss, step/lr (of the first group) and update_ratio/NAME, |w_new - w| / |w| of each parameter that has one (see
    Optimizer.update_ratios; the training has the same bits).
    The numbers go on when a fit goes on, from a checkpoint too; what had been written of epochs and steps that are done again, TensorBoard passes
    over (purge_step). A killed training loses what came after its last epoch. ValueError, before the first epoch, where no folder can be.
    """

    first_rank_only = True

    @told(_ELSEWHERE, several="every is given by name")
    def __init__(self, folder: str | os.PathLike[str], *, every: int | None = None) -> None:
        self.folder = checked_path("TensorBoard", "folder", folder)
        self.every = None if every is None else integer("TensorBoard", "every", every, 1)
        self._epochs: Any = None
        self._steps: Any = None
        self._measuring = Measuring()
        _library()  # now, not after the data have been read

    def before_fit(self, trainer: Trainer) -> None:
        _check_folder("TensorBoard", self.folder)
        self._close()
        self._epochs = _writer(self.folder, trainer.epoch + 1)
        if self.every is not None:
            self._measuring.begin(trainer)
            self._steps = _writer(os.path.join(self.folder, "steps"), trainer.optimizer.steps + 1)

    def before_step(self, trainer: Trainer) -> None:
        if self.every is not None and (trainer.optimizer.steps + 1) % self.every == 0:
            self._rate = trainer.optimizer.rates()[0]  # of this step

    def after_step(self, trainer: Trainer, loss: float) -> None:
        step = trainer.optimizer.steps
        if self.every is None or step % self.every:
            return
        self._steps.add_scalar("step/loss", loss, step)
        self._steps.add_scalar("step/lr", self._rate, step)
        for name, _, ratio in ratios_of(trainer):
            if ratio < float("inf"):  # neither NaN nor that of a bias which was 0
                self._steps.add_scalar(f"update_ratio/{name}", ratio, step)

    def after_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        for name, value in row.items():
            if name != "epoch":
                self._epochs.add_scalar(f"epoch/{name}", value, trainer.epoch)
        for writer in filter(None, (self._epochs, self._steps)):
            writer.flush()

    def after_fit(self, trainer: Trainer) -> None:
        self._end()

    def after_interrupt(self, trainer: Trainer) -> None:
        self._end()

    def _end(self) -> None:
        self._close()
        self._measuring.end()

    def _close(self) -> None:
        for writer in filter(None, (self._epochs, self._steps)):
            writer.close()
        self._epochs = self._steps = None


def _library() -> Any:
    try:
        import tensorboardX
    except ImportError:
        raise ModuleNotFoundError("TensorBoard: its files need tensorboardX (in the checkout: pip install '.[tensorboard]')") from None
    return tensorboardX


def _writer(folder: str, first: int) -> Any:
    """first: the number of the first event; later ones of earlier files are none any more. The name of its file has the second in it, and by the
    suffix is no other's of the same second."""
    return _library().SummaryWriter(folder, purge_step=first, filename_suffix=f".{os.urandom(4).hex()}")


def _check_folder(what: str, folder: str) -> None:
    """ValueError where it neither is nor can be made."""
    above = os.path.realpath(folder)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise ValueError(f"{what}: folder {folder} cannot be, {above} is a file; choose another folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"{what}: nothing can be written into {above}; choose another folder")
