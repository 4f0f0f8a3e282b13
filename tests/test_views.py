"""Predictions averaged over views of each image."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from kernel_calls import DEVICES

import fastnn
from fastnn import _C, data, models, train
from fastnn.data import ArrayDataset, Flip, Normalize, Shift


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
