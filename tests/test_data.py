"""fastnn.data: sets, splits, normalisation."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from shared_data import shared_data

import fastnn
from fastnn import data, random
from fastnn.data import ArrayDataset, Loader, Normalize


def numbered(n: int, shape: tuple[int, ...] = (2, 3, 4), dtype: type = np.uint8) -> ArrayDataset:
    """Images that know their position: every value is position + a part that differs by place (n < 200)."""
    places = np.arange(np.prod(shape)).reshape(shape) % 50
    images = (np.arange(n).reshape(n, *[1] * len(shape)) + places).astype(dtype)
    return ArrayDataset(images, np.arange(n))


# --- the sets


def test_digits_are_the_known_ones() -> None:
    train, test = data.digits()
    assert (len(train), len(test), train.shape, train.num_classes) == (1438, 359, (1, 8, 8), 10)
    images, labels = np.empty((1797, 8, 8), np.uint8), np.empty(1797, np.uint8)
    at_test = np.arange(1797) % 5 == 4
    for part, where in ((train, ~at_test), (test, at_test)):
        images[where], labels[where] = part.images[:, 0], part.labels
    whole = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert whole == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"  # scikit-learn's load_digits as bytes


def test_digits_carry_their_attribution() -> None:
    notice = resources.files("fastnn.data").joinpath("digits.NOTICE").read_text()
    assert all(words in notice for words in ("E. Alpaydin", "C. Kaynak", "CC BY 4.0", "archive.ics.uci.edu"))


def test_fashion_mnist_is_read_whole() -> None:
    train, test = data.fashion_mnist(shared_data("fashion-mnist"))
    assert train.images.shape == (60000, 1, 28, 28) and test.images.shape == (10000, 1, 28, 28)
    assert np.bincount(train.labels).tolist() == [6000] * 10 and np.bincount(test.labels).tolist() == [1000] * 10
    assert train.classes is not None and train.classes[train.labels[0]] == "Ankle boot"  # the first picture of the set


@pytest.mark.parametrize("images, labels, classes, error, words", [
    (np.zeros((3, 2, 2, 2, 2), np.uint8), [0, 1, 2], None, ValueError, r"images have shape \(3, 2, 2, 2, 2\); expected \(N, C, H, W\)"),
    (np.zeros((3, 2, 2), np.int32), [0, 1, 2], None, TypeError, "images have dtype int32; expected uint8"),
    (np.zeros((3, 2, 2), np.uint8), [0, 1], None, ValueError, r"labels have shape \(2,\); expected \(3,\)"),
    (np.zeros((3, 2, 2), np.uint8), [0.0, 1.0, np.nan], None, TypeError, "labels have dtype float64; expected integers"),
    (np.zeros((3, 2, 2), np.uint8), [0, -1, 2], None, ValueError, "label -1 at position 1"),
    (np.zeros((3, 2, 2), np.uint8), [0, 1, 2], ["a", "b"], ValueError, "label 2 at position 2; 2 classes go from 0 to 1"),
])  # fmt: skip
def test_bad_arrays_are_refused(images: np.ndarray, labels: list[float], classes: list[str] | None, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        ArrayDataset(images, labels, classes)


def test_shapes_and_types_of_arrays() -> None:
    assert ArrayDataset(np.zeros((5, 8, 9), np.uint8), np.zeros(5, np.int8)).shape == (1, 8, 9)
    assert ArrayDataset(np.zeros((5, 7)), np.zeros(5, np.uint16)).images.dtype == np.float32
    part = numbered(20).take([3, 5, 7]).take([2, 0])
    assert part.labels.tolist() == [7, 3] and part.images[:, 0, 0, 0].tolist() == [7, 3]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_whose_channels_lie_last_are_refused(dtype: type) -> None:
    """They would train, as images of 32 channels and three columns."""
    for shape in ((6, 32, 32, 3), (6, 5, 5, 1), (6, 28, 28, 4)):
        images = np.zeros(shape, dtype)
        with pytest.raises(
            ValueError, match=r"ArrayDataset: images have shape .*, as if the channels lay last; .*images.transpose\(0, 3, 1, 2\)"
        ):
            ArrayDataset(images, np.zeros(6, int))
        assert ArrayDataset(images.transpose(0, 3, 1, 2), np.zeros(6, int)).shape == (shape[3], *shape[1:3])
        with pytest.raises(
            ValueError, match=r"item 0 has an image of shape .*; expected \(C, H, W\), which image.transpose\(2, 0, 1\) makes"
        ):
            data.ItemDataset([(image, 0) for image in images])
    for shape in ((6, 4, 4, 3), (6, 8, 7, 3), (6, 16, 16, 2), (6, 3, 32, 32), (6, 64, 1, 1), (6, 28, 28)):
        assert len(ArrayDataset(np.zeros(shape, dtype), np.zeros(6, int))) == 6


def test_npz_of_arrays(tmp_path: Path) -> None:
    path = tmp_path / "cells.npz"
    images = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    np.savez(path, train_images=images, train_labels=[0, 1], test_images=images[:1], test_labels=[1], classes=["no", "yes"])
    train, test = data.arrays(path)
    assert (train.images == images).all() and test.labels.tolist() == [1] and test.classes == ("no", "yes")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cells.npz: not a whole .npz"):
        data.arrays(path)
    np.savez(path, train_images=images)
    with pytest.raises(ValueError, match="train_labels, test_images, test_labels is missing"):
        data.arrays(path)


def test_the_set_keeps_the_labels_that_were_checked() -> None:
    labels = np.array([0, 1, 2])
    whole = ArrayDataset(np.zeros((3, 4), np.float32), labels)
    labels[0] = 77
    items = data.ItemDataset([(np.zeros(4, np.float32), i) for i in range(3)])
    for one in (whole, whole.take([0, 1, 2]), items, items.take([0, 1, 2])):
        assert one.labels.tolist() == [0, 1, 2]
        with pytest.raises(ValueError, match="read-only"):
            one.labels[0] = 77


def test_which_images_are_shared() -> None:
    """As the docstring says: nothing is copied that need not be."""
    for dtype, shared in ((np.uint8, False), (np.float16, False), (np.float32, True), (np.float64, False)):
        images = np.zeros((3, 4), dtype)
        dataset = ArrayDataset(images, [0, 1, 2])
        images[:] = 9
        assert dataset.images.max() == (9 if shared else 0)


@pytest.mark.parametrize("images, labels, words", [
    (np.zeros((3, 1, 0, 5), np.uint8), [0, 1, 2], r"images have shape \(3, 1, 0, 5\), without rows; expected at least one of each"),
    (np.zeros((3, 0, 5, 5), np.uint8), [0, 1, 2], "without channels"),
    (np.zeros((3, 0, 5), np.float32), [0, 1, 2], "without rows"),
    (np.zeros((3, 0), np.float32), [0, 1, 2], "without features"),
    (np.zeros((2, 3), np.uint8), np.array([0, 2**64 - 1], np.uint64), "label 18446744073709551615 at position 1; class numbers are int64"),
    (np.ma.array(np.zeros((2, 3)), mask=[[0, 0, 0], [0, 1, 0]]), [0, 1], r"images has masked values.*images.filled\(value\) replaces them"),
    (np.zeros((2, 3)), np.ma.array([0, 1], mask=[0, 1]), r"labels has masked values"),
])  # fmt: skip
def test_what_is_no_image_or_label_is_refused(tmp_path: Path, images: np.ndarray, labels: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ArrayDataset(images, labels)
    if not isinstance(images, np.ma.MaskedArray) and not isinstance(labels, np.ma.MaskedArray):
        np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
        with pytest.raises(ValueError, match=f"a.npz: .*{words}"):
            data.arrays(tmp_path / "a.npz")


def test_an_item_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"item 0 has an image of shape \(1, 0, 5\), without a pixel"):
        data.ItemDataset([(np.zeros((0, 5), np.uint8), 0)])


@pytest.mark.parametrize("shape", [(200, 3), (50, 3, 2, 4)])
def test_float64_that_float32_does_not_tell_apart(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Seconds since 1970: of ten minutes float32 makes six."""
    random = np.random.default_rng(0)
    images, labels = random.standard_normal(shape), np.zeros(shape[0], int)
    images[:, 1] += 1.7e9 + random.integers(0, 600, images[:, 1].shape)
    what = "feature" if len(shape) == 2 else "channel"
    with pytest.warns(
        UserWarning, match=f"{what} 1 has values from 17000000.* to 17000005.*, for which float32.* has only [3-6] different"
    ) as caught:
        ArrayDataset(images, labels)
    assert caught[0].filename == __file__
    ArrayDataset(images - images.mean(0), labels)
    ArrayDataset(images.astype(np.float32), labels)  # nothing was lost here
    np.save(tmp_path / "x.npy", images)
    if len(shape) == 2:
        with pytest.warns(UserWarning, match="feature 1"):
            ArrayDataset(np.load(tmp_path / "x.npy", mmap_mode="r"), labels)


@pytest.mark.parametrize("shape, augment", [((64, 3), ()), ((64, 3, 4, 4), ()), ((64, 3, 4, 4), (data.Flip(0.0),))])
def test_features_far_from_zero_are_standardised_exactly(shape: tuple[int, ...], augment: Any) -> None:
    """16,000,000 + {0, 1, 2, 3}: x * scale alone is rounded to whole numbers of them."""
    images = np.random.default_rng(1).integers(0, 4, shape).astype(np.float32)
    images[:, 0] += 16_000_000
    images[:, 1] -= 3_000_000
    dataset = ArrayDataset(images, np.zeros(64, int))
    normalize = Normalize.fit(dataset)
    x = next(iter(Loader(dataset, 64, normalize=normalize, augment=augment)))[0].numpy()
    axes = (0, *range(2, len(shape)))
    wide = images.astype(np.float64)
    expected = (wide - wide.mean(axes, keepdims=True)) / wide.std(axes, keepdims=True)
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)


# --- IDX files


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_idx_folder(folder: Path, pack: bool = False) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
    labels = np.array([0, 1, 2, 0, 1, 2], np.uint8)
    for prefix in ("train", "t10k"):
        for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            if pack:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
            else:
                (folder / name).write_bytes(idx_bytes(array))
    return images, labels


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_plain_and_gzipped(tmp_path: Path, pack: bool, dotted: bool) -> None:
    """Under both of the names that the files are found by on the web, and that `recognise` knows."""
    images, labels = write_idx_folder(tmp_path, pack)
    for file in list(tmp_path.iterdir()) if dotted else ():
        file.rename(tmp_path / file.name.replace("-idx", ".idx"))
    assert data.recognise(tmp_path)[0] == "idx"
    train, test = data.idx(tmp_path)
    assert (train.images[:, 0] == images).all() and (train.labels == labels).all() and len(test) == 6


def test_idx_truncated_anywhere_is_one_clear_error(tmp_path: Path) -> None:
    whole = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    path = tmp_path / "images"
    for bytes_left in range(len(whole)):
        for contents in (whole[:bytes_left], gzip.compress(whole)[:bytes_left]):
            path.write_bytes(contents)
            with pytest.raises(ValueError, match="images: "):
                data.read_idx(path, 3)
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="39 bytes, truncated: 16 of header . 2 x 3 x 4 values = 40"):
        data.read_idx(path, 3)
    path.write_bytes(whole + b"x")
    with pytest.raises(ValueError, match="41 bytes, too long"):
        data.read_idx(path, 3)
    path.write_bytes(b"\0\0\x08\x03" + b"\xff" * 12)  # sizes whose product exceeds 64 bits
    with pytest.raises(ValueError, match="truncated: 16 of header . 4294967295 x"):
        data.read_idx(path, 3)


def test_idx_wrong_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    with pytest.raises(ValueError, match="starts with '00 00 08 01'; expected '00 00 08 03', as an IDX file of rank 3 does"):
        data.read_idx(path, 3)
    with pytest.raises(FileNotFoundError, match="holds neither train-labels-idx1-ubyte nor"):
        data.idx(tmp_path)


def test_idx_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(5, np.uint8)))
    with pytest.raises(ValueError, match="holds 6 images, .*train-labels-idx1-ubyte 5 labels"):
        data.idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(6, 10, np.uint8)))
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte: label 10"):
        data.mnist(tmp_path)


# --- split and normalisation


def test_split_is_stratified_and_a_partition() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    whole = ArrayDataset(np.arange(160, dtype=np.uint8).reshape(160, 1), labels)
    rest, part = data.split(whole, 0.1, seed=3)
    assert np.bincount(part.labels).tolist() == [10, 5, 1]
    assert sorted([*rest.images[:, 0], *part.images[:, 0]]) == list(range(160))
    assert (np.diff(rest.images[:, 0].astype(int)) > 0).all()  # the order of the whole
    words = reference.random_words(0, 160, 3, 2**48 - 1, random.ORDER)
    drawn = [sorted(np.flatnonzero(labels == c), key=lambda i: words[i])[: len(labels[labels == c]) // 10] for c in range(3)]
    assert part.images[:, 0].tolist() == sorted(i for members in drawn for i in members)
    other = data.split(whole, 0.1, seed=4)[1]
    assert (other.images != part.images).any()
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\), got 1.5"):
        data.split(whole, 1.5)


@pytest.mark.parametrize("sizes, fraction, total", [
    ([5] * 100, 0.1, 50), ([5] * 100, 0.3, 150), ([4] * 100, 0.15, 60), ([1] * 10, 0.2, 2), ([3, 13, 23, 1], 0.1, 4), ([7], 0.2, 1),
    ([2, 2], 0.2, 1), ([99, 1], 0.5, 50), ([5, 15], 0.1, 2),
])  # fmt: skip
def test_the_part_is_that_share_of_all_and_of_each_class_within_one(sizes: list[int], fraction: float, total: int) -> None:
    """Of many small classes each rounded by itself none would be left, or far too many."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    whole = ArrayDataset(np.zeros((len(labels), 1), np.uint8), labels)
    parts = [data.split(whole, fraction, seed)[1] for seed in range(20)]
    counts = np.array([np.bincount(part.labels, minlength=len(sizes)) for part in parts])
    assert (counts.sum(1) == total).all() and (np.abs(counts - fraction * np.array(sizes)) < 1).all()
    if len(sizes) > 10:
        assert 0.3 < (counts[:, : len(sizes) // 2].sum(1) / total).mean() < 0.7  # the first classes are not favoured
        assert len({tuple(row) for row in counts.tolist()}) > 10


def test_no_part_of_a_split_is_empty() -> None:
    whole = ArrayDataset(np.zeros((4, 1), np.uint8), [0, 0, 1, 1])
    with pytest.raises(
        ValueError, match=r"fraction 0.1 of 4 samples puts 0 into the part, 4 into the rest; expected one above 0.125 and below"
    ):
        data.split(whole, 0.1)
    with pytest.raises(ValueError, match="puts 4 into the part, 0 into the rest"):
        data.split(whole, 0.9)
    with pytest.raises(ValueError, match="of 1 sample puts 0 into the part, 1 into the rest; expected at least two samples"):
        data.split(whole.take([0]), 0.5)


def test_normalize_is_exact_for_bytes() -> None:
    images = np.random.default_rng(1).integers(0, 256, (1500, 3, 5, 4), np.uint8)  # more than one block
    images[:, 2] = 255
    fitted = Normalize.fit(ArrayDataset(images, np.zeros(1500, int)))
    for c in range(3):
        values = [int(v) for v in images[:, c].ravel()]
        mean = Fraction(sum(values), len(values))
        variance = Fraction(sum(v * v for v in values), len(values)) - mean * mean
        assert fitted.mean[c] == float(mean)
        assert fitted.std[c] == (float(variance) ** 0.5 or 1.0)
    assert Normalize(**fitted.state()).scale.tobytes() == fitted.scale.tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32], ids=str)
@pytest.mark.parametrize("shape", [(50, 3, 5, 4), (50, 7)], ids=str)
def test_normalize_prepares_as_a_loader_and_back(shape: tuple[int, ...], dtype: Any) -> None:
    images = np.random.default_rng(1).integers(0, 256, shape).astype(dtype)
    normalize = Normalize.fit(ArrayDataset(images, np.zeros(50, int)))
    loaded, _ = Loader((images, np.zeros(50, int)), 50, normalize=normalize).batch(np.arange(50))
    for given in (images, fastnn.tensor(images)):
        assert normalize(given).numpy().tobytes() == loaded.numpy().tobytes()
    assert normalize(images[7][None]).numpy().tobytes() == loaded.numpy()[7].tobytes()
    raw = normalize.inverse(loaded)
    assert raw.dtype == np.float32 and (raw.round() == images).all()
    channels = "7" if len(shape) == 2 else "3"
    for call in (
        lambda: normalize(images[0]),
        lambda: normalize(images[:, 1:]),
        lambda: normalize(images[:0]),
        lambda: normalize.inverse(images[0]),
    ):
        with pytest.raises(
            ValueError, match=rf"^Normalize: \w+ has shape .*; expected .* C = {channels}, or .*; one image alone is image\[None\]$"
        ):
            call()
    for kind in (complex, str, object):
        with pytest.raises(TypeError, match="Normalize.inverse: x must be numbers, got (complex128|<U|object)"):
            normalize.inverse(images.astype(kind))


def test_a_normalisation_for_values_up_to_1_is_noticed_on_bytes() -> None:
    """torchvision's figures would give values up to 1,132."""
    bytes_, labels = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 4), np.uint8), np.arange(9)
    theirs = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with pytest.warns(
        UserWarning, match=r"as for values from 0 to 1, but .* bytes, .*; expected Normalize\(\[123.675, 116.28, 103.53\], \[58.395,"
    ) as said:
        Loader((bytes_, labels), 4, normalize=theirs)
        theirs(bytes_)
    assert [one.filename for one in said] == [__file__] * 2
    Loader((bytes_ / 255, labels), 4, normalize=theirs)
    Loader((bytes_ % 2, labels), 4, normalize=Normalize.fit(ArrayDataset(bytes_ % 2, labels)))
    Loader((bytes_, labels), 4, normalize=Normalize([0.0] * 3, [1.0] * 3))


def test_a_normalisation_of_bytes_is_noticed_on_floats_up_to_1() -> None:
    """All of them would be next to the darkest."""
    bytes_, labels = np.random.default_rng(0).integers(0, 256, (9, 1, 4, 4), np.uint8), np.arange(9)
    fitted = Normalize.fit(ArrayDataset(bytes_, labels))
    with pytest.warns(
        UserWarning, match="as for values from 0 to 255, but the data set holds floats from 0 to 1; expected the bytes"
    ) as said:
        Loader((bytes_ / 255, labels), 4, normalize=fitted)
    assert said[0].filename == __file__
    for fine in (bytes_, bytes_.astype(np.float32), 0.0 * bytes_, bytes_ / 255 - 0.5):
        Loader((fine, labels), 4, normalize=fitted)


def test_normalize_of_floats_and_features() -> None:
    values = np.random.default_rng(2).normal(1e3, 2, (2000, 5)).astype(np.float32)
    values[:, 4] = 7
    fitted = Normalize.fit(ArrayDataset(values, np.zeros(2000, int)))
    assert np.allclose(fitted.mean, values.mean(0, dtype=np.float64), rtol=1e-12)
    assert np.allclose(fitted.std[:4], values[:, :4].astype(np.float64).std(0), rtol=1e-9) and fitted.std[4] == 1
    with pytest.raises(ValueError, match="must be positive"):
        Normalize([0.0], [0.0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_normalisation_names_the_sample_that_is_no_number(value: float) -> None:
    images = np.ones((1500, 2, 3, 4), np.float32)
    images[1234, 1, 0, 3] = value
    message = rf"Normalize.fit: sample 1234 of 1500 holds {value} at \[1, 0, 3\]; repair or leave out that sample"
    whole = ArrayDataset(images, np.zeros(1500, int))
    with pytest.raises(ValueError, match=message):
        Normalize.fit(whole)
    part = whole.take(np.arange(1500)[::-1]).take(np.arange(200, 300))  # a part of a part: what the user has is the whole
    with pytest.raises(ValueError, match=r"sample 65 of 100 \(number 1234 of the set that it is a part of\) holds"):
        Normalize.fit(part)


def test_take_counts_from_the_end_honours_masks_and_refuses_what_is_outside() -> None:
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    dataset = ArrayDataset(images, np.arange(4))
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    last = dataset.take([-1, 0])
    assert last.labels.tolist() == [3, 0] and last.gather(np.array([0, 1]), one, zero).numpy().ravel().tolist() == [3, 0]
    assert dataset.take(dataset.labels >= 2).labels.tolist() == [2, 3] and len(dataset.take([])) == 0
    for outside in (4, -5, 2**64 - 1):
        with pytest.raises(IndexError, match=f"indices go from {outside} to {outside}, the set has 4 samples"):
            dataset.take([outside])


# --- what cannot be set afterwards


def test_a_normalisation_is_fixed() -> None:
    normalize = pickle.loads(pickle.dumps(Normalize([1.0], [2.0])))
    for name in ("mean", "std", "scale", "shift"):
        with pytest.raises(AttributeError, match=f"Normalize: {name} cannot be changed afterwards; make another Normalize"):
            setattr(normalize, name, [5.0])
    assert normalize.state() == {"mean": [1.0], "std": [2.0]}


def test_a_set_is_not_its_two_arrays() -> None:
    with pytest.raises(TypeError, match=r"ArrayDataset: images, labels = dataset\.images, dataset\.labels gives its arrays"):
        _, _ = data.digits()[0]  # type: ignore[misc]


def test_positions_that_are_not_there_are_refused_where_kernels_would_read() -> None:
    dataset = ArrayDataset(np.zeros((4, 1, 2, 2), np.uint8), [0, 1, 0, 1])
    one = np.ones(1, np.float32)
    for wrong in ([-1], [4], [0, 10**12]):
        with pytest.raises(IndexError, match="ArrayDataset.gather: positions from .* there are 4 samples"):
            dataset.gather(np.array(wrong), one, one)
