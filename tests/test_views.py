"""Predictions averaged over views of each image."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernel_calls import DEVICES

import fastnn
from fastnn import _C, data, models, nn, train
from fastnn.data import ArrayDataset, CenterCrop, CornerCrop, Crop, Flip, Normalize, Scale, Shift


def some(n: int = 21) -> ArrayDataset:
    random = np.random.default_rng(0)
    return ArrayDataset(random.integers(0, 256, (n, 3, 6, 5)).astype(np.uint8), random.integers(0, 4, n))


@pytest.mark.parametrize("device", DEVICES)
def test_six_views_of_every_image(device: str) -> None:
    """A linear model of the mean view is the mean of its logits, so numpy can average the pictures."""
    fastnn.seed(0)
    dataset, model = some(), models.linear(4, (3, 6, 5))
    normalize = Normalize.fit(dataset)
    got = train.average_views(model.to(device), dataset, train.six_views(), normalize, batch_size=8)
    images = (dataset.images - np.array(normalize.mean)[:, None, None]) / np.array(normalize.std)[:, None, None]
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    mean = 0.5 * images + 0.25 * padded[:, :, :6, :5] + 0.25 * padded[:, :, 2:, 2:]
    mean = 0.5 * mean + 0.5 * mean[..., ::-1]
    state = model.state_dict()
    expected = mean.reshape(len(mean), -1) @ state["1.weight"].astype(np.float64).T + state["1.bias"]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert got.dtype == np.float32


@pytest.mark.skipif(_C.isa() not in _C.isas("bfloat16"), reason="this processor does not multiply bfloat16")
def test_views_in_bfloat16() -> None:
    fastnn.seed(0)
    dataset, model = some(), models.create("vgg_small", input_shape=(3, 6, 5), num_classes=4)
    wide, narrow = (train.average_views(model, dataset, train.six_views(), precision=precision) for precision in ("float32", "bf16"))
    assert 1e-5 < np.abs(wide - narrow).max() < 2e-2 * np.abs(wide).max() and narrow.dtype == np.float32
    with pytest.raises(ValueError, match="average_views: precision must be 'float32' or 'bf16', got 'half'"):
        train.average_views(model, dataset, train.six_views(), precision="half")


def test_weights_are_relative_and_the_mode_comes_back() -> None:
    fastnn.seed(0)
    dataset, model = some(), models.create("vgg_small", input_shape=(3, 6, 5), num_classes=4)
    plain, mirrored = (train.average_views(model, dataset, [(5.0, steps)]) for steps in ([], [Flip(1.0)]))
    both = train.average_views(model, dataset, [(2.0, []), (6.0, [Flip(1.0)])])
    np.testing.assert_allclose(both, 0.25 * plain + 0.75 * mirrored, rtol=1e-5, atol=1e-5)
    assert np.abs(plain - mirrored).max() > 1e-3
    assert model.training and all(module.training for module in model.modules())
    loader = data.Loader(dataset, 21)
    with fastnn.no_grad():
        np.testing.assert_allclose(plain, model.eval()(next(iter(loader))[0]).numpy(), rtol=1e-5, atol=1e-5)


def test_six_views_are_few_lines() -> None:
    views = train.six_views(2, "edge")
    assert sum(weight for weight, _ in views) == 1 and [weight for weight, _ in views] == [0.25, 0.25, 0.125, 0.125, 0.125, 0.125]
    shifts = [[(s.down, s.right, s.padding_mode) for s in steps if isinstance(s, Shift)] for _, steps in views]
    assert shifts == [[], [], [(-2, -2, "edge")], [(-2, -2, "edge")], [(2, 2, "edge")], [(2, 2, "edge")]]
    assert [any(isinstance(s, Flip) for s in steps) for _, steps in views] == [False, True] * 3


def test_of_no_image_there_is_no_mean() -> None:
    with pytest.raises(ValueError, match="^average_views: the data set is empty; it needs at least one sample$"):
        train.average_views(models.linear(4, (3, 6, 5)), some().take([]), train.six_views())


def test_without_weight_there_is_no_mean() -> None:
    for views in ([], [(0.0, []), (0.0, [Flip(1.0)])]):
        with pytest.raises(ValueError, match=f"the weights of {len(views)} views sum to 0"):
            train.average_views(models.linear(4, (3, 6, 5)), some(), views)


def test_views_prepared_otherwise_than_the_model_was_trained_are_noticed() -> None:
    dataset, model = some(), models.linear(4, (3, 6, 5))
    trainer = train.Trainer(model, fastnn.optim.SGD(model.parameters(), 0.01))
    trainer.fit(dataset, 1, progress=False)
    for other in (None, data.Normalize([100.0] * 3, [50.0] * 3)):
        with pytest.warns(
            UserWarning, match=r"^average_views: normalize is (None|Norm.*), the model was trained on images prepared by Norm.*"
        ):
            train.average_views(model, dataset, train.six_views(), other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = train.average_views(model, dataset, [(1.0, [])], trainer.normalize)
    assert (same.argmax(1) == trainer.predict(dataset).argmax(1)).all()


# --- crops and scales


def pictures(n: int = 9, shape: tuple[int, ...] = (3, 7, 10), dtype: type = np.uint8) -> ArrayDataset:
    random = np.random.default_rng(1)
    return ArrayDataset(random.integers(0, 256, (n, *shape)).astype(dtype), random.integers(0, 4, n))


def seen(dataset: ArrayDataset, steps: Any) -> np.ndarray:
    """What a model gets, as it is."""
    return np.concatenate([x.numpy() for x, _ in data.Loader(dataset, 4, augment=steps)])


def resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return torch.nn.functional.interpolate(torch.tensor(images).double(), size, mode="bilinear", align_corners=False).numpy()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_crops_are_slices(dtype: type) -> None:
    dataset = pictures(dtype=dtype)
    images = dataset.images.astype(np.float32)
    for steps, expected in [
        (Crop(2, 3, (4, 5)), images[:, :, 2:6, 3:8]),
        (Crop(0, 0, (7, 10)), images),
        ([Crop(1, 2, 5), Crop(1, 1, 2)], images[:, :, 2:4, 3:5]),
        (CornerCrop("top left", (4, 6)), images[:, :, :4, :6]),
        (CornerCrop("top right", (4, 6)), images[:, :, :4, 4:]),
        (CornerCrop("bottom left", (4, 6)), images[:, :, 3:, :6]),
        (CornerCrop("bottom right", (4, 6)), images[:, :, 3:, 4:]),
        (CenterCrop((4, 6)), images[:, :, 2:6, 2:8]),  # 1.5 is rounded to even, as torchvision does
        (CenterCrop(7), images[:, :, :, 2:9]),
        ([Flip(1.0), CornerCrop("top left", 5)], images[:, :, :5, :4:-1]),
        ([CornerCrop("top left", 5), Flip(1.0)], images[:, :, :5, 4::-1]),
        (
            [Shift(1, 0, fill=7.0), CornerCrop("bottom right", (2, 10))],
            np.concatenate([images[:, :, 6:], np.full_like(images[:, :, :1], 7.0)], 2),
        ),
    ]:
        np.testing.assert_array_equal(seen(dataset, steps), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_scales_are_bilinear_interpolation(dtype: type) -> None:
    dataset = pictures(dtype=dtype)
    for size, sides in ((14, (14, 20)), (9, (9, 12)), (3, (3, 4)), ((5, 21), (5, 21)), (7, (7, 10))):
        np.testing.assert_allclose(seen(dataset, Scale(size)), resized(dataset.images, sides), atol=1e-3)
    whole = resized(dataset.images, (14, 20))
    np.testing.assert_allclose(seen(dataset, [Scale(14), CornerCrop("bottom right", 9), Flip(1.0)]), whole[:, :, 5:, :10:-1], atol=1e-3)
    tall = pictures(shape=(1, 11, 4), dtype=dtype)
    np.testing.assert_allclose(seen(tall, Scale(6)), resized(tall.images, (16, 6)), atol=1e-3)  # 16.5, rounded down


def by_hand(images: np.ndarray, size: int) -> list[np.ndarray]:
    """The ten crops of a square of an image."""
    bottom, right = images.shape[2] - size, images.shape[3] - size
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
    five = [images[:, :, top : top + size, left : left + size] for top, left in places]
    return [view for crop in five for view in (crop, crop[..., ::-1])]


def test_the_crops_of_every_image() -> None:
    dataset = pictures()
    five, ten = train.five_crops(5), train.ten_crops(5)
    assert [weight for weight, _ in five] == [0.2] * 5 and [weight for weight, _ in ten] == [0.1] * 10
    for got, expected in zip(ten, by_hand(dataset.images, 5)):
        np.testing.assert_array_equal(seen(dataset, got[1]), expected)
    for got, expected in zip(five, by_hand(dataset.images, 5)[::2]):
        np.testing.assert_array_equal(seen(dataset, got[1]), expected)
    scales = train.multi_scale((6, 14), 5)
    assert len(scales) == 20 and [weight for weight, _ in scales] == [0.05] * 20 and len(train.multi_scale()) == 50
    hand = [view for sides in ((6, 8), (14, 20)) for view in by_hand(resized(dataset.images, sides), 5)]
    for got, expected in zip(scales, hand):
        np.testing.assert_allclose(seen(dataset, got[1]), expected, atol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_averages_over_crops_are_those_of_the_slices(device: str) -> None:
    """Of logits and of probabilities; ten crops in a net of one size, scales in one that takes any."""
    fastnn.seed(0)
    dataset, fixed = pictures(), models.create("lenet", input_shape=(3, 5, 5), num_classes=4)
    pooled = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    normalize = Normalize.fit(dataset)
    for model, views, images in (
        (fixed, train.ten_crops(5), by_hand(dataset.images, 5)),
        (
            pooled,
            train.multi_scale((6, 14), None),
            [v[..., ::m] for s in ((6, 8), (14, 20)) for v in [resized(dataset.images, s)] for m in (1, -1)],
        ),
    ):
        model.to(device).eval()
        logits = [model(normalize(view.astype(np.float32)).to(device)).numpy().astype(np.float64) for view in images]
        exps = [np.exp(view) for view in logits]
        probabilities = np.mean([e / e.sum(1, keepdims=True) for e in exps], 0)
        got = train.average_views(model, dataset, views, normalize, batch_size=4)
        np.testing.assert_allclose(got, np.mean(logits, 0), atol=1e-4)
        got = train.average_views(model, dataset, views, normalize, average="probabilities")
        np.testing.assert_allclose(got, probabilities, atol=1e-5)
        assert np.abs(np.mean(logits, 0) - logits[0]).max() > 1e-3


def test_predict_takes_views(tmp_path: Path) -> None:
    dataset, model = pictures(21), models.create("vgg_small", input_shape=(3, 7, 10), num_classes=4)
    trainer = train.Trainer(model, fastnn.optim.SGD(model.parameters(), 0.01), seed=2)
    trainer.fit(dataset, 1, progress=False)
    trainer.save_model(tmp_path / "model")
    expected = train.average_views(model, dataset, train.six_views(), trainer.normalize, average="probabilities")
    loader = data.Loader(dataset, 5, normalize=trainer.normalize)
    for given in (dataset, dataset.images, loader):
        np.testing.assert_allclose(trainer.predict(given, views=train.six_views()), expected, atol=1e-6)
    np.testing.assert_allclose(train.load_model(tmp_path / "model").predict(dataset, views=train.six_views()), expected, atol=1e-6)
    assert trainer.predict(dataset, views=[(3.0, [])]).tobytes() == trainer.predict(dataset).tobytes()
    assert np.abs(trainer.predict(dataset) - expected).max() > 1e-5
    with pytest.raises(
        TypeError, match=r"^predict: views are of images in a data set or an array; a Tensor goes to the model as it is: give x.numpy"
    ):
        trainer.predict(fastnn.tensor(np.zeros((2, 3, 7, 10))), views=train.six_views())


def test_sizes_that_do_not_go_together() -> None:
    dataset = pictures()
    with pytest.raises(
        ValueError,
        match=r"^CornerCrop\(corner='top left', size=\(8, 8\)\): a window of \(8, 8\) does not fit into images of \(7, 10\); expected",
    ):
        train.average_views(models.linear(4, (3, 7, 10)), dataset, train.ten_crops(8))
    with pytest.raises(
        ValueError, match=r"^multi_scale: scales must be at least size, \(224, 224\): a shorter side of 32 has no room for it$"
    ):
        train.multi_scale((32, 256))
    named, unnamed = models.create("lenet", input_shape=(3, 8, 8)), nn.Sequential(nn.Flatten(), nn.Linear(210, 4))
    for model, words in ((named, r"the model was made for \(3, 8, 8\)"), (unnamed, r"the data set has \(3, 7, 10\)")):
        with pytest.raises(
            ValueError, match=rf"^average_views: views of \(3, 5, 5\) do not go through the model \(.*Linear.*\); {words}: give views"
        ):
            train.average_views(model, dataset, train.five_crops(5))
    with pytest.raises(ValueError, match=r"^(?!.*views of).*Linear"):  # of another size altogether: nothing about views
        train.average_views(nn.Sequential(nn.Flatten(), nn.Linear(5, 4)), dataset, [(1.0, [])])
    wrong: list[Any] = [(1.0, np.array([Flip(1.0), Flip(1.0)])), (1.0, "Flip"), (1.0, [], [])]
    for view in wrong:
        with pytest.raises(
            TypeError, match=r"^average_views: views must be \[\(weight, \[augmentation, ...\]\), ...\], got .* among them$"
        ):
            train.average_views(unnamed, dataset, [view])
    with pytest.raises(ValueError, match="^average_views: average 'median' is not one of logits, probabilities$"):
        train.average_views(unnamed, dataset, train.six_views(), average="median")
