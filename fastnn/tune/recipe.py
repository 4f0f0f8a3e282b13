"""The seven steps of tuning, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..arguments import flag, integer, items, shown
from ..described import described
from ..other_names import told
from ..train import Trainer
from ..train.evaluation import Data
from .beginning import first_look
from .curves import of_course
from .rates import dropping
from .runs import Course, Runs
from .searching import COARSE, FINE, decays, epochs_of, guessed, once_more, searched, verdict_of
from .small_set import small_set
from .verdict import Fault, Verdict

_WHAT = "recipe"
STEPS = (1, 2, 3, 4, 5, 6, 7)


class Recipe:
    """What `tune.recipe` found; `print` it: a Verdict for each step that was done, and what to train with.

    verdicts: of the steps, in order; `recipe[3]` is that of step 3. passed: whether none failed. faults: of all steps.
    rate, weight_decay, epochs, accuracy (on the validation set): the best settings that were found, None where no step looked for them.
    skipped: steps that were asked for and not done, since one before them failed.
    """

    def __init__(self, verdicts: Iterable[Verdict], skipped: Iterable[int] = ()) -> None:
        self.verdicts, self.skipped = list(verdicts), list(skipped)

    def __iter__(self) -> Any:
        return iter(self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    def __getitem__(self, step: int) -> Verdict:
        integer("Recipe", "step", step, 1, 8)
        found = next((verdict for verdict in self.verdicts if verdict.step == step), None)
        if found is None:
            raise KeyError(f"Recipe: step {step} was not done; expected one of {', '.join(str(v.step) for v in self.verdicts) or 'none'}")
        return found

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def faults(self) -> list[Fault]:
        return [fault for verdict in self.verdicts for fault in verdict.faults]

    @property
    def rate(self) -> float | None:
        found: float | None = self._last("rate", range(3, 8))
        return found

    @property
    def weight_decay(self) -> float | None:
        found: float | None = self._last("weight_decay", range(4, 8))
        return found

    @property
    def epochs(self) -> int | None:
        found: int | None = self._last("epochs", range(4, 8))
        return found

    @property
    def accuracy(self) -> float | None:
        found: float | None = self._last("accuracy", range(4, 8))
        return found

    def _last(self, name: str, steps: Iterable[int]) -> Any:
        values = [v.values[name] for v in self.verdicts if v.step in steps and v.step != 6 and v.values.get(name) is not None]
        return values[-1] if values else None

    def __repr__(self) -> str:
        failed = [str(verdict.step) for verdict in self.verdicts if not verdict.passed]
        return described(self, f"{len(self)} steps", f"FAIL in {', '.join(failed)}" if failed else "PASS")

    def __str__(self) -> str:
        return "\n".join([*map(str, self.verdicts), self.summary()])

    def summary(self) -> str:
        """The last lines: what failed, or which settings to train with."""
        failed = [verdict for verdict in self.verdicts if not verdict.passed]
        if failed:
            names = ", ".join(dict.fromkeys(fault.name for verdict in failed for fault in verdict.faults))
            left = f"; not done: {', '.join(map(str, self.skipped))}" if self.skipped else ""
            return f"FAIL in step {', '.join(str(verdict.step) for verdict in failed)}: {names}{left}"
        decay = "" if self.weight_decay is None else f", weight_decay={self.weight_decay:.2g}"
        found = "" if self.rate is None else f": lr={self.rate:.2g}{decay}"
        return f"PASS{found}"


@dataclass
class _State:
    """What the steps hand on to each other."""

    runs: Runs
    trials: int
    epochs: int
    learns: bool | None = None
    drops: bool = False
    rate: float | None = None
    decay: Any = None
    accuracy: float = math.nan
    course: Course | None = None


@told(
    {
        **dict.fromkeys(("n_trials", "num_samples"), "it is trials"),
        **dict.fromkeys(("model", "optimizer", "loss"), "a train.Trainer(model, optimizer, loss) has them"),
        **dict.fromkeys(("train_data", "training_set", "dataset"), "it is train"),
        **dict.fromkeys(("val", "valid", "validation_data"), "it is validation"),
    },
    several="all behind validation are given by name",
)
def recipe(
    trainer: Trainer,
    train: Data,
    validation: Data | None = None,
    *,
    steps: str | Iterable[int] = "1-7",
    trials: int = 8,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    keep_going: bool = False,
    progress: bool = True,
) -> Recipe:
    """The seven steps of tuning a classifier. Each passes or fails, and says by which figure, and what to change.

        trainer = train.Trainer(model, optim.Adam(model.parameters(), 1e-3))
        found = tune.recipe(trainer, training_set)
        found.rate, found.weight_decay, found.passed

    1 tune.initial_loss   the loss before the first update, input, gradients, activations
    2 tune.overfit        8 minibatches learned by heart
    3 tune.drop_rate      the rate at which the loss drops within 100 steps; whether the trainer's own is one
    4 tune.coarse         a coarse search around the best of these, `trials` short trainings
    5 tune.refine         a finer and longer one, three quarters as many
    6 tune.read_curves    the curves of the best of them
    7                     once more from 5, closer, half as many

    A step takes what the ones before it found; alone, what the trainer has. Behind a failure nothing more is done, since the steps build on each
    other, unless keep_going is True. Everything a step trains begins at the trainer's weights as they are, and afterwards, also after an exception
    or Ctrl-C, all of the trainer is as it was, bit for bit: nothing but the Recipe is left.

    trainer: with its model, optimizer (of any kind that takes a rate), loss and what else its `fit` goes by; penalties and label smoothing are left
    out where a step says so, averages of the weights everywhere. train, validation, batch_size: as `fit` takes them, with class numbers as labels;
    without validation 15 % of the training set are taken for it. steps: "1-3", "2", "1,3-5", or numbers. epochs: of a coarse trial, left out as many
    as make 200 steps, 1 to 5; fine ones have three times as many. seed: of the samples and values that are drawn. progress: prints each step.

    Source: CS231n, "Setting hyperparameters" ("Training neural networks II") and "Neural networks part 3". TypeError for LBFGS and NewtonCG, which
    search their own steps; ValueError for what `fit` refuses in the data; RuntimeError within a fit of the same model.
    """
    chosen = checked_steps(_WHAT, steps)
    integer(_WHAT, "trials", trials, 2, 2**20), flag(_WHAT, "keep_going", keep_going), flag(_WHAT, "progress", progress)
    if epochs is not None:
        integer(_WHAT, "epochs", epochs, 1, 2**31)
    runs = Runs(_WHAT, trainer, train, validation, batch_size, seed)
    if chosen[-1] > 3:
        runs.with_validation()
    state = _State(runs, trials, epochs or epochs_of(runs))
    done: list[Verdict] = []
    for i, step in enumerate(chosen):
        verdict = _STEPS[step](state)
        done.append(verdict)
        if progress:
            print(verdict, flush=True)
        if not verdict.passed and not keep_going:
            found = Recipe(done, chosen[i + 1 :])
            break
    else:
        found = Recipe(done)
    if progress:
        print(found.summary(), flush=True)
    return found


def checked_steps(what: str, steps: Any) -> list[int]:
    """In ascending order."""
    wanted = "such as '1-3', '2' or '1,3-5', or numbers from 1 to 7"
    found: set[int] = set()
    if isinstance(steps, str):
        for part in steps.split(","):
            first, dash, last = part.strip().partition("-")
            ends = [first, last if dash else first]
            if not all(end.strip() in map(str, STEPS) for end in ends) or ends[0].strip() > ends[1].strip():
                raise ValueError(f"{what}: steps must be {wanted}, got {shown(steps)}")
            found.update(range(int(ends[0]), int(ends[1]) + 1))
        return sorted(found)
    given = [steps] if isinstance(steps, int) else items(what, "steps", steps, wanted)
    given = [integer(what, "steps", step, 1, 8) for step in given]
    if not given:
        raise ValueError(f"{what}: steps must be {wanted}, got none")
    return sorted(set(given))


# --- the steps


def _first(state: _State) -> Verdict:
    return first_look(state.runs)


def _second(state: _State) -> Verdict:
    verdict = small_set(state.runs)
    state.learns = verdict.passed
    return verdict


def _third(state: _State) -> Verdict:
    verdict = dropping(state.runs, learns=state.learns)
    state.rate, state.drops = verdict.values["rate"], verdict.passed
    return verdict


def _fourth(state: _State) -> Verdict:
    return _searching(state, 4, COARSE, decays(state.runs), state.trials, state.epochs)


def _fifth(state: _State) -> Verdict:
    decay = state.decay if isinstance(state.decay, float) else decays(state.runs)
    return _searching(state, 5, FINE, decay, max(2, 3 * state.trials // 4), 3 * state.epochs)


def _searching(state: _State, step: int, factor: float, decay: Any, trials: int, epochs: int) -> Verdict:
    found = searched(state.runs, _rate(state), factor, decay, trials, epochs)
    verdict = verdict_of(found, state.runs, step, state.drops)
    if found.complete:
        state.course, state.rate, state.decay = found.course, verdict.values["rate"], verdict.values["weight_decay"]
        state.accuracy = verdict.values["accuracy"]
    return verdict


def _sixth(state: _State) -> Verdict:
    """Of the best training so far; without one, of one at the trainer's own rate."""
    runs = state.runs
    course = state.course or runs.run(runs.loader, epochs=3 * state.epochs, rate=state.rate, validate=True)
    return of_course(course, guessed(runs))


def _seventh(state: _State) -> Verdict:
    decay = state.decay if isinstance(state.decay, float) else state.runs.decay
    verdict, _ = once_more(state.runs, state.accuracy, _rate(state), decay, max(2, state.trials // 2), 3 * state.epochs)
    return verdict


def _rate(state: _State) -> float:
    rate = state.rate or state.runs.rate
    if not rate:
        raise ValueError(f"{_WHAT}: the trainer's rate is 0; step 3 looks for one: steps='3-7'")
    return rate


_STEPS: dict[int, Callable[[_State], Verdict]] = dict(zip(STEPS, (_first, _second, _third, _fourth, _fifth, _sixth, _seventh)))
