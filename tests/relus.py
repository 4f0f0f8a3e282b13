"""Results of a ReLU, and their gradients through what goes back past it; or, to compare with, through both one after the other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from kernel_calls import NARROW_TABLES, TABLES, Table, using

import fastnn
from fastnn import Tensor, nn, ops, optim
from fastnn.train.precision import Forward


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@contextmanager
def in_two_passes(file: str) -> Iterator[None]:
    """Inside the block the operations of fastnn/ops/<file>.py know no ReLU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[f"fastnn.ops.{file}"], "relu_of", lambda x: None)
        yield


RELUS: dict[str, Callable[..., Tensor]] = {  # of x (4, 3, 5, 5), a weight and a bias
    "relu": lambda x, w, b: ops.relu(ops.conv2d(x, w, b)),
    "conv2d": lambda x, w, b: ops.conv2d(x, w, b, activation="relu"),
    "linear": lambda x, w, b: ops.linear(x, w, b, activation="relu"),
}


def leaves(relu: str, device: str, dtype: str = "float32") -> list[Tensor]:
    shapes = [(4, 3, 5, 5), *([(7, 5), (7,)] if relu == "linear" else [(6, 3, 3, 3), (6,)])]
    values = [normal(i, *shape) for i, shape in enumerate(shapes)]
    return [fastnn.tensor(v, dtype, requires_grad=True, device=device) for v in values]


def gradients(of: Callable[[Tensor], Tensor], relu: str, device: str, dtype: str) -> tuple[list[bytes], list[str]]:
    """Of what `of` makes of the ReLU's result; and the rows that ran backward."""
    fastnn.seed(5)
    inputs = leaves(relu, device, dtype)
    y = of(RELUS[relu](*inputs))
    with fastnn.profile() as rows:
        y.backward(normal(6, *y.shape))
    return [t.grad.numpy().tobytes() for t in inputs], list(rows)


TRAINED_ON = [*((t, False) for t in TABLES if t.dtype == "float32"), *((t, True) for t in NARROW_TABLES)]


def trained(net: Callable[[], nn.Module], size: tuple[int, int], on: Table, mixed: bool) -> list[bytes]:
    """What a net of three channels and five classes holds after three steps."""
    with using(on):
        fastnn.seed(2)
        model = net().to(on.device)
        forward, optimizer = Forward(model, "bf16" if mixed else "float32"), optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for step in range(3):
            optimizer.zero_grad()
            logits = forward(fastnn.tensor(normal(step, 6, 3, *size), device=on.device))
            ops.cross_entropy(logits, np.arange(6) % 5).backward()
            optimizer.step()
        return [value.tobytes() for value in model.state_dict().values()]
