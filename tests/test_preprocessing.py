"""Mean images, principal components and whitening: what is fitted, what becomes of batches, and that files and devices keep it."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import DEVICES

import fastnn
from fastnn import data, files, models, optim, train
from fastnn.data import PCA, ZCA, ArrayDataset, CutMix, Cutout, Flip, Loader, MeanImage, MixUp, Normalize, RandomCrop
from fastnn.data.moments import moments
from fastnn.data.preprocessing import Preprocessing, restored, same
from fastnn.train import Trainer, load_model

SHAPE = (3, 5, 4)
VALUES = 60
QUIET: Any = {"progress": False}


def pictures(n: int = 300, seed: int = 0, dtype: type = np.uint8) -> ArrayDataset:
    """Neighbouring pixels and colours are alike, and classes differ in brightness."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    coarse = random.normal(110, 25, (n, 1, 5, 4)) + 20 * labels[:, None, None, None]
    images = np.clip(coarse + random.normal(0, 12, (n, *SHAPE)), 0, 255)
    return ArrayDataset(images.astype(np.uint8).astype(dtype), labels)


def rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


def covariance(images: np.ndarray) -> np.ndarray:
    x = rows(images) - rows(images).mean(0)
    return np.asarray(x.T @ x / len(x))


def seen(dataset: ArrayDataset, normalize: Any, **options: Any) -> np.ndarray:
    return np.concatenate([x.numpy() for x, _ in Loader(dataset, 64, normalize=normalize, **options).batches(0)])


FITTED = {
    "mean image": MeanImage.fit,
    "mean image and deviation": lambda d: MeanImage.fit(d, std=True),
    "pca": lambda d: PCA.fit(d, 7),
    "whitened pca": lambda d: PCA.fit(d, 9, whiten=True),
    "zca": lambda d: ZCA.fit(d, eps=0.01),
}


def expected(kind: str, dataset: ArrayDataset, images: np.ndarray) -> np.ndarray:
    """By the lectures' lines, in float64."""
    mean, x = rows(dataset.images).mean(0), rows(images)
    centred = x - mean
    values, vectors = np.linalg.eigh(covariance(dataset.images))
    values, vectors = values[::-1], vectors[:, ::-1] * np.sign(vectors[:, ::-1][np.abs(vectors[:, ::-1]).argmax(0), range(VALUES)])
    if kind == "mean image":
        made = centred
    elif kind == "mean image and deviation":
        made = centred / (rows(dataset.images) - mean).std()
    elif kind == "pca":
        return np.asarray(centred @ vectors[:, :7])
    elif kind == "whitened pca":
        return np.asarray(centred @ vectors[:, :9] / np.sqrt(values[:9] + 1e-5 * values.mean()))
    else:
        made = centred @ vectors @ np.diag((values + 0.01 * values.mean()) ** -0.5) @ vectors.T
    return np.asarray(made.reshape(images.shape))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("kind", FITTED)
def test_values(kind: str, dtype: type, device: str) -> None:
    """Of other data than it was fitted on, too; a Loader and a call give the same bits."""
    training, test = pictures(dtype=dtype), pictures(90, seed=1, dtype=dtype)
    normalize = FITTED[kind](training)
    for part in (training, test):
        made = seen(part, normalize, device=device)
        np.testing.assert_allclose(made, expected(kind, training, part.images), rtol=1e-4, atol=1e-4)
    assert made.dtype == np.float32 and made.shape[1:] == normalize.output_shape(SHAPE)
    if device == "cpu":
        assert normalize(test.images).numpy().tobytes() == made.tobytes()


def test_whitened_data_have_the_identity_as_covariance() -> None:
    training = pictures()
    for normalize, size in ((ZCA.fit(training, eps=1e-9), VALUES), (PCA.fit(training, VALUES, whiten=True, eps=0), VALUES)):
        np.testing.assert_allclose(covariance(seen(training, normalize)), np.eye(size), atol=2e-4)
        assert np.abs(seen(training, normalize).mean(0)).max() < 1e-4
    smoothed = covariance(seen(training, ZCA.fit(training, eps=0.1)))
    values = np.linalg.eigvalsh(covariance(training.images))
    np.testing.assert_allclose(np.linalg.eigvalsh(smoothed), values / (values + 0.1 * values.mean()), atol=1e-4)


def test_of_scikit_learn() -> None:
    """Whose covariance has the divisor n - 1, and which chooses signs otherwise."""
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is the reference")
    training = pictures()
    for whiten in (False, True):
        theirs = decomposition.PCA(12, whiten=whiten, svd_solver="full").fit(rows(training.images))
        ours = PCA.fit(training, 12, whiten=whiten, eps=0)
        y, reference = seen(training, ours), theirs.transform(rows(training.images))
        reference *= np.sign((y * reference).sum(0)) * (np.sqrt(300 / 299) if whiten else 1)
        np.testing.assert_allclose(y, reference, rtol=1e-3, atol=2e-3)
        np.testing.assert_allclose(ours.variances, theirs.explained_variance_ * 299 / 300)
        np.testing.assert_allclose(ours.explained, theirs.explained_variance_ratio_)
        np.testing.assert_allclose(
            ours.inverse(y).reshape(300, -1), theirs.inverse_transform(theirs.transform(rows(training.images))), atol=1e-3
        )
    for share in (0.5, 0.9, 0.999):
        assert (
            len(PCA.fit(training, share).components) == decomposition.PCA(share, svd_solver="full").fit(rows(training.images)).n_components_
        )


def test_zca_is_symmetric_and_stays_nearest_to_the_images() -> None:
    training = pictures()
    zca, pca = ZCA.fit(training, eps=1e-6), PCA.fit(training, VALUES, whiten=True, eps=1e-6)
    assert (
        zca.matrix.tobytes() == np.ascontiguousarray(zca.matrix.T).tobytes() and np.linalg.eigvalsh(zca.matrix.astype(np.float64)).min() > 0
    )
    scaled = (rows(training.images) - rows(training.images).mean(0)) / rows(training.images).std(0)
    near, far = (np.square(rows(seen(training, each)) - scaled).mean() for each in (zca, pca))
    assert near < far / 2


def test_inverse_gives_the_images_again() -> None:
    training = pictures()
    for kind in ("mean image", "mean image and deviation", "zca"):
        normalize = FITTED[kind](training)
        np.testing.assert_allclose(normalize.inverse(normalize(training.images)), training.images, atol=1e-3)
    every = PCA.fit(training, VALUES, whiten=True)
    np.testing.assert_allclose(every.inverse(every(training.images)), training.images, atol=1e-3)
    few = PCA.fit(training, 5)
    left = np.square(few.inverse(few(training.images)) - training.images.astype(np.float64)).sum() / len(training)
    np.testing.assert_allclose(left, few.total - few.variances.sum(), rtol=1e-5)  # the best there is with five
    pixel = few.inverse(np.zeros((1, 5), np.float32))
    np.testing.assert_allclose(pixel[0], training.images.mean(0), rtol=1e-6)


def test_moments_are_exact_for_bytes_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    training = pictures(700)
    whole = moments("test", training, covariance=True)
    monkeypatch.setattr("fastnn.data.dataset._BLOCK_BYTES", 4 * VALUES * 32)
    parts = moments("test", training.take(range(700)), covariance=True)
    x = training.images.reshape(700, -1).astype(object)
    assert whole.mean.reshape(-1).tolist() == pytest.approx([sum(column) / 700 for column in x.T], rel=1e-15)
    exact = np.asarray((700 * (x.T @ x) - np.outer(x.sum(0), x.sum(0))) / 700**2, np.float64)
    for found in (whole, parts):
        assert found.covariance is not None
        np.testing.assert_allclose(found.covariance, exact, rtol=1e-12, atol=1e-11)
        np.testing.assert_allclose(found.variance, exact.diagonal(), rtol=1e-12)
    far = ArrayDataset(training.images.astype(np.float32) / 64 + 2**16, training.labels)  # float32 holds these numbers exactly
    found = moments("test", far, covariance=True)
    assert found.covariance is not None
    np.testing.assert_allclose(found.covariance * 64**2, exact, rtol=1e-9, atol=1e-8)


def test_floats_far_from_zero_keep_what_tells_them_apart() -> None:
    training = pictures()
    far = ArrayDataset(training.images.astype(np.float32) / 64 + 2**16, training.labels)
    for kind in FITTED:
        made, scale = seen(far, FITTED[kind](far)), 64 if kind in ("mean image", "pca") else 1
        np.testing.assert_allclose(made * scale, seen(training, FITTED[kind](training)), rtol=2e-3, atol=2e-3)


def test_a_set_mapped_from_a_file_is_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = pictures()
    np.save(tmp_path / "images.npy", training.images)
    mapped = ArrayDataset(np.load(tmp_path / "images.npy", mmap_mode="r"), training.labels)
    monkeypatch.setattr("fastnn.data.dataset._BLOCK_BYTES", 4 * VALUES * 50)
    assert max(len(block) for block in mapped.blocks()) == 50
    for kind in FITTED:
        np.testing.assert_allclose(seen(mapped, FITTED[kind](mapped)), seen(training, FITTED[kind](training)), atol=1e-5)


@pytest.mark.parametrize("kind", FITTED)
def test_the_same_bits_for_any_number_of_threads_and_workers(kind: str) -> None:
    training, before = pictures(), fastnn.get_num_threads()
    normalize = FITTED[kind](training)
    try:
        made = set()
        for threads, workers, prefetch in ((1, 1, 0), (1, 3, 2), (3, 1, 2), (4, 2, 2)):
            fastnn.set_num_threads(threads)
            made.add(seen(training, normalize, shuffle=True, workers=workers, prefetch=prefetch).tobytes())
    finally:
        fastnn.set_num_threads(before)
    assert len(made) == 1 and FITTED[kind](training).arrays().keys() and same(normalize, FITTED[kind](training))


def test_degenerate_directions() -> None:
    """A pixel that is the same everywhere has no variance: eps keeps it from being blown up, also where a later image has another value."""
    training = pictures()
    images = training.images.copy()
    images[:, :, 0, 0], images[:, 1, 2, 2] = 7, images[:, 0, 2, 2]
    flat, test = ArrayDataset(images, training.labels), images[:2].copy()
    test[:, :, 0, 0] = 9
    for normalize in (ZCA.fit(flat, eps=1e-3), PCA.fit(flat, VALUES, whiten=True, eps=1e-3)):
        made = seen(flat, normalize)
        assert np.isfinite(made).all() and np.abs(made).max() < 20
        assert np.abs(normalize(test).numpy()).max() < 20  # 2 / sqrt(eps l) about
    with pytest.raises(ValueError, match=r"^PCA: 4 of 60 components have no variance .*; expected eps above 0, .* at most 56 components"):
        PCA.fit(flat, VALUES, whiten=True, eps=0)
    assert len(PCA.fit(flat, 56, whiten=True, eps=0).components) == 56
    few = pictures(5)
    assert len(PCA.fit(few, 0.999999, whiten=True, eps=0).components) == 4
    with pytest.raises(ValueError, match=r"^PCA.fit: components is 5, and 5 samples of 60 values vary in at most 4 directions"):
        PCA.fit(few, 5)
    for fit in (PCA.fit, ZCA.fit):
        with pytest.raises(ValueError, match=r"fit: all 4 samples of the data set are the same, which gives no direction"):
            fit(ArrayDataset(np.full((4, 1, 2, 2), 3, np.uint8), [0, 1, 0, 1]))
    assert MeanImage.fit(ArrayDataset(np.full((4, 2), 3.0), [0, 1, 0, 1]), std=True).std == 1


def test_what_cannot_be_fitted_is_refused() -> None:
    large = ArrayDataset(np.zeros((2, 3, 64, 64), np.uint8), [0, 1])
    for fit in (PCA.fit, ZCA.fit):
        with pytest.raises(
            ValueError, match=r"3 x 64 x 64 = 12,288 values, .* 12,288 x 12,288 x 8 bytes = 1,152 MiB, .*at most 4,096 values; make"
        ):
            fit(large)
        with pytest.raises(ValueError, match="fit: the data set is empty"):
            fit(large.take([]))
    assert MeanImage.fit(large).shape == (3, 64, 64)
    images = pictures(dtype=np.float32).images.copy()
    images[123, 2, 1, 3] = np.nan
    for one in (MeanImage.fit, PCA.fit, ZCA.fit):
        with warnings.catch_warnings(), pytest.raises(ValueError, match=r"fit: sample 123 of 300 holds nan at \[2, 1, 3\]; repair"):
            warnings.simplefilter("error")
            one(ArrayDataset(images, np.zeros(300, int)))  # type: ignore[operator]
    for share in (1.0, 1.5, 2.5):
        with pytest.raises(ValueError, match="components must be a whole number from 1 on, or a share of the variance below 1"):
            PCA.fit(pictures(), share)


def test_features() -> None:
    x = np.random.default_rng(0).normal(3, 1, (50, 6)) @ np.diag([5.0, 4, 3, 2, 1, 0.5])
    dataset = ArrayDataset(x, np.arange(50) % 2)
    np.testing.assert_allclose(covariance(seen(dataset, ZCA.fit(dataset, eps=1e-9))), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(seen(dataset, MeanImage.fit(dataset)), x - x.mean(0), atol=1e-5)
    assert seen(dataset, PCA.fit(dataset, 2)).shape == (50, 2)


# --- among augmentation and mixing


def test_augmentation_comes_first() -> None:
    training = pictures()
    zca = ZCA.fit(training)
    mirrored = seen(training, zca, augment=Flip(1.0))
    assert mirrored.tobytes() == zca(np.ascontiguousarray(training.images[..., ::-1])).numpy().tobytes()
    assert seen(training, zca, augment=[RandomCrop(1), Flip()]).shape == (300, *SHAPE)
    larger = ArrayDataset(np.pad(training.images, [(0, 0), (0, 0), (1, 1), (1, 1)]), training.labels)
    assert seen(larger, zca, augment=data.CenterCrop((5, 4))).tobytes() == seen(training, zca).tobytes()
    for dataset, augment, shape in ((larger, [], r"\(3, 7, 6\)"), (training, RandomCrop(size=3), r"\(3, 3, 3\)")):
        with pytest.raises(
            ValueError, match=rf"^Loader: normalize is ZCA.*, fitted on samples of shape \(3, 5, 4\); .* have samples of shape {shape}"
        ):
            Loader(dataset, 10, normalize=zca, augment=augment)


def test_what_is_erased_becomes_the_mean_of_its_channel() -> None:
    training = pictures()
    centred = MeanImage.fit(training)
    made = centred.inverse(seen(training, centred, augment=Cutout(99)))
    np.testing.assert_allclose(made, np.broadcast_to(training.images.mean((0, 2, 3))[:, None, None], made.shape), rtol=1e-5)


def test_mixing_is_of_images() -> None:
    training = pictures()
    plain = dict(shuffle=True, seed=3)
    for mix in (MixUp(1.0), CutMix(1.0)):
        raw = seen(training, Normalize([0.0] * 3, [1.0] * 3), mix=mix, **plain)
        for normalize in (ZCA.fit(training), PCA.fit(training, 5, whiten=True)):
            float_set = ArrayDataset(raw, np.zeros(len(raw), int))
            np.testing.assert_allclose(seen(training, normalize, mix=mix, **plain), seen(float_set, normalize), rtol=1e-3, atol=1e-3)


# --- trainings and files


def fitted(kind: str, seed: int = 0, epochs: int = 2, **options: Any) -> Trainer:
    training = pictures()
    normalize = FITTED[kind](training)
    with fastnn.random.using(fastnn.random.Generator(seed)):
        model = models.create("mlp", input_shape=normalize.output_shape(SHAPE), num_classes=3)
    trainer = Trainer(model, optim.Adam(model.parameters(), 1e-3), seed=seed, normalize=normalize)
    trainer.fit(training, epochs, batch_size=32, **QUIET, **options)
    return trainer


@pytest.mark.parametrize("kind", FITTED)
def test_files_keep_it(kind: str, tmp_path: Path) -> None:
    trainer, test = fitted(kind), pictures(60, seed=2)
    trainer.save_model(tmp_path / "model")
    trainer.save(tmp_path / "checkpoint")
    expected, result = trainer.predict(test), trainer.evaluate(test)
    for name in ("model", "checkpoint"):
        trained = load_model(tmp_path / name)
        assert trained.normalize is not None and same(trained.normalize, trainer.normalize)
        assert trained.predict(test).tobytes() == trained.predict(test.images).tobytes() == expected.tobytes()
        assert trained.evaluate(test) == result
    for twin in (copy.deepcopy(trainer.normalize), pickle.loads(pickle.dumps(trainer.normalize))):
        assert same(twin, trainer.normalize) and twin(test.images).numpy().tobytes() == seen(test, trainer.normalize).tobytes()
    assert result["accuracy"] > 0.5


@pytest.mark.parametrize("kind", ["mean image", "whitened pca", "zca"])
def test_a_resumed_training_has_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole = fitted(kind, epochs=3)
    fitted(kind, epochs=2).save(tmp_path / "c")
    training, twin = pictures(), fitted(kind, epochs=1)
    twin.normalize = None  # the file's
    twin.fit(training, 3, batch_size=32, resume=tmp_path / "c", **QUIET)
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(whole.model.parameters(), twin.model.parameters()))
    assert twin.normalize is not None and same(twin.normalize, whole.normalize)
    twin.normalize = FITTED[kind](pictures(280))
    with pytest.raises(ValueError, match=r"made with .*; the trainer has .*; give the trainer, and its Loader, the file's: train.load"):
        twin.fit(training, 4, batch_size=32, resume=tmp_path / "c", **QUIET)


def test_evaluation_refuses_other_samples_and_other_preprocessing() -> None:
    trainer, test = fitted("zca"), pictures(30, seed=2)
    smaller = ArrayDataset(test.images[:, :, :4], test.labels)
    for call in (lambda: trainer.evaluate(smaller), lambda: trainer.predict(smaller), lambda: trainer.predict(smaller.images)):
        with pytest.raises(ValueError, match=r"\(.*3, 4, 4\).*; expected samples of shape \(3, 5, 4\), as the model was trained on"):
            call()
    with pytest.raises(
        ValueError, match=r"^fit: the validation set has samples of shape \(3, 4, 4\); expected samples of shape \(3, 5, 4\), as"
    ):
        trainer.fit(pictures(), 1, smaller, batch_size=32, **QUIET)
    with pytest.raises(ValueError, match=r"^evaluate: the loader has normalize=ZCA.*, the model ZCA"):
        trainer.evaluate(Loader(test, 10, normalize=ZCA.fit(pictures(200))))


def test_views_are_prepared_behind_their_crops() -> None:
    trainer, test = fitted("zca"), pictures(30, seed=2)
    larger = np.pad(test.images, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    got = trainer.predict(larger, views=train.ten_crops((5, 4)))
    parts = [larger[:, :, y : y + 5, x : x + 4] for y, x in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
    parts = [np.ascontiguousarray(each) for part in parts for each in (part, part[..., ::-1])]
    np.testing.assert_allclose(got, np.mean([trainer.predict(part) for part in parts], 0), atol=1e-6)
    logits = train.average_views(trainer.model, (larger, test.labels), train.ten_crops((5, 4)), trainer.normalize)
    assert logits.shape == (30, 3)
    with pytest.raises(ValueError, match=r"fitted on samples of shape \(3, 5, 4\); the batches have samples of shape \(3, 3, 3\)"):
        trainer.predict(larger, views=train.five_crops(3))


def test_an_ensemble_of_models_that_prepare_in_their_own_ways(tmp_path: Path) -> None:
    trainers, test = [fitted(kind) for kind in ("pca", "zca", "mean image")], pictures(30, seed=2)
    for i, trainer in enumerate(trainers):
        trainer.save_model(tmp_path / f"{i}")
    ensemble = train.Ensemble([tmp_path / "0", trainers[1], tmp_path / "2"])
    np.testing.assert_allclose(ensemble.predict(test), np.mean([trainer.predict(test) for trainer in trainers], 0), atol=1e-6)


def test_warnings_of_raw_tensors_and_of_a_file_without_it(tmp_path: Path) -> None:
    trainer, test = fitted("mean image"), pictures(30, seed=2)
    with pytest.warns(UserWarning, match="a Tensor goes to the model as it is, and this one was not normalised"):
        trainer.predict(fastnn.tensor(test.images.astype(np.float32)))
    with pytest.warns(UserWarning, match="the file will not say how"):
        train.save_model(tmp_path / "m", trainer.model)
    with pytest.warns(UserWarning, match="average_views: normalize is MeanImage.*; give it that"):
        train.average_views(trainer.model, test, [(1.0, [])], MeanImage.fit(pictures(100)))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    fitted("zca").save_model(tmp_path / "m")
    arrays, notes = files.read(tmp_path / "m")
    prefixed = {name: a for name, a in arrays.items() if name.startswith("normalize/")}
    assert sorted(prefixed) == ["normalize/matrix", "normalize/mean"] and notes["normalize"] == {"kind": "ZCA", "eps": 0.01}
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"normalize/matrix": np.ones((2, 2))}, {}, r"ZCA: matrix has shape \(2, 2\); expected \(60, 60\)"),
        ({"normalize/matrix": np.triu(np.ones((60, 60)))}, {}, "matrix is not symmetric"),
        ({"normalize/mean": np.full(SHAPE, np.nan)}, {}, "ZCA: mean must be finite, got nan among its 60 numbers"),
        ({"normalize/more": np.ones(2)}, {}, "its ZCA has eps, matrix, mean, more; expected eps, matrix, mean"),
        ({}, {"kind": "Later"}, "its preprocessing is 'Later'; this version knows Normalize, MeanImage, PCA, ZCA"),
        ({}, {"kind": ["ZCA"]}, "its preprocessing is"),
        ({}, {"kind": "PCA"}, "its PCA has eps, matrix, mean; expected components, eps, mean, total, variances, whiten"),
        ({}, {"eps": None}, "ZCA: eps must be a number"),
    ]
    for other, state, words in cases:
        files.write(tmp_path / "bad", {**arrays, **other}, {**notes, "normalize": {**notes["normalize"], **state}})
        with pytest.raises(ValueError, match=f"bad: .*{words}"):
            load_model(tmp_path / "bad")
    assert isinstance(restored({"mean": [1.0], "std": [2.0]}, {}), Normalize)  # as early versions wrote it


def test_settings_are_not_changed_afterwards() -> None:
    for kind in FITTED:
        normalize: Preprocessing = FITTED[kind](pictures())
        with pytest.raises(AttributeError, match="mean cannot be changed afterwards"):
            normalize.mean = 0
        with pytest.raises(ValueError, match="read-only"):
            normalize.mean[:] = 0
    given = np.zeros(3)
    kept = MeanImage(given)
    given[:] = 5
    assert not kept.mean.any()
