"""Inference of the reference nets beside PyTorch, at their batch and at batch 1: `python -m bench.inference [--nets vgg] [--pairs 20] ...`."""

from __future__ import annotations

import itertools
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import fastnn
from fastnn import models, nn

from . import device, torch_nets
from .case import difference, first
from .reference_nets import REFERENCE_NETS
from .report import Report, arguments
from .timing import Call
from .torch_step import Form, forms
from .train import add_turns, compare, heading, say_mean, show


def settled(name: str) -> nn.Module:
    """The net with statistics, gammas and betas as a training leaves them: away from 0 and 1."""
    net, rng = REFERENCE_NETS[name], np.random.default_rng(0)
    fastnn.seed(0)
    model = models.create(name, input_shape=net.input_shape, num_classes=net.classes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                spread = rng.uniform(0.5, 1.5, values.shape) - (values is module.bias or values is module.running_mean)
                values.copy_from(spread.astype(np.float32))
    return model.eval()


class FastnnInference:
    """Each call: the logits of the next of a few random batches, by the frozen model."""

    def __init__(self, model: nn.Module, batches: list[np.ndarray]) -> None:
        place = device.current.name
        self.model = nn.frozen(model.to(place))
        self.batches = itertools.cycle([fastnn.tensor(x, device=place) for x in batches])

    def __call__(self) -> fastnn.Tensor:
        return self.model(next(self.batches))


class TorchInference:
    """The same in a form of PyTorch: model.eval() under torch.inference_mode()."""

    def __init__(self, name: str, form: Form, state: Mapping[str, np.ndarray], batches: list[np.ndarray]) -> None:
        place = device.current.torch_name
        model = torch_nets.create(name)
        model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})
        model = model.eval().to(place).to(memory_format=form.layout)  # type: ignore[call-overload]
        self.run = torch.compile(model, mode=form.compiled) if form.compiled else model
        self.batches = itertools.cycle([torch.from_numpy(x).to(place).to(memory_format=form.layout) for x in batches])

    def __call__(self) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = self.run(next(self.batches))
            return logits


def measure(options: Namespace, name: str, batch: int) -> dict[str, Any]:
    fastnn.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    chosen = {title: form for title, form in forms(options.compile).items() if not form.autocast and not form.graph}
    batches = [x[:batch] for x, _ in REFERENCE_NETS[name].batches(4)]
    model = settled(name)
    state = model.state_dict()
    contenders: dict[str, Call] = {title: TorchInference(name, form, state, batches) for title, form in chosen.items()}
    contenders = {"fastnn": FastnnInference(model, batches), **contenders}
    logits = {side: torch.cat([first(call()) for _ in batches]) for side, call in contenders.items()}  # type: ignore[arg-type,misc]
    apart = {form: difference(logits["fastnn"], logits[form]) for form in chosen}
    return {"net": f"{name} x{batch}", **compare(options, contenders, list(chosen)), "difference": apart}


def main() -> None:
    parser = arguments(
        "Inference of the reference nets beside PyTorch's, turn by turn, at the batch of a training step and at batch 1.", devices=True
    )
    add_turns(parser)
    options = parser.parse_args()
    options.threads = 1 if options.cpu_time else options.threads or fastnn.get_num_threads()
    device.use(options)
    report = Report("inference-cpu-time" if options.cpu_time else "inference", options)
    report.say("\ninference, nn.frozen: median ms; ratio = best form of PyTorch / fastnn, by pairs; difference of the logits in the 2-norm")
    report.say("processor time on one thread" if options.cpu_time else f"{options.threads} threads on both sides")
    heading(report)
    for name in options.nets.split(","):
        for batch in (REFERENCE_NETS[name].batch, 1):
            row = report.earlier(net=f"{name} x{batch}") or measure(options, name, batch)
            show(report, row)
            report.rows.append(row)
            report.save()
    say_mean(report)
    report.write()


if __name__ == "__main__":
    main()
