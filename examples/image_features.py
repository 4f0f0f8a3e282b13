"""What images were described by before networks learned it: a histogram of colours, a histogram of oriented gradients, and a bag of visual
words. Each is the input of a linear classifier, alone and all together.

    python examples/image_features.py [--images 1200]     # HOG needs scikit-image (pip install scikit-image), and is left out without it

The images are the digits of the package on coloured grounds of 32 x 32: colour tells pairs of classes apart from other pairs, shape tells
the two of a pair apart, so that no feature knows everything.
"""

from __future__ import annotations

import argparse
import colorsys
import importlib.util

import numpy as np

import fastnn
from fastnn import data, neighbors, nn, optim, train


def coloured_digits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(count, 32, 32, 3) bytes and labels: a digit, 24 x 24, anywhere, on a ground whose hue is about that of its pair of classes."""
    random = np.random.default_rng(seed)
    digits, _ = data.digits()
    images, labels = np.empty((count, 32, 32, 3), np.uint8), digits.labels[:count]
    for i in range(count):
        ground = np.array(colorsys.hsv_to_rgb((labels[i] // 2 / 5 + random.normal(0, 0.09)) % 1, 0.8, 0.6))
        image = 255 * ground + random.normal(0, 12, (32, 32, 3))
        y, x = random.integers(0, 9, 2)
        ink = np.kron(digits.images[i, 0] / 16, np.ones((3, 3)))[..., None]
        image[y : y + 24, x : x + 24] += ink * (255 - image[y : y + 24, x : x + 24])
        images[i] = image.clip(0, 255)
    return images, labels


def colour_histogram(images: np.ndarray, bins: int = 12) -> np.ndarray:
    """How many pixels have which hue, weighted by how colourful they are."""
    pixels = images.reshape(len(images), -1, 3).astype(np.float32) / 255
    top, low = pixels.max(2), pixels.min(2)
    spread = np.where(top > low, top - low, 1)
    r, g, b = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    hue = np.where(top == r, (g - b) / spread % 6, np.where(top == g, (b - r) / spread + 2, (r - g) / spread + 4))
    places = np.minimum((hue / 6 * bins).astype(np.int64), bins - 1) + bins * np.arange(len(images))[:, None]
    counts = np.bincount(places.reshape(-1), (top - low).reshape(-1), bins * len(images)).reshape(-1, bins)
    return (counts / pixels.shape[1]).astype(np.float32)


def oriented_gradients(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients (Dalal, Triggs 2005)."""
    from skimage.feature import hog

    return np.stack([hog(image, 9, (8, 8), (2, 2), channel_axis=-1) for image in images]).astype(np.float32)


def patches(images: np.ndarray, side: int = 8, step: int = 4) -> np.ndarray:
    """(N, places, side^2) grey patches, each less its mean and brought to length 1 (flat ones stay short)."""
    grey = images.astype(np.float32).mean(3)
    windows = np.lib.stride_tricks.sliding_window_view(grey, (side, side), (1, 2))[:, ::step, ::step]
    flat = windows.reshape(len(images), -1, side * side)
    flat = flat - flat.mean(2, keepdims=True)
    return flat / (np.linalg.norm(flat, axis=2, keepdims=True) + 100)


def k_means(samples: np.ndarray, k: int, rounds: int = 12, seed: int = 0) -> np.ndarray:
    """k centres: each round every sample goes to its nearest centre, and every centre to the middle of its samples (Lloyd 1957)."""
    centres = samples[np.random.default_rng(seed).choice(len(samples), k, replace=False)]
    for _ in range(rounds):
        nearest = neighbors.distances(samples, centres).argmin(1)
        sizes = np.bincount(nearest, minlength=k)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, samples)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
    return centres


def visual_words(images: np.ndarray, words: np.ndarray) -> np.ndarray:
    """How many of an image's patches, in each quarter of it, are nearest to which word (Csurka et al. 2004; Lazebnik et al. 2006)."""
    described = patches(images)
    side = int(described.shape[1] ** 0.5)
    nearest = neighbors.distances(described.reshape(-1, described.shape[2]), words).argmin(1).reshape(len(images), side, side)
    rows, columns = (axis * 2 // side for axis in np.indices((side, side)))
    places = nearest + len(words) * (2 * rows + columns) + 4 * len(words) * np.arange(len(images))[:, None, None]
    counts = np.bincount(places.reshape(-1), minlength=len(images) * 4 * len(words))
    return (counts.reshape(len(images), -1) / side**2).astype(np.float32)


def judge(name: str, features: np.ndarray, labels: np.ndarray, test: int) -> None:
    """A linear classifier on standardised features; the last `test` images are for the test."""
    training, tested = slice(None, -test), slice(-test, None)
    mean, std = features[training].mean(0), features[training].std(0) + 1e-3
    rows = (features - mean) / std
    fastnn.seed(0)
    model = nn.Linear(rows.shape[1], 10)
    whole = data.Normalize([0.0] * rows.shape[1], [1.0] * rows.shape[1])  # as they are
    trainer = train.Trainer(model, optim.Adam(model.parameters(), 3e-3), nn.MulticlassSVMLoss(), l2=1e-2, normalize=whole)
    trainer.fit((rows[training], labels[training]), 20, batch_size=50, progress=False)
    accuracy = trainer.evaluate((rows[tested], labels[tested]))["accuracy"]
    print(f"{name:32} {rows.shape[1]:5} features   test accuracy {accuracy:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1200, help="how many, at most 1438")
    images, labels = coloured_digits(parser.parse_args().images)
    test = len(images) // 4
    features = {"pixels": images.reshape(len(images), -1).astype(np.float32), "colour histogram": colour_histogram(images)}
    if importlib.util.find_spec("skimage") is not None:
        features["oriented gradients"] = oriented_gradients(images)
    else:
        print("without histograms of oriented gradients: scikit-image is not installed (pip install scikit-image)")
    described = patches(images[:-test])  # the words are learned from the training images only
    features["bag of visual words"] = visual_words(images, k_means(described.reshape(-1, described.shape[2]), 64))
    for name, values in features.items():
        judge(name, values, labels, test)
    judge("all of them but pixels", np.concatenate([v for n, v in features.items() if n != "pixels"], 1), labels, test)


if __name__ == "__main__":
    main()
