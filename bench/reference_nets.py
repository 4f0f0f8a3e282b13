"""The five networks whose training step is measured: what goes in, and what updates them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ReferenceNet:
    batch: int
    input_shape: tuple[int, int, int]
    classes: int
    optimizer: str  # "adam", or "sgd" with momentum 0.9
    lr: float = 1e-3

    def batches(self, count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """Random images (N, C, H, W) and labels."""
        rng = np.random.default_rng(seed)
        return [
            (rng.standard_normal((self.batch, *self.input_shape), np.float32), rng.integers(0, self.classes, self.batch))
            for _ in range(count)
        ]


REFERENCE_NETS = {
    "mlp": ReferenceNet(128, (1, 28, 28), 10, "sgd"),
    "lenet": ReferenceNet(64, (1, 28, 28), 10, "adam"),
    "vgg": ReferenceNet(128, (3, 32, 32), 10, "adam"),
    "resnet20": ReferenceNet(128, (3, 32, 32), 10, "sgd"),
    "resnet18": ReferenceNet(16, (3, 224, 224), 1000, "sgd"),
}
