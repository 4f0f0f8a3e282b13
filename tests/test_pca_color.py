"""AlexNet's colours: what is fitted, what is drawn, what becomes of the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from kernel_calls import DEVICES

from fastnn import cli, data, random
from fastnn.commands.training import augmentation
from fastnn.data import ArrayDataset, ColorJitter, Flip, Loader, PCAColor, RandomCrop, Shift
from fastnn.data.frames import Draws

SEED = 2**40 + 5
VALUES, VECTORS = (
    np.array([0.2175, 0.0188, 0.0045]),
    np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]),
)


def noise(n: int = 40, shape: tuple[int, ...] = (3, 5, 6), dtype: type = np.uint8) -> ArrayDataset:
    return ArrayDataset(np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(dtype), np.arange(n) % 10)


def seen(dataset: ArrayDataset, *steps: Any, epoch: int = 0, **options: Any) -> np.ndarray:
    loader = Loader(dataset, 16, seed=SEED, augment=steps, **options)
    return np.concatenate([x.numpy() for x, _ in loader.batches(epoch)])


def normals(n: int, first: int, epoch: int) -> np.ndarray:
    """Box and Muller of two streams of the sample's words."""
    u, v = (
        np.array([(int(w) + 0.5) / 2**32 for w in reference.random_words(0, n, SEED, epoch + k * 2**32, random.AUGMENTATION)])
        for k in (first, first + 1)
    )
    return np.asarray(np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v))


def shifts(n: int, std: float, epoch: int = 0, first: int = 0) -> np.ndarray:
    """(n, 3, 1, 1), in units of bytes, by the paper's formula, one product after the other."""
    drawn = std * np.stack([normals(n, first + 2 * i, epoch) for i in range(3)], 1)
    return np.array([255 * VECTORS @ (a * VALUES) for a in drawn])[:, :, None, None]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_pixel_of_an_image_gets_the_same_colour(dtype: type, device: str) -> None:
    dataset = noise(dtype=dtype)
    for epoch, step, std in ((0, PCAColor(), 0.1), (3, PCAColor(1.5), 1.5)):
        expected = dataset.images.astype(np.float64) + shifts(40, std, epoch)
        if dtype == np.uint8:
            assert expected.min() < 0 and expected.max() > 255
            expected = np.clip(expected, 0, 255)
        np.testing.assert_allclose(seen(dataset, step, epoch=epoch, device=device), expected, atol=1e-3)
    assert seen(dataset, PCAColor(0.0)).tobytes() == dataset.images.astype(np.float32).tobytes()


def test_among_other_steps() -> None:
    """Its streams lie behind those of the steps before it; what comes behind it acts on the shifted colours; bytes are limited once."""
    dataset = noise()
    images = dataset.images.astype(np.float64)
    later, earlier = (
        seen(dataset, *steps) for steps in ([PCAColor(3.0), ColorJitter((0.5, 0.5))], [ColorJitter((0.5, 0.5)), PCAColor(3.0)])
    )
    np.testing.assert_allclose(later, np.clip(0.5 * (images + shifts(40, 3.0)), 0, 255), atol=1e-3)
    np.testing.assert_allclose(earlier, np.clip(0.5 * images + shifts(40, 3.0, first=4), 0, 255), atol=1e-3)
    got = seen(dataset, Flip(1.0), PCAColor(), Shift(1, 0, fill=7.0))
    np.testing.assert_allclose(got[:, :, :-1], np.clip(images[..., ::-1] + shifts(40, 0.1, first=1), 0, 255)[:, :, 1:], atol=1e-3)
    assert (got[:, :, -1] == 7).all()
    contrast = seen(dataset, PCAColor(0.2), ColorJitter(contrast=(0.5, 0.5)))
    shifted = images + shifts(40, 0.2)
    grey = np.einsum("c,nchw->n", [0.299, 0.587, 0.114], shifted)[:, None, None, None] / 30
    np.testing.assert_allclose(contrast, np.clip(0.5 * shifted + 0.5 * grey, 0, 255), atol=1e-3)


def test_grey_images_get_the_luma_of_the_shift() -> None:
    dataset = noise(shape=(1, 4, 4))
    luma = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], shifts(40, 0.1))[:, None]
    np.testing.assert_allclose(seen(dataset, PCAColor()), np.clip(dataset.images + luma, 0, 255), atol=1e-3)
    with pytest.raises(ValueError, match="colours are those of images with 1 or 3 channels"):
        seen(noise(shape=(4, 2, 2)), PCAColor())


def test_the_numbers_are_normal() -> None:
    draws = Draws(SEED, 0, 200_000)
    draws.streams = 4
    numbers = np.stack([draws.normal(0), draws.normal(2)])
    np.testing.assert_allclose(np.corrcoef(numbers), np.eye(2), atol=0.01)
    for moment, expected in ((1, 0), (2, 1), (3, 0), (4, 3)):
        np.testing.assert_allclose((numbers**moment).mean(1), expected, atol=0.05)
    assert abs((np.abs(numbers) < 1).mean() - 0.6827) < 0.003 and np.abs(numbers).max() > 4
    with pytest.raises(ValueError, match="a step draws from stream 4 and says streams = 4; expected at least 5"):
        draws.normal(3)


def coloured(n: int, dtype: type, lift: float = 0.0) -> ArrayDataset:
    """Channels that go together."""
    generator = np.random.default_rng(3)
    mix = np.array([[40, 10, 3], [30, -8, 6], [25, 4, -9]])
    values = np.einsum("kc,nchw->nkhw", mix, generator.standard_normal((n, 3, 4, 5))) + 120 + lift
    return ArrayDataset((np.clip(values, 0, 255) if dtype == np.uint8 else values).astype(dtype), np.arange(n) % 10)


@pytest.mark.parametrize(("dtype", "white", "lift"), [(np.uint8, 255.0, 0.0), (np.float32, 255.0, 0.0), (np.float32, 100.0, 3e5)])
def test_components_of_a_training_set(dtype: type, white: float, lift: float) -> None:
    """In several blocks, and of a part of a set; also where the mean is thousands of deviations."""
    whole = coloured(2500, dtype, lift)
    for dataset in (whole, whole.take(np.arange(2400, 100, -3))):
        step = PCAColor.fit(dataset, 0.2, white=None if dtype == np.uint8 else white)
        images = dataset.images if dataset is whole else whole.images[np.arange(2400, 100, -3)]
        colours = images.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64) / white
        covariance = np.cov(colours, bias=True)
        values, vectors = np.array(step.eigenvalues), np.array(step.eigenvectors)
        assert step.white == white and step.std == 0.2 and (np.diff(values) < 0).all()
        np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, covariance, rtol=1e-9, atol=1e-9 * values[0])
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
        assert (vectors[np.abs(vectors).argmax(0), range(3)] > 0).all()
    assert PCAColor.fit(whole, white=white).eigenvalues == PCAColor.fit(whole, white=white).eigenvalues


def test_a_set_of_ones_own_that_gives_bytes() -> None:
    class Own(data.Dataset):
        shape = (3, 4, 5)
        labels = np.zeros(50, np.int64)

        def __len__(self) -> int:
            return 50

        def raw(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return coloured(50, np.uint8).raw(positions)

    assert PCAColor.fit(Own()).eigenvalues == PCAColor.fit(coloured(50, np.uint8)).eigenvalues


def test_one_colour_has_no_components() -> None:
    step = PCAColor.fit(ArrayDataset(np.full((3, 3, 2, 2), 200, np.uint8), np.arange(3)))
    assert step.eigenvalues == (0.0, 0.0, 0.0) and (seen(noise(), step) == noise().images).all()


def test_a_fitted_step_shifts_by_the_spread_of_the_set() -> None:
    """Of alpha with deviation 1, the shift has the covariance V diag(l^2) V^T."""
    dataset = coloured(6000, np.float32)
    step = PCAColor.fit(dataset, 1.0, white=100.0)
    moved = (seen(dataset, step) - dataset.images)[:, :, 0, 0] / 100
    vectors, values = np.array(step.eigenvectors), np.array(step.eigenvalues)
    np.testing.assert_allclose(np.cov(moved.T), vectors @ np.diag(values**2) @ vectors.T, atol=0.06 * values[0] ** 2)


def test_what_cannot_be_fitted_or_given() -> None:
    for dataset, words in (
        (noise(shape=(1, 4, 4)), r"40 samples of shape \(1, 4, 4\)"),
        (noise().take([]), r"0 samples of shape \(3, 5, 6\)"),
    ):
        with pytest.raises(ValueError, match=f"^PCAColor.fit: dataset has {words}; expected RGB images"):
            PCAColor.fit(dataset)
    with pytest.raises(
        ValueError, match=r"^PCAColor.fit: white is 1, and values .* at most 0.5; those of dataset have 4\d\..*: give the raw value of"
    ):
        PCAColor.fit(coloured(50, np.float32))
    assert PCAColor.fit(ArrayDataset(coloured(50, np.float32).images / 300, np.arange(50))).white == 1.0
    broken = coloured(5, np.float32).images.copy()
    broken[3, 1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"^PCAColor.fit: sample 3 of 5 holds nan at \[1, 2, 0\]; repair or leave out that sample$"):
        PCAColor.fit(ArrayDataset(broken, np.arange(5)))
    with pytest.raises(ValueError, match="^PCAColor: eigenvectors must be columns of length 1, got lengths 2, 2, 2$"):
        PCAColor(eigenvectors=2 * np.eye(3))
    with pytest.raises(ValueError, match=r"^PCAColor: eigenvalues must be three numbers in \[0, inf\), got \(0.1, -0.1, 0.1\)$"):
        PCAColor(eigenvalues=(0.1, -0.1, 0.1))


def test_the_command_fits_it_on_the_training_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = coloured(60, np.uint8).images
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=np.arange(60) % 3, test_images=images, test_labels=np.arange(60) % 3)
    assert (
        cli.main(
            ["train", str(tmp_path / "set.npz"), "--model", "linear", "--epochs", "1", "--augment", "pca", "--out", str(tmp_path / "run")]
        )
        == 0
    )
    assert "augmented by pca" in capsys.readouterr().out
    training, _ = data.split(data.arrays(tmp_path / "set.npz")[0], 0.1, 0)
    steps = augmentation("pca", training)
    assert (
        isinstance(steps[0], RandomCrop) and isinstance(steps[2], PCAColor) and steps[2].eigenvalues == PCAColor.fit(training).eigenvalues
    )
    assert [type(step).__name__ for step in augmentation("pca", noise(shape=(1, 8, 8)))] == ["RandomCrop", "Flip"]
