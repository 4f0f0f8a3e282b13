"""Sets that are not arrays in memory: arrays mapped from files, and objects with __len__ and __getitem__; made-up sets; what a path holds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_calls import GPUS
from test_cifar import pack, write_cifar10, write_cifar100
from test_data import numbered, write_idx_folder
from test_trainer import bits, blobs, trainer

import fastnn
from fastnn import data, nn, train
from fastnn.data import ArrayDataset, ItemDataset, Loader, Normalize


def same(one: Loader, other: Loader, epochs: int = 2) -> None:
    for _ in range(epochs):
        for (x, labels), (y, others) in zip(one, other, strict=True):
            assert x.numpy().tobytes() == y.numpy().tobytes() and (labels.numpy() == others.numpy()).all()


# --- mapped arrays


def mapped(folder: Path, images: np.ndarray) -> np.memmap[Any, Any]:
    np.save(folder / "images.npy", images)
    found = np.load(folder / "images.npy", mmap_mode="r")
    assert isinstance(found, np.memmap)
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16, ">f4"])
@pytest.mark.parametrize("shape", [(3, 5, 4), (5, 4), (7,)])
def test_mapped_arrays_give_the_batches_of_arrays_in_memory(tmp_path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).uniform(0, 256, (50, *shape)).astype(dtype)
    labels = np.arange(50) % 7
    here, there = ArrayDataset(images, labels), ArrayDataset(mapped(tmp_path, images), labels)
    normalize = Normalize.fit(here)
    assert normalize.state() == Normalize.fit(there).state()
    same(*(Loader(s, 8, shuffle=True, seed=4, normalize=normalize) for s in (here, there)))
    rows = np.arange(49, 3, -3)
    if len(shape) == 3:
        augment = [data.RandomCrop(1), data.Flip()]
        same(*(Loader(s, 8, shuffle=True, normalize=normalize, augment=augment) for s in (here, there)))
    same(*(Loader(s.take(rows).take(range(2, 16)), 4, normalize=normalize) for s in (here, there)))


def test_a_mapped_array_is_not_read_whole(tmp_path: Path) -> None:
    """A set of 100 GB, nearly all of it a hole in the file: only what a batch needs is touched."""
    shape = (500_000, 3, 256, 256)
    path = tmp_path / "huge.bin"
    with open(path, "wb") as file:
        file.truncate(int(np.prod(shape)))
        file.seek(3 * int(np.prod(shape[1:])))
        file.write(bytes(range(256)))
    images = np.memmap(path, np.uint8, "r", shape=shape)
    for given in (images, np.asarray(images), images.transpose(0, 1, 3, 2)):
        dataset = ArrayDataset(given, np.zeros(len(images), np.int8))
        loader = Loader(dataset.take([3, 499_999]), 2)
        x, _ = next(loader.batches(0))
        row = x.numpy()[0, 0] if given.strides == images.strides else x.numpy()[0, 0].T
        assert (row[0] == np.arange(256)).all() and x.numpy()[1].max() == 0


def test_a_folder_of_npy_files(tmp_path: Path) -> None:
    images, labels = np.random.default_rng(0).integers(0, 256, (9, 1, 4, 4), np.uint8), np.arange(9) % 3
    for part in ("train", "test"):
        np.save(tmp_path / f"{part}_images.npy", images)
        np.save(tmp_path / f"{part}_labels.npy", labels)
    np.save(tmp_path / "classes.npy", ["a", "b", "c"])
    train, test = data.arrays(tmp_path)
    assert isinstance(train.images, np.memmap) and (test.images == images).all() and train.classes == ("a", "b", "c")
    whole = (tmp_path / "train_images.npy").read_bytes()
    (tmp_path / "train_images.npy").write_bytes(whole[:100])
    with pytest.raises(ValueError, match="train_images.npy: not a whole .npy file"):
        data.arrays(tmp_path)
    (tmp_path / "train_images.npy").unlink()
    with pytest.raises(ValueError, match="train_images is missing"):
        data.arrays(tmp_path)


# --- objects


class Items:
    """The samples of an ArrayDataset, one at a time; counts who asks for what."""

    def __init__(self, n: int = 40, shape: tuple[int, ...] = (2, 3, 4), dtype: type = np.uint8) -> None:
        self.whole, self.asked = numbered(n, shape, dtype), list[int]()

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        self.asked.append(i)
        return self.whole.images[i], self.whole.labels[i]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(2, 3, 4), (5,)])
@pytest.mark.parametrize("workers", [1, 3])
def test_an_object_gives_the_batches_of_its_arrays(dtype: type, shape: tuple[int, ...], workers: int) -> None:
    items = Items(40, shape, dtype)
    normalize = Normalize.fit(items.whole)
    options: dict[str, Any] = {"shuffle": True, "seed": 2, "normalize": normalize}
    if len(shape) == 3:
        options["augment"] = data.RandomCrop(1, padding_mode="edge")
    same(Loader(items, 7, workers=workers, **options), Loader(items.whole, 7, **options))
    assert normalize.state() == Normalize.fit(ItemDataset(items)).state()


@pytest.mark.parametrize("gpu", GPUS)
def test_mapped_arrays_and_objects_on_a_gpu(gpu: str, tmp_path: Path) -> None:
    for dtype in (np.uint8, np.float32):
        items = Items(20, dtype=dtype)
        for given in (ArrayDataset(mapped(tmp_path, items.whole.images), items.whole.labels), items):
            options: dict[str, Any] = {"shuffle": True, "normalize": Normalize.fit(items.whole), "augment": data.RandomCrop(1)}
            here = [(x.numpy(), labels.numpy()) for x, labels in Loader(items.whole, 6, **options)]
            there = list(Loader(given, 6, device=gpu, workers=2, **options))
            assert all(x.device == fastnn.devices.resolve(gpu) and labels.device == "cpu" for x, labels in there)
            assert all((a == x.numpy()).all() and (b == labels.numpy()).all() for (a, b), (x, labels) in zip(here, there, strict=True))


def test_items_are_asked_for_in_order_and_ahead() -> None:
    items = Items()
    loader = Loader(items, 4, shuffle=True, seed=1)
    items.asked.clear()
    batches = loader.batches(0)
    next(batches)
    for _ in range(1000):
        if len(items.asked) >= 12:
            break
        threading.Event().wait(0.005)
    assert 8 <= len(items.asked) <= 12  # the batch in hand and two ahead, no more
    list(batches)
    assert items.asked == loader.order(0).tolist()


def test_kinds_of_images_and_labels() -> None:
    torch = pytest.importorskip("torch")
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for image in (
        pixels,
        pixels[None],
        torch.tensor(pixels),
        torch.tensor(pixels)[None],
        pixels.astype(np.float64),
        fastnn.tensor(pixels / 1.0),
    ):
        for label in (1, np.int32(1), np.array(1), torch.tensor(1)):
            x, labels = next(iter(Loader([(image, label)] * 3, 3)))
            assert (x.numpy() == pixels).all() and x.shape == (3, 1, 3, 4) and labels.numpy().tolist() == [1, 1, 1]
    pillow = pytest.importorskip("PIL.Image")
    x, _ = next(iter(Loader([(pillow.new("RGB", (4, 3), (1, 2, 3)), 0)] * 2, 2)))
    assert x.shape == (2, 3, 3, 4) and x.numpy()[0, :, 0, 0].tolist() == [1, 2, 3]


def test_a_pillow_image_with_a_palette_has_its_colours() -> None:
    """The numbers of a palette are no shades of grey."""
    pillow = pytest.importorskip("PIL.Image")
    palette = pillow.new("P", (4, 3), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    dataset = ItemDataset([(palette, 0), (pillow.new("RGB", (4, 3), (1, 2, 3)), 1)])
    assert dataset.shape == (3, 3, 4) and dataset[0][0][:, 0, 0].tolist() == [200, 100, 50]
    palette.info["transparency"] = 1
    assert dataset[0][0][:, 0, 0].tolist() == [255, 255, 255]
    assert ItemDataset([(pillow.new("1", (4, 3), 1), 0)])[0][0].tolist() == [[[255] * 4] * 3]


def test_labels_of_an_object_are_its_own_or_are_looked_up_once() -> None:
    items = Items(20)
    dataset = ItemDataset(items)
    items.asked.clear()
    rest, part = data.split(dataset, 0.5)
    assert dataset.labels.tolist() == list(range(20)) and dataset.num_classes == 20 and items.asked == list(range(20))
    assert sorted([*rest.labels, *part.labels]) == list(range(20)) and len(items.asked) == 20
    items.labels = items.whole.labels  # type: ignore[attr-defined]
    items.classes = [str(i) for i in range(20)]  # type: ignore[attr-defined]
    named = ItemDataset(items)
    items.asked.clear()
    assert (
        named.labels.tolist() == list(range(20)) and named.num_classes == 20 and named.classes == tuple(items.classes) and not items.asked
    )  # type: ignore[attr-defined]
    same(Loader(named.take([3, -1]), 2), Loader(items.whole.take([3, -1]), 2))


class Even(Items):
    """Its labels say which numbers are even."""

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.whole.images[i], i % 2


@pytest.mark.parametrize("attributes", [
    {"resize": 224}, {"resize": lambda image: image}, {"workers": None}, {"workers": 0}, {"workers": "two"}, {"workers": True},
    {"labels": ["even", "odd"] * 20}, {"labels": ["even", "odd"]}, {"labels": {"even": 0}}, {"labels": np.eye(2)[[0, 1] * 20]},
    {"labels": [1, 2] * 20}, {"labels": [0.0, 1.0] * 20}, {"labels": [[0], [0, 1]]}, {"labels": lambda: [0, 1]},
    {"classes": {"even": 0, "odd": 1}}, {"classes": 2}, {"classes": "even odd"}, {"classes": lambda: ["even", "odd"]},
])  # fmt: skip
def test_attributes_that_only_have_the_name_of_ours_are_the_objects_own(attributes: dict[str, Any]) -> None:
    items = Even(40, (1, 4, 4))
    vars(items).update(attributes)
    dataset = ItemDataset(items)
    assert (dataset.resize, dataset.workers, dataset.classes) == (None, 1, None) and dataset.labels.tolist() == [0, 1] * 20
    model = fastnn.nn.Sequential(fastnn.nn.Flatten(), fastnn.nn.Linear(16, 2))
    trainer = fastnn.train.Trainer(model, fastnn.optim.SGD(model.parameters(), 0.01))
    trainer.fit(items, 1, batch_size=8, progress=False)
    items.resize, items.workers, items.classes = data.Resize(4, channels=1), 3, ("even", "odd")  # type: ignore[attr-defined]
    meant = ItemDataset(items)
    assert (meant.resize, meant.workers, meant.classes) == (data.Resize(4, channels=1), 3, ("even", "odd"))


@pytest.mark.parametrize("items, error, words", [
    ([], ValueError, "the list given as data set is empty"),
    ([3, 4], TypeError, r"item 0 of the list is of type int; expected \(image, label\)"),
    ([(np.zeros((2, 2)), 0, 0)], TypeError, r"item 0 of the list is of type tuple; expected"),
    ([(np.zeros((2, 2)), 0.5)], TypeError, "item 0 has a label of type float; expected an integer"),
    ([(np.zeros((2, 2)), -1)], ValueError, "item 0 has the label -1; class numbers go from 0"),
    ([(np.zeros((2, 2), np.int32), 0)], TypeError, "item 0 has an image of dtype int32; expected uint8 or a float type"),
    ([(np.zeros((2, 2, 2, 2)), 0)], ValueError, r"item 0 has an image of shape \(2, 2, 2, 2\)"),
    ([(np.zeros((2, 2)), 0), (np.zeros((2, 3)), 0)], ValueError, r"item 1 has an image of shape \(1, 2, 3\), float32; item 0 has \(1, 2, 2\)"),
    ({"a": 1}, TypeError, "expected a data set, .* got dict"),
    (7, TypeError, "expected a data set, .* got 7"),
])  # fmt: skip
def test_objects_that_do_not_fit_are_named(items: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        list(Loader(items, 2))


def test_a_loader_is_no_data_set_where_only_those_do() -> None:
    """The message named a Loader among what would do, and got one."""
    words = r"expected a data set, \(images, labels\) or an object .*, got Loader; its data set is loader.dataset$"
    with pytest.raises(TypeError, match=f"^Loader: dataset: {words}"):
        Loader(Loader(numbered(4), 2), 2)
    with pytest.raises(TypeError, match=f"^average_views: dataset: {words}"):
        train.average_views(nn.Flatten(), Loader(numbered(4), 2), [(1.0, [])])


def test_of_several_sets_one_is_to_be_given() -> None:
    """As data.digits() and data.image_folder() return them."""
    model = fastnn.nn.Linear(3, 2)
    trainer = fastnn.train.Trainer(model, fastnn.optim.SGD(model.parameters(), 0.1))
    two, sets = (Counting(), Counting()), data.Sets(Counting(), None, None, "")
    takers: list[Any] = [lambda given: data.Loader(given, 4), lambda given: trainer.fit(given, 1), trainer.evaluate]
    for taker in takers:
        with pytest.raises(TypeError, match="got 2 data sets in a tuple, as training and test come; give one of them"):
            taker(two)
        with pytest.raises(TypeError, match="got Sets; its sets are sets.train, sets.validation and sets.test"):
            taker(sets)
    with pytest.raises(TypeError, match="^predict: data: got 2 data sets in a tuple"):
        trainer.predict(two)


def test_labels_beyond_the_classes_and_bad_workers() -> None:
    with pytest.raises(ValueError, match="item 0 has the label 2; class numbers go from 0 to 1"):
        ItemDataset([(np.zeros((2, 2)), 2)], classes=["a", "b"])
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        Loader(numbered(4), 2, workers=0)


def test_an_error_of_the_object_arrives_in_the_loop() -> None:
    class Broken(Items):
        def __getitem__(self, i: int) -> tuple[Any, Any]:
            if i == 17:
                raise OSError("the disk is gone")
            return super().__getitem__(i)

    for workers in (1, 4):
        with pytest.raises(OSError, match="the disk is gone"):
            list(Loader(Broken(), 8, workers=workers))


def test_training_on_an_object_or_a_mapped_array_gives_the_same_bits(tmp_path: Path) -> None:
    whole = blobs(90)
    pairs = list(zip(whole.images, whole.labels, strict=True))
    results = []
    for training in (whole, pairs, ArrayDataset(mapped(tmp_path, whole.images), whole.labels)):
        t = trainer()
        t.fit(training, 2, blobs(30, 1), batch_size=16, progress=False)
        results.append((bits(t.model), t.evaluate(training), t.predict(ItemDataset(pairs)).tobytes()))
    assert results[0] == results[1] == results[2]


class Counting(data.Dataset):
    """What a Dataset has to have, and nothing else."""

    shape = (3,)
    labels = np.arange(12) % 2  # type: ignore[assignment]

    def __len__(self) -> int:
        return 12

    def raw(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(positions[:, None], 3, 1).astype(np.float32), self.labels[positions]


def test_a_dataset_of_ones_own_needs_no_classes() -> None:
    dataset = Counting()
    assert dataset.classes is None and dataset.num_classes == 2 and repr(dataset) == "Counting(12 samples of shape (3,))"
    model = fastnn.nn.Linear(3, 2)
    trainer = fastnn.train.Trainer(model, fastnn.optim.SGD(model.parameters(), 0.01))
    trainer.fit(dataset, 1, batch_size=4, progress=False)
    assert set(trainer.evaluate(dataset)) >= {"loss", "accuracy"}


def test_parts_of_a_dataset_of_ones_own_have_their_samples_alone() -> None:
    rest, part = data.split(Counting(), 0.25, seed=0)
    seen = [x.numpy()[:, 0].astype(int).tolist() for d in (rest, part, part.take([-1, 0])) for x, _ in data.Loader(d, 12)]
    assert (len(rest), len(part)) == (9, 3) and sorted(seen[0] + seen[1]) == list(range(12)) and seen[2] == [seen[1][2], seen[1][0]]
    assert part.labels.tolist() == [i % 2 for i in seen[1]] and repr(part) == "Part(3 samples of shape (3,), from a Counting)"


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.float16])
def test_batches_of_a_dataset_of_ones_own_are_float32(dtype: type) -> None:
    class Wide(Counting):
        def raw(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            images, labels = super().raw(positions)
            return images.astype(dtype), labels

    assert [x.dtype for x, _ in data.Loader(Wide(), 6)] == ["float32"] * 2


def test_a_dataset_that_lacks_what_one_has_is_told_of_the_way_without_a_base() -> None:
    class AsInPyTorch(data.Dataset):
        def __len__(self) -> int:
            return 3

    with pytest.raises(TypeError, match="AsInPyTorch lacks labels and raw: .* without this base class"):
        AsInPyTorch()  # type: ignore[abstract]


# --- made-up sets


def test_spirals_are_the_lectures() -> None:
    train = data.spirals(300, noise=0.0)
    assert train.shape == (2,) and np.bincount(train.labels).tolist() == [100] * 3
    for k in range(3):
        points = train.images[train.labels == k]
        r = np.linspace(0, 1, 100)
        angle = np.linspace(4 * k, 4 * (k + 1), 100)
        np.testing.assert_allclose(points, np.c_[r * np.sin(angle), r * np.cos(angle)], atol=1e-6)
    noisy = data.spirals(3000, seed=1)
    np.testing.assert_allclose(np.linalg.norm(noisy.images, axis=1), np.arange(3000) // 3 / 999, atol=1e-6)  # noise turns, it does not push


@pytest.mark.parametrize("make", [data.spirals, data.blobs, data.stripes])
def test_made_up_sets_repeat_and_new_seeds_keep_the_classes(make: Any) -> None:
    one, again, other = make(120), make(120), make(120, seed=1)
    assert one.images.tobytes() == again.images.tobytes() and one.images.tobytes() != other.images.tobytes()
    with pytest.raises(ValueError, match="2 samples in 5 classes"):
        make(2, classes=5)


def test_blobs_and_stripes_can_be_told_apart_by_what_they_are_made_of() -> None:
    train, test = data.blobs(600, classes=4, features=5), data.blobs(600, classes=4, features=5, seed=1)
    means = np.stack([train.images[train.labels == k].mean(0) for k in range(4)])
    nearest = np.linalg.norm(test.images[:, None] - means, axis=2).argmin(1)
    assert np.mean(nearest == test.labels) > 0.95

    pictures = data.stripes(400)
    assert pictures.shape == (1, 16, 16) and pictures.images.dtype == np.uint8 and pictures.num_classes == 4
    spectra = np.abs(np.fft.fft2(pictures.images[:, 0] - pictures.images[:, 0].mean((1, 2), keepdims=True)))
    means = np.stack([spectra[pictures.labels == k].mean(0) for k in range(4)])
    others = data.stripes(400, seed=1)
    found = np.abs(np.fft.fft2(others.images[:, 0] - 127.5))
    assert np.mean(np.linalg.norm(found[:, None] - means, axis=(2, 3)).argmin(1) == others.labels) > 0.95
    assert np.abs(np.stack([pictures.images[pictures.labels == k].mean(0) for k in range(4)]) - 127.5).max() < 40  # no pixel tells


# --- what lies at a path


def test_paths_are_recognised(tmp_path: Path) -> None:
    called = {
        "mnist": ("MNIST", "mnist"),
        "fashion-mnist": ("fashion", "Fashion_MNIST", "FashionMNIST"),
        "idx": ("idx", "kmnist", "emnist-letters"),
    }
    kinds = {name: kind for kind, names in called.items() for name in names}
    for name in kinds:
        (tmp_path / name).mkdir()
        write_idx_folder(tmp_path / name)
    write_cifar10(tmp_path / "ten")
    write_cifar100(tmp_path / "hundred", "binary")
    pack(tmp_path / "ten", tmp_path / "cifar-10-python.tar.gz")
    pack(tmp_path / "hundred", tmp_path / "cifar-100-binary.tar.gz")
    np.savez(tmp_path / "a.npz", train_images=np.zeros(1))
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "train_images.npy", np.zeros(1))
    for name in ("cat", "dog/brown/large"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    (tmp_path / "photos" / "dog" / "brown" / "large" / "1.JPG").write_bytes(b"")
    (tmp_path / "nested" / "photos" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "nested" / "photos" / "val" / "cat").mkdir(parents=True)
    for name, kind in {
        **kinds, "ten": "cifar10", "hundred": "cifar100", "cifar-10-python.tar.gz": "cifar10",
        "cifar-100-binary.tar.gz": "cifar100", "a.npz": "arrays", "npy": "arrays", "photos": "images", "nested/photos": "images",
    }.items():  # fmt: skip
        assert data.recognise(tmp_path / name) == (kind, str(tmp_path / name))
    assert data.recognise(tmp_path / "nested") == ("images", str(tmp_path / "nested" / "photos"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("x")
    for name in ("empty", "x.txt"):
        with pytest.raises(ValueError, match=f"{name}: not a data set of a known kind; expected a folder of photos"):
            data.recognise(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="absent: there is no such file or folder"):
        data.recognise(tmp_path / "absent")


@pytest.mark.parametrize("prefetch", [0, 2])
def test_what_goes_wrong_in_an_item_is_raised_where_the_batch_is_asked_for(prefetch: int) -> None:
    """As what it is, with the item's number; and no thread is left."""

    class Broken:
        def __len__(self) -> int:
            return 12

        def __getitem__(self, i: int) -> Any:
            if i == 7:
                raise OSError("the disk is gone")
            return np.full((1, 2, 2), i, np.uint8), 0

    seen = []
    with pytest.raises(OSError, match="the disk is gone") as caught:
        for x, _ in Loader(data.ItemDataset(Broken(), labels=[0] * 12), 3, prefetch=prefetch):
            seen.append(x.numpy()[:, 0, 0, 0].tolist())
    assert seen == [[0, 1, 2], [3, 4, 5]]
    assert caught.value.__notes__ == ["this was item 7 of the Broken"]  # type: ignore[attr-defined]
    assert not [t.name for t in threading.enumerate() if t.name.startswith("fastnn-loader")]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_item_that_raises_stop_iteration_does_not_end_the_epoch(prefetch: int) -> None:
    class Ends:
        def __len__(self) -> int:
            return 12

        def __getitem__(self, i: int) -> Any:
            return (np.zeros((1, 2, 2), np.uint8), 0) if i != 7 else next(iter(()))

    with pytest.raises(RuntimeError, match="^item 7 of the Ends raised StopIteration$"):
        list(Loader(data.ItemDataset(Ends(), labels=[0] * 12), 3, prefetch=prefetch))


def test_batches_made_when_asked_for_are_the_same() -> None:
    images = np.random.default_rng(5).integers(0, 256, (20, 3, 6, 6)).astype(np.uint8)

    def epoch(**options: Any) -> list[tuple[bool, bytes]]:
        """Whether a thread of the loader's is there, and the batch."""
        loader = Loader((images, np.arange(20)), 6, shuffle=True, augment=[data.RandomCrop(1), data.ColorJitter(0.3)], **options)
        return [(any(t.name.startswith("fastnn-loader") for t in threading.enumerate()), x.numpy().tobytes()) for x, _ in loader]

    made_ahead, made_now = epoch(), epoch(prefetch=0)
    assert [x for _, x in made_ahead] == [x for _, x in made_now]
    assert all(threaded for threaded, _ in made_ahead) and not any(threaded for threaded, _ in made_now)
