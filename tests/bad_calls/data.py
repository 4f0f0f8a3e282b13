"""fastnn.data: sets, loaders, preprocessing, augmentation, files."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from fastnn import data
from fastnn.data import public

from . import Subject
from .optim import Good, constants


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (12, 1, 4, 4)).astype(np.uint8)


def labels() -> np.ndarray:
    return np.arange(12) % 3


def bytes_set() -> data.ArrayDataset:
    return data.ArrayDataset(images(), labels())


def colours_set() -> data.ArrayDataset:
    return data.ArrayDataset(np.random.default_rng(0).integers(0, 255, (12, 3, 4, 4)).astype(np.uint8), labels())


def rows_set() -> data.ArrayDataset:
    return data.ArrayDataset(np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32), labels())


def drained(**arguments: Any) -> int:
    return sum(len(y.numpy()) for _, y in data.Loader(**arguments))


def augmented(make: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **arguments: drained(dataset=bytes_set(), batch_size=5, augment=make(**arguments))


def mixed(make: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **arguments: drained(dataset=bytes_set(), batch_size=5, mix=make(**arguments))


class Items:
    classes = ("a", "b", "c")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Any:
        return np.ones((1, 2, 2), np.float32), i % 3


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 4)).save(file, "png")
    return file.getvalue()


def idx_files() -> str:
    """A folder of MNIST's layout, two images in each part."""
    os.makedirs("idx", exist_ok=True)
    for part in ("train", "t10k"):
        for kind, values in (("images-idx3", images()[:2]), ("labels-idx1", labels()[:2].astype(np.uint8))):
            values = values.reshape(2, 4, 4) if values.ndim == 4 else values
            with open(f"idx/{part}-{kind}-ubyte", "wb") as file:
                file.write(bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes() + values.tobytes())
    return "idx"


def idx_file() -> str:
    return os.path.join(idx_files(), "train-images-idx3-ubyte")


def cifar_files() -> str:
    """A folder with an image in each batch of CIFAR-10, and in those of CIFAR-100, which begin with one byte more."""
    os.makedirs("cifar", exist_ok=True)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch", "train", "test"):
        with open(f"cifar/{name}.bin", "wb") as file:
            file.write(bytes((1 if "batch" in name else 2) + 3072))
    return "cifar"


def array_file() -> str:
    np.savez(
        "arrays.npz",
        **{f"{part}_{kind}": values for part in ("train", "test") for kind, values in (("images", images()), ("labels", labels()))},
    )
    return "arrays.npz"


def photos() -> str:
    """Three pictures of each of two classes."""
    for name in ("a", "b"):
        os.makedirs(f"photos/{name}", exist_ok=True)
        for i in range(3):
            with open(f"photos/{name}/{i}.png", "wb") as file:
                file.write(picture())
    return "photos"


def stored() -> data.ImageFiles:
    for name in ("0.png", "1.png"):
        with open(name, "wb") as file:
            file.write(picture())
    return data.ImageFiles(["0.png", "1.png"], [0, 1], None, data.Resize(4, channels=3))


def centred() -> data.MeanImage:
    return data.MeanImage(np.full((1, 4, 4), 100.0))


def rotated() -> data.PCA:
    return data.PCA(np.zeros((1, 4, 4)), np.eye(16)[:2].reshape(2, 1, 4, 4), (4.0, 1.0), total=6.0)


def whitened() -> data.ZCA:
    return data.ZCA(np.zeros((1, 4, 4)), np.eye(16))


def fetched(**arguments: Any) -> str:
    """From a set of one small file, which lies there already; else from where nobody listens."""
    contents = b"published"
    small = public.PublicSet((public.File("file", len(contents), hashlib.sha256(contents).hexdigest()),), ("http://127.0.0.1:9",))
    os.makedirs("sets/mnist", exist_ok=True)
    with open("sets/mnist/file", "wb") as file:
        file.write(contents)
    before = public.SETS["mnist"]
    public.SETS["mnist"] = small
    try:
        return data.download(**arguments)
    finally:
        public.SETS["mnist"] = before


def item_set(image: Any, label: Any) -> None:
    items = data.ItemDataset([(np.ones((1, 2, 2), np.float32), 0), (image, label)])
    items.raw(np.arange(2))


def subjects() -> list[Subject]:
    files: dict[str, Good] = {
        "arrays": {"path": array_file},
        "cifar10": {"path": cifar_files},
        "cifar100": {"path": cifar_files, **constants(coarse=False)},
        "recognise": {"path": array_file},
        "read_idx": {"path": idx_file, **constants(rank=3)},
        "idx": {"folder": idx_files, **constants(classes=("a", "b"))},
        "mnist": {"folder": idx_files},
        "fashion_mnist": {"folder": idx_files},
    }
    loader: Good = {
        "dataset": bytes_set,
        "augment": data.Flip,
        "mix": data.MixUp,
        "normalize": lambda: data.Normalize([100.0], [50.0]),
        **constants(batch_size=5, shuffle=True, seed=3, drop_last=True, prefetch=2, workers=1, device="cpu"),
    }
    components: Good = {"mean": lambda: np.zeros((1, 4, 4)), "components": lambda: np.eye(16)[:2].reshape(2, 1, 4, 4)}
    shown = constants(size=8, channels=3, resize=None, test_fraction=0.2, seed=0, keep=True, skip_broken=False, progress=False)
    border = constants(padding_mode="edge", fill=0.0)
    affine = {**constants(degrees=10.0, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5.0, center=(2.0, 2.0)), **border}
    return [
        Subject("ArrayDataset", data.ArrayDataset, {"images": images, "labels": labels, **constants(classes=("a", "b", "c"), resize=None)}, ("label",)),
        Subject("Dataset.__getitem__", lambda index: bytes_set()[index], constants(index=1), ("ArrayDataset",)),
        Subject("Dataset.take", lambda indices: bytes_set().take(indices), constants(indices=[0, 3, 5]), ("ArrayDataset",)),
        Subject("ItemDataset", data.ItemDataset, {"source": Items, **constants(classes=("a", "b", "c"), labels=[0, 1, 2, 0], resize=None, workers=1)},
                ("item 0", "ArrayDataset", "data set", "label")),
        Subject("item_set", item_set, {"image": lambda: np.ones((1, 2, 2), np.float32), "label": lambda: 1}, ("item 1",)),
        Subject("Loader", drained, loader, ("item 0", "ItemDataset", "ArrayDataset", "data set")),
        Subject("Loader.batches", lambda **a: list(data.Loader(rows_set(), 5).batches(**a)), constants(epoch=0, first=1, shard=(1, 2))),
        Subject("Loader.order", lambda epoch: data.Loader(rows_set(), 5, shuffle=True).order(epoch), constants(epoch=0), ("Loader",)),
        Subject("Loader.frames", lambda epoch: data.Loader(bytes_set(), 5, augment=data.Flip()).frames(epoch), constants(epoch=0)),
        Subject("Loader.mixing", lambda epoch: data.Loader(bytes_set(), 5, mix=data.MixUp()).mixing(epoch), constants(epoch=0)),
        Subject("Loader.batch", lambda positions: data.Loader(rows_set(), 5).batch(positions), {"positions": lambda: np.arange(3)}, ("ArrayDataset",)),
        Subject("Resize.decode", lambda **a: data.Resize(4, channels=3).decode(**a), {"data": picture, **constants(name="a.png")}, ("a.png", "image")),
        Subject("ImageFiles.__getitem__", lambda i: stored()[i], constants(i=0)),
        Subject("ImageFiles.decoded", lambda progress: stored().decoded(progress), constants(progress=False)),
        Subject("Normalize", data.Normalize, constants(mean=[1.0, 2.0], std=[1.0, 2.0])),
        Subject("Normalize.__call__", lambda images: data.Normalize([1.0], [2.0])(images), {"images": images}, ("ArrayDataset",)),
        Subject("Normalize.inverse", lambda x: data.Normalize([1.0], [2.0]).inverse(x), {"x": images}, ("Normalize",)),
        Subject("Normalize.fit", data.Normalize.fit, {"dataset": rows_set, **constants(std=False)}),
        Subject("MeanImage", data.MeanImage, {"mean": lambda: np.full((1, 4, 4), 100.0), **constants(std=2.0)}),
        Subject("MeanImage.__call__", lambda images: centred()(images), {"images": images}, ("ArrayDataset",)),
        Subject("MeanImage.inverse", lambda x: centred().inverse(x), {"x": images}, ("MeanImage",)),
        Subject("MeanImage.fit", data.MeanImage.fit, {"dataset": rows_set, **constants(std=True)}),
        Subject("PCA", data.PCA, {**components, **constants(variances=(4.0, 1.0), total=6.0, whiten=True, eps=1e-5)}),
        Subject("PCA.__call__", lambda images: rotated()(images), {"images": images}, ("ArrayDataset",)),
        Subject("PCA.inverse", lambda x: rotated().inverse(x), {"x": lambda: np.ones((5, 2), np.float32)}),
        Subject("PCA.fit", data.PCA.fit, {"dataset": rows_set, **constants(components=2, whiten=True, eps=1e-5)}),
        Subject("ZCA", data.ZCA, {"mean": lambda: np.ones(4), "matrix": lambda: np.eye(4), **constants(eps=0.1)}),
        Subject("ZCA.__call__", lambda images: whitened()(images), {"images": images}, ("ArrayDataset",)),
        Subject("ZCA.inverse", lambda x: whitened().inverse(x), {"x": images}, ("ZCA",)),
        Subject("ZCA.fit", data.ZCA.fit, {"dataset": rows_set, **constants(eps=0.1)}),
        Subject("RandomCrop", augmented(data.RandomCrop), {**constants(padding=1, size=3), **border}, ("augment",)),
        Subject("Crop", augmented(data.Crop), constants(top=1, left=0, size=(3, 2))),
        Subject("CornerCrop", augmented(data.CornerCrop), constants(corner="top right", size=(3, 2))),
        Subject("CenterCrop", augmented(data.CenterCrop), constants(size=(3, 2))),
        Subject("Scale", augmented(data.Scale), constants(size=(3, 2))),
        Subject("RandomAffine", augmented(data.RandomAffine), affine, ("augment",)),
        Subject("RandomRotation", augmented(data.RandomRotation), {**constants(degrees=(-10.0, 20.0), center=(2.0, 2.0)), **border}, ("augment",)),
        Subject("RandomPerspective", augmented(data.RandomPerspective), {**constants(distortion_scale=0.4, p=0.5), **border}, ("augment",)),
        Subject("LensDistortion", augmented(data.LensDistortion), {**constants(k1=0.1, k2=(-0.05, 0.1), p=0.5), **border}, ("augment",)),
        Subject("GaussianNoise", augmented(data.GaussianNoise), constants(std=0.1, p=0.5)),
        Subject("RandomResizedCrop", augmented(data.RandomResizedCrop), constants(size=3, scale=(0.2, 0.9), ratio=(0.5, 2.0))),
        Subject("ColorJitter", augmented(data.ColorJitter), constants(brightness=0.2, contrast=(0.5, 1.0), saturation=0.1, hue=0.1)),
        Subject("PCAColor", augmented(data.PCAColor), {"eigenvectors": lambda: np.eye(3), **constants(std=0.1, eigenvalues=(0.2, 0.1, 0.1), white=255.0)}),
        Subject("PCAColor.fit", data.PCAColor.fit, {"dataset": colours_set, **constants(std=0.1, white=255.0)}),
        Subject("RandomGrayscale", augmented(data.RandomGrayscale), constants(p=0.5)),
        Subject("RandomErasing", augmented(data.RandomErasing), constants(p=0.5, scale=(0.02, 0.3), ratio=(0.3, 3.3), value=0.0), ("augment",)),
        Subject("Cutout", augmented(data.Cutout), constants(size=2, value=0.0), ("augment",)),
        Subject("Flip", augmented(data.Flip), constants(p=0.5, alternating=True)),
        Subject("MixUp", mixed(data.MixUp), constants(alpha=0.2, p=0.5, num_classes=4)),
        Subject("CutMix", mixed(data.CutMix), constants(alpha=1.0, p=0.5, num_classes=4)),
        Subject("Shift", augmented(data.Shift), {**constants(down=1, right=-1), **border}, ("augment",)),
        Subject("Resize", data.Resize, constants(size=(3, 4), channels=1, highest=16, filter="bilinear")),
        Subject("ImageFiles", data.ImageFiles, {"resize": lambda: data.Resize(4), **constants(paths=["a.png", "b.png"], labels=[0, 1], classes=("a", "b"))}),
        Subject("split", data.split, {"dataset": rows_set, **constants(fraction=0.3, seed=0)}),
        Subject("train_validation_test", data.train_validation_test, {"dataset": rows_set, **constants(validation=0.2, test=0.2, seed=0)}, ("split",)),
        Subject("k_fold", lambda **a: list(data.k_fold(**a)), {"labels": labels, **constants(folds=3, seed=0)}),
        Subject("download", fetched, constants(name="mnist", root="sets", url="http://127.0.0.1:9/sets", progress=False), kinds=(OSError,)),
        Subject("spirals", data.spirals, constants(n=12, classes=3, noise=0.2, seed=0)),
        Subject("blobs", data.blobs, constants(n=12, classes=3, features=2, spread=0.3, seed=0)),
        Subject("stripes", data.stripes, constants(n=8, classes=2, size=4, noise=0.2, seed=0)),
        Subject("image_folder", data.image_folder, {"path": photos, **shown}, ("Resize",)),
        *(Subject(name, getattr(data, name), good, ("idx", "ArrayDataset")) for name, good in files.items()),
    ]  # fmt: skip


PLAIN = {
    "Augmentation": "abstract",
    "Dataset": "abstract",
    "Mix": "abstract",
    "Preprocessing": "abstract, called by the Loader",
    "Loader.batch.frames": "made by Loader.frames",
    "Loader.batch.mixing": "made by Loader.mixing",
    "Dataset.batch": "called by the Loader",
    "Dataset.raw": "called by the Loader",
    "ArrayDataset.gather": "called by the Loader",
    "Sets": "a record",
}
