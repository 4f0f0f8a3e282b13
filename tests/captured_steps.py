"""Steps to capture: nets, optimizers, and both ways of running them side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kernel_calls
import numpy as np

import fastnn
from fastnn import models, nn, optim

DEVICE = kernel_calls.DEVICES[-1]


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
        nn.Linear(54, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10),
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: models.create("mlp", input_shape=(1, 8, 8), hidden=(24, 16)), (1, 8, 8)),
    "lenet": (lenet, (1, 12, 12)),
    "resnet20": (lambda: models.create("resnet20", input_shape=(3, 8, 8)), (3, 8, 8)),
}
OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lambda step: 0.05 / (1 + step % 3), momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: optim.Adam(p, lambda step: 1e-2 * 0.9**step),
    "muon and adam": lambda p: muon_and_adam(list(p)),
}


def muon_and_adam(parameters: list[fastnn.Tensor]) -> optim.Optimizer:
    """Several launches in each step."""
    matrices, vectors = ([p for p in parameters if (p.ndim > 1) == which] for which in (True, False))
    return optim.Together(optim.Muon(matrices, 0.02), optim.Adam(vectors, 0.01))


class Training:
    """A model with its optimizer and data; `step` is what is captured."""

    def __init__(self, net: str = "lenet", optimizer: str = "sgd", batch: int = 5, seed: int = 3) -> None:
        make, shape = NETS[net]
        fastnn.seed(seed)
        self.model = make().to(DEVICE)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.loss = nn.CrossEntropyLoss()
        rng = np.random.default_rng(0)
        self.data = [
            (fastnn.tensor(rng.standard_normal((batch, *shape), np.float32), device=DEVICE), fastnn.tensor(rng.integers(0, 10, batch)))
            for _ in range(3)
        ]
        self.generator = fastnn.Generator(4)

    def step(self, x: fastnn.Tensor, labels: fastnn.Tensor) -> tuple[fastnn.Tensor, fastnn.Tensor]:
        self.optimizer.zero_grad()
        logits = self.model(x)
        loss = self.loss(logits, labels)
        loss.backward()
        self.optimizer.step()
        return loss, logits

    def state(self) -> list[bytes]:
        """Everything that a step changes, and the gradients."""
        arrays = [*self.model.state_dict().values(), *map(np.asarray, self.optimizer.state_dict().values())]
        arrays += [p.grad.numpy() for p in self.model.parameters() if p.grad is not None]
        return [np.ascontiguousarray(a).tobytes() for a in arrays] + [str(self.generator.draw).encode()]

    def call(self, step: Callable[..., Any], *arguments: Any) -> Any:
        with fastnn.random.using(self.generator):
            return step(*arguments)

    def run(self, step: Callable[..., Any], steps: int) -> list[Any]:
        seen = []
        for i in range(steps):
            loss, logits = self.call(step, *self.data[i % 3])
            seen.append((loss.numpy().tobytes(), logits.numpy().tobytes(), self.state()))
        return seen


def compare(steps: int, **arguments: Any) -> fastnn.captured.Captured:
    """The same steps eagerly and captured."""
    a, b = Training(**arguments), Training(**arguments)
    captured = fastnn.capture(b.step)
    expected, got = a.run(a.step, steps), b.run(captured, steps)
    for i, (e, g) in enumerate(zip(expected, got)):
        assert e == g, f"step {i}"
    assert captured.kernels, "nothing was recorded"
    assert captured._takes[0].runs == steps, "it did not replay"
    return captured
