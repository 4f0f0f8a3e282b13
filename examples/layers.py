"""One small network on the digits inside the package, with every activation, pooling, normalisation and block of the course in its place; and an
autoencoder that goes back up with transposed convolutions or upsampling.

    python examples/layers.py [--epochs 10]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import fastnn
from fastnn import data, models, nn, ops, optim, train
from fastnn.models.resnet import BasicBlock

WIDTH = 32

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    kind.__name__: kind for kind in (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus)
}
POOLS: dict[str, Callable[[], nn.Module]] = {
    "MaxPool2d": lambda: nn.MaxPool2d(2),
    "AvgPool2d": lambda: nn.AvgPool2d(2),
    "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d(4),
    "MaxPool2d, dilated": lambda: nn.MaxPool2d(3, stride=1, dilation=2),
    "FractionalMaxPool2d": lambda: nn.Sequential(nn.FractionalMaxPool2d(2, output_size=5), nn.AdaptiveMaxPool2d(4)),
}
NORMS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "BatchNorm2d": lambda: nn.BatchNorm2d(WIDTH),
    "LayerNorm": lambda: nn.LayerNorm((WIDTH, 8, 8)),
    "GroupNorm": lambda: nn.GroupNorm(4, WIDTH),
}
BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "3x3 convolution": lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
    "reflected borders": lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1, padding_mode="reflect"),
    "depthwise and 1x1": lambda: nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH), nn.Conv2d(WIDTH, WIDTH, 1)),
    "residual": lambda: BasicBlock(WIDTH, WIDTH, 1),
    "SqueezeExcite": lambda: nn.SqueezeExcite(WIDTH, 8),
}


def network(
    activation: Callable[[], nn.Module] = nn.ReLU,
    pool: Callable[[], nn.Module] = POOLS["MaxPool2d"],
    norm: Callable[[], nn.Module] = NORMS["BatchNorm2d"],
    block: Callable[[], nn.Module] = BLOCKS["3x3 convolution"],
    head: Callable[[], nn.Module] = lambda: nn.Linear(16 * WIDTH, 10),
) -> nn.Sequential:
    first = nn.Sequential(nn.Conv2d(1, WIDTH, 3, padding=1), norm(), activation())
    return nn.Sequential(first, pool(), block(), activation(), nn.Flatten(), head())


def accuracy(model: nn.Module, sets: tuple[data.ArrayDataset, data.ArrayDataset], epochs: int) -> float:
    training, test = sets
    trainer = train.Trainer(model, optim.Adam(model.parameters(), 3e-3))
    trainer.fit(training, epochs, batch_size=64, progress=False)
    return trainer.evaluate(test)["accuracy"]


class Autoencoder(nn.Module):
    """8x8 -> 4x4 -> 8x8."""

    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU())
        self.up = up

    def forward(self, x: fastnn.Tensor) -> fastnn.Tensor:
        return ops.sigmoid(self.up(self.down(x)))


def reconstruct(up: nn.Module, training: data.ArrayDataset, epochs: int) -> float:
    """The mean squared error per pixel of the last epoch."""
    model, loss_of = Autoencoder(up), nn.MSELoss()
    optimizer = optim.Adam(model.parameters(), 1e-2)
    to_unit = data.Normalize([0.0], [16.0 if training.images.max() <= 16 else 255.0])
    for _ in range(epochs):
        total = 0.0
        for x, _labels in data.Loader(training, 64, shuffle=True, normalize=to_unit):
            optimizer.zero_grad()
            loss = loss_of(model(x), x)
            loss.backward()
            optimizer.step()
            total += len(x) * float(loss)
    return total / len(training)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs
    sets = data.digits()
    for title, choices, name in (
        ("activation", ACTIVATIONS, "activation"),
        ("pooling", POOLS, "pool"),
        ("normalisation", NORMS, "norm"),
        ("block", BLOCKS, "block"),
    ):
        print(f"{title}, {epochs} epochs")
        for label, choice in choices.items():
            fastnn.seed(0)
            print(f"  {label:20}  test accuracy {accuracy(network(**{name: choice}), sets, epochs):.1%}")
    fastnn.seed(0)
    print(f"  {'Maxout as the head':20}  test accuracy {accuracy(network(head=lambda: nn.Maxout(16 * WIDTH, 10, 2)), sets, epochs):.1%}")
    fastnn.seed(0)
    print(f"  {'ResNet-20':20}  test accuracy {accuracy(models.create('resnet20', input_shape=(1, 8, 8), num_classes=10), sets, 1):.1%}")
    print("up again, squared error per pixel")
    ups: dict[str, Callable[[], nn.Module]] = {
        "ConvTranspose2d": lambda: nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1),
        "Upsample nearest": lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 1, 3, padding=1)),
        "Upsample bilinear": lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(8, 1, 3, padding=1)),
        "Upsample bicubic": lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bicubic"), nn.Conv2d(8, 1, 3, padding=1)),
    }
    for label, up in ups.items():
        fastnn.seed(0)
        print(f"  {label:20}  error {reconstruct(up(), sets[0], epochs):.4f}")


if __name__ == "__main__":
    main()
