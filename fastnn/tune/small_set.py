"""Step 2: whether a model can learn a few minibatches by heart."""

from __future__ import annotations

from dataclasses import dataclass

from ..arguments import integer
from ..data import Loader
from ..described import plural
from ..train import Trainer
from ..train.evaluation import Data
from .beginning import dead_units, first_look
from .rates import candidates
from .runs import Course, Runs
from .verdict import Fault, Verdict

_EPOCHS = 100
_RATES = 3  # at most
_PATIENCE = 30  # epochs without a higher accuracy
_LONGER = 3  # times the epochs, for what still rises
_NEARLY = 0.9


def overfit(
    trainer: Trainer, train: Data, *, batches: int = 8, epochs: int = _EPOCHS, batch_size: int | None = None, seed: int = 0
) -> Verdict:
    """Step 2: whether the model learns `batches` minibatches (5 to 10 are usual) by heart, up to an accuracy of 100 %.

        print(tune.overfit(trainer, training_set))

    Trained with weight decay, penalties, dropout, augmentation, mixing and label smoothing off, at the trainer's own rate, and where that does not do
    at two others (1e-1 and 1e-2 for SGD, 1e-3 and 1e-4 for Adam): for up to `epochs` epochs, or until the accuracy has not risen for 30; where it
    still rises at the end, three times as long. What cannot be learned by heart will not be learned at all: "underfitting" (too small a model, or too
    narrow a layer), or "dead units". `values`: accuracy, epochs, rate.

    trainer, train, batch_size: as `fit` takes them, with class numbers as labels. seed: which samples. The trainer is left as it was, bit for
    bit. Source: CS231n, "Neural networks part 3" (sanity checks). TypeError and ValueError as `train.find_rate`.
    """
    integer("overfit", "batches", batches, 1, 2**20), integer("overfit", "epochs", epochs, 1, 2**31)
    return small_set(Runs("overfit", trainer, train, batch_size=batch_size, seed=seed), batches, epochs)


@dataclass
class _Learned:
    """What came of one rate."""

    rate: float
    course: Course
    dead: list[str]

    @property
    def accuracy(self) -> float:
        return max((row["accuracy"] for row in self.course.rows), default=0.0)

    @property
    def rising(self) -> bool:
        """Whether it would go on."""
        return not self.course.exploded and self.accuracy < 1 and not _stuck([row["accuracy"] for row in self.course.rows])


def small_set(runs: Runs, batches: int = 8, epochs: int = _EPOCHS) -> Verdict:
    dataset = runs.first(batches)
    loader = runs.like(dataset, plain=True)
    tried: list[_Learned] = []
    for rate in candidates(runs)[:_RATES]:
        tried.append(_learn(runs, loader, rate, epochs))
        if tried[-1].accuracy == 1:
            break
    best = max(tried, key=lambda one: (one.accuracy, -one.course.end))
    for one in sorted(tried, key=lambda one: -one.accuracy)[:2]:
        if best.accuracy < 1 and one.rising:
            best = max(best, _learn(runs, loader, one.rate, _LONGER * epochs), key=lambda one: one.accuracy)
    done = plural(len(best.course.rows), "epoch")
    told = f"{plural(len(dataset), 'sample')} in {plural(len(loader), 'batch')} are learned by heart in {done}, rate {best.rate:.3g}"
    values = {"accuracy": best.accuracy, "epochs": len(best.course.rows), "rate": best.rate}
    verdict = Verdict(2, "overfit a few", f"{100 * best.accuracy:.1f} % of {told}", [], [], values)
    if best.accuracy < 1:
        verdict.faults = first_look(runs).faults or _why(best)
        verdict.advice = [f"rates tried: {', '.join(f'{one.rate:.3g}' for one in tried)}"]
    elif best.rate != tried[0].rate:
        verdict.advice = [f"not at the trainer's own rate, {tried[0].rate:.3g}: step 3 looks for one"]
    return verdict


def _learn(runs: Runs, loader: Loader, rate: float, epochs: int) -> _Learned:
    dead: list[str] = []
    samples = [x for x, _ in loader.batches(0)]
    reached: list[float] = []

    def until(row: dict[str, float]) -> bool:
        reached.append(row["accuracy"])
        return row["accuracy"] == 1 or _stuck(reached)

    def behind(trainer: Trainer) -> None:
        dead.extend(dead_units(trainer, samples))

    course = runs.run(loader, epochs=epochs, rate=rate, plain=True, noise=False, until=until, behind=behind)
    return _Learned(rate, course, dead)


def _stuck(reached: list[float]) -> bool:
    """Whether the accuracy has not risen for so many epochs."""
    return len(reached) > _PATIENCE and max(reached[-_PATIENCE:]) <= max(reached[:-_PATIENCE])


def _why(best: _Learned) -> list[Fault]:
    if best.dead and best.accuracy < _NEARLY:
        return [
            Fault("dead units", f"{', '.join(best.dead[:3])} are 0 for every sample: smaller weights or biases at the start, or LeakyReLU")
        ]
    if best.course.exploded:
        return [Fault("rate too high", f"at every rate {best.course.ended}: look at weights and input (step 1), then at lower rates")]
    text = "more capacity: wider or more layers; or samples that are the same with different labels"
    return [Fault("underfitting", f"a model that can learn anything learns so few by heart, this one {100 * best.accuracy:.0f} %: {text}")]
