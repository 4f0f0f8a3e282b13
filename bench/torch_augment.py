"""Crop with padding, flip, colour and normalisation in torch operations, on whole batches and sample by sample."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

LUMA = torch.tensor([0.299, 0.587, 0.114])


class Augmented:
    """An epoch of a set of byte images (N, C, H, W): everything is drawn anew for each batch. `jitter`: how far brightness, contrast and
    saturation go from 1 either way, as torchvision's ColorJitter has it."""

    def __init__(self, images: torch.Tensor, batch: int, padding: int, jitter: float, mean: torch.Tensor, std: torch.Tensor) -> None:
        self.images, self.batch, self.padding, self.jitter = images, batch, padding, jitter
        self.scale, self.shift = (1 / std)[:, None, None], (-mean / std)[:, None, None]

    def drawn(self, n: int) -> tuple[torch.Tensor, ...]:
        """Where the crop begins, what is flipped, and three factors, for n samples."""
        places = 2 * self.padding + 1
        factors = 1 + self.jitter * (2 * torch.rand(3, n) - 1)
        return torch.randint(places, (n,)), torch.randint(places, (n,)), torch.rand(n) < 0.5, factors

    def batched(
        self, chosen: torch.Tensor, top: torch.Tensor, left: torch.Tensor, flipped: torch.Tensor, factors: torch.Tensor
    ) -> torch.Tensor:
        x = pad(self.images[chosen], (self.padding,) * 4)
        n, _, height, width = x.shape
        rows = top[:, None] + torch.arange(height - 2 * self.padding)
        columns = torch.arange(width - 2 * self.padding)
        columns = left[:, None] + torch.where(flipped[:, None], columns.flip(0), columns)
        x = x[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C): channels last by itself
        x = x.permute(0, 3, 1, 2).float()
        brightness, contrast, saturation = factors[:, :, None, None, None]
        x = x.mul_(brightness).clamp_(0, 255)
        grey = _luma(x).mean((2, 3), keepdim=True)
        x = x.mul_(contrast).add_((1 - contrast) * grey).clamp_(0, 255)
        grey = _luma(x)
        x = x.mul_(saturation).add_(grey.mul_(1 - saturation)).clamp_(0, 255)
        return x.mul_(self.scale).add_(self.shift)

    def sample(self, image: torch.Tensor, top: int, left: int, flipped: bool, factors: list[float]) -> torch.Tensor:
        height, width = image.shape[1:]
        x = pad(image, (self.padding,) * 4)[:, top : top + height, left : left + width]
        x = (x.flip(2) if flipped else x).float()
        brightness, contrast, saturation = factors
        x = x.mul_(brightness).clamp_(0, 255)
        grey = _luma(x, 0).mean()
        x = x.mul_(contrast).add_(grey, alpha=1 - contrast).clamp_(0, 255)
        grey = _luma(x, 0)
        x = x.mul_(saturation).add_(grey, alpha=1 - saturation).clamp_(0, 255)
        return x.mul_(self.scale).add_(self.shift)

    def by_batch(self) -> torch.Tensor:
        for chosen in torch.randperm(len(self.images)).split(self.batch):
            x = self.batched(chosen, *self.drawn(len(chosen)))
        return x

    def by_sample(self) -> torch.Tensor:
        for chosen in torch.randperm(len(self.images)).split(self.batch):
            drawn = [part.tolist() for part in (chosen, *self.drawn(len(chosen))[:3])]
            factors = (1 + self.jitter * (2 * torch.rand(len(chosen), 3) - 1)).tolist()
            x = torch.stack([self.sample(self.images[i], t, le, f, by) for i, t, le, f, by in zip(*drawn, factors)])
        return x


def _luma(x: torch.Tensor, channel: int = 1) -> torch.Tensor:
    r, g, b = x.unbind(channel)
    return (0.299 * r + 0.587 * g + 0.114 * b).unsqueeze(channel)
