"""The same training step in JAX: one jit'ed function of (weights, buffers, optimizer's state), channels-last, with buffers donated.

JAX is no dependency of fastnn or of its benches: `pip install jax==0.10.2`. Its pool of threads is sized once, before it is imported.
"""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn import models

from .reference_nets import REFERENCE_NETS

Arrays = dict[str, Any]

FLATTENED = {
    "lenet": ("7.weight", (64, 7, 7)),
    "vgg": ("22.weight", (256, 4, 4)),
}  # weights behind Flatten, whose input lies (H, W, C) here


def import_jax(threads: int) -> Any:
    """JAX on the CPU with so many threads; ValueError in one sentence where that cannot be."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if os.environ.setdefault("NPROC", str(threads)) != str(threads):
        raise ValueError(f"JAX was started on NPROC={os.environ['NPROC']} threads; run {threads} in a process of their own")
    try:
        return importlib.import_module("jax")
    except ModuleNotFoundError as error:
        raise ValueError("--jax needs JAX, which is not installed: pip install jax==0.10.2") from error


class JaxStep:
    """Each call: forward, loss, backward, update, on the next of a few random batches; waits for the result. Returns the loss."""

    def __init__(self, name: str, threads: int, batches: int = 4) -> None:
        self.jax = import_jax(threads)
        self.jnp, self.name, self.net = self.jax.numpy, name, REFERENCE_NETS[name]
        made = models.create(name, input_shape=self.net.input_shape, num_classes=self.net.classes)
        self.dropout = 0.5
        self.load(made.state_dict())
        self.steps = itertools.count(1)
        self.batches = itertools.cycle(
            [
                (self.jnp.asarray(np.ascontiguousarray(x.transpose(0, 2, 3, 1))), self.jnp.asarray(t, "int32"))
                for x, t in self.net.batches(batches)
            ]
        )

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Weights as fastnn and PyTorch name them: (K, C, R, S) becomes (R, S, C, K), (K, C) becomes (C, K)."""
        self.weights, self.buffers = {}, {}
        for key, value in state.items():
            if key.endswith("num_batches_tracked"):
                continue
            array = np.asarray(value, np.float32)
            flattened, shape = FLATTENED.get(self.name, ("", ()))
            if key == flattened:
                array = array.reshape(len(array), *shape).transpose(0, 2, 3, 1).reshape(len(array), -1)
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
            (self.buffers if "running_" in key else self.weights)[key] = self.jnp.array(array)
        slots = 2 if self.net.optimizer == "adam" else 1
        self.state = [{key: self.jnp.zeros_like(w) for key, w in self.weights.items()} for _ in range(slots)]
        self.steps = itertools.count(1)
        self._compile()

    def set_dropout(self, p: float) -> None:
        self.dropout = p
        self._compile()

    def _compile(self) -> None:
        self.run = self.jax.jit(self._step, donate_argnums=(0, 1, 2))

    def __call__(self) -> Any:
        x, labels = next(self.batches)
        t = self.jnp.float32(next(self.steps))
        self.weights, self.buffers, self.state, loss = self.run(self.weights, self.buffers, self.state, t, x, labels)
        return loss.block_until_ready()

    # --- what is compiled

    def _step(self, weights: Arrays, buffers: Arrays, state: list[Arrays], t: Any, x: Any, labels: Any) -> tuple[Any, ...]:
        jax, jnp = self.jax, self.jnp

        def objective(weights: Arrays) -> tuple[Any, Arrays]:
            forward = Forward(jax, weights, dict(buffers), self.dropout, jax.random.fold_in(jax.random.key(0), t.astype("int32")))
            logits = NETS[self.name](forward, x)
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
            return -picked.mean(), forward.buffers

        (loss, buffers), gradients = jax.value_and_grad(objective, has_aux=True)(weights)
        weights, state = (self._adam if self.net.optimizer == "adam" else self._sgd)(weights, gradients, state, t)
        return weights, buffers, state, loss

    def _sgd(self, weights: Arrays, gradients: Arrays, state: list[Arrays], t: Any) -> tuple[Arrays, list[Arrays]]:
        v = {key: 0.9 * state[0][key] + g for key, g in gradients.items()}
        return {key: w - self.net.lr * v[key] for key, w in weights.items()}, [v]

    def _adam(self, weights: Arrays, gradients: Arrays, state: list[Arrays], t: Any) -> tuple[Arrays, list[Arrays]]:
        m = {key: 0.9 * state[0][key] + 0.1 * g for key, g in gradients.items()}
        v = {key: 0.999 * state[1][key] + 0.001 * g * g for key, g in gradients.items()}
        one, two = 1 - 0.9**t, 1 - 0.999**t
        step = {key: (m[key] / one) / (self.jnp.sqrt(v[key] / two) + 1e-8) for key in weights}
        return {key: w - self.net.lr * step[key] for key, w in weights.items()}, [m, v]


class Forward:
    """The layers, by PyTorch's names of their weights; running statistics are replaced in `buffers`."""

    def __init__(self, jax: Any, weights: Arrays, buffers: Arrays, dropout: float, key: Any) -> None:
        self.jax, self.jnp, self.weights, self.buffers, self.p, self.key = jax, jax.numpy, weights, buffers, dropout, key

    def conv(self, name: str, x: Any, stride: int = 1, padding: int = 1) -> Any:
        places = ("NHWC", "HWIO", "NHWC")
        y = self.jax.lax.conv_general_dilated(
            x, self.weights[f"{name}.weight"], (stride, stride), [(padding, padding)] * 2, dimension_numbers=places
        )
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def linear(self, name: str, x: Any) -> Any:
        return x @ self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def batch_norm(self, name: str, x: Any) -> Any:
        mean, var, count = x.mean((0, 1, 2)), x.var((0, 1, 2)), x.size // x.shape[-1]
        for key, value in ((f"{name}.running_mean", mean), (f"{name}.running_var", var * (count / (count - 1)))):
            self.buffers[key] = 0.9 * self.buffers[key] + 0.1 * value
        return (x - mean) * (self.jax.lax.rsqrt(var + 1e-5) * self.weights[f"{name}.weight"]) + self.weights[f"{name}.bias"]

    def relu(self, x: Any) -> Any:
        return self.jnp.maximum(x, 0)

    def max_pool(self, x: Any, window: int = 2, stride: int = 2, padding: int = 0) -> Any:
        sides = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
        return self.jax.lax.reduce_window(x, -self.jnp.inf, self.jax.lax.max, (1, window, window, 1), (1, stride, stride, 1), sides)

    def dropout(self, x: Any) -> Any:
        if not self.p:
            return x
        self.key, key = self.jax.random.split(self.key)
        return self.jnp.where(self.jax.random.bernoulli(key, 1 - self.p, x.shape), x / (1 - self.p), 0)


# --- the nets, as in torch_nets


def mlp(f: Forward, x: Any) -> Any:
    x = x.reshape(len(x), -1)
    for name in ("1", "4"):
        x = f.dropout(f.relu(f.linear(name, x)))
    return f.linear("7", x)


def lenet(f: Forward, x: Any) -> Any:
    for name in ("0", "3"):
        x = f.max_pool(f.relu(f.conv(name, x)))
    x = f.dropout(f.relu(f.linear("7", x.reshape(len(x), -1))))
    return f.linear("10", x)


def vgg(f: Forward, x: Any) -> Any:
    for first in (0, 7, 14):
        for at in (first, first + 3):
            x = f.relu(f.batch_norm(str(at + 1), f.conv(str(at), x)))
        x = f.max_pool(x)
    x = f.dropout(f.relu(f.linear("22", x.reshape(len(x), -1))))
    return f.linear("25", x)


def _block(f: Forward, name: str, x: Any, stride: int) -> Any:
    shortcut = x
    if f"{name}.downsample.0.weight" in f.weights:
        shortcut = f.batch_norm(f"{name}.downsample.1", f.conv(f"{name}.downsample.0", x, stride, 0))
    y = f.relu(f.batch_norm(f"{name}.bn1", f.conv(f"{name}.conv1", x, stride)))
    return f.relu(f.batch_norm(f"{name}.bn2", f.conv(f"{name}.conv2", y)) + shortcut)


def _resnet(f: Forward, x: Any, stages: int, blocks: int) -> Any:
    for stage in range(1, stages + 1):
        for block in range(blocks):
            x = _block(f, f"layer{stage}.{block}", x, 2 if stage > 1 and block == 0 else 1)
    return f.linear("fc", x.mean((1, 2)))


def resnet20(f: Forward, x: Any) -> Any:
    return _resnet(f, f.relu(f.batch_norm("bn1", f.conv("conv1", x))), 3, 3)


def resnet18(f: Forward, x: Any) -> Any:
    x = f.relu(f.batch_norm("bn1", f.conv("conv1", x, 2, 3)))
    return _resnet(f, f.max_pool(x, 3, 2, 1), 4, 2)


NETS: dict[str, Callable[[Forward, Any], Any]] = {"mlp": mlp, "lenet": lenet, "vgg": vgg, "resnet20": resnet20, "resnet18": resnet18}
