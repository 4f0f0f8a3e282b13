"""CIFAR-10 in eight epochs: airbench94 (Jordan 2024, arXiv 2404.00498, github.com/KellerJordan/cifar10-airbench) and its Muon variant.

Result: not yet measured on a GPU. Published, with PyTorch in half precision on one A100: 94.01 % in 2.59 s (muon), in 3.83 s (sgd).
Conditions: the clock runs from the whitening of the first layer to the end of the evaluation (six views of each test image), with the data on
the device; a warm-up run before is not counted. float32, on a GPU with TF32 products (set_precision "medium"); with --precision bf16
activations and the operands of products lie in bfloat16. One run's accuracy deviates by 0.1 to 0.15 points: compare means over 20 runs or
more. bench/airbench.py runs it beside PyTorch. On two CPU cores a run takes about 25 minutes (estimated: 0.29 PFLOP at 0.2 TFLOP/s);
--width 0.25 --epochs 2 shows the same in two.

    python examples/airbench.py PATH [--recipe muon] [--device cuda] [--runs 20]

PATH: CIFAR-10 as published (folder or .tar.gz), or an .npz file of JPEG images; see fastnn.data.cifar10.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from math import ceil

import numpy as np

import fastnn
from fastnn import Tensor, data, models, nn, ops, optim, train
from fastnn.optim import schedules

WHITENED = 5000  # training images, evenly spread, whose patches the first layer whitens
WHITEN_EPOCHS = 3  # as long its bias is trained
AUGMENT = [data.RandomCrop(2, padding_mode="reflect"), data.Flip(alternating=True)]


@dataclass(frozen=True)
class Recipe:
    name: str
    epochs: float
    batch_size: int


RECIPES = {r.name: r for r in (Recipe("muon", 8, 2000), Recipe("sgd", 9.9, 1024))}


def sgd(model: models.Airbench94, batch_size: int, steps: int) -> optim.Lookahead:
    """Nesterov SGD whose rate and decay are those of the mean over 1,024 samples and of a unit step, whatever the momentum; BN biases
    learn 64 times as fast. Every 5 steps the weights meet their slow average."""
    momentum = 0.85
    unit = 1024 * (1 + 1 / (1 - momentum))
    lr, decay = 11.5 / unit, 0.0153 * batch_size / unit
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for name, p in named if ("norm" in name) == norms],
            "lr": schedules.triangle(rate, steps),
            "weight_decay": decay / rate,
        }
        for norms, rate in ((True, 64 * lr), (False, lr))
    ]
    optimizer = optim.SGD(groups, lr, momentum=momentum, nesterov=True)
    return optim.Lookahead(optimizer, k=5, alpha=schedules.lookahead(steps), model=model)


def muon(model: models.Airbench94, batch_size: int, steps: int, whiten_steps: int) -> optim.Together:
    """Muon for the filters, Nesterov SGD for biases and the head; all rates fall to 0 in a straight line."""
    decay, bias_lr, head_lr = 2e-6 * batch_size, 0.053, 0.67
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    filters = optim.Muon(
        [p for _, p in named if p.ndim == 4],
        schedules.linear(0.24, steps),
        momentum=0.6,
        weight_decay=0.0,
        ns_steps=3,
        adjust_lr_fn="none",
        renormalize=True,
    )
    others = [
        ([model.whiten.bias], bias_lr, whiten_steps),
        ([p for name, p in named if "norm" in name], bias_lr, steps),
        ([model.head.weight], head_lr, steps),
    ]
    groups = [{"params": params, "lr": schedules.linear(lr, end), "weight_decay": decay / lr} for params, lr, end in others]
    return optim.Together(filters, optim.SGD(groups, bias_lr, momentum=0.85, nesterov=True))


class Training:
    """The steps of a run, one after the other."""

    def __init__(
        self, model: models.Airbench94, recipe: Recipe, batch_size: int, steps: int, whiten_steps: int, precision: str = "float32"
    ) -> None:
        self.model, self.whiten_steps, self.precision, self.done = model, whiten_steps, precision, 0
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.2, reduction="sum")
        self.optimizer: optim.Optimizer
        if recipe.name == "muon":
            self.optimizer = muon(model, batch_size, steps, whiten_steps)
        else:
            self.optimizer = sgd(model, batch_size, steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.precision == "float32" else ops.cast(self.model(ops.cast(x, "bfloat16")), "float32")

    def step(self, x: Tensor, labels: Tensor) -> Tensor:
        """One update; the loss before it, summed over the batch."""
        if self.done == self.whiten_steps:
            self.model.whiten.bias.requires_grad = False
        self.optimizer.zero_grad()
        loss: Tensor = self.loss(self.forward(x), labels)
        loss.backward()
        self.optimizer.step()
        self.done += 1
        return loss

    def finish(self) -> None:
        if isinstance(self.optimizer, optim.Lookahead):
            self.optimizer.finish()


@dataclass(frozen=True)
class Result:
    seed: int
    accuracy: float
    seconds: float


class Sets:
    """Both sets and their preprocessing; on a GPU their bytes are copied there by the first batch and stay."""

    def __init__(self, training: data.ArrayDataset, test: data.ArrayDataset) -> None:
        self.training, self.test = training, test
        self.normalize = data.Normalize.fit(training)

    def some_images(self, count: int) -> np.ndarray:
        """Normalised training images from the whole set, which may be sorted by class."""
        count = min(count, len(self.training))
        return (
            data.Loader(self.training, count, normalize=self.normalize)
            .batch(np.linspace(0, len(self.training) - 1, count).astype(int))[0]
            .numpy()
        )


def run(
    sets: Sets,
    recipe: Recipe,
    *,
    seed: int,
    device: str = "cpu",
    width: float = 1.0,
    epochs: float | None = None,
    precision: str = "float32",
) -> Result:
    """One run from fresh weights."""
    fastnn.seed(seed)
    model = models.airbench94(width=width, muon=recipe.name == "muon").to(device)
    loader = data.Loader(
        sets.training,
        recipe.batch_size,
        shuffle=True,
        seed=seed,
        normalize=sets.normalize,
        augment=AUGMENT,
        drop_last=True,
        device=device,
    )
    epochs = epochs or recipe.epochs
    training = Training(model, recipe, recipe.batch_size, ceil(epochs * len(loader)), ceil(WHITEN_EPOCHS * len(loader)), precision)
    start = time.perf_counter()
    model.whiten_with(sets.some_images(WHITENED))
    left = ceil(epochs * len(loader))
    for epoch in range(ceil(epochs)):
        for _, (x, labels) in zip(range(left), loader.batches(epoch)):
            training.step(x, labels)
        left -= min(left, len(loader))
    training.finish()
    logits = train.average_views(model, sets.test, train.six_views(), sets.normalize, batch_size=2000, precision=precision)
    accuracy = float((logits.argmax(1) == sets.test.labels).mean())
    return Result(seed, accuracy, time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains airbench94 on CIFAR-10 and says accuracy and time.")
    parser.add_argument("path", help="CIFAR-10: folder, .tar.gz or .npz")
    parser.add_argument("--recipe", choices=RECIPES, default="muon")
    parser.add_argument("--device", default="cuda" if fastnn.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="how activations lie in memory")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--width", type=float, default=1.0, help="factor on the number of channels")
    parser.add_argument("--epochs", type=float, help="default: the recipe's")
    options = parser.parse_args()
    recipe, sets = RECIPES[options.recipe], Sets(*data.cifar10(options.path))
    settings = {name: getattr(options, name) for name in ("device", "width", "epochs", "precision")}
    if options.device != "cpu":
        fastnn.set_precision("medium")
        run(sets, recipe, seed=2**32, **settings)  # warm-up
    results = []
    for seed in range(options.runs):
        result = run(sets, recipe, seed=seed, **settings)
        results.append(result)
        print(f"run {seed}: accuracy {result.accuracy:.4f}, {result.seconds:.2f} s", flush=True)
    accuracies, seconds = ([getattr(r, name) for r in results] for name in ("accuracy", "seconds"))
    print(f"mean of {len(results)}: accuracy {np.mean(accuracies):.4f} (deviation {np.std(accuracies):.4f}), {np.mean(seconds):.2f} s")


if __name__ == "__main__":
    main()
