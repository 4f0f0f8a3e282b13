"""airbench94 and its Muon variant in PyTorch: the opponent of examples/airbench.py, with the same network, recipe, data and evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

EPOCHS, BATCH = {"muon": 8.0, "sgd": 9.9}, {"muon": 2000, "sgd": 1024}


@dataclass(frozen=True)
class Form:
    dtype: torch.dtype = torch.float32  # of weights and activations; BN and the sums of losses are float32
    compiled: str | None = None  # mode of torch.compile; Newton-Schulz is compiled on a GPU anyway


FORMS = {
    "torch float32": Form(),  # with TF32 products on a GPU, if bench/device.py allows them
    "torch half": Form(torch.half),
    "torch half compile": Form(torch.half, "default"),
}


# --- the network


class Group(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding="same", bias=False)
        self.norm1 = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
        self.conv2 = nn.Conv2d(width, width, 3, padding="same", bias=False)
        self.norm2 = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
        for conv in (self.conv1, self.conv2):
            nn.init.dirac_(conv.weight.data[: conv.in_channels])
        for norm in (self.norm1, self.norm2):
            norm.weight.requires_grad = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Net(nn.Module):
    def __init__(self, muon: bool, width: float = 1.0, classes: int = 10) -> None:
        super().__init__()
        widths = [24, *(max(1, round(width * n)) for n in (64, 256, 256))]
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad = False
        self.layers = nn.Sequential(nn.GELU(), *(Group(a, b) for a, b in zip(widths, widths[1:])), nn.MaxPool2d(3))
        self.head = nn.Linear(widths[-1], classes, bias=False)
        self.scale = 1 / widths[-1] if muon else 1 / 9
        if muon:
            self.head.weight.data /= self.head.weight.data.std()
        else:
            self.whiten.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.layers(self.whiten(x)).flatten(1))
        return logits * self.scale

    def in_form(self, form: Form) -> Net:
        for module in self.modules():
            module.to(torch.float32 if isinstance(module, nn.BatchNorm2d) else form.dtype)
        return self

    def whiten_with(self, images: torch.Tensor, eps: float = 5e-4) -> None:
        n, c, h, w = images.shape
        patches = images.float().unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 4 * c)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / torch.sqrt(values + eps)).T.flip(0).reshape(-1, c, 2, 2)
        self.whiten.weight.data[:] = torch.cat([filters, -filters])


# --- optimizers


def newton_schulz(g: torch.Tensor) -> torch.Tensor:
    """Three steps; in bfloat16 on a GPU, in float32 on the CPU, where it would only cost accuracy."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16() if g.is_cuda else g.float()
    x = x / (x.norm() + 1e-7)
    wide = len(x) > x.shape[1]
    x = x.T if wide else x
    for _ in range(3):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if wide else x


class Muon(torch.optim.Optimizer):
    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self.direction: Callable[[torch.Tensor], torch.Tensor] = torch.compile(newton_schulz) if params[0].is_cuda else newton_schulz

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                velocity = self.state[p].setdefault("momentum", torch.zeros_like(p.grad))
                velocity.mul_(group["momentum"]).add_(p.grad)
                g = p.grad.add(velocity, alpha=group["momentum"])
                p.mul_(len(p) ** 0.5 / p.norm())
                p.add_(self.direction(g.reshape(len(g), -1)).view(g.shape).to(p.dtype), alpha=-group["lr"])


class Lookahead:
    """The slow copy of all weights and running statistics."""

    def __init__(self, net: nn.Module) -> None:
        self.pairs = [(t, t.clone()) for t in net.state_dict().values() if t.is_floating_point()]

    @torch.no_grad()
    def meet(self, alpha: float) -> None:
        for fast, slow in self.pairs:
            slow.lerp_(fast, alpha)
            fast.copy_(slow)


def triangle(t: float, steps: int) -> float:
    return float(np.interp(t, [0, int(0.23 * steps), steps], [0.2, 1, 0.07]))


class Training:
    """The steps of a run, one after the other."""

    def __init__(
        self, net: Net, recipe: str, batch_size: int, steps: int, whiten_steps: int, run: Callable[..., Any] | None = None
    ) -> None:
        self.net, self.steps, self.whiten_steps, self.done = net, steps, whiten_steps, 0
        self.forward = net if run is None else run  # a compiled module has no truth
        self.lookahead = Lookahead(net) if recipe == "sgd" else None
        named = [(k, p) for k, p in net.named_parameters() if p.requires_grad]
        norms = [p for k, p in named if "norm" in k]
        self.optimizers: list[torch.optim.Optimizer]
        if recipe == "sgd":
            unit = 1024 * (1 + 1 / (1 - 0.85))
            lr, decay = 11.5 / unit, 0.0153 * batch_size / unit
            groups = [(norms, 64 * lr), ([p for k, p in named if "norm" not in k], lr)]
            self.optimizers = []
        else:
            decay = 2e-6 * batch_size
            groups = [([net.whiten.bias], 0.053), (norms, 0.053), ([net.head.weight], 0.67)]  # type: ignore[list-item]
            self.optimizers = [Muon([p for _, p in named if p.ndim == 4], 0.24, 0.6)]
        settings = [{"params": params, "lr": lr, "weight_decay": decay / lr} for params, lr in groups]
        self.optimizers.append(torch.optim.SGD(settings, momentum=0.85, nesterov=True, fused=norms[0].is_cuda))
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["first_lr"] = group["lr"]

    def factor(self, group: dict[str, Any]) -> float:
        if self.lookahead:
            return triangle(self.done, self.steps)
        whitens = len(group["params"]) == 1 and group["params"][0] is self.net.whiten.bias
        return max(0.0, 1 - self.done / (self.whiten_steps if whitens else self.steps))

    def step(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.done == self.whiten_steps:
            self.net.whiten.bias.requires_grad = False  # type: ignore[union-attr]
        loss = F.cross_entropy(self.forward(x), labels, label_smoothing=0.2, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["first_lr"] * self.factor(group)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.done += 1
        if self.lookahead and self.done % 5 == 0:
            self.lookahead.meet(1 - 0.95**5 * (self.done / self.steps) ** 3)
        return loss.detach()

    def finish(self) -> None:
        if self.lookahead:
            self.lookahead.meet(0.0)


# --- data


class Sets:
    """Both sets as normalised channels_last images on the device, the training set with two reflected pixels around."""

    def __init__(self, training: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], place: str, form: Form) -> None:
        (images, self.labels), (test_images, self.test_labels) = (
            [torch.tensor(a, device=place) for a in pair] for pair in (training, test)
        )
        pixels = images.float()
        mean, std = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True)
        del pixels

        def normalized(images: torch.Tensor) -> torch.Tensor:
            return ((images.float() - mean) / std).to(form.dtype).contiguous(memory_format=torch.channels_last)

        self.images, self.test_images = normalized(images), normalized(test_images)
        self.padded = F.pad(self.images, (2,) * 4, "reflect").contiguous(memory_format=torch.channels_last)

    def epochs(self, batch_size: int, generator: torch.Generator) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]] | Any]:
        """Each epoch as an iterator over its whole batches."""
        n, place = len(self.images), self.images.device
        flipped = torch.rand(n, generator=generator, device=place) < 0.5
        while True:
            order = torch.randperm(n, generator=generator, device=place)
            corners = torch.randint(0, 5, (n, 2), generator=generator, device=place)
            yield (self.batch(part, corners[part], flipped[part]) for part in order.split(batch_size)[: n // batch_size])
            flipped = ~flipped

    def batch(self, part: torch.Tensor, corners: torch.Tensor, flipped: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = self.images.shape[-1]
        along = torch.arange(size, device=part.device)
        columns = torch.where(flipped[:, None], size - 1 - along, along) + corners[:, 1:]
        rows = along + corners[:, :1]
        pictures = self.padded.permute(0, 2, 3, 1)[part[:, None, None], rows[:, :, None], columns[:, None, :]]
        return pictures.permute(0, 3, 1, 2), self.labels[part]


@torch.no_grad()
def six_views(run: Callable[..., torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    padded = F.pad(images, (1,) * 4, "reflect")
    size = images.shape[-1]
    views = [(0.5, images), *((0.25, padded[:, :, at : at + size, at : at + size]) for at in (0, 2))]
    return sum((weight / 2 * (run(x) + run(x.flip(-1))).float() for weight, x in views), torch.zeros(()))


def prepare(recipe: str, form: Form, width: float, place: str) -> tuple[Net, Callable[..., Any]]:
    """A network, and what runs it; both serve all runs, so that what torch.compile made is used again."""
    net = Net(recipe == "muon", width).in_form(form).to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net, torch.compile(net, mode=form.compiled) if form.compiled else net


def run(
    sets: Sets, recipe: str, form: Form, prepared: tuple[Net, Callable[..., Any]], *, seed: int, epochs: float | None = None
) -> tuple[float, float]:
    """(accuracy, seconds) of one run from fresh weights."""
    place, (net, forward), batch_size = str(sets.images.device), prepared, BATCH[recipe]
    torch.manual_seed(seed)
    net.load_state_dict(Net(recipe == "muon", net.head.in_features / 256).in_form(form).state_dict())
    net.whiten.bias.requires_grad = True  # type: ignore[union-attr]
    generator = torch.Generator(place).manual_seed(seed)
    epochs, per_epoch = epochs or EPOCHS[recipe], len(sets.images) // batch_size
    training = Training(net, recipe, batch_size, ceil(epochs * per_epoch), ceil(3 * per_epoch), forward)
    start = clock(place)
    net.whiten_with(sets.images[np.linspace(0, len(sets.images) - 1, min(5000, len(sets.images))).astype(int)])
    net.train()
    left = training.steps
    for _, batches in zip(range(ceil(epochs)), sets.epochs(batch_size, generator)):
        for _, (x, labels) in zip(range(left), batches):
            training.step(x, labels)
        left -= min(left, per_epoch)
    training.finish()
    net.eval()
    logits = torch.cat([six_views(forward, images) for images in sets.test_images.split(2000)])
    accuracy = (logits.argmax(1) == sets.test_labels).float().mean().item()
    return accuracy, clock(place) - start


def clock(place: str) -> float:
    if place != "cpu":
        torch.cuda.synchronize(place)
    return time.perf_counter()
