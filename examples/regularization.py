"""What keeps a network from learning its few training samples by heart: penalties, noise of every kind, averages of weights and of samples.

python examples/regularization.py [--epochs 20]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

import fastnn
from fastnn import data, nn, ops, optim, train

SAMPLES = 200  # of the training set: few enough to be learned by heart


class Residual(nn.Module):
    """x + branch(x), the branch dropped as often as its depth says."""

    def __init__(self, channels: int, p: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
        self.drop = nn.StochasticDepth(p)

    def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
        y: fastnn.Tensor = x + self.drop(self.branch(x))
        return y


def network(
    *, before: nn.Module | None = None, maps: nn.Module | None = None, features: nn.Module | None = None, depth: float = 0.0, **_: object
) -> nn.Sequential:
    fastnn.seed(0)
    blocks = [Residual(16, p) for p in nn.depth_rates(3, depth)]
    parts = [before, nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), *blocks, maps, nn.MaxPool2d(2), nn.Flatten(), features]
    return nn.Sequential(*[part for part in parts if part is not None], nn.Linear(256, 10))


RECIPES: dict[str, Callable[[], dict[str, object]]] = {
    "nothing": dict,
    "L2 penalty": lambda: {"l2": 1e-3},
    "L1 penalty": lambda: {"l1": 1e-4},
    "elastic net": lambda: {"l1": 5e-5, "l2": 5e-4},
    "Dropout": lambda: {"features": nn.Dropout(0.5)},
    "plain Dropout": lambda: {"features": nn.Dropout(0.5, inverted=False)},
    "Dropout2d": lambda: {"maps": nn.Dropout2d(0.2)},
    "DropConnect": lambda: {"features": nn.DropConnect(nn.Linear(256, 256), 0.5)},
    "StochasticDepth": lambda: {"depth": 0.3},
    "GaussianNoise": lambda: {"before": nn.GaussianNoise(0.3)},
    "EMA of the weights": lambda: {"ema": 0.95},
    "4 small batches a step": lambda: {"accumulate": 4},
}


def run(recipe: dict[str, object], sets: tuple[data.ArrayDataset, data.ArrayDataset], epochs: int) -> tuple[float, float, nn.Module]:
    """Accuracy on the samples trained on and on the test set, and the model."""
    training, test = sets
    model = network(**recipe)  # type: ignore[arg-type]
    options = {name: recipe[name] for name in ("l1", "l2", "ema", "accumulate") if name in recipe}
    trainer = train.Trainer(model, optim.Adam(model.parameters(), 3e-3), **options)  # type: ignore[arg-type]
    trainer.fit(training, epochs, batch_size=8 if "accumulate" in options else 32, progress=False)
    return trainer.evaluate(training)["accuracy"], trainer.evaluate(test)["accuracy"], model


def mean_of_samples(model: nn.Module, sets: tuple[data.ArrayDataset, data.ArrayDataset]) -> float:
    """Test accuracy of the mean probabilities under the noise of training."""
    training, test = sets
    x, labels = next(iter(data.Loader(test, len(test), normalize=data.Normalize.fit(training))))
    probabilities = nn.monte_carlo(model, x, 20, activation=lambda scores: ops.softmax(scores, 1))
    return float((probabilities.numpy().argmax(1) == labels.numpy()).mean())


def swa(sets: tuple[data.ArrayDataset, data.ArrayDataset], epochs: int) -> float:
    """The mean of the weights after each of the last epochs, its batch statistics recomputed."""
    training, test = sets
    model, normalize = network(), data.Normalize.fit(training)
    optimizer, loss_of, average = optim.Adam(model.parameters(), 3e-3), nn.CrossEntropyLoss(), optim.SWA(model)
    loader = data.Loader(training, 32, shuffle=True, normalize=normalize)
    for epoch in range(epochs):
        model.train()
        for x, labels in loader:
            optimizer.zero_grad()
            loss_of(model(x), labels).backward()
            optimizer.step()
        if epoch >= epochs // 2:
            average.update()
    with average.averaged():
        optim.update_bn(loader, model)
        return train.Trainer(model, optimizer, normalize=normalize).evaluate(test)["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs
    training, test = data.digits()
    chosen = np.random.default_rng(0).permutation(len(training))[:SAMPLES]
    sets = data.ArrayDataset(training.images[chosen], training.labels[chosen], training.classes), test
    print(f"{SAMPLES} training samples, {epochs} epochs")
    for name, recipe in RECIPES.items():
        on_training, on_test, model = run(recipe(), sets, epochs)
        print(f"  {name:24}  training accuracy {on_training:6.1%}  test accuracy {on_test:.1%}")
        if name == "Dropout":
            print(f"  {'  mean of 20 samples':24}  {'':24}  test accuracy {mean_of_samples(model, sets):.1%}")
    print(f"  {'SWA, statistics anew':24}  {'':24}  test accuracy {swa(sets, epochs):.1%}")


if __name__ == "__main__":
    main()
