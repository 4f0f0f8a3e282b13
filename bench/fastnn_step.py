"""A training step of a reference net in fastnn."""

from __future__ import annotations

import itertools

import fastnn
from fastnn import models, nn, optim
from fastnn.train.precision import Forward

from .reference_nets import REFERENCE_NETS


class FastnnStep:
    """Each call: forward, loss, backward, optimizer, on the next of a few random batches, replayed as by the Trainer. Returns the loss."""

    def __init__(self, name: str, threads: int, batches: int = 4, place: str | None = None, mixed: bool = False) -> None:
        """`place`: a device's name; left out, the bench's, which also holds PyTorch's and so imports it. `mixed`: bfloat16 activations."""
        fastnn.set_num_threads(threads)
        if place is None:
            from . import device

            place = device.current.name
        net = REFERENCE_NETS[name]
        self.model = models.create(name, input_shape=net.input_shape, num_classes=net.classes)
        if place != "cpu":
            self.model.to(place)
        self.forward = Forward(self.model, "bf16" if mixed else "float32")
        self.loss = nn.CrossEntropyLoss()
        self.optimizer: optim.Optimizer
        if net.optimizer == "adam":
            self.optimizer = optim.Adam(self.model.parameters(), net.lr)
        else:
            self.optimizer = optim.SGD(self.model.parameters(), net.lr, momentum=0.9)
        self.batches = itertools.cycle([(fastnn.tensor(x, device=place), fastnn.tensor(t)) for x, t in net.batches(batches)])
        self.replayed = fastnn.capture(self.eager)

    def set_dropout(self, p: float) -> None:
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = p
        self.replayed = fastnn.capture(self.eager)

    def eager(self, x: fastnn.Tensor, labels: fastnn.Tensor) -> fastnn.Tensor:
        self.optimizer.zero_grad()
        loss: fastnn.Tensor = self.loss(self.forward(x), labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def __call__(self) -> fastnn.Tensor:
        loss: fastnn.Tensor = self.replayed(*next(self.batches))
        return loss
