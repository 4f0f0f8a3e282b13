"""Each operation forward and backward, each augmentation, neighbours, frozen models, on every instruction set: a line for each says what came of it.

A child of test_fence.py, without fences and where each array ends, or begins, at a page that nobody may touch (FASTNN_ARENA=fenced, fenced-before)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bad_calls.data import bytes_set
from bad_calls.data import subjects as of_data
from bad_calls.ops import GOOD, forward_and_backward
from fenced_steps import report

import fastnn
from fastnn import Tensor, data, models, neighbors, nn, ops

Arrays = Iterator[Any]


def is_augmentation(name: str) -> bool:
    kind = getattr(data, name)
    return isinstance(kind, type) and issubclass(kind, data.Augmentation) and kind is not data.Augmentation


AUGMENTATIONS = sorted(filter(is_augmentation, data.__all__))


def of_operation(name: str) -> Arrays:
    arguments = {key: make() for key, make in GOOD[name].items()}
    y = forward_and_backward(name)(**arguments)
    yield from y if isinstance(y, tuple) else [y]
    for value in arguments.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Tensor) and one.grad is not None:
                yield one.grad


def of_augmentation(name: str) -> Arrays:
    (good,) = (subject.good for subject in of_data() if subject.name == name)
    augment = getattr(data, name)(**{key: make() for key, make in good.items()})
    for x, y in data.Loader(bytes_set(), 5, shuffle=True, augment=augment, normalize=data.Normalize([100.0], [50.0])):
        yield from (x, y)


def of_neighbors(name: str) -> Arrays:
    points = np.random.default_rng(0).standard_normal((37, 19)).astype(np.float32)
    judge = neighbors.KNeighborsClassifier(3, p=1 if name == "manhattan" else 2).fit(points[:20], np.arange(20) % 3)
    yield from judge.kneighbors(points[20:])
    yield judge.predict(points[20:])


def of_frozen(name: str) -> Arrays:
    net = models.create(name, num_classes=3, input_shape=(3, 32, 32)).eval()
    frozen = nn.frozen(net)
    for images in (1, 3, 1):
        with fastnn.no_grad():
            yield frozen(fastnn.tensor(np.random.default_rng(images).standard_normal((images, 3, 32, 32)), "float32"))


def parts() -> Iterator[tuple[Callable[[str], Arrays], str]]:
    yield from ((of_operation, name) for name in sorted(ops.__all__))
    yield from ((of_augmentation, name) for name in AUGMENTATIONS)
    yield from ((of_neighbors, name) for name in ("euclid", "manhattan"))
    yield from ((of_frozen, name) for name in ("lenet", "mlp", "resnet20"))


def digest(of: Callable[[str], Arrays], name: str) -> str:
    fastnn.seed(1)
    seen = hashlib.sha256()
    for array in of(name):
        seen.update(np.ascontiguousarray(array.numpy() if isinstance(array, Tensor) else array).tobytes())
    return seen.hexdigest()


if __name__ == "__main__":
    report(parts, digest)
