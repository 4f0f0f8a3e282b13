"""Every optimizer of the course on the same network, every schedule with one of them, and the two methods that want the whole data set at once.

python examples/optimizers.py [--epochs 3]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import fastnn
from fastnn import data, nn, optim, train
from fastnn.optim import schedules

Sets = tuple[data.ArrayDataset, data.ArrayDataset]
BATCH = 64


def network() -> nn.Sequential:
    fastnn.seed(0)
    features = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU()
    )
    return nn.Sequential(features, nn.Flatten(), nn.Linear(128, 10))


def muon(model: nn.Module) -> optim.Optimizer:
    """Muon turns the filters, SGD the rest."""
    filters = [p for p in model.parameters() if p.ndim == 4]
    rest = [p for p in model.parameters() if p.ndim != 4]
    return optim.Together(optim.Muon(filters, 0.02), optim.SGD(rest, 0.05, momentum=0.9))


OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "SGD": lambda model: optim.SGD(model.parameters(), 0.1),
    "momentum": lambda model: optim.SGD(model.parameters(), 0.05, momentum=0.9),
    "Nesterov": lambda model: optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True),
    "Adagrad": lambda model: optim.Adagrad(model.parameters(), 0.02),
    "RMSprop": lambda model: optim.RMSprop(model.parameters(), 1e-3),
    "Adam": lambda model: optim.Adam(model.parameters(), 3e-3),
    "AdamW, no decay on biases and norms": lambda model: optim.AdamW(optim.groups(model, weight_decay=0.05), 3e-3),
    "half the rate for the features": lambda model: optim.Adam(optim.groups(model, lr=3e-3, factors={"0": 0.5}), 3e-3),
    "Lookahead of SGD": lambda model: optim.Lookahead(optim.SGD(model.parameters(), 0.05, momentum=0.9), k=5, alpha=0.5, model=model),
    "Muon": muon,
}

AT_ONCE: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "L-BFGS, 3 calls of 20 iterations": lambda model: optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe"),
    "Newton, 3 steps": lambda model: optim.NewtonCG(model.parameters(), cg_iterations=30),
}


def schedules_of(steps: int) -> dict[str, schedules.Schedule]:
    lr = 0.1
    return {
        "constant": schedules.constant(lr),
        "step": schedules.step(lr, [steps * part // 100 for part in (30, 60, 90)]),
        "cosine": schedules.cosine(lr, steps),
        "linear": schedules.linear(lr, steps),
        "inverse square root": schedules.inverse_sqrt(lr),
        "exponential": schedules.exponential(lr, 0.98),
        "warm-up, then cosine": schedules.warmup(schedules.cosine(lr, steps), steps // 10),
        "cosine with restarts": schedules.cosine_restarts(lr, steps // 2),
        "one cycle": schedules.one_cycle(lr, steps),
        "triangle": schedules.triangle(lr, steps),
        "reduce on plateau": schedules.ReduceOnPlateau(lr, patience=1),
        "two workers' worth": schedules.linear_rule(schedules.cosine(lr / 2, steps), 2),
    }


def accuracy(model: nn.Module, optimizer: optim.Optimizer, sets: Sets, epochs: int, **options: object) -> float:
    training, test = sets
    training, validation = data.split(training, 0.1)
    trainer = train.Trainer(model, optimizer, **options)  # type: ignore[arg-type]
    trainer.fit(training, epochs, validation, batch_size=BATCH, progress=False)
    return trainer.evaluate(test)["accuracy"]


def fit_at_once(make: Callable[[nn.Module], optim.Optimizer], x: fastnn.Tensor, labels: fastnn.Tensor) -> tuple[nn.Module, list[float]]:
    """Softmax regression with a penalty, a convex problem: three steps; the losses before each and after the last."""
    fastnn.seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    optimizer, loss_of, penalty = make(model), nn.CrossEntropyLoss(), nn.Penalty(model, l2=1e-3)

    def closure() -> fastnn.Tensor:
        optimizer.zero_grad()
        loss: fastnn.Tensor = loss_of(model(x), labels) + penalty()
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure)) for _ in range(3)]  # type: ignore[arg-type]
    return model, [*losses, float(closure())]


def whole_set(part: data.ArrayDataset, normalize: data.Normalize) -> tuple[fastnn.Tensor, fastnn.Tensor]:
    x, labels = next(iter(data.Loader(part, len(part), normalize=normalize)))
    return fastnn.tensor(x, dtype="float64"), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    epochs = parser.parse_args().epochs
    sets = data.digits()
    print(f"optimizers, {epochs} epochs")
    for name, make in OPTIMIZERS.items():
        model = network()
        print(f"  {name:36}  test accuracy {accuracy(model, make(model), sets, epochs):.1%}")
    steps = epochs * -(-int(0.9 * len(sets[0])) // BATCH)
    print("schedules of SGD with momentum, gradients clipped at norm 5")
    for name, rate in schedules_of(steps).items():
        model = network()
        reached = accuracy(model, optim.SGD(model.parameters(), rate, momentum=0.9), sets, epochs, clip_norm=5.0)
        print(f"  {name:36}  test accuracy {reached:.1%}")
    print("all samples in every step; Newton's directions come from conjugate gradients")
    normalize = data.Normalize.fit(sets[0])
    (x, labels), (x_test, labels_test) = (whole_set(part, normalize) for part in sets)
    for name, make in AT_ONCE.items():
        model, losses = fit_at_once(make, x, labels)
        right = (model(x_test).argmax(1) == labels_test).mean().item()
        print(f"  {name:36}  loss {' '.join(f'{loss:.4f}' for loss in losses)}  test accuracy {right:.1%}")


if __name__ == "__main__":
    main()
