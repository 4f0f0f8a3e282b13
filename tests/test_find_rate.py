"""The range test of the learning rate: its rates and losses, what it suggests, and that nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import GPUS

import fastnn
from fastnn import _C, cli, data, nn, optim, train
from fastnn.optim import schedules
from fastnn.train import RateSearch, Trainer, checkpoint
from fastnn.train.rate_search import Smoothed

pytestmark = pytest.mark.usefixtures("without_memory_checks")  # with them, no step is replayed

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 1, 8, 8), np.uint8)
LABELS = (IMAGES.reshape(70, -1).mean(1) > 128).astype(np.int64)


def net() -> nn.Sequential:
    fastnn.seed(3)
    front = (nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
    return nn.Sequential(*front, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 2))


def groups(model: nn.Module) -> list[dict[str, Any]]:
    first, *others = model.parameters()
    return [{"params": [first], "lr": 2e-3}, {"params": others}]


def muon(model: nn.Module) -> optim.Optimizer:
    matrices, others = ([p for p in model.parameters() if (p.ndim > 1) is wanted] for wanted in (True, False))
    return optim.Together(optim.Muon(matrices, 0.02), optim.SGD(others, 0.1, momentum=0.9))


OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "SGD": lambda model: optim.SGD(model.parameters(), schedules.cosine(0.1, 50), momentum=0.9),
    "Adam of a plateau": lambda model: optim.Adam(groups(model), schedules.ReduceOnPlateau(1e-3, patience=0)),
    "Muon": muon,
    "Lookahead": lambda model: optim.Lookahead(optim.SGD(model.parameters(), 0.05, momentum=0.9), k=3, model=model),
    "of epochs": lambda model: optim.AdamW(model.parameters(), schedules.step(1e-2, [1], unit="epoch")),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema, clipped": {"ema": 0.9, "clip_norm": 1.0, "l2": 1e-3},
    "accumulate": {"accumulate": 2, "metrics": ()},
}


def loader(**options: Any) -> data.Loader:
    images = data.ArrayDataset(IMAGES, LABELS)
    chance: dict[str, Any] = {"shuffle": True, "seed": 5, "augment": [data.Flip(), data.RandomCrop(1)]}
    return data.Loader(images, 16, normalize=data.Normalize.fit(images), **{**chance, **options})


def trainer(make: str = "SGD", **options: Any) -> Trainer:
    model = net()
    return Trainer(model, OPTIMIZERS[make](model), **options)


def standing(of: Trainer) -> dict[str, Any]:
    """All that a checkpoint has, in bytes, and what it has not: gradients, modes, attributes, rates."""
    arrays, notes = checkpoint.contents(of)
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in notes.pop("history")]
    sums = {name: value for name, value in notes.pop("sums").items() if name != "seconds"}
    plain = {name: value for name, value in vars(of).items() if isinstance(value, (int, float, str, tuple, type(None)))}
    return {
        **{name: (np.asarray(a).dtype, np.asarray(a).tobytes()) for name, a in arrays.items()},
        "notes": repr((notes, rows, sums)),
        "attributes": {name: repr(value) for name, value in plain.items() if name != "_saved"},
        "gradients": [None if p.grad is None else p.grad.numpy().tobytes() for p in of.model.parameters()],
        "modes": [m.training for m in of.model.modules()],
        "rates": [repr(group["lr"]) for group in of.optimizer.param_groups],
        "steps per epoch": of.optimizer.steps_per_epoch,
        "buffers": [id(b) for b in of.model.buffers()],
        "default generator": (id(fastnn.random.default_generator()), fastnn.random.default_generator().draw),
    }


def bits(of: Trainer) -> dict[str, Any]:
    """Of two trainers alike: without what is each one's own."""
    return {name: value for name, value in standing(of).items() if name not in ("buffers", "default generator")}


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_fit_after_the_search_has_the_bits_of_one_without(make: str, options: str, replay: bool) -> None:
    plain, searched, batches = trainer(make, **OPTIONS[options]), trainer(make, **OPTIONS[options]), loader()
    before = standing(searched)
    found = train.find_rate(searched, batches, high=0.5, steps=12, replay=replay)
    assert len(found.rates) > 5 and standing(searched) == before and batches.epoch == 0
    assert found.replayed.startswith("replayed: " if replay else "eager: replay=False")
    for one in (plain, searched):
        one.fit(batches, 2, (IMAGES[:20], LABELS[:20]), replay=replay, progress=False)
    assert bits(searched) == bits(plain)
    between = standing(searched)
    again = train.find_rate(searched, batches, high=0.5, steps=12, replay=replay)
    assert standing(searched) == between and again.losses != found.losses
    for one in (plain, searched):
        one.fit(batches, 1, replay=replay, progress=False)
    assert bits(searched) == bits(plain)


def test_replayed_and_eager_searches_have_the_same_bits_for_any_number_of_threads() -> None:
    before = fastnn.get_num_threads()
    found = []
    try:
        for threads, replay in ((1, False), (1, True), (2, True)):
            fastnn.set_num_threads(threads)
            found.append(train.find_rate(trainer(ema=0.9), loader(), steps=20, high=0.1, replay=replay))
    finally:
        fastnn.set_num_threads(before)
    assert found[1].replayed.startswith("replayed: ") and found[0].replayed.startswith("eager: ")
    assert found[0].losses == found[1].losses == found[2].losses and len(found[0].losses) == 20


@pytest.mark.parametrize("accumulate", [1, 2])
def test_losses_are_those_of_a_loop_of_ones_own(accumulate: int) -> None:
    """Rates geometric, each loss before its update, the next epoch's order where one ends; groups keep their ratio."""
    found = train.find_rate(trainer("Adam of a plateau", accumulate=accumulate), loader(), low=1e-5, high=1e-2, steps=11)
    assert np.allclose(found.rates, np.geomspace(1e-5, 1e-2, 11), rtol=1e-12)
    model, batches = net(), loader()
    optimizer = optim.Adam(groups(model), 1e-3)  # 2 to 1
    loss = nn.CrossEntropyLoss()
    generator = fastnn.random.Generator(0)
    losses: list[float] = []
    epoch = 0
    with fastnn.random.using(generator):
        while len(losses) < 11:
            pairs = list(batches.batches(epoch))
            for i in range(0, len(pairs), accumulate):
                part = pairs[i : i + accumulate]
                if len(losses) == 11:
                    break
                optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = found.rates[len(losses)], found.rates[len(losses)] / 2
                optimizer.zero_grad()
                total, samples = 0.0, sum(x.shape[0] for x, _ in part)
                for x, labels in part:
                    error = loss(model(x), labels)
                    error.backward(None if len(part) == 1 else x.shape[0] / samples)
                    total += x.shape[0] / samples * float(error)
                losses.append(total)
                optimizer.step()
            epoch += 1
    assert np.allclose(found.losses, losses, rtol=1e-6) and found.losses[0] == losses[0]


def test_smoothed_losses_are_bias_corrected_exponential_means() -> None:
    values = np.random.default_rng(0).random(20)
    smoothed = Smoothed(0.8)
    for t, got in enumerate([smoothed.add(float(v)) for v in values]):
        weights = 0.8 ** np.arange(t, -1, -1)
        assert np.isclose(got, (weights * values[: t + 1]).sum() / weights.sum(), rtol=1e-12)
    assert Smoothed(0.0).add(3.0) == 3.0


def search(losses: list[float], rates: list[float] | None = None, smoothing: float = 0.0) -> RateSearch:
    """As find_rate fills it."""
    found = RateSearch(rates or list(np.geomspace(1e-4, 1, len(losses))), optimizer="SGD")
    smoothed = Smoothed(smoothing)
    for loss in losses:
        if found.ended:
            break
        found._add(loss, smoothed.add(loss))
    return found


def test_suggestions_are_where_a_known_curve_says() -> None:
    """A logistic curve in log10(rate), steepest at its middle (rate 0.01), that turns at rate 0.1."""
    x = np.linspace(-4, 0, 81)
    curve = 2 - 1.5 / (1 + np.exp(-4 * (x + 2))) + np.where(x > -1, 5 * (x + 1) ** 2, 0)
    found = search(list(curve), list(10**x))
    least = int(np.argmin(found.smoothed))
    assert found.suggestion == pytest.approx(0.01, rel=1e-6) and found.safe == pytest.approx(found.rates[least] / 10)
    assert found.ended and "4 times its least" in found.ended and len(found.rates) < 81
    assert f"{found.suggestion:.3g}" in str(found) and f"{found.safe:.3g}" in str(found) and "SGD" in str(found)
    assert repr(found).startswith("RateSearch(suggestion=0.01, ")


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([np.nan], "before any update"),
        ([2.0, np.inf], "begin at a lower rate"),
        ([1.0, 1.5, 2.0, 7.0], "begin at a lower rate"),
        ([1.0, 1.1, 0.9, 1.1, 1.0, 1.05], "did not fall by more than it scatters"),
        ([5.0, 4.9, 4.5, 3.5, 2.0, 1.0], "range is too small"),
        ([], "no step was done"),
    ],
)
def test_what_a_search_that_found_no_rate_says(losses: list[float], words: str) -> None:
    found = search(losses)
    assert words in str(found)
    assert (found.suggestion is None) == (found.safe is None) == ("range" not in words)


def test_the_search_ends_at_a_multiple_of_the_least_also_below_zero() -> None:
    assert search([1.0, 4.0, 0.5]).ended == "" and search([1.0, 4.01]).ended
    assert not search([-2.0, 4.0]).ended and search([-2.0, 4.01]).ended  # -2 + 3 * 2
    found = train.find_rate(trainer(), loader(), high=1e6, steps=40, diverge=1.5)
    assert len(found.rates) < 40 and found.ended and found.rates == found.asked[: len(found.rates)]


def test_rates_that_overflow_end_it_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    one = trainer()
    before = standing(one)
    found = train.find_rate(one, loader(), low=1e30, high=1e38, steps=10, diverge=1e30)
    assert "no number" in found.ended and not np.isfinite(found.losses[-1]) and found.losses[0] < 10
    assert "lower rate" in str(found) and standing(one) == before and not list(tmp_path.iterdir())


def test_data_that_are_no_numbers_are_told_from_the_rate() -> None:
    images = np.full((20, 1, 8, 8), np.nan, np.float32)
    one = trainer(normalize=data.Normalize([0.0], [1.0]))
    before = standing(one)
    found = train.find_rate(one, (images, LABELS[:20]))
    assert len(found.losses) == 1 and found.suggestion is None and "not the rate" in str(found) and standing(one) == before


def test_it_finds_a_rate_that_learns_the_digits() -> None:
    digits, test = data.digits()
    fastnn.seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    one = Trainer(model, optim.SGD(model.parameters(), 1e-9, momentum=0.9))
    found = train.find_rate(one, digits)
    assert found.suggestion is not None and found.safe is not None and 0.01 < found.suggestion < 1 and 0.003 < found.safe < 0.3
    for rate in (found.suggestion, found.safe):
        fastnn.seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        one = Trainer(model, optim.SGD(model.parameters(), rate, momentum=0.9))
        one.fit(digits, 3, progress=False)
        assert one.evaluate(test)["accuracy"] > 0.85


class Counts(nn.Module):
    """A buffer that forward assigns anew."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", fastnn.tensor(np.zeros(1, np.float32)))

    def forward(self, x: Any) -> Any:
        self.seen = self.seen + 1.0
        return x


def test_buffers_that_are_assigned_anew_are_the_old_ones_again() -> None:
    def made() -> Trainer:
        model = nn.Sequential(Counts(), *net())
        return Trainer(model, optim.Lookahead(optim.SGD(model.parameters(), 0.1), k=2, model=model), ema=0.5)

    plain, searched = made(), made()
    before = standing(searched)
    train.find_rate(searched, loader(), steps=7)
    assert standing(searched) == before and searched.model[0].seen.numpy() == 0
    for one in (plain, searched):
        one.fit(loader(), 1, progress=False)
    assert bits(searched) == bits(plain) and searched.model[0].seen.numpy() > 0


def test_finite_checks_end_it_as_well() -> None:
    one = trainer()
    before = standing(one)
    fastnn.set_finite_checks(True)
    try:
        found = train.find_rate(one, loader(), low=1e30, high=1e38, steps=10, diverge=1e30)
    finally:
        fastnn.set_finite_checks(False)
    assert found.losses[-1] == np.inf and "no number" in found.ended and standing(one) == before


class Strange(data.ArrayDataset):
    """Raises what it is told to when its batch `at` is made."""

    def __init__(self, at: int, error: Callable[[], Any]) -> None:
        super().__init__(IMAGES, LABELS)
        self.left, self.error = at, error

    def batch(self, *args: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            self.error()
        return super().batch(*args)


def raise_(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("replay", [False, True])
def test_an_exception_of_the_data_leaves_everything(replay: bool) -> None:
    one = trainer("Lookahead", ema=0.9)
    one.fit(loader(), 1, progress=False)
    before = standing(one)
    odd = data.Loader(Strange(6, lambda: raise_(OSError("gone"))), 16, normalize=one.normalize, prefetch=0)
    with pytest.raises(OSError, match="gone"):
        train.find_rate(one, odd, replay=replay)
    assert standing(one) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_behind_a_step_and_leave_everything(number: int) -> None:
    one = trainer("SGD", ema=0.9)
    before = standing(one)
    odd = data.Loader(Strange(3, lambda: os.kill(os.getpid(), number)), 16, normalize=data.Normalize([0.0], [1.0]), prefetch=0)
    with pytest.raises(train.Interrupted, match="interrupted in find_rate, after 4 of 100 steps; the trainer is as it was") as caught:
        train.find_rate(one, odd)
    assert caught.value.signal == number and standing(one) == before


def test_a_second_ctrl_c_does_not_end_the_putting_back(monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer()
    before = standing(one)
    load, calls = optim.SGD._as_it_is, []

    def interrupted(self: optim.Optimizer) -> Callable[[], None]:
        put_back = load(self)

        def later() -> None:
            calls.append(1)
            if len(calls) == 1:
                raise KeyboardInterrupt
            put_back()

        return later

    monkeypatch.setattr(optim.SGD, "_as_it_is", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.find_rate(one, loader(), steps=5)
    assert len(calls) == 2 and standing(one) == before


def test_gradients_modes_and_a_place_within_an_epoch_stay() -> None:
    class Stops(train.Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.optimizer.steps == 7:
                raise InterruptedError

    batches, one, plain = loader(), trainer("SGD"), trainer("SGD")
    for each in (one, plain):
        with pytest.raises(InterruptedError):
            each.fit(batches, 3, callbacks=[Stops()], progress=False)
    assert one.batch == 2
    one.model[1].eval()
    (one.model[6].weight * 2.0).sum().backward()
    before = standing(one)
    train.find_rate(one, batches, steps=9)
    assert standing(one) == before and one.model[6].weight.grad is not None and not one.model[1].training
    one.model[1].train()
    for each in (one, plain):
        each.fit(batches, 1, progress=False)
    assert bits(one) == bits(plain)


def test_a_loss_with_parameters_and_one_that_is_a_sum() -> None:
    class Centres(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centres = nn.Parameter(np.ones((2, 2), np.float32))

        def forward(self, logits: Any, labels: Any) -> Any:
            return ((logits - fastnn.ops.take(self.centres, labels, 0)) ** 2).mean()

    loss, model = Centres(), net()
    one = Trainer(model, optim.SGD([*model.parameters(), *loss.parameters()], 0.1), loss, metrics=())
    before = standing(one)
    train.find_rate(one, loader(), steps=8)
    assert standing(one) == before and (loss.centres.numpy() == 1).all()
    sums = train.find_rate(trainer(loss=nn.CrossEntropyLoss(reduction="sum"), l2=0.0), loader(), steps=5, high=1e-3)
    means = train.find_rate(trainer(), loader(), steps=5, high=1e-3)
    assert sums.losses[0] == pytest.approx(means.losses[0], rel=1e-5) and max(sums.losses) < 3


@pytest.mark.skipif(_C.isa() not in _C.isas("bfloat16"), reason="this processor has no arithmetic of bfloat16")
def test_mixed_training() -> None:
    one = trainer(precision="bf16")
    before = standing(one)
    found = train.find_rate(one, loader(), steps=10)
    assert standing(one) == before and found.losses[0] == pytest.approx(train.find_rate(trainer(), loader(), steps=3).losses[0], rel=0.05)


@pytest.mark.parametrize("gpu", GPUS)
def test_on_a_gpu(gpu: str) -> None:
    one = trainer("Lookahead", device=gpu, ema=0.9)
    before = standing(one)
    found = train.find_rate(one, loader(device=gpu), steps=8)
    assert standing(one) == before and len(found.losses) == 8 and one.model[0].weight.device.partition(":")[0] == gpu


def test_ranges_by_the_optimizer_and_groups_whose_rate_is_zero() -> None:
    assert train.find_rate(trainer("SGD"), loader(), steps=3).asked == pytest.approx([1e-5, 1e-2, 10])
    assert train.find_rate(trainer("Lookahead"), loader(), steps=3).asked[0] == 1e-5
    assert train.find_rate(trainer("of epochs"), loader(), steps=3).asked == pytest.approx([1e-6, 1e-3, 1])
    model = net()
    frozen = [{"params": list(model[0].parameters()), "lr": 0.0}, {"params": list(model[6].parameters())}]
    seen: list[list[float]] = []

    class Watched(optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append(self.rates())
            return super().step(closure)

    train.find_rate(Trainer(model, Watched(frozen, lr=0.3)), loader(), low=0.1, high=0.4, steps=3, replay=False)
    assert np.allclose(seen, [[0, 0.1], [0, 0.2], [0, 0.4]])


@pytest.mark.parametrize("make", [optim.LBFGS, optim.NewtonCG])
def test_optimizers_that_search_themselves_are_refused(make: Callable[..., optim.Optimizer]) -> None:
    model = net().double()
    with pytest.raises(TypeError, match="find_rate: trainer has .*, which searches its own steps; expected one that takes a rate"):
        train.find_rate(Trainer(model, make(model.parameters())), loader())


def test_what_cannot_be_searched_is_refused() -> None:
    one = trainer()
    for bad, words in (
        ({"low": 1.0, "high": 0.1}, "low must be less than high, got low=1 and high=0.1"),
        ({"low": 50.0}, "high is 10 by default, give both"),
        ({"steps": 2}, "steps must be at least 3"),
        ({"diverge": 1.0}, "diverge must be greater than 1"),
        ({"smoothing": 1.0}, "smoothing must lie in"),
    ):
        with pytest.raises(ValueError, match=words):
            train.find_rate(one, loader(), **bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="there is no argument 'num_training'; it is steps"):
        train.find_rate(one, loader(), num_training=10)  # type: ignore[call-arg]
    one.model.requires_grad_(False)
    with pytest.raises(ValueError, match="all frozen"):
        train.find_rate(one, loader())


def test_other_libraries_names_lead_here() -> None:
    with pytest.raises(AttributeError, match=r"train.find_rate\(trainer, data\)"):
        _ = train.lr_find  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"train.find_rate\(trainer, data\) tries out rates"):
        _ = trainer().lr_find


def test_within_a_fit_and_beside_one_it_is_refused() -> None:
    class Asks(train.Callback):
        def after_step(self, trainer: Trainer, loss: float) -> None:
            found = []
            thread = threading.Thread(target=lambda: found.append(pytest.raises(RuntimeError, train.find_rate, trainer, loader())))
            thread.start()
            thread.join()
            assert "find_rate: the model is in use by fit" in str(found[0].value)
            with pytest.raises(RuntimeError, match="find_rate: the model is in use by fit"):
                train.find_rate(trainer, loader())

    one, plain = trainer(), trainer()
    one.fit(loader(), 1, callbacks=[Asks()], progress=False)
    plain.fit(loader(), 1, progress=False)
    assert bits(one) == bits(plain)


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = train.find_rate(trainer(), loader(), steps=20)
    for each, name in ((found, "rates.png"), (search([np.nan]), "none.svg"), (search([]), "empty.pdf")):
        each.plot(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["find-rate", "digits", "--model", "linear", "--optimizer", "sgd", "--steps", "30", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "suggestion" in said and "--lr" in said and sorted(p.name for p in tmp_path.iterdir()) == ["history.jsonl", "rates.png"]
    assert cli.main(["find-rate", "digits", "--resume"]) == 2
    assert "--resume: find-rate" in capsys.readouterr().err
    for word, given in (("--report", "r.html"), ("--log", "csv")):
        assert cli.main(["find-rate", "digits", word, given]) == 2
        assert f"{word}: find-rate is no training to tell of" in capsys.readouterr().err
    assert cli.main(["find-rate", "digits", "--low", "1", "--high", "0.5"]) == 2
    assert "--low" in capsys.readouterr().err
