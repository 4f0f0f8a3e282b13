"""One small network on the digits inside the package, under every loss that tells classes apart, with one training loop written out: class weights,
samples that do not count, gradients clipped by value, and how far each step moves the weights.

    python examples/losses.py [--epochs 5]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
from fastnn import data, nn, optim

UNKNOWN = 10  # the label of samples that count nothing

CLASSES: dict[str, Callable[[], Any]] = {
    "CrossEntropyLoss": nn.CrossEntropyLoss,
    "class weights": lambda: nn.CrossEntropyLoss(np.where(np.arange(10) == 8, 3.0, 1.0)),  # eights are the hardest
    "ignore_index": lambda: nn.CrossEntropyLoss(ignore_index=UNKNOWN),
    "label smoothing": lambda: nn.CrossEntropyLoss(label_smoothing=0.1),
    "NLLLoss": nn.NLLLoss,
    "MulticlassSVMLoss": nn.MulticlassSVMLoss,
    "MultiMarginLoss": lambda: nn.MultiMarginLoss(p=2),
}
ONE_HOT: dict[str, Callable[[], Any]] = {
    "BCEWithLogitsLoss": lambda: nn.BCEWithLogitsLoss(pos_weight=[9.0]),  # one class of ten is right
    "MSELoss": nn.MSELoss,
    "L1Loss": nn.L1Loss,  # learns medians, and the median of nine zeros and a one is 0: hardly more than chance
    "SmoothL1Loss": nn.SmoothL1Loss,
    "HuberLoss": lambda: nn.HuberLoss(delta=0.5),
}


def network(*end: nn.Module) -> nn.Sequential:
    first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(first, nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10), *end)


def run(name: str, sets: tuple[data.ArrayDataset, data.ArrayDataset], epochs: int) -> tuple[float, list[float]]:
    """Accuracy on the test set, and the last step's update/weight ratios."""
    training, test = sets
    normalize = data.Normalize.fit(training)
    fastnn.seed(0)
    model, loss_of = network(*[nn.LogSoftmax(1)] * (name == "NLLLoss")), {**CLASSES, **ONE_HOT}[name]()
    optimizer = optim.Adam(model.parameters(), 2e-3)
    optimizer.measure_updates = True
    loader = data.Loader(training, 32, shuffle=True, normalize=normalize)
    for x, labels in (batch for _ in range(epochs) for batch in loader):
        target = labels.numpy()
        if name == "ignore_index":
            target = np.where(np.arange(len(target)) % 5 == 0, UNKNOWN, target)
        optimizer.zero_grad()
        loss = loss_of(model(x), np.eye(10, dtype=np.float32)[target] if name in ONE_HOT else target)
        loss.backward()
        optim.clip_grad_value_(model.parameters(), 0.1)
        optimizer.step()
    model.eval()
    x, labels = next(iter(data.Loader(test, len(test), normalize=normalize)))
    return float((model(x).numpy().argmax(1) == labels.numpy()).mean()), optimizer.update_ratios()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    epochs = parser.parse_args().epochs
    sets = data.digits()
    print(f"{epochs} epochs; update/weight ratios of the last step, about 1e-3 is right")
    for name in (*CLASSES, *ONE_HOT):
        accuracy, ratios = run(name, sets, epochs)
        print(f"  {name:20}  ratios {np.nanmin(ratios):.0e} to {np.nanmax(ratios):.0e}  test accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
