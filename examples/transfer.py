"""Transfer learning, as the lectures' table has it: a network that was trained on some images is turned to others.

python examples/transfer.py                # digits: it knows 0 to 4, and learns 5 to 9, of few images and of many
python examples/transfer.py --photos       # it knows JPEG CIFAR-10, and learns ants and bees; both lie in $FASTNN_DATA or --data
"""

from __future__ import annotations

import argparse
import os
import tarfile
import warnings
from collections.abc import Callable
from copy import deepcopy

import numpy as np

import fastnn
from fastnn import data, models, nn, optim, train


def pretrained(model: nn.Module, images: data.Dataset, epochs: int, out: str, augment: list[data.Augmentation]) -> str:
    """Trains on the first images, and returns the file of it."""
    normalize = data.Normalize.fit(images)
    loader = data.Loader(images, 64, shuffle=True, normalize=normalize, augment=augment)
    trainer = train.Trainer(model, optim.Adam(model.parameters(), optim.schedules.cosine(2e-3, epochs, unit="epoch")), normalize=normalize)
    trainer.fit(loader, epochs, progress=False)
    print(f"pretrained: training accuracy {100 * trainer.history['accuracy'][-1]:.1f}%")
    path = os.path.join(out, "pretrained.safetensors")
    trainer.save_model(path)
    return path


def compared(
    make: Callable[[], nn.Module], path: str, images: data.Dataset, test: data.Dataset, epochs: int, augment: list[data.Augmentation]
) -> None:
    """The new images by a network that begins anew, and in the four ways of the table."""
    normalize = data.Normalize.fit(images)
    loader = data.Loader(images, 32, shuffle=True, normalize=normalize, augment=augment)
    fastnn.seed(0)
    fresh = make()
    train.replace_head(fresh, images.num_classes)
    trainer = train.Trainer(fresh, optim.Adam(fresh.parameters(), optim.schedules.cosine(1e-3, epochs, unit="epoch")), normalize=normalize)
    trainer.fit(loader, epochs, progress=False)
    print(f"  from the beginning                              test accuracy {100 * trainer.evaluate(test)['accuracy']:.1f}%")
    base = make()
    train.load_pretrained(base, path)  # anybody's: PyTorch's .pth and safetensors as well
    theirs = train.load_model(path).normalize
    prepared = data.Loader(images, 32, shuffle=True, normalize=theirs, augment=augment)
    for similar, much in ((True, False), (True, True), (False, True), (False, False)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that few and different images are hard to learn from
            result = train.transfer(deepcopy(base), prepared, similar=similar, much=much, epochs=epochs, normalize=theirs, progress=False)
        print(f"  {result.plan.method:<46}  test accuracy {100 * result.trainer.evaluate(test)['accuracy']:.1f}%")
        for layer, accuracy in result.stages.items():
            print(f"      {layer:<12} {100 * accuracy:5.1f}% of the folds{' <- taken' if layer == result.layer else ''}")


def digits(options: argparse.Namespace) -> None:
    training, test = data.digits()
    few = np.flatnonzero(training.labels >= 5)
    five = data.ArrayDataset(training.images[few], training.labels[few] - 5)
    theirs = test.take(test.labels >= 5)
    judged = data.ArrayDataset(theirs.images, theirs.labels - 5)

    def make() -> nn.Module:
        return models.create("vgg_small", input_shape=training.shape, num_classes=5)

    fastnn.seed(0)
    path = pretrained(make(), training.take(training.labels < 5), options.epochs or 8, options.out, [])
    for count in (25, len(five)):
        print(f"{count} images of the digits from 5 to 9")
        compared(make, path, five.take(np.arange(count)), judged, options.epochs or 8, [])


def photos(options: argparse.Namespace) -> None:
    first, _ = data.cifar10(os.path.join(options.data, "cifar10-jpeg", "cifar10-jpeg.npz"))
    with tarfile.open(os.path.join(options.data, "hymenoptera", "hymenoptera_data.tar")) as archive:
        archive.extractall(options.out, filter="data")
    sets = data.image_folder(os.path.join(options.out, "hymenoptera_data"), 32)
    test = sets.test if sets.test is not None else sets.validation
    assert test is not None

    def make() -> nn.Module:
        return models.create("resnet20", input_shape=first.shape, num_classes=10)

    crops: list[data.Augmentation] = [data.RandomCrop(4, padding_mode="reflect"), data.Flip()]
    fastnn.seed(0)
    path = pretrained(make(), first.take(np.arange(min(options.images, len(first)))), options.epochs or 10, options.out, crops)
    print(f"{len(sets.train)} photos of {' and '.join(sets.train.classes or ())}, 32 x 32 pixels")
    compared(make, path, sets.train, test, 20, crops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", action="store_true", help="JPEG CIFAR-10, then ants and bees")
    parser.add_argument("--data", default=os.environ.get("FASTNN_DATA", "."), help="the folder of cifar10-jpeg and hymenoptera")
    parser.add_argument("--images", type=int, default=50000, help="of CIFAR-10 that are trained on")
    parser.add_argument("--epochs", type=int, help="of the first training (default: 8 of digits, 10 of CIFAR-10)")
    parser.add_argument("--out", default="runs/transfer")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    (photos if options.photos else digits)(options)


if __name__ == "__main__":
    main()
