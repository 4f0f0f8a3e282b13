"""The learning-rate range test: a few steps at rates that grow, and everything put back."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import count

from .. import random, signals
from ..arguments import instance, integer, number
from ..data import Loader
from ..data.items import as_dataset
from ..exclusive import claimed
from ..optim import Optimizer
from ..optim.full_batch import FullBatch
from ..other_names import told
from ..turns import by_turns
from . import evaluation, interrupt
from .as_it_was import as_it_was
from .evaluation import Data
from .loading import training_loader
from .rate_search import RateSearch, Smoothed
from .replays import Replays
from .sharded import refuse_ranks
from .trainer import Trainer

_WHAT = "find_rate"
# Adam's steps are as long as the rate, whatever the gradients; those of plain gradients are shorter.
_RANGES = {"SGD": (1e-5, 10.0), "Adagrad": (1e-5, 10.0), "Muon": (1e-5, 10.0)}
_RANGE = (1e-6, 1.0)


@told(
    {
        **dict.fromkeys(("min_lr", "start_lr", "lr_min"), "it is low"),
        **dict.fromkeys(("max_lr", "end_lr", "lr_max"), "it is high"),
        **dict.fromkeys(("num_training", "num_it", "num_iter", "n_steps"), "it is steps"),
        **dict.fromkeys(("early_stop_threshold", "stop_div", "diverge_th"), "it is diverge"),
        **dict.fromkeys(("beta", "smooth_f"), "it is smoothing"),
    }
)
def find_rate(
    trainer: Trainer,
    data: Data,
    *,
    low: float | None = None,
    high: float | None = None,
    steps: int = 100,
    smoothing: float = 0.9,
    diverge: float = 4.0,
    batch_size: int | None = None,
    replay: bool | str = "auto",
) -> RateSearch:
    """Learning rates tried out, from far too low to far too high, in one short run (the range test of Smith 2017, arXiv:1506.01186).

        found = train.find_rate(trainer, training_set)
        print(found)                # what the losses say, and which rate to take
        found.plot("rates.png")

    Step i of `steps` (at least 3) is a step of the trainer's as `fit` would do it - loss, penalties, accumulate, clipping, precision, augmentation,
    replays - but for callbacks, which take no part; from the weights as they are, at the rate

        low (high / low)^(i / (steps - 1)),    i = 0, ..., steps - 1

    whose loss is measured before its update. data, batch_size, replay: as in `fit`; a Loader is gone through from the start of the trainer's epoch,
    and again in the order of the next one where it has fewer batches than there are steps. low, high: by default 1e-5 and 10 for SGD, Adagrad and
    Muon, 1e-6 and 1 for others. They are of the first parameter group with a rate above 0; the other groups keep the ratio to it that they have at
    the trainer's next step, and schedules stand still. The smoothed loss is an exponential mean, corrected for its beginning (Kingma, Ba 2015):

        m <- smoothing m + (1 - smoothing) loss,    smoothed = m / (1 - smoothing^(i + 1))        smoothing in [0, 1), by default 0.9

    The search ends early when smoothed > least + (diverge - 1) |least|, for positive losses `diverge` times the least so far (> 1, by default 4), or
    when the loss or the norm of the gradients is no number. Of a loss that is a sum, losses are those of a sample.

    Afterwards, also after an exception or Ctrl-C, everything is as it was, bit for bit: weights, gradients, buffers, optimizer, schedules, averages,
    history, modes, generator, position in the data. A fit behind the search is the fit without it. What is kept in Python by modules, losses or
    data sets of your own is not known here.

    Raises TypeError for LBFGS and NewtonCG, which search their own steps; ValueError unless 0 < low < high, for a Trainer of several ranks, and for what
    `fit` refuses in the data; RuntimeError within a fit of the same model; Interrupted after Ctrl-C or SIGTERM, at the end of the step.
    """
    optimizer = _checked(trainer)
    low, high = range_for(optimizer, low, high)
    integer(_WHAT, "steps", steps, 3, 2**31), number(_WHAT, "smoothing", smoothing, "[0, 1)")
    number(_WHAT, "diverge", diverge, "(1, inf)")
    if batch_size is not None:
        integer(_WHAT, "batch_size", batch_size, 1)
    data = data if isinstance(data, Loader) else as_dataset(data, f"{_WHAT}: data", loader=True)
    rates = [low * (high / low) ** (i / (steps - 1)) for i in range(steps)]
    search = RateSearch(rates, diverge=diverge, optimizer=optimizer.name)
    with (
        claimed(_WHAT, model=trainer.model, optimizer=optimizer._leaves()),
        by_turns(id(trainer.model), _WHAT),
        signals.held(),
        as_it_was(trainer),
    ):
        try:
            _search(trainer, data, batch_size, replay, search, Smoothed(smoothing))
        except interrupt.Interrupted as error:
            error.where = f"interrupted in find_rate, after {len(search.losses)} of {steps} steps; the trainer is as it was"
            error.args = (error.where,)
            raise
    return search


def _checked(trainer: Trainer) -> Optimizer:
    optimizer = instance(_WHAT, "trainer", trainer, Trainer, "a train.Trainer").optimizer
    if isinstance(optimizer, FullBatch):
        raise TypeError(
            f"{_WHAT}: trainer has {optimizer.name}, which searches its own steps; expected one that takes a rate: SGD, Adam, ..."
        )
    if not any(p.requires_grad for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            f"{_WHAT}: trainer has an optimizer whose parameters are all frozen; requires_grad_(True) of a module has them trained"
        )
    refuse_ranks(_WHAT, trainer)
    return optimizer


def range_for(optimizer: Optimizer, low: float | None, high: float | None) -> tuple[float, float]:
    """The ends that were given, and in the place of None those that suit the optimizer. ValueError unless 0 < low < high."""
    usual = _RANGES.get(type(optimizer._leaves()[0]).__name__, _RANGE)
    ends = [
        number(_WHAT, name, end, "(0, inf)")
        for name, end in (("low", usual[0] if low is None else low), ("high", usual[1] if high is None else high))
    ]
    if ends[0] >= ends[1]:
        by_default = [f"{name} is {end:g} by default" for name, end, given in zip(("low", "high"), ends, (low, high)) if given is None]
        told = "".join(f"; {words}, give both" for words in by_default)
        raise ValueError(f"{_WHAT}: low must be less than high, got low={ends[0]:g} and high={ends[1]:g}{told}")
    return ends[0], ends[1]


def _search(trainer: Trainer, data: Data, batch_size: int | None, replay: bool | str, search: RateSearch, smoothed: Smoothed) -> None:
    trainer.batch, trainer.sums = 0, {}  # the epoch from its start, wherever training stands in it
    loader = training_loader(trainer, data, batch_size)
    trainer.optimizer.steps_per_epoch = trainer.stepping.steps(loader)
    ratios = _ratios(trainer.optimizer.rates())
    trainer._replays = Replays(trainer, replay)
    trainer.inference.release()
    try:
        with (
            random.using(trainer.generator),
            evaluation.mode(trainer.model, True, trainer.loss),
            closing(_losses(trainer, loader)) as losses,
        ):
            for rate in search.asked:
                for group, ratio in zip(trainer.optimizer.param_groups, ratios):
                    group["lr"] = rate * ratio
                loss = next(losses)
                search._add(loss, smoothed.add(loss))
                interrupt.check()
                if search.ended:
                    return
    finally:
        search.replayed = trainer.replayed
        trainer._batch = None
        trainer._replays.end()


def _ratios(rates: Sequence[float]) -> list[float]:
    """Of each group's rate to the first one above 0; 1 where all are 0, as a warm-up may begin."""
    first = next((rate for rate in rates if rate), None)
    return [1.0 if first is None else rate / first for rate in rates]


def _losses(trainer: Trainer, loader: Loader) -> Generator[float, None, None]:
    """Of one step after the other, as long as somebody asks; NaN or infinity where one comes to nothing."""
    stepping = trainer.stepping
    adds_up = evaluation.adds_up(trainer.loss)
    for epoch in count(trainer.epoch):
        with closing(stepping.batches(loader, epoch)) as batches:
            for counts in stepping.counts(loader, 0):
                stepping._parts = []
                try:
                    loss = stepping._take(trainer, batches, counts, lambda *_: None)
                except FloatingPointError as error:  # fit would say why, and write a file that repeats it; here it was asked for
                    value = getattr(error, "loss", None)  # of Diverged; finite checks say none
                    yield math.inf if value is None else value
                    return
                yield loss / sum(counts) if adds_up else loss
