"""The same training step in PyTorch, in each of its forms."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch

from . import device, torch_nets
from .reference_nets import REFERENCE_NETS


@dataclass(frozen=True)
class Form:
    layout: torch.memory_format = torch.channels_last
    compiled: str | None = None  # mode of torch.compile
    autocast: bool = False  # bfloat16 where PyTorch finds it safe
    graph: bool = False  # the whole step recorded once as a CUDA graph


CPU_FORMS = {
    "torch NCHW": Form(torch.contiguous_format),
    "torch channels_last": Form(),
    "torch compile": Form(compiled="default"),
    "torch autocast NCHW": Form(torch.contiguous_format, autocast=True),
    "torch autocast": Form(autocast=True),
    "torch autocast compile": Form(compiled="default", autocast=True),
}
GPU_FORMS = {
    "torch NCHW": Form(torch.contiguous_format),
    "torch channels_last": Form(),
    "torch graph": Form(graph=True),
    "torch compile": Form(compiled="reduce-overhead"),  # with CUDA graphs of its own
    "torch autocast graph": Form(autocast=True, graph=True),
    "torch autocast compile": Form(compiled="reduce-overhead", autocast=True),
}


def forms(compiled: bool, mixed: bool = False) -> dict[str, Form]:
    """Those of the current device; the emulated one has PyTorch's for the CPU. Autocast stands beside float32 on a GPU, and alone for `mixed`."""
    on_gpu = device.current.torch_name != "cpu"
    wanted = {name: form for name, form in (GPU_FORMS if on_gpu else CPU_FORMS).items() if compiled or not form.compiled}
    return {name: form for name, form in wanted.items() if form.autocast == mixed or (on_gpu and form.autocast)}


class TorchStep:
    """Each call: forward, loss, backward, optimizer (PyTorch's fused one), on the next of a few random batches. Returns the loss."""

    def __init__(self, name: str, form: Form, threads: int, batches: int = 4) -> None:
        torch.set_num_threads(threads)
        net, self.form = REFERENCE_NETS[name], form
        self.place = device.current.torch_name
        self.model = torch_nets.create(name).to(self.place).to(memory_format=form.layout)  # type: ignore[call-overload]
        self.run = torch.compile(self.model, mode=form.compiled) if form.compiled else self.model
        self.loss = torch.nn.CrossEntropyLoss()
        self.optimizer: torch.optim.Optimizer
        if net.optimizer == "adam":
            self.optimizer = torch.optim.Adam(self.model.parameters(), net.lr, fused=True, capturable=form.graph)
        else:
            self.optimizer = torch.optim.SGD(self.model.parameters(), net.lr, momentum=0.9, fused=True)
        tensors = [
            (torch.from_numpy(x).to(self.place).to(memory_format=form.layout), torch.from_numpy(t).to(self.place))
            for x, t in net.batches(batches)
        ]
        self.batches = itertools.cycle(tensors)
        self.recorded: Recorded | None = None

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        self.model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})

    def set_dropout(self, p: float) -> None:
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = p

    def step(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        with torch.autocast(self.place.split(":")[0], torch.bfloat16, enabled=self.form.autocast):
            loss: torch.Tensor = self.loss(self.run(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def __call__(self) -> torch.Tensor:
        batch = next(self.batches)
        if not self.form.graph:
            return self.step(*batch)
        if self.recorded is None:
            self.recorded = Recorded(self, batch)
        return self.recorded(batch)


class Recorded:
    """A step as a CUDA graph. The steps that warm it up leave no trace in weights, buffers and the optimizer's state."""

    def __init__(self, step: TorchStep, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        before = deepcopy(step.model.state_dict())
        self.batch = tuple(t.clone() for t in batch)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                step.step(*self.batch)
        torch.cuda.current_stream().wait_stream(aside)
        step.optimizer.zero_grad()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = step.step(*self.batch)
        step.model.load_state_dict(before)
        for state in step.optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()

    def __call__(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        for mine, given in zip(self.batch, batch):
            mine.copy_(given)
        self.graph.replay()
        return self.loss
