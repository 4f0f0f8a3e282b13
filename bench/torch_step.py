"""The same training step in PyTorch, in each of its forms."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch

from . import torch_nets
from .reference_nets import REFERENCE_NETS

FORMS = ("torch NCHW", "torch channels_last", "torch compile")


class TorchStep:
    """Each call: forward, loss, backward, optimizer (PyTorch's fused one), on the next of a few random batches. Returns the loss.

    The compiled form is channels_last, default mode.
    """

    def __init__(self, name: str, form: str, threads: int, batches: int = 4) -> None:
        torch.set_num_threads(threads)
        net = REFERENCE_NETS[name]
        layout = torch.contiguous_format if form == "torch NCHW" else torch.channels_last
        self.model = torch_nets.create(name).to(memory_format=layout)  # type: ignore[call-overload]
        self.run = torch.compile(self.model) if form == "torch compile" else self.model
        self.loss = torch.nn.CrossEntropyLoss()
        self.optimizer: torch.optim.Optimizer
        if net.optimizer == "adam":
            self.optimizer = torch.optim.Adam(self.model.parameters(), net.lr, fused=True)
        else:
            self.optimizer = torch.optim.SGD(self.model.parameters(), net.lr, momentum=0.9, fused=True)
        tensors = [(torch.from_numpy(x).to(memory_format=layout), torch.from_numpy(t)) for x, t in net.batches(batches)]
        self.batches = itertools.cycle(tensors)

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        self.model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})

    def set_dropout(self, p: float) -> None:
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = p

    def __call__(self) -> torch.Tensor:
        x, labels = next(self.batches)
        self.optimizer.zero_grad()
        loss: torch.Tensor = self.loss(self.run(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()
