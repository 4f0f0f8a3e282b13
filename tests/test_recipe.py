"""The recipe's steps: what each judges, that nothing of them is left, and the command."""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import GPUS
from planted import net, planted

import fastnn
from fastnn import cli, data, models, nn, optim, train, tune
from fastnn.optim import schedules
from fastnn.train import Trainer, checkpoint
from fastnn.tune.rates import knows_no_images
from fastnn.tune.recipe import checked_steps
from fastnn.tune.runs import Course, Runs

pytestmark = pytest.mark.usefixtures("without_memory_checks")  # with them, no step is replayed

DIGITS = data.digits()[0]
FEW = DIGITS.take(range(160))


def trainer(model: nn.Module | None = None, rate: Any = 1e-3, **options: Any) -> Trainer:
    model = net(0, DIGITS.shape, 8) if model is None else model
    return Trainer(model, optim.Adam(model.parameters(), rate), **options)


def standing(of: Trainer) -> dict[str, Any]:
    """All that a checkpoint has, in bytes, and what it has not."""
    arrays, notes = checkpoint.contents(of)
    return {
        **{name: np.asarray(a).tobytes() for name, a in arrays.items()},
        "notes": repr(notes),
        "plain": {name: repr(value) for name, value in vars(of).items() if isinstance(value, (int, float, str, tuple, type(None)))},
        "objects": [id(getattr(of, name)) for name in ("loss", "penalty", "metrics", "normalize", "history", "best")],
        "gradients": [None if p.grad is None else p.grad.numpy().tobytes() for p in of.model.parameters()],
        "modes": [m.training for m in of.model.modules()],
        "groups": [{name: repr(value) for name, value in group.items() if name != "params"} for group in of.optimizer.param_groups],
        "ema": id(of.stepping.ema),
        "generator": fastnn.random.default_generator().draw,
        "measures": of.optimizer.measure_updates,
    }


class Own(nn.Module):
    """As somebody writes one, with ops in place of layers."""

    def __init__(self) -> None:
        super().__init__()
        fastnn.seed(4)
        self.conv, self.norm, self.drop, self.out = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Linear(288, 10)

    def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
        h = fastnn.ops.relu(self.norm(self.conv(x)))
        return self.out(self.drop(h.reshape(h.shape[0], -1)))


class Items:
    """Somebody's own data set."""

    def __len__(self) -> int:
        return 120

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return DIGITS[i]


def of_own(**options: Any) -> tuple[Trainer, data.Loader]:
    model = Own()
    optimizer = optim.SGD(model.parameters(), schedules.warmup(schedules.cosine(0.05, 100), 10), momentum=0.9, weight_decay=5e-4)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    one = Trainer(model, optimizer, loss, l2=1e-4, accumulate=2, ema=0.9, clip_norm=5.0, metrics=(), **options)
    augment, mix = [data.RandomCrop(1)], [data.MixUp(0.2)]
    return one, data.Loader(Items(), 16, shuffle=True, normalize=data.Normalize.fit(DIGITS), augment=augment, mix=mix)


# --- nothing is left of it


@pytest.mark.parametrize("begun", [False, True])
def test_the_trainer_is_as_it_was_bit_for_bit(begun: bool) -> None:
    one, loader = of_own()
    if begun:
        one.fit(loader, 1, progress=False)
    before, epoch = standing(one), loader.epoch
    found = tune.recipe(one, loader, FEW, trials=2, epochs=1, keep_going=True, progress=False)
    assert len(found) == 7 and standing(one) == before and loader.epoch == epoch


@pytest.mark.parametrize("step", range(1, 8))
def test_each_step_alone_leaves_nothing_either(step: int) -> None:
    one = trainer()
    before = standing(one)
    found = tune.recipe(one, FEW, steps=[step], trials=2, epochs=1, batch_size=32, progress=False)
    assert [verdict.step for verdict in found] == [step] and standing(one) == before


def test_what_it_finds_is_the_same_for_any_number_of_threads() -> None:
    threads, found = fastnn.get_num_threads(), []
    try:
        for count in (1, 2):
            fastnn.set_num_threads(count)
            found.append(str(tune.recipe(trainer(), FEW, steps="1-5", trials=2, epochs=2, batch_size=32, seed=3, progress=False)))
    finally:
        fastnn.set_num_threads(threads)
    assert found[0] == found[1]


def test_an_error_within_a_training_leaves_nothing() -> None:
    def loss(logits: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        calls.append(1)
        if len(calls) == 40:
            raise KeyboardInterrupt
        return fastnn.ops.cross_entropy(logits, labels)

    calls: list[int] = []
    one = trainer(loss=loss)
    before = standing(one)
    with pytest.raises(KeyboardInterrupt):
        tune.recipe(one, FEW, steps="2", batch_size=32, progress=False)
    assert standing(one) == before


def test_ctrl_c_ends_it_at_the_end_of_a_step() -> None:
    def loss(logits: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        calls.append(1)
        if len(calls) == 40:
            os.kill(os.getpid(), signal.SIGINT)
        return fastnn.ops.cross_entropy(logits, labels)

    calls: list[int] = []
    one = trainer(loss=loss)
    before = standing(one)
    with pytest.raises(train.Interrupted, match="interrupted in recipe; the trainer is as it was"):
        tune.recipe(one, FEW, steps="3-4", batch_size=32, progress=False)
    assert standing(one) == before


@pytest.mark.parametrize("gpu", GPUS)
def test_a_gpu_finds_the_same_faults(gpu: str) -> None:
    model = net(0, DIGITS.shape, 8)
    one = Trainer(model, optim.Adam(model.parameters(), 1e-5), device=gpu)
    before = standing(one)
    found = tune.recipe(one, FEW, steps="1,3-5", trials=2, epochs=1, batch_size=32, keep_going=True, progress=False)
    assert [fault.name for fault in found[3].faults] == ["rate too low"] and found[1].passed and standing(one) == before


# --- step 1


def test_the_loss_begins_at_log_c_and_rises_with_a_penalty() -> None:
    found = tune.initial_loss(trainer(), DIGITS, batch_size=32)
    assert found.passed and found.values["expected"] == pytest.approx(math.log(10), rel=1e-6)
    assert 0.9 * math.log(10) < found.values["loss"] < math.log(10) + 0.7
    weights = [p.numpy() for p in trainer().model.parameters() if p.ndim > 1]
    assert found.values["penalty"] == pytest.approx(1e-3 * sum(float((w.astype(np.float64) ** 2).sum()) for w in weights), rel=1e-5)


def test_the_loss_of_a_support_vector_machine_begins_near_c_minus_1() -> None:
    found = tune.initial_loss(trainer(loss=nn.MulticlassSVMLoss()), DIGITS)
    assert found.passed and found.values["expected"] == pytest.approx(9) and found.values["high"] == pytest.approx(1.3 * 9)
    sums = tune.initial_loss(trainer(loss=nn.CrossEntropyLoss(reduction="sum")), DIGITS)
    assert sums.passed and sums.values["expected"] == pytest.approx(math.log(10), rel=1e-6)


def scaled(name: str, factor: float) -> Callable[[nn.Module], None]:
    def change(model: nn.Module) -> None:
        weight = dict(model.named_parameters())[name]
        weight.copy_from(factor * weight.numpy())

    return change


def alike(model: nn.Module) -> None:
    for name, p in model.named_parameters():
        if p.ndim > 1 and name != "10.weight":
            p.copy_from(np.full(p.shape, 0.1, np.float32))


CHANGES: dict[str, tuple[Callable[[nn.Module], None], str, str]] = {
    "large outputs": (scaled("10.weight", 60), "initialisation", "shrink the last layer"),
    "small weights": (scaled("0.weight", 1e-6), "initialisation", "activations shrink"),
    "alike": (alike, "initialisation", "all units of .* are alike"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_begin_badly_are_named(change: str) -> None:
    make, fault, words = CHANGES[change]
    one = trainer()
    make(one.model)
    for name, p in one.model.named_parameters():
        if change == "small weights" and name.endswith("bias"):
            p.copy_from(np.zeros(p.shape, np.float32))
    found = tune.initial_loss(one, DIGITS, batch_size=32)
    assert found.names == [fault]
    assert len(found.faults) == 1 and re.search(words, found.faults[0].text), found


def test_a_zero_last_layer_is_no_fault() -> None:
    one = trainer()
    scaled("10.weight", 0)(one.model)
    assert tune.initial_loss(one, DIGITS, batch_size=32).passed


def test_saturated_units_probabilities_and_nan_are_named() -> None:
    fastnn.seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    scaled("1.weight", 100)(model)
    assert tune.initial_loss(trainer(model), DIGITS).names == ["initialisation"]
    softmax = nn.Sequential(*net(0, DIGITS.shape, 8).children(), nn.Softmax(1))
    with pytest.warns(UserWarning, match="takes logits"):
        assert tune.initial_loss(trainer(softmax), DIGITS).names == ["outputs"]
    images = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    images[7, 5] = np.nan
    plain = nn.Sequential(nn.Linear(64, 10))
    assert tune.initial_loss(trainer(plain, normalize=data.Normalize([0.0] * 64, [1.0] * 64)), (images, np.arange(40) % 10)).names == [
        "input"
    ]


def test_a_model_that_was_trained_already_begins_too_low() -> None:
    one = trainer(normalize=data.Normalize.fit(DIGITS))
    one.fit(FEW, 15, batch_size=16, progress=False)
    found = tune.initial_loss(one, FEW)
    assert found.names == ["initialisation"] and "trained already" in found.faults[0].text


def test_dead_units_of_a_net_of_ones_own_without_relu_layers_are_named() -> None:
    model = Own()
    model.norm.bias.copy_from(np.full(8, -50, np.float32))
    assert tune.initial_loss(trainer(model), DIGITS).names == ["dead units"]


# --- steps 2 and 3


def test_layers_that_forward_does_not_call_are_none_of_it() -> None:
    """What a Cut leaves out of its network."""
    fastnn.seed(0)
    cut = models.Cut(models.create("vgg_small", input_shape=DIGITS.shape), "13", 10, 64)
    found = tune.recipe(Trainer(cut, optim.Adam(cut.parameters(), 1e-3)), FEW, steps="1-3", keep_going=True, progress=False)
    assert found.passed and found.rate == 1e-3


def test_a_few_batches_are_learned_without_dropout_decay_and_smoothing() -> None:
    one, loader = of_own()
    found = tune.overfit(one, loader, batches=5)
    assert found.passed and found.values["accuracy"] == 1


def test_the_rate_of_a_schedule_is_its_highest_to_come() -> None:
    one, loader = of_own()
    assert Runs("recipe", one, loader).rate == pytest.approx(0.05, rel=0.05) and one.optimizer.steps_per_epoch is None
    assert Runs("recipe", trainer(rate=3e-3), FEW).rate == 3e-3


def test_a_guess_by_frequency_has_the_entropy_of_the_labels() -> None:
    part = np.bincount(DIGITS.labels) / len(DIGITS)
    runs = Runs("drop_rate", trainer(loss=nn.CrossEntropyLoss(label_smoothing=0.2)), DIGITS)
    assert knows_no_images(runs) == pytest.approx(-(part * np.log(part)).sum(), rel=1e-5)
    assert knows_no_images(Runs("drop_rate", trainer(loss=nn.MulticlassSVMLoss()), DIGITS)) == math.inf


def test_rates_are_tried_for_a_hundred_steps_from_the_same_weights() -> None:
    found = tune.drop_rate(trainer(), DIGITS, batch_size=32)
    assert found.passed and found.values["own"] == found.values["rate"] == 1e-3
    assert list(found.values["drops"]) == [1e-3, 1e-4, 1e-5]
    again = tune.drop_rate(trainer(), DIGITS, batch_size=32)
    assert found.values == again.values
    model = net(0, DIGITS.shape, 8)
    sgd = Trainer(model, optim.SGD(model.parameters(), 0.03, momentum=0.9))
    assert list(tune.drop_rate(sgd, FEW, steps=20).values["drops"]) == [0.03, 1e-1, 1e-2, 1e-3, 1e-4]


# --- steps 4 and 5


def searching(monkeypatch: pytest.MonkeyPatch, accuracy: Callable[[float], float], steps: int = 200, seed: int = 0) -> tune.Verdict:
    """A coarse search around 1e-3 whose trainings are of that accuracy, by their rate."""

    def run(self: Runs, loader: data.Loader, *, rate: float, **_: Any) -> Course:
        return Course(rate, 0.0, [1.0] * steps, [{"loss": 1.0, "val_accuracy": accuracy(rate), "val_loss": 1.0}])

    monkeypatch.setattr(Runs, "run", run)
    return tune.coarse(trainer(), DIGITS, trials=8, seed=seed)


def test_a_search_goes_beyond_its_range_where_the_best_lies_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    found = searching(monkeypatch, lambda rate: 0.5 + 0.1 * math.log10(rate / 1e-4))
    assert found.names == ["edge"] and "upper end of its range: widen it, 1 ... 10" in found.faults[0].text
    assert [len(study) for study in found.values["studies"]] == [8, 4, 4] and found.values["rate"] > 0.5
    within = searching(monkeypatch, lambda rate: 0.9 - 0.1 * abs(math.log10(rate / 3e-2)))
    assert within.passed and len(within.values["studies"]) == 2 and 0.01 < within.values["rate"] < 0.1
    below = searching(monkeypatch, lambda rate: 0.2 - 0.1 * math.log10(rate), seed=2)
    assert below.names == ["edge"] and "lower end of its range: widen it, 1e-07 ... 1e-06" in below.faults[0].text


def test_an_end_that_is_no_better_than_the_rest_is_told_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    found = searching(monkeypatch, lambda rate: 0.9 + 0.001 * math.log10(rate / 1e-4))
    assert found.passed and "others are as good within a standard error, 2.0 %" in found.advice[0]


def test_trials_that_are_no_better_than_a_guess_speak_of_labels_if_they_had_time(monkeypatch: pytest.MonkeyPatch) -> None:
    found = searching(monkeypatch, lambda rate: 0.15)
    assert found.names == ["labels"] and "a guess (1" in found.faults[0].text
    short = searching(monkeypatch, lambda rate: 0.15, steps=20)
    assert short.passed and "after 20 steps: more epochs" in short.advice[0]


def test_a_fine_search_stays_near_the_rate_and_counts_in_validation() -> None:
    found = tune.refine(trainer(), DIGITS, rate=3e-3, trials=3, epochs=4, batch_size=32)
    assert found.passed and 1e-3 / 3 <= found.values["rate"] <= 3e-2 and found.values["accuracy"] > 0.9
    assert found.values["epochs"] == 4 and found.values["weight_decay"] in (0.0, 1e-5, 1e-4)


def test_all_trials_that_diverge_are_a_rate_too_high() -> None:
    found = tune.refine(trainer(), DIGITS, rate=1e3, trials=2, epochs=1)
    assert found.names == ["rate too high"] and "first one" in found.faults[0].text or "no number" in found.faults[0].text


def test_weight_decay_goes_to_the_groups_that_have_some(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net(0, DIGITS.shape, 8)
    one = Trainer(model, optim.AdamW(optim.groups(model), 1e-3))
    seen: list[list[float]] = []
    train_once = Runs._train

    def train(self: Runs, trainer: Trainer, *rest: Any) -> None:
        seen.append([group["weight_decay"] for group in trainer.optimizer.param_groups])
        train_once(self, trainer, *rest)

    monkeypatch.setattr(Runs, "_train", train)
    tune.recipe(one, FEW, steps="2-4", trials=2, epochs=1, batch_size=32, progress=False)
    assert [0.0, 0.0] in seen and [1e-4, 0.0] in seen and not any(decays[1] for decays in seen) and any(d[0] > 1e-4 for d in seen)
    assert [group["weight_decay"] for group in one.optimizer.param_groups] == [1e-2, 0.0]


def test_a_penalty_that_is_too_strong_is_named_and_not_the_labels() -> None:
    found = tune.recipe(trainer(l2=10.0), DIGITS, steps="3-4", trials=2, epochs=3, batch_size=32, progress=False)
    assert [fault.name for fault in found.faults] == ["underfitting"] and "a weaker penalty" in found.faults[0].text


# --- step 6


def rows(losses: list[float], **columns: list[float]) -> train.History:
    return train.History(
        [{"epoch": i + 1, "loss": v, **{name: values[i] for name, values in columns.items()}} for i, v in enumerate(losses)]
    )


SOME = [0.5, 0.7, 0.8, 0.85, 0.85, 0.85]
CURVES: dict[str, tuple[train.History, str]] = {
    "no number": (rows([2.0, math.nan]), "rate too high"),
    "3.1 times the first": (rows([2.0, 1.0, 6.2]), "rate too high"),
    "flat": (rows([2.3, 2.3, 2.295, 2.29]), "rate too low"),
    "flat, then falling": (rows([2.3, 2.3, 2.29, 2.2, 2.0, 1.5, 1.2, 1.0, 0.9, 0.8]), "initialisation"),
    "wide gap": (rows([2.0, 1.0, 0.5], accuracy=[0.5, 0.9, 0.98], val_accuracy=[0.5, 0.8, 0.87]), "overfitting"),
    "no gap": (rows([2.0, 1.0, 0.8, 0.79, 0.79, 0.79], accuracy=SOME, val_accuracy=SOME), "underfitting"),
    "validation at chance": (rows([2.0, 1.0, 0.5], accuracy=[0.5, 0.9, 0.98], val_accuracy=[0.1, 0.1, 0.1]), "labels"),
}
ADVICE: dict[str, tuple[train.History, str]] = {
    "none": (rows([2.0, 0.5, 0.1], accuracy=[0.5, 0.9, 0.98], val_accuracy=[0.5, 0.9, 0.95]), ""),
    "still falling": (rows([2.0, 1.5, 1.2, 0.9, 0.7], val_loss=[2.0, 1.5, 1.2, 0.9, 0.7], val_accuracy=SOME[:5]), "a longer training"),
    "plateau": (rows([2.0, 1.0, 0.5, 0.499, 0.498, 0.497], lr=[0.1] * 6), "a plateau"),
    "dropped too early": (rows([2.0, 1.5, 1.1, 1.09, 1.09, 1.089], lr=[0.1, 0.1, 0.01, 0.01, 0.01, 0.01]), "too early, before epoch 3"),
    "small updates": (rows([2.0, 1.0, 0.5], update_ratio=[1e-6] * 3), "too low"),
}


@pytest.mark.parametrize("curve", CURVES)
def test_a_curve_fails_by_its_rule(curve: str) -> None:
    history, fault = CURVES[curve]
    assert tune.read_curves(history, chance=0.1).names == [fault]


@pytest.mark.parametrize("curve", ADVICE)
def test_a_curve_passes_with_advice(curve: str) -> None:
    history, words = ADVICE[curve]
    found = tune.read_curves(history)
    assert found.passed and (any(words in said for said in found.advice) if words else not found.advice), found


# --- the recipe


def test_behind_a_failure_nothing_is_done_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    one = planted("unnormalised input", 0, DIGITS)
    found = tune.recipe(one.trainer, one.training, steps="1,3", batch_size=32)
    assert found.skipped == [3] and not found.passed and repr(found) == "Recipe(1 steps, FAIL in 1)"
    said = capsys.readouterr().out
    assert said.startswith("1 initial loss   FAIL  the loss begins at ") and said.endswith("FAIL in step 1: input; not done: 3\n")
    more = tune.recipe(one.trainer, one.training, steps="1,3", batch_size=32, keep_going=True, progress=False)
    assert [verdict.step for verdict in more] == [1, 3] and more[3].title == "rate" and capsys.readouterr().out == ""
    with pytest.raises(KeyError, match="step 2 was not done; expected one of 1, 3"):
        more[2]


def test_steps_are_chosen_by_words_and_numbers() -> None:
    assert checked_steps("recipe", "1-3") == [1, 2, 3] and checked_steps("recipe", "7, 1,3-4") == [1, 3, 4, 7]
    assert checked_steps("recipe", 2) == [2] and checked_steps("recipe", range(1, 4)) == [1, 2, 3]
    for wrong in ("", "0-3", "3-1", "8", "1-", "a"):
        with pytest.raises(ValueError, match="recipe: steps must be such as"):
            checked_steps("recipe", wrong)


def test_what_searches_its_own_steps_is_refused() -> None:
    model = net(0, DIGITS.shape, 8)
    with pytest.raises(TypeError, match="recipe: trainer has LBFGS, which searches its own steps"):
        tune.recipe(Trainer(model, optim.LBFGS(model.parameters())), FEW)
    with pytest.raises(ValueError, match="recipe: 3 samples are too few to take some for validation"):
        tune.recipe(trainer(), DIGITS.take(range(3)), steps="4")


def test_the_command_says_by_its_exit_code_whether_something_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recipe", "digits", "--model", "lenet", "--seed", "1", "--preprocess", "zca"]
    assert cli.main([*words, "--steps", "1,3-4", "--tri=2", "--ep", "2", "--keep-going", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "PASS: lr=" in said and "go on with: fastnn train digits --model lenet --seed 1 --preprocess zca --lr 0.0" in said
    written = (tmp_path / "out" / "recipe.txt").read_text()
    assert written.startswith("1 initial loss   PASS") and written.splitlines()[-1] in said.splitlines()
    assert cli.main([*words, "--steps", "3", "--lr", "1e-6"]) == 1
    assert capsys.readouterr().out.endswith("FAIL in step 3: rate too low\n")
    assert cli.main([*words, "--resume"]) == 2 and "--resume: recipe begins anew; leave it out" in capsys.readouterr().err
