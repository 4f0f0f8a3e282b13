"""A step of several batches is the step of one large batch, whatever the loss divides by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_twins import normal

import fastnn
from fastnn import nn, optim
from fastnn.data import Loader, Normalize
from fastnn.tensor import Tensor
from fastnn.train import Callback, Diverged, Trainer

N, CLASSES = 23, 3
WEIGHTS = [0.2, 1.0, 3.5]
X = normal(0, N, 4)
HARD = np.arange(N) * 7 % 5 % CLASSES
SOME_IGNORED = np.where(np.arange(N) % 3 == 1, -100, HARD)
SOME_IGNORED[4:8] = -100  # a batch of nothing else
SOFT = np.abs(normal(1, N, CLASSES)) + 0.1
SOFT /= SOFT.sum(1, keepdims=True)
TARGETS = normal(2, N, CLASSES)
YES = (normal(3, N, CLASSES) > 0).astype(np.float32)


class Targets(Loader):
    """Batches whose labels are rows of any array."""

    def __init__(self, targets: np.ndarray, batch_size: int) -> None:
        super().__init__((X, HARD), batch_size, normalize=Normalize([0.0] * 4, [1.0] * 4))
        self.targets = targets

    def batch(self, positions: np.ndarray, *rest: Any) -> tuple[Tensor, Tensor]:
        return super().batch(positions, *rest)[0], fastnn.tensor(self.targets[positions])


LOSSES: dict[str, tuple[Callable[[str], Any], np.ndarray]] = {
    "cross-entropy": (lambda r: nn.CrossEntropyLoss(reduction=r), HARD),
    "class weights": (lambda r: nn.CrossEntropyLoss(WEIGHTS, reduction=r), HARD),
    "ignored labels": (lambda r: nn.CrossEntropyLoss(reduction=r), SOME_IGNORED),
    "all of it": (lambda r: nn.CrossEntropyLoss(WEIGHTS, reduction=r, label_smoothing=0.1), SOME_IGNORED),
    "a class ignored": (lambda r: nn.CrossEntropyLoss(WEIGHTS, ignore_index=1, reduction=r), HARD),
    "soft labels": (lambda r: nn.CrossEntropyLoss(reduction=r), SOFT),
    "soft labels, weights, smoothing": (lambda r: nn.CrossEntropyLoss(WEIGHTS, reduction=r, label_smoothing=0.1), SOFT),
    "nll": (lambda r: OfLogits(nn.NLLLoss(WEIGHTS, reduction=r)), SOME_IGNORED),
    "svm": (lambda r: nn.MulticlassSVMLoss(reduction=r), HARD),
    "multi-margin": (lambda r: nn.MultiMarginLoss(weight=WEIGHTS, reduction=r), HARD),
    "mse": (lambda r: nn.MSELoss(reduction=r), TARGETS),
    "l1": (lambda r: nn.L1Loss(reduction=r), TARGETS),
    "smooth l1": (lambda r: nn.SmoothL1Loss(reduction=r), TARGETS),
    "huber": (lambda r: nn.HuberLoss(reduction=r), TARGETS),
    "bce": (lambda r: nn.BCEWithLogitsLoss(WEIGHTS, pos_weight=WEIGHTS, reduction=r), YES),
}


class OfLogits:
    """NLL behind log-softmax: a loss of one's own that hands on what the inner one says of itself."""

    def __init__(self, loss: nn.NLLLoss) -> None:
        self.loss, self.reduction, self.count = loss, loss.reduction, loss.count

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.loss(fastnn.ops.log_softmax(logits, 1), labels)


class Losses(Callback):
    def __init__(self) -> None:
        self.shown: list[float] = []

    def after_step(self, trainer: Trainer, loss: float) -> None:
        self.shown.append(loss)


def first_step(
    loss: Any, targets: np.ndarray, batch_size: int, accumulate: int, **options: Any
) -> tuple[list[np.ndarray], float, dict[str, float]]:
    """Weights after an epoch of one step from the same start, its loss, and the epoch's row."""
    fastnn.seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, CLASSES))
    trainer = Trainer(model, optim.SGD(model.parameters(), 0.1), loss, accumulate=accumulate, metrics=(), **options)
    seen = Losses()
    history = trainer.fit(Targets(targets, batch_size), 1, callbacks=[seen], progress=False)
    assert len(seen.shown) == 1
    return (
        [np.array(p.numpy()) for p in model.parameters()],
        seen.shown[0],
        {**history.rows[0], "evaluated": trainer.evaluate(Targets(targets, batch_size))["loss"]},
    )


@pytest.mark.parametrize("options", [{}, {"l1": 0.01, "l2": 0.1}], ids=["plain", "penalised"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_of_batches_is_the_step_of_one(name: str, reduction: str, options: dict[str, float]) -> None:
    """23 samples as one batch, and as five of 4 and one of 3."""
    make, targets = LOSSES[name]
    weights, loss, row = first_step(make(reduction), targets, N, 1, **options)
    parts, loss_of_parts, row_of_parts = first_step(make(reduction), targets, 4, 6, **options)
    for whole, part in zip(weights, parts, strict=True):
        np.testing.assert_allclose(part, whole, rtol=2e-6, atol=2e-6 * (1 if reduction == "mean" else N))
    assert loss_of_parts == pytest.approx(loss, rel=1e-5)
    if reduction == "mean":
        assert row_of_parts["loss"] == pytest.approx(row["loss"], rel=1e-5) and row["loss"] == pytest.approx(loss, rel=1e-5)
        assert row_of_parts["evaluated"] == pytest.approx(row["evaluated"], rel=1e-5)


def test_what_losses_count() -> None:
    for loss, labels, expected in (
        (nn.CrossEntropyLoss(), [0, 1, -100], 2),
        (nn.CrossEntropyLoss(WEIGHTS), [0, 2, 2, -100], 7.2),
        (nn.CrossEntropyLoss(WEIGHTS), np.full((5, CLASSES), 1 / 3, np.float32), 5),
        (nn.CrossEntropyLoss(), np.full((5, CLASSES, 2, 2), 1 / 3, np.float32), 20),
        (nn.CrossEntropyLoss(), np.zeros((5, 2, 2), int), 20),
        (nn.CrossEntropyLoss(), np.full(CLASSES, 1 / 3, np.float32), 1),
        (nn.NLLLoss(WEIGHTS, ignore_index=0), [0, 1], 1),
        (nn.MultiMarginLoss(weight=WEIGHTS), [0, 1], 2),
        (nn.MSELoss(), np.zeros((5, 3), np.float32), 15),
    ):
        assert loss.count(labels) == loss.count(fastnn.tensor(labels)) == pytest.approx(expected)


def test_nothing_but_ignored_labels() -> None:
    for accumulate in (1, 2):
        with pytest.raises(
            Diverged, match="epoch 1, batch 1: every label of the batch is ignored or weighs nothing, so its mean divides by 0"
        ):
            first_step(nn.CrossEntropyLoss(), np.full(N, -100), N // accumulate + 1, accumulate)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (nn.CrossEntropyLoss(reduction="none"), ValueError, "Trainer: loss has reduction 'none'; a step needs one number: 'mean' or 'sum'"),
        (lambda a, b: nn.CrossEntropyLoss(reduction="none")(a, b), ValueError, r"loss gave shape \(23,\); expected one number.*\.mean\(\)"),
        (lambda a, b: 1.5, TypeError, "Trainer: loss gave 1.5; expected a Tensor of one number"),
        ("cross_entropy", TypeError, r"loss must be a function of \(logits, labels\), got 'cross_entropy'"),
        (nn.CrossEntropyLoss, TypeError, "got the class CrossEntropyLoss"),
    ],
)
def test_a_loss_that_is_no_number(loss: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        first_step(loss, HARD, N, 1)


class Unsteady:
    """A sample of the fifth batch cannot be read, or has the label of no class, for a while."""

    fault = ""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        if self.fault == "file" and i == 13:
            raise OSError("the disk is gone")
        return X[i], 7 if self.fault == "label" and i == 13 else int(HARD[i])


@pytest.mark.usefixtures("without_memory_checks")
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("replay", [False, "auto"])
@pytest.mark.parametrize(("fault", "error"), [("file", OSError), ("label", ValueError)])
def test_a_step_that_the_data_end_is_none(fault: str, error: type[Exception], replay: bool | str, accumulate: int) -> None:
    """Dropout had drawn for it, and running statistics had seen its first batches: what went on was another training."""

    def state(broken: str) -> list[bytes]:
        fastnn.seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, CLASSES))
        trainer, data = Trainer(model, optim.SGD(model.parameters(), 0.1), accumulate=accumulate), Unsteady()
        loader = Loader(data, 3, normalize=Normalize([0.0] * 4, [1.0] * 4), prefetch=0)
        data.fault = broken
        if broken:
            with pytest.raises(error):
                trainer.fit(loader, 1, progress=False, replay=replay)
            assert 0 < trainer.batch < len(loader)
        data.fault = ""
        trainer.fit(loader, 1, progress=False, replay=replay)
        return [a.numpy().tobytes() for a in (*model.parameters(), *model.buffers())]

    assert state(fault) == state("")


def test_fractions_of_batches_are_refused() -> None:
    model = nn.Linear(2, 2)
    for accumulate, error in ((0, ValueError), (1.5, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="Trainer: accumulate must be "):
            Trainer(model, optim.SGD(model.parameters()), accumulate=accumulate)  # type: ignore[arg-type]


# --- what a checkpoint was made with


def trainer_of(accumulate: int = 1, ema: Callable[[nn.Module], Any] = lambda model: None) -> Trainer:
    model = nn.Linear(4, CLASSES)
    return Trainer(model, optim.SGD(model.parameters()), accumulate=accumulate, ema=ema(model))


SETTINGS: Sequence[tuple[dict[str, Any], dict[str, Any], str]] = (
    ({"accumulate": 2}, {"accumulate": 3}, "made with accumulate=2; the trainer has accumulate=3"),
    (
        {"ema": lambda m: 0.9},
        {"ema": lambda m: 0.99},
        r"made with EMA\(decay=0.9, every=1, start=0\); the trainer has EMA\(decay=0.99, every=1,",
    ),
    (
        {"ema": lambda m: optim.SWA(m, every=2)},
        {"ema": lambda m: optim.SWA(m, every=3)},
        r"made with SWA\(every=2, start=0\); .* SWA\(every=3, start=0\)",
    ),
    ({"ema": lambda m: optim.SWA(m)}, {"ema": lambda m: 0.9}, r"made with SWA\(every=1, start=0\); the trainer has EMA\(decay=0.9"),
    (
        {"ema": lambda m: optim.SWA(m)},
        {"ema": lambda m: optim.SWA(m, start=5)},
        r"made with SWA.*start=0\); the trainer has SWA\(every=1, start=5\)",
    ),
)


@pytest.mark.parametrize(("made", "has", "message"), SETTINGS)
def test_a_checkpoint_goes_on_as_it_began(made: dict[str, Any], has: dict[str, Any], message: str, tmp_path: Path) -> None:
    first = trainer_of(**made)
    first.fit((X, HARD), 1, batch_size=4, progress=False)
    first.save(tmp_path / "c")
    other = trainer_of(**has)
    before = other.model.weight.numpy().copy()
    with pytest.raises(ValueError, match=f"c: {message}"):
        other.fit((X, HARD), 2, batch_size=4, progress=False, resume=tmp_path / "c")
    assert other.epoch == 0 and np.array_equal(other.model.weight.numpy(), before)
    assert len(trainer_of(**made).fit((X, HARD), 2, batch_size=4, progress=False, resume=tmp_path / "c")) == 2


def test_slow_weights_within_several_optimizers_are_saved(tmp_path: Path) -> None:
    def make() -> Trainer:
        fastnn.seed(0)
        model = nn.Linear(4, CLASSES)
        lookahead = optim.Lookahead(optim.SGD([model.weight], 0.1, momentum=0.9), k=4)
        return Trainer(model, optim.Together(lookahead, optim.Adam([model.bias])))

    whole, first, second = make(), make(), make()
    whole.fit((X, HARD), 3, batch_size=4, progress=False)
    first.fit((X, HARD), 1, batch_size=4, progress=False)  # 6 steps: between two meetings
    first.save(tmp_path / "c")
    second.fit((X, HARD), 3, batch_size=4, progress=False, resume=tmp_path / "c")
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())
    assert any(k.startswith("0/slow") for k in second.optimizer.state_dict())
