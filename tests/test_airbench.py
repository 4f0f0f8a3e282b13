"""airbench94: the network, the views, and the recipe of examples/airbench.py beside the one in PyTorch of bench/airbench_torch.py."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from kernel_calls import DEVICES
from torch_twins import load

import fastnn
from fastnn import _C, data, models, train
from fastnn.data import ArrayDataset

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 1 / 16


def module_of(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem + "_tested", ROOT / path)
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look
    spec.loader.exec_module(module)
    return module


ours, theirs = module_of("examples/airbench.py"), module_of("bench/airbench_torch.py")


def pictures(n: int, seed: int = 0, size: int = 32) -> ArrayDataset:
    """Noisy pictures of ten blurred patterns."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).uniform(0, 1, (10, 3, size // 4, size // 4)).repeat(4, 2).repeat(4, 3)
    labels = random.integers(0, 10, n)
    return ArrayDataset((127 * patterns[labels] + random.uniform(0, 128, (n, 3, size, size))).astype(np.uint8), labels)


def network(muon: bool, images: np.ndarray) -> models.Airbench94:
    fastnn.seed(5)
    model = models.airbench94(width=WIDTH, muon=muon)
    model.whiten_with(images)
    return model


# --- the network


def test_whitening_filters_whiten_patches() -> None:
    """Their answers to the patches they were made from are uncorrelated, of a variance next to 1 (that of weak ones less: eps); then the same negated."""
    images = np.random.default_rng(0).standard_normal((70, 3, 9, 8)).cumsum(3).cumsum(2).astype(np.float32) / 9
    images *= np.float32([0.6, 1.0, 1.5])[
        :, None, None
    ]  # eigenvalues apart: eigenvectors of next to equal ones are float32's, not the patches'
    model = models.airbench94(width=WIDTH)
    model.whiten_with(images, eps=1e-3)
    weight = model.whiten.weight.numpy().astype(np.float64)
    assert weight.shape == (24, 3, 2, 2) and (weight[12:] == -weight[:12]).all()
    windows = np.lib.stride_tricks.sliding_window_view(images.astype(np.float64), (2, 2), (2, 3)).transpose(0, 2, 3, 1, 4, 5)
    answers = windows.reshape(-1, 12) @ weight[:12].reshape(12, 12).T
    moments = answers.T @ answers / len(answers)
    values = np.linalg.eigvalsh(windows.reshape(-1, 12).T @ windows.reshape(-1, 12) / len(answers))[::-1]
    np.testing.assert_allclose(moments, np.diag(values / (values + 1e-3)), atol=2e-4)
    twin = theirs.Net(False, WIDTH)
    twin.whiten_with(torch.tensor(images), eps=1e-3)
    signs = np.sign((twin.whiten.weight.numpy(force=True) * weight).sum((1, 2, 3), keepdims=True))  # of eigenvectors: free
    np.testing.assert_allclose(twin.whiten.weight.numpy(force=True), signs * weight, atol=2e-3 * np.abs(weight).max())


def test_groups_start_as_the_identity_on_their_first_filters() -> None:
    model = models.airbench94()
    x = np.random.default_rng(1).standard_normal((2, 24, 6, 6)).astype(np.float32)
    y = model.layers[1].conv1(fastnn.tensor(x)).numpy()
    assert y.shape[1] == 64 and (y[:, :24] == x).all() and (y[:, 24:] != 0).any()
    assert model.layers[2].conv2.weight.numpy()[:256].sum() == 256


@pytest.mark.parametrize("muon", [False, True])
def test_state_is_that_of_the_twin(muon: bool) -> None:
    model, twin = network(muon, np.zeros((1, 3, 32, 32))), theirs.Net(muon, WIDTH)
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: tuple(v.shape) for k, v in twin.state_dict().items()}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, p in twin.named_parameters() if not p.requires_grad} and len(frozen) == 7
    sizes = {name: p.size for name, p in models.airbench94().named_parameters()}
    assert sum(sizes.values()) == 1_972_792
    assert (model.whiten.bias.numpy() == 0).all() != muon
    head = model.head.weight.numpy()
    assert head.std(ddof=1) == pytest.approx(1.0 if muon else theirs.Net(False, WIDTH).head.weight.std().item(), rel=1e-5 if muon else 0.3)


@pytest.mark.parametrize("training", [False, True])
def test_logits_are_those_of_the_twin(training: bool) -> None:
    images = np.random.default_rng(2).standard_normal((6, 3, 32, 32)).astype(np.float32)
    for muon in (False, True):
        model, twin = network(muon, images), theirs.Net(muon, WIDTH).double()
        load(twin, model.state_dict())
        expected = twin.train(training)(torch.tensor(images).double()).detach().numpy()
        got = model.train(training)(fastnn.tensor(images)).numpy()
        np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())


def test_other_sizes_and_refusals() -> None:
    model = models.airbench94(num_classes=4, input_shape=(1, 52, 27), width=0.05)
    assert model(fastnn.tensor(np.zeros((2, 1, 52, 27), np.float32))).shape == (2, 4) and model.head.in_features == 13 * 2
    with pytest.raises(ValueError, match="maps of at least 25 x 25, got 24 x 32"):
        models.airbench94(input_shape=(3, 24, 32))
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        models.airbench94(width=0)


# --- views


def test_six_views_are_those_of_the_twin() -> None:
    test = pictures(50, 3)
    normalize = data.Normalize.fit(test)
    x = (test.images - np.array(normalize.mean)[:, None, None]) / np.array(normalize.std)[:, None, None]
    model, twin = network(False, x[:20]), theirs.Net(False, WIDTH).double()
    model(fastnn.tensor(x.astype(np.float32)))  # moves the running statistics
    load(twin, model.state_dict())
    expected = theirs.six_views(twin.eval(), torch.tensor(x)).numpy()
    got = train.average_views(model, test, train.six_views(), normalize, batch_size=20)
    assert model.training
    np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())
    plain = train.average_views(model, test, [(3.0, [])], normalize)
    np.testing.assert_allclose(plain, twin(torch.tensor(x)).detach().numpy(), atol=2e-5 * np.abs(expected).max())
    assert np.abs(plain - got).max() > 1e-3 * np.abs(expected).max()


# --- the recipe


STEPS, WHITEN_STEPS, BATCH = 12, 4, 40


@pytest.mark.parametrize("recipe", ["sgd", "muon"])
@pytest.mark.parametrize("device", DEVICES)
def test_the_first_steps_are_those_of_the_twin(recipe: str, device: str) -> None:
    """From the same weights on the same batches: the losses, and the weights at the end, through the freezing of the first bias and two meetings
    of Lookahead. The twin computes in float64."""
    training = pictures(4 * BATCH)
    normalize = data.Normalize.fit(training)
    options: dict[str, Any] = {"shuffle": True, "seed": 3, "normalize": normalize, "augment": ours.AUGMENT, "drop_last": True}
    loader = data.Loader(training, BATCH, device=device, **options)
    model = network(recipe == "muon", next(iter(loader))[0].numpy())
    # On a grid: eigenvectors by any OpenBLAS are the same then, and near-ties, none of which goes the other way in the first three steps, do
    # not hang on their last digits.
    for p in model.parameters():
        p.copy_from(np.round(p.numpy() * 2048) / 2048)
    model.to(device)
    twin = theirs.Net(recipe == "muon", WIDTH).double()
    load(twin, model.state_dict())
    mine = ours.Training(model, ours.RECIPES[recipe], BATCH, STEPS, WHITEN_STEPS)
    other = theirs.Training(twin, recipe, BATCH, STEPS, WHITEN_STEPS)
    before, losses = model.state_dict(), []
    for epoch in range(STEPS // len(loader)):
        for x, labels in loader.batches(epoch):
            losses.append((float(mine.step(x, labels)), float(other.step(torch.tensor(x.numpy()).double(), torch.tensor(labels.numpy())))))
    mine.finish()
    other.finish()
    got, expected = np.array(losses).T
    # The first three steps agree to rounding. Then one near-tie of a max pool may go the other way, and Muon makes much of small differences.
    np.testing.assert_allclose(got[:3], expected[:3], rtol=1e-5)
    np.testing.assert_allclose(got, expected, rtol=1e-2)
    after = {k: v.numpy() for k, v in twin.state_dict().items() if "tracked" not in k}
    for key, value in model.state_dict().items():
        if key in after:
            moved = np.linalg.norm(after[key] - before[key])
            assert np.linalg.norm(value - after[key]) <= (0.1 if recipe == "sgd" else 0.3) * moved, key
            assert (moved > 0) == (key != "whiten.weight" and not key.endswith("norm1.weight") and not key.endswith("norm2.weight")), key


@pytest.mark.parametrize("precision", ["float32", *(["bf16"] if _C.isa() in _C.isas("bfloat16") else [])])
@pytest.mark.parametrize("recipe", ["sgd", "muon"])
def test_a_short_run_learns_and_repeats(recipe: str, precision: str) -> None:
    sets = ours.Sets(pictures(1500), pictures(200, 1))
    short = ours.Recipe(recipe, 2.5, 100 if recipe == "muon" else 50)
    first = ours.run(sets, short, seed=1, width=1 / 8, precision=precision)
    assert first.accuracy > 0.6 and first.seconds > 0
    assert ours.run(sets, short, seed=1, width=1 / 8, precision=precision).accuracy == first.accuracy


def test_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One step on 2,000 pictures in CIFAR's binary form."""
    for name, part in [*((f"data_batch_{i}", pictures(400, i)) for i in range(1, 6)), ("test_batch", pictures(400, 9))]:
        records = np.concatenate([part.labels[:, None].astype(np.uint8), part.images.reshape(len(part), -1)], 1)
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    monkeypatch.setattr(sys, "argv", ["airbench.py", str(tmp_path), "--device", "cpu", "--width", "0.02", "--epochs", "1", "--runs", "2"])
    ours.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["run 0", "run 1", "mean of 2"] and "accuracy 0." in lines[2]


def test_the_twin_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(theirs.BATCH, "muon", 100)
    pairs = [(np.ascontiguousarray(part.images), part.labels) for part in (pictures(1000), pictures(200, 1))]
    form = theirs.Form()
    accuracy, seconds = theirs.run(
        theirs.Sets(*pairs, "cpu", form), "muon", form, theirs.prepare("muon", form, WIDTH, "cpu"), seed=1, epochs=2.5
    )
    assert accuracy > 0.6 and seconds > 0


def test_the_twins_batches_are_crops_and_alternating_flips() -> None:
    """Each image of an epoch is a window of the padded one, straight or mirrored, the other way in the next epoch."""
    training = pictures(8)
    form = theirs.Form(torch.float64)
    pair = (np.ascontiguousarray(training.images), np.arange(8))
    sets = theirs.Sets(pair, pair, "cpu", form)
    padded = torch.nn.functional.pad(sets.images, (2,) * 4, "reflect").numpy()
    windows = {i: {padded[i, :, r : r + 32, s : s + 32].tobytes() for r in range(5) for s in range(5)} for i in range(8)}
    epochs: Callable[..., Any] = sets.epochs(4, torch.Generator().manual_seed(0))
    turned = []
    for _, batches in zip(range(2), epochs):
        straight = np.zeros(8, bool)
        for x, labels in batches:
            for image, i in zip(x.numpy(), labels.numpy()):
                straight[i] = np.ascontiguousarray(image).tobytes() in windows[int(i)]
                assert straight[i] or np.ascontiguousarray(image[:, :, ::-1]).tobytes() in windows[int(i)]
        turned.append(straight)
    assert (turned[0] != turned[1]).all() and 0 < turned[0].sum() < 8
