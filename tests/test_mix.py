"""mixup and CutMix: batches beside plain numpy's, what is drawn, and trainings with them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from kernel_calls import DEVICES
from shared_data import shared_data
from test_checkpoint import state
from test_trainer import bits, blobs, net

import fastnn
from fastnn import _C, data, models, nn, optim, random
from fastnn.cli import main
from fastnn.data import ArrayDataset, CutMix, ItemDataset, Loader, MixUp, Normalize
from fastnn.data.mix import Box, Mixture, beta
from fastnn.train import Callback, Diverged, Trainer

SEED = 2**41 + 77
BOTH = [MixUp(0.4), CutMix(1.0)]


def noise(n: int = 50, shape: tuple[int, ...] = (3, 7, 6), dtype: type = np.uint8) -> ArrayDataset:
    values = np.random.default_rng(0).integers(0, 256, (n, *shape))
    return ArrayDataset(values.astype(dtype), np.arange(n) * 7 % 10)


def mixed_by_numpy(x: np.ndarray, labels: np.ndarray, mixture: Mixture, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The papers' formulas in float64."""
    x, hot, (j, share, box) = x.astype(np.float64), np.eye(classes)[labels], mixture
    if box is None:
        images = share * x + (1 - share) * x[j]
    else:
        inside = np.zeros(x.shape[2:], bool)
        inside[box.top : box.top + box.height, box.left : box.left + box.width] = True
        images = np.where(inside, x[j], x)
        assert share == pytest.approx(1 - inside.mean(), abs=2.0**-24)
    return images, share * hot + (1 - share) * hot[j]


# --- the batches


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape, mix", [
    *(((3, 7, 6), mix) for mix in (MixUp(0.4), CutMix(1.0), BOTH)), ((1, 4, 4), MixUp(0.4)), ((1, 4, 4), BOTH), ((5,), MixUp(0.4)),
], ids=str)  # fmt: skip
def test_batches_are_those_of_plain_numpy(mix: Any, shape: tuple[int, ...], dtype: type, device: str) -> None:
    dataset = noise(50, shape, dtype)
    common: dict[str, Any] = {"shuffle": True, "seed": SEED, "normalize": Normalize.fit(dataset), "device": device}
    common |= {"augment": [data.RandomCrop(1), data.Flip()]} if len(shape) == 3 else {}
    plain, loader = Loader(dataset, 12, **common), Loader(dataset, 12, mix=mix, **common)
    shares = []
    for epoch in range(3):
        mixing, order, first = loader.mixing(epoch), loader.order(epoch), 0
        assert mixing is not None
        for (x, labels), (mixed, probabilities) in zip(plain.batches(epoch), loader.batches(epoch)):
            mixture = mixing.of(order[first : first + len(labels)], shape)
            images, soft = mixed_by_numpy(x.numpy(), labels.numpy(), mixture, 10)
            assert (
                mixed.dtype == probabilities.dtype == "float32"
                and mixed.device.partition(":")[0] == device
                and probabilities.device == "cpu"
            )
            np.testing.assert_allclose(mixed.numpy(), images, rtol=0, atol=2e-6 if mixture.box is None else 0)
            np.testing.assert_allclose(probabilities.numpy(), soft, rtol=0, atol=6e-8)
            assert (probabilities.numpy().sum(1) == 1).all()
            first, shares = first + len(labels), [*shares, mixture.share]
        assert first == 50
    assert len(set(shares)) > 3 and min(shares) < 0.8 < max(shares)


@pytest.mark.parametrize("size", [(8, 9, 3), (4, 33, 17), (2, 1, 1)], ids=str)
def test_the_kernels_on_a_gpu_give_what_numpy_gives_on_the_cpu(size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that a GPU gathers, gathered here by the same kernels."""
    from fastnn.data import mix

    x = np.random.default_rng(3).standard_normal((6, *size)).astype(np.float32)
    j = np.array([3, 0, 5, 1, 4, 2])
    for box in (None, Box(0, 0, *size[1:]), Box(size[1] // 2, 0, size[1] - size[1] // 2, 1)):
        a = _C.from_numpy(x)
        here = mix._partners(a, j, box).numpy()
        there = mix._gathered(a, j, box).numpy()
        assert (here == there).all() and here.shape == ((6, *size) if box is None else (6, size[0], box.height, box.width))


def test_a_sample_that_meets_its_equal_stays() -> None:
    """x_j + lam (x_i - x_j) and lam + (1 - lam) are exact there; one_hot is the label alone."""
    dataset = ArrayDataset(np.full((12, 3, 5, 5), 77, np.uint8), np.full(12, 4))
    for x, probabilities in Loader(dataset, 6, normalize=Normalize([3.0] * 3, [7.0] * 3), mix=MixUp(1.0, num_classes=5)):
        assert (x.numpy() == x.numpy()[0, 0, 0, 0]).all() and (probabilities.numpy() == np.eye(5)[4]).all()


@pytest.mark.parametrize("mix", [MixUp(1.0), CutMix(1.0), BOTH], ids=repr)
def test_a_batch_of_one_has_no_partner(mix: Any) -> None:
    dataset = noise(3)
    plain, mixed = (list(Loader(dataset, 1, mix=m)) for m in ((), mix))
    assert all((a.numpy() == b.numpy()).all() for (a, _), (b, _) in zip(plain, mixed))
    assert [p.numpy().tolist() for _, p in mixed] == [np.eye(8)[[label]].tolist() for label in dataset.labels]


def test_a_last_short_batch_is_mixed_in_itself() -> None:
    loader = Loader(noise(14), 4, shuffle=True, mix=MixUp(1.0))
    mixing, part = loader.mixing(0), loader.order(0)[12:]
    assert mixing is not None and sorted(mixing.of(part, (3, 7, 6)).partners) == [0, 1]
    assert [p.shape for _, p in loader] == [(4, 10)] * 3 + [(2, 10)]


def test_batches_are_the_same_from_any_one_on_and_for_any_workers() -> None:
    def bytes_of(loader: Loader, epoch: int, first: int = 0) -> list[tuple[bytes, bytes]]:
        return [(x.numpy().tobytes(), p.numpy().tobytes()) for x, p in loader.batches(epoch, first)]

    def loader(**options: Any) -> Loader:
        return Loader(noise(), 8, **{"shuffle": True, "seed": 5, "mix": BOTH, "augment": data.Flip(), **options})

    whole = bytes_of(loader(), 3)
    assert all(bytes_of(loader(prefetch=0), 3, first) == whole[first:] for first in (0, 2, 5))
    assert bytes_of(loader(workers=3), 3) == bytes_of(loader(prefetch=5), 3) == whole
    assert bytes_of(loader(), 4) != whole != bytes_of(loader(seed=6), 3)
    one = loader()
    x, p = one.batch(one.order(3)[8:16], one.frames(3), one.mixing(3))
    assert (x.numpy().tobytes(), p.numpy().tobytes()) == whole[1]


def test_sets_of_other_kinds_keep_their_samples() -> None:
    """What is mixed is the batch; a set whose items are kept in memory is the same afterwards."""
    rng = np.random.default_rng(0)
    items = [(rng.standard_normal((1, 5, 5)).astype(np.float32), i % 3) for i in range(12)]
    before = [image.copy() for image, _ in items]
    for mix in (MixUp(1.0), CutMix(1.0)):
        for x, p in Loader(ItemDataset(items), 4, mix=mix):
            assert x.shape == (4, 1, 5, 5) and p.shape == (4, 3)
        floats = ArrayDataset(np.stack(before), np.arange(12) % 3)
        list(Loader(floats, 4, mix=mix))
        assert (floats.images == np.stack(before)).all()
    assert all((a == b).all() for (a, _), b in zip(items, before))


# --- what is drawn


def test_all_of_a_batch_is_drawn_from_the_words_of_its_first_sample() -> None:
    loader = Loader(noise(), 8, seed=SEED, mix=[MixUp(0.3, p=0.9), CutMix(2.0)])
    mixing = loader.mixing(4)
    assert mixing is not None
    words = [int(w) for w in reference.random_words(0, 100, SEED, 4, random.MIX)]
    for first in range(40):
        positions = np.arange(first, first + 8)
        key = (words[2 * first] << 31) + (words[2 * first + 1] >> 1)

        def uniforms(key: int = key) -> Iterator[float]:
            for draw in count():
                yield from ((int(w) + 0.5) / 2**32 for w in reference.random_words(0, 32, key, draw, random.MIX))

        drawn, got = uniforms(), mixing.of(positions, (3, 7, 6))
        chosen, happens = int(2 * next(drawn)), next(drawn)
        if chosen == 0 and happens >= 0.9:
            assert got.share == 1 and got.box is None
            continue
        order = reference.random_words(0, 8, key, 2**32, random.MIX)
        assert got.partners.tolist() == sorted(range(8), key=lambda i: (order[i], i))  # noqa: B023
        share = beta((0.3, 2.0)[chosen], drawn)
        assert (got.box is None) == (chosen == 0)
        if chosen == 0:
            assert got.share == round(share * 2**24) / 2**24


def test_the_rectangle_is_that_of_the_papers_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """rand_bbox of github.com/clovaai/CutMix-PyTorch, from the same three numbers."""
    monkeypatch.setattr("fastnn.data.mix.beta", lambda alpha, uniforms: next(uniforms))
    rng, seen = np.random.default_rng(0), set()
    for _ in range(300):
        height, width = (int(n) for n in rng.integers(1, 40, 2))
        lam, *middle = rng.random(3).tolist()
        cut, ends = math.sqrt(1.0 - lam), []
        for n, c in zip((height, width), middle):
            ends += [int(np.clip(int(c * n) + sign * (int(n * cut) // 2), 0, n)) for sign in (-1, 1)]
        y0, y1, x0, x1 = ends
        share, box = CutMix(3.0).drawn(iter((lam, *middle)), (3, height, width))
        assert box == (y0, x0, y1 - y0, x1 - x0)
        assert share == pytest.approx(1 - (x1 - x0) * (y1 - y0) / (width * height))
        seen.add(share)
    assert len(seen) > 100


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 4.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    """Kolmogorov and Smirnov's distance to numpy's samples; the variance is 1 / (4 (2 alpha + 1))."""
    rng, n = np.random.default_rng(1), 20_000
    drawn = np.array([beta(alpha, iter(row)) for row in rng.random((n, 100)).clip(1e-9, 1 - 1e-9)])
    other = np.sort(rng.beta(alpha, alpha, 40 * n))
    places = other[:: n // 10]  # the ends of small alphas are 0 and 1, often
    below = [[(values < place).mean() for place in places] for values in (drawn, other)]
    distance = np.abs(np.subtract(*below)).max()
    assert distance < 1.7 / n**0.5
    assert drawn.mean() == pytest.approx(0.5, abs=0.012) and drawn.var() == pytest.approx(1 / (8 * alpha + 4), rel=0.05)


@pytest.mark.parametrize("alpha", [5e-324, 1e-300, 1e-8, 1e8, 1e308])
def test_shares_of_extreme_alphas_are_numbers(alpha: float) -> None:
    rng = np.random.default_rng(2)
    drawn = np.array([beta(alpha, iter(row)) for row in rng.random((400, 200))])
    near = np.minimum(drawn, 1 - drawn) if alpha < 1 else np.abs(drawn - 0.5)
    assert (near < 1e-3).all() and (0.4 < (drawn > 0.5).mean() < 0.6 or alpha == 1e308)


def test_each_of_several_is_drawn_as_often_and_each_as_often_as_it_says() -> None:
    loader = Loader(noise(2000), 2, mix=[MixUp(1.0, p=0.25), CutMix(1.0), CutMix(1.0)])
    mixing = loader.mixing(0)
    assert mixing is not None
    got = [mixing.of(np.array([i, 0]), (3, 30, 30)) for i in range(2000)]
    boxes, whole = np.mean([m.box is not None for m in got]), np.mean([m.box is None and m.share == 1 for m in got])
    assert boxes == pytest.approx(2 / 3, abs=0.04) and whole == pytest.approx(0.25, abs=0.04)
    never = Loader(noise(20), 5, mix=MixUp(p=0.0))
    assert all((x.numpy() == y.numpy()).all() for (x, _), (y, _) in zip(never, Loader(noise(20), 5)))
    assert all((p.numpy().max(1) == 1).all() for _, p in never)


# --- what is refused


class Ignored(ArrayDataset):
    """Some labels are the ones that a loss ignores."""

    def batch(self, positions: np.ndarray, *rest: Any, **more: Any) -> Any:
        images, labels = super().batch(positions, *rest, **more)
        return images, np.where(positions == 3, -100, labels)


class Rows(ArrayDataset):
    """A target of another kind for each sample."""

    def batch(self, positions: np.ndarray, *rest: Any, **more: Any) -> Any:
        images, labels = super().batch(positions, *rest, **more)
        return images, labels[:, None] / 2


def test_rectangles_are_those_of_the_finished_image() -> None:
    loader = Loader(noise(), 10, mix=CutMix(), augment=data.RandomCrop(size=(3, 5)))
    plain, mixing = Loader(noise(), 10, augment=data.RandomCrop(size=(3, 5))), loader.mixing(0)
    assert mixing is not None
    for b, ((x, labels), (mixed, _)) in enumerate(zip(plain, loader)):
        mixture = mixing.of(np.arange(10 * b, 10 * b + 10), (3, 3, 5))
        assert (mixed.numpy() == mixed_by_numpy(x.numpy(), labels.numpy(), mixture, 10)[0]).all()


@pytest.mark.parametrize("make, words", [
    (lambda: Loader(noise(), 5, mixup=0.2), "there is no argument 'mixup'; it is mix="),  # type: ignore[call-arg]
    (lambda: list(Loader(Rows(noise().images, noise().labels), 50, mix=MixUp())), r"of shape \(50,\); the data set gives shape \(50, 1\) of float64"),
    (lambda: trainer(mix=MixUp()), "Trainer: there is no argument 'mix'; give it to the data.Loader that fit trains on"),
    (lambda: trainer().fit(blobs(9), 1, mix=MixUp()), "there is no argument 'mix'; a data.Loader of your own has it"),
    (lambda: MixUp(0.0), "MixUp: alpha must be positive, got 0.0"),
    (lambda: CutMix(math.nan), "CutMix: alpha must be a finite number, got nan"),
    (lambda: MixUp(True), "MixUp: alpha must be a number, got True"),
    (lambda: MixUp(p=1.5), r"MixUp: p must lie in \[0, 1\], got 1.5"),
    (lambda: MixUp(num_classes=1), "MixUp: num_classes must be at least 2, got 1"),
    (lambda: Loader(noise(), 5, mix=data.Flip()), r"Loader: mix must be data.MixUp\(\), data.CutMix\(\) or a list of them, got Flip"),
    (lambda: Loader(noise(), 5, mix=0.2), "Loader: mix must be .*, got 0.2"),
    (lambda: Loader(noise(shape=(4,)), 5, mix=CutMix()), r"CutMix needs images \(C, H, W\), the data set has samples of shape \(4,\)"),
    (lambda: Loader(noise(), 5, mix=[MixUp(num_classes=10), CutMix(num_classes=11)]), "num_classes 10 and 11; give all the same"),
    (lambda: Loader(blobs(9), 3, mix=MixUp(num_classes=2)), "num_classes=2, the data set 3 classes"),
    (lambda: Loader((np.zeros((4, 2), np.uint8), [0] * 4), 2, mix=MixUp()), r"needs the number of classes, .* MixUp\(num_classes=10\)"),
    (lambda: list(Loader(noise(), 50, mix=MixUp(num_classes=5))), "classes 0 to 4, sample 1 has the label 7: MixUp"),
    (lambda: list(Loader(Ignored(noise().images, noise().labels), 50, mix=CutMix())), r"sample 3 has the label -100; one that the loss ignores"),
    (lambda: Loader(noise(), 5, mix=MixUp()).mixing(-1), "Loader.mixing: epoch must not be negative"),
    (lambda: setattr(Loader(noise(), 5), "mix", MixUp()), "Loader: mix cannot be changed afterwards"),
])  # fmt: skip
def test_what_cannot_be_mixed(make: Callable[[], Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError), match=words):
        make()


def test_it_says_what_it_is() -> None:
    assert repr(MixUp(0.3)) == "MixUp(alpha=0.3, p=1.0, num_classes=None)"
    assert "mix=(CutMix(alpha=1.0, p=0.5, num_classes=None),)" in repr(Loader(noise(), 5, mix=CutMix(p=0.5)))
    assert Loader(noise(), 5).mixing(0) is None


# --- trainings


def loader(n: int = 110, **options: Any) -> Loader:
    dataset = blobs(n)
    return Loader(dataset, 16, **{"shuffle": True, "normalize": Normalize.fit(dataset), "mix": BOTH, **options})


def trainer(**options: Any) -> Trainer:
    model = net()
    return Trainer(model, optim.Adam(model.parameters(), 1e-2), **options)


@pytest.mark.parametrize("options", [
    {}, {"accumulate": 3, "clip_norm": 0.5, "ema": 0.9}, {"loss": nn.CrossEntropyLoss([0.5, 1.0, 2.0], label_smoothing=0.1), "accumulate": 2},
    {"precision": "bf16"},
], ids=repr)  # fmt: skip
def test_replayed_and_eager_trainings_are_the_same(options: dict[str, Any], without_memory_checks: None) -> None:
    if options.get("precision") == "bf16" and _C.isa() not in _C.isas("bfloat16"):
        pytest.skip("bfloat16 needs AVX-512 BF16")
    results = []
    for replay in (False, "auto"):
        t = trainer(**options)
        rows = t.fit(loader(), 3, blobs(40, 1), progress=False, replay=replay).rows
        results.append(([{k: v for k, v in row.items() if k != "seconds"} for row in rows], bits(t.model)))
        assert ("replayed" in t.replayed) == (replay == "auto")
    assert results[0] == results[1]


class Stops(Callback):
    def __init__(self, after: int) -> None:
        self.after = after

    def after_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.optimizer.steps == self.after:
            raise KeyboardInterrupt


def test_a_training_goes_on_within_an_epoch(tmp_path: Path) -> None:
    whole = trainer()
    whole.fit(loader(), 3, progress=False)
    whole.save(tmp_path / "whole.safetensors")
    stopped = trainer()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(loader(), 3, progress=False, callbacks=[Stops(10)])
    stopped.save(tmp_path / "part.safetensors")
    assert 0 < stopped.batch < 7
    on = trainer()
    on.fit(loader(workers=2), 3, progress=False, resume=tmp_path / "part.safetensors")
    on.save(tmp_path / "on.safetensors")
    assert state(tmp_path / "on.safetensors") == state(tmp_path / "whole.safetensors")


def test_loss_and_accuracy_of_the_training_column() -> None:
    """-sum_c w_c ((1 - e) y_c + e / C) log p_c, a mean over the samples; right is the label with the larger share, of equal ones the first."""
    weights, e, batches = np.array([0.5, 1.0, 2.0]), 0.1, loader()
    t = trainer(loss=nn.CrossEntropyLoss(weights, label_smoothing=e))
    t.optimizer = optim.SGD(t.model.parameters(), 0.0)
    t.model[5].p = 0.0
    row = t.fit(batches, 1, progress=False).rows[0]
    losses, right = [], []
    t.model.train()
    for x, probabilities in batches.batches(0):
        logits, y = t.model(x).numpy().astype(np.float64), probabilities.numpy()
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        losses += (-weights * ((1 - e) * y + e / 3) * log_p).sum(1).tolist()
        right += (logits.argmax(1) == y.argmax(1)).tolist()
    assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-5) and row["accuracy"] == np.mean(right)


def test_validation_and_prediction_are_never_mixed() -> None:
    t = trainer()
    mixed = loader()
    for call in (lambda: t.evaluate(mixed), lambda: t.predict(Loader(blobs(9), 3, normalize=t.normalize, mix=MixUp()))):
        t.normalize = mixed.normalize
        with pytest.raises(ValueError, match=r"the loader has mix=\(MixUp.* which mixes the samples; leave it out"):
            call()
    with pytest.raises(ValueError, match=r"fit: validation: the loader has mix=\(MixUp"):
        t.fit(loader(), 1, mixed, progress=False)
    t.fit(loader(), 1, blobs(40, 1), progress=False)
    assert t.history.rows[0]["val_accuracy"] == t.evaluate(blobs(40, 1))["accuracy"]


@pytest.mark.parametrize("loss", [nn.MulticlassSVMLoss(), nn.MultiMarginLoss(), nn.NLLLoss()], ids=lambda loss: type(loss).__name__)
def test_losses_of_class_numbers_are_refused(loss: nn.Module) -> None:
    with pytest.raises(
        ValueError, match=rf"mix=\(MixUp.*; {type(loss).__name__} takes class numbers: give the Trainer nn.CrossEntropyLoss\(\)"
    ):
        trainer(loss=loss).fit(loader(), 1, progress=False)


def test_losses_of_any_targets_take_them() -> None:
    for loss in (nn.MSELoss(), nn.BCEWithLogitsLoss()):
        assert trainer(loss=loss).fit(loader(), 1, progress=False).rows[0]["loss"] > 0


def test_a_model_of_more_classes_is_told_how() -> None:
    few = ArrayDataset(blobs(60).images, np.arange(60) % 2)
    with pytest.raises(ValueError, match=r"labels have shape \(16, 2\), logits \(16, 3\); .*; data.MixUp\(num_classes=3\) makes those"):
        trainer().fit(Loader(few, 16, normalize=Normalize.fit(few), mix=MixUp()), 1, progress=False)
    trainer().fit(Loader(few, 16, normalize=Normalize.fit(few), mix=[MixUp(num_classes=3), CutMix()]), 1, progress=False)


def test_a_class_ignored_by_the_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="ignore_index 1 means nothing where the labels are probabilities"):
        trainer(loss=nn.CrossEntropyLoss(ignore_index=1)).fit(loader(), 1, progress=False)


def test_a_bad_step_names_both_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    images = np.random.default_rng(0).standard_normal((32, 1, 6, 6)).astype(np.float32)
    images[9] = np.nan
    batches = Loader((images, np.arange(32) % 3), 16, mix=MixUp(1.0), normalize=Normalize([0.0], [1.0]))
    mixing = batches.mixing(0)
    assert mixing is not None
    partners = mixing.of(np.arange(16), (1, 6, 6)).partners
    first = min(9, int(np.flatnonzero(partners == 9)[0]))
    with pytest.raises(Diverged, match=rf"in sample {first} of the training set, mixed with sample {partners[first]}\b"):
        trainer().fit(batches, 1, progress=False)
    assert 9 in (first, partners[first])


def test_the_profiler_calls_it_work_on_data() -> None:
    with fastnn.profile() as p:
        for mix in (MixUp(1.0), CutMix(1.0)):
            list(Loader(noise(), 10, mix=mix))
    assert {"average", "paste"} <= p.keys() and all(cost.phase == "data" for cost in p.costs if cost.row in ("average", "paste"))


# --- what it is for


@pytest.mark.parametrize("mix", [MixUp(0.2), CutMix(1.0), BOTH], ids=repr)
def test_digits_are_learned_with_it(mix: Any) -> None:
    train, test = data.digits()
    fastnn.seed(0)
    model = models.create("lenet", input_shape=train.shape)
    t = Trainer(model, optim.Adam(model.parameters(), optim.schedules.cosine(2e-3, 10 * 60)))
    t.fit(Loader(train, 64, shuffle=True, normalize=Normalize.fit(train), mix=mix), 10, progress=False)
    assert t.evaluate(test)["accuracy"] > 0.95


def test_fashion_mnist_is_learned_with_it() -> None:
    train, test = data.fashion_mnist(shared_data("fashion-mnist"))
    train = train.take(range(3000))
    fastnn.seed(0)
    model = models.create("lenet", input_shape=train.shape)
    t = Trainer(model, optim.Adam(model.parameters(), 1e-3))
    t.fit(Loader(train, 32, shuffle=True, normalize=Normalize.fit(train), mix=MixUp(0.2)), 3, progress=False)
    assert t.evaluate(test.take(range(1000)))["accuracy"] >= 0.74


def test_it_keeps_a_net_from_learning_noise_by_heart() -> None:
    """What mixup is for (section 4.4 of its paper): with wrong labels the training without it ends far more certain of them."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (128, 1, 6, 6), np.uint8), rng.integers(0, 3, 128)
    losses = []
    for mix in ((), MixUp(1.0)):
        fastnn.seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 128), nn.ReLU(), nn.Linear(128, 3))
        dataset = ArrayDataset(images, labels)
        t = Trainer(model, optim.Adam(model.parameters(), 3e-3))
        t.fit(Loader(dataset, 32, shuffle=True, normalize=Normalize.fit(dataset), mix=mix), 60, progress=False)
        losses.append(t.evaluate(dataset)["loss"])
    assert losses[0] < 0.02 and losses[1] > 3 * losses[0]


# --- the command


def test_the_command_mixes_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits", "--model", "linear", "--epochs", "2"]

    def losses(out: str) -> list[float]:
        return [json.loads(line)["loss"] for line in Path(out, "history.jsonl").read_text().splitlines()]

    for out in ("first", "again"):
        assert main([*words, "--mixup", "0.2", "--cutmix", "1", "--out", out]) == 0
        assert "for the test, mixed by mixup 0.2 or cutmix 1\n" in capsys.readouterr().out
    assert main([*words, "--out", "plain"]) == 0
    assert losses("first") == losses("again") != losses("plain")
    assert main(["train", "digits", "--resume", "--epochs", "3", "--mixup", "0.3", "--out", "first"]) == 2
    assert "was started with mixup 0.2, not 0.3" in capsys.readouterr().err
    assert main(["train", "digits", "--resume", "--epochs", "3", "--out", "first"]) == 0
    assert "mixed by mixup 0.2 or cutmix 1" in capsys.readouterr().out and losses("first")[:2] == losses("again")
    np.savez("rows.npz", **{f"{part}_{kind}": values for part in ("train", "test") for kind, values in (
        ("images", np.zeros((30, 4), np.float32)), ("labels", np.arange(30) % 3))})  # fmt: skip
    assert main(["train", "rows.npz", "--model", "linear", "--cutmix", "1"]) == 2
    assert "--cutmix: a rectangle is cut out of images" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--mixup", "0"])
    assert "--mixup: '0' is not a number above 0" in capsys.readouterr().err
