"""What `fastnn train` does by default, done by PyTorch: the same images in training, validation and test, size of batches, optimizer, rates and
epochs, the same law of the initial weights (ours is PyTorch's). Order, initial weights and dropout come from PyTorch's own generator."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from fastnn import data
from fastnn.commands.defaults import RECIPES

Pair = tuple[torch.Tensor, torch.Tensor]


def recipe(dataset: str, **changed: Any) -> dict[str, Any]:
    """The numbers of the recipe, as `accuracy_by_torch` takes them."""
    given = {**RECIPES[dataset], **changed}
    assert (given["optimizer"], given["schedule"], given["augment"]) == ("adam", "cosine", "none")
    return {name: given[name] for name in ("epochs", "batch_size", "lr", "val_fraction")}


def accuracy_by_torch(
    net: Callable[[], torch.nn.Module],
    training: data.ArrayDataset,
    test: data.ArrayDataset,
    seed: int,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    val_fraction: float,
) -> float:
    """In percent: with the best epoch's weights by validation (the higher accuracy, then the lower loss), without validation with the last."""
    held_back = None
    if val_fraction:
        training, held_back = data.split(training, val_fraction, seed)
    normalize = data.Normalize.fit(training)
    x, labels = _tensors(training, normalize)
    torch.manual_seed(seed)
    model = net().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(x) // batch_size))
    best: tuple[tuple[float, float], dict[str, Any]] | None = None
    for _ in range(epochs):
        model.train()
        for batch in torch.randperm(len(x)).split(batch_size):
            optimizer.zero_grad()
            cross_entropy(model(x[batch]), labels[batch]).backward()
            optimizer.step()
            rate.step()
        if held_back is not None:
            figures = _figures(model, _tensors(held_back, normalize))
            if best is None or figures > best[0]:
                best = figures, deepcopy(model.state_dict())
    if best is not None:
        model.load_state_dict(best[1])
    return 100 * _figures(model, _tensors(test, normalize))[0]


def _tensors(dataset: data.ArrayDataset, normalize: data.Normalize) -> Pair:
    images, labels = dataset.raw(np.arange(len(dataset)))
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (normalize.mean, normalize.std))
    x = ((torch.tensor(images).double() - mean) / std).float()
    return x.contiguous(memory_format=torch.channels_last), torch.tensor(labels, dtype=torch.int64)


@torch.no_grad()
def _figures(model: torch.nn.Module, samples: Pair) -> tuple[float, float]:
    """Accuracy, and the loss with its sign turned: the higher the better."""
    model.eval()
    logits, labels = torch.cat([model(part) for part in samples[0].split(500)]), samples[1]
    return (logits.argmax(1) == labels).double().mean().item(), -cross_entropy(logits, labels).item()
