"""What the lectures do to data before a network sees them: the mean image, one mean and deviation per channel, principal components, and PCA and ZCA
whitening. Each is fitted on the training set, and a linear classifier is trained on what comes out; pictures show what that is.

    python examples/preprocessing.py [--out FOLDER]      # pictures go there; they need matplotlib (pip install '.[plot]')
"""

from __future__ import annotations

import argparse
import importlib.util
import os

import numpy as np

import fastnn
from fastnn import data, models, optim, train


def points(out: str) -> None:
    """The lectures' figure: a cloud of points as it is, centred, along its own axes, and with the same spread along both."""
    from matplotlib.figure import Figure

    random = np.random.default_rng(0)
    cloud = random.normal(size=(500, 2)) @ np.array([[3.0, 1.5], [0.0, 0.8]]) + (4, 2)
    dataset = data.ArrayDataset(cloud, np.zeros(500, int))
    stages = {
        "original": cloud,
        "less the mean": data.MeanImage.fit(dataset)(cloud).numpy(),
        "PCA: decorrelated": data.PCA.fit(dataset, 2)(cloud).numpy(),
        "PCA: whitened": data.PCA.fit(dataset, 2, whiten=True)(cloud).numpy(),
        "ZCA: whitened": data.ZCA.fit(dataset, eps=1e-5)(cloud).numpy(),
    }
    figure = Figure(figsize=(3 * len(stages), 3.2))
    axes = figure.subplots(1, len(stages), sharex=True, sharey=True)
    for axis, (name, x) in zip(axes, stages.items()):
        axis.scatter(*x.T, s=3)
        axis.axhline(0, color="grey", lw=0.5), axis.axvline(0, color="grey", lw=0.5)
        axis.set(title=name, aspect="equal")
    figure.savefig(os.path.join(out, "preprocessing_points.png"), dpi=100)


def pictures(training: data.ArrayDataset, out: str) -> None:
    """Images, the directions in which they vary most, what sixteen of these keep, and whitened images."""
    from matplotlib.figure import Figure

    few, pca, zca = training.images[:10], data.PCA.fit(training, 16), data.ZCA.fit(training)
    lines = {
        "images": few,
        "less the mean image": data.MeanImage.fit(training)(few).numpy(),
        "eigen-images": pca.components[:10],
        "16 components": pca.inverse(pca(few)),
        "ZCA-whitened": zca(few).numpy(),
        "and back": zca.inverse(zca(few)),
    }
    figure = Figure(figsize=(10, 1.15 * len(lines)))
    axes = figure.subplots(len(lines), 10)
    for row, (name, images) in zip(axes, lines.items()):
        for axis, image in zip(row, images):
            axis.imshow(image[0], cmap="gray", interpolation="nearest")
            axis.set_xticks([]), axis.set_yticks([])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    figure.savefig(os.path.join(out, "preprocessing_images.png"), dpi=100, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=".", help="folder for the pictures")
    out = parser.parse_args().out
    training, test = data.digits()
    kinds = {
        "mean image": data.MeanImage.fit(training),
        "channel mean": data.Normalize.fit(training, std=False),
        "channel mean, std": data.Normalize.fit(training),
        "PCA, 90 %": data.PCA.fit(training, 0.9),
        "PCA, whitened": data.PCA.fit(training, 0.9, whiten=True),
        "ZCA, eps 0.1": data.ZCA.fit(training, eps=0.1),
        "ZCA, eps 1e-5": data.ZCA.fit(training, eps=1e-5),
    }
    for name, normalize in kinds.items():
        fastnn.seed(0)
        model = models.create("linear", input_shape=normalize.output_shape(training.shape), num_classes=10)
        rate = 0.5 / np.square(normalize(training.images).numpy()).reshape(len(training), -1).sum(1).mean()  # for inputs of any length
        trainer = train.Trainer(model, optim.SGD(model.parameters(), rate, momentum=0.9), normalize=normalize)
        history = trainer.fit(training, 10, batch_size=64, progress=False)
        loss = history.rows[-1]["loss"]
        shape, accuracy = str(normalize.output_shape(training.shape)), trainer.evaluate(test)["accuracy"]
        print(f"  {name:<18} -> {shape:<10} loss {loss:6.3f}  test accuracy {accuracy:.1%}")
    if importlib.util.find_spec("matplotlib") is None:
        print("no pictures: matplotlib is not installed")
        return
    os.makedirs(out, exist_ok=True)
    points(out)
    pictures(training, out)
    print(f"pictures in {out}: preprocessing_points.png, preprocessing_images.png")


if __name__ == "__main__":
    main()
